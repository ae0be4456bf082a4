//! Accounts: who signs in, by what, and the tokens that are issued to them.

mod command;
mod denials;
mod error;
mod failures;
mod few;
mod groups;
mod groups_command;
mod issue;
mod issuers;
mod key_rotation;
mod logins;
mod mappings;
mod publishers;
mod publishing_command;
mod reads;
mod robots;
mod sign_in;
mod signing;
mod tenancy;
mod time;
mod tokens;
mod users;
mod uses;
mod workload;

use std::{
    collections::BTreeMap,
    fmt, io,
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::Duration,
};

use granary_access::AnonymousMode;
use granary_identity::{Fingerprints, InstallationKey, PasswordSettings, Passwords, RandomFailure};
use moka::sync::Cache;

use self::{
    denials::Denials, failures::Failures, logins::Logins, reads::ReadCounts, sign_in::Verified,
    signing::Keys, uses::Uses, workload::KnownPublishers,
};
use crate::RegistryError;

pub use command::{AccountsCommand, AccountsReport};
pub use error::AccountsError;
pub use failures::network;
pub use groups::{
    MemberReport, OrganisationReport, Page, PageRequest, TeamMemberReport, TeamReport,
};
pub use groups_command::{GroupsCommand, GroupsReport};
pub use issue::IssuedToken;
pub use issuers::IssuerChange;
pub use key_rotation::{KeyReport, KeyState, KeysCommand, KeysReport};
pub use logins::{LOGIN_TIME, LoginError, LoginUnderWay, Newcomer, Session};
pub use mappings::{MappingReport, MappingRequest, ProviderCommand};
pub use publishers::{IssuerReport, IssuerRequest, PublisherReport, PublisherRequest};
pub use publishing_command::{PublishingCommand, PublishingReport};
pub use robots::RobotReport;
pub use sign_in::{Shown, SignInError};
pub(crate) use signing::opened;
pub use tenancy::{
    GrantReport, GrantRequest, NamespaceReport, NamespaceSettings, TenancyCommand, is_namespace,
};
pub use tokens::{RotateRequest, TokenReport, TokenRequest};
pub use users::{AccountKind, AccountReport, UserChange, UserReport};
pub use workload::{GivenKeys, IdentityRefused, Issuers, TrustedIssuer};

/// What the operator decided about accounts.
#[derive(Clone)]
pub struct AccountRules {
    /// What those get who show no credentials, once there are accounts.
    pub anonymous: AnonymousMode,
    /// How passwords are hashed, and which are refused.
    pub passwords: PasswordSettings,
    /// Wrong passwords of a name at an address that are free, before the next one waits; 0 if nobody ever waits.
    pub password_failures: u32,
    /// What the keys in the catalog are encrypted with. Without it there can be no accounts.
    pub key: Option<Arc<InstallationKey>>,
    /// The name by which clients know this registry: the audience of its tokens.
    pub service: String,
    /// How long a browser's session is good.
    pub session: Duration,
    /// The issuers of identity providers, by the names that the configuration gives them.
    pub providers: BTreeMap<String, String>,
    /// What has the keys of issuers whose identity tokens are taken.
    pub issuers: Arc<dyn Issuers>,
}

impl Default for AccountRules {
    fn default() -> Self {
        Self {
            anonymous: AnonymousMode::None,
            passwords: PasswordSettings::default(),
            password_failures: 10,
            key: None,
            service: "granary".to_owned(),
            session: Duration::from_secs(12 * 3600),
            providers: BTreeMap::new(),
            issuers: Arc::new(GivenKeys),
        }
    }
}

impl fmt::Debug for AccountRules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AccountRules")
            .field("anonymous", &self.anonymous)
            .field("passwords", &self.passwords)
            .field("service", &self.service)
            .finish_non_exhaustive()
    }
}

/// Bytes of what was verified and is remembered: some ten thousand credentials.
const REMEMBERED: u64 = 16 << 20;
/// How long one is remembered that nobody shows.
const IDLE: Duration = Duration::from_secs(600);

/// Credentials that may be verified at the same time.
const TURNS: usize = 64;

/// What this process keeps of it.
pub(crate) struct Accounts {
    /// Who issues tokens: this installation.
    issuer: String,
    passwords: OnceLock<Passwords>,
    starting: Mutex<()>,
    /// What was verified, by fingerprint. Whether it still counts is read for each request.
    verified: Cache<[u8; 32], Arc<Verified>>,
    fingerprints: Fingerprints,
    failures: Failures,
    pub(crate) denials: Denials,
    logins: Logins,
    /// Who verifies credentials now, by a part of their fingerprint.
    turns: [tokio::sync::Mutex<()>; TURNS],
    keys: Keys,
    uses: Uses,
    reads: ReadCounts,
    publishers: KnownPublishers,
}

impl Accounts {
    /// Of the installation whose store has this identity.
    pub(crate) fn new(installation: &str, rules: &AccountRules) -> Result<Self, RandomFailure> {
        Ok(Self {
            issuer: format!("granary:{installation}"),
            passwords: OnceLock::new(),
            starting: Mutex::new(()),
            verified: Cache::builder()
                .max_capacity(REMEMBERED)
                .weigher(|_, verified: &Arc<Verified>| verified.weight())
                .time_to_idle(IDLE)
                .build(),
            fingerprints: Fingerprints::new()?,
            failures: Failures::new(rules.password_failures),
            denials: Denials::new(),
            logins: Logins::new(),
            turns: std::array::from_fn(|_| tokio::sync::Mutex::new(())),
            keys: Keys::default(),
            uses: Uses::default(),
            reads: ReadCounts::default(),
            publishers: KnownPublishers::new(),
        })
    }

    /// Who has this verifies credentials with that fingerprint.
    fn turn(&self, fingerprint: &[u8; 32]) -> &tokio::sync::Mutex<()> {
        &self.turns[usize::from(fingerprint[0]) % TURNS]
    }

    /// The threads that hash passwords, started when there is the first to hash.
    fn passwords(&self, settings: &PasswordSettings) -> Result<&Passwords, RegistryError> {
        let _one_at_a_time = self.starting.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(pool) = self.passwords.get() {
            return Ok(pool);
        }
        let started = Passwords::start(*settings, Passwords::default_threads(), Passwords::QUEUE);
        let pool = started.map_err(|error: io::Error| {
            tracing::error!(%error, "the threads that hash passwords could not be started");
            RegistryError::Internal("passwords cannot be hashed")
        })?;
        Ok(self.passwords.get_or_init(|| pool))
    }
}
