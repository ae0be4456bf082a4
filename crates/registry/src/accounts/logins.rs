//! Log-ins of browsers: by identity providers, or by a password; and the sessions that come of them.

use std::{net::IpAddr, sync::Arc, time::Duration};

use granary_access::{
    Caller, Credential, CredentialId, Handle, Origin, Principal, PrincipalId, Reason, Scopes,
};
use granary_catalog::{Deed, ForeignUser, LogIn, NewLogin, NewSession, action};
use granary_identity::{
    Secret, Token, TokenKind, digest_of, hint,
    oidc::{LoginSecrets, ReturnTo},
    token_kind,
};

use super::{AccountsError, Shown, SignInError, failures::network, few::Few};
use crate::{Leave, OwnAccount, Registry, RegistryError, leave::done};

/// How long a log-in may take, from when a browser is sent to a provider until it comes back.
pub const LOGIN_TIME: Duration = Duration::from_secs(600);

/// Most log-ins that one network begins within that time, so that it does not use up what there may be of all.
const MOST_OF_NETWORK: u32 = 300;
/// Networks that are remembered.
const NETWORKS: u64 = 20_000;

/// Longest name of a user that is made from what a provider calls it: there is room for a number behind it.
const LONGEST_NAME: usize = 48;
/// Numbers that are tried behind a name that is taken.
const NUMBERS: u32 = 20;

/// Why nobody was logged in. The texts are for whoever sits before the browser.
#[derive(Debug, thiserror::Error)]
pub enum LoginError {
    /// Another browser began it, or nobody, or it was finished before, or it took too long.
    #[error(
        "this browser did not begin this log-in, or it was finished before, or it took longer than 10 minutes: begin again"
    )]
    Unknown,
    /// More log-ins are under way than there may be.
    #[error("too many log-ins are under way: try again in a few minutes")]
    TooMany,
    /// The account is disabled or was removed.
    #[error("the account '{0}' is disabled or removed: ask who administers this registry")]
    Gone(String),
    /// Every name that it could get is taken.
    #[error("no name is free for this account: ask who administers this registry")]
    NoName,
    /// There are no accounts yet.
    #[error("there are no accounts yet: the first is made with 'granary admin bootstrap'")]
    NoAccounts,
    /// The registry failed.
    #[error(transparent)]
    Registry(#[from] RegistryError),
}

impl From<granary_catalog::CatalogError> for LoginError {
    fn from(error: granary_catalog::CatalogError) -> Self {
        Self::Registry(error.into())
    }
}

/// What a provider says of somebody.
#[derive(Clone, Debug)]
pub struct Newcomer {
    /// Who says so.
    pub issuer: String,
    /// Who it is there.
    pub subject: String,
    /// What it is called there.
    pub name: Option<String>,
    /// An address that the provider has verified.
    pub email: Option<String>,
    /// Its groups there.
    pub groups: Vec<String>,
}

/// A log-in that was begun, and by whose browser.
#[derive(Debug)]
pub struct LoginUnderWay {
    /// What it began with. Its state is used up.
    pub secrets: LoginSecrets,
    /// Where the browser goes in the end.
    pub return_to: ReturnTo,
}

/// A session that somebody shows.
#[derive(Clone, Debug)]
pub struct Session {
    /// Who it is. Whether the session still counts is read with the rights.
    pub principal: Principal,
    /// The provider that said who it is; nothing if a password did.
    pub provider: Option<String>,
    /// When it ends, in microseconds since 1970.
    pub expires_at: i64,
}

impl Session {
    /// When it ends, as RFC 3339.
    pub fn ends_at(&self) -> String {
        jiff::Timestamp::from_microsecond(self.expires_at)
            .unwrap_or_default()
            .to_string()
    }
}

/// Log-ins of late that browsers began, by their network.
pub(super) struct Logins(Few<Option<IpAddr>>);

impl Logins {
    pub(super) fn new() -> Self {
        Self(Few::new(MOST_OF_NETWORK, LOGIN_TIME, NETWORKS))
    }

    /// Whether a further one begins.
    fn begin(&self, address: Option<IpAddr>) -> bool {
        self.0.takes(address.map(network))
    }
}

impl Registry {
    /// Notes a log-in that a browser begins, which has `browser` in a cookie.
    pub async fn begin_login(
        &self,
        provider: &str,
        secrets: &LoginSecrets,
        browser: &Secret,
        return_to: &ReturnTo,
        origin: &Origin,
    ) -> Result<(), LoginError> {
        if !self.has_accounts().await? {
            return Err(LoginError::NoAccounts);
        }
        if !self.parts.accounts.logins.begin(origin.address) {
            return Err(LoginError::TooMany);
        }
        let login = NewLogin {
            state: digest_of(secrets.state.expose()),
            browser: digest_of(browser.expose()),
            provider: provider.to_owned(),
            nonce: secrets.nonce.expose().to_owned(),
            verifier: secrets.verifier.expose().to_owned(),
            return_to: return_to.to_string(),
        };
        match self.parts.catalog.begin_login(login, LOGIN_TIME).await? {
            true => Ok(()),
            false => Err(LoginError::TooMany),
        }
    }

    /// The log-in of that state, once, if this browser began it at this provider.
    pub async fn take_login(
        &self,
        provider: &str,
        state: &Secret,
        browser: &Secret,
    ) -> Result<LoginUnderWay, LoginError> {
        let (hash, of_browser) = (digest_of(state.expose()), digest_of(browser.expose()));
        let taking = self.parts.catalog.take_login(provider, hash, of_browser);
        let login = taking.await?.ok_or(LoginError::Unknown)?;
        Ok(LoginUnderWay {
            secrets: LoginSecrets {
                state: state.clone(),
                nonce: Secret::from(login.nonce),
                verifier: Secret::from(login.verifier),
            },
            return_to: login.return_to.parse().unwrap_or_default(),
        })
    }

    /// Begins a session of whoever `provider` says it is, and gives its secret.
    pub async fn log_in(
        &self,
        provider: &str,
        user: Newcomer,
        origin: &Origin,
    ) -> Result<Secret, LoginError> {
        if !self.has_accounts().await? {
            return Err(LoginError::NoAccounts);
        }
        let handles = handles(&user);
        let mut groups = user.groups;
        // No mapping names such a group, and a database may refuse to look for it.
        groups.retain(|group| !group.contains('\0'));
        let user = ForeignUser {
            issuer: user.issuer,
            subject: user.subject,
            claimed_name: user.name,
            handles,
            groups,
        };
        let (secret, session) = self.new_session(Some(provider))?;
        let catalog = &self.parts.catalog;
        match catalog.log_in(user, session, origin.clone()).await? {
            LogIn::In(_) => Ok(secret),
            LogIn::Gone(name) => {
                self.note_failed_login(&name, "disabled", origin);
                Err(LoginError::Gone(name))
            }
            LogIn::NoName => Err(LoginError::NoName),
        }
    }

    /// Begins a session of a user who shows the password, and gives its secret. A token is no password here.
    pub async fn log_in_by_password(
        &self,
        user: String,
        password: Secret,
        origin: &Origin,
    ) -> Result<Secret, SignInError> {
        if token_kind(password.expose()).is_some() {
            return Err(SignInError::Wrong);
        }
        let shown = Shown::Password {
            user,
            secret: password,
        };
        // What is remembered of a password may count no longer, and the same may have been set anew.
        for _ in 0..2 {
            let principal = self.sign_in(shown.clone(), origin).await?;
            let Some((id, credential)) = principal.ids() else {
                return Err(SignInError::Wrong);
            };
            let (secret, session) = self.new_session(None)?;
            let catalog = &self.parts.catalog;
            let begun = catalog.begin_session(id, credential, session, origin.clone());
            if begun.await.map_err(RegistryError::from)? {
                return Ok(secret);
            }
            self.forget(shown.clone());
        }
        Err(SignInError::Wrong)
    }

    /// The session whose secret somebody shows.
    pub async fn session(&self, shown: &Secret) -> Result<Option<Session>, RegistryError> {
        let text = shown.expose();
        if token_kind(text) != Some(TokenKind::Session) {
            return Ok(None);
        }
        let found = self.parts.catalog.session(&digest_of(text)).await?;
        Ok(found.map(|found| Session {
            principal: known(found.principal, found.name, found.credential),
            provider: found.provider,
            expires_at: found.expires_at,
        }))
    }

    /// Tells the audit log that nobody was logged in at `target`, a few times for each address.
    pub fn note_failed_login(&self, target: &str, reason: &'static str, origin: &Origin) {
        let caller = Caller {
            principal: Principal::Anonymous,
            origin: origin.clone(),
        };
        let denials = &self.parts.accounts.denials;
        if !denials.is_news(&caller, Reason::NoCredentials) {
            return;
        }
        let (registry, deed) = (self.clone(), Deed::new(action::LOGIN_FAILED, target));
        tokio::spawn(async move {
            let catalog = &registry.parts.catalog;
            let noting = catalog.note(caller.principal, caller.origin, deed, reason);
            if let Err(error) = noting.await {
                tracing::warn!(%error, "a failed log-in could not be noted in the audit log");
            }
        });
    }

    fn new_session(&self, provider: Option<&str>) -> Result<(Secret, NewSession), RegistryError> {
        let token = Token::generate(TokenKind::Session)
            .map_err(|_| RegistryError::Internal("there is no randomness"))?;
        let text = token.text().expose();
        let session = NewSession {
            secret: digest_of(text),
            hint: hint(text).to_owned(),
            lifetime: self.parts.rules.accounts.session,
            provider: provider.map(str::to_owned),
        };
        Ok((token.into_text(), session))
    }
}

impl Leave<OwnAccount> {
    /// Ends the session by which this leave was asked for.
    pub async fn end_session(&self) -> Result<(), AccountsError> {
        let ended = self.parts().catalog.end_session(self.authority()).await?;
        match done(ended)? {
            true => Ok(()),
            false => Err(AccountsError::Denied(Reason::Ended)),
        }
    }
}

fn known(id: PrincipalId, name: Arc<str>, credential: CredentialId) -> Principal {
    Principal::Known {
        id,
        name,
        credential: Credential {
            id: credential,
            scopes: Scopes::unlimited(),
            token: None,
        },
    }
}

/// Names that somebody may get who was never here before, the best first.
fn handles(user: &Newcomer) -> Vec<Handle> {
    let claimed = [user.name.as_deref(), user.email.as_deref()];
    let name = claimed.into_iter().flatten().find_map(cleaned);
    let name = name.unwrap_or_else(|| "user".to_owned());
    // Whoever is called as many others still gets a name at once, by what tells it from them.
    let digest = digest_of(&format!("{}\n{}", user.issuer, user.subject));
    let unlike = digest.iter().take(4).map(|byte| format!("{byte:02x}"));
    let unlike = format!("{name}-{}", unlike.collect::<String>());
    let numbered = (2..=NUMBERS).map(|number| format!("{name}-{number}"));
    let names = [name.clone()].into_iter().chain(numbered).chain([unlike]);
    names.filter_map(|name| name.parse().ok()).collect()
}

/// What a provider calls somebody, by the rules of names here; of an address what stands before the '@'.
fn cleaned(name: &str) -> Option<String> {
    let name = name.split('@').next().unwrap_or_default();
    let mut text = String::new();
    for letter in name.chars().flat_map(char::to_lowercase) {
        let is_separated = text.is_empty() || text.ends_with(['-', '.', '_']);
        match letter {
            'a'..='z' | '0'..='9' => text.push(letter),
            '.' | '_' if !is_separated => text.push(letter),
            _ if !is_separated => text.push('-'),
            _ => {}
        }
        if text.len() >= LONGEST_NAME {
            break;
        }
    }
    text.truncate(text.trim_end_matches(['-', '.', '_']).len());
    text.parse::<Handle>().is_ok().then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn newcomer(name: Option<&str>, email: Option<&str>) -> Newcomer {
        Newcomer {
            issuer: "https://login.example.org".to_owned(),
            subject: "1".to_owned(),
            name: name.map(str::to_owned),
            email: email.map(str::to_owned),
            groups: Vec::new(),
        }
    }

    #[test]
    fn names_follow_the_rules_of_this_registry() {
        for (name, email, expected) in [
            (Some("erin"), None, "erin"),
            (Some("Erin.O'Neil"), None, "erin.o-neil"),
            (Some("erin@corp.example"), None, "erin"),
            (Some("../../admin"), None, "admin"),
            (Some("a__b--c"), None, "a_b-c"),
            (Some("-.erin.-"), None, "erin"),
            (Some("Łukasz"), None, "ukasz"),
            (Some("x"), Some("xaver@corp.example"), "xaver"),
            (None, Some("frank@corp.example"), "frank"),
            // Kept for Granary itself.
            (Some("token"), None, "user"),
            (Some("日本"), None, "user"),
            (None, None, "user"),
        ] {
            let handles = handles(&newcomer(name, email));
            assert_eq!(handles[0].as_str(), expected, "{name:?} {email:?}");
        }
        let many = handles(&newcomer(Some(&"e".repeat(300)), None));
        assert_eq!(many.len(), 21);
        assert_eq!(many[1].as_str(), format!("{}-2", "e".repeat(LONGEST_NAME)));
    }
}
