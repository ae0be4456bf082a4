//! Pulls by tag that come at the same time share statements. Each answer is as new as if it had been asked for alone.

use granary_catalog::Catalog;
use granary_oci::{Digest, Reference};
use granary_registry::{Registry, RegistryError};
use granary_testbed::Postgres;

use crate::{
    gate::{run, together},
    world::{Leave, folder, image, no_grace, put, tag},
};

/// More than one statement answers, and more than waits while one runs.
const PULLS: usize = 200;

/// A registry whose pulls share two statements at a time, and the name of its database.
async fn registry(folder: &std::path::Path) -> (Registry, String) {
    let url = Postgres::shared().unwrap().create_database().unwrap();
    let catalog = Catalog::open_postgres(&url, 16).await.unwrap();
    let store = granary_blobs::FileStore::open(&folder.join("blobs"), 0).unwrap();
    let registry = Registry::open(catalog, Box::new(store), no_grace())
        .await
        .unwrap();
    (registry, url.rsplit('/').next().unwrap().to_owned())
}

async fn pulled(registry: &Registry, repository: &str, name_of_tag: &str) -> Option<Digest> {
    let reference = Reference::Tag(tag(name_of_tag));
    match registry.reads(repository).await.resolve(&reference).await {
        Ok(found) => Some(found.digest),
        Err(RegistryError::ManifestUnknown(_) | RegistryError::NameUnknown(_)) => None,
        Err(error) => panic!("{error}"),
    }
}

/// Twenty tags in four repositories, each with a manifest of its own.
async fn fill(registry: &Registry) -> Vec<(String, String, Digest)> {
    let mut tags = Vec::new();
    for number in 0..20_u8 {
        let (repository, tag) = (format!("team/r{}", number % 4), format!("t{number}"));
        let config = Digest::sha256(&[number]);
        crate::world::push(registry, &repository, &bytes::Bytes::from(vec![number]))
            .await
            .unwrap();
        let done = put(registry, &repository, &tag, &image(&[(config, 1)])).await;
        tags.push((repository, tag, done.unwrap().digest));
    }
    tags
}

#[test]
fn everybody_gets_the_answer_to_his_own_question() {
    let _unset = together();
    run(async {
        let folder = folder();
        let (registry, _) = registry(folder.path()).await;
        let tags = fill(&registry).await;
        let mut asking = Vec::new();
        for number in 0..PULLS {
            let (registry, (repository, tag, digest)) =
                (registry.clone(), tags[number % 20].clone());
            asking.push(tokio::spawn(async move {
                // Every third asks for what is not there: a tag of another repository, or nothing at all.
                let (repository, expected) = match number % 6 {
                    2 => ("team/other".to_owned(), None),
                    5 => (format!("team/r{}", (number + 1) % 4), None),
                    _ => (repository, Some(digest)),
                };
                assert_eq!(pulled(&registry, &repository, &tag).await, expected);
            }));
        }
        for one in asking {
            one.await.unwrap();
        }
    });
}

#[test]
fn nobody_is_told_what_was_asked_for_before_him() {
    let _unset = together();
    run(async {
        let folder = folder();
        let (registry, _) = registry(folder.path()).await;
        let tags = fill(&registry).await;
        let (stop, stopped) = tokio::sync::watch::channel(false);
        let storm: Vec<_> = (0..32)
            .map(|number| {
                let (registry, stopped) = (registry.clone(), stopped.clone());
                tokio::spawn(async move {
                    let mut pulls = 0_usize;
                    while !*stopped.borrow() {
                        // Half of them ask for the tag that moves.
                        let name_of_tag = if number % 2 == 0 { "t0" } else { "t4" };
                        assert!(pulled(&registry, "team/r0", name_of_tag).await.is_some());
                        pulls += 1;
                    }
                    pulls
                })
            })
            .collect();
        let (first, second) = (tags[0].2, tags[4].2);
        let bodies = [
            image(&[(Digest::sha256(&[0]), 1)]),
            image(&[(Digest::sha256(&[4]), 1)]),
        ];
        for turn in 0..100 {
            let expected = [first, second][turn % 2];
            put(&registry, "team/r0", "t0", &bodies[turn % 2])
                .await
                .unwrap();
            assert_eq!(
                pulled(&registry, "team/r0", "t0").await,
                Some(expected),
                "turn {turn}"
            );
        }
        stop.send(true).unwrap();
        for one in storm {
            assert!(one.await.unwrap() > 0);
        }
    });
}

#[test]
fn connections_that_break_cost_nobody_his_answer() {
    let _unset = together();
    run(async {
        let folder = folder();
        let (registry, database) = registry(folder.path()).await;
        let tags = fill(&registry).await;
        let server = Postgres::shared().unwrap();
        let (repository, tag, digest) = tags[7].clone();
        let storm: Vec<_> = (0..32)
            .map(|_| {
                let (registry, repository, tag) =
                    (registry.clone(), repository.clone(), tag.clone());
                tokio::spawn(async move {
                    for _ in 0..50 {
                        assert_eq!(pulled(&registry, &repository, &tag).await, Some(digest));
                    }
                })
            })
            .collect();
        let cut = format!(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{database}' AND pid <> pg_backend_pid()"
        );
        for _ in 0..20 {
            server.psql("postgres", &cut).unwrap();
        }
        for one in storm {
            one.await.unwrap();
        }
    });
}

/// Entries of the tags' index that were read so far, once nobody is connected to the database: then all were counted.
async fn tags_read(server: &Postgres, database: &str) -> u64 {
    let connected = format!("SELECT count(*) FROM pg_stat_activity WHERE datname = '{database}'");
    let began = std::time::Instant::now();
    while server.psql("postgres", &connected).unwrap().trim() != "0" {
        assert!(began.elapsed() < std::time::Duration::from_secs(60));
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let read = "SELECT idx_tup_read FROM pg_stat_user_indexes WHERE indexrelname = 'tags_pkey'";
    server.psql(database, read).unwrap().trim().parse().unwrap()
}

#[test]
fn a_pull_reads_no_other_tag_of_its_repository() {
    const OTHERS: u64 = 5_000;
    let _unset = together();
    run(async {
        let folder = folder();
        let (registry, database) = registry(folder.path()).await;
        let server = Postgres::shared().unwrap();
        let tags = fill(&registry).await;
        // A thousand repositories have ten tags each, and one has very many, of which the averages say nothing.
        let many = format!(
            "INSERT INTO repositories (namespace_id, name, created_at) \
             SELECT namespace_id, 'team/small' || n, 0 FROM repositories, generate_series(1, 1000) n WHERE name = 'team/r0'; \
             INSERT INTO tags (repository_id, name, manifest_id, updated_at) \
             SELECT r.id, 't' || n, t.manifest_id, 0 FROM repositories r, tags t, generate_series(1, 10) n \
             WHERE r.name LIKE 'team/small%' AND t.name = 't0'; \
             INSERT INTO tags (repository_id, name, manifest_id, updated_at) \
             SELECT repository_id, 'other' || n, manifest_id, 0 FROM tags, generate_series(1, {OTHERS}) n \
             WHERE name = 't0'; ANALYZE"
        );
        server.psql(&database, &many).unwrap();
        drop(registry);
        let before = tags_read(server, &database).await;

        let url = server.url(&database);
        let catalog = Catalog::open_postgres(&url, 16).await.unwrap();
        let store = granary_blobs::FileStore::open(&folder.path().join("blobs"), 0).unwrap();
        let registry = Registry::open(catalog, Box::new(store), no_grace())
            .await
            .unwrap();
        let pulls = (0..PULLS).map(|number| {
            let (registry, (repository, tag, digest)) = (registry.clone(), &tags[4 * (number % 5)]);
            async move { assert_eq!(pulled(&registry, repository, tag).await, Some(*digest)) }
        });
        futures_util::future::join_all(pulls).await;
        drop(registry);
        let read = tags_read(server, &database).await - before;
        assert!(read <= 2 * PULLS as u64, "{read} entries for {PULLS} pulls");
    });
}
