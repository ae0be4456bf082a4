//! Whether there are accounts. Until the first one is made, whoever is let in may use the registry.
//!
//! With SQLite this process makes the first account itself, so it knows. With PostgreSQL another process may make it: what
//! was seen is believed for a moment only, and whoever makes the first account waits longer than that before it says so.

use std::{
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use sea_orm::{DatabaseTransaction, FromQueryResult};

use crate::{Catalog, CatalogError, dialect::Dialect, sql};

/// For how long it is believed that there are no accounts.
const BELIEVED: Duration = Duration::from_secs(2);

/// What this process knows of it.
pub(crate) struct AccountsWatch {
    /// For good, once they were seen.
    are_there: Arc<AtomicBool>,
    /// When the last look began that saw none.
    seen_none: RwLock<Option<Instant>>,
}

#[derive(FromQueryResult)]
struct Number {
    number: i64,
}

impl AccountsWatch {
    pub(crate) fn new() -> Self {
        Self {
            are_there: Arc::default(),
            seen_none: RwLock::new(None),
        }
    }

    pub(super) fn note_accounts(&self) {
        self.are_there.store(true, Ordering::SeqCst);
    }

    fn knows_of_none(&self, dialect: Dialect) -> bool {
        let seen = *self
            .seen_none
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        match dialect {
            Dialect::Sqlite => seen.is_some(),
            Dialect::Postgres => seen.is_some_and(|seen| seen.elapsed() < BELIEVED),
        }
    }
}

pub(super) async fn has_accounts(transaction: &DatabaseTransaction) -> Result<bool, CatalogError> {
    let query = "SELECT COUNT(*) AS number FROM settings WHERE name = 'accounts'";
    let found: Option<Number> = sql::one(transaction, query, []).await?;
    Ok(found.is_some_and(|found| found.number > 0))
}

impl Catalog {
    /// Whether there are accounts. A `false` may be two seconds old where processes share the catalog.
    pub async fn has_accounts(&self) -> Result<bool, CatalogError> {
        let watch = &self.accounts;
        if watch.are_there.load(Ordering::SeqCst) {
            return Ok(true);
        }
        if watch.knows_of_none(self.reads.dialect) {
            return Ok(false);
        }
        let began = Instant::now();
        let query = "SELECT COUNT(*) AS number FROM settings WHERE name = 'accounts'";
        let found: Option<Number> = self.reads.one(query, []).await?;
        if found.is_some_and(|found| found.number > 0) {
            watch.note_accounts();
            return Ok(true);
        }
        *watch
            .seen_none
            .write()
            .unwrap_or_else(PoisonError::into_inner) = Some(began);
        // The first account may have been made here between the two looks.
        Ok(watch.are_there.load(Ordering::SeqCst))
    }

    /// Becomes true, for good, when this process sees accounts.
    pub fn accounts_seen(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.accounts.are_there)
    }

    /// How long after the first account was made every process that shares the catalog knows of it.
    pub fn accounts_are_known_after(&self) -> Duration {
        match self.reads.dialect {
            Dialect::Sqlite => Duration::ZERO,
            Dialect::Postgres => BELIEVED + BELIEVED / 2,
        }
    }
}
