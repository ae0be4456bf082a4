//! What processes that share a catalog agree on: whose work it is, and who is alive.

use std::time::Duration;

use sea_orm::{DatabaseConnection, FromQueryResult};

use crate::{
    Catalog, CatalogError,
    dialect::{Dialect, micros},
    schema, sql,
    writer::Write,
};

/// A process that serves from this catalog.
#[derive(Clone, Debug, PartialEq, Eq, FromQueryResult)]
pub struct Replica {
    /// Its unique name.
    pub id: String,
    /// Its version.
    pub version: String,
    /// The newest schema release it knows.
    pub release: i64,
    /// When it began, in microseconds since 1970.
    pub started_at: i64,
    /// When it was last heard of.
    pub heartbeat_at: i64,
}

/// Silence after which a replica counts as gone.
pub(crate) const GONE: Duration = Duration::from_secs(60);

impl Catalog {
    /// Takes the lease `name` for `holder`, or prolongs it; `false` while another holder has it.
    pub async fn lease(
        &self,
        name: &'static str,
        holder: &str,
        lifetime: Duration,
    ) -> Result<bool, CatalogError> {
        let holder = holder.to_owned();
        self.write(async move |write| {
            let take = "INSERT INTO leases (name, holder, until) VALUES ($1, $2, $3) ON CONFLICT (name) DO UPDATE \
                        SET holder = excluded.holder, until = excluded.until WHERE leases.holder = excluded.holder OR leases.until < $4";
            let until = write.now + micros(lifetime);
            let values = [name.into(), holder.into(), until.into(), write.now.into()];
            Ok(sql::execute(&write.transaction, take, values).await? == 1)
        })
        .await
    }

    /// Gives the lease `name` back, if `holder` has it.
    pub async fn release(&self, name: &'static str, holder: &str) -> Result<(), CatalogError> {
        let holder = holder.to_owned();
        self.write(async move |write| {
            let delete = "DELETE FROM leases WHERE name = $1 AND holder = $2";
            sql::execute(&write.transaction, delete, [name.into(), holder.into()]).await?;
            Ok(())
        })
        .await
    }

    /// Says that the process `id` is alive, and forgets those that were silent for a day.
    pub async fn beat(&self, id: &str, version: &'static str) -> Result<(), CatalogError> {
        let id = id.to_owned();
        self.write(async move |write| {
            let beat = "INSERT INTO replicas (id, version, release, started_at, heartbeat_at) VALUES ($1, $2, $3, $4, $4) \
                        ON CONFLICT (id) DO UPDATE SET heartbeat_at = excluded.heartbeat_at";
            let values = [id.into(), version.into(), granary_migrations::RELEASE.into(), write.now.into()];
            sql::execute(&write.transaction, beat, values).await?;
            let forget = "DELETE FROM replicas WHERE heartbeat_at < $1";
            let day = micros(Duration::from_secs(24 * 3600));
            sql::execute(&write.transaction, forget, [(write.now - day).into()]).await?;
            Ok(())
        })
        .await
    }

    /// Says that the process `id` ends.
    pub async fn leave(&self, id: &str) -> Result<(), CatalogError> {
        let id = id.to_owned();
        self.write(async move |write| {
            let delete = "DELETE FROM replicas WHERE id = $1";
            sql::execute(&write.transaction, delete, [id.into()]).await?;
            Ok(())
        })
        .await
    }

    /// The version of a process that serves from the catalog and knows no accounts, if there is one.
    pub async fn replica_without_accounts(&self) -> Result<Option<String>, CatalogError> {
        let since = self.now().await? - micros(GONE);
        let values = [granary_migrations::KNOWS_ACCOUNTS.into(), since.into()];
        let found: Option<Older> = self.reads.one(OLDER, values).await?;
        Ok(found.map(|older| older.version))
    }

    /// The processes that were heard of within the last minute, oldest first.
    pub async fn replicas(&self) -> Result<Vec<Replica>, CatalogError> {
        live(&self.reads.connection, self.reads.dialect).await
    }
}

/// A process that was heard of lately and knows no schema release from `$1` on.
const OLDER: &str =
    "SELECT version FROM replicas WHERE release < $1 AND heartbeat_at >= $2 ORDER BY id LIMIT 1";

#[derive(FromQueryResult)]
struct Older {
    version: String,
}

/// The version of a process that was heard of lately and knows no schema release from `release` on, if there is one.
pub(crate) async fn older_replica(
    write: &Write,
    release: i64,
) -> Result<Option<String>, CatalogError> {
    let values = [release.into(), (write.now - micros(GONE)).into()];
    let found: Option<Older> = sql::one(&write.transaction, OLDER, values).await?;
    Ok(found.map(|older| older.version))
}

/// Refuses a change that such a process would spoil.
pub(crate) async fn refuse_beside_older(write: &Write, release: i64) -> Result<(), CatalogError> {
    match older_replica(write, release).await? {
        Some(version) => Err(CatalogError::OlderReplica(version)),
        None => Ok(()),
    }
}

/// The processes that were heard of within the last minute, in a database that need not be of this version's schema: where nobody is noted, nobody is known.
pub async fn live_replicas(url: &str) -> Result<Vec<Replica>, CatalogError> {
    let (connection, dialect) = schema::look(url).await?;
    let found = if schema::has_table(&connection, dialect, "replicas").await? {
        live(&connection, dialect).await
    } else {
        Ok(Vec::new())
    };
    connection.close().await?;
    found
}

async fn live(
    connection: &DatabaseConnection,
    dialect: Dialect,
) -> Result<Vec<Replica>, CatalogError> {
    let query = format!(
        "SELECT id, version, release, started_at, heartbeat_at FROM replicas WHERE heartbeat_at >= {} - $1 ORDER BY started_at, id",
        dialect.clock()
    );
    sql::all(connection, &query, [micros(GONE).into()]).await
}
