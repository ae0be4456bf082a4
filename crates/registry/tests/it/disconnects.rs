//! From the first irreversible step on a client's disconnect cancels nothing (decision 5): the edge drops the request's
//! future, here wherever a failpoint lets it be held, and the work is done all the same.

use granary_oci::{Digest, Reference};
use granary_registry::{Precondition, Registry, RegistryError};

use crate::{
    gate::{Gate, alone},
    world::{
        LARGE, Leave, World, append, begin, content, finish, image, no_grace, pull, push, put,
        resolve,
    },
};

/// Begins `work`, drops it at `point`, and waits until everything that goes on without it has ended.
async fn cut<T: Send + 'static>(
    registry: &Registry,
    point: &str,
    work: impl Future<Output = Result<T, RegistryError>> + Send + 'static,
) {
    let gate = Gate::shut(point);
    let request = tokio::spawn(work);
    gate.reached().await;
    request.abort();
    assert!(request.await.is_err_and(|ended| ended.is_cancelled()));
    gate.open();
    registry.drain().await;
}

#[test]
fn an_upload_that_is_being_closed_is_closed() {
    alone(async {
        let world = World::new(no_grace()).await;
        let mut points = vec!["upload::before_finish", "upload::after_finish"];
        if !world.registry.catalog().is_shared() {
            // Where processes share the catalog, the first commit of a closing PUT is the one that claims the session.
            points.extend(["catalog::before_commit", "catalog::after_commit"]);
        }
        for (number, point) in points.into_iter().enumerate() {
            for length in [20, LARGE] {
                let bytes = content(number, length);
                let id = begin(&world.registry, "a/b").await;
                append(&world.registry, "a/b", &id, &bytes).await.unwrap();
                let (registry, whole) = (world.registry.clone(), bytes.clone());
                let closing = async move { finish(&registry, "a/b", &id, &whole).await };
                cut(&world.registry, point, closing).await;
                let found = pull(&world.registry, "a/b", &Digest::sha256(&bytes)).await;
                assert_eq!(found, Some(bytes), "{point}");
            }
        }
    });
}

#[test]
fn a_chunk_that_came_is_saved() {
    alone(async {
        let world = World::new(no_grace()).await;
        for point in [
            "upload::received",
            "upload::before_save",
            "upload::after_save",
        ] {
            for length in [20, LARGE] {
                let id = begin(&world.registry, "a/b").await;
                let (registry, session) = (world.registry.clone(), id.clone());
                let chunk =
                    async move { append(&registry, "a/b", &session, &content(1, length)).await };
                cut(&world.registry, point, chunk).await;
                let status = world
                    .registry
                    .pushes("a/b")
                    .await
                    .upload_status(&id)
                    .await
                    .unwrap();
                assert_eq!(status.received, length as u64, "{point}");
            }
        }
    });
}

#[test]
fn a_manifest_that_is_being_put_is_put() {
    alone(async {
        for point in [
            "manifest::before_put",
            "catalog::before_commit",
            "manifest::after_put",
        ] {
            let world = World::new(no_grace()).await;
            let registry = world.registry.clone();
            let putting = async move { put(&registry, "a/b", "v1", &image(&[])).await };
            cut(&world.registry, point, putting).await;
            let found = resolve(&world.registry, "a/b", "v1").await.unwrap();
            assert_eq!(found.payload, image(&[]), "{point}");
        }
    });
}

#[test]
fn a_blob_that_is_being_mounted_is_mounted() {
    alone(async {
        let world = World::new(no_grace()).await;
        let bytes = content(1, LARGE);
        let digest = push(&world.registry, "a/b", &bytes).await.unwrap();
        let registry = world.registry.clone();
        let mounting = async move { registry.pushes("c/d").await.mount(None, &digest).await };
        cut(&world.registry, "mount::before", mounting).await;
        assert_eq!(pull(&world.registry, "c/d", &digest).await, Some(bytes));
    });
}

#[test]
fn what_is_being_deleted_goes() {
    alone(async {
        let world = World::new(no_grace()).await;
        let digest = push(&world.registry, "a/b", &content(1, 10)).await.unwrap();
        let registry = world.registry.clone();
        let deleting = async move { registry.deletes("a/b").await.delete_blob(&digest).await };
        cut(&world.registry, "catalog::before_commit", deleting).await;
        assert_eq!(pull(&world.registry, "a/b", &digest).await, None);

        let stored = put(&world.registry, "a/b", "v1", &image(&[]))
            .await
            .unwrap();
        let registry = world.registry.clone();
        let deleting = async move {
            let reference = Reference::Digest(stored.digest);
            registry
                .deletes("a/b")
                .await
                .delete_manifest(&reference, Precondition::None)
                .await
        };
        cut(&world.registry, "catalog::before_commit", deleting).await;
        assert!(resolve(&world.registry, "a/b", "v1").await.is_err());
    });
}
