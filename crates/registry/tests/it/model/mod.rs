//! The registry against a model of it that fits on a page: random work from a seed, every answer compared.
//!
//! Garbage collection runs without a grace time, so the model knows exactly what goes. `GRANARY_MODEL_SEED` and
//! `GRANARY_MODEL_STEPS` repeat or lengthen a run.

mod compare;
mod oracle;
mod play;

use granary_blobs::MemoryStore;
use granary_registry::{Registry, Rules, Untagged};

use self::play::Play;
use crate::{
    gate::together,
    world::{catalog, folder, is_postgres, no_grace, open},
};

/// A xorshift: the same seed gives the same work on every machine.
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        // A few turns, because small seeds begin alike.
        let mut dice = Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        for _ in 0..8 {
            dice.below(1);
        }
        dice
    }

    pub(crate) fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from((self.0 >> 11) % end as u64).unwrap()
    }

    pub(crate) fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    pub(crate) fn pick<'a, T>(&mut self, items: &'a [T]) -> Option<&'a T> {
        (!items.is_empty()).then(|| &items[self.below(items.len())])
    }
}

fn from_environment(name: &str) -> Option<u64> {
    std::env::var_os(name)?.to_str()?.parse().ok()
}

/// Plays `steps` steps for each seed; `stored` says whether a restart keeps the content.
fn play(seeds: &[u64], steps: usize, stored: bool, rules: &Rules) {
    let _unset = together();
    let chosen = from_environment("GRANARY_MODEL_SEED");
    // A server answers more slowly than a file does.
    let steps = if is_postgres() { steps / 5 } else { steps };
    let steps = from_environment("GRANARY_MODEL_STEPS")
        .map_or(steps, |steps| usize::try_from(steps).unwrap());
    let runtime = tokio::runtime::Runtime::new().unwrap();
    for &seed in chosen.as_ref().map_or(seeds, std::slice::from_ref) {
        let folder = folder();
        runtime.block_on(async {
            let registry = if stored {
                open(folder.path(), rules.clone()).await
            } else {
                in_memory(folder.path(), rules).await
            };
            let mut play = Play::new(seed, registry, rules.clone());
            for step in 0..steps {
                play.step().await;
                if step % 50 == 49 {
                    play.compare_everything().await;
                }
                if stored && step % 150 == 149 {
                    play.restart(folder.path()).await;
                }
            }
            play.compare_everything().await;
            play.end();
        });
    }
}

async fn in_memory(folder: &std::path::Path, rules: &Rules) -> Registry {
    let catalog = catalog(folder).await;
    Registry::open(catalog, Box::<MemoryStore>::default(), rules.clone())
        .await
        .unwrap()
}

fn untagged_go() -> Rules {
    Rules {
        untagged: Untagged::After(std::time::Duration::ZERO),
        ..no_grace()
    }
}

#[test]
fn in_memory_untagged_manifests_kept() {
    play(&[1, 2], 600, false, &no_grace());
}

#[test]
fn in_memory_untagged_manifests_collected() {
    play(&[3, 4], 600, false, &untagged_go());
}

#[test]
fn on_disk_with_restarts_untagged_manifests_kept() {
    play(&[5, 6], 600, true, &no_grace());
}

#[test]
fn on_disk_with_restarts_untagged_manifests_collected_and_sparse_indexes() {
    play(
        &[7, 8],
        1500,
        true,
        &Rules {
            sparse: true,
            ..untagged_go()
        },
    );
}
