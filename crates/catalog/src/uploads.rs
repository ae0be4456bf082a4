//! Upload sessions.

pub(crate) mod ending;

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use granary_access::{Action, Reason};
use granary_oci::{Digest, RepositoryName};
use sea_orm::FromQueryResult;

use crate::{
    Catalog, CatalogError,
    blobs::{add_to_repository, doom_unfinished, store_blob},
    dialect::{Dialect, micros},
    quota,
    repositories::create_repository,
    session::{
        ClaimOutcome, FinishOutcome, FinishedBlob, NewUpload, Progress, StoredUpload,
        UploadStanding,
    },
    sql::{self, signed, unsigned},
    writer::Write,
};

#[derive(FromQueryResult)]
struct UploadRow {
    epoch: i64,
    received: i64,
    hash_state: Vec<u8>,
    storage_key: Option<String>,
    store_state: Option<Vec<u8>>,
    tail: Option<Vec<u8>>,
    unsent: i64,
}

#[derive(FromQueryResult)]
struct Standing {
    principal: String,
    received: i64,
    finished: Option<Vec<u8>>,
}

impl UploadRow {
    fn room(&self) -> BytesMut {
        BytesMut::with_capacity(usize::try_from(self.unsent).unwrap_or(0))
    }

    /// Where in the blob the next of the unsent bytes stand, while some are missing.
    fn missing(&self, unsent: &BytesMut) -> Option<i64> {
        let found = signed(unsent.len() as u64);
        (found < self.unsent).then_some(self.received - self.unsent + found)
    }

    fn add(&self, unsent: &mut BytesMut, row: Option<UnsentRow>) -> Result<(), CatalogError> {
        let row = row.filter(|row| !row.bytes.is_empty());
        let row = row.ok_or_else(|| CatalogError::damaged("upload_tails", "bytes are missing"))?;
        unsent.extend_from_slice(&row.bytes);
        Ok(())
    }

    fn read(self, unsent: Bytes) -> StoredUpload {
        StoredUpload {
            epoch: self.epoch,
            received: unsigned(self.received),
            hash_state: self.hash_state,
            storage_key: self.storage_key,
            store_state: self.store_state.unwrap_or_default(),
            tail: self.tail.map(Bytes::from),
            unsent,
        }
    }
}

const COLUMNS: &str = "epoch, received, hash_state, storage_key, store_state, tail, unsent";

#[derive(FromQueryResult)]
struct UnsentRow {
    bytes: Vec<u8>,
}

#[derive(FromQueryResult)]
struct Heartbeat {
    heartbeat_at: Option<i64>,
}

#[derive(FromQueryResult)]
struct Count {
    number: i64,
}

/// What a session has reserved, and the namespace of which, if what that holds is kept.
#[derive(FromQueryResult)]
struct Saved {
    reserved: i64,
    namespace: Option<i64>,
}

impl Catalog {
    /// Begins a session; `false` if the principal has too many open ones.
    pub async fn create_upload(&self, upload: NewUpload) -> Result<bool, CatalogError> {
        self.write(async move |write| {
            let count = "SELECT COUNT(*) AS number FROM (SELECT 1 FROM uploads WHERE principal = $1 AND finished IS NULL LIMIT $2) found";
            let values = [upload.principal.as_str().into(), signed(upload.limit).into()];
            let open: Option<Count> = sql::one(&write.transaction, count, values).await?;
            if open.is_some_and(|open| unsigned(open.number) >= upload.limit) {
                return Ok(false);
            }
            sql::execute(
                &write.transaction,
                "INSERT INTO uploads (id, repository, principal, epoch, received, hash_state, storage_key, created_at, updated_at) \
                 VALUES ($1, $2, $3, 0, 0, $4, $5, $6, $6)",
                [
                    upload.id.into(),
                    upload.repository.as_str().into(),
                    upload.principal.into(),
                    upload.hash_state.into(),
                    upload.storage_key.into(),
                    write.now.into(),
                ],
            )
            .await?;
            Ok(true)
        })
        .await
    }

    /// Where session `id` of `repository` stands.
    pub async fn upload(
        &self,
        repository: &RepositoryName,
        id: &str,
    ) -> Result<Option<UploadStanding>, CatalogError> {
        let query =
            "SELECT principal, received, finished FROM uploads WHERE id = $1 AND repository = $2";
        let values = [id.into(), repository.as_str().into()];
        let row: Option<Standing> = self.reads.one(query, values).await?;
        Ok(row.map(|row| UploadStanding {
            principal: row.principal,
            received: unsigned(row.received),
            finished: row.finished.as_deref().and_then(Digest::from_bytes),
        }))
    }

    /// The open session `id` of `repository`, to be written to by a process that has the catalog alone. Others
    /// [claim](Self::claim_upload) it.
    pub async fn take_up_upload(
        &self,
        repository: &RepositoryName,
        id: &str,
    ) -> Result<Option<StoredUpload>, CatalogError> {
        let query = format!(
            "SELECT {COLUMNS} FROM uploads WHERE id = $1 AND repository = $2 AND finished IS NULL"
        );
        let values = [id.into(), repository.as_str().into()];
        let row: Option<UploadRow> = self.reads.one(&query, values).await?;
        let Some(row) = row else { return Ok(None) };
        let mut unsent = row.room();
        while let Some(place) = row.missing(&unsent) {
            let values = [id.into(), place.into()];
            row.add(&mut unsent, self.reads.one(UNSENT, values).await?)?;
        }
        Ok(Some(row.read(unsent.freeze())))
    }

    /// Makes the caller the one writer of a session that other processes may write to as well (decision 2).
    ///
    /// A writer that was silent for `silence` is overtaken: its saves are refused from now on.
    pub async fn claim_upload(
        &self,
        repository: &RepositoryName,
        id: &str,
        holder: &str,
        silence: Duration,
    ) -> Result<ClaimOutcome, CatalogError> {
        let (repository, id, holder) = (repository.clone(), id.to_owned(), holder.to_owned());
        self.write(async move |write| {
            let claim = format!(
                "UPDATE uploads SET epoch = epoch + 1, holder = $1, heartbeat_at = $2, updated_at = $2 \
                 WHERE id = $3 AND repository = $4 AND finished IS NULL AND (holder IS NULL OR heartbeat_at <= $5) RETURNING {COLUMNS}"
            );
            let key = || [id.as_str().into(), repository.as_str().into()];
            let values = [holder.as_str().into(), write.now.into()]
                .into_iter()
                .chain(key())
                .chain([(write.now - micros(silence)).into()]);
            let row: Option<UploadRow> = sql::one(&write.transaction, &claim, values).await?;
            if let Some(row) = row {
                let mut unsent = row.room();
                while let Some(place) = row.missing(&unsent) {
                    let values = [id.as_str().into(), place.into()];
                    row.add(&mut unsent, sql::one(&write.transaction, UNSENT, values).await?)?;
                }
                return Ok(ClaimOutcome::Claimed(Box::new(row.read(unsent.freeze()))));
            }
            let find = "SELECT heartbeat_at FROM uploads WHERE id = $1 AND repository = $2 AND finished IS NULL";
            let found: Option<Heartbeat> = sql::one(&write.transaction, find, key()).await?;
            Ok(match found {
                None => ClaimOutcome::Unknown,
                Some(found) => {
                    let until = found.heartbeat_at.unwrap_or(write.now) + micros(silence);
                    let left = unsigned(until - write.now);
                    ClaimOutcome::Busy { retry_after: Duration::from_micros(left) }
                }
            })
        })
        .await
    }

    /// Says that the writer of a session is at work; `false` if it was overtaken or the session ended.
    pub async fn heartbeat_upload(&self, id: &str, epoch: i64) -> Result<bool, CatalogError> {
        let id = id.to_owned();
        self.write(async move |write| {
            let beat = "UPDATE uploads SET heartbeat_at = $1, updated_at = $1 WHERE id = $2 AND epoch = $3 AND finished IS NULL";
            let values = [write.now.into(), id.into(), epoch.into()];
            Ok(sql::execute(&write.transaction, beat, values).await? == 1)
        })
        .await
    }

    /// Ends a claim without saving anything.
    pub async fn release_upload(&self, id: &str, epoch: i64) -> Result<(), CatalogError> {
        let id = id.to_owned();
        self.write(async move |write| {
            let release = "UPDATE uploads SET holder = NULL WHERE id = $1 AND epoch = $2";
            sql::execute(&write.transaction, release, [id.into(), epoch.into()]).await?;
            Ok(())
        })
        .await
    }

    /// Takes a session over from a writer that fell silent; its saves are refused from now on.
    pub async fn take_over_upload(&self, id: &str) -> Result<(), CatalogError> {
        let id = id.to_owned();
        self.write(async move |write| {
            let update = "UPDATE uploads SET epoch = epoch + 1, holder = NULL, updated_at = $1 WHERE id = $2";
            sql::execute(&write.transaction, update, [write.now.into(), id.into()]).await?;
            Ok(())
        })
        .await
    }

    /// Notes the object that is about to hold a session's bytes, before the first of them is written. `former` is one
    /// that an earlier writer may still be writing to, and that holds nothing of worth.
    pub async fn reserve_object(
        &self,
        id: &str,
        epoch: i64,
        key: &str,
        former: Option<String>,
    ) -> Result<bool, CatalogError> {
        let (id, key) = (id.to_owned(), key.to_owned());
        self.write(async move |write| {
            let update = "UPDATE uploads SET storage_key = $1, updated_at = $2 WHERE id = $3 AND epoch = $4 AND finished IS NULL";
            let values = [key.into(), write.now.into(), id.into(), epoch.into()];
            let reserved = sql::execute(&write.transaction, update, values).await? == 1;
            if reserved {
                leave(write, former).await?;
            }
            Ok(reserved)
        })
        .await
    }

    /// Saves how far a session got, and reserves its bytes of the quota of `namespace`, if there is one; `false` if it was
    /// taken over or ended.
    pub async fn save_upload(
        &self,
        id: &str,
        epoch: i64,
        namespace: &str,
        progress: Progress,
    ) -> Result<bool, CatalogError> {
        let (id, namespace) = (id.to_owned(), namespace.to_owned());
        self.write(async move |write| {
            let unsent = progress.unsent;
            let saved: Option<Saved> = sql::one(
                &write.transaction,
                "UPDATE uploads SET received = $1, hash_state = $2, storage_key = $3, store_state = $4, tail = $5, updated_at = $6, \
                   heartbeat_at = $6, unsent = $7, holder = CASE WHEN $8 THEN NULL ELSE holder END \
                 WHERE id = $9 AND epoch = $10 AND finished IS NULL \
                 RETURNING reserved, (SELECT u.namespace_id FROM namespaces n JOIN namespace_usage u ON u.namespace_id = n.id \
                   WHERE n.name = $11) AS namespace",
                [
                    signed(progress.received).into(),
                    progress.hash_state.into(),
                    progress.storage_key.into(),
                    progress.store_state.into(),
                    progress.tail.map(|tail| tail.to_vec()).into(),
                    write.now.into(),
                    signed(unsent.bytes.len() as u64).into(),
                    progress.release.into(),
                    id.as_str().into(),
                    epoch.into(),
                    namespace.into(),
                ],
            )
            .await?;
            let Some(saved) = saved else {
                return Ok(false);
            };
            leave(write, progress.leftover).await?;
            if unsent.replaces {
                forget_unsent(write, &id).await?;
            }
            let fresh = unsent.bytes.slice(unsent.saved..);
            let mut first = progress.received - fresh.len() as u64;
            for bytes in fresh.chunks(UNSENT_ROW) {
                let append = "INSERT INTO upload_tails (upload_id, first, bytes) VALUES ($1, $2, $3)";
                let values = [id.as_str().into(), signed(first).into(), bytes.to_vec().into()];
                sql::execute(&write.transaction, append, values).await?;
                first += bytes.len() as u64;
            }
            reserve(write, &id, saved, signed(progress.received)).await?;
            Ok(true)
        })
        .await
    }

    /// Stores a blob that came without a session.
    pub async fn store_blob(&self, blob: FinishedBlob) -> Result<FinishOutcome, CatalogError> {
        self.write(async move |write| {
            if let Some(reason) = denied(write, &blob).await? {
                return Ok(FinishOutcome::Denied(reason));
            }
            store(write, blob, 0).await?;
            Ok(FinishOutcome::Stored)
        })
        .await
    }

    /// Stores the blob of session `id` and closes the session. `unsent` says whether rows hold the last of its bytes,
    /// `leftover` names an object that the session began and that is not the blob's.
    pub async fn finish_upload(
        &self,
        id: &str,
        epoch: i64,
        blob: FinishedBlob,
        unsent: bool,
        leftover: Option<String>,
    ) -> Result<FinishOutcome, CatalogError> {
        let id = id.to_owned();
        self.write(async move |write| {
            if let Some(reason) = denied(write, &blob).await? {
                return Ok(FinishOutcome::Denied(reason));
            }
            let close = "UPDATE uploads SET finished = $1, storage_key = NULL, tail = NULL, store_state = NULL, unsent = 0, holder = NULL, updated_at = $2 \
                         WHERE id = $3 AND epoch = $4 AND finished IS NULL RETURNING reserved, CAST(NULL AS bigint) AS namespace";
            let values = [blob.digest.to_bytes().into(), write.now.into(), id.as_str().into(), epoch.into()];
            let closed: Option<Saved> = sql::one(&write.transaction, close, values).await?;
            let Some(closed) = closed else {
                return Ok(FinishOutcome::Superseded);
            };
            leave(write, leftover).await?;
            if unsent {
                forget_unsent(write, &id).await?;
            }
            store(write, blob, closed.reserved).await?;
            Ok(FinishOutcome::Stored)
        })
        .await
    }

    /// Sessions that are open now.
    pub async fn open_uploads(&self) -> Result<u64, CatalogError> {
        let count = "SELECT COUNT(*) AS number FROM uploads WHERE finished IS NULL";
        let row: Option<Count> = self.reads.one(count, []).await?;
        Ok(row.map_or(0, |row| unsigned(row.number)))
    }
}

/// Why the blob may not be stored, if it may not.
async fn denied(write: &Write, blob: &FinishedBlob) -> Result<Option<Reason>, CatalogError> {
    let confirmed = blob.asker.confirm(write, &blob.repository).await?;
    Ok(confirmed.denies(Action::Push))
}

/// Reserves the bytes of a session, and gives back those of a body that was refused.
async fn reserve(write: &Write, id: &str, saved: Saved, received: i64) -> Result<(), CatalogError> {
    let Some(namespace) = saved.namespace else {
        return Ok(());
    };
    let more = received - saved.reserved;
    if more != 0 && quota::grow(write, namespace, more).await? {
        let note = "UPDATE uploads SET reserved = $1 WHERE id = $2";
        sql::execute(&write.transaction, note, [received.into(), id.into()]).await?;
    }
    Ok(())
}

async fn store(write: &mut Write, blob: FinishedBlob, reserved: i64) -> Result<(), CatalogError> {
    let id = store_blob(write, &blob.digest, blob.size, &blob.place).await?;
    let repository = create_repository(write, &blob.repository, blob.asker.owner()).await?;
    let row = (repository, id, reserved);
    add_to_repository(write, &blob.repository, row, &blob.digest, blob.lease).await
}

/// Dooms an object that a session leaves behind. Where others share the catalog, an earlier writer may still be at it.
async fn leave(write: &mut Write, key: Option<String>) -> Result<(), CatalogError> {
    let delay = match write.dialect {
        Dialect::Sqlite => Duration::ZERO,
        Dialect::Postgres => LINGER,
    };
    let not_before = write.now + micros(delay);
    doom_unfinished(write, key, None, not_before).await
}

/// Longest that a writer which was overtaken may go on without knowing it.
const LINGER: Duration = Duration::from_secs(60);

const UNSENT: &str = "SELECT bytes FROM upload_tails WHERE upload_id = $1 AND first = $2";

/// Most bytes of a row. A row is in memory several times on its way to the database, and many sessions save at once.
const UNSENT_ROW: usize = 512 * 1024;

async fn forget_unsent(write: &Write, id: &str) -> Result<(), CatalogError> {
    let delete = "DELETE FROM upload_tails WHERE upload_id = $1";
    sql::execute(&write.transaction, delete, [id.into()]).await?;
    Ok(())
}
