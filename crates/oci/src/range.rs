//! Byte ranges: `Range` of a read (RFC 9110 section 14) and `Content-Range` of a chunk (distribution-spec).

use std::str::FromStr;

use crate::digest::excerpt;

/// A range that cannot be understood or satisfied.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RangeError {
    /// Not of the form the specification gives.
    #[error("'{0}' is not a chunk range: write it as <first>-<last>, without a unit")]
    Form(String),
    /// No part of the range lies inside the content.
    #[error("'{value}' lies outside the {length} bytes there are")]
    Unsatisfiable {
        /// The offending header value.
        value: String,
        /// Length of the content.
        length: u64,
    },
}

/// A non-empty run of bytes: from `first` to `last`, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ByteRange {
    /// Offset of the first byte.
    pub first: u64,
    /// Offset of the last byte.
    pub last: u64,
}

impl ByteRange {
    /// Number of bytes, at least one.
    pub fn length(self) -> u64 {
        self.last - self.first + 1
    }
}

/// Most ranges one request may ask for; more are ignored as RFC 9110 section 14.2 allows.
const MAX_RANGES: usize = 16;

/// What a `Range` header asks of content of a known length.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RangeSet {
    /// No usable range: answer the whole content with 200.
    Whole,
    /// One range: answer 206 with `Content-Range`.
    One(ByteRange),
    /// Several ranges, in the order asked: answer 206 with `multipart/byteranges`.
    Several(Vec<ByteRange>),
}

impl RangeSet {
    /// Reads a `Range` header.
    ///
    /// An unknown unit, a malformed value, more than 16 ranges or ranges that together exceed the content are
    /// ignored, as RFC 9110 allows. `Err` when the form is right and no range can be satisfied: 416.
    pub fn parse(header: &str, length: u64) -> Result<Self, RangeError> {
        let Some(specs) = header.strip_prefix("bytes=") else {
            return Ok(Self::Whole);
        };
        let mut ranges = Vec::new();
        for (number, spec) in specs.split(',').enumerate() {
            if number >= MAX_RANGES {
                return Ok(Self::Whole);
            }
            match parse_spec(spec.trim(), length) {
                Spec::Malformed => return Ok(Self::Whole),
                Spec::Unsatisfiable => {}
                Spec::Range(range) => ranges.push(range),
            }
        }
        let total: u64 = ranges
            .iter()
            .fold(0, |sum, range| sum.saturating_add(range.length()));
        match ranges.as_slice() {
            [] => Err(RangeError::Unsatisfiable {
                value: excerpt(header),
                length,
            }),
            [range] => Ok(Self::One(*range)),
            // Overlapping ranges that add up to more than the content are an amplification, not a need.
            _ if total > length => Ok(Self::Whole),
            _ => Ok(Self::Several(ranges)),
        }
    }
}

enum Spec {
    Malformed,
    Unsatisfiable,
    Range(ByteRange),
}

fn parse_spec(spec: &str, length: u64) -> Spec {
    let Some((first, last)) = spec.split_once('-') else {
        return Spec::Malformed;
    };
    if first.is_empty() {
        return match parse_position(last) {
            None => Spec::Malformed,
            Some(suffix) if suffix == 0 || length == 0 => Spec::Unsatisfiable,
            Some(suffix) => Spec::Range(ByteRange {
                first: length.saturating_sub(suffix),
                last: length - 1,
            }),
        };
    }
    let Some(first) = parse_position(first) else {
        return Spec::Malformed;
    };
    let last = if last.is_empty() {
        Some(u64::MAX)
    } else {
        parse_position(last)
    };
    match last {
        None => Spec::Malformed,
        // RFC 9110 calls last < first invalid; clients and the conformance suite expect 416.
        Some(last) if last < first || first >= length => Spec::Unsatisfiable,
        Some(last) => Spec::Range(ByteRange {
            first,
            last: last.min(length - 1),
        }),
    }
}

/// Digits only: `+5` and the empty text are no positions. Values beyond `u64` clamp, they lie past any content.
fn parse_position(text: &str) -> Option<u64> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    Some(text.parse().unwrap_or(u64::MAX))
}

/// `Content-Range` of an upload chunk: `^[0-9]+-[0-9]+$`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ContentRange {
    /// Offset of the chunk's first byte.
    pub first: u64,
    /// Offset of its last byte; `first - 1`, written `0--1` by nobody, is not allowed.
    pub last: u64,
}

impl ContentRange {
    /// Number of bytes the chunk must have.
    pub fn length(self) -> u64 {
        self.last - self.first + 1
    }
}

impl FromStr for ContentRange {
    type Err = RangeError;

    fn from_str(text: &str) -> Result<Self, RangeError> {
        // RFC 9110 spells it `bytes a-b/total`; some clients do, and the meaning is the same.
        let plain = text.strip_prefix("bytes ").unwrap_or(text);
        let plain = plain.split_once('/').map_or(plain, |(range, _)| range);
        let refuse = || RangeError::Form(excerpt(text));
        let (first, last) = plain.split_once('-').ok_or_else(refuse)?;
        let first = parse_position(first).ok_or_else(refuse)?;
        let last = parse_position(last)
            .filter(|&last| last >= first && last < u64::MAX)
            .ok_or_else(refuse)?;
        Ok(Self { first, last })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(first: u64, last: u64) -> Result<RangeSet, RangeError> {
        Ok(RangeSet::One(ByteRange { first, last }))
    }

    #[test]
    fn ranges_of_rfc_9110() {
        assert_eq!(RangeSet::parse("bytes=0-9", 100), one(0, 9));
        assert_eq!(RangeSet::parse("bytes=90-", 100), one(90, 99));
        assert_eq!(RangeSet::parse("bytes=-10", 100), one(90, 99));
        assert_eq!(RangeSet::parse("bytes=-1000", 100), one(0, 99));
        assert_eq!(RangeSet::parse("bytes=50-1000", 100), one(50, 99));
        assert_eq!(
            RangeSet::parse("bytes=0-99999999999999999999999", 100),
            one(0, 99)
        );
        for whole in [
            "items=0-1",
            "bytes=",
            "bytes=a-b",
            "bytes=--1",
            "bytes=1",
            "bytes=+1-2",
            "bytes=0-9,x",
        ] {
            assert_eq!(RangeSet::parse(whole, 100), Ok(RangeSet::Whole), "{whole}");
        }
        for outside in [
            "bytes=100-",
            "bytes=500-0",
            "bytes=5000-10000",
            "bytes=-0",
            "bytes=200-300,400-500",
        ] {
            assert!(RangeSet::parse(outside, 100).is_err(), "{outside}");
        }
        assert!(RangeSet::parse("bytes=0-0", 0).is_err());
    }

    #[test]
    fn several_ranges_are_bounded() {
        assert!(
            matches!(RangeSet::parse("bytes=0-1,5-6", 100), Ok(RangeSet::Several(ranges)) if ranges.len() == 2)
        );
        let many = format!("bytes={}", vec!["0-0"; 17].join(","));
        assert_eq!(RangeSet::parse(&many, 100), Ok(RangeSet::Whole));
        assert_eq!(RangeSet::parse("bytes=0-99,0-99", 100), Ok(RangeSet::Whole));
    }

    #[test]
    fn chunk_ranges() {
        assert_eq!("0-9".parse(), Ok(ContentRange { first: 0, last: 9 }));
        assert_eq!(
            "bytes 0-9/100".parse(),
            Ok(ContentRange { first: 0, last: 9 })
        );
        for bad in [
            "",
            "-",
            "9",
            "9-0",
            "a-b",
            "0-",
            "-1",
            "0-18446744073709551615",
            "1-2-3",
        ] {
            assert!(bad.parse::<ContentRange>().is_err(), "{bad}");
        }
    }
}
