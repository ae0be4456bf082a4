//! What an import or an export could not take along.

use granary_oci::RepositoryName;

/// What kind of thing was left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A repository.
    Repository,
    /// A blob.
    Blob,
    /// A manifest.
    Manifest,
    /// A tag.
    Tag,
    /// The link of a blob or manifest into a repository.
    Link,
    /// A file or folder that has no business where it is.
    Stray,
}

/// One thing that did not come along, or came in spite of damage.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Finding {
    /// What kind of thing it is.
    pub kind: Kind,
    /// The repository it belongs to, if it belongs to one.
    pub repository: Option<String>,
    /// Which one: a digest, a tag or a path in the source.
    pub what: String,
    /// What is wrong with it.
    pub why: String,
    /// What can be done.
    pub remedy: String,
}

impl Finding {
    pub(crate) fn new(
        kind: Kind,
        what: impl ToString,
        why: impl ToString,
        remedy: impl ToString,
    ) -> Self {
        Self {
            kind,
            repository: None,
            what: what.to_string(),
            why: why.to_string(),
            remedy: remedy.to_string(),
        }
    }

    pub(crate) fn in_repository(mut self, repository: &RepositoryName) -> Self {
        self.repository = Some(repository.to_string());
        self
    }
}

/// Findings that one report shows; more are only counted.
const SHOWN: usize = 10_000;

/// Findings, of which a bounded number is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Findings {
    /// How many there are.
    pub number: u64,
    /// The first of them.
    pub shown: Vec<Finding>,
}

impl Findings {
    pub(crate) fn add(&mut self, finding: Finding) {
        self.number += 1;
        if self.shown.len() < SHOWN {
            self.shown.push(finding);
        }
    }

    /// Adds what others found.
    pub(crate) fn take(&mut self, others: Self) {
        let unshown = others.number - others.shown.len() as u64;
        for finding in others.shown {
            self.add(finding);
        }
        self.number += unshown;
    }
}
