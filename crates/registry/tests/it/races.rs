//! Garbage collection against everything that may run beside it (decisions 13 and 39): a gate holds the collection
//! back after it has chosen, or a request after it has looked; the other side runs; then the gate opens.
//!
//! Whatever was acknowledged in between must be there afterwards, and what was not there must not be acknowledged.

use std::time::Duration;

use bytes::Bytes;
use granary_oci::{Digest, Reference};
use granary_registry::{Maintenance, Precondition, Progress, RegistryError, Rules, Untagged};
use tokio::task::JoinHandle;

use crate::{
    gate::{Gate, alone},
    world::{
        HOUR, LARGE, Leave, World, append, begin, collect, content, finish, image, name, no_grace,
        pull, push, put, resolve, slow_body,
    },
};

fn an_hour() -> Rules {
    Rules {
        grace: HOUR,
        ..no_grace()
    }
}

/// A world in which the next pass removes these blobs of `a/b`, one inline and one an object.
async fn doomed() -> (World, [Bytes; 2]) {
    let world = World::new(no_grace()).await;
    let blobs = [content(1, 10), content(2, LARGE)];
    for blob in &blobs {
        push(&world.registry, "a/b", blob).await.unwrap();
    }
    assert_eq!(collect(&world.registry).await.marked, 2);
    // Leases granted from now on last.
    (world.restarted(an_hour()).await, blobs)
}

fn collecting(world: &World) -> JoinHandle<granary_registry::CollectionReport> {
    let registry = world.registry.clone();
    tokio::spawn(async move { collect(&registry).await })
}

/// A collection that has chosen and waits.
async fn chosen(world: &World) -> (Gate, JoinHandle<granary_registry::CollectionReport>) {
    let gate = Gate::shut("gc::chosen");
    let running = collecting(world);
    gate.reached().await;
    (gate, running)
}

async fn expect_kept(world: &World, repository: &str, blobs: &[Bytes]) {
    // Whoever is promised something also expects it behind the passes that follow.
    for _ in 0..4 {
        for blob in blobs {
            let found = pull(&world.registry, repository, &Digest::sha256(blob)).await;
            assert_eq!(
                found.as_ref(),
                Some(blob),
                "acknowledged content was collected"
            );
        }
        collect(&world.registry).await;
    }
}

#[test]
fn without_a_race_the_second_pass_removes() {
    alone(async {
        let (world, blobs) = doomed().await;
        let (gate, running) = chosen(&world).await;
        gate.open();
        assert_eq!(running.await.unwrap().withdrawn, 2);
        for blob in &blobs {
            assert_eq!(
                pull(&world.registry, "a/b", &Digest::sha256(blob)).await,
                None
            );
        }
        assert_eq!(world.objects(), 1, "the row goes before the object");
        let report = collect(&world.registry).await;
        assert_eq!((report.blobs, report.objects), (2, 1));
        assert_eq!(world.objects(), 0);
    });
}

#[test]
fn what_head_reported_stays() {
    alone(async {
        let (world, blobs) = doomed().await;
        let (gate, running) = chosen(&world).await;
        for blob in &blobs {
            let digest = Digest::sha256(blob);
            world
                .registry
                .reads("a/b")
                .await
                .check_blob(&digest)
                .await
                .unwrap();
        }
        gate.open();
        assert_eq!(running.await.unwrap().withdrawn, 0);
        expect_kept(&world, "a/b", &blobs).await;
    });
}

#[test]
fn head_reports_nothing_that_went_while_it_looked() {
    alone(async {
        let (world, blobs) = doomed().await;
        let gate = Gate::shut("head::before_lease");
        let (registry, digest) = (world.registry.clone(), Digest::sha256(&blobs[1]));
        let head =
            tokio::spawn(async move { registry.reads("a/b").await.check_blob(&digest).await });
        gate.reached().await;
        collect(&world.registry).await;
        gate.open();
        assert!(
            matches!(head.await.unwrap(), Err(RegistryError::BlobUnknown(_))),
            "the client has to push"
        );
    });
}

#[test]
fn what_was_mounted_stays() {
    alone(async {
        let (world, blobs) = doomed().await;
        let (gate, running) = chosen(&world).await;
        for (blob, from) in blobs.iter().zip([Some(name("a/b")), None]) {
            let digest = Digest::sha256(blob);
            assert!(
                world
                    .registry
                    .pushes("c/d")
                    .await
                    .mount(from.as_ref(), &digest)
                    .await
                    .unwrap()
            );
        }
        gate.open();
        assert_eq!(
            running.await.unwrap().withdrawn,
            2,
            "of the repository they came from"
        );
        expect_kept(&world, "c/d", &blobs).await;
    });
}

#[test]
fn nothing_is_mounted_that_went_before() {
    alone(async {
        let (world, blobs) = doomed().await;
        let gate = Gate::shut("mount::before");
        let (registry, digest) = (world.registry.clone(), Digest::sha256(&blobs[1]));
        let mount = tokio::spawn(async move {
            registry
                .pushes("c/d")
                .await
                .mount(Some(&name("a/b")), &digest)
                .await
        });
        gate.reached().await;
        collect(&world.registry).await;
        gate.open();
        assert!(!mount.await.unwrap().unwrap(), "the client has to push");
        assert_eq!(pull(&world.registry, "c/d", &digest).await, None);
    });
}

#[test]
fn what_a_manifest_refers_to_stays() {
    alone(async {
        let (world, blobs) = doomed().await;
        let (gate, running) = chosen(&world).await;
        let layers = blobs
            .each_ref()
            .map(|blob| (Digest::sha256(blob), blob.len()));
        let manifest = image(&layers);
        put(&world.registry, "a/b", "v1", &manifest).await.unwrap();
        gate.open();
        assert_eq!(running.await.unwrap().withdrawn, 0);
        expect_kept(&world, "a/b", &blobs).await;
        assert_eq!(
            resolve(&world.registry, "a/b", "v1").await.unwrap().payload,
            manifest
        );
    });
}

#[test]
fn a_manifest_is_refused_if_its_content_went_before() {
    alone(async {
        let (world, blobs) = doomed().await;
        let gate = Gate::shut("manifest::before_put");
        let manifest = image(
            &blobs
                .each_ref()
                .map(|blob| (Digest::sha256(blob), blob.len())),
        );
        let (registry, body) = (world.registry.clone(), manifest.clone());
        let putting = tokio::spawn(async move { put(&registry, "a/b", "v1", &body).await });
        gate.reached().await;
        collect(&world.registry).await;
        gate.open();
        match putting.await.unwrap() {
            Err(RegistryError::ContentMissing(missing)) => assert_eq!(missing.len(), 2),
            other => panic!("{other:?}"),
        }
        assert!(resolve(&world.registry, "a/b", "v1").await.is_err());
        let by_digest = Digest::sha256(&manifest).to_string();
        assert!(resolve(&world.registry, "a/b", &by_digest).await.is_err());
    });
}

#[test]
fn what_was_pushed_again_stays() {
    alone(async {
        let (world, blobs) = doomed().await;
        let (gate, running) = chosen(&world).await;
        push(&world.registry, "a/b", &blobs[0]).await.unwrap();
        // The object comes through a session this time.
        let id = begin(&world.registry, "a/b").await;
        append(&world.registry, "a/b", &id, &blobs[1])
            .await
            .unwrap();
        finish(&world.registry, "a/b", &id, &blobs[1])
            .await
            .unwrap();
        gate.open();
        assert_eq!(running.await.unwrap().withdrawn, 0);
        expect_kept(&world, "a/b", &blobs).await;
        assert_eq!(world.objects(), 1, "the second copy went");
    });
}

/// Rows are gone, objects not yet: the old object's deletion must not touch the new push.
#[test]
fn what_was_pushed_between_row_and_object_stays() {
    alone(async {
        for point in ["gc::rows_removed", "gc::objects_deleted"] {
            let (world, blobs) = doomed().await;
            collect(&world.registry).await;
            let gate = Gate::shut(point);
            let running = collecting(&world);
            gate.reached().await;
            assert_eq!(
                pull(&world.registry, "a/b", &Digest::sha256(&blobs[1])).await,
                None
            );
            for blob in &blobs {
                push(&world.registry, "a/b", blob).await.unwrap();
            }
            gate.open();
            let report = running.await.unwrap();
            assert_eq!((report.blobs, report.objects), (2, 1), "{point}");
            expect_kept(&world, "a/b", &blobs).await;
            assert_eq!(world.objects(), 1, "{point}");
        }
    });
}

/// Whoever needs a row takes the mark of an earlier pass away, also by a reference that has ended since.
#[test]
fn a_mark_does_not_outlive_a_reference() {
    alone(async {
        let (world, blobs) = doomed().await;
        let manifest = image(
            &blobs
                .each_ref()
                .map(|blob| (Digest::sha256(blob), blob.len())),
        );
        let digest = put(&world.registry, "a/b", "v1", &manifest)
            .await
            .unwrap()
            .digest;
        delete(&world, &digest).await;
        let report = collect(&world.registry).await;
        assert_eq!(
            report.withdrawn, 0,
            "two completed passes without a reference are needed"
        );
    });
}

/// HEAD leases nothing that is referred to, so its promise has to hold although the reference goes (decision 12).
#[test]
fn what_head_reported_stays_though_its_manifest_goes() {
    alone(async {
        let world = World::new(no_grace()).await;
        let blob = content(1, LARGE);
        push(&world.registry, "a/b", &blob).await.unwrap();
        let manifest = image(&[(Digest::sha256(&blob), blob.len())]);
        let digest = put(&world.registry, "a/b", "v1", &manifest)
            .await
            .unwrap()
            .digest;
        let world = world.restarted(an_hour()).await;
        let layer = Digest::sha256(&blob);
        world
            .registry
            .reads("a/b")
            .await
            .check_blob(&layer)
            .await
            .unwrap();
        delete(&world, &digest).await;
        expect_kept(&world, "a/b", &[blob]).await;
    });
}

async fn delete(world: &World, digest: &Digest) {
    let (reference, always) = (Reference::Digest(*digest), Precondition::None);
    world
        .registry
        .deletes("a/b")
        .await
        .delete_manifest(&reference, always)
        .await
        .unwrap();
}

#[test]
fn an_upload_that_ends_during_a_collection_stays() {
    alone(async {
        let rules = Rules {
            upload_expiry: Duration::ZERO,
            ..an_hour()
        };
        let world = World::new(rules).await;
        let bytes = content(1, LARGE);
        let id = begin(&world.registry, "a/b").await;
        append(&world.registry, "a/b", &id, &bytes).await.unwrap();
        let gate = Gate::shut("upload::before_finish");
        let (registry, whole) = (world.registry.clone(), bytes.clone());
        let finishing = tokio::spawn(async move { finish(&registry, "a/b", &id, &whole).await });
        gate.reached().await;
        // The session is idle by its row, but has a writer.
        for _ in 0..3 {
            assert_eq!(collect(&world.registry).await.uploads, 0);
        }
        gate.open();
        finishing.await.unwrap().unwrap();
        expect_kept(&world, "a/b", &[bytes]).await;
    });
}

#[test]
fn an_upload_that_expires_before_its_end_is_refused() {
    alone(async {
        let rules = Rules {
            upload_expiry: Duration::ZERO,
            ..an_hour()
        };
        let world = World::new(rules).await;
        let bytes = content(1, LARGE);
        let id = begin(&world.registry, "a/b").await;
        append(&world.registry, "a/b", &id, &bytes).await.unwrap();
        assert_eq!(world.objects(), 1);
        assert_eq!(collect(&world.registry).await.uploads, 1);
        assert!(matches!(
            finish(&world.registry, "a/b", &id, &bytes).await,
            Err(RegistryError::UploadUnknown(_))
        ));
        assert_eq!(world.objects(), 0);
        assert_eq!(
            pull(&world.registry, "a/b", &Digest::sha256(&bytes)).await,
            None
        );
    });
}

/// Untagged manifests, in a world in which the next pass removes the one it returns.
async fn untagged() -> (World, Bytes) {
    let rules = Rules {
        untagged: Untagged::After(Duration::ZERO),
        ..no_grace()
    };
    let world = World::new(rules).await;
    let manifest = image(&[]);
    put(&world.registry, "a/b", "v1", &manifest).await.unwrap();
    let (tag, none) = ("v1".parse().unwrap(), Precondition::None);
    world
        .registry
        .deletes("a/b")
        .await
        .delete_manifest(&tag, none)
        .await
        .unwrap();
    assert_eq!(collect(&world.registry).await.marked, 1);
    (world, manifest)
}

#[test]
fn an_untagged_manifest_goes_unless_it_is_needed_again() {
    alone(async {
        let (world, manifest) = untagged().await;
        assert_eq!(collect(&world.registry).await.manifests, 1);

        let (world, _) = untagged().await;
        put(&world.registry, "a/b", "v2", &manifest).await.unwrap();
        assert_eq!(collect(&world.registry).await.manifests, 0);
        assert_eq!(
            resolve(&world.registry, "a/b", "v2").await.unwrap().payload,
            manifest
        );

        let (world, _) = untagged().await;
        let index = serde_json::json!({"schemaVersion": 2, "manifests": [{"mediaType": "application/x",
            "digest": Digest::sha256(&manifest).to_string(), "size": manifest.len()}]});
        put(&world.registry, "a/b", "all", &index.to_string().into())
            .await
            .unwrap();
        let (all, by_digest) = (Progress::silent(), Digest::sha256(&manifest).to_string());
        world
            .registry
            .maintain(Maintenance::Gc { dry_run: false }, &all)
            .await
            .unwrap();
        assert_eq!(
            resolve(&world.registry, "a/b", &by_digest)
                .await
                .unwrap()
                .payload,
            manifest
        );
    });
}

#[test]
fn a_collection_does_not_touch_what_is_being_received() {
    alone(async {
        let world = World::new(Rules {
            upload_expiry: Duration::ZERO,
            ..no_grace()
        })
        .await;
        let bytes = content(1, LARGE);
        let (sender, slow) = slow_body();
        let gate = Gate::shut("upload::received");
        let (registry, digest) = (world.registry.clone(), Digest::sha256(&bytes));
        let pushing = tokio::spawn(async move {
            registry
                .pushes("a/b")
                .await
                .push_blob(digest, None, slow)
                .await
        });
        sender.send(bytes.slice(..150)).unwrap();
        gate.reached().await;
        gate.open();
        for _ in 0..3 {
            collect(&world.registry).await;
        }
        sender.send(bytes.slice(150..)).unwrap();
        drop(sender);
        pushing.await.unwrap().unwrap();
        assert_eq!(pull(&world.registry, "a/b", &digest).await, Some(bytes));
    });
}
