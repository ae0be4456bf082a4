//! From what a request shows to who sends it.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use granary_access::{Caller, Credential, Origin, Principal, Reason, Scopes, TokenAccess};
use granary_catalog::{CredentialKind, Deed, KnownToken, action, dialect};
use granary_identity::{
    PoolError, Secret, TokenKind, TokenRefused, Verdict, digest_of, token_kind,
};

use super::workload::Identified;
use crate::{Registry, RegistryError};

/// What a request shows of who sends it.
#[derive(Clone, Debug)]
pub enum Shown {
    /// Nothing.
    Nothing,
    /// A name and a password, or an API token in its place (RFC 7617).
    Password {
        /// The name.
        user: String,
        /// The password or token.
        secret: Secret,
    },
    /// A token of the token service, or an API token (RFC 6750).
    Bearer(Secret),
    /// Something that is neither.
    Unreadable,
}

/// Why nobody was signed in.
#[derive(Debug, thiserror::Error)]
pub enum SignInError {
    /// There is no such user, or the secret is another. Which of these, nobody is told.
    #[error("user name, password or token is wrong, or no longer good")]
    Wrong,
    /// So many wrong passwords came from there that the next one has to wait.
    #[error("too many wrong passwords: try again in {} s", retry_after.as_secs() + 1)]
    Waits {
        /// When to try again.
        retry_after: Duration,
    },
    /// Too many sign in at once.
    #[error("too many are signing in now: try again in a moment")]
    Busy {
        /// When to try again.
        retry_after: Duration,
    },
    /// The registry failed.
    #[error(transparent)]
    Registry(#[from] RegistryError),
}

/// Who something proves, for as long as it can be believed without looking again.
pub(super) struct Verified {
    principal: Principal,
    /// In seconds since 1970.
    until: Option<i64>,
    /// How often a key was retired before it was looked at, if one of them signed it.
    retired: Option<u64>,
}

impl Verified {
    /// What it takes in memory, roughly.
    pub(super) fn weight(&self) -> u32 {
        let names = match &self.principal {
            Principal::Known { credential, .. } => {
                credential.token.as_ref().map_or(0, TokenAccess::len)
            }
            _ => 0,
        };
        u32::try_from(400 + 200 * names).unwrap_or(u32::MAX)
    }
}

/// How long a sign-in waits for another of the same credentials.
const PATIENCE: Duration = Duration::from_secs(5);

pub(super) const BUSY: SignInError = SignInError::Busy {
    retry_after: Duration::from_secs(1),
};

/// A user name that stands for whoever a token belongs to.
pub(super) const WHOEVER: &str = "token";

impl Registry {
    /// Who sends a request. Whether what it shows still counts is read with the rights, for each request.
    ///
    /// Without accounts nothing that is shown counts. Who sends wrong passwords from an address waits.
    pub async fn sign_in(&self, shown: Shown, origin: &Origin) -> Result<Principal, SignInError> {
        if !self.has_accounts().await? {
            return Ok(Principal::Local);
        }
        match shown {
            Shown::Nothing => Ok(Principal::Anonymous),
            Shown::Password { user, secret } => self.by_password(&user, secret, origin).await,
            Shown::Bearer(secret) => self.by_bearer(&secret, origin).await,
            Shown::Unreadable => Err(SignInError::Wrong),
        }
    }

    /// Who shows a refresh token of the token service.
    pub async fn sign_in_again(&self, refresh: &Secret) -> Result<Principal, SignInError> {
        let text = refresh.expose();
        if token_kind(text) != Some(TokenKind::Refresh) {
            return Err(SignInError::Wrong);
        }
        let secret = digest_of(text);
        let found = self.parts.catalog.token(CredentialKind::Refresh, &secret);
        let found = found.await.map_err(RegistryError::from)?;
        found.map(principal_of).ok_or(SignInError::Wrong)
    }

    /// Forgets whom something proves, because that counts no longer: the same password may have been set anew.
    pub fn forget(&self, shown: Shown) {
        let accounts = &self.parts.accounts;
        let fingerprint = match &shown {
            Shown::Password { user, secret } => {
                accounts.fingerprints.of(&["basic", user, secret.expose()])
            }
            Shown::Bearer(secret) => accounts.fingerprints.of(&["bearer", secret.expose()]),
            Shown::Nothing | Shown::Unreadable => return,
        };
        accounts.verified.invalidate(&fingerprint);
    }

    /// Whether there are accounts.
    pub async fn has_accounts(&self) -> Result<bool, RegistryError> {
        Ok(self.parts.catalog.has_accounts().await?)
    }

    /// Notices accounts that another process makes, so that this one asks for credentials. Ends when there are some.
    pub async fn watch_for_accounts(&self) {
        loop {
            match self.has_accounts().await {
                Ok(true) => return,
                Ok(false) if !self.parts.catalog.is_shared() => return,
                Ok(false) => {}
                Err(error) => {
                    tracing::debug!(%error, "whether there are accounts cannot be seen now")
                }
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }

    /// Whether there is what the keys that sign tokens are encrypted with.
    pub fn can_issue_tokens(&self) -> bool {
        self.parts.rules.accounts.key.is_some()
    }

    /// The name of this registry in its tokens.
    pub fn service(&self) -> &str {
        &self.parts.rules.accounts.service
    }

    async fn by_password(
        &self,
        user: &str,
        secret: Secret,
        origin: &Origin,
    ) -> Result<Principal, SignInError> {
        let accounts = &self.parts.accounts;
        let fingerprint = accounts.fingerprints.of(&["basic", user, secret.expose()]);
        if let Some(principal) = self.remembered(&fingerprint) {
            return Ok(principal);
        }
        if token_kind(secret.expose()) == Some(TokenKind::Api) {
            let found = self.by_api_token(&secret).await?;
            if user != WHOEVER && user != found.name() {
                return Err(SignInError::Wrong);
            }
            self.remember(fingerprint, &found, None, None);
            return Ok(found);
        }
        if let Some(found) = self.by_identity(&secret, user, origin).await? {
            return Ok(self.identified(fingerprint, found));
        }
        // A fleet that starts shows one password a hundred times: one of them has it hashed, the others wait for that.
        let turn = accounts.turn(&fingerprint);
        let Ok(_turn) = tokio::time::timeout(PATIENCE, turn.lock()).await else {
            return Err(BUSY);
        };
        if let Some(principal) = self.remembered(&fingerprint) {
            return Ok(principal);
        }
        let principal = self.prove_password(user, secret, origin).await?;
        self.remember(fingerprint, &principal, None, None);
        Ok(principal)
    }

    /// Who has that password now; nothing that is remembered counts, and no token in its place.
    pub(super) async fn prove_password(
        &self,
        user: &str,
        secret: Secret,
        origin: &Origin,
    ) -> Result<Principal, SignInError> {
        let (from, accounts) = (origin.address, &self.parts.accounts);
        let fingerprint = accounts.fingerprints.of(&["basic", user, secret.expose()]);
        let failures = &accounts.failures;
        if let Some(retry_after) = failures.wait(user, from, Instant::now()) {
            return Err(SignInError::Waits { retry_after });
        }
        let verified = self.by_own_password(user, secret).await;
        match &verified {
            Ok(_) => failures.succeeded(user, from),
            Err(SignInError::Wrong) => {
                failures.failed(user, from, fingerprint, Instant::now());
                self.note_failed_sign_in(user, origin);
            }
            Err(_) => {}
        }
        verified
    }

    /// Tells the audit log of a wrong password, a few times for each address.
    fn note_failed_sign_in(&self, user: &str, origin: &Origin) {
        let caller = Caller {
            principal: Principal::Anonymous,
            origin: origin.clone(),
        };
        if !self
            .parts
            .accounts
            .denials
            .is_news(&caller, Reason::NoCredentials)
        {
            return;
        }
        let (registry, deed) = (self.clone(), Deed::new(action::LOGIN_FAILED, user));
        tokio::spawn(async move {
            let catalog = &registry.parts.catalog;
            let noting = catalog.note(caller.principal, caller.origin, deed, "wrong-password");
            if let Err(error) = noting.await {
                tracing::warn!(%error, "a failed log-in could not be noted in the audit log");
            }
        });
    }

    async fn by_own_password(&self, user: &str, secret: Secret) -> Result<Principal, SignInError> {
        let found = self.parts.catalog.password(user).await;
        let found = found.map_err(RegistryError::from)?;
        let pool = self
            .parts
            .accounts
            .passwords(&self.parts.rules.accounts.passwords)?;
        let phc = found.as_ref().map(|found| found.phc.clone());
        let again = secret.clone();
        // Of a user who does not exist the hash takes as long.
        let verdict = match pool.verify(secret, phc).await {
            Ok(verdict) => verdict,
            Err(PoolError::Full) => return Err(BUSY),
            Err(PoolError::Failed(problem)) => {
                tracing::error!(problem, "a password could not be verified");
                return Err(RegistryError::Internal("a password could not be verified").into());
            }
        };
        if let (Some(found), Verdict::RightButWeak) = (&found, verdict)
            && let Ok(phc) = pool.hash(again).await
        {
            let (catalog, former) = (&self.parts.catalog, found.phc.clone());
            let renewing = catalog.renew_hash(found.credential, former, phc);
            if let Err(error) = renewing.await {
                tracing::warn!(%error, "a password could not be hashed by the settings of today");
            }
        }
        match (found, verdict) {
            (Some(found), Verdict::Right | Verdict::RightButWeak) => Ok(Principal::Known {
                id: found.principal,
                name: found.name,
                credential: Credential {
                    id: found.credential,
                    scopes: Scopes::unlimited(),
                    token: None,
                },
            }),
            _ => Err(SignInError::Wrong),
        }
    }

    async fn by_api_token(&self, secret: &Secret) -> Result<Principal, SignInError> {
        let secret = digest_of(secret.expose());
        let found = self.parts.catalog.token(CredentialKind::Api, &secret).await;
        let found = found.map_err(RegistryError::from)?;
        found.map(principal_of).ok_or(SignInError::Wrong)
    }

    async fn by_bearer(&self, secret: &Secret, origin: &Origin) -> Result<Principal, SignInError> {
        let accounts = &self.parts.accounts;
        let text = secret.expose();
        let fingerprint = accounts.fingerprints.of(&["bearer", text]);
        if let Some(principal) = self.remembered(&fingerprint) {
            return Ok(principal);
        }
        if token_kind(text) == Some(TokenKind::Api) {
            let principal = self.by_api_token(secret).await?;
            self.remember(fingerprint, &principal, None, None);
            return Ok(principal);
        }
        if let Some(found) = self.by_identity(secret, WHOEVER, origin).await? {
            return Ok(self.identified(fingerprint, found));
        }
        let service = &self.parts.rules.accounts.service;
        let now = dialect::now() / 1_000_000;
        let retired = accounts.keys.retired();
        let mut ring = self.verifying_keys(false).await?;
        let mut verified = ring.verify(text, &accounts.issuer, service, now);
        if matches!(verified, Err(TokenRefused::UnknownKey)) {
            // Another replica may have made a key since.
            ring = self.verifying_keys(true).await?;
            verified = ring.verify(text, &accounts.issuer, service, now);
        }
        let claims = verified.map_err(|refused| {
            tracing::debug!(%refused, "a token was refused");
            SignInError::Wrong
        })?;
        let (Some(id), Some(credential)) = (claims.principal, claims.credential) else {
            return Ok(Principal::Anonymous);
        };
        let principal = Principal::Known {
            id,
            name: claims.subject.into(),
            credential: Credential {
                id: credential,
                scopes: claims.scopes,
                token: Some(TokenAccess::new(claims.access)),
            },
        };
        let until = Some(claims.expires_at);
        self.remember(fingerprint, &principal, until, Some(retired));
        Ok(principal)
    }

    /// Remembers who showed an identity token, unless that counts once.
    fn identified(&self, fingerprint: [u8; 32], found: Identified) -> Principal {
        if found.until.is_some() {
            self.remember(fingerprint, &found.principal, found.until, None);
        }
        found.principal
    }

    fn remembered(&self, fingerprint: &[u8; 32]) -> Option<Principal> {
        let verified = self.parts.accounts.verified.get(fingerprint)?;
        let now = dialect::now() / 1_000_000;
        let is_current = |retired| retired == self.parts.accounts.keys.retired();
        let counts = verified.until.is_none_or(|until| now < until)
            && verified.retired.is_none_or(is_current);
        counts.then(|| verified.principal.clone())
    }

    fn remember(
        &self,
        fingerprint: [u8; 32],
        principal: &Principal,
        until: Option<i64>,
        retired: Option<u64>,
    ) {
        let verified = Verified {
            principal: principal.clone(),
            until,
            retired,
        };
        let cache = &self.parts.accounts.verified;
        cache.insert(fingerprint, Arc::new(verified));
    }
}

fn principal_of(token: KnownToken) -> Principal {
    Principal::Known {
        id: token.principal,
        name: token.name,
        credential: Credential {
            id: token.credential,
            scopes: token.scopes,
            token: None,
        },
    }
}
