//! How fast a collection goes.
//!
//! A collection has no hurry, and a pull that waits for the database does. So on a database that others use as well, steps
//! are short and the rests between them long while clients of this process read; when none does, steps are larger and
//! rests half as long, as others may have clients. A database of its own orders changes and reads by itself, and needs none.

use std::time::{Duration, Instant};

use crate::{Catalog, CatalogError};

/// How many times as long as it works a collection rests beside readers.
const REST: u32 = 8;
/// Longest rest at once.
const LONGEST_REST: Duration = Duration::from_secs(1);

/// The pace of a collection on one catalog.
pub(super) struct Pace<'a> {
    catalog: &'a Catalog,
    /// The number of reads at the last look.
    seen: u64,
    /// Whether others have read since the look before.
    beside_readers: bool,
}

impl<'a> Pace<'a> {
    pub(super) fn new(catalog: &'a Catalog) -> Self {
        Self {
            catalog,
            seen: catalog.reads.number(),
            beside_readers: true,
        }
    }

    /// Most rows that a transaction changes. Who needs one of them waits for the transaction.
    pub(super) fn rows(&self) -> usize {
        match (self.catalog.is_shared(), self.beside_readers) {
            (false, _) => 200,
            (true, false) => 50,
            (true, true) => 10,
        }
    }

    /// Takes a step, which itself reads `own` times, and rests.
    pub(super) async fn step<T>(
        &mut self,
        own: u64,
        step: impl Future<Output = Result<T, CatalogError>>,
    ) -> Result<T, CatalogError> {
        let began = Instant::now();
        let done = step.await?;
        if self.catalog.is_shared() {
            let number = self.catalog.reads.number();
            self.beside_readers = number - self.seen > own;
            let times = if self.beside_readers { REST } else { REST / 2 };
            tokio::time::sleep((began.elapsed() * times).min(LONGEST_REST)).await;
            self.seen = number;
        }
        Ok(done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{dialect::Dialect, sql::Reads};

    /// A step that reads once, beside as many reads of others.
    async fn step(pace: &mut Pace<'_>, others: usize) -> usize {
        let catalog = pace.catalog;
        let reading = async {
            for _ in 0..others {
                catalog.names_objects().await?;
            }
            catalog.names_objects().await
        };
        pace.step(1, reading).await.unwrap();
        pace.rows()
    }

    #[tokio::test]
    async fn steps_are_short_beside_readers_of_a_shared_database() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("catalog.db");
        let mut catalog = Catalog::open_sqlite(&path).await.unwrap();
        let mut pace = Pace::new(&catalog);
        assert_eq!(pace.rows(), 200);
        assert_eq!(step(&mut pace, 1).await, 200, "it is not shared");
        // As far as a pace can tell, this one is.
        catalog.reads = Reads::new(catalog.reads.connection.clone(), Dialect::Postgres);
        let mut pace = Pace::new(&catalog);
        assert_eq!(pace.rows(), 10, "nobody knows yet whether others read");
        assert_eq!(step(&mut pace, 0).await, 50);
        assert_eq!(step(&mut pace, 1).await, 10);
        assert_eq!(step(&mut pace, 0).await, 50);
    }
}
