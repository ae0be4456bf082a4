//! The token service of docker clients: what was asked for, cut down to what is allowed, signed.

use std::{collections::BTreeMap, time::Duration};

use granary_access::{Caller, Principal, Scopes, TokenVerbs};
use granary_catalog::{CredentialKind, NewToken, dialect};
use granary_identity::{
    RequestedScope, Secret, SignError, Token, TokenClaims, TokenKind, digest_of, fresh_token_id,
    hint,
};
use granary_oci::RepositoryName;

use crate::{Asks, Registry, RegistryError};

/// How long a token is good. What it may do is read for each request, so this bounds nothing but its own theft.
const LIFETIME: Duration = Duration::from_secs(300);
/// How long a refresh token is good.
const REFRESH: Duration = Duration::from_secs(90 * 24 * 3600);

/// Most scopes that are looked at for nobody in particular; each costs a statement.
const ANONYMOUS_SCOPES: usize = 8;

/// A token that was issued.
#[derive(Debug)]
pub struct IssuedToken {
    /// The token.
    pub token: Secret,
    /// How long it is good, in seconds.
    pub expires_in: u64,
    /// When it was issued, in seconds since 1970.
    pub issued_at: i64,
    /// What a client may ask for further tokens with, if it wanted that.
    pub refresh: Option<Secret>,
    /// What it is good for: what was asked for and is allowed.
    pub granted: Vec<(RepositoryName, TokenVerbs)>,
}

impl Registry {
    /// Issues a token to a principal who signed in by password or API token, for as much of `requested` as it may do. `offline`
    /// names the client that also wants a refresh token.
    pub async fn issue_token(
        &self,
        caller: impl Into<Caller>,
        requested: &[RequestedScope],
        offline: Option<&str>,
    ) -> Result<IssuedToken, RegistryError> {
        let caller = caller.into();
        let principal = &caller.principal;
        // Without credentials there are tokens only where there is something to read without credentials.
        let admission = match principal {
            Principal::Anonymous => Asks::List,
            _ => Asks::Ping,
        };
        self.admit(&caller, admission).await?;
        let mut granted = BTreeMap::new();
        let most = match principal {
            Principal::Anonymous => ANONYMOUS_SCOPES,
            _ => requested.len(),
        };
        for scope in requested.iter().take(most) {
            if let RequestedScope::Repository { name, verbs } = scope {
                let verbs = self.grantable(&caller, name, *verbs).await?;
                if verbs != TokenVerbs::default() {
                    granted.insert(name.clone(), verbs);
                }
            }
        }
        let granted: Vec<_> = granted.into_iter().collect();
        let issued_at = dialect::now() / 1_000_000;
        let (subject, scopes) = match principal {
            Principal::Known {
                name, credential, ..
            } => (name.to_string(), credential.scopes.clone()),
            _ => (String::new(), Scopes::unlimited()),
        };
        let refresh = match offline {
            Some(client) => self.refresh_token(principal, client, &scopes).await?,
            None => None,
        };
        let ids = principal.ids();
        let claims = TokenClaims {
            issuer: self.parts.accounts.issuer.clone(),
            subject,
            audience: self.parts.rules.accounts.service.clone(),
            principal: ids.map(|(id, _)| id),
            credential: ids.map(|(_, credential)| credential),
            scopes,
            access: granted.clone(),
            issued_at,
            expires_at: issued_at + LIFETIME.as_secs().cast_signed(),
            id: fresh_token_id().map_err(|_| RegistryError::Internal("there is no randomness"))?,
        };
        let token = match self.signer().await?.sign(&claims) {
            Ok(token) => token,
            Err(SignError::TooManyEntries | SignError::TooLong(_)) => {
                return Err(RegistryError::TokenTooLong);
            }
            Err(error) => {
                tracing::error!(%error, "a token could not be signed");
                return Err(RegistryError::Internal("a token could not be signed"));
            }
        };
        Ok(IssuedToken {
            token: token.into(),
            expires_in: LIFETIME.as_secs(),
            issued_at,
            refresh,
            granted,
        })
    }

    /// As much of `verbs` as the principal may do in the repository, or could if it were there: a client asks for all it will
    /// need before its first push makes it. Every request is decided again.
    async fn grantable(
        &self,
        caller: &Caller,
        name: &RepositoryName,
        verbs: TokenVerbs,
    ) -> Result<TokenVerbs, RegistryError> {
        let mut read = self.rights(&caller.principal, Some(name)).await?;
        let is_there = read.rights.exists;
        read.rights.exists = true;
        let may = |asks| self.decide(caller, asks, Some(name), &read).allows();
        let push = may(Asks::Push);
        Ok(TokenVerbs {
            // Of what is not there, only whoever may make it is told anything.
            pull: verbs.pull && may(Asks::Read) && (is_there || push),
            push: verbs.push && push,
            delete: verbs.delete && may(Asks::Delete),
        })
    }

    /// A refresh token that ends with what the principal signed in with. Whoever shows one gets no further one.
    async fn refresh_token(
        &self,
        principal: &Principal,
        client: &str,
        scopes: &Scopes,
    ) -> Result<Option<Secret>, RegistryError> {
        let Some((id, parent)) = principal.ids() else {
            return Ok(None);
        };
        let token = Token::generate(TokenKind::Refresh)
            .map_err(|_| RegistryError::Internal("there is no randomness"))?;
        let text = token.text().expose();
        let kept = NewToken {
            principal: id,
            kind: CredentialKind::Refresh,
            name: client
                .chars()
                .filter(|c| !c.is_control())
                .take(80)
                .collect(),
            secret: digest_of(text),
            hint: hint(text).to_owned(),
            scopes: scopes.clone(),
            parent: Some(parent),
            expires_at: Some(dialect::now() + dialect::micros(REFRESH)),
            addresses: None,
        };
        let is_kept = self.parts.catalog.issue_token(kept).await?.is_some();
        Ok(is_kept.then(|| token.into_text()))
    }
}
