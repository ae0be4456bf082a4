//! What several processes on one database need: who writes to a session, who collects, who is alive; and tails of
//! uploads that are too short for a bucket.

use sea_orm_migration::{
    prelude::*,
    schema::*,
    sea_orm::{ConnectionTrait, DbBackend},
};

/// Expands only: a process that knows the first schema alone goes on working.
#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        // One column a statement, because SQLite can do no more.
        for column in [
            string_null("holder"),
            big_integer_null("heartbeat_at"),
            big_integer("unsent").default(0).take(),
        ] {
            add(manager, "uploads", column).await?;
        }
        add(manager, "doomed_objects", blob_null("store_state")).await?;
        add(
            manager,
            "doomed_objects",
            boolean("unfinished").default(false).take(),
        )
        .await?;
        add(
            manager,
            "repositories",
            boolean("listed").default(false).take(),
        )
        .await?;
        manager.get_connection().execute_unprepared(LISTED).await?;
        for table in [upload_tails(), leases(), replicas()] {
            manager.create_table(table).await?;
        }
        for index in INDEXES {
            manager.get_connection().execute_unprepared(index).await?;
        }
        if manager.get_database_backend() == DbBackend::Postgres {
            // What is uploaded is compressed already, as far as it can be.
            let plain = "ALTER TABLE upload_tails ALTER COLUMN bytes SET STORAGE EXTERNAL";
            manager.get_connection().execute_unprepared(plain).await?;
            // SQLite compares bytes anyway.
            for (table, column) in [
                ("namespaces", "name"),
                ("repositories", "name"),
                ("tags", "name"),
                ("tag_history", "name"),
            ] {
                let bytewise =
                    format!("ALTER TABLE {table} ALTER COLUMN {column} TYPE varchar COLLATE \"C\"");
                manager
                    .get_connection()
                    .execute_unprepared(&bytewise)
                    .await?;
            }
        }
        Ok(())
    }
}

/// `listed`: the repository has a manifest, so the catalog shows it. Kept in the row because a page of the catalog would
/// have to look for a manifest of each.
const LISTED: &str = "UPDATE repositories SET listed = TRUE WHERE EXISTS (SELECT 1 FROM manifests m WHERE m.repository_id = repositories.id)";

/// What requests and collections look up, so that neither walks a table. Partial where most rows are of no interest.
const INDEXES: [&str; 7] = [
    "CREATE INDEX repositories_listed ON repositories (name) WHERE listed",
    "CREATE INDEX blobs_storage_key ON blobs (storage_key)",
    "CREATE INDEX doomed_objects_due ON doomed_objects (not_before)",
    "CREATE INDEX manifests_subject ON manifests (repository_id, subject) WHERE subject IS NOT NULL",
    "CREATE INDEX uploads_open ON uploads (principal) WHERE finished IS NULL",
    "CREATE INDEX tag_history_moved ON tag_history (moved_at)",
    "CREATE INDEX removed_manifests_removed ON removed_manifests (removed_at)",
];

async fn add(
    manager: &SchemaManager<'_>,
    table: &'static str,
    column: impl IntoColumnDef,
) -> Result<(), DbErr> {
    manager
        .alter_table(Table::alter().table(table).add_column(column).take())
        .await
}

/// The last bytes of a session that its bucket does not hold yet: `bytes` begin at offset `first` of the blob.
fn upload_tails() -> TableCreateStatement {
    Table::create()
        .table("upload_tails")
        .col(string("upload_id"))
        .col(big_integer("first"))
        .col(blob("bytes"))
        .primary_key(Index::create().col("upload_id").col("first"))
        .foreign_key(
            ForeignKey::create()
                .from("upload_tails", "upload_id")
                .to("uploads", "id")
                .on_delete(ForeignKeyAction::Cascade),
        )
        .take()
}

/// Work that one process at a time does, and until when it is that one's.
fn leases() -> TableCreateStatement {
    Table::create()
        .table("leases")
        .col(string("name").primary_key())
        .col(string("holder"))
        .col(big_integer("until"))
        .take()
}

/// Processes that serve: `release` is the newest schema each knows.
fn replicas() -> TableCreateStatement {
    Table::create()
        .table("replicas")
        .col(string("id").primary_key())
        .col(string("version"))
        .col(big_integer("release"))
        .col(big_integer("started_at"))
        .col(big_integer("heartbeat_at"))
        .take()
}
