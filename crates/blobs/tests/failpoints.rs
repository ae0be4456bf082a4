//! What a store does when the disk refuses. A binary of its own, because failpoints are global to a process.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

mod session;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use fail::FailScenario;
use granary_blobs::{BlobStore, Checkpoint, FileStore, Ledger, ObjectKey, StoreError, Unsaved};
use granary_oci::{Algorithm, Hasher};
use tempfile::TempDir;

use session::Row;

/// Runs one test at a time, and ends it only when its last blocking job has ended: a job left behind would meet the
/// failpoints of the next one.
fn with_failpoints(test: impl Future<Output = ()>) {
    let scenario = FailScenario::setup();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(test);
    drop(runtime);
    scenario.teardown();
}

fn store() -> (TempDir, FileStore) {
    let root = tempfile::tempdir().unwrap();
    let store = FileStore::open(root.path(), 0).unwrap();
    (root, store)
}

fn start() -> Checkpoint {
    Checkpoint::start(Hasher::new(None))
}

fn unsaved() -> Arc<dyn Ledger> {
    Arc::new(Unsaved)
}

fn content() -> Bytes {
    Bytes::from_static(b"content")
}

/// An object with one durable checkpoint.
async fn begun(store: &FileStore) -> (ObjectKey, Checkpoint) {
    let key = ObjectKey::unique();
    let mut writer = store.append(&key, start(), unsaved()).await.unwrap();
    writer.write(content()).await.unwrap();
    (key, writer.sync().await.unwrap())
}

#[test]
fn after_a_failed_sync_nothing_more_is_acknowledged() {
    with_failpoints(async {
        let (_root, store) = store();
        let (key, checkpoint) = begun(&store).await;
        let mut writer = store
            .append(&key, checkpoint.clone(), unsaved())
            .await
            .unwrap();
        writer.write(content()).await.unwrap();
        fail::cfg("blobs::sync", "1*return->off").unwrap();
        assert!(matches!(writer.sync().await, Err(StoreError::Io(_))));
        assert!(matches!(
            writer.sync().await,
            Err(StoreError::Poisoned { .. })
        ));
        assert!(matches!(
            writer.write(content()).await,
            Err(StoreError::Poisoned { .. })
        ));
        assert!(matches!(
            writer.finish().await,
            Err(StoreError::Poisoned { .. })
        ));
        let again = store.append(&key, checkpoint, unsaved()).await;
        assert!(
            matches!(again.err(), Some(StoreError::Poisoned { .. })),
            "nor on the file by another writer"
        );
        store.delete(std::slice::from_ref(&key)).await.unwrap();
        store
            .append(&key, start(), unsaved())
            .await
            .unwrap()
            .finish()
            .await
            .unwrap();
    });
}

#[test]
fn a_name_that_cannot_be_synced_is_not_acknowledged() {
    with_failpoints(async {
        let (_root, store) = store();
        let mut writer = store
            .append(&ObjectKey::unique(), start(), unsaved())
            .await
            .unwrap();
        fail::cfg("blobs::sync_directory", "1*return->off").unwrap();
        assert!(matches!(writer.sync().await, Err(StoreError::Io(_))));
        assert!(matches!(
            writer.sync().await,
            Err(StoreError::Poisoned { .. })
        ));
    });
}

async fn fail_behind(writes: usize) {
    let (_root, store) = store();
    let key = ObjectKey::unique();
    let mut writer = store.append(&key, start(), unsaved()).await.unwrap();
    fail::cfg("blobs::sync", "1*return->off").unwrap();
    let mut outcome = Ok(());
    for _ in 0..writes {
        outcome = outcome.and(writer.write(Bytes::from(vec![1; 512 * 1024])).await);
    }
    assert!(outcome.is_err() || writer.sync().await.is_err());
    assert!(matches!(
        writer.finish().await,
        Err(StoreError::Poisoned { .. })
    ));
    assert!(matches!(
        store.append(&key, start(), unsaved()).await.err(),
        Some(StoreError::Poisoned { .. })
    ));
}

#[test]
fn a_failed_sync_behind_the_stream_shows_in_the_next_sync() {
    // The sync behind starts after 16 MiB: with the last of these writes.
    with_failpoints(fail_behind(33));
}

#[test]
fn a_failed_sync_behind_the_stream_is_not_forgotten_by_later_writes() {
    with_failpoints(fail_behind(80));
}

#[test]
fn after_a_failed_write_the_upload_goes_on_at_its_checkpoint() {
    with_failpoints(async {
        let (_root, store) = store();
        let (key, checkpoint) = begun(&store).await;
        let mut writer = store
            .append(&key, checkpoint.clone(), unsaved())
            .await
            .unwrap();
        fail::cfg("blobs::write", "1*return->off").unwrap();
        writer.write(content()).await.unwrap();
        assert!(matches!(writer.sync().await, Err(StoreError::Io(_))));
        assert!(matches!(
            writer.sync().await,
            Err(StoreError::Poisoned { .. })
        ));
        drop(writer);
        let mut writer = store.append(&key, checkpoint, unsaved()).await.unwrap();
        writer.write(content()).await.unwrap();
        let checkpoint = writer.finish().await.unwrap();
        assert_eq!(
            checkpoint.hasher.digest(Algorithm::Sha256),
            Some(Algorithm::Sha256.digest(b"contentcontent"))
        );
    });
}

#[test]
fn a_writer_that_was_dropped_is_waited_for() {
    with_failpoints(async {
        let (_root, store) = store();
        let (key, checkpoint) = begun(&store).await;
        let mut writer = store
            .append(&key, checkpoint.clone(), unsaved())
            .await
            .unwrap();
        fail::cfg("blobs::write", "1*sleep(300)->off").unwrap();
        // A whole batch: its job sleeps in front of the write while the writer goes.
        writer
            .write(Bytes::from(vec![b'x'; 1024 * 1024]))
            .await
            .unwrap();
        drop(writer);
        let mut writer = store.append(&key, checkpoint, unsaved()).await.unwrap();
        writer.write(content()).await.unwrap();
        let checkpoint = writer.finish().await.unwrap();
        tokio::time::sleep(Duration::from_millis(400)).await;
        assert_eq!(store.length(&key).await.unwrap(), Some(checkpoint.offset));
    });
}

#[test]
fn a_failed_delete_says_so_and_tries_the_others() {
    with_failpoints(async {
        let (_root, store) = store();
        let keys = [begun(&store).await.0, begun(&store).await.0];
        fail::cfg("blobs::delete", "1*return->off").unwrap();
        assert!(matches!(store.delete(&keys).await, Err(StoreError::Io(_))));
        assert_eq!(store.length(&keys[0]).await.unwrap(), Some(7));
        assert_eq!(store.length(&keys[1]).await.unwrap(), None);
        store.delete(&keys).await.unwrap();
        assert_eq!(store.length(&keys[0]).await.unwrap(), None);
    });
}

#[test]
fn a_take_over_whose_copy_fails_leaves_the_session_to_the_next() {
    with_failpoints(async {
        let root = tempfile::tempdir().unwrap();
        let open = || FileStore::open(root.path(), 0).unwrap().shared();
        let (one, two) = (open(), open());
        let row = Row::new();
        let mut session = row.claim(&one).await.unwrap();
        session.writer.write(content()).await.unwrap();
        session.save().await.unwrap();
        // Its writer goes on, so another process has to copy what was saved.
        let mut overtaken = row.claim(&one).await.unwrap();
        fail::cfg("blobs::copied", "1*return->off").unwrap();
        let failed = row.claim(&two).await;
        assert!(matches!(failed, Err(StoreError::Io(_))));
        overtaken.writer.write(content()).await.ok();
        let mut session = row.claim(&two).await.unwrap();
        session
            .writer
            .write(Bytes::from_static(b"!"))
            .await
            .unwrap();
        assert_eq!(row.checkpoint().offset, 7, "the failed copy saved nothing");
        let whole = session.writer.finish().await.unwrap();
        assert_eq!(
            whole.hasher.digest(Algorithm::Sha256),
            Some(Algorithm::Sha256.digest(b"content!"))
        );
        session.ledger.save(&whole).await.unwrap();
        let left = two.list(None, 100).await.unwrap();
        assert_eq!(left, [row.key()], "the failed copy is gone");
        assert_eq!(two.length(&row.key()).await.unwrap(), Some(8));
    });
}
