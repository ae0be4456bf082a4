//! Counting what a namespace holds while others go on in it.

use granary_oci::{Digest, Reference};
use granary_registry::{AccountsCommand, Precondition, Registry, RegistryError};

use crate::{
    gate::{Gate, alone, run, together},
    model::Dice,
    quota::{delete, delete_blob, empty, expect_exact, limit, mount, remove, set, usage},
    world::{
        LARGE, Leave, World, append, begin, collect, content, finish, is_postgres, name, no_grace,
        number, open, push, put,
    },
};

/// Work of all kinds in three repositories of the namespace and one of another, for so many steps.
async fn work(registry: Registry, seed: u64, steps: usize) {
    let mut dice = Dice::new(seed);
    let repositories = ["a/r0", "a/r1", "a/r2", "other/r"];
    for _ in 0..steps {
        let repository = repositories[dice.below(4)];
        let bytes = content(dice.below(30), 20 + 100 * dice.below(2));
        let (digest, manifest) = (Digest::sha256(&bytes), empty(dice.below(10)));
        match dice.below(10) {
            0..=3 => match push(&registry, repository, &bytes).await {
                // Its session may end with a repository that somebody removes.
                Ok(_) | Err(RegistryError::UploadUnknown(_)) => {}
                Err(error) => panic!("{error}"),
            },
            4 => {
                mount(&registry, repository, &bytes).await.unwrap();
            }
            5 => {
                let deletes = registry.deletes(repository).await;
                let _ = deletes.delete_blob(&digest).await;
            }
            6 => {
                let reference = Reference::Digest(Digest::sha256(&manifest));
                let deletes = registry.deletes(repository).await;
                let _ = deletes
                    .delete_manifest(&reference, Precondition::None)
                    .await;
            }
            7 => {
                let id = begin(&registry, repository).await;
                let _ = append(&registry, repository, &id, &bytes).await;
                if dice.chance(70) {
                    let _ = finish(&registry, repository, &id, &bytes).await;
                } else {
                    let pushes = registry.pushes(repository).await;
                    let _ = pushes.cancel_upload(&id).await;
                }
            }
            8 if dice.chance(20) => {
                let repository = name(repository);
                let command = AccountsCommand::RemoveRepository { repository };
                let _ = registry.administer(command).await;
            }
            _ => {
                put(&registry, repository, "v", &manifest).await.unwrap();
            }
        }
    }
}

#[test]
fn counting_beside_pushes_is_exact() {
    let _unset = together();
    run(async {
        let world = World::new(no_grace()).await;
        // More than is counted at once.
        for number in 0..450 {
            let repository = format!("a/r{}", number % 2);
            let bytes = content(number % 300, 10);
            push(&world.registry, &repository, &bytes).await.unwrap();
        }
        let others = match is_postgres() {
            true => open(world.folder.path(), no_grace()).await,
            false => world.registry.clone(),
        };
        for round in 0..6 {
            let workers: Vec<_> = (0..6)
                .map(|worker| {
                    let registry = if worker % 2 == 0 {
                        &others
                    } else {
                        &world.registry
                    };
                    tokio::spawn(work(registry.clone(), 10 * round + worker, 40))
                })
                .collect();
            limit(&world.registry, 1 << 30, 1 << 30).await;
            if round % 2 == 0 {
                collect(&others).await;
            }
            for worker in workers {
                worker.await.unwrap();
            }
            expect_exact(&world).await;
            if round % 3 != 0 {
                let workers: Vec<_> = (0..4)
                    .map(|worker| tokio::spawn(work(others.clone(), 1000 * round + worker, 20)))
                    .collect();
                limit(&world.registry, 0, 0).await;
                for worker in workers {
                    worker.await.unwrap();
                }
                assert_eq!(usage(&world.registry).await, None);
                for table in ["namespace_usage", "namespace_blobs"] {
                    let rows = format!("SELECT COUNT(*) AS number FROM {table}");
                    assert_eq!(number(&world, &rows).await, 0, "{table}");
                }
            }
        }
    });
}

/// What comes and goes while somebody counts is counted once, wherever he is.
#[test]
fn what_changes_while_it_is_counted_counts_once() {
    alone(async {
        let world = World::new(no_grace()).await;
        let registry = &world.registry;
        for point in ["quota::counting", "quota::counted_blobs"] {
            for repository in ["a/r0", "a/r1", "a/r2"] {
                for number in 0..3 {
                    push(registry, repository, &content(number, 10))
                        .await
                        .unwrap();
                    put(registry, repository, "v", &empty(number))
                        .await
                        .unwrap();
                }
            }
            set(registry, 10_000, 10_000).await;
            let gate = Gate::shut(point);
            let other = registry.clone();
            let counting = tokio::spawn(async move { other.catalog().count_usage().await });
            gate.reached().await;
            for repository in ["a/r0", "a/r1", "a/r2", "a/r3"] {
                push(registry, repository, &content(7, 10)).await.unwrap();
                push(registry, repository, &content(8, LARGE))
                    .await
                    .unwrap();
                put(registry, repository, "w", &empty(7)).await.unwrap();
            }
            for repository in ["a/r0", "a/r2"] {
                delete_blob(registry, repository, &content(1, 10)).await;
                delete(registry, repository, Digest::sha256(&empty(2))).await;
            }
            remove(registry, "a/r1").await;
            gate.open();
            counting.await.unwrap().unwrap();
            expect_exact(&world).await;
            collect(registry).await;
            expect_exact(&world).await;
            limit(registry, 0, 0).await;
            assert_eq!(usage(registry).await, None);
        }
    });
}
