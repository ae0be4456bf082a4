//! Reading what another program put into a bucket.

use futures_util::TryStreamExt as _;
use granary_blobs::{BucketReader, Named, ObjectKey, StoreError};

use crate::{
    proxy::{Fault, Proxy},
    servers::{Bucket, MIB, everywhere, noise},
};

async fn put(bucket: &Bucket, path: &str, bytes: bytes::Bytes) -> ObjectKey {
    let path = format!("{}{path}", bucket.config.prefix);
    let put = bucket.client.put_object().bucket(bucket.name()).key(&path);
    put.body(bytes.into()).send().await.expect("an object");
    ObjectKey::foreign(&path).expect("a key")
}

async fn read(reader: &BucketReader, key: &ObjectKey) -> Result<Vec<u8>, StoreError> {
    let (length, pieces) = reader.read(key).await?.expect("an object");
    let pieces: Vec<_> = pieces.try_collect().await?;
    let bytes = pieces.concat();
    assert_eq!(bytes.len() as u64, length);
    Ok(bytes)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_breaks_is_taken_up_again_and_never_of_another_object() {
    everywhere(|mut bucket: Bucket| async move {
        let content = noise(1, 9 * MIB);
        let key = put(&bucket, "old/data", content.clone()).await;
        let endpoint = bucket.config.endpoint.clone().expect("an endpoint");
        let proxy = Proxy::before(&endpoint).await;
        bucket.config.endpoint = Some(proxy.endpoint.clone());
        let reader = BucketReader::open(bucket.config.clone())
            .await
            .expect("a bucket");

        let cuts = [
            Fault::Truncated(MIB),
            Fault::Truncated(0),
            Fault::Truncated(70_000),
        ];
        proxy.plan("GET", "old/data", &cuts);
        assert!(read(&reader, &key).await.expect("its bytes") == content);
        assert!(proxy.is_done());

        // Asked for again in spite of a server that is busy.
        proxy.plan("GET", "old/data", &[Fault::Unavailable, Fault::Cut]);
        assert!(read(&reader, &key).await.expect("its bytes") == content);
        assert!(proxy.is_done());

        proxy.plan("GET", "old/data", &[Fault::Truncated(0); 100]);
        let cut = read(&reader, &key).await.expect_err("a broken stream");
        assert!(cut.to_string().contains("old/data"), "{cut}");
        drop(proxy);

        let proxy = Proxy::before(&endpoint).await;
        bucket.config.endpoint = Some(proxy.endpoint.clone());
        let reader = BucketReader::open(bucket.config.clone())
            .await
            .expect("a bucket");
        proxy.plan("GET", "old/data", &[Fault::Truncated(MIB)]);
        let (_, pieces) = reader
            .read(&key)
            .await
            .expect("an answer")
            .expect("an object");
        put(&bucket, "old/data", noise(2, 9 * MIB)).await;
        let mixed: Result<Vec<_>, _> = pieces.try_collect().await;
        assert!(mixed.is_err(), "{}", bucket.maker);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_is_a_tree_of_folders() {
    everywhere(|bucket: Bucket| async move {
        for path in ["a/b/c", "a/d", "a/é x+y%", "e"] {
            put(&bucket, path, bytes::Bytes::from_static(b"1")).await;
        }
        let empty = put(&bucket, "empty", bytes::Bytes::new()).await;
        let reader = BucketReader::open(bucket.config.clone())
            .await
            .expect("a bucket");
        let names = async |folder: &str| {
            let folder = format!("{}{folder}", bucket.config.prefix);
            let page = reader.list(&folder, None).await.expect("a page");
            assert_eq!(page.next, None);
            page.entries
        };
        let folder = |name: &str| Named {
            name: name.to_owned(),
            is_folder: true,
        };
        let object = |name: &str| Named {
            name: name.to_owned(),
            is_folder: false,
        };
        assert_eq!(names("").await, [folder("a"), object("e"), object("empty")]);
        assert_eq!(
            names("a/").await,
            [folder("b"), object("d"), object("é x+y%")]
        );
        assert_eq!(names("nothing/").await, []);
        assert_eq!(read(&reader, &empty).await.expect("no bytes"), b"");
        let missing = ObjectKey::foreign("never/was/here").expect("a key");
        assert!(reader.read(&missing).await.expect("an answer").is_none());
    })
    .await;
}
