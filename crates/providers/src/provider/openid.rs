//! Log-ins by OpenID Connect.

use granary_identity::oidc::{
    ClientAuth, ForeignClaims, ForeignRefused, Metadata, Tokens, told, user_info,
};
use url::Url;

use super::{CodeExchange, ForeignIdentity, Provider};
use crate::ProviderError;

/// Claims that name somebody for people, the best first.
const NAMES: [&str; 3] = ["preferred_username", "nickname", "name"];

impl Provider {
    /// Where browsers are sent.
    pub(super) async fn login_endpoint(&self) -> Result<Url, ProviderError> {
        let metadata = self.issuer.metadata().await?;
        if !metadata.may_know_s256() {
            return Err(
                self.setting("it does not know PKCE with S256, without which no log-in is begun")
            );
        }
        let endpoint = metadata.authorization_endpoint.clone();
        endpoint.ok_or_else(|| self.setting("its discovery document has no authorization_endpoint"))
    }

    pub(super) async fn identity(
        &self,
        exchange: &CodeExchange<'_>,
    ) -> Result<ForeignIdentity, ProviderError> {
        let metadata = self.issuer.metadata().await?;
        let endpoint = metadata
            .token_endpoint
            .as_ref()
            .ok_or_else(|| self.setting("its discovery document has no token_endpoint"))?;
        let tokens = self
            .tokens(endpoint, &self.auth_at(&metadata), exchange)
            .await?;
        let Some(id_token) = &tokens.id_token else {
            return Err(self.refused(
                endpoint,
                granary_identity::oidc::AnswerRefused::Missing("id_token"),
            ));
        };
        let audience = [self.client_id.clone()];
        let nonce = Some(exchange.secrets.nonce.expose());
        let claims = self
            .issuer
            .verify(id_token.expose(), &audience, nonce, exchange.now)
            .await?;
        let claims = self.with_groups(claims, &metadata, &tokens).await?;
        self.identity_of(&claims)
    }

    /// Providers take the header or the form; it is the header if they do not say.
    fn auth_at(&self, metadata: &Metadata) -> ClientAuth {
        let Some(secret) = self.client_secret.clone() else {
            return ClientAuth::Public;
        };
        let takes_basic = metadata
            .token_endpoint_auth_methods
            .as_ref()
            .is_none_or(|methods| methods.iter().any(|method| method == "client_secret_basic"));
        match takes_basic {
            true => ClientAuth::Basic(secret),
            false => ClientAuth::Post(secret),
        }
    }

    /// The claims with those of the userinfo endpoint, if the token does not have the groups. What the token says wins.
    async fn with_groups(
        &self,
        mut claims: ForeignClaims,
        metadata: &Metadata,
        tokens: &Tokens,
    ) -> Result<ForeignClaims, ProviderError> {
        let (Some(claim), Some(endpoint)) = (&self.groups_claim, &metadata.userinfo_endpoint)
        else {
            return Ok(claims);
        };
        if claims.claim(claim).is_some() {
            return Ok(claims);
        }
        let subject = claims.subject.clone();
        let more = self
            .ask(endpoint, tokens, |body| user_info(body, &subject))
            .await?;
        for (name, value) in more {
            claims.claims.entry(name).or_insert(value);
        }
        Ok(claims)
    }

    /// Somebody without the claim is in no group; providers leave it out then.
    fn identity_of(&self, claims: &ForeignClaims) -> Result<ForeignIdentity, ProviderError> {
        let groups = match &self.groups_claim {
            Some(claim) if claims.claim(claim).is_some() => {
                let groups = claims.list(claim).ok_or_else(|| ProviderError::Token {
                    provider: self.name().to_owned(),
                    refused: ForeignRefused::Claims,
                })?;
                groups.into_iter().map(str::to_owned).collect()
            }
            _ => Vec::new(),
        };
        let name = NAMES.iter().find_map(|claim| claims.text(claim)).map(told);
        let is_verified = claims.claim("email_verified") == Some(&true.into());
        let email = claims.text("email").filter(|_| is_verified).map(told);
        Ok(ForeignIdentity {
            issuer: claims.issuer.clone(),
            subject: claims.subject.clone(),
            name: name.filter(|name| !name.is_empty()),
            email,
            groups,
        })
    }
}
