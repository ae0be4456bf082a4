//! The end of a file that is being written: everything here may wait for the disk.

use std::{
    fs::{File, OpenOptions},
    io::{self, IoSlice, Read as _, Seek as _, SeekFrom, Write as _},
    path::PathBuf,
    sync::Arc,
};

use bytes::Bytes;
use fail::fail_point;

use super::{
    leases::Lease,
    tree::{Tree, again_if_stale, missing_or},
};
use crate::{Checkpoint, ObjectKey, StoreError, figures::Operation};

/// The object being written. Whoever may still touch the file holds it, and the lease with it.
pub(super) struct Target {
    tree: Arc<Tree>,
    lease: Lease,
    path: PathBuf,
}

/// The place where the next bytes go.
pub(super) struct Tail {
    target: Arc<Target>,
    /// `None` until the first job of a new object.
    file: Option<Arc<File>>,
    /// Where the next byte goes, and the hash up to there.
    checkpoint: Checkpoint,
    /// The file has changed since its last sync; cutting it is a change too.
    dirty: bool,
    /// The object's name was not synced yet.
    nameless: bool,
    /// In which stretch of the object the free space was last looked at.
    looked_at: Option<u64>,
}

/// After so many bytes the free space is looked at again. An upload takes no more of the reserve.
const STRETCH: u64 = 4 * 1024 * 1024;

impl Target {
    pub(super) fn key(&self) -> &ObjectKey {
        self.lease.key()
    }

    /// Syncs the data of `file`, condemning the object if that fails.
    pub(super) fn sync(&self, file: &File) -> Result<(), StoreError> {
        self.tree.counted(Operation::Sync, || {
            sync_data(file).map_err(|error| self.failed_sync(error))
        })
    }

    fn failed_sync(&self, error: io::Error) -> StoreError {
        self.lease.condemn();
        // Said here too, because behind a stream whose writer is gone nobody hears the answer.
        tracing::error!(key = %self.key(), %error, "syncing an object failed: nothing more is acknowledged on it");
        self.failed("syncing", error)
    }

    /// A disk that filled up under a write is the same to a client as one that was full before.
    fn failed(&self, action: &'static str, error: io::Error) -> StoreError {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => StoreError::Full {
                free: self.tree.free().unwrap_or(0),
                reserve: self.tree.reserve(),
            },
            _ => StoreError::io(action, &self.path)(error),
        }
    }
}

impl Tail {
    pub(super) fn new(tree: Arc<Tree>, lease: Lease, mut checkpoint: Checkpoint) -> Box<Self> {
        // What it gives out is synced, and there is nothing to note of a file that nobody writes to.
        checkpoint.state = Vec::new();
        let path = tree.path(lease.key());
        let nameless = checkpoint.offset == 0;
        let target = Arc::new(Target { tree, lease, path });
        Box::new(Self {
            target,
            file: None,
            checkpoint,
            dirty: true,
            nameless,
            looked_at: None,
        })
    }

    pub(super) fn target(&self) -> &Arc<Target> {
        &self.target
    }

    pub(super) fn file(&self) -> Option<&Arc<File>> {
        self.file.as_ref()
    }

    pub(super) fn offset(&self) -> u64 {
        self.checkpoint.offset
    }

    /// The way to go on from here, if all of it is durable.
    pub(super) fn checkpoint(&self) -> Option<Checkpoint> {
        let durable = !self.dirty && !self.nameless;
        durable.then(|| self.checkpoint.clone())
    }

    /// Opens the file now and cuts what lies behind the checkpoint.
    pub(super) fn opened(mut self: Box<Self>) -> Result<Box<Self>, StoreError> {
        self.open()?;
        Ok(self)
    }

    /// Makes the file now, of the bytes that `origin` holds up to the checkpoint, and syncs it.
    ///
    /// The system shares or copies the bytes by itself where it can; none of them pass through here then.
    pub(super) fn copied(mut self: Box<Self>, origin: &ObjectKey) -> Result<Box<Self>, StoreError> {
        let tree = Arc::clone(&self.target.tree);
        let length = self.checkpoint.offset;
        let source = tree.open_object(origin)?;
        let (free, reserve) = (tree.free()?, tree.reserve());
        if free < reserve.saturating_add(length) {
            return Err(StoreError::Full { free, reserve });
        }
        let mut file = self.create()?;
        let copied = io::copy(&mut source.take(length), &mut file)
            .map_err(|error| self.target.failed("copying to", error))?;
        if copied != length {
            return Err(StoreError::Damaged {
                key: origin.clone(),
                expected: length,
                found: copied,
            });
        }
        fail_point!("blobs::copied", |_| Err(self
            .target
            .failed("copying to", rustix::io::Errno::IO.into())));
        self.file = Some(Arc::new(file));
        self.nameless = true;
        self.sync()?;
        Ok(self)
    }

    fn open(&mut self) -> Result<Arc<File>, StoreError> {
        if let Some(file) = &self.file {
            return Ok(Arc::clone(file));
        }
        let file = Arc::new(if self.checkpoint.offset == 0 {
            self.create()?
        } else {
            self.reopen()?
        });
        self.file = Some(Arc::clone(&file));
        Ok(file)
    }

    /// A new object; what an earlier try left there was never acknowledged.
    fn create(&self) -> Result<File, StoreError> {
        let created = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .open(&self.target.path);
        created.map_err(|error| self.target.failed("creating", error))
    }

    fn reopen(&mut self) -> Result<File, StoreError> {
        let Target { path, .. } = &*self.target;
        let open = || OpenOptions::new().write(true).open(path);
        let mut file = again_if_stale(open)
            .map_err(|error| missing_or("opening", path, self.target.key(), error))?;
        let found = file
            .metadata()
            .map_err(StoreError::io("looking at", path))?
            .len();
        self.expect_length(found >= self.checkpoint.offset, found)?;
        self.dirty = found > self.checkpoint.offset;
        if self.dirty {
            file.set_len(self.checkpoint.offset)
                .map_err(|error| self.target.failed("cutting", error))?;
        }
        file.seek(SeekFrom::Start(self.checkpoint.offset))
            .map_err(StoreError::io("opening", path))?;
        Ok(file)
    }

    /// Hashes and writes `pieces`.
    pub(super) fn write(&mut self, pieces: &[Bytes]) -> Result<(), StoreError> {
        self.look_for_room(pieces)?;
        let file = self.open()?;
        let mut slices = Vec::with_capacity(pieces.len());
        for piece in pieces {
            self.checkpoint.hasher.update(piece);
            self.checkpoint.offset += piece.len() as u64;
            slices.push(IoSlice::new(piece));
        }
        self.dirty |= !pieces.is_empty();
        self.target.tree.counted(Operation::Write, || {
            write_all(&file, &mut slices).map_err(|error| self.target.failed("writing", error))
        })
    }

    /// Refuses bytes that the reserve has no room for. Looked at again from time to time, as others write too.
    fn look_for_room(&mut self, pieces: &[Bytes]) -> Result<(), StoreError> {
        let stretch = self.checkpoint.offset / STRETCH;
        if pieces.is_empty() || self.looked_at == Some(stretch) {
            return Ok(());
        }
        let tree = &self.target.tree;
        let (free, reserve) = (tree.free()?, tree.reserve());
        if free < reserve {
            return Err(StoreError::Full { free, reserve });
        }
        self.looked_at = Some(stretch);
        Ok(())
    }

    /// Makes everything written durable, and the object's name.
    pub(super) fn sync(&mut self) -> Result<(), StoreError> {
        let file = self.open()?;
        // Only a stranger's hand can make this differ; such an object must not be acknowledged.
        let found = file
            .metadata()
            .map_err(StoreError::io("looking at", &self.target.path))?
            .len();
        self.expect_length(found == self.checkpoint.offset, found)?;
        if self.dirty {
            self.target.sync(&file)?;
            self.dirty = false;
        }
        if self.nameless {
            self.target
                .tree
                .sync_name(self.target.key())
                .map_err(|error| self.target.failed_sync(error))?;
            self.nameless = false;
        }
        Ok(())
    }

    fn expect_length(&self, right: bool, found: u64) -> Result<(), StoreError> {
        let expected = self.checkpoint.offset;
        if right {
            Ok(())
        } else {
            Err(StoreError::Damaged {
                key: self.target.key().clone(),
                expected,
                found,
            })
        }
    }
}

/// Writes straight from the pieces: gathering them in a buffer first would be one more copy of every byte.
fn write_all(mut file: &File, mut slices: &mut [IoSlice<'_>]) -> io::Result<()> {
    fail_point!("blobs::write", |_| Err(io::Error::from(
        rustix::io::Errno::IO
    )));
    while !slices.is_empty() {
        match file.write_vectored(slices) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => IoSlice::advance_slices(&mut slices, written),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn sync_data(file: &File) -> io::Result<()> {
    fail_point!("blobs::sync", |_| Err(io::Error::from(
        rustix::io::Errno::IO
    )));
    file.sync_data()
}
