//! Trees and layouts in buckets.

use futures_util::future::join_all;
use granary_oci::Digest;
use granary_registry::{MovingError, SourceKind};

use super::{
    source::{Image, Layout, Place, Tree, import, try_import},
    tree::whole,
};
use crate::{
    bucket::everywhere,
    gate::together,
    world::{World, collect, content, no_grace, pull, resolve},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_whole_tree_comes_whole_from_a_bucket() {
    let _turn = together();
    let (tree, tags) = whole();
    for bucket in everywhere().await {
        bucket.upload(tree.folder.path()).await;
        let world = World::new(no_grace()).await;
        let registry = &world.registry;
        let dry = try_import(registry, bucket.source(), None, true)
            .await
            .unwrap();
        assert_eq!((dry.left_out.number, dry.repositories), (0, 5), "{dry:?}");
        assert_eq!(world.objects(), 0);
        // Any part of the tree from its root down may be named.
        let report = import(registry, bucket.source_below("docker/registry"), None).await;
        assert_eq!(
            (report.left_out.number, report.notes.number),
            (0, 0),
            "{}: {report:?}",
            bucket.maker
        );
        assert_eq!(report.kind, SourceKind::StorageTree);
        assert!(report.path.starts_with("s3://granary/"), "{}", report.path);
        assert_eq!((report.blobs.copied, report.blobs.mounted), (10, 3));
        assert_eq!((report.manifests.stored, report.tags.created), (8, 9));
        collect(registry).await;
        collect(registry).await;
        for (repository, tag, digest) in &tags {
            assert_eq!(
                resolve(registry, repository, tag).await.unwrap().digest,
                *digest
            );
        }
        let shared = Digest::sha256(&content(9, 100_000));
        assert_eq!(
            pull(registry, "a/b/c/d/e", &shared).await,
            Some(content(9, 100_000))
        );
        let again = import(registry, bucket.source(), None).await;
        assert_eq!(
            (again.blobs.copied, again.manifests.held, again.tags.held),
            (0, 8, 9),
            "{}",
            bucket.maker
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_layout_comes_from_a_bucket() {
    let _turn = together();
    for bucket in everywhere().await {
        let mut layout = Layout::default();
        let image = Image::with(1, content(1, 3_000_000));
        let digest = layout.image("docker.io/library/app:v1", &image);
        bucket.upload(layout.folder().path()).await;
        let world = World::new(no_grace()).await;
        let nameless = try_import(&world.registry, bucket.source(), None, false).await;
        assert!(matches!(nameless, Err(MovingError::RepositoryNeeded)));
        let report = import(&world.registry, bucket.source(), Some("app")).await;
        assert_eq!(report.kind, SourceKind::Layout);
        assert_eq!(report.left_out.number, 0, "{}: {report:?}", bucket.maker);
        let stored = resolve(&world.registry, "app", "v1").await.unwrap();
        assert_eq!(stored.digest, digest);
        let layer = pull(&world.registry, "app", &Digest::sha256(&image.layer)).await;
        assert_eq!(layer, Some(image.layer));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_may_have_more_names_than_a_page() {
    let _turn = together();
    for bucket in everywhere().await {
        let tree = Tree::new();
        let image = Image::new(1);
        let digest = tree.image("app", "v1", &image);
        bucket.upload(tree.folder.path()).await;
        let tags: Vec<_> = (0..1100).map(|number| format!("t{number}")).collect();
        for part in tags.chunks(32) {
            let each = part.iter().map(|tag| {
                let path = format!(
                    "docker/registry/v2/repositories/app/_manifests/tags/{tag}/current/link"
                );
                let bucket = &bucket;
                async move { bucket.put(&path, digest.to_string().as_bytes()).await }
            });
            join_all(each).await;
        }
        let world = World::new(no_grace()).await;
        let report = import(&world.registry, bucket.source(), None).await;
        assert_eq!(
            (report.tags.created, report.left_out.number),
            (1101, 0),
            "{}",
            bucket.maker
        );
    }
}

/// Keys are any text, and a console makes an empty object for a folder.
#[tokio::test(flavor = "multi_thread")]
async fn odd_keys_are_listed_or_passed_over() {
    let _turn = together();
    let bucket = crate::bucket::minio().await;
    let tree = Tree::new();
    tree.image("app", "v1", &Image::new(1));
    bucket.upload(tree.folder.path()).await;
    let root = "docker/registry/v2/repositories";
    for path in [
        "docker/",
        "docker/registry/v2/repositories/",
        &format!("{root}/app/_layers/sha256/"),
    ] {
        bucket.put(path, b"").await;
    }
    bucket
        .put(
            &format!("{root}/app/_manifests/tags/a b+c%/current/link"),
            b"x",
        )
        .await;
    bucket.put(&format!("{root}/lost"), b"stray").await;
    let world = World::new(no_grace()).await;
    let report = import(&world.registry, bucket.source(), None).await;
    let left_out: Vec<_> = report.left_out.shown.iter().map(|f| &*f.what).collect();
    assert_eq!(left_out, ["a b+c%"], "{report:?}");
    assert_eq!(report.notes.number, 1, "{report:?}");
    assert!(resolve(&world.registry, "app", "v1").await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_cannot_be_read_says_why() {
    let _turn = together();
    for bucket in everywhere().await {
        let world = World::new(no_grace()).await;
        let said = async |source: Place| {
            let failed = try_import(&world.registry, source, None, false).await;
            failed.unwrap_err().to_string()
        };
        let empty = said(bucket.source().into()).await;
        assert!(
            empty.contains(&bucket.prefix) && empty.contains("neither the storage"),
            "{empty}"
        );
        let missing = said(bucket.in_bucket("not-there").into()).await;
        assert!(
            missing.contains("s3://not-there") && missing.contains("create bucket 'not-there'"),
            "{missing}"
        );
        let stranger = said(bucket.as_stranger().into()).await;
        assert!(stranger.contains("access key"), "{stranger}");
        assert!(!stranger.contains("hunter2"), "{stranger}");
    }
}
