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

const COLUMNS: &str = "SELECT c.table_name, c.column_name, c.data_type, c.is_nullable, EXISTS (SELECT 1 \
   FROM information_schema.key_column_usage k JOIN information_schema.table_constraints t ON t.constraint_name = k.constraint_name \
   WHERE t.constraint_type = 'PRIMARY KEY' AND k.table_name = c.table_name AND k.column_name = c.column_name) \
 FROM information_schema.columns c WHERE c.table_schema = 'public'";

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
