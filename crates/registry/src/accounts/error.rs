//! Why something about accounts was not done.

use std::time::Duration;

use granary_access::{GroupNameError, HandleError, Reason};
use granary_identity::{PasswordRefused, PoolError, oidc::ClaimRuleError};
use granary_oci::RepositoryName;

use crate::RegistryError;

/// Why it was not done.
#[derive(Debug, thiserror::Error)]
pub enum AccountsError {
    /// Whoever asks may not. What of it a client may learn the edge knows (decision 24).
    #[error("this is not allowed ({0:?})")]
    Denied(Reason),
    /// The name cannot be one of a user.
    #[error(transparent)]
    Handle(#[from] HandleError),
    /// The password is not good enough.
    #[error(transparent)]
    Password(#[from] PasswordRefused),
    /// The password that was shown is another.
    #[error("the current password is another")]
    WrongPassword,
    /// Too many wrong passwords, or too many people at once.
    #[error("too many tries: try again in {} s", _0.as_secs() + 1)]
    Later(Duration),
    /// There are accounts already.
    #[error("there are accounts already: an administrator makes further ones")]
    NotTheFirst,
    /// There are no accounts yet.
    #[error("there are no accounts yet: make the first with 'granary admin bootstrap'")]
    NoAccounts,
    /// A replica would serve everybody.
    #[error(
        "a replica of version {0} is running, which knows no accounts and would serve everybody: stop or upgrade it, wait a \
         minute, and try again"
    )]
    OldReplica(String),
    /// The same, and the first account is made.
    #[error(
        "the first account is made, but a replica of version {0} is running, which knows no accounts and serves everybody: stop it \
         NOW"
    )]
    OldReplicaServes(String),
    /// Nothing encrypts the keys.
    #[error(
        "accounts need a key of the installation: put 32 random bytes into a file, such as with 'head -c 32 /dev/urandom', \
         name it as auth.key_file for every replica, and start them again"
    )]
    NoKey,
    /// The name is taken.
    #[error("the name '{0}' is taken")]
    Taken(String),
    /// The name cannot be one of a team or a robot.
    #[error(transparent)]
    GroupName(#[from] GroupNameError),
    /// The namespace of that name is somebody else's.
    #[error(
        "the namespace '{0}' belongs to somebody else: take another name, or give the namespace to the owner of the organisation first"
    )]
    NamespaceTaken(String),
    /// There is nobody and nothing of that name.
    #[error("there is no organisation, team, robot or user '{0}'")]
    NoSuch(String),
    /// There is nobody of that name who could have anything.
    #[error("there is no organisation or user '{0}'")]
    NoSuchOwner(String),
    /// That member is none of this organisation or team.
    #[error("'{0}' does not belong to '{1}'")]
    NoMember(String, String),
    /// It belongs to somebody else.
    #[error(
        "'{0}' belongs to somebody else: teams and robots have rights, and robots are members, with their own organisation or user only"
    )]
    Foreign(String),
    /// What members may do, their roles say.
    #[error(
        "'{0}' is an organisation: grant this to a team of it, or give its members a role there"
    )]
    NotToOrganisation(String),
    /// The organisation would have no owner.
    #[error("nobody else owns the organisation '{0}': make somebody else an owner first")]
    LastOwner(String),
    /// An administrator of the organisation is not enough.
    #[error("only owners of an organisation make and remove its owners")]
    OwnersOnly,
    /// A robot looks after nothing.
    #[error(
        "a robot is member, read or write in its organisation, and member of a team, but looks after neither"
    )]
    NotForRobots,
    /// There are repositories in it.
    #[error(
        "the namespace '{0}' has repositories: remove them first, or give the namespace to somebody else"
    )]
    HasRepositories(String),
    /// There are enough.
    #[error("there are {0} already, and no more may be made: remove what is not needed")]
    Full(u64),
    /// A replica would let in whoever is elsewhere.
    #[error(
        "a replica of version {0} is running, which does not look at lists of addresses: stop or upgrade it, wait a minute, and \
         try again"
    )]
    IgnoresAddresses(String),
    /// Whoever sets a list could not undo it from where he is.
    #[error(
        "{0}, from where you ask, is not on the list: you would shut yourself out. Add it, or have the machine's operator set \
         the list with 'granary admin'"
    )]
    ShutsOut(String),
    /// A successor is not another token for good.
    #[error("a token is good for 30 days at most beside its successor")]
    Overlap,
    /// There is no such user.
    #[error("there is no user '{0}'")]
    NoSuchUser(String),
    /// Nobody would administer the installation any more.
    #[error("'{0}' is the last administrator who may log in: make another one first")]
    LastAdministrator(String),
    /// Nothing that can be granted.
    #[error("read, write, update, delete and admin can be granted, and at least one of them")]
    NotGrantable,
    /// The repositories are of no one namespace.
    #[error(
        "a grant is about repositories of one namespace: write a name, or a prefix that ends in '/**'"
    )]
    NoNamespace,
    /// There is no such grant.
    #[error("there is no grant {0}")]
    NoSuchGrant(i64),
    /// There is no such namespace.
    #[error("there is no namespace '{0}'")]
    NoSuchNamespace(String),
    /// No provider of that name is configured.
    #[error(
        "there is no identity provider '{0}': name one of those that the configuration has as [auth.oidc.NAME], or an issuer by its URL"
    )]
    NoSuchProvider(String),
    /// There is no such organisation and no such team.
    #[error("there is no organisation or team '{0}'")]
    NoSuchOrganisationOrTeam(String),
    /// There is no such mapping.
    #[error("there is no mapping {0}")]
    NoSuchMapping(String),
    /// A group of a provider cannot mean that.
    #[error("{0}")]
    Mapping(&'static str),
    /// The text is no licence.
    #[error("a licence is an SPDX expression of at most 200 characters, such as Apache-2.0 OR MIT")]
    NoLicense,
    /// There is no such token.
    #[error("there is no token {0} that has not ended")]
    NoSuchToken(i64),
    /// The token was rotated before.
    #[error(
        "this token has a successor already, the token {successor}, and {end}: rotate that one"
    )]
    HasSuccessor {
        /// Its successor.
        successor: i64,
        /// When it ends.
        end: String,
    },
    /// No issuer can be like that.
    #[error("this cannot be an issuer of identity tokens: {0}")]
    InvalidIssuer(String),
    /// The claims do not say who is meant.
    #[error(transparent)]
    Claims(#[from] ClaimRuleError),
    /// The scopes cannot be those of a publisher.
    #[error(
        "a publisher has 1 to 64 scopes, none of them with 'account'; leave them out for all that its robot may in repositories"
    )]
    PublisherScopes,
    /// That issuer is trusted already.
    #[error(
        "the issuer '{0}' is trusted already: 'granary admin issuer change {0}' changes its keys or its audience"
    )]
    IssuerTaken(String),
    /// There is no issuer of that number or identifier.
    #[error("there is no issuer {0}")]
    NoIssuer(String),
    /// The issuer whose tokens are to be taken is not trusted.
    #[error("the issuer '{0}' is not trusted: an administrator adds it first")]
    NoSuchIssuer(String),
    /// There is no such publisher.
    #[error("there is no publisher {0}")]
    NoSuchPublisher(i64),
    /// There is no such key.
    #[error("there is no key '{0}' that signs or verifies tokens")]
    NoSuchKey(String),
    /// No page begins there.
    #[error("a page begins behind the number that the page before ended with")]
    After,
    /// There is no such repository.
    #[error("there is no repository '{0}'")]
    NoSuchRepository(RepositoryName),
    /// Too many passwords are hashed at once.
    #[error("{0}: try again in a moment")]
    Hashing(#[from] PoolError),
    /// The registry failed.
    #[error(transparent)]
    Registry(#[from] RegistryError),
}

impl From<granary_catalog::CatalogError> for AccountsError {
    fn from(error: granary_catalog::CatalogError) -> Self {
        Self::Registry(error.into())
    }
}
