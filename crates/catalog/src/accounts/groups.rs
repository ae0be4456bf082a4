//! Organisations and teams. Whatever is changed of an organisation, its members, teams or robots locks the organisation's row
//! first, so that two changes of one organisation come one after the other; rows of others are locked behind it.

use granary_access::{AddressBlocks, CredentialId, Handle, PrincipalId, Role, TeamHandle};
use sea_orm::FromQueryResult;
use serde_json::json;

use super::{
    grants::make_namespace,
    office::{Authority, Decided},
    rights::{addresses, role},
    warm::count_up,
};
use crate::{
    Catalog, CatalogError,
    audit::{Deed, action},
    sql::{self, Id, signed},
    writer::Write,
};

/// Why nothing was changed of a group, a robot, or what somebody has there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Somebody goes by that name.
    Taken(String),
    /// The namespace of that name is somebody else's.
    NamespaceTaken(String),
    /// There is no such organisation, team, robot or user.
    NoSuch(String),
    /// That member is none of this group.
    NoMember(String, String),
    /// The member, robot or team belongs to somebody else.
    Foreign(String),
    /// The organisation would have no owner any more.
    LastOwner(String),
    /// Only owners make and remove owners.
    OwnersOnly,
    /// A robot is not that.
    NotForRobots,
    /// This namespace of the organisation has repositories.
    HasRepositories(String),
    /// There are as many as there may be.
    Full(u64),
    /// A process of this version would not heed it.
    OldReplica(String),
    /// The pattern is of no namespace.
    NoNamespace,
    /// Whoever set the list could ask from this address no longer.
    ShutsOut(String),
    /// The token has a successor already.
    HasSuccessor {
        /// Its number.
        successor: CredentialId,
        /// When the token ends, in microseconds since 1970.
        ends_at: Option<i64>,
    },
}

/// What was done, or why it could not be.
pub type Outcome<T> = Result<T, Refusal>;

/// `principals.kind`
pub(super) const USER: i64 = 1;
pub(super) const ROBOT: i64 = 2;
pub(super) const ORGANISATION: i64 = 3;
pub(super) const TEAM: i64 = 4;

/// `memberships.role` of an owner.
pub(super) const OWNER: i16 = 5;

/// Most teams of an organisation.
const MOST_TEAMS: u64 = 10_000;

/// An organisation that was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Founded {
    /// Its number.
    pub id: PrincipalId,
    /// The namespace of its name was there: it was its first owner's or nobody's.
    pub took_over: bool,
}

/// An organisation as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredOrganisation {
    /// Its name.
    pub name: String,
    /// From where its namespaces may be used, if not from everywhere.
    pub addresses: Option<AddressBlocks>,
    /// When it was made, in microseconds since 1970.
    pub created_at: i64,
    /// What whoever asks is in it.
    pub role: Option<Role>,
}

/// A team as it is kept.
#[derive(Clone, Debug, PartialEq, Eq, FromQueryResult)]
pub struct StoredTeam {
    /// Its name, with that of its organisation.
    pub name: String,
    /// When it was made, in microseconds since 1970.
    pub created_at: i64,
}

#[derive(FromQueryResult)]
struct OrganisationRow {
    name: String,
    addresses: Option<String>,
    created_at: i64,
    role: Option<i64>,
}

impl OrganisationRow {
    fn read(self) -> Result<StoredOrganisation, CatalogError> {
        Ok(StoredOrganisation {
            name: self.name,
            addresses: self.addresses.as_deref().map(addresses).transpose()?,
            created_at: self.created_at,
            role: self.role.and_then(role),
        })
    }
}

#[derive(FromQueryResult)]
pub(super) struct Count {
    pub(super) number: i64,
}

#[derive(FromQueryResult)]
pub(super) struct Name {
    pub(super) name: String,
}

const ORGANISATIONS: &str = "SELECT p.name, p.addresses, p.created_at, \
     (SELECT MAX(CAST(m.role AS bigint)) FROM memberships m WHERE m.member_id = $1 AND m.group_id = p.id) AS role \
     FROM principals p WHERE p.kind = 3 AND p.state <> 2";

/// The organisation of that name, locked until the transaction ends.
pub(super) async fn organisation(write: &Write, handle: &str) -> Result<Option<i64>, CatalogError> {
    let lock = format!(
        "SELECT id FROM principals WHERE handle = $1 AND kind = 3 AND state <> 2{}",
        write.dialect.lock("principals")
    );
    let found: Option<Id> = sql::one(&write.transaction, &lock, [handle.into()]).await?;
    Ok(found.map(|found| found.id))
}

/// Why a robot or team of `owner` is given nothing elsewhere. To whom it is hidden, it is not there.
pub(super) async fn foreign(
    write: &Write,
    by: &Authority,
    owner: Option<i64>,
    name: String,
) -> Result<Refusal, CatalogError> {
    let is_seen = match owner {
        Some(owner) => by.sees_what_belongs_to(write, owner).await?,
        None => false,
    };
    Ok(match is_seen {
        true => Refusal::Foreign(name),
        false => Refusal::NoSuch(name),
    })
}

/// The team of that name. Whoever asks has locked its organisation.
pub(super) async fn team(write: &Write, handle: &str) -> Result<Option<i64>, CatalogError> {
    let find = "SELECT id FROM principals WHERE handle = $1 AND kind = 4 AND state <> 2";
    let found: Option<Id> = sql::one(&write.transaction, find, [handle.into()]).await?;
    Ok(found.map(|found| found.id))
}

/// Makes a team or a robot of `owner`; nothing if the name is taken.
pub(super) async fn make(
    write: &Write,
    kind: i64,
    handle: &str,
    owner: Option<i64>,
    author: Option<i64>,
) -> Result<Option<i64>, CatalogError> {
    let insert = "INSERT INTO principals (kind, handle, name, owner_id, system_role, state, created_at, created_by) \
                  VALUES ($1, $2, $2, $3, 0, 0, $4, $5) ON CONFLICT (handle) DO NOTHING RETURNING id";
    let values = [
        kind.into(),
        handle.into(),
        owner.into(),
        write.now.into(),
        author.into(),
    ];
    let made: Option<Id> = sql::one(&write.transaction, insert, values).await?;
    Ok(made.map(|made| made.id))
}

/// How many of a kind `owner` has.
pub(super) async fn number_of(write: &Write, kind: i64, owner: i64) -> Result<u64, CatalogError> {
    let count = "SELECT COUNT(*) AS number FROM principals WHERE owner_id = $1 AND kind = $2 AND state <> 2";
    let values = [owner.into(), kind.into()];
    let found: Option<Count> = sql::one(&write.transaction, count, values).await?;
    Ok(found.map_or(0, |found| sql::unsigned(found.number)))
}

/// The one principal `$1`.
pub(super) const ITSELF: &str = "p.id = $1";
/// The teams and robots of the principal `$1`.
pub(super) const THINGS_OF: &str = "p.owner_id = $1";

/// Ends principals `p` for good, with everything that they have: rights, members, credentials. Their rows stay for history.
pub(super) async fn end(write: &Write, which: &str, id: i64) -> Result<(), CatalogError> {
    let those = format!("(SELECT p.id FROM principals p WHERE {which} AND p.state <> 2)");
    for (table, column) in [
        ("grants", "grantee_id"),
        ("memberships", "member_id"),
        ("memberships", "group_id"),
        ("group_mappings", "group_id"),
        ("publishers", "robot_id"),
    ] {
        let delete = format!("DELETE FROM {table} WHERE {column} IN {those}");
        sql::execute(&write.transaction, &delete, [id.into()]).await?;
    }
    let values = || [id.into(), write.now.into()];
    let end = format!(
        "UPDATE credentials SET revoked_at = $2 WHERE principal_id IN {those} AND revoked_at IS NULL"
    );
    sql::execute(&write.transaction, &end, values()).await?;
    let go = format!(
        "UPDATE principals SET state = 2, handle = NULL, removed_at = $2 WHERE id IN {those}"
    );
    sql::execute(&write.transaction, &go, values()).await?;
    Ok(())
}

impl Catalog {
    /// Makes an organisation with its first owner, a user, and its namespace. A namespace of that name that is the owner's or
    /// nobody's becomes the organisation's.
    pub async fn create_organisation(
        &self,
        by: &Authority,
        handle: Handle,
        owner: String,
    ) -> Result<Decided<Outcome<Founded>>, CatalogError> {
        self.decided(by, async move |write, by| {
            let name = handle.as_str();
            let keep = format!(
                "SELECT id FROM principals WHERE handle = $1 AND kind = 1 AND state <> 2{}",
                write.dialect.keep("principals")
            );
            let first: Option<Id> = sql::one(&write.transaction, &keep, [owner.as_str().into()]).await?;
            let Some(Id { id: first }) = first else {
                return Ok(Err(Refusal::NoSuch(owner)));
            };
            let was_there = "SELECT id FROM namespaces WHERE name = $1";
            let was_there: Option<Id> = sql::one(&write.transaction, was_there, [name.into()]).await?;
            let Some(made) = make(write, ORGANISATION, name, None, by.author()).await? else {
                return Ok(Err(Refusal::Taken(name.to_owned())));
            };
            // It is the organisation's if it was not there, because it goes by its name.
            let namespace = make_namespace(write, name, None).await?;
            let take = "UPDATE namespaces SET owner_id = $1 WHERE id = $2 AND (owner_id IS NULL OR owner_id IN ($1, $3))";
            let values = [made.into(), namespace.into(), first.into()];
            if sql::execute(&write.transaction, take, values).await? == 0 {
                let undo = "DELETE FROM principals WHERE id = $1";
                sql::execute(&write.transaction, undo, [made.into()]).await?;
                return Ok(Err(Refusal::NamespaceTaken(name.to_owned())));
            }
            drop_foreign_grants(write, namespace, made).await?;
            let join = "INSERT INTO memberships (member_id, group_id, source, organisation_id, role, created_at, created_by) \
                        VALUES ($1, $2, '', $2, $3, $4, $5)";
            let author = by.author();
            let values = [first.into(), made.into(), OWNER.into(), write.now.into(), author.into()];
            sql::execute(&write.transaction, join, values).await?;
            count_up(write).await?;
            let took_over = was_there.is_some();
            let detail = json!({ "owner": owner, "took_over_namespace": took_over });
            by.note(write, Deed::new(action::GROUP_CREATE, &handle).with(detail)).await?;
            Ok(Ok(Founded { id: PrincipalId(made), took_over }))
        })
        .await
    }

    /// Removes an organisation that has no repositories, with its teams and robots, who belongs to them, and everything that
    /// was granted to them or in its namespaces. Its name is free, and whoever gets it gets nothing of it.
    pub async fn remove_organisation(
        &self,
        by: &Authority,
        handle: &str,
    ) -> Result<Decided<Outcome<()>>, CatalogError> {
        let handle = handle.to_owned();
        self.decided(by, async move |write, by| {
            let Some(id) = organisation(write, &handle).await? else {
                return Ok(Err(Refusal::NoSuch(handle)));
            };
            let (things, namespaces) = (write.dialect.lock("principals"), write.dialect.lock("namespaces"));
            for lock in [
                format!("SELECT id FROM principals WHERE owner_id = $1 AND state <> 2 ORDER BY id{things}"),
                format!("SELECT id FROM namespaces WHERE owner_id = $1 ORDER BY id{namespaces}"),
            ] {
                let _: Vec<Id> = sql::all(&write.transaction, &lock, [id.into()]).await?;
            }
            let full = "SELECT n.name FROM namespaces n JOIN repositories r ON r.namespace_id = n.id AND r.removed_at IS NULL \
                        WHERE n.owner_id = $1 ORDER BY n.name LIMIT 1";
            let full: Option<Name> = sql::one(&write.transaction, full, [id.into()]).await?;
            if let Some(Name { name }) = full {
                return Ok(Err(Refusal::HasRepositories(name)));
            }
            end(write, THINGS_OF, id).await?;
            end(write, ITSELF, id).await?;
            for statement in [
                "DELETE FROM grants WHERE namespace_id IN (SELECT id FROM namespaces WHERE owner_id = $1)",
                "DELETE FROM namespace_settings WHERE namespace_id IN (SELECT id FROM namespaces WHERE owner_id = $1)",
                "UPDATE namespaces SET owner_id = NULL WHERE owner_id = $1",
            ] {
                sql::execute(&write.transaction, statement, [id.into()]).await?;
            }
            count_up(write).await?;
            by.note(write, Deed::new(action::GROUP_REMOVE, handle)).await?;
            Ok(Ok(()))
        })
        .await
    }

    /// Up to `limit` organisations by name, bytewise behind `after`, as `member` sees them: those that he belongs to, or all,
    /// without some.
    pub async fn organisations(
        &self,
        member: Option<PrincipalId>,
        all: bool,
        without: &[PrincipalId],
        after: &str,
        limit: u64,
    ) -> Result<Vec<StoredOrganisation>, CatalogError> {
        let condition = match all {
            false => {
                "AND EXISTS (SELECT 1 FROM memberships m WHERE m.member_id = $1 AND m.group_id = p.id)"
            }
            true => "",
        };
        let without: Vec<String> = without.iter().map(|id| id.0.to_string()).collect();
        let without = match without.is_empty() {
            true => String::new(),
            false => format!(" AND p.id NOT IN ({})", without.join(", ")),
        };
        let query = format!(
            "{ORGANISATIONS} {condition}{without} AND p.handle > $2 ORDER BY p.handle LIMIT $3"
        );
        let member = member.map_or(0, |member| member.0);
        let values = [member.into(), after.into(), signed(limit).into()];
        let rows: Vec<OrganisationRow> = self.reads.all(&query, values).await?;
        rows.into_iter().map(OrganisationRow::read).collect()
    }

    /// The organisation of that name, as `member` sees it.
    pub async fn organisation(
        &self,
        member: Option<PrincipalId>,
        handle: &str,
    ) -> Result<Option<StoredOrganisation>, CatalogError> {
        let query = format!("{ORGANISATIONS} AND p.handle = $2");
        let member = member.map_or(0, |member| member.0);
        let row: Option<OrganisationRow> = self
            .reads
            .one(&query, [member.into(), handle.into()])
            .await?;
        row.map(OrganisationRow::read).transpose()
    }

    /// Makes a team.
    pub async fn create_team(
        &self,
        by: &Authority,
        handle: TeamHandle,
    ) -> Result<Decided<Outcome<()>>, CatalogError> {
        self.decided(by, async move |write, by| {
            let Some(owner) = organisation(write, handle.organisation()).await? else {
                return Ok(Err(Refusal::NoSuch(handle.organisation().to_owned())));
            };
            if number_of(write, TEAM, owner).await? >= MOST_TEAMS {
                return Ok(Err(Refusal::Full(MOST_TEAMS)));
            }
            let author = by.author();
            let made = make(write, TEAM, handle.as_str(), Some(owner), author).await?;
            if made.is_none() {
                return Ok(Err(Refusal::Taken(handle.to_string())));
            }
            by.note(write, Deed::new(action::GROUP_CREATE, &handle))
                .await?;
            Ok(Ok(()))
        })
        .await
    }

    /// Removes a team, and with it what it was granted.
    pub async fn remove_team(
        &self,
        by: &Authority,
        handle: TeamHandle,
    ) -> Result<Decided<Outcome<()>>, CatalogError> {
        self.decided(by, async move |write, by| {
            organisation(write, handle.organisation()).await?;
            let Some(id) = team(write, handle.as_str()).await? else {
                return Ok(Err(Refusal::NoSuch(handle.to_string())));
            };
            // Whoever grants it something keeps the row, and is seen by what follows.
            let lock = format!(
                "SELECT id FROM principals WHERE id = $1{}",
                write.dialect.lock("principals")
            );
            let _: Option<Id> = sql::one(&write.transaction, &lock, [id.into()]).await?;
            end(write, ITSELF, id).await?;
            count_up(write).await?;
            by.note(write, Deed::new(action::GROUP_REMOVE, &handle))
                .await?;
            Ok(Ok(()))
        })
        .await
    }

    /// Up to `limit` teams of an organisation by name, bytewise behind `after`.
    pub async fn teams(
        &self,
        organisation: &str,
        after: &str,
        limit: u64,
    ) -> Result<Vec<StoredTeam>, CatalogError> {
        let query = "SELECT t.name, t.created_at FROM principals t JOIN principals o ON o.id = t.owner_id \
                     WHERE o.handle = $1 AND o.kind = 3 AND t.kind = 4 AND t.state <> 2 AND t.handle > $2 ORDER BY t.handle LIMIT $3";
        let values = [organisation.into(), after.into(), signed(limit).into()];
        self.reads.all(query, values).await
    }

    /// The team of that name.
    pub async fn team(&self, handle: &str) -> Result<Option<StoredTeam>, CatalogError> {
        let query =
            "SELECT name, created_at FROM principals WHERE handle = $1 AND kind = 4 AND state <> 2";
        self.reads.one(query, [handle.into()]).await
    }
}

/// Takes back what teams and robots of others have in a namespace that becomes `owner`'s: they have rights with their own
/// owner only.
pub(super) async fn drop_foreign_grants(
    write: &Write,
    namespace: i64,
    owner: i64,
) -> Result<(), CatalogError> {
    let delete = "DELETE FROM grants WHERE namespace_id = $1 \
                  AND grantee_id IN (SELECT p.id FROM principals p WHERE p.kind IN (2, 4) AND p.owner_id <> $2)";
    let values = [namespace.into(), owner.into()];
    sql::execute(&write.transaction, delete, values).await?;
    Ok(())
}
