//! Why a digest is kept.

use granary_oci::Digest;
use sea_orm::FromQueryResult;

use crate::{Catalog, CatalogError, adopt::FOREIGN, sql};

/// Something that keeps content from being collected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Keeper {
    /// A tag stands at it.
    Tag {
        /// Repository and tag, as `repository:tag`.
        name: String,
    },
    /// A manifest of this repository refers to it.
    Manifest {
        /// The repository.
        repository: String,
        /// The manifest.
        digest: Digest,
    },
    /// It is a referrer of a subject that is there.
    Subject {
        /// The repository.
        repository: String,
        /// The subject.
        digest: Digest,
    },
    /// A repository holds it; unreferenced content is leased until then (microseconds since 1970).
    Lease {
        /// The repository.
        repository: String,
        /// End of the lease.
        until: i64,
    },
    /// It has no tag, and untagged manifests are kept, or kept until an age.
    Untagged {
        /// The repository.
        repository: String,
        /// Since when it has no tag (microseconds since 1970).
        since: i64,
    },
}

/// What the catalog knows of a digest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Explanation {
    /// It is a blob, of this many bytes.
    pub blob: Option<u64>,
    /// It is a manifest in this many repositories.
    pub manifests: u64,
    /// Its bytes were found damaged and are not served.
    pub quarantined: bool,
    /// Its object lies under this name in the bucket and belongs to another registry.
    pub foreign: Option<String>,
    /// What keeps it.
    pub keepers: Vec<Keeper>,
}

#[derive(FromQueryResult)]
struct Kept {
    kind: String,
    repository: String,
    name: Option<String>,
    digest: Option<Vec<u8>>,
    at: Option<i64>,
}

#[derive(FromQueryResult)]
struct Known {
    size: i64,
    state: i16,
}

/// Most keepers of a kind that are listed.
const LISTED: usize = 100;

impl Catalog {
    /// Everything that keeps `digest`, up to 100 of each kind.
    pub async fn explain(&self, digest: &Digest) -> Result<Explanation, CatalogError> {
        let key = digest.to_bytes();
        let blob: Option<Known> = self
            .reads
            .one(
                "SELECT size, state FROM blobs WHERE digest = $1",
                [key.clone().into()],
            )
            .await?;
        let manifests: Vec<Known> = self.reads.all("SELECT CAST(LENGTH(payload) AS BIGINT) AS size, state FROM manifests m \
             JOIN repositories r ON r.id = m.repository_id AND r.removed_at IS NULL WHERE m.digest = $1",
            [key.clone().into()],
        )
        .await?;
        let mut keepers = Vec::new();
        for query in QUERIES {
            let query = format!("{query} LIMIT {LISTED}");
            let rows: Vec<Kept> = self.reads.all(&query, [key.clone().into()]).await?;
            keepers.extend(rows.into_iter().filter_map(Kept::read));
        }
        Ok(Explanation {
            blob: blob.as_ref().map(|blob| sql::unsigned(blob.size)),
            manifests: manifests.len() as u64,
            foreign: self.foreign_name(&key).await?,
            quarantined: blob.iter().chain(&manifests).any(|known| known.state != 0),
            keepers,
        })
    }
}

impl Catalog {
    /// The name of a blob's object in the bucket, if that belongs to another registry.
    async fn foreign_name(&self, digest: &[u8]) -> Result<Option<String>, CatalogError> {
        let query = "SELECT storage_key FROM blobs WHERE digest = $1 AND storage_key IS NOT NULL";
        let row: Option<Placed> = self.reads.one(query, [digest.to_vec().into()]).await?;
        let name = |row: Placed| row.storage_key.strip_prefix(FOREIGN).map(str::to_owned);
        Ok(row.and_then(name))
    }
}

#[derive(FromQueryResult)]
struct Placed {
    storage_key: String,
}

const QUERIES: [&str; 5] = [
    "SELECT 'tag' AS kind, r.name AS repository, t.name, NULL AS digest, NULL AS at FROM manifests m \
     JOIN tags t ON t.manifest_id = m.id JOIN repositories r ON r.id = m.repository_id AND r.removed_at IS NULL \
     WHERE m.digest = $1 ORDER BY r.name, t.name",
    "SELECT 'manifest' AS kind, r.name AS repository, NULL AS name, m.digest, NULL AS at FROM manifest_edges e \
     JOIN manifests m ON m.id = e.manifest_id JOIN repositories r ON r.id = e.repository_id AND r.removed_at IS NULL \
     WHERE e.digest = $1 ORDER BY r.name, m.id",
    "SELECT 'subject' AS kind, r.name AS repository, NULL AS name, s.digest, NULL AS at FROM manifests m \
     JOIN manifests s ON s.repository_id = m.repository_id AND s.digest = m.subject JOIN repositories r ON r.id = m.repository_id \
     AND r.removed_at IS NULL WHERE m.digest = $1 ORDER BY r.name",
    "SELECT 'lease' AS kind, r.name AS repository, NULL AS name, NULL AS digest, rb.leased_until AS at FROM blobs b \
     JOIN repository_blobs rb ON rb.blob_id = b.id JOIN repositories r ON r.id = rb.repository_id AND r.removed_at IS NULL \
     WHERE b.digest = $1 ORDER BY r.name",
    "SELECT 'untagged' AS kind, r.name AS repository, NULL AS name, NULL AS digest, m.untagged_since AS at FROM manifests m \
     JOIN repositories r ON r.id = m.repository_id AND r.removed_at IS NULL WHERE m.digest = $1 AND m.untagged_since IS NOT NULL \
       AND NOT EXISTS (SELECT 1 FROM tags t WHERE t.manifest_id = m.id) ORDER BY r.name",
];

impl Kept {
    fn read(self) -> Option<Keeper> {
        let repository = self.repository;
        let digest = self.digest.as_deref().and_then(Digest::from_bytes);
        match self.kind.as_str() {
            "tag" => Some(Keeper::Tag {
                name: format!("{repository}:{}", self.name?),
            }),
            "manifest" => Some(Keeper::Manifest {
                repository,
                digest: digest?,
            }),
            "subject" => Some(Keeper::Subject {
                repository,
                digest: digest?,
            }),
            "lease" => Some(Keeper::Lease {
                repository,
                until: self.at?,
            }),
            _ => Some(Keeper::Untagged {
                repository,
                since: self.at?,
            }),
        }
    }
}
