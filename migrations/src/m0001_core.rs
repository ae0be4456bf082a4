//! Repositories, blobs, manifests, tags, uploads, and what garbage collection needs to know of them.
//!
//! Digests are bytes: one for the algorithm (1 sha256, 2 sha512), then the hash. Times are microseconds since 1970,
//! from the database's clock. Names and tags compare bytewise.
//!
//! ```text
//! namespaces 1--n repositories 1--n repository_blobs n--1 blobs
//!                      |1                 ^ (foreign key: a referenced membership cannot go)
//!                      +--n manifests 1--n manifest_edges
//!                      |        ^ 1--n referrers (by subject digest)
//!                      +--n tags, tag_history, removed_manifests
//! uploads (by repository name: a repository begins with its first content)    doomed_objects    settings
//! ```

use sea_orm_migration::{prelude::*, schema::*};

/// The first schema.
#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for table in [
            settings(),
            namespaces(),
            repositories(),
            blobs(),
            repository_blobs(),
            manifests(),
            manifest_edges(),
            referrers(),
            tags(),
            tag_history(),
            removed_manifests(),
            uploads(),
            doomed_objects(),
        ] {
            manager.create_table(table).await?;
        }
        for (name, table, columns, unique) in INDEXES {
            let mut index = Index::create();
            index.name(*name).table(*table);
            for column in *columns {
                index.col(*column);
            }
            if *unique {
                index.unique();
            }
            manager.create_index(index.to_owned()).await?;
        }
        Ok(())
    }
}

type IndexOf = (&'static str, &'static str, &'static [&'static str], bool);

const INDEXES: &[IndexOf] = &[
    (
        "manifests_digest",
        "manifests",
        &["repository_id", "digest"],
        true,
    ),
    (
        "manifest_edges_digest",
        "manifest_edges",
        &["repository_id", "digest"],
        false,
    ),
    (
        "manifest_edges_blob",
        "manifest_edges",
        &["blob_id", "repository_id"],
        false,
    ),
    (
        "repository_blobs_blob",
        "repository_blobs",
        &["blob_id"],
        false,
    ),
    ("referrers_source", "referrers", &["source_id"], false),
    (
        "referrers_subject",
        "referrers",
        &["repository_id", "subject", "digest"],
        true,
    ),
    ("tags_manifest", "tags", &["manifest_id"], false),
    (
        "tag_history_tag",
        "tag_history",
        &["repository_id", "name", "moved_at"],
        false,
    ),
    ("uploads_updated", "uploads", &["updated_at"], false),
    ("uploads_principal", "uploads", &["principal"], false),
];

fn settings() -> TableCreateStatement {
    Table::create()
        .table("settings")
        .col(string("name").primary_key())
        .col(text("value"))
        .take()
}

fn namespaces() -> TableCreateStatement {
    Table::create()
        .table("namespaces")
        .col(big_pk_auto("id"))
        .col(string_uniq("name"))
        .col(big_integer("created_at"))
        .take()
}

fn repositories() -> TableCreateStatement {
    Table::create()
        .table("repositories")
        .col(big_pk_auto("id"))
        .col(big_integer("namespace_id"))
        .col(string_uniq("name"))
        .col(big_integer("created_at"))
        .foreign_key(
            ForeignKey::create()
                .from("repositories", "namespace_id")
                .to("namespaces", "id"),
        )
        .take()
}

/// Either `content` (small) or `storage_key` holds the bytes. `state`: 0 live, 1 quarantined.
fn blobs() -> TableCreateStatement {
    Table::create()
        .table("blobs")
        .col(big_pk_auto("id"))
        .col(blob("digest").unique_key())
        .col(big_integer("size"))
        .col(string_null("storage_key"))
        .col(blob_null("content"))
        .col(small_integer("state"))
        .col(big_integer("created_at"))
        .col(big_integer_null("candidate_since"))
        .take()
}

/// Who may read what; `leased_until` keeps content that nothing refers to yet.
fn repository_blobs() -> TableCreateStatement {
    Table::create()
        .table("repository_blobs")
        .col(big_integer("repository_id"))
        .col(big_integer("blob_id"))
        .col(big_integer("leased_until"))
        .col(big_integer_null("candidate_since"))
        .primary_key(Index::create().col("repository_id").col("blob_id"))
        .foreign_key(
            ForeignKey::create()
                .from("repository_blobs", "repository_id")
                .to("repositories", "id"),
        )
        .foreign_key(
            ForeignKey::create()
                .from("repository_blobs", "blob_id")
                .to("blobs", "id"),
        )
        .take()
}

fn manifests() -> TableCreateStatement {
    Table::create()
        .table("manifests")
        .col(big_pk_auto("id"))
        .col(big_integer("repository_id"))
        .col(blob("digest"))
        .col(string("media_type"))
        .col(text_null("artifact_type"))
        .col(blob_null("subject"))
        .col(blob("payload"))
        .col(small_integer("state"))
        .col(big_integer("created_at"))
        .col(big_integer_null("untagged_since"))
        .col(big_integer_null("candidate_since"))
        .foreign_key(
            ForeignKey::create()
                .from("manifests", "repository_id")
                .to("repositories", "id"),
        )
        .take()
}

/// `kind`: 0 content, 1 child, 2 optional. `blob_id` is set when the digest is a blob of the repository.
fn manifest_edges() -> TableCreateStatement {
    Table::create()
        .table("manifest_edges")
        .col(big_integer("manifest_id"))
        .col(big_integer("repository_id"))
        .col(blob("digest"))
        .col(small_integer("kind"))
        .col(big_integer_null("blob_id"))
        .primary_key(Index::create().col("manifest_id").col("digest"))
        .foreign_key(
            ForeignKey::create()
                .from("manifest_edges", "manifest_id")
                .to("manifests", "id")
                .on_delete(ForeignKeyAction::Cascade),
        )
        .foreign_key(
            ForeignKey::create()
                .from("manifest_edges", ("repository_id", "blob_id"))
                .to("repository_blobs", ("repository_id", "blob_id")),
        )
        .take()
}

/// Ready-made descriptors; `source_id` is the manifest that said so: the referrer itself, or an index under the
/// referrers tag schema.
fn referrers() -> TableCreateStatement {
    Table::create()
        .table("referrers")
        .col(big_pk_auto("id"))
        .col(big_integer("repository_id"))
        .col(blob("subject"))
        .col(blob("digest"))
        .col(text_null("artifact_type"))
        .col(text("descriptor"))
        .col(big_integer("source_id"))
        .foreign_key(
            ForeignKey::create()
                .from("referrers", "source_id")
                .to("manifests", "id")
                .on_delete(ForeignKeyAction::Cascade),
        )
        .take()
}

fn tags() -> TableCreateStatement {
    Table::create()
        .table("tags")
        .col(big_integer("repository_id"))
        .col(string("name"))
        .col(big_integer("manifest_id"))
        .col(big_integer("updated_at"))
        .primary_key(Index::create().col("repository_id").col("name"))
        .foreign_key(
            ForeignKey::create()
                .from("tags", "manifest_id")
                .to("manifests", "id"),
        )
        .take()
}

/// Every move; `digest` is null where the tag was removed.
fn tag_history() -> TableCreateStatement {
    Table::create()
        .table("tag_history")
        .col(big_pk_auto("seq"))
        .col(big_integer("repository_id"))
        .col(string("name"))
        .col(blob_null("previous"))
        .col(blob_null("digest"))
        .col(string("principal"))
        .col(big_integer("moved_at"))
        .take()
}

fn removed_manifests() -> TableCreateStatement {
    Table::create()
        .table("removed_manifests")
        .col(big_integer("repository_id"))
        .col(blob("digest"))
        .col(big_integer("removed_at"))
        .primary_key(Index::create().col("repository_id").col("digest"))
        .take()
}

/// Sessions. The bytes before `received` are durable: in `tail` while they are few, else in the object `storage_key`.
/// `finished` is the digest of a closed session, kept for a repeated closing PUT.
fn uploads() -> TableCreateStatement {
    Table::create()
        .table("uploads")
        .col(string("id").primary_key())
        .col(string("repository"))
        .col(string("principal"))
        .col(big_integer("epoch"))
        .col(big_integer("received"))
        .col(blob("hash_state"))
        .col(string_null("storage_key"))
        .col(blob_null("store_state"))
        .col(blob_null("tail"))
        .col(blob_null("finished"))
        .col(big_integer("created_at"))
        .col(big_integer("updated_at"))
        .take()
}

/// Objects whose row is gone, to be deleted from the store once no reader can still hold their key.
fn doomed_objects() -> TableCreateStatement {
    Table::create()
        .table("doomed_objects")
        .col(string("storage_key").primary_key())
        .col(big_integer("not_before"))
        .take()
}
