//! Builds what is to be imported.

use std::{
    fs,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use granary_oci::Digest;
use granary_registry::{
    Findings, ImportReport, ImportRequest, ImportSource, Kind, MovingError, Progress, Registry,
};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::world::{self, content};

pub(crate) const IMAGE: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// An image that differs by its number.
pub(crate) struct Image {
    pub(crate) config: Bytes,
    pub(crate) layer: Bytes,
    pub(crate) manifest: Bytes,
}

impl Image {
    pub(crate) fn new(number: usize) -> Self {
        Self::with(number, content(number, 300))
    }

    pub(crate) fn with(number: usize, layer: Bytes) -> Self {
        let config = Bytes::from(json!({"number": number}).to_string());
        let manifest = json!({
            "schemaVersion": 2, "mediaType": IMAGE,
            "config": descriptor("application/vnd.oci.image.config.v1+json", &config),
            "layers": [descriptor("application/vnd.oci.image.layer.v1.tar", &layer)],
        });
        Self {
            config,
            layer,
            manifest: manifest.to_string().into(),
        }
    }

    pub(crate) fn digest(&self) -> Digest {
        Digest::sha256(&self.manifest)
    }
}

pub(crate) fn descriptor(media_type: &str, bytes: &[u8]) -> Value {
    json!({"mediaType": media_type, "digest": Digest::sha256(bytes).to_string(), "size": bytes.len()})
}

pub(crate) fn index(manifests: &[Value]) -> Bytes {
    json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests})
        .to_string()
        .into()
}

/// An artifact with a subject; its one blob is `{}`.
pub(crate) fn referrer(subject: &[u8], number: usize) -> Bytes {
    let empty = descriptor("application/vnd.oci.empty.v1+json", b"{}");
    let mut manifest = json!({
        "schemaVersion": 2, "mediaType": IMAGE, "artifactType": "application/x-signature",
        "config": empty, "layers": [empty], "subject": descriptor(IMAGE, subject),
    });
    // The first has no annotations, others have one that is not the tag they get.
    if number > 1 {
        manifest["annotations"] = json!({
            "number": number.to_string(),
            "org.opencontainers.image.ref.name": "misleading",
        });
    }
    manifest.to_string().into()
}

/// The storage of a distribution registry.
pub(crate) struct Tree {
    pub(crate) folder: TempDir,
}

impl Tree {
    pub(crate) fn new() -> Self {
        Self {
            folder: world::folder(),
        }
    }

    pub(crate) fn path(&self, rest: &str) -> PathBuf {
        self.folder.path().join("docker/registry/v2").join(rest)
    }

    pub(crate) fn write(&self, path: &str, bytes: &[u8]) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    /// Where a blob lies.
    pub(crate) fn data(&self, digest: &Digest) -> PathBuf {
        let text = digest.to_string();
        let (algorithm, hex) = text.split_once(':').unwrap();
        self.path(&format!("blobs/{algorithm}/{}/{hex}/data", &hex[..2]))
    }

    pub(crate) fn blob(&self, bytes: &[u8]) -> Digest {
        let digest = Digest::sha256(bytes);
        let path = self.data(&digest);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
        digest
    }

    /// A blob and its link into a repository.
    pub(crate) fn layer(&self, repository: &str, bytes: &[u8]) -> Digest {
        let digest = self.blob(bytes);
        self.write(
            &layer_link(repository, &digest),
            digest.to_string().as_bytes(),
        );
        digest
    }

    /// A manifest and its link into a repository.
    pub(crate) fn manifest(&self, repository: &str, bytes: &[u8]) -> Digest {
        let digest = self.blob(bytes);
        self.write(
            &revision_link(repository, &digest),
            digest.to_string().as_bytes(),
        );
        digest
    }

    pub(crate) fn tag(&self, repository: &str, tag: &str, digest: &Digest) {
        let text = digest.to_string();
        let (algorithm, hex) = text.split_once(':').unwrap();
        let folder = format!("repositories/{repository}/_manifests/tags/{tag}");
        self.write(&format!("{folder}/current/link"), text.as_bytes());
        self.write(
            &format!("{folder}/index/{algorithm}/{hex}/link"),
            text.as_bytes(),
        );
    }

    /// A tagged image with everything that belongs to it.
    pub(crate) fn image(&self, repository: &str, tag: &str, image: &Image) -> Digest {
        self.layer(repository, &image.config);
        self.layer(repository, &image.layer);
        let digest = self.manifest(repository, &image.manifest);
        self.tag(repository, tag, &digest);
        digest
    }
}

pub(crate) fn layer_link(repository: &str, digest: &Digest) -> String {
    let folder = digest.to_string().replace(':', "/");
    format!("repositories/{repository}/_layers/{folder}/link")
}

pub(crate) fn revision_link(repository: &str, digest: &Digest) -> String {
    let folder = digest.to_string().replace(':', "/");
    format!("repositories/{repository}/_manifests/revisions/{folder}/link")
}

pub(crate) fn tag_link(repository: &str, tag: &str) -> String {
    format!("repositories/{repository}/_manifests/tags/{tag}/current/link")
}

/// Files of an image layout, to be written as a folder or an archive.
#[derive(Default)]
pub(crate) struct Layout {
    pub(crate) files: Vec<(String, Bytes)>,
    pub(crate) entries: Vec<Value>,
}

impl Layout {
    pub(crate) fn blob(&mut self, digest: &Digest, bytes: &Bytes) {
        let path = format!("blobs/{}", digest.to_string().replace(':', "/"));
        self.files.push((path, bytes.clone()));
    }

    pub(crate) fn blobs(&mut self, blobs: &[&Bytes]) {
        for bytes in blobs {
            self.blob(&Digest::sha256(bytes), bytes);
        }
    }

    pub(crate) fn image(&mut self, name: &str, image: &Image) -> Digest {
        self.blobs(&[&image.config, &image.layer, &image.manifest]);
        self.entry(descriptor(IMAGE, &image.manifest), name);
        image.digest()
    }

    pub(crate) fn entry(&mut self, mut descriptor: Value, name: &str) {
        if !name.is_empty() {
            descriptor["annotations"] = json!({"org.opencontainers.image.ref.name": name});
        }
        self.entries.push(descriptor);
    }

    pub(crate) fn all(&self) -> Vec<(String, Bytes)> {
        let mut files = self.files.clone();
        files.push((
            "oci-layout".to_owned(),
            Bytes::from_static(b"{\"imageLayoutVersion\":\"1.0.0\"}"),
        ));
        files.push(("index.json".to_owned(), index(&self.entries)));
        files
    }

    pub(crate) fn folder(&self) -> TempDir {
        let folder = world::folder();
        for (path, bytes) in self.all() {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }
        folder
    }

    /// As an archive, after `change` added what it likes to it.
    pub(crate) fn archive(
        &self,
        change: impl FnOnce(&mut tar::Builder<Vec<u8>>),
    ) -> (TempDir, PathBuf) {
        let mut builder = tar::Builder::new(Vec::new());
        for (path, bytes) in self.all() {
            let mut header = tar::Header::new_gnu();
            header.set_size(bytes.len() as u64);
            header.set_mode(0o644);
            builder.append_data(&mut header, path, &bytes[..]).unwrap();
        }
        change(&mut builder);
        let folder = world::folder();
        let path = folder.path().join("layout.tar");
        fs::write(&path, builder.into_inner().unwrap()).unwrap();
        (folder, path)
    }
}

pub(crate) async fn try_import(
    registry: &Registry,
    source: impl Into<Place>,
    repository: Option<&str>,
    dry_run: bool,
) -> Result<ImportReport, MovingError> {
    try_import_as(registry, source, repository, dry_run, false).await
}

pub(crate) async fn try_import_as(
    registry: &Registry,
    source: impl Into<Place>,
    repository: Option<&str>,
    dry_run: bool,
    in_place: bool,
) -> Result<ImportReport, MovingError> {
    let request = ImportRequest {
        source: source.into().0,
        repository: repository.map(world::name),
        dry_run,
        in_place,
    };
    registry.import(request, &Progress::silent()).await
}

pub(crate) async fn import(
    registry: &Registry,
    source: impl Into<Place>,
    repository: Option<&str>,
) -> ImportReport {
    try_import(registry, source, repository, false)
        .await
        .unwrap()
}

/// Where an import reads from, in the short forms of tests.
pub(crate) struct Place(pub(crate) ImportSource);

impl<P: AsRef<Path> + ?Sized> From<&P> for Place {
    fn from(path: &P) -> Self {
        Self(ImportSource::Path(path.as_ref().to_owned()))
    }
}

impl From<ImportSource> for Place {
    fn from(source: ImportSource) -> Self {
        Self(source)
    }
}

/// Kinds of what was found, with why, in the order they came.
pub(crate) fn kinds(findings: &Findings) -> Vec<(Kind, &str)> {
    assert_eq!(findings.number as usize, findings.shown.len());
    let each = findings.shown.iter();
    each.map(|finding| (finding.kind, finding.why.as_str()))
        .collect()
}
