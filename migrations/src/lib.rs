//! The catalog's schema, one file per change.
//!
//! A change is made in three releases (expand, move, contract), so that an older and a newer process can share one
//! database. A file that has been released is never edited.

mod m0001_core;
mod m0002_replicas;
mod m0003_accounts;
mod m0004_trail_and_doors;
mod words;

use sea_orm_migration::prelude::*;

/// The newest schema release that this version knows, which a database notes once every change was applied; each release
/// that changes the schema counts up. A database may be one ahead.
pub const RELEASE: i64 = 5;

/// The first release whose processes know accounts. One that knows none would let everybody do everything, so the first
/// account is not made beside one, and the releases since are too new for it to start on.
pub const KNOWS_ACCOUNTS: i64 = 4;

/// The first release whose processes look at lists of addresses. No list is set beside one that would let everybody in from
/// everywhere.
pub const KNOWS_ADDRESSES: i64 = 5;

/// The first release whose processes know repositories that were removed, and quotas. One that does not would choke on the
/// former and pass over the latter, so neither comes about beside one.
pub const KNOWS_REMOVAL: i64 = 5;

/// Applies every change in order.
pub struct Migrator;

#[async_trait::async_trait]
impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![
            Box::new(m0001_core::Migration),
            Box::new(m0002_replicas::Migration),
            Box::new(m0003_accounts::Migration),
            Box::new(m0004_trail_and_doors::Migration),
        ]
    }
}
