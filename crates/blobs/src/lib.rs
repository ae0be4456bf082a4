//! Bytes by key: the store that holds blobs, on a filesystem, in an S3 bucket or in memory, behind one trait.
//!
//! A store knows objects, offsets and durability. It never knows digests as names, repositories, permissions or
//! sessions: what an object means stands in the catalog alone. It never copies or renames an
//! object's bytes: they go to their final place from the first byte.

mod error;
mod figures;
mod file;
mod key;
mod memory;
mod s3;
#[cfg(any(test, feature = "suite"))]
pub mod suite;

use std::{fmt, path::Path, pin::Pin, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::Stream;
use granary_oci::{Algorithm, ByteRange, Digest, Hasher};

pub use error::{IoFailure, RemoteFailure, StoreError};
pub use figures::OperationFigures;
pub use file::FileStore;
pub use key::{FOREIGN, ObjectKey, ObjectKeyError};
pub use memory::MemoryStore;
pub use s3::{
    BucketReader, DEFAULT_BUDGET, DEFAULT_PARALLEL, FolderPage, LEAST_BUDGET, Named, S3Config,
    S3Store, Secret,
};

/// The bytes of a read, in order. After an error nothing follows.
pub type BlobStream = Pin<Box<dyn Stream<Item = Result<Bytes, StoreError>> + Send>>;

/// What an upload session keeps between requests: everything before `offset` is durable once this is.
#[derive(Clone)]
pub struct Checkpoint {
    /// Number of durable bytes, those in `tail` included.
    pub offset: u64,
    /// The hash of exactly these bytes, ready for more.
    pub hasher: Hasher,
    /// The back end's own notes: empty in memory, and on a filesystem that one process uses.
    pub state: Vec<u8>,
    /// The last bytes before `offset`, if they are too few for the back end to hold; whoever keeps the checkpoint
    /// keeps them. Empty on a filesystem and in memory.
    pub tail: Bytes,
}

impl Checkpoint {
    /// The beginning of an object.
    pub fn start(hasher: Hasher) -> Self {
        Self {
            offset: 0,
            hasher,
            state: Vec::new(),
            tail: Bytes::new(),
        }
    }
}

impl fmt::Debug for Checkpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A hash state says nothing to a reader.
        f.debug_struct("Checkpoint")
            .field("offset", &self.offset)
            .finish_non_exhaustive()
    }
}

/// Where a writer has checkpoints kept while it writes: the row of its upload session.
#[async_trait]
pub trait Ledger: Send + Sync {
    /// Makes the checkpoint durable, or answers [`StoreError::Superseded`] if the session has another writer now.
    ///
    /// A back end whose pieces carry numbers saves which ones it is about to use, so that a writer that was
    /// superseded can never write where its successor does (decision 1).
    async fn save(&self, checkpoint: &Checkpoint) -> Result<(), StoreError>;
}

/// A ledger for writers that nobody will succeed: imports, repairs, tests.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unsaved;

#[async_trait]
impl Ledger for Unsaved {
    async fn save(&self, _checkpoint: &Checkpoint) -> Result<(), StoreError> {
        Ok(())
    }
}

/// Holds immutable objects by unique keys.
#[async_trait]
pub trait BlobStore: Send + Sync + 'static {
    /// Opens object `key` to go on at `checkpoint`, creating it at offset 0.
    ///
    /// Bytes behind the offset were never acknowledged and are cut off. An object shorter than the offset is
    /// [`StoreError::Damaged`], a missing one [`StoreError::Missing`]. A key has one writer at a time: while
    /// another one lives the answer may be [`StoreError::Busy`]. An object that cannot be created may show only at
    /// the first write that is carried out or at the first sync.
    ///
    /// A key of another registry's object is [`StoreError::Foreign`].
    async fn append(
        &self,
        key: &ObjectKey,
        checkpoint: Checkpoint,
        ledger: Arc<dyn Ledger>,
    ) -> Result<Box<dyn BlobWriter>, StoreError>;

    /// Streams exactly the bytes of `range`.
    ///
    /// An object that is missing, or already seen to be shorter than the range, is an error here; what shows
    /// later (a truncated file, a failing disk) is an error in the stream and ends it.
    async fn read(&self, key: &ObjectKey, range: ByteRange) -> Result<BlobStream, StoreError>;

    /// The object's present length, or `None` if there is none.
    async fn length(&self, key: &ObjectKey) -> Result<Option<u64>, StoreError>;

    /// Makes all objects durable that are there, whoever wrote them and however that ended.
    async fn settle(&self) -> Result<(), StoreError> {
        Ok(())
    }

    /// Removes the objects. Removing a missing one is success, and so is leaving a foreign one where it is. After an
    /// error the others were still tried.
    async fn delete(&self, keys: &[ObjectKey]) -> Result<(), StoreError>;

    /// Removes what a session that will never finish left under `key`; `state` is its last checkpoint's.
    ///
    /// Unlike [`delete`](Self::delete) it also ends what the back end keeps of unfinished objects.
    async fn abandon(&self, key: &ObjectKey, state: &[u8]) -> Result<(), StoreError> {
        let _ = state;
        self.delete(std::slice::from_ref(key)).await
    }

    /// With which notes an object of a fresh key takes over the bytes of `key`, when an upload session goes on at a
    /// checkpoint with the notes `state`. `None`, the usual answer, means that `key` itself is gone on with.
    ///
    /// Where nothing keeps an overtaken writer from writing to an object, its successor needs another one. The caller
    /// appends to that with the same checkpoint and the new notes; the former object is the back end's to remove.
    fn successor(&self, key: &ObjectKey, state: &[u8]) -> Option<Vec<u8>> {
        let _ = (key, state);
        None
    }

    /// The notes of a checkpoint that is gone back to, given those of a later one: what was used since stays used.
    fn rewound(&self, before: &[u8], later: &[u8]) -> Vec<u8> {
        let _ = later;
        before.to_vec()
    }

    /// An address at which anybody may read the object for `lifetime` without asking us, if the back end can give one.
    async fn link(
        &self,
        key: &ObjectKey,
        lifetime: Duration,
    ) -> Result<Option<String>, StoreError> {
        let _ = (key, lifetime);
        Ok(None)
    }

    /// Gives `file` a second name, `key`, durably, if the back end has files: both are the same bytes from then on, and
    /// removing either name leaves the other. `false` if it has none.
    ///
    /// Only a regular file of the same file system can be given one; the last part of its path is never followed. It must
    /// not be written to any more.
    async fn adopt_file(&self, key: &ObjectKey, file: &Path) -> Result<bool, StoreError> {
        let _ = (key, file);
        Ok(false)
    }

    /// The bucket in which the objects lie, if they lie in one: with whatever others put into it.
    fn bucket(&self) -> Option<BucketReader> {
        None
    }

    /// Up to `limit` objects of ours in key order, from the first behind `after`: for scrub and restore, never in a request.
    async fn list(
        &self,
        after: Option<&ObjectKey>,
        limit: usize,
    ) -> Result<Vec<ObjectKey>, StoreError>;

    /// The store's identity, if it was given one.
    async fn known_identity(&self) -> Result<Option<String>, StoreError>;

    /// Reads the store's identity, writing `fresh` durably if it has none yet.
    async fn identity(&self, fresh: &str) -> Result<String, StoreError>;

    /// What became of the store's dealings with its disk or server, for metrics; nothing where there is neither.
    fn figures(&self) -> Vec<OperationFigures> {
        Vec::new()
    }

    /// [`StoreError::Full`] when an upload must not start or go on.
    async fn admit(&self) -> Result<(), StoreError>;

    /// Whether uploads wait for memory that others hold.
    fn is_pressed(&self) -> bool {
        false
    }
}

/// Writes one object from a checkpoint on.
///
/// After any error the writer is poisoned: every later call fails, and what was not acknowledged by a checkpoint
/// before is lost. Dropping a writer abandons what was not synced; the object can be taken up again with
/// [`BlobStore::append`] at the last checkpoint. A call whose future is dropped loses nothing that was taken in.
#[async_trait]
pub trait BlobWriter: Send {
    /// Takes in the next bytes. A bounded number of them may still be in flight when it returns.
    async fn write(&mut self, bytes: Bytes) -> Result<(), StoreError>;

    /// Makes everything so far durable, the object's name included, and says up to where.
    async fn sync(&mut self) -> Result<Checkpoint, StoreError>;

    /// The digest of everything written so far, if its algorithm was computed from the first byte on.
    async fn digest(&mut self, algorithm: Algorithm) -> Result<Option<Digest>, StoreError>;

    /// Syncs and ends the object at its present length. Nothing can be appended to it afterwards.
    async fn finish(self: Box<Self>) -> Result<Checkpoint, StoreError>;
}
