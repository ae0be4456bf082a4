//! One request's writing to a session, in a task that a disconnect does not cancel.

use std::time::Duration;

use granary_blobs::StoreError;
use granary_catalog::{BlobPlace, CatalogError, ClaimOutcome, FinishOutcome, StoredUpload};
use granary_oci::Digest;
use tokio::{sync::mpsc, time::Instant};

use crate::{
    BodyError, Chunk, May, Pushing, RegistryError,
    receive::Receiver,
    sessions::{Claim, Lease},
    uploads::{Ending, Piece, in_order},
};

/// How fast a body has to come while others wait for memory: this many bytes in every [`PERIOD`].
const ENOUGH: usize = 256 * 1024;
/// Long enough that a client that pauses is not taken for a slow one.
const PERIOD: Duration = Duration::from_secs(10);

/// Watches how fast a body comes.
struct Pace {
    /// By when enough bytes are to be there.
    due: Instant,
    bytes: usize,
}

impl Pace {
    fn new() -> Self {
        Self {
            due: Instant::now() + PERIOD,
            bytes: 0,
        }
    }

    /// Notes bytes, and how long the store took for them.
    fn came(&mut self, bytes: usize, taken: Duration) {
        self.due += taken;
        self.bytes += bytes;
        if self.bytes >= ENOUGH {
            *self = Self::new();
        }
    }
}

/// The right to write to a session, and where it stands.
pub(crate) struct Transfer {
    may: May<Pushing>,
    id: String,
    lease: Lease,
    row: StoredUpload,
}

impl Transfer {
    /// Becomes the one writer of session `id`, among the requests of this process and then among all processes.
    pub(crate) async fn claim(may: May<Pushing>, id: String) -> Result<Self, RegistryError> {
        may.open_session(&id).await?;
        let (parts, repository) = (may.parts(), may.repository());
        let silence = parts.rules.silence;
        let (lease, taken_over) = match parts.sessions.claim(&id, silence).await {
            Claim::Free(lease) => (lease, false),
            Claim::TakenOver(lease) => (lease, true),
            Claim::Busy { retry_after } => return Err(RegistryError::UploadBusy { retry_after }),
        };
        let row = if parts.catalog.is_shared() {
            let claiming = parts
                .catalog
                .claim_upload(repository, &id, &parts.replica, silence);
            match claiming.await? {
                ClaimOutcome::Claimed(row) => *row,
                ClaimOutcome::Busy { retry_after } => {
                    return Err(RegistryError::UploadBusy { retry_after });
                }
                ClaimOutcome::Unknown => return Err(RegistryError::UploadUnknown(id)),
            }
        } else {
            if taken_over {
                parts.catalog.take_over_upload(&id).await?;
            }
            // Read again: the former writer may have saved between the first look and the claim.
            let row = parts.catalog.take_up_upload(repository, &id).await?;
            row.ok_or(RegistryError::UploadUnknown(id.clone()))?
        };
        Ok(Self {
            may,
            id,
            lease,
            row,
        })
    }

    /// Takes the body in and saves it or ends the blob. Answers how far the session got.
    pub(crate) async fn run(
        self,
        chunk: Chunk,
        incoming: mpsc::Receiver<Piece>,
        ending: Ending,
    ) -> Result<u64, RegistryError> {
        let outcome = tokio::select! {
            biased;
            outcome = self.write(chunk, incoming, ending) => outcome,
            () = self.keep_claim() => Err(RegistryError::UploadSuperseded),
        };
        let catalog = &self.may.parts().catalog;
        // What was saved or finished has let the session go; everything else has to.
        if outcome.is_err() && catalog.is_shared() {
            let released = catalog.release_upload(&self.id, self.row.epoch).await;
            if let Err(error) = released {
                tracing::warn!(%error, session = self.id, "an upload session could not be let go; it is free in a moment");
            }
        }
        match outcome {
            // The bytes are gone, so the client has to begin anew; it must not be told to try the same again.
            Err(RegistryError::Store(StoreError::Missing { key })) => {
                tracing::error!(%key, session = self.id, "the store no longer has what an upload session wrote");
                Err(RegistryError::UploadUnknown(self.id))
            }
            outcome => outcome,
        }
    }

    async fn write(
        &self,
        chunk: Chunk,
        mut incoming: mpsc::Receiver<Piece>,
        ending: Ending,
    ) -> Result<u64, RegistryError> {
        let before = self.row.received;
        in_order(&self.id, before, chunk)?;
        if let (Some(range), Some(length)) = (chunk.range, chunk.length)
            && range.length() != length
        {
            return Err(RegistryError::SizeDiffers {
                announced: range.length(),
                actual: length,
            });
        }
        self.may.parts().store.admit().await?;
        // Taking over from a writer that may still be alive may mean to copy what it wrote.
        self.lease.working(true);
        let (parts, namespace) = (&self.may.registry.parts, self.may.repository().namespace());
        let resumed = Receiver::resume(parts, &self.id, namespace, &self.row).await;
        self.lease.working(false);
        self.lease.heartbeat();
        let mut receiver = resumed?;
        let taken = self.take_body(&mut receiver, &mut incoming).await?;
        let actual = receiver.received() - before;
        if let Err(cut) = taken {
            // A cut chunk keeps what came, so that the client can go on from there (decision 2).
            self.lease.finishing();
            receiver.save().await?;
            return Err(RegistryError::Body(cut));
        }
        self.lease.finishing();
        if let Some(announced) = chunk.announced().filter(|&announced| announced != actual) {
            receiver.rewind(&self.row).await?;
            return Err(RegistryError::SizeDiffers { announced, actual });
        }
        match ending {
            Ending::Save if actual == 0 && !self.may.parts().catalog.is_shared() => Ok(before),
            Ending::Save => receiver.save().await,
            Ending::Finish(expected) => {
                let verified = match receiver.verify(&expected).await {
                    Ok(verified) => verified,
                    Err(refused @ RegistryError::DigestDiffers { .. }) => {
                        receiver.rewind(&self.row).await?;
                        return Err(refused);
                    }
                    Err(failed) => return Err(failed),
                };
                let (unsent, leftover) = (receiver.has_unsent(), receiver.leftover());
                let (size, place) = receiver.finish(&expected, verified).await?;
                self.store(expected, size, place, (unsent, leftover))
                    .await?;
                Ok(size)
            }
        }
    }

    /// Hands the body to the receiver, unless it is cut, another request wants the session, or others wait for the memory
    /// that so slow a body holds.
    async fn take_body(
        &self,
        receiver: &mut Receiver,
        incoming: &mut mpsc::Receiver<Piece>,
    ) -> Result<Result<(), BodyError>, RegistryError> {
        let store = &self.may.parts().store;
        let mut pace = Pace::new();
        loop {
            let piece = tokio::select! {
                // Who wants the session waits for this, and a fast client never lets the bytes run out. A piece that is
                // there comes before the time, which only counts while none is.
                biased;
                () = self.lease.stopped() => None,
                piece = incoming.recv() => piece,
                () = tokio::time::sleep_until(pace.due) => {
                    if store.is_pressed() {
                        tracing::info!(session = self.id, "a slow upload is saved and cut, as others wait for its memory");
                        return Ok(Err(BodyError::Stalled));
                    }
                    pace = Pace::new();
                    continue;
                }
            };
            match piece {
                None => return Ok(Err(BodyError::Cut)),
                Some(Piece::End) => return Ok(Ok(())),
                Some(Piece::Data(bytes)) => {
                    self.lease.heartbeat();
                    let (number, since) = (bytes.len(), Instant::now());
                    // The store may be what is slow, and then no byte comes for a while.
                    self.lease.working(true);
                    let taken = receiver.take(bytes).await;
                    self.lease.working(false);
                    taken?;
                    self.lease.heartbeat();
                    // What the store took its time for is no slowness of the client's.
                    pace.came(number, since.elapsed());
                    granary_failpoint::reach_async("upload::received").await;
                }
            }
        }
    }

    /// Tells other processes that this one is at work, as long as bytes come; ends when the session has another writer.
    async fn keep_claim(&self) {
        let parts = &self.may.parts();
        if !parts.catalog.is_shared() {
            return std::future::pending().await;
        }
        let pause = parts.rules.silence / 4;
        loop {
            tokio::time::sleep(pause).await;
            if !self.lease.is_active_within(pause) {
                continue;
            }
            match parts
                .catalog
                .heartbeat_upload(&self.id, self.row.epoch)
                .await
            {
                // From here on the epoch is compared where it counts, and a finished session has no heartbeat.
                Ok(false) if self.lease.is_finishing() => {}
                Ok(false) => return,
                Ok(true) => {}
                Err(error) => {
                    tracing::warn!(%error, session = self.id, "no heartbeat could be written")
                }
            }
        }
    }

    async fn store(
        &self,
        digest: Digest,
        size: u64,
        place: BlobPlace,
        (unsent, leftover): (bool, Option<String>),
    ) -> Result<(), RegistryError> {
        let (repository, asker) = (self.may.repository(), self.may.asker());
        let registry = &self.may.registry;
        let blob = registry.finished(repository, digest, size, place, asker);
        granary_failpoint::reach_async("upload::before_finish").await;
        let catalog = &self.may.parts().catalog;
        let finishing = catalog.finish_upload(&self.id, self.row.epoch, blob, unsent, leftover);
        let refused = match finishing.await {
            Ok(FinishOutcome::Stored) => {
                granary_failpoint::reach_async("upload::after_finish").await;
                return Ok(());
            }
            Ok(FinishOutcome::Superseded) => {
                return Err(RegistryError::UploadUnknown(self.id.clone()));
            }
            Ok(FinishOutcome::Denied(reason)) => self.may.denied(reason),
            Err(exceeded @ CatalogError::QuotaExceeded(_)) => exceeded.into(),
            Err(error) => return Err(error.into()),
        };
        // Its object is whole by now, and nobody is left who may have it.
        let parts = self.may.parts();
        let grace = parts.rules.read_grace.min(parts.rules.grace);
        catalog.cancel_upload(repository, &self.id, grace).await?;
        Err(refused)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pace_begins_anew_with_enough_bytes() {
        let mut pace = Pace::new();
        let due = pace.due;
        pace.came(ENOUGH / 2, Duration::ZERO);
        pace.came(ENOUGH / 2 - 1, Duration::ZERO);
        assert_eq!((pace.bytes, pace.due), (ENOUGH / 2 * 2 - 1, due));
        let before = Instant::now();
        pace.came(1, Duration::ZERO);
        assert_eq!(pace.bytes, 0);
        assert!(pace.due >= before + PERIOD && pace.due >= due);
    }

    #[test]
    fn what_the_store_takes_its_time_for_is_no_slowness_of_the_body() {
        let mut pace = Pace::new();
        let due = pace.due;
        pace.came(1, PERIOD);
        pace.came(1, PERIOD / 2);
        assert_eq!((pace.bytes, pace.due), (2, due + PERIOD * 3 / 2));
    }
}
