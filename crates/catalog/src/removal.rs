//! Removing a repository (decision 22): it is hidden at once, and what is in it goes later (`collect::purge`).
//!
//! Its row gets a name that no client can ask for, so whoever comes next makes another repository, which has another number
//! and nothing of this one. On PostgreSQL whoever changes something in a repository keeps its row until its transaction
//! ends (`find_repository`), and here the row is locked: what is under way ends before, or finds no repository any more.

use std::time::Duration;

use granary_access::{Action, Reason};
use granary_migrations::KNOWS_REMOVAL;
use granary_oci::RepositoryName;

use crate::{
    Asker, Catalog, CatalogError,
    accounts::count_up,
    audit::{self, Deed, action},
    cache::Touched,
    leases::refuse_beside_older,
    quota::{self, Reserved},
    sql::{self, Id},
    uploads::ending::{self, COLUMNS, Ended},
    writer::Write,
};

/// What became of removing a repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RepositoryRemoval {
    /// It is gone.
    Removed {
        /// The upload sessions that ended with it.
        sessions: Vec<String>,
    },
    /// There is none of that name.
    Missing,
    /// It may not be done.
    Denied(Reason),
}

/// Sessions that ended, and what they had reserved.
#[derive(Default)]
struct Ending {
    sessions: Vec<String>,
    reserved: Reserved,
}

/// Sessions that are read at once.
const PAGE: u64 = 200;

impl Catalog {
    /// Removes a repository with its upload sessions and the grants that name it. Objects of sessions go after `delay`,
    /// when nobody is still writing to them.
    ///
    /// Refused beside a process that knows no removed repositories.
    pub async fn remove_repository(
        &self,
        name: &RepositoryName,
        asker: &Asker,
        delay: Duration,
    ) -> Result<RepositoryRemoval, CatalogError> {
        let (name, asker) = (name.clone(), asker.clone());
        self.write(async move |write| {
            if let Some(reason) = asker
                .confirm(write, &name)
                .await?
                .denies(Action::Administer)
            {
                return Ok(RepositoryRemoval::Denied(reason));
            }
            refuse_beside_older(write, KNOWS_REMOVAL).await?;
            let find = "SELECT id FROM repositories WHERE name = $1";
            let key = || [name.as_str().into()];
            if sql::one::<Id>(&write.transaction, find, key())
                .await?
                .is_none()
            {
                return Ok(RepositoryRemoval::Missing);
            }
            // Whoever ends a session has its row first and that of the repository then, so here it is the same.
            let mut ended = Ending::default();
            end_sessions(write, &name, delay, &mut ended).await?;
            let lock = format!("{find}{}", write.dialect.lock("repositories"));
            let found: Option<Id> = sql::one(&write.transaction, &lock, key()).await?;
            let Some(Id { id }) = found else {
                quota::give_back(write, ended.reserved).await?;
                return Ok(RepositoryRemoval::Missing);
            };
            hide(write, id).await?;
            let deed = Deed::new(action::REPOSITORY_REMOVE, &name);
            audit::note(write, &asker, deed).await?;
            // Some may have come while the repository was waited for.
            end_sessions(write, &name, delay, &mut ended).await?;
            quota::give_back(write, ended.reserved).await?;
            Ok(RepositoryRemoval::Removed {
                sessions: ended.sessions,
            })
        })
        .await
    }
}

async fn hide(write: &mut Write, id: i64) -> Result<(), CatalogError> {
    let grants = "DELETE FROM grants WHERE namespace_id = (SELECT namespace_id FROM repositories WHERE id = $1) \
                  AND pattern = (SELECT name FROM repositories WHERE id = $1)";
    sql::execute(&write.transaction, grants, [id.into()]).await?;
    let rename = "UPDATE repositories SET former_name = name, name = $1, removed_at = $2, listed = FALSE, visibility = 1 \
                  WHERE id = $3";
    let values = [format!("~{id}").into(), write.now.into(), id.into()];
    sql::execute(&write.transaction, rename, values).await?;
    write.touch(Touched::Everything);
    count_up(write).await
}

/// Forgets every session of the repository, also those that are closed: a closing PUT that is repeated finds no blob.
async fn end_sessions(
    write: &mut Write,
    name: &RepositoryName,
    delay: Duration,
    ended: &mut Ending,
) -> Result<(), CatalogError> {
    let find = format!(
        "SELECT {COLUMNS} FROM uploads WHERE repository = $1 ORDER BY id LIMIT {PAGE}{}",
        write.dialect.lock("uploads")
    );
    loop {
        let page: Vec<Ended> = sql::all(&write.transaction, &find, [name.as_str().into()]).await?;
        if page.is_empty() {
            return Ok(());
        }
        let ids = page.iter().map(|session| session.id.clone());
        ended.sessions.extend(ids);
        let (_, reserved) = ending::end(write, page, delay).await?;
        for (namespace, bytes) in reserved {
            *ended.reserved.entry(namespace).or_default() += bytes;
        }
    }
}
