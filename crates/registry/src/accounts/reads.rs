//! How often somebody was let in to read, until the audit log is told: a read never writes (decision 12), and a row for each
//! would hide all others (decision 29).

use std::{
    collections::HashMap,
    mem,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use granary_access::{Caller, CredentialId, Principal, PrincipalId};
use granary_catalog::Reads;
use granary_oci::RepositoryName;

use crate::Registry;

/// Principals, credentials and repositories that are counted at once. With the next one the log is told of them all.
const MOST: usize = 20_000;
/// How often the log is told.
const EVERY: Duration = Duration::from_secs(600);
/// Rows of a transaction: others write meanwhile.
const AT_ONCE: usize = 500;

/// Nobody in particular has no number.
type Key = (Option<(PrincipalId, CredentialId)>, RepositoryName);

/// Reads the log was not told of.
#[derive(Default)]
pub(super) struct ReadCounts(Mutex<HashMap<Key, Reads>>);

impl ReadCounts {
    /// Counts one, and says whether there are so many that the log has to be told.
    fn note(&self, caller: &Caller, repository: &RepositoryName) -> bool {
        let key = (caller.principal.ids(), repository.clone());
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let counted = counts.entry(key).or_insert_with(|| Reads {
            principal: caller.principal.clone(),
            origin: caller.origin.clone(),
            target: repository.to_string(),
            count: 0,
        });
        counted.count += 1;
        counted.count == 1 && counts.len() == MOST
    }

    fn take(&self) -> Vec<Reads> {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        mem::take(&mut *counts).into_values().collect()
    }
}

impl Registry {
    /// Counts that the caller was let in to read there. Before there are accounts nobody is told apart from anybody.
    pub(crate) fn note_read(&self, caller: &Caller, repository: &RepositoryName) {
        let counted = matches!(
            caller.principal,
            Principal::Anonymous | Principal::Known { .. }
        );
        if counted && self.parts.accounts.reads.note(caller, repository) {
            let registry = self.clone();
            tokio::spawn(async move { registry.keep_reads().await });
        }
    }

    /// Tells the audit log how often who was let in to read what, since it was told last.
    pub async fn keep_reads(&self) {
        let mut reads = self.parts.accounts.reads.take();
        while !reads.is_empty() {
            let rest = reads.split_off(reads.len().min(AT_ONCE));
            let number: u64 = reads.iter().map(|reads| reads.count).sum();
            if let Err(error) = self.parts.catalog.note_reads(reads).await {
                tracing::warn!(%error, number, "reads could not be noted in the audit log");
            }
            reads = rest;
        }
    }

    /// The same every ten minutes, until the future is dropped.
    pub async fn keep_reads_forever(&self) {
        loop {
            tokio::time::sleep(EVERY).await;
            self.keep_reads().await;
        }
    }
}
