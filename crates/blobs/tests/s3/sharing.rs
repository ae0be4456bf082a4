//! Many uploads on little memory.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use granary_blobs::{BlobStore, LEAST_BUDGET, ObjectKey};
use tokio::task::JoinSet;

use crate::servers::{Bucket, MIB, everywhere, expect, feed, noise, start, unsaved};

#[tokio::test(flavor = "multi_thread")]
async fn many_uploads_share_a_small_budget() {
    everywhere(|mut bucket: Bucket| async move {
        bucket.config.budget = LEAST_BUDGET;
        let store = Arc::new(bucket.store().await);
        let (most, over) = (
            Arc::new(AtomicUsize::new(0)),
            Arc::new(AtomicBool::new(false)),
        );
        let watch = {
            let (store, most, over) = (store.clone(), most.clone(), over.clone());
            tokio::spawn(async move {
                while !over.load(Ordering::Relaxed) {
                    most.fetch_max(store.in_use(), Ordering::Relaxed);
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            })
        };
        let mut uploads = JoinSet::new();
        for seed in 0..16 {
            let store = store.clone();
            uploads.spawn(async move {
                let (key, content) = (ObjectKey::unique(), noise(seed, 64 * MIB));
                let mut writer = store.append(&key, start(), unsaved()).await.unwrap();
                feed(&mut *writer, &content).await.unwrap();
                writer.finish().await.unwrap();
                expect(&*store, &key, &content).await;
                store.delete(&[key]).await.unwrap();
            });
        }
        uploads.join_all().await;
        over.store(true, Ordering::Relaxed);
        watch.await.unwrap();
        let most = most.load(Ordering::Relaxed);
        assert!(most <= LEAST_BUDGET, "{most} bytes at once");
        assert!(most > LEAST_BUDGET / 2, "{most} bytes at once");
        assert_eq!(store.in_use(), 0);
    })
    .await;
}

/// A client that stands still keeps what it sent and no more, and others go on.
#[tokio::test(flavor = "multi_thread")]
async fn uploads_that_stand_still_hold_up_nobody() {
    everywhere(|mut bucket: Bucket| async move {
        bucket.config.budget = LEAST_BUDGET;
        let store = bucket.store().await;
        let mut still = Vec::new();
        for seed in 0..6 {
            let key = ObjectKey::unique();
            let mut writer = store.append(&key, start(), unsaved()).await.unwrap();
            feed(&mut *writer, &noise(seed, 4 * MIB)).await.unwrap();
            still.push(writer);
        }
        let (key, content) = (ObjectKey::unique(), noise(9, 40 * MIB));
        let mut writer = store.append(&key, start(), unsaved()).await.unwrap();
        feed(&mut *writer, &content).await.unwrap();
        writer.finish().await.unwrap();
        expect(&store, &key, &content).await;
        assert!(store.in_use() >= 24 * MIB);
        drop(still);
        assert_eq!(store.in_use(), 0);
    })
    .await;
}
