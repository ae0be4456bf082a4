//! What a credential caps.

use std::sync::Arc;

use granary_oci::{RepositoryName, Tag};
use serde::{Deserialize, Serialize};

use crate::{RepositoryPattern, TagPatterns, Verb, Verbs};

/// Some verbs in some repositories, and for tags on some tags.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scope {
    /// What may be done.
    pub verbs: Verbs,
    /// Where.
    pub repositories: RepositoryPattern,
    /// Which tags may be created, moved and deleted (decision 26).
    #[serde(default, skip_serializing_if = "TagPatterns::are_all")]
    pub tags: TagPatterns,
}

/// The scopes of a credential; without any it may do whatever its principal may.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Option<Vec<Scope>>", into = "Option<Vec<Scope>>")]
pub struct Scopes(Option<Arc<[Scope]>>);

impl From<Option<Vec<Scope>>> for Scopes {
    fn from(scopes: Option<Vec<Scope>>) -> Self {
        Self(scopes.map(Arc::from))
    }
}

impl From<Scopes> for Option<Vec<Scope>> {
    fn from(scopes: Scopes) -> Self {
        scopes.0.map(|scopes| scopes.to_vec())
    }
}

impl Scopes {
    /// No cap.
    pub const fn unlimited() -> Self {
        Self(None)
    }

    /// These and nothing else.
    pub fn only(scopes: impl Into<Arc<[Scope]>>) -> Self {
        Self(Some(scopes.into()))
    }

    /// What is left of all verbs in `repository`, or anywhere if none is named; on `tag` if the question is about one.
    pub fn verbs(&self, repository: Option<&RepositoryName>, tag: Option<&Tag>) -> Verbs {
        let Some(scopes) = &self.0 else {
            return Verbs::UNLIMITED;
        };
        scopes
            .iter()
            .filter(|scope| match repository {
                Some(repository) => scope.repositories.matches(repository),
                None => scope.repositories == RepositoryPattern::all(),
            })
            .filter(|scope| tag.is_none_or(|tag| scope.tags.matches(tag)))
            .fold(Verbs::NONE, |verbs, scope| verbs.and(scope.verbs))
    }
}

/// What a token of the token service speaks of (the `actions` of its `access` claim).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TokenVerbs {
    /// `pull`.
    pub pull: bool,
    /// `push`.
    pub push: bool,
    /// `delete`.
    pub delete: bool,
}

impl TokenVerbs {
    /// The verbs that these words cover.
    fn verbs(self) -> Verbs {
        let pushed = [Verb::Write, Verb::Update];
        let pulled = self.pull.then_some(Verb::Read);
        let deleted = self.delete.then_some(Verb::Delete);
        let pushed = pushed.into_iter().filter(|_| self.push);
        pulled.into_iter().chain(pushed).chain(deleted).collect()
    }
}

/// The repositories that a token of the token service names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TokenAccess(Arc<[(RepositoryName, TokenVerbs)]>);

impl TokenAccess {
    /// What a token grants.
    pub fn new(granted: impl Into<Arc<[(RepositoryName, TokenVerbs)]>>) -> Self {
        Self(granted.into())
    }

    /// What it covers in `repository`; nothing elsewhere.
    pub fn verbs(&self, repository: Option<&RepositoryName>) -> Verbs {
        self.0
            .iter()
            .filter(|(name, _)| Some(name) == repository)
            .fold(Verbs::NONE, |verbs, (_, words)| verbs.and(words.verbs()))
    }
}
