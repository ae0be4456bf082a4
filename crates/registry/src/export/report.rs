//! What is to be exported, and what it came to.

use std::{fmt, path::PathBuf, str::FromStr};

use granary_oci::{NameError, Reference, ReferenceError, RepositoryName};

use crate::left_out::{Finding, Findings};

/// Why a text does not say what to export.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExportReferenceError {
    /// What stands first is no repository.
    #[error(transparent)]
    Name(#[from] NameError),
    /// What stands behind it is neither tag nor digest.
    #[error(transparent)]
    Reference(#[from] ReferenceError),
}

/// `repository`, `repository:tag` or `repository@digest`.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ExportReference {
    /// The repository.
    pub repository: RepositoryName,
    /// What of it; all its tags if this is missing.
    pub reference: Option<Reference>,
}

impl FromStr for ExportReference {
    type Err = ExportReferenceError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (repository, reference) = match (text.split_once('@'), text.rsplit_once(':')) {
            (Some((name, digest)), _) => {
                let digest = digest.parse().map_err(ReferenceError::Digest)?;
                (name, Some(Reference::Digest(digest)))
            }
            (None, Some((name, tag))) => {
                let tag = tag.parse().map_err(ReferenceError::Tag)?;
                (name, Some(Reference::Tag(tag)))
            }
            (None, None) => (text, None),
        };
        Ok(Self {
            repository: repository.parse()?,
            reference,
        })
    }
}

impl fmt::Display for ExportReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.reference {
            None => self.repository.fmt(f),
            Some(Reference::Tag(tag)) => write!(f, "{}:{tag}", self.repository),
            Some(Reference::Digest(digest)) => write!(f, "{}@{digest}", self.repository),
        }
    }
}

impl TryFrom<String> for ExportReference {
    type Error = ExportReferenceError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<ExportReference> for String {
    fn from(reference: ExportReference) -> Self {
        reference.to_string()
    }
}

/// What is to be exported.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ExportRequest {
    /// What of which repository; all of one repository.
    pub references: Vec<ExportReference>,
    /// A folder, or a file that ends in `.tar`.
    pub to: PathBuf,
}

/// What an export came to.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct ExportReport {
    /// The repository.
    pub repository: RepositoryName,
    /// Where it went.
    pub to: PathBuf,
    /// Tags in the list of the layout that this export wrote.
    pub tags: u64,
    /// Manifests, children and referrers among them.
    pub manifests: u64,
    /// Manifests that refer to another one as their subject.
    pub referrers: u64,
    /// Files that were written: manifests and blobs.
    pub written: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Files that were there already.
    pub kept: u64,
    /// What could not be exported.
    pub left_out: Findings,
}

impl ExportReport {
    pub(super) fn new(repository: RepositoryName, to: PathBuf) -> Self {
        Self {
            repository,
            to,
            tags: 0,
            manifests: 0,
            referrers: 0,
            written: 0,
            bytes: 0,
            kept: 0,
            left_out: Findings::default(),
        }
    }

    pub(super) fn leave_out(&mut self, finding: Finding) {
        let finding = finding.in_repository(&self.repository);
        self.left_out.add(finding);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_round_trip() {
        let digest = granary_oci::Digest::sha256(b"x");
        for text in [
            "a",
            "team/app",
            "team/app:v1",
            &format!("team/app@{digest}"),
        ] {
            let reference: ExportReference = text.parse().unwrap();
            assert_eq!(reference.to_string(), text);
        }
        for bad in [
            "",
            "A",
            "a:",
            "a:b:c",
            "a@sha256:x",
            ":v1",
            "a/:v1",
            "a:v1@",
        ] {
            assert!(bad.parse::<ExportReference>().is_err(), "{bad}");
        }
    }
}
