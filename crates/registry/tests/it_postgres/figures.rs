//! What the copy knows of the schema is all there is. The same of SQLite stands beside the description.

use std::collections::BTreeSet;

use granary_catalog::{COPIED, Catalog, Kind, LEFT_OUT};
use granary_testbed::Postgres;

/// Everything that is copied, as `table.column kind nullable key`.
fn described() -> BTreeSet<String> {
    let mut lines = BTreeSet::new();
    for table in &COPIED {
        for (number, column) in table.columns.iter().enumerate() {
            let kind = match column.kind {
                Kind::Int => "bigint",
                Kind::Small => "smallint",
                Kind::Text => "text",
                Kind::Bytes => "bytea",
                Kind::Bool => "boolean",
            };
            let key = number < table.key;
            let (name, column, nullable) = (table.name, column.name, column.nullable);
            lines.insert(format!("{name}.{column} {kind} {nullable} {key}"));
        }
    }
    lines
}

/// Without the tables by month of the audit log, which differ in nothing but their rows.
const COLUMNS: &str = "SELECT c.table_name, c.column_name, c.data_type, c.is_nullable, EXISTS (SELECT 1 \
   FROM information_schema.key_column_usage k JOIN information_schema.table_constraints t ON t.constraint_name = k.constraint_name \
   WHERE t.constraint_type = 'PRIMARY KEY' AND k.table_name = c.table_name AND k.column_name = c.column_name) \
 FROM information_schema.columns c WHERE c.table_schema = 'public' AND c.table_name NOT LIKE 'audit\\_log\\_y%'";

/// The same as the database says, except for what is left out.
fn found(rows: &str) -> BTreeSet<String> {
    let line = |line: &str| {
        let parts: Vec<&str> = line.split('|').collect();
        let &[table, column, kind, nullable, key] = parts.as_slice() else {
            panic!("{line}")
        };
        let kind = kind.replace("character varying", "text");
        let (nullable, key) = (nullable == "YES", key == "t");
        (!LEFT_OUT.contains(&table)).then(|| format!("{table}.{column} {kind} {nullable} {key}"))
    };
    rows.lines().filter_map(line).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_table_and_column_is_copied_or_left_out_on_purpose() {
    let server = Postgres::shared().unwrap();
    let url = server.create_database().unwrap();
    let name = url.rsplit('/').next().unwrap();
    Catalog::open_postgres(&url, 2).await.unwrap().close().await;
    let found = found(&server.psql(name, COLUMNS).unwrap());
    let described = described();
    let missing: Vec<_> = found.difference(&described).collect();
    let gone: Vec<_> = described.difference(&found).collect();
    assert!(
        missing.is_empty() && gone.is_empty(),
        "not in crates/catalog/src/copy/tables.rs: {missing:#?}\nnot in the database: {gone:#?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn one_process_at_a_time_copies_into_a_database() {
    let url = Postgres::shared().unwrap().create_database().unwrap();
    let one = Catalog::open_postgres(&url, 2).await.unwrap();
    let two = Catalog::open_postgres(&url, 2).await.unwrap();
    let claim = one.claim_copy().await.unwrap();
    assert!(claim.is_some());
    assert!(two.claim_copy().await.unwrap().is_none());
    drop(claim);
    assert!(two.claim_copy().await.unwrap().is_some());
}

/// The same as beside the copy of SQLite: each robot belongs to the one before, and the refresh token stays behind.
const ACCOUNTS: [&str; 5] = [
    "INSERT INTO settings (name, value) VALUES ('accounts', '1')",
    "INSERT INTO principals (id, kind, handle, name, owner_id, created_at) \
     SELECT i, 2, 'r+' || i, 'r+' || i, NULLIF(i - 1, 8), 1 FROM generate_series(9, 1300) i",
    "INSERT INTO credentials (id, principal_id, kind, name, secret, parent_id, created_at) VALUES \
     (4, 9, 2, 'ci', '\\x01', NULL, 1), (6, 9, 3, '', '\\x02', 4, 1)",
    "INSERT INTO memberships (member_id, group_id, organisation_id, role, created_at) VALUES (9, 10, 11, 5, 1)",
    "INSERT INTO signing_keys (kid, purpose, slot, algorithm, public_key, sealed, wrapped_by, created_at, active_from) \
     VALUES ('k', 1, 1, 'ES256', '\\x03', '\\x04', 'own', 1, 1)",
];

#[tokio::test(flavor = "multi_thread")]
async fn accounts_are_copied_and_numbered_on() {
    let server = Postgres::shared().unwrap();
    let urls = [(); 2].map(|()| server.create_database().unwrap());
    let [source, target] = urls.each_ref().map(|url| url.rsplit('/').next().unwrap());
    let from = Catalog::open_postgres(&urls[0], 2).await.unwrap();
    let to = Catalog::open_postgres(&urls[1], 2).await.unwrap();
    for rows in ACCOUNTS {
        server.psql(source, rows).unwrap();
    }
    let snapshot = from.snapshot().await.unwrap();
    let figures = snapshot.figures().await.unwrap();
    to.begin_copy("store", &figures).await.unwrap();
    to.copy_rows(&snapshot, &|_: &str, _: u64| ())
        .await
        .unwrap();
    snapshot.close().await.unwrap();
    to.end_copy(false).await.unwrap();
    let ask = |query: &str| server.psql(target, query).unwrap().trim().to_owned();
    assert_eq!(ask("SELECT id FROM credentials"), "4");
    ask("INSERT INTO principals (kind, name, created_at) VALUES (1, 'bob', 1)");
    assert_eq!(ask("SELECT MAX(id) FROM principals"), "1301");
    // The same goes for every table whose rows the database numbers.
    for table in COPIED.iter().filter(|table| table.numbered) {
        let (name, id) = (table.name, table.columns[0].name);
        let sequence = ask(&format!("SELECT pg_get_serial_sequence('{name}', '{id}')"));
        assert!(!sequence.is_empty(), "{name}");
    }
}
