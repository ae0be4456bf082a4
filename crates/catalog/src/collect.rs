//! What garbage collection asks of the catalog.
//!
//! A row goes in two steps: one pass marks it, a later one removes it if, inside the removing transaction, it is still
//! marked, unreferenced and unleased. Whoever refers to a row or leases it takes the mark away.

mod pace;
mod purge;
mod sweep;

use std::{collections::VecDeque, time::Duration};

use sea_orm::FromQueryResult;

use crate::{
    Catalog, CatalogError,
    dialect::micros,
    hold::held,
    sql::{self, LIST, signed, unsigned},
};

use pace::Pace;
use sweep::Room;

/// How long what is kept.
#[derive(Clone, Copy, Debug)]
pub struct CollectionLimits {
    /// How long an object stays after its row went, for readers that hold its key.
    pub read_grace: Duration,
    /// How long content stays after nothing refers to it any more.
    pub grace: Duration,
    /// Whether anything is removed, or only counted.
    pub dry_run: bool,
}

/// What one page of a pass came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CollectedPage {
    /// Rows marked for a later pass.
    pub marked: u64,
    /// Rows removed.
    pub removed: u64,
    /// Bytes of blobs removed.
    pub bytes: u64,
    /// Candidates found.
    pub seen: u64,
    /// Whether rows follow that were not looked at yet.
    pub more: bool,
}

/// A row without a reference, as it was when it was chosen.
#[derive(Clone, Debug, FromQueryResult)]
struct Candidate {
    id: i64,
    repository_id: i64,
    repository: String,
    digest: Vec<u8>,
    size: i64,
    candidate_since: Option<i64>,
}

#[derive(FromQueryResult)]
struct Doomed {
    storage_key: String,
    store_state: Option<Vec<u8>>,
    unfinished: bool,
}

/// An object to be removed from the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DoomedObject {
    /// Its key.
    pub key: String,
    /// What the store noted about it, if its upload never ended.
    pub unfinished: Option<Vec<u8>>,
}

/// Rows that one statement looks at. A window is bounded by what is looked at, not by what is found, and stands in a
/// subquery with this number as its limit: else PostgreSQL takes it for a tenth of the table and reads the others whole.
const WINDOW: u64 = 200;

const UNREFERENCED_MEMBERSHIP: &str = "NOT EXISTS (SELECT 1 FROM manifest_edges e \
     WHERE e.repository_id = repository_blobs.repository_id AND e.blob_id = repository_blobs.blob_id)";

/// Every repository that holds it would let it go, or was removed: what a dry run counts, as it withdraws nothing first.
fn unneeded_blob(clock: &str) -> String {
    format!(
        "NOT EXISTS (SELECT 1 FROM repository_blobs rb JOIN repositories r ON r.id = rb.repository_id AND r.removed_at IS NULL \
     WHERE rb.blob_id = blobs.id AND (rb.leased_until >= {clock} \
     OR EXISTS (SELECT 1 FROM manifest_edges e WHERE e.repository_id = rb.repository_id AND e.blob_id = rb.blob_id)))"
    )
}

const UNHELD_BLOB: &str =
    "NOT EXISTS (SELECT 1 FROM repository_blobs rb WHERE rb.blob_id = blobs.id)";

/// No tag, no index that lists it, no subject in the repository.
const UNKEPT_MANIFEST: &str = "NOT EXISTS (SELECT 1 FROM tags t WHERE t.manifest_id = manifests.id) \
     AND NOT EXISTS (SELECT 1 FROM manifest_edges e WHERE e.repository_id = manifests.repository_id AND e.digest = manifests.digest) \
     AND NOT EXISTS (SELECT 1 FROM manifests s WHERE s.repository_id = manifests.repository_id AND s.digest = manifests.subject)";

impl Catalog {
    /// Looks at a window of memberships behind `after`: candidates are those that nothing refers to and whose lease is over.
    pub async fn collect_memberships(
        &self,
        after: &mut (i64, i64),
        pass_began: i64,
        limits: CollectionLimits,
    ) -> Result<CollectedPage, CatalogError> {
        let mut pace = Pace::new(self);
        let bound = "SELECT repository_id, blob_id AS id FROM repository_blobs WHERE (repository_id, blob_id) > ($1, $2) \
                     ORDER BY repository_id, blob_id LIMIT 1 OFFSET $3";
        let (first, behind) = (after.0, after.1);
        let values = [first.into(), behind.into(), signed(WINDOW - 1).into()];
        let bound: Option<MembershipKey> = pace.step(1, self.reads.one(bound, values)).await?;
        let end = bound.map_or((i64::MAX, i64::MAX), |row| (row.repository_id, row.id));
        let query = format!(
            "SELECT repository_blobs.blob_id AS id, repository_id, r.name AS repository, b.digest, b.size, repository_blobs.candidate_since \
             FROM (SELECT * FROM repository_blobs WHERE (repository_id, blob_id) > ($1, $2) AND (repository_id, blob_id) <= ($3, $4) \
               ORDER BY repository_id, blob_id LIMIT {WINDOW}) AS repository_blobs \
             JOIN repositories r ON r.id = repository_id AND r.removed_at IS NULL JOIN blobs b ON b.id = repository_blobs.blob_id \
             WHERE leased_until < {} AND {UNREFERENCED_MEMBERSHIP} ORDER BY repository_id, blob_id",
            self.reads.dialect.clock()
        );
        let values = [first.into(), behind.into(), end.0.into(), end.1.into()];
        let candidates = pace.step(1, self.reads.all(&query, values)).await?;
        *after = end;
        granary_failpoint::reach_async("gc::chosen").await;
        let room = Room::Membership;
        let mut page = self
            .mark_or_remove(pace, candidates, limits, pass_began, room)
            .await?;
        page.more = end.0 < i64::MAX;
        Ok(page)
    }

    /// Looks at a window of blobs behind `after`: candidates are those that no repository holds.
    pub async fn collect_blobs(
        &self,
        after: &mut i64,
        pass_began: i64,
        limits: CollectionLimits,
    ) -> Result<CollectedPage, CatalogError> {
        let mut pace = Pace::new(self);
        let (first, end) = (*after, self.window(&mut pace, "blobs", *after).await?);
        let condition = if limits.dry_run {
            unneeded_blob(&self.reads.dialect.clock())
        } else {
            UNHELD_BLOB.to_owned()
        };
        let query = format!(
            "SELECT id, CAST(0 AS BIGINT) AS repository_id, 'x' AS repository, digest, size, candidate_since \
             FROM (SELECT * FROM blobs WHERE id > $1 AND id <= $2 ORDER BY id LIMIT {WINDOW}) AS blobs WHERE {condition} ORDER BY id"
        );
        let values = [first.into(), end.into()];
        let candidates = pace.step(1, self.reads.all(&query, values)).await?;
        *after = end;
        granary_failpoint::reach_async("gc::blobs_chosen").await;
        let mut page = self
            .mark_or_remove(pace, candidates, limits, pass_began, Room::Blob)
            .await?;
        page.more = end < i64::MAX;
        Ok(page)
    }

    /// Looks at a window of manifests behind `after`: candidates are those that lost their last tag `age` ago and that
    /// nothing else keeps.
    pub async fn collect_manifests(
        &self,
        after: &mut i64,
        pass_began: i64,
        age: Duration,
        limits: CollectionLimits,
    ) -> Result<CollectedPage, CatalogError> {
        let mut pace = Pace::new(self);
        let (first, end) = (*after, self.window(&mut pace, "manifests", *after).await?);
        let query = format!(
            "SELECT manifests.id, repository_id, r.name AS repository, digest, CAST(LENGTH(payload) AS BIGINT) AS size, candidate_since \
             FROM (SELECT * FROM manifests WHERE id > $1 AND id <= $2 ORDER BY id LIMIT {WINDOW}) AS manifests \
             JOIN repositories r ON r.id = repository_id AND r.removed_at IS NULL \
             WHERE untagged_since < {} - $3 AND {UNKEPT_MANIFEST} ORDER BY manifests.id",
            self.reads.dialect.clock()
        );
        let values = [first.into(), end.into(), micros(age).into()];
        let candidates = pace.step(1, self.reads.all(&query, values)).await?;
        *after = end;
        let room = Room::Manifest { age };
        let mut page = self
            .mark_or_remove(pace, candidates, limits, pass_began, room)
            .await?;
        page.more = end < i64::MAX;
        Ok(page)
    }

    /// The last id of a window behind `after`; the largest number there is if no more rows follow.
    async fn window(
        &self,
        pace: &mut Pace<'_>,
        table: &str,
        after: i64,
    ) -> Result<i64, CatalogError> {
        let bound = format!("SELECT id FROM {table} WHERE id > $1 ORDER BY id LIMIT 1 OFFSET $2");
        let values = [after.into(), signed(WINDOW - 1).into()];
        let row: Option<sql::Id> = pace.step(1, self.reads.one(&bound, values)).await?;
        Ok(row.map_or(i64::MAX, |row| row.id))
    }

    async fn mark_or_remove(
        &self,
        mut pace: Pace<'_>,
        candidates: Vec<Candidate>,
        limits: CollectionLimits,
        pass_began: i64,
        room: Room,
    ) -> Result<CollectedPage, CatalogError> {
        let mut page = CollectedPage {
            seen: candidates.len() as u64,
            ..CollectedPage::default()
        };
        if limits.dry_run {
            page.removed = page.seen;
            page.bytes = candidates
                .iter()
                .map(|candidate| unsigned(candidate.size))
                .sum();
            return Ok(page);
        }
        let (mut ripe, mut fresh): (VecDeque<Candidate>, VecDeque<Candidate>) = candidates
            .into_iter()
            .partition(|one| one.candidate_since.is_some_and(|since| since < pass_began));
        while !fresh.is_empty() {
            let part: Vec<_> = fresh.drain(..fresh.len().min(pace.rows())).collect();
            let mark = self.write(async move |write| room.mark(write, part).await);
            page.marked += pace.step(0, mark).await?;
        }
        while !ripe.is_empty() {
            let rows = room.removed_together(self.reads.dialect, &pace);
            let part: Vec<_> = ripe.drain(..ripe.len().min(rows)).collect();
            let remove = self.write(async move |write| room.remove(write, part, limits).await);
            let removed = pace.step(0, remove).await?;
            page.removed += removed.len() as u64;
            let bytes = removed.iter().map(|one| unsigned(one.size));
            page.bytes += bytes.sum::<u64>();
        }
        Ok(page)
    }

    /// Objects that may be deleted from the store now; none while somebody holds them.
    pub async fn doomed_objects(&self, limit: u64) -> Result<Vec<DoomedObject>, CatalogError> {
        let query = format!(
            "SELECT storage_key, store_state, unfinished FROM doomed_objects WHERE not_before <= {} AND NOT {} ORDER BY not_before LIMIT $1",
            self.reads.dialect.clock(),
            held(self.reads.dialect)
        );
        let rows: Vec<Doomed> = self.reads.all(&query, [signed(limit).into()]).await?;
        let object = |row: Doomed| DoomedObject {
            key: row.storage_key,
            unfinished: row.unfinished.then(|| row.store_state.unwrap_or_default()),
        };
        Ok(rows.into_iter().map(object).collect())
    }

    /// Forgets objects that the store has deleted.
    pub async fn forget_objects(&self, keys: Vec<String>) -> Result<(), CatalogError> {
        self.write(async move |write| {
            for part in keys.chunks(LIST) {
                let names = sql::placeholders(1, part.len());
                let delete = format!("DELETE FROM doomed_objects WHERE storage_key IN ({names})");
                let values = part.iter().map(|key| key.as_str().into());
                sql::execute(&write.transaction, &delete, values).await?;
            }
            Ok(())
        })
        .await
    }

    /// Leaves objects that could not be deleted for later, so that they do not stand before the others.
    pub async fn postpone_objects(
        &self,
        keys: Vec<String>,
        delay: Duration,
    ) -> Result<(), CatalogError> {
        self.write(async move |write| {
            for key in keys {
                let update = "UPDATE doomed_objects SET not_before = $1 WHERE storage_key = $2";
                let values = [(write.now + micros(delay)).into(), key.into()];
                sql::execute(&write.transaction, update, values).await?;
            }
            Ok(())
        })
        .await
    }

    /// Drops up to `limit` moves older than `keep`, but never the newest of a tag, so that where it stands stays
    /// explained; and as many notes of manifests that were removed. Says how many rows went.
    pub async fn trim_tag_history(&self, keep: Duration, limit: u64) -> Result<u64, CatalogError> {
        self.write(async move |write| {
            let moves = "DELETE FROM tag_history WHERE seq IN (SELECT old.seq FROM tag_history old WHERE old.moved_at < $1 \
                         AND EXISTS (SELECT 1 FROM tag_history newer WHERE newer.repository_id = old.repository_id \
                           AND newer.name = old.name AND newer.moved_at > old.moved_at AND newer.moved_at <= $1) \
                         ORDER BY old.moved_at LIMIT $2)";
            let before = write.now - micros(keep);
            let values = || [before.into(), signed(limit).into()];
            let trimmed = sql::execute(&write.transaction, moves, values()).await?;
            let notes = "DELETE FROM removed_manifests WHERE (repository_id, digest) IN \
                         (SELECT repository_id, digest FROM removed_manifests WHERE removed_at < $1 ORDER BY removed_at LIMIT $2)";
            Ok(trimmed + sql::execute(&write.transaction, notes, values()).await?)
        })
        .await
    }
}

#[derive(FromQueryResult)]
struct MembershipKey {
    repository_id: i64,
    id: i64,
}
