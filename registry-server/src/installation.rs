//! One installation: its data folder, catalog and store, held by one process at a time.

use std::{
    fs::{File, TryLockError},
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context;
use granary_blobs::{BlobStore, FileStore, MemoryStore};
use granary_catalog::Catalog;
use granary_registry::{Registry, Rules};

use crate::config::{Config, StorageKind, Untagged};

/// An open installation. The lock on its folder ends with it.
pub struct Installation {
    /// Its use cases.
    pub registry: Registry,
    lock: DataLock,
    _database: File,
}

/// The exclusive right to a data folder (decision 17).
pub struct DataLock {
    folder: PathBuf,
    _file: File,
}

impl DataLock {
    /// Takes the lock of `folder`, making it if needed; `None` if another process holds it.
    pub fn take(folder: &Path) -> anyhow::Result<Option<Self>> {
        std::fs::create_dir_all(folder)
            .with_context(|| format!("the data folder {} cannot be made", folder.display()))?;
        let file = lock_file(&folder.join("lock"))?;
        Ok(file.map(|file| Self {
            folder: folder.to_owned(),
            _file: file,
        }))
    }
}

/// Locks `path` for this process, making it if needed; `None` if another process holds it.
fn lock_file(path: &Path) -> anyhow::Result<Option<File>> {
    let file =
        File::create(path).with_context(|| format!("{} cannot be opened", path.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => {
            Err(error).with_context(|| format!("{} cannot be locked", path.display()))
        }
    }
}

impl Installation {
    /// Opens what `config` describes. Must be called inside the runtime that is to run its tasks.
    pub async fn open(config: &Config, lock: DataLock) -> anyhow::Result<Self> {
        let database = database_path(config)?;
        prepare_database(&database)
            .with_context(|| format!("the folder of {} cannot be made", database.display()))?;
        // The database may lie outside the data folder, and its cache is exact only if nobody else writes to it.
        let locked = lock_file(&database.with_added_extension("lock"))?.with_context(|| {
            format!(
                "another process uses the database {}: stop it first",
                database.display()
            )
        })?;
        let catalog = Catalog::open_sqlite(&database)
            .await
            .with_context(|| format!("the database {} cannot be opened", database.display()))?;
        // The files that SQLite made have to be found again after a power loss.
        sync_folder(&database)?;
        let store: Box<dyn BlobStore> = match config.storage.kind {
            StorageKind::Memory => Box::new(MemoryStore::default()),
            StorageKind::Fs => {
                let root = &config.storage.fs.root;
                let store = FileStore::open(root, config.storage.fs.reserve);
                Box::new(store.with_context(|| {
                    format!("the blob store {} cannot be opened", root.display())
                })?)
            }
        };
        let registry = Registry::open(catalog, store, rules(config)).await?;
        Ok(Self {
            registry,
            lock,
            _database: locked,
        })
    }

    /// Ends it: waits for running tasks and leaves a database that is one file.
    pub async fn close(self) {
        self.registry.drain().await;
        self.registry.catalog().close().await;
    }

    /// The data folder.
    pub fn folder(&self) -> &Path {
        &self.lock.folder
    }
}

/// A store in memory ends with the process, so its catalog begins anew with it.
fn database_path(config: &Config) -> anyhow::Result<PathBuf> {
    if config.storage.kind == StorageKind::Fs {
        return Ok(config.database.url.path().to_owned());
    }
    let path = config.data.join("memory.db");
    for suffix in ["", "-wal", "-shm"] {
        let file = config.data.join(format!("memory.db{suffix}"));
        match std::fs::remove_file(&file) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(error).with_context(|| {
                    format!("{} of an earlier start cannot be removed", file.display())
                });
            }
            _ => {}
        }
    }
    Ok(path)
}

/// SQLite does not look at the result of its own folder sync, so the files are made and made durable before it opens
/// them.
fn prepare_database(path: &Path) -> io::Result<()> {
    let folder = folder_of(path);
    std::fs::create_dir_all(folder)?;
    File::options()
        .create(true)
        .append(true)
        .open(path)?
        .sync_all()?;
    sync_folder(path)?;
    if let Some(parent) = folder
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty())
    {
        File::open(parent)?.sync_all()?;
    }
    Ok(())
}

fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(folder_of(path))?.sync_all()
}

fn folder_of(path: &Path) -> &Path {
    path.parent()
        .filter(|parent| !parent.as_os_str().is_empty())
        .unwrap_or(Path::new("."))
}

fn rules(config: &Config) -> Rules {
    Rules {
        inline_max: usize::try_from(config.storage.inline_max).unwrap_or(usize::MAX),
        grace: config.gc.grace,
        untagged: match config.gc.untagged {
            Untagged::Keep => granary_registry::Untagged::Keep,
            Untagged::After(age) => granary_registry::Untagged::After(age),
        },
        tag_history: config.tags.history,
        upload_expiry: config.uploads.expiry,
        uploads_per_principal: config.uploads.max_per_principal.get().into(),
        sparse: config.policy.sparse,
        delete: config.policy.delete,
        read_grace: Duration::from_secs(60),
        ..Rules::default()
    }
}
