//! With SQLite the answers held in memory are exact (decision 8): once a move of a tag was acknowledged, or one
//! reader has seen it, nobody sees an older value.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::SeqCst},
};

use bytes::Bytes;
use granary_oci::{Digest, Reference};
use granary_registry::{Precondition, Registry, RegistryError};

use crate::{
    gate::{Gate, alone, together},
    world::{Leave, World, content, image, no_grace, pull, push, put, resolve},
};

const READERS: usize = 6;
const MOVES: usize = 600;
/// Every so many moves is a removal.
const REMOVAL: usize = 5;

fn manifest(number: usize) -> Bytes {
    let text = String::from_utf8(image(&[]).to_vec()).unwrap();
    text.replacen('{', &format!("{{\"number\":{number},"), 1)
        .into()
}

/// What the tag's move `number` left: the manifest's digest, or nothing.
fn value(number: usize) -> Option<Digest> {
    (!number.is_multiple_of(REMOVAL)).then(|| Digest::sha256(&manifest(number)))
}

/// Moves are numbered: those up to `acknowledged` are done, those behind `begun` have not begun.
#[derive(Default)]
struct Moves {
    begun: AtomicUsize,
    acknowledged: AtomicUsize,
    /// The newest that a reader is known to have seen.
    seen: AtomicUsize,
    reads: AtomicUsize,
}

impl Moves {
    /// A read in the sense of linearizability: it must answer a value between those two, and none before a value
    /// that another read has returned already.
    async fn read(&self, registry: &Registry, values: &[Option<Digest>]) {
        let oldest = self.acknowledged.load(SeqCst).max(self.seen.load(SeqCst));
        let found = match resolve(registry, "a/b", "t").await {
            Ok(manifest) => Some(manifest.digest),
            Err(RegistryError::ManifestUnknown(_) | RegistryError::NameUnknown(_)) => None,
            Err(error) => panic!("{error}"),
        };
        let newest = self.begun.load(SeqCst);
        // Of several moves it can stem from, the oldest excludes least.
        let stems_from = (oldest..=newest).find(|&number| values[number] == found);
        let position = values
            .iter()
            .rposition(|value| *value == found && value.is_some());
        assert!(
            stems_from.is_some(),
            "moves {oldest}..={newest} were possible, but it stands at {position:?}"
        );
        self.seen.fetch_max(stems_from.unwrap_or(0), SeqCst);
        self.reads.fetch_add(1, SeqCst);
    }
}

#[test]
fn nobody_sees_an_older_value_after_a_move() {
    let _unset = together();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(4)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let world = World::new(no_grace()).await;
        let values: Arc<Vec<_>> = Arc::new((0..=MOVES).map(value).collect());
        let moves = Arc::new(Moves::default());
        let readers: Vec<_> = (0..READERS)
            .map(|_| {
                let (registry, moves, values) = (
                    world.registry.clone(),
                    Arc::clone(&moves),
                    Arc::clone(&values),
                );
                tokio::spawn(async move {
                    while moves.acknowledged.load(SeqCst) < MOVES {
                        moves.read(&registry, &values).await;
                        tokio::task::yield_now().await;
                    }
                })
            })
            .collect();
        for number in 1..=MOVES {
            moves.begun.store(number, SeqCst);
            if value(number).is_some() {
                put(&world.registry, "a/b", "t", &manifest(number))
                    .await
                    .unwrap();
            } else {
                let tag = "t".parse().unwrap();
                world
                    .registry
                    .deletes("a/b")
                    .await
                    .delete_manifest(&tag, Precondition::None)
                    .await
                    .unwrap();
            }
            moves.acknowledged.store(number, SeqCst);
            // Whoever moved it reads its own write, from memory or not.
            moves.read(&world.registry, &values).await;
        }
        for reader in readers {
            reader.await.unwrap();
        }
        assert!(
            moves.reads.load(SeqCst) > 2 * MOVES,
            "the readers took part"
        );
    });
}

/// The old row can still be read while the commit runs, but must not stay in memory.
#[test]
fn a_read_during_the_commit_leaves_nothing_behind() {
    alone(async {
        let world = World::new(no_grace()).await;
        let registry = &world.registry;
        put(registry, "a/b", "t", &manifest(1)).await.unwrap();
        for cached in [false, true] {
            if cached {
                resolve(registry, "a/b", "t").await.unwrap();
            }
            let next = manifest(2 + usize::from(cached));
            let gate = Gate::shut("catalog::before_commit");
            let (other, body) = (registry.clone(), next.clone());
            let moving = tokio::spawn(async move { put(&other, "a/b", "t", &body).await });
            gate.reached().await;
            let before = resolve(registry, "a/b", "t").await.unwrap();
            assert_ne!(before.payload, next, "it is not committed");
            gate.open();
            moving.await.unwrap().unwrap();
            assert_eq!(resolve(registry, "a/b", "t").await.unwrap().payload, next);
        }
    });
}

#[test]
fn what_was_deleted_is_gone_from_memory() {
    let _unset = together();
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let world = World::new(no_grace()).await;
        let registry = &world.registry;
        for number in 0..20 {
            let bytes = content(number, 10);
            let digest = push(registry, "a/b", &bytes).await.unwrap();
            assert_eq!(pull(registry, "a/b", &digest).await, Some(bytes));
            registry
                .deletes("a/b")
                .await
                .delete_blob(&digest)
                .await
                .unwrap();
            assert_eq!(pull(registry, "a/b", &digest).await, None);

            let stored = put(registry, "a/b", "t", &manifest(number)).await.unwrap();
            for reference in ["t", &stored.digest.to_string()] {
                resolve(registry, "a/b", reference).await.unwrap();
            }
            let by_digest = Reference::Digest(stored.digest);
            registry
                .deletes("a/b")
                .await
                .delete_manifest(&by_digest, Precondition::None)
                .await
                .unwrap();
            for reference in ["t", &stored.digest.to_string()] {
                assert!(
                    resolve(registry, "a/b", reference).await.is_err(),
                    "{reference}"
                );
            }
        }
    });
}
