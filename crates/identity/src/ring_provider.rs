//! What `jsonwebtoken` computes with: Ed25519 of ring, which TLS uses too. Every other algorithm is an error.

use std::sync::Once;

use jsonwebtoken::{
    Algorithm, AlgorithmFamily, DecodingKey, EncodingKey,
    crypto::{CryptoProvider, JwtSigner, JwtVerifier, KeyUtils},
    errors::{ErrorKind, Result},
    jwk::{EllipticCurve, ThumbprintHash},
    signature::{Error as SignatureError, Signer, Verifier},
};
use ring::{
    digest,
    signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey},
};

/// Makes this the provider of the process. Everything here that signs or verifies has called it before.
pub(crate) fn install() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        // It fails if there is one already; `jsonwebtoken` then goes on with that.
        let _ = PROVIDER.install_default();
    });
}

static PROVIDER: CryptoProvider = CryptoProvider {
    signer_factory: signer,
    verifier_factory: verifier,
    key_utils: KeyUtils {
        rsa_pub_components_from_private_key: |_| Err(ErrorKind::UnsupportedAlgorithm.into()),
        rsa_pub_components_from_public_key: |_| Err(ErrorKind::UnsupportedAlgorithm.into()),
        ec_pub_components_from_private_key: |_, _| Err(ErrorKind::UnsupportedAlgorithm.into()),
        ed_pub_components_from_private_key: ed25519_public_key,
        compute_digest,
    },
};

struct Ed25519Signer(Ed25519KeyPair);

impl Signer<Vec<u8>> for Ed25519Signer {
    fn try_sign(&self, message: &[u8]) -> std::result::Result<Vec<u8>, SignatureError> {
        Ok(self.0.sign(message).as_ref().to_vec())
    }
}

impl JwtSigner for Ed25519Signer {
    fn algorithm(&self) -> Algorithm {
        Algorithm::EdDSA
    }
}

struct Ed25519Verifier(UnparsedPublicKey<Vec<u8>>);

impl Verifier<Vec<u8>> for Ed25519Verifier {
    fn verify(
        &self,
        message: &[u8],
        signature: &Vec<u8>,
    ) -> std::result::Result<(), SignatureError> {
        self.0
            .verify(message, signature)
            .map_err(|_| SignatureError::new())
    }
}

impl JwtVerifier for Ed25519Verifier {
    fn algorithm(&self) -> Algorithm {
        Algorithm::EdDSA
    }
}

fn signer(algorithm: &Algorithm, key: &EncodingKey) -> Result<Box<dyn JwtSigner>> {
    match (algorithm, key.family()) {
        (Algorithm::EdDSA, AlgorithmFamily::Ed) => {
            Ok(Box::new(Ed25519Signer(key_pair(key.as_bytes())?)))
        }
        _ => Err(ErrorKind::UnsupportedAlgorithm.into()),
    }
}

fn verifier(algorithm: &Algorithm, key: &DecodingKey) -> Result<Box<dyn JwtVerifier>> {
    match (algorithm, key.family()) {
        (Algorithm::EdDSA, AlgorithmFamily::Ed) => {
            let public_key = key.try_get_as_bytes()?.to_vec();
            let key = UnparsedPublicKey::new(&ED25519, public_key);
            Ok(Box::new(Ed25519Verifier(key)))
        }
        _ => Err(ErrorKind::UnsupportedAlgorithm.into()),
    }
}

fn key_pair(pkcs8: &[u8]) -> Result<Ed25519KeyPair> {
    Ed25519KeyPair::from_pkcs8(pkcs8).map_err(|_| ErrorKind::InvalidEddsaKey.into())
}

fn ed25519_public_key(pkcs8: &[u8], curve: &EllipticCurve) -> Result<Vec<u8>> {
    match curve {
        EllipticCurve::Ed25519 => Ok(key_pair(pkcs8)?.public_key().as_ref().to_vec()),
        _ => Err(ErrorKind::UnsupportedAlgorithm.into()),
    }
}

fn compute_digest(bytes: &[u8], hash: ThumbprintHash) -> Result<Vec<u8>> {
    let algorithm = match hash {
        ThumbprintHash::SHA256 => &digest::SHA256,
        ThumbprintHash::SHA384 => &digest::SHA384,
        ThumbprintHash::SHA512 => &digest::SHA512,
        _ => return Err(ErrorKind::UnsupportedAlgorithm.into()),
    };
    Ok(digest::digest(algorithm, bytes).as_ref().to_vec())
}

#[cfg(test)]
mod tests {
    use jsonwebtoken::crypto::{sign, verify};
    use ring::rand::SystemRandom;

    use super::*;

    #[test]
    fn only_ed25519_signs_and_verifies() {
        install();
        install();
        let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        let public_key = ed25519_public_key(document.as_ref(), &EllipticCurve::Ed25519).unwrap();
        let private = EncodingKey::from_ed_der(document.as_ref());
        let public = DecodingKey::from_ed_der(&public_key);

        let signature = sign(b"message", &private, Algorithm::EdDSA).unwrap();
        let is_good = |message: &[u8]| verify(&signature, message, &public, Algorithm::EdDSA);
        assert_eq!(is_good(b"message"), Ok(true));
        assert_eq!(is_good(b"massage"), Ok(false));

        let secret = EncodingKey::from_secret(&public_key);
        assert!(sign(b"message", &secret, Algorithm::HS256).is_err());
        assert!(sign(b"message", &secret, Algorithm::EdDSA).is_err());
        assert!(sign(b"message", &private, Algorithm::RS256).is_err());
        let secret = DecodingKey::from_secret(&public_key);
        assert!(verify(&signature, b"message", &secret, Algorithm::HS256).is_err());
        assert!(verify(&signature, b"message", &secret, Algorithm::EdDSA).is_err());
        assert!(verify(&signature, b"message", &public, Algorithm::ES256).is_err());
        let broken = EncodingKey::from_ed_der(b"no key");
        assert!(sign(b"message", &broken, Algorithm::EdDSA).is_err());
    }
}
