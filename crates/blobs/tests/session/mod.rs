//! An upload session as a database keeps it, for stores that several processes write to.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering},
};

use async_trait::async_trait;
use granary_blobs::{BlobStore, BlobWriter, Checkpoint, FileStore, Ledger, ObjectKey, StoreError};
use granary_oci::Hasher;

/// The row of an upload session.
#[derive(Clone)]
pub(crate) struct Row(Arc<Mutex<Saved>>);

struct Saved {
    epoch: u64,
    key: ObjectKey,
    checkpoint: Checkpoint,
}

/// What the writer of one epoch saves to.
pub(crate) struct Epoch {
    row: Row,
    epoch: u64,
    key: ObjectKey,
    /// After how many saves the database is away.
    lasts: AtomicUsize,
}

#[async_trait]
impl Ledger for Epoch {
    async fn save(&self, checkpoint: &Checkpoint) -> Result<(), StoreError> {
        let key = self.key.clone();
        if self.lasts.load(Ordering::Relaxed) == 0 {
            return Err(StoreError::Unsaved { key });
        }
        self.lasts.fetch_sub(1, Ordering::Relaxed);
        let mut saved = self.row.0.lock().unwrap();
        if saved.epoch != self.epoch {
            return Err(StoreError::Superseded { key });
        }
        saved.key = key;
        saved.checkpoint = reloaded(checkpoint);
        Ok(())
    }
}

/// A writer of a session, and what it saves to.
pub(crate) struct Session {
    pub(crate) writer: Box<dyn BlobWriter>,
    pub(crate) ledger: Arc<Epoch>,
}

impl Session {
    /// What a request does when its body has ended.
    pub(crate) async fn save(mut self) -> Result<(), StoreError> {
        self.save_and_stay().await
    }

    pub(crate) async fn save_and_stay(&mut self) -> Result<(), StoreError> {
        let checkpoint = self.writer.sync().await?;
        self.ledger.save(&checkpoint).await
    }
}

impl Row {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Mutex::new(Saved {
            epoch: 0,
            key: ObjectKey::unique(),
            checkpoint: Checkpoint::start(Hasher::new(None)),
        })))
    }

    /// Becomes the session's writer, whoever was it before.
    pub(crate) async fn claim(&self, store: &FileStore) -> Result<Session, StoreError> {
        self.claim_for(store, usize::MAX).await
    }

    /// As [`Self::claim`]; the database is away after `lasts` saves.
    pub(crate) async fn claim_for(
        &self,
        store: &FileStore,
        lasts: usize,
    ) -> Result<Session, StoreError> {
        let (epoch, key, mut checkpoint) = {
            let mut saved = self.0.lock().unwrap();
            saved.epoch += 1;
            (saved.epoch, saved.key.clone(), reloaded(&saved.checkpoint))
        };
        let key = match store.successor(&key, &checkpoint.state) {
            None => key,
            Some(state) => {
                checkpoint.state = state;
                ObjectKey::unique()
            }
        };
        let ledger = self.ledger(epoch, &key, lasts);
        let writer = store.append(&key, checkpoint, ledger.clone()).await?;
        Ok(Session { writer, ledger })
    }

    fn ledger(&self, epoch: u64, key: &ObjectKey, lasts: usize) -> Arc<Epoch> {
        Arc::new(Epoch {
            row: self.clone(),
            epoch,
            key: key.clone(),
            lasts: AtomicUsize::new(lasts),
        })
    }

    pub(crate) fn checkpoint(&self) -> Checkpoint {
        reloaded(&self.0.lock().unwrap().checkpoint)
    }

    pub(crate) fn key(&self) -> ObjectKey {
        self.0.lock().unwrap().key.clone()
    }
}

/// A checkpoint as a database gives it back.
fn reloaded(checkpoint: &Checkpoint) -> Checkpoint {
    Checkpoint {
        offset: checkpoint.offset,
        hasher: Hasher::import(&checkpoint.hasher.export()).unwrap(),
        state: checkpoint.state.clone(),
        tail: checkpoint.tail.clone(),
    }
}
