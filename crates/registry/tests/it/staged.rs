//! A store that does what a test has in mind, and everything else as the store in it does.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, Ordering},
};

use async_trait::async_trait;
use granary_blobs::{BlobStore, BlobStream, BlobWriter, Checkpoint, Ledger, ObjectKey, StoreError};
use granary_oci::ByteRange;
use granary_registry::{Registry, Rules};
use tokio::sync::oneshot;

use crate::world::{World, catalog, folder};

/// What a test has in mind.
#[derive(Default)]
pub(crate) struct Plan {
    /// Uploads wait for memory.
    pub(crate) pressed: AtomicBool,
    /// The next checkpoint is saved, and its writer does not hear of it.
    pub(crate) loses_answer: AtomicBool,
    /// Looks find no object, reads do.
    pub(crate) hides: AtomicBool,
    /// Objects that were written to.
    pub(crate) begun: Mutex<Vec<ObjectKey>>,
    held: Mutex<Option<(oneshot::Sender<()>, oneshot::Receiver<()>)>>,
}

impl Plan {
    /// Holds the next look at an object up: the receiver hears of it, the sender lets it go on.
    pub(crate) fn hold_next_look(&self) -> (oneshot::Receiver<()>, oneshot::Sender<()>) {
        let (tell, reached) = oneshot::channel();
        let (open, opened) = oneshot::channel();
        *self.held.lock().unwrap() = Some((tell, opened));
        (reached, open)
    }
}

/// A registry over such a store.
pub(crate) async fn staged(store: impl BlobStore, rules: Rules) -> (World, Arc<Plan>) {
    let (folder, plan) = (folder(), Arc::<Plan>::default());
    let catalog = catalog(folder.path()).await;
    let store = Staged {
        store: Box::new(store),
        plan: Arc::clone(&plan),
    };
    let registry = Registry::open(catalog, Box::new(store), rules)
        .await
        .unwrap();
    (World { folder, registry }, plan)
}

struct Staged {
    store: Box<dyn BlobStore>,
    plan: Arc<Plan>,
}

struct StagedLedger {
    ledger: Arc<dyn Ledger>,
    plan: Arc<Plan>,
    key: ObjectKey,
}

#[async_trait]
impl Ledger for StagedLedger {
    async fn save(&self, checkpoint: &Checkpoint) -> Result<(), StoreError> {
        self.ledger.save(checkpoint).await?;
        if self.plan.loses_answer.swap(false, Ordering::Relaxed) {
            let key = self.key.clone();
            return Err(StoreError::Unsaved { key });
        }
        Ok(())
    }
}

#[async_trait]
impl BlobStore for Staged {
    async fn append(
        &self,
        key: &ObjectKey,
        checkpoint: Checkpoint,
        ledger: Arc<dyn Ledger>,
    ) -> Result<Box<dyn BlobWriter>, StoreError> {
        self.plan.begun.lock().unwrap().push(key.clone());
        let ledger = StagedLedger {
            ledger,
            plan: Arc::clone(&self.plan),
            key: key.clone(),
        };
        self.store.append(key, checkpoint, Arc::new(ledger)).await
    }

    async fn read(&self, key: &ObjectKey, range: ByteRange) -> Result<BlobStream, StoreError> {
        self.store.read(key, range).await
    }

    async fn length(&self, key: &ObjectKey) -> Result<Option<u64>, StoreError> {
        let held = self.plan.held.lock().unwrap().take();
        if let Some((tell, opened)) = held {
            tell.send(()).ok();
            opened.await.ok();
        }
        if self.plan.hides.load(Ordering::Relaxed) {
            return Ok(None);
        }
        self.store.length(key).await
    }

    async fn delete(&self, keys: &[ObjectKey]) -> Result<(), StoreError> {
        self.store.delete(keys).await
    }

    async fn abandon(&self, key: &ObjectKey, state: &[u8]) -> Result<(), StoreError> {
        self.store.abandon(key, state).await
    }

    fn successor(&self, key: &ObjectKey, state: &[u8]) -> Option<Vec<u8>> {
        self.store.successor(key, state)
    }

    fn rewound(&self, before: &[u8], later: &[u8]) -> Vec<u8> {
        self.store.rewound(before, later)
    }

    async fn list(
        &self,
        after: Option<&ObjectKey>,
        limit: usize,
    ) -> Result<Vec<ObjectKey>, StoreError> {
        self.store.list(after, limit).await
    }

    async fn known_identity(&self) -> Result<Option<String>, StoreError> {
        self.store.known_identity().await
    }

    async fn identity(&self, fresh: &str) -> Result<String, StoreError> {
        self.store.identity(fresh).await
    }

    async fn admit(&self) -> Result<(), StoreError> {
        self.store.admit().await
    }

    fn is_pressed(&self) -> bool {
        self.plan.pressed.load(Ordering::Relaxed)
    }
}
