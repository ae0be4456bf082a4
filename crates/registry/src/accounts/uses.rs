//! When credentials were used last, until it is written down: a read never writes (decision 12).

use std::{
    collections::HashMap,
    mem,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use granary_access::{Caller, CredentialId, Principal};
use granary_catalog::Use;

use crate::Registry;

/// Credentials whose uses wait to be written down. Uses of further ones are forgotten until the next time.
const MOST: usize = 20_000;
/// How often they are written down.
const EVERY: Duration = Duration::from_secs(60);

/// Uses that wait to be written down.
#[derive(Default)]
pub(super) struct Uses(Mutex<HashMap<CredentialId, Use>>);

impl Uses {
    fn note(&self, credential: CredentialId, used: Use) {
        let mut uses = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if uses.len() < MOST || uses.contains_key(&credential) {
            uses.insert(credential, used);
        }
    }

    fn take(&self) -> Vec<(CredentialId, Use)> {
        let mut uses = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        mem::take(&mut *uses).into_iter().collect()
    }
}

impl Registry {
    /// Notes that what proved the caller was let in at that time.
    pub(crate) fn note_use(&self, caller: &Caller, at: i64) {
        if let Principal::Known { credential, .. } = &caller.principal {
            let from = caller.origin.address;
            self.parts
                .accounts
                .uses
                .note(credential.id, Use { at, from });
        }
    }

    /// Writes down when tokens were used last.
    pub async fn keep_uses(&self) {
        let uses = self.parts.accounts.uses.take();
        if uses.is_empty() {
            return;
        }
        if let Err(error) = self.parts.catalog.note_uses(uses).await {
            tracing::warn!(%error, "when tokens were used last could not be written down");
        }
    }

    /// The same once a minute, until the future is dropped.
    pub async fn keep_uses_forever(&self) {
        loop {
            tokio::time::sleep(EVERY).await;
            self.keep_uses().await;
        }
    }
}
