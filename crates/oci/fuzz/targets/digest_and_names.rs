//! Digests, names, tags and references: what is taken prints as it came, what is refused is refused in few words.
#![no_main]

use std::{fmt::Display, str::FromStr};

use granary_oci::{Algorithm, Digest, Reference, RepositoryName, Tag};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Some(digest) = Digest::from_bytes(bytes) {
        assert_eq!(digest.to_bytes(), bytes);
        assert_eq!(taken::<Digest>(&digest.to_string()), Some(digest));
    }
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    taken::<Algorithm>(text);
    if let Some(digest) = taken::<Digest>(text) {
        assert_eq!(digest.hash().len(), digest.algorithm().hash_len());
        assert_eq!(Digest::from_bytes(&digest.to_bytes()), Some(digest));
    }
    if let Some(name) = taken::<RepositoryName>(text) {
        assert!(text.len() <= 255 && !text.contains("..") && !text.contains("//"));
        assert!(!name.namespace().is_empty() && !name.namespace().contains('/'));
    }
    let tag = taken::<Tag>(text);
    match taken::<Reference>(text) {
        Some(Reference::Tag(named)) => assert_eq!(tag, Some(named)),
        Some(Reference::Digest(_)) => assert!(tag.is_none()),
        None => assert!(tag.is_none()),
    }
});

fn taken<T: FromStr<Err: Display> + Display>(text: &str) -> Option<T> {
    match text.parse::<T>() {
        Ok(value) => {
            assert_eq!(value.to_string(), text);
            Some(value)
        }
        Err(error) => {
            let error = error.to_string();
            assert!(
                error.len() < 2000 && !error.contains(char::is_control),
                "{error:?}"
            );
            None
        }
    }
}
