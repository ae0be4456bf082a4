use granary_registry::{AuditFilter, AuditRow, Registry};

use super::{THEN, commit, world};
use crate::gate::{run, together};

/// Everything that is let through, in pages.
async fn listed(registry: &Registry, filter: &AuditFilter) -> Vec<AuditRow> {
    let mut rows: Vec<AuditRow> = Vec::new();
    loop {
        let before = rows.last().map(|row| (row.at, row.seq));
        let page = registry.audit(filter, before, 7).await.unwrap();
        if page.is_empty() {
            return rows;
        }
        assert!(page.len() <= 7);
        rows.extend(page);
    }
}

/// What a filter lets through.
type Keeps = fn(&AuditRow) -> bool;

/// Filters, what each lets through, and how many that are.
fn questions() -> [(AuditFilter, Keeps, usize); 7] {
    let any = AuditFilter::default();
    [
        (
            AuditFilter {
                actor: Some("user3".to_owned()),
                ..any.clone()
            },
            |row| matches!(row.actor_id, Some(3 | 4)) || row.actor_id.is_none(),
            41,
        ),
        (
            AuditFilter {
                target: Some("repository/2".to_owned()),
                ..any.clone()
            },
            |row| row.target == "repository/2",
            25,
        ),
        (
            AuditFilter {
                action: Some("login".to_owned()),
                ..any.clone()
            },
            |row| row.action == "login",
            34,
        ),
        (
            AuditFilter {
                denied: true,
                ..any.clone()
            },
            |row| !row.allowed,
            51,
        ),
        (
            AuditFilter {
                since: Some(THEN + 90_000_000),
                ..any.clone()
            },
            |row| row.at >= THEN + 90_000_000,
            11,
        ),
        (
            AuditFilter {
                until: Some(THEN + 90_000_000),
                denied: true,
                actor: Some("user3".to_owned()),
                ..any.clone()
            },
            |row| {
                !row.allowed && row.at < THEN + 90_000_000 && !matches!(row.actor_id, Some(0..=2))
            },
            19,
        ),
        (
            AuditFilter {
                actor: Some("nobody' OR '1' = '1".to_owned()),
                ..any.clone()
            },
            |_| false,
            0,
        ),
    ]
}

#[test]
fn a_list_shows_what_was_asked_for_newest_first() {
    let _unset = together();
    run(async {
        let (world, sql) = world().await;
        sql.run("INSERT INTO principals (id, kind, name, state, created_at) VALUES (3, 1, 'user3', 3, 1), (4, 1, 'user3', 1, 1)").await;
        commit(&sql, 1, 100, THEN).await;
        // Of no account, and at the same moment as another.
        sql.run(&format!(
            "INSERT INTO audit_pending (at, request_id, action, allowed, reason, actor, target) VALUES \
             ({}, 'request-101', 'login', FALSE, 'password', 'user3', 'user3')",
            THEN + 50_000_000
        ))
        .await;
        world.registry.seal_audit_now().await.unwrap();
        let whole = listed(&world.registry, &AuditFilter::default()).await;
        assert_eq!(whole.len(), 101);
        let is_sorted = whole.is_sorted_by_key(|row| std::cmp::Reverse((row.at, row.seq)));
        assert!(is_sorted);
        for (filter, keeps, number) in questions() {
            let expected: Vec<_> = whole.iter().filter(|row| keeps(row)).cloned().collect();
            assert_eq!(expected.len(), number, "{filter:?}");
            assert_eq!(
                listed(&world.registry, &filter).await,
                expected,
                "{filter:?}"
            );
        }
    });
}
