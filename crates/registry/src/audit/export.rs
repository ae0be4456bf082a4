//! Writing the log out as lines of JSON, removing what was written out, and checking such lines without the database.
//!
//! ```text
//! {"kind":"start", "seq": the row before the first, "chain": up to it, ...}
//! {"kind":"row", ...}            in the order of their numbers, without gaps
//! {"kind":"checkpoint", ...}     behind the last row that it covers
//! ```

use std::{collections::HashMap, io};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use granary_catalog::{AuditCheckpoint, AuditRow, AuditState, Month};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{
    chain::{genesis, hex, unhex},
    check::{AuditCheck, Checked, LastRow},
    verify::{Entry, PAGE},
};
use crate::{Progress, Registry, RegistryError};

/// Where a page of the log ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditCursor {
    /// The last row.
    pub seq: i64,
    /// When it happened.
    pub at: i64,
    /// The last checkpoint.
    pub checkpoint: i64,
}

impl AuditCursor {
    pub(super) fn beginning() -> Self {
        Self {
            seq: i64::MIN,
            at: i64::MIN,
            checkpoint: 0,
        }
    }

    /// Goes on to behind `entry`.
    pub(super) fn pass(&mut self, entry: &Entry) {
        match entry {
            Entry::Row(row) => (self.seq, self.at) = (row.seq, row.at),
            Entry::Checkpoint(checkpoint) => self.checkpoint = checkpoint.number,
        }
    }
}

/// Rows that are exported: whole checkpoints as far as there are any, so that they can be verified alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditRange {
    /// The row before the first, and the chain up to it.
    pub start: LastRow,
    /// The checkpoint before the first row; 0 if there is none.
    pub checkpoint: i64,
    /// The last row.
    pub last_row: i64,
    /// The last checkpoint.
    pub last_checkpoint: i64,
}

impl AuditRange {
    /// Where the first page begins.
    pub fn cursor(&self) -> AuditCursor {
        if self.start.seq == 0 {
            // A row that is none of the log may have any number.
            return AuditCursor::beginning();
        }
        AuditCursor {
            seq: self.start.seq,
            at: i64::MAX,
            checkpoint: self.checkpoint,
        }
    }
}

/// A page of an export.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AuditPage {
    /// Lines of JSON.
    pub lines: Vec<String>,
    /// Where the next page begins; nothing at the end.
    pub next: Option<AuditCursor>,
}

/// Most bytes of a page's lines but the last, so that it fits into an answer that clients take.
const PAGE_BYTES: usize = 512 * 1024;

/// What a removal came to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct AuditRemoval {
    /// Rows that are gone.
    pub rows: u64,
    /// Whole months of them.
    pub tables: u64,
    /// The last row that is gone, if any is.
    pub through: Option<i64>,
}

impl Registry {
    /// What an export of these months holds: their rows, and before and after them what lies between the same checkpoints.
    /// Nothing if there are none.
    pub async fn audit_range(
        &self,
        from: Option<Month>,
        through: Option<Month>,
    ) -> Result<Option<AuditRange>, RegistryError> {
        self.seal_audit_now().await?;
        let catalog = &self.parts.catalog;
        let state = catalog.audit_state().await?;
        let first = match from {
            Some(month) => catalog.audit_first_since(month.begin()).await?,
            None => catalog.audit_first_since(i64::MIN).await?,
        };
        let last = match through {
            Some(month) => catalog.audit_last_before(month.end()).await?,
            None => Some(state.last_seq),
        };
        let (Some(first), Some(last)) = (first, last) else {
            return Ok(None);
        };
        if last < first {
            return Ok(None);
        }
        let before = catalog.checkpoint_before(first).await?;
        let (start, checkpoint) = match before {
            Some(before) => (
                LastRow {
                    seq: before.last_seq,
                    chain: before.chain,
                },
                before.number,
            ),
            None => (
                LastRow {
                    seq: 0,
                    chain: genesis(&self.parts.audit.installation),
                },
                0,
            ),
        };
        let (last_row, last_checkpoint) = match catalog.checkpoint_of(last).await? {
            Some(end) => (end.last_seq, end.number),
            None => {
                let number = state.checkpoint.map_or(0, |last| last.number);
                (state.last_seq.max(last), number)
            }
        };
        Ok(Some(AuditRange {
            start,
            checkpoint,
            last_row,
            last_checkpoint,
        }))
    }

    /// All that there ever was, as [`Self::verify_audit`] walks along it: of rows that were removed there are the checkpoints,
    /// which say so. So nothing that is missing at either end goes unnoticed.
    pub async fn audit_whole(&self) -> Result<AuditRange, RegistryError> {
        self.seal_audit_now().await?;
        let state = self.parts.catalog.audit_state().await?;
        Ok(self.whole(&state))
    }

    pub(super) fn whole(&self, state: &AuditState) -> AuditRange {
        let last = state.checkpoint.as_ref();
        let covered = last.map_or(0, |last| last.last_seq);
        AuditRange {
            start: LastRow {
                seq: 0,
                chain: genesis(&self.parts.audit.installation),
            },
            checkpoint: 0,
            last_row: state.last_seq.max(covered),
            last_checkpoint: last.map_or(0, |last| last.number),
        }
    }

    /// A page of what an export holds: up to `most` rows and checkpoints, and fewer if they are long.
    pub async fn export_audit_page(
        &self,
        range: &AuditRange,
        after: AuditCursor,
        most: u64,
    ) -> Result<AuditPage, RegistryError> {
        let most = most.clamp(1, PAGE);
        let (mut lines, mut bytes) = (Vec::new(), 0);
        if after == range.cursor() {
            let start = json!({
                "kind": "start",
                "installation": self.parts.audit.installation,
                "seq": range.start.seq,
                "chain": hex(&range.start.chain),
                "checkpoint": range.checkpoint,
            });
            lines.push(start.to_string());
        }
        let trail = self
            .trail(after, range.last_row, range.last_checkpoint, most)
            .await?;
        let mut next = after;
        for (entry, taken) in trail.entries.iter().zip(0..) {
            if taken == most || bytes > PAGE_BYTES {
                let next = Some(next);
                return Ok(AuditPage { lines, next });
            }
            let line = match entry {
                Entry::Row(row) => row_json(row).to_string(),
                Entry::Checkpoint(checkpoint) => checkpoint_json(checkpoint).to_string(),
            };
            bytes += line.len();
            lines.push(line);
            next.pass(entry);
        }
        Ok(AuditPage {
            lines,
            next: trail.next,
        })
    }

    /// Removes rows of the months up to `through` that were exported up to the row `exported`; never one behind the last
    /// checkpoint.
    pub async fn remove_audit(
        &self,
        through: Option<Month>,
        exported: i64,
        progress: &Progress,
    ) -> Result<AuditRemoval, RegistryError> {
        let catalog = &self.parts.catalog;
        let end = through.map_or(i64::MAX, Month::end);
        let mut removal = AuditRemoval::default();
        let Some(checkpoint) = catalog.removable_audit(end, exported).await? else {
            return Ok(removal);
        };
        progress.say("removing rows of the audit log that were exported");
        while catalog.mark_audit_removed(checkpoint.number).await? {}
        // A month that goes on is not over because all that was signed of it goes.
        let signed = catalog.audit_state().await?.checkpoint;
        let end = signed.map_or(end, |signed| end.min(signed.last_at));
        loop {
            let step = catalog.remove_audit(end, checkpoint.last_seq).await?;
            removal.rows += step.rows;
            removal.tables += step.tables;
            progress.advance(step.rows);
            if !step.more {
                break;
            }
        }
        removal.through = Some(checkpoint.last_seq);
        Ok(removal)
    }
}

/// A row, for people and programs.
pub(super) fn row_json(row: &AuditRow) -> Value {
    json!({
        "kind": "row",
        "seq": row.seq,
        "at": row.at,
        "time": time(row.at),
        "request_id": row.request_id,
        "action": row.action,
        "allowed": row.allowed,
        "reason": row.reason,
        "actor_id": row.actor_id,
        "actor": row.actor,
        "credential_id": row.credential_id,
        "address": row.address,
        "target": row.target,
        // The text itself: it was hashed.
        "detail": row.detail,
        "chain": hex(&row.chain),
    })
}

fn checkpoint_json(checkpoint: &AuditCheckpoint) -> Value {
    let mut line = json!({
        "kind": "checkpoint",
        "number": checkpoint.number,
        "first_seq": checkpoint.first_seq,
        "last_seq": checkpoint.last_seq,
        "first_at": checkpoint.first_at,
        "last_at": checkpoint.last_at,
        "chain": hex(&checkpoint.chain),
        "kid": checkpoint.kid,
        "signature": hex(&checkpoint.signature),
        "signed_at": checkpoint.signed_at,
    });
    if let Some(removed_at) = checkpoint.removed_at {
        line["removed_at"] = removed_at.into();
    }
    line
}

pub(super) fn time(micros: i64) -> Option<String> {
    let time = jiff::Timestamp::from_microsecond(micros).ok()?;
    Some(time.to_string())
}

/// Why an export cannot be checked.
#[derive(Debug, thiserror::Error)]
pub enum AuditLineError {
    /// It cannot be read.
    #[error("the export cannot be read: {0}")]
    Unreadable(#[from] io::Error),
    /// A line is not one of an export.
    #[error("line {0} is not one of an export of the audit log")]
    Line(u64),
    /// The keys cannot be read.
    #[error("the keys are no JSON Web Key Set of Ed25519 keys")]
    Keys,
}

#[derive(Deserialize)]
struct StartLine {
    installation: String,
    seq: i64,
    chain: String,
    checkpoint: i64,
}

#[derive(Deserialize)]
struct RowLine {
    seq: i64,
    at: i64,
    request_id: String,
    action: String,
    allowed: bool,
    reason: String,
    actor_id: Option<i64>,
    actor: String,
    credential_id: Option<i64>,
    address: Option<String>,
    target: String,
    detail: Option<String>,
    chain: String,
}

#[derive(Deserialize)]
struct CheckpointLine {
    number: i64,
    first_seq: i64,
    last_seq: i64,
    first_at: i64,
    last_at: i64,
    chain: String,
    kid: String,
    signature: String,
    signed_at: i64,
    removed_at: Option<i64>,
}

/// Checks an export alone. `keys` is a JSON Web Key Set of those who may have signed, as 'verify' prints it.
pub fn check_exported(
    lines: impl IntoIterator<Item = io::Result<String>>,
    keys: &Value,
    noted: Option<LastRow>,
) -> Result<Checked, AuditLineError> {
    let keys = key_set(keys).ok_or(AuditLineError::Keys)?;
    let (mut check, mut number): (Option<AuditCheck>, u64) = (None, 0);
    for line in lines {
        number += 1;
        let line = line?;
        let fed = match &mut check {
            None => {
                let started = begun(&line, &keys, noted.as_ref());
                check = started;
                check.is_some()
            }
            Some(check) => feed(check, &line).is_some(),
        };
        if !fed {
            return Err(AuditLineError::Line(number));
        }
    }
    check
        .map(AuditCheck::end)
        .ok_or(AuditLineError::Line(number + 1))
}

fn begun(
    line: &str,
    keys: &HashMap<String, [u8; 32]>,
    noted: Option<&LastRow>,
) -> Option<AuditCheck> {
    let value: Value = serde_json::from_str(line).ok()?;
    if value["kind"] != "start" {
        return None;
    }
    let start: StartLine = serde_json::from_value(value).ok()?;
    let check = AuditCheck::new(&start.installation, keys.clone(), noted.cloned());
    if start.seq == 0 {
        return Some(check);
    }
    let chain = unhex(&start.chain)?;
    let before = LastRow {
        seq: start.seq,
        chain,
    };
    Some(check.behind(before, start.checkpoint))
}

fn feed(check: &mut AuditCheck, line: &str) -> Option<()> {
    let value: Value = serde_json::from_str(line).ok()?;
    match value["kind"].as_str()? {
        "row" => {
            let row: RowLine = serde_json::from_value(value).ok()?;
            check.row(&AuditRow {
                seq: row.seq,
                at: row.at,
                request_id: row.request_id,
                action: row.action,
                allowed: row.allowed,
                reason: row.reason,
                actor_id: row.actor_id,
                actor: row.actor,
                credential_id: row.credential_id,
                address: row.address,
                target: row.target,
                detail: row.detail,
                chain: unhex(&row.chain)?,
            });
        }
        "checkpoint" => {
            let line: CheckpointLine = serde_json::from_value(value).ok()?;
            check.checkpoint(&AuditCheckpoint {
                number: line.number,
                first_seq: line.first_seq,
                last_seq: line.last_seq,
                first_at: line.first_at,
                last_at: line.last_at,
                chain: unhex(&line.chain)?,
                kid: line.kid,
                signature: unhex(&line.signature)?,
                signed_at: line.signed_at,
                removed_at: line.removed_at,
            });
        }
        _ => return None,
    }
    Some(())
}

fn key_set(keys: &Value) -> Option<HashMap<String, [u8; 32]>> {
    let key = |key: &Value| {
        let public = URL_SAFE_NO_PAD.decode(key["x"].as_str()?).ok()?;
        Some((key["kid"].as_str()?.to_owned(), public.try_into().ok()?))
    };
    keys["keys"].as_array()?.iter().map(key).collect()
}
