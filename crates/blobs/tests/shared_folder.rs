//! Several stores on one folder, as several processes have them.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

mod session;

use std::{fs, path::Path, sync::Arc};

use bytes::Bytes;
use futures_util::TryStreamExt as _;
use granary_blobs::{
    BlobStore, Checkpoint, FileStore, Ledger, ObjectKey, StoreError, Unsaved,
    suite::{self, noise},
};
use granary_oci::{Algorithm, ByteRange, Digest};
use tempfile::TempDir;

use session::Row;

const MIB: usize = 1024 * 1024;

fn folder() -> TempDir {
    tempfile::tempdir_in("/dev/shm").unwrap_or_else(|_| tempfile::tempdir().unwrap())
}

fn store(root: &Path) -> FileStore {
    FileStore::open(root, 0).unwrap().shared()
}

async fn read(store: &FileStore, key: &ObjectKey, length: usize) -> Vec<u8> {
    let last = length as u64 - 1;
    let pieces = store.read(key, ByteRange { first: 0, last }).await.unwrap();
    let pieces: Vec<Bytes> = pieces.try_collect().await.unwrap();
    pieces.concat()
}

async fn keys(store: &FileStore) -> Vec<ObjectKey> {
    store.list(None, 100).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shared_folder_passes_the_suite() {
    let root = folder();
    suite::run(&store(root.path())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_was_let_go_goes_on_in_the_same_file() {
    let root = folder();
    let stores = [store(root.path()), store(root.path())];
    let (row, content) = (Row::new(), noise(1, 5 * MIB + 7));
    let key = row.key();
    for (number, piece) in content.chunks(MIB).enumerate() {
        let mut session = row.claim(&stores[number % 2]).await.unwrap();
        session
            .writer
            .write(content.slice_ref(piece))
            .await
            .unwrap();
        session.save().await.unwrap();
        assert_eq!(
            (row.key(), row.checkpoint().state),
            (key.clone(), Vec::new())
        );
    }
    let mut session = row.claim(&stores[0]).await.unwrap();
    let digest = session.writer.digest(Algorithm::Sha256).await.unwrap();
    assert_eq!(digest, Some(Digest::sha256(&content)));
    session.writer.finish().await.unwrap();
    assert_eq!(read(&stores[1], &key, content.len()).await, content);
    assert_eq!(keys(&stores[1]).await, [key]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_overtaken_writer_that_goes_on_harms_nobody() {
    let root = folder();
    let (one, two) = (store(root.path()), store(root.path()));
    let (row, content) = (Row::new(), noise(2, 9 * MIB));
    let mut session = row.claim(&one).await.unwrap();
    session.writer.write(content.slice(..MIB)).await.unwrap();
    session.save().await.unwrap();
    let former = row.key();

    // It has written, and writes on while its successor does.
    let mut zombie = row.claim(&one).await.unwrap();
    zombie.writer.write(noise(3, 3 * MIB)).await.unwrap();
    let mut session = row.claim(&two).await.unwrap();
    for piece in content.slice(MIB..).chunks(MIB) {
        zombie.writer.write(noise(4, MIB)).await.unwrap();
        session
            .writer
            .write(content.slice_ref(piece))
            .await
            .unwrap();
    }
    zombie.writer.sync().await.ok();
    assert!(matches!(
        zombie.save_and_stay().await,
        Err(StoreError::Superseded { .. })
    ));
    // What it still writes after that is refused before it gets anywhere.
    let late = zombie.writer.write(noise(5, MIB)).await;
    assert!(
        matches!(late, Err(StoreError::Superseded { .. })),
        "{late:?}"
    );

    let digest = session.writer.digest(Algorithm::Sha256).await.unwrap();
    assert_eq!(digest, Some(Digest::sha256(&content)));
    session.save_and_stay().await.unwrap();
    session.writer.finish().await.unwrap();
    assert_ne!(row.key(), former);
    for store in [&one, &two] {
        assert_eq!(read(store, &row.key(), content.len()).await, content);
        assert_eq!(keys(store).await, [row.key()]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_writer_that_was_overtaken_before_it_began_is_refused() {
    let root = folder();
    let (one, two) = (store(root.path()), store(root.path()));
    let row = Row::new();
    let mut session = row.claim(&one).await.unwrap();
    session.writer.write(noise(1, MIB)).await.unwrap();
    let stale = Arc::clone(&session.ledger);
    session.save().await.unwrap();
    let (key, checkpoint) = (row.key(), row.checkpoint());
    // It asks for the file only when another one has the session.
    let mut session = row.claim(&two).await.unwrap();
    let refused = one.append(&key, checkpoint.clone(), stale.clone()).await;
    assert!(matches!(refused, Err(StoreError::Superseded { .. })));
    session.writer.write(noise(2, MIB)).await.unwrap();
    session.save().await.unwrap();

    // And nobody gets at a file that has a writer by its key.
    let mut taken = checkpoint;
    taken.state = b"taken".to_vec();
    let busy = one.append(&key, taken, Arc::new(Unsaved)).await;
    assert!(matches!(busy, Err(StoreError::Busy { .. })));
    assert_eq!(keys(&one).await, [key]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_take_over_that_is_cut_anywhere_is_taken_over_itself() {
    let root = folder();
    let (one, two) = (store(root.path()), store(root.path()));
    for cuts in [
        &[0][..],
        &[1],
        &[2],
        &[1, 1, 0, 1],
        &[1, 2, 2, 1],
        &[2, 0, 2],
    ] {
        let (row, content) = (Row::new(), noise(7, 3 * MIB));
        let mut session = row.claim(&one).await.unwrap();
        session.writer.write(content.slice(..MIB)).await.unwrap();
        session.save().await.unwrap();
        let mut zombies = vec![row.claim(&one).await.unwrap()];
        for (number, lasts) in cuts.iter().enumerate() {
            // The database is away after so many saves: before the copy, before the bytes count, or only later on.
            let store = [&two, &one][number % 2];
            zombies.extend(row.claim_for(store, *lasts).await);
        }
        for zombie in &mut zombies {
            zombie.writer.write(noise(8, MIB)).await.ok();
        }
        let mut session = row.claim(&two).await.unwrap();
        for zombie in &mut zombies {
            zombie.writer.write(noise(9, MIB)).await.ok();
            zombie.writer.sync().await.ok();
        }
        session.writer.write(content.slice(MIB..)).await.unwrap();
        session.save().await.unwrap();
        assert_eq!(
            read(&one, &row.key(), content.len()).await,
            content,
            "{cuts:?}"
        );
        assert_eq!(keys(&one).await, [row.key()], "{cuts:?}");
        one.delete(&[row.key()]).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_ends_leaves_no_file_wherever_it_was() {
    let root = folder();
    let (one, two) = (store(root.path()), store(root.path()));
    for lasts in [0, 1, 2, usize::MAX] {
        let row = Row::new();
        let mut session = row.claim(&one).await.unwrap();
        session.writer.write(noise(1, MIB)).await.unwrap();
        session.save().await.unwrap();
        let _zombie = row.claim(&one).await.unwrap();
        let _heir = row.claim_for(&two, lasts).await;
        one.abandon(&row.key(), &row.checkpoint().state)
            .await
            .unwrap();
        assert_eq!(keys(&one).await, [], "{lasts}");
    }
    let unreadable = one.abandon(&ObjectKey::unique(), b"?").await;
    let text = unreadable.unwrap_err().to_string();
    assert!(text.contains("notes"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_refused_leaves_the_file_to_the_next_writer() {
    let root = folder();
    let (one, two) = (store(root.path()), store(root.path()));
    let row = Row::new();
    let mut session = row.claim(&one).await.unwrap();
    session.writer.write(noise(1, MIB)).await.unwrap();
    session.save().await.unwrap();
    let before = row.checkpoint();
    let mut session = row.claim(&one).await.unwrap();
    session.writer.write(noise(2, MIB)).await.unwrap();
    let now = session.writer.sync().await.unwrap();
    let back = Checkpoint {
        state: one.rewound(&before.state, &now.state),
        ..before
    };
    session.ledger.save(&back).await.unwrap();
    drop(session);
    let key = row.key();
    let mut session = row.claim(&two).await.unwrap();
    session.writer.write(noise(3, MIB)).await.unwrap();
    session.save().await.unwrap();
    assert_eq!(row.key(), key);
    let whole = [noise(1, MIB), noise(3, MIB)].concat();
    assert_eq!(read(&one, &key, whole.len()).await, whole);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_without_room_for_a_copy_says_so_and_loses_nothing() {
    let root = folder();
    let one = store(root.path());
    let row = Row::new();
    let mut session = row.claim(&one).await.unwrap();
    session.writer.write(noise(1, MIB)).await.unwrap();
    session.save().await.unwrap();
    let _zombie = row.claim(&one).await.unwrap();
    let narrow = FileStore::open(root.path(), u64::MAX / 2).unwrap().shared();
    let full = row.claim(&narrow).await;
    assert!(matches!(full, Err(StoreError::Full { .. })));
    let session = row.claim(&one).await.unwrap();
    session.save().await.unwrap();
    assert_eq!(read(&one, &row.key(), MIB).await, noise(1, MIB));
    assert_eq!(keys(&one).await, [row.key()]);
}

#[tokio::test(flavor = "multi_thread")]
async fn all_agree_on_the_folders_identity() {
    for round in 0..20 {
        let root = folder();
        let asked = (0..4).map(|number| {
            let store = store(root.path());
            tokio::spawn(async move { store.identity(&format!("id-{round}-{number}")).await })
        });
        let mut answers = Vec::new();
        for answer in futures_util::future::join_all(asked).await {
            answers.push(answer.unwrap().unwrap());
        }
        assert!(
            answers.iter().all(|answer| *answer == answers[0]),
            "{answers:?}"
        );
        let drafts = fs::read_dir(root.path()).unwrap();
        let left = drafts.filter(|entry| {
            let name = entry.as_ref().unwrap().file_name();
            name.to_string_lossy().starts_with("store-id.")
        });
        assert_eq!(left.count(), 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_removed_is_missing_for_the_other() {
    let root = folder();
    let (one, two) = (store(root.path()), store(root.path()));
    let row = Row::new();
    let mut session = row.claim(&one).await.unwrap();
    session.writer.write(noise(1, MIB)).await.unwrap();
    session.save().await.unwrap();
    assert_eq!(read(&two, &row.key(), MIB).await, noise(1, MIB));
    for _ in 0..2 {
        two.delete(&[row.key()]).await.unwrap();
    }
    assert_eq!(one.length(&row.key()).await.unwrap(), None);
    let range = ByteRange { first: 0, last: 0 };
    let gone = one.read(&row.key(), range).await;
    assert!(matches!(gone, Err(StoreError::Missing { .. })));
}
