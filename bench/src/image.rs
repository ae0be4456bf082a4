//! Small OCI images that every registry accepts, each different from the others and always the same for one number.

use serde_json::{Value, json};

use crate::content::{content, digest_of};

pub(crate) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

const LAYER_BYTES: usize = 1024;
/// Stands in a template where each manifest gets its own text.
const PLACE: &str = "@unique@";

pub(crate) struct Image {
    pub(crate) config: Vec<u8>,
    pub(crate) layer: Vec<u8>,
    pub(crate) manifest: Vec<u8>,
}

/// An image with a config and one layer that no other number has.
pub(crate) fn image(number: u64) -> Image {
    let (config, layer) = config_and_layer(number);
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": descriptor(CONFIG, &digest_of(&config), config.len()),
        "layers": [descriptor(LAYER, &digest_of(&layer), layer.len())],
    });
    Image {
        config,
        layer,
        manifest: manifest.to_string().into_bytes(),
    }
}

/// A manifest about `subject` that uses the subject's own config and layer, so that it needs no further blobs.
pub(crate) fn referrer(subject: &Image, number: usize) -> Vec<u8> {
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "artifactType": format!("application/vnd.granary.bench.{number}"),
        "config": descriptor(CONFIG, &digest_of(&subject.config), subject.config.len()),
        "layers": [descriptor(LAYER, &digest_of(&subject.layer), subject.layer.len())],
        "subject": descriptor(MANIFEST, &digest_of(&subject.manifest), subject.manifest.len()),
    });
    manifest.to_string().into_bytes()
}

/// A manifest whose layers are blobs that are there already, given by digest and size.
pub(crate) fn holder<'a>(config: &[u8], layers: impl Iterator<Item = (&'a str, usize)>) -> Vec<u8> {
    let layers: Vec<Value> = layers
        .map(|(digest, size)| descriptor(LAYER, digest, size))
        .collect();
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": descriptor(CONFIG, &digest_of(config), config.len()),
        "layers": layers,
    });
    manifest.to_string().into_bytes()
}

/// A text from which [`fill_template`] makes any number of different manifests of one image.
pub(crate) fn template(image: &Image) -> String {
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": descriptor(CONFIG, &digest_of(&image.config), image.config.len()),
        "layers": [descriptor(LAYER, &digest_of(&image.layer), image.layer.len())],
        "annotations": { "org.opencontainers.image.revision": PLACE },
    });
    manifest.to_string()
}

pub(crate) fn fill_template(template: &str, unique: &str) -> String {
    template.replace(PLACE, unique)
}

fn config_and_layer(number: u64) -> (Vec<u8>, Vec<u8>) {
    let layer = content(number, LAYER_BYTES);
    let config = json!({
        "architecture": "amd64",
        "os": "linux",
        "config": { "Labels": { "number": number.to_string() } },
        "rootfs": { "type": "layers", "diff_ids": [digest_of(&layer)] },
    });
    (config.to_string().into_bytes(), layer)
}

fn descriptor(media_type: &str, digest: &str, size: usize) -> Value {
    json!({ "mediaType": media_type, "digest": digest, "size": size })
}
