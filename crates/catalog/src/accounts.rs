//! Accounts: who there is, what proves them, and what they may do.

mod confirm;
mod credentials;
mod grants;
mod groups;
mod identities;
mod issuers;
mod keys;
mod logins;
mod mappings;
mod members;
mod office;
mod principals;
mod publishers;
mod refresh;
mod rights;
mod robots;
mod rotation;
mod sessions;
mod uses;
mod warm;
mod watch;

pub use confirm::Asker;
pub(crate) use confirm::Confirmed;
pub use credentials::{
    CredentialBearer, CredentialKind, KnownPassword, KnownToken, NewToken, StoredToken,
};
pub(crate) use grants::make_namespace;
pub use grants::{NamespaceChange, NamespaceUsage, StoredGrant, StoredNamespace};
pub use groups::{Founded, Outcome, Refusal, StoredOrganisation, StoredTeam};
pub use identities::{ForeignUser, LogIn};
pub use issuers::{IssuerKeyPlace, IssuerSettings, NewIssuer, StoredIssuer};
pub use keys::{KeyPurpose, StoredKey};
pub use logins::{NewLogin, StoredLogin};
pub use mappings::{Mapped, StoredMapping};
pub use members::StoredMember;
pub use office::{Authority, Decided, Office};
pub use principals::{Departed, Departure, FirstAccount, NewUser, StoredUser};
pub use publishers::{IdentityTaken, IdentityUse, NewPublisher, StoredPublisher};
pub(crate) use rights::READABLE;
pub use rights::RightsNow;
pub use robots::{PrincipalKind, StoredRobot};
pub use rotation::Rotation;
pub use sessions::{KnownSession, NewSession};
pub use uses::Use;
pub(crate) use warm::{GenerationRow, WarmRights, count_up};
pub(crate) use watch::AccountsWatch;
