//! Every way a storage tree is known to be damaged: what can be served is served, and the rest is listed.

use std::fs;

use granary_oci::Digest;
use granary_registry::{Kind, Rules};

use super::{
    case::{Case, GONE, R, UNTAGGED, WHOLE},
    source::{
        Image, Tree, descriptor, import, index, kinds, layer_link, referrer, revision_link,
        tag_link,
    },
};
use crate::{
    bucket::everywhere,
    gate::together,
    world::{World, content, no_grace, pull, resolve},
};

fn layer(image: &Image) -> Digest {
    Digest::sha256(&image.layer)
}

const MANIFESTS: &[Case] = &[
    Case {
        name: "empty manifest",
        damage: |tree, image| fs::write(tree.data(&image.digest()), b"").unwrap(),
        left_out: &[(Kind::Manifest, "empty"), (Kind::Tag, "was left out")],
        ..GONE
    },
    Case {
        name: "manifest that hashes to something else",
        damage: |tree, image| fs::write(tree.data(&image.digest()), b"{}").unwrap(),
        left_out: &[(Kind::Manifest, "hash to"), (Kind::Tag, "was left out")],
        ..GONE
    },
    Case {
        name: "bad manifest format",
        damage: |tree, _| {
            let digest = tree.manifest(R, b"this is not JSON");
            tree.tag(R, "bad", &digest);
        },
        left_out: &[
            (Kind::Manifest, "not a JSON object"),
            (Kind::Tag, "was left out"),
        ],
        ..UNTAGGED
    },
    Case {
        name: "docker schema 1",
        damage: |tree, _| {
            let digest = tree.manifest(R, b"{\"schemaVersion\":1,\"name\":\"x\"}");
            tree.tag(R, "bad", &digest);
        },
        left_out: &[(Kind::Manifest, "schema 1"), (Kind::Tag, "was left out")],
        ..UNTAGGED
    },
    Case {
        name: "manifest link malformed",
        damage: |tree, image| tree.write(&revision_link(R, &image.digest()), b"garbage"),
        notes: &[(Kind::Link, "not a digest")],
        ..WHOLE
    },
    Case {
        name: "manifest link empty",
        damage: |tree, image| tree.write(&revision_link(R, &image.digest()), b""),
        notes: &[(Kind::Link, "empty")],
        ..WHOLE
    },
    Case {
        name: "manifest link names another digest",
        damage: |tree, image| {
            let other = layer(image).to_string();
            tree.write(&revision_link(R, &image.digest()), other.as_bytes());
        },
        notes: &[(Kind::Link, "it names")],
        ..WHOLE
    },
    Case {
        name: "manifest link to a missing blob",
        damage: |tree, image| fs::remove_file(tree.data(&image.digest())).unwrap(),
        left_out: &[(Kind::Manifest, "missing"), (Kind::Tag, "was left out")],
        ..GONE
    },
    Case {
        name: "manifest too large",
        damage: |tree, _| {
            let digest = tree.manifest(R, &vec![b' '; 5 << 20]);
            tree.tag(R, "bad", &digest);
        },
        left_out: &[(Kind::Manifest, "larger than"), (Kind::Tag, "was left out")],
        ..UNTAGGED
    },
    Case {
        name: "missing revisions folder",
        damage: |tree, _| {
            fs::remove_dir_all(tree.path(&format!("repositories/{R}/_manifests/revisions")))
                .unwrap();
        },
        left_out: &[(Kind::Tag, "no manifest"), (Kind::Tag, "no manifest")],
        ..GONE
    },
    Case {
        name: "unknown media types",
        damage: |tree, _| {
            let body = b"{\"mediaType\":\"application/x-never-heard-of\",\"anything\":[1]}";
            let digest = tree.manifest(R, body);
            tree.tag(R, "bad", &digest);
        },
        ..WHOLE
    },
    Case {
        name: "index whose child lost its link",
        damage: |tree, image| {
            fs::remove_file(tree.path(&revision_link(R, &image.digest()))).unwrap();
            let list = index(&[descriptor(super::source::IMAGE, &image.manifest)]);
            let digest = tree.manifest(R, &list);
            tree.tag(R, "bad", &digest);
        },
        notes: &[(Kind::Link, "no link")],
        ..WHOLE
    },
    Case {
        name: "referrer whose subject was deleted",
        damage: |tree, image| {
            tree.layer(R, b"{}");
            let digest = tree.manifest(R, &referrer(b"deleted", 1));
            tree.tag(R, "signature", &digest);
            let _ = image;
        },
        ..WHOLE
    },
];

const TAGS: &[Case] = &[
    Case {
        name: "tag link malformed",
        damage: |tree, _| tree.write(&tag_link(R, "bad"), b"sha256:short"),
        left_out: &[(Kind::Tag, "damaged")],
        ..UNTAGGED
    },
    Case {
        name: "tag link empty",
        damage: |tree, _| tree.write(&tag_link(R, "bad"), b""),
        left_out: &[(Kind::Tag, "empty")],
        ..UNTAGGED
    },
    Case {
        name: "tag link endless",
        damage: |tree, _| tree.write(&tag_link(R, "bad"), &[b'x'; 9000]),
        left_out: &[(Kind::Tag, "larger than")],
        ..UNTAGGED
    },
    Case {
        name: "tag link missing",
        damage: |tree, _| fs::remove_file(tree.path(&tag_link(R, "bad"))).unwrap(),
        left_out: &[(Kind::Tag, "missing")],
        ..UNTAGGED
    },
    Case {
        name: "tag link to a missing revision",
        damage: |tree, _| tree.tag(R, "bad", &Digest::sha256(b"never pushed")),
        left_out: &[(Kind::Tag, "no manifest of this repository")],
        ..UNTAGGED
    },
    Case {
        name: "tag without a name that is one",
        damage: |tree, image| tree.tag(R, "not a tag", &image.digest()),
        left_out: &[(Kind::Tag, "is not a tag")],
        ..WHOLE
    },
];

const BLOBS: &[Case] = &[
    Case {
        name: "empty layer link",
        damage: |tree, image| tree.write(&layer_link(R, &layer(image)), b""),
        notes: &[(Kind::Link, "empty")],
        ..WHOLE
    },
    Case {
        name: "invalid blob",
        damage: |tree, image| fs::write(tree.data(&layer(image)), content(7, 300)).unwrap(),
        left_out: &[
            (Kind::Blob, "hash to"),
            (Kind::Manifest, "did not come"),
            (Kind::Tag, "left out"),
        ],
        ..GONE
    },
    Case {
        name: "blob of the wrong length",
        damage: |tree, image| fs::write(tree.data(&layer(image)), content(7, 20)).unwrap(),
        left_out: &[
            (Kind::Blob, "hash to"),
            (Kind::Manifest, "did not come"),
            (Kind::Tag, "left out"),
        ],
        ..GONE
    },
    Case {
        name: "empty blob",
        damage: |tree, image| fs::write(tree.data(&layer(image)), b"").unwrap(),
        left_out: &[
            (Kind::Blob, "empty"),
            (Kind::Manifest, "did not come"),
            (Kind::Tag, "left out"),
        ],
        ..GONE
    },
    Case {
        name: "unlinked config and layers",
        damage: |tree, image| {
            for digest in [Digest::sha256(&image.config), layer(image)] {
                fs::remove_file(tree.path(&layer_link(R, &digest))).unwrap();
            }
        },
        notes: &[(Kind::Link, "no link"), (Kind::Link, "no link")],
        ..WHOLE
    },
    Case {
        name: "layer missing altogether",
        damage: |tree, image| fs::remove_file(tree.data(&layer(image))).unwrap(),
        left_out: &[
            (Kind::Blob, "missing"),
            (Kind::Manifest, "did not come"),
            (Kind::Tag, "left out"),
        ],
        ..GONE
    },
    Case {
        name: "a folder where the bytes should be",
        damage: |tree, image| {
            fs::remove_file(tree.data(&layer(image))).unwrap();
            fs::create_dir(tree.data(&layer(image))).unwrap();
        },
        left_out: &[
            (Kind::Blob, "no regular file"),
            (Kind::Manifest, "did not come"),
            (Kind::Tag, "left out"),
        ],
        ..GONE
    },
    Case {
        name: "a link that leads out, where the bytes should be",
        damage: |tree, image| {
            let secret = tree.folder.path().join("secret");
            fs::write(&secret, &image.layer).unwrap();
            fs::remove_file(tree.data(&layer(image))).unwrap();
            std::os::unix::fs::symlink(secret, tree.data(&layer(image))).unwrap();
        },
        left_out: &[
            (Kind::Blob, "link"),
            (Kind::Manifest, "did not come"),
            (Kind::Tag, "left out"),
        ],
        ..GONE
    },
    Case {
        name: "unsupported digest algorithm",
        damage: |tree, _| {
            tree.write(
                &format!("repositories/{R}/_layers/md5/d41d8cd98f00b204e9800998ecf8427e/link"),
                b"md5:d41d8cd98f00b204e9800998ecf8427e",
            )
        },
        left_out: &[(Kind::Link, "md5")],
        ..WHOLE
    },
    Case {
        name: "deleted layer that nothing refers to",
        damage: |tree, _| {
            let digest = tree.layer(R, &content(8, 300));
            fs::remove_file(tree.path(&layer_link(R, &digest))).unwrap();
        },
        ..WHOLE
    },
];

const FOLDERS: &[Case] = &[
    Case {
        name: "stray files",
        damage: |tree, _| {
            for path in [
                format!("repositories/{R}/_layers/.DS_Store"),
                format!("repositories/{R}/README"),
                "repositories/lost+found".to_owned(),
            ] {
                tree.write(&path, b"stray");
            }
        },
        notes: &[
            (Kind::Stray, "file"),
            (Kind::Stray, "file"),
            (Kind::Stray, "file"),
        ],
        ..WHOLE
    },
    Case {
        name: "unfinished uploads",
        damage: |tree, _| tree.write(&format!("repositories/{R}/_uploads/1/data"), b"half"),
        ..WHOLE
    },
    Case {
        name: "name that is not a repository's",
        damage: |tree, image| {
            tree.image("Team/App", "bad", image);
        },
        left_out: &[(Kind::Repository, "not a repository name")],
        ..WHOLE
    },
    Case {
        name: "a link that leads out, where a repository should be",
        damage: |tree, image| {
            let digest = image.digest().to_string().replace(':', "/");
            let target = tree.folder.path().join("elsewhere");
            let revision = target.join(format!("_manifests/revisions/{digest}"));
            fs::create_dir_all(&revision).unwrap();
            fs::write(revision.join("link"), image.digest().to_string()).unwrap();
            std::os::unix::fs::symlink(target, tree.path("repositories/stolen")).unwrap();
        },
        left_out: &[(Kind::Stray, "link")],
        ..WHOLE
    },
    Case {
        name: "a link among the revisions",
        damage: |tree, _| {
            let folder = tree.path(&format!("repositories/{R}/_manifests/revisions/sha256"));
            std::os::unix::fs::symlink("/etc", folder.join("etc")).unwrap();
        },
        left_out: &[(Kind::Stray, "link")],
        ..WHOLE
    },
];

async fn check_all(cases: &[Case]) {
    let _turn = together();
    for case in cases {
        case.check(None).await;
    }
}

/// What a bucket cannot hold: links, and a folder in the place of a file.
const OF_FILES: [&str; 4] = [
    "a folder where the bytes should be",
    "a link that leads out, where the bytes should be",
    "a link that leads out, where a repository should be",
    "a link among the revisions",
];

#[tokio::test(flavor = "multi_thread")]
async fn everything_damaged_in_a_bucket() {
    let _turn = together();
    for bucket in everywhere().await {
        for (number, case) in [MANIFESTS, TAGS, BLOBS, FOLDERS]
            .concat()
            .iter()
            .enumerate()
        {
            if !OF_FILES.contains(&case.name) {
                case.check(Some(&bucket.below(number))).await;
            }
        }
    }
}

#[tokio::test]
async fn damaged_manifests() {
    check_all(MANIFESTS).await;
}

#[tokio::test]
async fn damaged_tags() {
    check_all(TAGS).await;
}

#[tokio::test]
async fn damaged_blobs() {
    check_all(BLOBS).await;
}

#[tokio::test]
async fn damaged_folders() {
    check_all(FOLDERS).await;
}

#[tokio::test]
async fn a_finding_says_what_where_why_and_what_to_do() {
    let _turn = together();
    let tree = Tree::new();
    let image = Image::new(1);
    tree.image(R, "a", &image);
    fs::remove_file(tree.path(&tag_link(R, "a"))).unwrap();
    let world = World::new(no_grace()).await;
    let report = import(&world.registry, tree.folder.path(), None).await;
    let [finding] = &report.left_out.shown[..] else {
        panic!("{report:?}")
    };
    assert_eq!(
        (finding.repository.as_deref(), &*finding.what),
        (Some(R), "a")
    );
    // Where the tag once stood helps to tag it again.
    assert!(
        finding.remedy.contains(&image.digest().to_string()),
        "{finding:?}"
    );
}

#[tokio::test]
async fn a_sparse_policy_takes_manifests_without_their_content() {
    let _turn = together();
    let tree = Tree::new();
    let image = Image::new(1);
    tree.image(R, "a", &image);
    fs::remove_file(tree.data(&layer(&image))).unwrap();
    let world = World::new(Rules {
        sparse: true,
        ..no_grace()
    })
    .await;
    let report = import(&world.registry, tree.folder.path(), None).await;
    assert_eq!(kinds(&report.left_out).len(), 1);
    assert_eq!(report.left_out.shown[0].kind, Kind::Blob);
    assert!(resolve(&world.registry, R, "a").await.is_ok());
    // What was missing comes with a later run.
    tree.blob(&image.layer);
    let report = import(&world.registry, tree.folder.path(), None).await;
    assert_eq!((report.left_out.number, report.blobs.copied), (0, 1));
    assert!(pull(&world.registry, R, &layer(&image)).await.is_some());
}
