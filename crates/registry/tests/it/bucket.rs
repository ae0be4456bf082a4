//! Buckets on real servers.

use std::{fs, path::Path};

use aws_sdk_s3::{
    Client,
    config::{BehaviorVersion, Credentials, Region, RequestChecksumCalculation},
    primitives::ByteStream,
};
use futures_util::{StreamExt, stream};
use granary_blobs::{ObjectKey, S3Config, S3Store};
use granary_registry::{BucketAccess, ImportSource};
use granary_testbed::{Minio, S3Server, SeaweedFs};
use tokio::sync::OnceCell;

const NAME: &str = "granary";

/// A place of its own in the bucket of one server.
#[derive(Clone)]
pub(crate) struct Bucket {
    pub(crate) maker: &'static str,
    pub(crate) client: Client,
    /// Without slashes at its ends.
    pub(crate) prefix: String,
    endpoint: String,
    server: &'static S3Server,
}

/// A new place on every server.
pub(crate) async fn everywhere() -> [Bucket; 2] {
    [minio().await, seaweedfs().await]
}

pub(crate) async fn minio() -> Bucket {
    static MADE: OnceCell<()> = OnceCell::const_new();
    Bucket::on("MinIO", Minio::shared().unwrap(), &MADE).await
}

pub(crate) async fn seaweedfs() -> Bucket {
    static MADE: OnceCell<()> = OnceCell::const_new();
    Bucket::on("SeaweedFS", SeaweedFs::shared().unwrap(), &MADE).await
}

impl Bucket {
    /// Makes the bucket first, if no other test has. By one test alone: a SeaweedFS that is asked for a bucket while
    /// another request makes it may remember for a quarter of an hour that there is none.
    async fn on(maker: &'static str, server: &'static S3Server, made: &OnceCell<()>) -> Self {
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
            client.create_bucket().bucket(NAME).send().await.unwrap();
        })
        .await;
        Self {
            maker,
            client,
            prefix: ObjectKey::unique().as_str().replace('/', "-"),
            endpoint: server.endpoint(),
            server,
        }
    }

    /// A place of its own in this one.
    pub(crate) fn below(&self, number: usize) -> Self {
        Self {
            prefix: format!("{}/{number}", self.prefix),
            ..self.clone()
        }
    }

    /// The full name of a file of the source here.
    pub(crate) fn key(&self, path: &str) -> String {
        format!("{}/{path}", self.prefix)
    }

    pub(crate) async fn put(&self, path: &str, bytes: &[u8]) {
        let put = self.client.put_object().bucket(NAME).key(self.key(path));
        let body = ByteStream::from(bytes.to_vec());
        put.body(body).send().await.unwrap();
    }

    pub(crate) async fn remove(&self, path: &str) {
        let remove = self.client.delete_object().bucket(NAME).key(self.key(path));
        remove.send().await.unwrap();
    }

    /// Everything here, by its path below the prefix.
    pub(crate) async fn paths(&self) -> Vec<String> {
        let below = self.key("");
        let list = self
            .client
            .list_objects_v2()
            .bucket(NAME)
            .prefix(&below)
            .into_paginator();
        let pages: Vec<_> = list.send().try_collect().await.unwrap();
        let objects = pages.iter().flat_map(|page| page.contents());
        let keys = objects.filter_map(|object| object.key()?.strip_prefix(&below));
        keys.map(str::to_owned).collect()
    }

    /// Takes every file below a folder here.
    pub(crate) async fn upload(&self, folder: &Path) {
        let mut files = Vec::new();
        let mut open = vec![folder.to_owned()];
        while let Some(folder) = open.pop() {
            for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
                match entry.file_type().unwrap() {
                    kind if kind.is_dir() => open.push(entry.path()),
                    kind if kind.is_file() => files.push(entry.path()),
                    _ => {}
                }
            }
        }
        stream::iter(files)
            .for_each_concurrent(16, |file| async move {
                let path = file.strip_prefix(folder).unwrap().to_str().unwrap();
                self.put(path, &fs::read(&file).unwrap()).await;
            })
            .await;
    }

    /// What lies here as the source of an import.
    pub(crate) fn source(&self) -> ImportSource {
        self.source_below("")
    }

    pub(crate) fn source_below(&self, path: &str) -> ImportSource {
        let address = format!("s3://{NAME}/{}", self.key(path));
        ImportSource::Bucket(address.parse().unwrap(), self.access())
    }

    /// Another bucket of the same server.
    pub(crate) fn in_bucket(&self, name: &str) -> ImportSource {
        let address = format!("s3://{name}").parse().unwrap();
        ImportSource::Bucket(address, self.access())
    }

    /// The same source with a key that nobody knows.
    pub(crate) fn as_stranger(&self) -> ImportSource {
        let access = BucketAccess {
            access_key_id: Some("nobody".to_owned()),
            secret_access_key: Some("hunter2-hunter2".to_owned()),
            ..self.access()
        };
        ImportSource::Bucket(format!("s3://{NAME}").parse().unwrap(), access)
    }

    fn access(&self) -> BucketAccess {
        BucketAccess {
            endpoint: Some(self.endpoint.clone()),
            region: self.server.region().to_owned(),
            path_style: true,
            access_key_id: Some(self.server.access_key().to_owned()),
            secret_access_key: Some(self.server.secret_key().to_owned()),
            ca_file: None,
        }
    }

    /// A store of Granary's own in the same bucket, beside what lies here.
    pub(crate) async fn store(&self) -> S3Store {
        let config = S3Config {
            endpoint: Some(self.endpoint.clone()),
            prefix: format!("{}-granary/", self.prefix),
            access_key_id: Some(self.server.access_key().to_owned()),
            secret_access_key: Some(self.server.secret_key().to_owned().into()),
            path_style: true,
            ..S3Config::new(self.server.region(), NAME)
        };
        S3Store::open(config).await.unwrap()
    }
}
