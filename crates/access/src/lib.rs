//! Who may do what: principals, what they were given, and [`decide`], the one function that answers.
//!
//! Nothing here asks a database or a clock: whoever calls [`decide`] has read the [`Rights`] of a principal in a repository,
//! and says what time it is.

mod address;
mod decide;
mod group;
mod pattern;
mod principal;
mod rights;
mod scope;
mod verbs;

pub use address::{AddressBlock, AddressBlocks, AddressError};
pub use decide::{Action, AnonymousMode, Context, Decision, Reason, decide};
pub use group::{GroupNameError, RobotHandle, TeamHandle, TeamRole};
pub use pattern::{PatternError, RepositoryPattern, TagPattern, TagPatterns, stars_match};
pub use principal::{
    Caller, Credential, CredentialId, Handle, HandleError, Origin, Principal, PrincipalId,
};
pub use rights::{CreateBy, Grant, Rights, Role, Visibility};
pub use scope::{Scope, ScopeError, Scopes, TokenAccess, TokenVerbs};
pub use verbs::{Verb, Verbs};
