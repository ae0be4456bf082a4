//! Taking away what removed repositories hold (decision 22). Nobody sees it any more, so nobody waits for these rows; what
//! of the blobs no other repository holds goes as any such blob does.

use super::pace::Pace;
use crate::{
    Catalog, CatalogError, quota,
    sql::{self, Id, signed},
    writer::Write,
};

/// Most rows that one transaction removes.
const ROWS: u64 = 200;

/// What a repository consists of, each part behind those that refer to it.
const PARTS: [(Part, &str); 7] = [
    (
        Part::Other,
        "DELETE FROM tags WHERE repository_id = $1 AND name IN (SELECT name FROM tags WHERE repository_id = $1 LIMIT $2)",
    ),
    (
        Part::Other,
        "DELETE FROM referrers WHERE id IN (SELECT id FROM referrers WHERE repository_id = $1 LIMIT $2)",
    ),
    (
        Part::Other,
        "DELETE FROM manifest_edges WHERE (manifest_id, digest) IN \
         (SELECT manifest_id, digest FROM manifest_edges WHERE repository_id = $1 LIMIT $2)",
    ),
    (
        Part::Manifests,
        "DELETE FROM manifests WHERE id IN (SELECT id FROM manifests WHERE repository_id = $1 LIMIT $2)",
    ),
    (
        Part::Blobs,
        "DELETE FROM repository_blobs WHERE repository_id = $1 \
         AND blob_id IN (SELECT blob_id FROM repository_blobs WHERE repository_id = $1 LIMIT $2) RETURNING blob_id AS id",
    ),
    (
        Part::Other,
        "DELETE FROM tag_history WHERE seq IN (SELECT seq FROM tag_history WHERE repository_id = $1 LIMIT $2)",
    ),
    (
        Part::Other,
        "DELETE FROM removed_manifests WHERE repository_id = $1 \
         AND digest IN (SELECT digest FROM removed_manifests WHERE repository_id = $1 LIMIT $2)",
    ),
];

/// What a quota counts of a part.
enum Part {
    Manifests,
    Blobs,
    Other,
}

impl Part {
    /// Removes up to `most` of its rows, and says how many.
    async fn remove(
        &self,
        write: &Write,
        statement: &str,
        repository: i64,
        most: u64,
    ) -> Result<u64, CatalogError> {
        let values = [repository.into(), signed(most).into()];
        if let Self::Blobs = self {
            let gone: Vec<Id> = sql::all(&write.transaction, statement, values).await?;
            quota::drop_blobs(write, gone.iter().map(|row| (repository, row.id))).await?;
            return Ok(gone.len() as u64);
        }
        let removed = sql::execute(&write.transaction, statement, values).await?;
        if let (Self::Manifests, true) = (self, removed > 0) {
            quota::drop_manifests(write, repository, removed).await?;
        }
        Ok(removed)
    }
}

impl Catalog {
    /// Takes away what every removed repository holds, and at last the repository. Says how many are gone.
    pub async fn purge_removed(&self) -> Result<u64, CatalogError> {
        let (mut pace, mut purged) = (Pace::new(self), 0);
        loop {
            let next = "SELECT id FROM repositories WHERE removed_at IS NOT NULL ORDER BY removed_at, id LIMIT 1";
            let next: Option<Id> = self.reads.one(next, []).await?;
            let Some(Id { id }) = next else {
                return Ok(purged);
            };
            loop {
                let part = self.write(async move |write| purge(write, id).await);
                if pace.step(0, part).await? {
                    break;
                }
                granary_failpoint::reach_async("gc::purged_part").await;
            }
            purged += 1;
        }
    }

    /// How many removed repositories there still is something of.
    pub async fn removed_repositories(&self) -> Result<u64, CatalogError> {
        let count = "SELECT COUNT(*) AS id FROM repositories WHERE removed_at IS NOT NULL";
        let row: Option<Id> = self.reads.one(count, []).await?;
        Ok(row.map_or(0, |row| sql::unsigned(row.id)))
    }
}

/// Takes away the next rows; whether the repository is gone.
async fn purge(write: &mut Write, repository: i64) -> Result<bool, CatalogError> {
    // Another process may be at it as well.
    let lock = format!(
        "SELECT id FROM repositories WHERE id = $1 AND removed_at IS NOT NULL{}",
        write.dialect.lock("repositories")
    );
    let found: Option<Id> = sql::one(&write.transaction, &lock, [repository.into()]).await?;
    if found.is_none() {
        return Ok(true);
    }
    let mut left = ROWS;
    for (part, statement) in PARTS {
        let removed = part.remove(write, statement, repository, left).await?;
        left = left.saturating_sub(removed);
        if left == 0 {
            return Ok(false);
        }
    }
    let delete = "DELETE FROM repositories WHERE id = $1";
    sql::execute(&write.transaction, delete, [repository.into()]).await?;
    Ok(true)
}
