//! Removing objects and what is left of unfinished ones.

use std::sync::Arc;

use granary_blobs::{BlobStore, ObjectKey};

use crate::servers::{Bucket, MIB, Row, everywhere, feed, noise, start, unsaved};

#[tokio::test(flavor = "multi_thread")]
async fn an_abandoned_upload_leaves_nothing() {
    everywhere(|bucket: Bucket| async move {
        let store = bucket.store().await;
        let key = ObjectKey::unique();
        let row = Arc::new(Row::default());
        let mut writer = store.append(&key, start(), row.clone()).await.unwrap();
        feed(&mut *writer, &noise(1, 20 * MIB)).await.unwrap();
        writer.sync().await.unwrap();
        drop(writer);
        // One more that no state knows of.
        let path = bucket.path(&key);
        let stray = bucket.client.create_multipart_upload();
        stray
            .bucket(bucket.name())
            .key(path)
            .send()
            .await
            .expect("an upload");
        assert_eq!(bucket.unfinished(&key).await.len(), 2, "{}", bucket.maker);

        let state = row.checkpoint().await.state;
        store.abandon(&key, &state).await.unwrap();
        assert!(bucket.unfinished(&key).await.is_empty(), "{}", bucket.maker);
        store.abandon(&key, &state).await.unwrap();
        store.abandon(&key, b"garbage").await.unwrap();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn abandoning_ends_only_this_key() {
    everywhere(|bucket: Bucket| async move {
        let store = bucket.store().await;
        let (key, other) = (ObjectKey::unique(), ObjectKey::unique());
        let mut writer = store.append(&other, start(), unsaved()).await.unwrap();
        feed(&mut *writer, &noise(2, 20 * MIB)).await.unwrap();
        store.abandon(&key, &[]).await.unwrap();
        writer.finish().await.unwrap();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn thousands_are_deleted_at_once() {
    everywhere(|bucket: Bucket| async move {
        let store = Arc::new(bucket.store().await);
        let keys: Vec<_> = (0..2500).map(|_| ObjectKey::unique()).collect();
        // A few of them exist, one in each batch.
        for key in keys.iter().step_by(400) {
            let mut writer = store.append(key, start(), unsaved()).await.unwrap();
            feed(&mut *writer, &noise(3, 10)).await.unwrap();
            writer.finish().await.unwrap();
        }
        assert_eq!(store.list(None, 10).await.unwrap().len(), 7);
        store.delete(&keys).await.unwrap();
        assert!(store.list(None, 10).await.unwrap().is_empty());
    })
    .await;
}
