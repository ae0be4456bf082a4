//! Where SQLite and PostgreSQL differ, and nothing else.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use sea_orm::{
    ConnectOptions,
    sqlx::sqlite::{SqliteAutoVacuum, SqliteJournalMode, SqliteSynchronous},
};

/// Microseconds since 1970 on the database's clock.
///
/// SQLite runs in this process, so its clock is the system's.
#[expect(
    clippy::disallowed_methods,
    reason = "this is the one place that reads the clock for the catalog"
)]
pub fn now() -> i64 {
    let elapsed = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(elapsed.as_micros()).unwrap_or(i64::MAX)
}

/// A duration in the catalog's unit.
pub fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

/// Options of a connection: for SQLite a write-ahead log that is synced at every commit.
pub(crate) fn connect_options(url: &str, connections: u32) -> ConnectOptions {
    let mut options = ConnectOptions::new(url);
    options
        .max_connections(connections)
        .min_connections(1)
        .sqlx_logging(false);
    options
        .acquire_timeout(Duration::from_secs(30))
        .connect_timeout(Duration::from_secs(10));
    options.map_sqlx_sqlite_opts(|sqlite| {
        sqlite
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .auto_vacuum(SqliteAutoVacuum::None)
            .foreign_keys(true)
            .busy_timeout(Duration::from_secs(10))
            // 4 MiB of page cache a connection, as negative KiB.
            .pragma("cache_size", "-4096")
            .pragma("journal_size_limit", "67108864")
            .statement_cache_capacity(200)
    });
    options
}
