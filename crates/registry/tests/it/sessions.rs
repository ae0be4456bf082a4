//! Upload sessions: one writer at a time, take-over, cancelling, expiry, limits, and commits shared by many pushes.

use std::time::Duration;

use bytes::Bytes;
use granary_oci::{ContentRange, Digest};
use granary_registry::{BodyError, Chunk, Registry, RegistryError, Rules, UploadStatus};
use tokio::{sync::mpsc::UnboundedSender, task::JoinHandle};

use crate::{
    gate::{Gate, alone, run, together},
    world::{
        HOUR, LARGE, Leave, World, append, begin, body, collect, content, finish, no_grace, pull,
        push, received, slow_body,
    },
};

type Appending = JoinHandle<Result<UploadStatus, RegistryError>>;

/// A PATCH of which `first` has arrived and whose body goes on.
async fn writing(
    registry: &Registry,
    id: &str,
    first: &Bytes,
) -> (UnboundedSender<Bytes>, Appending) {
    let gate = Gate::shut("upload::received");
    let (sender, slow) = slow_body();
    let (registry, id) = (registry.clone(), id.to_owned());
    let appending = tokio::spawn(async move {
        registry
            .pushes("a/b")
            .await
            .append(&id, Chunk::default(), slow)
            .await
    });
    sender.send(first.clone()).unwrap();
    gate.reached().await;
    gate.open();
    (sender, appending)
}

#[test]
fn a_second_writer_has_to_wait() {
    alone(async {
        let world = World::new(Rules {
            silence: HOUR,
            ..no_grace()
        })
        .await;
        let registry = &world.registry;
        for length in [20, LARGE] {
            let bytes = content(length, length);
            let id = begin(registry, "a/b").await;
            let (sender, first) = writing(registry, &id, &bytes.slice(..10)).await;
            for _ in 0..3 {
                match append(registry, "a/b", &id, &bytes).await {
                    Err(RegistryError::UploadBusy { retry_after }) => assert!(retry_after <= HOUR),
                    other => panic!("{other:?}"),
                }
            }
            assert!(matches!(
                finish(registry, "a/b", &id, &bytes[..10]).await,
                Err(RegistryError::UploadBusy { .. })
            ));
            sender.send(bytes.slice(10..)).unwrap();
            drop(sender);
            assert_eq!(first.await.unwrap().unwrap().received, length as u64);
            let digest = finish(registry, "a/b", &id, &bytes).await.unwrap();
            assert_eq!(pull(registry, "a/b", &digest).await, Some(bytes));
        }
    });
}

#[test]
fn a_silent_writer_is_taken_over_and_what_it_sent_is_kept() {
    alone(async {
        let world = World::new(Rules {
            silence: Duration::ZERO,
            ..no_grace()
        })
        .await;
        let registry = &world.registry;
        for (length, cut) in [(20, 10), (LARGE, 10), (LARGE, 100)] {
            let bytes = content(length + cut, length);
            let id = begin(registry, "a/b").await;
            let (sender, first) = writing(registry, &id, &bytes.slice(..cut)).await;
            let range: ContentRange = format!("{cut}-{}", length - 1).parse().unwrap();
            let chunk = Chunk {
                range: Some(range),
                length: None,
            };
            let rest = body(bytes.slice(cut..));
            let status = registry
                .pushes("a/b")
                .await
                .append(&id, chunk, rest)
                .await
                .unwrap();
            assert_eq!(status.received, length as u64);
            // What the first one sends now goes nowhere.
            let _ = sender.send(Bytes::from_static(b"late"));
            drop(sender);
            assert!(matches!(
                first.await.unwrap(),
                Err(RegistryError::Body(BodyError::Cut))
            ));
            assert_eq!(received(registry, &id).await.unwrap(), length as u64);
            let digest = finish(registry, "a/b", &id, &bytes).await.unwrap();
            assert_eq!(pull(registry, "a/b", &digest).await, Some(bytes));
        }
    });
}

#[test]
fn a_cut_body_keeps_what_came() {
    alone(async {
        let world = World::new(no_grace()).await;
        for length in [20, LARGE] {
            let bytes = content(length, length);
            let id = begin(&world.registry, "a/b").await;
            let (_sender, first) = writing(&world.registry, &id, &bytes.slice(..15)).await;
            // The connection's task is dropped, as the edge does; the writer's is not.
            first.abort();
            let rest = loop {
                match append(&world.registry, "a/b", &id, &bytes.slice(15..)).await {
                    Err(RegistryError::UploadBusy { .. }) => tokio::task::yield_now().await,
                    other => break other.unwrap(),
                }
            };
            assert_eq!(rest, length as u64);
            finish(&world.registry, "a/b", &id, &bytes).await.unwrap();
        }
    });
}

#[test]
fn a_superseded_save_is_refused() {
    alone(async {
        let world = World::new(no_grace()).await;
        let registry = &world.registry;
        for length in [20, LARGE] {
            let bytes = content(length, length);
            let id = begin(registry, "a/b").await;
            append(registry, "a/b", &id, &bytes.slice(..10))
                .await
                .unwrap();
            let gate = Gate::shut("upload::before_save");
            let (other, session, rest) = (registry.clone(), id.clone(), bytes.slice(10..));
            let late = tokio::spawn(async move { append(&other, "a/b", &session, &rest).await });
            gate.reached().await;
            registry.catalog().take_over_upload(&id).await.unwrap();
            gate.open();
            assert!(matches!(
                late.await.unwrap(),
                Err(RegistryError::UploadUnknown(_))
            ));
            assert_eq!(
                received(registry, &id).await.unwrap(),
                10,
                "nothing of it counts"
            );
            // The successor goes on where the session stands.
            append(registry, "a/b", &id, &bytes.slice(10..))
                .await
                .unwrap();
            finish(registry, "a/b", &id, &bytes).await.unwrap();
        }
    });
}

#[test]
fn a_superseded_end_stores_nothing() {
    alone(async {
        let world = World::new(no_grace()).await;
        let registry = &world.registry;
        for length in [20, LARGE] {
            let bytes = content(length, length);
            let id = begin(registry, "a/b").await;
            append(registry, "a/b", &id, &bytes).await.unwrap();
            let gate = Gate::shut("upload::before_finish");
            let (other, session, whole) = (registry.clone(), id.clone(), bytes.clone());
            let late = tokio::spawn(async move { finish(&other, "a/b", &session, &whole).await });
            gate.reached().await;
            registry.catalog().take_over_upload(&id).await.unwrap();
            gate.open();
            assert!(matches!(
                late.await.unwrap(),
                Err(RegistryError::UploadUnknown(_))
            ));
            assert_eq!(pull(registry, "a/b", &Digest::sha256(&bytes)).await, None);
            let digest = finish(registry, "a/b", &id, &bytes).await.unwrap();
            assert_eq!(pull(registry, "a/b", &digest).await, Some(bytes));
        }
    });
}

#[test]
fn cancelling_ends_a_writer_and_frees_its_bytes() {
    alone(async {
        let world = World::new(no_grace()).await;
        let registry = &world.registry;
        let id = begin(registry, "a/b").await;
        let (sender, writer) = writing(registry, &id, &content(1, LARGE)).await;
        registry
            .pushes("a/b")
            .await
            .cancel_upload(&id)
            .await
            .unwrap();
        let _ = sender.send(content(2, LARGE));
        drop(sender);
        assert!(writer.await.unwrap().is_err());
        assert!(matches!(
            received(registry, &id).await,
            Err(RegistryError::UploadUnknown(_))
        ));
        let again = registry.pushes("a/b").await.cancel_upload(&id).await;
        assert!(matches!(again, Err(RegistryError::UploadUnknown(_))));
        collect(registry).await;
        assert_eq!(world.objects(), 0);
    });
}

#[test]
fn the_connection_of_a_stopped_writer_ends_without_another_byte() {
    alone(async {
        let world = World::new(no_grace()).await;
        let id = begin(&world.registry, "a/b").await;
        let (_sender, writer) = writing(&world.registry, &id, &content(1, 10)).await;
        world
            .registry
            .pushes("a/b")
            .await
            .cancel_upload(&id)
            .await
            .unwrap();
        let ended = tokio::time::timeout(Duration::from_secs(10), writer).await;
        assert!(
            ended
                .expect("it waits for a body nobody wants any more")
                .unwrap()
                .is_err()
        );
    });
}

#[test]
fn a_session_belongs_to_its_repository() {
    let _unset = together();
    run(async {
        let world = World::new(no_grace()).await;
        let id = begin(&world.registry, "a/b").await;
        let bytes = content(1, 10);
        assert!(matches!(
            append(&world.registry, "c/d", &id, &bytes).await,
            Err(RegistryError::UploadUnknown(_))
        ));
        assert!(matches!(
            finish(&world.registry, "c/d", &id, b"").await,
            Err(RegistryError::UploadUnknown(_))
        ));
        assert!(
            world
                .registry
                .pushes("c/d")
                .await
                .cancel_upload(&id)
                .await
                .is_err()
        );
        append(&world.registry, "a/b", &id, &bytes).await.unwrap();
    });
}

#[test]
fn a_wrong_digest_leaves_the_session_where_it_was() {
    let _unset = together();
    run(async {
        let world = World::new(no_grace()).await;
        let registry = &world.registry;
        for (before, last) in [(10, 10), (10, LARGE), (LARGE, 10), (0, LARGE)] {
            let (bytes, more) = (content(before, before.max(3)), content(last, last));
            let id = begin(registry, "a/b").await;
            append(registry, "a/b", &id, &bytes).await.unwrap();
            let wrong = Digest::sha256(b"something else");
            let refused = registry
                .pushes("a/b")
                .await
                .finish_upload(&id, wrong, Chunk::default(), body(more.clone()))
                .await;
            assert!(matches!(refused, Err(RegistryError::DigestDiffers { .. })));
            assert_eq!(received(registry, &id).await.unwrap(), bytes.len() as u64);
            let whole = Bytes::from([bytes.as_ref(), more.as_ref()].concat());
            let right = Digest::sha256(&whole);
            registry
                .pushes("a/b")
                .await
                .finish_upload(&id, right, Chunk::default(), body(more))
                .await
                .unwrap();
            assert_eq!(pull(registry, "a/b", &right).await, Some(whole.clone()));
            // The closing request again: the same answer. With another digest there is no session any more.
            finish(registry, "a/b", &id, &whole).await.unwrap();
            assert!(finish(registry, "a/b", &id, b"x").await.is_err());
            assert_eq!(pull(registry, "a/b", &wrong).await, None);
        }
    });
}

#[test]
fn an_idle_session_expires() {
    let _unset = together();
    run(async {
        let world = World::new(no_grace()).await;
        let bytes = content(1, LARGE);
        let id = begin(&world.registry, "a/b").await;
        append(&world.registry, "a/b", &id, &bytes).await.unwrap();
        assert_eq!(
            collect(&world.registry).await.uploads,
            0,
            "the rules give it a day"
        );
        assert_eq!(received(&world.registry, &id).await.unwrap(), LARGE as u64);

        let world = world
            .restarted(Rules {
                upload_expiry: Duration::ZERO,
                ..no_grace()
            })
            .await;
        assert_eq!(
            received(&world.registry, &id).await.unwrap(),
            LARGE as u64,
            "sessions outlive a restart"
        );
        assert_eq!(collect(&world.registry).await.uploads, 1);
        assert!(matches!(
            received(&world.registry, &id).await,
            Err(RegistryError::UploadUnknown(_))
        ));
        assert_eq!(world.objects(), 0);
    });
}

#[test]
fn the_open_sessions_of_a_principal_are_limited() {
    let _unset = together();
    run(async {
        let world = World::new(Rules {
            uploads_per_principal: 2,
            ..no_grace()
        })
        .await;
        let registry = &world.registry;
        let full = async || {
            let refused = registry.pushes("c/d").await.begin_upload(None).await;
            assert!(
                matches!(refused, Err(RegistryError::TooManyUploads { limit: 2 })),
                "{refused:?}"
            );
        };
        let first = begin(registry, "a/b").await;
        let second = begin(registry, "a/b").await;
        full().await;
        registry
            .pushes("a/b")
            .await
            .cancel_upload(&first)
            .await
            .unwrap();
        let third = begin(registry, "a/b").await;
        full().await;
        finish(registry, "a/b", &second, b"").await.unwrap();
        begin(registry, "a/b").await;
        full().await;
        // A push in one request takes a session only if it is large, and gives it back.
        push(registry, "a/b", &content(1, 10)).await.unwrap();
        assert!(matches!(
            push(registry, "a/b", &content(1, LARGE)).await,
            Err(RegistryError::TooManyUploads { .. })
        ));
        registry
            .pushes("a/b")
            .await
            .cancel_upload(&third)
            .await
            .unwrap();
        for number in 0..3 {
            push(registry, "a/b", &content(number, LARGE))
                .await
                .unwrap();
        }
    });
}

/// An answer must not come before the commit it stands for.
#[test]
fn nothing_is_acknowledged_before_its_commit() {
    alone(async {
        let world = World::new(no_grace()).await;
        let gate = Gate::shut("catalog::before_commit");
        let registry = world.registry.clone();
        let mut pushing =
            tokio::spawn(async move { push(&registry, "a/b", &content(0, 10)).await });
        gate.reached().await;
        let digest = Digest::sha256(&content(0, 10));
        for _ in 0..100 {
            assert_eq!(
                pull(&world.registry, "a/b", &digest).await,
                None,
                "it is not committed"
            );
        }
        assert!(!pushing.is_finished());
        gate.open();
        (&mut pushing).await.unwrap().unwrap();
        assert!(pull(&world.registry, "a/b", &digest).await.is_some());
    });
}
