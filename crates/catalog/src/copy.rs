//! Copying a whole catalog into another database, of either kind.
//!
//! The source is read in one snapshot ([`Snapshot`]); [`tables`] says what is in it, and [`target`] writes it, in
//! batches, each with a note of how far it got, so that a copy that was cut goes on.

mod snapshot;
mod tables;
mod target;

use std::collections::BTreeMap;

use serde_json::{Map, Value as Json};

use crate::CatalogError;

pub use snapshot::Snapshot;
pub use tables::{COPIED, Column, Kind, LEFT_OUT, Table};
pub use target::{CopyClaim, CopyItem, CopyStart};

/// What a catalog holds, in figures: per table the number of rows, then a sum over each column.
///
/// Equal figures after a copy say that every row arrived. Other figures than before say that the source was used since.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Figures(BTreeMap<String, Vec<i64>>);

impl Figures {
    /// The number of rows in each table.
    pub fn rows(&self) -> BTreeMap<String, u64> {
        let count = |sums: &Vec<i64>| sums.first().map_or(0, |count| crate::sql::unsigned(*count));
        self.0
            .iter()
            .map(|(table, sums)| (table.clone(), count(sums)))
            .collect()
    }

    /// The first table in which the two differ.
    pub fn difference<'a>(&'a self, other: &'a Self) -> Option<&'a str> {
        let differs = |table: &&String| self.0.get(*table) != other.0.get(*table);
        self.0
            .keys()
            .chain(other.0.keys())
            .find(differs)
            .map(String::as_str)
    }

    fn to_json(&self) -> Json {
        let tables = self
            .0
            .iter()
            .map(|(table, sums)| (table.clone(), Json::from(sums.clone())));
        Json::Object(tables.collect::<Map<_, _>>())
    }

    fn from_json(json: &Json) -> Result<Self, CatalogError> {
        let read = |(table, sums): (&String, &Json)| {
            let sums = sums.as_array()?.iter().map(Json::as_i64);
            Some((table.clone(), sums.collect::<Option<Vec<i64>>>()?))
        };
        json.as_object()
            .and_then(|tables| tables.iter().map(read).collect::<Option<_>>())
            .map(Self)
            .ok_or_else(|| CatalogError::damaged("settings", "the figures of a copy"))
    }
}

#[cfg(test)]
mod tests {
    use sea_orm::ConnectionTrait;

    use crate::{Catalog, sql::Id};

    /// What the first account leaves behind, and something of everything that belongs to accounts: a password, an API
    /// token, a refresh token made from it. Each of many robots belongs to the one before, as no real one does.
    const ACCOUNTS: [&str; 11] = [
        "INSERT INTO settings (name, value) VALUES ('accounts', '1')",
        "INSERT INTO principals (id, kind, handle, name, owner_id, created_at) VALUES \
         (3, 1, 'alice', 'alice', NULL, 1), (5, 3, 'acme', 'acme', NULL, 1), (8, 2, NULL, 'acme+old', 5, 1)",
        "WITH RECURSIVE n(i) AS (SELECT 9 UNION ALL SELECT i + 1 FROM n WHERE i < 1300) \
         INSERT INTO principals (id, kind, handle, name, owner_id, created_at) \
         SELECT i, 2, 'acme+' || i, 'acme+' || i, i - 1, 1 FROM n",
        "INSERT INTO namespaces (id, name, created_at, owner_id) VALUES (2, 'acme', 1, 5)",
        "INSERT INTO credentials (id, principal_id, kind, name, secret, phc, parent_id, created_at) VALUES \
         (2, 3, 1, '', NULL, '$argon2id$', NULL, 1), (4, 8, 2, 'ci', X'01', NULL, NULL, 1), (6, 8, 3, '', X'02', NULL, 4, 1), \
         (7, 8, 5, 'https://i', NULL, NULL, NULL, 1)",
        "INSERT INTO trusted_issuers (id, issuer, preset, audience, created_at) VALUES (2, 'https://i', 'plain', '', 1)",
        "INSERT INTO publishers (id, issuer_id, robot_id, credential_id, claims, created_at) VALUES (3, 2, 8, 7, '{}', 1)",
        "INSERT INTO memberships (member_id, group_id, source, organisation_id, role, created_at) VALUES (3, 5, '', 5, 5, 1)",
        "INSERT INTO grants (id, namespace_id, pattern, grantee_id, actions, created_at) VALUES (4, 2, 'acme/**', 8, 3, 1)",
        "INSERT INTO namespace_settings (namespace_id, immutable_tags, updated_at) VALUES (2, '[\"v*\"]', 1)",
        "INSERT INTO signing_keys (kid, purpose, slot, algorithm, public_key, sealed, wrapped_by, created_at, active_from) \
         VALUES ('k', 1, 1, 'ES256', X'03', X'04', 'own', 1, 1)",
    ];

    async fn run(catalog: &Catalog, statements: &'static [&'static str]) {
        let ran = catalog.write(async move |write| {
            for statement in statements {
                write.transaction.execute_unprepared(statement).await?;
            }
            Ok(())
        });
        ran.await.unwrap();
    }

    #[tokio::test]
    async fn accounts_arrive_without_their_sessions() {
        let folder = tempfile::tempdir().unwrap();
        let place = |name: &str| folder.path().join(name);
        let from = Catalog::open_sqlite(&place("from.db")).await.unwrap();
        run(&from, &ACCOUNTS).await;
        let to = Catalog::open_sqlite(&place("to.db")).await.unwrap();
        let snapshot = from.snapshot().await.unwrap();
        let figures = snapshot.figures().await.unwrap();
        assert_eq!(figures.rows()["credentials"], 3);
        assert_eq!(figures.rows()["publishers"], 1);
        to.begin_copy("store", &figures).await.unwrap();
        to.copy_rows(&snapshot, &|_: &str, _: u64| ())
            .await
            .unwrap();
        snapshot.close().await.unwrap();
        assert_eq!(to.end_copy(true).await.unwrap(), 1, "the API token");
        let withdrawn = "SELECT id FROM credentials WHERE revoked_at IS NOT NULL";
        let withdrawn: Vec<Id> = to.reads.all(withdrawn, []).await.unwrap();
        assert_eq!(withdrawn.iter().map(|row| row.id).collect::<Vec<_>>(), [4]);
        run(
            &to,
            &["INSERT INTO principals (kind, name, created_at) VALUES (1, 'bob', 1)"],
        )
        .await;
        let last = "SELECT MAX(id) AS id FROM principals";
        let last: Option<Id> = to.reads.one(last, []).await.unwrap();
        assert_eq!(last.map(|row| row.id), Some(1301));
    }

    #[tokio::test]
    async fn what_a_row_belongs_to_was_there_before() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("catalog.db");
        let catalog = Catalog::open_sqlite(&path).await.unwrap();
        run(&catalog, &ACCOUNTS).await;
        for backwards in [
            "UPDATE principals SET owner_id = 8 WHERE id = 5",
            "UPDATE credentials SET parent_id = 4 WHERE id = 2",
        ] {
            let refused = catalog.write(async move |write| {
                write.transaction.execute_unprepared(backwards).await?;
                Ok(())
            });
            assert!(refused.await.is_err(), "{backwards}");
        }
    }
}
