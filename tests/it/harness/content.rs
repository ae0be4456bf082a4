//! Things to push.

use bytes::Bytes;
use granary_oci::{Algorithm, Digest};
use serde_json::{Value, json};

pub(crate) const IMAGE: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(crate) const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
pub(crate) const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
pub(crate) const EMPTY: &str = "application/vnd.oci.empty.v1+json";
pub(crate) const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
pub(crate) const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";

/// Bytes without a pattern, always the same for a seed.
pub(crate) fn noise(length: usize, seed: u64) -> Bytes {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes.into()
}

pub(crate) fn sha256(content: &[u8]) -> String {
    Digest::sha256(content).to_string()
}

pub(crate) fn sha512(content: &[u8]) -> String {
    Algorithm::Sha512.digest(content).to_string()
}

/// The descriptor of some content.
pub(crate) fn descriptor(media_type: &str, content: &[u8]) -> Value {
    json!({"mediaType": media_type, "digest": sha256(content), "size": content.len()})
}

/// An image of one small layer.
pub(crate) struct Image {
    pub(crate) config: Bytes,
    pub(crate) layer: Bytes,
    pub(crate) manifest: Bytes,
}

impl Image {
    pub(crate) fn digest(&self) -> String {
        sha256(&self.manifest)
    }

    pub(crate) fn descriptor(&self) -> Value {
        descriptor(IMAGE, &self.manifest)
    }
}

/// An image that differs from those of other seeds in all its parts.
pub(crate) fn image(seed: u64) -> Image {
    let config = json!({"architecture": "amd64", "os": "linux", "config": {"Labels": {"seed": seed.to_string()}}});
    let config = Bytes::from(config.to_string());
    let layer = noise(500, seed);
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": IMAGE,
        "config": descriptor(CONFIG, &config),
        "layers": [descriptor(LAYER, &layer)],
    });
    Image {
        config,
        layer,
        manifest: manifest.to_string().into(),
    }
}

/// An index of these descriptors.
pub(crate) fn index(manifests: &[Value]) -> Bytes {
    json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests})
        .to_string()
        .into()
}

/// An artifact without content; its one blob is `{}`.
pub(crate) fn artifact(artifact_type: &str, subject: Option<Value>, annotations: Value) -> Bytes {
    let empty = descriptor(EMPTY, b"{}");
    let mut manifest = json!({
        "schemaVersion": 2,
        "mediaType": IMAGE,
        "artifactType": artifact_type,
        "config": empty,
        "layers": [empty],
        "annotations": annotations,
    });
    if let Some(subject) = subject {
        manifest["subject"] = subject;
    }
    manifest.to_string().into()
}
