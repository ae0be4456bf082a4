//! Migrations: everything arrives, whatever the databases are, and in however many attempts.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use granary_blobs::BlobStore;
use granary_catalog::{Authority, NamespaceChange};
use granary_registry::{
    AccountsCommand, CopyError, CopyOptions, OpenError, Progress, Registry, RegistryError, Side,
};
use tokio::sync::Notify;

use super::{
    Kind, Site, copy_into, directions,
    portrait::{assert_complete, assert_withdrawn, fill, key_of, portrait},
};
use crate::{
    gate::{run, together},
    world::{LARGE, collect, content, image, no_grace, pull, push, put, resolve},
};

const VERIFY: CopyOptions = CopyOptions { verify: true };
const PLAIN: CopyOptions = CopyOptions { verify: false };

#[test]
fn a_copy_shows_everything_that_the_source_shows() {
    let _unset = together();
    run(async {
        for (from, to) in directions() {
            let (source, target) = (Site::new(from), Site::new(to));
            let registry = source.opened().await;
            let filled = fill(&registry, 12).await;
            let before = portrait(&registry, &filled.times).await;
            let report = copy_into(&registry, &target, VERIFY, &Progress::silent())
                .await
                .unwrap();
            assert!(report.is_whole() && !report.resumed, "{report:?}");
            assert_eq!((report.present, report.strangers), (0, 0));
            assert_eq!(report.objects, report.rows["blobs"] - 12, "{report:?}");
            let manifests = report.rows["manifests"];
            assert_eq!(report.verified, report.rows["blobs"] + manifests);
            let copy = target.opened().await;
            assert_eq!(portrait(&copy, &filled.times).await, before);
            assert!(assert_complete(&copy).await > 20);
            assert_withdrawn(&copy, &filled.session).await;
            // Nothing of the source changed.
            assert_eq!(portrait(&registry, &filled.times).await, before);
            go_on(&copy).await;
        }
    });
}

/// A repository that was removed arrives as such, and goes there.
#[test]
fn what_was_removed_is_not_there_in_a_copy_either() {
    let _unset = together();
    run(async {
        for (from, to) in directions() {
            let (source, target) = (Site::new(from), Site::new(to));
            let registry = source.opened().await;
            let bytes = content(1, LARGE);
            for repository in ["a/b", "c/d"] {
                let digest = push(&registry, repository, &bytes).await.unwrap();
                let body = image(&[(digest, bytes.len())]);
                put(&registry, repository, "v", &body).await.unwrap();
            }
            let repository = "a/b".parse().unwrap();
            let command = AccountsCommand::RemoveRepository { repository };
            registry.administer(command).await.unwrap();
            let report = copy_into(&registry, &target, VERIFY, &Progress::silent()).await;
            assert!(report.unwrap().is_whole());
            let copy = target.opened().await;
            let removed = resolve(&copy, "a/b", "v").await;
            assert!(matches!(removed, Err(RegistryError::NameUnknown(_))));
            resolve(&copy, "c/d", "v").await.unwrap();
            assert_eq!(collect(&copy).await.repositories, 1);
            assert_eq!(collect(&copy).await.repositories, 0);
            let digest = granary_oci::Digest::sha256(&bytes);
            assert_eq!(pull(&copy, "c/d", &digest).await, Some(bytes));
        }
    });
}

/// A quota arrives, and what counts is counted there.
#[test]
fn a_copy_counts_what_its_namespaces_hold() {
    let _unset = together();
    run(async {
        for (from, to) in directions() {
            let (source, target) = (Site::new(from), Site::new(to));
            let registry = source.opened().await;
            let change = NamespaceChange {
                quota_bytes: Some(500),
                ..NamespaceChange::default()
            };
            let operator = Authority::operator();
            let catalog = registry.catalog();
            let change = catalog.change_namespace(&operator, "a".to_owned(), change);
            change.await.unwrap().unwrap().unwrap();
            registry.catalog().count_usage().await.unwrap();
            for number in 0..2 {
                let bytes = content(number, LARGE);
                push(&registry, "a/b", &bytes).await.unwrap();
            }
            put(&registry, "a/b", "v", &image(&[])).await.unwrap();
            let before = registry.catalog().namespace("a").await.unwrap();
            let report = copy_into(&registry, &target, VERIFY, &Progress::silent()).await;
            assert!(report.unwrap().is_whole());
            let copy = target.opened().await;
            copy.catalog().count_usage().await.unwrap();
            assert_eq!(copy.catalog().namespace("a").await.unwrap(), before);
            let refused = push(&copy, "a/b", &content(2, LARGE)).await;
            let refused = refused.unwrap_err().to_string();
            assert!(refused.contains("400 of the 500 bytes"), "{refused}");
        }
    });
}

/// New rows get numbers that no copied one has.
async fn go_on(copy: &Registry) {
    for number in 500..510 {
        let bytes = content(number, LARGE);
        let digest = push(copy, "team/app", &bytes).await.unwrap();
        let body = image(&[(digest, bytes.len())]);
        let put = put(copy, "fresh/name", "v", &body).await;
        // The repository does not have the blob, so this is a refusal and no failure of the database.
        assert!(matches!(put, Err(RegistryError::ContentMissing(_))));
        crate::world::put(copy, "team/app", "v", &body)
            .await
            .unwrap();
        push(copy, "fresh/name", &bytes).await.unwrap();
        let done = crate::world::put(copy, "fresh/name", "v", &body)
            .await
            .unwrap();
        assert_eq!(
            resolve(copy, "fresh/name", "v").await.unwrap().digest,
            done.digest
        );
        assert_eq!(pull(copy, "fresh/name", &digest).await, Some(bytes));
    }
    collect(copy).await;
    collect(copy).await;
    assert_complete(copy).await;
}

/// Stops at the `step`-th sign of progress.
async fn copy_until(
    from: &Registry,
    to: &Site,
    step: u64,
) -> Option<Result<granary_registry::CopyReport, CopyError>> {
    let (reached, seen) = (Arc::new(Notify::new()), AtomicU64::new(0));
    let tell = Arc::clone(&reached);
    let progress = Progress::new(move |_, _| {
        if seen.fetch_add(1, Ordering::SeqCst) == step {
            tell.notify_one();
        }
    });
    tokio::select! {
        biased;
        () = reached.notified() => None,
        done = copy_into(from, to, PLAIN, &progress) => Some(done),
    }
}

#[test]
fn a_copy_that_was_cut_anywhere_goes_on() {
    let _unset = together();
    run(async {
        for (from, to) in directions() {
            let (source, target) = (Site::new(from), Site::new(to));
            let registry = source.opened().await;
            // So many that a cut comes among their objects, too.
            let filled = fill(&registry, 30).await;
            let (mut resumed, mut refusals) = (0, 0);
            let report = loop {
                // Far enough, in time, to get past the tables without rows, of which a copy notes nothing.
                match copy_until(&registry, &target, 1 + resumed % 8 + resumed / 4).await {
                    None => resumed += 1,
                    // The cut came while the last transaction was on its way.
                    Some(Err(CopyError::Finished)) if resumed > 9 => break None,
                    Some(done) => break Some(done.unwrap()),
                }
                let catalog = target.catalog().await;
                // The first cuts may come before the copy was noted.
                if catalog.unfinished_copy().await.unwrap().is_some() {
                    refusals += 1;
                    let refused = Registry::open(catalog, Box::new(target.store()), no_grace());
                    let refused = refused.await.err();
                    let named = matches!(refused, Some(OpenError::UnfinishedCopy));
                    assert!(named, "after {resumed} cuts: {refused:?}");
                }
            };
            if let Some(report) = report {
                assert!(report.resumed && report.is_whole(), "{report:?}");
                assert!(report.present > 0, "{report:?}");
            }
            assert!(resumed > 9, "{resumed}");
            let again = copy_into(&registry, &target, PLAIN, &Progress::silent()).await;
            assert!(matches!(again, Err(CopyError::Finished)), "{again:?}");
            assert!(refusals > 0, "a half copied catalog was never refused");
            let copy = target.opened().await;
            let expected = portrait(&registry, &filled.times).await;
            assert_eq!(portrait(&copy, &filled.times).await, expected);
            go_on(&copy).await;
        }
    });
}

#[test]
fn a_source_that_was_used_in_between_is_copied_anew() {
    let _unset = together();
    run(async {
        for (from, to) in directions() {
            let (source, target) = (Site::new(from), Site::new(to));
            let registry = source.opened().await;
            let mut filled = fill(&registry, 6).await;
            assert!(copy_until(&registry, &target, 30).await.is_none());
            put(&registry, "alone", "later", &image(&[])).await.unwrap();
            put(&registry, "team/app", "Z", &image(&[(filled.layer, 1)]))
                .await
                .err();
            put(&registry, "alone", "latest", &image(&[]))
                .await
                .unwrap();
            filled.times.push(registry.catalog().now().await.unwrap());
            let report = copy_into(&registry, &target, PLAIN, &Progress::silent())
                .await
                .unwrap();
            assert!(!report.resumed);
            let copy = target.opened().await;
            let expected = portrait(&registry, &filled.times).await;
            assert_eq!(portrait(&copy, &filled.times).await, expected);
            go_on(&copy).await;
        }
    });
}

#[test]
fn what_is_missing_or_damaged_is_listed_and_not_served() {
    let _unset = together();
    run(async {
        for (from, to) in directions() {
            let (source, target) = (Site::new(from), Site::new(to));
            let registry = source.opened().await;
            let bytes: Vec<_> = (0..4).map(|number| content(number, LARGE)).collect();
            let mut digests = Vec::new();
            for bytes in &bytes {
                digests.push(push(&registry, "a/b", bytes).await.unwrap());
            }
            let file = async |digest| source.object(&key_of(&registry, digest).await);
            let path = file(&digests[0]).await;
            std::fs::remove_file(path).unwrap();
            let mut wrong = bytes[1].to_vec();
            wrong[50] ^= 1;
            std::fs::write(file(&digests[1]).await, wrong).unwrap();
            std::fs::write(file(&digests[2]).await, &bytes[2][..9]).unwrap();
            let report = copy_into(&registry, &target, PLAIN, &Progress::silent())
                .await
                .unwrap();
            assert!(!report.is_whole());
            let listed = |list: &[granary_registry::Damage]| {
                let mut digests: Vec<_> = list.iter().map(|one| one.digest.clone()).collect();
                digests.sort();
                digests
            };
            let mut damaged = vec![digests[1].to_string(), digests[2].to_string()];
            damaged.sort();
            assert_eq!(listed(&report.missing), [digests[0].to_string()]);
            assert_eq!(listed(&report.damaged), damaged);
            let copy = target.opened().await;
            for (number, digest) in digests.iter().enumerate() {
                let expected = (number == 3).then(|| bytes[3].clone());
                assert_eq!(pull(&copy, "a/b", digest).await, expected, "{number}");
                push(&copy, "a/b", &bytes[number]).await.unwrap();
                assert!(pull(&copy, "a/b", digest).await.is_some());
            }
            // Known damage is no news.
            registry.scrub(u64::MAX, &Progress::silent()).await.unwrap();
            let again = Site::new(to);
            let report = copy_into(&registry, &again, VERIFY, &Progress::silent())
                .await
                .unwrap();
            assert!(report.is_whole());
            assert_eq!((report.quarantined, report.objects), (3, 1));
            assert_eq!(pull(&again.opened().await, "a/b", &digests[0]).await, None);
        }
    });
}

#[test]
fn verifying_repairs_what_lies_damaged_in_the_target() {
    let _unset = together();
    run(async {
        let (from, to) = directions()[0];
        let (source, target) = (Site::new(from), Site::new(to));
        let registry = source.opened().await;
        let bytes = content(1, LARGE);
        let digest = push(&registry, "a/b", &bytes).await.unwrap();
        let key = key_of(&registry, &digest).await;
        target.store();
        std::fs::write(target.object(&key), vec![b'?'; LARGE]).unwrap();
        let stranger = "00/00000000000000000000000000000000";
        std::fs::write(target.object(stranger), "x").unwrap();
        let report = copy_into(&registry, &target, VERIFY, &Progress::silent())
            .await
            .unwrap();
        assert!(report.is_whole());
        assert_eq!((report.objects, report.present, report.verified), (1, 0, 1));
        assert_eq!(
            (report.strangers, &*report.stranger_keys),
            (1, &[stranger.to_owned()][..])
        );
        assert_eq!(
            pull(&target.opened().await, "a/b", &digest).await,
            Some(bytes)
        );
    });
}

#[test]
fn a_target_that_is_something_else_is_refused() {
    let _unset = together();
    run(async {
        let (from, to) = directions()[0];
        let source = Site::new(from);
        let registry = source.opened().await;
        push(&registry, "a/b", &content(1, LARGE)).await.unwrap();
        let copying = async |target: &Site| {
            copy_into(&registry, target, PLAIN, &Progress::silent())
                .await
                .err()
                .unwrap()
        };
        // One that was opened has an identity of its own, also if nothing was pushed to it.
        let used = Site::new(to);
        used.opened().await.drain().await;
        let refused = copying(&used).await;
        assert!(matches!(refused, CopyError::Occupied(_)), "{refused}");
        // A store of another installation.
        let half = Site::new(to);
        half.store().identity("another").await.unwrap();
        let refused = copying(&half).await;
        assert!(
            matches!(refused, CopyError::ForeignStore { side: "target", .. }),
            "{refused}"
        );
        // A copy of another one.
        let other = Site::new(from);
        let others = other.opened().await;
        let refused = copy_into(&others, &half, PLAIN, &Progress::silent()).await;
        assert!(matches!(refused, Err(CopyError::Occupied(_))));
        // One that was never used has nothing to copy.
        let empty = Site::new(from);
        let (catalog, store) = (empty.catalog().await, empty.store());
        let nothing = Side {
            catalog: &catalog,
            store: &store as &dyn BlobStore,
        };
        let target = Site::new(to);
        let (catalog, store) = (target.catalog().await, target.store());
        let to = Side {
            catalog: &catalog,
            store: &store as &dyn BlobStore,
        };
        let refused =
            granary_registry::copy_installation(nothing, to, PLAIN, &Progress::silent()).await;
        assert!(matches!(refused, Err(CopyError::Empty)));
    });
}

#[test]
fn many_rows_and_heavy_ones_arrive() {
    let _unset = together();
    run(async {
        let (from, to) = directions()[0];
        let (source, target) = (Site::new(from), Site::new(to));
        let rules = granary_registry::Rules {
            inline_max: 2 << 20,
            ..no_grace()
        };
        let registry = source.registry(rules).await;
        for number in 0..12 {
            push(&registry, "heavy", &content(number, 1_500_000))
                .await
                .unwrap();
        }
        for number in 0..1203 {
            push(&registry, "light", &content(number, 10))
                .await
                .unwrap();
        }
        let report = copy_into(&registry, &target, VERIFY, &Progress::silent())
            .await
            .unwrap();
        assert_eq!((report.rows["blobs"], report.verified), (1215, 1215));
        assert_eq!(assert_complete(&target.opened().await).await, 1215);
    });
}

#[test]
fn kinds_are_what_this_binary_can_start() {
    let postgres = directions()
        .iter()
        .any(|(from, to)| *from == Kind::Postgres || *to == Kind::Postgres);
    assert_eq!(postgres, crate::world::is_postgres());
}
