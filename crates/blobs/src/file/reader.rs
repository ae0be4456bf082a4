//! Reads of objects.

use std::{
    collections::VecDeque, fs::File, io, os::unix::fs::FileExt as _, path::PathBuf, sync::Arc,
};

use bytes::Bytes;
use futures_util::stream;
use granary_oci::ByteRange;

use super::{
    buffers::{Buffers, PIECE},
    cached, job_ended,
    tree::Tree,
};
use crate::{BlobStream, ObjectKey, StoreError, figures::Operation};

/// Bytes one blocking job reads, unless the object ends before.
const AHEAD: u64 = 1024 * 1024;

/// Bytes the kernel is asked to fetch from where such a job starts: the next ones are under way while these are sent.
const WANTED: u64 = 2 * AHEAD;

/// What reading needs to know; shared with the blocking job.
struct Source {
    file: File,
    tree: Arc<Tree>,
    path: PathBuf,
    key: ObjectKey,
    /// Offset behind the last byte.
    end: u64,
    buffers: Arc<Buffers>,
}

struct Reader {
    source: Arc<Source>,
    /// Offset of the next byte to be read.
    position: u64,
    /// Pieces read and not given out yet.
    ready: VecDeque<Bytes>,
}

/// Streams `range` of an open object.
pub(super) fn stream(
    file: File,
    tree: &Arc<Tree>,
    key: &ObjectKey,
    range: ByteRange,
    buffers: &Arc<Buffers>,
) -> Result<BlobStream, StoreError> {
    let path = tree.path(key);
    let found = file
        .metadata()
        .map_err(StoreError::io("looking at", &path))?
        .len();
    let end = range.first.saturating_add(range.length());
    if found < end {
        // Said now, while the answer can still be an error.
        return Err(StoreError::Damaged {
            key: key.clone(),
            expected: end,
            found,
        });
    }
    let source = Source {
        file,
        tree: Arc::clone(tree),
        path,
        key: key.clone(),
        end,
        buffers: Arc::clone(buffers),
    };
    let reader = Reader {
        source: Arc::new(source),
        position: range.first,
        ready: VecDeque::new(),
    };
    Ok(Box::pin(stream::try_unfold(reader, Reader::next)))
}

impl Reader {
    async fn next(mut self) -> Result<Option<(Bytes, Self)>, StoreError> {
        if let Some(piece) = self.ready.pop_front() {
            return Ok(Some((piece, self)));
        }
        if self.position >= self.source.end {
            return Ok(None);
        }
        if let Some(piece) = self.source.read_cached(self.position) {
            self.position += piece.len() as u64;
            return Ok(Some((piece, self)));
        }
        let (source, position) = (Arc::clone(&self.source), self.position);
        let read = tokio::task::spawn_blocking(move || {
            let tree = &source.tree;
            tree.counted(Operation::Read, || source.read_ahead(position))
        })
        .await;
        self.ready = read
            .map_err(|ended| job_ended(&self.source.path, ended))
            .flatten()?;
        for piece in &self.ready {
            self.position += piece.len() as u64;
        }
        Ok(self.ready.pop_front().map(|piece| (piece, self)))
    }
}

impl Source {
    /// The next piece, as far as it is in the page cache.
    fn read_cached(&self, position: u64) -> Option<Bytes> {
        let mut buffer = self.buffers.take();
        let filled = cached::read(&self.file, buffer.room(self.end - position), position)?;
        Some(buffer.share(filled))
    }

    /// The next pieces, at least one; waits for the disk.
    fn read_ahead(&self, start: u64) -> Result<VecDeque<Bytes>, StoreError> {
        cached::fetch(&self.file, start, WANTED.min(self.end - start));
        let stop = self.end.min(start.saturating_add(AHEAD));
        let mut pieces = VecDeque::new();
        let mut position = start;
        while position < stop {
            match self.read_piece(position, stop - position) {
                Ok(piece) => {
                    position += piece.len() as u64;
                    pieces.push_back(piece);
                }
                // The good pieces go out first; the next call meets the error again.
                Err(_) if !pieces.is_empty() => break,
                Err(error) => return Err(error),
            }
        }
        Ok(pieces)
    }

    fn read_piece(&self, position: u64, left: u64) -> Result<Bytes, StoreError> {
        let mut buffer = self.buffers.take();
        let room = buffer.room(left);
        let mut filled = 0;
        while filled < room.len() {
            match self
                .file
                .read_at(&mut room[filled..], position + filled as u64)
            {
                Ok(0) => {
                    let found = position + filled as u64;
                    return Err(StoreError::Damaged {
                        key: self.key.clone(),
                        expected: self.end,
                        found,
                    });
                }
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(StoreError::io("reading", &self.path)(error)),
            }
        }
        Ok(buffer.share(filled))
    }
}

// A blocking job must read whole pieces.
const _: () = assert!(AHEAD.is_multiple_of(PIECE as u64));

/// Reads from `start` to `end` as if nothing could be asked of the page cache.
#[cfg(test)]
pub(super) fn read_ahead_all(
    file: File,
    tree: &Arc<Tree>,
    key: &ObjectKey,
    start: u64,
    end: u64,
    buffers: &Arc<Buffers>,
) -> Result<Vec<Bytes>, StoreError> {
    let source = Source {
        file,
        tree: Arc::clone(tree),
        path: PathBuf::new(),
        key: key.clone(),
        end,
        buffers: Arc::clone(buffers),
    };
    let (mut position, mut pieces) = (start, Vec::new());
    while position < end {
        for piece in source.read_ahead(position)? {
            position += piece.len() as u64;
            pieces.push(piece);
        }
    }
    Ok(pieces)
}
