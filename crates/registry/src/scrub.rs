//! Re-hashing what is stored, within an I/O budget.

use std::time::{Duration, Instant};

use granary_blobs::{BlobStore, ObjectKey, RemoteFailure, StoreError};
use granary_catalog::{BlobPlace, ScrubItem, ScrubKind};
use granary_oci::ByteRange;

use crate::{Progress, Registry, RegistryError, blobs::parse_key, receive::re_read};

/// Content whose bytes no longer match its digest.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Damage {
    /// What it should hash to.
    pub digest: String,
    /// `blob` or `manifest`.
    pub kind: &'static str,
    /// What was found.
    pub problem: String,
}

/// What a scrub found.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct ScrubReport {
    /// Blobs re-hashed.
    pub blobs: u64,
    /// Manifests re-hashed.
    pub manifests: u64,
    /// Bytes re-hashed.
    pub bytes: u64,
    /// What is damaged; it answers 404 from now on, and the next push of it repairs it.
    pub damaged: Vec<Damage>,
    /// Digests that were quarantined and whose bytes are good again, such as those of a volume that was away; they are
    /// served again.
    pub restored: Vec<String>,
}

const PAGE: u64 = 100;

impl Registry {
    /// Re-hashes every blob and manifest, at most `rate` bytes a second, and quarantines what is damaged.
    pub async fn scrub(
        &self,
        rate: u64,
        progress: &Progress,
    ) -> Result<ScrubReport, RegistryError> {
        let mut report = ScrubReport::default();
        let mut budget = Budget {
            rate: rate.max(1),
            began: Instant::now(),
            spent: 0,
        };
        progress.say("re-hashing blobs");
        report.blobs = self
            .scrub_all(ScrubKind::Blob, &mut report, &mut budget, progress)
            .await?;
        progress.say("re-hashing manifests");
        report.manifests = self
            .scrub_all(ScrubKind::Manifest, &mut report, &mut budget, progress)
            .await?;
        Ok(report)
    }

    /// Re-hashes everything of one kind and says how many that were.
    async fn scrub_all(
        &self,
        kind: ScrubKind,
        report: &mut ScrubReport,
        budget: &mut Budget,
        progress: &Progress,
    ) -> Result<u64, RegistryError> {
        let (mut after, mut number) = (0, 0);
        loop {
            let page = self.parts.catalog.scrub_page(kind, after, PAGE).await?;
            let Some(last) = page.last() else {
                return Ok(number);
            };
            after = last.id;
            for item in page {
                let problem = self.check(&item).await?;
                let news = problem.is_some() != item.quarantined;
                // A row that went or got another object meanwhile has nothing to do with what was found.
                let counts = !news || {
                    let (key, damaged) = (item.place.key(), problem.is_some());
                    let catalog = &self.parts.catalog;
                    catalog.set_quarantine(kind, item.id, key, damaged).await?
                };
                report.bytes += item.size;
                if counts {
                    report.note(&item, kind, problem);
                }
                number += 1;
                progress.advance(item.size);
                budget.spend(item.size).await;
            }
        }
    }

    /// What is wrong with the bytes, if anything.
    async fn check(&self, item: &ScrubItem) -> Result<Option<String>, RegistryError> {
        let algorithm = item.digest.algorithm();
        let actual = match &item.place {
            BlobPlace::Inline(bytes) => algorithm.digest(bytes),
            BlobPlace::Object(key) => {
                let key = parse_key(key)?;
                match self.parts.store.length(&key).await? {
                    None => {
                        confirm_missing(&*self.parts.store, &key, item.size).await?;
                        return Ok(Some("its object is missing".to_owned()));
                    }
                    Some(length) if length != item.size => {
                        return Ok(Some(format!(
                            "its object has {length} bytes instead of {}",
                            item.size
                        )));
                    }
                    Some(length) => match re_read(&self.parts, &key, length, algorithm).await {
                        Ok(actual) => actual,
                        Err(RegistryError::Store(error)) if error.is_damage() => {
                            return Ok(Some(error.to_string()));
                        }
                        Err(error) => return Err(error),
                    },
                }
            }
        };
        Ok((actual != item.digest).then(|| format!("its bytes hash to {actual}")))
    }
}

/// Makes sure that an object of `size` bytes that seems to be missing is. A server between may say "not found" for the
/// whole store, and only the answer to a read tells whose word that is.
pub(crate) async fn confirm_missing(
    store: &dyn BlobStore,
    key: &ObjectKey,
    size: u64,
) -> Result<(), StoreError> {
    if size == 0 {
        return Ok(());
    }
    let first = ByteRange { first: 0, last: 0 };
    match store.read(key, first).await {
        Err(StoreError::Missing { .. }) => Ok(()),
        Err(error) => Err(error),
        Ok(_) => Err(RemoteFailure {
            action: "looking at",
            key: Some(key.clone()),
            status: None,
            code: None,
            reason: "it was not found at first, and is there".to_owned(),
            transient: true,
        }
        .into()),
    }
}

impl ScrubReport {
    fn note(&mut self, item: &ScrubItem, kind: ScrubKind, problem: Option<String>) {
        let kind = match kind {
            ScrubKind::Blob => "blob",
            ScrubKind::Manifest => "manifest",
        };
        match problem {
            Some(problem) => {
                tracing::error!(
                    digest = %item.digest, kind, problem,
                    "stored content is damaged; it is not served until it is pushed again"
                );
                self.damaged.push(Damage {
                    digest: item.digest.to_string(),
                    kind,
                    problem,
                });
            }
            None if item.quarantined => self.restored.push(item.digest.to_string()),
            None => {}
        }
    }
}

/// Spreads reading over time.
struct Budget {
    rate: u64,
    began: Instant,
    spent: u64,
}

impl Budget {
    async fn spend(&mut self, bytes: u64) {
        self.spent += bytes;
        let due = Duration::from_secs_f64(self.spent as f64 / self.rate as f64);
        if let Some(ahead) = due.checked_sub(self.began.elapsed()) {
            tokio::time::sleep(ahead).await;
        }
    }
}
