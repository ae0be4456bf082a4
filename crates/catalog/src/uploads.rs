//! Upload sessions.

use std::time::Duration;

use bytes::Bytes;
use granary_oci::{Digest, RepositoryName};
use sea_orm::FromQueryResult;

use crate::{
    BlobPlace, Catalog, CatalogError,
    blobs::{add_to_repository, doom, store_blob},
    dialect::micros,
    repositories::create_repository,
    sql::{self, signed, unsigned},
    writer::Write,
};

/// A session to begin.
#[derive(Clone, Debug)]
pub struct NewUpload {
    /// Its unique, unguessable name.
    pub id: String,
    /// Where the blob goes.
    pub repository: RepositoryName,
    /// Who uploads.
    pub principal: String,
    /// The state of a hasher that has seen nothing.
    pub hash_state: Vec<u8>,
    /// The object that will hold the bytes, if it is known already.
    pub storage_key: Option<String>,
    /// Most open sessions of the principal.
    pub limit: u64,
}

/// A session as it was last saved. Everything before `received` is durable.
#[derive(Clone, Debug)]
pub struct StoredUpload {
    /// Who uploads.
    pub principal: String,
    /// Counts take-overs; a save with another epoch is refused.
    pub epoch: i64,
    /// Bytes so far.
    pub received: u64,
    /// The hasher's state at `received`.
    pub hash_state: Vec<u8>,
    /// The object that holds the bytes, once they are too many for `tail`.
    pub storage_key: Option<String>,
    /// What the store keeps between requests.
    pub store_state: Vec<u8>,
    /// The bytes, while they are few; `None` once an object holds them, and before the first.
    pub tail: Option<Bytes>,
    /// The blob it became.
    pub finished: Option<Digest>,
}

/// What to save of a session.
#[derive(Clone, Debug)]
pub struct Progress {
    /// Bytes so far, all durable.
    pub received: u64,
    /// The hasher's state there.
    pub hash_state: Vec<u8>,
    /// The object that holds them, if there is one.
    pub storage_key: Option<String>,
    /// What the store keeps between requests.
    pub store_state: Vec<u8>,
    /// The bytes themselves, if there is no object.
    pub tail: Option<Bytes>,
}

/// A blob whose bytes are durable and match their digest.
#[derive(Clone, Debug)]
pub struct FinishedBlob {
    /// Where it goes.
    pub repository: RepositoryName,
    /// Its digest.
    pub digest: Digest,
    /// Length in bytes.
    pub size: u64,
    /// Where the bytes are.
    pub place: BlobPlace,
    /// How long it is kept though nothing refers to it.
    pub lease: Duration,
}

/// What became of a closing PUT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FinishOutcome {
    /// The blob is stored and the session closed.
    Stored,
    /// Another request took the session over, or it ended.
    Superseded,
}

#[derive(FromQueryResult)]
struct UploadRow {
    principal: String,
    epoch: i64,
    received: i64,
    hash_state: Vec<u8>,
    storage_key: Option<String>,
    store_state: Option<Vec<u8>>,
    tail: Option<Vec<u8>>,
    finished: Option<Vec<u8>>,
}

#[derive(FromQueryResult)]
struct Count {
    number: i64,
}

#[derive(FromQueryResult)]
struct Ended {
    id: String,
    storage_key: Option<String>,
}

impl Catalog {
    /// Begins a session; `false` if the principal has too many open ones.
    pub async fn create_upload(&self, upload: NewUpload) -> Result<bool, CatalogError> {
        self.write(async move |write| {
            let count = "SELECT COUNT(*) AS number FROM uploads WHERE principal = $1 AND finished IS NULL";
            let open: Option<Count> =
                sql::one(&write.transaction, count, [upload.principal.as_str().into()]).await?;
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

    /// The session `id` of `repository`.
    pub async fn upload(
        &self,
        repository: &RepositoryName,
        id: &str,
    ) -> Result<Option<StoredUpload>, CatalogError> {
        let row: Option<UploadRow> = sql::one(
            &self.reads,
            "SELECT principal, epoch, received, hash_state, storage_key, store_state, tail, finished FROM uploads \
             WHERE id = $1 AND repository = $2",
            [id.into(), repository.as_str().into()],
        )
        .await?;
        Ok(row.map(|row| StoredUpload {
            principal: row.principal,
            epoch: row.epoch,
            received: unsigned(row.received),
            hash_state: row.hash_state,
            storage_key: row.storage_key,
            store_state: row.store_state.unwrap_or_default(),
            tail: row.tail.map(Bytes::from),
            finished: row.finished.as_deref().and_then(Digest::from_bytes),
        }))
    }

    /// Takes a session over from a writer that fell silent; its saves are refused from now on.
    pub async fn take_over_upload(&self, id: &str) -> Result<(), CatalogError> {
        let id = id.to_owned();
        self.write(async move |write| {
            let update = "UPDATE uploads SET epoch = epoch + 1, updated_at = $1 WHERE id = $2";
            sql::execute(&write.transaction, update, [write.now.into(), id.into()]).await?;
            Ok(())
        })
        .await
    }

    /// Notes the object that is about to hold a session's bytes, before the first of them is written.
    pub async fn reserve_object(
        &self,
        id: &str,
        epoch: i64,
        key: &str,
    ) -> Result<bool, CatalogError> {
        let (id, key) = (id.to_owned(), key.to_owned());
        self.write(async move |write| {
            let update = "UPDATE uploads SET storage_key = $1, updated_at = $2 WHERE id = $3 AND epoch = $4 AND finished IS NULL";
            let values = [key.into(), write.now.into(), id.into(), epoch.into()];
            Ok(sql::execute(&write.transaction, update, values).await? == 1)
        })
        .await
    }

    /// Saves how far a session got; `false` if it was taken over or ended.
    pub async fn save_upload(
        &self,
        id: &str,
        epoch: i64,
        progress: Progress,
    ) -> Result<bool, CatalogError> {
        let id = id.to_owned();
        self.write(async move |write| {
            let changed = sql::execute(
                &write.transaction,
                "UPDATE uploads SET received = $1, hash_state = $2, storage_key = $3, store_state = $4, tail = $5, updated_at = $6 \
                 WHERE id = $7 AND epoch = $8 AND finished IS NULL",
                [
                    signed(progress.received).into(),
                    progress.hash_state.into(),
                    progress.storage_key.into(),
                    progress.store_state.into(),
                    progress.tail.map(|tail| tail.to_vec()).into(),
                    write.now.into(),
                    id.into(),
                    epoch.into(),
                ],
            )
            .await?;
            Ok(changed == 1)
        })
        .await
    }

    /// Stores a blob that came without a session.
    pub async fn store_blob(&self, blob: FinishedBlob) -> Result<(), CatalogError> {
        self.write(async move |write| store(write, blob).await)
            .await
    }

    /// Stores the blob of session `id` and closes the session.
    pub async fn finish_upload(
        &self,
        id: &str,
        epoch: i64,
        blob: FinishedBlob,
    ) -> Result<FinishOutcome, CatalogError> {
        let id = id.to_owned();
        self.write(async move |write| {
            let close = "UPDATE uploads SET finished = $1, storage_key = NULL, tail = NULL, store_state = NULL, updated_at = $2 \
                         WHERE id = $3 AND epoch = $4 AND finished IS NULL";
            let values = [blob.digest.to_bytes().into(), write.now.into(), id.into(), epoch.into()];
            if sql::execute(&write.transaction, close, values).await? == 0 {
                return Ok(FinishOutcome::Superseded);
            }
            store(write, blob).await?;
            Ok(FinishOutcome::Stored)
        })
        .await
    }

    /// Ends session `id` of `repository` without a blob; `false` if there is none open.
    pub async fn cancel_upload(
        &self,
        repository: &RepositoryName,
        id: &str,
    ) -> Result<bool, CatalogError> {
        let (repository, id) = (repository.clone(), id.to_owned());
        self.write(async move |write| {
            let find = "SELECT id, storage_key FROM uploads WHERE id = $1 AND repository = $2 AND finished IS NULL";
            let ended: Option<Ended> =
                sql::one(&write.transaction, find, [id.into(), repository.as_str().into()]).await?;
            let Some(ended) = ended else { return Ok(false) };
            end(write, ended).await?;
            Ok(true)
        })
        .await
    }

    /// Ends sessions that were idle for `expiry`, and forgets those closed an hour ago. Says how many there were, at
    /// most `limit`; sessions named in `busy` have a writer now and are left alone.
    pub async fn expire_uploads(
        &self,
        expiry: Duration,
        limit: u64,
        busy: Vec<String>,
    ) -> Result<u64, CatalogError> {
        self.write(async move |write| {
            let find = "SELECT id, storage_key FROM uploads WHERE (finished IS NULL AND updated_at < $1) \
                        OR (finished IS NOT NULL AND updated_at < $2) ORDER BY updated_at LIMIT $3";
            let closed = Duration::from_secs(3600);
            let values =
                [(write.now - micros(expiry)).into(), (write.now - micros(closed)).into(), signed(limit).into()];
            let ended: Vec<Ended> = sql::all(&write.transaction, find, values).await?;
            let mut number = 0;
            for session in ended.into_iter().filter(|session| !busy.contains(&session.id)) {
                end(write, session).await?;
                number += 1;
            }
            Ok(number)
        })
        .await
    }

    /// Sessions that are open now.
    pub async fn open_uploads(&self) -> Result<u64, CatalogError> {
        let count = "SELECT COUNT(*) AS number FROM uploads WHERE finished IS NULL";
        let row: Option<Count> = sql::one(&self.reads, count, []).await?;
        Ok(row.map_or(0, |row| unsigned(row.number)))
    }
}

async fn store(write: &mut Write, blob: FinishedBlob) -> Result<(), CatalogError> {
    let id = store_blob(write, &blob.digest, blob.size, &blob.place).await?;
    let repository = create_repository(write, &blob.repository).await?;
    add_to_repository(
        write,
        &blob.repository,
        repository,
        id,
        &blob.digest,
        blob.lease,
    )
    .await
}

async fn end(write: &mut Write, session: Ended) -> Result<(), CatalogError> {
    doom(write, session.storage_key, write.now).await?;
    sql::execute(
        &write.transaction,
        "DELETE FROM uploads WHERE id = $1",
        [session.id.into()],
    )
    .await?;
    Ok(())
}
