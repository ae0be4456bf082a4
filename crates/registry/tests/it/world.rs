//! A registry to test, and short ways to use it.

use std::{path::Path, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use granary_blobs::FileStore;
use granary_catalog::Catalog;
use granary_oci::{ByteRange, Digest, Reference, RepositoryName, Tag};
use granary_registry::{
    BlobBody, BodyError, Chunk, Deleting, ManifestRequest, May, Precondition, Principal, Progress,
    Pushing, PutManifest, Reading, Registry, RegistryError, Rules, StoredManifest, Untagged,
};
use tempfile::TempDir;
use tokio::sync::mpsc;

pub(crate) const WHO: Principal = Principal::Local;
pub(crate) const HOUR: Duration = Duration::from_secs(3600);
/// Larger than what these tests keep inline.
pub(crate) const LARGE: usize = 200;

/// Leave for [`WHO`], who may do everything.
pub(crate) trait Leave {
    async fn reads(&self, repository: &str) -> May<Reading>;
    async fn pushes(&self, repository: &str) -> May<Pushing>;
    async fn deletes(&self, repository: &str) -> May<Deleting>;
}

impl Leave for Registry {
    async fn reads(&self, repository: &str) -> May<Reading> {
        self.authorise(&WHO, name(repository)).await.unwrap()
    }

    async fn pushes(&self, repository: &str) -> May<Pushing> {
        self.authorise(&WHO, name(repository)).await.unwrap()
    }

    async fn deletes(&self, repository: &str) -> May<Deleting> {
        self.authorise(&WHO, name(repository)).await.unwrap()
    }
}

/// Rules under which everything unneeded goes at once.
pub(crate) fn no_grace() -> Rules {
    Rules {
        inline_max: 64,
        grace: Duration::ZERO,
        read_grace: Duration::ZERO,
        untagged: Untagged::Keep,
        ..Rules::default()
    }
}

/// A folder with a catalog and a store in it, and a registry over them.
pub(crate) struct World {
    pub(crate) folder: TempDir,
    pub(crate) registry: Registry,
}

/// Whether this is the binary that tests on PostgreSQL.
pub(crate) fn is_postgres() -> bool {
    env!("CARGO_CRATE_NAME") == "it_postgres"
}

/// The catalog of `folder`: a file in it, or its database on a real PostgreSQL if this is the binary for that.
pub(crate) async fn catalog(folder: &Path) -> Catalog {
    if !is_postgres() {
        let path = folder.join("catalog.db");
        return Catalog::open_sqlite(&path).await.unwrap();
    }
    let note = folder.join("database-url");
    if !note.exists() {
        let server = granary_testbed::Postgres::shared().unwrap();
        std::fs::write(&note, server.create_database().unwrap()).unwrap();
    }
    let url = std::fs::read_to_string(note).unwrap();
    Catalog::open_postgres(&url, 8).await.unwrap()
}

pub(crate) async fn open(folder: &Path, rules: Rules) -> Registry {
    let catalog = catalog(folder).await;
    let mut store = FileStore::open(&folder.join("blobs"), 0).unwrap();
    if is_postgres() {
        store = store.shared();
    }
    Registry::open(catalog, Box::new(store), rules)
        .await
        .unwrap()
}

/// A folder in memory where there is one: these tests lose no power, and syncs cost them most of their time.
pub(crate) fn folder() -> TempDir {
    tempfile::tempdir_in("/dev/shm").unwrap_or_else(|_| tempfile::tempdir().unwrap())
}

impl World {
    pub(crate) async fn new(rules: Rules) -> Self {
        Self::in_folder(folder(), rules).await
    }

    pub(crate) async fn in_folder(folder: TempDir, rules: Rules) -> Self {
        let registry = open(folder.path(), rules).await;
        Self { folder, registry }
    }

    /// The same installation after a restart under other rules.
    pub(crate) async fn restarted(self, rules: Rules) -> Self {
        let Self { folder, registry } = self;
        registry.drain().await;
        drop(registry);
        let registry = open(folder.path(), rules).await;
        Self { folder, registry }
    }

    /// Objects that lie in the store.
    pub(crate) fn objects(&self) -> usize {
        self.keys().len()
    }

    /// Their keys.
    pub(crate) fn keys(&self) -> Vec<String> {
        let root = self.folder.path().join("blobs");
        let prefixes = std::fs::read_dir(&root).unwrap();
        let folders = prefixes.map(|entry| entry.unwrap().path());
        let files = folders
            .filter(|path| path.is_dir())
            .flat_map(|path| std::fs::read_dir(path).unwrap())
            .map(|entry| entry.unwrap().path());
        let key = |path: std::path::PathBuf| {
            path.strip_prefix(&root)
                .unwrap()
                .to_str()
                .unwrap()
                .to_owned()
        };
        files.map(key).collect()
    }
}

/// What the catalog's database answers to a question for one number, as `number`.
pub(crate) async fn number(world: &World, question: &str) -> i64 {
    use sea_orm::ConnectionTrait;
    let folder = world.folder.path();
    let url = match is_postgres() {
        true => std::fs::read_to_string(folder.join("database-url")).unwrap(),
        false => format!("sqlite://{}?mode=ro", folder.join("catalog.db").display()),
    };
    let connection = sea_orm::Database::connect(url).await.unwrap();
    let row = connection.query_one_raw(sea_orm::Statement::from_string(
        connection.get_database_backend(),
        question,
    ));
    let number = row.await.unwrap().unwrap().try_get("", "number").unwrap();
    connection.close().await.unwrap();
    number
}

pub(crate) fn name(text: &str) -> RepositoryName {
    text.parse().unwrap()
}

pub(crate) fn tag(text: &str) -> Tag {
    text.parse().unwrap()
}

/// Content that differs by `number`.
pub(crate) fn content(number: usize, length: usize) -> Bytes {
    let mut bytes = vec![b'.'; length];
    let text = number.to_string();
    let written = text.len().min(length);
    bytes[..written].copy_from_slice(&text.as_bytes()[..written]);
    bytes.into()
}

/// A body that comes whole.
pub(crate) fn body(
    bytes: Bytes,
) -> impl futures_util::Stream<Item = Result<Bytes, BodyError>> + Unpin {
    stream::iter((!bytes.is_empty()).then_some(Ok(bytes)))
}

/// A body that comes as the test sends it.
pub(crate) fn slow_body() -> (
    mpsc::UnboundedSender<Bytes>,
    impl futures_util::Stream<Item = Result<Bytes, BodyError>> + Unpin,
) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let body = stream::unfold(receiver, |mut receiver| async move {
        let piece: Bytes = receiver.recv().await?;
        Some((Ok(piece), receiver))
    });
    (sender, Box::pin(body))
}

pub(crate) async fn push(
    registry: &Registry,
    repository: &str,
    bytes: &Bytes,
) -> Result<Digest, RegistryError> {
    let digest = Digest::sha256(bytes);
    let length = Some(bytes.len() as u64);
    registry
        .pushes(repository)
        .await
        .push_blob(digest, length, body(bytes.clone()))
        .await?;
    Ok(digest)
}

pub(crate) async fn begin(registry: &Registry, repository: &str) -> String {
    registry
        .pushes(repository)
        .await
        .begin_upload(None)
        .await
        .unwrap()
        .id
}

pub(crate) async fn append(
    registry: &Registry,
    repository: &str,
    id: &str,
    bytes: &Bytes,
) -> Result<u64, RegistryError> {
    let status = registry
        .pushes(repository)
        .await
        .append(id, Chunk::default(), body(bytes.clone()))
        .await?;
    Ok(status.received)
}

/// Closes a session without another byte.
/// How far session `id` got.
pub(crate) async fn received(registry: &Registry, id: &str) -> Result<u64, RegistryError> {
    Ok(registry
        .pushes("a/b")
        .await
        .upload_status(id)
        .await?
        .received)
}

pub(crate) async fn finish(
    registry: &Registry,
    repository: &str,
    id: &str,
    whole: &[u8],
) -> Result<Digest, RegistryError> {
    let digest = Digest::sha256(whole);
    registry
        .pushes(repository)
        .await
        .finish_upload(id, digest, Chunk::default(), body(Bytes::new()))
        .await?;
    Ok(digest)
}

/// An image manifest with `layers`.
pub(crate) fn image(layers: &[(Digest, usize)]) -> Bytes {
    let layers: Vec<_> = layers
        .iter()
        .map(|(digest, size)| serde_json::json!({"mediaType": "application/x", "digest": digest.to_string(), "size": size}))
        .collect();
    let manifest = serde_json::json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "layers": layers,
    });
    manifest.to_string().into()
}

/// Puts a manifest under a tag or digest.
pub(crate) async fn put(
    registry: &Registry,
    repository: &str,
    reference: &str,
    body: &Bytes,
) -> Result<PutManifest, RegistryError> {
    let request = ManifestRequest {
        reference: reference.parse().unwrap(),
        tags: Vec::new(),
        content_type: None,
        precondition: Precondition::None,
        body: body.clone(),
    };
    registry
        .pushes(repository)
        .await
        .put_manifest(request)
        .await
}

pub(crate) async fn resolve(
    registry: &Registry,
    repository: &str,
    reference: &str,
) -> Result<Arc<StoredManifest>, RegistryError> {
    let reference: Reference = reference.parse().unwrap();
    registry.reads(repository).await.resolve(&reference).await
}

/// The bytes of a blob, or that there is none. Anything else is a failure of the test.
pub(crate) async fn pull(registry: &Registry, repository: &str, digest: &Digest) -> Option<Bytes> {
    let blob = match registry.reads(repository).await.blob(digest).await {
        Ok(blob) => blob,
        Err(RegistryError::BlobUnknown(_)) => return None,
        Err(error) => panic!("{digest}: {error}"),
    };
    let Some(last) = blob.size.checked_sub(1) else {
        return Some(Bytes::new());
    };
    Some(read(registry, digest, &blob, ByteRange { first: 0, last }).await)
}

pub(crate) async fn read(
    registry: &Registry,
    digest: &Digest,
    blob: &granary_registry::StoredBlob,
    range: ByteRange,
) -> Bytes {
    match registry
        .reads("a/b")
        .await
        .read_blob(digest, blob, range)
        .await
        .unwrap()
    {
        BlobBody::Bytes(bytes) => bytes,
        BlobBody::Stream(mut pieces) => {
            let mut whole = Vec::new();
            while let Some(piece) = pieces.next().await {
                whole.extend_from_slice(&piece.unwrap());
            }
            whole.into()
        }
    }
}

/// One pass of garbage collection.
pub(crate) async fn collect(registry: &Registry) -> granary_registry::CollectionReport {
    let report = registry.collect(false, &Progress::silent()).await.unwrap();
    assert!(!report.skipped, "the clock of this machine jumped");
    report
}
