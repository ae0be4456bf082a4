//! Blobs and who may read them.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use granary_access::{Action, AnonymousMode, Principal, Reason};
use granary_oci::{Digest, RepositoryName};
use sea_orm::FromQueryResult;

use crate::{
    Asker, Catalog, CatalogError,
    accounts::READABLE,
    adopt::ours,
    cache::Touched,
    dialect::{self, Dialect, micros},
    quota::{self, KEPT, Kept},
    repositories::create_repository,
    sql::{self, Id, unsigned},
    writer::Write,
};

/// Where a blob's bytes are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BlobPlace {
    /// In the catalog, because it is small.
    Inline(Bytes),
    /// In the store, under this key.
    Object(String),
}

impl BlobPlace {
    /// The object's key, if it is in the store.
    pub fn key(&self) -> Option<&str> {
        match self {
            Self::Inline(_) => None,
            Self::Object(key) => Some(key),
        }
    }
}

/// A blob that a repository holds.
#[derive(Clone, Debug)]
pub struct StoredBlob {
    /// Length in bytes.
    pub size: u64,
    /// Where the bytes are.
    pub place: BlobPlace,
    /// Whether a manifest of the repository refers to it.
    pub referenced: bool,
    /// Until when it is kept though nothing refers to it, in microseconds since 1970.
    pub leased_until: i64,
}

impl StoredBlob {
    pub(crate) fn in_memory(&self) -> usize {
        match &self.place {
            BlobPlace::Inline(bytes) => bytes.len(),
            BlobPlace::Object(_) => 0,
        }
    }
}

/// One blob or manifest to re-hash.
#[derive(Clone, Debug)]
pub struct ScrubItem {
    /// Its row, to go on behind.
    pub id: i64,
    /// What it must hash to.
    pub digest: Digest,
    /// Length in bytes.
    pub size: u64,
    /// Where the bytes are.
    pub place: BlobPlace,
    /// Whether it is quarantined now.
    pub quarantined: bool,
}

/// Something whose bytes are checked against a digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScrubKind {
    /// A blob.
    Blob,
    /// A manifest.
    Manifest,
}

pub(crate) const LIVE: i16 = 0;
pub(crate) const QUARANTINED: i16 = 1;

#[derive(FromQueryResult)]
struct BlobRow {
    size: i64,
    storage_key: Option<String>,
    content: Option<Vec<u8>>,
    leased_until: i64,
    clock: i64,
    referenced: bool,
}

#[derive(FromQueryResult)]
struct ScrubRow {
    id: i64,
    digest: Vec<u8>,
    size: i64,
    storage_key: Option<String>,
    content: Option<Vec<u8>>,
    state: i16,
}

#[derive(FromQueryResult)]
struct ExistingBlob {
    id: i64,
    state: i16,
    storage_key: Option<String>,
}

fn place(content: Option<Vec<u8>>, key: Option<String>) -> Result<BlobPlace, CatalogError> {
    match (content, key) {
        (Some(content), _) => Ok(BlobPlace::Inline(content.into())),
        (None, Some(key)) => Ok(BlobPlace::Object(key)),
        (None, None) => Err(CatalogError::damaged(
            "blobs",
            "a row has neither content nor key",
        )),
    }
}

/// What became of a mount.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MountOutcome {
    /// The repository has the blob too.
    Mounted,
    /// No repository that the asker may read has it.
    Missing,
    /// The asker may not push there.
    Denied(Reason),
}

#[derive(FromQueryResult)]
struct Candidate {
    id: i64,
    name: String,
}

/// Most repositories that are looked at for one that is in the scopes of the asker's credential.
const CANDIDATES: usize = 64;

const HELD: &str = "FROM blobs b JOIN repository_blobs rb ON rb.blob_id = b.id \
     JOIN repositories r ON r.id = rb.repository_id JOIN namespaces n ON n.id = r.namespace_id";

/// The blob, if that repository holds it. It is kept until the transaction ends.
async fn held_by(
    write: &Write,
    digest: &Digest,
    from: &RepositoryName,
) -> Result<Option<i64>, CatalogError> {
    let query = format!(
        "SELECT b.id {HELD} WHERE b.digest = $1 AND b.state = 0 AND r.name = $2 LIMIT 1{}",
        write.dialect.keep("b")
    );
    let values = [digest.to_bytes().into(), from.as_str().into()];
    let row: Option<Id> = sql::one(&write.transaction, &query, values).await?;
    Ok(row.map(|row| row.id))
}

/// The same of any repository that `reader` may read.
async fn held_by_any(
    write: &Write,
    digest: &Digest,
    reader: &Asker,
) -> Result<Option<i64>, CatalogError> {
    let (condition, who) = match &reader.principal {
        // The parameters are named, so that there are as many in each form.
        Principal::Local | Principal::Operator => ("$1 = $1 AND $2 = $2", 0),
        Principal::Anonymous if reader.anonymous == AnonymousMode::None => return Ok(None),
        Principal::Anonymous => ("$1 = $1 AND $2 = $2 AND r.visibility = 2", 0),
        Principal::Known { id, .. } => (READABLE, id.0),
    };
    let query = format!(
        "SELECT b.id, r.name {HELD} WHERE b.digest = $3 AND b.state = 0 AND r.removed_at IS NULL AND {condition} \
         LIMIT {CANDIDATES}{}",
        write.dialect.keep("b")
    );
    let values = [who.into(), write.now.into(), digest.to_bytes().into()];
    let rows: Vec<Candidate> = sql::all(&write.transaction, &query, values).await?;
    for row in rows {
        let name: RepositoryName = row
            .name
            .parse()
            .map_err(|error| CatalogError::damaged("repositories", error))?;
        // The statement knows nothing of scopes and addresses.
        let confirmed = reader.confirm(write, &name).await?;
        if confirmed.denies(Action::Read).is_none() {
            return Ok(Some(row.id));
        }
    }
    Ok(None)
}

impl Catalog {
    /// The blob `digest`, if `repository` holds it and its bytes are good.
    pub async fn blob(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<Option<Arc<StoredBlob>>, CatalogError> {
        let cache = self.memory.exact();
        if let Some(blob) = cache.and_then(|cache| cache.blob(repository, digest)) {
            return Ok(Some(blob));
        }
        let watch = cache.map(|cache| cache.watch(repository));
        let bytes = self.memory.bytes(digest).await;
        // Leases are the database's time (decision 20); what is handed out is this process's. On SQLite they are the same.
        let clock = match self.reads.dialect {
            Dialect::Sqlite => "CAST(0 AS BIGINT)".to_owned(),
            shared => shared.clock(),
        };
        let query = format!(
            "SELECT b.size, b.storage_key, CASE WHEN $3 THEN NULL ELSE b.content END AS content, rb.leased_until, {clock} AS clock, EXISTS (SELECT 1 FROM manifest_edges e \
               WHERE e.repository_id = rb.repository_id AND e.blob_id = rb.blob_id) AS referenced \
             FROM repositories r JOIN repository_blobs rb ON rb.repository_id = r.id JOIN blobs b ON b.id = rb.blob_id \
             WHERE r.name = $1 AND b.digest = $2 AND b.state = 0"
        );
        let values = [
            repository.as_str().into(),
            digest.to_bytes().into(),
            bytes.is_some().into(),
        ];
        let row: Option<BlobRow> = self.reads.one(&query, values).await?;
        let Some(row) = row else { return Ok(None) };
        let place = match (bytes, row.storage_key) {
            (Some(bytes), None) => BlobPlace::Inline(bytes),
            (_, key) => place(row.content, key)?,
        };
        if let BlobPlace::Inline(bytes) = &place {
            self.memory.keep(digest, bytes);
        }
        let blob = Arc::new(StoredBlob {
            size: unsigned(row.size),
            place,
            referenced: row.referenced,
            leased_until: match row.clock {
                0 => row.leased_until,
                clock => row.leased_until - clock + dialect::now(),
            },
        });
        if let (Some(cache), Some(watch)) = (cache, watch) {
            cache.store_blob(watch, repository, digest, &blob);
        }
        Ok(Some(blob))
    }

    /// Keeps an unreferenced blob of `repository` for another `lease`.
    pub async fn renew_lease(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
        lease: Duration,
    ) -> Result<(), CatalogError> {
        let (repository, digest) = (repository.clone(), *digest);
        self.write(async move |write| {
            sql::execute(
                &write.transaction,
                "UPDATE repository_blobs SET leased_until = $1, candidate_since = NULL \
                 WHERE repository_id = (SELECT id FROM repositories WHERE name = $2) \
                   AND blob_id = (SELECT id FROM blobs WHERE digest = $3)",
                [
                    (write.now + micros(lease)).into(),
                    repository.as_str().into(),
                    digest.to_bytes().into(),
                ],
            )
            .await?;
            write.touch(Touched::Blob(repository, digest));
            Ok(())
        })
        .await
    }

    /// Makes a blob of `from` one of `to` too; without `from`, of any repository that the asker may read (decision 25).
    pub async fn mount(
        &self,
        to: &RepositoryName,
        from: Option<&RepositoryName>,
        digest: &Digest,
        lease: Duration,
        asker: &Asker,
    ) -> Result<MountOutcome, CatalogError> {
        let (to, from, digest, asker) = (to.clone(), from.cloned(), *digest, asker.clone());
        self.write(async move |write| {
            if let Some(reason) = asker.confirm(write, &to).await?.denies(Action::Push) {
                return Ok(MountOutcome::Denied(reason));
            }
            // Who reads by which token does not matter for where bytes come from; who he is and what he narrowed does.
            let reader = Asker {
                principal: asker.principal.without_token(),
                ..asker.clone()
            };
            let blob = match &from {
                Some(from)
                    if reader
                        .confirm(write, from)
                        .await?
                        .denies(Action::Read)
                        .is_some() =>
                {
                    None
                }
                Some(from) => held_by(write, &digest, from).await?,
                None => held_by_any(write, &digest, &reader).await?,
            };
            let Some(blob) = blob else {
                return Ok(MountOutcome::Missing);
            };
            let repository = create_repository(write, &to, asker.owner()).await?;
            let row = (repository, blob, 0);
            add_to_repository(write, &to, row, &digest, lease).await?;
            Ok(MountOutcome::Mounted)
        })
        .await
    }

    /// Whether any blob lies in the store, and not in the catalog itself.
    pub async fn names_objects(&self) -> Result<bool, CatalogError> {
        let query = "SELECT id FROM blobs WHERE storage_key IS NOT NULL LIMIT 1";
        Ok(self.reads.one::<sql::Id>(query, []).await?.is_some())
    }

    /// Whether any repository, or none any more, has this blob. Says nothing about who may read it.
    pub async fn has_blob(&self, digest: &Digest) -> Result<bool, CatalogError> {
        let query = "SELECT id FROM blobs WHERE digest = $1";
        let row: Option<sql::Id> = self.reads.one(query, [digest.to_bytes().into()]).await?;
        Ok(row.is_some())
    }

    /// A page of blobs or manifests to re-hash, those behind row `after`, quarantined ones among them: up to `limit`, and
    /// no more than are light enough to be held at once.
    pub async fn scrub_page(
        &self,
        kind: ScrubKind,
        after: i64,
        limit: u64,
    ) -> Result<Vec<ScrubItem>, CatalogError> {
        let query = match kind {
            ScrubKind::Blob => {
                "SELECT id, digest, size, storage_key, content, state FROM blobs WHERE id > $1 ORDER BY id LIMIT $2"
            }
            ScrubKind::Manifest => {
                "SELECT id, digest, CAST(LENGTH(payload) AS BIGINT) AS size, NULL AS storage_key, payload AS content, state \
                 FROM manifests WHERE id > $1 ORDER BY id LIMIT $2"
            }
        };
        let weigh = match kind {
            ScrubKind::Blob => {
                "SELECT CAST(COALESCE(LENGTH(content), 0) AS BIGINT) AS weight FROM blobs WHERE id > $1 ORDER BY id LIMIT $2"
            }
            ScrubKind::Manifest => {
                "SELECT CAST(LENGTH(payload) AS BIGINT) AS weight FROM manifests WHERE id > $1 ORDER BY id LIMIT $2"
            }
        };
        let values = [after.into(), sql::signed(limit).into()];
        let weights = self.reads.all::<sql::Weight>(weigh, values).await?;
        let light = sql::rows_that_fit(&weights);
        let values = [after.into(), sql::signed(light).into()];
        let rows: Vec<ScrubRow> = self.reads.all(query, values).await?;
        let item = |row: ScrubRow| {
            let digest = Digest::from_bytes(&row.digest)
                .ok_or_else(|| CatalogError::damaged("blobs", "digest"))?;
            let place = place(row.content, row.storage_key)?;
            let quarantined = row.state == QUARANTINED;
            Ok(ScrubItem {
                id: row.id,
                digest,
                size: unsigned(row.size),
                place,
                quarantined,
            })
        };
        rows.into_iter().map(item).collect()
    }

    /// Stops serving what no longer matches its digest, until a push repairs it, or serves it again. Without effect if
    /// the row no longer names the object `key`: a push may have repaired it meanwhile. Says whether it took effect.
    pub async fn set_quarantine(
        &self,
        kind: ScrubKind,
        id: i64,
        key: Option<&str>,
        quarantined: bool,
    ) -> Result<bool, CatalogError> {
        let mut update = match kind {
            ScrubKind::Blob => "UPDATE blobs SET state = $1 WHERE id = $2 AND state = $3",
            ScrubKind::Manifest => "UPDATE manifests SET state = $1 WHERE id = $2 AND state = $3",
        }
        .to_owned();
        let (state, before) = match quarantined {
            true => (QUARANTINED, LIVE),
            false => (LIVE, QUARANTINED),
        };
        let mut values = vec![state.into(), id.into(), before.into()];
        if let Some(key) = key {
            update.push_str(" AND storage_key = $4");
            values.push(key.into());
        }
        self.write(async move |write| {
            let changed = sql::execute(&write.transaction, &update, values).await?;
            write.touch(Touched::Everything);
            Ok(changed > 0)
        })
        .await
    }

    /// Stops serving the blob whose object is `key`.
    pub async fn quarantine_object(&self, key: &str) -> Result<(), CatalogError> {
        let key = key.to_owned();
        self.write(async move |write| {
            sql::execute(
                &write.transaction,
                "UPDATE blobs SET state = 1 WHERE storage_key = $1",
                [key.into()],
            )
            .await?;
            write.touch(Touched::Everything);
            Ok(())
        })
        .await
    }
}

/// Adds a blob that was verified, or repairs the one that is there. An object nobody needs is doomed.
pub(crate) async fn store_blob(
    write: &mut Write,
    digest: &Digest,
    size: u64,
    place: &BlobPlace,
) -> Result<i64, CatalogError> {
    let (key, content) = match place {
        BlobPlace::Inline(bytes) => (None, Some(bytes.to_vec())),
        BlobPlace::Object(key) => (Some(key.clone()), None),
    };
    let size = sql::signed(size);
    let existing = match find_blob(write, digest).await? {
        Some(existing) => existing,
        None => {
            let inserted: Option<Id> = sql::one(
                &write.transaction,
                "INSERT INTO blobs (digest, size, storage_key, content, state, created_at) VALUES ($1, $2, $3, $4, 0, $5) \
                 ON CONFLICT (digest) DO NOTHING RETURNING id",
                [digest.to_bytes().into(), size.into(), key.clone().into(), content.clone().into(), write.now.into()],
            )
            .await?;
            if let Some(row) = inserted {
                return Ok(row.id);
            }
            // Another process was faster, and its row may be seen now.
            find_blob(write, digest)
                .await?
                .ok_or_else(|| CatalogError::damaged("blobs", "a row just written is missing"))?
        }
    };
    if existing.state == QUARANTINED {
        let repair = "UPDATE blobs SET state = $1, storage_key = $2, content = $3, size = $4, candidate_since = NULL WHERE id = $5 AND state = $6";
        let values = [
            LIVE.into(),
            key.clone().into(),
            content.into(),
            size.into(),
            existing.id.into(),
            QUARANTINED.into(),
        ];
        let repaired = sql::execute(&write.transaction, repair, values).await? == 1;
        write.touch(Touched::Everything);
        // Another push may have repaired it in the meantime; then this one's object is the spare one.
        let spare = if repaired { existing.storage_key } else { key };
        doom(write, spare, write.now).await?;
    } else {
        doom(write, key, write.now).await?;
    }
    Ok(existing.id)
}

/// The blob's row, kept from being collected until the transaction ends.
async fn find_blob(write: &Write, digest: &Digest) -> Result<Option<ExistingBlob>, CatalogError> {
    let find = format!(
        "SELECT id, state, storage_key FROM blobs WHERE digest = $1{}",
        write.dialect.keep("blobs")
    );
    sql::one(&write.transaction, &find, [digest.to_bytes().into()]).await
}

/// Notes that an object is to be deleted from the store, if it is ours.
pub(crate) async fn doom(
    write: &mut Write,
    key: Option<String>,
    not_before: i64,
) -> Result<(), CatalogError> {
    doom_all(write, key.into_iter().collect(), not_before).await
}

/// Notes that objects are to be deleted from the store.
pub(crate) async fn doom_all(
    write: &mut Write,
    keys: Vec<String>,
    not_before: i64,
) -> Result<(), CatalogError> {
    let keys: Vec<String> = keys.into_iter().filter_map(|key| ours(Some(key))).collect();
    for part in keys.chunks(sql::LIST) {
        let rows: Vec<String> = (2..part.len() + 2)
            .map(|key| format!("(${key}, $1)"))
            .collect();
        let insert = format!(
            "INSERT INTO doomed_objects (storage_key, not_before) VALUES {} ON CONFLICT (storage_key) DO NOTHING",
            rows.join(", ")
        );
        let values = part.iter().map(|key| key.as_str().into());
        let values = std::iter::once(not_before.into()).chain(values);
        sql::execute(&write.transaction, &insert, values).await?;
    }
    Ok(())
}

/// Notes that an object that was never finished is to be removed, with what the store noted about it.
pub(crate) async fn doom_unfinished(
    write: &mut Write,
    key: Option<String>,
    store_state: Option<Vec<u8>>,
    not_before: i64,
) -> Result<(), CatalogError> {
    let Some(key) = ours(key) else { return Ok(()) };
    let insert = "INSERT INTO doomed_objects (storage_key, not_before, store_state, unfinished) VALUES ($1, $2, $3, $4) \
                  ON CONFLICT (storage_key) DO NOTHING";
    let values = [
        key.into(),
        not_before.into(),
        store_state.into(),
        true.into(),
    ];
    sql::execute(&write.transaction, insert, values).await?;
    Ok(())
}

/// Lets a repository read a blob, leases it, and joins it to manifests that were pushed before it. A quota of its namespace is
/// settled, where so many bytes were reserved for the blob.
pub(crate) async fn add_to_repository(
    write: &mut Write,
    name: &RepositoryName,
    (repository, blob, reserved): (i64, i64, i64),
    digest: &Digest,
    lease: Duration,
) -> Result<(), CatalogError> {
    let upsert = format!(
        "INSERT INTO repository_blobs (repository_id, blob_id, leased_until) VALUES ($1, $2, $3) \
         ON CONFLICT (repository_id, blob_id) DO UPDATE SET candidate_since = NULL, \
         leased_until = CASE WHEN excluded.leased_until > repository_blobs.leased_until THEN excluded.leased_until ELSE repository_blobs.leased_until END \
         RETURNING {KEPT} AS namespace"
    );
    let values = [
        repository.into(),
        blob.into(),
        (write.now + micros(lease)).into(),
    ];
    let kept: Option<Kept> = sql::one(&write.transaction, &upsert, values).await?;
    join_edges(write, repository, blob, &digest.to_bytes()).await?;
    sql::execute(
        &write.transaction,
        "UPDATE blobs SET candidate_since = NULL WHERE id = $1 AND candidate_since IS NOT NULL",
        [blob.into()],
    )
    .await?;
    if let Some(namespace) = kept.and_then(|kept| kept.namespace) {
        quota::add_blob(write, namespace, blob, reserved).await?;
    }
    write.touch(Touched::Blob(name.clone(), *digest));
    Ok(())
}

/// Notes in edges that were written before the repository had the blob that it has it now.
///
/// Repeated before a membership is removed: on PostgreSQL neither of two transactions that add the blob and the edge at
/// the same time sees the other's row.
pub(crate) async fn join_edges(
    write: &Write,
    repository: i64,
    blob: i64,
    digest: &[u8],
) -> Result<(), CatalogError> {
    let join = "UPDATE manifest_edges SET blob_id = $1 WHERE repository_id = $2 AND digest = $3 AND blob_id IS NULL";
    let values = [blob.into(), repository.into(), digest.to_vec().into()];
    sql::execute(&write.transaction, join, values).await?;
    Ok(())
}
