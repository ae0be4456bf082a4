//! Files that stay where they are: the other registry's name and ours are the same bytes.

use std::{fs, os::unix::fs::MetadataExt, path::Path};

use granary_oci::{ByteRange, Digest};
use granary_registry::{ImportReport, Kind, MovingError, Progress};

use super::{
    source::{Image, Layout, Place, Tree, kinds, try_import_as},
    tree::whole,
};
use crate::{
    bucket,
    gate::{Gate, alone, together},
    world::{Leave, World, collect, content, no_grace, pull, read, resolve},
};

async fn import_in_place(world: &World, source: impl Into<Place>) -> ImportReport {
    try_import_as(&world.registry, source, Some("old"), false, true)
        .await
        .unwrap()
}

/// Names that a file has.
fn names(path: &Path) -> u64 {
    fs::metadata(path).unwrap().nlink()
}

#[tokio::test]
async fn files_get_a_second_name_and_are_served() {
    let _turn = together();
    let (tree, tags) = whole();
    let world = World::new(no_grace()).await;
    let shared = Digest::sha256(&content(9, 100_000));
    let dry = try_import_as(&world.registry, tree.folder.path(), Some("old"), true, true);
    let dry = dry.await.unwrap();
    assert_eq!((names(&tree.data(&shared)), world.objects()), (1, 0));
    let report = import_in_place(&world, tree.folder.path()).await;
    assert_eq!(report.left_out.number, 0, "{report:?}");
    // The shared layer, which the dry run counts for each repository, and those of two images; the rest is small.
    assert_eq!((report.blobs.in_place, dry.blobs.in_place), (3, 6));
    assert_eq!(report.blobs.in_place_bytes, 100_600);
    assert_eq!(world.objects(), 3);
    assert_eq!(names(&tree.data(&shared)), 2);
    for (repository, tag, digest) in &tags {
        let stored = resolve(&world.registry, &format!("old/{repository}"), tag).await;
        assert_eq!(stored.unwrap().digest, *digest);
    }
    let again = import_in_place(&world, tree.folder.path()).await;
    assert_eq!((again.blobs.in_place, again.blobs.copied), (0, 0));
    let scrubbed = world.registry.scrub(u64::MAX, &Progress::silent()).await;
    assert_eq!(scrubbed.unwrap().damaged, []);
    // The other registry may go as a whole.
    drop(tree);
    let whole = pull(&world.registry, "old/a/b/c/d/e", &shared).await;
    assert_eq!(whole, Some(content(9, 100_000)));
    let blob = world
        .registry
        .reads("old/alpine")
        .await
        .blob(&shared)
        .await
        .unwrap();
    let range = ByteRange { first: 5, last: 9 };
    let part = read(&world.registry, &shared, &blob, range).await;
    assert_eq!(part, content(9, 100_000)[5..10]);
}

#[tokio::test]
async fn garbage_collection_takes_our_name_only() {
    let _turn = together();
    let tree = Tree::new();
    let bytes = content(1, 5000);
    let unneeded = tree.layer("app", &bytes);
    let world = World::new(no_grace()).await;
    let report = import_in_place(&world, tree.folder.path()).await;
    assert_eq!(
        (report.blobs.in_place, names(&tree.data(&unneeded))),
        (1, 2)
    );
    for _ in 0..3 {
        collect(&world.registry).await;
    }
    assert_eq!(pull(&world.registry, "old/app", &unneeded).await, None);
    assert_eq!((world.objects(), names(&tree.data(&unneeded))), (0, 1));
    assert_eq!(fs::read(tree.data(&unneeded)).unwrap(), bytes);
}

#[tokio::test]
async fn what_is_not_what_its_digest_says_gets_no_name() {
    let _turn = together();
    let tree = Tree::new();
    let [damaged, missing, led_out] = [1, 2, 3].map(|n| tree.layer("app", &content(n, 300)));
    fs::write(tree.data(&damaged), content(7, 300)).unwrap();
    fs::remove_file(tree.data(&missing)).unwrap();
    let secret = tree.folder.path().join("secret");
    fs::write(&secret, content(3, 300)).unwrap();
    fs::remove_file(tree.data(&led_out)).unwrap();
    std::os::unix::fs::symlink(&secret, tree.data(&led_out)).unwrap();
    let world = World::new(no_grace()).await;
    let report = import_in_place(&world, tree.folder.path()).await;
    let found = kinds(&report.left_out);
    assert_eq!(found.len(), 3, "{found:?}");
    for why in ["hash to", "missing", "link"] {
        assert!(
            found
                .iter()
                .any(|(kind, said)| *kind == Kind::Blob && said.contains(why))
        );
    }
    assert_eq!((world.objects(), names(&secret)), (0, 1));
    assert_eq!(names(&tree.data(&damaged)), 1);
}

#[tokio::test]
async fn a_layout_stays_where_it_is() {
    let _turn = together();
    let mut layout = Layout::default();
    let image = Image::new(1);
    layout.image("v1", &image);
    let folder = layout.folder();
    let world = World::new(no_grace()).await;
    let report = import_in_place(&world, folder.path()).await;
    assert_eq!((report.blobs.in_place, report.left_out.number), (1, 0));
    drop(folder);
    let layer = pull(&world.registry, "old", &Digest::sha256(&image.layer)).await;
    assert_eq!(layer, Some(image.layer));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_stay_is_refused_before_anything_begins() {
    let _turn = together();
    let world = World::new(no_grace()).await;
    let (_folder, archive) = Layout::default().archive(|_| {});
    let elsewhere = bucket::minio().await.source();
    for source in [Place::from(&archive), elsewhere.into()] {
        let refused = try_import_as(&world.registry, source, Some("old"), false, true).await;
        let Err(refused @ MovingError::NotInPlace(_)) = refused else {
            panic!("{refused:?}");
        };
        let text = refused.to_string();
        assert!(text.contains("without --in-place"), "{text}");
    }
}

/// Killed between the name and the row: the next import finds nothing in its way, and the name goes with garbage.
#[test]
fn a_name_without_a_row_is_reserved_until_it_goes() {
    alone(async {
        let tree = Tree::new();
        let digest = tree.layer("app", &content(1, 5000));
        let world = World::new(no_grace()).await;
        let gate = Gate::shut("import::linked");
        let cut = {
            let (registry, path) = (world.registry.clone(), tree.folder.path().to_owned());
            tokio::spawn(async move {
                let import = try_import_as(&registry, &path, Some("old"), false, true);
                import.await.map(drop)
            })
        };
        gate.reached().await;
        cut.abort();
        gate.open();
        assert!(cut.await.is_err());
        assert_eq!(names(&tree.data(&digest)), 2);
        // Known as one that is to be deleted, and not yet.
        collect(&world.registry).await;
        assert_eq!(names(&tree.data(&digest)), 2);
        let keys = world.keys();
        assert_eq!(keys.len(), 1);
        let strangers = world.registry.catalog().strangers(keys).await.unwrap();
        assert_eq!(strangers, Vec::<String>::new());
        let report = import_in_place(&world, tree.folder.path()).await;
        assert_eq!(report.blobs.in_place, 1);
        assert_eq!(names(&tree.data(&digest)), 3);
    });
}
