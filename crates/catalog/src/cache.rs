//! Rows held in memory.
//!
//! With SQLite one process writes, so these answers are exact: the writer takes a row out *before* it commits the
//! change, and nobody may put one back until the commit is done. A reader that began before the change cannot leave
//! its old row behind either: it notes the shard's generation before it asks the database, and gives up storing if
//! that has moved.

use std::{
    hash::{BuildHasher, RandomState},
    sync::{Arc, PoisonError, RwLock},
};

use granary_oci::{Digest, RepositoryName, Tag};
use moka::sync::Cache as Map;

use crate::{StoredBlob, StoredManifest};

/// A row that a transaction changed.
#[derive(Clone, Debug)]
pub(crate) enum Touched {
    Tag(RepositoryName, Tag),
    Manifest(RepositoryName, Digest),
    Blob(RepositoryName, Digest),
    /// A blob's place changed for every repository that has it.
    Everything,
    /// Somebody's rights changed.
    Rights,
}

/// Bytes of manifests kept by tag and by digest, each.
const MANIFEST_BYTES: u64 = 16 << 20;
/// Bytes of small blobs and places of large ones.
const BLOB_BYTES: u64 = 16 << 20;
/// What a row costs beside its bytes, measured roughly.
const ROW_BYTES: usize = 400;
const SHARDS: usize = 64;
/// The place of rights behind the shards of repositories.
const RIGHTS: usize = SHARDS;

pub(crate) struct Cache {
    tags: Map<(RepositoryName, Tag), Arc<StoredManifest>>,
    manifests: Map<(RepositoryName, Digest), Arc<StoredManifest>>,
    blobs: Map<(RepositoryName, Digest), Arc<StoredBlob>>,
    /// Odd while a commit that touches the shard is under way.
    generations: [RwLock<u64>; SHARDS + 1],
    hasher: RandomState,
}

impl Cache {
    pub(crate) fn new() -> Self {
        let manifest_cost = |manifest: &Arc<StoredManifest>| cost(manifest.payload.len());
        Self {
            tags: Map::builder()
                .max_capacity(MANIFEST_BYTES)
                .weigher(move |_, row| manifest_cost(row))
                .build(),
            manifests: Map::builder()
                .max_capacity(MANIFEST_BYTES)
                .weigher(move |_, row| manifest_cost(row))
                .build(),
            blobs: Map::builder()
                .max_capacity(BLOB_BYTES)
                .weigher(|_, row: &Arc<StoredBlob>| cost(row.in_memory()))
                .build(),
            generations: std::array::from_fn(|_| RwLock::new(0)),
            hasher: RandomState::new(),
        }
    }

    pub(crate) fn tag(
        &self,
        repository: &RepositoryName,
        tag: &Tag,
    ) -> Option<Arc<StoredManifest>> {
        self.tags.get(&(repository.clone(), tag.clone()))
    }

    pub(crate) fn manifest(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Option<Arc<StoredManifest>> {
        self.manifests.get(&(repository.clone(), *digest))
    }

    pub(crate) fn blob(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Option<Arc<StoredBlob>> {
        self.blobs.get(&(repository.clone(), *digest))
    }

    /// To be called before the database is asked for a row of `repository`.
    pub(crate) fn watch(&self, repository: &RepositoryName) -> Watch {
        let shard = self.shard(repository);
        Watch {
            shard,
            generation: *self.generations[shard]
                .read()
                .unwrap_or_else(PoisonError::into_inner),
        }
    }

    pub(crate) fn store_tag(
        &self,
        watch: Watch,
        repository: &RepositoryName,
        tag: &Tag,
        row: &Arc<StoredManifest>,
    ) {
        self.unless_changed(watch, || {
            self.tags
                .insert((repository.clone(), tag.clone()), Arc::clone(row))
        });
    }

    pub(crate) fn store_manifest(
        &self,
        watch: Watch,
        repository: &RepositoryName,
        row: &Arc<StoredManifest>,
    ) {
        self.unless_changed(watch, || {
            self.manifests
                .insert((repository.clone(), row.digest), Arc::clone(row))
        });
    }

    pub(crate) fn store_blob(
        &self,
        watch: Watch,
        repository: &RepositoryName,
        digest: &Digest,
        row: &Arc<StoredBlob>,
    ) {
        self.unless_changed(watch, || {
            self.blobs
                .insert((repository.clone(), *digest), Arc::clone(row))
        });
    }

    /// Takes out what a transaction changed, right before its commit; the shards stay closed until [`Closed`] is dropped.
    pub(crate) fn close<'a>(&'a self, touched: &[Touched]) -> Closed<'a> {
        let mut shards: Vec<usize> = Vec::new();
        for row in touched {
            match row {
                Touched::Tag(repository, _)
                | Touched::Manifest(repository, _)
                | Touched::Blob(repository, _) => {
                    shards.push(self.shard(repository));
                }
                Touched::Everything => shards.extend(0..SHARDS),
                Touched::Rights => shards.push(RIGHTS),
            }
        }
        shards.sort_unstable();
        shards.dedup();
        for &shard in &shards {
            self.step(shard);
        }
        for row in touched {
            match row {
                Touched::Tag(repository, tag) => {
                    self.tags.invalidate(&(repository.clone(), tag.clone()))
                }
                Touched::Manifest(repository, digest) => {
                    self.manifests.invalidate(&(repository.clone(), *digest))
                }
                Touched::Blob(repository, digest) => {
                    self.blobs.invalidate(&(repository.clone(), *digest))
                }
                Touched::Everything => {
                    self.tags.invalidate_all();
                    self.manifests.invalidate_all();
                    self.blobs.invalidate_all();
                }
                // They are kept under their generation.
                Touched::Rights => {}
            }
        }
        Closed {
            cache: self,
            shards,
        }
    }

    /// Counts changes of rights; `None` while one is being committed.
    pub(crate) fn rights_generation(&self) -> Option<i64> {
        let generation = self.generations[RIGHTS]
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        let is_even = generation.is_multiple_of(2);
        is_even.then_some(generation.cast_signed())
    }

    fn unless_changed(&self, watch: Watch, store: impl FnOnce()) {
        let generation = self.generations[watch.shard]
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        if *generation == watch.generation && generation.is_multiple_of(2) {
            store();
        }
    }

    fn step(&self, shard: usize) {
        *self.generations[shard]
            .write()
            .unwrap_or_else(PoisonError::into_inner) += 1;
    }

    fn shard(&self, repository: &RepositoryName) -> usize {
        (self.hasher.hash_one(repository) % SHARDS as u64) as usize
    }
}

/// What a reader saw before it asked the database.
#[derive(Clone, Copy)]
pub(crate) struct Watch {
    shard: usize,
    generation: u64,
}

/// Keeps shards closed while a commit is under way.
pub(crate) struct Closed<'a> {
    cache: &'a Cache,
    shards: Vec<usize>,
}

impl Drop for Closed<'_> {
    fn drop(&mut self) {
        for &shard in &self.shards {
            self.cache.step(shard);
        }
    }
}

fn cost(bytes: usize) -> u32 {
    u32::try_from(bytes + ROW_BYTES).unwrap_or(u32::MAX)
}
