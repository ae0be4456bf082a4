//! `Range` and `Content-Range`. The first eight bytes are the content's length, the rest is the header.
#![no_main]

use granary_oci::{ByteRange, ContentRange, RangeSet};
use libfuzzer_sys::fuzz_target;

/// The catalog keeps lengths as `i64`.
const LONGEST: u64 = i64::MAX as u64;

fuzz_target!(|bytes: &[u8]| {
    let Some((length, header)) = bytes.split_first_chunk() else {
        return;
    };
    let Ok(header) = std::str::from_utf8(header) else {
        return;
    };
    let length = u64::from_le_bytes(*length).min(LONGEST);
    let inside = |range: &ByteRange| range.first <= range.last && range.last < length;
    match RangeSet::parse(header, length) {
        Ok(RangeSet::Whole) | Err(_) => {}
        Ok(RangeSet::One(range)) => assert!(inside(&range)),
        Ok(RangeSet::Several(ranges)) => {
            assert!((2..=16).contains(&ranges.len()) && ranges.iter().all(inside));
            let sum: u128 = ranges.iter().map(|range| u128::from(range.length())).sum();
            assert!(sum <= u128::from(length));
        }
    }
    if let Ok(range) = header.parse::<ContentRange>() {
        assert!(range.first <= range.last && range.length() > 0);
        let plain = format!("{}-{}", range.first, range.last);
        assert_eq!(plain.parse(), Ok(range));
    }
});
