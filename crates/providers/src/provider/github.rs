//! Log-ins at GitHub, by plain OAuth2 and its API.

use granary_identity::oidc::{
    AnswerRefused, ClientAuth, GitHubUser, IssuerUrl, MOST_TEAMS_OF_PAGE, Tokens, github_teams,
};
use url::Url;

use super::{CodeExchange, ForeignIdentity, Provider};
use crate::{OAuthEndpoints, ProviderError};

/// Most pages of teams that are read.
const MOST_PAGES: usize = 10;

/// Where GitHub is asked.
#[derive(Debug)]
pub(super) struct GitHub {
    pub(super) authorization: Url,
    token: Url,
    user: Url,
    teams: Url,
}

impl GitHub {
    /// The endpoints that were configured; those of github.com if it is that, and of an own GitHub else.
    pub(super) fn new(issuer: &IssuerUrl, given: Option<&OAuthEndpoints>) -> Result<Self, String> {
        let base = issuer.as_str().trim_end_matches('/');
        let (authorization, token, api) = match given {
            Some(given) => (
                given.authorization.clone(),
                given.token.clone(),
                given.api.trim_end_matches('/').to_owned(),
            ),
            None => {
                let api = match base {
                    "https://github.com" => "https://api.github.com".to_owned(),
                    _ => format!("{base}/api/v3"),
                };
                (
                    format!("{base}/login/oauth/authorize"),
                    format!("{base}/login/oauth/access_token"),
                    api,
                )
            }
        };
        let configured = |text: &str| {
            issuer
                .configured(text)
                .map_err(|refused| refused.to_string())
        };
        Ok(Self {
            authorization: configured(&authorization)?,
            token: configured(&token)?,
            user: configured(&format!("{api}/user"))?,
            teams: configured(&format!("{api}/user/teams?per_page={MOST_TEAMS_OF_PAGE}"))?,
        })
    }
}

impl Provider {
    pub(super) async fn identity_at_github(
        &self,
        github: &GitHub,
        exchange: &CodeExchange<'_>,
    ) -> Result<ForeignIdentity, ProviderError> {
        let auth = match &self.client_secret {
            Some(secret) => ClientAuth::Post(secret.clone()),
            None => ClientAuth::Public,
        };
        let tokens = self.tokens(&github.token, &auth, exchange).await?;
        let user = self.ask(&github.user, &tokens, GitHubUser::parse).await?;
        let groups = match self.scopes.iter().any(|scope| scope == "read:org") {
            true => self.teams(github, &tokens).await?,
            false => Vec::new(),
        };
        Ok(ForeignIdentity {
            issuer: self.issuer.url.to_string(),
            subject: user.subject(),
            name: Some(user.login),
            email: None,
            groups,
        })
    }

    async fn teams(&self, github: &GitHub, tokens: &Tokens) -> Result<Vec<String>, ProviderError> {
        let mut teams = Vec::new();
        for page in 1..=MOST_PAGES {
            let mut url = github.teams.clone();
            url.query_pairs_mut().append_pair("page", &page.to_string());
            let found = self.ask(&url, tokens, github_teams).await?;
            let is_last = found.len() < MOST_TEAMS_OF_PAGE;
            teams.extend(found);
            if is_last {
                return Ok(teams);
            }
        }
        // Some of them only would take away rights that a user has.
        Err(self.refused(
            &github.teams,
            AnswerRefused::Missing("end of teams within 1,000"),
        ))
    }
}
