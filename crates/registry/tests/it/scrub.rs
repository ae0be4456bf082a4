//! Scrubs beside others, before servers that are wrong, and of heavy rows.

use std::sync::atomic::Ordering;

use granary_blobs::MemoryStore;
use granary_catalog::ScrubKind;
use granary_registry::{Progress, Registry, RegistryError, Rules, ScrubReport};

use crate::{
    gate::{run, together},
    staged::staged,
    world::{LARGE, Leave, World, collect, content, image, no_grace, pull, push, put},
};

const MIB: usize = 1024 * 1024;

async fn scrub(registry: &Registry) -> Result<ScrubReport, RegistryError> {
    registry.scrub(u64::MAX, &Progress::silent()).await
}

#[test]
fn what_goes_during_a_scrub_is_not_damaged() {
    let _unset = together();
    run(async {
        let (world, plan) = staged(MemoryStore::default(), no_grace()).await;
        let registry = &world.registry;
        let digest = push(registry, "a/b", &content(1, LARGE)).await.unwrap();
        let (looks, go_on) = plan.hold_next_look();
        let other = registry.clone();
        let scrubbing = tokio::spawn(async move { scrub(&other).await });
        looks.await.unwrap();
        registry
            .deletes("a/b")
            .await
            .delete_blob(&digest)
            .await
            .unwrap();
        let mut objects = 0;
        for _ in 0..3 {
            objects += collect(registry).await.objects;
        }
        assert_eq!(objects, 1);
        go_on.send(()).unwrap();
        let report = scrubbing.await.unwrap().unwrap();
        assert_eq!(report.blobs, 1, "it was looked at");
        assert_eq!(report.damaged, []);
    });
}

#[test]
fn a_look_that_finds_nothing_condemns_nothing() {
    let _unset = together();
    run(async {
        let (world, plan) = staged(MemoryStore::default(), no_grace()).await;
        let registry = &world.registry;
        let bytes = content(1, LARGE);
        let digest = push(registry, "a/b", &bytes).await.unwrap();
        plan.hides.store(true, Ordering::Relaxed);
        let failed = scrub(registry).await;
        assert!(
            failed.as_ref().is_err_and(RegistryError::is_transient),
            "{failed:?}"
        );
        assert_eq!(pull(registry, "a/b", &digest).await, Some(bytes));
        plan.hides.store(false, Ordering::Relaxed);
        let whole = ScrubReport {
            blobs: 1,
            bytes: LARGE as u64,
            ..ScrubReport::default()
        };
        assert_eq!(scrub(registry).await.unwrap(), whole);
    });
}

/// How many rows each page has.
async fn pages(registry: &Registry, kind: ScrubKind) -> Vec<usize> {
    let (mut after, mut pages) = (0, Vec::new());
    loop {
        let page = registry.catalog().scrub_page(kind, after, 100).await;
        let page = page.unwrap();
        let Some(last) = page.last() else {
            return pages;
        };
        after = last.id;
        pages.push(page.len());
    }
}

#[test]
fn of_heavy_rows_a_few_are_held_at_once_and_all_are_seen() {
    let _unset = together();
    run(async {
        let world = World::new(Rules {
            inline_max: 9 * MIB,
            ..no_grace()
        })
        .await;
        let registry = &world.registry;
        for (number, mib) in [4, 4, 4, 4, 4, 9, 1].into_iter().enumerate() {
            let bytes = content(number, mib * MIB);
            push(registry, "a/b", &bytes).await.unwrap();
        }
        assert_eq!(pages(registry, ScrubKind::Blob).await, [2, 2, 1, 1, 1]);
        for number in 0..5 {
            let mut manifest = image(&[]).to_vec();
            manifest.resize(3 * MIB + number, b' ');
            let tag = format!("v{number}");
            put(registry, "a/b", &tag, &manifest.into()).await.unwrap();
        }
        assert_eq!(pages(registry, ScrubKind::Manifest).await, [2, 2, 1]);
        let report = scrub(registry).await.unwrap();
        assert_eq!((report.blobs, report.manifests), (7, 5));
        assert_eq!(report.damaged, []);
    });
}
