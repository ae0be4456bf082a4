//! API tokens: of oneself, and of users as who administers the installation sees them.

use std::time::Duration;

use granary_access::{CredentialId, PrincipalId, Scopes};
use granary_catalog::{CredentialKind, NewToken, dialect};
use granary_identity::{Secret, Token, TokenKind, digest_of, hint};
use serde::Serialize;
use utoipa::ToSchema;

use super::AccountsError;
use crate::{Installation, Leave, OwnAccount, RegistryError, leave::done};

/// An API token, for people and programs; never the token itself.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct TokenReport {
    /// Its number.
    pub id: i64,
    /// What it is for.
    pub name: String,
    /// Its last characters.
    pub hint: String,
    /// What it caps.
    pub scopes: Scopes,
    /// When it was made.
    #[serde(serialize_with = "super::time::serialize")]
    #[schema(value_type = String, format = DateTime)]
    pub created_at: i64,
    /// When it ends.
    #[serde(serialize_with = "super::time::optional::serialize")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub expires_at: Option<i64>,
}

impl<S> Leave<S> {
    async fn tokens_of(&self, principal: PrincipalId) -> Result<Vec<TokenReport>, AccountsError> {
        let tokens = self.parts().catalog.tokens(principal).await?;
        let tokens = tokens.into_iter().map(|token| TokenReport {
            id: token.id.0,
            name: token.name,
            hint: token.hint,
            scopes: token.scopes,
            created_at: token.created_at,
            expires_at: token.expires_at,
        });
        Ok(tokens.collect())
    }

    /// Makes a token and says its number, and the token, which nobody can say again.
    async fn create_token_of(
        &self,
        principal: PrincipalId,
        name: String,
        scopes: Scopes,
        lifetime: Option<Duration>,
    ) -> Result<(i64, Secret), AccountsError> {
        let token = Token::generate(TokenKind::Api)
            .map_err(|_| RegistryError::Internal("there is no randomness"))?;
        let text = token.text().expose();
        let catalog = &self.parts().catalog;
        let now = catalog.now().await?;
        let kept = NewToken {
            principal,
            kind: CredentialKind::Api,
            name,
            secret: digest_of(text),
            hint: hint(text).to_owned(),
            scopes,
            parent: None,
            expires_at: lifetime.map(|lifetime| now.saturating_add(dialect::micros(lifetime))),
        };
        let id = done(catalog.create_token(self.authority(), kept).await?)?;
        Ok((id.0, token.into_text()))
    }

    async fn revoke(&self, owner: Option<PrincipalId>, id: i64) -> Result<(), AccountsError> {
        let (catalog, token) = (&self.parts().catalog, CredentialId(id));
        match done(catalog.revoke_token(self.authority(), owner, token).await?)? {
            true => Ok(()),
            false => Err(AccountsError::NoSuchToken(id)),
        }
    }
}

impl Leave<Installation> {
    /// The API tokens of a user, in the order in which they were made.
    pub async fn tokens(&self, user: &str) -> Result<Vec<TokenReport>, AccountsError> {
        let id = self.registry.known(user).await?;
        self.tokens_of(id).await
    }

    /// Makes a token of a user, and says its number and the token, this once.
    pub async fn create_token(
        &self,
        user: &str,
        name: String,
        scopes: Scopes,
        lifetime: Option<Duration>,
    ) -> Result<(i64, Secret), AccountsError> {
        let id = self.registry.known(user).await?;
        self.create_token_of(id, name, scopes, lifetime).await
    }

    /// Ends a token, and what was logged in by it.
    pub async fn revoke_token(&self, id: i64) -> Result<(), AccountsError> {
        self.revoke(None, id).await
    }

    /// The same, if it is a token of that user.
    pub async fn revoke_token_of(&self, user: &str, id: i64) -> Result<(), AccountsError> {
        let owner = self.registry.known(user).await?;
        self.revoke(Some(owner), id).await
    }
}

impl Leave<OwnAccount> {
    /// One's own API tokens, in the order in which they were made.
    pub async fn tokens(&self) -> Result<Vec<TokenReport>, AccountsError> {
        self.tokens_of(self.own_id()?).await
    }

    /// Makes a token of one's own, and says its number and the token, this once.
    pub async fn create_token(
        &self,
        name: String,
        scopes: Scopes,
        lifetime: Option<Duration>,
    ) -> Result<(i64, Secret), AccountsError> {
        self.create_token_of(self.own_id()?, name, scopes, lifetime)
            .await
    }

    /// Ends a token of one's own, and what was logged in by it.
    pub async fn revoke_token(&self, id: i64) -> Result<(), AccountsError> {
        self.revoke(Some(self.own_id()?), id).await
    }
}
