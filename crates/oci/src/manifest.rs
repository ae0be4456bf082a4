//! Manifests and indexes (image-spec `manifest.md`, `image-index.md`; Docker's "Image Manifest V 2, Schema 2").
//!
//! A manifest is read once, to learn what it refers to. It is stored and served as the bytes that came; nothing
//! here ever writes one.

use serde_json::{Map, Value, json};

use crate::{Digest, DigestError, digest::excerpt};

/// Largest manifest that is accepted, in bytes (the specification asks for at least 4 MB).
pub const MAX_MANIFEST_BYTES: usize = 4 * 1024 * 1024;

/// Most descriptors one manifest may hold.
const MAX_EDGES: usize = 20_000;

/// Media types the registry has to know; every other one is stored all the same.
pub mod media_type {
    /// OCI image manifest.
    pub const IMAGE_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
    /// OCI image index.
    pub const IMAGE_INDEX: &str = "application/vnd.oci.image.index.v1+json";
    /// Docker schema 1, signed or not: refused.
    pub const DOCKER_SCHEMA_1: [&str; 2] = [
        "application/vnd.docker.distribution.manifest.v1+json",
        "application/vnd.docker.distribution.manifest.v1+prettyjws",
    ];
}

/// What to tell a client that pushes Docker schema 1.
pub const SIGNED_SCHEMA_1: &str = "Docker schema 1 manifests are not accepted: push with a client from this decade (docker 1.10 or later), \
                                   which writes schema 2, or convert the image with 'skopeo copy --format v2s2'";

/// Why a body is no manifest. Each message names the place and the remedy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// Larger than [`MAX_MANIFEST_BYTES`].
    #[error(
        "the manifest has more than {MAX_MANIFEST_BYTES} bytes: move what is large into a blob and refer to it"
    )]
    TooLarge,
    /// Not JSON, nested too deeply, or not an object.
    #[error("the manifest is not a JSON object: {0}")]
    Json(String),
    /// Docker schema 1.
    #[error("{SIGNED_SCHEMA_1}")]
    Schema1,
    /// `Content-Type` says one thing, `mediaType` another.
    #[error(
        "Content-Type '{header}' differs from the manifest's mediaType '{field}': send the same in both"
    )]
    MediaTypeDiffers {
        /// The request's header.
        header: String,
        /// The manifest's field.
        field: String,
    },
    /// `manifests` stands beside `config` or `layers`, so that two clients may read two different things.
    #[error(
        "the manifest has both 'manifests' and 'config' or 'layers': it must be an index or an image, not both"
    )]
    Ambiguous,
    /// A descriptor that must be resolved has an unusable digest.
    #[error("{pointer}/digest: {source}")]
    Descriptor {
        /// JSON pointer of the descriptor.
        pointer: String,
        /// What is wrong with it.
        source: DigestError,
    },
    /// A field has the wrong type.
    #[error("{pointer}: {problem}")]
    Field {
        /// JSON pointer of the field.
        pointer: String,
        /// What it should be.
        problem: &'static str,
    },
    /// More descriptors than are followed.
    #[error(
        "the manifest holds more than {MAX_EDGES} descriptors: split it into several, joined by an index"
    )]
    TooManyDescriptors,
}

/// How a manifest refers to content, and so whether that content must be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EdgeKind {
    /// `config`, `layers[]`, `blobs[]`: must be in the repository.
    Content,
    /// `manifests[]` of an index: must be in the repository.
    Child,
    /// A layer that is not meant to be distributed, or a descriptor in a place no specification names: may be missing.
    Optional,
}

/// One reference from a manifest to content. The content may be a blob or a manifest, whatever the field is called
/// (decision 14).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edge {
    /// The content referred to.
    pub digest: Digest,
    /// Whether it must be there.
    pub kind: EdgeKind,
}

/// What the registry needs to know of a manifest.
#[derive(Clone, Debug, PartialEq)]
pub struct Manifest {
    /// Its media type, from `Content-Type`, else from `mediaType`, else from its shape.
    pub media_type: String,
    /// `artifactType`, else `config.mediaType`, else nothing.
    pub artifact_type: Option<String>,
    /// Digest of `subject`.
    pub subject: Option<Digest>,
    /// Everything it refers to, each digest once, its strongest kind first; the subject is not among them.
    pub edges: Vec<Edge>,
    annotations: Option<Map<String, Value>>,
}

impl Manifest {
    /// Reads a manifest as it was sent, with the request's `Content-Type` if it had one.
    pub fn parse(body: &[u8], content_type: Option<&str>) -> Result<Self, ManifestError> {
        if body.len() > MAX_MANIFEST_BYTES {
            return Err(ManifestError::TooLarge);
        }
        let object: Map<String, Value> = serde_json::from_slice(body)
            // serde_json repeats a text that stands where the object should, however long it is.
            .map_err(|error| ManifestError::Json(excerpt(&error.to_string())))?;
        let media_type = decide_media_type(&object, content_type)?;
        if media_type::DOCKER_SCHEMA_1.contains(&media_type.as_str())
            || object.get("schemaVersion") == Some(&json!(1))
        {
            return Err(ManifestError::Schema1);
        }
        if object.contains_key("manifests")
            && (object.contains_key("config") || object.contains_key("layers"))
        {
            return Err(ManifestError::Ambiguous);
        }
        for (field, problem) in [
            ("layers", "must be a list"),
            ("manifests", "must be a list"),
            ("blobs", "must be a list"),
        ] {
            if object.get(field).is_some_and(|value| !value.is_array()) {
                return Err(ManifestError::Field {
                    pointer: format!("/{field}"),
                    problem,
                });
            }
        }
        let artifact_type = text(&object, "artifactType")
            .or_else(|| text(object.get("config")?.as_object()?, "mediaType"));
        refuse_null(artifact_type, "/artifactType")?;
        let subject = read_subject(&object)?;
        let mut edges = Edges::default();
        for (field, value) in object.iter().filter(|(field, _)| *field != "subject") {
            edges.collect(value, &format!("/{field}"), Place::of_field(field), 0)?;
        }
        Ok(Self {
            artifact_type: artifact_type.map(str::to_owned),
            media_type,
            subject,
            edges: edges.list,
            annotations: string_map(object.get("annotations")),
        })
    }

    /// The descriptor that a referrers list shows for this manifest, as JSON text (distribution-spec, "Listing Referrers").
    pub fn referrer_descriptor(&self, digest: &Digest, size: usize) -> String {
        let mut descriptor = Map::new();
        descriptor.insert("mediaType".into(), self.media_type.as_str().into());
        descriptor.insert("digest".into(), digest.to_string().into());
        descriptor.insert("size".into(), size.into());
        if let Some(artifact_type) = &self.artifact_type {
            descriptor.insert("artifactType".into(), artifact_type.as_str().into());
        }
        if let Some(annotations) = &self.annotations {
            descriptor.insert("annotations".into(), Value::Object(annotations.clone()));
        }
        Value::Object(descriptor).to_string()
    }
}

fn decide_media_type(
    object: &Map<String, Value>,
    header: Option<&str>,
) -> Result<String, ManifestError> {
    let field = match object.get("mediaType") {
        None | Some(Value::Null) => None,
        Some(Value::String(field)) => Some(field.as_str()),
        Some(_) => {
            return Err(ManifestError::Field {
                pointer: "/mediaType".into(),
                problem: "must be a text",
            });
        }
    };
    refuse_null(field, "/mediaType")?;
    // Parameters such as `; charset=utf-8` are no part of the type.
    let header = header
        .and_then(|value| value.split(';').next())
        .map(str::trim)
        .filter(|value| !value.is_empty());
    match (header, field) {
        (Some(header), Some(field)) if !header.eq_ignore_ascii_case(field) => {
            Err(ManifestError::MediaTypeDiffers {
                header: excerpt(header),
                field: excerpt(field),
            })
        }
        (Some(given), _) | (None, Some(given)) if given.len() > 255 => Err(ManifestError::Field {
            pointer: "/mediaType".into(),
            problem: "may have at most 255 bytes (RFC 6838)",
        }),
        (_, Some(field)) => Ok(field.to_owned()),
        (Some(header), None) => Ok(header.to_owned()),
        (None, None) if object.contains_key("manifests") => Ok(media_type::IMAGE_INDEX.to_owned()),
        (None, None) => Ok(media_type::IMAGE_MANIFEST.to_owned()),
    }
}

/// U+0000 stands in no type, and a database may refuse it in a text.
fn refuse_null(text: Option<&str>, pointer: &str) -> Result<(), ManifestError> {
    match text.is_some_and(|text| text.contains('\0')) {
        true => Err(ManifestError::Field {
            pointer: pointer.to_owned(),
            problem: "must not hold the character U+0000",
        }),
        false => Ok(()),
    }
}

fn read_subject(object: &Map<String, Value>) -> Result<Option<Digest>, ManifestError> {
    match object.get("subject") {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Object(subject)) => {
            let digest = text(subject, "digest").unwrap_or_default().parse();
            digest
                .map(Some)
                .map_err(|source| ManifestError::Descriptor {
                    pointer: "/subject".into(),
                    source,
                })
        }
        Some(_) => Err(ManifestError::Field {
            pointer: "/subject".into(),
            problem: "must be a descriptor",
        }),
    }
}

/// Where in a manifest a value stands, which decides how binding a descriptor there is.
#[derive(Clone, Copy, PartialEq)]
enum Place {
    Content,
    Child,
    Elsewhere,
}

impl Place {
    fn of_field(field: &str) -> Self {
        match field {
            "config" | "layers" | "blobs" => Self::Content,
            "manifests" => Self::Child,
            _ => Self::Elsewhere,
        }
    }
}

#[derive(Default)]
struct Edges {
    list: Vec<Edge>,
    at: std::collections::HashMap<Digest, usize>,
}

impl Edges {
    /// Walks `value`; serde_json has bounded the depth to 128 already.
    fn collect(
        &mut self,
        value: &Value,
        pointer: &str,
        place: Place,
        depth: u8,
    ) -> Result<(), ManifestError> {
        match value {
            Value::Array(items) => {
                for (number, item) in items.iter().enumerate() {
                    // Only what stands in a named place is refused, so only there a pointer is shown. Elsewhere it
                    // would be a copy of a field's name, as long as a client likes, for every item.
                    let pointer = match place {
                        Place::Elsewhere => String::new(),
                        Place::Content | Place::Child => format!("{pointer}/{number}"),
                    };
                    self.collect(item, &pointer, place, depth + 1)?;
                }
            }
            Value::Object(object) => {
                self.descriptor(object, pointer, place)?;
                for inner in object
                    .values()
                    .filter(|inner| inner.is_object() || inner.is_array())
                {
                    // Whatever lies inside a descriptor or an unknown field is no longer a place a specification names.
                    self.collect(inner, "", Place::Elsewhere, depth + 1)?;
                }
            }
            _ if place != Place::Elsewhere && depth > 0 => {
                return Err(ManifestError::Field {
                    pointer: pointer.to_owned(),
                    problem: "must be a descriptor",
                });
            }
            _ => {}
        }
        Ok(())
    }

    fn descriptor(
        &mut self,
        object: &Map<String, Value>,
        pointer: &str,
        place: Place,
    ) -> Result<(), ManifestError> {
        let media_type = text(object, "mediaType");
        // What stands elsewhere is only looked at, and never kept by itself.
        if place != Place::Elsewhere {
            for field in ["mediaType", "artifactType"] {
                refuse_null(text(object, field), &format!("{pointer}/{field}"))?;
            }
        }
        let digest = match text(object, "digest").unwrap_or_default().parse::<Digest>() {
            Ok(digest) => digest,
            Err(_) if place == Place::Elsewhere || media_type.is_some_and(is_non_distributable) => {
                return Ok(());
            }
            Err(source) => {
                return Err(ManifestError::Descriptor {
                    pointer: pointer.to_owned(),
                    source,
                });
            }
        };
        let kind = match place {
            Place::Content if media_type.is_some_and(is_non_distributable) => EdgeKind::Optional,
            Place::Content => EdgeKind::Content,
            Place::Child => EdgeKind::Child,
            Place::Elsewhere if media_type.is_none() || !object.contains_key("size") => {
                return Ok(());
            }
            Place::Elsewhere => EdgeKind::Optional,
        };
        match self.at.get(&digest) {
            Some(&index) if kind == EdgeKind::Content => self.list[index].kind = kind,
            Some(&index) if self.list[index].kind == EdgeKind::Optional => {
                self.list[index].kind = kind
            }
            Some(_) => {}
            None if self.list.len() == MAX_EDGES => return Err(ManifestError::TooManyDescriptors),
            None => {
                self.at.insert(digest, self.list.len());
                self.list.push(Edge { digest, kind });
            }
        }
        Ok(())
    }
}

/// Layers that need not be pushed (image-spec `layer.md`; Docker's foreign layers).
fn is_non_distributable(media_type: &str) -> bool {
    media_type.starts_with("application/vnd.oci.image.layer.nondistributable.")
        || media_type.starts_with("application/vnd.docker.image.rootfs.foreign.")
}

fn text<'a>(object: &'a Map<String, Value>, field: &str) -> Option<&'a str> {
    object.get(field)?.as_str().filter(|text| !text.is_empty())
}

fn string_map(value: Option<&Value>) -> Option<Map<String, Value>> {
    let map = value?.as_object()?;
    (!map.is_empty() && map.values().all(Value::is_string)).then(|| map.clone())
}

#[cfg(test)]
mod tests;
