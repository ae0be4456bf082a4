//! The way of a write: [`S3Writer::drain`] hashes what comes and gathers it into a part, [`S3Writer::send_part`] hands
//! a full part to a task, [`S3Writer::confirm`] notes in order what the server has.
//!
//! ```text
//! write ─> waiting ─> part (fills) ─> flights (in tasks, at most `parallel`) ─> multipart.parts
//!          bytes that                                                           durable: offset, hash
//!          found no memory
//! ```

use std::{collections::VecDeque, mem, sync::Arc};

use async_trait::async_trait;
use bytes::{Buf as _, Bytes};
use granary_oci::{Algorithm, Digest, Hasher};
use tokio::{sync::Semaphore, task::JoinHandle};
use uuid::Uuid;

use super::{
    bucket::Bucket,
    budget::{Share, blocks},
    part::{Gathering, full_size, least_size},
    state::{MOST_PARTS, Multipart, StoredPart},
};
use crate::{BlobWriter, Checkpoint, Ledger, ObjectKey, RemoteFailure, StoreError};

/// Part numbers that are taken at a time: one save for so many parts.
const WINDOW: u32 = 64;

/// The last point an upload can surely be taken up at.
struct Durable {
    offset: u64,
    hasher: Hasher,
    /// The bytes before the offset that no part holds.
    tail: Bytes,
}

/// A part on its way to the server.
struct Flight {
    end: u64,
    hasher: Hasher,
    task: JoinHandle<Result<StoredPart, StoreError>>,
}

impl Drop for Flight {
    fn drop(&mut self) {
        self.task.abort();
    }
}

pub(super) struct S3Writer {
    pub(super) bucket: Arc<Bucket>,
    pub(super) key: ObjectKey,
    pub(super) ledger: Arc<dyn Ledger>,
    /// Names this writer in what it puts.
    pub(super) name: String,
    share: Share,
    lanes: Arc<Semaphore>,
    /// Bytes of a call whose future was dropped while it waited.
    waiting: VecDeque<Bytes>,
    part: Option<Gathering>,
    flights: VecDeque<Flight>,
    /// What the server has; none until a second part is needed.
    pub(super) multipart: Option<Multipart>,
    /// The number of the next part, and the first one that is not reserved.
    next: u32,
    reserved: u32,
    durable: Durable,
    /// Everything taken in, and its hash.
    pub(super) offset: u64,
    pub(super) hasher: Hasher,
    poisoned: bool,
}

/// What a writer works with.
pub(super) struct Tools {
    pub(super) bucket: Arc<Bucket>,
    pub(super) ledger: Arc<dyn Ledger>,
    pub(super) share: Share,
    pub(super) parallel: usize,
}

impl S3Writer {
    /// A writer that goes on at `checkpoint`, whose notes are `multipart`.
    pub(super) async fn new(
        tools: Tools,
        key: ObjectKey,
        checkpoint: Checkpoint,
        multipart: Option<Multipart>,
    ) -> Self {
        let Tools {
            bucket,
            ledger,
            share,
            parallel,
        } = tools;
        let next = multipart.as_ref().map_or(1, |multipart| multipart.free);
        let tail = checkpoint.tail;
        let mut writer = Self {
            bucket,
            key,
            ledger,
            name: Uuid::new_v4().simple().to_string(),
            share,
            lanes: Arc::new(Semaphore::new(parallel.max(1))),
            waiting: VecDeque::new(),
            part: None,
            flights: VecDeque::new(),
            multipart,
            next,
            // The numbers of the writer before are its own for ever: it may still be sending.
            reserved: next,
            offset: checkpoint.offset,
            hasher: checkpoint.hasher.clone(),
            durable: Durable {
                offset: checkpoint.offset,
                hasher: checkpoint.hasher,
                tail: tail.clone(),
            },
            poisoned: false,
        };
        if !tail.is_empty() {
            writer.begin_with(tail).await;
        }
        writer
    }

    /// Puts the saved tail at the front of the next part.
    async fn begin_with(&mut self, tail: Bytes) {
        let least = self.least();
        let mut part = Gathering::new(&self.share);
        // A longer tail than is ever given out counts no more than a part, so that it cannot wait for ever.
        let needed = blocks(tail.len() as u64).min(blocks(least));
        while part.counted() < needed {
            part.count(self.share.take(least).await);
        }
        part.begin(tail);
        self.part = Some(part);
    }

    fn least(&self) -> u64 {
        least_size(self.next, self.share.budget().largest_part())
    }

    fn full(&self) -> u64 {
        full_size(self.next, self.share.budget().largest_part())
    }

    fn usable(&self) -> Result<(), StoreError> {
        if self.poisoned {
            Err(StoreError::Poisoned {
                key: self.key.clone(),
            })
        } else {
            Ok(())
        }
    }

    /// After an error nothing more is sent, and the memory goes to others.
    pub(super) fn check<T>(&mut self, outcome: Result<T, StoreError>) -> Result<T, StoreError> {
        if outcome.is_err() {
            self.poisoned = true;
            self.flights.clear();
            self.waiting.clear();
            self.part = None;
        }
        outcome
    }

    /// Takes in everything that waits. A full part is sent when more follows, so that an object that just fills one is
    /// put in one request.
    async fn drain(&mut self) -> Result<(), StoreError> {
        while let Some(bytes) = self.waiting.front() {
            if bytes.is_empty() {
                self.waiting.pop_front();
                continue;
            }
            self.make_room().await?;
            if let (Some(bytes), Some(part)) = (self.waiting.front_mut(), &mut self.part) {
                let taken = part.fill(bytes);
                self.hasher.update(&bytes[..taken]);
                self.offset += taken as u64;
                bytes.advance(taken);
            }
        }
        Ok(())
    }

    /// Sees to it that the part takes bytes.
    async fn make_room(&mut self) -> Result<(), StoreError> {
        if self.gathered() >= self.full() {
            self.send_part().await?;
        }
        if self.part.as_ref().is_some_and(Gathering::has_room) {
            return Ok(());
        }
        let mut grant = self.share.try_take(self.least());
        if grant.is_none() && self.gathered() >= self.least() {
            // Memory is short: the part goes out smaller than it could be, and its memory comes back.
            self.send_part().await?;
            grant = self.share.try_take(self.least());
        }
        let grant = match grant {
            Some(grant) => grant,
            None => self.share.take(self.least()).await,
        };
        self.part
            .get_or_insert_with(|| Gathering::new(&self.share))
            .add_room(&self.share, grant);
        Ok(())
    }

    /// Bytes in the part that is gathered.
    pub(super) fn gathered(&self) -> u64 {
        self.part.as_ref().map_or(0, Gathering::length)
    }

    /// The part that was gathered, for the end of the object.
    pub(super) fn take_part(&mut self) -> Gathering {
        self.part
            .take()
            .unwrap_or_else(|| Gathering::new(&self.share))
    }

    /// Hands the part to a task. A dropped future leaves it where it is.
    pub(super) async fn send_part(&mut self) -> Result<(), StoreError> {
        let upload = self.reserve().await?;
        // The semaphore is never closed.
        let lane = Arc::clone(&self.lanes).acquire_owned().await.ok();
        self.confirm_ended().await?;
        let Some(part) = self.part.take() else {
            return Ok(());
        };
        let (part, number) = (part.seal(), self.next);
        self.next += 1;
        let (bucket, key) = (Arc::clone(&self.bucket), self.key.clone());
        let task = tokio::spawn(async move {
            let sent = bucket.send(&key, &upload, number, &part).await;
            drop(lane);
            sent
        });
        self.flights.push_back(Flight {
            end: self.offset,
            hasher: self.hasher.clone(),
            task,
        });
        Ok(())
    }

    /// Makes sure the next part number is ours, and says of which upload.
    async fn reserve(&mut self) -> Result<String, StoreError> {
        if self.next > MOST_PARTS {
            let reason = format!("it would need more than {MOST_PARTS} parts");
            return Err(RemoteFailure::new("sending a part of", Some(&self.key), reason).into());
        }
        let multipart = match &mut self.multipart {
            Some(multipart) => multipart,
            none => none.insert(Multipart {
                upload: self.bucket.begin(&self.key).await?,
                free: self.next,
                parts: Vec::new(),
            }),
        };
        if self.next < self.reserved {
            return Ok(multipart.upload.clone());
        }
        let (upload, before) = (multipart.upload.clone(), multipart.free);
        let reserved = (self.next + WINDOW).min(MOST_PARTS + 1);
        multipart.free = reserved;
        let saved = self.ledger.save(&self.durable()).await;
        if matches!(saved, Err(StoreError::Superseded { .. })) && before == 1 {
            // Nobody knows of this upload, and it has no parts yet.
            self.bucket.abort(&self.key, &upload).await.ok();
        }
        saved?;
        self.reserved = reserved;
        Ok(upload)
    }

    /// The checkpoint of what the server has for certain.
    pub(super) fn durable(&self) -> Checkpoint {
        Checkpoint {
            offset: self.durable.offset,
            hasher: self.durable.hasher.clone(),
            state: self
                .multipart
                .as_ref()
                .map(Multipart::encode)
                .unwrap_or_default(),
            tail: self.durable.tail.clone(),
        }
    }

    /// Notes the parts that have arrived, as far as all before them have too.
    async fn confirm_ended(&mut self) -> Result<(), StoreError> {
        while let Some(flight) = self.flights.front()
            && flight.task.is_finished()
        {
            self.confirm().await?;
        }
        Ok(())
    }

    /// Waits for all parts.
    pub(super) async fn settle(&mut self) -> Result<(), StoreError> {
        while !self.flights.is_empty() {
            self.confirm().await?;
        }
        Ok(())
    }

    /// Waits for the first part on its way. Its task stays in place while waiting, so a dropped future loses nothing.
    async fn confirm(&mut self) -> Result<(), StoreError> {
        let (Some(flight), Some(multipart)) = (self.flights.front_mut(), &mut self.multipart)
        else {
            return Ok(());
        };
        let sent = (&mut flight.task).await.map_err(|ended| {
            let reason = format!("its task ended: {ended}");
            StoreError::from(RemoteFailure::new(
                "sending a part of",
                Some(&self.key),
                reason,
            ))
        });
        multipart.parts.push(sent.flatten()?);
        self.durable = Durable {
            offset: flight.end,
            hasher: flight.hasher.clone(),
            tail: Bytes::new(),
        };
        self.flights.pop_front();
        Ok(())
    }

    async fn synced(&mut self) -> Result<Checkpoint, StoreError> {
        self.drain().await?;
        if self.gathered() >= self.least() {
            self.send_part().await?;
        }
        self.settle().await?;
        if let Some(multipart) = &mut self.multipart {
            // Nothing is on its way, so the numbers that were not used go to the next writer, which may be this one.
            multipart.free = self.next;
            self.reserved = self.next;
        }
        self.durable = Durable {
            offset: self.offset,
            hasher: self.hasher.clone(),
            tail: self.part.as_mut().map(Gathering::tail).unwrap_or_default(),
        };
        Ok(self.durable())
    }

    async fn finished(&mut self) -> Result<Checkpoint, StoreError> {
        self.drain().await?;
        self.end().await?;
        Ok(Checkpoint {
            offset: self.offset,
            hasher: self.hasher.clone(),
            state: Vec::new(),
            tail: Bytes::new(),
        })
    }
}

#[async_trait]
impl BlobWriter for S3Writer {
    async fn write(&mut self, bytes: Bytes) -> Result<(), StoreError> {
        self.usable()?;
        self.waiting.push_back(bytes);
        let outcome = self.drain().await;
        self.check(outcome)
    }

    async fn sync(&mut self) -> Result<Checkpoint, StoreError> {
        self.usable()?;
        let outcome = self.synced().await;
        self.check(outcome)
    }

    async fn digest(&mut self, algorithm: Algorithm) -> Result<Option<Digest>, StoreError> {
        self.usable()?;
        // What a dropped call left is part of what was written.
        let outcome = self.drain().await;
        self.check(outcome)?;
        Ok(self.hasher.digest(algorithm))
    }

    async fn finish(mut self: Box<Self>) -> Result<Checkpoint, StoreError> {
        self.usable()?;
        self.finished().await
    }
}

impl Drop for S3Writer {
    fn drop(&mut self) {
        // Before the account is closed, so that the memory on its way counts as such to the last.
        drop(mem::take(&mut self.flights));
    }
}
