//! What a token of the docker token service says (RFC 7519; distribution, "Token Authentication Implementation").

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use granary_access::{CredentialId, PrincipalId, Scopes, TokenVerbs};
use granary_oci::RepositoryName;
use serde::{Deserialize, Serialize};

use crate::{
    RandomFailure, TokenRefused, random,
    scope::{action_names, verbs_of},
};

/// How long before its time a token is taken, in seconds, because clocks of replicas differ. A token also says that it
/// is good that much before it was issued, for verifiers elsewhere that allow nothing.
pub(crate) const LEEWAY: i64 = 10;

/// What a token of the docker token service says. Times are in seconds since 1970.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenClaims {
    /// `iss`: the installation.
    pub issuer: String,
    /// `sub`: the principal's name, for people and clients; empty for who showed no credentials.
    pub subject: String,
    /// `aud`: the service for which the token was asked.
    pub audience: String,
    /// `pid`: who proved himself; `None` for who showed no credentials.
    pub principal: Option<PrincipalId>,
    /// `cid`: the credential that was shown. The token ends with it.
    pub credential: Option<CredentialId>,
    /// `sc`: what that credential caps.
    pub scopes: Scopes,
    /// `access`: what was granted, at most [`Self::MOST_ACCESS`] entries.
    pub access: Vec<(RepositoryName, TokenVerbs)>,
    /// `iat`: when the token was made.
    pub issued_at: i64,
    /// `exp`: from when on it is good no longer.
    pub expires_at: i64,
    /// `jti`: see [`fresh_token_id`].
    pub id: String,
}

impl TokenClaims {
    /// Most repositories that a token names.
    pub const MOST_ACCESS: usize = 64;
}

/// A `jti` for a new token: 128 random bits as 22 characters of base64url.
pub fn fresh_token_id() -> Result<String, RandomFailure> {
    Ok(URL_SAFE_NO_PAD.encode(random::bytes::<16>()?))
}

/// The claims in their JSON form. Claims that are not named here are ignored.
#[derive(Serialize, Deserialize)]
pub(crate) struct Payload {
    pub(crate) iss: String,
    sub: String,
    pub(crate) aud: String,
    pub(crate) exp: i64,
    pub(crate) nbf: i64,
    iat: i64,
    jti: String,
    access: Vec<Entry>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pid: Option<PrincipalId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cid: Option<CredentialId>,
    #[serde(default, skip_serializing_if = "Scopes::are_unlimited")]
    sc: Scopes,
}

#[derive(Serialize, Deserialize)]
struct Entry {
    #[serde(rename = "type")]
    kind: String,
    name: String,
    actions: Vec<String>,
}

const REPOSITORY: &str = "repository";

impl From<&TokenClaims> for Payload {
    fn from(claims: &TokenClaims) -> Self {
        let entry = |(name, verbs): &(RepositoryName, TokenVerbs)| Entry {
            kind: REPOSITORY.to_owned(),
            name: name.to_string(),
            actions: action_names(*verbs).map(str::to_owned).collect(),
        };
        Self {
            iss: claims.issuer.clone(),
            sub: claims.subject.clone(),
            aud: claims.audience.clone(),
            exp: claims.expires_at,
            nbf: claims.issued_at.saturating_sub(LEEWAY),
            iat: claims.issued_at,
            jti: claims.id.clone(),
            access: claims.access.iter().map(entry).collect(),
            pid: claims.principal,
            cid: claims.credential,
            sc: claims.scopes.clone(),
        }
    }
}

impl TryFrom<Payload> for TokenClaims {
    type Error = TokenRefused;

    fn try_from(payload: Payload) -> Result<Self, TokenRefused> {
        if payload.access.len() > Self::MOST_ACCESS {
            return Err(TokenRefused::TooManyEntries);
        }
        let access = payload
            .access
            .iter()
            .filter(|entry| entry.kind == REPOSITORY)
            .map(|entry| {
                let name: RepositoryName = entry.name.parse().map_err(|_| TokenRefused::Name)?;
                let actions = entry.actions.iter().map(String::as_str);
                Ok((name, verbs_of(actions)))
            })
            .collect::<Result<Vec<_>, TokenRefused>>()?;
        Ok(Self {
            issuer: payload.iss,
            subject: payload.sub,
            audience: payload.aud,
            principal: payload.pid,
            credential: payload.cid,
            scopes: payload.sc,
            access,
            issued_at: payload.iat,
            expires_at: payload.exp,
            id: payload.jti,
        })
    }
}
