//! The audit log: nothing gets lost on the way into it, and whatever is done to it is found.

mod export;
mod listing;
mod reads;
pub(crate) mod sealing;
pub(crate) mod sql;
mod tampering;

use granary_registry::{AnonymousMode, LastRow, Progress, Registry, VerifyReport};

use self::sql::Sql;
use crate::{accounts::rules, world::World};

/// A time in November 2026, in microseconds.
pub(crate) const THEN: i64 = 1_793_600_000_000_000;

/// A registry with a key to sign with, and a way round it.
async fn world() -> (World, Sql) {
    let world = World::new(rules(AnonymousMode::None)).await;
    let sql = Sql::of(world.folder.path()).await;
    (world, sql)
}

/// Rows from `first` on, as if each had been committed with what it tells of, a second apart.
pub(crate) async fn commit(sql: &Sql, first: i64, number: i64, at: i64) {
    sql.run(&format!(
        "WITH RECURSIVE n(i) AS (SELECT CAST({first} AS bigint) UNION ALL SELECT i + 1 FROM n WHERE i < {}) \
         INSERT INTO audit_pending (at, request_id, action, allowed, reason, actor_id, actor, credential_id, address, target, detail) \
         SELECT {at} + i * 1000000, 'request-' || i, CASE WHEN i % 3 = 0 THEN 'login' ELSE 'token.create' END, i % 2 = 0, 'by the owner', \
           i % 5, 'user' || (i % 5), CASE WHEN i % 7 = 0 THEN NULL ELSE i END, '10.0.0.1', 'repository/' || (i % 4), '{{\"n\":' || i || '}}' FROM n",
        first + number - 1
    ))
    .await;
}

pub(crate) async fn verify(registry: &Registry, noted: Option<&LastRow>) -> VerifyReport {
    let progress = Progress::silent();
    registry
        .verify_audit(noted.cloned(), &progress)
        .await
        .unwrap()
}

/// Nothing is wrong with the log; its last row.
pub(crate) async fn intact(registry: &Registry) -> LastRow {
    let report = verify(registry, None).await.checked;
    assert_eq!((report.found, &report.findings[..]), (0, &[][..]));
    report.last
}
