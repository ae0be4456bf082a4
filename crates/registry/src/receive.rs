//! Taking in the bytes of an upload: few stay in the catalog, many go to an object.

use std::{
    ops::Range,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use granary_blobs::{BlobWriter, Checkpoint, Ledger, ObjectKey, StoreError};
use granary_catalog::{BlobPlace, CatalogError, Progress, QuotaExceeded, StoredUpload, Unsent};
use granary_oci::{Algorithm, ByteRange, Digest, Hasher};

use crate::{RegistryError, blobs::parse_key, registry::Parts};

/// Where the bytes of one session go.
pub(crate) struct Receiver {
    row: Arc<SessionRow>,
    /// The object noted in the session row, before or after it holds anything.
    key: Option<ObjectKey>,
    place: Place,
}

enum Place {
    Inline {
        bytes: BytesMut,
        hasher: Box<Hasher>,
    },
    Object {
        writer: Box<dyn BlobWriter>,
        received: u64,
    },
}

/// The row of a session, as its one writer saves to it.
struct SessionRow {
    parts: Arc<Parts>,
    id: String,
    epoch: i64,
    /// Of whose quota its bytes are reserved, if there is one.
    namespace: String,
    /// That there was too little of it, while the store wrote.
    refused: Mutex<Option<QuotaExceeded>>,
    /// Which bytes the row keeps because the store does not hold them yet.
    unsent: Mutex<Range<u64>>,
    /// Whether the row was saved while this writer wrote.
    moved: AtomicBool,
}

impl SessionRow {
    /// Saves a checkpoint; `false` if the session has another writer or ended.
    async fn save(
        &self,
        key: &ObjectKey,
        checkpoint: &Checkpoint,
        release: bool,
    ) -> Result<bool, CatalogError> {
        let end = checkpoint.offset;
        let now = end - checkpoint.tail.len() as u64..end;
        let before = self.unsent().clone();
        let grows = before.start == now.start && before.end <= now.end;
        let saved = if grows { before.end - before.start } else { 0 };
        let progress = Progress {
            received: end,
            hash_state: checkpoint.hasher.export(),
            // A key that nothing was sent to is not worth keeping.
            storage_key: (checkpoint.offset > checkpoint.tail.len() as u64
                || !checkpoint.state.is_empty())
            .then(|| key.as_str().to_owned()),
            store_state: checkpoint.state.clone(),
            tail: None,
            unsent: Unsent {
                bytes: checkpoint.tail.clone(),
                saved: usize::try_from(saved).unwrap_or(0),
                replaces: !grows && !before.is_empty(),
            },
            release,
            leftover: None,
        };
        let saved = self
            .parts
            .catalog
            .save_upload(&self.id, self.epoch, &self.namespace, progress)
            .await?;
        if saved {
            *self.unsent() = now;
        }
        Ok(saved)
    }

    /// Notes a new key in the row, so that a crash leaves no stray object; the former one is left behind.
    async fn fresh_key(&self, former: Option<ObjectKey>) -> Result<ObjectKey, RegistryError> {
        let key = ObjectKey::unique();
        let former = former.map(|key| key.as_str().to_owned());
        let reserving =
            self.parts
                .catalog
                .reserve_object(&self.id, self.epoch, key.as_str(), former);
        if reserving.await? {
            Ok(key)
        } else {
            Err(RegistryError::UploadUnknown(self.id.clone()))
        }
    }

    async fn append(
        self: Arc<Self>,
        key: &ObjectKey,
        checkpoint: Checkpoint,
    ) -> Result<Box<dyn BlobWriter>, RegistryError> {
        let ledger = ObjectLedger {
            row: Arc::clone(&self),
            key: key.clone(),
        };
        let store = &self.parts.store;
        let appending = store.append(key, checkpoint, Arc::new(ledger));
        appending.await.map_err(|error| self.why(error))
    }

    /// Why the store failed: perhaps because a save was refused.
    fn why(&self, error: StoreError) -> RegistryError {
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        match refused.take() {
            Some(exceeded) => RegistryError::QuotaExceeded(exceeded),
            None => error.into(),
        }
    }

    fn unsent(&self) -> std::sync::MutexGuard<'_, Range<u64>> {
        self.unsent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a store's writer saves to while it writes `key`.
struct ObjectLedger {
    row: Arc<SessionRow>,
    key: ObjectKey,
}

#[async_trait]
impl Ledger for ObjectLedger {
    async fn save(&self, checkpoint: &Checkpoint) -> Result<(), StoreError> {
        self.row.moved.store(true, Ordering::Relaxed);
        match self.row.save(&self.key, checkpoint, false).await {
            Ok(true) => Ok(()),
            Ok(false) => Err(StoreError::Superseded {
                key: self.key.clone(),
            }),
            Err(CatalogError::QuotaExceeded(exceeded)) => {
                let refused = self.row.refused.lock();
                *refused.unwrap_or_else(PoisonError::into_inner) = Some(exceeded);
                Err(StoreError::Unsaved {
                    key: self.key.clone(),
                })
            }
            Err(error) => {
                tracing::warn!(%error, key = %self.key, "the catalog could not keep how far an upload got");
                Err(StoreError::Unsaved {
                    key: self.key.clone(),
                })
            }
        }
    }
}

impl Receiver {
    /// Takes a session up where it was last saved.
    pub(crate) async fn resume(
        parts: &Arc<Parts>,
        id: &str,
        namespace: &str,
        row: &StoredUpload,
    ) -> Result<Self, RegistryError> {
        let hasher = Hasher::import(&row.hash_state).map_err(|_| {
            RegistryError::Internal("the hash state of an upload session cannot be read")
        })?;
        let key = match &row.storage_key {
            None => None,
            Some(key) => Some(parse_key(key)?),
        };
        let session = Arc::new(SessionRow {
            parts: Arc::clone(parts),
            id: id.to_owned(),
            epoch: row.epoch,
            namespace: namespace.to_owned(),
            refused: Mutex::new(None),
            unsent: Mutex::new(row.received - row.unsent.len() as u64..row.received),
            moved: AtomicBool::new(false),
        });
        let mut receiver = Self {
            row: session,
            key,
            place: Place::Inline {
                bytes: BytesMut::from(row.tail.as_deref().unwrap_or_default()),
                hasher: Box::new(hasher),
            },
        };
        // Where nobody else writes, what the store noted of an object without a saved byte is still to be used or ended.
        let begun = !parts.catalog.is_shared() && !row.store_state.is_empty();
        if row.tail.is_none() && (row.received > 0 || begun) {
            receiver.reopen(row).await?;
        }
        Ok(receiver)
    }

    /// Goes on with an object. One that holds nothing yet is begun anew under a fresh key, because an earlier writer in
    /// another process may still be writing to the former one; for one that holds bytes the store knows whether to.
    async fn reopen(&mut self, row: &StoredUpload) -> Result<(), RegistryError> {
        let session = Arc::clone(&self.row);
        let Place::Inline { hasher, .. } = &self.place else {
            return Ok(());
        };
        let mut checkpoint = Checkpoint {
            offset: row.received,
            hasher: (**hasher).clone(),
            state: row.store_state.clone(),
            tail: row.unsent.clone(),
        };
        let holds_nothing = row.store_state.is_empty() && row.unsent.len() as u64 == row.received;
        let key = match &self.key {
            Some(key) if !holds_nothing => {
                match session.parts.store.successor(key, &row.store_state) {
                    None => key.clone(),
                    Some(state) => {
                        checkpoint.state = state;
                        ObjectKey::unique()
                    }
                }
            }
            former => session.fresh_key(former.clone()).await?,
        };
        let writer = session.append(&key, checkpoint).await?;
        self.key = Some(key);
        self.place = Place::Object {
            writer,
            received: row.received,
        };
        Ok(())
    }

    /// Bytes so far.
    pub(crate) fn received(&self) -> u64 {
        match &self.place {
            Place::Inline { bytes, .. } => bytes.len() as u64,
            Place::Object { received, .. } => *received,
        }
    }

    /// Takes in the next bytes.
    pub(crate) async fn take(&mut self, bytes: Bytes) -> Result<(), RegistryError> {
        if let Place::Inline {
            bytes: tail,
            hasher,
        } = &mut self.place
        {
            if tail.len() + bytes.len() <= self.row.parts.rules.inline_max {
                hasher.update(&bytes);
                tail.extend_from_slice(&bytes);
                return Ok(());
            }
            let (tail, hasher) = (tail.split().freeze(), hasher.fresh());
            self.open_object(tail, hasher).await?;
        }
        if let Place::Object { writer, received } = &mut self.place {
            *received += bytes.len() as u64;
            let written = writer.write(bytes).await;
            written.map_err(|error| self.row.why(error))?;
        }
        Ok(())
    }

    /// Moves what came so far to an object. The session row names it first, so that a crash leaves no stray object.
    async fn open_object(&mut self, tail: Bytes, hasher: Hasher) -> Result<(), RegistryError> {
        // An earlier writer in another process may still be writing to its object, which holds nothing of worth. The
        // first claim of a session has nobody before it.
        let session = Arc::clone(&self.row);
        let reusable = !session.parts.catalog.is_shared() || session.epoch <= 1;
        let key = match &self.key {
            Some(key) if reusable => key.clone(),
            former => session.fresh_key(former.clone()).await?,
        };
        let mut writer = session.append(&key, Checkpoint::start(hasher)).await?;
        let received = tail.len() as u64;
        let written = writer.write(tail).await;
        written.map_err(|error| self.row.why(error))?;
        self.key = Some(key);
        self.place = Place::Object { writer, received };
        Ok(())
    }

    /// Makes everything so far durable, saves how far that is, and lets the session go.
    pub(crate) async fn save(&mut self) -> Result<u64, RegistryError> {
        let (received, saved) = match (&mut self.place, &self.key) {
            (Place::Inline { bytes, hasher }, key) => {
                let progress = Progress {
                    received: bytes.len() as u64,
                    hash_state: hasher.export(),
                    storage_key: key.as_ref().map(|key| key.as_str().to_owned()),
                    store_state: Vec::new(),
                    tail: Some(Bytes::copy_from_slice(bytes)),
                    unsent: Unsent::default(),
                    release: true,
                    leftover: None,
                };
                let received = progress.received;
                granary_failpoint::reach_async("upload::before_save").await;
                let (id, epoch) = (&self.row.id, self.row.epoch);
                let (catalog, namespace) = (&self.row.parts.catalog, &self.row.namespace);
                let saving = catalog.save_upload(id, epoch, namespace, progress);
                (received, saving.await?)
            }
            (Place::Object { writer, .. }, Some(key)) => {
                let synced = writer.sync().await;
                let checkpoint = synced.map_err(|error| self.row.why(error))?;
                granary_failpoint::reach_async("upload::before_save").await;
                let saved = self.row.save(key, &checkpoint, true).await?;
                (checkpoint.offset, saved)
            }
            (Place::Object { .. }, None) => {
                return Err(RegistryError::Internal("an upload session lost its object"));
            }
        };
        if !saved {
            return Err(RegistryError::UploadUnknown(self.row.id.clone()));
        }
        granary_failpoint::reach_async("upload::after_save").await;
        Ok(received)
    }

    /// An object that the session's row names, when the bytes are few enough to need none.
    pub(crate) fn leftover(&self) -> Option<String> {
        match (&self.place, &self.key) {
            (Place::Inline { .. }, Some(key)) => Some(key.as_str().to_owned()),
            _ => None,
        }
    }

    /// Whether the session's row keeps bytes that the store lacked.
    pub(crate) fn has_unsent(&self) -> bool {
        !self.row.unsent().is_empty()
    }

    /// Puts the session back to where it was before this body, which is refused (decision 2).
    pub(crate) async fn rewind(mut self, row: &StoredUpload) -> Result<(), RegistryError> {
        let Place::Object { writer, .. } = &mut self.place else {
            return Ok(());
        };
        if !self.row.moved.load(Ordering::Relaxed) {
            return Ok(());
        }
        // Nothing of the refused body may still be on its way when the next one comes.
        let now = writer.sync().await?;
        let key = self.key.as_ref().map(|key| key.as_str().to_owned());
        let begun = row.tail.is_none()
            && (!row.store_state.is_empty() || row.unsent.len() as u64 != row.received);
        let progress = Progress {
            received: row.received,
            hash_state: row.hash_state.clone(),
            // An object that only the refused body went to is left behind.
            storage_key: key.clone().filter(|_| begun),
            store_state: self.row.parts.store.rewound(&row.store_state, &now.state),
            tail: row.tail.clone(),
            unsent: Unsent {
                bytes: row.unsent.clone(),
                saved: 0,
                replaces: true,
            },
            release: true,
            leftover: key.filter(|_| !begun),
        };
        let (id, epoch) = (&self.row.id, self.row.epoch);
        let (catalog, namespace) = (&self.row.parts.catalog, &self.row.namespace);
        let saving = catalog.save_upload(id, epoch, namespace, progress);
        if saving.await? {
            Ok(())
        } else {
            Err(RegistryError::UploadUnknown(id.clone()))
        }
    }

    /// Compares the digest of everything that came, before anything is ended; `false` if that cannot be told yet.
    pub(crate) async fn verify(&mut self, expected: &Digest) -> Result<bool, RegistryError> {
        let algorithm = expected.algorithm();
        let known = match &mut self.place {
            Place::Inline { bytes, hasher } => {
                let late = || algorithm.digest(bytes);
                Some(hasher.digest(algorithm).unwrap_or_else(late))
            }
            Place::Object { writer, .. } => writer.digest(algorithm).await?,
        };
        match known {
            Some(actual) => check(expected, actual).map(|()| true),
            None => Ok(false),
        }
    }

    /// Ends the blob. What [`verify`](Self::verify) could not tell is read again.
    pub(crate) async fn finish(
        self,
        expected: &Digest,
        verified: bool,
    ) -> Result<(u64, BlobPlace), RegistryError> {
        match self.place {
            Place::Inline { bytes, .. } => {
                Ok((bytes.len() as u64, BlobPlace::Inline(bytes.freeze())))
            }
            Place::Object { writer, .. } => {
                let key = self
                    .key
                    .ok_or(RegistryError::Internal("an upload session lost its object"))?;
                let finished = writer.finish().await;
                let length = finished.map_err(|error| self.row.why(error))?.offset;
                if !verified {
                    let algorithm = expected.algorithm();
                    let actual = re_read(&self.row.parts, &key, length, algorithm).await?;
                    check(expected, actual)?;
                }
                Ok((length, BlobPlace::Object(key.as_str().to_owned())))
            }
        }
    }
}

fn check(expected: &Digest, actual: Digest) -> Result<(), RegistryError> {
    if *expected == actual {
        Ok(())
    } else {
        Err(RegistryError::DigestDiffers {
            expected: *expected,
            actual,
        })
    }
}

/// Hashes a stored object: only for a session that named its algorithm after the bytes (decision 4), and for scrub.
pub(crate) async fn re_read(
    parts: &Parts,
    key: &ObjectKey,
    length: u64,
    algorithm: Algorithm,
) -> Result<Digest, RegistryError> {
    let mut hasher = Hasher::new(Some(algorithm));
    if let Some(last) = length.checked_sub(1) {
        let mut stream = parts.store.read(key, ByteRange { first: 0, last }).await?;
        while let Some(piece) = stream.next().await {
            hasher.update(&piece?);
        }
    }
    hasher
        .digest(algorithm)
        .ok_or(RegistryError::Internal("a hasher lost its algorithm"))
}
