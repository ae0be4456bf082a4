//! The catalog's schema, one file per change.
//!
//! A change is made in three releases (expand, move, contract), so that an older and a newer process can share one
//! database. A file that has been released is never edited.

mod m0001_core;
mod m0002_replicas;
mod m0003_accounts;

use sea_orm_migration::prelude::*;

/// The newest schema release that this version knows; each release that changes the schema counts up. A database may
/// be one ahead.
///
/// Release 4 is release 3 with accounts. No migration notes it, but the transaction that makes the first account: a
/// process that knows no accounts accepts release 3 at most, so it never serves beside them, where it would let
/// everybody do everything.
pub const RELEASE: i64 = 4;

/// The release that a database notes once every change was applied, as long as it has no accounts.
pub const EXPANDED: i64 = 3;

/// Applies every change in order.
pub struct Migrator;

#[async_trait::async_trait]
impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![
            Box::new(m0001_core::Migration),
            Box::new(m0002_replicas::Migration),
            Box::new(m0003_accounts::Migration),
        ]
    }
}
