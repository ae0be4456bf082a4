use sea_orm::{DbErr, RuntimeErr, sqlx};

use crate::QuotaExceeded;

/// What can go wrong in the catalog itself. Outcomes a caller must tell apart are return values, not errors.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    /// The database refused or failed a statement. The text has the whole chain, which repeats itself.
    #[error("the database failed: {0}")]
    Database(DbErr),
    /// The database did not say whether it committed: the change may have happened, or not (decision 40).
    #[error("the database did not confirm a commit: {0}")]
    Indeterminate(String),
    /// The database did not answer in time.
    #[error("the database did not answer in time")]
    Silent,
    /// The server cannot be used, as a plain connection showed.
    #[error("{problem}; {remedy}")]
    Unreachable {
        /// What is wrong, with host, port and database.
        problem: String,
        /// What helps.
        remedy: &'static str,
    },
    /// A row holds what this version cannot read.
    #[error("a row of '{table}' cannot be read: {problem}")]
    Damaged {
        /// The table.
        table: &'static str,
        /// What is wrong.
        problem: String,
    },
    /// The schema is not one that this version can work with.
    #[error("{0}")]
    Schema(String),
    /// A copy does not hold what its source does.
    #[error(
        "the copy of table '{0}' does not hold what the source does: start again into an empty database"
    )]
    Differs(String),
    /// A process that serves from the catalog knows nothing of what is to be done, and would do harm beside it.
    #[error(
        "a replica of version {0} is running, which knows nothing of this: stop or upgrade it, wait a minute, and try again"
    )]
    OlderReplica(String),
    /// A namespace would hold more than it may. Nothing of the change was made.
    #[error(transparent)]
    QuotaExceeded(QuotaExceeded),
    /// The writer has stopped, because the process is ending.
    #[error("the catalog is closed")]
    Closed,
}

impl From<DbErr> for CatalogError {
    fn from(error: DbErr) -> Self {
        Self::Database(error)
    }
}

/// States of a server that starts, stops or fails over (PostgreSQL, appendix A).
const AWAY: [&str; 5] = [
    "57P01", // admin_shutdown
    "57P02", // crash_shutdown
    "57P03", // cannot_connect_now
    "57014", // query_canceled: it took longer than a statement may
    "25006", // read_only_sql_transaction: a primary that has become a standby
];

/// States of transactions that met. Run again, each sees what the other did.
const CONFLICT: [&str; 5] = [
    "40001", // serialization_failure
    "40P01", // deadlock_detected
    "55P03", // lock_not_available
    "23503", // foreign_key_violation: somebody removed a row between the look at it and the reference to it
    "23505", // unique_violation: somebody made the same row
];

impl CatalogError {
    pub(crate) fn damaged(table: &'static str, problem: impl ToString) -> Self {
        Self::Damaged {
            table,
            problem: problem.to_string(),
        }
    }

    /// Why a commit failed: the server says that it undid everything, or nobody knows.
    pub(crate) fn uncommitted(error: DbErr) -> Self {
        let text = error.to_string();
        let error = Self::Database(error);
        if error.is_conflict() {
            error
        } else {
            Self::Indeterminate(text)
        }
    }

    /// Whether the database was away or busy, so that the same may succeed in a moment.
    pub fn is_transient(&self) -> bool {
        match self.cause() {
            None => {
                matches!(
                    self,
                    Self::Indeterminate(_)
                        | Self::Silent
                        | Self::Database(DbErr::ConnectionAcquire(_))
                )
            }
            Some(sqlx::Error::Database(error)) => error.code().is_some_and(|code| {
                // 08 connection exceptions, 53 insufficient resources: connections, memory, disk.
                AWAY.contains(&&*code)
                    || CONFLICT.contains(&&*code)
                    || code.starts_with("08")
                    || code.starts_with("53")
            }),
            Some(cause) => matches!(
                cause,
                sqlx::Error::Io(_)
                    | sqlx::Error::PoolTimedOut
                    | sqlx::Error::WorkerCrashed
                    | sqlx::Error::Protocol(_)
            ),
        }
    }

    /// Whether two transactions met, and this one lost. SQLite's never do.
    pub(crate) fn is_conflict(&self) -> bool {
        let Some(sqlx::Error::Database(error)) = self.cause() else {
            return false;
        };
        error.code().is_some_and(|code| CONFLICT.contains(&&*code))
    }

    fn cause(&self) -> Option<&sqlx::Error> {
        match self {
            Self::Database(
                DbErr::Conn(RuntimeErr::SqlxError(cause))
                | DbErr::Exec(RuntimeErr::SqlxError(cause))
                | DbErr::Query(RuntimeErr::SqlxError(cause)),
            ) => Some(cause),
            _ => None,
        }
    }
}
