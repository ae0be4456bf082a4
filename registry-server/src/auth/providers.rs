//! The identity providers that are configured.

use std::collections::BTreeMap;

use anyhow::Context;
use granary_identity::Secret;
use granary_providers::{HttpClient, HttpSettings, OAuthEndpoints, Provider, ProviderSettings};

use crate::config::OidcConfig;

/// Identity providers by their names.
#[derive(Debug, Default)]
pub struct Providers(BTreeMap<String, Provider>);

impl Providers {
    /// Those that are configured. None of them is asked yet.
    pub fn open(configured: &BTreeMap<String, OidcConfig>) -> anyhow::Result<Self> {
        if configured.is_empty() {
            return Ok(Self::default());
        }
        // The client looks for the process's own implementation of TLS; another part may have named it before.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = HttpClient::new(&HttpSettings::default())
            .context("identity providers cannot be asked")?;
        let open = |(name, config): (&String, &OidcConfig)| {
            let provider = Provider::new(&http, settings(name, config)?);
            let provider = provider.with_context(|| format!("auth.oidc.{name}"))?;
            Ok((name.clone(), provider))
        };
        let all: anyhow::Result<_> = configured.iter().map(open).collect();
        Ok(Self(all?))
    }

    /// The provider of that name.
    pub fn get(&self, name: &str) -> Option<&Provider> {
        self.0.get(name)
    }

    /// Their names, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// What their accounts are filed under.
    pub fn issuers(&self) -> BTreeMap<String, String> {
        let issuer = |(name, provider): (&String, &Provider)| {
            (name.clone(), provider.issuer().as_str().to_owned())
        };
        self.0.iter().map(issuer).collect()
    }
}

fn settings(name: &str, config: &OidcConfig) -> anyhow::Result<ProviderSettings> {
    let urls = [
        &config.authorization_url,
        &config.token_url,
        &config.api_url,
    ];
    let endpoints = match urls {
        [None, None, None] => None,
        [Some(authorization), Some(token), Some(api)] => Some(OAuthEndpoints {
            authorization: authorization.clone(),
            token: token.clone(),
            api: api.clone(),
        }),
        _ => anyhow::bail!(
            "auth.oidc.{name}: authorization_url, token_url and api_url go together: set all of them, or none"
        ),
    };
    let secret = config.client_secret.as_ref();
    Ok(ProviderSettings {
        name: name.to_owned(),
        preset: config.preset,
        issuer: config.issuer.clone(),
        client_id: config.client_id.clone().unwrap_or_default(),
        client_secret: secret.map(|secret| Secret::from(secret.expose().to_owned())),
        scopes: config.scopes.clone(),
        groups_claim: config.groups_claim.clone(),
        endpoints,
    })
}
