//! The audit log in tables by month, and several processes that seal.

use granary_catalog::Month;
use granary_registry::{AnonymousMode, AuditFilter};

use crate::{
    accounts::rules,
    audit::{THEN, commit, intact, sealing::write_and_seal, sql::Sql},
    gate::{run, together},
    world::{World, folder, open},
};

async fn world() -> (World, Sql) {
    let world = World::new(rules(AnonymousMode::None)).await;
    let sql = Sql::of(world.folder.path()).await;
    (world, sql)
}

fn month(text: &str) -> Month {
    text.parse().unwrap()
}

/// The tables that the log lies in.
async fn tables(sql: &Sql) -> Vec<String> {
    let query = "SELECT relname::text FROM pg_class WHERE relkind = 'r' AND relname LIKE 'audit\\_log\\_y%' ORDER BY relname";
    sql.lines(query).await
}

#[test]
fn months_have_tables_before_they_begin_and_whenever_a_row_needs_one() {
    let _unset = together();
    run(async {
        let (world, sql) = world().await;
        assert!(tables(&sql).await.is_empty());
        world.registry.catalog().prepare_audit().await.unwrap();
        let now = Month::of(world.registry.catalog().now().await.unwrap()).unwrap();
        let next = Month::of(now.end()).unwrap();
        let last = Month::of(next.end()).unwrap();
        let name = |month: Month| format!("audit_log_y{}", month.to_string().replace('-', "m"));
        let mut expected = vec![name(now), name(next), name(last)];
        assert_eq!(tables(&sql).await, expected);
        for text in ["2024-02", "1999-12"] {
            commit(&sql, 1, 3, month(text).begin()).await;
            world.registry.seal_audit_now().await.unwrap();
            expected.insert(0, name(month(text)));
            assert_eq!(tables(&sql).await, expected);
        }
        // Each with the indexes of all.
        let indexes = "SELECT COUNT(*) AS n FROM pg_indexes WHERE tablename = 'audit_log_y2024m02'";
        assert_eq!(sql.numbers(indexes).await, [4]);
        intact(&world.registry).await;
    });
}

#[test]
fn a_question_about_a_month_reads_its_table_only() {
    let _unset = together();
    run(async {
        let (world, sql) = world().await;
        for text in ["2026-01", "2026-02", "2026-03"] {
            commit(&sql, 1, 2000, month(text).begin()).await;
        }
        // Many of everything, so that an index is worth its while.
        sql.run("UPDATE audit_pending SET target = 'repository/' || id % 500, actor_id = NULLIF(id % 500, 3)")
            .await;
        world.registry.seal_audit_now().await.unwrap();
        sql.run("ANALYZE audit_log").await;
        let february = AuditFilter {
            since: Some(month("2026-02").begin()),
            until: Some(month("2026-02").end()),
            ..AuditFilter::default()
        };
        let by_target = AuditFilter {
            target: Some("repository/3".to_owned()),
            ..february.clone()
        };
        let by_actor = AuditFilter {
            actor: Some("user3".to_owned()),
            ..february.clone()
        };
        for (filter, index) in [
            (&february, "pkey"),
            (&by_target, "target_at_idx"),
            (&by_actor, "actor_id_at_idx"),
        ] {
            let plan = sql
                .lines(&format!("EXPLAIN {}", filter.statement(None, 50)))
                .await
                .join("\n");
            assert!(plan.contains("audit_log_y2026m02"), "{plan}");
            for other in ["m01", "m03", "Seq Scan"] {
                assert!(!plan.contains(other), "{plan}");
            }
            assert!(plan.contains(index), "{plan}");
        }
        // The end of the log is found by an index in each table.
        let head = "EXPLAIN SELECT seq, at, chain FROM audit_log ORDER BY seq DESC LIMIT 1";
        let plan = sql.lines(head).await.join("\n");
        assert!(
            !plan.contains("Sort Key") || plan.contains("Merge Append"),
            "{plan}"
        );
        assert!(plan.contains("audit_log_y2026m03_seq_idx"), "{plan}");
    });
}

#[test]
fn several_replicas_seal_at_once_and_no_number_is_given_out_twice() {
    let _unset = together();
    run(async {
        let folder = folder();
        let mut replicas = Vec::new();
        for _ in 0..3 {
            replicas.push(open(folder.path(), rules(AnonymousMode::None)).await);
        }
        let sql = Sql::of(folder.path()).await;
        write_and_seal(&replicas, &sql).await;
    });
}

#[test]
fn one_replica_has_the_turn_until_it_leaves() {
    let _unset = together();
    run(async {
        let folder = folder();
        let one = open(folder.path(), rules(AnonymousMode::None)).await;
        let two = open(folder.path(), rules(AnonymousMode::None)).await;
        let sql = Sql::of(folder.path()).await;
        let forever = |registry: &granary_registry::Registry| {
            let registry = registry.clone();
            tokio::spawn(async move { registry.seal_forever().await })
        };
        let sealed = async |rows: i64| {
            while sql.numbers("SELECT COUNT(*) AS n FROM audit_log").await != [rows] {
                tokio::task::yield_now().await;
            }
        };
        let holder = "SELECT holder FROM leases WHERE name = 'audit'";
        commit(&sql, 1, 10, THEN).await;
        let first = forever(&one);
        sealed(10).await;
        let before = sql.lines(holder).await;
        let second = forever(&two);
        commit(&sql, 11, 10, THEN).await;
        two.wake_sealer();
        one.wake_sealer();
        sealed(20).await;
        assert_eq!(sql.lines(holder).await, before);
        first.abort();
        assert!(first.await.unwrap_err().is_cancelled());
        one.leave().await;
        commit(&sql, 21, 10, THEN).await;
        two.wake_sealer();
        sealed(30).await;
        assert_ne!(sql.lines(holder).await, before);
        second.abort();
        assert_eq!(intact(&two).await.seq, 30);
    });
}
