//! Copying an installation: its rows in one snapshot, then every object that they name, compared with its digest.
//!
//! A copy that was cut goes on: rows behind the last one that arrived, objects that are not in the target yet.

mod objects;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bytes::Bytes;
use granary_blobs::{BlobStore, Checkpoint, ObjectKey, StoreError, Unsaved};
use granary_catalog::{
    BlobPlace, Catalog, CatalogError, CopyStart, HOLD, ScrubKind, Snapshot, dialect,
};
use granary_oci::Hasher;

use crate::{Damage, Progress, Registry};

use objects::Objects;

/// A catalog and the store that belongs to it.
#[derive(Clone, Copy)]
pub struct Side<'a> {
    /// The catalog.
    pub catalog: &'a Catalog,
    /// The store.
    pub store: &'a dyn BlobStore,
}

/// Where a copy is taken from.
pub(crate) struct Origin<'a> {
    /// What the catalog held when the copy began.
    pub(crate) snapshot: Snapshot,
    /// The store.
    pub(crate) store: &'a dyn BlobStore,
}

/// How a copy is made.
#[derive(Clone, Copy, Debug, Default)]
pub struct CopyOptions {
    /// Whether everything is read again from where it was copied to, and compared with its digest.
    pub verify: bool,
}

/// What a copy came to.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct CopyReport {
    /// An earlier copy was gone on with.
    pub resumed: bool,
    /// Rows of each table.
    pub rows: BTreeMap<String, u64>,
    /// API tokens that were withdrawn, because the source is a backup.
    pub tokens_withdrawn: u64,
    /// Objects copied now.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Objects that were in the target already.
    pub present: u64,
    /// Blobs and manifests that were read again and are good, if that was asked for.
    pub verified: u64,
    /// Blobs whose objects are not in the source. They answer 404 in the target until they are pushed again.
    pub missing: Vec<Damage>,
    /// Blobs and manifests whose bytes do not match their digests. They answer 404 in the target likewise.
    pub damaged: Vec<Damage>,
    /// Blobs that were quarantined in the source and whose bytes are still missing or damaged.
    pub quarantined: u64,
    /// How many objects lie in the target that nothing names.
    pub strangers: u64,
    /// The first of their keys.
    pub stranger_keys: Vec<String>,
}

impl CopyReport {
    /// Whether everything arrived and is good.
    pub fn is_whole(&self) -> bool {
        self.missing.is_empty() && self.damaged.is_empty()
    }
}

/// Most strangers that are listed; all are counted.
const LISTED: usize = 1000;
/// Rows of a page.
const PAGE: u64 = 100;
/// Keys of a page.
const KEYS: usize = 1000;
/// Pause between signs of life of a hold, which outlives five of them.
const HEARTBEAT: Duration = Duration::from_secs(60);

/// Why a copy ended early. It can be begun again, and then goes on where it was.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// A catalog failed.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// The source's store failed.
    #[error("the source's blob store failed: {0}")]
    Source(StoreError),
    /// The target's store failed.
    #[error("the target's blob store failed: {0}")]
    Target(StoreError),
    /// The source is no installation.
    #[error("the source was never used: there is nothing to copy")]
    Empty,
    /// The target holds a copy that ended.
    #[error(
        "the target holds this installation already: an earlier copy of it ended, and may have been used since. \
         Start Granary on it, or empty the target to copy anew"
    )]
    Finished,
    /// The target holds something else.
    #[error("the target is not empty: {0}. A copy needs a database and a store of its own")]
    Occupied(String),
    /// Another process copies into the target.
    #[error("another process copies into the target: wait for it, or end it")]
    Busy,
    /// A store belongs to another catalog.
    #[error(
        "the {side}'s blob store has id {found}, but the copy is of the installation with id {expected}: name the store that belongs to the {side}'s database"
    )]
    ForeignStore {
        /// Whose store.
        side: &'static str,
        /// What it should be.
        expected: String,
        /// What the store says.
        found: String,
    },
    /// Objects may have been deleted from the source meanwhile.
    #[error(
        "the source could not be kept from deleting objects for the whole time: begin the copy again"
    )]
    HoldLost,
    /// A folder that is not a backup of this installation.
    #[error("{0}")]
    Folder(String),
    /// A file could not be read or written.
    #[error("{what} failed: {source}")]
    File {
        /// What was tried, and with which file.
        what: String,
        /// What the system said.
        source: std::io::Error,
    },
}

impl Registry {
    /// Its catalog and store.
    pub fn side(&self) -> Side<'_> {
        Side {
            catalog: &self.parts.catalog,
            store: &*self.parts.store,
        }
    }
}

/// Copies one installation into another, or the rest of it, and keeps its objects from being deleted meanwhile.
pub async fn copy_installation(
    from: Side<'_>,
    to: Side<'_>,
    options: CopyOptions,
    progress: &Progress,
) -> Result<CopyReport, CopyError> {
    held(from.catalog, async {
        let origin = Origin {
            snapshot: from.catalog.snapshot().await?,
            store: from.store,
        };
        copy(origin, to, options, Tokens::Keep, progress).await
    })
    .await
}

/// What becomes of API tokens.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tokens {
    /// They go on.
    Keep,
    /// They end: the source does not know which of them were withdrawn since it was made.
    Withdraw,
}

/// Does `work` while nothing is deleted from the store of `catalog` (decision 36).
pub(crate) async fn held<T>(
    catalog: &Catalog,
    work: impl Future<Output = Result<T, CopyError>>,
) -> Result<T, CopyError> {
    let name = format!("copy-{}", uuid::Uuid::new_v4().simple());
    catalog.hold(&name, HOLD).await?;
    let done = tokio::select! {
        done = work => done,
        lost = prolong(catalog, &name) => Err(lost),
    };
    // Should this fail, the hold ends by itself.
    let ended = catalog.let_go(&name).await;
    if let Err(error) = ended {
        tracing::warn!(%error, "garbage collection deletes no objects for some minutes");
    }
    done
}

/// Keeps the hold until it is lost.
async fn prolong(catalog: &Catalog, name: &str) -> CopyError {
    let mut until = tokio::time::Instant::now() + HOLD;
    loop {
        tokio::time::sleep(HEARTBEAT).await;
        match catalog.hold(name, HOLD).await {
            Ok(true) => until = tokio::time::Instant::now() + HOLD,
            Ok(false) => return CopyError::HoldLost,
            Err(error) if tokio::time::Instant::now() < until => {
                tracing::warn!(%error, "the hold could not be prolonged; it is tried again");
            }
            Err(_) => return CopyError::HoldLost,
        }
    }
}

/// Copies what the snapshot holds. Whoever calls this has a hold, or knows that nobody uses the source.
pub(crate) async fn copy(
    from: Origin<'_>,
    to: Side<'_>,
    options: CopyOptions,
    tokens: Tokens,
    progress: &Progress,
) -> Result<CopyReport, CopyError> {
    let Origin { snapshot, store } = from;
    progress.say("looking at the source");
    let _claim = to.catalog.claim_copy().await?.ok_or(CopyError::Busy)?;
    let id = snapshot.store_id().await?.ok_or(CopyError::Empty)?;
    let found = store.known_identity().await.map_err(CopyError::Source)?;
    belongs("source", &id, found.unwrap_or_else(|| "none".to_owned()))?;
    let figures = snapshot.figures().await?;
    let resumed = match to.catalog.begin_copy(&id, &figures).await? {
        CopyStart::Fresh => false,
        CopyStart::Resumed => true,
        CopyStart::Finished => return Err(CopyError::Finished),
        CopyStart::Occupied(by) => return Err(CopyError::Occupied(by)),
    };
    let found = to.store.identity(&id).await.map_err(CopyError::Target)?;
    belongs("target", &id, found)?;
    let watch = |table: &str, rows| match rows {
        0 => progress.say(&format!("copying rows of {table}")),
        rows => progress.advance(rows),
    };
    to.catalog.copy_rows(&snapshot, &watch).await?;
    // Everything else is read from the rows that arrived, so that the source's log can be cut.
    snapshot.close().await?;
    let mut report = CopyReport {
        resumed,
        rows: figures.rows(),
        ..CopyReport::default()
    };
    progress.say("copying objects");
    let objects = Objects {
        from: store,
        to,
        verify: options.verify,
        resumed,
        shared: is_shared(store, to.store).await?,
        progress,
    };
    objects.copy_all(&mut report).await?;
    if !objects.shared {
        objects.own_names().await?;
    }
    if options.verify {
        progress.say("reading manifests and small blobs again");
        verify_rows(to.catalog, &mut report, progress).await?;
    }
    progress.say("looking for strangers");
    each_stranger(to, |keys| {
        report.strangers += keys.len() as u64;
        let room = LISTED.saturating_sub(report.stranger_keys.len());
        report.stranger_keys.extend(keys.into_iter().take(room));
    })
    .await?;
    report.tokens_withdrawn = to.catalog.end_copy(tokens == Tokens::Withdraw).await?;
    Ok(report)
}

/// Whether both are the same store, of which only the database moves.
async fn is_shared(from: &dyn BlobStore, to: &dyn BlobStore) -> Result<bool, CopyError> {
    let key = ObjectKey::unique();
    let start = Checkpoint::start(Hasher::new(None));
    let writer = to.append(&key, start, Arc::new(Unsaved)).await;
    let mut writer = writer.map_err(CopyError::Target)?;
    let probe = Bytes::from_static(b"?");
    writer.write(probe).await.map_err(CopyError::Target)?;
    writer.finish().await.map_err(CopyError::Target)?;
    let found = from.length(&key).await.map_err(CopyError::Source);
    to.delete(&[key]).await.map_err(CopyError::Target)?;
    Ok(found?.is_some())
}

fn belongs(side: &'static str, expected: &str, found: String) -> Result<(), CopyError> {
    if found == expected {
        return Ok(());
    }
    Err(CopyError::ForeignStore {
        side,
        expected: expected.to_owned(),
        found,
    })
}

/// Re-hashes manifests and the blobs that lie in the catalog.
async fn verify_rows(
    catalog: &Catalog,
    report: &mut CopyReport,
    progress: &Progress,
) -> Result<(), CopyError> {
    for (kind, word) in [(ScrubKind::Blob, "blob"), (ScrubKind::Manifest, "manifest")] {
        let mut after = 0;
        loop {
            let page = catalog.scrub_page(kind, after, PAGE).await?;
            let Some(last) = page.last() else { break };
            after = last.id;
            for item in page {
                let BlobPlace::Inline(bytes) = &item.place else {
                    continue;
                };
                progress.advance(item.size);
                let actual = item.digest.algorithm().digest(bytes);
                if actual == item.digest {
                    report.verified += 1;
                } else if item.quarantined {
                    report.quarantined += 1;
                } else {
                    catalog.set_quarantine(kind, item.id, None, true).await?;
                    let problem = format!("its bytes hash to {actual}");
                    report.damaged.push(Damage {
                        digest: item.digest.to_string(),
                        kind: word,
                        problem,
                    });
                }
            }
        }
    }
    Ok(())
}

/// Shows `look` the keys of objects that nothing names, page by page.
pub(crate) async fn each_stranger(
    side: Side<'_>,
    mut look: impl FnMut(Vec<String>),
) -> Result<(), CopyError> {
    let mut after = None;
    loop {
        let page = side
            .store
            .list(after.as_ref(), KEYS)
            .await
            .map_err(CopyError::Target)?;
        let Some(last) = page.last() else {
            return Ok(());
        };
        after = Some(last.clone());
        let keys = page.iter().map(|key| key.as_str().to_owned()).collect();
        look(side.catalog.strangers(keys).await?);
    }
}

/// The time now, as text.
pub(crate) fn time() -> String {
    jiff::Timestamp::from_microsecond(dialect::now())
        .map_or_else(|_| String::new(), |time| time.to_string())
}
