use std::{path::Path, sync::Arc};

use granary_migrations::Migrator;
use sea_orm::{ConnectionTrait, Database, DatabaseConnection};
use sea_orm_migration::MigratorTrait;

use crate::{
    CatalogError,
    cache::Cache,
    dialect, sql,
    writer::{Write, Writer},
};

/// Connections that read at the same time.
const READERS: u32 = 4;

/// The catalog: every statement Granary sends to its database.
///
/// Share it behind an [`Arc`]; all its methods take `&self`.
pub struct Catalog {
    pub(crate) reads: DatabaseConnection,
    pub(crate) cache: Arc<Cache>,
    writes: DatabaseConnection,
    writer: Writer,
}

impl Catalog {
    /// Opens the SQLite file at `path`, making and migrating it as needed.
    pub async fn open_sqlite(path: &Path) -> Result<Self, CatalogError> {
        let url = format!("sqlite://{}?mode=rwc", path.display());
        let writes = Database::connect(dialect::connect_options(&url, 1)).await?;
        Migrator::up(&writes, None).await?;
        let reads = Database::connect(dialect::connect_options(&url, READERS)).await?;
        let cache = Arc::new(Cache::new());
        let writer = Writer::start(writes.clone(), Arc::clone(&cache))?;
        Ok(Self {
            reads,
            cache,
            writes,
            writer,
        })
    }

    /// Whether the database answers.
    pub async fn ping(&self) -> Result<(), CatalogError> {
        self.reads.execute_unprepared("SELECT 1").await?;
        Ok(())
    }

    /// Closes every connection; SQLite then puts its log back into the database file. Nothing can be asked afterwards.
    pub async fn close(&self) {
        for connection in [&self.reads, &self.writes] {
            if let Err(error) = connection.close_by_ref().await {
                tracing::warn!(%error, "a connection to the database did not close in order");
            }
        }
    }

    /// Transactions committed since the start; each is one sync of the log, however many writes it held.
    pub fn commits(&self) -> u64 {
        self.writer.commits()
    }

    /// The setting `name`, set to `fresh` if there is none yet.
    pub async fn setting(&self, name: &'static str, fresh: String) -> Result<String, CatalogError> {
        self.write(async move |write| {
            let insert =
                "INSERT INTO settings (name, value) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING";
            sql::execute(&write.transaction, insert, [name.into(), fresh.into()]).await?;
            let row: Option<Setting> = sql::one(
                &write.transaction,
                "SELECT value FROM settings WHERE name = $1",
                [name.into()],
            )
            .await?;
            row.map(|row| row.value)
                .ok_or_else(|| CatalogError::damaged("settings", "a row just written is missing"))
        })
        .await
    }

    pub(crate) async fn write<T, F>(&self, work: F) -> Result<T, CatalogError>
    where
        T: Send + 'static,
        F: AsyncFnOnce(&mut Write) -> Result<T, CatalogError> + Send + 'static,
    {
        self.writer.write(work).await
    }
}

#[derive(sea_orm::FromQueryResult)]
struct Setting {
    value: String,
}
