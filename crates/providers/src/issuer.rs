//! Issuers: where their keys are, and whose tokens those verify.

use std::sync::Arc;

use granary_identity::oidc::{
    Expected, ForeignClaims, ForeignKeys, ForeignRefused, IssuerUrl, Metadata,
};
use url::Url;

use crate::{HttpClient, ProviderError, client::Door, kept::Kept};

/// How many seconds clocks may differ.
const LEEWAY: i64 = 60;

/// Where the keys of an issuer are from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeySource {
    /// Its discovery document says.
    Discovery,
    /// This URL, where the issuer's own name leads nowhere from here. It may be a private address.
    Url(String),
    /// This JWK set, where there is no network. It has to be changed by hand when the issuer changes its keys.
    Given(String),
}

/// An issuer whose discovery document and keys are fetched when they are needed.
#[derive(Debug)]
pub(crate) struct Issuer {
    pub(crate) name: String,
    pub(crate) url: IssuerUrl,
    pub(crate) door: Door,
    source: Source,
    metadata: Kept<Metadata>,
    keys: Kept<ForeignKeys>,
}

#[derive(Debug)]
enum Source {
    Discovery,
    Url(Url),
    Given(Arc<ForeignKeys>),
}

impl Issuer {
    pub(crate) fn new(
        http: &HttpClient,
        name: &str,
        url: IssuerUrl,
        source: &KeySource,
    ) -> Result<Self, ProviderError> {
        let setting = |problem: String| ProviderError::Setting {
            provider: name.to_owned(),
            problem,
        };
        let source = match source {
            KeySource::Discovery => Source::Discovery,
            KeySource::Url(text) => {
                let url = url.configured(text);
                Source::Url(url.map_err(|refused| setting(refused.to_string()))?)
            }
            KeySource::Given(text) => {
                let keys = ForeignKeys::parse(text.as_bytes());
                Source::Given(Arc::new(
                    keys.map_err(|refused| setting(refused.to_string()))?,
                ))
            }
        };
        Ok(Self {
            name: name.to_owned(),
            url,
            door: http.door(),
            source,
            metadata: Kept::new(),
            keys: Kept::new(),
        })
    }

    /// What it says of itself.
    pub(crate) async fn metadata(&self) -> Result<Arc<Metadata>, ProviderError> {
        let fetch = async {
            let url = self.url.discovery_url();
            let document = self.get(&url).await?;
            Metadata::parse(&document, &self.url).map_err(|refused| ProviderError::Metadata {
                provider: self.name.clone(),
                host: host(&url),
                refused,
            })
        };
        self.metadata.get(fetch).await
    }

    /// Its keys.
    pub(crate) async fn keys(&self) -> Result<Arc<ForeignKeys>, ProviderError> {
        match &self.source {
            Source::Given(keys) => Ok(Arc::clone(keys)),
            Source::Discovery | Source::Url(_) => self.keys.get(self.fetch_keys()).await,
        }
    }

    /// What a token says. An unknown key has the keys read again, because they may have changed.
    pub(crate) async fn verify(
        self: &Arc<Self>,
        token: &str,
        audiences: &[String],
        nonce: Option<&str>,
        now: i64,
    ) -> Result<ForeignClaims, ProviderError> {
        let expected = Expected {
            issuer: self.url.as_str(),
            audiences,
            nonce,
            now,
            leeway: LEEWAY,
        };
        let keys = self.keys().await?;
        let mut verified = keys.verify(token, &expected);
        if verified == Err(ForeignRefused::UnknownKey) && self.can_renew() {
            verified = self.renewed(&keys).await?.verify(token, &expected);
        }
        verified.map_err(|refused| ProviderError::Token {
            provider: self.name.clone(),
            refused,
        })
    }

    /// The keys, read again. A task does it: it happens once in ten seconds, and a client that goes away must not spoil it.
    async fn renewed(
        self: &Arc<Self>,
        old: &Arc<ForeignKeys>,
    ) -> Result<Arc<ForeignKeys>, ProviderError> {
        let (issuer, seen) = (Arc::clone(self), Arc::clone(old));
        let task = tokio::spawn(async move { issuer.keys.renew(&seen, issuer.fetch_keys()).await });
        // It fails to end only if the process ends.
        task.await.unwrap_or_else(|_| Ok(Arc::clone(old)))
    }

    fn can_renew(&self) -> bool {
        match self.source {
            Source::Discovery | Source::Url(_) => true,
            Source::Given(_) => false,
        }
    }

    async fn fetch_keys(&self) -> Result<ForeignKeys, ProviderError> {
        let url = match &self.source {
            Source::Url(url) => url.clone(),
            Source::Discovery | Source::Given(_) => self.metadata().await?.jwks_uri.clone(),
        };
        let document = self.get(&url).await?;
        ForeignKeys::parse(&document).map_err(|refused| ProviderError::Keys {
            provider: self.name.clone(),
            host: host(&url),
            refused,
        })
    }

    async fn get(&self, url: &Url) -> Result<Vec<u8>, ProviderError> {
        let answer = self.door.get(url, None).await;
        answer.map_err(|failure| ProviderError::Http {
            provider: self.name.clone(),
            host: host(url),
            failure,
        })
    }
}

/// The host of a URL, for messages.
pub(crate) fn host(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    match url.port() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    }
}

/// An issuer whose tokens are taken as they are, of jobs and of pods: no log-in leads to it.
#[derive(Debug)]
pub struct IssuerKeys(Arc<Issuer>);

impl IssuerKeys {
    /// The issuer `url`. Nothing is asked yet.
    pub fn new(
        http: &HttpClient,
        url: IssuerUrl,
        source: &KeySource,
    ) -> Result<Self, ProviderError> {
        let name = url.to_string();
        Ok(Self(Arc::new(Issuer::new(http, &name, url, source)?)))
    }

    /// The issuer's identifier.
    pub fn url(&self) -> &IssuerUrl {
        &self.0.url
    }

    /// Reads the keys if they are not there, so that who configures an issuer learns at once what is wrong. Gives how many
    /// can be used.
    pub async fn load(&self) -> Result<usize, ProviderError> {
        Ok(self.0.keys().await?.count())
    }

    /// What `token` says, if it is for one of `audiences` and good at `now`, in seconds since 1970.
    pub async fn verify(
        &self,
        token: &str,
        audiences: &[String],
        now: i64,
    ) -> Result<ForeignClaims, ProviderError> {
        self.0.verify(token, audiences, None, now).await
    }
}
