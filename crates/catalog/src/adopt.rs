//! Objects that another registry put into our bucket, and objects that are about to become a blob's.
//!
//! A row names the object of another registry by a key that begins with [`FOREIGN`]. Such a row goes like any other; the
//! object stays, because its key never comes among those to be deleted ([`ours`]).
//!
//! Whoever makes an object outside an upload session reserves its key first, as one that is to be deleted later. The
//! transaction that writes the row takes the reservation away, so that a crash in between leaves nothing behind.

use std::time::Duration;

use crate::{
    Catalog, CatalogError, CopyItem, FinishedBlob,
    blobs::{add_to_repository, doom, doom_unfinished, store_blob},
    cache::Touched,
    dialect::micros,
    repositories::create_repository,
    sql,
    writer::Write,
};

/// What the key of another registry's object begins with.
pub const FOREIGN: &str = "foreign:";

/// The key, unless it is that of another registry's object: that one is never deleted (decision 35).
pub(crate) fn ours(key: Option<String>) -> Option<String> {
    key.filter(|key| !key.starts_with(FOREIGN))
}

impl Catalog {
    /// Notes that an object is to be made under `key`, and that it is to be deleted if no row names it `within` that time.
    pub async fn reserve_key(&self, key: String, within: Duration) -> Result<(), CatalogError> {
        self.write(async move |write| {
            let not_before = write.now + micros(within);
            doom_unfinished(write, Some(key), None, not_before).await
        })
        .await
    }

    /// Stores a blob whose object was made under a reserved key; `false` if its time ran out.
    pub async fn store_reserved(&self, blob: FinishedBlob) -> Result<bool, CatalogError> {
        self.write(async move |write| {
            if let Some(key) = blob.place.key()
                && !claim(write, key).await?
            {
                return Ok(false);
            }
            let id = store_blob(write, &blob.digest, blob.size, &blob.place).await?;
            let repository = create_repository(write, &blob.repository, blob.asker.owner()).await?;
            let (name, digest) = (&blob.repository, &blob.digest);
            add_to_repository(write, name, (repository, id, 0), digest, blob.lease).await?;
            Ok(true)
        })
        .await
    }

    /// A page of blobs whose objects belong to another registry and whose names in the bucket begin with `below`: those
    /// behind row `after`.
    pub async fn foreign_blobs(
        &self,
        after: i64,
        below: &str,
        limit: u64,
    ) -> Result<Vec<CopyItem>, CatalogError> {
        let beginning = format!("{FOREIGN}{below}");
        let query = format!(
            "SELECT id, digest, size, storage_key, state FROM blobs WHERE id > $1 AND substr(storage_key, 1, {}) = $2 \
             ORDER BY id LIMIT $3",
            beginning.chars().count()
        );
        let values = [after.into(), beginning.into(), sql::signed(limit).into()];
        self.items(&query, values).await
    }

    /// Has row `id`, which named the object `from`, name `to` from now on, a copy of it under a reserved key. `false` if
    /// the row is gone or names another object, or if the time of the reservation ran out; `to` is deleted then.
    pub async fn take_over(&self, id: i64, from: &str, to: &str) -> Result<bool, CatalogError> {
        let (from, to) = (from.to_owned(), to.to_owned());
        self.write(async move |write| {
            if !claim(write, &to).await? {
                return Ok(false);
            }
            let taken = rename(write, id, &from, &to).await?;
            if !taken {
                doom(write, Some(to), write.now).await?;
            }
            Ok(taken)
        })
        .await
    }

    /// Has rows name other objects than before, each with its number, the former and the new key: for catalogs that
    /// nobody uses yet.
    pub async fn rename_objects(
        &self,
        rows: Vec<(i64, String, String)>,
    ) -> Result<(), CatalogError> {
        self.write(async move |write| {
            for (id, from, to) in &rows {
                rename(write, *id, from, to).await?;
            }
            Ok(())
        })
        .await
    }
}

/// Takes a reservation away whose time has not come; garbage collection does not look at such a one.
async fn claim(write: &Write, key: &str) -> Result<bool, CatalogError> {
    let delete = "DELETE FROM doomed_objects WHERE storage_key = $1 AND not_before > $2";
    let values = [key.into(), write.now.into()];
    Ok(sql::execute(&write.transaction, delete, values).await? == 1)
}

async fn rename(write: &mut Write, id: i64, from: &str, to: &str) -> Result<bool, CatalogError> {
    let update = "UPDATE blobs SET storage_key = $1 WHERE id = $2 AND storage_key = $3";
    let values = [to.into(), id.into(), from.into()];
    let renamed = sql::execute(&write.transaction, update, values).await? == 1;
    write.touch(Touched::Everything);
    Ok(renamed)
}
