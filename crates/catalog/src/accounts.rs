//! Accounts: who there is, what proves them, and what they may do.

mod confirm;
mod credentials;
mod grants;
mod identities;
mod keys;
mod logins;
mod mappings;
mod office;
mod principals;
mod rights;
mod sessions;
mod warm;
mod watch;

pub use confirm::Asker;
pub(crate) use confirm::Confirmed;
pub use credentials::{CredentialKind, KnownPassword, KnownToken, NewToken, StoredToken};
pub(crate) use grants::make_namespace;
pub use grants::{NamespaceChange, StoredGrant, StoredNamespace};
pub use identities::{ForeignUser, LogIn};
pub use keys::{KeyPurpose, StoredKey};
pub use logins::{NewLogin, StoredLogin};
pub use mappings::{Mapped, StoredMapping};
pub use office::{Authority, Decided, Office};
pub use principals::{Departure, FirstAccount, NewUser, StoredUser};
pub(crate) use rights::READABLE;
pub use rights::RightsNow;
pub use sessions::{KnownSession, NewSession};
pub(crate) use warm::{GenerationRow, WarmRights, count_up};
pub(crate) use watch::AccountsWatch;
