//! Users.

use granary_access::{AddressBlocks, Handle, PrincipalId};
use sea_orm::FromQueryResult;
use serde_json::json;

use super::{
    confirm::Asker,
    credentials::set_password,
    groups::{ITSELF, Name, THINGS_OF, end},
    office::{Authority, Decided},
    rights::addresses,
    warm::count_up,
};
use crate::{
    Catalog, CatalogError,
    audit::{self, Deed, action},
    leases::older_replica,
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

/// A user as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredUser {
    /// Its name.
    pub name: String,
    /// Whether it may sign in.
    pub is_active: bool,
    /// Whether it administers the installation.
    pub is_administrator: bool,
    /// From where it may be used, if not from everywhere.
    pub addresses: Option<AddressBlocks>,
    /// When it was made, in microseconds since 1970.
    pub created_at: i64,
}

const USERS: &str = "SELECT name, (state = 0) AS is_active, (system_role = 1) AS is_administrator, addresses, created_at FROM principals";

#[derive(FromQueryResult)]
struct UserRow {
    name: String,
    is_active: bool,
    is_administrator: bool,
    addresses: Option<String>,
    created_at: i64,
}

impl UserRow {
    fn read(self) -> Result<StoredUser, CatalogError> {
        Ok(StoredUser {
            name: self.name,
            is_active: self.is_active,
            is_administrator: self.is_administrator,
            addresses: self.addresses.as_deref().map(addresses).transpose()?,
            created_at: self.created_at,
        })
    }
}

/// How a user goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Departure {
    /// It may sign in again, if it may not now.
    Returns,
    /// It may not sign in until it returns.
    Disabled,
    /// For good. Its name may be another's one day, who gets nothing of it.
    Removed,
}

/// What became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Departed {
    /// So it is.
    Done,
    /// There is no such user.
    NotThere,
    /// Nobody else who may sign in administers the installation.
    LastAdministrator,
    /// Nobody else owns this organisation.
    LastOwner(String),
}

#[derive(FromQueryResult)]
struct Locked {
    id: i64,
    administers: bool,
}

/// `principals.kind` of a user.
pub(super) const USER: i16 = 1;

impl Catalog {
    /// Makes the first account, an administrator, who owns every namespace that is there.
    ///
    /// Only processes that know accounts can be started on a database of this release.
    pub async fn create_first_account(&self, user: NewUser) -> Result<FirstAccount, CatalogError> {
        let made = self
            .write(async move |write| first(write, user).await)
            .await?;
        if matches!(made, FirstAccount::Made { .. }) {
            self.accounts.note_accounts();
        }
        Ok(made)
    }

    /// Makes a user, and says whether the namespace of its name is its own; `None` if the name is taken. Of a namespace that
    /// nobody owns, as an import makes it, it becomes the owner.
    pub async fn create_user(
        &self,
        by: &Authority,
        user: NewUser,
    ) -> Result<Decided<Option<(PrincipalId, bool)>>, CatalogError> {
        self.decided(by, async move |write, by| {
            let Some(made) = insert(write, &user, by.author()).await? else {
                return Ok(None);
            };
            let name = user.handle.as_str();
            let take = "UPDATE namespaces SET owner_id = $1 WHERE name = $2 AND owner_id IS NULL";
            sql::execute(&write.transaction, take, [made.into(), name.into()]).await?;
            let others = "SELECT id FROM namespaces WHERE name = $1 AND owner_id <> $2";
            let others: Option<Id> =
                sql::one(&write.transaction, others, [name.into(), made.into()]).await?;
            let detail = json!({ "administrator": user.is_administrator });
            let deed = Deed::new(action::USER_CREATE, name).with(detail);
            by.note(write, deed).await?;
            Ok(Some((PrincipalId(made), others.is_none())))
        })
        .await
    }

    /// Up to `limit` users that were not removed, whose names stand behind `after`, by their names.
    pub async fn users(&self, after: &str, limit: u64) -> Result<Vec<StoredUser>, CatalogError> {
        let query = format!("{USERS} WHERE kind = 1 AND handle > $1 ORDER BY handle LIMIT $2");
        let values = [after.into(), sql::signed(limit).into()];
        let rows: Vec<UserRow> = self.reads.all(&query, values).await?;
        rows.into_iter().map(UserRow::read).collect()
    }

    /// The user or robot of that number that was not removed.
    pub async fn user(&self, id: PrincipalId) -> Result<Option<StoredUser>, CatalogError> {
        let query = format!("{USERS} WHERE id = $1 AND state <> 2");
        let row: Option<UserRow> = self.reads.one(&query, [id.0.into()]).await?;
        row.map(UserRow::read).transpose()
    }

    /// Lets a user go or return. One who goes for good takes his robots with him.
    pub async fn depart(
        &self,
        by: &Authority,
        handle: &str,
        how: Departure,
    ) -> Result<Decided<Departed>, CatalogError> {
        let handle = handle.to_owned();
        self.decided(by, async move |write, by| {
            let find = "SELECT id FROM principals WHERE handle = $1 AND kind = 1 AND state <> 2";
            let found: Option<Id> =
                sql::one(&write.transaction, find, [handle.as_str().into()]).await?;
            let Some(Id { id }) = found else {
                return Ok(Departed::NotThere);
            };
            if how == Departure::Removed {
                lock_organisations(write, id).await?;
            }
            // Of two administrators who remove each other, one stays. Whoever gives something to this user keeps the row, and
            // is seen by what follows.
            let lock = format!(
                "SELECT id, (system_role = 1 AND state = 0) AS administers FROM principals \
                 WHERE (system_role = 1 AND state = 0) OR id = $1 ORDER BY id{}",
                write.dialect.lock("principals")
            );
            let locked: Vec<Locked> = sql::all(&write.transaction, &lock, [id.into()]).await?;
            let mut administrators = locked.iter().filter(|row| row.administers);
            let is_one = locked.iter().any(|row| row.administers && row.id == id);
            if how != Departure::Returns && is_one && administrators.all(|row| row.id == id) {
                return Ok(Departed::LastAdministrator);
            }
            let state = match how {
                Departure::Returns => {
                    "UPDATE principals SET state = 0 WHERE id = $1 AND state <> 2"
                }
                Departure::Disabled => {
                    "UPDATE principals SET state = 1 WHERE id = $1 AND state <> 2"
                }
                Departure::Removed => {
                    if let Some(organisation) = owned_by_nobody_else(write, id).await? {
                        return Ok(Departed::LastOwner(organisation));
                    }
                    end(write, THINGS_OF, id).await?;
                    end(write, ITSELF, id).await?;
                    ""
                }
            };
            if !state.is_empty() {
                sql::execute(&write.transaction, state, [id.into()]).await?;
            }
            count_up(write).await?;
            let how = match how {
                Departure::Returns => "enabled",
                Departure::Disabled => "disabled",
                Departure::Removed => "removed",
            };
            let deed = Deed::new(action::USER_CHANGE, handle).with(json!({ "state": how }));
            by.note(write, deed).await?;
            Ok(Departed::Done)
        })
        .await
    }

    /// The user or robot of that name that was not removed.
    pub async fn principal(&self, handle: &str) -> Result<Option<PrincipalId>, CatalogError> {
        let query = "SELECT id FROM principals WHERE handle = $1 AND state <> 2 AND kind <= 2";
        let found: Option<Id> = self.reads.one(query, [handle.into()]).await?;
        Ok(found.map(|found| PrincipalId(found.id)))
    }
}

/// Locks the organisations that a user owns: nobody else's part in them changes until the transaction ends.
async fn lock_organisations(write: &Write, user: i64) -> Result<(), CatalogError> {
    let lock = format!(
        "SELECT id FROM principals WHERE id IN (SELECT m.group_id FROM memberships m WHERE m.member_id = $1 AND m.role = 5) \
         ORDER BY id{}",
        write.dialect.lock("principals")
    );
    let _: Vec<Id> = sql::all(&write.transaction, &lock, [user.into()]).await?;
    Ok(())
}

/// An organisation that has no other owner than this user, who is locked: he becomes owner of no other meanwhile.
async fn owned_by_nobody_else(write: &Write, user: i64) -> Result<Option<String>, CatalogError> {
    // Of an organisation that became his since its like were locked.
    lock_organisations(write, user).await?;
    let query = "SELECT o.name FROM memberships m JOIN principals o ON o.id = m.group_id \
                 WHERE m.member_id = $1 AND m.role = 5 AND NOT EXISTS \
                   (SELECT 1 FROM memberships x WHERE x.group_id = m.group_id AND x.role = 5 AND x.member_id <> $1) \
                 ORDER BY o.name LIMIT 1";
    let found: Option<Name> = sql::one(&write.transaction, query, [user.into()]).await?;
    Ok(found.map(|found| found.name))
}

async fn first(write: &mut Write, user: NewUser) -> Result<FirstAccount, CatalogError> {
    let note =
        "INSERT INTO settings (name, value) VALUES ('accounts', '1') ON CONFLICT (name) DO NOTHING";
    if sql::execute(&write.transaction, note, []).await? == 0 {
        return Ok(FirstAccount::NotTheFirst);
    }
    if let Some(version) = older_replica(write, granary_migrations::KNOWS_ACCOUNTS).await? {
        let undo = "DELETE FROM settings WHERE name = 'accounts'";
        sql::execute(&write.transaction, undo, []).await?;
        return Ok(FirstAccount::OldReplica { version });
    }
    let id = insert(write, &user, None).await?;
    let id =
        id.ok_or_else(|| CatalogError::damaged("principals", "there are some without accounts"))?;
    let take = "UPDATE namespaces SET owner_id = $1 WHERE owner_id IS NULL";
    let namespaces = sql::execute(&write.transaction, take, [id.into()]).await?;
    count_up(write).await?;
    let deed = Deed::new(action::BOOTSTRAP, user.handle);
    audit::note(write, &Asker::operator(), deed).await?;
    Ok(FirstAccount::Made {
        id: PrincipalId(id),
        namespaces,
    })
}

async fn insert(
    write: &mut Write,
    user: &NewUser,
    author: Option<i64>,
) -> Result<Option<i64>, CatalogError> {
    let insert = "INSERT INTO principals (kind, handle, name, system_role, state, created_at, created_by) \
                  VALUES ($1, $2, $2, $3, 0, $4, $5) ON CONFLICT (handle) DO NOTHING RETURNING id";
    let values = [
        USER.into(),
        user.handle.as_str().into(),
        i16::from(user.is_administrator).into(),
        write.now.into(),
        author.into(),
    ];
    let made: Option<Id> = sql::one(&write.transaction, insert, values).await?;
    let Some(Id { id }) = made else {
        return Ok(None);
    };
    set_password(write, id, &user.password).await?;
    Ok(Some(id))
}
