//! API tokens: of oneself, of robots, and of users as who administers the installation sees them.

use std::time::Duration;

use granary_access::{AddressBlocks, CredentialId, PrincipalId, Scopes};
use granary_catalog::{CredentialKind, NewToken, Refusal, Rotation, StoredToken, dialect};
use granary_identity::{Secret, Token, TokenKind, digest_of, hint};
use serde::Serialize;
use utoipa::ToSchema;

use super::{AccountsError, groups::settled, robots::of_robot};
use crate::{Installation, Leave, OwnAccount, RegistryError, leave::done};

/// Longest time that a token is good beside its successor.
const LONGEST_OVERLAP: Duration = Duration::from_secs(30 * 24 * 3600);

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
    /// From where it may be used, if not from everywhere.
    pub addresses: Option<AddressBlocks>,
    /// The number of its successor, if it was rotated.
    pub replaced_by: Option<i64>,
    /// When it was used last. That is written down once a minute.
    #[serde(serialize_with = "super::time::optional::serialize")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub last_used_at: Option<i64>,
    /// From where it was used last.
    pub last_used_from: Option<String>,
}

impl From<StoredToken> for TokenReport {
    fn from(token: StoredToken) -> Self {
        Self {
            id: token.id.0,
            name: token.name,
            hint: token.hint,
            scopes: token.scopes,
            created_at: token.created_at,
            expires_at: token.expires_at,
            addresses: token.addresses,
            replaced_by: token.replaced_by.map(|successor| successor.0),
            last_used_at: token.last_used_at,
            last_used_from: token.last_used_from,
        }
    }
}

/// A token to make.
#[derive(Clone, Debug)]
pub struct TokenRequest {
    /// What it is for.
    pub name: String,
    /// What it caps.
    pub scopes: Scopes,
    /// How long it is good; without an end if it is not said.
    pub lifetime: Option<Duration>,
    /// From where it may be used, if not from everywhere.
    pub addresses: Option<AddressBlocks>,
}

/// A token to give a successor to.
#[derive(Clone, Copy, Debug)]
pub struct RotateRequest {
    /// Its number.
    pub id: i64,
    /// How long it is good beside its successor.
    pub overlap: Duration,
}

fn fresh() -> Result<Token, RegistryError> {
    Token::generate(TokenKind::Api).map_err(|_| RegistryError::Internal("there is no randomness"))
}

impl<S> Leave<S> {
    pub(super) async fn tokens_of(
        &self,
        principal: PrincipalId,
    ) -> Result<Vec<TokenReport>, AccountsError> {
        let tokens = self.parts().catalog.tokens(principal).await?;
        Ok(tokens.into_iter().map(TokenReport::from).collect())
    }

    /// Makes a token and says its number, and the token, which nobody can say again.
    pub(super) async fn create_token_of(
        &self,
        principal: PrincipalId,
        request: TokenRequest,
    ) -> Result<(i64, Secret), AccountsError> {
        let token = fresh()?;
        let text = token.text().expose();
        let catalog = &self.parts().catalog;
        let now = catalog.now().await?;
        let lifetime = request.lifetime;
        let kept = NewToken {
            principal,
            kind: CredentialKind::Api,
            name: request.name,
            secret: digest_of(text),
            hint: hint(text).to_owned(),
            scopes: request.scopes,
            parent: None,
            expires_at: lifetime.map(|lifetime| now.saturating_add(dialect::micros(lifetime))),
            addresses: request.addresses,
        };
        let id = settled(catalog.create_token(self.authority(), kept).await?)?;
        Ok((id.0, token.into_text()))
    }

    /// Gives a token a successor of the same scopes, addresses and end, and says its number and the token.
    pub(super) async fn rotate(
        &self,
        owner: Option<PrincipalId>,
        request: RotateRequest,
    ) -> Result<(i64, Secret), AccountsError> {
        if request.overlap > LONGEST_OVERLAP {
            return Err(AccountsError::Overlap);
        }
        let token = fresh()?;
        let text = token.text().expose();
        let rotation = Rotation {
            token: CredentialId(request.id),
            overlap: request.overlap,
            secret: digest_of(text),
            hint: hint(text).to_owned(),
        };
        let catalog = &self.parts().catalog;
        let rotating = catalog.rotate_token(self.authority(), owner, rotation);
        let id = match done(rotating.await?)? {
            Err(Refusal::NoSuch(_)) => return Err(AccountsError::NoSuchToken(request.id)),
            made => made?,
        };
        Ok((id.0, token.into_text()))
    }

    pub(super) async fn revoke(
        &self,
        owner: Option<PrincipalId>,
        id: i64,
    ) -> Result<(), AccountsError> {
        let (catalog, token) = (&self.parts().catalog, CredentialId(id));
        match done(catalog.revoke_token(self.authority(), owner, token).await?)? {
            true => Ok(()),
            false => Err(AccountsError::NoSuchToken(id)),
        }
    }
}

impl Leave<Installation> {
    /// The API tokens of a user or robot, in the order in which they were made.
    pub async fn tokens(&self, user: &str) -> Result<Vec<TokenReport>, AccountsError> {
        let (id, _) = self.registry.bearer(user).await?;
        self.tokens_of(id).await
    }

    /// Makes a token of a user or robot, and says its number and the token, this once.
    pub async fn create_token(
        &self,
        user: &str,
        mut request: TokenRequest,
    ) -> Result<(i64, Secret), AccountsError> {
        let (id, is_robot) = self.registry.bearer(user).await?;
        if is_robot {
            request.scopes = of_robot(request.scopes)?;
        }
        self.create_token_of(id, request).await
    }

    /// Gives a token a successor, and says its number and the token, this once.
    pub async fn rotate_token(
        &self,
        request: RotateRequest,
    ) -> Result<(i64, Secret), AccountsError> {
        self.rotate(None, request).await
    }

    /// Ends a token, and what was logged in by it.
    pub async fn revoke_token(&self, id: i64) -> Result<(), AccountsError> {
        self.revoke(None, id).await
    }

    /// The same, if it is a token of that user.
    pub async fn revoke_token_of(&self, user: &str, id: i64) -> Result<(), AccountsError> {
        let (owner, _) = self.registry.bearer(user).await?;
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
        request: TokenRequest,
    ) -> Result<(i64, Secret), AccountsError> {
        self.create_token_of(self.own_id()?, request).await
    }

    /// Gives a token of one's own a successor, and says its number and the token, this once.
    pub async fn rotate_token(
        &self,
        request: RotateRequest,
    ) -> Result<(i64, Secret), AccountsError> {
        self.rotate(Some(self.own_id()?), request).await
    }

    /// Ends a token of one's own, and what was logged in by it.
    pub async fn revoke_token(&self, id: i64) -> Result<(), AccountsError> {
        self.revoke(Some(self.own_id()?), id).await
    }
}
