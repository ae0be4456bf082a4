//! Objects of another registry in our own bucket.

use granary_blobs::{BlobStore, FileStore};
use granary_oci::{ByteRange, Digest};
use granary_registry::{
    CopyOptions, ImportReport, MovingError, OwnershipReport, Progress, Redirect, Registry, Rules,
    Side, copy_installation, restore,
};
use tempfile::TempDir;

use super::{
    source::{Place, Tree, try_import_as},
    tree::whole,
};
use crate::{
    bucket::{Bucket, everywhere, minio},
    gate::together,
    world::{Leave, catalog, collect, content, folder, no_grace, pull, read, resolve},
};

const SILENT: fn() -> Progress = Progress::silent;

/// An installation in a bucket.
struct Installation {
    _folder: TempDir,
    registry: Registry,
}

impl Installation {
    async fn new(bucket: &Bucket) -> Self {
        let redirect = Redirect {
            min: 0,
            except: Vec::new(),
            lifetime: std::time::Duration::from_secs(60),
        };
        let rules = Rules {
            redirect: Some(redirect),
            ..no_grace()
        };
        let folder = folder();
        let (catalog, store) = (catalog(folder.path()).await, bucket.store().await);
        let registry = Registry::open(catalog, Box::new(store), rules)
            .await
            .unwrap();
        Self {
            _folder: folder,
            registry,
        }
    }

    async fn import(&self, source: impl Into<Place>) -> ImportReport {
        let report = try_import_as(&self.registry, source, None, false, true).await;
        report.unwrap()
    }

    async fn foreign(&self, digest: &Digest) -> Option<String> {
        let explained = self.registry.catalog().explain(digest).await.unwrap();
        explained.foreign
    }

    async fn take_ownership(&self) -> OwnershipReport {
        self.registry.take_ownership(None, &SILENT()).await.unwrap()
    }
}

/// The path of a blob in a storage tree.
fn data(digest: &Digest) -> String {
    let hex = digest.to_string().replace("sha256:", "");
    format!("docker/registry/v2/blobs/sha256/{}/{hex}/data", &hex[..2])
}

fn shared() -> Digest {
    Digest::sha256(&content(9, 100_000))
}

async fn assert_whole(registry: &Registry, tags: &[(&str, &str, Digest)]) {
    for (repository, tag, digest) in tags {
        let stored = resolve(registry, repository, tag).await.unwrap();
        assert_eq!(stored.digest, *digest);
    }
    for repository in ["alpine", "a/b/c/d/e"] {
        let bytes = pull(registry, repository, &shared()).await;
        assert_eq!(bytes, Some(content(9, 100_000)));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_are_served_where_they_lie() {
    let _turn = together();
    let (tree, tags) = whole();
    for bucket in everywhere().await {
        bucket.upload(tree.folder.path()).await;
        let before = bucket.paths().await;
        let installation = Installation::new(&bucket).await;
        let registry = &installation.registry;
        let report = installation.import(bucket.source()).await;
        assert_eq!(report.left_out.number, 0, "{}: {report:?}", bucket.maker);
        assert_eq!(
            (report.blobs.in_place, report.blobs.in_place_bytes),
            (3, 100_600)
        );
        assert_whole(registry, &tags).await;
        // Nothing was copied, and what lies there is no stranger.
        assert_eq!(bucket.store().await.list(None, 10).await.unwrap(), []);
        let place = installation.foreign(&shared()).await;
        assert_eq!(place, Some(bucket.key(&data(&shared()))));
        let blob = registry
            .reads("alpine")
            .await
            .blob(&shared())
            .await
            .unwrap();
        let range = ByteRange { first: 5, last: 9 };
        let part = read(registry, &shared(), &blob, range).await;
        assert_eq!(part, content(9, 100_000)[5..10]);
        let link = registry
            .reads("alpine")
            .await
            .blob_link(&blob)
            .await
            .unwrap();
        let link = link.unwrap();
        assert!(link.contains(&bucket.key(&data(&shared()))), "{link}");
        let scrubbed = registry.scrub(u64::MAX, &SILENT()).await.unwrap();
        assert_eq!((scrubbed.damaged.len(), scrubbed.blobs), (0, 10));
        let again = installation.import(bucket.source()).await;
        assert_eq!((again.blobs.in_place, again.blobs.copied), (0, 0));
        assert_eq!(bucket.paths().await, before);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_collection_drops_the_row_and_never_the_object() {
    let _turn = together();
    for bucket in everywhere().await {
        let tree = Tree::new();
        let unneeded = tree.layer("app", &content(1, 5000));
        bucket.upload(tree.folder.path()).await;
        let installation = Installation::new(&bucket).await;
        assert_eq!(installation.import(bucket.source()).await.blobs.in_place, 1);
        let mut blobs = 0;
        for _ in 0..4 {
            let pass = collect(&installation.registry).await;
            blobs += pass.blobs;
            assert_eq!(pass.objects, 0);
        }
        assert_eq!((blobs, installation.foreign(&unneeded).await), (1, None));
        assert!(bucket.paths().await.contains(&data(&unneeded)));
        // It can come again.
        assert_eq!(installation.import(bucket.source()).await.blobs.in_place, 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_object_is_quarantined_until_it_is_good_again() {
    let _turn = together();
    let (tree, tags) = whole();
    let bucket = minio().await;
    bucket.upload(tree.folder.path()).await;
    let path = data(&shared());
    // Never taken in while its bytes are wrong.
    bucket.put(&path, &content(8, 100_000)).await;
    let installation = Installation::new(&bucket).await;
    let registry = &installation.registry;
    let report = installation.import(bucket.source()).await;
    assert_eq!((report.left_out.number, report.blobs.in_place), (16, 2));
    assert_eq!(installation.foreign(&shared()).await, None);
    bucket.put(&path, &content(9, 100_000)).await;
    assert_eq!(
        installation.import(bucket.source()).await.left_out.number,
        0
    );
    assert_whole(registry, &tags).await;
    // Damaged later, and repaired by the next import.
    bucket.put(&path, &content(7, 100_000)).await;
    let scrubbed = registry.scrub(u64::MAX, &SILENT()).await.unwrap();
    assert_eq!(scrubbed.damaged.len(), 1);
    assert_eq!(pull(registry, "alpine", &shared()).await, None);
    bucket.put(&path, &content(9, 100_000)).await;
    installation.import(bucket.source()).await;
    assert_whole(registry, &tags).await;
    // Missing: the first read finds it out.
    bucket.remove(&path).await;
    let blob = registry
        .reads("alpine")
        .await
        .blob(&shared())
        .await
        .unwrap();
    let range = ByteRange { first: 0, last: 9 };
    assert!(
        registry
            .reads("alpine")
            .await
            .read_blob(&shared(), &blob, range)
            .await
            .is_err()
    );
    assert_eq!(pull(registry, "alpine", &shared()).await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_own_bucket_can_be_left_in_place() {
    let _turn = together();
    let bucket = minio().await;
    let installation = Installation::new(&bucket).await;
    let elsewhere = crate::bucket::seaweedfs().await;
    let tree = Tree::new();
    for source in [
        elsewhere.source().into(),
        bucket.in_bucket("another").into(),
        Place::from(tree.folder.path()),
    ] {
        let refused = try_import_as(&installation.registry, source, None, false, true).await;
        assert!(
            matches!(refused, Err(MovingError::NotInPlace(_))),
            "{refused:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn taken_over_they_are_our_own() {
    let _turn = together();
    let (tree, tags) = whole();
    for bucket in everywhere().await {
        let unneeded = tree.layer("unneeded", &content(1, 5000));
        bucket.upload(tree.folder.path()).await;
        let installation = Installation::new(&bucket).await;
        let registry = &installation.registry;
        assert_eq!(installation.import(bucket.source()).await.blobs.in_place, 4);
        let other = format!("s3://granary/{}", bucket.key("elsewhere"));
        let none = registry
            .take_ownership(Some(&other.parse().unwrap()), &SILENT())
            .await;
        assert_eq!(none.unwrap().taken, 0);
        let damaged = Digest::sha256(&crate::import::source::Image::new(10).layer);
        bucket.put(&data(&damaged), b"damaged").await;
        let before = bucket.paths().await;
        let report = installation.take_ownership().await;
        assert_eq!(
            (report.taken, report.bytes),
            (3, 105_300),
            "{}",
            bucket.maker
        );
        assert_eq!(report.left_out.shown[0].what, damaged.to_string());
        assert_eq!(pull(registry, "multi", &damaged).await, None);
        assert_eq!(installation.foreign(&shared()).await, None);
        // What belonged to the other registry was not touched, and may go now.
        assert_eq!(bucket.paths().await, before);
        for path in &before {
            bucket.remove(path).await;
        }
        assert_whole(registry, &tags).await;
        let store = bucket.store().await;
        assert_eq!(store.list(None, 10).await.unwrap().len(), 3);
        // Ours go like any other.
        let mut objects = 0;
        for _ in 0..4 {
            objects += collect(registry).await.objects;
        }
        assert_eq!(objects, 1, "{unneeded}");
        assert_eq!(store.list(None, 10).await.unwrap().len(), 2);
        assert_whole(registry, &tags).await;
        let again = installation.take_ownership().await;
        assert_eq!((again.taken, again.left_out.number), (0, 1));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_has_objects_of_its_own() {
    let _turn = together();
    let (tree, tags) = whole();
    let bucket = minio().await;
    bucket.upload(tree.folder.path()).await;
    let installation = Installation::new(&bucket).await;
    installation.import(bucket.source()).await;
    let registry = &installation.registry;

    let backup = folder();
    let first = registry.back_up(backup.path(), &SILENT()).await.unwrap();
    assert_eq!((first.copy.objects, first.copy.missing.len()), (3, 0));
    let second = registry.back_up(backup.path(), &SILENT()).await.unwrap();
    assert_eq!(
        (second.copy.objects, second.copy.present, second.removed),
        (0, 3, 0)
    );

    // Into the same store, of which only the database moves.
    let moved = folder();
    let to = catalog(moved.path()).await;
    let store = bucket.store().await;
    let side = Side {
        catalog: &to,
        store: &store as &dyn BlobStore,
    };
    let options = CopyOptions { verify: true };
    let report = copy_installation(registry.side(), side, options, &SILENT()).await;
    assert!(report.unwrap().is_whole());
    assert!(to.explain(&shared()).await.unwrap().foreign.is_some());

    let target = folder();
    for migrated in [true, false] {
        let target = target.path().join(migrated.to_string());
        std::fs::create_dir(&target).unwrap();
        let to = catalog(&target).await;
        let store = FileStore::open(&target.join("blobs"), 0).unwrap();
        let side = Side {
            catalog: &to,
            store: &store as &dyn BlobStore,
        };
        let report = match migrated {
            true => copy_installation(registry.side(), side, options, &SILENT()).await,
            false => restore(backup.path(), side, options, &SILENT()).await,
        };
        let report = report.unwrap();
        assert!(report.is_whole() && report.strangers == 0, "{report:?}");
        assert_eq!(report.objects, 3);
        assert_eq!(to.explain(&shared()).await.unwrap().foreign, None);
        let copied = Registry::open(to, Box::new(store), no_grace())
            .await
            .unwrap();
        assert_whole(&copied, &tags).await;
    }
    drop(installation);
}
