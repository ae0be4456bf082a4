//! What a catalog consists of. A test compares this with the schemas of both databases.

/// A table.
#[derive(Clone, Copy, Debug)]
pub struct Table {
    /// Its name.
    pub name: &'static str,
    /// Its columns, those of the primary key first.
    pub columns: &'static [Column],
    /// How many of them are the primary key.
    pub key: usize,
    /// Whether the database itself numbers the rows, in the first column.
    pub numbered: bool,
    /// The column whose length says how heavy a row is, if that varies much.
    pub(crate) heavy: Option<&'static str>,
    /// Which rows are copied, if not all.
    pub(crate) only: Option<&'static str>,
}

/// A column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Column {
    /// Its name.
    pub name: &'static str,
    /// What it holds.
    pub kind: Kind,
    /// Whether it may be empty.
    pub nullable: bool,
}

/// What a column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A number of 64 bits.
    Int,
    /// A number of 16 bits.
    Small,
    /// Text.
    Text,
    /// Bytes.
    Bytes,
    /// Yes or no.
    Bool,
}

const fn int(name: &'static str) -> Column {
    column(name, Kind::Int)
}

const fn small(name: &'static str) -> Column {
    column(name, Kind::Small)
}

const fn text(name: &'static str) -> Column {
    column(name, Kind::Text)
}

const fn bool(name: &'static str) -> Column {
    column(name, Kind::Bool)
}

const fn bytes(name: &'static str) -> Column {
    column(name, Kind::Bytes)
}

const fn column(name: &'static str, kind: Kind) -> Column {
    Column {
        name,
        kind,
        nullable: false,
    }
}

const fn optional(column: Column) -> Column {
    Column {
        nullable: true,
        ..column
    }
}

/// A table with one number as its key.
const fn numbered(name: &'static str, columns: &'static [Column]) -> Table {
    Table {
        name,
        columns,
        key: 1,
        numbered: true,
        heavy: None,
        only: None,
    }
}

/// A table whose first `key` columns are its key.
const fn keyed(name: &'static str, key: usize, columns: &'static [Column]) -> Table {
    Table {
        name,
        columns,
        key,
        numbered: false,
        heavy: None,
        only: None,
    }
}

/// Tables that a copy leaves out: sessions and processes of the source, objects that the source is to delete from its own
/// store, and what the schema notes about itself.
pub const LEFT_OUT: [&str; 10] = [
    "uploads",
    "upload_tails",
    "doomed_objects",
    "leases",
    "replicas",
    "seaql_migrations",
    // Log-ins under way, and identity tokens that count once for minutes.
    "logins",
    "used_identities",
    // Counted anew.
    "namespace_usage",
    "namespace_blobs",
];

/// Every other table, each behind those that it refers to. One that refers to itself does so backwards, to rows with
/// smaller numbers, and these are copied first.
pub const COPIED: [Table; 24] = [
    Table {
        // What the target notes about itself stays the target's. Its release follows from the rest at the end.
        only: Some("name <> 'schema-release' AND name NOT LIKE 'copy-%'"),
        ..keyed("settings", 1, &[text("name"), text("value")])
    },
    numbered(
        "principals",
        &[
            int("id"),
            small("kind"),
            optional(text("handle")),
            text("name"),
            optional(int("owner_id")),
            optional(text("display_name")),
            optional(text("email")),
            small("system_role"),
            small("state"),
            optional(text("addresses")),
            int("created_at"),
            optional(int("created_by")),
            optional(int("removed_at")),
        ],
    ),
    numbered(
        "namespaces",
        &[
            int("id"),
            text("name"),
            int("created_at"),
            optional(int("owner_id")),
        ],
    ),
    numbered(
        "repositories",
        &[
            int("id"),
            int("namespace_id"),
            text("name"),
            int("created_at"),
            bool("listed"),
            small("visibility"),
            optional(int("removed_at")),
            optional(text("former_name")),
        ],
    ),
    Table {
        // Passwords, API tokens and what publishers have. Sessions and refresh tokens end here: people log in anew.
        only: Some("kind IN (1, 2, 5)"),
        ..numbered(
            "credentials",
            &[
                int("id"),
                int("principal_id"),
                small("kind"),
                text("name"),
                optional(bytes("secret")),
                optional(text("phc")),
                text("hint"),
                optional(text("scopes")),
                optional(text("addresses")),
                optional(int("parent_id")),
                optional(int("replaced_by")),
                int("created_at"),
                optional(int("created_by")),
                optional(int("expires_at")),
                optional(int("revoked_at")),
                optional(int("last_used_at")),
                optional(text("last_used_from")),
                optional(bytes("csrf")),
                optional(text("issuer")),
            ],
        )
    },
    keyed(
        "memberships",
        3,
        &[
            int("member_id"),
            int("group_id"),
            text("source"),
            int("organisation_id"),
            small("role"),
            int("created_at"),
            optional(int("created_by")),
        ],
    ),
    numbered(
        "grants",
        &[
            int("id"),
            int("namespace_id"),
            text("pattern"),
            int("grantee_id"),
            small("actions"),
            optional(text("tags")),
            int("created_at"),
            optional(int("created_by")),
            optional(int("expires_at")),
        ],
    ),
    keyed(
        "namespace_settings",
        1,
        &[
            int("namespace_id"),
            small("create_by"),
            small("default_visibility"),
            optional(text("immutable_tags")),
            int("updated_at"),
            optional(text("default_license")),
            optional(int("quota_bytes")),
            optional(int("quota_artifacts")),
        ],
    ),
    keyed(
        "signing_keys",
        1,
        &[
            text("kid"),
            small("purpose"),
            int("slot"),
            text("algorithm"),
            bytes("public_key"),
            bytes("sealed"),
            text("wrapped_by"),
            int("created_at"),
            int("active_from"),
            optional(int("retires_at")),
        ],
    ),
    keyed(
        "identities",
        2,
        &[
            text("issuer"),
            text("subject"),
            int("principal_id"),
            optional(text("claimed_name")),
            int("created_at"),
            int("seen_at"),
        ],
    ),
    numbered(
        "group_mappings",
        &[
            int("id"),
            text("issuer"),
            text("claim"),
            int("group_id"),
            small("role"),
        ],
    ),
    numbered(
        "trusted_issuers",
        &[
            int("id"),
            text("issuer"),
            text("preset"),
            text("audience"),
            optional(text("keys_url")),
            optional(text("keys")),
            int("created_at"),
            optional(int("created_by")),
        ],
    ),
    numbered(
        "publishers",
        &[
            int("id"),
            int("issuer_id"),
            int("robot_id"),
            text("claims"),
            bool("once"),
            int("created_at"),
            optional(int("created_by")),
            optional(int("expires_at")),
            optional(int("used_at")),
            int("credential_id"),
        ],
    ),
    Table {
        heavy: Some("content"),
        ..numbered(
            "blobs",
            &[
                int("id"),
                bytes("digest"),
                int("size"),
                optional(text("storage_key")),
                optional(bytes("content")),
                small("state"),
                int("created_at"),
                optional(int("candidate_since")),
            ],
        )
    },
    keyed(
        "repository_blobs",
        2,
        &[
            int("repository_id"),
            int("blob_id"),
            int("leased_until"),
            optional(int("candidate_since")),
        ],
    ),
    Table {
        heavy: Some("payload"),
        ..numbered(
            "manifests",
            &[
                int("id"),
                int("repository_id"),
                bytes("digest"),
                text("media_type"),
                optional(text("artifact_type")),
                optional(bytes("subject")),
                bytes("payload"),
                small("state"),
                int("created_at"),
                optional(int("untagged_since")),
                optional(int("candidate_since")),
            ],
        )
    },
    keyed(
        "manifest_edges",
        2,
        &[
            int("manifest_id"),
            bytes("digest"),
            int("repository_id"),
            small("kind"),
            optional(int("blob_id")),
        ],
    ),
    Table {
        heavy: Some("descriptor"),
        ..numbered(
            "referrers",
            &[
                int("id"),
                int("repository_id"),
                bytes("subject"),
                bytes("digest"),
                optional(text("artifact_type")),
                text("descriptor"),
                int("source_id"),
            ],
        )
    },
    keyed(
        "tags",
        2,
        &[
            int("repository_id"),
            text("name"),
            int("manifest_id"),
            int("updated_at"),
        ],
    ),
    numbered(
        "tag_history",
        &[
            int("seq"),
            int("repository_id"),
            text("name"),
            optional(bytes("previous")),
            optional(bytes("digest")),
            text("principal"),
            int("moved_at"),
        ],
    ),
    keyed(
        "removed_manifests",
        2,
        &[int("repository_id"), bytes("digest"), int("removed_at")],
    ),
    numbered(
        "audit_pending",
        &[
            int("id"),
            int("at"),
            text("request_id"),
            text("action"),
            bool("allowed"),
            text("reason"),
            optional(int("actor_id")),
            text("actor"),
            optional(int("credential_id")),
            optional(text("address")),
            text("target"),
            optional(text("detail")),
        ],
    ),
    keyed(
        "audit_log",
        2,
        &[
            int("at"),
            int("seq"),
            text("request_id"),
            text("action"),
            bool("allowed"),
            text("reason"),
            optional(int("actor_id")),
            text("actor"),
            optional(int("credential_id")),
            optional(text("address")),
            text("target"),
            optional(text("detail")),
            bytes("chain"),
        ],
    ),
    keyed(
        "audit_checkpoints",
        1,
        &[
            int("number"),
            int("first_seq"),
            int("last_seq"),
            int("first_at"),
            int("last_at"),
            bytes("chain"),
            text("kid"),
            bytes("signature"),
            int("signed_at"),
            optional(int("removed_at")),
        ],
    ),
];

impl Table {
    /// The names of the columns, with commas between.
    pub(crate) fn names(&self) -> String {
        list(self.columns, |column| column.name.to_owned())
    }

    /// The names of the key's columns.
    pub(crate) fn key_names(&self) -> String {
        list(self.key_columns(), |column| column.name.to_owned())
    }

    pub(crate) fn key_columns(&self) -> &'static [Column] {
        self.columns.get(..self.key).unwrap_or_default()
    }

    /// The columns as they are read: small numbers become large ones.
    pub(crate) fn reads(&self) -> String {
        list(self.columns, |column| match column.kind {
            Kind::Small => format!("CAST({0} AS BIGINT) AS {0}", column.name),
            _ => column.name.to_owned(),
        })
    }

    /// A condition for rows to be copied.
    pub(crate) fn condition(&self) -> &'static str {
        self.only.unwrap_or("1 = 1")
    }

    /// A sum for each column that every change of the table is likely to change, alike on both databases.
    pub(crate) fn sums(&self) -> String {
        let sum = |column: &Column| {
            let name = column.name;
            let value = match column.kind {
                // Times summed over many rows are more than 64 bits hold.
                Kind::Int | Kind::Small => format!("COUNT({name}) + SUM({name} % 1000003)"),
                Kind::Text | Kind::Bytes => format!("COUNT({name}) + SUM(LENGTH({name}))"),
                Kind::Bool => format!("COUNT({name}) + SUM(CASE WHEN {name} THEN 1 ELSE 0 END)"),
            };
            format!("CAST(COALESCE({value}, 0) AS BIGINT) AS {name}")
        };
        format!(
            "CAST(COUNT(*) AS BIGINT) AS number, {}",
            list(self.columns, sum)
        )
    }
}

fn list(columns: &[Column], text: impl Fn(&Column) -> String) -> String {
    columns.iter().map(text).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use sea_orm::{ConnectionTrait, Database, Statement};

    use super::*;
    use crate::{Catalog, dialect};

    const COLUMNS: &str = "SELECT m.name AS place, c.name AS name, c.type AS kind, c.\"notnull\" AS needed, c.pk AS pk \
         FROM sqlite_master m JOIN pragma_table_info(m.name) c WHERE m.type = 'table' AND m.name NOT LIKE 'sqlite_%'";

    #[tokio::test]
    async fn every_table_and_column_is_copied_or_left_out_on_purpose() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("catalog.db");
        Catalog::open_sqlite(&path).await.unwrap().close().await;
        let connection = Database::connect(dialect::sqlite_reading(&path))
            .await
            .unwrap();
        let statement = Statement::from_string(connection.get_database_backend(), COLUMNS);
        let mut found = BTreeSet::new();
        for row in connection.query_all_raw(statement).await.unwrap() {
            let text = |name: &str| row.try_get::<String>("", name).unwrap();
            let number = |name: &str| row.try_get::<i64>("", name).unwrap();
            let (table, kind) = (text("place"), text("kind").to_lowercase());
            if LEFT_OUT.contains(&table.as_str()) {
                continue;
            }
            let kind = match kind.as_str() {
                "bigint" | "integer" => Kind::Int,
                "smallint" => Kind::Small,
                "blob" => Kind::Bytes,
                "boolean" => Kind::Bool,
                kind if kind == "text" || kind.contains("char") => Kind::Text,
                other => panic!("{table} has a column of kind {other}"),
            };
            // SQLite says of keys that they may be empty.
            let (key, needed) = (number("pk") > 0, number("needed") > 0);
            let nullable = !needed && !key;
            found.insert(format!(
                "{table}.{} {kind:?} {nullable} {key}",
                text("name")
            ));
        }
        let mut described = BTreeSet::new();
        for table in &COPIED {
            for (number, column) in table.columns.iter().enumerate() {
                let key = number < table.key;
                let (name, kind, nullable) = (column.name, column.kind, column.nullable);
                described.insert(format!("{}.{name} {kind:?} {nullable} {key}", table.name));
            }
        }
        let missing: Vec<_> = found.difference(&described).collect();
        let gone: Vec<_> = described.difference(&found).collect();
        assert!(
            missing.is_empty() && gone.is_empty(),
            "not described: {missing:#?}\nnot in the database: {gone:#?}"
        );
    }
}
