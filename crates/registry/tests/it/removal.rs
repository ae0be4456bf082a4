//! Removing a whole repository: it is hidden at once from everybody, what is under way does not bring it back, and whoever
//! gets its name gets nothing of it.

use bytes::Bytes;
use granary_oci::{Digest, Reference};
use granary_registry::{
    AccountsCommand, AccountsError, AccountsReport, Chunk, Precondition, Principal, Progress,
    ReferrerFilter, Registry, RegistryError, Rules, Untagged,
};

use crate::{
    gate::{Gate, alone, run, together},
    world::{
        HOUR, LARGE, Leave, World, append, begin, body, collect, content, finish, image, name,
        no_grace, number, pull, push, put, resolve, slow_body, tag,
    },
};

pub(crate) async fn remove(
    registry: &Registry,
    repository: &str,
) -> Result<AccountsReport, AccountsError> {
    let repository = name(repository);
    let command = AccountsCommand::RemoveRepository { repository };
    registry.administer(command).await
}

pub(crate) fn is_unknown<T: std::fmt::Debug>(result: Result<T, RegistryError>) -> bool {
    matches!(result, Err(RegistryError::NameUnknown(_)))
}

/// Rows that the catalog has of repositories, and of what is in them.
async fn rows(world: &World) -> i64 {
    let mut rows = 0;
    for table in [
        "repositories",
        "tags",
        "tag_history",
        "referrers",
        "manifest_edges",
        "manifests",
        "repository_blobs",
        "removed_manifests",
        "blobs",
        "uploads",
        "upload_tails",
        "doomed_objects",
    ] {
        let count = format!("SELECT COUNT(*) AS number FROM {table}");
        rows += number(world, &count).await;
    }
    rows
}

/// A manifest with a subject, as bytes.
fn referrer(subject: &Bytes, layer: &Digest, size: usize) -> Bytes {
    let manifest = serde_json::json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "artifactType": "application/sbom",
        "layers": [{"mediaType": "application/x", "digest": layer.to_string(), "size": size}],
        "subject": {"mediaType": "application/vnd.oci.image.manifest.v1+json",
            "digest": Digest::sha256(subject).to_string(), "size": subject.len()},
    });
    manifest.to_string().into()
}

/// Fills a repository with something of everything: the layers, and the manifest under `v1`.
async fn fill(registry: &Registry, repository: &str) -> ([Bytes; 2], Bytes) {
    let layers = [content(1, 10), content(2, LARGE)];
    for layer in &layers {
        push(registry, repository, layer).await.unwrap();
    }
    let manifest = image(
        &layers
            .each_ref()
            .map(|bytes| (Digest::sha256(bytes), bytes.len())),
    );
    put(registry, repository, "v1", &manifest).await.unwrap();
    let gone = image(&[]);
    let gone = put(registry, repository, "v1", &gone).await.unwrap().digest;
    put(registry, repository, "v1", &manifest).await.unwrap();
    let (reference, always) = (Reference::Digest(gone), Precondition::None);
    let deletes = registry.deletes(repository).await;
    deletes.delete_manifest(&reference, always).await.unwrap();
    let [small, _] = &layers;
    let signed = referrer(&manifest, &Digest::sha256(small), small.len());
    put(registry, repository, "signed", &signed).await.unwrap();
    (layers, manifest)
}

async fn has_referrers(registry: &Registry, subject: &Bytes) -> bool {
    let (filter, subject) = (ReferrerFilter::default(), Digest::sha256(subject));
    let reads = registry.reads("a/b").await;
    let page = reads.referrers(&subject, &filter).await.unwrap();
    !page.descriptors.is_empty()
}

#[test]
fn a_removed_repository_is_gone_and_its_name_begins_anew() {
    let _unset = together();
    run(async {
        let world = World::new(no_grace()).await;
        let registry = &world.registry;
        let (layers, manifest) = fill(registry, "a/b").await;
        // What is in memory goes as well.
        resolve(registry, "a/b", "v1").await.unwrap();
        assert!(has_referrers(registry, &manifest).await);
        let then = registry.catalog().now().await.unwrap();
        let first = number(&world, "SELECT id AS number FROM repositories").await;
        remove(registry, "a/b").await.unwrap();

        let expect_nothing = async || {
            for layer in &layers {
                let digest = Digest::sha256(layer);
                assert_eq!(pull(registry, "a/b", &digest).await, None);
                for from in [None, Some(name("a/b"))] {
                    let pushes = registry.pushes("c/d").await;
                    assert!(!pushes.mount(from.as_ref(), &digest).await.unwrap());
                }
                let why = registry.catalog().explain(&digest).await.unwrap();
                assert_eq!(why.keepers, []);
            }
            let why = registry.catalog().explain(&Digest::sha256(&manifest)).await;
            let why = why.unwrap();
            assert_eq!((why.manifests, why.keepers.len()), (0, 0));
            assert!(!has_referrers(registry, &manifest).await);
            let reads = registry.reads("a/b").await;
            assert!(reads.resolve_at(&tag("v1"), then).await.is_err());
        };
        expect_nothing().await;
        for reference in ["v1", &Digest::sha256(&manifest).to_string()] {
            assert!(is_unknown(resolve(registry, "a/b", reference).await));
        }
        let reads = registry.reads("a/b").await;
        assert!(is_unknown(reads.tags("", 10).await));
        let all = registry.repositories(&Principal::Operator, "", 10).await;
        assert_eq!(all.unwrap(), Vec::<String>::new());
        assert!(matches!(
            remove(registry, "a/b").await,
            Err(AccountsError::NoSuchRepository(_))
        ));

        // The next one of that name has nothing of it, whatever is still there.
        let missing = put(registry, "a/b", "v2", &manifest).await;
        assert!(matches!(missing, Err(RegistryError::ContentMissing(_))));
        let other = image(&[]);
        put(registry, "a/b", "v2", &other).await.unwrap();
        let second = "SELECT id AS number FROM repositories WHERE name = 'a/b'";
        assert_ne!(number(&world, second).await, first);
        expect_nothing().await;
        let reads = registry.reads("a/b").await;
        assert_eq!(reads.tags("", 10).await.unwrap(), ["v2"]);
        for _ in 0..3 {
            collect(registry).await;
        }
        assert_eq!(world.objects(), 0);
        assert_eq!(resolve(registry, "a/b", "v2").await.unwrap().payload, other);
        assert_eq!(number(&world, second).await, first + 1);
        remove(registry, "a/b").await.unwrap();
        collect(registry).await;
        assert_eq!(rows(&world).await, 0);
    });
}

#[test]
fn what_was_in_it_goes_in_parts() {
    let _unset = together();
    run(async {
        let world = World::new(no_grace()).await;
        let registry = &world.registry;
        for number in 0..250 {
            push(registry, "a/b", &content(number, 20)).await.unwrap();
        }
        let layers: Vec<_> = (0..250)
            .map(|number| (Digest::sha256(&content(number, 20)), 20))
            .collect();
        let manifest = image(&layers);
        for number in 0..210 {
            let tag = format!("v{number}");
            put(registry, "a/b", &tag, &manifest).await.unwrap();
        }
        let kept = content(1, LARGE);
        push(registry, "c/d", &kept).await.unwrap();
        put(
            registry,
            "c/d",
            "v",
            &image(&[(Digest::sha256(&kept), LARGE)]),
        )
        .await
        .unwrap();
        remove(registry, "a/b").await.unwrap();
        let dry = registry.collect(true, &Progress::silent()).await.unwrap();
        assert_eq!((dry.repositories, dry.blobs), (1, 250));
        assert_eq!(collect(registry).await.repositories, 1);
        let report = collect(registry).await;
        assert_eq!((report.repositories, report.blobs), (0, 250));
        assert_eq!(
            pull(registry, "c/d", &Digest::sha256(&kept)).await,
            Some(kept)
        );
        remove(registry, "c/d").await.unwrap();
        for _ in 0..3 {
            collect(registry).await;
        }
        assert_eq!(rows(&world).await, 0);
    });
}

#[test]
fn its_sessions_end_with_it() {
    let _unset = together();
    run(async {
        let world = World::new(no_grace()).await;
        let registry = &world.registry;
        let bytes = content(1, LARGE);
        let (open, closed, other) = (
            begin(registry, "a/b").await,
            begin(registry, "a/b").await,
            begin(registry, "a/c").await,
        );
        // A session alone makes no repository that could be removed.
        assert!(remove(registry, "a/b").await.is_err());
        for id in [&open, &closed] {
            append(registry, "a/b", id, &bytes).await.unwrap();
        }
        append(registry, "a/c", &other, &bytes).await.unwrap();
        finish(registry, "a/b", &closed, &bytes).await.unwrap();
        finish(registry, "a/b", &closed, &bytes).await.unwrap();
        remove(registry, "a/b").await.unwrap();
        for id in [&open, &closed] {
            let refused = append(registry, "a/b", id, &bytes).await;
            assert!(matches!(refused, Err(RegistryError::UploadUnknown(_))));
            let refused = finish(registry, "a/b", id, &bytes).await;
            assert!(matches!(refused, Err(RegistryError::UploadUnknown(_))));
        }
        finish(registry, "a/c", &other, &bytes).await.unwrap();
        remove(registry, "a/c").await.unwrap();
        for _ in 0..3 {
            collect(registry).await;
        }
        assert_eq!((world.objects(), rows(&world).await), (0, 0));
    });
}

#[test]
fn a_manifest_under_way_does_not_bring_it_back() {
    alone(async {
        let world = World::new(no_grace()).await;
        let (_, manifest) = fill(&world.registry, "a/b").await;
        let gate = Gate::shut("manifest::before_put");
        let (registry, again) = (world.registry.clone(), manifest.clone());
        let putting = tokio::spawn(async move { put(&registry, "a/b", "v2", &again).await });
        gate.reached().await;
        remove(&world.registry, "a/b").await.unwrap();
        gate.open();
        let refused = putting.await.unwrap();
        assert!(matches!(refused, Err(RegistryError::ContentMissing(_))));
        assert!(is_unknown(resolve(&world.registry, "a/b", "v2").await));
        // One that needs nothing of what was there makes a repository of its own.
        fill(&world.registry, "a/b").await;
        let gate = Gate::shut("manifest::before_put");
        let registry = world.registry.clone();
        let putting = tokio::spawn(async move { put(&registry, "a/b", "v2", &image(&[])).await });
        gate.reached().await;
        remove(&world.registry, "a/b").await.unwrap();
        gate.open();
        putting.await.unwrap().unwrap();
        let reads = world.registry.reads("a/b").await;
        assert_eq!(reads.tags("", 10).await.unwrap(), ["v2"]);
        collect(&world.registry).await;
        assert_eq!(reads.tags("", 10).await.unwrap(), ["v2"]);
        remove(&world.registry, "a/b").await.unwrap();
        for _ in 0..3 {
            collect(&world.registry).await;
        }
        assert_eq!((world.objects(), rows(&world).await), (0, 0));
    });
}

#[test]
fn a_closing_put_under_way_finds_no_session() {
    alone(async {
        let world = World::new(no_grace()).await;
        let registry = &world.registry;
        fill(registry, "a/b").await;
        let bytes = content(3, LARGE);
        let id = begin(registry, "a/b").await;
        append(registry, "a/b", &id, &bytes).await.unwrap();
        let gate = Gate::shut("upload::before_finish");
        let (other, whole) = (registry.clone(), bytes.clone());
        let finishing = tokio::spawn(async move { finish(&other, "a/b", &id, &whole).await });
        gate.reached().await;
        remove(registry, "a/b").await.unwrap();
        gate.open();
        let refused = finishing.await.unwrap();
        assert!(matches!(refused, Err(RegistryError::UploadUnknown(_))));
        assert!(is_unknown(resolve(registry, "a/b", "v1").await));
        for _ in 0..3 {
            collect(registry).await;
        }
        assert_eq!((world.objects(), rows(&world).await), (0, 0));
    });
}

/// Nobody sends another byte, and nobody waits for one.
#[test]
fn a_chunk_under_way_ends() {
    alone(async {
        let rules = Rules {
            silence: HOUR,
            ..no_grace()
        };
        let world = World::new(rules).await;
        let registry = &world.registry;
        fill(registry, "a/b").await;
        let id = begin(registry, "a/b").await;
        let (sender, slow) = slow_body();
        let gate = Gate::shut("upload::received");
        let other = registry.clone();
        let appending = tokio::spawn(async move {
            let pushes = other.pushes("a/b").await;
            pushes.append(&id, Chunk::default(), slow).await
        });
        sender.send(content(3, LARGE)).unwrap();
        gate.reached().await;
        gate.open();
        remove(registry, "a/b").await.unwrap();
        let refused = appending.await.unwrap();
        assert!(matches!(refused, Err(RegistryError::UploadUnknown(_))));
        drop(sender);
        for _ in 0..3 {
            collect(registry).await;
        }
        assert_eq!((world.objects(), rows(&world).await), (0, 0));
    });
}

#[test]
fn a_mount_under_way_makes_another_repository() {
    alone(async {
        let world = World::new(no_grace()).await;
        let registry = &world.registry;
        let (layers, _) = fill(registry, "a/b").await;
        push(registry, "c/d", &layers[1]).await.unwrap();
        let digest = Digest::sha256(&layers[1]);
        let mounting = async |to: &'static str, from: &'static str| {
            let gate = Gate::shut("mount::before");
            let other = registry.clone();
            let mounting = tokio::spawn(async move {
                let pushes = other.pushes(to).await;
                pushes.mount(Some(&name(from)), &digest).await
            });
            gate.reached().await;
            remove(registry, "a/b").await.unwrap();
            gate.open();
            mounting.await.unwrap().unwrap()
        };
        assert!(mounting("a/b", "c/d").await);
        assert_eq!(
            pull(registry, "a/b", &Digest::sha256(&layers[0])).await,
            None
        );
        assert!(is_unknown(resolve(registry, "e/f", "v").await));
        assert!(!mounting("e/f", "a/b").await);
        assert!(is_unknown(resolve(registry, "e/f", "v").await));
    });
}

#[test]
fn a_collection_under_way_passes_over_it() {
    alone(async {
        let rules = Rules {
            untagged: Untagged::After(std::time::Duration::ZERO),
            ..no_grace()
        };
        let world = World::new(rules).await;
        fill(&world.registry, "a/b").await;
        let manifest = image(&[]);
        let digest = put(&world.registry, "a/b", "gone", &manifest)
            .await
            .unwrap()
            .digest;
        let (reference, always) = (Reference::Digest(digest), Precondition::None);
        let deletes = world.registry.deletes("a/b").await;
        deletes.delete_manifest(&reference, always).await.unwrap();
        push(&world.registry, "a/b", &content(5, LARGE))
            .await
            .unwrap();
        collect(&world.registry).await;
        let gate = Gate::shut("gc::chosen");
        let registry = world.registry.clone();
        let running = tokio::spawn(async move { collect(&registry).await });
        gate.reached().await;
        remove(&world.registry, "a/b").await.unwrap();
        gate.open();
        running.await.unwrap();
        for _ in 0..3 {
            collect(&world.registry).await;
        }
        assert_eq!((world.objects(), rows(&world).await), (0, 0));
    });
}

/// A body that nobody finishes, in one request.
#[test]
fn a_blob_in_one_request_finds_no_session() {
    alone(async {
        let world = World::new(no_grace()).await;
        let registry = &world.registry;
        fill(registry, "a/b").await;
        let gate = Gate::shut("upload::before_finish");
        let (other, bytes) = (registry.clone(), content(7, LARGE));
        let pushing = tokio::spawn(async move {
            let pushes = other.pushes("a/b").await;
            let digest = Digest::sha256(&bytes);
            pushes.push_blob(digest, None, body(bytes)).await
        });
        gate.reached().await;
        remove(registry, "a/b").await.unwrap();
        gate.open();
        let refused = pushing.await.unwrap();
        assert!(matches!(refused, Err(RegistryError::UploadUnknown(_))));
        for _ in 0..3 {
            collect(registry).await;
        }
        assert_eq!((world.objects(), rows(&world).await), (0, 0));
    });
}
