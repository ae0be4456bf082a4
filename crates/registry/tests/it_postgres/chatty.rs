//! A store that saves checkpoints while it writes, as a bucket does between parts.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use granary_blobs::{
    BlobStore, BlobStream, BlobWriter, Checkpoint, Ledger, MemoryStore, ObjectKey, StoreError,
};
use granary_oci::{Algorithm, ByteRange, Digest};
use granary_registry::{Chunk, Registry, RegistryError, Rules};

use crate::{
    gate::{run, together},
    world::{
        LARGE, Leave, append, begin, body, catalog, content, folder, no_grace, pull, received,
    },
};

#[derive(Default)]
struct Chatty(MemoryStore);

struct ChattyWriter {
    writer: Box<dyn BlobWriter>,
    ledger: Arc<dyn Ledger>,
}

#[async_trait]
impl BlobStore for Chatty {
    async fn append(
        &self,
        key: &ObjectKey,
        checkpoint: Checkpoint,
        ledger: Arc<dyn Ledger>,
    ) -> Result<Box<dyn BlobWriter>, StoreError> {
        let writer = self.0.append(key, checkpoint, Arc::clone(&ledger)).await?;
        Ok(Box::new(ChattyWriter { writer, ledger }))
    }

    async fn read(&self, key: &ObjectKey, range: ByteRange) -> Result<BlobStream, StoreError> {
        self.0.read(key, range).await
    }

    async fn length(&self, key: &ObjectKey) -> Result<Option<u64>, StoreError> {
        self.0.length(key).await
    }

    async fn delete(&self, keys: &[ObjectKey]) -> Result<(), StoreError> {
        self.0.delete(keys).await
    }

    async fn list(
        &self,
        after: Option<&ObjectKey>,
        limit: usize,
    ) -> Result<Vec<ObjectKey>, StoreError> {
        self.0.list(after, limit).await
    }

    async fn known_identity(&self) -> Result<Option<String>, StoreError> {
        self.0.known_identity().await
    }

    async fn identity(&self, fresh: &str) -> Result<String, StoreError> {
        self.0.identity(fresh).await
    }

    async fn admit(&self) -> Result<(), StoreError> {
        self.0.admit().await
    }
}

#[async_trait]
impl BlobWriter for ChattyWriter {
    async fn write(&mut self, bytes: Bytes) -> Result<(), StoreError> {
        self.writer.write(bytes).await?;
        let checkpoint = self.writer.sync().await?;
        self.ledger.save(&checkpoint).await
    }

    async fn sync(&mut self) -> Result<Checkpoint, StoreError> {
        self.writer.sync().await
    }

    async fn digest(&mut self, algorithm: Algorithm) -> Result<Option<Digest>, StoreError> {
        self.writer.digest(algorithm).await
    }

    async fn finish(self: Box<Self>) -> Result<Checkpoint, StoreError> {
        self.writer.finish().await
    }
}

async fn chatty(rules: Rules) -> (tempfile::TempDir, Registry) {
    let folder = folder();
    let catalog = catalog(folder.path()).await;
    let registry = Registry::open(catalog, Box::<Chatty>::default(), rules)
        .await
        .unwrap();
    (folder, registry)
}

#[test]
fn a_refused_body_leaves_the_session_where_it_was() {
    let _unset = together();
    run(async {
        let (_folder, registry) = chatty(no_grace()).await;
        let bytes = content(1, 3 * LARGE);
        let id = begin(&registry, "a/b").await;
        append(&registry, "a/b", &id, &bytes.slice(..LARGE))
            .await
            .unwrap();
        let digest = Digest::sha256(&bytes);
        let closing = |rest: Bytes, length: Option<u64>| {
            let (registry, id) = (registry.clone(), id.clone());
            async move {
                let chunk = Chunk {
                    range: None,
                    length,
                };
                registry
                    .pushes("a/b")
                    .await
                    .finish_upload(&id, digest, chunk, body(rest))
                    .await
            }
        };
        let wrong = closing(content(2, 2 * LARGE), None).await;
        assert!(
            matches!(wrong, Err(RegistryError::DigestDiffers { .. })),
            "{wrong:?}"
        );
        assert_eq!(received(&registry, &id).await.unwrap(), LARGE as u64);
        let short = closing(bytes.slice(LARGE..2 * LARGE), Some(2 * LARGE as u64)).await;
        assert!(
            matches!(short, Err(RegistryError::SizeDiffers { .. })),
            "{short:?}"
        );
        assert_eq!(received(&registry, &id).await.unwrap(), LARGE as u64);
        closing(bytes.slice(LARGE..), None).await.unwrap();
        assert_eq!(pull(&registry, "a/b", &digest).await, Some(bytes));
    });
}

#[test]
fn a_writer_that_was_overtaken_saves_nothing_more() {
    let _unset = together();
    run(async {
        let rules = Rules {
            silence: Duration::from_secs(3600),
            ..no_grace()
        };
        let (_folder, registry) = chatty(rules).await;
        let bytes = content(1, 2 * LARGE);
        let id = begin(&registry, "a/b").await;
        let (sender, slow) = crate::world::slow_body();
        let (other, session) = (registry.clone(), id.clone());
        let late = tokio::spawn(async move {
            other
                .pushes("a/b")
                .await
                .append(&session, Chunk::default(), slow)
                .await
        });
        sender.send(bytes.slice(..LARGE)).unwrap();
        while received(&registry, &id).await.unwrap() < LARGE as u64 {
            tokio::task::yield_now().await;
        }
        registry.catalog().take_over_upload(&id).await.unwrap();
        sender.send(bytes.slice(LARGE..)).unwrap();
        let late = late.await.unwrap();
        assert!(
            matches!(late, Err(RegistryError::UploadSuperseded)),
            "{late:?}"
        );
        assert_eq!(received(&registry, &id).await.unwrap(), LARGE as u64);
    });
}
