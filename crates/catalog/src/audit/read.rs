//! Reading the log: page by page from its beginning, or what somebody looks for, newest first.

use sea_orm::{FromQueryResult, Value};

use super::{AuditCheckpoint, AuditRow, CHECKPOINT, ROW};
use crate::{
    Catalog, CatalogError,
    sql::{Id, signed},
};

/// What somebody looks for in the log. What is not said counts as any.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuditFilter {
    /// Who did it, by name; of accounts that had the name one after another, all.
    pub actor: Option<String>,
    /// What it is about, exactly.
    pub target: Option<String>,
    /// What was done.
    pub action: Option<String>,
    /// What was denied only.
    pub denied: bool,
    /// What happened at this time or later, in microseconds since 1970.
    pub since: Option<i64>,
    /// What happened before this time.
    pub until: Option<i64>,
}

/// How far the log is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuditState {
    /// The last checkpoint, if there is one.
    pub checkpoint: Option<AuditCheckpoint>,
    /// The last checkpoint whose rows were removed.
    pub removed: Option<AuditCheckpoint>,
    /// The number of the last row that is there; 0 if there is none.
    pub last_seq: i64,
}

/// Accounts that one name is looked up for; a name that had more shows the latest of them.
const NAMESAKES: u64 = 20;

/// Whose rows: those of an account, or those of a name without one.
enum Actor {
    Account(i64),
    Name(String),
}

#[derive(FromQueryResult)]
struct Seq {
    seq: i64,
}

impl Catalog {
    /// The last checkpoint.
    pub(super) async fn last_checkpoint(&self) -> Result<Option<AuditCheckpoint>, CatalogError> {
        let query =
            format!("SELECT {CHECKPOINT} FROM audit_checkpoints ORDER BY number DESC LIMIT 1");
        self.reads.one(&query, []).await
    }

    /// How far the log is. A checkpoint is read before the last row, so it covers no row behind that in an intact log.
    pub async fn audit_state(&self) -> Result<AuditState, CatalogError> {
        let checkpoint = self.last_checkpoint().await?;
        let removed = format!(
            "SELECT {CHECKPOINT} FROM audit_checkpoints WHERE removed_at IS NOT NULL ORDER BY number DESC LIMIT 1"
        );
        let removed = self.reads.one(&removed, []).await?;
        let last = "SELECT seq FROM audit_log ORDER BY seq DESC LIMIT 1";
        let last: Option<Seq> = self.reads.one(last, []).await?;
        Ok(AuditState {
            checkpoint,
            removed,
            last_seq: last.map_or(0, |row| row.seq),
        })
    }

    /// Rows behind one of this number and time, up to the number `through`, in the order of their numbers.
    pub async fn audit_rows(
        &self,
        after: (i64, i64),
        through: i64,
        limit: u64,
    ) -> Result<Vec<AuditRow>, CatalogError> {
        let query = format!(
            "SELECT {ROW}, chain FROM audit_log WHERE seq >= $1 AND (seq > $1 OR at > $2) AND seq <= $3 ORDER BY seq, at LIMIT $4"
        );
        let values: [Value; 4] = [
            after.0.into(),
            after.1.into(),
            through.into(),
            signed(limit).into(),
        ];
        self.reads.all(&query, values).await
    }

    /// Checkpoints behind the number `after`, up to `through`, in their order.
    pub async fn audit_checkpoints(
        &self,
        after: i64,
        through: i64,
        limit: u64,
    ) -> Result<Vec<AuditCheckpoint>, CatalogError> {
        let query = format!(
            "SELECT {CHECKPOINT} FROM audit_checkpoints WHERE number > $1 AND number <= $2 ORDER BY number LIMIT $3"
        );
        let values = [after.into(), through.into(), signed(limit).into()];
        self.reads.all(&query, values).await
    }

    /// The smallest number of a row that happened at `at` or later.
    pub async fn audit_first_since(&self, at: i64) -> Result<Option<i64>, CatalogError> {
        let query = "SELECT seq FROM audit_log WHERE at >= $1 ORDER BY seq LIMIT 1";
        let found: Option<Seq> = self.reads.one(query, [at.into()]).await?;
        Ok(found.map(|row| row.seq))
    }

    /// The largest number of a row that happened before `at`.
    pub async fn audit_last_before(&self, at: i64) -> Result<Option<i64>, CatalogError> {
        let query = "SELECT seq FROM audit_log WHERE at < $1 ORDER BY seq DESC LIMIT 1";
        let found: Option<Seq> = self.reads.one(query, [at.into()]).await?;
        Ok(found.map(|row| row.seq))
    }

    /// The last checkpoint that ends before the row `seq`.
    pub async fn checkpoint_before(
        &self,
        seq: i64,
    ) -> Result<Option<AuditCheckpoint>, CatalogError> {
        let query = format!(
            "SELECT {CHECKPOINT} FROM audit_checkpoints WHERE last_seq < $1 ORDER BY number DESC LIMIT 1"
        );
        self.reads.one(&query, [seq.into()]).await
    }

    /// The first checkpoint that covers the row `seq`.
    pub async fn checkpoint_of(&self, seq: i64) -> Result<Option<AuditCheckpoint>, CatalogError> {
        let before = self.checkpoint_before(seq).await?;
        let next = before.map_or(1, |before| before.number + 1);
        let query = format!(
            "SELECT {CHECKPOINT} FROM audit_checkpoints WHERE number >= $1 AND last_seq >= $2 ORDER BY number LIMIT 1"
        );
        self.reads.one(&query, [next.into(), seq.into()]).await
    }

    /// What `filter` lets through, newest first, older than the row of this time and number.
    pub async fn audit(
        &self,
        filter: &AuditFilter,
        before: Option<(i64, i64)>,
        limit: u64,
    ) -> Result<Vec<AuditRow>, CatalogError> {
        let Some(name) = &filter.actor else {
            let (query, values) = listing(filter, None, before, limit);
            return self.reads.all(&query, values).await;
        };
        // One statement for each, because only then does the index give the order as well.
        let mut found: Vec<AuditRow> = Vec::new();
        let accounts = "SELECT id FROM principals WHERE name = $1 ORDER BY id DESC LIMIT $2";
        let accounts: Vec<Id> = self
            .reads
            .all(accounts, [name.as_str().into(), signed(NAMESAKES).into()])
            .await?;
        let accounts = accounts.into_iter().map(|row| Actor::Account(row.id));
        for actor in accounts.chain([Actor::Name(name.clone())]) {
            let (query, values) = listing(filter, Some(actor), before, limit);
            found.extend(self.reads.all::<AuditRow>(&query, values).await?);
        }
        found.sort_by_key(|row| std::cmp::Reverse((row.at, row.seq)));
        found.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
        Ok(found)
    }
}

/// A page of what is looked for, as a statement.
fn listing(
    filter: &AuditFilter,
    actor: Option<Actor>,
    before: Option<(i64, i64)>,
    limit: u64,
) -> (String, Vec<Value>) {
    let (mut conditions, mut values) = (Vec::new(), Vec::<Value>::new());
    let mut add = |condition: &str, value: Value| {
        values.push(value);
        conditions.push(condition.replace('?', &format!("${}", values.len())));
    };
    match actor {
        Some(Actor::Account(id)) => add("actor_id = ?", id.into()),
        Some(Actor::Name(name)) => add("actor_id IS NULL AND actor = ?", name.into()),
        None => {}
    }
    if let Some(target) = &filter.target {
        add("target = ?", target.as_str().into());
    }
    if let Some(action) = &filter.action {
        add("action = ?", action.as_str().into());
    }
    if filter.denied {
        add("allowed = ?", false.into());
    }
    if let Some(since) = filter.since {
        add("at >= ?", since.into());
    }
    if let Some(until) = filter.until {
        add("at < ?", until.into());
    }
    if let Some((at, seq)) = before {
        // Only the first of the two tells PostgreSQL which months are of no interest.
        add("at <= ?", at.into());
        let (at, seq_mark) = (values.len(), values.len() + 1);
        values.push(seq.into());
        conditions.push(format!("(at, seq) < (${at}, ${seq_mark})"));
    }
    let condition = match conditions.is_empty() {
        true => String::new(),
        false => format!("WHERE {} ", conditions.join(" AND ")),
    };
    values.push(signed(limit).into());
    let query = format!(
        "SELECT {ROW}, chain FROM audit_log {condition}ORDER BY at DESC, seq DESC LIMIT ${}",
        values.len()
    );
    (query, values)
}

/// What the databases are asked, for tests of their plans.
impl AuditFilter {
    /// The statement of a page, with its values in their places.
    pub fn statement(&self, before: Option<(i64, i64)>, limit: u64) -> String {
        let actor = self.actor.clone().map(Actor::Name);
        let (mut query, values) = listing(self, actor, before, limit);
        for (number, value) in values.iter().enumerate().rev() {
            let text = match value {
                Value::String(Some(text)) => format!("'{}'", text.replace('\'', "''")),
                Value::Bool(Some(yes)) => yes.to_string(),
                Value::BigInt(Some(number)) => number.to_string(),
                _ => "NULL".to_owned(),
            };
            query = query.replace(&format!("${}", number + 1), &text);
        }
        query
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Catalog;

    #[derive(FromQueryResult)]
    struct Plan {
        detail: String,
    }

    async fn plan(catalog: &Catalog, filter: &AuditFilter) -> String {
        let explain = format!(
            "EXPLAIN QUERY PLAN {}",
            filter.statement(Some((900, 9)), 50)
        );
        let plan: Vec<Plan> = catalog.reads.all(&explain, []).await.unwrap();
        let lines: Vec<String> = plan.into_iter().map(|row| row.detail).collect();
        lines.join("; ")
    }

    #[tokio::test]
    async fn every_question_goes_by_an_index() {
        let folder = tempfile::tempdir().unwrap();
        let catalog = Catalog::open_sqlite(&folder.path().join("catalog.db"))
            .await
            .unwrap();
        let any = AuditFilter::default();
        for (filter, index) in [
            (any.clone(), "sqlite_autoindex_audit_log_1"),
            (
                AuditFilter {
                    denied: true,
                    action: Some("login".to_owned()),
                    since: Some(7),
                    until: Some(9000),
                    ..any.clone()
                },
                "sqlite_autoindex_audit_log_1",
            ),
            (
                AuditFilter {
                    target: Some("it's a/b".to_owned()),
                    ..any.clone()
                },
                "audit_log_target",
            ),
            (
                AuditFilter {
                    actor: Some("bob".to_owned()),
                    ..any.clone()
                },
                "audit_log_actor",
            ),
        ] {
            let plan = plan(&catalog, &filter).await;
            assert!(
                plan.contains(&format!("SEARCH audit_log USING INDEX {index}")),
                "{plan}"
            );
        }
        for (query, values) in [
            (
                "EXPLAIN QUERY PLAN SELECT * FROM audit_log WHERE seq >= $1 AND (seq > $1 OR at > $2) ORDER BY seq, at LIMIT 10",
                2,
            ),
            (
                "EXPLAIN QUERY PLAN SELECT seq, at, chain FROM audit_log ORDER BY seq DESC LIMIT 1",
                0,
            ),
        ] {
            let values = vec![Value::from(1_i64); values];
            let plan: Vec<Plan> = catalog.reads.all(query, values).await.unwrap();
            assert!(
                plan[0].detail.contains("USING INDEX audit_log_seq"),
                "{}",
                plan[0].detail
            );
        }
    }
}
