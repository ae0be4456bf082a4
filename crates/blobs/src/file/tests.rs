//! What only a filesystem can show. Everything else is in the suite.

use std::{fs, io::Write as _};

use bytes::Bytes;
use futures_util::TryStreamExt as _;
use granary_oci::{Algorithm, Hasher};
use tempfile::TempDir;

use super::*;
use crate::Unsaved;

fn store() -> (TempDir, FileStore) {
    let root = tempfile::tempdir().unwrap();
    let store = FileStore::open(&root.path().join("a/b"), 0).unwrap();
    (root, store)
}

fn start() -> Checkpoint {
    Checkpoint::start(Hasher::new(None))
}

fn unsaved() -> Arc<dyn Ledger> {
    Arc::new(Unsaved)
}

async fn object(store: &FileStore, content: &[u8]) -> (ObjectKey, Checkpoint) {
    let key = ObjectKey::unique();
    let mut writer = store.append(&key, start(), unsaved()).await.unwrap();
    writer.write(Bytes::copy_from_slice(content)).await.unwrap();
    (key, writer.finish().await.unwrap())
}

async fn pieces(store: &FileStore, key: &ObjectKey, length: usize) -> Vec<Bytes> {
    let range = ByteRange {
        first: 0,
        last: length as u64 - 1,
    };
    store
        .read(key, range)
        .await
        .unwrap()
        .try_collect()
        .await
        .unwrap()
}

#[tokio::test]
async fn files_pass_the_suite() {
    let (_root, store) = store();
    crate::suite::run(&store).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn files_pass_the_suite_on_several_threads() {
    let (_root, store) = store();
    crate::suite::run(&store).await;
}

#[tokio::test]
async fn an_object_is_a_file_with_the_raw_bytes() {
    let (root, store) = store();
    let (key, _) = object(&store, b"content").await;
    assert_eq!(
        fs::read(root.path().join("a/b").join(key.as_str())).unwrap(),
        b"content"
    );
}

#[tokio::test]
async fn a_torn_tail_is_cut_before_the_writer_goes_on() {
    let (_root, store) = store();
    let (key, checkpoint) = object(&store, b"head").await;
    let path = store.tree.path(&key);
    fs::OpenOptions::new()
        .append(true)
        .open(&path)
        .unwrap()
        .write_all(b"torn")
        .unwrap();
    let mut writer = store.append(&key, checkpoint, unsaved()).await.unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"head");
    writer.write(Bytes::from_static(b" tail")).await.unwrap();
    let checkpoint = writer.finish().await.unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"head tail");
    assert_eq!(
        checkpoint.hasher.digest(Algorithm::Sha256),
        Some(Algorithm::Sha256.digest(b"head tail"))
    );
}

#[tokio::test]
async fn an_object_somebody_else_changed_is_not_acknowledged() {
    let (_root, store) = store();
    let key = ObjectKey::unique();
    let mut writer = store.append(&key, start(), unsaved()).await.unwrap();
    writer.write(Bytes::from_static(b"content")).await.unwrap();
    writer.sync().await.unwrap();
    fs::OpenOptions::new()
        .write(true)
        .open(store.tree.path(&key))
        .unwrap()
        .set_len(100)
        .unwrap();
    writer.write(Bytes::from_static(b"!")).await.unwrap();
    let refused = writer.sync().await.unwrap_err();
    assert!(
        matches!(
            refused,
            StoreError::Damaged {
                expected: 8,
                found: 100,
                ..
            }
        ),
        "{refused}"
    );
    let refused = writer.write(Bytes::from_static(b"!")).await.unwrap_err();
    assert!(matches!(refused, StoreError::Poisoned { .. }), "{refused}");
}

#[tokio::test]
async fn an_object_has_one_writer_at_a_time() {
    let (_root, mut store) = store();
    store.patience = Duration::from_millis(20);
    let (key, checkpoint) = object(&store, b"head").await;
    let first = store
        .append(&key, checkpoint.clone(), unsaved())
        .await
        .unwrap();
    let refused = store
        .append(&key, checkpoint.clone(), unsaved())
        .await
        .err()
        .unwrap();
    assert!(matches!(refused, StoreError::Busy { .. }), "{refused}");
    store.patience = PATIENCE;
    let (second, ()) = tokio::join!(store.append(&key, checkpoint, unsaved()), async {
        tokio::time::sleep(Duration::from_millis(20)).await;
        drop(first);
    });
    second.unwrap().finish().await.unwrap();
}

#[tokio::test]
async fn a_file_that_is_too_short_is_refused_before_the_first_byte() {
    let (_root, store) = store();
    let (key, _) = object(&store, b"content").await;
    let refused = store
        .read(&key, ByteRange { first: 0, last: 7 })
        .await
        .err()
        .unwrap();
    assert!(
        matches!(
            refused,
            StoreError::Damaged {
                expected: 8,
                found: 7,
                ..
            }
        ),
        "{refused}"
    );
}

#[tokio::test]
async fn a_file_that_shrinks_while_it_is_read_ends_the_stream() {
    let (_root, store) = store();
    let content = vec![7; 1024 * 1024];
    let (key, _) = object(&store, &content).await;
    let range = ByteRange {
        first: 0,
        last: 1024 * 1024 - 1,
    };
    let mut stream = store.read(&key, range).await.unwrap();
    let first = stream.try_next().await.unwrap().unwrap().len() as u64;
    fs::OpenOptions::new()
        .write(true)
        .open(store.tree.path(&key))
        .unwrap()
        .set_len(first + 10)
        .unwrap();
    let mut read = first;
    let refused = loop {
        match stream.try_next().await {
            Ok(piece) => read += piece.unwrap().len() as u64,
            Err(refused) => break refused,
        }
    };
    assert!(matches!(refused, StoreError::Damaged { .. }), "{refused}");
    assert!(read <= first + 10);
    assert!(
        stream.try_next().await.unwrap().is_none(),
        "nothing follows an error"
    );
}

#[tokio::test]
async fn what_is_not_in_the_page_cache_is_read_too() {
    let (_root, store) = store();
    let content: Vec<u8> = (0..3_000_001_u32).map(|n| (n >> 4) as u8).collect();
    let (key, _) = object(&store, &content).await;
    let file = fs::File::open(store.tree.path(&key)).unwrap();
    // Drops the synced pages; where that has no effect the test is the same as a warm read.
    rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).unwrap();
    assert!(pieces(&store, &key, content.len()).await.concat() == content);
    assert!(pieces(&store, &key, content.len()).await.concat() == content);
}

#[tokio::test]
async fn without_the_page_cache_calls_reads_are_the_same() {
    let (_root, store) = store();
    let content: Vec<u8> = (0..3_000_001_u32).map(|n| (n >> 4) as u8).collect();
    let (key, _) = object(&store, &content).await;
    let read = reader::read_ahead_all(
        store.tree.open_object(&key).unwrap(),
        &store.tree,
        &key,
        5,
        3_000_000,
        &store.buffers,
    );
    assert!(read.unwrap().concat() == content[5..3_000_000]);
    let refused = reader::read_ahead_all(
        store.tree.open_object(&key).unwrap(),
        &store.tree,
        &key,
        0,
        3_000_002,
        &store.buffers,
    );
    assert!(matches!(
        refused.unwrap_err(),
        StoreError::Damaged {
            found: 3_000_001,
            ..
        }
    ));
}

#[tokio::test]
async fn a_file_that_cannot_be_made_is_an_error_that_names_it() {
    let (_root, store) = store();
    let key = ObjectKey::unique();
    fs::create_dir(store.tree.path(&key)).unwrap();
    let mut writer = store.append(&key, start(), unsaved()).await.unwrap();
    let refused = writer.sync().await.unwrap_err();
    assert!(
        matches!(refused, StoreError::Io(_)) && refused.to_string().contains(key.as_str()),
        "{refused}"
    );
    let refused = writer.sync().await.unwrap_err();
    assert!(matches!(refused, StoreError::Poisoned { .. }), "{refused}");
    let refused = store.delete(std::slice::from_ref(&key)).await.unwrap_err();
    assert!(refused.to_string().contains(key.as_str()), "{refused}");
}

#[tokio::test]
async fn below_the_reserve_no_upload_starts_and_deletes_work() {
    let root = tempfile::tempdir().unwrap();
    let roomy = FileStore::open(root.path(), 1).unwrap();
    roomy.admit().await.unwrap();
    let (key, _) = object(&roomy, b"content").await;
    let full = FileStore::open(root.path(), u64::MAX).unwrap();
    for _ in 0..2 {
        let refused = full.admit().await.unwrap_err();
        assert!(
            matches!(
                refused,
                StoreError::Full {
                    free: 1..,
                    reserve: u64::MAX
                }
            ),
            "{refused}"
        );
    }
    full.delete(std::slice::from_ref(&key)).await.unwrap();
    assert_eq!(full.length(&key).await.unwrap(), None);
}

#[tokio::test]
async fn below_the_reserve_no_upload_goes_on() {
    let root = tempfile::tempdir().unwrap();
    let roomy = FileStore::open(root.path(), 0).unwrap();
    let full = FileStore::open(root.path(), u64::MAX).unwrap();
    let key = ObjectKey::unique();
    let mut writer = roomy.append(&key, start(), unsaved()).await.unwrap();
    writer.write(Bytes::from_static(b"head")).await.unwrap();
    let checkpoint = writer.sync().await.unwrap();
    drop(writer);
    for (key, checkpoint) in [
        (key.clone(), checkpoint.clone()),
        (ObjectKey::unique(), start()),
    ] {
        let mut writer = full.append(&key, checkpoint, unsaved()).await.unwrap();
        writer.write(Bytes::from_static(b" tail")).await.unwrap();
        let refused = writer.sync().await.unwrap_err();
        assert!(
            matches!(
                refused,
                StoreError::Full {
                    free: 1..,
                    reserve: u64::MAX
                }
            ),
            "{refused}"
        );
    }
    assert_eq!(full.length(&key).await.unwrap(), Some(4));
    assert_eq!(
        full.list(None, 100).await.unwrap(),
        std::slice::from_ref(&key)
    );
    // What needs no room is still done.
    let whole = full.append(&key, checkpoint.clone(), unsaved()).await;
    assert_eq!(whole.unwrap().finish().await.unwrap().offset, 4);
    let empty = full.append(&ObjectKey::unique(), start(), unsaved()).await;
    assert_eq!(empty.unwrap().finish().await.unwrap().offset, 0);

    let mut writer = roomy.append(&key, checkpoint, unsaved()).await.unwrap();
    writer.write(Bytes::from_static(b" tail")).await.unwrap();
    assert_eq!(writer.finish().await.unwrap().offset, 9);
    assert_eq!(pieces(&roomy, &key, 9).await.concat(), b"head tail");
}

#[tokio::test]
async fn the_identity_survives_a_restart() {
    let root = tempfile::tempdir().unwrap();
    assert_eq!(
        FileStore::open(root.path(), 0)
            .unwrap()
            .identity("one")
            .await
            .unwrap(),
        "one"
    );
    let again = FileStore::open(root.path(), 0).unwrap();
    assert_eq!(again.identity("two").await.unwrap(), "one");
    fs::write(root.path().join("store-id"), "").unwrap();
    assert!(
        again.identity("three").await.is_err(),
        "an emptied identity is no fresh store"
    );
}

#[tokio::test]
async fn files_of_others_are_not_listed() {
    let (root, store) = store();
    let (key, _) = object(&store, b"content").await;
    let root = root.path().join("a/b");
    fs::write(root.join("00/notes.txt"), "").unwrap();
    fs::write(root.join("00").join("f".repeat(32)), "").unwrap();
    fs::create_dir(root.join("lost+found")).unwrap();
    assert_eq!(store.list(None, 100).await.unwrap(), [key]);
}

#[test]
fn a_root_that_is_no_directory_is_refused() {
    let root = tempfile::NamedTempFile::new().unwrap();
    let refused = FileStore::open(root.path(), 0).err().unwrap();
    assert!(
        refused.to_string().contains(root.path().to_str().unwrap()),
        "{refused}"
    );
}

#[tokio::test]
async fn small_uploads_and_cut_futures_lose_nothing() {
    let (_root, store) = store();
    let key = ObjectKey::unique();
    let mut writer = store.append(&key, start(), unsaved()).await.unwrap();
    let mut content = Vec::new();
    for round in 0..50_u8 {
        let piece = vec![round; 300_000];
        content.extend_from_slice(&piece);
        // Polled once and dropped: whatever it was waiting for, the bytes are taken in.
        let _ = futures_util::FutureExt::now_or_never(writer.write(piece.into()));
        let _ = futures_util::FutureExt::now_or_never(writer.sync());
    }
    let checkpoint = writer.finish().await.unwrap();
    assert_eq!(
        checkpoint.hasher.digest(Algorithm::Sha256),
        Some(Algorithm::Sha256.digest(&content))
    );
    assert!(pieces(&store, &key, content.len()).await.concat() == content);
}
