//! The async side of a write: gathers bytes and hands them to one blocking job at a time.
//!
//! ```text
//! write ──> batch (fills) ──> job (hashes and writes)         at most one job, at most one batch:
//!                              └─ every 16 MiB: sync behind    two batches in memory per upload
//! sync  ──> one job: the rest of the batch, data sync, and once the directory's
//! ```

use std::mem;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use granary_oci::{Algorithm, Digest};
use tokio::task::{JoinHandle, spawn_blocking};

use super::{job_ended, sharing::Mark, tail::Tail};
use crate::{BlobWriter, Checkpoint, ObjectKey, StoreError};

/// Bytes one job takes: enough that handing over costs little, little enough that many uploads fit in memory.
const BATCH: usize = 512 * 1024;

/// Pieces below this are copied together: each would hold on to the network buffer it was cut from.
const SMALL: usize = 8 * 1024;

/// Written bytes after which a sync is started behind the stream, so that the last one finds little to do.
const BEHIND: u64 = 16 * 1024 * 1024;

/// Unsynced bytes at which the stream waits for the sync behind it: the disk does not keep up.
const BEHIND_MOST: u64 = 4 * BEHIND;

/// Bytes that wait for a job.
#[derive(Default)]
struct Batch {
    pieces: Vec<Bytes>,
    small: BytesMut,
    length: usize,
}

impl Batch {
    fn push(&mut self, bytes: Bytes) {
        self.length += bytes.len();
        if bytes.len() < SMALL {
            self.small.extend_from_slice(&bytes);
            return;
        }
        self.end_small();
        self.pieces.push(bytes);
    }

    fn end_small(&mut self) {
        if !self.small.is_empty() {
            self.pieces.push(self.small.split().freeze());
        }
    }

    fn take(&mut self) -> Vec<Bytes> {
        self.end_small();
        self.length = 0;
        mem::take(&mut self.pieces)
    }
}

enum Stage {
    Idle(Box<Tail>),
    Busy(JoinHandle<Result<Box<Tail>, StoreError>>),
    Poisoned,
}

pub(super) struct FileWriter {
    key: ObjectKey,
    batch: Batch,
    stage: Stage,
    /// The sync behind the stream, and the offset it was started at.
    behind: Option<JoinHandle<Result<(), StoreError>>>,
    behind_from: u64,
    /// Where other processes use the folder too.
    mark: Option<Mark>,
}

impl FileWriter {
    pub(super) fn new(tail: Box<Tail>, mark: Option<Mark>) -> Self {
        let (key, behind_from) = (tail.target().key().clone(), tail.offset());
        Self {
            key,
            batch: Batch::default(),
            stage: Stage::Idle(tail),
            behind: None,
            behind_from,
            mark,
        }
    }

    /// Says in the session's row that bytes are about to be written, if it says that nobody writes.
    async fn mark(&mut self) -> Result<(), StoreError> {
        let Some(mark) = self.mark.as_mut().filter(|mark| mark.is_due()) else {
            return Ok(());
        };
        let marked = match &self.stage {
            Stage::Idle(tail) => match tail.checkpoint() {
                Some(checkpoint) => mark.set(&checkpoint).await,
                None => Err(poisoned(&self.key)),
            },
            Stage::Busy(_) | Stage::Poisoned => Err(poisoned(&self.key)),
        };
        if marked.is_err() {
            self.stage = Stage::Poisoned;
        }
        marked
    }

    /// Waits for the job in flight. The handle stays in place while waiting, so a dropped future loses nothing.
    async fn settle(&mut self) -> Result<(), StoreError> {
        let Stage::Busy(job) = &mut self.stage else {
            return Ok(());
        };
        let outcome = job
            .await
            .map_err(|ended| job_ended(self.key.as_str().as_ref(), ended))
            .flatten();
        self.stage = Stage::Poisoned;
        self.stage = Stage::Idle(outcome?);
        Ok(())
    }

    /// Waits for the sync behind the stream.
    async fn settle_behind(&mut self) -> Result<(), StoreError> {
        let Some(job) = &mut self.behind else {
            return Ok(());
        };
        let outcome = job
            .await
            .map_err(|ended| job_ended(self.key.as_str().as_ref(), ended))
            .flatten();
        self.behind = None;
        if outcome.is_err() {
            self.stage = Stage::Poisoned;
        }
        outcome
    }

    /// Starts a sync behind the stream when enough was written since the last one.
    async fn sync_behind(&mut self) -> Result<(), StoreError> {
        let Stage::Idle(tail) = &self.stage else {
            return Ok(());
        };
        let unsynced = tail.offset() - self.behind_from;
        if unsynced >= BEHIND_MOST || self.behind.as_ref().is_some_and(JoinHandle::is_finished) {
            self.settle_behind().await?;
        }
        let Stage::Idle(tail) = &self.stage else {
            return Ok(());
        };
        if let Some(file) = tail
            .file()
            .filter(|_| unsynced >= BEHIND && self.behind.is_none())
        {
            let (target, file) = (tail.target().clone(), file.clone());
            self.behind_from = tail.offset();
            self.behind = Some(spawn_blocking(move || target.sync(&file)));
        }
        Ok(())
    }

    /// Hands the batch to a job that also does `more`.
    fn start(&mut self, more: fn(&mut Tail) -> Result<(), StoreError>) -> Result<(), StoreError> {
        match mem::replace(&mut self.stage, Stage::Poisoned) {
            Stage::Idle(mut tail) => {
                let pieces = self.batch.take();
                self.stage = Stage::Busy(spawn_blocking(move || {
                    tail.write(&pieces)?;
                    more(&mut tail)?;
                    Ok(tail)
                }));
                Ok(())
            }
            Stage::Busy(_) | Stage::Poisoned => Err(poisoned(&self.key)),
        }
    }
}

fn poisoned(key: &ObjectKey) -> StoreError {
    StoreError::Poisoned { key: key.clone() }
}

#[async_trait]
impl BlobWriter for FileWriter {
    async fn write(&mut self, bytes: Bytes) -> Result<(), StoreError> {
        if matches!(self.stage, Stage::Poisoned) {
            return Err(poisoned(&self.key));
        }
        self.mark().await?;
        self.batch.push(bytes);
        if self.batch.length < BATCH {
            return Ok(());
        }
        self.settle().await?;
        self.sync_behind().await?;
        self.start(|_| Ok(()))
    }

    async fn sync(&mut self) -> Result<Checkpoint, StoreError> {
        self.settle().await?;
        let durable = match &self.stage {
            Stage::Idle(tail) if self.batch.length == 0 && self.behind.is_none() => {
                tail.checkpoint()
            }
            _ => None,
        };
        if let Some(checkpoint) = durable {
            self.mark.iter_mut().for_each(Mark::lift);
            return Ok(checkpoint);
        }
        self.start(Tail::sync)?;
        // The kernel reports a failed write-back to one sync only, so both must have succeeded.
        self.settle_behind().await?;
        self.settle().await?;
        let durable = match &self.stage {
            Stage::Idle(tail) => tail.checkpoint(),
            Stage::Busy(_) | Stage::Poisoned => None,
        };
        let checkpoint = durable.ok_or_else(|| poisoned(&self.key))?;
        self.behind_from = checkpoint.offset;
        self.mark.iter_mut().for_each(Mark::lift);
        Ok(checkpoint)
    }

    async fn digest(&mut self, algorithm: Algorithm) -> Result<Option<Digest>, StoreError> {
        // The hash is made by the job that writes; the sync that follows in `finish` then finds nothing to do.
        Ok(self.sync().await?.hasher.digest(algorithm))
    }

    async fn finish(mut self: Box<Self>) -> Result<Checkpoint, StoreError> {
        self.sync().await
    }
}
