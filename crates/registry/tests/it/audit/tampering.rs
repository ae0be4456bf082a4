use granary_registry::{AuditFault, AuditFault::*, Registry};

use super::{THEN, commit, intact, sql::Sql, verify, world};
use crate::{
    gate::{run, together},
    world::World,
};

/// Three checkpoints of a hundred rows each, and a way back to them.
async fn sealed() -> (World, Sql) {
    let (world, sql) = world().await;
    for first in [1, 101, 201] {
        commit(&sql, first, 100, THEN).await;
        world.registry.seal_audit_now().await.unwrap();
    }
    for table in TABLES {
        sql.run(&format!(
            "CREATE TABLE kept_{table} AS SELECT * FROM {table}"
        ))
        .await;
    }
    assert_eq!(intact(&world.registry).await.seq, 300);
    (world, sql)
}

const TABLES: [&str; 3] = ["audit_log", "audit_checkpoints", "signing_keys"];

async fn restore(sql: &Sql, table: &str) {
    sql.run(&format!(
        "DELETE FROM {table}; INSERT INTO {table} SELECT * FROM kept_{table}"
    ))
    .await;
}

/// Does it, and sees it found and named first.
async fn found(
    registry: &Registry,
    sql: &Sql,
    done: &str,
    expected: (AuditFault, Option<i64>, Option<i64>),
) {
    sql.run(done).await;
    let report = verify(registry, None).await.checked;
    let first = report.findings.first();
    let first = first.unwrap_or_else(|| panic!("{done}: nothing was found"));
    assert_eq!(
        (first.fault, first.row, first.checkpoint),
        expected,
        "{done}: {report:#?}"
    );
    for table in TABLES {
        restore(sql, table).await;
    }
    intact(registry).await;
}

#[test]
fn a_row_that_was_altered_is_named() {
    let _unset = together();
    run(async {
        let (world, sql) = sealed().await;
        for change in [
            "at = at + 1",
            "request_id = 'other'",
            "action = 'other'",
            "allowed = NOT allowed",
            "reason = ''",
            "actor_id = 99",
            "actor_id = NULL",
            "actor = 'other'",
            "credential_id = COALESCE(credential_id, 0) + 1",
            "credential_id = NULL",
            "address = '10.0.0.2'",
            "address = NULL",
            "target = 'other'",
            "detail = '{}'",
            "detail = NULL",
            "chain = (SELECT chain FROM audit_log WHERE seq = 7)",
        ] {
            // Those in the middle, and those at the edges of what was signed.
            for row in [1, 100, 101, 151, 300] {
                let change = format!("UPDATE audit_log SET {change} WHERE seq = {row}");
                found(&world.registry, &sql, &change, (Altered, Some(row), None)).await;
            }
        }
    });
}

#[test]
fn rows_that_were_removed_put_elsewhere_or_added_are_named() {
    let _unset = together();
    run(async {
        let (world, sql) = sealed().await;
        let copy = |seq: &str, at: &str, of: i64| {
            format!(
                "INSERT INTO audit_log (seq, at, request_id, action, allowed, reason, actor, target, chain) \
                 SELECT {seq}, {at}, 'new', action, allowed, reason, actor, target, chain FROM audit_log WHERE seq = {of}"
            )
        };
        let swap = |one: i64, two: i64| {
            format!(
                "UPDATE audit_log SET seq = CASE seq WHEN {one} THEN {two} ELSE {one} END WHERE seq IN ({one}, {two})"
            )
        };
        let pushed_in = format!(
            "UPDATE audit_log SET seq = seq + 1 WHERE seq >= 150; {}",
            copy("150", "at - 1", 151)
        );
        for (done, fault, row) in [
            ("DELETE FROM audit_log WHERE seq = 1".to_owned(), Removed, 1),
            (
                "DELETE FROM audit_log WHERE seq = 150".to_owned(),
                Removed,
                150,
            ),
            (
                "DELETE FROM audit_log WHERE seq = 200".to_owned(),
                Removed,
                200,
            ),
            (
                "DELETE FROM audit_log WHERE seq BETWEEN 90 AND 210".to_owned(),
                Removed,
                90,
            ),
            // The tail, or all of it.
            (
                "DELETE FROM audit_log WHERE seq = 300".to_owned(),
                Removed,
                300,
            ),
            (
                "DELETE FROM audit_log WHERE seq > 250".to_owned(),
                Removed,
                251,
            ),
            (
                "DELETE FROM audit_log WHERE seq > 200".to_owned(),
                Removed,
                201,
            ),
            ("DELETE FROM audit_log".to_owned(), Removed, 1),
            (
                "UPDATE audit_log SET seq = 1000 WHERE seq = 150".to_owned(),
                Removed,
                150,
            ),
            (swap(150, 151), Altered, 150),
            (swap(120, 280), Altered, 120),
            (swap(1, 300), Altered, 1),
            (copy("150", "at + 1", 150), Inserted, 150),
            (copy("150", "at - 1", 150), Altered, 150),
            (copy("0", "at", 150), Inserted, 0),
            (copy("-5", "at", 150), Inserted, -5),
            (pushed_in, Altered, 150),
        ] {
            found(&world.registry, &sql, &done, (fault, Some(row), None)).await;
        }
    });
}

#[test]
fn a_checkpoint_that_was_altered_or_removed_is_named() {
    let _unset = together();
    run(async {
        let (world, sql) = sealed().await;
        for change in [
            "first_seq = first_seq + 1",
            "last_seq = last_seq + 50",
            "last_seq = last_seq - 50",
            "first_at = 0",
            "last_at = 0",
            "chain = (SELECT chain FROM audit_log WHERE seq = 7)",
            "kid = 'other'",
            "signature = (SELECT signature FROM audit_checkpoints WHERE number = 1)",
            "signed_at = signed_at + 1",
            "removed_at = 1",
        ] {
            let change = format!("UPDATE audit_checkpoints SET {change} WHERE number = 2");
            let expected = (CheckpointForged, None, Some(2));
            found(&world.registry, &sql, &change, expected).await;
        }
        for gone in [
            "DELETE FROM audit_checkpoints WHERE number = 2",
            "UPDATE audit_checkpoints SET number = 20 WHERE number = 2",
        ] {
            let expected = (CheckpointMissing, None, Some(2));
            found(&world.registry, &sql, gone, expected).await;
        }
        // As if its rows had been exported and removed: some were, or none.
        let hidden = "UPDATE audit_checkpoints SET removed_at = 1 WHERE number = 1";
        found(&world.registry, &sql, hidden, (Inserted, Some(1), None)).await;
        let half = format!("{hidden}; DELETE FROM audit_log WHERE seq < 50");
        found(&world.registry, &sql, &half, (Inserted, Some(50), None)).await;
        let more = format!("{hidden}; DELETE FROM audit_log WHERE seq < 150");
        found(&world.registry, &sql, &more, (Removed, Some(101), None)).await;
        // A key of somebody who cannot make this installation sign.
        let key = "UPDATE signing_keys SET public_key = (SELECT chain FROM audit_log WHERE seq = 7) WHERE purpose = 2";
        found(
            &world.registry,
            &sql,
            key,
            (CheckpointForged, None, Some(1)),
        )
        .await;
    });
}

/// Has the sealer chain the rows from 150 on anew, after one of them was altered.
async fn chain_anew(registry: &Registry, sql: &Sql) {
    sql.run(
        "INSERT INTO audit_pending (at, request_id, action, allowed, reason, actor_id, actor, credential_id, address, target, detail) \
         SELECT at, request_id, action, allowed, CASE seq WHEN 150 THEN 'another' ELSE reason END, actor_id, actor, credential_id, \
           address, target, detail FROM audit_log WHERE seq >= 150 ORDER BY seq; \
         DELETE FROM audit_log WHERE seq >= 150; DELETE FROM audit_checkpoints WHERE number >= 2",
    )
    .await;
    assert_eq!(registry.seal_audit_now().await.unwrap(), 151);
}

#[test]
fn rows_that_were_chained_anew_are_not_what_was_signed() {
    let _unset = together();
    run(async {
        let (world, sql) = sealed().await;
        chain_anew(&world.registry, &sql).await;
        restore(&sql, "audit_checkpoints").await;
        let report = verify(&world.registry, None).await.checked;
        let named: Vec<_> = report
            .findings
            .iter()
            .map(|finding| (finding.fault, finding.row, finding.checkpoint))
            .collect();
        let expected = [
            (Rechained, Some(101), Some(2)),
            (Rechained, Some(201), Some(3)),
        ];
        assert_eq!(named, expected);
    });
}

#[test]
fn what_was_noted_elsewhere_tells_of_what_was_signed_and_removed() {
    let _unset = together();
    run(async {
        let (world, sql) = sealed().await;
        let registry = &world.registry;
        let noted = intact(registry).await;
        assert_eq!(verify(registry, Some(&noted)).await.checked.found, 0);
        sql.run(
            "DELETE FROM audit_log WHERE seq > 200; DELETE FROM audit_checkpoints WHERE number = 3",
        )
        .await;
        intact(registry).await;
        let report = verify(registry, Some(&noted)).await.checked;
        assert_eq!(
            (
                report.found,
                report.findings[0].fault,
                report.findings[0].row
            ),
            (1, Removed, Some(201))
        );
        for table in TABLES {
            restore(&sql, table).await;
        }
        // Signed by the installation itself, and still not what it was.
        chain_anew(registry, &sql).await;
        assert_ne!(intact(registry).await, noted);
        let report = verify(registry, Some(&noted)).await.checked;
        assert_eq!(
            (
                report.found,
                report.findings[0].fault,
                report.findings[0].row
            ),
            (1, NotAsNoted, Some(300))
        );
        // The rows that were kept are those that were.
        let mut early = noted;
        early.seq = 5;
        assert!(verify(registry, Some(&early)).await.checked.found > 0);
    });
}
