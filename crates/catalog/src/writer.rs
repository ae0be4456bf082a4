//! Changes: each is a closure over one transaction that does only SQL (decision 18).
//!
//! On SQLite one writer runs them, many to a commit ([`sqlite`]); on PostgreSQL each has a transaction of its own, and
//! many run at the same time ([`postgres`]).

mod postgres;
mod sqlite;

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use sea_orm::{DatabaseConnection, DatabaseTransaction};

use crate::{
    CatalogError,
    cache::{Cache, Touched},
    dialect::Dialect,
};

/// Most writes that wait; further callers wait for a place.
const QUEUE: usize = 1024;

/// One transaction, as a write sees it.
pub(crate) struct Write {
    pub(crate) transaction: DatabaseTransaction,
    pub(crate) dialect: Dialect,
    /// The database's time, one for the whole transaction.
    pub(crate) now: i64,
    touched: Vec<Touched>,
}

impl Write {
    /// Notes that a row changed, so that its copy in memory goes.
    pub(crate) fn touch(&mut self, row: Touched) {
        self.touched.push(row);
    }
}

/// Hands writes to the thread that runs them.
pub(crate) struct Writer {
    way: Way,
    commits: Arc<AtomicU64>,
}

/// How connections to a PostgreSQL server stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connected {
    /// Connections that somebody holds now.
    pub in_use: u64,
    /// Connections that may be held.
    pub most: u64,
    /// Changes that wait for one.
    pub waiting: u64,
}

enum Way {
    Grouped(sqlite::Grouped),
    Each(postgres::Each),
}

impl Writer {
    /// Starts the writer of a SQLite catalog, which owns `connection`.
    pub(crate) fn grouped(
        connection: DatabaseConnection,
        cache: Arc<Cache>,
    ) -> Result<Self, CatalogError> {
        let commits = Arc::default();
        let way = Way::Grouped(sqlite::Grouped::start(
            connection,
            cache,
            Arc::clone(&commits),
        )?);
        Ok(Self { way, commits })
    }

    /// Starts the writers of a PostgreSQL catalog, at most `connections` at a time.
    pub(crate) fn each(url: &str, connections: u32) -> Result<Self, CatalogError> {
        let commits = Arc::default();
        let way = Way::Each(postgres::Each::start(
            url,
            connections,
            Arc::clone(&commits),
        )?);
        Ok(Self { way, commits })
    }

    /// How the connections for changes stand; `None` where there is one, as on SQLite.
    pub(crate) fn connections(&self) -> Option<Connected> {
        match &self.way {
            Way::Grouped(_) => None,
            Way::Each(writer) => Some(writer.connections()),
        }
    }

    /// How many transactions were committed so far.
    pub(crate) fn commits(&self) -> u64 {
        self.commits.load(Ordering::Relaxed)
    }

    /// Runs `work` in a transaction and answers once it is durable.
    ///
    /// An error of `work` undoes only its own statements. The work runs to its end even if the caller goes away. It may
    /// run several times, as if for the first time, when its transaction met another one or lost its connection.
    pub(crate) async fn write<T, F>(&self, work: F) -> Result<T, CatalogError>
    where
        T: Send + 'static,
        F: AsyncFnOnce(&mut Write) -> Result<T, CatalogError> + Clone + Send + 'static,
    {
        match &self.way {
            Way::Grouped(writer) => writer.write(work).await,
            Way::Each(writer) => writer.write(work).await,
        }
    }
}

/// Runs `work` on a thread and a runtime of its own, because the futures of writes stay on one thread.
fn start_thread<F: Future<Output = ()>>(
    work: impl FnOnce() -> F + Send + 'static,
) -> Result<(), CatalogError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| CatalogError::damaged("writer", error))?;
    std::thread::Builder::new()
        .name("catalog-writer".into())
        .spawn(move || tokio::task::LocalSet::new().block_on(&runtime, work()))
        .map_err(|error| CatalogError::damaged("writer", error))?;
    Ok(())
}
