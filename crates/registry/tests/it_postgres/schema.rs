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
    assert_eq!((before.release, before.pending.len()), (0, 4));
    // Three processes start at the same time.
    let starts = (0..3).map(|_| Catalog::open_postgres(&url, 2));
    for opened in futures_util::future::join_all(starts).await {
        opened.unwrap();
    }
    let after = schema_status(&url).await.unwrap();
    assert_eq!((after.release, after.known), (5, 5));
    assert!(after.pending.is_empty() && after.unknown.is_empty());
    assert_eq!(schema_up(&url).await.unwrap(), after);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schema_one_release_newer_is_used_as_it_is() {
    let (server, url, name) = database();
    schema_up(&url).await.unwrap();
    let migrated = "INSERT INTO seaql_migrations (version, applied_at) VALUES ('m9999_of_the_next_release', 0)";
    server.psql(&name, migrated).unwrap();
    let released = |release: i64| {
        format!("UPDATE settings SET value = '{release}' WHERE name = 'schema-release'")
    };
    server.psql(&name, &released(6)).unwrap();
    let catalog = Catalog::open_postgres(&url, 2).await.unwrap();
    assert_eq!(
        catalog.setting("colour", "green".into()).await.unwrap(),
        "green"
    );

    server.psql(&name, &released(7)).unwrap();
    let refusal = Catalog::open_postgres(&url, 2)
        .await
        .err()
        .unwrap()
        .to_string();
    assert!(refusal.contains("run a newer version"), "{refusal}");
    assert_eq!(noted(server, &name), "7");
}

/// The release that a database notes.
fn noted(server: &Postgres, database: &str) -> String {
    let query = "SELECT value FROM settings WHERE name = 'schema-release'";
    server.psql(database, query).unwrap().trim().to_owned()
}

/// Takes away what the fifth release added; the fourth was the third with accounts.
const WITHOUT_TRAIL: [&str; 6] = [
    "DROP TABLE audit_pending, audit_log, audit_checkpoints, identities, group_mappings, logins, publishers, trusted_issuers",
    "DROP TABLE used_identities, namespace_usage, namespace_blobs",
    "ALTER TABLE repositories DROP COLUMN removed_at, DROP COLUMN former_name",
    "ALTER TABLE namespace_settings DROP COLUMN default_license, DROP COLUMN quota_bytes, DROP COLUMN quota_artifacts",
    "ALTER TABLE uploads DROP COLUMN reserved",
    "ALTER TABLE credentials DROP COLUMN csrf, DROP COLUMN issuer",
];

#[tokio::test(flavor = "multi_thread")]
async fn a_database_of_the_fourth_release_is_brought_up() {
    let (server, url, name) = database();
    schema_up(&url).await.unwrap();
    for undo in WITHOUT_TRAIL.into_iter().chain([
        "UPDATE settings SET value = '4' WHERE name = 'schema-release'",
        "DELETE FROM seaql_migrations WHERE version = 'm0004_trail_and_doors'",
        "INSERT INTO settings (name, value) VALUES ('accounts', '1')",
        "INSERT INTO principals (kind, handle, name, created_at) VALUES (1, 'alice', 'alice', 1)",
    ]) {
        server.psql(&name, undo).unwrap();
    }
    let before = schema_status(&url).await.unwrap();
    assert_eq!(
        (before.release, before.pending.as_slice()),
        (4, &["m0004_trail_and_doors".to_owned()][..])
    );
    Catalog::open_postgres(&url, 2).await.unwrap();
    assert_eq!(noted(server, &name), "5");
    let alice = "SELECT name FROM principals";
    assert_eq!(server.psql(&name, alice).unwrap().trim(), "alice");
}

/// The changes since the first release.
const NEWER: [&str; 3] = ["m0002_replicas", "m0003_accounts", "m0004_trail_and_doors"];

/// Takes away what the third release added.
const WITHOUT_ACCOUNTS: [&str; 4] = [
    "ALTER TABLE namespaces DROP COLUMN owner_id",
    "ALTER TABLE repositories DROP COLUMN visibility",
    "DROP INDEX repositories_namespace",
    "DROP TABLE credentials, memberships, grants, namespace_settings, signing_keys, principals",
];

#[tokio::test(flavor = "multi_thread")]
async fn a_database_of_the_second_release_is_brought_up() {
    let (server, url, name) = database();
    schema_up(&url).await.unwrap();
    for undo in WITHOUT_TRAIL.into_iter().chain(WITHOUT_ACCOUNTS).chain([
        "UPDATE settings SET value = '2' WHERE name = 'schema-release'",
        "DELETE FROM seaql_migrations WHERE version IN ('m0003_accounts', 'm0004_trail_and_doors')",
        "INSERT INTO namespaces (id, name, created_at) VALUES (7, 'a', 1)",
        "INSERT INTO repositories (namespace_id, name, created_at, listed) VALUES (7, 'a/b', 1, TRUE)",
    ]) {
        server.psql(&name, undo).unwrap();
    }
    let before = schema_status(&url).await.unwrap();
    assert_eq!(
        (before.release, before.pending.as_slice()),
        (
            2,
            &NEWER[1..]
                .iter()
                .map(|name| (*name).to_owned())
                .collect::<Vec<_>>()[..]
        )
    );
    let after = schema_up(&url).await.unwrap();
    assert_eq!((after.release, after.pending.len()), (5, 0));
    let catalog = Catalog::open_postgres(&url, 2).await.unwrap();
    assert_eq!(catalog.repositories("", 9).await.unwrap(), ["a/b"]);
    // A process of the release before goes on writing beside the new one.
    for row in [
        "INSERT INTO namespaces (id, name, created_at) VALUES (8, 'c', 1)",
        "INSERT INTO repositories (namespace_id, name, created_at, listed) VALUES (8, 'c/d', 1, TRUE)",
    ] {
        server.psql(&name, row).unwrap();
    }
    let private = "SELECT COUNT(*) FROM repositories WHERE visibility = 1";
    assert_eq!(server.psql(&name, private).unwrap().trim(), "2");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_of_the_first_release_is_brought_up() {
    let (server, url, name) = database();
    schema_up(&url).await.unwrap();
    // What the first release's database lacks.
    for undo in WITHOUT_TRAIL.into_iter().chain(WITHOUT_ACCOUNTS).chain([
        "DROP TABLE upload_tails, leases, replicas",
        "ALTER TABLE uploads DROP COLUMN holder, DROP COLUMN heartbeat_at, DROP COLUMN unsent",
        "ALTER TABLE doomed_objects DROP COLUMN store_state, DROP COLUMN unfinished",
        "ALTER TABLE repositories DROP COLUMN listed",
        "DROP INDEX blobs_storage_key, doomed_objects_due, manifests_subject, uploads_open, tag_history_moved, removed_manifests_removed",
        "DELETE FROM settings",
        "DELETE FROM seaql_migrations WHERE version <> 'm0001_core'",
        "INSERT INTO uploads (id, repository, principal, epoch, received, hash_state, created_at, updated_at) VALUES ('u', 'a/b', 'me', 0, 0, '', 0, 0)",
    ]) {
        server.psql(&name, undo).unwrap();
    }
    let before = schema_status(&url).await.unwrap();
    assert_eq!(
        (before.release, before.pending.as_slice()),
        (1, &NEWER.map(str::to_owned)[..])
    );
    let after = schema_up(&url).await.unwrap();
    assert_eq!((after.release, after.pending.len()), (5, 0));
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
