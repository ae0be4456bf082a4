use std::{sync::Arc, time::Duration};

use granary_blobs::BlobStore;
use granary_catalog::Catalog;
use tokio::runtime::Handle;
use tokio_util::task::TaskTracker;

use crate::{
    RegistryError,
    accounts::{AccountRules, Accounts},
    audit::Audit,
    collect::Collector,
    sessions::Sessions,
};

/// What becomes of manifests that lost their last tag.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Untagged {
    /// They stay.
    #[default]
    Keep,
    /// They go this long after they lost it.
    After(Duration),
}

/// What the operator decided.
#[derive(Clone, Debug)]
pub struct Rules {
    /// Blobs up to this many bytes live in the catalog.
    pub inline_max: usize,
    /// How long content is kept though nothing refers to it.
    pub grace: Duration,
    /// How long an object outlives its row, for readers that hold its key.
    pub read_grace: Duration,
    /// What becomes of untagged manifests.
    pub untagged: Untagged,
    /// How long tag moves are remembered.
    pub tag_history: Duration,
    /// How long an upload session may be idle.
    pub upload_expiry: Duration,
    /// Most open upload sessions of one principal.
    pub uploads_per_principal: u64,
    /// After how long without a byte a second writer may take a session over.
    pub silence: Duration,
    /// Whether manifests may refer to content that is not there.
    pub sparse: bool,
    /// Whether anything may be deleted through the API.
    pub delete: bool,
    /// Which pulls are sent on to the store, if any.
    pub redirect: Option<Redirect>,
    /// Accounts.
    pub accounts: AccountRules,
}

/// Which pulls are sent on to the store by addresses that need no leave of ours (decision 10).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redirect {
    /// Smaller blobs are not, in bytes.
    pub min: u64,
    /// Namespaces whose blobs are not.
    pub except: Vec<String>,
    /// How long an address is good. Objects outlive their rows by at least that.
    pub lifetime: Duration,
}

impl Default for Rules {
    fn default() -> Self {
        const DAY: Duration = Duration::from_secs(24 * 3600);
        Self {
            inline_max: 64 * 1024,
            grace: DAY,
            read_grace: Duration::from_secs(60),
            untagged: Untagged::Keep,
            tag_history: 400 * DAY,
            upload_expiry: DAY,
            uploads_per_principal: 10_000,
            silence: Duration::from_secs(10),
            sparse: false,
            delete: true,
            redirect: None,
            accounts: AccountRules::default(),
        }
    }
}

impl Rules {
    /// How long an object outlives its row: at least as long as any address of it that was handed out.
    pub(crate) fn object_grace(&self) -> Duration {
        match self.redirect {
            Some(_) => self.read_grace,
            None => self.read_grace.min(self.grace),
        }
    }
}

/// Pause between signs of life; a replica counts as gone after four of them.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// The registry: every use case, over one catalog and one store. Cheap to clone.
#[derive(Clone)]
pub struct Registry {
    pub(crate) parts: Arc<Parts>,
}

pub(crate) struct Parts {
    pub(crate) catalog: Catalog,
    pub(crate) store: Box<dyn BlobStore>,
    pub(crate) rules: Rules,
    pub(crate) sessions: Sessions,
    pub(crate) accounts: Accounts,
    pub(crate) audit: Audit,
    pub(crate) collector: Collector,
    /// The unique name of this process among those that share the catalog.
    pub(crate) replica: String,
    tasks: TaskTracker,
    runtime: Handle,
}

impl Registry {
    /// Joins a catalog and a store. A store that belongs to another catalog is refused.
    ///
    /// Must be called inside a tokio runtime, which then runs everything a disconnect must not cancel.
    pub async fn open(
        catalog: Catalog,
        store: Box<dyn BlobStore>,
        rules: Rules,
    ) -> Result<Self, OpenError> {
        if catalog.unfinished_copy().await?.is_some() {
            return Err(OpenError::UnfinishedCopy);
        }
        let fresh = uuid::Uuid::new_v4().simple().to_string();
        let expected = catalog.setting("store-id", fresh).await?;
        if store.known_identity().await?.is_none() && catalog.names_objects().await? {
            return Err(OpenError::EmptyStore { expected });
        }
        let found = store.identity(&expected).await?;
        if found != expected {
            return Err(OpenError::ForeignStore { expected, found });
        }
        let accounts = Accounts::new(&found, &rules.accounts);
        let accounts = accounts.map_err(|_| OpenError::NoRandomness)?;
        let audit = Audit::new(&found);
        let parts = Parts {
            catalog,
            store,
            rules,
            sessions: Sessions::default(),
            accounts,
            audit,
            collector: Collector::default(),
            replica: uuid::Uuid::new_v4().simple().to_string(),
            tasks: TaskTracker::new(),
            runtime: Handle::current(),
        };
        Ok(Self {
            parts: Arc::new(parts),
        })
    }

    /// The catalog, for health checks and figures.
    pub fn catalog(&self) -> &Catalog {
        &self.parts.catalog
    }

    /// What became of the store's dealings with its disk or server.
    pub fn store_figures(&self) -> Vec<granary_blobs::OperationFigures> {
        self.parts.store.figures()
    }

    /// Tells the processes that share the catalog that this one lives, until the future is dropped.
    pub async fn beat_forever(&self, version: &'static str) {
        let parts = &self.parts;
        while parts.catalog.is_shared() {
            if let Err(error) = parts.catalog.beat(&parts.replica, version).await {
                tracing::warn!(%error, "this replica could not say that it lives");
            }
            tokio::time::sleep(HEARTBEAT).await;
        }
    }

    /// Tells them that it ends, and writes down what would be forgotten.
    pub async fn leave(&self) {
        self.keep_uses().await;
        self.keep_reads().await;
        if !self.parts.catalog.is_shared() {
            return;
        }
        let (catalog, replica) = (&self.parts.catalog, &self.parts.replica);
        // Another replica may collect and seal at once, instead of when the turn runs out.
        let mut left = catalog.release("gc", replica).await;
        if left.is_ok() {
            left = catalog.release("audit", replica).await;
        }
        if left.is_ok() {
            left = catalog.leave(replica).await;
        }
        if let Err(error) = left {
            tracing::warn!(%error, "this replica could not say that it ends");
        }
    }

    /// Waits until every task that was begun has ended.
    pub async fn drain(&self) {
        self.parts.tasks.close();
        self.parts.tasks.wait().await;
    }

    /// Runs `work` to its end whatever becomes of the caller (decision 5).
    pub(crate) async fn to_the_end<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, RegistryError>> + Send + 'static,
    ) -> Result<T, RegistryError> {
        let running = self.parts.tasks.spawn_on(work, &self.parts.runtime);
        running
            .await
            .unwrap_or(Err(RegistryError::Internal("a task ended early")))
    }
}

/// Why a registry could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The catalog failed.
    #[error(transparent)]
    Catalog(#[from] granary_catalog::CatalogError),
    /// The store failed.
    #[error("the blob store failed: {0}")]
    Store(#[from] granary_blobs::StoreError),
    /// The operating system gives no random bytes.
    #[error("the operating system gives no random bytes, without which no token can be issued")]
    NoRandomness,
    /// The catalog is a copy that is not whole yet.
    #[error(
        "the database holds a part of a copy: run the migration or restore that was begun again, or use an empty database"
    )]
    UnfinishedCopy,
    /// The catalog names objects, and the store was never used.
    #[error(
        "the blob store was never used, but the database names objects in it: is the disk mounted, and are the folder, bucket and \
         prefix right? If its objects are lost, restore a backup; to go on without them, write {expected} into a file store-id there \
         (granary-store-id in a bucket)"
    )]
    EmptyStore {
        /// The identity it would have.
        expected: String,
    },
    /// Catalog and store do not belong together.
    #[error(
        "the blob store has id {found}, but the database belongs to store {expected}: point both at the same installation, \
         or restore both from the same backup"
    )]
    ForeignStore {
        /// What the database says.
        expected: String,
        /// What the store says.
        found: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_outlive_the_addresses_that_were_handed_out() {
        const MINUTE: Duration = Duration::from_secs(60);
        let rules = |read_grace, grace, redirect| Rules {
            grace,
            read_grace,
            redirect,
            ..Rules::default()
        };
        let redirect = || {
            Some(Redirect {
                min: 0,
                except: Vec::new(),
                lifetime: MINUTE,
            })
        };
        for (grace, shorter) in [(MINUTE / 2, MINUTE / 2), (2 * MINUTE, MINUTE)] {
            assert_eq!(rules(MINUTE, grace, None).object_grace(), shorter);
            assert_eq!(rules(MINUTE, grace, redirect()).object_grace(), MINUTE);
        }
    }
}
