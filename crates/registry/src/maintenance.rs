//! Work on the whole installation, as commands ask for it.

use std::{path::PathBuf, sync::Arc};

use granary_catalog::Explanation;
use granary_oci::Digest;

use crate::{
    AccountsCommand, AccountsError, AccountsReport, AuditCommand, AuditReport, BackupReport,
    BucketAddress, CollectionReport, CopyError, ExportReport, ExportRequest, ImportReport,
    ImportRequest, MovingError, OwnershipReport, Registry, RegistryError, ScrubReport,
};

/// Something to do. It crosses a socket when a server is running, so it is plain data.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
#[serde(tag = "command", rename_all = "kebab-case")]
pub enum Maintenance {
    /// Collect garbage.
    Gc {
        /// Only count.
        dry_run: bool,
    },
    /// Re-hash everything.
    Scrub {
        /// Bytes a second.
        rate: u64,
    },
    /// Say what keeps a digest.
    Why {
        /// The digest.
        digest: Digest,
    },
    /// Make a backup.
    Backup {
        /// The folder, from the root on.
        to: PathBuf,
    },
    /// Take in what another registry or a tool stored.
    Import(ImportRequest),
    /// Copy objects that belong to another registry to keys of our own.
    TakeOwnership {
        /// Those below this address only.
        source: Option<BucketAddress>,
    },
    /// Write a repository out.
    Export(ExportRequest),
    /// Look after accounts.
    Accounts(AccountsCommand),
    /// Look at the audit log.
    Audit(AuditCommand),
}

/// What it came to.
#[derive(Clone, Debug)]
pub enum MaintenanceReport {
    /// Of a collection.
    Gc(CollectionReport),
    /// Of a scrub.
    Scrub(ScrubReport),
    /// Of a question.
    Why(Digest, Explanation),
    /// Of a backup.
    Backup(BackupReport),
    /// Of an import.
    Import(ImportReport),
    /// Of taking ownership.
    TakeOwnership(OwnershipReport),
    /// Of an export.
    Export(ExportReport),
    /// Of a command about accounts.
    Accounts(AccountsReport),
    /// Of a command about the audit log.
    Audit(AuditReport),
}

/// Why it was not done.
#[derive(Debug, thiserror::Error)]
pub enum MaintenanceError {
    /// The registry failed.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// A copy failed.
    #[error(transparent)]
    Copy(#[from] CopyError),
    /// An import or export failed.
    #[error(transparent)]
    Moving(#[from] MovingError),
    /// A command about accounts failed.
    #[error(transparent)]
    Accounts(#[from] AccountsError),
}

/// Where long work tells how far it is. Cheap to clone.
#[derive(Clone, Default)]
pub struct Progress {
    listener: Option<Arc<Listener>>,
}

type Listener = dyn Fn(Option<&str>, u64) + Send + Sync;

impl Progress {
    /// Nobody listens.
    pub fn silent() -> Self {
        Self::default()
    }

    /// `listener` hears each new stage with its name, and each advance with its size.
    pub fn new(listener: impl Fn(Option<&str>, u64) + Send + Sync + 'static) -> Self {
        Self {
            listener: Some(Arc::new(listener)),
        }
    }

    /// Tells of a new stage, an advance, or both.
    pub fn tell(&self, stage: Option<&str>, by: u64) {
        if let Some(listener) = &self.listener {
            listener(stage, by);
        }
    }

    pub(crate) fn say(&self, stage: &str) {
        self.tell(Some(stage), 0);
    }

    pub(crate) fn advance(&self, by: u64) {
        self.tell(None, by);
    }
}

/// Most passes of one command. What lies nested deeper waits for the next; while clients push, there is always more.
const PASSES: u32 = 12;

impl Registry {
    /// Does what is asked. A collection runs the two passes that removal takes.
    pub async fn maintain(
        &self,
        work: Maintenance,
        progress: &Progress,
    ) -> Result<MaintenanceReport, MaintenanceError> {
        match work {
            Maintenance::Gc { dry_run } => {
                let first = self.collect(dry_run, progress).await?;
                if dry_run || first.skipped {
                    return Ok(MaintenanceReport::Gc(first));
                }
                // Memberships, blobs and objects follow from one another, so a removal may take a pass for each.
                let mut report = first;
                for _ in 1..PASSES {
                    let next = self.collect(false, progress).await?;
                    report.add(&next);
                    if next.marked + next.manifests + next.withdrawn + next.blobs == 0 {
                        break;
                    }
                }
                Ok(MaintenanceReport::Gc(report))
            }
            Maintenance::Scrub { rate } => {
                Ok(MaintenanceReport::Scrub(self.scrub(rate, progress).await?))
            }
            Maintenance::Why { digest } => {
                let explanation = self.parts.catalog.explain(&digest).await;
                let explanation = explanation.map_err(RegistryError::from)?;
                Ok(MaintenanceReport::Why(digest, explanation))
            }
            Maintenance::Backup { to } => Ok(MaintenanceReport::Backup(
                self.back_up(&to, progress).await?,
            )),
            Maintenance::Import(request) => Ok(MaintenanceReport::Import(
                self.import(request, progress).await?,
            )),
            Maintenance::TakeOwnership { source } => Ok(MaintenanceReport::TakeOwnership(
                self.take_ownership(source.as_ref(), progress).await?,
            )),
            Maintenance::Export(request) => Ok(MaintenanceReport::Export(
                self.export(request, progress).await?,
            )),
            Maintenance::Accounts(command) => {
                Ok(MaintenanceReport::Accounts(self.administer(command).await?))
            }
            Maintenance::Audit(command) => Ok(MaintenanceReport::Audit(
                self.audit_command(command, progress).await?,
            )),
        }
    }
}

impl CollectionReport {
    fn add(&mut self, other: &Self) {
        self.skipped |= other.skipped;
        self.uploads += other.uploads;
        self.repositories += other.repositories;
        self.manifests += other.manifests;
        self.withdrawn += other.withdrawn;
        self.blobs += other.blobs;
        self.bytes += other.bytes;
        // What is still marked waits for the next pass.
        self.marked = other.marked;
        self.objects += other.objects;
    }
}
