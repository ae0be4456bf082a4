//! Running plain SQL with `$n` parameters, which both databases read.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use sea_orm::{ConnectionTrait, DatabaseConnection, DbErr, FromQueryResult, Statement, Value};

use crate::{CatalogError, backoff::Backoff, dialect::Dialect};

/// A row's key.
#[derive(FromQueryResult)]
pub(crate) struct Id {
    pub(crate) id: i64,
}

/// How long a statement is tried again while the database is away.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// Connections that only read. A statement that failed because the connection did is sent again.
#[derive(Clone)]
pub(crate) struct Reads {
    pub(crate) connection: DatabaseConnection,
    pub(crate) dialect: Dialect,
    number: Arc<AtomicU64>,
}

impl Reads {
    pub(crate) fn new(connection: DatabaseConnection, dialect: Dialect) -> Self {
        Self {
            connection,
            dialect,
            number: Arc::default(),
        }
    }

    /// How many statements there have been.
    pub(crate) fn number(&self) -> u64 {
        self.number.load(Ordering::Relaxed)
    }

    /// The first row, if there is one.
    pub(crate) async fn one<T: FromQueryResult>(
        &self,
        sql: &str,
        values: impl IntoIterator<Item = Value>,
    ) -> Result<Option<T>, CatalogError> {
        self.number.fetch_add(1, Ordering::Relaxed);
        let mut again = Again::new();
        let statement = statement(&self.connection, sql, values);
        loop {
            let row = self.connection.query_one_raw(statement.clone());
            match in_time(row).await {
                Ok(None) => return Ok(None),
                Ok(Some(row)) => return Ok(Some(T::from_query_result(&row, "")?)),
                Err(error) => again.after(error).await?,
            }
        }
    }

    /// All rows.
    pub(crate) async fn all<T: FromQueryResult>(
        &self,
        sql: &str,
        values: impl IntoIterator<Item = Value>,
    ) -> Result<Vec<T>, CatalogError> {
        self.number.fetch_add(1, Ordering::Relaxed);
        let mut again = Again::new();
        let statement = statement(&self.connection, sql, values);
        loop {
            let rows = self.connection.query_all_raw(statement.clone());
            match in_time(rows).await {
                Ok(rows) => {
                    let read = |row| T::from_query_result(row, "").map_err(CatalogError::from);
                    return rows.iter().map(read).collect();
                }
                Err(error) => again.after(error).await?,
            }
        }
    }
}

/// Longest that a read may take; the server's own limit is shorter, but a server may fall silent.
const READ: Duration = Duration::from_secs(40);

async fn in_time<T>(read: impl Future<Output = Result<T, DbErr>>) -> Result<T, CatalogError> {
    match tokio::time::timeout(READ, read).await {
        Ok(read) => Ok(read?),
        Err(_) => Err(CatalogError::Silent),
    }
}

/// How often and how long a read is tried again.
struct Again {
    backoff: Backoff,
    began: Instant,
}

impl Again {
    fn new() -> Self {
        Self {
            backoff: Backoff::new(),
            began: Instant::now(),
        }
    }

    /// Waits if the same may succeed now; else the error is the answer.
    async fn after(&mut self, error: CatalogError) -> Result<(), CatalogError> {
        if !error.is_transient() || self.began.elapsed() >= PATIENCE {
            return Err(error);
        }
        tracing::debug!(%error, "a read is tried again");
        self.backoff.wait().await;
        Ok(())
    }
}

/// Runs a statement and says how many rows it changed.
pub(crate) async fn execute(
    connection: &impl ConnectionTrait,
    sql: &str,
    values: impl IntoIterator<Item = Value>,
) -> Result<u64, CatalogError> {
    Ok(connection
        .execute_raw(statement(connection, sql, values))
        .await?
        .rows_affected())
}

/// The first row, if there is one.
pub(crate) async fn one<T: FromQueryResult>(
    connection: &impl ConnectionTrait,
    sql: &str,
    values: impl IntoIterator<Item = Value>,
) -> Result<Option<T>, CatalogError> {
    match connection
        .query_one_raw(statement(connection, sql, values))
        .await?
    {
        None => Ok(None),
        Some(row) => Ok(Some(T::from_query_result(&row, "")?)),
    }
}

/// All rows.
pub(crate) async fn all<T: FromQueryResult>(
    connection: &impl ConnectionTrait,
    sql: &str,
    values: impl IntoIterator<Item = Value>,
) -> Result<Vec<T>, CatalogError> {
    let rows = connection
        .query_all_raw(statement(connection, sql, values))
        .await?;
    rows.iter()
        .map(|row| T::from_query_result(row, "").map_err(CatalogError::from))
        .collect()
}

fn statement(
    connection: &impl ConnectionTrait,
    sql: &str,
    values: impl IntoIterator<Item = Value>,
) -> Statement {
    Statement::from_sql_and_values(connection.get_database_backend(), sql, values)
}

/// `$from, $from+1, …` for `count` values of an `IN` list.
pub(crate) fn placeholders(from: usize, count: usize) -> String {
    let names: Vec<String> = (from..from + count)
        .map(|number| format!("${number}"))
        .collect();
    names.join(", ")
}

/// How heavy a row is, in bytes.
#[derive(FromQueryResult)]
pub(crate) struct Weight {
    weight: i64,
}

/// Bytes of rows that a page of a long work holds, if one row alone is not heavier.
const PAGE_WEIGHT: i64 = 8 << 20;

/// How many of the next rows are light enough to be held at once; at least one.
pub(crate) fn rows_that_fit(weights: &[Weight]) -> u64 {
    let mut left = PAGE_WEIGHT;
    let fits = weights.iter().take_while(|row| {
        left -= row.weight;
        left >= 0
    });
    fits.count().max(1) as u64
}

/// Most values in one `IN` list; SQLite allows 32,766 parameters, PostgreSQL 65,535.
pub(crate) const LIST: usize = 500;

/// A size or offset as the databases keep it.
pub(crate) fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// The reverse of [`signed`].
pub(crate) fn unsigned(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}
