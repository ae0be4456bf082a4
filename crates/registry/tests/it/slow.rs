//! Bodies that come slowly, while others wait for memory and while nobody does.

use std::sync::atomic::Ordering;

use bytes::Bytes;
use granary_blobs::MemoryStore;
use granary_registry::{BodyError, Chunk, Registry, RegistryError, UploadStatus};
use tokio::{sync::mpsc::UnboundedSender, task::JoinHandle};

use crate::{
    gate::{run, together},
    staged::staged,
    world::{LARGE, Leave, append, begin, content, finish, no_grace, pull, received, slow_body},
};

type Appending = JoinHandle<Result<UploadStatus, RegistryError>>;

/// A PATCH whose body goes on after `first`.
fn writing(registry: &Registry, id: &str, first: Bytes) -> (UnboundedSender<Bytes>, Appending) {
    let (sender, slow) = slow_body();
    sender.send(first).unwrap();
    let (registry, id) = (registry.clone(), id.to_owned());
    let appending = tokio::spawn(async move {
        registry
            .pushes("a/b")
            .await
            .append(&id, Chunk::default(), slow)
            .await
    });
    (sender, appending)
}

/// Takes the ten seconds that a slow body is given.
#[test]
fn a_slow_body_is_saved_and_cut_while_others_wait_for_memory() {
    let _unset = together();
    run(async {
        let bytes = content(1, 2 * LARGE);
        let (first, rest) = (bytes.slice(..LARGE), bytes.slice(LARGE..));
        let (calm, _) = staged(MemoryStore::default(), no_grace()).await;
        let calm_id = begin(&calm.registry, "a/b").await;
        let (sender, going_on) = writing(&calm.registry, &calm_id, first.clone());
        let (pressed, plan) = staged(MemoryStore::default(), no_grace()).await;
        plan.pressed.store(true, Ordering::Relaxed);
        let registry = &pressed.registry;
        let id = begin(registry, "a/b").await;
        let (_sender, cut) = writing(registry, &id, first);
        let cut = cut.await.unwrap();
        assert!(
            matches!(cut, Err(RegistryError::Body(BodyError::Stalled))),
            "{cut:?}"
        );
        assert_eq!(received(registry, &id).await.unwrap(), LARGE as u64);
        append(registry, "a/b", &id, &rest).await.unwrap();
        let digest = finish(registry, "a/b", &id, &bytes).await.unwrap();
        assert_eq!(pull(registry, "a/b", &digest).await.as_ref(), Some(&bytes));

        // The other one, which began before, has as little and is in nobody's way.
        sender.send(rest).unwrap();
        drop(sender);
        let status = going_on.await.unwrap().unwrap();
        assert_eq!(status.received, 2 * LARGE as u64);
    });
}
