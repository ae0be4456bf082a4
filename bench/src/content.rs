//! Random bytes that can be made again from a number, and the names of digests.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher as _, Hasher as _};

use sha2::{Digest as _, Sha256};

/// How many bytes at the end of a pushed blob make it unlike every other.
pub(crate) const SUFFIX: usize = 16;

const HEX: &[u8; 16] = b"0123456789abcdef";

/// SplitMix64: quick, small, and the same on every machine.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Another sequence in each process: the standard hasher's keys come from the operating system.
    pub(crate) fn from_system() -> Self {
        Self(RandomState::new().build_hasher().finish())
    }

    pub(crate) fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`; 0 when the bound is 0.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        let product = u128::from(self.draw()) * (bound as u128);
        (product >> 64) as usize
    }

    /// True for about `share` of the calls.
    pub(crate) fn chance(&mut self, share: f64) -> bool {
        let unit = (self.draw() >> 11) as f64 / (1_u64 << 53) as f64;
        unit < share
    }
}

/// `size` bytes that no compression shrinks, always the same for one seed.
pub(crate) fn content(seed: u64, size: usize) -> Vec<u8> {
    let mut random = Random::new(seed);
    let mut bytes = vec![0; size];
    for chunk in bytes.chunks_mut(8) {
        let drawn = random.draw().to_le_bytes();
        chunk.copy_from_slice(&drawn[..chunk.len()]);
    }
    bytes
}

/// The digest of `bytes` as OCI writes it.
pub(crate) fn digest_of(bytes: &[u8]) -> String {
    name_digest(Sha256::new_with_prefix(bytes))
}

/// Ends a hash and names the digest as OCI writes it.
pub(crate) fn name_digest(hasher: Sha256) -> String {
    let hash = hasher.finalize();
    let mut name = String::from("sha256:");
    for byte in &hash {
        name.push(char::from(HEX[usize::from(byte >> 4)]));
        name.push(char::from(HEX[usize::from(byte & 15)]));
    }
    name
}

/// What all blobs of one push run share, hashed once: a unique blob then costs the client one hash block, not a whole pass.
pub(crate) struct Payload {
    shared: Vec<u8>,
    hasher: Sha256,
}

impl Payload {
    /// `size` counts the suffix in and is at least [`SUFFIX`].
    pub(crate) fn new(seed: u64, size: usize) -> Self {
        let shared = content(seed, size.saturating_sub(SUFFIX));
        let hasher = Sha256::new_with_prefix(&shared);
        Self { shared, hasher }
    }

    pub(crate) fn with_suffix(&self, suffix: [u8; SUFFIX]) -> Blob<'_> {
        let mut hasher = self.hasher.clone();
        hasher.update(suffix);
        Blob {
            shared: &self.shared,
            suffix,
            digest: name_digest(hasher),
        }
    }
}

/// One blob to push.
pub(crate) struct Blob<'a> {
    shared: &'a [u8],
    suffix: [u8; SUFFIX],
    pub(crate) digest: String,
}

impl Blob<'_> {
    pub(crate) fn size(&self) -> usize {
        self.shared.len() + SUFFIX
    }

    /// The bytes from `from` up to `to`, in the two places where they lie.
    pub(crate) fn parts(&self, from: usize, to: usize) -> [&[u8]; 2] {
        let boundary = self.shared.len();
        [
            &self.shared[from.min(boundary)..to.min(boundary)],
            &self.suffix[from.saturating_sub(boundary)..to.saturating_sub(boundary)],
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_named_as_oci_does() {
        assert_eq!(
            digest_of(b""),
            "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        );
    }

    #[test]
    fn parts_of_a_blob_join_to_what_its_digest_says() {
        let payload = Payload::new(7, 100);
        let blob = payload.with_suffix([9; SUFFIX]);
        let mut joined = Vec::new();
        for from in (0..blob.size()).step_by(30) {
            for part in blob.parts(from, blob.size().min(from + 30)) {
                joined.extend_from_slice(part);
            }
        }
        assert_eq!(joined.len(), 100);
        assert_eq!(digest_of(&joined), blob.digest);
    }

    #[test]
    fn numbers_stay_below_their_bound() {
        let mut random = Random::new(1);
        assert!((0..1_000).all(|_| random.below(3) < 3));
        assert_eq!(random.below(0), 0);
        assert!(!random.chance(0.0) && random.chance(1.0));
    }
}
