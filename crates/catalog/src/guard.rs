//! Who may change the manifests and tags of a repository at the same time, and who makes repositories in a namespace. Empty
//! on SQLite, which has one writer.
//!
//! On PostgreSQL these are advisory locks that end with the transaction. Whoever adds shares the repository with others
//! who add, and has each tag that moves alone. Whoever removes a manifest has the repository alone, because what keeps
//! a manifest (a tag, an index, a subject) may be in any other change. Blobs need none of it: their rows are locked.

use granary_oci::Tag;
use sea_orm::ConnectionTrait;

use crate::{CatalogError, dialect::Dialect, sql, writer::Write};

/// Shares the repository, and has `tags` alone. Taken in one order, so that two never wait for each other.
pub(crate) async fn with_others(
    write: &Write,
    repository: i64,
    tags: &[Tag],
) -> Result<(), CatalogError> {
    if write.dialect == Dialect::Sqlite {
        return Ok(());
    }
    let share = format!("SELECT pg_advisory_xact_lock_shared({repository})");
    write.transaction.execute_unprepared(&share).await?;
    let mut names: Vec<&str> = tags.iter().map(Tag::as_str).collect();
    names.sort_unstable();
    names.dedup();
    for name in names {
        // The two-number form is another space than the one-number form, so tags never meet repositories.
        let lock = "SELECT pg_advisory_xact_lock(hashint8($1), hashtext($2))";
        sql::execute(&write.transaction, lock, [repository.into(), name.into()]).await?;
    }
    Ok(())
}

/// Has the repository alone.
pub(crate) async fn alone(write: &Write, repository: i64) -> Result<(), CatalogError> {
    if write.dialect == Dialect::Sqlite {
        return Ok(());
    }
    let lock = format!("SELECT pg_advisory_xact_lock({repository})");
    write.transaction.execute_unprepared(&lock).await?;
    Ok(())
}

/// Makes a repository in a namespace, beside others who do.
pub(crate) async fn namespace_with_others(
    write: &Write,
    namespace: i64,
) -> Result<(), CatalogError> {
    lock_namespace(write, "pg_advisory_xact_lock_shared", namespace).await
}

/// Lets nobody make a repository in the namespace. Before any row is locked.
pub(crate) async fn namespace_alone(write: &Write, namespace: i64) -> Result<(), CatalogError> {
    lock_namespace(write, "pg_advisory_xact_lock", namespace).await
}

/// Numbers below zero are namespaces, those above are repositories.
async fn lock_namespace(write: &Write, how: &str, namespace: i64) -> Result<(), CatalogError> {
    if write.dialect == Dialect::Sqlite {
        return Ok(());
    }
    let lock = format!("SELECT {how}(-{namespace})");
    write.transaction.execute_unprepared(&lock).await?;
    Ok(())
}
