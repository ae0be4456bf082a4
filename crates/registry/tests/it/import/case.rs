//! One way a storage tree is damaged, and what must come of it.

use granary_oci::Digest;
use granary_registry::{Kind, Rules};

use super::source::{Image, Place, Tree, import, kinds};
use crate::{
    bucket::Bucket,
    world::{World, no_grace, pull, resolve},
};

/// What must come of a damage to the image `bad`.
#[derive(Clone, Copy)]
pub(super) struct Case {
    pub(super) name: &'static str,
    pub(super) damage: fn(&Tree, &Image),
    /// Kinds that are left out, each with a part of the reason.
    pub(super) left_out: &'static [(Kind, &'static str)],
    /// The same for notes.
    pub(super) notes: &'static [(Kind, &'static str)],
    /// Whether the tag is served nevertheless.
    pub(super) tag: bool,
    /// Whether the manifest is, by its digest.
    pub(super) manifest: bool,
}

pub(super) const R: &str = "team/app/web";

pub(super) const GONE: Case = Case {
    name: "",
    damage: |_, _| {},
    left_out: &[],
    notes: &[],
    tag: false,
    manifest: false,
};
pub(super) const WHOLE: Case = Case {
    tag: true,
    manifest: true,
    ..GONE
};
pub(super) const UNTAGGED: Case = Case {
    manifest: true,
    ..GONE
};

impl Case {
    /// Imports a damaged tree from its folder, or from a bucket that it was copied to.
    pub(super) async fn check(&self, bucket: Option<&Bucket>) {
        let case = self;
        let place = bucket.map_or("a folder", |bucket| bucket.maker);
        let tree = Tree::new();
        let good = Image::new(1);
        let bad = Image::new(2);
        tree.image(R, "good", &good);
        tree.image(R, "bad", &bad);
        (case.damage)(&tree, &bad);
        let world = World::new(Rules {
            inline_max: 64,
            ..no_grace()
        })
        .await;
        let registry = &world.registry;
        let source = || {
            bucket.map_or_else(
                || Place::from(tree.folder.path()),
                |bucket| bucket.source().into(),
            )
        };
        if let Some(bucket) = bucket {
            bucket.upload(tree.folder.path()).await;
        }
        let report = import(registry, source(), None).await;
        for (found, expected) in [
            (&report.left_out, case.left_out),
            (&report.notes, case.notes),
        ] {
            let found = kinds(found);
            let same = found.len() == expected.len()
                && found
                    .iter()
                    .zip(expected)
                    .all(|(found, expected)| found.0 == expected.0 && found.1.contains(expected.1));
            assert!(
                same,
                "{} in {place}: {found:#?} instead of {expected:#?}",
                case.name
            );
        }
        let tagged = resolve(registry, R, "bad").await;
        assert_eq!(
            tagged.is_ok(),
            case.tag,
            "{} in {place}: {tagged:?}",
            case.name
        );
        let by_digest = resolve(registry, R, &bad.digest().to_string()).await;
        assert_eq!(
            by_digest.is_ok(),
            case.manifest,
            "{}: {by_digest:?}",
            case.name
        );
        if case.manifest {
            for blob in [&bad.config, &bad.layer] {
                let pulled = pull(registry, R, &Digest::sha256(blob)).await;
                assert_eq!(pulled.as_ref(), Some(blob), "{} in {place}", case.name);
            }
        }
        if case.name != "missing revisions folder" {
            assert_eq!(
                resolve(registry, R, "good").await.unwrap().payload,
                good.manifest
            );
        }
        // A second run leaves out the same and copies nothing.
        let again = import(registry, source(), None).await;
        assert_eq!(again.left_out, report.left_out, "{} in {place}", case.name);
        assert_eq!(
            (
                again.blobs.copied,
                again.manifests.stored,
                again.tags.created
            ),
            (0, 0, 0),
            "{} in {place}",
            case.name
        );
    }
}
