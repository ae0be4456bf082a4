//! An issuer whose keys the tests have, and what it says.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use granary_identity::oidc::{Expected, ForeignClaims, ForeignKeys, ForeignRefused};
use ring::{
    rand::SystemRandom,
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair,
        EcdsaSigningAlgorithm, Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256, RSA_PKCS1_SHA384,
        RSA_PKCS1_SHA512, RSA_PSS_SHA256, RSA_PSS_SHA384, RsaEncoding, RsaKeyPair,
    },
};
use serde_json::{Value, json};

pub(crate) const ISSUER: &str = "https://login.example.org/realms/acme";
pub(crate) const AUDIENCE: &str = "granary";
pub(crate) const NONCE: &str = "n-0S6_WzA2Mj";
pub(crate) const NOW: i64 = 1_800_000_000;

/// An RSA key of 2048 bits that was made for these tests.
pub(crate) const RSA: &[u8] = include_bytes!("test-only-rsa2048.pk8.der");

/// The private keys of an issuer, with what it publishes of them.
pub(crate) struct Issuer {
    pub(crate) rsa: RsaKeyPair,
    pub(crate) p256: EcdsaKeyPair,
    pub(crate) p384: EcdsaKeyPair,
    pub(crate) ed: Ed25519KeyPair,
    pub(crate) keys: ForeignKeys,
}

pub(crate) fn ec(algorithm: &'static EcdsaSigningAlgorithm) -> EcdsaKeyPair {
    let random = SystemRandom::new();
    let document = EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap();
    EcdsaKeyPair::from_pkcs8(algorithm, document.as_ref(), &random).unwrap()
}

pub(crate) fn ed() -> Ed25519KeyPair {
    let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
    Ed25519KeyPair::from_pkcs8(document.as_ref()).unwrap()
}

pub(crate) fn ec_jwk(kid: &str, curve: &str, key: &EcdsaKeyPair) -> Value {
    let point = &key.public_key().as_ref()[1..];
    let (x, y) = point.split_at(point.len() / 2);
    json!({"kty": "EC", "crv": curve, "kid": kid, "x": encoded(x), "y": encoded(y), "use": "sig"})
}

pub(crate) fn ed_jwk(kid: &str, key: &Ed25519KeyPair) -> Value {
    json!({"kty": "OKP", "crv": "Ed25519", "kid": kid, "x": encoded(key.public_key())})
}

/// As most write it, or with a zero before the modulus, as some do.
pub(crate) fn rsa_jwk(kid: &str, key: &RsaKeyPair, with_zero: bool) -> Value {
    let public: ring::rsa::PublicKeyComponents<Vec<u8>> = key.public_key().into();
    let zero: &[u8] = if with_zero { &[0] } else { &[] };
    json!({"kty": "RSA", "kid": kid, "n": encoded([zero, &public.n].concat()), "e": encoded(public.e)})
}

pub(crate) fn set(keys: Value) -> ForeignKeys {
    ForeignKeys::parse(json!({ "keys": keys }).to_string().as_bytes()).unwrap()
}

impl Issuer {
    pub(crate) fn new() -> Self {
        let rsa = RsaKeyPair::from_pkcs8(RSA).unwrap();
        let p256 = ec(&ECDSA_P256_SHA256_FIXED_SIGNING);
        let p384 = ec(&ECDSA_P384_SHA384_FIXED_SIGNING);
        let ed = ed();
        let keys = set(json!([
            rsa_jwk("rsa", &rsa, false),
            rsa_jwk("zero", &rsa, true),
            ec_jwk("p256", "P-256", &p256),
            ec_jwk("p384", "P-384", &p384),
            ed_jwk("ed", &ed),
        ]));
        Self {
            rsa,
            p256,
            p384,
            ed,
            keys,
        }
    }

    pub(crate) fn rsa_signature(&self, how: &'static dyn RsaEncoding, message: &[u8]) -> Vec<u8> {
        let mut signature = vec![0; self.rsa.public().modulus_len()];
        self.rsa
            .sign(how, &SystemRandom::new(), message, &mut signature)
            .unwrap();
        signature
    }

    /// The token of these parts that the issuer signed as `alg` says.
    pub(crate) fn sign(&self, alg: &str, header: &str, payload: &str) -> String {
        let message = message(header, payload);
        let bytes = message.as_bytes();
        let random = SystemRandom::new();
        let signature = match alg {
            "RS256" => self.rsa_signature(&RSA_PKCS1_SHA256, bytes),
            "RS384" => self.rsa_signature(&RSA_PKCS1_SHA384, bytes),
            "RS512" => self.rsa_signature(&RSA_PKCS1_SHA512, bytes),
            "PS256" => self.rsa_signature(&RSA_PSS_SHA256, bytes),
            "PS384" => self.rsa_signature(&RSA_PSS_SHA384, bytes),
            "ES256" => self.p256.sign(&random, bytes).unwrap().as_ref().to_vec(),
            "ES384" => self.p384.sign(&random, bytes).unwrap().as_ref().to_vec(),
            _ => self.ed.sign(bytes).as_ref().to_vec(),
        };
        format!("{message}.{}", encoded(signature))
    }

    /// A token of this payload.
    pub(crate) fn token(&self, payload: &Value) -> String {
        self.sign(
            "EdDSA",
            &header("EdDSA", "ed").to_string(),
            &payload.to_string(),
        )
    }

    /// What is said of a token whose payload was changed before it was signed.
    pub(crate) fn signed_after(
        &self,
        change: impl FnOnce(&mut Value),
    ) -> Result<ForeignClaims, ForeignRefused> {
        let mut payload = payload();
        change(&mut payload);
        self.verify(&self.token(&payload))
    }

    /// What is said of a good payload under this header, signed by Ed25519.
    pub(crate) fn headed(&self, header: &str) -> Result<ForeignClaims, ForeignRefused> {
        self.verify(&self.sign("EdDSA", header, &payload().to_string()))
    }

    pub(crate) fn verify(&self, token: &str) -> Result<ForeignClaims, ForeignRefused> {
        verify(&self.keys, token)
    }
}

pub(crate) fn audiences() -> Vec<String> {
    vec![AUDIENCE.to_owned()]
}

pub(crate) fn verify(keys: &ForeignKeys, token: &str) -> Result<ForeignClaims, ForeignRefused> {
    let audiences = audiences();
    keys.verify(token, &expected(&audiences))
}

pub(crate) fn expected(audiences: &[String]) -> Expected<'_> {
    Expected {
        issuer: ISSUER,
        audiences,
        nonce: Some(NONCE),
        now: NOW,
        leeway: 60,
    }
}

pub(crate) fn header(alg: &str, kid: &str) -> Value {
    json!({"typ": "JWT", "alg": alg, "kid": kid, "x5t": "thumbprint"})
}

pub(crate) fn payload() -> Value {
    json!({
        "iss": ISSUER,
        "sub": "248289761001",
        "aud": AUDIENCE,
        "exp": NOW + 300,
        "iat": NOW,
        "nonce": NONCE,
        "jti": "id",
        "groups": ["core"],
    })
}

pub(crate) fn encoded(part: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(part)
}

pub(crate) fn message(header: &str, payload: &str) -> String {
    format!("{}.{}", encoded(header), encoded(payload))
}

pub(crate) fn remove(payload: &mut Value, claim: &str) {
    payload.as_object_mut().unwrap().remove(claim);
}

pub(crate) const KINDS: [(&str, &str); 8] = [
    ("RS256", "rsa"),
    ("RS384", "rsa"),
    ("RS512", "rsa"),
    ("PS256", "rsa"),
    ("RS256", "zero"),
    ("ES256", "p256"),
    ("ES384", "p384"),
    ("EdDSA", "ed"),
];
