//! What every back end must do. A back end's tests call [`run`]; the store may hold other objects already.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures_util::{TryStreamExt as _, future};
use granary_oci::{Algorithm, ByteRange, Hasher};

use crate::{BlobStore, Checkpoint, Ledger, ObjectKey, StoreError, Unsaved};

type Check = Result<(), StoreError>;

const MIB: usize = 1024 * 1024;

/// Runs every check, panicking at the first one that fails.
pub async fn run(store: &dyn BlobStore) {
    named("an object reads back as it was written", reads_back(store)).await;
    named("an object may be empty", may_be_empty(store)).await;
    named(
        "small and large pieces keep their order",
        pieces_keep_their_order(store),
    )
    .await;
    named("a long stream passes", long_stream(store)).await;
    named("a sync may be repeated", sync_repeats(store)).await;
    named("an upload goes on at its checkpoint", goes_on(store)).await;
    named(
        "bytes behind a checkpoint are cut off",
        torn_tail_is_cut(store),
    )
    .await;
    named("an upload can start over", starts_over(store)).await;
    named("an abandoned write is no harm", abandoned_write(store)).await;
    named(
        "a checkpoint needs its bytes",
        checkpoint_needs_its_bytes(store),
    )
    .await;
    named("ranges give exactly their bytes", ranges(store)).await;
    named(
        "a range behind the end is damage",
        range_behind_the_end(store),
    )
    .await;
    named("a missing object is missing", missing(store)).await;
    named("deleting is idempotent", delete_is_idempotent(store)).await;
    named("foreign objects are left alone", foreign_objects(store)).await;
    named("lists come in pages and in order", list_pages(store)).await;
    named(
        "writers of different objects do not meet",
        concurrent_writers(store),
    )
    .await;
    named("the identity stays", identity_stays(store)).await;
    named("a store with room admits uploads", store.admit()).await;
}

async fn named(name: &str, check: impl Future<Output = Check>) {
    if let Err(error) = check.await {
        panic!("{name}: {error}");
    }
}

/// `length` bytes in which every place looks different, other ones for each seed.
pub fn noise(seed: u64, length: usize) -> Bytes {
    let mut state = (seed + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let mut bytes = BytesMut::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes.freeze()
}

fn start() -> Checkpoint {
    Checkpoint::start(Hasher::new(None))
}

fn unsaved() -> Arc<dyn Ledger> {
    Arc::new(Unsaved)
}

fn whole(length: usize) -> ByteRange {
    ByteRange {
        first: 0,
        last: length as u64 - 1,
    }
}

async fn write(
    store: &dyn BlobStore,
    key: &ObjectKey,
    pieces: &[Bytes],
) -> Result<Checkpoint, StoreError> {
    let mut writer = store.append(key, start(), unsaved()).await?;
    for piece in pieces {
        writer.write(piece.clone()).await?;
    }
    writer.finish().await
}

async fn read(
    store: &dyn BlobStore,
    key: &ObjectKey,
    range: ByteRange,
) -> Result<Bytes, StoreError> {
    let mut stream = store.read(key, range).await?;
    let mut bytes = BytesMut::new();
    while let Some(piece) = stream.try_next().await? {
        assert!(!piece.is_empty(), "a read gives no empty pieces");
        bytes.extend_from_slice(&piece);
    }
    Ok(bytes.freeze())
}

/// The object holds exactly `content`, and the checkpoint says so.
async fn expect(
    store: &dyn BlobStore,
    key: &ObjectKey,
    checkpoint: &Checkpoint,
    content: &[u8],
) -> Check {
    assert_eq!(
        checkpoint.offset,
        content.len() as u64,
        "offset of the checkpoint"
    );
    let digest = checkpoint.hasher.digest(Algorithm::Sha256);
    assert!(
        checkpoint.tail.is_empty(),
        "a finished object is all in the store"
    );
    assert_eq!(
        digest,
        Some(Algorithm::Sha256.digest(content)),
        "digest of the checkpoint"
    );
    assert_eq!(
        store.length(key).await?,
        Some(content.len() as u64),
        "length of the object"
    );
    if !content.is_empty() {
        assert!(
            read(store, key, whole(content.len())).await? == content,
            "content of the object"
        );
    }
    Ok(())
}

/// A checkpoint as a session row gives it back.
fn reloaded(checkpoint: &Checkpoint) -> Checkpoint {
    match Hasher::import(&checkpoint.hasher.export()) {
        Ok(hasher) => Checkpoint {
            hasher,
            ..checkpoint.clone()
        },
        Err(error) => panic!("{error}"),
    }
}

async fn reads_back(store: &dyn BlobStore) -> Check {
    for (seed, length) in [(0, 1), (1, 63), (2, 64 * 1024), (3, 2 * MIB + 5)] {
        let (key, content) = (ObjectKey::unique(), noise(seed, length));
        let checkpoint = write(store, &key, std::slice::from_ref(&content)).await?;
        expect(store, &key, &checkpoint, &content).await?;
    }
    Ok(())
}

async fn may_be_empty(store: &dyn BlobStore) -> Check {
    let key = ObjectKey::unique();
    let checkpoint = write(store, &key, &[]).await?;
    expect(store, &key, &checkpoint, b"").await?;
    let key = ObjectKey::unique();
    let checkpoint = write(store, &key, &[Bytes::new(), Bytes::new()]).await?;
    expect(store, &key, &checkpoint, b"").await
}

async fn pieces_keep_their_order(store: &dyn BlobStore) -> Check {
    let (key, content) = (ObjectKey::unique(), noise(10, 3 * MIB));
    let mut writer = store.append(&key, start(), unsaved()).await?;
    let (mut rest, mut round) = (content.clone(), 0);
    while !rest.is_empty() {
        let length = [1, 100_000, 0, 8191, 8192, 3, 700_000, 17][round % 8];
        writer.write(rest.split_to(length.min(rest.len()))).await?;
        round += 1;
    }
    let checkpoint = writer.finish().await?;
    expect(store, &key, &checkpoint, &content).await
}

async fn long_stream(store: &dyn BlobStore) -> Check {
    let (key, piece) = (ObjectKey::unique(), noise(20, MIB + 1));
    let mut writer = store.append(&key, start(), unsaved()).await?;
    let mut content = Vec::new();
    for round in 0..40 {
        let piece = piece.slice(round..);
        content.extend_from_slice(&piece);
        writer.write(piece).await?;
    }
    let checkpoint = writer.finish().await?;
    expect(store, &key, &checkpoint, &content).await
}

async fn sync_repeats(store: &dyn BlobStore) -> Check {
    let (key, content) = (ObjectKey::unique(), noise(30, 100_000));
    let mut writer = store.append(&key, start(), unsaved()).await?;
    assert_eq!(writer.sync().await?.offset, 0);
    for end in [1, 60_000, 100_000] {
        let from = writer.sync().await?.offset as usize;
        writer.write(content.slice(from..end)).await?;
        assert_eq!(writer.sync().await?.offset, end as u64);
        assert_eq!(writer.sync().await?.offset, end as u64);
    }
    let checkpoint = writer.finish().await?;
    expect(store, &key, &checkpoint, &content).await
}

async fn goes_on(store: &dyn BlobStore) -> Check {
    let (key, content) = (ObjectKey::unique(), noise(40, 3 * MIB));
    let mut checkpoint = Checkpoint::start(Hasher::new(Some(Algorithm::Sha512)));
    for end in [1, 4095, 4096, 700_000, 2 * MIB + 1, 3 * MIB] {
        let from = checkpoint.offset as usize;
        let mut writer = store.append(&key, reloaded(&checkpoint), unsaved()).await?;
        writer.write(content.slice(from..end)).await?;
        checkpoint = writer.sync().await?;
        assert_eq!(checkpoint.offset, end as u64);
    }
    let checkpoint = store
        .append(&key, reloaded(&checkpoint), unsaved())
        .await?
        .finish()
        .await?;
    assert_eq!(
        checkpoint.hasher.digest(Algorithm::Sha512),
        Some(Algorithm::Sha512.digest(&content))
    );
    expect(store, &key, &checkpoint, &content).await
}

async fn torn_tail_is_cut(store: &dyn BlobStore) -> Check {
    let (head, lost, tail) = (noise(50, 100_001), noise(51, 2 * MIB), noise(52, 70_000));
    for tail in [tail, Bytes::new()] {
        let key = ObjectKey::unique();
        let mut writer = store.append(&key, start(), unsaved()).await?;
        writer.write(head.clone()).await?;
        let checkpoint = writer.sync().await?;
        writer.write(lost.clone()).await?;
        writer.sync().await?;
        drop(writer);

        let mut writer = store.append(&key, reloaded(&checkpoint), unsaved()).await?;
        writer.write(tail.clone()).await?;
        let checkpoint = writer.finish().await?;
        expect(
            store,
            &key,
            &checkpoint,
            &[head.as_ref(), tail.as_ref()].concat(),
        )
        .await?;
    }
    Ok(())
}

async fn starts_over(store: &dyn BlobStore) -> Check {
    let (key, content) = (ObjectKey::unique(), noise(60, 5000));
    write(store, &key, &[noise(61, 9000)]).await?;
    let checkpoint = write(store, &key, std::slice::from_ref(&content)).await?;
    expect(store, &key, &checkpoint, &content).await
}

async fn abandoned_write(store: &dyn BlobStore) -> Check {
    let (key, content) = (ObjectKey::unique(), noise(70, 3 * MIB));
    let mut checkpoint = start();
    for round in 1..=8 {
        let mut writer = store.append(&key, reloaded(&checkpoint), unsaved()).await?;
        let end = 1000 * round;
        writer
            .write(content.slice(checkpoint.offset as usize..end))
            .await?;
        checkpoint = writer.sync().await?;
        // Still on its way when the writer goes.
        writer.write(noise(71 + round as u64, MIB)).await?;
    }
    let mut writer = store.append(&key, reloaded(&checkpoint), unsaved()).await?;
    writer
        .write(content.slice(checkpoint.offset as usize..))
        .await?;
    let checkpoint = writer.finish().await?;
    expect(store, &key, &checkpoint, &content).await
}

async fn checkpoint_needs_its_bytes(store: &dyn BlobStore) -> Check {
    let key = ObjectKey::unique();
    let checkpoint = write(store, &key, &[noise(80, 1000)]).await?;
    let beyond = Checkpoint {
        offset: 1001,
        ..checkpoint.clone()
    };
    match store.append(&key, beyond, unsaved()).await.err() {
        Some(StoreError::Damaged {
            expected: 1001,
            found: 1000,
            ..
        }) => {}
        other => panic!("a shorter object: {other:?}"),
    }
    match store
        .append(&ObjectKey::unique(), checkpoint, unsaved())
        .await
        .err()
    {
        Some(StoreError::Missing { .. }) => Ok(()),
        other => panic!("a missing object: {other:?}"),
    }
}

async fn ranges(store: &dyn BlobStore) -> Check {
    let length = 3 * MIB + 7;
    let (key, content) = (ObjectKey::unique(), noise(90, length));
    let mut writer = store.append(&key, start(), unsaved()).await?;
    // Several syncs, because a store may keep what each one made apart.
    for piece in content.chunks(MIB) {
        writer.write(content.slice_ref(piece)).await?;
        writer.sync().await?;
    }
    writer.finish().await?;
    let last = length - 1;
    let edges = [
        0,
        1,
        4095,
        65_536,
        131_071,
        131_072,
        MIB - 1,
        MIB,
        MIB + 1,
        2 * MIB,
        last - 1,
        last,
    ];
    for (number, &first) in edges.iter().enumerate() {
        for &last in &edges[number..] {
            let range = ByteRange {
                first: first as u64,
                last: last as u64,
            };
            assert!(
                read(store, &key, range).await? == content[first..=last],
                "range {first}-{last}"
            );
        }
    }
    Ok(())
}

async fn range_behind_the_end(store: &dyn BlobStore) -> Check {
    let key = ObjectKey::unique();
    write(store, &key, &[noise(100, 1000)]).await?;
    for (first, last) in [(0, 1000), (999, 1000), (1000, 1000), (5000, 5001)] {
        match read(store, &key, ByteRange { first, last }).await.err() {
            Some(StoreError::Damaged { .. }) => {}
            other => panic!("range {first}-{last}: {other:?}"),
        }
    }
    Ok(())
}

async fn missing(store: &dyn BlobStore) -> Check {
    let key = ObjectKey::unique();
    assert_eq!(store.length(&key).await?, None);
    match store.read(&key, whole(1)).await.err() {
        Some(StoreError::Missing { key: named }) => assert_eq!(named, key),
        other => panic!("{other:?}"),
    }
    Ok(())
}

async fn delete_is_idempotent(store: &dyn BlobStore) -> Check {
    let keys: Vec<_> = (0..5).map(|_| ObjectKey::unique()).collect();
    for key in &keys[1..] {
        write(store, key, &[noise(110, 100)]).await?;
    }
    // The first was never there.
    store.delete(&keys[..4]).await?;
    store.delete(&keys[..4]).await?;
    store.delete(&[]).await?;
    for key in &keys[..4] {
        assert_eq!(store.length(key).await?, None);
    }
    assert_eq!(store.length(&keys[4]).await?, Some(100), "the others stay");
    Ok(())
}

/// Nothing is written under a foreign key; what is removed beside one goes, and a foreign object that is not there is
/// missing like any other.
async fn foreign_objects(store: &dyn BlobStore) -> Check {
    let named = |name| ObjectKey::foreign(name).unwrap_or_else(|error| panic!("{name}: {error}"));
    let foreign = named("other/blobs/data");
    for name in ["other/blobs/data", "data"] {
        let foreign = named(name);
        let refused = store.append(&foreign, start(), unsaved()).await;
        assert!(matches!(refused, Err(StoreError::Foreign { .. })), "{name}");
    }
    assert_eq!(store.length(&foreign).await?, None);
    let unread = store.read(&foreign, whole(1)).await;
    assert!(matches!(unread, Err(StoreError::Missing { .. })));
    let own = ObjectKey::unique();
    write(store, &own, &[noise(1, 10)]).await?;
    store.delete(&[foreign.clone(), own.clone()]).await?;
    assert_eq!(store.length(&own).await?, None);
    store.abandon(&foreign, &[]).await
}

async fn list_pages(store: &dyn BlobStore) -> Check {
    let mut keys: Vec<_> = (0..20).map(|_| ObjectKey::unique()).collect();
    for key in &keys {
        write(store, key, &[noise(120, 10)]).await?;
    }
    keys.sort_unstable();
    for limit in [1, 3, 10_000] {
        let (mut seen, mut after) = (Vec::new(), None);
        loop {
            let page = store.list(after.as_ref(), limit).await?;
            assert!(page.len() <= limit, "a page holds at most its limit");
            after = page.last().cloned();
            if after.is_none() {
                break;
            }
            seen.extend(page);
        }
        assert!(
            seen.is_sorted_by(|a, b| a < b),
            "pages are in order and without repetition"
        );
        seen.retain(|key| keys.contains(key));
        assert_eq!(seen, keys, "pages of {limit}");
    }
    store.delete(&keys).await?;
    assert!(!store.list(None, 10_000).await?.contains(&keys[0]));
    assert!(store.list(None, 0).await?.is_empty());
    Ok(())
}

async fn concurrent_writers(store: &dyn BlobStore) -> Check {
    let writers = (0..16).map(|seed| async move {
        let (key, content) = (ObjectKey::unique(), noise(200 + seed, MIB + 1000));
        let mut writer = store.append(&key, start(), unsaved()).await?;
        for piece in content.chunks(50_000) {
            writer.write(content.slice_ref(piece)).await?;
            // Each await lets the others in between.
            writer.sync().await?;
        }
        let checkpoint = writer.finish().await?;
        expect(store, &key, &checkpoint, &content).await
    });
    future::try_join_all(writers).await.map(drop)
}

async fn identity_stays(store: &dyn BlobStore) -> Check {
    let identity = store.identity("first").await?;
    assert!(!identity.is_empty());
    assert_eq!(store.identity("second").await?, identity);
    Ok(())
}
