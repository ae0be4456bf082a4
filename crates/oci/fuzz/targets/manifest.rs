//! Manifests. The first line is the `Content-Type`, none if it is empty; the rest is the body.
#![no_main]

use std::collections::HashMap;

use granary_oci::{Digest, EdgeKind, Manifest};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

fuzz_target!(|bytes: &[u8]| {
    let cut = bytes.iter().position(|&byte| byte == b'\n').unwrap_or(0);
    let (first, body) = bytes.split_at(cut);
    let content_type = std::str::from_utf8(first)
        .ok()
        .filter(|line| !line.is_empty());
    let Ok(manifest) = Manifest::parse(body, content_type) else {
        return;
    };
    assert_eq!(Manifest::parse(body, content_type), Ok(manifest.clone()));

    let edges: HashMap<Digest, EdgeKind> = manifest
        .edges
        .iter()
        .map(|edge| (edge.digest, edge.kind))
        .collect();
    assert_eq!(
        edges.len(),
        manifest.edges.len(),
        "a digest stands there twice"
    );

    // A body that was taken is JSON, and the digests of the places that the specifications name are edges.
    let value: Value = serde_json::from_slice(body).expect("it was parsed before");
    let list = |field: &str| {
        value
            .get(field)
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
    };
    let content = value
        .get("config")
        .into_iter()
        .chain(list("layers"))
        .chain(list("blobs"));
    for descriptor in content
        .chain(list("manifests"))
        .filter(|item| item.is_object())
    {
        let Some(digest) = digest_of(descriptor) else {
            continue;
        };
        assert!(edges.contains_key(&digest), "{digest} is no edge");
    }
    for descriptor in list("manifests").filter_map(digest_of) {
        assert_ne!(edges[&descriptor], EdgeKind::Optional);
    }
    assert_eq!(manifest.subject, value.get("subject").and_then(digest_of));

    let digest = Digest::sha256(body);
    let text = manifest.referrer_descriptor(&digest, body.len());
    let descriptor: Value = serde_json::from_str(&text).expect("a descriptor is JSON");
    assert_eq!(digest_of(&descriptor), Some(digest));
    assert_eq!(descriptor["mediaType"], manifest.media_type.as_str());
});

fn digest_of(descriptor: &Value) -> Option<Digest> {
    descriptor.get("digest")?.as_str()?.parse().ok()
}
