//! Opening a bucket, links into it, and what errors say.

use std::time::Duration;

use granary_blobs::{BlobStore, ObjectKey, S3Config, S3Store};

use crate::servers::{Bucket, everywhere, feed, minio, noise, start, unsaved};

/// The text of the refusal to open `config`.
async fn refusal(config: S3Config) -> String {
    match S3Store::open(config).await {
        Ok(_) => panic!("it opened"),
        Err(error) => error.to_string(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_says_what_to_do_and_no_secret() {
    everywhere(|bucket: Bucket| async move {
        let config = &bucket.config;
        let wrong = refusal(S3Config {
            secret_access_key: Some("not-the-secret".to_owned().into()),
            ..config.clone()
        })
        .await;
        assert!(wrong.contains("403"), "{wrong}");
        assert!(wrong.contains("secret key does not belong"), "{wrong}");
        assert!(!wrong.contains("not-the-secret"), "{wrong}");

        let unknown = refusal(S3Config {
            access_key_id: Some("nobody".to_owned()),
            ..config.clone()
        })
        .await;
        assert!(unknown.contains("access key is unknown"), "{unknown}");

        let missing = refusal(S3Config {
            bucket: "no-such-bucket".to_owned(),
            ..config.clone()
        })
        .await;
        assert!(
            missing.contains("create bucket 'no-such-bucket'"),
            "{missing}"
        );
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_listens() {
    let bucket = minio().await;
    let text = refusal(S3Config {
        endpoint: Some("http://127.0.0.1:1".to_owned()),
        ..bucket.config.clone()
    })
    .await;
    assert!(text.contains("check that the endpoint is right"), "{text}");
    assert!(text.to_lowercase().contains("refused"), "{text}");
    let text = refusal(S3Config {
        budget: 1024,
        ..bucket.config
    })
    .await;
    assert!(text.contains("too few"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_lets_anybody_read_until_it_expires() {
    everywhere(|bucket: Bucket| async move {
        let store = bucket.store().await;
        let (key, content) = (ObjectKey::unique(), noise(1, 100_000));
        let mut writer = store.append(&key, start(), unsaved()).await.unwrap();
        feed(&mut *writer, &content).await.unwrap();
        writer.finish().await.unwrap();
        let link = store.link(&key, Duration::from_secs(60)).await.unwrap();
        let link = link.expect("a bucket gives links");
        // Without a provider of the process, reqwest makes no client.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let found = reqwest::get(&link).await.unwrap();
        assert_eq!(found.status(), 200, "{}", bucket.maker);
        assert!(found.bytes().await.unwrap() == content);

        let short = store
            .link(&key, Duration::from_secs(1))
            .await
            .unwrap()
            .unwrap();
        assert!(short.contains("X-Amz-Expires=1&"), "{short}");
        tokio::time::sleep(Duration::from_millis(2500)).await;
        assert_eq!(reqwest::get(&short).await.unwrap().status(), 403);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn links_lead_to_the_public_address() {
    let mut bucket = minio().await;
    bucket.config.public_endpoint = Some("https://s3.example".to_owned());
    let key = ObjectKey::unique();
    let link = bucket
        .store()
        .await
        .link(&key, Duration::from_secs(60))
        .await;
    let link = link.unwrap().unwrap();
    assert!(
        link.starts_with(&format!("https://s3.example/{}/", bucket.name())),
        "{link}"
    );
}
