//! The catalog's schema, one file per change.
//!
//! A change is made in three releases (expand, move, contract), so that an older and a newer process can share one
//! database. A file that has been released is never edited.

mod m0001_core;

use sea_orm_migration::prelude::*;

/// Applies every change in order.
pub struct Migrator;

#[async_trait::async_trait]
impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![Box::new(m0001_core::Migration)]
    }
}
