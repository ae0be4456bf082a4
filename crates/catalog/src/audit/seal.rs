//! Moving committed rows into the log, numbered and chained, and keeping checkpoints.

use sea_orm::{ConnectionTrait, FromQueryResult, Value};

use super::{
    AuditCheckpoint, AuditRow, CHECKPOINT, ROW,
    partitions::{Month, make_partitions, month_of},
};
use crate::{
    Catalog, CatalogError,
    dialect::Dialect,
    sql::{self, LIST, signed},
    writer::Write,
};

/// The chain up to a row, from that up to the row before.
pub type Link = fn(&[u8], &AuditRow) -> Vec<u8>;

/// What became of an attempt to seal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SealedBatch {
    /// Rows that were moved.
    pub rows: u64,
    /// Whether the next row is the first of a later month, so that a checkpoint belongs before it.
    pub at_turn: bool,
    /// Whether further rows wait, as far as was looked.
    pub more: bool,
}

/// What the next checkpoint is to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unsigned {
    /// Its number.
    pub number: i64,
    /// The first row that no checkpoint covers.
    pub first_seq: i64,
    /// The last row.
    pub last_seq: i64,
    /// When the first of them happened.
    pub first_at: i64,
    /// When the last of them happened.
    pub last_at: i64,
    /// The chain up to the last row.
    pub chain: Vec<u8>,
}

/// A row that is not in the log yet.
#[derive(FromQueryResult)]
struct Pending {
    id: i64,
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
}

impl Pending {
    fn numbered(self, seq: i64) -> AuditRow {
        AuditRow {
            seq,
            at: self.at,
            request_id: self.request_id,
            action: self.action,
            allowed: self.allowed,
            reason: self.reason,
            actor_id: self.actor_id,
            actor: self.actor,
            credential_id: self.credential_id,
            address: self.address,
            target: self.target,
            detail: self.detail,
            chain: Vec::new(),
        }
    }
}

/// Where the log ends.
#[derive(FromQueryResult)]
struct Head {
    seq: i64,
    at: i64,
    chain: Vec<u8>,
}

#[derive(FromQueryResult)]
struct Beginning {
    seq: i64,
    at: i64,
}

/// Rows that one statement writes.
const ROWS: usize = 100;
/// Any number that no other part of Granary uses.
const SEAL_LOCK: i64 = 0x6772_616e_6172_7903;

impl Catalog {
    /// Whether rows wait to be sealed.
    pub async fn audit_waits(&self) -> Result<bool, CatalogError> {
        let query = "SELECT id FROM audit_pending ORDER BY id LIMIT 1";
        let found: Option<sql::Id> = self.reads.one(query, []).await?;
        Ok(found.is_some())
    }

    /// Moves rows that were committed into the log, at most `most`, in the order of their numbers. Stops before the first
    /// row of a later month, unless `past_turn` and it is the first of all.
    ///
    /// Any number of processes may try at once: one moves, the others wait and then go on behind it.
    pub async fn seal_audit(
        &self,
        genesis: Vec<u8>,
        link: Link,
        most: u64,
        past_turn: bool,
    ) -> Result<SealedBatch, CatalogError> {
        self.write(async move |write| {
            lock(write).await?;
            let select = format!(
                "SELECT id, {} FROM audit_pending ORDER BY id LIMIT $1",
                ROW.trim_start_matches("seq, ")
            );
            let pending: Vec<Pending> =
                sql::all(&write.transaction, &select, [signed(most).into()]).await?;
            let found = pending.len() as u64;
            let head = head(&write.transaction).await?;
            let mut high = head.as_ref().and_then(|head| Month::of(head.at));
            let (mut seq, mut chain) = head.map_or((0, genesis), |head| (head.seq, head.chain));
            let (mut ids, mut rows, mut at_turn) = (Vec::new(), Vec::new(), false);
            for row in pending {
                let month = month_of(row.at)?;
                let is_later = high.is_some_and(|high| month > high);
                if is_later && !(past_turn && rows.is_empty()) {
                    at_turn = true;
                    break;
                }
                high = high.max(Some(month));
                seq = i64::checked_add(seq, 1).ok_or_else(|| {
                    CatalogError::damaged("audit_log", "no number follows the last row's")
                })?;
                ids.push(row.id);
                let mut row = row.numbered(seq);
                chain = link(&chain, &row);
                row.chain.clone_from(&chain);
                rows.push(row);
            }
            make_partitions(write, rows.iter().map(|row| row.at), Some(write.now)).await?;
            insert(write, &rows).await?;
            forget(write, &ids).await?;
            Ok(SealedBatch {
                rows: rows.len() as u64,
                at_turn,
                more: found >= most || at_turn,
            })
        })
        .await
    }

    /// Makes the tables of this month and the next two, where rows lie in tables by month.
    pub async fn prepare_audit(&self) -> Result<(), CatalogError> {
        if !self.is_shared() {
            return Ok(());
        }
        self.write(async move |write| {
            lock(write).await?;
            make_partitions(write, [], Some(write.now)).await
        })
        .await
    }

    /// What the next checkpoint is to say; nothing if the last one covers all rows.
    pub async fn audit_unsigned(&self) -> Result<Option<Unsigned>, CatalogError> {
        let last = self.last_checkpoint().await?;
        let (number, covered) = last.map_or((0, 0), |last| (last.number, last.last_seq));
        let first = "SELECT seq, at FROM audit_log WHERE seq > $1 ORDER BY seq LIMIT 1";
        let first: Option<Beginning> = self.reads.one(first, [covered.into()]).await?;
        let end: Option<Head> = self.reads.one(LAST_ROW, []).await?;
        let (Some(first), Some(end)) = (first, end) else {
            return Ok(None);
        };
        Ok(Some(Unsigned {
            number: number + 1,
            first_seq: first.seq,
            last_seq: end.seq,
            first_at: first.at,
            last_at: end.at,
            chain: end.chain,
        }))
    }

    /// Keeps a checkpoint, unless another process has kept one of that number before; then `false`.
    pub async fn keep_checkpoint(&self, checkpoint: AuditCheckpoint) -> Result<bool, CatalogError> {
        self.write(async move |write| {
            let insert = format!(
                "INSERT INTO audit_checkpoints ({CHECKPOINT}) VALUES ({}) ON CONFLICT (number) DO NOTHING",
                sql::placeholders(1, 10)
            );
            let values: [Value; 10] = [
                checkpoint.number.into(),
                checkpoint.first_seq.into(),
                checkpoint.last_seq.into(),
                checkpoint.first_at.into(),
                checkpoint.last_at.into(),
                checkpoint.chain.into(),
                checkpoint.kid.into(),
                checkpoint.signature.into(),
                checkpoint.signed_at.into(),
                checkpoint.removed_at.into(),
            ];
            Ok(sql::execute(&write.transaction, &insert, values).await? == 1)
        })
        .await
    }
}

const LAST_ROW: &str = "SELECT seq, at, chain FROM audit_log ORDER BY seq DESC LIMIT 1";

/// One process at a time seals or removes, whoever has the lease: numbers would be given out twice.
pub(super) async fn lock(write: &Write) -> Result<(), CatalogError> {
    if write.dialect == Dialect::Postgres {
        let lock = format!("SELECT pg_advisory_xact_lock({SEAL_LOCK})");
        write.transaction.execute_unprepared(&lock).await?;
    }
    Ok(())
}

/// Where the log ends: at its last row, or at the last checkpoint if that is further. Rows behind the log's end that were
/// signed were exported and removed; or somebody else removed them, and then their numbers are not given out again either, so
/// that the gap stays.
async fn head(connection: &impl ConnectionTrait) -> Result<Option<Head>, CatalogError> {
    let row: Option<Head> = sql::one(connection, LAST_ROW, []).await?;
    let signed = "SELECT last_seq AS seq, last_at AS at, chain FROM audit_checkpoints ORDER BY number DESC LIMIT 1";
    let signed: Option<Head> = sql::one(connection, signed, []).await?;
    Ok(match (row, signed) {
        (Some(row), Some(signed)) if signed.seq > row.seq => Some(signed),
        (Some(row), _) => Some(row),
        (None, signed) => signed,
    })
}

async fn insert(write: &Write, rows: &[AuditRow]) -> Result<(), CatalogError> {
    const WIDTH: usize = 13;
    for part in rows.chunks(ROWS) {
        let marks: Vec<String> = (0..part.len())
            .map(|row| format!("({})", sql::placeholders(row * WIDTH + 1, WIDTH)))
            .collect();
        let insert = format!(
            "INSERT INTO audit_log ({ROW}, chain) VALUES {}",
            marks.join(", ")
        );
        let values = part.iter().cloned().flat_map(values);
        sql::execute(&write.transaction, &insert, values.collect::<Vec<_>>()).await?;
    }
    Ok(())
}

fn values(row: AuditRow) -> [Value; 13] {
    [
        row.seq.into(),
        row.at.into(),
        row.request_id.into(),
        row.action.into(),
        row.allowed.into(),
        row.reason.into(),
        row.actor_id.into(),
        row.actor.into(),
        row.credential_id.into(),
        row.address.into(),
        row.target.into(),
        row.detail.into(),
        row.chain.into(),
    ]
}

/// Takes away just the rows that were moved: one with a smaller number may have been committed meanwhile.
async fn forget(write: &Write, ids: &[i64]) -> Result<(), CatalogError> {
    for part in ids.chunks(LIST) {
        let delete = format!(
            "DELETE FROM audit_pending WHERE id IN ({})",
            sql::placeholders(1, part.len())
        );
        let values = part.iter().map(|id| Value::from(*id));
        sql::execute(&write.transaction, &delete, values.collect::<Vec<_>>()).await?;
    }
    Ok(())
}
