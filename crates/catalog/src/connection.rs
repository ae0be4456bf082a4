use std::{path::Path, sync::Arc};

use sea_orm::{ConnectionTrait, Database, DatabaseConnection};

use crate::{
    CatalogError,
    accounts::{AccountsWatch, WarmRights},
    cache::Cache,
    dialect::{self, Dialect},
    memory::{Memory, SharedContent},
    schema,
    sql::{self, Reads},
    tags::TagLookup,
    together::Together,
    writer::{Connected, Write, Writer},
};

/// Connections of a SQLite catalog that read at the same time.
const READERS: u32 = 4;

/// The catalog: every statement Granary sends to its database.
///
/// Share it behind an [`Arc`]; all its methods take `&self`.
pub struct Catalog {
    pub(crate) reads: Reads,
    pub(crate) memory: Memory,
    /// Tags that are asked for together, where each is asked for at every pull.
    pub(crate) tag_lookups: Option<Together<TagLookup>>,
    writer: Writer,
    pub(crate) accounts: AccountsWatch,
    pub(crate) warm_rights: WarmRights,
    /// Where it lies, for connections beside those that serve.
    pub(crate) url: String,
    /// SQLite's writing connection, to be closed in order.
    writes: Option<DatabaseConnection>,
}

impl Catalog {
    /// Opens the SQLite file at `path`, making and migrating it as needed. No other process may use it.
    pub async fn open_sqlite(path: &Path) -> Result<Self, CatalogError> {
        let url = format!("sqlite://{}?mode=rwc", path.display());
        let writes = Database::connect(dialect::sqlite_options(&url, 1)).await?;
        schema::prepare(&writes, Dialect::Sqlite).await?;
        let connection = Database::connect(dialect::sqlite_options(&url, READERS)).await?;
        let cache = Arc::new(Cache::new());
        Ok(Self {
            reads: Reads::new(connection, Dialect::Sqlite),
            writer: Writer::grouped(writes.clone(), Arc::clone(&cache))?,
            memory: Memory::Exact(cache),
            tag_lookups: None,
            accounts: AccountsWatch::new(),
            warm_rights: WarmRights::new(None),
            url,
            writes: Some(writes),
        })
    }

    /// Opens the PostgreSQL database at `url` (`postgres://user:password@host:port/database`), migrating it as needed.
    ///
    /// Any number of processes may share it. At most `connections` are held open, half of them for changes.
    pub async fn open_postgres(url: &str, connections: u32) -> Result<Self, CatalogError> {
        schema::prepare_shared(url).await?;
        let writers = (connections / 2).max(1);
        let readers = connections.saturating_sub(writers).max(1);
        let connection = Database::connect(dialect::postgres_options(url, readers)).await?;
        let reads = Reads::new(connection, Dialect::Postgres);
        // Enough to keep the database busy; further statements would only answer fewer questions each.
        let lanes = (readers as usize / 4).max(1);
        Ok(Self {
            tag_lookups: Some(Together::new(reads.clone(), lanes)),
            warm_rights: WarmRights::new(Some(&reads)),
            reads,
            writer: Writer::each(url, writers)?,
            memory: Memory::content(),
            accounts: AccountsWatch::new(),
            url: url.to_owned(),
            writes: None,
        })
    }

    /// Whether other processes may change this catalog too.
    pub fn is_shared(&self) -> bool {
        self.reads.dialect == Dialect::Postgres
    }

    /// Uses bytes that other processes read already. Without effect on SQLite, which has one process.
    pub fn share_content(&self, shared: Box<dyn SharedContent>) {
        self.memory.share(shared);
    }

    /// Whether the database answers.
    pub async fn ping(&self) -> Result<(), CatalogError> {
        self.reads.connection.execute_unprepared("SELECT 1").await?;
        Ok(())
    }

    /// The database's time, in microseconds since 1970.
    pub async fn now(&self) -> Result<i64, CatalogError> {
        if self.reads.dialect == Dialect::Sqlite {
            return Ok(dialect::now());
        }
        let clock = format!("SELECT {} AS now", self.reads.dialect.clock());
        let row: Option<Clock> = self.reads.one(&clock, []).await?;
        row.map(|row| row.now)
            .ok_or_else(|| CatalogError::damaged("clock", "no row came"))
    }

    /// Closes every connection; SQLite then puts its log back into the database file. Nothing can be asked afterwards.
    pub async fn close(&self) {
        for connection in [Some(&self.reads.connection), self.writes.as_ref()]
            .into_iter()
            .flatten()
        {
            if let Err(error) = connection.close_by_ref().await {
                tracing::warn!(%error, "a connection to the database did not close in order");
            }
        }
    }

    /// Closes a SQLite catalog and leaves one file, which can be read where nothing can be written.
    pub async fn seal(&self) -> Result<(), CatalogError> {
        self.reads.connection.close_by_ref().await?;
        if let Some(writes) = &self.writes {
            let whole = "PRAGMA wal_checkpoint(TRUNCATE); PRAGMA journal_mode = DELETE";
            writes.execute_unprepared(whole).await?;
            writes.close_by_ref().await?;
        }
        Ok(())
    }

    /// Transactions committed since the start; each is one sync of the log, however many writes it held.
    pub fn commits(&self) -> u64 {
        self.writer.commits()
    }

    /// How the connections for changes to a PostgreSQL catalog stand; `None` on SQLite.
    pub fn connections(&self) -> Option<Connected> {
        self.writer.connections()
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
        F: AsyncFnOnce(&mut Write) -> Result<T, CatalogError> + Clone + Send + 'static,
    {
        self.writer.write(work).await
    }
}

#[derive(sea_orm::FromQueryResult)]
struct Setting {
    value: String,
}

#[derive(sea_orm::FromQueryResult)]
struct Clock {
    now: i64,
}
