//! What stands for a credential in memory.

use ring::hmac;

use crate::{RandomFailure, random};

/// Makes fingerprints of credentials under a key that only this process has, so that what was verified can be looked up
/// again without keeping it, and nobody can say beforehand what collides.
pub struct Fingerprints(hmac::Key);

impl Fingerprints {
    /// Under a fresh key.
    pub fn new() -> Result<Self, RandomFailure> {
        let key: [u8; 32] = random::bytes()?;
        Ok(Self(hmac::Key::new(hmac::HMAC_SHA256, &key)))
    }

    /// HMAC-SHA256 of the parts, each with its length before it.
    pub fn of(&self, parts: &[&str]) -> [u8; 32] {
        let mut context = hmac::Context::with_key(&self.0);
        for part in parts {
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part.as_bytes());
        }
        let mut fingerprint = [0; 32];
        let tag = context.sign();
        fingerprint.copy_from_slice(tag.as_ref());
        fingerprint
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_do_not_run_together() {
        let prints = Fingerprints::new().unwrap();
        assert_eq!(prints.of(&["ab", "c"]), prints.of(&["ab", "c"]));
        assert_ne!(prints.of(&["ab", "c"]), prints.of(&["a", "bc"]));
        assert_ne!(prints.of(&["ab"]), prints.of(&["ab", ""]));
        assert_ne!(prints.of(&["a"]), Fingerprints::new().unwrap().of(&["a"]));
    }
}
