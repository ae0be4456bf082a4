//! Identity tokens of CI systems and clusters: who publishes without a secret.
//!
//! A token is looked at only if the issuer that it names is trusted. Whoever its signature and claims prove is a publisher's
//! robot, as if it had shown the publisher's credential.

use std::{cmp::Reverse, fmt, sync::Arc};

use async_trait::async_trait;
use granary_access::{Credential, Origin, Principal};
use granary_catalog::{IdentityTaken, IdentityUse, StoredIssuer, StoredPublisher, dialect};
use granary_identity::{
    Secret, digest_of,
    oidc::{
        ClaimRules, Expected, ForeignClaims, ForeignKeys, IssuerPreset, IssuerUrl, named_issuer,
    },
};
use moka::sync::Cache;

use super::sign_in::{BUSY, SignInError, WHOEVER};
use crate::{Registry, RegistryError};

/// How many seconds clocks may differ.
const LEEWAY: i64 = 60;
/// For how many seconds an identity token may be good. One of a job is good for minutes.
const LONGEST: i64 = 24 * 3600;
/// For how many seconds a token is taken at its word: its issuer may have withdrawn the key.
const REMEMBERED: i64 = 3600;
/// Issuers whose publishers are kept in memory.
const KEPT: u64 = 100;

/// An issuer whose tokens are taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustedIssuer {
    /// Its number.
    pub id: i64,
    /// Its identifier.
    pub url: IssuerUrl,
    /// What kind it is.
    pub preset: IssuerPreset,
    /// Whom its tokens must be for.
    pub audience: String,
    /// Where its keys are, if not where it says.
    pub keys_url: Option<String>,
    /// The keys themselves, as a JSON Web Key Set.
    pub keys: Option<String>,
}

impl TrustedIssuer {
    pub(super) fn read(stored: &StoredIssuer, service: &str) -> Result<Self, RegistryError> {
        let damaged = |_| RegistryError::Internal("an issuer in the catalog is damaged");
        Ok(Self {
            id: stored.id,
            url: stored.issuer.parse().map_err(|_| damaged(()))?,
            preset: stored.preset.parse().map_err(|_| damaged(()))?,
            audience: match stored.audience.as_str() {
                "" => service.to_owned(),
                audience => audience.to_owned(),
            },
            keys_url: stored.keys_url.clone(),
            keys: stored.keys.clone(),
        })
    }
}

/// Why a token of an issuer is not believed. Clients learn only that.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdentityRefused {
    /// It is not good.
    #[error("{0}")]
    Token(String),
    /// The issuer's keys cannot be had or used.
    #[error("{0}")]
    Keys(String),
}

/// Has the keys of issuers, and verifies their tokens with them.
#[async_trait]
pub trait Issuers: fmt::Debug + Send + Sync {
    /// What `token` says, if it is good at `now`, in seconds since 1970.
    async fn verify(
        &self,
        issuer: &TrustedIssuer,
        token: &str,
        now: i64,
    ) -> Result<ForeignClaims, IdentityRefused>;

    /// Reads the keys of an issuer, and says how many can be used.
    async fn keys(&self, issuer: &TrustedIssuer) -> Result<usize, IdentityRefused>;
}

/// Issuers whose keys were given by hand. It asks nobody.
#[derive(Clone, Copy, Debug, Default)]
pub struct GivenKeys;

impl GivenKeys {
    fn of(issuer: &TrustedIssuer) -> Result<ForeignKeys, IdentityRefused> {
        let keys = issuer.keys.as_deref().ok_or_else(|| {
            IdentityRefused::Keys(format!("the keys of {} were not given", issuer.url))
        })?;
        let keys = ForeignKeys::parse(keys.as_bytes());
        keys.map_err(|refused| IdentityRefused::Keys(refused.to_string()))
    }
}

#[async_trait]
impl Issuers for GivenKeys {
    async fn verify(
        &self,
        issuer: &TrustedIssuer,
        token: &str,
        now: i64,
    ) -> Result<ForeignClaims, IdentityRefused> {
        let expected = Expected {
            issuer: issuer.url.as_str(),
            audiences: std::slice::from_ref(&issuer.audience),
            nonce: None,
            now,
            leeway: LEEWAY,
        };
        let claims = Self::of(issuer)?.verify(token, &expected);
        claims.map_err(|refused| IdentityRefused::Token(refused.to_string()))
    }

    async fn keys(&self, issuer: &TrustedIssuer) -> Result<usize, IdentityRefused> {
        Ok(Self::of(issuer)?.count())
    }
}

/// Publishers of issuers, by the issuers' numbers.
pub(super) struct KnownPublishers(Cache<i64, Arc<Known>>);

/// The publishers of an issuer at a generation of rights.
struct Known {
    generation: Option<i64>,
    publishers: Vec<Publisher>,
}

struct Publisher {
    stored: StoredPublisher,
    rules: ClaimRules,
}

impl KnownPublishers {
    pub(super) fn new() -> Self {
        Self(Cache::new(KEPT))
    }
}

/// A token that proved somebody.
pub(super) struct Identified {
    pub(super) principal: Principal,
    /// For how long it need not be looked at again, in seconds since 1970; nothing if it counts once.
    pub(super) until: Option<i64>,
}

impl Registry {
    /// Who shows an identity token of an issuer that is trusted, as `user` or whoever it is.
    pub async fn sign_in_by_identity(
        &self,
        token: &Secret,
        user: Option<&str>,
        origin: &Origin,
    ) -> Result<Principal, SignInError> {
        if !self.has_accounts().await? {
            return Ok(Principal::Local);
        }
        let user = user.unwrap_or(WHOEVER);
        match self.by_identity(token, user, origin).await? {
            Some(identified) => Ok(identified.principal),
            None => Err(SignInError::Wrong),
        }
    }

    /// The same; nothing if it is no token of such an issuer.
    pub(super) async fn by_identity(
        &self,
        token: &Secret,
        user: &str,
        origin: &Origin,
    ) -> Result<Option<Identified>, SignInError> {
        let Some(named) = named_issuer(token.expose()) else {
            return Ok(None);
        };
        // Our own are none of these.
        if named == self.parts.accounts.issuer {
            return Ok(None);
        }
        let stored = self.parts.catalog.trusted_issuer(&named).await;
        let Some(stored) = stored.map_err(RegistryError::from)? else {
            return Ok(None);
        };
        let identified = self.identify(&stored, token, (user, origin)).await;
        if matches!(identified, Err(SignInError::Wrong)) {
            self.note_failed_login(&stored.issuer, "identity-token", origin);
        }
        identified.map(Some)
    }

    async fn identify(
        &self,
        stored: &StoredIssuer,
        token: &Secret,
        (user, origin): (&str, &Origin),
    ) -> Result<Identified, SignInError> {
        let issuer = TrustedIssuer::read(stored, self.service())?;
        let micros = dialect::now();
        let now = micros / 1_000_000;
        let verifying = &self.parts.rules.accounts.issuers;
        let claims = match verifying.verify(&issuer, token.expose(), now).await {
            Ok(claims) => claims,
            Err(IdentityRefused::Token(problem)) => {
                tracing::info!(
                    issuer = stored.issuer,
                    problem,
                    "an identity token was refused"
                );
                return Err(SignInError::Wrong);
            }
            Err(IdentityRefused::Keys(problem)) => {
                tracing::warn!(
                    issuer = stored.issuer,
                    problem,
                    "the keys of an issuer cannot be used"
                );
                return Err(RegistryError::IssuerUnreachable.into());
            }
        };
        if lifetime(&claims, now) > LONGEST {
            tracing::info!(
                issuer = stored.issuer,
                subject = claims.subject,
                "an identity token was refused: it is good for more than a day"
            );
            return Err(SignInError::Wrong);
        }
        let known = self.publishers_of(stored).await?;
        let publisher = known.matching(&issuer, &claims, user, micros);
        let publisher = &publisher.ok_or(SignInError::Wrong)?.stored;
        let principal = Principal::Known {
            id: publisher.robot,
            name: publisher.name.as_str().into(),
            credential: Credential {
                id: publisher.credential,
                scopes: publisher.scopes.clone(),
                token: None,
            },
        };
        self.note_identity(&issuer, publisher, (&principal, origin), &claims)
            .await?;
        tracing::info!(
            issuer = stored.issuer,
            subject = claims.subject,
            robot = publisher.name,
            publisher = publisher.id,
            "an identity token was taken"
        );
        Ok(Identified {
            principal,
            until: (!publisher.once).then(|| claims.expires_at.min(now + REMEMBERED)),
        })
    }

    /// Notes a use, where it has to be known.
    async fn note_identity(
        &self,
        issuer: &TrustedIssuer,
        publisher: &StoredPublisher,
        (principal, origin): (&Principal, &Origin),
        claims: &ForeignClaims,
    ) -> Result<(), SignInError> {
        let refused = |problem| {
            let (issuer, subject) = (issuer.url.as_str(), claims.subject.as_str());
            tracing::info!(issuer, subject, problem, "an identity token was refused");
            SignInError::Wrong
        };
        let once = match (publisher.once, &claims.token_id) {
            (false, _) => None,
            (true, Some(id)) => Some(digest_of(id)),
            (true, None) => return Err(refused("it has no jti, by which it would count once")),
        };
        if once.is_none() && publisher.used_at.is_some() {
            return Ok(());
        }
        let used = IdentityUse {
            issuer: issuer.id,
            publisher: publisher.id,
            principal: principal.clone(),
            origin: origin.clone(),
            once,
            ends_at: claims.expires_at.saturating_mul(1_000_000),
        };
        let taken = self.parts.catalog.take_identity(used).await;
        match taken.map_err(RegistryError::from)? {
            IdentityTaken::Yes => Ok(()),
            IdentityTaken::Again => Err(refused("it counts once, and was used before")),
            IdentityTaken::Ended => Err(refused("its publisher has ended")),
        }
    }

    /// The publishers of an issuer, as of when the issuer was read.
    async fn publishers_of(&self, issuer: &StoredIssuer) -> Result<Arc<Known>, SignInError> {
        let kept = &self.parts.accounts.publishers.0;
        let known = kept.get(&issuer.id);
        if let Some(known) = known.filter(|known| known.generation == issuer.generation) {
            return Ok(known);
        }
        let rows = self.parts.catalog.publishers_of_issuer(issuer.id).await;
        let rows = rows.map_err(RegistryError::from)?.into_iter();
        // Publishers of now are none for a token that keys of before verified.
        let now = self.parts.catalog.trusted_issuer(&issuer.issuer).await;
        let now = now.map_err(RegistryError::from)?;
        if !now.is_some_and(|now| now.verifies_as(issuer)) {
            return Err(BUSY);
        }
        let publishers = rows.filter_map(|stored| match serde_json::from_str(&stored.claims) {
            Ok(rules) => Some(Publisher { stored, rules }),
            Err(error) => {
                tracing::error!(publisher = stored.id, %error, "the claims of a publisher are damaged");
                None
            }
        });
        let known = Arc::new(Known {
            generation: issuer.generation,
            publishers: publishers.collect(),
        });
        kept.insert(issuer.id, Arc::clone(&known));
        Ok(known)
    }
}

/// For how many seconds a token is good from when it was issued.
fn lifetime(claims: &ForeignClaims, now: i64) -> i64 {
    let issued = claims.claim("iat").and_then(|issued| {
        let whole = issued.as_i64();
        whole.or_else(|| issued.as_f64().map(|seconds| seconds as i64))
    });
    claims.expires_at.saturating_sub(issued.unwrap_or(now))
}

impl Known {
    /// The publisher that a token matches at `now`, in microseconds since 1970: of one robot, and of several of that the one with the most rules, the oldest first.
    fn matching(
        &self,
        issuer: &TrustedIssuer,
        claims: &ForeignClaims,
        user: &str,
        now: i64,
    ) -> Option<&Publisher> {
        let found: Vec<&Publisher> = self
            .publishers
            .iter()
            .filter(|publisher| user == WHOEVER || publisher.stored.name == user)
            .filter(|publisher| publisher.waits_or_was_used(now))
            .filter(|publisher| publisher.rules.match_claims(issuer.preset, &claims.claims))
            .collect();
        // Any user may say that an organisation's jobs are his robot: that takes nothing from the organisation's own.
        let of_organisations = found.iter().any(|publisher| !publisher.stored.is_users);
        let found: Vec<&Publisher> = found
            .into_iter()
            .filter(|publisher| !of_organisations || !publisher.stored.is_users)
            .collect();
        let narrowest = found
            .iter()
            .max_by_key(|publisher| (publisher.rules.count(), Reverse(publisher.stored.id)));
        let (issuer, subject) = (issuer.url.as_str(), claims.subject.as_str());
        let Some(narrowest) = narrowest else {
            tracing::info!(
                issuer,
                subject,
                user,
                "an identity token matches no publisher"
            );
            return None;
        };
        let other = found
            .iter()
            .find(|publisher| publisher.stored.robot != narrowest.stored.robot);
        if let Some(other) = other {
            tracing::warn!(
                issuer,
                subject,
                one = narrowest.stored.name,
                other = other.stored.name,
                "an identity token matches publishers of several robots: narrow their claims, or log in with the robot's name"
            );
            return None;
        }
        Some(narrowest)
    }
}

impl Publisher {
    fn waits_or_was_used(&self, now: i64) -> bool {
        let StoredPublisher {
            used_at,
            expires_at,
            ..
        } = &self.stored;
        used_at.is_some() || expires_at.is_none_or(|end| now < end)
    }
}
