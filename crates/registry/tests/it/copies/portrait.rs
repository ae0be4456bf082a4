//! An installation with something of everything in it, and a description of all that can be seen of one.

use bytes::Bytes;
use granary_catalog::{BlobPlace, ScrubItem, ScrubKind};
use granary_oci::{Digest, Reference};
use granary_registry::{ManifestRequest, Precondition, ReferrerFilter, Registry, RegistryError};

use crate::world::{
    LARGE, Leave, WHO, append, begin, collect, content, image, name, push, put, read, resolve, tag,
};
use granary_oci::ByteRange;

/// What was put into an installation.
pub(super) struct Filled {
    /// Times between the moves of tags.
    pub(super) times: Vec<i64>,
    /// An open session.
    pub(super) session: String,
    /// A blob with an object that manifests refer to.
    pub(super) layer: Digest,
}

/// Repositories, images, moves, referrers, mounts, removals, damage and an open session.
pub(super) async fn fill(registry: &Registry, images: usize) -> Filled {
    let mut times = Vec::new();
    let mut layer = None;
    for number in 0..images {
        let repository = ["team/app", "team/tool", "alone"][number % 3];
        let small = content(number, 40);
        let large = content(1000 + number, LARGE + number * 7);
        let (a, b) = (
            push(registry, repository, &small).await.unwrap(),
            push(registry, repository, &large).await.unwrap(),
        );
        layer = Some(b);
        let body = image(&[(a, small.len()), (b, large.len())]);
        put(registry, repository, "latest", &body).await.unwrap();
        put(registry, repository, &format!("v{number}"), &body)
            .await
            .unwrap();
        times.push(registry.catalog().now().await.unwrap());
        refer(registry, repository, &body, number).await;
    }
    let layer = layer.unwrap();
    let other = name("other/place");
    registry
        .pushes(other.as_str())
        .await
        .mount(None, &layer)
        .await
        .unwrap();
    // A name that needs every byte of its order.
    put(registry, "team/app", "Z", &image(&[])).await.unwrap();
    put(registry, "team/app", "_a", &image(&[])).await.unwrap();
    delete(registry, "team/app", "v0").await;
    let gone = put(registry, "alone", "gone", &index(7)).await.unwrap();
    delete(registry, "alone", &gone.digest.to_string()).await;
    times.push(registry.catalog().now().await.unwrap());
    // A blob that nobody refers to goes, so that numbers are missing.
    push(registry, "alone", &content(9999, LARGE))
        .await
        .unwrap();
    collect(registry).await;
    collect(registry).await;
    collect(registry).await;
    let session = begin(registry, "a/b").await;
    append(registry, "a/b", &session, &content(5, 2 * LARGE))
        .await
        .unwrap();
    Filled {
        times,
        session,
        layer,
    }
}

fn index(number: usize) -> Bytes {
    let media_type = "application/vnd.oci.image.index.v1+json";
    format!(r#"{{"schemaVersion":2,"mediaType":"{media_type}","manifests":[],"annotations":{{"n":"{number}"}}}}"#)
        .into()
}

/// Pushes a manifest about another.
async fn refer(registry: &Registry, repository: &str, subject: &Bytes, number: usize) {
    let digest = Digest::sha256(subject);
    let size = subject.len();
    let media_type = "application/vnd.oci.image.manifest.v1+json";
    let body = format!(
        r#"{{"schemaVersion":2,"mediaType":"{media_type}","artifactType":"application/x-signature","layers":[],
"subject":{{"mediaType":"{media_type}","digest":"{digest}","size":{size}}},"annotations":{{"n":"{number}","name":"Äpfel"}}}}"#
    );
    let body = Bytes::from(body);
    let request = ManifestRequest {
        reference: Reference::Digest(Digest::sha256(&body)),
        tags: Vec::new(),
        content_type: Some(media_type.to_owned()),
        precondition: Precondition::None,
        body,
    };
    registry
        .pushes(repository)
        .await
        .put_manifest(request)
        .await
        .unwrap();
}

async fn delete(registry: &Registry, repository: &str, reference: &str) {
    let reference: Reference = reference.parse().unwrap();
    registry
        .deletes(repository)
        .await
        .delete_manifest(&reference, Precondition::None)
        .await
        .unwrap();
}

/// Everything that can be seen of an installation, one line each.
pub(super) async fn portrait(registry: &Registry, times: &[i64]) -> Vec<String> {
    let mut lines = Vec::new();
    let (mut last, mut repositories) = (String::new(), Vec::new());
    loop {
        let page = registry.repositories(&WHO, &last, 2).await.unwrap();
        let Some(end) = page.last() else { break };
        last.clone_from(end);
        repositories.extend(page);
    }
    for repository in repositories {
        let tags = registry
            .reads(&repository)
            .await
            .tags("", 10_000)
            .await
            .unwrap();
        lines.push(format!("repository {repository}: {tags:?}"));
        for text in tags.iter().map(String::as_str).chain(["v0", "gone"]) {
            for time in times {
                let then = registry
                    .reads(&repository)
                    .await
                    .resolve_at(&tag(text), *time)
                    .await;
                let then = match then {
                    Ok(manifest) => manifest.digest.to_string(),
                    Err(error) => error.to_string(),
                };
                lines.push(format!("{repository}:{text} at {time}: {then}"));
            }
        }
        for text in &tags {
            let manifest = resolve(registry, &repository, text).await.unwrap();
            lines.push(format!("{repository}:{text} is {manifest:?}"));
            let filter = ReferrerFilter::default();
            let referrers = registry
                .reads(&repository)
                .await
                .referrers(&manifest.digest, &filter)
                .await
                .unwrap();
            lines.push(format!("about {repository}:{text}: {referrers:?}"));
        }
    }
    for kind in [ScrubKind::Blob, ScrubKind::Manifest] {
        for item in every(registry, kind).await {
            let known = registry.catalog().explain(&item.digest).await.unwrap();
            lines.push(format!("{item:?} {known:?}"));
        }
    }
    lines
}

/// All rows of one kind.
async fn every(registry: &Registry, kind: ScrubKind) -> Vec<ScrubItem> {
    let mut items: Vec<ScrubItem> = Vec::new();
    loop {
        let after = items.last().map_or(0, |item| item.id);
        let page = registry.catalog().scrub_page(kind, after, 1000).await;
        let page = page.unwrap();
        if page.is_empty() {
            return items;
        }
        items.extend(page);
    }
}

/// Every blob that can be served has the bytes of its digest, and every manifest all of its blobs.
pub(super) async fn assert_complete(registry: &Registry) -> usize {
    let mut checked = 0;
    let blobs = every(registry, ScrubKind::Blob).await;
    for item in blobs.iter().filter(|item| !item.quarantined) {
        let Some(last) = item.size.checked_sub(1) else {
            continue;
        };
        let blob = granary_registry::StoredBlob {
            size: item.size,
            place: item.place.clone(),
            referenced: true,
            leased_until: 0,
        };
        let range = ByteRange { first: 0, last };
        let bytes = read(registry, &item.digest, &blob, range).await;
        assert_eq!(item.digest.algorithm().digest(&bytes), item.digest);
        checked += 1;
    }
    for repository in registry.repositories(&WHO, "", 10_000).await.unwrap() {
        for text in registry
            .reads(&repository)
            .await
            .tags("", 10_000)
            .await
            .unwrap()
        {
            let manifest = resolve(registry, &repository, &text).await.unwrap();
            let json: serde_json::Value = serde_json::from_slice(&manifest.payload).unwrap();
            for layer in json["layers"].as_array().into_iter().flatten() {
                let digest: Digest = layer["digest"].as_str().unwrap().parse().unwrap();
                let found = registry.reads(&repository).await.blob(&digest).await;
                assert!(
                    found.is_ok(),
                    "{repository}:{text} lacks {digest}: {found:?}"
                );
            }
        }
    }
    checked
}

/// The object of a blob.
pub(super) async fn key_of(registry: &Registry, digest: &Digest) -> String {
    let blobs = every(registry, ScrubKind::Blob).await;
    let item = blobs.into_iter().find(|item| item.digest == *digest);
    match item.unwrap().place {
        BlobPlace::Object(key) => key,
        BlobPlace::Inline(_) => panic!("the blob has no object"),
    }
}

/// The session is not known.
pub(super) async fn assert_withdrawn(registry: &Registry, session: &str) {
    let status = registry.pushes("a/b").await.upload_status(session).await;
    assert!(matches!(status, Err(RegistryError::UploadUnknown(_))));
}
