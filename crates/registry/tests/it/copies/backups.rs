//! Backups of a service that goes on, and what is restored from them.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use granary_blobs::BlobStore;
use granary_registry::{
    CopyError, CopyOptions, CopyReport, Maintenance, MaintenanceReport, Progress, Registry, Side,
    restore,
};

use super::{
    Kind, Site, directions,
    portrait::{assert_complete, assert_withdrawn, fill, key_of, portrait},
};
use crate::{
    gate::{Gate, alone, run, together},
    world::{
        LARGE, Leave, collect, content, folder, image, is_postgres, no_grace, pull, push, put,
    },
};

fn kind() -> Kind {
    if is_postgres() {
        Kind::Postgres
    } else {
        Kind::Sqlite
    }
}

async fn restored(folder: &Path, to: &Site) -> Result<CopyReport, CopyError> {
    let (catalog, store) = (to.catalog().await, to.store());
    let side = Side {
        catalog: &catalog,
        store: &store as &dyn BlobStore,
    };
    let options = CopyOptions { verify: true };
    let done = restore(folder, side, options, &Progress::silent()).await;
    catalog.close().await;
    done
}

fn objects(folder: &Path) -> usize {
    let prefixes = std::fs::read_dir(folder.join("blobs")).unwrap();
    let folders = prefixes.map(|entry| entry.unwrap().path());
    let count = |path: std::path::PathBuf| std::fs::read_dir(path).unwrap().count();
    folders.filter(|path| path.is_dir()).map(count).sum()
}

#[test]
fn a_backup_is_restored_into_either_kind() {
    let _unset = together();
    run(async {
        let source = Site::new(kind());
        let registry = source.opened().await;
        let filled = fill(&registry, 9).await;
        let before = portrait(&registry, &filled.times).await;
        let backup = folder();
        let to = backup.path().to_owned();
        let work = Maintenance::Backup { to };
        let done = registry.maintain(work, &Progress::silent()).await.unwrap();
        let MaintenanceReport::Backup(done) = done else {
            panic!("{done:?}")
        };
        assert!(done.copy.is_whole() && done.removed == 0, "{done:?}");
        assert_eq!(objects(backup.path()), done.copy.objects as usize);
        let mut kinds: Vec<Kind> = directions().into_iter().map(|(_, to)| to).collect();
        kinds.dedup();
        for to in kinds {
            let target = Site::new(to);
            let report = restored(backup.path(), &target).await.unwrap();
            assert!(report.is_whole() && report.verified > 20, "{report:?}");
            let copy = target.opened().await;
            assert_eq!(portrait(&copy, &filled.times).await, before);
            assert_complete(&copy).await;
            assert_withdrawn(&copy, &filled.session).await;
            // Not twice into the same place.
            drop(copy);
            let again = restored(backup.path(), &target).await;
            assert!(matches!(again, Err(CopyError::Finished)));
        }
        // The folder itself is an installation.
        let itself = Site {
            folder: Arc::new(backup),
            url: None,
        };
        let copy = itself.opened().await;
        assert_eq!(portrait(&copy, &filled.times).await, before);
    });
}

#[test]
fn the_next_backup_copies_and_removes_what_changed() {
    let _unset = together();
    run(async {
        let site = Site::new(kind());
        let registry = site.opened().await;
        let bytes: Vec<_> = (0..5).map(|number| content(number, LARGE)).collect();
        let mut digests = Vec::new();
        for bytes in &bytes[..4] {
            digests.push(push(&registry, "a/b", bytes).await.unwrap());
        }
        let backup = folder();
        let first = registry
            .back_up(backup.path(), &Progress::silent())
            .await
            .unwrap();
        assert_eq!((first.copy.objects, first.copy.present), (4, 0));
        digests.push(push(&registry, "a/b", &bytes[4]).await.unwrap());
        for digest in &digests[1..] {
            let body = image(&[(*digest, LARGE)]);
            put(&registry, "a/b", "keep", &body).await.unwrap();
        }
        registry
            .deletes("a/b")
            .await
            .delete_blob(&digests[0])
            .await
            .unwrap();
        for _ in 0..4 {
            collect(&registry).await;
        }
        let next = registry
            .back_up(backup.path(), &Progress::silent())
            .await
            .unwrap();
        assert!(next.copy.is_whole());
        assert_eq!(
            objects(backup.path()) as u64,
            next.copy.objects + next.copy.present
        );
        assert_eq!((next.removed, next.copy.objects), (1, 1), "{next:?}");
        let target = Site::new(kind());
        assert!(restored(backup.path(), &target).await.unwrap().is_whole());
        assert_complete(&target.opened().await).await;
        // Another installation's backup does not go there.
        let other = Site::new(kind());
        let other = other.opened().await;
        let refused = other.back_up(backup.path(), &Progress::silent()).await;
        assert!(matches!(refused, Err(CopyError::Folder(_))));
        let full = folder();
        std::fs::write(full.path().join("letter"), "dear").unwrap();
        let refused = other.back_up(full.path(), &Progress::silent()).await;
        assert!(matches!(refused, Err(CopyError::Folder(_))));
    });
}

#[test]
fn what_a_backup_lacks_is_listed_by_the_restore() {
    let _unset = together();
    run(async {
        let site = Site::new(kind());
        let registry = site.opened().await;
        let digest = push(&registry, "a/b", &content(1, LARGE)).await.unwrap();
        let backup = folder();
        registry
            .back_up(backup.path(), &Progress::silent())
            .await
            .unwrap();
        let key = key_of(&registry, &digest).await;
        std::fs::remove_file(backup.path().join("blobs").join(&key)).unwrap();
        let target = Site::new(kind());
        let report = restored(backup.path(), &target).await.unwrap();
        assert_eq!(report.missing.len(), 1, "{report:?}");
        assert_eq!(report.missing[0].digest, digest.to_string());
        assert_eq!(pull(&target.opened().await, "a/b", &digest).await, None);
        // One that never ended cannot be restored.
        let note = backup.path().join("backup.json");
        let text = std::fs::read_to_string(&note).unwrap();
        std::fs::write(
            &note,
            text.replace("\"complete\": true", "\"complete\": false"),
        )
        .unwrap();
        let refused = restored(backup.path(), &Site::new(kind())).await;
        assert!(matches!(refused, Err(CopyError::Folder(_))));
    });
}

#[test]
fn a_hold_keeps_objects_and_not_rows() {
    let _unset = together();
    run(async {
        let site = Site::new(kind());
        let registry = site.opened().await;
        let catalog = registry.catalog();
        let digest = push(&registry, "a/b", &content(1, LARGE)).await.unwrap();
        let object = site.object(&key_of(&registry, &digest).await);
        tokio::time::sleep(Duration::from_millis(5)).await;
        assert!(catalog.hold("one", Duration::from_secs(60)).await.unwrap());
        assert!(catalog.hold("two", Duration::from_secs(60)).await.unwrap());
        let settle = async |expected: u64| {
            let mut objects = 0;
            for _ in 0..4 {
                objects += collect(&registry).await.objects;
            }
            assert_eq!(objects, expected);
        };
        registry
            .deletes("a/b")
            .await
            .delete_blob(&digest)
            .await
            .unwrap();
        settle(0).await;
        assert_eq!(pull(&registry, "a/b", &digest).await, None);
        assert_eq!(catalog.explain(&digest).await.unwrap().blob, None);
        catalog.let_go("one").await.unwrap();
        settle(0).await;
        assert!(object.exists());
        catalog.let_go("two").await.unwrap();
        settle(1).await;
        assert!(!object.exists());

        // The hold of a dead process ends by itself, and whoever comes back hears of it.
        let digest = push(&registry, "a/b", &content(2, LARGE)).await.unwrap();
        assert!(catalog.hold("dead", Duration::ZERO).await.unwrap());
        tokio::time::sleep(Duration::from_millis(5)).await;
        registry
            .deletes("a/b")
            .await
            .delete_blob(&digest)
            .await
            .unwrap();
        settle(1).await;
        assert!(!catalog.hold("dead", Duration::ZERO).await.unwrap());
    });
}

#[test]
fn what_goes_while_a_backup_is_made_is_in_it() {
    alone(async {
        let site = Site::new(kind());
        let registry = site.opened().await;
        let mut digests = Vec::new();
        for number in 0..20 {
            digests.push(
                push(&registry, "a/b", &content(number, LARGE))
                    .await
                    .unwrap(),
            );
        }
        let backup = folder();
        let gate = Gate::shut("copy::object");
        let (making, to) = (registry.clone(), backup.path().to_owned());
        let making =
            tokio::spawn(async move { making.back_up(&to, &Progress::silent()).await.unwrap() });
        gate.reached().await;
        for digest in &digests {
            registry
                .deletes("a/b")
                .await
                .delete_blob(digest)
                .await
                .unwrap();
        }
        for _ in 0..4 {
            assert_eq!(collect(&registry).await.objects, 0);
        }
        gate.open();
        let report = making.await.unwrap();
        assert!(report.copy.is_whole(), "{report:?}");
        assert_eq!(report.copy.objects, 20);
        let mut deleted = 0;
        for _ in 0..3 {
            deleted += collect(&registry).await.objects;
        }
        assert_eq!(deleted, 20);
        let target = Site::new(kind());
        assert!(restored(backup.path(), &target).await.unwrap().is_whole());
        assert_eq!(assert_complete(&target.opened().await).await, 20);
    });
}

/// Pushes images, moves tags, deletes and collects until it is told to stop.
async fn use_it(registry: Registry, worker: usize, stop: Arc<AtomicBool>) -> usize {
    let (repository, mut number) = (format!("busy/{worker}"), 0);
    while !stop.load(Ordering::SeqCst) {
        number += 1;
        let unique = worker * 1_000_000 + number;
        let (small, large) = (content(unique, 30), content(unique + 500_000, 4 * LARGE));
        let (a, b) = (
            push(&registry, &repository, &small).await.unwrap(),
            push(&registry, &repository, &large).await.unwrap(),
        );
        let body = image(&[(a, small.len()), (b, large.len())]);
        let tag = format!("t{}", number % 5);
        // Without a grace time a collection may be faster than the manifest.
        if let Ok(put) = put(&registry, &repository, &tag, &body).await
            && number % 3 == 0
        {
            let reference = granary_oci::Reference::Digest(put.digest);
            let none = granary_registry::Precondition::None;
            registry
                .deletes(&repository)
                .await
                .delete_manifest(&reference, none)
                .await
                .ok();
        }
        if worker == 0 {
            registry.collect(false, &Progress::silent()).await.unwrap();
        }
    }
    number
}

#[test]
fn backups_of_a_busy_registry_are_complete() {
    let _unset = together();
    run(async {
        let site = Site::new(kind());
        let rules = granary_registry::Rules {
            untagged: granary_registry::Untagged::After(Duration::ZERO),
            ..no_grace()
        };
        let registry = site.registry(rules).await;
        let stop = Arc::new(AtomicBool::new(false));
        let workers: Vec<_> = (0..4)
            .map(|worker| tokio::spawn(use_it(registry.clone(), worker, Arc::clone(&stop))))
            .collect();
        tokio::time::sleep(Duration::from_millis(500)).await;
        let backup = folder();
        for round in 0..4 {
            let report = registry
                .back_up(backup.path(), &Progress::silent())
                .await
                .unwrap();
            assert!(report.copy.is_whole(), "round {round}: {report:?}");
            let target = Site::new(Kind::Sqlite);
            let restored = restored(backup.path(), &target).await.unwrap();
            assert!(restored.is_whole(), "round {round}: {restored:?}");
            assert_eq!(restored.strangers, 0);
            let copy = target.opened().await;
            assert!(assert_complete(&copy).await > 0);
        }
        stop.store(true, Ordering::SeqCst);
        for worker in workers {
            assert!(worker.await.unwrap() > 2);
        }
    });
}
