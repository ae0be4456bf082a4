//! Objects as files of one directory tree.
//!
//! The way of a write: [`writer`] gathers incoming bytes on the async side, [`tail`] hashes, writes and syncs them on
//! a blocking thread, [`leases`] keeps a second writer away until that thread has ended. The way of a read:
//! [`reader`] takes what the page cache has on the calling thread ([`cached`]) into buffers used again and again
//! ([`buffers`]), and only what is not there on a blocking thread. [`tree`] knows the layout.
//!
//! Everything that changes the disk goes through `std::fs`, because a test puts a layer between us and libc there.

mod buffers;
mod cached;
mod leases;
mod reader;
mod tail;
#[cfg(test)]
mod tests;
mod tree;
mod writer;

use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use async_trait::async_trait;
use granary_oci::ByteRange;

use self::{buffers::Buffers, leases::Leases, tail::Tail, tree::Tree, writer::FileWriter};
use crate::{
    BlobStore, BlobStream, BlobWriter, Checkpoint, IoFailure, Ledger, ObjectKey, StoreError,
};

/// How long `append` waits for the writer before it to end: a dropped writer may still be in a sync.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long a look at the free space is believed.
const FREE_FOR: Duration = Duration::from_secs(1);

/// Objects as files below one root directory.
pub struct FileStore {
    tree: Arc<Tree>,
    leases: Arc<Leases>,
    buffers: Arc<Buffers>,
    /// The free space when it was last looked at, so that a burst of small uploads asks the system once.
    free: Mutex<Option<(Instant, u64)>>,
    patience: Duration,
}

impl FileStore {
    /// Opens the store at `root`, creating it if need be; uploads leave `reserve` bytes of the disk free.
    ///
    /// Blocks: for the start of a process.
    pub fn open(root: &Path, reserve: u64) -> Result<Self, StoreError> {
        Ok(Self {
            tree: Arc::new(Tree::open(root, reserve)?),
            leases: Arc::default(),
            buffers: Arc::default(),
            free: Mutex::default(),
            patience: PATIENCE,
        })
    }

    fn free(&self) -> Result<u64, StoreError> {
        let mut known = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, free)) = known.filter(|(at, _)| at.elapsed() < FREE_FOR) {
            return Ok(free);
        }
        let free = self.tree.free()?;
        *known = Some((Instant::now(), free));
        Ok(free)
    }

    /// Runs `job`, which may wait for the disk, where that holds up nobody.
    async fn blocking<T: Send + 'static>(
        &self,
        job: impl FnOnce(&Tree) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let tree = Arc::clone(&self.tree);
        match tokio::task::spawn_blocking(move || job(&tree)).await {
            Ok(outcome) => outcome,
            Err(ended) => Err(job_ended(self.tree.root(), ended)),
        }
    }
}

/// A blocking job that panicked or was dropped by a runtime that is shutting down.
fn job_ended(path: &Path, ended: tokio::task::JoinError) -> StoreError {
    IoFailure {
        action: "working on",
        path: path.to_owned(),
        source: ended.into(),
    }
    .into()
}

#[async_trait]
impl BlobStore for FileStore {
    async fn append(
        &self,
        key: &ObjectKey,
        checkpoint: Checkpoint,
        _ledger: Arc<dyn Ledger>,
    ) -> Result<Box<dyn BlobWriter>, StoreError> {
        if key.foreign_path().is_some() {
            return Err(StoreError::Foreign { key: key.clone() });
        }
        let lease = self.leases.claim(key, self.patience).await?;
        let tail = Tail::new(Arc::clone(&self.tree), lease, checkpoint);
        if tail.offset() == 0 {
            // The file is made by the first job, so that a small upload needs one job in all.
            return Ok(Box::new(FileWriter::new(tail)));
        }
        let tail = self.blocking(move |_| tail.opened()).await?;
        Ok(Box::new(FileWriter::new(tail)))
    }

    async fn read(&self, key: &ObjectKey, range: ByteRange) -> Result<BlobStream, StoreError> {
        let file = match cached::open(self.tree.directory(), key) {
            Some(file) => file,
            None => {
                let key = key.clone();
                self.blocking(move |tree| tree.open_object(&key)).await?
            }
        };
        reader::stream(file, self.tree.path(key), key, range, &self.buffers)
    }

    async fn length(&self, key: &ObjectKey) -> Result<Option<u64>, StoreError> {
        let key = key.clone();
        self.blocking(move |tree| tree.length(&key)).await
    }

    async fn delete(&self, keys: &[ObjectKey]) -> Result<(), StoreError> {
        let ours = |key: &&ObjectKey| key.foreign_path().is_none();
        let doomed: Vec<_> = keys.iter().filter(ours).cloned().collect();
        let outcome = self.blocking(move |tree| tree.delete(&doomed)).await;
        self.leases.forgive(keys);
        outcome
    }

    async fn adopt_file(&self, key: &ObjectKey, file: &Path) -> Result<bool, StoreError> {
        if key.foreign_path().is_some() {
            return Err(StoreError::Foreign { key: key.clone() });
        }
        let (key, file) = (key.clone(), file.to_owned());
        self.blocking(move |tree| tree.adopt(&key, &file)).await?;
        Ok(true)
    }

    async fn list(
        &self,
        after: Option<&ObjectKey>,
        limit: usize,
    ) -> Result<Vec<ObjectKey>, StoreError> {
        let after = after.cloned();
        self.blocking(move |tree| tree.list(after.as_ref(), limit))
            .await
    }

    async fn identity(&self, fresh: &str) -> Result<String, StoreError> {
        let fresh = fresh.to_owned();
        self.blocking(move |tree| tree.identity(&fresh)).await
    }

    async fn admit(&self) -> Result<(), StoreError> {
        let (free, reserve) = (self.free()?, self.tree.reserve());
        if free < reserve {
            Err(StoreError::Full { free, reserve })
        } else {
            Ok(())
        }
    }
}
