//! Tokens of the docker token service: JSON Web Tokens (RFC 7519) signed with Ed25519 (RFC 8037).
//!
//! A token is believed only if it could have been made here: its header has just the three members that ours have, its
//! key is one that the catalog keeps, and nothing of its payload is read before its signature was verified. So no
//! header chooses the algorithm, brings a key or says where one is.

use std::collections::HashMap;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header};
use serde::{Deserialize, de::DeserializeOwned};

use crate::{
    TokenClaims,
    claims::{LEEWAY, Payload},
    ring_provider,
};

/// Most bytes of a token: clients send it with each request, and proxies allow 8 KiB for all headers.
const MOST_BYTES: usize = 8 * 1024;
/// Most bytes of a header's JSON.
const MOST_HEADER: usize = 512;

/// Why a token cannot be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignError {
    /// It would name more than [`TokenClaims::MOST_ACCESS`] repositories.
    #[error("a token may name at most 64 repositories")]
    TooManyEntries,
    /// It would be longer than is taken back: ask for fewer repositories, or give the credential fewer scopes.
    #[error("a token of {0} bytes is longer than the 8192 that are allowed")]
    TooLong(usize),
    /// The key does not sign.
    #[error("a token cannot be signed: {0}")]
    Failed(String),
}

/// Why a token is not believed, for logs. Clients learn only that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum TokenRefused {
    /// It is longer than 8 KiB.
    #[error("the token is longer than 8 KiB")]
    TooLong,
    /// It does not have exactly two dots.
    #[error("the token does not have three parts")]
    Parts,
    /// Its header is not 512 bytes of JSON at most with just `typ`, `alg` and `kid`, or `typ` is not `JWT`.
    #[error("the token's header is not one of ours")]
    Header,
    /// `alg` is not `EdDSA`.
    #[error("the token names another algorithm")]
    Algorithm,
    /// `kid` is none of the ring. The key may be new: read the keys again, then once more.
    #[error("the token names a key that is not known")]
    UnknownKey,
    /// `kid` is no longer good.
    #[error("the token names a key that was retired")]
    RetiredKey,
    /// The signature is not that of the key.
    #[error("the token's signature is wrong")]
    Signature,
    /// The payload is no JSON, or lacks a claim.
    #[error("the token's claims are not those of ours")]
    Claims,
    /// `iss` is another installation.
    #[error("the token was issued by somebody else")]
    Issuer,
    /// `aud` is another service.
    #[error("the token was issued for another service")]
    Audience,
    /// `exp` has come.
    #[error("the token has expired")]
    Expired,
    /// `nbf` is more than 10 seconds away.
    #[error("the token is not valid yet")]
    NotYetValid,
    /// `access` has more than [`TokenClaims::MOST_ACCESS`] entries.
    #[error("the token names more than 64 repositories")]
    TooManyEntries,
    /// `access` names what is no repository name.
    #[error("the token names what is no repository")]
    Name,
}

/// What makes tokens: a private key and its id.
#[derive(Clone, Debug)]
pub struct Signer {
    header: Header,
    key: EncodingKey,
}

impl Signer {
    pub(crate) fn new(kid: &str, pkcs8: &[u8]) -> Self {
        ring_provider::install();
        let mut header = Header::new(Algorithm::EdDSA);
        header.kid = Some(kid.to_owned());
        Self {
            header,
            key: EncodingKey::from_ed_der(pkcs8),
        }
    }

    /// The token that says `claims`, in its compact form.
    pub fn sign(&self, claims: &TokenClaims) -> Result<String, SignError> {
        if claims.access.len() > TokenClaims::MOST_ACCESS {
            return Err(SignError::TooManyEntries);
        }
        let token = jsonwebtoken::encode(&self.header, &Payload::from(claims), &self.key)
            .map_err(|error| SignError::Failed(error.to_string()))?;
        match token.len() > MOST_BYTES {
            true => Err(SignError::TooLong(token.len())),
            false => Ok(token),
        }
    }
}

/// A key whose tokens are believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifyingKey {
    /// Its id, which tokens name.
    pub kid: String,
    /// The Ed25519 public key.
    pub public_key: [u8; 32],
    /// From when on its tokens are believed no longer, in seconds since 1970.
    pub retires_at: Option<i64>,
}

/// All keys whose tokens are believed.
#[derive(Clone, Debug)]
pub struct KeyRing(HashMap<String, RingKey>);

#[derive(Clone, Debug)]
struct RingKey {
    key: DecodingKey,
    retires_at: Option<i64>,
}

/// A header such as ours have. A `jwk`, `jku`, `x5c`, `crit` or anything else in it is an error.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OurHeader {
    typ: String,
    alg: String,
    kid: String,
}

impl KeyRing {
    /// A ring of `keys`.
    pub fn new(keys: impl IntoIterator<Item = VerifyingKey>) -> Self {
        ring_provider::install();
        let ring_key = |key: VerifyingKey| {
            let ring_key = RingKey {
                key: DecodingKey::from_ed_der(&key.public_key),
                retires_at: key.retires_at,
            };
            (key.kid, ring_key)
        };
        Self(keys.into_iter().map(ring_key).collect())
    }

    /// What `token` says, if one of these keys signed it and it is good at `now`, in seconds since 1970. Whether its
    /// credential still lives the catalog knows.
    pub fn verify(
        &self,
        token: &str,
        issuer: &str,
        audience: &str,
        now: i64,
    ) -> Result<TokenClaims, TokenRefused> {
        if token.len() > MOST_BYTES {
            return Err(TokenRefused::TooLong);
        }
        let (message, signature) = token.rsplit_once('.').ok_or(TokenRefused::Parts)?;
        let (header, payload) = message
            .split_once('.')
            .filter(|(_, payload)| !payload.contains('.'))
            .ok_or(TokenRefused::Parts)?;
        let key = self.key(header, now)?;
        let verified =
            jsonwebtoken::crypto::verify(signature, message.as_bytes(), key, Algorithm::EdDSA);
        if !matches!(verified, Ok(true)) {
            return Err(TokenRefused::Signature);
        }
        let payload: Payload = json(payload, MOST_BYTES).ok_or(TokenRefused::Claims)?;
        if payload.iss != issuer {
            return Err(TokenRefused::Issuer);
        }
        if payload.aud != audience {
            return Err(TokenRefused::Audience);
        }
        if payload.exp <= now {
            return Err(TokenRefused::Expired);
        }
        if payload.nbf > now.saturating_add(LEEWAY) {
            return Err(TokenRefused::NotYetValid);
        }
        payload.try_into()
    }

    /// The key that a header names.
    fn key(&self, header: &str, now: i64) -> Result<&DecodingKey, TokenRefused> {
        let header: OurHeader = json(header, MOST_HEADER).ok_or(TokenRefused::Header)?;
        if header.typ != "JWT" {
            return Err(TokenRefused::Header);
        }
        if header.alg != "EdDSA" {
            return Err(TokenRefused::Algorithm);
        }
        let key = self.0.get(&header.kid).ok_or(TokenRefused::UnknownKey)?;
        match key.retires_at.is_some_and(|end| end <= now) {
            true => Err(TokenRefused::RetiredKey),
            false => Ok(&key.key),
        }
    }
}

/// What a part of a token holds, of at most `most` bytes. It is an object: a list of the same values in their order would
/// be read as one too.
fn json<T: DeserializeOwned>(part: &str, most: usize) -> Option<T> {
    let bytes = URL_SAFE_NO_PAD.decode(part).ok()?;
    let is_object = bytes.trim_ascii_start().starts_with(b"{");
    match is_object && bytes.len() <= most {
        true => serde_json::from_slice(&bytes).ok(),
        false => None,
    }
}
