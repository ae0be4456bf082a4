//! The audit log (decision 29): who did what, and who was not let. Rows are committed with what they tell of, and one sealer
//! at a time chains them.
//!
//! ```text
//! audit_pending --(seal)--> audit_log --(export and removal)--> gone; their checkpoints stay
//!                                ^ audit_checkpoints: how far the chain is, signed
//! ```
//!
//! How a row is hashed and what is signed is decided by whoever calls; here rows are moved, read and removed.

mod note;
mod partitions;
mod read;
mod remove;
mod seal;

use sea_orm::FromQueryResult;

pub(crate) use note::note;
pub use note::{Deed, Reads, action};
pub(crate) use partitions::make_partitions;
pub use partitions::{Month, MonthError};
pub use read::{AuditFilter, AuditState};
pub use remove::RemovedRows;
pub use seal::{Link, SealedBatch, Unsigned};

/// A row of the log.
#[derive(Clone, Debug, PartialEq, Eq, FromQueryResult)]
pub struct AuditRow {
    /// Its number, from 1 without gaps.
    pub seq: i64,
    /// When it happened, in microseconds since 1970; the order of the numbers need not be that of the times.
    pub at: i64,
    /// The request that it happened in.
    pub request_id: String,
    /// What was done or tried.
    pub action: String,
    /// Whether it was allowed.
    pub allowed: bool,
    /// Why, or why not.
    pub reason: String,
    /// Who did it, if it is one of the accounts.
    pub actor_id: Option<i64>,
    /// The actor's name as it was then.
    pub actor: String,
    /// By which credential.
    pub credential_id: Option<i64>,
    /// From where.
    pub address: Option<String>,
    /// What it is about.
    pub target: String,
    /// More about it, as JSON.
    pub detail: Option<String>,
    /// The chain up to this row.
    pub chain: Vec<u8>,
}

/// A signed statement of how far the chain is.
#[derive(Clone, Debug, PartialEq, Eq, FromQueryResult)]
pub struct AuditCheckpoint {
    /// Its number, from 1 without gaps.
    pub number: i64,
    /// The first row that it covers and the one before does not.
    pub first_seq: i64,
    /// The last row that it covers.
    pub last_seq: i64,
    /// When the first of them happened.
    pub first_at: i64,
    /// When the last of them happened.
    pub last_at: i64,
    /// The chain up to the last row.
    pub chain: Vec<u8>,
    /// The key that signed it.
    pub kid: String,
    /// The signature.
    pub signature: Vec<u8>,
    /// When it was signed.
    pub signed_at: i64,
    /// When its rows were removed, after they were exported.
    pub removed_at: Option<i64>,
}

/// The columns of a row of the log but for its chain, in the order in which they are written.
const ROW: &str = "seq, at, request_id, action, allowed, reason, actor_id, actor, credential_id, address, target, detail";

/// The columns of a checkpoint.
const CHECKPOINT: &str =
    "number, first_seq, last_seq, first_at, last_at, chain, kid, signature, signed_at, removed_at";
