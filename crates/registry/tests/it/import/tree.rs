//! Whole storage trees.

use std::fs;

use granary_oci::Digest;
use granary_registry::{Kind, ReferrerFilter, SourceKind, recognise};

use super::source::{IMAGE, Image, Tree, descriptor, import, index, referrer, try_import};
use crate::{
    gate::together,
    world::{Leave, WHO, World, collect, content, no_grace, pull, put, resolve},
};

/// Repositories that share a layer, an index of two images, a referrer of one of them, and names of several parts.
pub(super) fn whole() -> (Tree, Vec<(&'static str, &'static str, Digest)>) {
    let tree = Tree::new();
    let shared = content(9, 100_000);
    let mut tags = Vec::new();
    for (number, repository) in ["alpine", "team/app", "team/app/web", "a/b/c/d/e"]
        .into_iter()
        .enumerate()
    {
        let image = Image::with(number, shared.clone());
        tags.push((repository, "v1", tree.image(repository, "v1", &image)));
        tree.tag(repository, "latest", &image.digest());
        tags.push((repository, "latest", image.digest()));
    }
    let images = [Image::new(10), Image::new(11)];
    for image in &images {
        tree.layer("multi", &image.config);
        tree.layer("multi", &image.layer);
        tree.manifest("multi", &image.manifest);
    }
    let list = index(
        &images
            .each_ref()
            .map(|image| descriptor(IMAGE, &image.manifest)),
    );
    let digest = tree.manifest("multi", &list);
    tree.tag("multi", "all", &digest);
    tags.push(("multi", "all", digest));
    tree.layer("multi", b"{}");
    tree.manifest("multi", &referrer(&images[0].manifest, 1));
    (tree, tags)
}

#[tokio::test]
async fn a_whole_tree_comes_whole() {
    let _turn = together();
    let (tree, tags) = whole();
    let world = World::new(no_grace()).await;
    let registry = &world.registry;
    let report = import(registry, tree.folder.path(), None).await;
    assert_eq!(
        (report.left_out.number, report.notes.number),
        (0, 0),
        "{report:?}"
    );
    assert_eq!(
        (report.kind, report.repositories),
        (SourceKind::StorageTree, 5)
    );
    // Four configs, the shared layer once, four blobs of the index's images, and the empty blob.
    assert_eq!((report.blobs.copied, report.blobs.mounted), (10, 3));
    assert_eq!((report.manifests.stored, report.tags.created), (8, 9));
    // Nothing of it is garbage.
    collect(registry).await;
    collect(registry).await;
    for (repository, tag, digest) in &tags {
        let stored = resolve(registry, repository, tag).await.unwrap();
        assert_eq!(stored.digest, *digest);
        let body = fs::read(tree.data(digest)).unwrap();
        assert_eq!(stored.payload, body);
    }
    let shared = Digest::sha256(&content(9, 100_000));
    assert_eq!(
        pull(registry, "a/b/c/d/e", &shared).await,
        Some(content(9, 100_000))
    );
    assert_eq!(pull(registry, "multi", &shared).await, None);
    let subject = Image::new(10).digest();
    let page = registry
        .reads("multi")
        .await
        .referrers(&subject, &ReferrerFilter::default())
        .await
        .unwrap();
    assert_eq!(page.descriptors.len(), 1);
    assert!(page.descriptors[0].contains("application/x-signature"));
}

#[tokio::test]
async fn a_second_run_copies_nothing() {
    let _turn = together();
    let (tree, tags) = whole();
    let world = World::new(no_grace()).await;
    let first = import(&world.registry, tree.folder.path(), None).await;
    let objects = world.objects();
    let second = import(&world.registry, tree.folder.path(), None).await;
    assert_eq!((second.blobs.copied, second.blobs.mounted), (0, 0));
    assert_eq!(second.blobs.held, first.blobs.copied + first.blobs.mounted);
    assert_eq!(
        (second.manifests.stored, second.manifests.held),
        (0, first.manifests.stored)
    );
    assert_eq!((second.tags.created, second.tags.moved), (0, 0));
    assert_eq!(second.tags.held, tags.len() as u64);
    assert_eq!(world.objects(), objects);
}

#[tokio::test]
async fn what_a_first_run_missed_comes_with_the_second() {
    let _turn = together();
    let (tree, tags) = whole();
    let layer = tree.data(&Digest::sha256(&content(9, 100_000)));
    let away = layer.with_extension("away");
    fs::rename(&layer, &away).unwrap();
    let world = World::new(no_grace()).await;
    let first = import(&world.registry, tree.folder.path(), None).await;
    // A blob, a manifest and two tags of each of the four repositories.
    assert_eq!(first.left_out.number, 16);
    fs::rename(&away, &layer).unwrap();
    let second = import(&world.registry, tree.folder.path(), None).await;
    assert_eq!(
        (
            second.left_out.number,
            second.blobs.copied,
            second.blobs.mounted
        ),
        (0, 1, 3)
    );
    for (repository, tag, digest) in &tags {
        assert_eq!(
            resolve(&world.registry, repository, tag)
                .await
                .unwrap()
                .digest,
            *digest
        );
    }
}

#[tokio::test]
async fn a_dry_run_stores_nothing_and_says_what_would_come() {
    let _turn = together();
    let (tree, _) = whole();
    fs::remove_file(tree.data(&Digest::sha256(&Image::new(10).layer))).unwrap();
    let world = World::new(no_grace()).await;
    let dry = try_import(&world.registry, tree.folder.path(), None, true)
        .await
        .unwrap();
    assert!(dry.dry_run);
    assert_eq!(world.objects(), 0);
    assert!(
        world
            .registry
            .repositories(&WHO, "", 10)
            .await
            .unwrap()
            .is_empty()
    );
    let wet = import(&world.registry, tree.folder.path(), None).await;
    assert_eq!(dry.left_out, wet.left_out);
    assert_eq!((dry.manifests, dry.tags), (wet.manifests, wet.tags));
    // A blob that the dry run counts for each repository is copied once.
    assert_eq!(dry.blobs.copied, wet.blobs.copied + wet.blobs.mounted);
    let kinds: Vec<Kind> = wet
        .left_out
        .shown
        .iter()
        .map(|finding| finding.kind)
        .collect();
    assert_eq!(
        kinds,
        [Kind::Blob, Kind::Manifest, Kind::Manifest, Kind::Tag]
    );
}

#[tokio::test]
async fn a_prefix_stands_before_every_name() {
    let _turn = together();
    let (tree, tags) = whole();
    let world = World::new(no_grace()).await;
    import(&world.registry, tree.folder.path(), Some("old/registry")).await;
    for (repository, tag, digest) in &tags {
        let repository = format!("old/registry/{repository}");
        assert_eq!(
            resolve(&world.registry, &repository, tag)
                .await
                .unwrap()
                .digest,
            *digest
        );
    }
}

#[tokio::test]
async fn every_folder_from_the_root_down_to_the_repositories_is_recognised() {
    let _turn = together();
    let (tree, _) = whole();
    for below in ["", "docker", "docker/registry", "docker/registry/v2"] {
        let path = tree.folder.path().join(below);
        assert_eq!(
            recognise(&path).await.unwrap(),
            SourceKind::StorageTree,
            "{below}"
        );
    }
    let world = World::new(no_grace()).await;
    let report = import(&world.registry, &tree.path(""), None).await;
    assert_eq!((report.left_out.number, report.repositories), (0, 5));
}

#[tokio::test]
async fn tags_move_to_where_the_source_has_them() {
    let _turn = together();
    let tree = Tree::new();
    tree.image("app", "a", &Image::new(1));
    let world = World::new(no_grace()).await;
    import(&world.registry, tree.folder.path(), None).await;
    let next = tree.image("app", "a", &Image::new(2));
    let report = import(&world.registry, tree.folder.path(), None).await;
    assert_eq!((report.tags.created, report.tags.moved), (0, 1));
    assert_eq!(
        resolve(&world.registry, "app", "a").await.unwrap().digest,
        next
    );
}

/// BuildKit's cache: an index whose `manifests` are layers (decision 14).
#[tokio::test]
async fn layers_that_an_index_lists_stay_blobs() {
    let _turn = together();
    let tree = Tree::new();
    let layer = content(1, 300);
    let config = bytes::Bytes::from_static(b"{\"layers\":[],\"records\":[]}");
    let list = index(&[
        descriptor("application/vnd.oci.image.layer.v1.tar+gzip", &layer),
        descriptor("application/vnd.buildkit.cacheconfig.v0", &config),
    ]);
    for linked in [true, false] {
        let repository = if linked {
            "cache/linked"
        } else {
            "cache/unlinked"
        };
        for blob in [&layer, &config] {
            if linked {
                tree.layer(repository, blob);
            }
        }
        let digest = tree.manifest(repository, &list);
        tree.tag(repository, "cache", &digest);
    }
    let world = World::new(no_grace()).await;
    let report = import(&world.registry, tree.folder.path(), None).await;
    assert_eq!(report.left_out.number, 0, "{report:?}");
    for repository in ["cache/linked", "cache/unlinked"] {
        assert!(resolve(&world.registry, repository, "cache").await.is_ok());
        for blob in [&layer, &config] {
            let digest = Digest::sha256(blob);
            assert_eq!(
                pull(&world.registry, repository, &digest).await.as_ref(),
                Some(blob)
            );
            assert!(
                resolve(&world.registry, repository, &digest.to_string())
                    .await
                    .is_err()
            );
        }
    }
}

#[tokio::test]
async fn damaged_blobs_of_the_registry_are_repaired() {
    let _turn = together();
    let tree = Tree::new();
    let image = Image::new(1);
    tree.image("app", "a", &image);
    let world = World::new(no_grace()).await;
    import(&world.registry, tree.folder.path(), None).await;
    for prefix in fs::read_dir(world.folder.path().join("blobs")).unwrap() {
        let path = prefix.unwrap().path();
        for object in fs::read_dir(path).into_iter().flatten() {
            fs::write(object.unwrap().path(), b"damaged").unwrap();
        }
    }
    let progress = granary_registry::Progress::silent();
    let scrubbed = world.registry.scrub(u64::MAX, &progress).await.unwrap();
    assert_eq!(scrubbed.damaged.len(), 1);
    let report = import(&world.registry, tree.folder.path(), None).await;
    assert_eq!(report.blobs.copied, 1);
    assert_eq!(
        pull(&world.registry, "app", &Digest::sha256(&image.layer)).await,
        Some(image.layer)
    );
}

#[tokio::test]
async fn a_tree_and_pushes_go_together() {
    let _turn = together();
    let (tree, _) = whole();
    let world = World::new(no_grace()).await;
    let pushed = crate::world::image(&[]);
    put(&world.registry, "alpine", "mine", &pushed)
        .await
        .unwrap();
    let report = import(&world.registry, tree.folder.path(), None).await;
    assert_eq!(report.left_out.number, 0);
    assert_eq!(
        resolve(&world.registry, "alpine", "mine")
            .await
            .unwrap()
            .payload,
        pushed
    );
}
