//! OCI image layouts, as folders and archives.

use std::{fs, path::Path};

use bytes::Bytes;
use granary_oci::{Algorithm, Digest};
use granary_registry::{Kind, MovingError, ReferrerFilter, Registry, SourceKind};
use serde_json::json;

use super::source::{
    IMAGE, INDEX, Image, Layout, descriptor, import, index, kinds, referrer, try_import,
};
use crate::{
    gate::together,
    world::{Leave, World, collect, content, no_grace, pull, push, resolve},
};

/// A layout with a nested index, a referrer, a sha512 layer and tags.
fn whole() -> (Layout, Digest, Digest) {
    let mut layout = Layout::default();
    let images = [Image::new(1), Image::new(2)];
    for image in &images {
        layout.blobs(&[&image.config, &image.layer, &image.manifest]);
    }
    let inner = index(
        &images
            .each_ref()
            .map(|image| descriptor(IMAGE, &image.manifest)),
    );
    let outer = index(&[descriptor(INDEX, &inner)]);
    layout.blobs(&[&inner, &outer]);
    layout.entry(descriptor(INDEX, &outer), "multi");
    let single = layout.image("docker.io/library/app:v1", &Image::new(3));
    let large = content(5, 100_000);
    let long = Algorithm::Sha512.digest(&large);
    layout.blob(&long, &large);
    let manifest = Bytes::from(
        json!({"schemaVersion": 2, "mediaType": IMAGE, "layers": [{"mediaType": "x/y", "digest": long.to_string(), "size": large.len()}]})
            .to_string(),
    );
    layout.blob(&Algorithm::Sha512.digest(&manifest), &manifest);
    let entry = json!({"mediaType": IMAGE, "digest": Algorithm::Sha512.digest(&manifest).to_string(), "size": manifest.len()});
    layout.entry(entry, "long");
    let signature = referrer(&images[0].manifest, 1);
    layout.blobs(&[&signature, &Bytes::from_static(b"{}")]);
    layout.entry(descriptor(IMAGE, &signature), "");
    (layout, Digest::sha256(&outer), single)
}

async fn check_whole(registry: &Registry, path: &Path) {
    let (_, multi, single) = whole();
    let report = import(registry, path, Some("team/app")).await;
    assert_eq!(report.kind, SourceKind::Layout);
    assert_eq!(
        (report.left_out.number, report.notes.number),
        (0, 0),
        "{report:?}"
    );
    assert_eq!(
        (
            report.repositories,
            report.manifests.stored,
            report.tags.created
        ),
        (1, 7, 3)
    );
    collect(registry).await;
    collect(registry).await;
    assert_eq!(
        resolve(registry, "team/app", "multi").await.unwrap().digest,
        multi
    );
    assert_eq!(
        resolve(registry, "team/app", "v1").await.unwrap().digest,
        single
    );
    let long = resolve(registry, "team/app", "long").await.unwrap();
    assert_eq!(long.digest.algorithm(), Algorithm::Sha512);
    let layer = Algorithm::Sha512.digest(&content(5, 100_000));
    assert_eq!(
        pull(registry, "team/app", &layer).await,
        Some(content(5, 100_000))
    );
    for image in [Image::new(1), Image::new(2)] {
        let stored = resolve(registry, "team/app", &image.digest().to_string())
            .await
            .unwrap();
        assert_eq!(stored.payload, image.manifest);
    }
    let subject = Image::new(1).digest();
    let page = registry
        .reads("team/app")
        .await
        .referrers(&subject, &ReferrerFilter::default())
        .await
        .unwrap();
    assert_eq!(page.descriptors.len(), 1);
    let again = import(registry, path, Some("team/app")).await;
    assert_eq!(
        (again.blobs.copied, again.manifests.stored, again.tags.held),
        (0, 0, 3)
    );
}

#[tokio::test]
async fn a_folder_comes_whole() {
    let _turn = together();
    let world = World::new(no_grace()).await;
    check_whole(&world.registry, whole().0.folder().path()).await;
}

#[tokio::test]
async fn an_archive_comes_whole() {
    let _turn = together();
    let world = World::new(no_grace()).await;
    let (_folder, path) = whole().0.archive(|_| {});
    check_whole(&world.registry, &path).await;
}

#[tokio::test]
async fn a_layout_needs_a_repository() {
    let _turn = together();
    let world = World::new(no_grace()).await;
    let refused = try_import(&world.registry, whole().0.folder().path(), None, false).await;
    assert!(
        matches!(refused, Err(MovingError::RepositoryNeeded)),
        "{refused:?}"
    );
}

#[tokio::test]
async fn what_is_no_source_is_said_to_be_none() {
    let _turn = together();
    let world = World::new(no_grace()).await;
    let folder = crate::world::folder();
    let file = folder.path().join("file");
    fs::write(&file, [0x1f, 0x8b, 8, 0, 0, 0]).unwrap();
    for (path, hint) in [(folder.path(), "oci-layout"), (&file, "compressed")] {
        let refused = try_import(&world.registry, path, Some("a"), false)
            .await
            .unwrap_err();
        assert!(
            matches!(refused, MovingError::NotRecognised { .. }),
            "{refused:?}"
        );
        assert!(refused.to_string().contains(hint), "{refused}");
    }
    let layout = Layout::default().folder();
    fs::write(layout.path().join("index.json"), b"{").unwrap();
    let refused = try_import(&world.registry, layout.path(), Some("a"), false).await;
    assert!(
        matches!(refused, Err(MovingError::Layout { .. })),
        "{refused:?}"
    );
}

#[tokio::test]
async fn names_in_the_list_become_tags() {
    let _turn = together();
    let mut layout = Layout::default();
    let image = Image::new(1);
    layout.image("good", &image);
    layout.image("localhost:5000/x/y:z", &image);
    layout.image("not a tag", &image);
    layout.image("good", &Image::new(2));
    layout.entries.push(
        json!({"mediaType": IMAGE, "digest": "md5:d41d8cd98f00b204e9800998ecf8427e", "size": 1}),
    );
    let world = World::new(no_grace()).await;
    let report = import(&world.registry, layout.folder().path(), Some("app")).await;
    assert_eq!(
        report
            .left_out
            .shown
            .iter()
            .map(|finding| (finding.kind, &*finding.what))
            .collect::<Vec<_>>(),
        [
            (Kind::Tag, "not a tag"),
            (Kind::Tag, "good"),
            (Kind::Manifest, "md5:d41d8cd98f00b204e9800998ecf8427e"),
        ]
    );
    let tags = world
        .registry
        .reads("app")
        .await
        .tags("", 10)
        .await
        .unwrap();
    assert_eq!(tags, ["good", "z"]);
    assert_eq!(
        resolve(&world.registry, "app", "good")
            .await
            .unwrap()
            .digest,
        image.digest()
    );
    assert!(
        resolve(&world.registry, "app", &Image::new(2).digest().to_string())
            .await
            .is_ok()
    );
}

fn entry(
    builder: &mut tar::Builder<Vec<u8>>,
    kind: tar::EntryType,
    path: &str,
    link: &str,
    data: &[u8],
) {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(0o644);
    header.set_size(data.len() as u64);
    // Not by set_path, which refuses what a hostile archive has.
    header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
    header.as_old_mut().linkname[..link.len()].copy_from_slice(link.as_bytes());
    header.set_cksum();
    builder.append(&header, data).unwrap();
}

#[tokio::test]
async fn an_archive_cannot_reach_out_of_itself() {
    let _turn = together();
    let mut layout = Layout::default();
    layout.image("good", &Image::new(1));
    let bad = Image::new(2);
    layout.blobs(&[&bad.config, &bad.manifest]);
    layout.entry(descriptor(IMAGE, &bad.manifest), "bad");
    let folder = crate::world::folder();
    let secret = folder.path().join("secret");
    fs::write(&secret, &bad.layer).unwrap();
    let blob = format!(
        "blobs/{}",
        Digest::sha256(&bad.layer).to_string().replace(':', "/")
    );
    let (_folder, path) = layout.archive(|builder| {
        use tar::EntryType::{Char, Fifo, Link, Regular, Symlink};
        entry(builder, Symlink, &blob, secret.to_str().unwrap(), b"");
        entry(builder, Link, "blobs/hard", "/etc/passwd", b"");
        entry(builder, Regular, "../x", "", b"x");
        entry(builder, Regular, "blobs/../../x", "", b"x");
        entry(builder, Regular, "/etc/x", "", b"x");
        entry(builder, Fifo, "pipe", "", b"");
        entry(builder, Char, "device", "", b"");
    });
    let world = World::new(no_grace()).await;
    let report = import(&world.registry, &path, Some("app")).await;
    let found = kinds(&report.left_out);
    let expected = [
        (Kind::Stray, "link"),
        (Kind::Stray, "link"),
        (Kind::Stray, "'..'"),
        (Kind::Stray, "'..'"),
        (Kind::Stray, "absolute"),
        (Kind::Stray, "neither"),
        (Kind::Stray, "neither"),
        (Kind::Blob, "link"),
        (Kind::Manifest, "did not come"),
        (Kind::Tag, "left out"),
    ];
    assert_eq!(found.len(), expected.len(), "{found:#?}");
    for (found, expected) in found.iter().zip(expected) {
        assert!(
            found.0 == expected.0 && found.1.contains(expected.1),
            "{found:?} {expected:?}"
        );
    }
    assert!(resolve(&world.registry, "app", "good").await.is_ok());
    assert!(resolve(&world.registry, "app", "bad").await.is_err());
    assert_eq!(
        pull(&world.registry, "app", &Digest::sha256(&bad.layer)).await,
        None
    );
}

#[tokio::test]
async fn a_folder_cannot_reach_out_of_itself() {
    let _turn = together();
    let mut layout = Layout::default();
    let (file, folder) = (Image::new(1), Image::new(2));
    layout.image("file", &file);
    layout.image("good", &folder);
    let source = layout.folder();
    let outside = crate::world::folder();
    let digest = Digest::sha256(&file.layer).to_string();
    let blob = source.path().join("blobs").join(digest.replace(':', "/"));
    fs::rename(&blob, outside.path().join("secret")).unwrap();
    std::os::unix::fs::symlink(outside.path().join("secret"), &blob).unwrap();
    let world = World::new(no_grace()).await;
    let report = import(&world.registry, source.path(), Some("app")).await;
    assert_eq!(
        kinds(&report.left_out)[0],
        (Kind::Blob, "it is a link, and links are not followed")
    );
    assert!(resolve(&world.registry, "app", "good").await.is_ok());
    // A folder on the way may be no link either.
    let blobs = source.path().join("blobs");
    fs::rename(&blobs, outside.path().join("blobs")).unwrap();
    std::os::unix::fs::symlink(outside.path().join("blobs"), &blobs).unwrap();
    let other = World::new(no_grace()).await;
    let report = import(&other.registry, source.path(), Some("app")).await;
    assert_eq!(
        (report.left_out.number, report.manifests.stored),
        (4, 0),
        "{report:?}"
    );
    assert!(report.left_out.shown[0].why.contains("link"), "{report:?}");
}

/// Who can name a digest must not get the bytes of another repository for it.
#[tokio::test]
async fn a_layout_gets_nothing_it_does_not_have() {
    let _turn = together();
    let world = World::new(crate::world::no_grace()).await;
    let registry = &world.registry;
    let secret = content(1, 300);
    push(registry, "secret/place", &secret).await.unwrap();
    for claim in [None, Some(content(2, 300)), Some(secret.clone())] {
        let mut layout = Layout::default();
        let image = Image::with(1, secret.clone());
        layout.blobs(&[&image.config, &image.manifest]);
        layout.entry(descriptor(IMAGE, &image.manifest), "mine");
        if let Some(bytes) = &claim {
            layout.blob(&Digest::sha256(&secret), bytes);
        }
        let objects = world.objects();
        let report = import(registry, layout.folder().path(), Some("attacker")).await;
        let honest = claim.as_ref() == Some(&secret);
        assert_eq!(report.left_out.number == 0, honest, "{report:?}");
        assert_eq!(
            pull(registry, "attacker", &Digest::sha256(&secret))
                .await
                .is_some(),
            honest
        );
        assert_eq!(report.blobs.mounted, u64::from(honest));
        assert_eq!(world.objects(), objects);
    }
}

#[tokio::test]
async fn a_cut_archive_gives_what_is_whole_in_it() {
    let _turn = together();
    let mut layout = Layout::default();
    layout.image("good", &Image::new(1));
    let (folder, path) = layout.archive(|builder| {
        entry(
            builder,
            tar::EntryType::Regular,
            "blobs/last",
            "",
            &content(1, 5_000),
        );
    });
    let whole = fs::read(&path).unwrap();
    let cut = folder.path().join("cut.tar");
    fs::write(&cut, &whole[..whole.len() - 5_000]).unwrap();
    let world = World::new(no_grace()).await;
    let report = import(&world.registry, &cut, Some("app")).await;
    assert_eq!(
        kinds(&report.left_out),
        [(Kind::Stray, "the archive ends within this file")]
    );
    assert!(resolve(&world.registry, "app", "good").await.is_ok());
}

#[tokio::test]
async fn names_without_end_are_not_read() {
    let _turn = together();
    let mut layout = Layout::default();
    layout.image("good", &Image::new(1));
    let (_folder, path) = layout.archive(|builder| {
        entry(
            builder,
            tar::EntryType::GNULongName,
            "././@LongLink",
            "",
            &vec![b'a'; 8 << 20],
        );
        entry(builder, tar::EntryType::Regular, "x", "", b"x");
    });
    let world = World::new(no_grace()).await;
    let report = import(&world.registry, &path, Some("app")).await;
    let found = kinds(&report.left_out);
    assert_eq!(found.len(), 1);
    assert!(found[0].1.contains("has no end"), "{found:?}");
    assert!(resolve(&world.registry, "app", "good").await.is_ok());
}
