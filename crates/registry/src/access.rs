//! The one place where it is decided who may do what.

use granary_oci::RepositoryName;

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Principal {
    /// Nobody in particular. Served only where the operator allows it.
    Anonymous,
}

impl Principal {
    /// The name that history and sessions keep.
    pub fn name(&self) -> &str {
        match self {
            Self::Anonymous => "anonymous",
        }
    }
}

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// Learn that the registry is there.
    Ping,
    /// List the repositories.
    List,
    /// Read tags, manifests, blobs and referrers of a repository.
    Pull,
    /// Add to a repository.
    Push,
    /// Remove from a repository.
    Delete,
}

/// The answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Go on.
    Allow,
    /// Do not; the caller learns no more than that.
    Deny,
}

/// Whether `principal` may do `action`, on `repository` where the action is about one.
///
/// There are no accounts yet: whoever reaches a server that runs without them may do everything, which is why it
/// listens on loopback only unless told otherwise.
pub fn decide(
    principal: &Principal,
    action: Action,
    repository: Option<&RepositoryName>,
) -> Decision {
    match (principal, action, repository) {
        (Principal::Anonymous, Action::Ping | Action::List, None) => Decision::Allow,
        (Principal::Anonymous, Action::Pull | Action::Push | Action::Delete, Some(_)) => {
            Decision::Allow
        }
        (Principal::Anonymous, _, _) => Decision::Deny,
    }
}
