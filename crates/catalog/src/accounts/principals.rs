//! Users.

use granary_access::{Handle, PrincipalId};
use sea_orm::FromQueryResult;

use super::{credentials::set_password, warm::count_up};
use crate::{
    Catalog, CatalogError,
    dialect::micros,
    leases::GONE,
    schema,
    sql::{self, Id},
    writer::Write,
};

/// A user to make.
#[derive(Clone, Debug)]
pub struct NewUser {
    /// Its name.
    pub handle: Handle,
    /// Its password, hashed with argon2id, as a PHC string.
    pub password: String,
    /// Whether it administers the installation.
    pub is_administrator: bool,
}

/// What became of making the first account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FirstAccount {
    /// It is made, and owns this many namespaces that were there before.
    Made {
        /// Its number.
        id: PrincipalId,
        /// Namespaces that it owns now.
        namespaces: u64,
    },
    /// There are accounts already.
    NotTheFirst,
    /// This process serves from the catalog, knows no accounts, and would let everybody in.
    OldReplica {
        /// Its version.
        version: String,
    },
}

/// `principals.kind` of a user.
pub(super) const USER: i16 = 1;

#[derive(FromQueryResult)]
struct Old {
    version: String,
}

impl Catalog {
    /// Makes the first account, an administrator, who owns every namespace that is there.
    ///
    /// From then on only processes that know accounts can be started on the database (release 4).
    pub async fn create_first_account(&self, user: NewUser) -> Result<FirstAccount, CatalogError> {
        let made = self
            .write(async move |write| first(write, user).await)
            .await?;
        if matches!(made, FirstAccount::Made { .. }) {
            self.accounts.note_accounts();
        }
        Ok(made)
    }

    /// The version of a process that serves from the catalog and knows no accounts, if there is one.
    pub async fn replica_without_accounts(&self) -> Result<Option<String>, CatalogError> {
        let since = self.now().await? - micros(GONE);
        let values = [granary_migrations::RELEASE.into(), since.into()];
        let old: Option<Old> = self.reads.one(OLD, values).await?;
        Ok(old.map(|old| old.version))
    }

    /// Makes a user, and says whether the namespace of its name is its own; `None` if the name is taken. Of a namespace that
    /// nobody owns, as an import makes it, it becomes the owner.
    pub async fn create_user(
        &self,
        user: NewUser,
    ) -> Result<Option<(PrincipalId, bool)>, CatalogError> {
        self.write(async move |write| {
            let Some(made) = insert(write, &user).await? else {
                return Ok(None);
            };
            let name = user.handle.as_str();
            let take = "UPDATE namespaces SET owner_id = $1 WHERE name = $2 AND owner_id IS NULL";
            sql::execute(&write.transaction, take, [made.into(), name.into()]).await?;
            let others = "SELECT id FROM namespaces WHERE name = $1 AND owner_id <> $2";
            let others: Option<Id> =
                sql::one(&write.transaction, others, [name.into(), made.into()]).await?;
            Ok(Some((PrincipalId(made), others.is_none())))
        })
        .await
    }

    /// The user or robot of that name, if it is active.
    pub async fn principal(&self, handle: &str) -> Result<Option<PrincipalId>, CatalogError> {
        let query = "SELECT id FROM principals WHERE handle = $1 AND state = 0 AND kind <= 2";
        let found: Option<Id> = self.reads.one(query, [handle.into()]).await?;
        Ok(found.map(|found| PrincipalId(found.id)))
    }
}

/// A process that was heard of lately and knows no accounts.
const OLD: &str =
    "SELECT version FROM replicas WHERE release < $1 AND heartbeat_at >= $2 ORDER BY id LIMIT 1";

async fn first(write: &mut Write, user: NewUser) -> Result<FirstAccount, CatalogError> {
    let note =
        "INSERT INTO settings (name, value) VALUES ('accounts', '1') ON CONFLICT (name) DO NOTHING";
    if sql::execute(&write.transaction, note, []).await? == 0 {
        return Ok(FirstAccount::NotTheFirst);
    }
    let values = [
        granary_migrations::RELEASE.into(),
        (write.now - micros(GONE)).into(),
    ];
    let old: Option<Old> = sql::one(&write.transaction, OLD, values).await?;
    if let Some(Old { version }) = old {
        let undo = "DELETE FROM settings WHERE name = 'accounts'";
        sql::execute(&write.transaction, undo, []).await?;
        return Ok(FirstAccount::OldReplica { version });
    }
    let id = insert(write, &user).await?;
    let id =
        id.ok_or_else(|| CatalogError::damaged("principals", "there are some without accounts"))?;
    let take = "UPDATE namespaces SET owner_id = $1 WHERE owner_id IS NULL";
    let namespaces = sql::execute(&write.transaction, take, [id.into()]).await?;
    schema::note_accounts(&write.transaction).await?;
    count_up(write).await?;
    Ok(FirstAccount::Made {
        id: PrincipalId(id),
        namespaces,
    })
}

async fn insert(write: &mut Write, user: &NewUser) -> Result<Option<i64>, CatalogError> {
    let insert = "INSERT INTO principals (kind, handle, name, system_role, state, created_at) \
                  VALUES ($1, $2, $2, $3, 0, $4) ON CONFLICT (handle) DO NOTHING RETURNING id";
    let values = [
        USER.into(),
        user.handle.as_str().into(),
        i16::from(user.is_administrator).into(),
        write.now.into(),
    ];
    let made: Option<Id> = sql::one(&write.transaction, insert, values).await?;
    let Some(Id { id }) = made else {
        return Ok(None);
    };
    set_password(write, id, &user.password).await?;
    Ok(Some(id))
}
