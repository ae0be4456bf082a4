//! What an import came to.

use super::request::ImportRequest;
use crate::left_out::{Finding, Findings};

/// What a source holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SourceKind {
    /// The storage of a distribution or Harbor registry.
    StorageTree,
    /// An OCI image layout.
    Layout,
}

/// Blobs of an import.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct ImportedBlobs {
    /// Read, compared with their digest, and stored.
    pub copied: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Read, compared with their digest, and left where they are.
    pub in_place: u64,
    /// Their bytes.
    pub in_place_bytes: u64,
    /// Already stored for another repository.
    pub mounted: u64,
    /// Already in the repository.
    pub held: u64,
}

/// Manifests of an import.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct ImportedManifests {
    /// Stored.
    pub stored: u64,
    /// Already in the repository.
    pub held: u64,
}

/// Tags of an import.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct ImportedTags {
    /// New.
    pub created: u64,
    /// Stood elsewhere before.
    pub moved: u64,
    /// Stood there already.
    pub held: u64,
}

/// What an import came to.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct ImportReport {
    /// What was found.
    pub kind: SourceKind,
    /// Where: a path, or the address of a bucket.
    pub path: String,
    /// Whether it was only looked at.
    pub dry_run: bool,
    /// Repositories that were looked at.
    pub repositories: u64,
    /// Blobs.
    pub blobs: ImportedBlobs,
    /// Manifests.
    pub manifests: ImportedManifests,
    /// Tags.
    pub tags: ImportedTags,
    /// What did not come along.
    pub left_out: Findings,
    /// What came along in spite of damage, and what is none of a registry's files.
    pub notes: Findings,
}

impl ImportReport {
    pub(super) fn new(kind: SourceKind, request: &ImportRequest) -> Self {
        Self {
            kind,
            path: request.source.to_string(),
            dry_run: request.dry_run,
            repositories: 0,
            blobs: ImportedBlobs::default(),
            manifests: ImportedManifests::default(),
            tags: ImportedTags::default(),
            left_out: Findings::default(),
            notes: Findings::default(),
        }
    }

    pub(super) fn leave_out(&mut self, finding: Finding) {
        tracing::warn!(
            kind = ?finding.kind, repository = finding.repository, what = finding.what, why = finding.why,
            "left out of an import"
        );
        self.left_out.add(finding);
    }
}
