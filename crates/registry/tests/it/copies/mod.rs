//! Copies of whole installations: migration, backup and restore.

mod backups;
mod portrait;
mod trail;
mod whole;

use std::{path::Path, sync::Arc};

use granary_blobs::{BlobStore, FileStore};
use granary_catalog::Catalog;
use granary_registry::{
    CopyError, CopyOptions, CopyReport, Progress, Registry, Rules, Side, copy_installation,
};
use tempfile::TempDir;

use crate::world::{folder, is_postgres, no_grace};

/// The database of an installation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Sqlite,
    Postgres,
}

/// From which to which a copy is tried; what needs no PostgreSQL runs in the binary without one.
fn directions() -> Vec<(Kind, Kind)> {
    use Kind::{Postgres, Sqlite};
    if is_postgres() {
        vec![(Sqlite, Postgres), (Postgres, Sqlite), (Postgres, Postgres)]
    } else {
        vec![(Sqlite, Sqlite)]
    }
}

/// A database and a folder of objects, open or not.
#[derive(Clone)]
struct Site {
    folder: Arc<TempDir>,
    url: Option<String>,
}

impl Site {
    fn new(kind: Kind) -> Self {
        let url = (kind == Kind::Postgres).then(|| {
            let server = granary_testbed::Postgres::shared().unwrap();
            server.create_database().unwrap()
        });
        Self {
            folder: Arc::new(folder()),
            url,
        }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    async fn catalog(&self) -> Catalog {
        match &self.url {
            Some(url) => Catalog::open_postgres(url, 8).await.unwrap(),
            None => Catalog::open_sqlite(&self.path().join("granary.db"))
                .await
                .unwrap(),
        }
    }

    fn store(&self) -> FileStore {
        FileStore::open(&self.path().join("blobs"), 0).unwrap()
    }

    async fn registry(&self, rules: Rules) -> Registry {
        let (catalog, store) = (self.catalog().await, self.store());
        Registry::open(catalog, Box::new(store), rules)
            .await
            .unwrap()
    }

    /// Opens it after a copy.
    async fn opened(&self) -> Registry {
        self.registry(no_grace()).await
    }

    /// The file of an object.
    fn object(&self, key: &str) -> std::path::PathBuf {
        self.path().join("blobs").join(key)
    }
}

/// Copies what `from` holds into `to`, which nobody has opened.
async fn copy_into(
    from: &Registry,
    to: &Site,
    options: CopyOptions,
    progress: &Progress,
) -> Result<CopyReport, CopyError> {
    let (catalog, store) = (to.catalog().await, to.store());
    let side = Side {
        catalog: &catalog,
        store: &store as &dyn BlobStore,
    };
    let done = copy_installation(from.side(), side, options, progress).await;
    catalog.close().await;
    done
}
