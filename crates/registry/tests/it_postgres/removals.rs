//! Removing a repository where several processes write to it, or do not know of removals.

use granary_catalog::{Authority, NamespaceChange};
use granary_registry::{AccountsCommand, AccountsError, AccountsReport, Precondition, Registry};

use crate::{
    gate::{Gate, alone, run, together},
    replicas::{Pair, pair, put, stands_at},
    world::{collect, name, no_grace},
};

async fn remove(registry: &Registry) -> Result<AccountsReport, AccountsError> {
    let repository = name("a/b");
    let command = AccountsCommand::RemoveRepository { repository };
    registry.administer(command).await
}

/// Asks the database of a pair.
fn psql(pair: &Pair, sql: &str) -> String {
    let url = std::fs::read_to_string(pair.folder.path().join("database-url")).unwrap();
    let database = url.rsplit('/').next().unwrap();
    let server = granary_testbed::Postgres::shared().unwrap();
    server.psql(database, sql).unwrap().trim().to_owned()
}

/// Until a transaction of the pair waits for another one.
async fn somebody_waits(pair: &Pair) {
    let waits = "SELECT COUNT(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
    while psql(pair, waits) == "0" {
        tokio::task::yield_now().await;
    }
}

#[test]
fn a_repository_is_removed_behind_what_is_being_committed() {
    alone(async {
        let pair = pair(no_grace()).await;
        put(&pair.one, 1, Precondition::None).await.unwrap();
        let gate = Gate::shut("catalog::before_commit");
        let one = pair.one.clone();
        let putting = tokio::spawn(async move { put(&one, 2, Precondition::None).await });
        gate.reached().await;
        let two = pair.two.clone();
        let removing = tokio::spawn(async move { remove(&two).await });
        somebody_waits(&pair).await;
        assert!(stands_at(&pair.two).await.is_some());
        gate.open();
        putting.await.unwrap().unwrap();
        removing.await.unwrap().unwrap();
        for registry in [&pair.one, &pair.two] {
            assert_eq!(stands_at(registry).await, None);
        }
        let listed = "SELECT COUNT(*) FROM repositories WHERE listed";
        assert_eq!(psql(&pair, listed), "0");
        collect(&pair.one).await;
        assert_eq!(psql(&pair, "SELECT COUNT(*) FROM repositories"), "0");
        assert_eq!(psql(&pair, "SELECT COUNT(*) FROM tag_history"), "0");
    });
}

#[test]
fn what_waits_for_a_removal_goes_to_another_repository() {
    alone(async {
        let pair = pair(no_grace()).await;
        put(&pair.one, 1, Precondition::None).await.unwrap();
        let gate = Gate::shut("catalog::before_commit");
        let one = pair.one.clone();
        let removing = tokio::spawn(async move { remove(&one).await });
        gate.reached().await;
        let two = pair.two.clone();
        let putting = tokio::spawn(async move { put(&two, 2, Precondition::None).await });
        somebody_waits(&pair).await;
        gate.open();
        removing.await.unwrap().unwrap();
        let fresh = putting.await.unwrap().unwrap();
        for registry in [&pair.one, &pair.two] {
            assert_eq!(stands_at(registry).await, Some(fresh));
        }
        assert_eq!(psql(&pair, "SELECT COUNT(*) FROM repositories"), "2");
        collect(&pair.one).await;
        for table in ["repositories", "manifests", "tag_history"] {
            let count = format!("SELECT COUNT(*) FROM {table}");
            assert_eq!(psql(&pair, &count), "1", "{table}");
        }
    });
}

#[test]
fn nothing_is_removed_or_limited_beside_a_replica_that_knows_nothing_of_it() {
    let _unset = together();
    run(async {
        let pair = pair(no_grace()).await;
        put(&pair.one, 1, Precondition::None).await.unwrap();
        let old = "INSERT INTO replicas (id, version, release, started_at, heartbeat_at) \
                   VALUES ('old', '0.4.2', 4, 0, (EXTRACT(EPOCH FROM clock_timestamp()) * 1000000)::bigint)";
        psql(&pair, old);
        let refused = remove(&pair.one).await.unwrap_err().to_string();
        let names_it = refused.contains("a replica of version 0.4.2 is running");
        assert!(names_it, "{refused}");
        assert!(stands_at(&pair.two).await.is_some());
        // Nor is a quota set that it would pass over; taking one away does no harm.
        for (bytes, is_refused) in [(1000, true), (0, false)] {
            let change = NamespaceChange {
                quota_bytes: Some(bytes),
                ..NamespaceChange::default()
            };
            let catalog = pair.one.catalog();
            let changed = catalog
                .change_namespace(&Authority::operator(), "a".to_owned(), change)
                .await;
            let refused = changed.map_err(|error| error.to_string()).err();
            let names_it = refused.map(|text| text.contains("version 0.4.2"));
            assert_eq!(names_it, is_refused.then_some(true));
        }
        psql(&pair, "UPDATE replicas SET heartbeat_at = 0");
        remove(&pair.one).await.unwrap();
        assert_eq!(stands_at(&pair.two).await, None);
    });
}
