//! Bringing a database to the schema that this version needs (decision 21).

use std::time::Duration;

use granary_migrations::{Migrator, RELEASE};
use sea_orm::{ConnectionTrait, Database, DatabaseConnection, FromQueryResult};
use sea_orm_migration::MigratorTrait;

use crate::{
    CatalogError,
    dialect::{self, Dialect},
    reach::reach_postgres,
    sql,
};

/// The schema release that this version brings a database to.
pub fn schema_release() -> i64 {
    RELEASE
}

/// Where a database's schema stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SchemaStatus {
    /// The release that the database notes; 0 for an empty one.
    pub release: i64,
    /// The newest release that this version knows.
    pub known: i64,
    /// Changes that this version knows and the database lacks, in order.
    pub pending: Vec<String>,
    /// Changes that were applied and that this version does not know.
    pub unknown: Vec<String>,
}

impl SchemaStatus {
    /// Whether this version can work with the database, possibly after applying what is pending.
    pub fn is_usable(&self) -> bool {
        self.release <= self.known + 1
    }
}

#[derive(FromQueryResult)]
struct Applied {
    version: String,
}

#[derive(FromQueryResult)]
struct Setting {
    value: String,
}

/// Only one process at a time migrates; any number that no other part of Granary uses.
const MIGRATION_LOCK: i64 = 0x6772_616e_6172_7901;

/// How long a server that is away is waited for where nobody decided to wait longer.
const MOMENT: Duration = Duration::from_secs(3);

/// Reads where the schema of `url` stands, and changes nothing.
pub async fn schema_status(url: &str) -> Result<SchemaStatus, CatalogError> {
    let (connection, dialect) = look(url).await?;
    let found = status(&connection, dialect).await;
    connection.close().await?;
    found
}

/// Applies what is pending at `url`, as `serve` does when it starts.
pub async fn schema_up(url: &str) -> Result<SchemaStatus, CatalogError> {
    let (connection, dialect) = look(url).await?;
    match dialect {
        Dialect::Postgres => prepare_shared(url).await?,
        Dialect::Sqlite => prepare(&connection, dialect).await?,
    }
    let found = status(&connection, dialect).await;
    connection.close().await?;
    found
}

/// One connection to `url`.
pub(crate) async fn look(url: &str) -> Result<(DatabaseConnection, Dialect), CatalogError> {
    let (options, dialect) = if url.starts_with("postgres") {
        reach_postgres(url, MOMENT).await?;
        (dialect::postgres_options(url, 1), Dialect::Postgres)
    } else {
        (dialect::sqlite_options(url, 1), Dialect::Sqlite)
    };
    Ok((Database::connect(options).await?, dialect))
}

/// Migrates a PostgreSQL database, one process at a time.
pub(crate) async fn prepare_shared(url: &str) -> Result<(), CatalogError> {
    reach_postgres(url, MOMENT).await?;
    // One connection, so that the lock is held by the connection that migrates and goes with it.
    let connection = Database::connect(dialect::postgres_options(url, 1)).await?;
    // Another process may take long to migrate, and a change of a large table as well.
    let patient = "SET lock_timeout = '600s'; SET statement_timeout = 0";
    connection.execute_unprepared(patient).await?;
    let lock = format!("SELECT pg_advisory_lock({MIGRATION_LOCK})");
    connection.execute_unprepared(&lock).await?;
    let prepared = match durable(&connection).await {
        Ok(()) => prepare(&connection, Dialect::Postgres).await,
        refused => refused,
    };
    connection.close().await?;
    prepared
}

/// A commit that the server answers before it is on the disk, its own and that of a synchronous standby, would be
/// acknowledged to clients and then lost.
async fn durable(connection: &DatabaseConnection) -> Result<(), CatalogError> {
    let query = "SELECT setting AS value FROM pg_settings WHERE name = 'synchronous_commit'";
    let found: Option<Setting> = sql::one(connection, query, []).await?;
    let Some(found) = found.filter(|found| matches!(found.value.as_str(), "off" | "local")) else {
        return Ok(());
    };
    Err(CatalogError::Schema(format!(
        "synchronous_commit is {} for this database or user: set it to on, or what Granary acknowledged can be lost",
        found.value
    )))
}

/// Applies what is pending, unless the database is ahead of this version.
pub(crate) async fn prepare(
    connection: &DatabaseConnection,
    dialect: Dialect,
) -> Result<(), CatalogError> {
    let found = status(connection, dialect).await?;
    if !found.is_usable() {
        return Err(CatalogError::Schema(format!(
            "the database has schema release {}, and this version of granary works with releases up to {}: run a newer version",
            found.release,
            found.known + 1
        )));
    }
    if !found.unknown.is_empty() {
        // A newer process migrated it and left it usable for this one. The migrator would fail on what it does not know.
        tracing::info!(
            release = found.release,
            "the database is one release ahead of this process"
        );
        return Ok(());
    }
    if !found.pending.is_empty() {
        Migrator::up(connection, None).await?;
    }
    let note = "INSERT INTO settings (name, value) VALUES ('schema-release', $1) ON CONFLICT (name) DO UPDATE SET value = excluded.value";
    if found.release < RELEASE {
        sql::execute(connection, note, [RELEASE.to_string().into()]).await?;
    }
    Ok(())
}

pub(crate) async fn status(
    connection: &DatabaseConnection,
    dialect: Dialect,
) -> Result<SchemaStatus, CatalogError> {
    let names: Vec<String> = Migrator::migrations()
        .iter()
        .map(|migration| migration.name().to_owned())
        .collect();
    let applied = applied(connection, dialect).await?;
    let release = if applied.is_empty() {
        0
    } else {
        let query = "SELECT value FROM settings WHERE name = 'schema-release'";
        let row: Option<Setting> = sql::one(connection, query, []).await?;
        // The first release did not note itself.
        row.and_then(|row| row.value.parse().ok()).unwrap_or(1)
    };
    let pending = names
        .iter()
        .filter(|name| !applied.contains(name))
        .cloned()
        .collect();
    let unknown = applied
        .iter()
        .filter(|name| !names.contains(name))
        .cloned()
        .collect();
    Ok(SchemaStatus {
        release,
        known: RELEASE,
        pending,
        unknown,
    })
}

async fn applied(
    connection: &DatabaseConnection,
    dialect: Dialect,
) -> Result<Vec<String>, CatalogError> {
    if !has_table(connection, dialect, "seaql_migrations").await? {
        return Ok(Vec::new());
    }
    let query = "SELECT version FROM seaql_migrations ORDER BY version";
    let rows: Vec<Applied> = sql::all(connection, query, []).await?;
    Ok(rows.into_iter().map(|row| row.version).collect())
}

/// Whether the database has a table of that name.
pub(crate) async fn has_table(
    connection: &DatabaseConnection,
    dialect: Dialect,
    name: &str,
) -> Result<bool, CatalogError> {
    let query = match dialect {
        Dialect::Sqlite => {
            "SELECT name AS version FROM sqlite_master WHERE type = 'table' AND name = $1"
        }
        Dialect::Postgres => {
            "SELECT table_name::text AS version FROM information_schema.tables \
             WHERE table_schema = current_schema() AND table_name = $1"
        }
    };
    let found: Option<Applied> = sql::one(connection, query, [name.into()]).await?;
    Ok(found.is_some())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::Catalog;

    fn url(path: &Path) -> String {
        format!("sqlite://{}?mode=rwc", path.display())
    }

    const NEWER: [&str; 2] = ["m0003_accounts", "m0004_trail_and_doors"];

    /// Makes the database of the second release, as that left it.
    async fn second(path: &Path) {
        let (connection, _) = look(&url(path)).await.unwrap();
        Migrator::up(&connection, Some(2)).await.unwrap();
        for statement in [
            "INSERT INTO settings (name, value) VALUES ('schema-release', '2')",
            "INSERT INTO namespaces (id, name, created_at) VALUES (7, 'a', 1)",
            "INSERT INTO repositories (id, namespace_id, name, created_at, listed) VALUES (9, 7, 'a/b', 1, TRUE)",
        ] {
            connection.execute_unprepared(statement).await.unwrap();
        }
        connection.close().await.unwrap();
    }

    #[tokio::test]
    async fn a_database_of_the_release_before_is_brought_up() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("catalog.db");
        second(&path).await;
        let before = schema_status(&url(&path)).await.unwrap();
        assert_eq!(
            (before.release, before.pending.as_slice()),
            (2, &NEWER.map(str::to_owned)[..])
        );
        let catalog = Catalog::open_sqlite(&path).await.unwrap();
        assert_eq!(catalog.repositories("", 9).await.unwrap(), ["a/b"]);
        let private = "SELECT r.id FROM repositories r JOIN namespaces n ON n.id = r.namespace_id \
                       WHERE r.visibility = 1 AND n.owner_id IS NULL";
        let found: Option<sql::Id> = catalog.reads.one(private, []).await.unwrap();
        assert_eq!(found.map(|row| row.id), Some(9));
        catalog.close().await;
        let after = schema_status(&url(&path)).await.unwrap();
        assert_eq!((after.release, after.known), (5, 5));
        assert!(after.pending.is_empty() && after.unknown.is_empty());
    }

    #[tokio::test]
    async fn a_change_that_was_cut_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("catalog.db");
        second(&path).await;
        let (connection, _) = look(&url(&path)).await.unwrap();
        // The last that the last change makes.
        let obstacle = "CREATE TABLE repositories_removed (id integer)";
        connection.execute_unprepared(obstacle).await.unwrap();
        assert!(Migrator::up(&connection, None).await.is_err());
        let away = "DROP TABLE repositories_removed";
        connection.execute_unprepared(away).await.unwrap();
        connection.close().await.unwrap();
        assert_eq!(schema_up(&url(&path)).await.unwrap().release, 5);
    }

    #[tokio::test]
    async fn a_database_may_be_one_release_ahead() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("catalog.db");
        schema_up(&url(&path)).await.unwrap();
        for (release, opens) in [(5, true), (6, true), (7, false)] {
            let (connection, _) = look(&url(&path)).await.unwrap();
            let note =
                format!("UPDATE settings SET value = '{release}' WHERE name = 'schema-release'");
            connection.execute_unprepared(&note).await.unwrap();
            connection.close().await.unwrap();
            match Catalog::open_sqlite(&path).await {
                Ok(catalog) => {
                    assert!(opens, "{release}");
                    // A copy would lose what a note says that this version does not know.
                    match catalog.snapshot().await {
                        Ok(snapshot) => {
                            assert!(release <= 5, "{release}");
                            snapshot.close().await.unwrap();
                        }
                        Err(error) => assert!(release > 5, "{release}: {error}"),
                    }
                    catalog.close().await;
                }
                Err(error) => {
                    assert!(!opens, "{release}: {error}");
                    assert!(error.to_string().contains("run a newer version"), "{error}");
                }
            }
            assert_eq!(schema_status(&url(&path)).await.unwrap().release, release);
        }
    }
}
