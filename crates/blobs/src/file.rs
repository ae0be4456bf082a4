//! Objects as files of one directory tree.
//!
//! The way of a write: [`writer`] gathers incoming bytes on the async side, [`tail`] hashes, writes and syncs them on
//! a blocking thread, [`leases`] keeps a second writer away until that thread has ended, and [`sharing`] those of
//! other processes. The way of a read: [`reader`] takes what the page cache has on the calling thread ([`cached`]) into buffers used again and again
//! ([`buffers`]), and only what is not there on a blocking thread. [`tree`] knows the layout.
//!
//! Everything that changes the disk goes through `std::fs`, because a test puts a layer between us and libc there.

mod buffers;
mod cached;
mod leases;
mod reader;
mod sharing;
mod tail;
#[cfg(test)]
mod tests;
mod tree;
mod writer;

use std::{
    io,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use async_trait::async_trait;
use granary_oci::ByteRange;

use self::{
    buffers::Buffers,
    leases::Leases,
    sharing::{Mark, Notes},
    tail::Tail,
    tree::Tree,
    writer::FileWriter,
};
use crate::{
    BlobStore, BlobStream, BlobWriter, Checkpoint, IoFailure, Ledger, ObjectKey, OperationFigures,
    StoreError, figures::Operation,
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
    /// Whether other processes write below the same root.
    shared: bool,
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
            shared: false,
        })
    }

    /// The same store for a root that other processes use at the same time: on one machine, or on a file system where
    /// whoever opens a file sees what was synced before, as on NFS.
    ///
    /// All of them must be opened so. Appending to an object that holds bytes then costs one save to the ledger more.
    pub fn shared(mut self) -> Self {
        self.shared = true;
        self
    }

    /// A writer of a file that other processes leave alone, either by its key or by what the ledger says.
    fn writer(&self, tail: Box<Tail>, ledger: Arc<dyn Ledger>) -> Box<dyn BlobWriter> {
        let mark = self.shared.then(|| Mark::standing(ledger));
        Box::new(FileWriter::new(tail, mark))
    }

    /// Makes a fresh file of what is in `origin` up to the checkpoint. Whoever wrote to `origin` may still do so.
    ///
    /// Cut at any point, it leaves notes from which the next writer of the session finds the bytes and every file.
    async fn take_over(
        &self,
        tail: Box<Tail>,
        checkpoint: Checkpoint,
        ledger: &dyn Ledger,
        (origin, rest): (ObjectKey, Option<ObjectKey>),
    ) -> Result<Box<Tail>, StoreError> {
        let key = tail.target().key().clone();
        self.delete(rest.as_slice()).await?;
        let notes = Notes::From {
            origin: origin.clone(),
            rest: None,
        };
        ledger.save(&notes.on(&checkpoint)).await?;
        let source = origin.clone();
        let tail = self.blocking(move |_| tail.copied(&source)).await?;
        let notes = Notes::Taken {
            former: Some(origin.clone()),
        };
        if let Err(error) = ledger.save(&notes.on(&checkpoint)).await {
            if matches!(error, StoreError::Superseded { .. }) {
                // The successor has removed this file, but maybe before it was made.
                let _ = self.delete(std::slice::from_ref(&key)).await;
            }
            return Err(error);
        }
        self.delete(std::slice::from_ref(&origin)).await?;
        tracing::info!(%key, former = %origin, bytes = checkpoint.offset, "an upload was taken over from a writer that did not end");
        Ok(tail)
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

    fn unreadable(&self, key: &ObjectKey) -> StoreError {
        let problem = "they are not of this kind of store";
        StoreError::io("reading a session's notes on", &self.tree.path(key))(io::Error::new(
            io::ErrorKind::InvalidData,
            problem,
        ))
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
        ledger: Arc<dyn Ledger>,
    ) -> Result<Box<dyn BlobWriter>, StoreError> {
        if key.foreign_path().is_some() {
            return Err(StoreError::Foreign { key: key.clone() });
        }
        let lease = self.leases.claim(key, self.patience).await?;
        let notes = Notes::read(&checkpoint.state).ok_or_else(|| self.unreadable(key))?;
        let tail = Tail::new(Arc::clone(&self.tree), lease, checkpoint.clone());
        if tail.offset() == 0 {
            // The file is made by the first job, so that a small upload needs one job in all.
            return Ok(self.writer(tail, ledger));
        }
        let tail = match notes {
            Notes::Taken { .. } => return Err(StoreError::Busy { key: key.clone() }),
            Notes::From { origin, rest } => {
                self.take_over(tail, checkpoint, &*ledger, (origin, rest))
                    .await?
            }
            Notes::Settled => {
                if self.shared {
                    let notes = Notes::Taken { former: None };
                    ledger.save(&notes.on(&checkpoint)).await?;
                }
                self.blocking(move |_| tail.opened()).await?
            }
        };
        Ok(self.writer(tail, ledger))
    }

    async fn abandon(&self, key: &ObjectKey, state: &[u8]) -> Result<(), StoreError> {
        let notes = Notes::read(state).ok_or_else(|| self.unreadable(key))?;
        let keys: Vec<ObjectKey> = notes.keys().chain([key.clone()]).collect();
        self.delete(&keys).await
    }

    fn successor(&self, key: &ObjectKey, state: &[u8]) -> Option<Vec<u8>> {
        // Notes that cannot be read are refused when they are appended to.
        let notes = Notes::read(state)?.successor(key)?;
        Some(notes.write())
    }

    /// Whoever goes back has synced, so the later notes are true of the file.
    fn rewound(&self, _before: &[u8], later: &[u8]) -> Vec<u8> {
        later.to_vec()
    }

    async fn read(&self, key: &ObjectKey, range: ByteRange) -> Result<BlobStream, StoreError> {
        let file = match cached::open(self.tree.directory(), key) {
            Some(file) => file,
            None => {
                let key = key.clone();
                self.blocking(move |tree| tree.counted(Operation::Read, || tree.open_object(&key)))
                    .await?
            }
        };
        reader::stream(file, &self.tree, key, range, &self.buffers)
    }

    async fn length(&self, key: &ObjectKey) -> Result<Option<u64>, StoreError> {
        let key = key.clone();
        self.blocking(move |tree| tree.counted(Operation::Look, || tree.length(&key)))
            .await
    }

    async fn settle(&self) -> Result<(), StoreError> {
        self.blocking(|tree| tree.counted(Operation::Sync, || tree.settle()))
            .await
    }

    async fn delete(&self, keys: &[ObjectKey]) -> Result<(), StoreError> {
        let ours = |key: &&ObjectKey| key.foreign_path().is_none();
        let doomed: Vec<_> = keys.iter().filter(ours).cloned().collect();
        let outcome = self
            .blocking(move |tree| tree.counted(Operation::Delete, || tree.delete(&doomed)))
            .await;
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
        self.blocking(move |tree| {
            tree.counted(Operation::List, || tree.list(after.as_ref(), limit))
        })
        .await
    }

    async fn known_identity(&self) -> Result<Option<String>, StoreError> {
        self.blocking(|tree| tree.known_identity()).await
    }

    async fn identity(&self, fresh: &str) -> Result<String, StoreError> {
        let (fresh, shared) = (fresh.to_owned(), self.shared);
        self.blocking(move |tree| tree.identity(&fresh, shared))
            .await
    }

    fn figures(&self) -> Vec<OperationFigures> {
        self.tree.figures().read()
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
