//! Buckets on real servers, and what a test looks at them with.

use std::sync::Arc;

use async_trait::async_trait;
use aws_sdk_s3::{
    Client,
    config::{BehaviorVersion, Credentials, Region, RequestChecksumCalculation},
};
use bytes::{Bytes, BytesMut};
use futures_util::TryStreamExt as _;
pub(crate) use granary_blobs::suite::noise;
use granary_blobs::{
    BlobStore, BlobWriter, Checkpoint, Ledger, ObjectKey, S3Config, S3Store, StoreError, Unsaved,
};
use granary_oci::{ByteRange, Hasher};
use granary_testbed::{Minio, S3Server, SeaweedFs};
use tokio::sync::{Mutex, OnceCell};

pub(crate) const MIB: usize = 1024 * 1024;

const NAME: &str = "granary";

/// A place of its own in the bucket of one server.
#[derive(Clone)]
pub(crate) struct Bucket {
    pub(crate) maker: &'static str,
    pub(crate) config: S3Config,
    pub(crate) client: Client,
}

/// Runs a test on every server.
pub(crate) async fn everywhere<F: Future<Output = ()>>(test: impl Fn(Bucket) -> F) {
    test(minio().await).await;
    test(seaweedfs().await).await;
}

pub(crate) async fn minio() -> Bucket {
    static MADE: OnceCell<()> = OnceCell::const_new();
    Bucket::on("MinIO", Minio::shared().expect("a MinIO"), &MADE).await
}

pub(crate) async fn seaweedfs() -> Bucket {
    static MADE: OnceCell<()> = OnceCell::const_new();
    let server = SeaweedFs::shared().expect("a SeaweedFS");
    Bucket::on("SeaweedFS", server, &MADE).await
}

impl Bucket {
    /// Makes the bucket first, if no other test has. By one test alone: a SeaweedFS that is asked for a bucket while
    /// another request makes it may remember for a quarter of an hour that there is none.
    async fn on(maker: &'static str, server: &S3Server, made: &OnceCell<()>) -> Self {
        let credentials =
            Credentials::new(server.access_key(), server.secret_key(), None, None, "test");
        let client = Client::from_conf(
            aws_sdk_s3::Config::builder()
                .behavior_version(BehaviorVersion::v2026_01_12())
                .region(Region::new(server.region()))
                .endpoint_url(server.endpoint())
                .credentials_provider(credentials)
                .force_path_style(true)
                .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
                .http_client(aws_smithy_http_client::Builder::new().build_http())
                .build(),
        );
        made.get_or_init(async || {
            let made = client.create_bucket().bucket(NAME).send().await;
            made.expect("a bucket");
        })
        .await;
        let config = S3Config {
            endpoint: Some(server.endpoint()),
            prefix: format!("{}/", ObjectKey::unique().as_str().replace('/', "-")),
            access_key_id: Some(server.access_key().to_owned()),
            secret_access_key: Some(server.secret_key().to_owned().into()),
            path_style: true,
            ..S3Config::new(server.region(), NAME)
        };
        Self {
            maker,
            config,
            client,
        }
    }

    /// A store here: each one is a replica of its own.
    pub(crate) async fn store(&self) -> S3Store {
        S3Store::open(self.config.clone()).await.expect("a store")
    }

    /// The full name of an object.
    pub(crate) fn path(&self, key: &ObjectKey) -> String {
        format!("{}blobs/{key}", self.config.prefix)
    }

    /// Ids of the unfinished uploads here.
    pub(crate) async fn unfinished(&self, key: &ObjectKey) -> Vec<String> {
        let listed = self
            .client
            .list_multipart_uploads()
            .bucket(NAME)
            .prefix(self.path(key))
            .send()
            .await
            .expect("a list");
        listed
            .uploads()
            .iter()
            .filter_map(|upload| upload.upload_id().map(str::to_owned))
            .collect()
    }

    pub(crate) fn name(&self) -> &'static str {
        NAME
    }
}

/// A session row: keeps the last checkpoint, and may be taken over.
#[derive(Default)]
pub(crate) struct Row {
    saved: Mutex<Option<Checkpoint>>,
    saves: Mutex<usize>,
    superseded: Mutex<bool>,
}

impl Row {
    pub(crate) async fn checkpoint(&self) -> Checkpoint {
        self.saved.lock().await.clone().unwrap_or_else(start)
    }

    pub(crate) async fn saves(&self) -> usize {
        *self.saves.lock().await
    }

    /// From now on the writer with this row is refused.
    pub(crate) async fn supersede(&self) {
        *self.superseded.lock().await = true;
    }
}

#[async_trait]
impl Ledger for Row {
    async fn save(&self, checkpoint: &Checkpoint) -> Result<(), StoreError> {
        if *self.superseded.lock().await {
            return Err(StoreError::Superseded {
                key: ObjectKey::unique(),
            });
        }
        *self.saves.lock().await += 1;
        *self.saved.lock().await = Some(reloaded(checkpoint));
        Ok(())
    }
}

pub(crate) fn start() -> Checkpoint {
    Checkpoint::start(Hasher::new(None))
}

pub(crate) fn unsaved() -> Arc<dyn Ledger> {
    Arc::new(Unsaved)
}

/// A checkpoint as a database gives it back.
pub(crate) fn reloaded(checkpoint: &Checkpoint) -> Checkpoint {
    Checkpoint {
        offset: checkpoint.offset,
        hasher: Hasher::import(&checkpoint.hasher.export()).expect("a hash state"),
        state: checkpoint.state.clone(),
        tail: Bytes::copy_from_slice(&checkpoint.tail),
    }
}

/// Writes `content` in pieces like a network gives them.
pub(crate) async fn feed(writer: &mut dyn BlobWriter, content: &Bytes) -> Result<(), StoreError> {
    for piece in content.chunks(65_536) {
        writer.write(content.slice_ref(piece)).await?;
    }
    Ok(())
}

pub(crate) async fn read(
    store: &dyn BlobStore,
    key: &ObjectKey,
    range: ByteRange,
) -> Result<Bytes, StoreError> {
    let mut stream = store.read(key, range).await?;
    let mut bytes = BytesMut::new();
    while let Some(piece) = stream.try_next().await? {
        bytes.extend_from_slice(&piece);
    }
    Ok(bytes.freeze())
}

/// The object holds exactly `content`.
pub(crate) async fn expect(store: &dyn BlobStore, key: &ObjectKey, content: &[u8]) {
    let last = content.len() as u64 - 1;
    let found = read(store, key, ByteRange { first: 0, last }).await;
    assert!(found.expect("an object") == content, "content of {key}");
    assert_eq!(
        store.length(key).await.expect("a length"),
        Some(content.len() as u64)
    );
}
