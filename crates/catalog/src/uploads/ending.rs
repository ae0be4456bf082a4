//! Sessions that end without a blob, and those that ended long ago.

use std::time::Duration;

use granary_oci::RepositoryName;
use sea_orm::FromQueryResult;

use crate::{
    Catalog, CatalogError,
    blobs::doom_unfinished,
    dialect::micros,
    quota::{self, Reserved},
    sql::{self, signed},
    writer::Write,
};

/// A session that is to be forgotten.
#[derive(FromQueryResult)]
pub(crate) struct Ended {
    pub(crate) id: String,
    repository: String,
    storage_key: Option<String>,
    store_state: Option<Vec<u8>>,
    reserved: i64,
}

/// The columns of an [`Ended`]. What a closed session had reserved was settled.
pub(crate) const COLUMNS: &str = "id, repository, storage_key, store_state, \
     CASE WHEN finished IS NULL THEN reserved ELSE CAST(0 AS BIGINT) END AS reserved";

impl Catalog {
    /// Ends session `id` of `repository` without a blob; `false` if there is none open. Its object goes after `delay`,
    /// when no other process is still writing to it.
    pub async fn cancel_upload(
        &self,
        repository: &RepositoryName,
        id: &str,
        delay: Duration,
    ) -> Result<bool, CatalogError> {
        let (repository, id) = (repository.clone(), id.to_owned());
        self.write(async move |write| {
            let find = format!(
                "SELECT {COLUMNS} FROM uploads WHERE id = $1 AND repository = $2 AND finished IS NULL{}",
                write.dialect.lock("uploads")
            );
            let ended: Option<Ended> =
                sql::one(&write.transaction, &find, [id.into(), repository.as_str().into()]).await?;
            let Some(ended) = ended else { return Ok(false) };
            let (_, reserved) = end(write, [ended], delay).await?;
            quota::give_back(write, reserved).await?;
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
            let find = format!(
                "SELECT {COLUMNS} FROM uploads WHERE (finished IS NULL AND updated_at < $1) \
                 OR (finished IS NOT NULL AND updated_at < $2) ORDER BY updated_at LIMIT $3{}",
                write.dialect.lock_free_ones("uploads")
            );
            let closed = Duration::from_secs(3600);
            let values = [
                (write.now - micros(expiry)).into(),
                (write.now - micros(closed)).into(),
                signed(limit).into(),
            ];
            let ended: Vec<Ended> = sql::all(&write.transaction, &find, values).await?;
            let idle = ended
                .into_iter()
                .filter(|session| !busy.contains(&session.id));
            let (number, reserved) = end(write, idle, Duration::ZERO).await?;
            quota::give_back(write, reserved).await?;
            Ok(number)
        })
        .await
    }
}

/// Forgets sessions, whose rows the caller has locked. Their objects go after `delay`. Says how many they were, and what the
/// caller is to give back as the last it does.
pub(crate) async fn end(
    write: &mut Write,
    sessions: impl IntoIterator<Item = Ended>,
    delay: Duration,
) -> Result<(u64, Reserved), CatalogError> {
    let (mut number, mut reserved) = (0, Reserved::new());
    let not_before = write.now + micros(delay);
    for session in sessions {
        quota::add_reserved(&mut reserved, &session.repository, session.reserved);
        doom_unfinished(write, session.storage_key, session.store_state, not_before).await?;
        // Its unsent bytes go with it, by the foreign key.
        let delete = "DELETE FROM uploads WHERE id = $1";
        sql::execute(&write.transaction, delete, [session.id.into()]).await?;
        number += 1;
    }
    Ok((number, reserved))
}
