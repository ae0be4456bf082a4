//! The catalog's schema, one file per change.
//!
//! A change is made in three releases (expand, move, contract), so that an older and a newer process can share one
//! database. A file that has been released is never edited.

mod m0001_core;
mod m0002_replicas;

use sea_orm_migration::prelude::*;

/// The schema this version makes; each release that changes the schema counts up. A database may be one ahead.
pub const RELEASE: i64 = 2;

/// Applies every change in order.
pub struct Migrator;

#[async_trait::async_trait]
impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![
            Box::new(m0001_core::Migration),
            Box::new(m0002_replicas::Migration),
        ]
    }
}
