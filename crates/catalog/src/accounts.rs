//! Accounts: who there is, what proves them, and what they may do.

mod confirm;
mod credentials;
mod grants;
mod keys;
mod office;
mod principals;
mod rights;
mod warm;
mod watch;

pub use confirm::Asker;
pub(crate) use confirm::Confirmed;
pub use credentials::{CredentialKind, KnownPassword, KnownToken, NewToken, StoredToken};
pub(crate) use grants::make_namespace;
pub use grants::{NamespaceChange, NamespaceUsage, StoredGrant, StoredNamespace};
pub use keys::{KeyPurpose, StoredKey};
pub use office::{Authority, Decided, Office};
pub use principals::{Departure, FirstAccount, NewUser, StoredUser};
pub(crate) use rights::READABLE;
pub use rights::RightsNow;
pub(crate) use warm::{GenerationRow, WarmRights, count_up};
pub(crate) use watch::AccountsWatch;
