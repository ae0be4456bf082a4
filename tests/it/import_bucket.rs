//! `granary import s3://...`: a bucket that a real distribution registry wrote to.

use std::path::PathBuf;

use granary_testbed::{Distribution, Minio};
use reqwest::Client;
use tempfile::TempDir;

use crate::{
    harness::{IMAGE, INDEX, Image, TestServer, image, index, sha256, use_ring},
    relocation::places::{database, new_bucket, reached, settings},
};

/// Pushes to a registry that is not ours.
pub(crate) struct Pusher {
    client: Client,
    url: String,
}

impl Pusher {
    pub(crate) fn to(registry: &Distribution) -> Self {
        use_ring();
        Self {
            client: Client::builder().no_proxy().build().unwrap(),
            url: registry.url(),
        }
    }

    async fn blob(&self, repository: &str, bytes: &[u8]) {
        let begun = format!("{}/v2/{repository}/blobs/uploads/", self.url);
        let begun = self.client.post(begun).send().await.unwrap();
        assert_eq!(begun.status(), 202);
        let location = begun.headers()["location"].to_str().unwrap();
        let separator = if location.contains('?') { '&' } else { '?' };
        let close = format!("{location}{separator}digest={}", sha256(bytes));
        let closed = self.client.put(close).body(bytes.to_vec());
        assert_eq!(closed.send().await.unwrap().status(), 201);
    }

    pub(crate) async fn manifest(
        &self,
        repository: &str,
        tag: &str,
        media_type: &str,
        bytes: &[u8],
    ) {
        let put = format!("{}/v2/{repository}/manifests/{tag}", self.url);
        let put = self.client.put(put).header("content-type", media_type);
        assert_eq!(put.body(bytes.to_vec()).send().await.unwrap().status(), 201);
    }

    pub(crate) async fn image(&self, repository: &str, tag: &str, image: &Image) {
        self.blob(repository, &image.config).await;
        self.blob(repository, &image.layer).await;
        self.manifest(repository, tag, IMAGE, &image.manifest).await;
    }

    /// Two repositories that share an image, one with an index of two.
    pub(crate) async fn fill(&self) {
        self.image("app", "v1", &image(1)).await;
        self.image("team/deep/web", "v1", &image(1)).await;
        self.image("team/deep/web", "v2", &image(2)).await;
        let list = index(&[image(1).descriptor(), image(2).descriptor()]);
        self.manifest("team/deep/web", "all", INDEX, &list).await;
    }
}

/// What [`Pusher::fill`] pushed is served, byte for byte.
pub(crate) async fn assert_served(server: &TestServer) {
    let list = index(&[image(1).descriptor(), image(2).descriptor()]);
    for (repository, tag, manifest) in [
        ("app", "v1", &image(1).manifest),
        ("team/deep/web", "v1", &image(1).manifest),
        ("team/deep/web", "v2", &image(2).manifest),
        ("team/deep/web", "all", &list),
    ] {
        let answer = server.get(&format!("/v2/{repository}/manifests/{tag}"));
        let answer = answer.await.is(200);
        assert_eq!(answer.body, *manifest);
        assert_eq!(answer.header("docker-content-digest"), sha256(manifest));
    }
    for bytes in [&image(1).layer, &image(1).config, &image(2).layer] {
        let path = format!("/v2/team/deep/web/blobs/{}", sha256(bytes));
        assert_eq!(server.get(&path).await.is(200).body, *bytes);
    }
}

/// A bucket to which distribution wrote below `/old`, its address, and a settings file that reaches it without keys.
async fn old_registry() -> (TempDir, String, PathBuf) {
    let bucket = new_bucket().await;
    let mut registry = Distribution::in_bucket(Minio::shared().unwrap(), &bucket, "/old").unwrap();
    Pusher::to(&registry).fill().await;
    registry.stop().unwrap();
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("old.toml");
    std::fs::write(&file, reached()).unwrap();
    (folder, format!("s3://{bucket}/old"), file)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_distribution_wrote_to_a_bucket_comes_beside_a_running_server_and_without_one() {
    let (_folder, address, file) = old_registry().await;
    let (file, minio) = (file.to_str().unwrap(), Minio::shared().unwrap());
    for running in [true, false] {
        let builder = TestServer::builder()
            .env("AWS_ACCESS_KEY_ID", minio.access_key())
            .env("AWS_SECRET_ACCESS_KEY", minio.secret_key());
        let mut server = builder.start().await;
        if !running {
            server.stop().await;
        }
        let import = ["import", &address, "--source-config", file];
        let dry = [&import[..], &["--dry-run", "--json"]].concat();
        let dry = server.run(&dry).await.exits(0).json();
        assert_eq!(dry["manifests"]["stored"], 4);
        let report = server.run(&[&import[..], &["--json"]].concat()).await;
        let report = report.exits(0).json();
        assert_eq!(
            (&report["kind"], &report["path"]),
            (&"storage-tree".into(), &address.as_str().into())
        );
        assert_eq!(
            (&report["repositories"], &report["left_out"]["number"]),
            (&2.into(), &0.into())
        );
        let again = server.run(&import).await.exits(0).stdout;
        assert!(
            again.contains(&format!("{address} is the storage of a registry"))
                && again.contains("0 manifests (4 were here), 0 blobs copied"),
            "{again}"
        );
        if !running {
            server.start_again().await;
        }
        assert_served(&server).await;
        server.run(&["gc"]).await.exits(0);
        assert_served(&server).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_own_settings_reach_a_bucket_beside_the_own_one() {
    let (folder, address, _) = old_registry().await;
    let own = folder.path().join("own.toml");
    let text = format!("{}{}", database(), settings(&new_bucket().await));
    std::fs::write(&own, text).unwrap();
    let own = own.to_str().unwrap();
    let server = TestServer::builder().argument("--config").argument(own);
    let server = server.start().await;
    server
        .run(&["import", &address, "--config", own])
        .await
        .exits(0);
    assert_served(&server).await;
}

#[tokio::test]
async fn a_bucket_that_cannot_be_meant_is_bad_usage() {
    let server = TestServer::start().await;
    for (arguments, part) in [
        (&["import", "s3://"][..], "no address of a bucket"),
        (&["import", "s3://old//registry"], "no address of a bucket"),
        (
            &["import", ".", "--source-config", "f"],
            "the source is none",
        ),
        (
            &["import", "s3://old", "--source-config", "/not/there"],
            "/not/there",
        ),
    ] {
        let ran = server.run(arguments).await.exits(2);
        assert!(ran.stderr.contains(part), "{arguments:?}: {}", ran.stderr);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_distribution_wrote_to_our_bucket_stays_there_until_ownership_is_taken() {
    let bucket = new_bucket().await;
    let mut registry = Distribution::in_bucket(Minio::shared().unwrap(), &bucket, "/old").unwrap();
    Pusher::to(&registry).fill().await;
    registry.stop().unwrap();
    let address = format!("s3://{bucket}/old");
    let folder = TempDir::new().unwrap();
    let own = folder.path().join("own.toml");
    std::fs::write(&own, format!("{}{}", database(), settings(&bucket))).unwrap();
    let own = own.to_str().unwrap();
    let server = TestServer::builder()
        .argument("--config")
        .argument(own)
        .env("GRANARY_STORAGE__INLINE_MAX", "10");
    let server = server.start().await;
    let import = ["import", &address, "--config", own, "--in-place", "--json"];
    let report = server.run(&import).await.exits(0).json();
    // Two layers and two configs.
    assert_eq!(
        (&report["blobs"]["in_place"], &report["blobs"]["copied"]),
        (&4.into(), &0.into())
    );
    assert_served(&server).await;
    let digest = sha256(&image(1).layer);
    let why = server.run(&["why", &digest, "--config", own]).await;
    let why = why.exits(0).stdout;
    assert!(why.contains("as old/docker/registry/v2/blobs/"), "{why}");
    server.run(&["gc", "--config", own]).await.exits(0);
    server.run(&["scrub", "--config", own]).await.exits(0);
    let take = ["import", "--take-ownership", "--config", own, "--json"];
    let report = server.run(&take).await.exits(0).json();
    assert_eq!(
        (&report["taken"], &report["left_out"]["number"]),
        (&4.into(), &0.into())
    );
    assert_eq!(server.run(&take).await.exits(0).json()["taken"], 0);
    assert_served(&server).await;
    let of_files = ["import", ".", "--take-ownership", "--config", own];
    let refused = server.run(&of_files).await.exits(2).stderr;
    assert!(refused.contains("is no bucket"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_distribution_wrote_to_a_folder_stays_there() {
    let folder = TempDir::new().unwrap();
    let mut registry = Distribution::in_folder(folder.path()).unwrap();
    Pusher::to(&registry).fill().await;
    let server = TestServer::builder().env("GRANARY_STORAGE__INLINE_MAX", "10");
    let server = server.start().await;
    let path = folder.path().to_str().unwrap();
    let report = server.run(&["import", path, "--in-place", "--json"]).await;
    let report = report.exits(0).json();
    assert_eq!(
        (&report["blobs"]["in_place"], &report["blobs"]["copied"]),
        (&4.into(), &0.into())
    );
    // The other registry goes on, and may push the same again.
    Pusher::to(&registry).image("app", "v1", &image(1)).await;
    Pusher::to(&registry).image("app", "v3", &image(3)).await;
    registry.stop().unwrap();
    server.run(&["scrub"]).await.exits(0);
    folder.close().unwrap();
    assert_served(&server).await;
}
