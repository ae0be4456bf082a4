//! Two registries over one database and one store, as two processes have them.

use std::time::Duration;

use bytes::Bytes;
use granary_oci::{Digest, Reference};
use granary_registry::{
    Chunk, ManifestRequest, Precondition, Progress, Registry, RegistryError, Rules,
};
use tempfile::TempDir;

use crate::{
    gate::{Gate, alone, run, together},
    world::{
        LARGE, Leave, append, begin, body, collect, content, finish, folder, name, no_grace, open,
        pull, push, received, slow_body, tag,
    },
};

pub(crate) struct Pair {
    pub(crate) folder: TempDir,
    pub(crate) one: Registry,
    pub(crate) two: Registry,
}

pub(crate) async fn pair(rules: Rules) -> Pair {
    let folder = folder();
    let one = open(folder.path(), rules.clone()).await;
    let two = open(folder.path(), rules).await;
    Pair { folder, one, two }
}

/// Pushes a manifest that only differs by `number`, under tag `v`.
pub(crate) async fn put(
    registry: &Registry,
    number: usize,
    precondition: Precondition,
) -> Result<Digest, RegistryError> {
    let media_type = "application/vnd.oci.image.index.v1+json";
    let text = format!(
        r#"{{"schemaVersion":2,"mediaType":"{media_type}","manifests":[],"annotations":{{"n":"{number}"}}}}"#
    );
    let request = ManifestRequest {
        reference: Reference::Tag(tag("v")),
        tags: Vec::new(),
        content_type: Some(media_type.to_owned()),
        precondition,
        body: Bytes::from(text),
    };
    let done = registry.pushes("a/b").await.put_manifest(request).await?;
    Ok(done.digest)
}

pub(crate) async fn stands_at(registry: &Registry) -> Option<Digest> {
    let found = registry
        .reads("a/b")
        .await
        .resolve(&Reference::Tag(tag("v")))
        .await;
    found.ok().map(|manifest| manifest.digest)
}

#[test]
fn every_chunk_may_come_to_another_replica() {
    // Failpoints are the whole process's, so no test that shuts one runs meanwhile.
    let _unset = together();
    run(async {
        let pair = pair(no_grace()).await;
        let bytes = content(1, 10 * LARGE);
        let id = begin(&pair.one, "a/b").await;
        for (number, chunk) in bytes.chunks(LARGE).enumerate() {
            let registry = if number % 2 == 0 {
                &pair.two
            } else {
                &pair.one
            };
            let got = append(registry, "a/b", &id, &bytes.slice_ref(chunk))
                .await
                .unwrap();
            assert_eq!(got, ((number + 1) * LARGE) as u64);
            assert_eq!(received(&pair.one, &id).await.unwrap(), got);
        }
        let digest = finish(&pair.two, "a/b", &id, &bytes).await.unwrap();
        for registry in [&pair.one, &pair.two] {
            assert_eq!(pull(registry, "a/b", &digest).await, Some(bytes.clone()));
        }
        // The same closing PUT again, at the other one.
        finish(&pair.one, "a/b", &id, &bytes).await.unwrap();
    });
}

#[test]
fn a_session_that_is_written_to_elsewhere_is_busy_until_its_writer_is_silent() {
    alone(async {
        let rules = Rules {
            silence: Duration::from_millis(400),
            ..no_grace()
        };
        let pair = pair(rules).await;
        let bytes = content(1, 2 * LARGE);
        let id = begin(&pair.one, "a/b").await;
        append(&pair.one, "a/b", &id, &bytes.slice(..LARGE))
            .await
            .unwrap();
        let gate = Gate::shut("upload::before_save");
        let (other, session, rest) = (pair.one.clone(), id.clone(), bytes.slice(LARGE..));
        let late = tokio::spawn(async move { append(&other, "a/b", &session, &rest).await });
        gate.reached().await;
        let busy = append(&pair.two, "a/b", &id, &bytes.slice(LARGE..)).await;
        assert!(
            matches!(busy, Err(RegistryError::UploadBusy { .. })),
            "{busy:?}"
        );
        drop(gate);
        late.await.unwrap().unwrap();
        // Let go at once, without waiting for the silence.
        let digest = finish(&pair.two, "a/b", &id, &bytes).await.unwrap();
        assert_eq!(pull(&pair.one, "a/b", &digest).await, Some(bytes));
    });
}

#[test]
fn the_session_of_a_dead_replica_is_taken_over_after_its_silence() {
    let _unset = together();
    run(async {
        let rules = Rules {
            silence: Duration::from_millis(300),
            ..no_grace()
        };
        let pair = pair(rules).await;
        let bytes = content(1, 2 * LARGE);
        let id = begin(&pair.one, "a/b").await;
        append(&pair.one, "a/b", &id, &bytes.slice(..LARGE))
            .await
            .unwrap();
        // A claim that nobody keeps alive, as a killed process leaves it.
        let silence = Duration::from_secs(10);
        pair.one
            .catalog()
            .claim_upload(&name("a/b"), &id, "dead", silence)
            .await
            .unwrap();
        let digest = loop {
            match append(&pair.two, "a/b", &id, &bytes.slice(LARGE..)).await {
                Err(RegistryError::UploadBusy { retry_after }) => {
                    tokio::time::sleep(retry_after).await
                }
                other => {
                    other.unwrap();
                    break finish(&pair.two, "a/b", &id, &bytes).await.unwrap();
                }
            }
        };
        assert_eq!(pull(&pair.one, "a/b", &digest).await, Some(bytes));
    });
}

/// Files below the folder that both use.
fn objects(pair: &Pair) -> usize {
    let prefixes = std::fs::read_dir(pair.folder.path().join("blobs")).unwrap();
    let folders = prefixes
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_dir());
    folders
        .map(|path| std::fs::read_dir(path).unwrap().count())
        .sum()
}

#[test]
fn a_writer_that_was_overtaken_writes_on_and_harms_nothing() {
    let _unset = together();
    run(async {
        const PIECE: usize = 1 << 20;
        let rules = Rules {
            silence: Duration::from_millis(300),
            ..no_grace()
        };
        let pair = pair(rules).await;
        let bytes: Bytes = (0..6 * PIECE)
            .map(|place| (place % 251) as u8)
            .collect::<Vec<u8>>()
            .into();
        let id = begin(&pair.one, "a/b").await;
        append(&pair.one, "a/b", &id, &bytes.slice(..PIECE))
            .await
            .unwrap();
        // Its body stands still, and it is overtaken.
        let (piece, slow) = slow_body();
        let (other, session) = (pair.one.clone(), id.clone());
        let late = tokio::spawn(async move {
            let (repository, chunk) = (name("a/b"), Chunk::default());
            other
                .pushes(repository.as_str())
                .await
                .append(&session, chunk, slow)
                .await
        });
        piece.send(content(666, PIECE)).unwrap();
        let row = async || pair.one.catalog().take_up_upload(&name("a/b"), &id).await;
        while row().await.unwrap().unwrap().epoch < 2 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let (next, rest) = slow_body();
        let (other, session) = (pair.two.clone(), id.clone());
        let digest = Digest::sha256(&bytes);
        loop {
            let probe = append(&pair.two, "a/b", &id, &bytes.slice(PIECE..2 * PIECE)).await;
            match probe {
                Err(RegistryError::UploadBusy { retry_after }) => {
                    tokio::time::sleep(retry_after).await
                }
                done => {
                    assert_eq!(done.unwrap(), 2 * PIECE as u64);
                    break;
                }
            }
        }
        let closing = tokio::spawn(async move {
            let (repository, chunk) = (name("a/b"), Chunk::default());
            other
                .pushes(repository.as_str())
                .await
                .finish_upload(&session, digest, chunk, rest)
                .await
        });
        for number in 2..6 {
            // More than a writer gathers before it writes.
            let _ = piece.send(content(667 + number, PIECE));
            let from = number * PIECE;
            next.send(bytes.slice(from..from + PIECE)).unwrap();
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        drop((piece, next));
        closing.await.unwrap().unwrap();
        let refused = late.await.unwrap();
        assert!(
            matches!(
                refused,
                Err(RegistryError::UploadSuperseded | RegistryError::UploadUnknown(_))
            ),
            "{refused:?}"
        );
        for registry in [&pair.one, &pair.two] {
            assert_eq!(pull(registry, "a/b", &digest).await, Some(bytes.clone()));
        }
        assert_eq!(objects(&pair), 1);
    });
}

#[test]
fn a_session_cancelled_after_a_take_over_leaves_no_file() {
    let _unset = together();
    run(async {
        let pair = pair(no_grace()).await;
        let bytes = content(1, 2 * LARGE);
        let id = begin(&pair.one, "a/b").await;
        append(&pair.one, "a/b", &id, &bytes.slice(..LARGE))
            .await
            .unwrap();
        // A chunk whose announced length does not fit is refused, and the session stands where it was.
        let chunk = Chunk {
            length: Some(7),
            ..Chunk::default()
        };
        let odd = pair
            .two
            .pushes("a/b")
            .await
            .append(&id, chunk, body(bytes.slice(LARGE..)))
            .await;
        assert!(
            matches!(odd, Err(RegistryError::SizeDiffers { .. })),
            "{odd:?}"
        );
        append(&pair.one, "a/b", &id, &bytes.slice(LARGE..))
            .await
            .unwrap();
        assert_eq!(objects(&pair), 1);
        pair.two
            .pushes("a/b")
            .await
            .cancel_upload(&id)
            .await
            .unwrap();
        while objects(&pair) > 0 {
            collect(&pair.one).await;
        }
    });
}

#[test]
fn what_one_acknowledged_the_other_serves_at_once() {
    let _unset = together();
    run(async {
        let pair = pair(no_grace()).await;
        for number in 0..20 {
            let (writer, reader) = if number % 2 == 0 {
                (&pair.one, &pair.two)
            } else {
                (&pair.two, &pair.one)
            };
            let digest = put(writer, number, Precondition::None).await.unwrap();
            assert_eq!(stands_at(reader).await, Some(digest));
            assert_eq!(stands_at(writer).await, Some(digest));
            let blob = push(writer, "a/b", &content(number, 20)).await.unwrap();
            assert!(pull(reader, "a/b", &blob).await.is_some());
            writer
                .deletes("a/b")
                .await
                .delete_blob(&blob)
                .await
                .unwrap();
            assert_eq!(pull(reader, "a/b", &blob).await, None);
        }
        let reference = Reference::Tag(tag("v"));
        pair.one
            .deletes("a/b")
            .await
            .delete_manifest(&reference, Precondition::None)
            .await
            .unwrap();
        assert_eq!(stands_at(&pair.two).await, None);
        assert_eq!(stands_at(&pair.one).await, None);
    });
}

#[test]
fn of_many_that_compare_and_swap_one_wins() {
    let _unset = together();
    run(async {
        let pair = pair(no_grace()).await;
        for round in 0..10 {
            let first = put(&pair.one, 1000 * round, Precondition::None)
                .await
                .unwrap();
            let tries = (1..=8).map(|number| {
                let registry = if number % 2 == 0 {
                    &pair.one
                } else {
                    &pair.two
                };
                put(registry, 1000 * round + number, Precondition::At(first))
            });
            let outcomes = futures_util::future::join_all(tries).await;
            let won: Vec<Digest> = outcomes.into_iter().flatten().collect();
            assert_eq!(won.len(), 1, "{won:?}");
            assert_eq!(stands_at(&pair.two).await, Some(won[0]));
        }
    });
}

#[test]
fn the_same_content_pushed_everywhere_is_one_blob() {
    let _unset = together();
    run(async {
        let pair = pair(no_grace()).await;
        for round in 0..5 {
            let bytes = content(round, LARGE);
            let pushes = (0..8).map(|number| {
                let registry = if number % 2 == 0 {
                    &pair.one
                } else {
                    &pair.two
                };
                let (repository, bytes) = (format!("a/r{}", number % 3), bytes.clone());
                async move { push(registry, &repository, &bytes).await }
            });
            for pushed in futures_util::future::join_all(pushes).await {
                pushed.unwrap();
            }
            let digest = Digest::sha256(&bytes);
            for repository in ["a/r0", "a/r1", "a/r2"] {
                assert_eq!(
                    pull(&pair.one, repository, &digest).await,
                    Some(bytes.clone())
                );
            }
        }
    });
}

#[test]
fn collections_on_both_while_pushes_run_lose_nothing() {
    let _unset = together();
    run(async {
        let rules = Rules {
            grace: Duration::from_secs(3600),
            ..no_grace()
        };
        let pair = pair(rules).await;
        let collecting = |registry: Registry| async move {
            for _ in 0..20 {
                registry.collect(false, &Progress::silent()).await.unwrap();
            }
        };
        let pushing = async {
            for number in 0..40 {
                let bytes = content(number, 20 + number * 10);
                let digest = push(&pair.one, "a/b", &bytes).await.unwrap();
                assert_eq!(pull(&pair.two, "a/b", &digest).await, Some(bytes));
            }
        };
        tokio::join!(
            collecting(pair.one.clone()),
            collecting(pair.two.clone()),
            pushing
        );
    });
}

#[test]
fn one_of_them_collects_and_another_follows_when_it_is_gone() {
    let _unset = together();
    run(async {
        let pair = pair(no_grace()).await;
        let (one, two) = (pair.one.catalog(), pair.two.catalog());
        let moment = Duration::from_millis(200);
        assert!(one.lease("gc", "one", moment).await.unwrap());
        assert!(!two.lease("gc", "two", moment).await.unwrap());
        assert!(
            one.lease("gc", "one", moment).await.unwrap(),
            "it may be prolonged"
        );
        while !two.lease("gc", "two", moment).await.unwrap() {
            tokio::task::yield_now().await;
        }
        assert!(!one.lease("gc", "one", moment).await.unwrap());
        two.release("gc", "two").await.unwrap();
        assert!(one.lease("gc", "one", moment).await.unwrap());
    });
}

#[test]
fn replicas_are_known_while_they_live() {
    let _unset = together();
    run(async {
        let pair = pair(no_grace()).await;
        pair.one.catalog().beat("one", "1.0").await.unwrap();
        pair.two.catalog().beat("two", "1.1").await.unwrap();
        let known = pair.one.catalog().replicas().await.unwrap();
        let ids: Vec<&str> = known.iter().map(|replica| replica.id.as_str()).collect();
        assert_eq!(ids, ["one", "two"]);
        pair.two.catalog().leave("two").await.unwrap();
        assert_eq!(pair.one.catalog().replicas().await.unwrap().len(), 1);
    });
}
