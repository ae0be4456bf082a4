//! Making objects of another registry our own: `granary import --take-ownership`.
//!
//! Each is copied to a key of ours and compared with its digest; then its row names the copy. The other registry's object
//! is not touched, and nothing of ours needs it any more.

use std::sync::Arc;

use futures_util::{StreamExt, stream};
use granary_blobs::{Checkpoint, ObjectKey, StoreError, Unsaved};
use granary_catalog::{CopyItem, ScrubKind};
use granary_oci::{ByteRange, Digest, Hasher};

use super::{blobs::AT_ONCE, in_place::RESERVED, request::BucketAddress};
use crate::{
    MovingError, Progress, Registry, RegistryError,
    blobs::parse_key,
    left_out::{Finding, Findings, Kind},
};

/// What taking ownership came to.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct OwnershipReport {
    /// Blobs whose objects are our own now.
    pub taken: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Blobs whose objects are missing or damaged; they answer 404 until they are pushed again.
    pub left_out: Findings,
}

/// Rows of a page.
const PAGE: u64 = 100;

/// What became of one object.
enum Outcome {
    Taken,
    /// The row went, or was repaired, meanwhile.
    Unneeded,
    Damaged(String),
}

impl Registry {
    /// Copies objects that belong to another registry, those below `address` or all, to keys of our own. Ended early, it
    /// goes on where it was when it is called again.
    pub async fn take_ownership(
        &self,
        address: Option<&BucketAddress>,
        progress: &Progress,
    ) -> Result<OwnershipReport, MovingError> {
        let mut below = String::new();
        if let Some(address) = address {
            let own = self.parts.store.bucket();
            if !own.is_some_and(|own| own.has_name(address.bucket())) {
                return Err(MovingError::NotInPlace(format!(
                    "{address} is not in the bucket in which this installation keeps its objects"
                )));
            }
            if !address.prefix().is_empty() {
                below = format!("{}/", address.prefix());
            }
        }
        progress.say("taking ownership of objects");
        let (mut report, mut after) = (OwnershipReport::default(), 0);
        loop {
            let catalog = &self.parts.catalog;
            let page = catalog.foreign_blobs(after, &below, PAGE).await;
            let page = page.map_err(RegistryError::from)?;
            let Some(last) = page.last() else {
                return Ok(report);
            };
            after = last.id;
            let mut running = stream::iter(page)
                .map(|item| async move {
                    let outcome = self.take(&item, progress).await;
                    outcome.map(|outcome| (item, outcome))
                })
                .buffer_unordered(AT_ONCE);
            while let Some(done) = running.next().await {
                let (item, outcome) = done?;
                match outcome {
                    Outcome::Taken => {
                        report.taken += 1;
                        report.bytes += item.size;
                    }
                    Outcome::Unneeded => {}
                    Outcome::Damaged(why) => {
                        let remedy = "push it again";
                        let finding = Finding::new(Kind::Blob, item.digest, why, remedy);
                        report.left_out.add(finding);
                    }
                }
            }
        }
    }

    async fn take(&self, item: &CopyItem, progress: &Progress) -> Result<Outcome, RegistryError> {
        let parts = &self.parts;
        let (from, to) = (parse_key(&item.key)?, ObjectKey::unique());
        let name = to.as_str().to_owned();
        parts.catalog.reserve_key(name.clone(), RESERVED).await?;
        let problem = match self.copy_object(item, &from, &to, progress).await {
            Ok(actual) if actual == item.digest => None,
            Ok(actual) => Some(format!("its bytes hash to {actual}")),
            Err(RegistryError::Store(StoreError::Missing { key })) if key == from => {
                Some(format!("{} is missing from the bucket", item.key))
            }
            Err(RegistryError::Store(error @ StoreError::Damaged { .. })) if matches!(&error, StoreError::Damaged { key, .. } if *key == from) => {
                Some(error.to_string())
            }
            Err(error) => {
                self.drop_copy(&to).await;
                return Err(error);
            }
        };
        if let Some(problem) = problem {
            self.drop_copy(&to).await;
            let damaged =
                parts
                    .catalog
                    .set_quarantine(ScrubKind::Blob, item.id, Some(&item.key), true);
            damaged.await?;
            return Ok(Outcome::Damaged(problem));
        }
        if !parts.catalog.take_over(item.id, &item.key, &name).await? {
            return Ok(Outcome::Unneeded);
        }
        if item.quarantined {
            // Its bytes were just found good.
            let served = parts
                .catalog
                .set_quarantine(ScrubKind::Blob, item.id, Some(&name), false);
            served.await?;
        }
        Ok(Outcome::Taken)
    }

    /// Copies an object and says what its bytes hash to. Ends it only if that is right.
    async fn copy_object(
        &self,
        item: &CopyItem,
        from: &ObjectKey,
        to: &ObjectKey,
        progress: &Progress,
    ) -> Result<Digest, RegistryError> {
        let (store, algorithm) = (&self.parts.store, item.digest.algorithm());
        let start = Checkpoint::start(Hasher::new(Some(algorithm)));
        let mut writer = store.append(to, start, Arc::new(Unsaved)).await?;
        if let Some(last) = item.size.checked_sub(1) {
            let mut pieces = store.read(from, ByteRange { first: 0, last }).await?;
            while let Some(piece) = pieces.next().await {
                let piece = piece?;
                progress.advance(piece.len() as u64);
                writer.write(piece).await?;
            }
        }
        let digest = writer.digest(algorithm).await?;
        let digest = digest.ok_or(RegistryError::Internal("a hasher lost its algorithm"))?;
        if digest == item.digest {
            writer.finish().await?;
        }
        Ok(digest)
    }

    /// Removes a copy that no row names. Should that fail, garbage collection does it when the reservation ends.
    async fn drop_copy(&self, key: &ObjectKey) {
        if let Err(error) = self.parts.store.abandon(key, &[]).await {
            tracing::warn!(%error, %key, "an object that is not needed goes later");
        }
    }
}
