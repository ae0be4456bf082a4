//! Databases and buckets of their own, as lines of a settings file.

use std::sync::atomic::{AtomicU32, Ordering};

use aws_sdk_s3::{
    Client,
    config::{BehaviorVersion, Credentials, Region, RequestChecksumCalculation},
};
use granary_testbed::{Minio, Postgres};

/// An empty PostgreSQL database.
pub(crate) fn database() -> String {
    let url = Postgres::shared().unwrap().create_database().unwrap();
    format!("[database]\nurl = \"{url}\"\nmax_connections = 8\n")
}

/// An empty bucket.
pub(crate) async fn bucket() -> String {
    settings(&new_bucket().await)
}

/// The name of a new bucket.
pub(crate) async fn new_bucket() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    let server = Minio::shared().unwrap();
    let name = format!("granary-{}", NEXT.fetch_add(1, Ordering::SeqCst));
    let (access, secret) = (server.access_key(), server.secret_key());
    let client = Client::from_conf(
        aws_sdk_s3::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new(server.region()))
            .endpoint_url(server.endpoint())
            .credentials_provider(Credentials::new(access, secret, None, None, "test"))
            .force_path_style(true)
            .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
            .http_client(aws_smithy_http_client::Builder::new().build_http())
            .build(),
    );
    client.create_bucket().bucket(&name).send().await.unwrap();
    name
}

/// How a bucket is used.
pub(crate) fn settings(name: &str) -> String {
    let server = Minio::shared().unwrap();
    let (access, secret) = (server.access_key(), server.secret_key());
    format!(
        "[storage]\nkind = \"s3\"\n{}bucket = \"{name}\"\naccess_key_id = \"{access}\"\nsecret_access_key = \"{secret}\"\n",
        reached()
    )
}

/// How a bucket is reached; whoever does so must find credentials himself.
pub(crate) fn reached() -> String {
    let server = Minio::shared().unwrap();
    let (endpoint, region) = (server.endpoint(), server.region());
    format!("[storage.s3]\nendpoint = \"{endpoint}\"\nregion = \"{region}\"\npath_style = true\n")
}
