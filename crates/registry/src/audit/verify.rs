//! Walking the whole log: is every row that was sealed still there, as it was?

use std::collections::{HashMap, VecDeque};

use granary_catalog::{AuditCheckpoint, AuditRow, KeyPurpose};
use granary_identity::{SigningKey, jwks};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::{
    check::{AuditCheck, Checked, LastRow},
    export::{AuditCursor, AuditRange},
};
use crate::{Progress, Registry, RegistryError, accounts::opened};

/// What a walk along the log came to.
#[derive(Clone, Debug, Serialize)]
pub struct VerifyReport {
    /// What was found.
    #[serde(flatten)]
    pub checked: Checked,
    /// The keys of checkpoints, as a JSON Web Key Set, to verify exports with.
    pub keys: Value,
    /// Those of them that this installation's key does not open: that they are ours only the database says.
    pub unproven: Vec<String>,
}

/// The keys that may have signed checkpoints.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct AuditKeys {
    /// All of them, as a JSON Web Key Set.
    #[schema(value_type = Object)]
    pub keys: Value,
    /// The names of those that this installation's key does not open: that they are ours only the database says.
    pub unproven: Vec<String>,
}

fn key_set(keys: &HashMap<String, [u8; 32]>) -> Value {
    jwks(keys.iter().map(|(kid, key)| (kid.as_str(), key)))
}

/// Rows and checkpoints of one page, of each at most.
pub(super) const PAGE: u64 = 1000;
/// Walks of one command, if rows are removed meanwhile.
const WALKS: u32 = 3;

/// A row or a checkpoint, which stands behind the last row it covers.
pub(super) enum Entry {
    Row(AuditRow),
    Checkpoint(AuditCheckpoint),
}

/// A part of the log.
pub(super) struct Trail {
    pub(super) entries: Vec<Entry>,
    /// Where the next part begins; nothing at the end.
    pub(super) next: Option<AuditCursor>,
}

impl Registry {
    /// Seals what waits, walks the log and says what is wrong with it. `noted` is a row that somebody noted elsewhere.
    pub async fn verify_audit(
        &self,
        noted: Option<LastRow>,
        progress: &Progress,
    ) -> Result<VerifyReport, RegistryError> {
        self.seal_audit_now().await?;
        progress.say("comparing the rows of the audit log with their chain");
        let (keys, unproven) = self.checkpoint_keys().await?;
        let set = key_set(&keys);
        let mut walks = 1;
        let checked = loop {
            let before = self.parts.catalog.audit_state().await?;
            let check =
                AuditCheck::new(&self.parts.audit.installation, keys.clone(), noted.clone());
            let whole = self.whole(&before);
            let checked = self.walk_audit(check, &whole, progress).await?;
            let removed = self.parts.catalog.audit_state().await?.removed;
            // Rows that were removed in order, while they were walked along, are no finding.
            if checked.found == 0 || removed == before.removed || walks == WALKS {
                break checked;
            }
            walks += 1;
        };
        Ok(VerifyReport {
            checked,
            keys: set,
            unproven,
        })
    }

    async fn walk_audit(
        &self,
        mut check: AuditCheck,
        whole: &AuditRange,
        progress: &Progress,
    ) -> Result<Checked, RegistryError> {
        let mut next = Some(whole.cursor());
        while let Some(after) = next {
            let trail = self
                .trail(after, whole.last_row, whole.last_checkpoint, PAGE)
                .await?;
            for entry in &trail.entries {
                match entry {
                    Entry::Row(row) => check.row(row),
                    Entry::Checkpoint(checkpoint) => check.checkpoint(checkpoint),
                }
            }
            progress.advance(trail.entries.len() as u64);
            next = trail.next;
        }
        Ok(check.end())
    }

    /// Rows and checkpoints behind `after`, of each at most `most`, and each checkpoint behind the last row it covers.
    pub(super) async fn trail(
        &self,
        after: AuditCursor,
        last_row: i64,
        last_checkpoint: i64,
        most: u64,
    ) -> Result<Trail, RegistryError> {
        let catalog = &self.parts.catalog;
        let (behind, checkpoint) = ((after.seq, after.at), after.checkpoint);
        let rows = catalog.audit_rows(behind, last_row, most).await?;
        let marks = catalog
            .audit_checkpoints(checkpoint, last_checkpoint, most)
            .await?;
        let (no_more_rows, no_more_marks) =
            ((rows.len() as u64) < most, (marks.len() as u64) < most);
        let (mut rows, mut marks) = (VecDeque::from(rows), VecDeque::from(marks));
        let (mut entries, mut next) = (Vec::new(), after);
        loop {
            let takes_mark = match (rows.front(), marks.front()) {
                (Some(row), Some(mark)) => mark.removed_at.is_some() || mark.last_seq < row.seq,
                (Some(_), None) if no_more_marks => false,
                // Rows may follow that it covers.
                (None, Some(mark)) if no_more_rows || mark.removed_at.is_some() => true,
                _ => break,
            };
            let entry = match takes_mark {
                true => marks.pop_front().map(Entry::Checkpoint),
                false => rows.pop_front().map(Entry::Row),
            };
            let Some(entry) = entry else { break };
            next.pass(&entry);
            entries.push(entry);
        }
        let is_end = no_more_rows && no_more_marks;
        Ok(Trail {
            entries,
            next: (!is_end).then_some(next),
        })
    }

    /// The keys of all checkpoints that there are, for whoever verifies an export.
    pub async fn audit_keys(&self) -> Result<AuditKeys, RegistryError> {
        // The first checkpoint makes its key.
        self.seal_audit_now().await?;
        let (keys, unproven) = self.checkpoint_keys().await?;
        let keys = key_set(&keys);
        Ok(AuditKeys { keys, unproven })
    }

    /// The public keys of checkpoints by their names, and the names of those that only the database vouches for.
    async fn checkpoint_keys(
        &self,
    ) -> Result<(HashMap<String, [u8; 32]>, Vec<String>), RegistryError> {
        let (mut keys, mut unproven) = (HashMap::new(), Vec::new());
        let own = self.parts.rules.accounts.key.as_deref();
        let own = own.and_then(|own| Some((own, own.id().ok()?)));
        for stored in self.parts.catalog.keys(KeyPurpose::Audit).await? {
            let Ok(public_key) = <[u8; 32]>::try_from(stored.public_key.as_slice()) else {
                continue;
            };
            match &own {
                Some((own, id)) if *id == stored.wrapped_by => {
                    let is_ours =
                        |key: SigningKey| key.public_key() == public_key && key.kid() == stored.kid;
                    // Whoever may write to the database cannot make one that this key opens.
                    if !opened(own, &stored).is_ok_and(is_ours) {
                        continue;
                    }
                }
                _ => unproven.push(stored.kid.clone()),
            }
            keys.insert(stored.kid, public_key);
        }
        Ok((keys, unproven))
    }
}
