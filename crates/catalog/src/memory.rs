//! What is held in memory, by the kind of database.
//!
//! With SQLite one process writes, so rows are kept and are exact ([`Cache`]). With PostgreSQL other processes change
//! rows at any moment: every tag, membership and manifest is asked for anew, in one statement, and only bytes are kept
//! by their digest, which never change (decision 8). The statement leaves out the bytes that are here already.

use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use bytes::Bytes;
use granary_oci::{Digest, RepositoryName, Tag};
use moka::sync::Cache as Map;

use crate::cache::Cache;

/// Bytes of manifests and small blobs kept by digest.
const CONTENT_BYTES: u64 = 32 << 20;
/// Tags whose last digest is remembered.
const GUESSES: u64 = 50_000;
/// What an entry costs beside its bytes, measured roughly.
const ENTRY_BYTES: usize = 200;

/// Bytes by digest that several processes share and that may vanish at any moment. A wrong answer is no harm: what comes
/// is compared with its digest.
#[async_trait]
pub trait SharedContent: Send + Sync {
    /// The bytes of `digest`, if they are there and come at once.
    async fn get(&self, digest: &Digest) -> Option<Bytes>;

    /// Keeps bytes; nobody waits for it.
    fn put(&self, digest: &Digest, bytes: &Bytes);
}

/// Smaller bytes come with the row as fast as from anywhere.
const WORTH_SHARING: usize = 2048;

pub(crate) enum Memory {
    /// Rows, exact.
    Exact(Arc<Cache>),
    /// Bytes by digest.
    Content(Content),
}

pub(crate) struct Content {
    bytes: Map<Digest, Bytes>,
    /// Where a tag stood when it was last read: only a guess at which bytes the answer will need.
    guesses: Map<(RepositoryName, Tag), Digest>,
    shared: OnceLock<Box<dyn SharedContent>>,
}

impl Memory {
    pub(crate) fn content() -> Self {
        Self::Content(Content {
            bytes: Map::builder()
                .max_capacity(CONTENT_BYTES)
                .weigher(|_, bytes: &Bytes| {
                    u32::try_from(bytes.len() + ENTRY_BYTES).unwrap_or(u32::MAX)
                })
                .build(),
            guesses: Map::new(GUESSES),
            shared: OnceLock::new(),
        })
    }

    /// The exact rows, if this memory has them.
    pub(crate) fn exact(&self) -> Option<&Cache> {
        match self {
            Self::Exact(cache) => Some(cache),
            Self::Content(_) => None,
        }
    }

    /// Lets other processes know what this one read, and the other way round.
    pub(crate) fn share(&self, shared: Box<dyn SharedContent>) {
        if let Self::Content(content) = self {
            // Set once, when the process starts.
            let _ = content.shared.set(shared);
        }
    }

    /// The bytes of `digest`.
    pub(crate) async fn bytes(&self, digest: &Digest) -> Option<Bytes> {
        let Self::Content(content) = self else {
            return None;
        };
        if let Some(bytes) = content.bytes.get(digest) {
            return Some(bytes);
        }
        let bytes = content.shared.get()?.get(digest).await?;
        if digest.algorithm().digest(&bytes) != *digest {
            tracing::warn!(%digest, "shared bytes did not match their digest and were not used");
            return None;
        }
        content.bytes.insert(*digest, bytes.clone());
        Some(bytes)
    }

    /// Keeps the bytes of `digest`, which were compared with it when they were stored.
    pub(crate) fn keep(&self, digest: &Digest, bytes: &Bytes) {
        if let Self::Content(content) = self {
            if content.bytes.contains_key(digest) {
                return;
            }
            content.bytes.insert(*digest, bytes.clone());
            if let Some(shared) = content
                .shared
                .get()
                .filter(|_| bytes.len() >= WORTH_SHARING)
            {
                shared.put(digest, bytes);
            }
        }
    }

    /// What `tag` probably stands at, with its bytes.
    pub(crate) fn guess(&self, repository: &RepositoryName, tag: &Tag) -> Option<(Digest, Bytes)> {
        let Self::Content(content) = self else {
            return None;
        };
        let digest = content.guesses.get(&(repository.clone(), tag.clone()))?;
        Some((digest, content.bytes.get(&digest)?))
    }

    /// Remembers where `tag` stands now.
    pub(crate) fn note(&self, repository: &RepositoryName, tag: &Tag, digest: &Digest) {
        if let Self::Content(content) = self {
            content
                .guesses
                .insert((repository.clone(), tag.clone()), *digest);
        }
    }
}
