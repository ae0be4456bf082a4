//! Where SQLite and PostgreSQL differ, and nothing else.
//!
//! SQLite has one writer at a time, so it needs no row locks; on PostgreSQL (READ COMMITTED) every statement sees what
//! was committed before *it* began. A row that a decision depends on is therefore locked in one statement, and the
//! decision is made in the next. The clauses here are empty on SQLite.

use std::{
    io,
    path::Path,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use sea_orm::{
    ConnectOptions,
    sqlx::{
        self, PgConnection, Row,
        sqlite::{SqliteAutoVacuum, SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous},
    },
};

/// The database a catalog lies in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// One file, one process.
    Sqlite,
    /// A server that several processes share.
    Postgres,
}

/// Microseconds since 1970 on this process's clock, which is SQLite's as well.
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

/// A duration in the catalog's unit; one that no clock reaches becomes one that can be added to a time.
pub fn micros(duration: Duration) -> i64 {
    const FOREVER: i64 = i64::MAX / 2;
    i64::try_from(duration.as_micros()).map_or(FOREVER, |micros| micros.min(FOREVER))
}

impl Dialect {
    /// An expression for the database's time: microseconds since 1970 (decision 20).
    ///
    /// SQLite runs in this process, so its time is a number here.
    pub(crate) fn clock(self) -> String {
        match self {
            Self::Sqlite => now().to_string(),
            Self::Postgres => {
                "(EXTRACT(EPOCH FROM clock_timestamp()) * 1000000)::bigint".to_owned()
            }
        }
    }

    /// Keeps the rows of `table` from being deleted, and lets everybody else do the same (decision 13).
    pub(crate) fn keep(self, table: &str) -> String {
        match self {
            Self::Sqlite => String::new(),
            Self::Postgres => format!(" FOR KEY SHARE OF {table}"),
        }
    }

    /// Locks the rows of `table` against every change.
    pub(crate) fn lock(self, table: &str) -> String {
        match self {
            Self::Sqlite => String::new(),
            Self::Postgres => format!(" FOR UPDATE OF {table}"),
        }
    }

    /// Locks the rows of `table` against every change, but not against others that keep them from being deleted.
    pub(crate) fn lock_values(self, table: &str) -> String {
        match self {
            Self::Sqlite => String::new(),
            Self::Postgres => format!(" FOR NO KEY UPDATE OF {table}"),
        }
    }

    /// The same as [`Self::lock`], passing over rows that somebody else has locked.
    pub(crate) fn lock_free_ones(self, table: &str) -> String {
        match self {
            Self::Sqlite => String::new(),
            Self::Postgres => format!(" FOR UPDATE OF {table} SKIP LOCKED"),
        }
    }
}

/// Options of a SQLite connection: a write-ahead log that is synced at every commit.
pub(crate) fn sqlite_options(url: &str, connections: u32) -> ConnectOptions {
    let mut options = ConnectOptions::new(url);
    options
        .max_connections(connections)
        .min_connections(1)
        .sqlx_logging(false);
    options
        .acquire_timeout(Duration::from_secs(30))
        .connect_timeout(Duration::from_secs(10))
        // As for PostgreSQL below; connections to a file need no renewal.
        .idle_timeout(None)
        .max_lifetime(None);
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

/// Options of a SQLite connection to a file that is not to be changed.
pub(crate) fn sqlite_reading(path: &Path) -> ConnectOptions {
    let path = path.to_owned();
    let mut options = ConnectOptions::new("sqlite::memory:");
    options
        .max_connections(1)
        .min_connections(1)
        .idle_timeout(None)
        .max_lifetime(None)
        .sqlx_logging(false);
    options.map_sqlx_sqlite_opts(move |_| {
        SqliteConnectOptions::new()
            .filename(&path)
            .read_only(true)
            .busy_timeout(Duration::from_secs(10))
    });
    options
}

/// Options of a PostgreSQL connection: nothing waits long, neither for a lock nor for a forgotten transaction. Whoever
/// waits for a lock holds a connection, so that wait is short and repeated. A connection to a standby is none.
pub(crate) fn postgres_options(url: &str, connections: u32) -> ConnectOptions {
    let mut options = ConnectOptions::new(url);
    options
        .max_connections(connections)
        .min_connections(1)
        .acquire_timeout(Duration::from_secs(5))
        .connect_timeout(Duration::from_secs(5))
        // Without a limit to either, the pool runs no task that reaps connections. In sqlx 0.9 that task counts idle ones
        // with a number that may just then stand below zero, and never ends. A connection that broke is noticed when used.
        .idle_timeout(None)
        .max_lifetime(None)
        .test_before_acquire_if_idle_for(Duration::from_secs(5))
        .sqlx_logging(false);
    options.map_sqlx_postgres_opts(|postgres| {
        postgres
            .application_name("granary")
            .statement_cache_capacity(200)
            .options([
                ("statement_timeout", "30s"),
                ("lock_timeout", "2s"),
                // Transactions do only SQL: one that waits so long is of a process that sleeps, and others wait for its locks.
                ("idle_in_transaction_session_timeout", "10s"),
                ("default_transaction_isolation", "read committed"),
            ])
    });
    options.map_sqlx_postgres_pool_opts(|pool| {
        pool.after_connect(|connection, _| Box::pin(refuse_standby(connection)))
    });
    options
}

/// Ends a connection to a standby: what it answers may be old, and it takes no writes.
///
/// While a cluster fails over, whatever leads to the primary may for a moment lead to the former one, which is a standby
/// now. A server in use needs no second look, because a primary that becomes a standby restarts. The pool tries again.
async fn refuse_standby(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    let row = sqlx::raw_sql("SELECT pg_is_in_recovery()")
        .fetch_one(connection)
        .await?;
    if row.try_get::<bool, _>(0)? {
        let refused = "PostgreSQL is a standby here: database.url must lead to the primary";
        return Err(sqlx::Error::Io(io::Error::other(refused)));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_enormous_duration_can_be_added_to_a_time() {
        let most = i64::MAX.unsigned_abs();
        for enormous in [
            Duration::from_micros(most),
            Duration::from_secs(most),
            Duration::MAX,
        ] {
            let then = now().checked_add(micros(enormous));
            assert!(then.is_some_and(|then| then > now()), "{enormous:?}");
        }
        assert_eq!(micros(Duration::from_millis(1)), 1000);
    }
}
