//! One writer per object.
//!
//! A writer that was dropped may have left a job on a blocking thread. Were a successor let in before that ends,
//! the old job could write over its bytes, and the file would no longer be what was hashed (decision 1).

use std::{
    collections::HashSet,
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{sync::Notify, time};

use crate::{ObjectKey, StoreError};

/// The objects being written by this process.
#[derive(Default)]
pub(super) struct Leases {
    keys: Mutex<Keys>,
    ended: Notify,
}

#[derive(Default)]
struct Keys {
    live: HashSet<ObjectKey>,
    /// Objects a sync of which failed: the kernel may call their pages clean though the disk has not got them, so
    /// nothing more is acknowledged on them in this process (decision 7). Ends with the object's removal.
    condemned: HashSet<ObjectKey>,
}

/// The right to write one object; ends when dropped.
pub(super) struct Lease {
    leases: Arc<Leases>,
    key: ObjectKey,
}

impl Leases {
    /// Takes the lease of `key`, waiting up to `patience` for its present holder.
    pub(super) async fn claim(
        self: &Arc<Self>,
        key: &ObjectKey,
        patience: Duration,
    ) -> Result<Lease, StoreError> {
        let claimed = time::timeout(patience, async {
            loop {
                let ended = self.ended.notified();
                if self.try_claim(key)? {
                    return Ok(Lease {
                        leases: Arc::clone(self),
                        key: key.clone(),
                    });
                }
                // Created before the look, so that an end in between is not missed.
                ended.await;
            }
        });
        claimed
            .await
            .unwrap_or_else(|_| Err(StoreError::Busy { key: key.clone() }))
    }

    fn try_claim(&self, key: &ObjectKey) -> Result<bool, StoreError> {
        let mut keys = self.keys();
        if keys.condemned.contains(key) {
            return Err(StoreError::Poisoned { key: key.clone() });
        }
        Ok(keys.live.insert(key.clone()))
    }

    /// Forgets failed syncs of objects that were removed.
    pub(super) fn forgive(&self, removed: &[ObjectKey]) {
        let mut keys = self.keys();
        if keys.condemned.is_empty() {
            return;
        }
        for key in removed {
            keys.condemned.remove(key);
        }
        if keys.condemned.is_empty() {
            mem::take(&mut keys.condemned);
        }
    }

    /// Every change under the lock is one statement, so a panic elsewhere leaves nothing half done.
    fn keys(&self) -> MutexGuard<'_, Keys> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lease {
    pub(super) fn key(&self) -> &ObjectKey {
        &self.key
    }

    /// Remembers that a sync of the object failed.
    pub(super) fn condemn(&self) {
        self.leases.keys().condemned.insert(self.key.clone());
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.leases.keys().live.remove(&self.key);
        self.leases.ended.notify_waiters();
    }
}
