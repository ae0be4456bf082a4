//! Servers and connections that fail.

use granary_blobs::{BlobStore, ObjectKey, S3Store, StoreError};
use granary_oci::ByteRange;

use crate::{
    proxy::{Fault, Proxy},
    servers::{Bucket, MIB, everywhere, expect, feed, noise, read, start, unsaved},
};

/// A store that reaches its server through a proxy.
async fn behind_proxy(bucket: &mut Bucket) -> (S3Store, Proxy) {
    let endpoint = bucket.config.endpoint.clone().expect("an endpoint");
    let proxy = Proxy::before(&endpoint).await;
    bucket.config.endpoint = Some(proxy.endpoint.clone());
    let store = bucket.store().await;
    proxy.seen();
    (store, proxy)
}

async fn upload(store: &S3Store, length: usize) -> Result<(ObjectKey, bytes::Bytes), StoreError> {
    let (key, content) = (ObjectKey::unique(), noise(length as u64, length));
    let mut writer = store.append(&key, start(), unsaved()).await?;
    feed(&mut *writer, &content).await?;
    writer.finish().await?;
    Ok((key, content))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_takes_as_many_requests_as_parts_and_three() {
    everywhere(|mut bucket: Bucket| async move {
        let (store, proxy) = behind_proxy(&mut bucket).await;
        upload(&store, 8 * MIB).await.unwrap();
        assert_eq!(proxy.seen().len(), 2, "{}", bucket.maker);
        upload(&store, 40 * MIB + 1).await.unwrap();
        assert_eq!(proxy.seen().len(), 6 + 3, "{}", bucket.maker);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_busy_for_a_while_is_asked_again() {
    everywhere(|mut bucket: Bucket| async move {
        let (store, proxy) = behind_proxy(&mut bucket).await;
        for (method, contains) in [
            ("POST", "uploads"),
            ("PUT", "partNumber=2"),
            ("POST", "uploadId="),
            ("HEAD", "blobs/"),
        ] {
            proxy.plan(method, contains, &[Fault::Unavailable, Fault::Unavailable]);
        }
        let (key, content) = upload(&store, 20 * MIB).await.unwrap();
        assert!(proxy.is_done());
        expect(&store, &key, &content).await;
        proxy.plan("PUT", "blobs/", &[Fault::Unavailable, Fault::Unavailable]);
        let (key, content) = upload(&store, MIB).await.unwrap();
        assert!(proxy.is_done());
        expect(&store, &key, &content).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_answer_changes_nothing() {
    everywhere(|mut bucket: Bucket| async move {
        let (store, proxy) = behind_proxy(&mut bucket).await;
        for fault in [Fault::LostAnswer, Fault::Cut] {
            for (method, contains) in [
                ("POST", "uploads"),
                ("PUT", "partNumber=1"),
                ("PUT", "partNumber=3"),
                ("POST", "uploadId="),
            ] {
                proxy.plan(method, contains, &[fault]);
            }
            let (key, content) = upload(&store, 20 * MIB).await.unwrap();
            assert!(proxy.is_done(), "{}: {fault:?}", bucket.maker);
            expect(&store, &key, &content).await;
            proxy.plan("PUT", "blobs/", &[fault]);
            let (key, content) = upload(&store, MIB).await.unwrap();
            assert!(proxy.is_done());
            expect(&store, &key, &content).await;
            proxy.plan("DELETE", "blobs/", &[fault]);
            store.delete(&[key]).await.unwrap();
            assert!(proxy.is_done());
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_stays_away_is_reported_as_such() {
    everywhere(|mut bucket: Bucket| async move {
        let (store, proxy) = behind_proxy(&mut bucket).await;
        proxy.plan("PUT", "partNumber=1", &[Fault::Unavailable; 100]);
        let refused = upload(&store, 20 * MIB).await.unwrap_err();
        assert!(refused.is_transient(), "{refused}");
        let text = refused.to_string();
        assert!(text.contains("sending a part of"), "{text}");
        assert!(text.contains("503 SlowDown"), "{text}");
        assert_eq!(store.in_use(), 0);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_breaks_is_taken_up_again() {
    everywhere(|mut bucket: Bucket| async move {
        let (store, proxy) = behind_proxy(&mut bucket).await;
        let (key, content) = upload(&store, 9 * MIB).await.unwrap();
        let cuts = [
            Fault::Truncated(MIB),
            Fault::Truncated(0),
            Fault::Truncated(70_000),
        ];
        proxy.plan("GET", "blobs/", &cuts);
        expect(&store, &key, &content).await;
        assert!(proxy.is_done());

        proxy.plan("GET", "blobs/", &[Fault::Truncated(0); 100]);
        let whole = ByteRange {
            first: 0,
            last: 9 * MIB as u64 - 1,
        };
        let broken = read(&store, &key, whole).await.unwrap_err();
        let damaged = matches!(broken, StoreError::Damaged { found: 0, .. });
        assert!(damaged, "{broken}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_server_itself_can_say_that_an_object_is_missing() {
    everywhere(|mut bucket: Bucket| async move {
        let (store, proxy) = behind_proxy(&mut bucket).await;
        let (key, content) = upload(&store, MIB).await.unwrap();
        let range = ByteRange { first: 0, last: 9 };
        for fault in [Fault::NoPage, Fault::NoBucket] {
            proxy.plan("GET", "blobs/", &[fault]);
            let refused = read(&store, &key, range).await.unwrap_err();
            assert!(proxy.is_done());
            assert!(refused.is_transient(), "{fault:?}: {refused}");
            let told =
                matches!(&refused, StoreError::Remote(failure) if failure.status == Some(404));
            assert!(told, "{fault:?}: {refused:?}");
            // In the middle of an object it is asked again.
            proxy.plan("GET", "blobs/", &[Fault::Truncated(70_000), fault]);
            expect(&store, &key, &content).await;
            assert!(proxy.is_done());
        }
        let missing = read(&store, &ObjectKey::unique(), range).await.unwrap_err();
        assert!(matches!(missing, StoreError::Missing { .. }), "{missing}");
    })
    .await;
}

/// The object changes while it is read, which only damage can do.
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_never_mixes_two_objects() {
    everywhere(|mut bucket: Bucket| async move {
        let (store, proxy) = behind_proxy(&mut bucket).await;
        let (key, _) = upload(&store, 2 * MIB).await.unwrap();
        proxy.plan("GET", "blobs/", &[Fault::Truncated(MIB)]);
        let whole = ByteRange {
            first: 0,
            last: 2 * MIB as u64 - 1,
        };
        let stream = store.read(&key, whole).await.unwrap();
        let other = bucket.client.put_object().bucket(bucket.name());
        let other = other.key(bucket.path(&key)).body(noise(99, 2 * MIB).into());
        other.send().await.expect("an object");
        let read: Result<Vec<_>, _> = futures_util::TryStreamExt::try_collect(stream).await;
        assert!(read.is_err(), "{}", bucket.maker);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_etag_makes_no_wrong_object() {
    everywhere(|mut bucket: Bucket| async move {
        let (store, proxy) = behind_proxy(&mut bucket).await;
        proxy.plan("PUT", "partNumber=2", &[Fault::WrongEtag]);
        let outcome = upload(&store, 20 * MIB).await;
        assert!(proxy.is_done());
        match outcome {
            // The server joins by number, and the bytes are right.
            Ok((key, content)) => expect(&store, &key, &content).await,
            Err(refused) => assert!(!refused.is_transient(), "{refused}"),
        }
    })
    .await;
}
