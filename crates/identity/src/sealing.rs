//! Signing keys at rest: a dump of the catalog opens none.
//!
//! ```text
//! ┌──────────────┬─────────────────────────────────────────────────────────┐
//! │ 32 bytes salt│ ChaCha20-Poly1305 (RFC 8439) of the key, with 16 of tag │
//! └──────────────┴─────────────────────────────────────────────────────────┘
//! ```

use std::fmt;

use ring::{
    aead::{Aad, CHACHA20_POLY1305, LessSafeKey, MAX_TAG_LEN, NONCE_LEN, Nonce, UnboundKey},
    hkdf,
};
use zeroize::Zeroizing;

use crate::{RandomFailure, keys::short_hex, random};

/// What the key of each sealing is derived for.
const SEALING: &[u8] = b"granary signing key";
/// What the id is derived for.
const NAMING: &[u8] = b"granary key id";
/// Bytes of a salt.
const SALT: usize = 32;

/// Why nothing is sealed or opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// There is no salt.
    #[error(transparent)]
    Random(#[from] RandomFailure),
    /// It was sealed with another installation key or for another key id, or is damaged.
    #[error(
        "the signing key was sealed with another installation key, for another key id, or is damaged"
    )]
    Foreign,
    /// The cipher fails, which it does only for texts of many gigabytes.
    #[error("the cipher failed")]
    Failed,
}

/// The key under which the private parts of signing keys are kept. It lies where the catalog's database does not: in
/// the store, or in a file of the operator. Its memory is cleared when it goes.
#[derive(Clone)]
pub struct InstallationKey(Zeroizing<[u8; 32]>);

impl InstallationKey {
    /// The key of these bytes.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// A new key.
    pub fn generate() -> Result<Self, RandomFailure> {
        Ok(Self::from_bytes(random::bytes()?))
    }

    /// Its bytes, to be kept.
    pub fn expose(&self) -> &[u8; 32] {
        &self.0
    }

    /// What tells it from others and says nothing about it: 8 bytes derived from it (HKDF-SHA256, RFC 5869), in
    /// hexadecimal.
    pub fn id(&self) -> Result<String, SealError> {
        let mut id = [0; 32];
        self.derive(&[])
            .expand(&[NAMING], hkdf::HKDF_SHA256)
            .and_then(|derived| derived.fill(&mut id))
            .map_err(|_| SealError::Failed)?;
        Ok(short_hex(&id))
    }

    /// Seals the private part of the signing key `kid`.
    pub fn seal(&self, kid: &str, plain: &[u8]) -> Result<Vec<u8>, SealError> {
        let salt = random::bytes::<SALT>()?;
        let mut sealed = Vec::with_capacity(plain.len() + MAX_TAG_LEN);
        sealed.extend_from_slice(plain);
        self.cipher(&salt)?
            .seal_in_place_append_tag(nonce(), Aad::from(kid.as_bytes()), &mut sealed)
            .map_err(|_| SealError::Failed)?;
        Ok([salt.as_slice(), sealed.as_slice()].concat())
    }

    /// Opens what [`Self::seal`] made for `kid`.
    pub fn open(&self, kid: &str, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, SealError> {
        let (salt, sealed) = sealed
            .split_first_chunk::<SALT>()
            .ok_or(SealError::Foreign)?;
        let mut plain = Zeroizing::new(sealed.to_vec());
        let length = self
            .cipher(salt)?
            .open_in_place(nonce(), Aad::from(kid.as_bytes()), plain.as_mut_slice())
            .map_err(|_| SealError::Foreign)?
            .len();
        plain.truncate(length);
        Ok(plain)
    }

    /// The cipher of one sealing: under a salt of its own, its key is used once.
    fn cipher(&self, salt: &[u8; SALT]) -> Result<LessSafeKey, SealError> {
        self.derive(salt)
            .expand(&[SEALING], &CHACHA20_POLY1305)
            .map(|derived| LessSafeKey::new(UnboundKey::from(derived)))
            .map_err(|_| SealError::Failed)
    }

    fn derive(&self, salt: &[u8]) -> hkdf::Prk {
        hkdf::Salt::new(hkdf::HKDF_SHA256, salt).extract(self.0.as_slice())
    }
}

impl fmt::Debug for InstallationKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("InstallationKey(***)")
    }
}

/// Always the same, because no key is used twice.
fn nonce() -> Nonce {
    Nonce::assume_unique_for_key([0; NONCE_LEN])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sealed by another implementation (Python's `cryptography`) with a key of sevens and the salt 0, 1, .. 31.
    const KNOWN: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f\
        61dada07b2a380f5ad9910eb80ffb33127a1026bb1f667c0d019";

    fn known() -> Vec<u8> {
        KNOWN
            .as_bytes()
            .chunks(2)
            .map(|pair| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap())
            .collect()
    }

    #[test]
    fn what_others_sealed_opens() {
        let key = InstallationKey::from_bytes([7; 32]);
        assert_eq!(key.id().unwrap(), "ab5eafa3e4d0c8c4");
        assert_eq!(*key.open("kid", &known()).unwrap(), b"plain text");
        assert_eq!(key.expose(), &[7; 32]);
        assert_eq!(format!("{key:?}"), "InstallationKey(***)");
    }

    #[test]
    fn only_the_right_key_and_id_open() {
        let key = InstallationKey::generate().unwrap();
        let other = InstallationKey::generate().unwrap();
        assert_ne!(key.id().unwrap(), other.id().unwrap());
        let sealed = key.seal("kid", b"plain text").unwrap();
        assert_eq!(sealed.len(), 32 + 10 + 16);
        assert_ne!(key.seal("kid", b"plain text").unwrap(), sealed);
        assert_eq!(*key.open("kid", &sealed).unwrap(), b"plain text");
        assert_eq!(other.open("kid", &sealed).unwrap_err(), SealError::Foreign);
        assert_eq!(key.open("kit", &sealed).unwrap_err(), SealError::Foreign);
        assert_eq!(key.open("", &sealed).unwrap_err(), SealError::Foreign);
    }

    #[test]
    fn damage_is_noticed() {
        let key = InstallationKey::from_bytes([7; 32]);
        let sealed = known();
        for at in 0..sealed.len() {
            let mut damaged = sealed.clone();
            damaged[at] ^= 1;
            assert!(key.open("kid", &damaged).is_err(), "{at}");
            assert!(key.open("kid", &sealed[..at]).is_err(), "{at}");
        }
    }
}
