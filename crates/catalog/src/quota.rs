//! Quotas of namespaces (decision 28): what a namespace with one holds is kept in one row, `namespace_usage`.
//!
//! - `bytes` is the sizes of its `namespace_blobs`, and what open upload sessions have reserved of it;
//! - `artifacts` is the manifests in its repositories up to number `counted_to`; in all of them once that is empty.
//!
//! Every transaction that adds or removes a membership or a manifest settles here, by statements that each look at the rows
//! as they are then. For namespaces without a quota there is no such row, and that none is there is learned from
//! statements that run anyway. On PostgreSQL locks are taken in one order: session, repository, membership,
//! `namespace_blobs`, `namespace_usage`. The last is waited for by everybody who pushes there, so it comes last.

mod count;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use granary_oci::RepositoryName;
use sea_orm::FromQueryResult;

use crate::{
    CatalogError,
    sql::{self, Id, LIST, placeholders, unsigned},
    writer::Write,
};

pub(crate) use count::begin;

/// What is limited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QuotaKind {
    /// Bytes of distinct blobs.
    Bytes,
    /// Manifests.
    Artifacts,
}

impl fmt::Display for QuotaKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bytes => "bytes",
            Self::Artifacts => "manifests",
        })
    }
}

/// A namespace would hold more than it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{used} of the {limit} {what} that this namespace may hold are used, and this needs more: delete something, or ask for a larger quota"
)]
pub struct QuotaExceeded {
    /// What there would be too much of.
    pub what: QuotaKind,
    /// What is used, with what open uploads have reserved.
    pub used: u64,
    /// What may be used.
    pub limit: u64,
}

/// The namespace of repository `$1`, if what it holds is kept.
pub(crate) const KEPT: &str = "(SELECT u.namespace_id FROM repositories r JOIN namespace_usage u ON u.namespace_id = r.namespace_id WHERE r.id = $1)";

/// The namespace that a statement found to be one whose contents are kept.
#[derive(FromQueryResult)]
pub(crate) struct Kept {
    pub(crate) namespace: Option<i64>,
}

#[derive(FromQueryResult)]
struct Figures {
    bytes: i64,
    artifacts: i64,
    counted_to: Option<i64>,
    quota_bytes: Option<i64>,
    quota_artifacts: Option<i64>,
}

#[derive(FromQueryResult)]
struct Size {
    size: i64,
}

#[derive(FromQueryResult)]
struct Place {
    id: i64,
    namespace_id: i64,
}

// On PostgreSQL both wait for whoever changed the row, and look at it again. A limit has to be one value for that: of a
// condition such as NOT EXISTS it is not looked again at what the other table holds.

const GROW: &str = "UPDATE namespace_usage SET bytes = bytes + $1 WHERE namespace_id = $2 AND ($1 <= 0 OR bytes + $1 <= \
     COALESCE((SELECT s.quota_bytes FROM namespace_settings s WHERE s.namespace_id = $2), 9223372036854775807))";

const ADD_ARTIFACT: &str = "UPDATE namespace_usage SET artifacts = artifacts + 1 \
     WHERE namespace_id = $1 AND (counted_to IS NULL OR counted_to >= $2) AND artifacts + 1 <= \
     COALESCE((SELECT s.quota_artifacts FROM namespace_settings s WHERE s.namespace_id = $1), 9223372036854775807)";

/// Settles a blob that a repository of the namespace has now, of which `reserved` bytes were reserved. One that the namespace
/// has already costs nothing.
pub(crate) async fn add_blob(
    write: &Write,
    namespace: i64,
    blob: i64,
    reserved: i64,
) -> Result<(), CatalogError> {
    let is_new = note_blob(write, namespace, blob).await?;
    let size = match is_new {
        true => {
            let size = "SELECT size FROM blobs WHERE id = $1";
            let size: Option<Size> = sql::one(&write.transaction, size, [blob.into()]).await?;
            size.map_or(0, |row| row.size)
        }
        false => 0,
    };
    // Also where there is nothing to add: only whoever has that row knows that what the namespace holds is still kept.
    let settles = is_new || size != reserved;
    if settles && !grow(write, namespace, size - reserved).await? && is_new {
        let undo = "DELETE FROM namespace_blobs WHERE namespace_id = $1 AND blob_id = $2";
        let values = [namespace.into(), blob.into()];
        sql::execute(&write.transaction, undo, values).await?;
    }
    Ok(())
}

/// Makes the bytes of a namespace `by` more, or fewer, unless that is more than it may have; `false` if nobody keeps what it
/// holds any more.
pub(crate) async fn grow(write: &Write, namespace: i64, by: i64) -> Result<bool, CatalogError> {
    let values = [by.into(), namespace.into()];
    if sql::execute(&write.transaction, GROW, values).await? == 1 {
        return Ok(true);
    }
    let Some(figures) = figures(write, namespace).await? else {
        return Ok(false);
    };
    Err(CatalogError::QuotaExceeded(QuotaExceeded {
        what: QuotaKind::Bytes,
        used: unsigned(figures.bytes),
        limit: figures.quota_bytes.map_or(0, unsigned),
    }))
}

/// Notes a manifest that the repository has now.
pub(crate) async fn add_manifest(
    write: &Write,
    namespace: i64,
    repository: i64,
) -> Result<(), CatalogError> {
    let values = [namespace.into(), repository.into()];
    if sql::execute(&write.transaction, ADD_ARTIFACT, values).await? == 1 {
        return Ok(());
    }
    let figures = figures(write, namespace).await?;
    let counts = |figures: &Figures| figures.counted_to.is_none_or(|last| last >= repository);
    match figures.filter(counts) {
        // Whoever counts comes to it yet.
        None => Ok(()),
        Some(figures) => Err(CatalogError::QuotaExceeded(QuotaExceeded {
            what: QuotaKind::Artifacts,
            used: unsigned(figures.artifacts),
            limit: figures.quota_artifacts.map_or(0, unsigned),
        })),
    }
}

/// Notes that the repository has so many manifests fewer.
pub(crate) async fn drop_manifests(
    write: &Write,
    repository: i64,
    number: u64,
) -> Result<(), CatalogError> {
    let shrink = "UPDATE namespace_usage SET artifacts = artifacts - $1 \
                  WHERE namespace_id = (SELECT r.namespace_id FROM repositories r WHERE r.id = $2) \
                  AND (counted_to IS NULL OR counted_to >= $2)";
    let values = [sql::signed(number).into(), repository.into()];
    sql::execute(&write.transaction, shrink, values).await?;
    Ok(())
}

/// Settles that repositories have no more certain blobs, each with its repository. To be called once the memberships are
/// deleted, by the same transaction.
pub(crate) async fn drop_blobs(
    write: &Write,
    gone: impl IntoIterator<Item = (i64, i64)>,
) -> Result<(), CatalogError> {
    let gone: BTreeSet<(i64, i64)> = gone.into_iter().collect();
    let repositories: BTreeSet<i64> = gone.iter().map(|(repository, _)| *repository).collect();
    let namespaces = kept_namespaces(write, repositories).await?;
    let held = gone.iter().filter_map(|(repository, blob)| {
        let namespace = namespaces.get(repository)?;
        Some((*namespace, *blob))
    });
    forget_unheld(write, held.collect()).await
}

/// Settles what namespaces do not hold, if they were thought to: nothing, unless somebody who knows no quotas was at work.
pub(crate) async fn drop_unheld(write: &Write, blobs: &[i64]) -> Result<(), CatalogError> {
    let mut noted = BTreeSet::new();
    for part in blobs.chunks(LIST) {
        let find = format!(
            "SELECT blob_id AS id, namespace_id FROM namespace_blobs WHERE blob_id IN ({})",
            placeholders(1, part.len())
        );
        let values = part.iter().map(|blob| (*blob).into());
        let rows: Vec<Place> = sql::all(&write.transaction, &find, values).await?;
        noted.extend(rows.into_iter().map(|row| (row.namespace_id, row.id)));
    }
    forget_unheld(write, noted).await
}

/// What sessions have reserved, by the names of their namespaces.
pub(crate) type Reserved = BTreeMap<String, i64>;

/// Gives back what sessions had reserved.
pub(crate) async fn give_back(write: &Write, reserved: Reserved) -> Result<(), CatalogError> {
    for (namespace, bytes) in reserved {
        let shrink = "UPDATE namespace_usage SET bytes = bytes - $1 \
                      WHERE namespace_id = (SELECT n.id FROM namespaces n WHERE n.name = $2)";
        let values = [bytes.into(), namespace.into()];
        sql::execute(&write.transaction, shrink, values).await?;
    }
    Ok(())
}

/// Adds what a session has reserved to those of its namespace.
pub(crate) fn add_reserved(all: &mut Reserved, repository: &str, reserved: i64) {
    if let (true, Ok(name)) = (reserved != 0, repository.parse::<RepositoryName>()) {
        *all.entry(name.namespace().to_owned()).or_default() += reserved;
    }
}

/// The namespaces of those repositories whose contents are kept.
async fn kept_namespaces(
    write: &Write,
    repositories: BTreeSet<i64>,
) -> Result<BTreeMap<i64, i64>, CatalogError> {
    let repositories: Vec<i64> = repositories.into_iter().collect();
    let mut found = BTreeMap::new();
    for part in repositories.chunks(LIST) {
        let find = format!(
            "SELECT r.id, r.namespace_id FROM repositories r JOIN namespace_usage u ON u.namespace_id = r.namespace_id WHERE r.id IN ({})",
            placeholders(1, part.len())
        );
        let values = part.iter().map(|id| (*id).into());
        let rows: Vec<Place> = sql::all(&write.transaction, &find, values).await?;
        found.extend(rows.into_iter().map(|row| (row.id, row.namespace_id)));
    }
    Ok(found)
}

/// Whether the namespace did not have the blob. If it had, it has it until the transaction ends.
async fn note_blob(write: &Write, namespace: i64, blob: i64) -> Result<bool, CatalogError> {
    let insert = "INSERT INTO namespace_blobs (namespace_id, blob_id) VALUES ($1, $2) ON CONFLICT DO NOTHING";
    let find = format!(
        "SELECT blob_id AS id FROM namespace_blobs WHERE namespace_id = $1 AND blob_id = $2{}",
        write.dialect.keep("namespace_blobs")
    );
    let values = || [namespace.into(), blob.into()];
    loop {
        if sql::execute(&write.transaction, insert, values()).await? == 1 {
            return Ok(true);
        }
        if sql::one::<Id>(&write.transaction, &find, values())
            .await?
            .is_some()
        {
            return Ok(false);
        }
        // The last repository that had it lost it in between.
    }
}

/// Of these blobs, each with a namespace, takes away those that no repository of it has.
async fn forget_unheld(write: &Write, blobs: BTreeSet<(i64, i64)>) -> Result<(), CatalogError> {
    let lock = format!(
        "SELECT blob_id AS id FROM namespace_blobs WHERE namespace_id = $1 AND blob_id = $2{}",
        write.dialect.lock("namespace_blobs")
    );
    // Whoever adds the blob keeps the row that was locked, so by now his membership is to be seen.
    let delete = "DELETE FROM namespace_blobs WHERE namespace_id = $1 AND blob_id = $2 AND NOT EXISTS \
                  (SELECT 1 FROM repository_blobs rb JOIN repositories r ON r.id = rb.repository_id \
                   WHERE rb.blob_id = $2 AND r.namespace_id = $1) \
                  RETURNING (SELECT b.size FROM blobs b WHERE b.id = $2) AS size";
    let mut freed: BTreeMap<i64, i64> = BTreeMap::new();
    for (namespace, blob) in blobs {
        let values = || [namespace.into(), blob.into()];
        if sql::one::<Id>(&write.transaction, &lock, values())
            .await?
            .is_none()
        {
            continue;
        }
        let gone: Option<Size> = sql::one(&write.transaction, delete, values()).await?;
        *freed.entry(namespace).or_default() += gone.map_or(0, |row| row.size);
    }
    for (namespace, bytes) in freed.into_iter().filter(|(_, bytes)| *bytes != 0) {
        grow(write, namespace, -bytes).await?;
    }
    Ok(())
}

async fn figures(write: &Write, namespace: i64) -> Result<Option<Figures>, CatalogError> {
    let query = "SELECT u.bytes, u.artifacts, u.counted_to, s.quota_bytes, s.quota_artifacts FROM namespace_usage u \
                 LEFT JOIN namespace_settings s ON s.namespace_id = u.namespace_id WHERE u.namespace_id = $1";
    sql::one(&write.transaction, query, [namespace.into()]).await
}
