//! A bucket on a real server, which can be cut off.

use aws_sdk_s3::{
    Client, Config,
    config::{BehaviorVersion, Credentials, Region},
};
use granary_testbed::{Minio, Proxy, Toxiproxy};

use super::Builder;

const NAME: &str = "granary";

/// A bucket of the test process's MinIO, reached through a proxy.
pub(crate) struct Bucket {
    toxiproxy: Toxiproxy,
    proxy: Proxy,
}

impl Bucket {
    pub(crate) async fn behind_a_proxy() -> Self {
        let server = Minio::shared().unwrap();
        let (id, secret) = (server.access_key(), server.secret_key());
        let config = Config::builder()
            .behavior_version(BehaviorVersion::v2026_01_12())
            .region(Region::new(server.region()))
            .endpoint_url(server.endpoint())
            .credentials_provider(Credentials::new(id, secret, None, None, "test"))
            .force_path_style(true)
            .http_client(aws_smithy_http_client::Builder::new().build_http())
            .build();
        let made = Client::from_conf(config).create_bucket().bucket(NAME);
        made.send().await.unwrap();
        let toxiproxy = Toxiproxy::start().unwrap();
        let upstream = format!("127.0.0.1:{}", server.port());
        let proxy = toxiproxy.proxy("s3", upstream).unwrap();
        Self { toxiproxy, proxy }
    }

    /// What a server must be told to use it.
    pub(crate) fn settings(&self, builder: Builder) -> Builder {
        let server = Minio::shared().unwrap();
        builder
            .env("GRANARY_STORAGE__KIND", "s3")
            .env("GRANARY_STORAGE__S3__BUCKET", NAME)
            .env(
                "GRANARY_STORAGE__S3__ENDPOINT",
                format!("http://{}", self.proxy.listen),
            )
            .env("GRANARY_STORAGE__S3__REGION", server.region())
            .env("GRANARY_STORAGE__S3__ACCESS_KEY_ID", server.access_key())
            .env(
                "GRANARY_STORAGE__S3__SECRET_ACCESS_KEY",
                server.secret_key(),
            )
            .env("GRANARY_STORAGE__S3__PATH_STYLE", "true")
    }

    /// Nothing comes through any more.
    pub(crate) fn cut(&self) {
        self.toxiproxy.disable(&self.proxy).unwrap();
    }
}
