//! The objects of a copy.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use futures_util::{StreamExt, stream::FuturesUnordered};
use granary_blobs::{BlobStore, Checkpoint, ObjectKey, StoreError, Unsaved};
use granary_catalog::{CatalogError, CopyItem, ScrubKind};
use granary_oci::{Algorithm, ByteRange, Digest, Hasher};

use super::{CopyError, CopyReport, PAGE, Side};
use crate::{Damage, Progress, scrub::confirm_missing};

/// Objects that are copied at the same time. Each holds some pieces of its stream in memory.
const PARALLEL: usize = 8;
/// Pauses before what a store refused for the moment is tried again.
const PAUSES: [Duration; 4] = [
    Duration::from_millis(200),
    Duration::from_secs(1),
    Duration::from_secs(4),
    Duration::from_secs(10),
];

/// Copies objects from store to store under the same keys.
pub(super) struct Objects<'a> {
    pub(super) from: &'a dyn BlobStore,
    pub(super) to: Side<'a>,
    /// Everything is read again in the target.
    pub(super) verify: bool,
    /// An earlier copy may have left something behind.
    pub(super) resumed: bool,
    /// Both stores are one.
    pub(super) shared: bool,
    pub(super) progress: &'a Progress,
}

/// What became of one object.
enum Outcome {
    Copied,
    /// It was there.
    Present,
    /// It is not in the source.
    Missing,
    /// What is wrong with it in the source.
    Damaged(String),
}

impl Objects<'_> {
    /// Copies every object that the target's rows name and that is not there.
    pub(super) async fn copy_all(&self, report: &mut CopyReport) -> Result<(), CopyError> {
        let (mut after, mut waiting) = (0, VecDeque::new());
        let mut running = FuturesUnordered::new();
        loop {
            if waiting.is_empty() {
                waiting.extend(self.to.catalog.objects_to_copy(after, PAGE).await?);
                after = waiting.back().map_or(after, |item: &CopyItem| item.id);
            }
            while running.len() < PARALLEL
                && let Some(item) = waiting.pop_front()
            {
                running.push(self.copy_patiently(item));
            }
            match running.next().await {
                Some(done) => {
                    let (item, outcome) = done?;
                    self.note(item, outcome, report).await?;
                }
                None => break,
            }
        }
        if report.present > 0 && !self.shared {
            // Who wrote what was there may have ended before it was durable.
            let settled = self.to.store.settle().await;
            settled.map_err(CopyError::Target)?;
        }
        Ok(())
    }

    /// Has the target's rows name the copies of foreign objects. Last of all, so that a copy that goes on still knows
    /// where in the source they lie.
    pub(super) async fn own_names(&self) -> Result<(), CopyError> {
        let mut after = 0;
        loop {
            let page = self.to.catalog.foreign_blobs(after, "", PAGE).await?;
            let Some(last) = page.last() else {
                return Ok(());
            };
            after = last.id;
            let mut rows = Vec::with_capacity(page.len());
            for item in page {
                let own = self.target_of(&key_of(&item)?).as_str().to_owned();
                rows.push((item.id, item.key, own));
            }
            self.to.catalog.rename_objects(rows).await?;
        }
    }

    /// Where in the target an object lies: what belongs to another registry there is ours here, unless both stores are
    /// one.
    fn target_of(&self, source: &ObjectKey) -> ObjectKey {
        match source.foreign_path() {
            Some(_) if !self.shared => source.stand_in(),
            _ => source.clone(),
        }
    }

    async fn note(
        &self,
        item: CopyItem,
        outcome: Outcome,
        report: &mut CopyReport,
    ) -> Result<(), CopyError> {
        granary_failpoint::reach_async("copy::object").await;
        let (list, problem) = match outcome {
            Outcome::Copied => {
                report.objects += 1;
                report.bytes += item.size;
                report.verified += u64::from(self.verify);
                return Ok(());
            }
            Outcome::Present => {
                report.present += 1;
                report.verified += u64::from(self.verify);
                return Ok(());
            }
            Outcome::Missing => (&mut report.missing, "its object is missing".to_owned()),
            Outcome::Damaged(problem) => (&mut report.damaged, problem),
        };
        if item.quarantined {
            report.quarantined += 1;
            return Ok(());
        }
        let catalog = self.to.catalog;
        catalog
            .set_quarantine(ScrubKind::Blob, item.id, None, true)
            .await?;
        let digest = item.digest.to_string();
        tracing::error!(digest, problem, "a blob could not be copied");
        list.push(Damage {
            digest,
            kind: "blob",
            problem,
        });
        Ok(())
    }

    async fn copy_patiently(&self, item: CopyItem) -> Result<(CopyItem, Outcome), CopyError> {
        let mut pauses = PAUSES.iter();
        loop {
            let error = match self.copy_one(&item).await {
                Ok(outcome) => return Ok((item, outcome)),
                Err(error) => error,
            };
            let passes = match &error {
                CopyError::Source(error) | CopyError::Target(error) => error.is_transient(),
                _ => false,
            };
            match pauses.next() {
                Some(pause) if passes => tokio::time::sleep(*pause).await,
                _ => return Err(error),
            }
        }
    }

    async fn copy_one(&self, item: &CopyItem) -> Result<Outcome, CopyError> {
        let source = key_of(item)?;
        let key = self.target_of(&source);
        let there = self
            .to
            .store
            .length(&key)
            .await
            .map_err(CopyError::Target)?;
        if there == Some(item.size) && (!self.verify || self.is_good(&key, item).await?) {
            self.progress.advance(item.size);
            return Ok(Outcome::Present);
        }
        match self.from.length(&source).await.map_err(CopyError::Source)? {
            None => {
                let missing = confirm_missing(self.from, &source, item.size).await;
                return missing
                    .map(|()| Outcome::Missing)
                    .map_err(CopyError::Source);
            }
            Some(length) if length != item.size => {
                return Ok(Outcome::Damaged(format!(
                    "its object has {length} bytes instead of {}",
                    item.size
                )));
            }
            // The right length and the wrong bytes.
            Some(_) if self.shared => {
                return Ok(Outcome::Damaged(
                    "its bytes hash to something else".to_owned(),
                ));
            }
            Some(_) => {}
        }
        if self.resumed && there.is_none() {
            // What an earlier copy began and did not end.
            let abandoned = self.to.store.abandon(&key, &[]).await;
            abandoned.map_err(CopyError::Target)?;
        }
        let problem = match self.transfer(&source, &key, item).await {
            Ok(actual) if actual != item.digest => format!("its bytes hash to {actual}"),
            Ok(_) if self.verify && !self.is_good(&key, item).await? => {
                self.give_up(&key).await;
                return Err(CopyError::Target(StoreError::Damaged {
                    key,
                    expected: item.size,
                    found: item.size,
                }));
            }
            Ok(_) => return Ok(Outcome::Copied),
            // It was there a moment ago.
            Err(CopyError::Source(StoreError::Missing { .. })) => return Ok(Outcome::Missing),
            Err(CopyError::Source(error)) if error.is_damage() => error.to_string(),
            Err(error) => {
                self.give_up(&key).await;
                return Err(error);
            }
        };
        let removed = self.to.store.abandon(&key, &[]).await;
        removed.map_err(CopyError::Target)?;
        Ok(Outcome::Damaged(problem))
    }

    /// Removes what was written of an object: at its full length it would pass for a whole one the next time, and nobody
    /// knows whether it is.
    async fn give_up(&self, key: &ObjectKey) {
        if let Err(error) = self.to.store.abandon(key, &[]).await {
            tracing::warn!(%error, %key, "what a copy began could not be removed");
        }
    }

    /// Writes the object into the target and says what its bytes hash to.
    async fn transfer(
        &self,
        source: &ObjectKey,
        key: &ObjectKey,
        item: &CopyItem,
    ) -> Result<Digest, CopyError> {
        let algorithm = item.digest.algorithm();
        let start = Checkpoint::start(Hasher::new(Some(algorithm)));
        let ledger = Arc::new(Unsaved);
        let writer = self.to.store.append(key, start, ledger).await;
        let mut writer = writer.map_err(CopyError::Target)?;
        if let Some(last) = item.size.checked_sub(1) {
            let range = ByteRange { first: 0, last };
            let mut stream = self
                .from
                .read(source, range)
                .await
                .map_err(CopyError::Source)?;
            while let Some(piece) = stream.next().await {
                let piece = piece.map_err(CopyError::Source)?;
                let length = piece.len() as u64;
                writer.write(piece).await.map_err(CopyError::Target)?;
                self.progress.advance(length);
            }
        }
        let digest = writer.digest(algorithm).await.map_err(CopyError::Target)?;
        let digest = digest.ok_or_else(|| no_hash(algorithm))?;
        if digest == item.digest {
            writer.finish().await.map_err(CopyError::Target)?;
        }
        Ok(digest)
    }

    /// Whether the target's object has the right bytes.
    async fn is_good(&self, key: &ObjectKey, item: &CopyItem) -> Result<bool, CopyError> {
        let algorithm = item.digest.algorithm();
        let mut hasher = Hasher::new(Some(algorithm));
        if let Some(last) = item.size.checked_sub(1) {
            let range = ByteRange { first: 0, last };
            let mut stream = match self.to.store.read(key, range).await {
                Err(error) if error.is_damage() => return Ok(false),
                stream => stream.map_err(CopyError::Target)?,
            };
            while let Some(piece) = stream.next().await {
                match piece {
                    Ok(piece) => hasher.update(&piece),
                    Err(error) if error.is_damage() => return Ok(false),
                    Err(error) => return Err(CopyError::Target(error)),
                }
            }
        }
        let actual = hasher.digest(algorithm);
        Ok(actual.ok_or_else(|| no_hash(algorithm))? == item.digest)
    }
}

fn key_of(item: &CopyItem) -> Result<ObjectKey, CopyError> {
    let key = item.key.parse();
    Ok(key.map_err(
        |error: granary_blobs::ObjectKeyError| CatalogError::Damaged {
            table: "blobs",
            problem: error.to_string(),
        },
    )?)
}

fn no_hash(algorithm: Algorithm) -> CopyError {
    CopyError::Catalog(CatalogError::Damaged {
        table: "blobs",
        problem: format!("{algorithm:?} was not computed"),
    })
}
