//! Hash states: any bytes may stand in a row, and an upload may be cut anywhere.
#![no_main]

use granary_oci::{Algorithm, Hasher};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    // Bytes that are taken for a state are taken as they stand.
    if let Ok(hasher) = Hasher::import(bytes) {
        assert_eq!(hasher.export(), bytes);
    }

    // The first byte says which algorithms, the second how long the pieces are between two exports.
    let [named, step, content @ ..] = bytes else {
        return;
    };
    let named = [None, Some(Algorithm::Sha256), Some(Algorithm::Sha512)][usize::from(named % 3)];
    let mut hasher = Hasher::new(named);
    for piece in content.chunks(usize::from(*step).max(1)) {
        hasher.update(piece);
        hasher = Hasher::import(&hasher.export()).expect("what was exported can be imported");
    }
    assert_eq!(
        hasher.digest(Algorithm::Sha256),
        Some(Algorithm::Sha256.digest(content))
    );
    let second = (named == Some(Algorithm::Sha512)).then(|| Algorithm::Sha512.digest(content));
    assert_eq!(hasher.digest(Algorithm::Sha512), second);
});
