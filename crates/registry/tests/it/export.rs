//! Exports: whole, incremental, cut, damaged, and imported again.
#![expect(
    clippy::await_holding_lock,
    reason = "each test has a thread and a runtime of its own; the guard keeps others from setting failpoints"
)]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    sync::Arc,
};

use bytes::Bytes;
use granary_oci::{Algorithm, Digest, Reference};
use granary_registry::{
    ExportReport, ExportRequest, Kind, ManifestRequest, MovingError, Precondition, Progress,
    ReferrerFilter, Registry, RegistryError,
};
use serde_json::{Value, json};
use tokio::sync::Notify;

use crate::{
    gate::together,
    import::source::{IMAGE, INDEX, Image, descriptor, import, index, kinds, referrer},
    world::{Leave, World, body, content, folder, no_grace, pull, push, put, resolve},
};

const R: &str = "team/app";
const NAME: &str = "org.opencontainers.image.ref.name";

async fn try_export(
    registry: &Registry,
    references: &[&str],
    to: &Path,
) -> Result<ExportReport, MovingError> {
    let request = ExportRequest {
        references: references
            .iter()
            .map(|text| text.parse().unwrap())
            .collect(),
        to: to.to_owned(),
    };
    registry.export(request, &Progress::silent()).await
}

async fn export(registry: &Registry, references: &[&str], to: &Path) -> ExportReport {
    try_export(registry, references, to).await.unwrap()
}

async fn push_image(registry: &Registry, repository: &str, tag: &str, image: &Image) -> Digest {
    push(registry, repository, &image.config).await.unwrap();
    push(registry, repository, &image.layer).await.unwrap();
    put(registry, repository, tag, &image.manifest)
        .await
        .unwrap()
        .digest
}

async fn push_referrer(registry: &Registry, subject: &[u8], number: usize) -> Bytes {
    push(registry, R, &Bytes::from_static(b"{}")).await.unwrap();
    let manifest = referrer(subject, number);
    let digest = Digest::sha256(&manifest).to_string();
    put(registry, R, &digest, &manifest).await.unwrap();
    manifest
}

/// Images, an index of indexes, a signature of a signature of a child, and a sha512 image; all of it in one repository.
async fn whole() -> World {
    let world = World::new(no_grace()).await;
    let registry = &world.registry;
    push_image(registry, R, "v1", &Image::new(1)).await;
    push_image(registry, R, "v2", &Image::with(2, content(2, 300_000))).await;
    let images = [Image::new(1), Image::new(3)];
    push_image(registry, R, &images[1].digest().to_string(), &images[1]).await;
    let inner = index(
        &images
            .each_ref()
            .map(|image| descriptor(IMAGE, &image.manifest)),
    );
    put(registry, R, &Digest::sha256(&inner).to_string(), &inner)
        .await
        .unwrap();
    put(registry, R, "all", &index(&[descriptor(INDEX, &inner)]))
        .await
        .unwrap();
    let first = push_referrer(registry, &images[1].manifest, 1).await;
    push_referrer(registry, &first, 2).await;
    let large = content(5, 1000);
    let long = Algorithm::Sha512.digest(&large);
    let length = Some(large.len() as u64);
    registry
        .pushes(R)
        .await
        .push_blob(long, length, body(large))
        .await
        .unwrap();
    let manifest = Bytes::from(
        json!({"schemaVersion": 2, "mediaType": IMAGE, "layers": [{"mediaType": "x/y", "digest": long.to_string(), "size": 1000}]})
            .to_string(),
    );
    let request = ManifestRequest {
        reference: Reference::Digest(Algorithm::Sha512.digest(&manifest)),
        tags: vec!["long".parse().unwrap()],
        content_type: None,
        precondition: Precondition::None,
        body: manifest,
    };
    registry
        .pushes(R)
        .await
        .put_manifest(request)
        .await
        .unwrap();
    world
}

/// Tags with their digests, and the referrers of every manifest in the list.
async fn contents(registry: &Registry) -> (BTreeMap<String, Digest>, BTreeSet<String>) {
    let mut tags = BTreeMap::new();
    for tag in registry.reads(R).await.tags("", 100).await.unwrap() {
        let digest = resolve(registry, R, &tag).await.unwrap().digest;
        tags.insert(tag, digest);
    }
    let mut referrers = BTreeSet::new();
    for subject in [
        Image::new(3).digest(),
        Digest::sha256(&referrer(&Image::new(3).manifest, 1)),
    ] {
        let filter = ReferrerFilter::default();
        let page = registry
            .reads(R)
            .await
            .referrers(&subject, &filter)
            .await
            .unwrap();
        referrers.extend(page.descriptors);
    }
    (tags, referrers)
}

fn entries(layout: &Path) -> Vec<Value> {
    let index: Value =
        serde_json::from_slice(&fs::read(layout.join("index.json")).unwrap()).unwrap();
    index["manifests"].as_array().unwrap().clone()
}

fn names(layout: &Path) -> Vec<String> {
    let entries = entries(layout);
    let names = entries
        .iter()
        .filter_map(|entry| entry["annotations"][NAME].as_str());
    names.map(str::to_owned).collect()
}

/// Every file in a layout's `blobs`, each of which must be what its name says.
fn blobs(layout: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for algorithm in fs::read_dir(layout.join("blobs")).unwrap() {
        let algorithm = algorithm.unwrap();
        for file in fs::read_dir(algorithm.path()).unwrap() {
            let file = file.unwrap();
            let text = format!(
                "{}:{}",
                algorithm.file_name().to_str().unwrap(),
                file.file_name().to_str().unwrap()
            );
            let digest: Digest = text.parse().unwrap();
            assert_eq!(
                digest.algorithm().digest(&fs::read(file.path()).unwrap()),
                digest
            );
            found.insert(text);
        }
    }
    found
}

#[tokio::test]
async fn what_is_exported_and_imported_is_the_same() {
    let _turn = together();
    let world = whole().await;
    let expected = contents(&world.registry).await;
    assert_eq!((expected.0.len(), expected.1.len()), (4, 2));
    let target = folder();
    for to in ["layout", "layout.tar"] {
        let to = target.path().join(to);
        let report = export(&world.registry, &[R], &to).await;
        assert_eq!(report.left_out.number, 0, "{report:?}");
        // v1, v2, the index, the one in it, its second image, two referrers, and the sha512 one.
        assert_eq!((report.tags, report.manifests, report.referrers), (4, 8, 2));
        let other = World::new(no_grace()).await;
        let came = import(&other.registry, &to, Some(R)).await;
        assert_eq!(
            (
                came.left_out.number,
                came.manifests.stored,
                came.tags.created
            ),
            (0, 8, 4)
        );
        assert_eq!(contents(&other.registry).await, expected);
        assert_eq!(
            pull(&other.registry, R, &Digest::sha256(&content(2, 300_000))).await,
            Some(content(2, 300_000))
        );
    }
    let layout = target.path().join("layout");
    blobs(&layout);
    assert_eq!(names(&layout), ["all", "long", "v1", "v2"]);
    // Referrers are in the list with their type, and without a name.
    let types: Vec<Value> = entries(&layout)
        .iter()
        .map(|entry| entry["artifactType"].clone())
        .collect();
    assert_eq!(
        types
            .iter()
            .filter(|kind| **kind == "application/x-signature")
            .count(),
        2
    );
    assert_eq!(types.iter().filter(|kind| kind.is_null()).count(), 4);
    // What has no value is not there, as tools expect it.
    let list = fs::read_to_string(layout.join("index.json")).unwrap();
    assert!(!list.contains("null"), "{list}");
    let marker = fs::read(layout.join("oci-layout")).unwrap();
    assert_eq!(marker, b"{\"imageLayoutVersion\":\"1.0.0\"}");
}

#[tokio::test]
async fn an_archive_has_the_files_of_the_folder() {
    let _turn = together();
    let world = whole().await;
    let target = folder();
    let (layout, tar) = (
        target.path().join("layout"),
        target.path().join("layout.tar"),
    );
    export(&world.registry, &[R], &layout).await;
    export(&world.registry, &[R], &tar).await;
    // A second export replaces the archive whole.
    export(&world.registry, &[R], &tar).await;
    let unpacked = folder();
    let file = fs::File::open(&tar).unwrap();
    let mut names = Vec::new();
    for entry in tar::Archive::new(file).entries().unwrap() {
        let mut entry = entry.unwrap();
        names.push(entry.path().unwrap().display().to_string());
        entry.unpack_in(unpacked.path()).unwrap();
    }
    assert_eq!(
        (&*names[0], &**names.last().unwrap()),
        ("oci-layout", "index.json")
    );
    assert_eq!(blobs(unpacked.path()), blobs(&layout));
    assert_eq!(entries(unpacked.path()), entries(&layout));
    assert_eq!(fs::read_dir(target.path()).unwrap().count(), 2);
}

#[tokio::test]
async fn only_what_is_missing_is_written() {
    let _turn = together();
    let world = whole().await;
    let target = folder();
    let to = target.path().join("layout");
    let first = export(&world.registry, &["team/app:v1"], &to).await;
    assert_eq!(
        (first.tags, first.manifests, first.written, first.kept),
        (1, 1, 3, 0)
    );
    assert_eq!(names(&to), ["v1"]);
    let second = export(&world.registry, &["team/app:v2", "team/app:v1"], &to).await;
    assert_eq!((second.tags, second.written, second.kept), (2, 3, 3));
    assert_eq!(names(&to), ["v1", "v2"]);
    // A tag that moved has its new place, and tags that are not asked for stay.
    let moved = put(&world.registry, R, "v1", &Image::new(3).manifest)
        .await
        .unwrap()
        .digest;
    export(&world.registry, &["team/app:v1"], &to).await;
    let list = entries(&to);
    assert_eq!(names(&to), ["v2", "v1"]);
    let v1 = list
        .iter()
        .find(|entry| entry["annotations"][NAME] == "v1")
        .unwrap();
    assert_eq!(v1["digest"], moved.to_string());
    let all = export(&world.registry, &[R], &to).await;
    let again = export(&world.registry, &[R], &to).await;
    assert_eq!((again.written, again.kept), (0, all.written + all.kept));
    // A file of another length is no blob that is there.
    let blob = Digest::sha256(&Image::new(1).layer)
        .to_string()
        .replace(':', "/");
    fs::write(to.join("blobs").join(blob), b"short").unwrap();
    assert_eq!(export(&world.registry, &[R], &to).await.written, 1);
    blobs(&to);
}

#[tokio::test]
async fn what_is_attached_to_an_image_goes_along() {
    let _turn = together();
    let world = whole().await;
    let registry = &world.registry;
    let image = Image::new(3).digest();
    for suffix in [".sig", ""] {
        let tag = format!("{}{suffix}", image.to_string().replace(':', "-"));
        push_image(registry, R, &tag, &Image::new(40)).await;
    }
    let target = folder();
    let to = target.path().join("layout");
    let report = export(registry, &[&format!("{R}@{image}")], &to).await;
    assert_eq!(report.left_out.number, 0);
    let tags = names(&to);
    assert_eq!(tags.len(), 2, "{tags:?}");
    assert!(tags.iter().all(|tag| tag.starts_with("sha256-")));
    // The image, a referrer, and the referrer's referrer stand in the list without a name.
    let unnamed: BTreeSet<String> = entries(&to)
        .iter()
        .filter(|entry| entry["annotations"][NAME].is_null())
        .map(|entry| entry["digest"].as_str().unwrap().to_owned())
        .collect();
    let first = referrer(&Image::new(3).manifest, 1);
    let expected = [
        image,
        Digest::sha256(&first),
        Digest::sha256(&referrer(&first, 2)),
    ];
    assert_eq!(unnamed, expected.iter().map(Digest::to_string).collect());
}

/// Progress that tells when the first piece of the large layer was written.
fn at_the_large_layer() -> (Arc<Notify>, Progress) {
    let reached = Arc::new(Notify::new());
    let tell = Arc::clone(&reached);
    let progress = Progress::new(move |stage, by| {
        if stage.is_none() && by > 1000 {
            tell.notify_one();
        }
    });
    (reached, progress)
}

#[tokio::test]
async fn a_cut_export_leaves_the_older_layout() {
    let _turn = together();
    let world = whole().await;
    let target = folder();
    let to = target.path().join("layout");
    export(&world.registry, &["team/app:v1"], &to).await;
    let index = fs::read(to.join("index.json")).unwrap();
    let before = blobs(&to);
    let (reached, progress) = at_the_large_layer();
    let request = ExportRequest {
        references: vec!["team/app:v2".parse().unwrap()],
        to: to.clone(),
    };
    tokio::select! {
        biased;
        () = reached.notified() => {}
        done = world.registry.export(request, &progress) => panic!("{done:?}"),
    }
    assert_eq!(fs::read(to.join("index.json")).unwrap(), index);
    assert!(blobs(&to).is_superset(&before));
    fs::write(
        to.join("blobs/sha256/.x.granary-part"),
        b"of an export that was killed",
    )
    .unwrap();
    let report = export(&world.registry, &["team/app:v2"], &to).await;
    assert_eq!(report.left_out.number, 0);
    blobs(&to);
    assert_eq!(names(&to), ["v1", "v2"]);
}

#[tokio::test]
async fn a_cut_export_leaves_the_older_archive() {
    let _turn = together();
    let world = whole().await;
    let target = folder();
    let to = target.path().join("layout.tar");
    export(&world.registry, &["team/app:v1"], &to).await;
    let older = fs::read(&to).unwrap();
    let (reached, progress) = at_the_large_layer();
    let request = ExportRequest {
        references: vec!["team/app:v2".parse().unwrap()],
        to: to.clone(),
    };
    tokio::select! {
        biased;
        () = reached.notified() => {}
        done = world.registry.export(request, &progress) => panic!("{done:?}"),
    }
    assert_eq!(fs::read(&to).unwrap(), older);
    assert_eq!(fs::read_dir(target.path()).unwrap().count(), 1);
}

#[tokio::test]
async fn damaged_content_is_left_out_and_listed() {
    let _turn = together();
    let world = whole().await;
    for prefix in fs::read_dir(world.folder.path().join("blobs")).unwrap() {
        for object in fs::read_dir(prefix.unwrap().path()).into_iter().flatten() {
            let object = object.unwrap().path();
            let mut bytes = fs::read(&object).unwrap();
            if bytes.len() == 300_000 {
                bytes[7] ^= 1;
                fs::write(&object, bytes).unwrap();
            }
        }
    }
    let target = folder();
    let damaged = Digest::sha256(&content(2, 300_000)).to_string();
    for to in ["layout", "layout.tar"] {
        let to = target.path().join(to);
        let report = export(&world.registry, &[R], &to).await;
        let found = kinds(&report.left_out);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(
            found[0].0 == Kind::Blob && found[0].1.contains("hash to"),
            "{found:?}"
        );
        assert_eq!(report.left_out.shown[0].what, damaged);
        let other = World::new(no_grace()).await;
        let came = import(&other.registry, &to, Some(R)).await;
        // The blob, its image, and the tag of that.
        assert_eq!(
            (came.left_out.number, came.tags.created),
            (3, 3),
            "{came:?}"
        );
    }
    assert!(!blobs(&target.path().join("layout")).contains(&damaged));
}

#[tokio::test]
async fn wrong_names_and_places_cost_nothing() {
    let _turn = together();
    let world = whole().await;
    let registry = &world.registry;
    let target = folder();
    let to = target.path().join("layout");
    let refused = try_export(registry, &["team/app:v1", "team/app:none"], &to).await;
    assert!(
        matches!(
            refused,
            Err(MovingError::Registry(RegistryError::ManifestUnknown(_)))
        ),
        "{refused:?}"
    );
    let refused = try_export(registry, &["nobody"], &to).await;
    assert!(
        matches!(
            refused,
            Err(MovingError::Registry(RegistryError::NameUnknown(_)))
        ),
        "{refused:?}"
    );
    let refused = try_export(registry, &[R, "other:v1"], &to).await;
    assert!(
        matches!(refused, Err(MovingError::SeveralRepositories(..))),
        "{refused:?}"
    );
    assert!(!to.exists());
    let file = target.path().join("file");
    fs::write(&file, b"x").unwrap();
    for place in [&file, target.path()] {
        let refused = try_export(registry, &[R], place).await;
        assert!(
            matches!(refused, Err(MovingError::InTheWay(_))),
            "{refused:?}"
        );
    }
    assert_eq!(fs::read(&file).unwrap(), b"x");
    export(registry, &["team/app:v1"], &to).await;
    let lock = fs::File::open(&to).unwrap();
    lock.try_lock().unwrap();
    let refused = try_export(registry, &[R], &to).await;
    assert!(matches!(refused, Err(MovingError::Busy(_))), "{refused:?}");
    drop(lock);
    fs::write(to.join("index.json"), b"{").unwrap();
    let refused = try_export(registry, &[R], &to).await;
    assert!(
        matches!(refused, Err(MovingError::Layout { .. })),
        "{refused:?}"
    );
}
