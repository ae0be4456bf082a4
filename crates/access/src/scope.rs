//! What a credential caps.

use std::{str::FromStr, sync::Arc};

use granary_oci::{RepositoryName, Tag};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{PatternError, RepositoryPattern, TagPatterns, Verb, Verbs};

/// Some verbs in some repositories, and for tags on some tags.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Scope {
    /// What may be done.
    pub verbs: Verbs,
    /// Where.
    #[schema(value_type = String, example = "acme/**")]
    pub repositories: RepositoryPattern,
    /// Which tags may be created, moved and deleted (decision 26).
    #[serde(default, skip_serializing_if = "TagPatterns::are_all")]
    pub tags: TagPatterns,
}

impl FromStr for Scope {
    type Err = ScopeError;

    /// Reads `VERBS:REPOSITORIES` or `VERBS:REPOSITORIES:TAGS`, each a list with commas but the repositories, which are one
    /// pattern: `read,write:acme/**` or `write,update:acme/app:v*,latest`.
    fn from_str(text: &str) -> Result<Self, ScopeError> {
        let mut parts = text.splitn(3, ':');
        let (Some(verbs), Some(repositories)) = (parts.next(), parts.next()) else {
            return Err(ScopeError::Form);
        };
        let verb = |name: &str| {
            let found = Verb::ALL.into_iter().find(|verb| verb.name() == name);
            found.ok_or_else(|| {
                let name = name.chars().take(40);
                ScopeError::Verb(name.flat_map(char::escape_debug).collect())
            })
        };
        let tags = match parts.next() {
            None => TagPatterns::all(),
            Some(tags) => {
                let patterns: Result<_, _> = tags.split(',').map(str::parse).collect();
                TagPatterns::of(patterns?)?
            }
        };
        Ok(Self {
            verbs: verbs.split(',').map(verb).collect::<Result<_, _>>()?,
            repositories: repositories.parse()?,
            tags,
        })
    }
}

/// Why a text is no scope.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScopeError {
    /// It has no colon.
    #[error("a scope is VERBS:REPOSITORIES[:TAGS], such as read,write:acme/**")]
    Form,
    /// There is no such verb.
    #[error("'{0}' is none of read, write, update, delete, admin, account")]
    Verb(String),
    /// A pattern is wrong.
    #[error(transparent)]
    Pattern(#[from] PatternError),
}

/// The scopes of a credential; without any it may do whatever its principal may.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(from = "Option<Vec<Scope>>", into = "Option<Vec<Scope>>")]
#[schema(value_type = Option<Vec<Scope>>)]
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

    /// Whether nothing is capped.
    pub fn are_unlimited(&self) -> bool {
        self.0.is_none()
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
            .map(|scope| scope.tags.limit(scope.verbs, tag))
            .fold(Verbs::NONE, Verbs::and)
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

    /// How many repositories it names.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether it names none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What it covers in `repository`; nothing elsewhere.
    pub fn verbs(&self, repository: Option<&RepositoryName>) -> Verbs {
        self.0
            .iter()
            .filter(|(name, _)| Some(name) == repository)
            .fold(Verbs::NONE, |verbs, (_, words)| verbs.and(words.verbs()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_verb_may_stand_on_a_terminal() {
        let refused = "read,\u{1b}[31mwrite\r\n:acme/**".parse::<Scope>();
        let shown = refused.unwrap_err().to_string();
        assert!(!shown.contains(char::is_control), "{shown:?}");
        assert!(shown.starts_with("'\\u{1b}[31mwrite\\r\\n'"), "{shown}");
        let long = format!("{}:acme/**", "\u{1b}".repeat(1_000));
        let shown = long.parse::<Scope>().unwrap_err().to_string();
        assert!(shown.len() < 500, "{shown}");
    }
}
