//! Removing rows that were exported, up to a checkpoint, which stays so that the chain goes on behind it.

use granary_access::{AnonymousMode, Origin, Principal};
use sea_orm::FromQueryResult;

use super::{AuditCheckpoint, Deed, action, note, partitions::drop_partition, seal::lock};
use crate::{Asker, Catalog, CatalogError, dialect::Dialect, sql};

/// What one step removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RemovedRows {
    /// Rows.
    pub rows: u64,
    /// Whole tables.
    pub tables: u64,
    /// Whether there may be more.
    pub more: bool,
}

/// Rows and checkpoints that one transaction removes or marks.
const RANGE: i64 = 5000;

#[derive(FromQueryResult)]
struct First {
    first: Option<i64>,
}

impl Catalog {
    /// The last checkpoint that covers no row of `end` or later, and none behind the row `through`.
    pub async fn removable_audit(
        &self,
        end: i64,
        through: i64,
    ) -> Result<Option<AuditCheckpoint>, CatalogError> {
        let later = self.audit_first_since(end).await?;
        let behind = later
            .map_or(i64::MAX, |later| later)
            .min(through.saturating_add(1));
        self.checkpoint_before(behind).await
    }

    /// Notes that the rows up to this checkpoint are removed, before they are: what is left of them after a crash counts for
    /// nothing. `true` as long as there may be more to note.
    pub async fn mark_audit_removed(&self, number: i64) -> Result<bool, CatalogError> {
        self.write(async move |write| {
            lock(write).await?;
            let first =
                "SELECT MIN(number) AS first FROM audit_checkpoints WHERE removed_at IS NULL";
            let first: Option<First> = sql::one(&write.transaction, first, []).await?;
            let Some(first) = first.and_then(|row| row.first) else {
                return Ok(false);
            };
            // In their order: at any moment those that are marked are the first ones.
            let last = number.min(first + RANGE - 1);
            let mark =
                "UPDATE audit_checkpoints SET removed_at = $1 WHERE number >= $2 AND number <= $3";
            let values = [write.now.into(), first.into(), last.into()];
            sql::execute(&write.transaction, mark, values).await?;
            if last >= first && last == number {
                let target = format!("checkpoint {number}");
                let asker = Asker {
                    principal: Principal::Operator,
                    origin: Origin::default(),
                    anonymous: AnonymousMode::None,
                };
                note(write, &asker, Deed::new(action::AUDIT_REMOVE, target)).await?;
            }
            Ok(last < number)
        })
        .await
    }

    /// Removes a range of the rows up to `last_seq`, or the whole table of a month before `end` that has no others.
    pub async fn remove_audit(&self, end: i64, last_seq: i64) -> Result<RemovedRows, CatalogError> {
        self.write(async move |write| {
            lock(write).await?;
            if write.dialect == Dialect::Postgres
                && let Some(rows) = drop_partition(write, end, last_seq).await?
            {
                return Ok(RemovedRows {
                    rows,
                    tables: 1,
                    more: true,
                });
            }
            let bound =
                "SELECT seq AS first FROM audit_log WHERE seq <= $1 ORDER BY seq LIMIT 1 OFFSET $2";
            let values = [last_seq.into(), (RANGE - 1).into()];
            let bound: Option<First> = sql::one(&write.transaction, bound, values).await?;
            let bound = bound.and_then(|row| row.first);
            let delete = "DELETE FROM audit_log WHERE seq <= $1";
            let last = bound.unwrap_or(last_seq);
            let rows = sql::execute(&write.transaction, delete, [last.into()]).await?;
            Ok(RemovedRows {
                rows,
                tables: 0,
                more: bound.is_some(),
            })
        })
        .await
    }
}
