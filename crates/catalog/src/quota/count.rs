//! Counting what namespaces hold that got a quota, beside the pushes that go on.
//!
//! From the transaction on that sets the quota every other one settles its blobs, so whoever counts only adds what
//! `namespace_blobs` lacks, and nothing counts twice. Manifests have no such rows: of each repository they are counted by one
//! statement while nobody changes it, and `counted_to` says whose manifests others settle.
//!
//! A transaction that began before the quota was set may know nothing of it. So a repository is counted only after everybody
//! has let go who kept its row, and while nobody makes a further one ([`guard::namespace`]).

use sea_orm::FromQueryResult;

use crate::{
    Catalog, CatalogError, guard,
    sql::{self, Id, placeholders, signed},
    writer::Write,
};

/// Rows that one transaction settles.
const ROWS: u64 = 200;

#[derive(FromQueryResult)]
struct Found {
    id: i64,
    has_quota: bool,
}

#[derive(FromQueryResult)]
struct Total {
    total: i64,
}

/// Namespaces whose contents are to be counted, and those that are counted and have no quota any more.
const OPEN: &str = "SELECT n.id, (s.quota_bytes IS NOT NULL OR s.quota_artifacts IS NOT NULL) AS has_quota \
     FROM (SELECT namespace_id AS id FROM namespace_settings WHERE quota_bytes IS NOT NULL OR quota_artifacts IS NOT NULL \
       UNION SELECT namespace_id FROM namespace_usage) AS n \
     LEFT JOIN namespace_settings s ON s.namespace_id = n.id LEFT JOIN namespace_usage u ON u.namespace_id = n.id \
     WHERE n.id > $1 AND (CASE WHEN s.quota_bytes IS NOT NULL OR s.quota_artifacts IS NOT NULL \
       THEN u.namespace_id IS NULL OR u.counted_to IS NOT NULL ELSE u.namespace_id IS NOT NULL END) ORDER BY n.id LIMIT 1";

/// The next repository to be counted.
const NEXT: &str = "SELECT r.id FROM repositories r JOIN namespace_usage u ON u.namespace_id = r.namespace_id \
     WHERE r.namespace_id = $1 AND r.id > u.counted_to ORDER BY r.id LIMIT 1";

/// Whether a namespace has a quota.
const LIMITED: &str = "SELECT namespace_id AS id FROM namespace_settings \
     WHERE namespace_id = $1 AND (quota_bytes IS NOT NULL OR quota_artifacts IS NOT NULL)";

/// Begins to keep what a namespace holds, whose quota this transaction has set; nobody makes a repository in it meanwhile.
/// What an earlier quota left behind is counted already, but for the manifests.
pub(crate) async fn begin(write: &Write, namespace: i64) -> Result<(), CatalogError> {
    let begin = "INSERT INTO namespace_usage (namespace_id, bytes, artifacts, counted_to, counted_at) VALUES ($1, 0, 0, 0, $2) \
                 ON CONFLICT (namespace_id) DO UPDATE SET artifacts = 0, counted_to = 0";
    let values = [namespace.into(), write.now.into()];
    sql::execute(&write.transaction, begin, values).await?;
    Ok(())
}

impl Catalog {
    /// Counts what the namespaces hold that have a quota and were not counted yet, and forgets it of those that have none any
    /// more. Several processes may do it at once.
    pub async fn count_usage(&self) -> Result<(), CatalogError> {
        let mut last = 0;
        loop {
            let next: Option<Found> = self.reads.one(OPEN, [last.into()]).await?;
            let Some(Found { id, has_quota }) = next else {
                return Ok(());
            };
            match has_quota {
                true => self.count_namespace(id).await?,
                false => self.forget_usage(id).await?,
            }
            last = id;
        }
    }

    async fn count_namespace(&self, namespace: i64) -> Result<(), CatalogError> {
        // A copy brings quotas, and not what was counted.
        self.write(async move |write| {
            guard::namespace_alone(write, namespace).await?;
            let usage = "SELECT namespace_id AS id FROM namespace_usage WHERE namespace_id = $1";
            let known: Option<Id> = sql::one(&write.transaction, usage, [namespace.into()]).await?;
            match known {
                Some(_) => Ok(()),
                None if !is_limited(write, namespace).await? => Ok(()),
                None => begin(write, namespace).await,
            }
        })
        .await?;
        loop {
            let next: Option<Id> = self.reads.one(NEXT, [namespace.into()]).await?;
            match next {
                Some(Id { id }) => self.count_repository(namespace, id).await?,
                None => {
                    let ending = self.write(async move |write| end(write, namespace).await);
                    if ending.await? {
                        return Ok(());
                    }
                }
            }
        }
    }

    /// Counts a repository, unless another one of the namespace comes before it by now.
    async fn count_repository(&self, namespace: i64, repository: i64) -> Result<(), CatalogError> {
        // Whoever knows nothing of the quota is still in here, and ends.
        self.write(async move |write| lock(write, repository).await.map(drop))
            .await?;
        granary_failpoint::reach_async("quota::counting").await;
        let mut after = 0_i64;
        loop {
            let last = "SELECT MAX(id) AS total FROM (SELECT blob_id AS id FROM repository_blobs WHERE repository_id = $1 \
                        AND blob_id > $2 ORDER BY blob_id LIMIT $3) AS part HAVING MAX(id) IS NOT NULL";
            let values = [repository.into(), after.into(), signed(ROWS).into()];
            let Some(Total { total: last }) = self.reads.one(last, values).await? else {
                break;
            };
            let part = (repository, after, last);
            let counting = self.write(async move |write| count_blobs(write, namespace, part).await);
            if !counting.await? {
                return Ok(());
            }
            after = last;
        }
        granary_failpoint::reach_async("quota::counted_blobs").await;
        let counting =
            self.write(async move |write| count_manifests(write, namespace, repository).await);
        counting.await
    }

    /// Forgets what a namespace without a quota holds.
    async fn forget_usage(&self, namespace: i64) -> Result<(), CatalogError> {
        loop {
            let part = self.write(async move |write| forget(write, namespace).await);
            if part.await? {
                return Ok(());
            }
        }
    }
}

/// Has the row of the repository alone; `false` if it is gone.
async fn lock(write: &Write, repository: i64) -> Result<bool, CatalogError> {
    let lock = format!(
        "SELECT id FROM repositories WHERE id = $1{}",
        write.dialect.lock("repositories")
    );
    let found: Option<Id> = sql::one(&write.transaction, &lock, [repository.into()]).await?;
    Ok(found.is_some())
}

async fn is_limited(write: &Write, namespace: i64) -> Result<bool, CatalogError> {
    let found: Option<Id> = sql::one(&write.transaction, LIMITED, [namespace.into()]).await?;
    Ok(found.is_some())
}

/// Settles the blobs of a repository behind the first number up to the last; `false` if nobody needs it any more.
async fn count_blobs(
    write: &Write,
    namespace: i64,
    (repository, after, last): (i64, i64, i64),
) -> Result<bool, CatalogError> {
    guard::namespace_alone(write, namespace).await?;
    let counting = "SELECT namespace_id AS id FROM namespace_usage WHERE namespace_id = $1 AND counted_to IS NOT NULL";
    let counting: Option<Id> = sql::one(&write.transaction, counting, [namespace.into()]).await?;
    if counting.is_none() {
        return Ok(false);
    }
    // Whoever takes one out of the repository waits, and then sees that it is counted.
    let held = format!(
        "SELECT blob_id AS id FROM repository_blobs WHERE repository_id = $1 AND blob_id > $2 AND blob_id <= $3 \
         ORDER BY blob_id LIMIT {}{}",
        2 * ROWS,
        write.dialect.keep("repository_blobs")
    );
    let values = [repository.into(), after.into(), last.into()];
    let held: Vec<Id> = sql::all(&write.transaction, &held, values).await?;
    if held.is_empty() {
        return Ok(true);
    }
    let rows: Vec<String> = (2..held.len() + 2)
        .map(|blob| format!("($1, ${blob})"))
        .collect();
    let note = format!(
        "INSERT INTO namespace_blobs (namespace_id, blob_id) VALUES {} ON CONFLICT DO NOTHING RETURNING blob_id AS id",
        rows.join(", ")
    );
    let values = held.iter().map(|row| row.id.into());
    let values = std::iter::once(namespace.into()).chain(values);
    let fresh: Vec<Id> = sql::all(&write.transaction, &note, values).await?;
    if fresh.is_empty() {
        return Ok(true);
    }
    let blobs: Vec<i64> = fresh.iter().map(|row| row.id).collect();
    let bytes = sizes(write, &blobs).await?;
    add_bytes(write, namespace, bytes).await?;
    Ok(true)
}

async fn sizes(write: &Write, blobs: &[i64]) -> Result<i64, CatalogError> {
    let sum = format!(
        "SELECT CAST(COALESCE(SUM(size), 0) AS BIGINT) AS total FROM blobs WHERE id IN ({})",
        placeholders(1, blobs.len())
    );
    let values = blobs.iter().map(|blob| (*blob).into());
    let sum: Option<Total> = sql::one(&write.transaction, &sum, values).await?;
    Ok(sum.map_or(0, |row| row.total))
}

/// Adds what is there, whatever may be.
async fn add_bytes(write: &Write, namespace: i64, bytes: i64) -> Result<(), CatalogError> {
    let add = "UPDATE namespace_usage SET bytes = bytes + $1 WHERE namespace_id = $2";
    let values = [bytes.into(), namespace.into()];
    sql::execute(&write.transaction, add, values).await?;
    Ok(())
}

/// Counts the manifests of a repository whose blobs are settled. From now on whoever changes it settles them.
async fn count_manifests(
    write: &Write,
    namespace: i64,
    repository: i64,
) -> Result<(), CatalogError> {
    guard::namespace_alone(write, namespace).await?;
    let next: Option<Id> = sql::one(&write.transaction, NEXT, [namespace.into()]).await?;
    if next.is_none_or(|next| next.id != repository) || !lock(write, repository).await? {
        return Ok(());
    }
    let count = "SELECT COUNT(*) AS total FROM manifests WHERE repository_id = $1";
    let count: Option<Total> = sql::one(&write.transaction, count, [repository.into()]).await?;
    let add = "UPDATE namespace_usage SET artifacts = artifacts + $1, counted_to = $2 WHERE namespace_id = $3";
    let values = [
        count.map_or(0, |row| row.total).into(),
        repository.into(),
        namespace.into(),
    ];
    sql::execute(&write.transaction, add, values).await?;
    Ok(())
}

/// Ends the counting, if no repository came meanwhile.
async fn end(write: &Write, namespace: i64) -> Result<bool, CatalogError> {
    guard::namespace_alone(write, namespace).await?;
    let next: Option<Id> = sql::one(&write.transaction, NEXT, [namespace.into()]).await?;
    if next.is_some() {
        return Ok(false);
    }
    let end = "UPDATE namespace_usage SET counted_to = NULL, counted_at = $1 WHERE namespace_id = $2 AND counted_to IS NOT NULL";
    let values = [write.now.into(), namespace.into()];
    sql::execute(&write.transaction, end, values).await?;
    Ok(true)
}

/// Forgets the next blobs of a namespace without a quota, and at last that they were kept; whether that is done.
async fn forget(write: &Write, namespace: i64) -> Result<bool, CatalogError> {
    guard::namespace_alone(write, namespace).await?;
    if is_limited(write, namespace).await? {
        return Ok(true);
    }
    let page = format!(
        "SELECT blob_id AS id FROM namespace_blobs WHERE namespace_id = $1 ORDER BY blob_id LIMIT $2{}",
        write.dialect.lock("namespace_blobs")
    );
    let values = [namespace.into(), signed(ROWS).into()];
    let page: Vec<Id> = sql::all(&write.transaction, &page, values).await?;
    let blobs: Vec<i64> = page.iter().map(|row| row.id).collect();
    if !blobs.is_empty() {
        let delete = format!(
            "DELETE FROM namespace_blobs WHERE namespace_id = $1 AND blob_id IN ({})",
            placeholders(2, blobs.len())
        );
        let values = blobs.iter().map(|blob| (*blob).into());
        let values = std::iter::once(namespace.into()).chain(values);
        sql::execute(&write.transaction, &delete, values).await?;
        let bytes = sizes(write, &blobs).await?;
        add_bytes(write, namespace, -bytes).await?;
        return Ok(false);
    }
    // Who is about to settle a blob waits for this row, and finds it gone.
    let row = format!(
        "SELECT namespace_id AS id FROM namespace_usage WHERE namespace_id = $1{}",
        write.dialect.lock("namespace_usage")
    );
    sql::one::<Id>(&write.transaction, &row, [namespace.into()]).await?;
    let left = "SELECT blob_id AS id FROM namespace_blobs WHERE namespace_id = $1 LIMIT 1";
    let left: Option<Id> = sql::one(&write.transaction, left, [namespace.into()]).await?;
    if left.is_some() {
        return Ok(false);
    }
    let delete = "DELETE FROM namespace_usage WHERE namespace_id = $1";
    sql::execute(&write.transaction, delete, [namespace.into()]).await?;
    // Nothing is reserved of what nobody keeps.
    let sessions = "UPDATE uploads SET reserved = 0 WHERE reserved <> 0 AND EXISTS (SELECT 1 FROM namespaces n WHERE n.id = $1 \
         AND (SUBSTR(uploads.repository, 1, LENGTH(n.name) + 1) = n.name || '/' \
           OR (n.name = 'library' AND uploads.repository NOT LIKE '%/%')))";
    sql::execute(&write.transaction, sessions, [namespace.into()]).await?;
    Ok(true)
}
