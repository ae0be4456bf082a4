//! What `jsonwebtoken` computes with: ring, which TLS uses too. It signs with Ed25519 only; tokens of others it also
//! verifies with RSA and ECDSA. Every other algorithm is an error, and so is a key of another kind than the algorithm's.

use std::sync::Once;

use jsonwebtoken::{
    Algorithm, AlgorithmFamily, DecodingKey, DecodingKeyKind, EncodingKey,
    crypto::{CryptoProvider, JwtSigner, JwtVerifier, KeyUtils},
    errors::{Error, ErrorKind, Result},
    jwk::{EllipticCurve, ThumbprintHash},
    signature::{Error as SignatureError, Signer, Verifier},
};
use ring::{
    digest,
    signature::{
        ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ED25519, Ed25519KeyPair, KeyPair as _,
        RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512,
        RSA_PSS_2048_8192_SHA256, RsaParameters, RsaPublicKeyComponents, UnparsedPublicKey,
        VerificationAlgorithm,
    },
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

/// An Ed25519 key, or a point of a curve.
struct KeyVerifier {
    algorithm: Algorithm,
    key: UnparsedPublicKey<Vec<u8>>,
}

impl Verifier<Vec<u8>> for KeyVerifier {
    fn verify(
        &self,
        message: &[u8],
        signature: &Vec<u8>,
    ) -> std::result::Result<(), SignatureError> {
        self.key
            .verify(message, signature)
            .map_err(|_| SignatureError::new())
    }
}

impl JwtVerifier for KeyVerifier {
    fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
}

struct RsaVerifier {
    algorithm: Algorithm,
    parameters: &'static RsaParameters,
    key: RsaPublicKeyComponents<Vec<u8>>,
}

impl Verifier<Vec<u8>> for RsaVerifier {
    fn verify(
        &self,
        message: &[u8],
        signature: &Vec<u8>,
    ) -> std::result::Result<(), SignatureError> {
        self.key
            .verify(self.parameters, message, signature)
            .map_err(|_| SignatureError::new())
    }
}

impl JwtVerifier for RsaVerifier {
    fn algorithm(&self) -> Algorithm {
        self.algorithm
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
    let how: &'static dyn VerificationAlgorithm = match (algorithm, key.family()) {
        (Algorithm::EdDSA, AlgorithmFamily::Ed) => &ED25519,
        (Algorithm::ES256, AlgorithmFamily::Ec) => &ECDSA_P256_SHA256_FIXED,
        (Algorithm::ES384, AlgorithmFamily::Ec) => &ECDSA_P384_SHA384_FIXED,
        (_, AlgorithmFamily::Rsa) => return rsa_verifier(*algorithm, key),
        _ => return Err(unsupported()),
    };
    Ok(Box::new(KeyVerifier {
        algorithm: *algorithm,
        key: UnparsedPublicKey::new(how, key.try_get_as_bytes()?.to_vec()),
    }))
}

fn rsa_verifier(algorithm: Algorithm, key: &DecodingKey) -> Result<Box<dyn JwtVerifier>> {
    let parameters = match algorithm {
        Algorithm::RS256 => &RSA_PKCS1_2048_8192_SHA256,
        Algorithm::RS384 => &RSA_PKCS1_2048_8192_SHA384,
        Algorithm::RS512 => &RSA_PKCS1_2048_8192_SHA512,
        Algorithm::PS256 => &RSA_PSS_2048_8192_SHA256,
        _ => return Err(unsupported()),
    };
    let DecodingKeyKind::RsaModulusExponent { n, e } = key.kind() else {
        return Err(ErrorKind::InvalidKeyFormat.into());
    };
    let key = RsaPublicKeyComponents {
        n: n.clone(),
        e: e.clone(),
    };
    Ok(Box::new(RsaVerifier {
        algorithm,
        parameters,
        key,
    }))
}

fn unsupported() -> Error {
    ErrorKind::UnsupportedAlgorithm.into()
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
    fn only_ed25519_signs() {
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
