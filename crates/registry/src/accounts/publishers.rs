//! Issuers whose identity tokens are taken, and publishers: which of those tokens are which robot.

use std::{collections::BTreeMap, net::IpAddr, time::Duration};

use granary_access::{RobotHandle, Scope, Scopes, Verb};
use granary_catalog::{NewIssuer, NewPublisher, Refusal, StoredIssuer, StoredPublisher};
use granary_identity::oidc::{ClaimPattern, ClaimRules, ForeignKeys, IssuerPreset, IssuerUrl};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    AccountsError,
    groups::{Page, PageRequest, settled},
    robots::of_robot,
    workload::TrustedIssuer,
};
use crate::{Installation, Leave, Registry, RegistryError, RobotOwner, leave::done};

/// Most scopes of a publisher.
const MOST_SCOPES: usize = 64;
/// Longest audience.
const MOST_AUDIENCE: usize = 512;

/// An issuer to trust.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct IssuerRequest {
    /// Its identifier, or the name of a preset that has one.
    pub issuer: String,
    /// What kind it is: github, gitlab, kubernetes or plain; that of its name if it is not said.
    pub preset: Option<String>,
    /// Whom its tokens must be for; the registry's own name if it is not said.
    pub audience: Option<String>,
    /// Where its keys are, if not where it says.
    pub keys_url: Option<String>,
    /// The keys themselves, as a JSON Web Key Set.
    pub jwks: Option<String>,
}

/// An issuer that is trusted, for people and programs.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct IssuerReport {
    /// Its number.
    pub id: i64,
    /// Its identifier, as its tokens have it.
    pub issuer: String,
    /// What kind it is: github, gitlab, kubernetes or plain.
    pub preset: String,
    /// Whom its tokens must be for.
    pub audience: String,
    /// Where its keys are, if not where it says.
    pub keys_url: Option<String>,
    /// Whether its keys were given by hand.
    pub given_keys: bool,
    /// When it was added.
    #[serde(serialize_with = "super::time::serialize")]
    #[schema(value_type = String, format = DateTime)]
    pub created_at: i64,
    /// Why its keys cannot be used now, if that was tried.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// A publisher to add.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PublisherRequest {
    /// The robot's own part of its name.
    pub robot: String,
    /// The identifier of an issuer that is trusted, or the name of a preset that has one.
    pub issuer: String,
    /// What its claims must be, all of them: texts in which `*` stands for any run of characters.
    pub claims: BTreeMap<String, String>,
    /// What it may do, of what its robot may; everything in repositories if it is not said.
    pub scopes: Option<Vec<Scope>>,
    /// Whether each token counts once.
    pub once: bool,
    /// For how long it waits for its first use, in seconds; for ever if it is not said.
    pub waits: Option<u64>,
}

/// A publisher, for people and programs.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct PublisherReport {
    /// Its number.
    pub id: i64,
    /// The robot's whole name.
    pub robot: String,
    /// The identifier of its issuer.
    pub issuer: String,
    /// What claims must be, all of them.
    pub claims: BTreeMap<String, String>,
    /// What it caps.
    pub scopes: Scopes,
    /// Whether each token counts once.
    pub once: bool,
    /// When it was added.
    #[serde(serialize_with = "super::time::serialize")]
    #[schema(value_type = String, format = DateTime)]
    pub created_at: i64,
    /// When it ends if it is not used before.
    #[serde(serialize_with = "super::time::optional::serialize")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub expires_at: Option<i64>,
    /// When it was used first.
    #[serde(serialize_with = "super::time::optional::serialize")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub used_at: Option<i64>,
}

impl From<StoredPublisher> for PublisherReport {
    fn from(stored: StoredPublisher) -> Self {
        Self {
            id: stored.id,
            robot: stored.name,
            issuer: stored.issuer,
            claims: serde_json::from_str(&stored.claims).unwrap_or_default(),
            scopes: stored.scopes,
            once: stored.once,
            created_at: stored.created_at,
            // Once it was used it does not end.
            expires_at: stored.expires_at.filter(|_| stored.used_at.is_none()),
            used_at: stored.used_at,
        }
    }
}

impl IssuerRequest {
    /// What is to be kept, if it can be used.
    fn checked(self) -> Result<NewIssuer, AccountsError> {
        let invalid = |problem: String| AccountsError::InvalidIssuer(problem);
        let named: Option<IssuerPreset> = self.issuer.parse().ok();
        let preset = match self.preset {
            Some(preset) => preset.parse()?,
            None => named.unwrap_or(IssuerPreset::Plain),
        };
        let url: IssuerUrl = identifier(&self.issuer)
            .parse()
            .map_err(|refused: granary_identity::oidc::UrlRefused| invalid(refused.to_string()))?;
        check_keys(&url, self.keys_url.as_deref(), self.jwks.as_deref())?;
        let audience = self.audience.unwrap_or_default();
        check_audience(&audience)?;
        Ok(NewIssuer {
            issuer: url.as_str().to_owned(),
            preset: preset.as_str().to_owned(),
            audience,
            keys_url: self.keys_url,
            keys: self.jwks,
        })
    }
}

/// Whether keys, or where they are, can be those of an issuer.
pub(super) fn check_keys(
    url: &IssuerUrl,
    keys_url: Option<&str>,
    jwks: Option<&str>,
) -> Result<(), AccountsError> {
    let invalid = |problem: String| AccountsError::InvalidIssuer(problem);
    if let Some(keys) = jwks {
        ForeignKeys::parse(keys.as_bytes()).map_err(|refused| invalid(refused.to_string()))?;
    } else if url.is_plain() && !is_loopback(url) {
        return Err(invalid(format!(
            "whoever is between here and {url} could put his own keys into its answers: write https, or give its keys"
        )));
    }
    let Some(text) = keys_url else {
        return Ok(());
    };
    if jwks.is_some() {
        return Err(invalid(
            "give its keys or where they are, not both".to_owned(),
        ));
    }
    let configured = url.configured(text);
    configured
        .map(drop)
        .map_err(|refused| invalid(refused.to_string()))
}

/// Whether tokens can be for that.
pub(super) fn check_audience(audience: &str) -> Result<(), AccountsError> {
    match audience.len() > MOST_AUDIENCE || audience.contains(char::is_control) {
        true => Err(AccountsError::InvalidIssuer(format!(
            "an audience has at most {MOST_AUDIENCE} bytes, and no control characters"
        ))),
        false => Ok(()),
    }
}

/// The identifier of an issuer that is meant by it or by the name of its preset.
pub(super) fn identifier(issuer: &str) -> &str {
    let preset: Option<IssuerPreset> = issuer.parse().ok();
    let known = preset.and_then(IssuerPreset::default_issuer);
    known.unwrap_or(issuer)
}

fn is_loopback(url: &IssuerUrl) -> bool {
    let host = url.host();
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => &host,
    };
    let address: Result<IpAddr, _> = name.trim_matches(['[', ']']).parse();
    name == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

/// Rules of the texts that somebody wrote.
fn rules(claims: &BTreeMap<String, String>) -> Result<ClaimRules, AccountsError> {
    let patterns: Result<BTreeMap<String, ClaimPattern>, _> = claims
        .iter()
        .map(|(name, pattern)| Ok((name.clone(), pattern.parse()?)))
        .collect::<Result<_, granary_identity::oidc::ClaimRuleError>>();
    Ok(patterns?.try_into()?)
}

/// The scopes of a publisher. It looks after no accounts: a job must not make what outlives it.
fn scopes(asked: Option<Vec<Scope>>) -> Result<Scopes, AccountsError> {
    match asked {
        None => Ok(of_robot(Scopes::unlimited())?),
        Some(scopes)
            if (1..=MOST_SCOPES).contains(&scopes.len())
                && !scopes.iter().any(|scope| scope.verbs.has(Verb::Account)) =>
        {
            Ok(Scopes::only(scopes))
        }
        Some(_) => Err(AccountsError::PublisherScopes),
    }
}

impl Registry {
    pub(super) fn issuer_report(&self, stored: StoredIssuer) -> IssuerReport {
        IssuerReport {
            id: stored.id,
            issuer: stored.issuer,
            preset: stored.preset,
            audience: match stored.audience.is_empty() {
                true => self.service().to_owned(),
                false => stored.audience,
            },
            keys_url: stored.keys_url,
            given_keys: stored.keys.is_some(),
            created_at: stored.created_at,
            problem: None,
        }
    }
}

impl Leave<Installation> {
    /// Trusts an issuer. Its keys are tried, but it is trusted also if they cannot be had now: the report says why.
    pub async fn add_issuer(&self, request: IssuerRequest) -> Result<IssuerReport, AccountsError> {
        let new = request.checked()?;
        let (catalog, issuer) = (&self.parts().catalog, new.issuer.clone());
        match done(catalog.trust_issuer(self.authority(), new).await?)? {
            Err(Refusal::Taken(issuer)) => return Err(AccountsError::IssuerTaken(issuer)),
            made => made?,
        };
        self.tried_issuer(issuer).await
    }

    /// All issuers that are trusted, by their identifiers.
    pub async fn issuers(&self) -> Result<Vec<IssuerReport>, AccountsError> {
        let issuers = self.parts().catalog.trusted_issuers().await?;
        let issuers = issuers.into_iter();
        Ok(issuers
            .map(|issuer| self.registry.issuer_report(issuer))
            .collect())
    }

    /// Removes a publisher of whomever. What was signed in by it counts no longer.
    pub async fn remove_any_publisher(&self, id: i64) -> Result<(), AccountsError> {
        let catalog = &self.parts().catalog;
        match done(catalog.remove_publisher(self.authority(), None, id).await?)? {
            true => Ok(()),
            false => Err(AccountsError::NoSuchPublisher(id)),
        }
    }
}

impl Leave<RobotOwner> {
    /// Has tokens of an issuer be a robot, if their claims say so.
    pub async fn add_publisher(
        &self,
        request: PublisherRequest,
    ) -> Result<PublisherReport, AccountsError> {
        let robot = RobotHandle::of(self.owner(), &request.robot)?;
        let rules = rules(&request.claims)?;
        let (scopes, catalog) = (scopes(request.scopes)?, &self.parts().catalog);
        let issuer = identifier(&request.issuer);
        let no_issuer = || AccountsError::NoSuchIssuer(issuer.to_owned());
        let stored = catalog
            .trusted_issuer(issuer)
            .await?
            .ok_or_else(no_issuer)?;
        let trusted = TrustedIssuer::read(&stored, self.registry.service())?;
        rules.check(trusted.preset)?;
        let claims = serde_json::to_value(&rules);
        let new = NewPublisher {
            robot,
            issuer: stored.issuer,
            claims: claims.map_err(|_| RegistryError::Internal("claims cannot be written"))?,
            scopes,
            once: request.once,
            waits: request.waits.map(Duration::from_secs),
        };
        let made = settled(catalog.add_publisher(self.authority(), new).await?)?;
        Ok(made.ok_or_else(no_issuer)?.into())
    }

    /// Publishers of the robots, in the order in which they were made.
    pub async fn publishers(
        &self,
        page: PageRequest,
    ) -> Result<Page<PublisherReport>, AccountsError> {
        let (size, catalog) = (page.size(), &self.parts().catalog);
        let after = match page.after.as_str() {
            "" => 0,
            after => after.parse().map_err(|_| AccountsError::After)?,
        };
        let rows = catalog.publishers(self.owner(), after, size + 1).await?;
        let key = |row: &StoredPublisher| row.id.to_string();
        Ok(Page::of(rows, size, key, Into::into))
    }

    /// Removes a publisher of one of the robots. What was signed in by it counts no longer.
    pub async fn remove_publisher(&self, id: i64) -> Result<(), AccountsError> {
        let (catalog, owner) = (&self.parts().catalog, self.owner());
        let removing = catalog.remove_publisher(self.authority(), Some(owner), id);
        match done(removing.await?)? {
            true => Ok(()),
            false => Err(AccountsError::NoSuchPublisher(id)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(issuer: &str) -> IssuerRequest {
        IssuerRequest {
            issuer: issuer.to_owned(),
            preset: None,
            audience: None,
            keys_url: None,
            jwks: None,
        }
    }

    #[test]
    fn an_issuer_is_known_by_its_preset_or_asked_over_https() {
        let github = request("github").checked().unwrap();
        assert_eq!(github.issuer, "https://token.actions.githubusercontent.com");
        assert_eq!(github.preset, "github");
        let plain = request("https://issuer.example/a").checked().unwrap();
        assert_eq!(plain.preset, "plain");
        for good in [
            "http://127.0.0.1:8080",
            "http://[::1]:80",
            "http://localhost",
        ] {
            assert!(request(good).checked().is_ok(), "{good}");
        }
        // No cluster is the one of the whole world.
        for bad in [
            "kubernetes",
            "http://issuer.example",
            "http://localhost.example:80",
            "x",
        ] {
            let refused = request(bad).checked();
            assert!(
                matches!(refused, Err(AccountsError::InvalidIssuer(_))),
                "{bad}"
            );
        }
        let cluster = IssuerRequest {
            preset: Some("kubernetes".to_owned()),
            keys_url: Some("https://10.0.0.1/openid/v1/jwks".to_owned()),
            ..request("https://kubernetes.default.svc")
        };
        assert_eq!(cluster.checked().unwrap().preset, "kubernetes");
        for bad in [
            IssuerRequest {
                keys_url: Some("http://10.0.0.1/".to_owned()),
                ..request("gitlab")
            },
            IssuerRequest {
                jwks: Some("{}".to_owned()),
                ..request("gitlab")
            },
            IssuerRequest {
                audience: Some("a\nb".to_owned()),
                ..request("gitlab")
            },
        ] {
            assert!(matches!(
                bad.checked(),
                Err(AccountsError::InvalidIssuer(_))
            ));
        }
        let odd = IssuerRequest {
            preset: Some("hudson".to_owned()),
            ..request("gitlab")
        };
        assert!(matches!(odd.checked(), Err(AccountsError::Claims(_))));
    }

    #[test]
    fn a_publisher_looks_after_no_accounts() {
        let all = scopes(None).unwrap();
        assert!(!all.verbs(None, None).has(Verb::Account));
        assert!(all.verbs(None, None).has(Verb::Write));
        for bad in [vec![], vec!["account:**".parse().unwrap()]] {
            assert!(matches!(
                scopes(Some(bad)),
                Err(AccountsError::PublisherScopes)
            ));
        }
    }
}
