use granary_catalog::Month;
use granary_registry::{AuditFault, AuditRange, Checked, Progress, Registry, check_exported};
use serde_json::Value;

use super::{commit, intact, sql::Sql, verify, world};
use crate::{
    gate::{run, together},
    world::{World, is_postgres},
};

fn month(text: &str) -> Month {
    text.parse().unwrap()
}

const MONTHS: [&str; 3] = ["2026-01", "2026-02", "2026-03"];

/// Four hundred rows in each of three months.
async fn three_months() -> (World, Sql) {
    let (world, sql) = world().await;
    for (number, name) in (0..).zip(MONTHS) {
        commit(&sql, number * 400 + 1, 400, month(name).begin()).await;
    }
    world.registry.seal_audit_now().await.unwrap();
    (world, sql)
}

/// The lines of an export.
async fn lines(
    registry: &Registry,
    from: Option<&str>,
    through: Option<&str>,
) -> (Vec<String>, i64) {
    let range = registry
        .audit_range(from.map(month), through.map(month))
        .await
        .unwrap()
        .unwrap();
    (paged(registry, &range, 1000).await, range.last_row)
}

/// The same of a range, in pages of so many rows and checkpoints.
async fn paged(registry: &Registry, range: &AuditRange, most: u64) -> Vec<String> {
    let (mut lines, mut next) = (Vec::new(), Some(range.cursor()));
    while let Some(after) = next {
        let page = registry.export_audit_page(range, after, most).await;
        let page = page.unwrap();
        let start = usize::from(lines.is_empty());
        assert!(page.lines.len() <= usize::try_from(most).unwrap() + start);
        lines.extend(page.lines);
        next = page.next;
    }
    lines
}

#[test]
fn pages_of_any_size_are_the_same_export() {
    let _unset = together();
    run(async {
        let (world, sql) = three_months().await;
        let registry = &world.registry;
        let range = registry.audit_range(None, None).await.unwrap().unwrap();
        let whole = paged(registry, &range, 1000).await;
        assert_eq!(whole.len(), 1 + 1200 + 3);
        for most in [1, 7, 400] {
            assert_eq!(paged(registry, &range, most).await, whole, "{most}");
        }
        // No page is larger than clients take.
        let long = "x".repeat(10_000);
        sql.run(&format!("UPDATE audit_log SET detail = '{long}'"))
            .await;
        let first = registry.export_audit_page(&range, range.cursor(), 1000);
        let first = first.await.unwrap();
        let bytes: usize = first.lines.iter().map(String::len).sum();
        assert!((500_000..600_000).contains(&bytes), "{bytes}");
        let lines = paged(registry, &range, 1000).await;
        assert_eq!(lines.len(), whole.len());
    });
}

/// What an export of the rows that there are does not tell.
#[test]
fn the_whole_log_shows_what_is_missing_at_its_ends() {
    let _unset = together();
    run(async {
        let (world, sql) = three_months().await;
        let registry = &world.registry;
        let whole = async || {
            let range = registry.audit_whole().await.unwrap();
            check(registry, &paged(registry, &range, 100).await).await
        };
        let progress = Progress::silent();
        let january = Some(month("2026-01"));
        let removed = registry.remove_audit(january, 400, &progress).await;
        assert_eq!(removed.unwrap().rows, 400);
        let checked = whole().await;
        assert_eq!((checked.found, checked.first_kept), (0, 401));
        for (done, fault, row) in [
            (
                "DELETE FROM audit_log WHERE seq <= 800",
                AuditFault::Removed,
                401,
            ),
            (
                "DELETE FROM audit_log WHERE seq >= 801",
                AuditFault::Removed,
                801,
            ),
        ] {
            sql.run(&format!(
                "CREATE TABLE kept AS SELECT * FROM audit_log; {done}"
            ))
            .await;
            let first = whole().await.findings.into_iter().next();
            let first = first.expect("a finding");
            assert_eq!((first.fault, first.row), (fault, Some(row)), "{done}");
            sql.run(
                "DELETE FROM audit_log; INSERT INTO audit_log SELECT * FROM kept; DROP TABLE kept",
            )
            .await;
        }
        assert_eq!(whole().await.found, 0);
    });
}

async fn check(registry: &Registry, lines: &[String]) -> Checked {
    let keys = verify(registry, None).await.keys;
    check_exported(lines.iter().cloned().map(Ok), &keys, None).unwrap()
}

fn of_kind(lines: &[String], kind: &str) -> Vec<Value> {
    let lines = lines.iter().map(|line| serde_json::from_str(line).unwrap());
    lines.filter(|line: &Value| line["kind"] == kind).collect()
}

#[test]
fn an_export_can_be_verified_alone() {
    let _unset = together();
    run(async {
        let (world, _) = three_months().await;
        let registry = &world.registry;
        for (from, through, first, last) in [
            (None, None, 1, 1200),
            (None, Some("2026-01"), 1, 400),
            (Some("2026-02"), Some("2026-02"), 401, 800),
            (Some("2026-02"), None, 401, 1200),
        ] {
            let (lines, end) = lines(registry, from, through).await;
            let rows = of_kind(&lines, "row");
            let numbers = rows.iter().map(|row| row["seq"].as_i64().unwrap());
            assert!(numbers.eq(first..=last), "{from:?} {through:?}");
            assert_eq!(end, last);
            let checked = check(registry, &lines).await;
            assert_eq!((checked.found, checked.unsigned), (0, 0), "{checked:?}");
            assert_eq!(checked.last.seq, last);
            // One line less, or another word in one.
            let middle = 150;
            let mut cut = lines.clone();
            cut.remove(middle);
            assert_eq!(
                check(registry, &cut).await.findings[0].fault,
                AuditFault::Removed
            );
            let mut altered = lines.clone();
            altered[middle] = altered[middle].replace("by the owner", "by nobody");
            assert_eq!(
                check(registry, &altered).await.findings[0].fault,
                AuditFault::Altered
            );
            altered[middle] = "{}".to_owned();
            let keys = verify(registry, None).await.keys;
            let refused = check_exported(altered.into_iter().map(Ok), &keys, None);
            let line = refused.unwrap_err().to_string();
            assert!(line.contains(&format!("line {} ", middle + 1)), "{line}");
        }
        let none = registry.audit_range(Some(month("2026-04")), None).await;
        assert_eq!(none.unwrap(), None);
    });
}

#[test]
fn what_was_exported_can_be_removed_and_the_chain_goes_on() {
    let _unset = together();
    run(async {
        let (world, sql) = three_months().await;
        let registry = &world.registry;
        let before = intact(registry).await;
        let (_, exported) = lines(registry, None, Some("2026-02")).await;
        let progress = Progress::silent();
        // Nothing goes that was not exported.
        let early = registry
            .remove_audit(Some(month("2026-02")), 10, &progress)
            .await
            .unwrap();
        assert_eq!((early.rows, early.through), (0, None));
        let removal = registry
            .remove_audit(Some(month("2026-02")), exported, &progress)
            .await
            .unwrap();
        assert_eq!((removal.rows, removal.through), (800, Some(800)));
        assert_eq!(removal.tables, if is_postgres() { 2 } else { 0 });
        let report = verify(registry, Some(&before)).await.checked;
        assert_eq!((report.found, report.first_kept), (0, 801));
        assert!(report.was_compared);
        // The removal itself is a row.
        assert_eq!(report.rows, 401);
        let note = "SELECT COUNT(*) AS n FROM audit_log WHERE action = 'audit.remove' AND target = 'checkpoint 2'";
        assert_eq!(sql.numbers(note).await, [1]);
        let (rest, _) = lines(registry, None, None).await;
        assert_eq!(of_kind(&rest, "row")[0]["seq"], 801);
        assert_eq!(check(registry, &rest).await.found, 0);
        // Everything, and then something new.
        let all = registry
            .remove_audit(None, i64::MAX, &progress)
            .await
            .unwrap();
        assert_eq!(all.rows, 401);
        intact(registry).await;
        commit(&sql, 5000, 10, month("2026-02").begin()).await;
        let last = intact(registry).await;
        assert_eq!(last.seq, 1201 + 1 + 10);
        // Somebody takes what stayed.
        sql.run("DELETE FROM audit_log WHERE seq <= 1205").await;
        let report = verify(registry, None).await.checked;
        assert_eq!(
            (report.findings[0].fault, report.findings[0].row),
            (AuditFault::Removed, Some(1202))
        );
    });
}

#[test]
fn nothing_goes_that_no_checkpoint_covers() {
    let _unset = together();
    run(async {
        let folder = crate::world::folder();
        let registry = crate::world::open(folder.path(), crate::world::no_grace()).await;
        let sql = Sql::of(folder.path()).await;
        commit(&sql, 1, 20, month("2026-01").begin()).await;
        registry.seal_audit_now().await.unwrap();
        let (lines, exported) = lines(&registry, None, None).await;
        assert_eq!((of_kind(&lines, "row").len(), exported), (20, 20));
        let progress = Progress::silent();
        let removal = registry
            .remove_audit(None, exported, &progress)
            .await
            .unwrap();
        assert_eq!((removal.rows, removal.through), (0, None));
        assert_eq!(verify(&registry, None).await.checked.rows, 20);
    });
}

#[test]
fn a_removal_that_was_cut_off_is_told_and_can_be_repeated() {
    let _unset = together();
    run(async {
        let (world, sql) = three_months().await;
        let registry = &world.registry;
        // It notes first what it then removes.
        while registry.catalog().mark_audit_removed(1).await.unwrap() {}
        sql.run("DELETE FROM audit_log WHERE seq <= 100").await;
        let report = verify(registry, None).await.checked;
        assert_eq!(report.found, 300);
        let first = &report.findings[0];
        assert_eq!((first.fault, first.row), (AuditFault::Inserted, Some(101)));
        assert!(first.problem.contains("repeat"), "{}", first.problem);
        let progress = Progress::silent();
        let removal = registry
            .remove_audit(Some(month("2026-01")), 400, &progress)
            .await
            .unwrap();
        assert_eq!((removal.rows, removal.through), (300, Some(400)));
        intact(registry).await;
    });
}
