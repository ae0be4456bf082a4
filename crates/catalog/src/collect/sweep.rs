//! Marking and removing what was chosen: each step is one statement for many rows.
//!
//! The rows are locked first, passing over those that somebody is using, and whether they are still unneeded is asked
//! by the statements that follow, which see all that was committed before the lock (see [`crate::dialect`]).

use std::collections::HashMap;

use granary_oci::{Digest, RepositoryName};
use sea_orm::{FromQueryResult, Value};

use super::{
    Candidate, CollectionLimits, UNHELD_BLOB, UNKEPT_MANIFEST, UNREFERENCED_MEMBERSHIP, pace::Pace,
};
use crate::{
    CatalogError,
    blobs::doom_all,
    cache::Touched,
    dialect::{Dialect, micros},
    guard,
    manifests::remove_manifest,
    quota,
    repositories::keep_repository,
    sql::{self, Id},
    writer::Write,
};

/// What kind of row is collected.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Room {
    /// That a repository holds a blob.
    Membership,
    /// A blob that no repository holds.
    Blob,
    /// A manifest that lost its last tag `age` ago.
    Manifest {
        /// How long ago at least.
        age: std::time::Duration,
    },
}

/// A row by its key; a blob and a manifest have no repository in theirs.
#[derive(FromQueryResult, Clone, Copy, PartialEq, Eq, Hash)]
struct Key {
    repository_id: i64,
    id: i64,
}

#[derive(FromQueryResult)]
struct Removed {
    repository_id: i64,
    id: i64,
    storage_key: Option<String>,
}

/// Numbers of rows that a statement is made for, so that few different ones are prepared.
const SHAPES: [usize; 4] = [1, 10, 50, 200];

impl Candidate {
    fn name(&self) -> Result<RepositoryName, CatalogError> {
        let name = self.repository.parse();
        name.map_err(|e| CatalogError::damaged("repositories", e))
    }

    fn digest(&self) -> Result<Digest, CatalogError> {
        Digest::from_bytes(&self.digest).ok_or_else(|| CatalogError::damaged("blobs", "digest"))
    }
}

impl Room {
    fn table(self) -> &'static str {
        match self {
            Self::Membership => "repository_blobs",
            Self::Blob => "blobs",
            Self::Manifest { .. } => "manifests",
        }
    }

    /// The columns of a key, named as in [`Key`].
    fn key(self) -> &'static str {
        match self {
            Self::Membership => "repository_id, blob_id AS id",
            Self::Blob | Self::Manifest { .. } => "CAST(0 AS BIGINT) AS repository_id, id",
        }
    }

    /// Most rows that one transaction removes. The repository of a manifest is taken as a whole, so where there are
    /// others it is given back after each.
    pub(super) fn removed_together(self, dialect: Dialect, pace: &Pace<'_>) -> usize {
        match (dialect, self) {
            (Dialect::Postgres, Self::Manifest { .. }) => 1,
            _ => pace.rows(),
        }
    }

    fn of(self, candidate: &Candidate) -> Key {
        Key {
            repository_id: match self {
                Self::Membership => candidate.repository_id,
                Self::Blob | Self::Manifest { .. } => 0,
            },
            id: candidate.id,
        }
    }

    /// Whether a row is one of `keys`, and what is still true of it while nobody needs it.
    fn still(self, keys: &[Key], now: i64) -> (String, Vec<Value>) {
        let (listed, mut values) = self.listed(keys);
        let time = values.len() + 1;
        let unneeded = match self {
            Self::Membership => {
                values.push(now.into());
                format!("leased_until < ${time} AND {UNREFERENCED_MEMBERSHIP}")
            }
            Self::Blob => UNHELD_BLOB.to_owned(),
            Self::Manifest { age } => {
                values.push((now - micros(age)).into());
                format!("untagged_since < ${time} AND {UNKEPT_MANIFEST}")
            }
        };
        (format!("{listed} AND {unneeded}"), values)
    }

    /// Whether a row is one of `keys`. The last is repeated until the number is one of [`SHAPES`].
    fn listed(self, keys: &[Key]) -> (String, Vec<Value>) {
        let shape = SHAPES.into_iter().find(|shape| *shape >= keys.len());
        let shape = shape.unwrap_or(keys.len());
        let padded = keys
            .iter()
            .chain(std::iter::repeat(keys.last()).flatten())
            .take(shape);
        match self {
            Self::Membership => {
                // PostgreSQL takes the types of a list from its first row, and would take text.
                let rows = (1..shape).map(|row| format!(", (${}, ${})", 2 * row + 1, 2 * row + 2));
                let rows: String = rows.collect();
                let list = format!("VALUES (CAST($1 AS BIGINT), CAST($2 AS BIGINT)){rows}");
                let values = padded.flat_map(|key| [key.repository_id.into(), key.id.into()]);
                let listed = format!("(repository_id, blob_id) IN ({list})");
                (listed, values.collect())
            }
            Self::Blob | Self::Manifest { .. } => {
                let listed = format!("id IN ({})", sql::placeholders(1, shape));
                (listed, padded.map(|key| key.id.into()).collect())
            }
        }
    }

    /// Marks those candidates that nobody needs, and says how many.
    pub(super) async fn mark(
        self,
        write: &Write,
        candidates: Vec<Candidate>,
    ) -> Result<u64, CatalogError> {
        let keys: Vec<Key> = candidates.iter().map(|one| self.of(one)).collect();
        let keys = self.free(write, keys).await?;
        if keys.is_empty() {
            return Ok(0);
        }
        let (still, mut values) = self.still(&keys, write.now);
        let (table, now) = (self.table(), values.len() + 1);
        values.push(write.now.into());
        let mark = format!(
            "UPDATE {table} SET candidate_since = ${now} WHERE candidate_since IS NULL AND {still}"
        );
        sql::execute(&write.transaction, &mark, values).await
    }

    /// Locks the rows so that nobody begins to need them before the transaction ends, but those that somebody is using.
    async fn free(self, write: &Write, keys: Vec<Key>) -> Result<Vec<Key>, CatalogError> {
        if write.dialect == Dialect::Sqlite {
            return Ok(keys);
        }
        let (listed, values) = self.listed(&keys);
        let (table, key) = (self.table(), self.key());
        let lock = write.dialect.lock_free_ones(table);
        let query = format!("SELECT {key} FROM {table} WHERE {listed}{lock}");
        sql::all(&write.transaction, &query, values).await
    }

    /// Removes those candidates that are still marked and that nobody needs, and gives them back.
    pub(super) async fn remove(
        self,
        write: &mut Write,
        candidates: Vec<Candidate>,
        limits: CollectionLimits,
    ) -> Result<Vec<Candidate>, CatalogError> {
        if let Self::Manifest { .. } = self {
            return self.remove_manifests(write, candidates, limits).await;
        }
        let keys: Vec<Key> = candidates.iter().map(|one| self.of(one)).collect();
        let keys = self.free(write, keys).await?;
        if keys.is_empty() {
            return Ok(vec![]);
        }
        match self {
            Self::Membership => join_edges(write, &keys).await?,
            Self::Blob | Self::Manifest { .. } => {
                let blobs: Vec<i64> = keys.iter().map(|key| key.id).collect();
                quota::drop_unheld(write, &blobs).await?;
            }
        }
        let (still, values) = self.still(&keys, write.now);
        let (table, key) = (self.table(), self.key());
        let object = match self {
            Self::Blob => "storage_key",
            Self::Membership | Self::Manifest { .. } => "CAST(NULL AS TEXT) AS storage_key",
        };
        let delete = format!(
            "DELETE FROM {table} WHERE candidate_since IS NOT NULL AND {still} RETURNING {key}, {object}"
        );
        let rows: Vec<Removed> = sql::all(&write.transaction, &delete, values).await?;
        let mut by_key: HashMap<Key, Candidate> = candidates
            .into_iter()
            .map(|one| (self.of(&one), one))
            .collect();
        let (mut removed, mut objects) = (Vec::with_capacity(rows.len()), Vec::new());
        for row in rows {
            let (repository_id, id) = (row.repository_id, row.id);
            objects.extend(row.storage_key);
            removed.extend(by_key.remove(&Key { repository_id, id }));
        }
        doom_all(write, objects, write.now + micros(limits.read_grace)).await?;
        if self == Self::Membership {
            let gone = removed.iter().map(|one| (one.repository_id, one.id));
            quota::drop_blobs(write, gone).await?;
            for one in &removed {
                write.touch(Touched::Blob(one.name()?, one.digest()?));
            }
        }
        Ok(removed)
    }

    /// One after the other, because one may keep the next.
    async fn remove_manifests(
        self,
        write: &mut Write,
        candidates: Vec<Candidate>,
        limits: CollectionLimits,
    ) -> Result<Vec<Candidate>, CatalogError> {
        let mut removed = Vec::new();
        for one in candidates {
            guard::alone(write, one.repository_id).await?;
            // What was removed meanwhile goes as a whole.
            if !keep_repository(write, one.repository_id).await? {
                continue;
            }
            let (still, values) = self.still(&[self.of(&one)], write.now);
            let find =
                format!("SELECT id FROM manifests WHERE candidate_since IS NOT NULL AND {still}");
            let found: Option<Id> = sql::one(&write.transaction, &find, values).await?;
            if found.is_some() {
                let (name, digest) = (one.name()?, one.digest()?);
                let (row, repository) = ((one.id, &digest), one.repository_id);
                remove_manifest(write, &name, repository, row, "gc", limits.grace).await?;
                removed.push(one);
            }
        }
        Ok(removed)
    }
}

/// [`crate::blobs::join_edges`] for many memberships at once.
async fn join_edges(write: &Write, keys: &[Key]) -> Result<(), CatalogError> {
    let (listed, values) = Room::Membership.listed(keys);
    let join = format!(
        "UPDATE manifest_edges SET blob_id = (SELECT b.id FROM blobs b WHERE b.digest = manifest_edges.digest) \
         WHERE blob_id IS NULL AND (repository_id, digest) IN \
           (SELECT repository_id, b.digest FROM repository_blobs JOIN blobs b ON b.id = blob_id WHERE {listed})"
    );
    sql::execute(&write.transaction, &join, values).await?;
    Ok(())
}
