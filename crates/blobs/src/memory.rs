//! A store that forgets: for tests and for trying Granary out.

use std::{
    collections::BTreeMap,
    ops::Bound,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures_util::stream;
use granary_oci::{Algorithm, ByteRange, Digest};

use crate::{BlobStore, BlobStream, BlobWriter, Checkpoint, Ledger, ObjectKey, StoreError};

/// Objects in memory. "Durable" means: seen by every reader of this process.
#[derive(Default)]
pub struct MemoryStore {
    contents: Arc<Mutex<Contents>>,
}

#[derive(Default)]
struct Contents {
    identity: Option<String>,
    objects: BTreeMap<ObjectKey, Object>,
}

/// An object as the pieces its syncs made; cloning shares the bytes.
#[derive(Clone, Default)]
struct Object {
    pieces: Vec<Bytes>,
    length: u64,
}

impl Object {
    /// The pieces that make up `length` bytes from `first` on; fewer if the object ends before.
    fn slice(&self, first: u64, length: u64) -> Vec<Bytes> {
        let (mut skip, mut left) = (first, length);
        let mut slices = Vec::new();
        for piece in &self.pieces {
            let size = piece.len() as u64;
            if skip >= size {
                skip -= size;
                continue;
            }
            let end = size.min(skip.saturating_add(left));
            if skip < end {
                // Both lie within the piece, so they fit `usize`.
                slices.push(piece.slice(skip as usize..end as usize));
            }
            left -= end - skip;
            skip = 0;
        }
        slices
    }
}

impl MemoryStore {
    fn contents(&self) -> MutexGuard<'_, Contents> {
        lock(&self.contents)
    }
}

/// Every change under the lock is one statement, so a panic elsewhere leaves nothing half done.
fn lock(contents: &Mutex<Contents>) -> MutexGuard<'_, Contents> {
    contents.lock().unwrap_or_else(PoisonError::into_inner)
}

#[async_trait]
impl BlobStore for MemoryStore {
    async fn append(
        &self,
        key: &ObjectKey,
        checkpoint: Checkpoint,
        _ledger: Arc<dyn Ledger>,
    ) -> Result<Box<dyn BlobWriter>, StoreError> {
        if key.foreign_path().is_some() {
            return Err(StoreError::Foreign { key: key.clone() });
        }
        let mut contents = self.contents();
        let object = match contents.objects.get(key) {
            None if checkpoint.offset > 0 => return Err(StoreError::Missing { key: key.clone() }),
            None => Object::default(),
            Some(object) if object.length < checkpoint.offset => {
                return Err(StoreError::Damaged {
                    key: key.clone(),
                    expected: checkpoint.offset,
                    found: object.length,
                });
            }
            Some(object) => Object {
                pieces: object.slice(0, checkpoint.offset),
                length: checkpoint.offset,
            },
        };
        contents.objects.insert(key.clone(), object.clone());
        let contents = Arc::clone(&self.contents);
        Ok(Box::new(MemoryWriter {
            contents,
            key: key.clone(),
            object,
            unsynced: BytesMut::new(),
            checkpoint,
        }))
    }

    async fn read(&self, key: &ObjectKey, range: ByteRange) -> Result<BlobStream, StoreError> {
        let contents = self.contents();
        let object = contents
            .objects
            .get(key)
            .ok_or_else(|| StoreError::Missing { key: key.clone() })?;
        if object.length <= range.last {
            let expected = range.last.saturating_add(1);
            return Err(StoreError::Damaged {
                key: key.clone(),
                expected,
                found: object.length,
            });
        }
        let slices = object.slice(range.first, range.length());
        Ok(Box::pin(stream::iter(slices.into_iter().map(Ok))))
    }

    async fn length(&self, key: &ObjectKey) -> Result<Option<u64>, StoreError> {
        Ok(self.contents().objects.get(key).map(|object| object.length))
    }

    async fn delete(&self, keys: &[ObjectKey]) -> Result<(), StoreError> {
        let mut contents = self.contents();
        for key in keys {
            contents.objects.remove(key);
        }
        Ok(())
    }

    async fn list(
        &self,
        after: Option<&ObjectKey>,
        limit: usize,
    ) -> Result<Vec<ObjectKey>, StoreError> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let contents = self.contents();
        Ok(contents
            .objects
            .range((from, Bound::Unbounded))
            .take(limit)
            .map(|(key, _)| key.clone())
            .collect())
    }

    async fn known_identity(&self) -> Result<Option<String>, StoreError> {
        Ok(self.contents().identity.clone())
    }

    async fn identity(&self, fresh: &str) -> Result<String, StoreError> {
        Ok(self
            .contents()
            .identity
            .get_or_insert_with(|| fresh.to_owned())
            .clone())
    }

    async fn admit(&self) -> Result<(), StoreError> {
        Ok(())
    }
}

struct MemoryWriter {
    contents: Arc<Mutex<Contents>>,
    key: ObjectKey,
    object: Object,
    unsynced: BytesMut,
    checkpoint: Checkpoint,
}

impl MemoryWriter {
    fn publish(&mut self) -> Checkpoint {
        if !self.unsynced.is_empty() {
            let piece = self.unsynced.split().freeze();
            self.object.length += piece.len() as u64;
            self.object.pieces.push(piece);
            lock(&self.contents)
                .objects
                .insert(self.key.clone(), self.object.clone());
        }
        self.checkpoint.offset = self.object.length;
        self.checkpoint.clone()
    }
}

#[async_trait]
impl BlobWriter for MemoryWriter {
    async fn write(&mut self, bytes: Bytes) -> Result<(), StoreError> {
        self.checkpoint.hasher.update(&bytes);
        // A copy, because a small piece may hold on to a large network buffer.
        self.unsynced.extend_from_slice(&bytes);
        Ok(())
    }

    async fn sync(&mut self) -> Result<Checkpoint, StoreError> {
        Ok(self.publish())
    }

    async fn digest(&mut self, algorithm: Algorithm) -> Result<Option<Digest>, StoreError> {
        Ok(self.checkpoint.hasher.digest(algorithm))
    }

    async fn finish(mut self: Box<Self>) -> Result<Checkpoint, StoreError> {
        Ok(self.publish())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn memory_passes_the_suite() {
        crate::suite::run(&MemoryStore::default()).await;
    }
}
