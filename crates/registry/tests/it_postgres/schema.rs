//! Databases that another version made.

use granary_catalog::{Catalog, schema_status, schema_up};
use granary_testbed::Postgres;

fn database() -> (&'static Postgres, String, String) {
    let server = Postgres::shared().unwrap();
    let url = server.create_database().unwrap();
    let name = url.rsplit('/').next().unwrap().to_owned();
    (server, url, name)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_database_is_migrated_once() {
    let (_, url, _) = database();
    let before = schema_status(&url).await.unwrap();
    assert_eq!((before.release, before.pending.len()), (0, 2));
    // Three processes start at the same time.
    let starts = (0..3).map(|_| Catalog::open_postgres(&url, 2));
    for opened in futures_util::future::join_all(starts).await {
        opened.unwrap();
    }
    let after = schema_status(&url).await.unwrap();
    assert_eq!(after.release, after.known);
    assert!(after.pending.is_empty() && after.unknown.is_empty());
    assert_eq!(schema_up(&url).await.unwrap(), after);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schema_one_release_newer_is_used_as_it_is() {
    let (server, url, name) = database();
    let known = schema_up(&url).await.unwrap().known;
    let migrated = "INSERT INTO seaql_migrations (version, applied_at) VALUES ('m9999_of_the_next_release', 0)";
    server.psql(&name, migrated).unwrap();
    let released = |release: i64| {
        format!("UPDATE settings SET value = '{release}' WHERE name = 'schema-release'")
    };
    server.psql(&name, &released(known + 1)).unwrap();
    let catalog = Catalog::open_postgres(&url, 2).await.unwrap();
    assert_eq!(
        catalog.setting("colour", "green".into()).await.unwrap(),
        "green"
    );

    server.psql(&name, &released(known + 2)).unwrap();
    let refusal = Catalog::open_postgres(&url, 2)
        .await
        .err()
        .unwrap()
        .to_string();
    assert!(refusal.contains("run a newer version"), "{refusal}");
    let kept = server
        .psql(
            &name,
            "SELECT value FROM settings WHERE name = 'schema-release'",
        )
        .unwrap();
    assert_eq!(kept.trim(), (known + 2).to_string());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_of_the_release_before_is_brought_up() {
    let (server, url, name) = database();
    schema_up(&url).await.unwrap();
    // What the first release's database lacks.
    for undo in [
        "DROP TABLE upload_tails, leases, replicas",
        "ALTER TABLE uploads DROP COLUMN holder, DROP COLUMN heartbeat_at, DROP COLUMN unsent",
        "ALTER TABLE doomed_objects DROP COLUMN store_state, DROP COLUMN unfinished",
        "ALTER TABLE repositories DROP COLUMN listed",
        "DROP INDEX blobs_storage_key, doomed_objects_due, manifests_subject, uploads_open, tag_history_moved, removed_manifests_removed",
        "DELETE FROM settings",
        "DELETE FROM seaql_migrations WHERE version = 'm0002_replicas'",
        "INSERT INTO uploads (id, repository, principal, epoch, received, hash_state, created_at, updated_at) VALUES ('u', 'a/b', 'me', 0, 0, '', 0, 0)",
    ] {
        server.psql(&name, undo).unwrap();
    }
    let before = schema_status(&url).await.unwrap();
    assert_eq!(
        (before.release, before.pending.as_slice()),
        (1, &["m0002_replicas".to_owned()][..])
    );
    let after = schema_up(&url).await.unwrap();
    assert_eq!(after.release, after.known);
    // A process of the release before goes on writing beside the new one.
    server
        .psql(
            &name,
            "INSERT INTO doomed_objects (storage_key, not_before) VALUES ('k', 0)",
        )
        .unwrap();
    let catalog = Catalog::open_postgres(&url, 2).await.unwrap();
    assert_eq!(catalog.doomed_objects(10).await.unwrap().len(), 1);
    assert!(
        catalog
            .upload(&"a/b".parse().unwrap(), "u")
            .await
            .unwrap()
            .is_some()
    );
}
