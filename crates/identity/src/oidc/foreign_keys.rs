//! The public keys of an issuer (RFC 7517, RFC 7518, RFC 8037).

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, DecodingKey};
use serde::Deserialize;
use serde_json::Value;

use super::{MOST_DOCUMENT, told};
use crate::ring_provider;

/// Most keys of a set.
const MOST_KEYS: usize = 100;
/// Longest id of a key.
pub(super) const MOST_KID: usize = 255;
/// Bits that the modulus of an RSA key may have: fewer are broken too easily, more take too long.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;
/// Most bytes of an RSA key's exponent.
const MOST_EXPONENT: usize = 4;

/// Why a set of keys is not used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeysRefused {
    /// It is longer than 1 MiB.
    #[error("the set of keys is longer than 1 MiB")]
    TooLong,
    /// It is no JSON object with `keys`.
    #[error("not a set of keys, which is {{\"keys\": [...]}}: {0}")]
    Malformed(String),
    /// It has more than 100 keys.
    #[error("the set has more than 100 keys")]
    TooMany,
    /// None of its keys can be used.
    #[error(
        "no key of the set verifies signatures: needed is an RSA key of 2048 to 8192 bits, P-256, P-384 or Ed25519, without its private half"
    )]
    NoneUsable,
}

/// The keys of an issuer that its tokens may be signed with.
#[derive(Clone, Debug)]
pub struct ForeignKeys(Vec<ForeignKey>);

#[derive(Clone, Debug)]
struct ForeignKey {
    kid: Option<String>,
    /// The one algorithm that it is for, where it says so.
    only: Option<Algorithm>,
    kind: Kind,
    key: DecodingKey,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Rsa,
    P256,
    P384,
    Ed25519,
}

/// Which key a token's header means.
pub(super) enum Selected<'a> {
    One(&'a DecodingKey),
    /// None: it may be new.
    Unknown,
    /// It names none, and several would do.
    Several,
}

/// The algorithm of a name, of those that are believed. `none` and what works with a shared secret are not.
pub(super) fn algorithm(name: &str) -> Option<Algorithm> {
    match name {
        "RS256" => Some(Algorithm::RS256),
        "RS384" => Some(Algorithm::RS384),
        "RS512" => Some(Algorithm::RS512),
        "PS256" => Some(Algorithm::PS256),
        "ES256" => Some(Algorithm::ES256),
        "ES384" => Some(Algorithm::ES384),
        "EdDSA" => Some(Algorithm::EdDSA),
        _ => None,
    }
}

#[derive(Deserialize)]
struct Set {
    keys: Vec<Value>,
}

#[derive(Deserialize)]
struct Jwk {
    kty: String,
    kid: Option<String>,
    alg: Option<String>,
    #[serde(rename = "use")]
    purpose: Option<String>,
    key_ops: Option<Vec<String>>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

/// What only private and shared keys have.
const PRIVATE: [&str; 8] = ["d", "p", "q", "dp", "dq", "qi", "oth", "k"];

impl ForeignKeys {
    /// The keys of a JWK set that can verify signatures; others of it are left out (RFC 7517, section 5).
    pub fn parse(bytes: &[u8]) -> Result<Self, KeysRefused> {
        if bytes.len() > MOST_DOCUMENT {
            return Err(KeysRefused::TooLong);
        }
        // A list of an object's values in their order would be read as the object.
        if !bytes.trim_ascii_start().starts_with(b"{") {
            return Err(KeysRefused::Malformed("it is no object".to_owned()));
        }
        let set: Set = serde_json::from_slice(bytes)
            .map_err(|error| KeysRefused::Malformed(told(&error.to_string())))?;
        if set.keys.len() > MOST_KEYS {
            return Err(KeysRefused::TooMany);
        }
        ring_provider::install();
        let keys: Vec<ForeignKey> = set.keys.into_iter().filter_map(usable).collect();
        match keys.is_empty() {
            true => Err(KeysRefused::NoneUsable),
            false => Ok(Self(keys)),
        }
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// The key that a header means which names `kid` and `algorithm`.
    pub(super) fn select(&self, kid: Option<&str>, algorithm: Algorithm) -> Selected<'_> {
        let mut fitting = self
            .0
            .iter()
            .filter(|key| key.does(algorithm))
            .filter(|key| kid.is_none() || key.kid.as_deref() == kid);
        match (fitting.next(), fitting.next()) {
            (None, _) => Selected::Unknown,
            (Some(_), Some(_)) => Selected::Several,
            (Some(key), None) => Selected::One(&key.key),
        }
    }
}

impl ForeignKey {
    /// Whether `algorithm` is done with it. A key never serves another kind of algorithm than its own.
    fn does(&self, algorithm: Algorithm) -> bool {
        let kind = match algorithm {
            Algorithm::RS256 | Algorithm::RS384 | Algorithm::RS512 | Algorithm::PS256 => Kind::Rsa,
            Algorithm::ES256 => Kind::P256,
            Algorithm::ES384 => Kind::P384,
            Algorithm::EdDSA => Kind::Ed25519,
            _ => return false,
        };
        kind == self.kind && self.only.is_none_or(|only| only == algorithm)
    }
}

/// The key of a JWK, if signatures can be verified with it. One whose private half is published is nobody's.
fn usable(jwk: Value) -> Option<ForeignKey> {
    if !jwk.is_object() || PRIVATE.iter().any(|member| jwk.get(member).is_some()) {
        return None;
    }
    let jwk: Jwk = serde_json::from_value(jwk).ok()?;
    let is_for_signatures = jwk
        .purpose
        .as_deref()
        .is_none_or(|purpose| purpose == "sig");
    let verifies = jwk
        .key_ops
        .as_ref()
        .is_none_or(|operations| operations.iter().any(|name| name == "verify"));
    let has_short_kid = jwk.kid.as_ref().is_none_or(|kid| kid.len() <= MOST_KID);
    if !is_for_signatures || !verifies || !has_short_kid {
        return None;
    }
    let only = match &jwk.alg {
        Some(name) => Some(algorithm(name)?),
        None => None,
    };
    let (kind, key) = public_key(&jwk)?;
    let key = ForeignKey {
        kid: jwk.kid,
        only,
        kind,
        key,
    };
    // A key that says it is for an algorithm of another kind is good for none.
    key.only.is_none_or(|only| key.does(only)).then_some(key)
}

fn public_key(jwk: &Jwk) -> Option<(Kind, DecodingKey)> {
    match (jwk.kty.as_str(), jwk.crv.as_deref()) {
        ("RSA", _) => {
            let (n, e) = (number(jwk.n.as_ref()?)?, number(jwk.e.as_ref()?)?);
            let unused = n.first()?.leading_zeros() as usize;
            let bits = n.len() * 8 - unused;
            // With an exponent of 1 every text is its own signature.
            let is_exponent = e.len() <= MOST_EXPONENT && e.last()? % 2 == 1 && e != [1];
            let is_good = RSA_BITS.contains(&bits) && is_exponent;
            is_good.then(|| (Kind::Rsa, DecodingKey::from_rsa_raw_components(&n, &e)))
        }
        ("EC", Some("P-256")) => Some((Kind::P256, point(jwk, 32)?)),
        ("EC", Some("P-384")) => Some((Kind::P384, point(jwk, 48)?)),
        ("OKP", Some("Ed25519")) => {
            let x = coordinate(jwk.x.as_ref()?, 32)?;
            Some((Kind::Ed25519, DecodingKey::from_ed_der(&x)))
        }
        _ => None,
    }
}

/// A number's bytes. Some write a zero before it, which stands for nothing.
fn number(text: &str) -> Option<Vec<u8>> {
    let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    Some(bytes[zeros..].to_vec())
}

fn coordinate(text: &str, length: usize) -> Option<Vec<u8>> {
    let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
    (bytes.len() == length).then_some(bytes)
}

/// A point of a curve in its uncompressed form (SEC 1, section 2.3.3). Whether it lies on the curve ring looks at.
fn point(jwk: &Jwk, length: usize) -> Option<DecodingKey> {
    let x = coordinate(jwk.x.as_ref()?, length)?;
    let y = coordinate(jwk.y.as_ref()?, length)?;
    let point = [[4].as_slice(), &x, &y].concat();
    Some(DecodingKey::from_ec_der(&point))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn count(keys: &[Value]) -> Result<usize, KeysRefused> {
        let text = json!({ "keys": keys }).to_string();
        ForeignKeys::parse(text.as_bytes()).map(|keys| keys.count())
    }

    fn ed() -> Value {
        json!({"kty": "OKP", "crv": "Ed25519", "kid": "e", "x": URL_SAFE_NO_PAD.encode([1; 32])})
    }

    fn rsa(bits: usize) -> Value {
        let mut n = vec![0xff; bits.div_ceil(8)];
        n[0] >>= (8 - bits % 8) % 8;
        json!({"kty": "RSA", "kid": "r", "use": "sig", "n": URL_SAFE_NO_PAD.encode(n), "e": "AQAB"})
    }

    fn ec(curve: &str, length: usize) -> Value {
        let coordinate = URL_SAFE_NO_PAD.encode(vec![1; length]);
        json!({"kty": "EC", "crv": curve, "kid": "c", "x": coordinate, "y": coordinate})
    }

    fn with(mut key: Value, member: &str, value: Value) -> Value {
        key[member] = value;
        key
    }

    #[test]
    fn usable_keys_are_kept() {
        for good in [
            ed(),
            rsa(2048),
            rsa(4096),
            rsa(8192),
            ec("P-256", 32),
            ec("P-384", 48),
            with(rsa(2048), "alg", json!("PS256")),
            with(ed(), "key_ops", json!(["verify"])),
            with(ed(), "x5c", json!(["MII"])),
        ] {
            assert_eq!(count(std::slice::from_ref(&good)), Ok(1), "{good}");
        }
    }

    #[test]
    fn unusable_keys_are_left_out() {
        for bad in [
            json!(null),
            json!({}),
            json!([
                "OKP",
                "e",
                null,
                null,
                null,
                "Ed25519",
                null,
                null,
                ed()["x"],
                null
            ]),
            json!({"kty": "oct", "k": "c2VjcmV0"}),
            json!({"kty": "future"}),
            rsa(1024),
            rsa(2047),
            rsa(8193),
            with(rsa(2048), "e", json!("")),
            with(rsa(2048), "e", json!("AQ")),
            with(rsa(2048), "e", json!("AAAB")),
            with(rsa(2048), "e", json!("BA")),
            with(rsa(2048), "e", json!("AQABAQAB")),
            with(rsa(2048), "n", json!("!")),
            with(rsa(2048), "n", json!("")),
            with(rsa(2048), "use", json!("enc")),
            with(rsa(2048), "alg", json!("RSA-OAEP")),
            with(rsa(2048), "alg", json!("HS256")),
            with(rsa(2048), "alg", json!("ES256")),
            with(rsa(2048), "d", json!("AQAB")),
            with(rsa(2048), "p", json!(null)),
            with(ed(), "d", json!("AQAB")),
            with(ed(), "key_ops", json!(["sign"])),
            with(ed(), "crv", json!("Ed448")),
            with(ed(), "x", json!("AQAB")),
            with(ed(), "kid", json!("k".repeat(256))),
            with(ed(), "kid", json!(7)),
            ec("P-256", 31),
            ec("P-256", 48),
            ec("P-521", 66),
            ec("secp256k1", 32),
        ] {
            assert_eq!(count(&[bad.clone(), ed()]), Ok(1), "{bad}");
            assert_eq!(
                count(std::slice::from_ref(&bad)),
                Err(KeysRefused::NoneUsable),
                "{bad}"
            );
        }
    }

    #[test]
    fn sets_are_bounded() {
        assert_eq!(count(&vec![ed(); 100]), Ok(100));
        assert_eq!(count(&vec![ed(); 101]), Err(KeysRefused::TooMany));
        let huge = " ".repeat(MOST_DOCUMENT + 1);
        let refused = ForeignKeys::parse(huge.as_bytes()).unwrap_err();
        assert_eq!(refused, KeysRefused::TooLong);
        let list = json!([[ed()]]).to_string();
        let deep = "[".repeat(10_000);
        for bad in ["", "[]", "{}", "{\"keys\": {}}", &list, &deep] {
            let refused = ForeignKeys::parse(bad.as_bytes()).unwrap_err();
            assert!(matches!(refused, KeysRefused::Malformed(_)), "{bad}");
        }
    }

    #[test]
    fn a_key_is_chosen_by_its_id_and_kind() {
        let text = json!({"keys": [ed(), rsa(2048), with(rsa(4096), "kid", json!("s"))]});
        let keys = ForeignKeys::parse(text.to_string().as_bytes()).unwrap();
        let chosen = |kid, algorithm| match keys.select(kid, algorithm) {
            Selected::One(_) => "one",
            Selected::Unknown => "unknown",
            Selected::Several => "several",
        };
        assert_eq!(chosen(Some("e"), Algorithm::EdDSA), "one");
        assert_eq!(chosen(Some("r"), Algorithm::RS512), "one");
        assert_eq!(chosen(Some("e"), Algorithm::RS256), "unknown");
        assert_eq!(chosen(Some("e"), Algorithm::HS256), "unknown");
        assert_eq!(chosen(Some("x"), Algorithm::EdDSA), "unknown");
        assert_eq!(chosen(None, Algorithm::EdDSA), "one");
        assert_eq!(chosen(None, Algorithm::RS256), "several");
        assert_eq!(chosen(None, Algorithm::ES256), "unknown");
    }
}
