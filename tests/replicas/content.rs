//! Content to push, made anew whenever it is needed, so that nothing large is kept.

use std::sync::LazyLock;

use bytes::Bytes;
use granary_oci::{Algorithm, Digest, Hasher};
use serde_json::{Value, json};

use crate::dice::Dice;

pub(crate) const IMAGE: &str = "application/vnd.oci.image.manifest.v1+json";
const EMPTY: &str = "application/vnd.oci.empty.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

const BLOCK: usize = 4096;
/// Each block begins with the seed and its own number; the rest is the same noise in all.
const HEAD: usize = 16;

static NOISE: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut dice = Dice::new(0, 0);
    let numbers = (0..BLOCK / 8).flat_map(|_| dice.number().to_le_bytes());
    numbers.collect()
});

/// Bytes of which any part can be made without the rest; at least [`HEAD`] of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Content {
    pub(crate) seed: u64,
    pub(crate) length: usize,
}

impl Content {
    /// The bytes from `first` to before `end`.
    pub(crate) fn slice(self, first: usize, end: usize) -> Bytes {
        let mut bytes = Vec::with_capacity(end - first);
        let mut at = first;
        while at < end {
            let (block, within) = (at / BLOCK, at % BLOCK);
            let until = BLOCK.min(within + end - at);
            let mut head = [0; HEAD];
            head[..8].copy_from_slice(&self.seed.to_le_bytes());
            head[8..].copy_from_slice(&(block as u64).to_le_bytes());
            if within < HEAD {
                bytes.extend_from_slice(&head[within..HEAD.min(until)]);
            }
            if until > HEAD {
                bytes.extend_from_slice(&NOISE[within.max(HEAD)..until]);
            }
            at += until - within;
        }
        bytes.into()
    }

    pub(crate) fn whole(self) -> Bytes {
        self.slice(0, self.length)
    }

    pub(crate) fn digest(self) -> Digest {
        let mut hasher = Hasher::new(None);
        for first in (0..self.length).step_by(1 << 20) {
            hasher.update(&self.slice(first, self.length.min(first + (1 << 20))));
        }
        hasher.digest(Algorithm::Sha256).unwrap()
    }
}

/// What every repository has from the beginning and never loses: the content of manifests that only move tags.
pub(crate) fn anchor() -> Bytes {
    Bytes::from_static(b"{}")
}

fn empty() -> Value {
    let content = anchor();
    json!({"mediaType": EMPTY, "digest": Digest::sha256(&content).to_string(), "size": content.len()})
}

/// A manifest with these layers; those of different numbers differ.
pub(crate) fn manifest(number: u64, layers: &[(Content, Digest)]) -> Bytes {
    let layers: Vec<Value> = layers
        .iter()
        .map(|(content, digest)| json!({"mediaType": LAYER, "digest": digest.to_string(), "size": content.length}))
        .collect();
    json!({
        "schemaVersion": 2,
        "mediaType": IMAGE,
        "artifactType": "application/vnd.example.checker",
        "config": empty(),
        "layers": layers,
        "annotations": {"number": number.to_string()},
    })
    .to_string()
    .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_the_same_as_in_the_whole() {
        let content = Content {
            seed: 5,
            length: 20_001,
        };
        let whole = content.whole();
        assert_eq!(whole.len(), content.length);
        for (first, end) in [(0, 3), (7, 20), (4000, 4100), (4096, 8192), (4105, 20_001)] {
            assert_eq!(content.slice(first, end), whole[first..end]);
        }
        assert_eq!(content.digest(), Digest::sha256(&whole));
        let other = Content { seed: 6, ..content };
        assert_ne!(other.digest(), content.digest());
    }
}
