//! The audit log: sealing it, proving that nobody changed it, writing it out (decision 29).
//!
//! ```text
//! genesis = SHA-256("granary audit", the installation's identity)
//! chain   = SHA-256(the chain before, SHA-256(the row))          each row, in the order of their numbers
//! checkpoint = Ed25519(how far the chain is)                     once a minute, when a month turns, and when asked for
//! ```
//!
//! Whoever changes a row has to change every chain behind it, and then a checkpoint says otherwise; those are signed by a key
//! that the database does not hold. What came after the last checkpoint is not protected yet.

mod chain;
mod check;
mod export;
mod seal;
mod verify;

use std::{
    sync::{Mutex, atomic::AtomicBool},
    time::Instant,
};

use granary_catalog::{AuditFilter, AuditRow, Month};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::Notify;
use utoipa::ToSchema;

use crate::{AccountsError, Installation, Leave, Registry, RegistryError};

pub use check::{AuditCheck, AuditFault, AuditFinding, Checked, LastRow, LastRowError};
pub use export::{
    AuditCursor, AuditLineError, AuditPage, AuditRange, AuditRemoval, check_exported,
};
pub use verify::{AuditKeys, VerifyReport};

/// What this process keeps of the log.
pub(crate) struct Audit {
    /// Whose log it is: the identity of the store.
    installation: String,
    /// Wakes the sealer before its time.
    wake: Notify,
    /// When this process signed last, or looked whether there was anything to sign.
    signed: Mutex<Option<Instant>>,
    /// Whether it was said that nothing can be signed.
    warned: AtomicBool,
}

impl Audit {
    pub(crate) fn new(installation: &str) -> Self {
        Self {
            installation: installation.to_owned(),
            wake: Notify::new(),
            signed: Mutex::new(None),
            warned: AtomicBool::new(false),
        }
    }
}

/// Something to do with the log. It crosses the socket of a running server.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case")]
pub enum AuditCommand {
    /// Walk the whole log and say what is wrong with it.
    Verify {
        /// A row that was noted elsewhere.
        last: Option<LastRow>,
    },
    /// Say which rows an export of these months holds.
    Range {
        /// The first month; from the beginning if it is not said.
        from: Option<Month>,
        /// The last month; to the end if it is not said.
        through: Option<Month>,
    },
    /// A page of an export.
    Page {
        /// What is exported.
        range: AuditRange,
        /// Where the page before ended.
        after: AuditCursor,
    },
    /// Remove rows that were exported.
    Remove {
        /// The last month that goes; if it is not said, whatever was exported.
        through: Option<Month>,
        /// The last row that was exported.
        exported: i64,
    },
    /// List what happened, newest first.
    List {
        /// What of it.
        query: AuditQuery,
    },
}

/// What is to be listed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditQuery {
    /// Who did it.
    pub actor: Option<String>,
    /// What it is about.
    pub target: Option<String>,
    /// What was done.
    pub action: Option<String>,
    /// What was denied only.
    pub denied: bool,
    /// From when on, in microseconds since 1970.
    pub since: Option<i64>,
    /// The same, as seconds before now.
    pub since_ago: Option<u64>,
    /// Most rows.
    pub limit: u64,
}

/// What it came to.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "done", rename_all = "kebab-case")]
pub enum AuditReport {
    /// The log was walked.
    Verified(VerifyReport),
    /// What an export holds; nothing if there are no such rows.
    Range {
        /// The rows.
        range: Option<AuditRange>,
    },
    /// A page of an export.
    Page(AuditPage),
    /// Rows were removed.
    Removed(AuditRemoval),
    /// What happened.
    Events {
        /// Newest first.
        events: Vec<AuditEvent>,
    },
}

/// Most rows of one list.
pub(crate) const MOST_LISTED: u64 = 10_000;

impl Registry {
    /// Does what a command asks of the log.
    pub async fn audit_command(
        &self,
        command: AuditCommand,
        progress: &crate::Progress,
    ) -> Result<AuditReport, RegistryError> {
        Ok(match command {
            AuditCommand::Verify { last } => {
                AuditReport::Verified(self.verify_audit(last, progress).await?)
            }
            AuditCommand::Range { from, through } => AuditReport::Range {
                range: self.audit_range(from, through).await?,
            },
            AuditCommand::Page { range, after } => {
                AuditReport::Page(self.export_audit_page(&range, after, verify::PAGE).await?)
            }
            AuditCommand::Remove { through, exported } => {
                AuditReport::Removed(self.remove_audit(through, exported, progress).await?)
            }
            AuditCommand::List { query } => AuditReport::Events {
                events: self.list_audit(query).await?,
            },
        })
    }

    /// What happened and `filter` lets through, newest first, older than the row of this time and number. At most 10,000.
    ///
    /// What happened a moment ago may be missing: call [`Self::seal_audit_now`] first if that matters.
    pub async fn audit(
        &self,
        filter: &AuditFilter,
        before: Option<(i64, i64)>,
        limit: u64,
    ) -> Result<Vec<AuditRow>, RegistryError> {
        let limit = limit.min(MOST_LISTED);
        Ok(self.parts.catalog.audit(filter, before, limit).await?)
    }

    async fn list_audit(&self, query: AuditQuery) -> Result<Vec<AuditEvent>, RegistryError> {
        self.seal_all().await?;
        let since = match query.since_ago {
            None => query.since,
            Some(seconds) => {
                let ago = granary_catalog::dialect::micros(std::time::Duration::from_secs(seconds));
                Some(self.parts.catalog.now().await?.saturating_sub(ago))
            }
        };
        let filter = AuditFilter {
            actor: query.actor,
            target: query.target,
            action: query.action,
            denied: query.denied,
            since,
            until: None,
        };
        let rows = self.audit(&filter, None, query.limit).await?;
        Ok(rows.into_iter().map(AuditEvent::from).collect())
    }
}

/// Something that happened, for people and programs.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct AuditEvent {
    /// Its number in the log.
    pub seq: i64,
    /// When.
    #[schema(format = DateTime)]
    pub at: Option<String>,
    /// What was done, such as `token.create`.
    pub action: String,
    /// Whether it was allowed.
    pub allowed: bool,
    /// Why not; empty if it was.
    pub reason: String,
    /// Who, by the name of then.
    pub actor: String,
    /// The number of who.
    pub actor_id: Option<i64>,
    /// The number of the token or password that was shown.
    pub credential_id: Option<i64>,
    /// From where.
    pub address: Option<String>,
    /// What it is about.
    pub target: String,
    /// More about it. An export has it as the text that was chained.
    #[schema(value_type = Option<Object>)]
    pub detail: Option<Value>,
    /// The request, as in the server's log.
    pub request_id: String,
}

impl From<AuditRow> for AuditEvent {
    fn from(row: AuditRow) -> Self {
        Self {
            seq: row.seq,
            at: export::time(row.at),
            action: row.action,
            allowed: row.allowed,
            reason: row.reason,
            actor: row.actor,
            actor_id: row.actor_id,
            credential_id: row.credential_id,
            address: row.address,
            target: row.target,
            detail: row
                .detail
                .map(|text| serde_json::from_str(&text).unwrap_or(Value::String(text))),
            request_id: row.request_id,
        }
    }
}

impl Leave<Installation> {
    /// Up to `limit` rows that `filter` lets through, newest first, older than the row of this time and number; and the time and
    /// number that ask for those behind them.
    pub async fn audit(
        &self,
        filter: &AuditFilter,
        before: Option<(i64, i64)>,
        limit: u64,
    ) -> Result<(Vec<AuditEvent>, Option<(i64, i64)>), AccountsError> {
        if before.is_none() {
            // What happened a moment ago is looked for most.
            self.registry.seal_all().await?;
        }
        let rows = self.registry.audit(filter, before, limit).await?;
        let is_full = rows.len() as u64 == limit;
        let next = rows.last().filter(|_| is_full);
        let next = next.map(|row| (row.at, row.seq));
        Ok((rows.into_iter().map(AuditEvent::from).collect(), next))
    }

    /// What an export of these months holds; nothing if there are no such rows.
    pub async fn audit_range(
        &self,
        from: Option<Month>,
        through: Option<Month>,
    ) -> Result<Option<AuditRange>, AccountsError> {
        Ok(self.registry.audit_range(from, through).await?)
    }

    /// The same of all that there ever was, to be verified.
    pub async fn audit_whole(&self) -> Result<AuditRange, AccountsError> {
        Ok(self.registry.audit_whole().await?)
    }

    /// Up to `most` rows and checkpoints of an export.
    pub async fn audit_page(
        &self,
        range: &AuditRange,
        after: AuditCursor,
        most: u64,
    ) -> Result<AuditPage, AccountsError> {
        Ok(self.registry.export_audit_page(range, after, most).await?)
    }

    /// The keys that an export is verified with.
    pub async fn audit_keys(&self) -> Result<AuditKeys, AccountsError> {
        Ok(self.registry.audit_keys().await?)
    }
}
