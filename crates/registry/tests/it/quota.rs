//! Quotas of namespaces: what counts is exact whatever goes on beside it, and never more than may be.

use bytes::Bytes;
use granary_catalog::{Authority, NamespaceChange, NamespaceUsage};
use granary_oci::{Digest, Reference};
use granary_registry::{
    AccountsCommand, Precondition, QuotaExceeded, QuotaKind, Registry, RegistryError, Rules,
};

use crate::{
    gate::{run, together},
    world::{
        LARGE, Leave, World, append, begin, body, collect, content, finish, image, is_postgres,
        name, no_grace, number, open, push, put, received,
    },
};

/// Lets the namespace `a` hold so much; 0 for as much as it likes.
pub(crate) async fn limit(registry: &Registry, bytes: u64, artifacts: u64) {
    set(registry, bytes, artifacts).await;
    registry.catalog().count_usage().await.unwrap();
}

/// The same, and nobody counts yet.
pub(crate) async fn set(registry: &Registry, bytes: u64, artifacts: u64) {
    let change = NamespaceChange {
        quota_bytes: Some(bytes),
        quota_artifacts: Some(artifacts),
        ..NamespaceChange::default()
    };
    let catalog = registry.catalog();
    catalog
        .change_namespace(&Authority::operator(), "a".to_owned(), change)
        .await
        .unwrap()
        .unwrap();
}

pub(crate) async fn usage(registry: &Registry) -> Option<NamespaceUsage> {
    let stored = registry.catalog().namespace("a").await.unwrap();
    stored.unwrap().usage
}

async fn used(registry: &Registry) -> (u64, u64) {
    let usage = usage(registry).await.unwrap();
    (usage.bytes, usage.artifacts)
}

const HELD: &str = "FROM blobs b WHERE EXISTS (SELECT 1 FROM repository_blobs rb JOIN repositories r ON r.id = rb.repository_id \
     JOIN namespaces n ON n.id = r.namespace_id WHERE rb.blob_id = b.id AND n.name = 'a')";

/// What is kept of the namespace is what is there, and all of it was counted. Says what that is.
pub(crate) async fn expect_exact(world: &World) -> (u64, u64) {
    let usage = usage(&world.registry).await.unwrap();
    assert!(usage.is_counted);
    let bytes = format!("SELECT CAST(COALESCE(SUM(b.size), 0) AS BIGINT) AS number {HELD}");
    let manifests = "SELECT COUNT(*) AS number FROM manifests m JOIN repositories r ON r.id = m.repository_id \
                     JOIN namespaces n ON n.id = r.namespace_id WHERE n.name = 'a'";
    let reserved = "SELECT CAST(COALESCE(SUM(reserved), 0) AS BIGINT) AS number FROM uploads WHERE finished IS NULL";
    let bytes = number(world, &bytes).await + number(world, reserved).await;
    let manifests = number(world, manifests).await;
    let found = (i64::try_from(usage.bytes), i64::try_from(usage.artifacts));
    assert_eq!(found, (Ok(bytes), Ok(manifests)));
    let blobs = number(world, &format!("SELECT COUNT(*) AS number {HELD}")).await;
    let noted = "SELECT COUNT(*) AS number FROM namespace_blobs";
    assert_eq!(number(world, noted).await, blobs);
    (usage.bytes, usage.artifacts)
}

fn exceeded<T: std::fmt::Debug>(result: Result<T, RegistryError>) -> QuotaExceeded {
    match result {
        Err(RegistryError::QuotaExceeded(exceeded)) => exceeded,
        other => panic!("{other:?}"),
    }
}

fn of_bytes(used: u64, limit: u64) -> QuotaExceeded {
    let what = QuotaKind::Bytes;
    QuotaExceeded { what, used, limit }
}

pub(crate) async fn delete_blob(registry: &Registry, repository: &str, bytes: &Bytes) {
    let deletes = registry.deletes(repository).await;
    deletes.delete_blob(&Digest::sha256(bytes)).await.unwrap();
}

pub(crate) async fn delete(registry: &Registry, repository: &str, digest: Digest) {
    let (reference, always) = (Reference::Digest(digest), Precondition::None);
    let deletes = registry.deletes(repository).await;
    deletes.delete_manifest(&reference, always).await.unwrap();
}

pub(crate) async fn remove(registry: &Registry, repository: &str) {
    let repository = name(repository);
    let command = AccountsCommand::RemoveRepository { repository };
    registry.administer(command).await.unwrap();
}

pub(crate) async fn mount(
    registry: &Registry,
    to: &str,
    bytes: &Bytes,
) -> Result<bool, RegistryError> {
    let pushes = registry.pushes(to).await;
    pushes.mount(None, &Digest::sha256(bytes)).await
}

/// A manifest without content, of which there are many.
pub(crate) fn empty(number: usize) -> Bytes {
    let manifest = serde_json::json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [],
        "annotations": {"n": number.to_string()},
    });
    manifest.to_string().into()
}

#[test]
fn a_namespace_is_filled_to_its_limit_and_no_further() {
    let _unset = together();
    run(async {
        let world = World::new(no_grace()).await;
        let registry = &world.registry;
        limit(registry, 300, 0).await;
        let (small, large) = (content(1, 50), content(2, 250));
        push(registry, "a/b", &small).await.unwrap();
        push(registry, "a/b", &large).await.unwrap();
        assert_eq!(expect_exact(&world).await, (300, 0));
        for size in [1, LARGE] {
            let refused = exceeded(push(registry, "a/new", &content(3, size)).await);
            assert_eq!(refused, of_bytes(300, 300));
            let text = refused.to_string();
            assert!(text.contains("300 of the 300 bytes"), "{text}");
        }
        // What needs nothing passes, and others have nothing to do with it.
        push(registry, "a/b", &large).await.unwrap();
        push(registry, "a/c", &large).await.unwrap();
        assert!(mount(registry, "a/d", &small).await.unwrap());
        push(registry, "a/b", &Bytes::new()).await.unwrap();
        push(registry, "other/b", &content(4, 1000)).await.unwrap();
        assert_eq!(expect_exact(&world).await, (300, 0));
        // Nothing of what was refused is there.
        let made = "SELECT COUNT(*) AS number FROM repositories WHERE name = 'a/new'";
        assert_eq!(number(&world, made).await, 0);
        assert_eq!(
            number(
                &world,
                "SELECT COUNT(*) AS number FROM uploads WHERE finished IS NULL"
            )
            .await,
            0
        );
        // What the last repository loses is free.
        delete_blob(registry, "a/b", &large).await;
        assert_eq!(expect_exact(&world).await, (300, 0));
        delete_blob(registry, "a/c", &large).await;
        assert_eq!(expect_exact(&world).await, (50, 0));
        let foreign = content(4, 1000);
        assert_eq!(
            exceeded(mount(registry, "a/d", &foreign).await),
            of_bytes(50, 300)
        );
        push(registry, "other/b", &content(5, 250)).await.unwrap();
        assert!(mount(registry, "a/d", &content(5, 250)).await.unwrap());
        assert_eq!(expect_exact(&world).await, (300, 0));
    });
}

#[test]
fn manifests_are_limited_as_well() {
    let _unset = together();
    run(async {
        let world = World::new(no_grace()).await;
        let registry = &world.registry;
        limit(registry, 0, 2).await;
        put(registry, "a/b", "v1", &empty(1)).await.unwrap();
        let second = put(registry, "a/c", "v", &empty(2)).await.unwrap().digest;
        let refused = exceeded(put(registry, "a/b", "v3", &empty(3)).await);
        let what = QuotaKind::Artifacts;
        let expected = QuotaExceeded {
            what,
            used: 2,
            limit: 2,
        };
        assert_eq!(refused, expected);
        // It would be a manifest of another repository, and so a further one.
        exceeded(put(registry, "a/d", "v", &empty(1)).await);
        put(registry, "a/b", "v2", &empty(1)).await.unwrap();
        let reads = registry.reads("a/b").await;
        assert_eq!(reads.tags("", 9).await.unwrap(), ["v1", "v2"]);
        delete(registry, "a/c", second).await;
        put(registry, "a/b", "v1", &empty(3)).await.unwrap();
        assert_eq!(expect_exact(&world).await, (0, 2));
        remove(registry, "a/b").await;
        collect(registry).await;
        assert_eq!(expect_exact(&world).await, (0, 0));
    });
}

#[test]
fn who_is_over_the_limit_may_delete() {
    let _unset = together();
    run(async {
        let world = World::new(no_grace()).await;
        let registry = &world.registry;
        let layers = [content(1, 100), content(2, LARGE), content(3, 300)];
        for layer in &layers {
            push(registry, "a/b", layer).await.unwrap();
        }
        let manifest = image(&[(Digest::sha256(&layers[0]), 100)]);
        let manifest = put(registry, "a/b", "v", &manifest).await.unwrap().digest;
        limit(registry, 150, 1).await;
        assert_eq!(expect_exact(&world).await, (600, 1));
        let refused = push(registry, "a/b", &content(4, 1)).await;
        assert_eq!(exceeded(refused), of_bytes(600, 150));
        push(registry, "a/c", &layers[1]).await.unwrap();
        // The passes of a collection take what nothing refers to, in both repositories.
        collect(registry).await;
        collect(registry).await;
        assert_eq!(expect_exact(&world).await, (100, 1));
        push(registry, "a/b", &content(4, 50)).await.unwrap();
        delete(registry, "a/b", manifest).await;
        delete_blob(registry, "a/b", &layers[0]).await;
        assert_eq!(expect_exact(&world).await, (50, 0));
        remove(registry, "a/b").await;
        for _ in 0..3 {
            collect(registry).await;
        }
        assert_eq!(expect_exact(&world).await, (0, 0));
        assert_eq!(world.objects(), 0);
    });
}

#[test]
fn sessions_reserve_what_they_have() {
    let _unset = together();
    run(async {
        let world = World::new(no_grace()).await;
        let registry = &world.registry;
        limit(registry, 1000, 0).await;
        let (one, two) = (begin(registry, "a/b").await, begin(registry, "a/b").await);
        append(registry, "a/b", &one, &content(1, 30))
            .await
            .unwrap();
        append(registry, "a/b", &one, &content(2, 570))
            .await
            .unwrap();
        assert_eq!(expect_exact(&world).await, (600, 0));
        let refused = append(registry, "a/b", &two, &content(3, 401)).await;
        assert_eq!(exceeded(refused), of_bytes(600, 1000));
        assert_eq!(received(registry, &two).await.unwrap(), 0);
        exceeded(push(registry, "a/b", &content(4, 401)).await);
        append(registry, "a/b", &two, &content(3, 400))
            .await
            .unwrap();
        assert_eq!(expect_exact(&world).await, (1000, 0));
        // A closing PUT whose digest is wrong changes nothing, with and without more bytes.
        let wrong = Digest::sha256(b"something else");
        let (pushes, chunk) = (
            registry.pushes("a/b").await,
            granary_registry::Chunk::default(),
        );
        let none = body(Bytes::new());
        let refused = pushes.finish_upload(&two, wrong, chunk, none).await;
        assert!(matches!(refused, Err(RegistryError::DigestDiffers { .. })));
        assert_eq!(expect_exact(&world).await, (1000, 0));
        // What is closed needs no more than was reserved; one byte more is refused, and the session is gone.
        finish(registry, "a/b", &two, &content(3, 400))
            .await
            .unwrap();
        assert_eq!(expect_exact(&world).await, (1000, 0));
        let whole = [content(1, 30), content(2, 570), content(5, 1)].concat();
        let refused = pushes
            .finish_upload(&one, Digest::sha256(&whole), chunk, body(content(5, 1)))
            .await;
        assert_eq!(exceeded(refused), of_bytes(1000, 1000));
        assert!(received(registry, &one).await.is_err());
        assert_eq!(expect_exact(&world).await, (400, 0));
        // A blob that is there already costs nothing when its session is closed.
        let again = begin(registry, "a/c").await;
        append(registry, "a/c", &again, &content(3, 400))
            .await
            .unwrap();
        assert_eq!(expect_exact(&world).await, (800, 0));
        finish(registry, "a/c", &again, &content(3, 400))
            .await
            .unwrap();
        assert_eq!(expect_exact(&world).await, (400, 0));
        for _ in 0..3 {
            collect(registry).await;
        }
        assert_eq!(expect_exact(&world).await, (0, 0));
        // Where others may still write to an object it goes later.
        assert!(world.objects() == 0 || is_postgres());
    });
}

#[test]
fn sessions_that_end_give_back_what_they_reserved() {
    let _unset = together();
    run(async {
        let world = World::new(no_grace()).await;
        let registry = &world.registry;
        limit(registry, 1000, 0).await;
        let open = async |repository: &str| {
            let id = begin(&world.registry, repository).await;
            let bytes = content(1, 500);
            append(&world.registry, repository, &id, &bytes)
                .await
                .unwrap();
            assert_eq!(expect_exact(&world).await, (500, 0));
            id
        };
        let id = open("a/b").await;
        let pushes = registry.pushes("a/b").await;
        pushes.cancel_upload(&id).await.unwrap();
        assert_eq!(expect_exact(&world).await, (0, 0));
        put(registry, "a/b", "v", &empty(1)).await.unwrap();
        delete(registry, "a/b", Digest::sha256(&empty(1))).await;
        open("a/b").await;
        remove(registry, "a/b").await;
        assert_eq!(expect_exact(&world).await, (0, 0));
        open("a/b").await;
        let expiring = Rules {
            upload_expiry: std::time::Duration::ZERO,
            ..no_grace()
        };
        let world = world.restarted(expiring).await;
        assert_eq!(collect(&world.registry).await.uploads, 1);
        assert_eq!(expect_exact(&world).await, (0, 0));
    });
}

#[test]
fn many_who_push_at_once_stay_within_the_limit() {
    let _unset = together();
    run(async {
        let world = World::new(no_grace()).await;
        limit(&world.registry, 1000, 7).await;
        let replicas = match is_postgres() {
            true => vec![
                world.registry.clone(),
                open(world.folder.path(), no_grace()).await,
            ],
            false => vec![world.registry.clone()],
        };
        let pushers = (0..16).map(|pusher| {
            let registry = replicas[pusher % replicas.len()].clone();
            tokio::spawn(async move {
                let (mut stored, mut put_there) = (0, 0);
                for round in 0..5 {
                    let repository = format!("a/r{}", pusher % 3);
                    // Each of two pushers brings the same, and half of it goes to the store.
                    let bytes = content(100 * (pusher / 2) + round, 100);
                    match push(&registry, &repository, &bytes).await {
                        Ok(_) => stored += 1,
                        refused => assert_eq!(exceeded(refused).limit, 1000),
                    }
                    let (used, _) = used(&registry).await;
                    assert!(used <= 1000, "{used}");
                    match put(&registry, &repository, "v", &empty(1000 * pusher + round)).await {
                        Ok(_) => put_there += 1,
                        refused => assert_eq!(exceeded(refused).limit, 7),
                    }
                }
                (stored, put_there)
            })
        });
        let (mut stored, mut put_there) = (0, 0);
        for pusher in pushers.collect::<Vec<_>>() {
            let done = pusher.await.unwrap();
            stored += done.0;
            put_there += done.1;
        }
        assert_eq!(expect_exact(&world).await, (1000, 7));
        assert!((10..=20).contains(&stored), "{stored}");
        assert_eq!(put_there, 7);
    });
}

#[test]
fn a_quota_that_is_taken_away_leaves_nothing() {
    let _unset = together();
    run(async {
        let world = World::new(no_grace()).await;
        let registry = &world.registry;
        push(registry, "a/b", &content(1, 100)).await.unwrap();
        limit(registry, 1000, 0).await;
        let id = begin(registry, "a/b").await;
        append(registry, "a/b", &id, &content(2, 500))
            .await
            .unwrap();
        assert_eq!(expect_exact(&world).await, (600, 0));
        limit(registry, 0, 0).await;
        assert_eq!(usage(registry).await, None);
        append(registry, "a/b", &id, &content(3, 500))
            .await
            .unwrap();
        // The bytes of this session count when it goes on, or is closed.
        limit(registry, 1200, 0).await;
        assert_eq!(expect_exact(&world).await, (100, 0));
        append(registry, "a/b", &id, &content(4, 100))
            .await
            .unwrap();
        assert_eq!(expect_exact(&world).await, (1200, 0));
        let whole = [content(2, 500), content(3, 500), content(4, 100)].concat();
        finish(registry, "a/b", &id, &whole).await.unwrap();
        assert_eq!(expect_exact(&world).await, (1200, 0));
        // Only one of the two.
        limit(registry, 0, 5).await;
        push(registry, "a/b", &content(5, 5000)).await.unwrap();
        assert_eq!(expect_exact(&world).await, (6200, 0));
    });
}
