//! The keys of issuers of identity tokens, fetched when a token of theirs comes.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use async_trait::async_trait;
use granary_identity::oidc::ForeignClaims;
use granary_providers::{HttpClient, HttpSettings, IssuerKeys, KeySource, ProviderError};
use granary_registry::{IdentityRefused, Issuers, TrustedIssuer};
use moka::sync::Cache;

/// Issuers whose keys are kept.
const KEPT: u64 = 100;

/// Fetches the keys of issuers, and keeps them for as long as nothing is changed of where they are from.
pub(crate) struct FetchedKeys {
    http: Mutex<Option<HttpClient>>,
    kept: Cache<Place, Arc<IssuerKeys>>,
}

/// An issuer, and where its keys are from.
type Place = (String, Option<String>, Option<String>);

impl FetchedKeys {
    pub(crate) fn new() -> Self {
        Self {
            http: Mutex::new(None),
            kept: Cache::new(KEPT),
        }
    }

    /// Made when the first issuer needs it: it reads the system's certificates.
    fn http(&self) -> Result<HttpClient, IdentityRefused> {
        let mut http = self.http.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(http) = &*http {
            return Ok(http.clone());
        }
        let made = HttpClient::new(&HttpSettings::default());
        let made = made.map_err(|failure| IdentityRefused::Keys(failure.to_string()))?;
        Ok(http.insert(made).clone())
    }

    fn of(&self, issuer: &TrustedIssuer) -> Result<Arc<IssuerKeys>, IdentityRefused> {
        let url = issuer.url.as_str().to_owned();
        let place = (url, issuer.keys_url.clone(), issuer.keys.clone());
        if let Some(keys) = self.kept.get(&place) {
            return Ok(keys);
        }
        let source = match (&issuer.keys, &issuer.keys_url) {
            (Some(keys), _) => KeySource::Given(keys.clone()),
            (None, Some(url)) => KeySource::Url(url.clone()),
            (None, None) => KeySource::Discovery,
        };
        let keys = IssuerKeys::new(&self.http()?, issuer.url.clone(), &source);
        let keys = Arc::new(keys.map_err(refused)?);
        // Of two at once one counts, so that one fetches.
        Ok(self.kept.get_with(place, || keys))
    }
}

impl fmt::Debug for FetchedKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FetchedKeys").finish_non_exhaustive()
    }
}

fn refused(error: ProviderError) -> IdentityRefused {
    match error {
        ProviderError::Token { refused, .. } => IdentityRefused::Token(refused.to_string()),
        error => IdentityRefused::Keys(error.to_string()),
    }
}

#[async_trait]
impl Issuers for FetchedKeys {
    async fn verify(
        &self,
        issuer: &TrustedIssuer,
        token: &str,
        now: i64,
    ) -> Result<ForeignClaims, IdentityRefused> {
        let audiences = std::slice::from_ref(&issuer.audience);
        let verified = self.of(issuer)?.verify(token, audiences, now).await;
        verified.map_err(refused)
    }

    async fn keys(&self, issuer: &TrustedIssuer) -> Result<usize, IdentityRefused> {
        self.of(issuer)?.load().await.map_err(refused)
    }
}
