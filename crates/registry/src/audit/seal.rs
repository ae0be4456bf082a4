//! The sealer: numbers and chains what was committed, and signs how far the chain is.

use std::{
    sync::{PoisonError, atomic::Ordering},
    time::{Duration, Instant},
};

use granary_catalog::{AuditCheckpoint, KeyPurpose, Unsigned};
use granary_identity::InstallationKey;

use super::chain::{genesis, link, statement};
use crate::{Registry, RegistryError};

/// Rows of one transaction, where others write meanwhile.
const BATCH: u64 = 1000;
/// The same on SQLite, where others wait for it.
const SHORT_BATCH: u64 = 250;
/// Pause of the sealer while there is something to seal.
const BUSY: Duration = Duration::from_secs(1);
/// Pause while there is nothing.
const IDLE: Duration = Duration::from_secs(5);
/// Between two checkpoints, unless one is asked for.
const BETWEEN: Duration = Duration::from_secs(60);
/// How long a turn lasts that is not prolonged.
const TURN: Duration = Duration::from_secs(15);

impl Registry {
    /// Seals what comes until the future is dropped. Of several processes that share the catalog one does.
    pub async fn seal_forever(&self) {
        loop {
            let pause = match self.seal_in_turn().await {
                Ok(0) => IDLE,
                Ok(_) => BUSY,
                Err(error) => {
                    tracing::warn!(%error, "the audit log could not be sealed; it is tried again");
                    IDLE
                }
            };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.parts.audit.wake.notified() => {}
            }
        }
    }

    /// Seals and signs everything that was committed before, whoever's turn it is. Says how many rows were sealed here.
    pub async fn seal_audit_now(&self) -> Result<u64, RegistryError> {
        let sealed = self.seal_all().await?;
        self.sign_audit().await?;
        Ok(sealed)
    }

    /// Has the sealer of this process look now.
    pub fn wake_sealer(&self) {
        self.parts.audit.wake.notify_one();
    }

    async fn seal_in_turn(&self) -> Result<u64, RegistryError> {
        let parts = &self.parts;
        let waits = parts.catalog.audit_waits().await?;
        let is_due = self.checkpoint_is_due();
        if !waits && !is_due {
            return Ok(0);
        }
        if parts.catalog.is_shared() && !self.has_audit_turn().await? {
            return Ok(0);
        }
        let sealed = if waits { self.seal_all().await? } else { 0 };
        if is_due {
            self.sign_audit().await?;
            // Months pass as well while nothing happens.
            parts.catalog.prepare_audit().await?;
        }
        Ok(sealed)
    }

    /// Seals batch after batch until nothing waits. When a month turns there is a checkpoint in between, so that its rows can
    /// be removed together one day.
    pub(super) async fn seal_all(&self) -> Result<u64, RegistryError> {
        let parts = &self.parts;
        let genesis = genesis(&parts.audit.installation);
        let most = match parts.catalog.is_shared() {
            true => BATCH,
            false => SHORT_BATCH,
        };
        let (mut sealed, mut past_turn) = (0, false);
        loop {
            let batch = parts
                .catalog
                .seal_audit(genesis.clone(), link, most, past_turn)
                .await?;
            sealed += batch.rows;
            if batch.at_turn {
                self.sign_audit().await?;
            }
            past_turn = batch.at_turn;
            if !batch.more {
                return Ok(sealed);
            }
            granary_failpoint::reach_async("audit::between_batches").await;
        }
    }

    async fn has_audit_turn(&self) -> Result<bool, RegistryError> {
        let parts = &self.parts;
        Ok(parts.catalog.lease("audit", &parts.replica, TURN).await?)
    }

    fn checkpoint_is_due(&self) -> bool {
        let signed = &self.parts.audit.signed;
        let signed = *signed.lock().unwrap_or_else(PoisonError::into_inner);
        signed.is_none_or(|signed| signed.elapsed() >= BETWEEN)
    }

    /// Signs how far the chain is, if no checkpoint says so yet and there is a key to sign with.
    async fn sign_audit(&self) -> Result<(), RegistryError> {
        let parts = &self.parts;
        let audit = &parts.audit;
        let looked = Instant::now();
        if let Some(unsigned) = parts.catalog.audit_unsigned().await? {
            match parts.rules.accounts.key.clone() {
                Some(own) => self.sign_checkpoint(unsigned, &own).await?,
                None if audit.warned.swap(true, Ordering::Relaxed) => {}
                None => tracing::warn!(
                    "the audit log is not signed: name the key of this installation as auth.key_file"
                ),
            }
        }
        *audit.signed.lock().unwrap_or_else(PoisonError::into_inner) = Some(looked);
        Ok(())
    }

    async fn sign_checkpoint(
        &self,
        unsigned: Unsigned,
        own: &InstallationKey,
    ) -> Result<(), RegistryError> {
        let parts = &self.parts;
        let key = self.signing_key(KeyPurpose::Audit, own).await?;
        let mut checkpoint = AuditCheckpoint {
            number: unsigned.number,
            first_seq: unsigned.first_seq,
            last_seq: unsigned.last_seq,
            first_at: unsigned.first_at,
            last_at: unsigned.last_at,
            chain: unsigned.chain,
            kid: key.kid().to_owned(),
            signature: Vec::new(),
            signed_at: parts.catalog.now().await?,
            removed_at: None,
        };
        let text = statement(&parts.audit.installation, &checkpoint);
        let failed = |_| RegistryError::Internal("a checkpoint could not be signed");
        checkpoint.signature = key.sign(text.as_bytes()).map_err(failed)?;
        // Another process may have signed one of that number a moment ago.
        parts.catalog.keep_checkpoint(checkpoint).await?;
        Ok(())
    }
}
