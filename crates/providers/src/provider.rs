//! People who log in through others.

mod github;
mod openid;

use std::sync::Arc;

use granary_identity::{
    Secret,
    oidc::{
        AnswerRefused, AuthorizationRequest, ClientAuth, IssuerUrl, LoginSecrets, Tokens,
        authorization_url, challenge_of, code_request, told,
    },
};
use url::Url;

use crate::{
    HttpClient, HttpFailure, KeySource, ProviderError, ProviderPreset, ProviderSettings,
    issuer::{Issuer, host},
};
use github::GitHub;

/// Longest name of a provider.
const MOST_NAME: usize = 64;
/// Longest id of a client.
const MOST_CLIENT_ID: usize = 255;
/// Most scopes that are asked for.
const MOST_SCOPES: usize = 20;
/// Longest code that is exchanged.
const MOST_CODE: usize = 4096;

/// Who logged in, as the provider says. Accounts are found by `issuer` and `subject` only; the rest may change, and may
/// be chosen by whoever logs in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForeignIdentity {
    /// Who says so.
    pub issuer: String,
    /// Who it is there.
    pub subject: String,
    /// What it is called there, for people.
    pub name: Option<String>,
    /// An address that the provider has verified.
    pub email: Option<String>,
    /// Its groups at this moment.
    pub groups: Vec<String>,
}

/// What a browser brought back, and what its log-in began with.
#[derive(Clone, Copy, Debug)]
pub struct CodeExchange<'a> {
    /// The code.
    pub code: &'a Secret,
    /// What the log-in began with.
    pub secrets: &'a LoginSecrets,
    /// Where the browser was to come back; exactly as it was said before.
    pub redirect_uri: &'a str,
    /// The time, in seconds since 1970.
    pub now: i64,
}

/// An identity provider.
#[derive(Debug)]
pub struct Provider {
    issuer: Arc<Issuer>,
    client_id: String,
    client_secret: Option<Secret>,
    scopes: Vec<String>,
    groups_claim: Option<String>,
    /// For what has no OpenID Connect.
    github: Option<GitHub>,
}

impl Provider {
    /// A provider of these settings. Nothing is asked yet.
    pub fn new(http: &HttpClient, settings: ProviderSettings) -> Result<Self, ProviderError> {
        check(&settings)?;
        let preset = settings.preset;
        let setting = |problem: String| ProviderError::Setting {
            provider: settings.name.clone(),
            problem,
        };
        let issuer = match (settings.issuer.as_deref(), preset.issuer()) {
            (Some(issuer), _) | (None, Some(issuer)) => issuer,
            (None, None) => {
                return Err(setting(format!(
                    "set its issuer: {preset} has no usual one"
                )));
            }
        };
        let url: IssuerUrl = issuer
            .parse()
            .map_err(|refused: granary_identity::oidc::UrlRefused| setting(refused.to_string()))?;
        let github = match preset {
            ProviderPreset::GitHub => {
                let found = GitHub::new(&url, settings.endpoints.as_ref());
                Some(found.map_err(setting)?)
            }
            _ if settings.endpoints.is_some() => {
                let problem = "take its endpoints out: only the preset github has some, others have discovery";
                return Err(setting(problem.to_owned()));
            }
            _ => None,
        };
        let scopes = match settings.scopes.is_empty() {
            true => preset
                .scopes()
                .iter()
                .map(|scope| (*scope).to_owned())
                .collect(),
            false => settings.scopes,
        };
        let groups_claim = settings
            .groups_claim
            .or(preset.groups_claim().map(str::to_owned));
        Ok(Self {
            issuer: Arc::new(Issuer::new(
                http,
                &settings.name,
                url,
                &KeySource::Discovery,
            )?),
            client_id: settings.client_id,
            client_secret: settings.client_secret,
            scopes,
            groups_claim,
            github,
        })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.issuer.name
    }

    /// What its accounts are filed under.
    pub fn issuer(&self) -> &IssuerUrl {
        &self.issuer.url
    }

    /// Asks for what it says of itself and for its keys, so that who configures it learns at once what is wrong. What was
    /// read is good for an hour, and a failure is remembered for ten seconds.
    pub async fn discover(&self) -> Result<(), ProviderError> {
        if self.github.is_none() {
            self.issuer.metadata().await?;
            self.issuer.keys().await?;
        }
        Ok(())
    }

    /// Where a browser is sent that wants to log in.
    pub async fn authorization_url(
        &self,
        secrets: &LoginSecrets,
        redirect_uri: &str,
    ) -> Result<Url, ProviderError> {
        let (endpoint, nonce) = match &self.github {
            Some(github) => (github.authorization.clone(), None),
            None => (self.login_endpoint().await?, Some(secrets.nonce.expose())),
        };
        let request = AuthorizationRequest {
            client_id: &self.client_id,
            redirect_uri,
            scopes: &self.scopes,
            state: secrets.state.expose(),
            nonce,
            challenge: &challenge_of(secrets.verifier.expose()),
        };
        Ok(authorization_url(&endpoint, &request))
    }

    /// Refuses a browser that another provider sent back, by the parameter `iss` of its URL (RFC 9207). To be asked
    /// before [`Self::exchange`].
    pub async fn check_answer(&self, issuer: Option<&str>) -> Result<(), ProviderError> {
        let is_right = match issuer {
            // GitHub names itself in a way of its own, and only to some clients.
            _ if self.github.is_some() => true,
            Some(issuer) => issuer == self.issuer.url.as_str(),
            None => !self.issuer.metadata().await?.answers_name_issuer,
        };
        match is_right {
            true => Ok(()),
            false => Err(ProviderError::MixUp {
                provider: self.name().to_owned(),
            }),
        }
    }

    /// Who logged in.
    pub async fn exchange(
        &self,
        exchange: &CodeExchange<'_>,
    ) -> Result<ForeignIdentity, ProviderError> {
        match &self.github {
            Some(github) => self.identity_at_github(github, exchange).await,
            None => self.identity(exchange).await,
        }
    }

    /// What a code is exchanged for at `endpoint`.
    async fn tokens(
        &self,
        endpoint: &Url,
        auth: &ClientAuth,
        exchange: &CodeExchange<'_>,
    ) -> Result<Tokens, ProviderError> {
        let code = exchange.code.expose();
        if code.is_empty() || code.len() > MOST_CODE {
            return Err(self.refused(endpoint, AnswerRefused::Missing("code of 1 to 4096 bytes")));
        }
        let verifier = exchange.secrets.verifier.expose();
        let (form, header) =
            code_request(auth, &self.client_id, code, verifier, exchange.redirect_uri);
        let sent = self.issuer.door.post_form(endpoint, &form, header.as_ref());
        let answer = sent
            .await
            .map_err(|failure| self.failed(endpoint, failure))?;
        match (Tokens::parse(&answer.body), answer.status.is_success()) {
            (Ok(tokens), true) => Ok(tokens),
            (Err(refused @ AnswerRefused::Refused { .. }), _) | (Err(refused), true) => {
                Err(self.refused(endpoint, refused))
            }
            (_, false) => Err(self.failed(endpoint, HttpFailure::Status(answer.status.as_u16()))),
        }
    }

    /// What an endpoint tells about the user of an access token.
    async fn ask<T>(
        &self,
        url: &Url,
        tokens: &Tokens,
        parse: impl FnOnce(&[u8]) -> Result<T, AnswerRefused>,
    ) -> Result<T, ProviderError> {
        let answer = self.issuer.door.get(url, Some(&tokens.access_token)).await;
        let body = answer.map_err(|failure| self.failed(url, failure))?;
        parse(&body).map_err(|refused| self.refused(url, refused))
    }

    fn failed(&self, url: &Url, failure: HttpFailure) -> ProviderError {
        ProviderError::Http {
            provider: self.name().to_owned(),
            host: host(url),
            failure,
        }
    }

    fn refused(&self, url: &Url, refused: AnswerRefused) -> ProviderError {
        ProviderError::Answer {
            provider: self.name().to_owned(),
            host: host(url),
            refused,
        }
    }

    fn setting(&self, problem: &str) -> ProviderError {
        ProviderError::Setting {
            provider: self.name().to_owned(),
            problem: problem.to_owned(),
        }
    }
}

fn check(settings: &ProviderSettings) -> Result<(), ProviderError> {
    let is_name_byte =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let has_name =
        (1..=MOST_NAME).contains(&settings.name.len()) && settings.name.bytes().all(is_name_byte);
    let is_word = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
    let has_id = is_word(&settings.client_id) && settings.client_id.len() <= MOST_CLIENT_ID;
    let has_scopes =
        settings.scopes.len() <= MOST_SCOPES && settings.scopes.iter().all(|scope| is_word(scope));
    let is_openid = settings.preset != ProviderPreset::GitHub;
    let asks_openid = settings.scopes.is_empty() || settings.scopes.iter().any(|s| s == "openid");
    let problem = match () {
        () if !has_name => "its name must be 1 to 64 lower-case letters, digits and '-'",
        () if !has_id => "set its client_id, 1 to 255 visible ASCII characters",
        () if !has_scopes => "its scopes must be at most 20 words",
        () if is_openid && !asks_openid => "its scopes must have 'openid'",
        () => return Ok(()),
    };
    Err(ProviderError::Setting {
        provider: told(&settings.name),
        problem: problem.to_owned(),
    })
}
