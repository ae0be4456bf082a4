//! Keys that sign tokens.

use std::fmt;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::{
    error::KeyRejected,
    rand::SystemRandom,
    signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey},
};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::{RandomFailure, Signer};

/// Why there is no key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// None can be made.
    #[error(transparent)]
    Random(#[from] RandomFailure),
    /// These bytes are none.
    #[error("not a PKCS#8 document of an Ed25519 key: {0}")]
    Rejected(String),
}

impl From<KeyRejected> for KeyError {
    fn from(error: KeyRejected) -> Self {
        Self::Rejected(error.to_string())
    }
}

/// An Ed25519 key pair (RFC 8032). Its memory is cleared when it goes.
pub struct SigningKey {
    pkcs8: Zeroizing<Vec<u8>>,
    public_key: [u8; 32],
    kid: String,
}

impl SigningKey {
    /// A new key.
    pub fn generate() -> Result<Self, KeyError> {
        let document =
            Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).map_err(|_| RandomFailure)?;
        Self::from_pkcs8(document.as_ref())
    }

    /// The key in a PKCS#8 document of version 2 (RFC 5958), as [`Self::pkcs8`] gives it.
    pub fn from_pkcs8(pkcs8: &[u8]) -> Result<Self, KeyError> {
        let pair = Ed25519KeyPair::from_pkcs8(pkcs8)?;
        let public_key: &[u8] = pair.public_key().as_ref();
        let public_key = <[u8; 32]>::try_from(public_key)
            .map_err(|error| KeyError::Rejected(error.to_string()))?;
        Ok(Self {
            pkcs8: Zeroizing::new(pkcs8.to_vec()),
            public_key,
            kid: short_hex(&Sha256::digest(public_key)),
        })
    }

    /// The private key. It goes nowhere but into [`crate::InstallationKey::seal`].
    pub fn pkcs8(&self) -> &[u8] {
        &self.pkcs8
    }

    /// The id that tokens name: the first 8 bytes of the public key's SHA-256, in hexadecimal.
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// The public key.
    pub fn public_key(&self) -> [u8; 32] {
        self.public_key
    }

    /// The Ed25519 signature of a message that is no token. It says itself what it is, so that it can be taken for nothing
    /// else.
    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>, KeyError> {
        let pair = Ed25519KeyPair::from_pkcs8(&self.pkcs8)?;
        Ok(pair.sign(message).as_ref().to_vec())
    }

    /// What makes tokens with it.
    pub fn signer(&self) -> Signer {
        Signer::new(&self.kid, &self.pkcs8)
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey")
            .field("kid", &self.kid)
            .finish_non_exhaustive()
    }
}

/// Whether the signature is that of the public key's owner under the message, as [`SigningKey::sign`] makes it.
pub fn is_signed(public_key: &[u8; 32], message: &[u8], signature: &[u8]) -> bool {
    let key = UnparsedPublicKey::new(&ED25519, public_key);
    key.verify(message, signature).is_ok()
}

/// The first 8 bytes in hexadecimal.
pub(crate) fn short_hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .take(8)
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// The JWK set (RFC 7517, RFC 8037) of public keys and their ids, for whoever verifies tokens elsewhere.
pub fn jwks<'a>(keys: impl IntoIterator<Item = (&'a str, &'a [u8; 32])>) -> Value {
    let jwk = |(kid, public_key): (&str, &[u8; 32])| {
        json!({
            "kty": "OKP",
            "crv": "Ed25519",
            "use": "sig",
            "alg": "EdDSA",
            "kid": kid,
            "x": URL_SAFE_NO_PAD.encode(public_key),
        })
    };
    let keys: Vec<Value> = keys.into_iter().map(jwk).collect();
    json!({ "keys": keys })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_comes_back_from_its_document() {
        let key = SigningKey::generate().unwrap();
        let again = SigningKey::from_pkcs8(key.pkcs8()).unwrap();
        assert_eq!(again.public_key(), key.public_key());
        assert_eq!(again.kid(), key.kid());
        assert_eq!(key.kid().len(), 16);
        assert_ne!(SigningKey::generate().unwrap().kid(), key.kid());
        let printed = format!("{key:?}");
        assert_eq!(
            printed,
            format!("SigningKey {{ kid: {:?}, .. }}", key.kid())
        );

        let mut damaged = key.pkcs8().to_vec();
        damaged[20] ^= 1;
        let refused = SigningKey::from_pkcs8(&damaged);
        assert!(matches!(refused, Err(KeyError::Rejected(_))));
        assert!(SigningKey::from_pkcs8(b"").is_err());
    }

    #[test]
    fn a_signature_counts_for_its_key_and_message_only() {
        let (key, other) = (
            SigningKey::generate().unwrap(),
            SigningKey::generate().unwrap(),
        );
        let signature = key.sign(b"message").unwrap();
        assert!(is_signed(&key.public_key(), b"message", &signature));
        assert!(!is_signed(&other.public_key(), b"message", &signature));
        assert!(!is_signed(&key.public_key(), b"Message", &signature));
        assert!(!is_signed(&key.public_key(), b"message", &signature[1..]));
        for at in 0..signature.len() {
            let mut damaged = signature.clone();
            damaged[at] ^= 1;
            assert!(!is_signed(&key.public_key(), b"message", &damaged), "{at}");
        }
    }

    /// The public key of RFC 8037, appendix A.
    #[test]
    fn public_keys_are_published_as_others_write_them() {
        let public_key = URL_SAFE_NO_PAD
            .decode("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo")
            .unwrap();
        let kid = short_hex(&Sha256::digest(&public_key));
        assert_eq!(kid, "21fe31dfa154a261");
        let public_key: [u8; 32] = public_key.try_into().unwrap();
        assert_eq!(
            jwks([(kid.as_str(), &public_key)]),
            json!({"keys": [{"kty": "OKP", "crv": "Ed25519", "use": "sig", "alg": "EdDSA", "kid": "21fe31dfa154a261",
                "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]})
        );
        assert_eq!(jwks([]), json!({"keys": []}));
    }
}
