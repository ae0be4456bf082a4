//! Writes of a SQLite catalog share commits (decision 38).

use granary_oci::Digest;

use crate::{
    gate::{Gate, alone_on, run, together},
    world::{LARGE, World, content, no_grace, pull, push},
};

const PUSHES: usize = 32;

/// What waits while a commit runs shares the next one: 32 pushes, two commits.
#[test]
fn writes_that_wait_share_a_commit() {
    // On one thread a task runs until it waits for something, here for the writer.
    alone_on(tokio::runtime::Builder::new_current_thread(), async {
        let world = World::new(no_grace()).await;
        let commits = world.registry.catalog().commits();
        let gate = Gate::shut("catalog::before_commit");
        let first = {
            let registry = world.registry.clone();
            tokio::spawn(async move { push(&registry, "a/b", &content(0, 10)).await })
        };
        gate.reached().await;
        let others: Vec<_> = (1..PUSHES)
            .map(|number| {
                let registry = world.registry.clone();
                tokio::spawn(async move { push(&registry, "a/b", &content(number, 10)).await })
            })
            .collect();
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        gate.open();
        first.await.unwrap().unwrap();
        for other in others {
            other.await.unwrap().unwrap();
        }
        // Nothing may be acknowledged before its commit, so these two are counted, or the counter is about to be.
        assert!(world.registry.catalog().commits() - commits <= 3);
        for number in 0..PUSHES {
            let bytes = content(number, 10);
            assert_eq!(
                pull(&world.registry, "a/b", &Digest::sha256(&bytes)).await,
                Some(bytes)
            );
        }
    });
}

/// Decision 38, with the disk as slow or fast as it is.
#[test]
fn concurrent_pushes_make_fewer_commits_than_pushes() {
    const ROUNDS: usize = 4;
    let _unset = together();
    run(async {
        let world = World::in_folder(tempfile::tempdir().unwrap(), no_grace()).await;
        let commits = world.registry.catalog().commits();
        let pushers: Vec<_> = (0..PUSHES)
            .map(|pusher| {
                let registry = world.registry.clone();
                tokio::spawn(async move {
                    for round in 0..ROUNDS {
                        // Each makes a session and closes it: two writes.
                        let bytes = content(pusher * ROUNDS + round, LARGE);
                        push(&registry, "a/b", &bytes).await.unwrap();
                    }
                })
            })
            .collect();
        for pusher in pushers {
            pusher.await.unwrap();
        }
        let commits = world.registry.catalog().commits() - commits;
        let pushes = (PUSHES * ROUNDS) as u64;
        assert!(commits < pushes, "{commits} commits for {pushes} pushes");
    });
}
