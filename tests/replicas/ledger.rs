//! Which blobs a repository must have, and which it must not.
//!
//! A blob that nobody deletes must be there while a manifest that was acknowledged refers to it, and for the grace time after
//! its own push was acknowledged. Otherwise garbage collection may take it at any moment.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use crate::{checker::Time, content::Content};

/// A repository and a blob.
pub(crate) type Key = (usize, Content);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Status {
    /// Nobody knows.
    Unknown,
    /// An acknowledged push leased it.
    There,
    /// An acknowledged delete removed it.
    Gone,
}

/// What is known of a blob at some moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Known {
    status: Status,
    leased_until: Time,
    references: usize,
    /// A client gave up on a request that may still be carried out.
    haunted: bool,
    /// Changes with whatever might change the answer to a request.
    version: u64,
}

pub(crate) struct Ledger {
    grace: Time,
    blobs: Mutex<HashMap<Key, Known>>,
}

impl Ledger {
    pub(crate) fn new(grace: Time) -> Self {
        Self {
            grace,
            blobs: Mutex::default(),
        }
    }

    fn change<T>(&self, key: Key, change: impl FnOnce(&mut Known) -> T) -> T {
        let mut blobs = self.blobs.lock().unwrap_or_else(PoisonError::into_inner);
        let known = blobs.entry(key).or_insert(Known {
            status: Status::Unknown,
            leased_until: 0,
            references: 0,
            haunted: false,
            version: 0,
        });
        change(known)
    }

    /// A push or mount begins, so that a blob that was deleted may come back.
    pub(crate) fn pushing(&self, key: Key) {
        self.change(key, |known| {
            if known.status == Status::Gone {
                known.status = Status::Unknown;
                known.version += 1;
            }
        });
    }

    /// The push that began at `invoked` was acknowledged.
    pub(crate) fn pushed(&self, key: Key, invoked: Time) {
        self.change(key, |known| {
            if known.status != Status::There {
                known.status = Status::There;
                known.version += 1;
            }
            known.leased_until = known.leased_until.max(invoked + self.grace);
        });
    }

    /// A HEAD that began at `invoked` found it: at least half of a lease is left.
    pub(crate) fn found(&self, key: Key, invoked: Time) {
        self.change(key, |known| {
            if known.status == Status::There {
                known.leased_until = known.leased_until.max(invoked + self.grace / 2);
            }
        });
    }

    /// A delete begins, or ended without an answer.
    pub(crate) fn deleting(&self, key: Key) {
        self.change(key, |known| {
            known.status = Status::Unknown;
            known.version += 1;
        });
    }

    /// A delete was acknowledged.
    pub(crate) fn deleted(&self, key: Key) {
        self.change(key, |known| {
            known.status = Status::Gone;
            known.leased_until = 0;
            known.version += 1;
        });
    }

    /// A delete was refused because a manifest refers to the blob.
    pub(crate) fn not_deleted(&self, key: Key) {
        self.change(key, |known| {
            known.status = Status::There;
            known.version += 1;
        });
    }

    /// A manifest that refers to it was acknowledged.
    pub(crate) fn refer(&self, key: Key) {
        self.change(key, |known| {
            known.status = Status::There;
            known.references += 1;
        });
    }

    /// The delete of a manifest that refers to it begins.
    pub(crate) fn release(&self, key: Key) {
        self.change(key, |known| {
            known.references = known.references.saturating_sub(1);
            known.version += 1;
        });
    }

    /// A push or delete had no answer in time: from now on nothing is certain.
    pub(crate) fn haunt(&self, key: Key) {
        self.change(key, |known| {
            known.haunted = true;
            known.version += 1;
        });
    }

    pub(crate) fn known(&self, key: Key) -> Known {
        self.change(key, |known| *known)
    }

    /// Whether a request answered at `now`, before which `before` was known, had to find it.
    pub(crate) fn must_be_there(&self, key: Key, before: &Known, now: Time) -> bool {
        let kept = before.references > 0 || now < before.leased_until;
        let certain = before.status == Status::There && !before.haunted;
        certain && kept && self.known(key).version == before.version
    }

    /// Whether a request before which `before` was known must not have found it.
    pub(crate) fn must_be_gone(&self, key: Key, before: &Known) -> bool {
        let certain = before.status == Status::Gone && !before.haunted;
        certain && self.known(key).version == before.version
    }

    /// All blobs that a manifest refers to.
    pub(crate) fn kept(&self) -> Vec<Key> {
        let blobs = self.blobs.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = blobs.iter().filter(|(_, known)| {
            known.status == Status::There && known.references > 0 && !known.haunted
        });
        let mut keys: Vec<Key> = kept.map(|(key, _)| *key).collect();
        keys.sort_unstable();
        keys
    }

    /// All blobs of which a repository was rid.
    pub(crate) fn gone(&self) -> Vec<Key> {
        let blobs = self.blobs.lock().unwrap_or_else(PoisonError::into_inner);
        let gone = blobs
            .iter()
            .filter(|(_, known)| known.status == Status::Gone && !known.haunted);
        gone.map(|(key, _)| *key).collect()
    }
}

impl Known {
    pub(crate) fn is_referenced(&self) -> bool {
        self.references > 0
    }
}
