use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use granary_registry::{AnonymousMode, Registry};

use super::{THEN, commit, intact, sql::Sql, verify, world};
use crate::{
    accounts::rules,
    gate::{Gate, alone, run, together},
    world::{no_grace, open},
};

const ROWS: usize = 5000;
const WRITERS: usize = 8;

/// Every row that was committed is in the log once, numbered without gaps.
async fn assert_sealed(registry: &Registry, sql: &Sql, rows: i64) {
    let report = verify(registry, None).await.checked;
    assert_eq!((report.found, report.rows), (0, rows.cast_unsigned()));
    assert_eq!((report.last.seq, report.unsigned), (rows, 0));
    let counted = "SELECT COUNT(*) AS n FROM audit_pending UNION ALL SELECT MAX(seq) FROM audit_log \
                   UNION ALL SELECT COUNT(DISTINCT seq) FROM audit_log UNION ALL SELECT COUNT(DISTINCT request_id) FROM audit_log";
    assert_eq!(sql.numbers(counted).await, [0, rows, rows, rows]);
}

/// Commits a writer's share of the rows, in transactions of one to five.
async fn write(sql: Sql, writer: usize) {
    let mut mine = (0..ROWS).filter(|row| row % WRITERS == writer).peekable();
    let mut length = 0;
    while mine.peek().is_some() {
        length = length % 5 + 1;
        let statement = |row: usize| {
            format!(
                "INSERT INTO audit_pending (at, request_id, action, allowed, reason, actor, target) \
                 VALUES ({THEN}, 'r{row}', 'push', TRUE, '', 'user{writer}', 'a/b')"
            )
        };
        let statements: Vec<String> = mine.by_ref().take(length).map(statement).collect();
        sql.together(&statements).await;
    }
}

/// Has many write while `registries` seal, each in its own way.
pub(crate) async fn write_and_seal(registries: &[Registry], sql: &Sql) {
    let done = Arc::new(AtomicBool::new(false));
    let sealers: Vec<_> = registries
        .iter()
        .map(|registry| {
            let (registry, done) = (registry.clone(), Arc::clone(&done));
            tokio::spawn(async move {
                let mut sealed = 0;
                while !done.load(Ordering::SeqCst) {
                    sealed += registry.seal_audit_now().await.unwrap();
                }
                sealed + registry.seal_audit_now().await.unwrap()
            })
        })
        .collect();
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| tokio::spawn(write(sql.clone(), writer)))
        .collect();
    for writer in writers {
        writer.await.unwrap();
    }
    done.store(true, Ordering::SeqCst);
    let mut sealed = 0;
    for sealer in sealers {
        sealed += sealer.await.unwrap();
    }
    assert_eq!(sealed, ROWS as u64);
    assert_sealed(&registries[0], sql, ROWS as i64).await;
}

#[test]
fn what_many_commit_at_once_is_sealed_without_gap_or_loss() {
    let _unset = together();
    run(async {
        let (world, sql) = world().await;
        write_and_seal(std::slice::from_ref(&world.registry), &sql).await;
    });
}

#[test]
fn a_sealer_that_was_killed_between_batches_is_followed_by_another() {
    alone(async {
        let (world, sql) = world().await;
        commit(&sql, 1, 2500, THEN).await;
        let gate = Gate::shut("audit::between_batches");
        let registry = world.registry.clone();
        let killed = tokio::spawn(async move { registry.seal_audit_now().await });
        gate.reached().await;
        killed.abort();
        assert!(killed.await.unwrap_err().is_cancelled());
        let sealed = sql.numbers("SELECT COUNT(*) AS n FROM audit_log").await;
        assert!(0 < sealed[0] && sealed[0] < 2500, "{sealed:?}");
        drop(gate);
        let world = world.restarted(rules(AnonymousMode::None)).await;
        assert_sealed(&world.registry, &sql, 2500).await;
    });
}

#[test]
fn a_row_that_is_committed_late_comes_later() {
    let _unset = together();
    run(async {
        let (world, sql) = world().await;
        commit(&sql, 1, 10, THEN).await;
        sql.run("UPDATE audit_pending SET id = id + 100 WHERE id > 5")
            .await;
        world.registry.seal_audit_now().await.unwrap();
        // One with a smaller number, and of an earlier time and month, which nobody saw before.
        sql.run("INSERT INTO audit_pending (id, at, request_id, action, allowed, reason, actor, target) \
                 VALUES (50, 1780000000000000, 'late', 'push', TRUE, '', 'bob', 'a/b')")
            .await;
        assert_eq!(intact(&world.registry).await.seq, 11);
        let late = "SELECT request_id FROM audit_log WHERE seq = 11";
        assert_eq!(sql.lines(late).await, ["late"]);
    });
}

#[test]
fn without_a_key_rows_are_chained_and_wait_for_their_signature() {
    let _unset = together();
    run(async {
        let folder = crate::world::folder();
        let registry = open(folder.path(), no_grace()).await;
        let sql = Sql::of(folder.path()).await;
        commit(&sql, 1, 20, THEN).await;
        let report = verify(&registry, None).await.checked;
        assert_eq!((report.found, report.rows, report.unsigned), (0, 20, 20));
        registry.drain().await;
        drop(registry);
        let registry = open(folder.path(), rules(AnonymousMode::None)).await;
        let report = verify(&registry, None).await.checked;
        assert_eq!((report.found, report.rows, report.unsigned), (0, 20, 0));
        assert_eq!(report.checkpoints, 1);
    });
}

#[test]
fn the_sealer_runs_by_itself_and_when_it_is_woken() {
    let _unset = together();
    run(async {
        let (world, sql) = world().await;
        commit(&sql, 1, 30, THEN).await;
        let registry = world.registry.clone();
        let forever = tokio::spawn(async move { registry.seal_forever().await });
        for rows in [30, 60] {
            let sealed = "SELECT COUNT(*) AS n FROM audit_log";
            while sql.numbers(sealed).await != [rows] {
                tokio::task::yield_now().await;
            }
            commit(&sql, rows + 1, 30, THEN).await;
            world.registry.wake_sealer();
        }
        forever.abort();
        assert_eq!(intact(&world.registry).await.seq, 90);
    });
}
