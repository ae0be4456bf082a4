//! Objects of many parts, and uploads that change hands.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use granary_blobs::{BlobStore, ObjectKey, StoreError};
use granary_oci::Algorithm;
use tokio::time::timeout;

use crate::servers::{Bucket, MIB, Row, everywhere, expect, feed, noise, reloaded, start, unsaved};

#[tokio::test(flavor = "multi_thread")]
async fn sizes_around_the_edges_of_parts() {
    everywhere(|bucket: Bucket| async move {
        let store = bucket.store().await;
        for length in [
            5 * MIB - 1,
            8 * MIB,
            8 * MIB + 1,
            16 * MIB,
            16 * MIB + 5,
            60 * MIB + 7,
        ] {
            let (key, content) = (ObjectKey::unique(), noise(length as u64, length));
            let mut writer = store.append(&key, start(), unsaved()).await.unwrap();
            feed(&mut *writer, &content).await.unwrap();
            let digest = Algorithm::Sha256.digest(&content);
            assert_eq!(
                writer.digest(Algorithm::Sha256).await.unwrap(),
                Some(digest)
            );
            let checkpoint = writer.finish().await.unwrap();
            assert_eq!(checkpoint.offset, length as u64, "{}", bucket.maker);
            expect(&store, &key, &content).await;
            assert!(bucket.unfinished(&key).await.is_empty());
        }
        assert_eq!(store.in_use(), 0);
    })
    .await;
}

/// Twenty requests of 1 MiB, each at another replica: the caller keeps the tails.
#[tokio::test(flavor = "multi_thread")]
async fn small_chunks_come_together_in_parts() {
    everywhere(|bucket: Bucket| async move {
        let replicas = [bucket.store().await, bucket.store().await];
        let (key, content) = (ObjectKey::unique(), noise(20, 20 * MIB));
        let (row, mut checkpoint) = (Arc::new(Row::default()), start());
        let mut longest = 0;
        for (number, chunk) in content.chunks(MIB).enumerate() {
            let mut writer = replicas[number % 2]
                .append(&key, reloaded(&checkpoint), row.clone())
                .await
                .unwrap();
            feed(&mut *writer, &content.slice_ref(chunk)).await.unwrap();
            checkpoint = writer.sync().await.unwrap();
            assert_eq!(checkpoint.offset as usize, (number + 1) * MIB);
            longest = longest.max(checkpoint.tail.len());
        }
        assert_eq!(longest, 4 * MIB, "no part is smaller than servers take");
        let writer = replicas[0]
            .append(&key, reloaded(&checkpoint), row.clone())
            .await
            .unwrap();
        writer.finish().await.unwrap();
        expect(&replicas[1], &key, &content).await;
        assert_eq!(
            row.saves().await,
            5,
            "one for each part, and one before they are joined"
        );
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_replica_goes_on_where_a_crash_left_off() {
    everywhere(|bucket: Bucket| async move {
        let (first, second) = (bucket.store().await, bucket.store().await);
        let (key, content) = (ObjectKey::unique(), noise(30, 50 * MIB));
        let row = Arc::new(Row::default());
        let mut writer = first.append(&key, start(), row.clone()).await.unwrap();
        feed(&mut *writer, &content.slice(..20 * MIB))
            .await
            .unwrap();
        let checkpoint = reloaded(&writer.sync().await.unwrap());
        // These bytes are on their way when the writer goes, and nobody knows of them.
        feed(&mut *writer, &noise(31, 20 * MIB)).await.unwrap();
        drop(writer);
        assert_eq!(checkpoint.offset, 20 << 20);

        let row = Arc::new(Row::default());
        let mut writer = second.append(&key, checkpoint, row).await.unwrap();
        feed(&mut *writer, &content.slice(20 * MIB..))
            .await
            .unwrap();
        writer.finish().await.unwrap();
        expect(&first, &key, &content).await;
    })
    .await;
}

/// What a ledger was told in the middle of a stream is enough to go on, without any sync.
#[tokio::test(flavor = "multi_thread")]
async fn a_reservation_is_a_checkpoint() {
    everywhere(|bucket: Bucket| async move {
        let store = bucket.store().await;
        let (key, content) = (ObjectKey::unique(), noise(40, 30 * MIB));
        let row = Arc::new(Row::default());
        let mut writer = store.append(&key, start(), row.clone()).await.unwrap();
        feed(&mut *writer, &content).await.unwrap();
        drop(writer);
        assert_eq!(row.saves().await, 1, "64 numbers are reserved at a time");
        let checkpoint = row.checkpoint().await;
        assert!(!checkpoint.state.is_empty());

        let offset = checkpoint.offset as usize;
        let mut writer = store.append(&key, checkpoint, row.clone()).await.unwrap();
        feed(&mut *writer, &content.slice(offset..)).await.unwrap();
        writer.finish().await.unwrap();
        expect(&store, &key, &content).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_superseded_writer_does_no_harm() {
    everywhere(|bucket: Bucket| async move {
        let (first, second) = (bucket.store().await, bucket.store().await);
        let (key, content) = (ObjectKey::unique(), noise(50, 60 * MIB));
        let old_row = Arc::new(Row::default());
        let mut zombie = first.append(&key, start(), old_row.clone()).await.unwrap();
        feed(&mut *zombie, &content.slice(..20 * MIB))
            .await
            .unwrap();
        let checkpoint = reloaded(&zombie.sync().await.unwrap());
        // Goes on with other bytes under numbers that are reserved for it.
        feed(&mut *zombie, &noise(51, 9 * MIB)).await.unwrap();
        let taken_over = old_row.checkpoint().await;
        assert!(taken_over.offset >= checkpoint.offset);
        old_row.supersede().await;

        let row = Arc::new(Row::default());
        let mut writer = second.append(&key, taken_over, row).await.unwrap();
        feed(&mut *writer, &content.slice(20 * MIB..40 * MIB))
            .await
            .unwrap();
        // In the middle of the successor's writing, and after its end.
        feed(&mut *zombie, &noise(52, 20 * MIB)).await.unwrap();
        feed(&mut *writer, &content.slice(40 * MIB..))
            .await
            .unwrap();
        writer.finish().await.unwrap();
        feed(&mut *zombie, &noise(53, 11 * MIB)).await.ok();
        zombie.finish().await.unwrap_err();
        expect(&first, &key, &content).await;
    })
    .await;
}

/// The zombie has all it needs and is about to put a small object when its successor is done.
#[tokio::test(flavor = "multi_thread")]
async fn a_superseded_writer_puts_nothing_over_an_object() {
    everywhere(|bucket: Bucket| async move {
        let store = bucket.store().await;
        let (key, content) = (ObjectKey::unique(), noise(55, MIB));
        let old_row = Arc::new(Row::default());
        let mut zombie = store.append(&key, start(), old_row.clone()).await.unwrap();
        feed(&mut *zombie, &noise(56, MIB)).await.unwrap();
        old_row.supersede().await;
        let mut writer = store.append(&key, start(), unsaved()).await.unwrap();
        feed(&mut *writer, &content).await.unwrap();
        writer.finish().await.unwrap();
        let refused = zombie.finish().await.unwrap_err();
        assert!(
            matches!(refused, StoreError::Superseded { .. }),
            "{refused}"
        );
        expect(&store, &key, &content).await;
    })
    .await;
}

/// The zombie joins its parts before the successor can: the successor must not take that for its own object.
#[tokio::test(flavor = "multi_thread")]
async fn an_object_joined_by_another_writer_is_not_acknowledged() {
    everywhere(|bucket: Bucket| async move {
        let store = bucket.store().await;
        let key = ObjectKey::unique();
        let row = Arc::new(Row::default());
        let mut zombie = store.append(&key, start(), row.clone()).await.unwrap();
        feed(&mut *zombie, &noise(60, 22 * MIB)).await.unwrap();
        let taken_over = row.checkpoint().await;
        let rest = 22 * MIB - taken_over.offset as usize;
        let mut writer = store.append(&key, taken_over, unsaved()).await.unwrap();
        feed(&mut *writer, &noise(61, rest)).await.unwrap();
        // Nothing is left to be sent, so that only the joining can tell.
        assert!(writer.sync().await.unwrap().tail.is_empty());
        zombie.finish().await.unwrap();
        let refused = writer.finish().await;
        assert!(
            refused.is_err(),
            "{}: acknowledged other bytes",
            bucket.maker
        );
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusing_ledger_stops_the_writer() {
    everywhere(|bucket: Bucket| async move {
        let store = bucket.store().await;
        let key = ObjectKey::unique();
        let row = Arc::new(Row::default());
        row.supersede().await;
        let mut writer = store.append(&key, start(), row).await.unwrap();
        let refused = feed(&mut *writer, &noise(70, 20 * MIB)).await.unwrap_err();
        assert!(
            matches!(refused, StoreError::Superseded { .. }),
            "{refused}"
        );
        let poisoned = writer.write(Bytes::from_static(b"more")).await.unwrap_err();
        assert!(
            matches!(poisoned, StoreError::Poisoned { .. }),
            "{poisoned}"
        );
        assert!(writer.finish().await.is_err());
        assert!(bucket.unfinished(&key).await.is_empty());
        assert_eq!(store.length(&key).await.unwrap(), None);
        assert_eq!(store.in_use(), 0);
    })
    .await;
}

/// The answer to the last step, or the process, was lost: the row still has the checkpoint of before.
#[tokio::test(flavor = "multi_thread")]
async fn the_last_step_can_be_repeated() {
    everywhere(|bucket: Bucket| async move {
        let store = bucket.store().await;
        let (key, content) = (ObjectKey::unique(), noise(80, 20 * MIB));
        let row = Arc::new(Row::default());
        let mut writer = store.append(&key, start(), row.clone()).await.unwrap();
        feed(&mut *writer, &content).await.unwrap();
        writer.finish().await.unwrap();
        let checkpoint = row.checkpoint().await;
        assert_eq!(checkpoint.offset, 20 << 20);
        let writer = store.append(&key, checkpoint, row.clone()).await.unwrap();
        writer.finish().await.unwrap();
        expect(&store, &key, &content).await;
    })
    .await;
}

/// A writer had begun an object of several parts; the next one gets no bytes at all.
#[tokio::test(flavor = "multi_thread")]
async fn a_begun_upload_may_turn_out_empty() {
    everywhere(|bucket: Bucket| async move {
        let store = bucket.store().await;
        let key = ObjectKey::unique();
        let row = Arc::new(Row::default());
        let mut zombie = store.append(&key, start(), row.clone()).await.unwrap();
        feed(&mut *zombie, &noise(84, 9 * MIB)).await.unwrap();
        let checkpoint = row.checkpoint().await;
        assert_eq!(checkpoint.offset, 0);
        let writer = store.append(&key, checkpoint, unsaved()).await.unwrap();
        assert_eq!(writer.finish().await.unwrap().offset, 0);
        assert!(zombie.finish().await.is_err());
        assert_eq!(store.length(&key).await.unwrap(), Some(0));
        assert!(bucket.unfinished(&key).await.is_empty());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_is_gone_is_missing() {
    everywhere(|bucket: Bucket| async move {
        let store = bucket.store().await;
        let (key, content) = (ObjectKey::unique(), noise(85, 10 * MIB));
        let mut writer = store.append(&key, start(), unsaved()).await.unwrap();
        feed(&mut *writer, &content).await.unwrap();
        let checkpoint = writer.sync().await.unwrap();
        drop(writer);
        store.abandon(&key, &checkpoint.state).await.unwrap();
        let mut writer = store.append(&key, checkpoint, unsaved()).await.unwrap();
        feed(&mut *writer, &content).await.ok();
        let missing = writer.finish().await.unwrap_err();
        let known = matches!(
            missing,
            StoreError::Missing { .. } | StoreError::Poisoned { .. }
        );
        assert!(known, "{}: {missing}", bucket.maker);
        assert_eq!(store.length(&key).await.unwrap(), None);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn notes_that_do_not_fit_are_refused() {
    everywhere(|bucket: Bucket| async move {
        let store = bucket.store().await;
        let key = ObjectKey::unique();
        let mut garbage = start();
        garbage.state = b"garbage".to_vec();
        assert!(store.append(&key, garbage, unsaved()).await.is_err());
        let mut short = start();
        (short.offset, short.tail) = (10, Bytes::from_static(b"five!"));
        let refused = store.append(&key, short, unsaved()).await.err();
        assert!(
            matches!(
                refused,
                Some(StoreError::Damaged {
                    expected: 10,
                    found: 5,
                    ..
                })
            ),
            "{refused:?}"
        );
    })
    .await;
}

/// A connection that ends drops the future of a write wherever it stands.
#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_write_loses_nothing() {
    everywhere(|bucket: Bucket| async move {
        let store = bucket.store().await;
        let (key, content) = (ObjectKey::unique(), noise(90, 30 * MIB));
        let mut writer = store.append(&key, start(), unsaved()).await.unwrap();
        for piece in content.chunks(65_536) {
            let write = writer.write(content.slice_ref(piece));
            timeout(Duration::ZERO, write)
                .await
                .map_or(Ok(()), |done| done)
                .unwrap();
        }
        let digest = Algorithm::Sha256.digest(&content);
        assert_eq!(
            writer.digest(Algorithm::Sha256).await.unwrap(),
            Some(digest)
        );
        writer.finish().await.unwrap();
        expect(&store, &key, &content).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_writer_gives_its_memory_back() {
    everywhere(|bucket: Bucket| async move {
        let store = bucket.store().await;
        let key = ObjectKey::unique();
        let mut writer = store.append(&key, start(), unsaved()).await.unwrap();
        feed(&mut *writer, &noise(95, 30 * MIB)).await.unwrap();
        assert!(store.in_use() > 0);
        drop(writer);
        let all_back = async {
            while store.in_use() > 0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        timeout(Duration::from_secs(10), all_back).await.unwrap();
        store.abandon(&key, &[]).await.unwrap();
    })
    .await;
}
