//! Accounts: who there is, what proves them, and what they may do.

mod confirm;
mod credentials;
mod keys;
mod principals;
mod rights;
mod warm;
mod watch;

pub use confirm::Asker;
pub(crate) use confirm::Confirmed;
pub use credentials::{CredentialKind, KnownPassword, KnownToken, NewToken};
pub use keys::{KeyPurpose, StoredKey};
pub use principals::{FirstAccount, NewUser};
pub(crate) use rights::READABLE;
pub use rights::RightsNow;
pub(crate) use warm::{GenerationRow, WarmRights, count_up};
pub(crate) use watch::AccountsWatch;
