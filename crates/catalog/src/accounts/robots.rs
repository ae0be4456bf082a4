//! Robots: who acts for an organisation or a user without being a person. And from where somebody may be used.

use granary_access::{AddressBlocks, PrincipalId, RobotHandle, Role};
use sea_orm::FromQueryResult;
use serde_json::json;

use super::{
    groups::{ITSELF, ORGANISATION, Outcome, ROBOT, Refusal, USER, end, make, number_of},
    office::{Authority, Decided},
    rights::{addresses, role},
    warm::count_up,
};
use crate::{
    Catalog, CatalogError,
    audit::{Deed, action},
    leases::older_replica,
    sql::{self, Id, signed},
    writer::Write,
};

/// Most robots of an organisation.
const MOST_ROBOTS: u64 = 10_000;
/// Most robots of a user. Each has limits of its own: of requests, and of uploads at a time.
const MOST_ROBOTS_OF_USER: u64 = 20;

/// What a principal is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PrincipalKind {
    /// A person.
    User,
    /// A robot.
    Robot,
    /// An organisation.
    Organisation,
    /// A team of an organisation.
    Team,
}

/// A robot as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredRobot {
    /// Its name, with that of whom it belongs to.
    pub name: String,
    /// What it is in its organisation.
    pub role: Option<Role>,
    /// From where it may be used, if not from everywhere.
    pub addresses: Option<AddressBlocks>,
    /// When it was made, in microseconds since 1970.
    pub created_at: i64,
}

#[derive(FromQueryResult)]
struct RobotRow {
    name: String,
    role: Option<i64>,
    addresses: Option<String>,
    created_at: i64,
}

#[derive(FromQueryResult)]
struct KindRow {
    id: i64,
    kind: i64,
}

/// Locks whom robots belong to.
async fn owner(write: &Write, handle: &str) -> Result<Option<KindRow>, CatalogError> {
    let lock = format!(
        "SELECT id, CAST(kind AS bigint) AS kind FROM principals WHERE handle = $1 AND kind IN (1, 3) AND state <> 2{}",
        write.dialect.lock("principals")
    );
    sql::one(&write.transaction, &lock, [handle.into()]).await
}

/// The list as it is kept.
pub(super) fn text(addresses: Option<&AddressBlocks>) -> Result<Option<String>, CatalogError> {
    let text = addresses.map(serde_json::to_string).transpose();
    text.map_err(|error| CatalogError::damaged("principals", error))
}

/// Where whoever sets a list asks from, if the list shuts him out himself: nobody but the operator could undo that.
fn shut_out(
    by: &Authority,
    handle: &str,
    kind: i64,
    blocks: Option<&AddressBlocks>,
) -> Option<String> {
    let (asker, blocks) = (&by.asker, blocks?);
    let is_himself = asker.principal.name() == handle;
    if by.is_operator() || !(is_himself || kind == ORGANISATION) {
        return None;
    }
    let address = asker.origin.address;
    let is_in = blocks.contain(address);
    (!is_in).then(|| address.map_or("an unknown address".to_owned(), |it| it.to_string()))
}

/// A process that would not heed a list of addresses, if one is to be set.
pub(super) async fn heedless(
    write: &Write,
    addresses: Option<&AddressBlocks>,
) -> Result<Option<Refusal>, CatalogError> {
    if addresses.is_none() {
        return Ok(None);
    }
    let old = older_replica(write, granary_migrations::KNOWS_REMOVAL).await?;
    Ok(old.map(Refusal::OldReplica))
}

impl Catalog {
    /// Makes a robot.
    pub async fn create_robot(
        &self,
        by: &Authority,
        handle: RobotHandle,
    ) -> Result<Decided<Outcome<PrincipalId>>, CatalogError> {
        self.decided(by, async move |write, by| {
            let Some(owner) = owner(write, handle.owner()).await? else {
                return Ok(Err(Refusal::NoSuch(handle.owner().to_owned())));
            };
            let most = match owner.kind {
                USER => MOST_ROBOTS_OF_USER,
                _ => MOST_ROBOTS,
            };
            if number_of(write, ROBOT, owner.id).await? >= most {
                return Ok(Err(Refusal::Full(most)));
            }
            let (author, owner) = (by.author(), Some(owner.id));
            let Some(made) = make(write, ROBOT, handle.as_str(), owner, author).await? else {
                return Ok(Err(Refusal::Taken(handle.to_string())));
            };
            by.note(write, Deed::new(action::ROBOT_CREATE, &handle))
                .await?;
            Ok(Ok(PrincipalId(made)))
        })
        .await
    }

    /// Removes a robot for good, with its tokens and rights.
    pub async fn remove_robot(
        &self,
        by: &Authority,
        handle: RobotHandle,
    ) -> Result<Decided<Outcome<()>>, CatalogError> {
        self.decided(by, async move |write, by| {
            owner(write, handle.owner()).await?;
            let lock = format!(
                "SELECT id FROM principals WHERE handle = $1 AND kind = 2 AND state <> 2{}",
                write.dialect.lock("principals")
            );
            let values = [handle.as_str().into()];
            let found: Option<Id> = sql::one(&write.transaction, &lock, values).await?;
            let Some(Id { id }) = found else {
                return Ok(Err(Refusal::NoSuch(handle.to_string())));
            };
            end(write, ITSELF, id).await?;
            count_up(write).await?;
            by.note(write, Deed::new(action::ROBOT_REMOVE, &handle))
                .await?;
            Ok(Ok(()))
        })
        .await
    }

    /// Up to `limit` robots of an organisation or user by name, bytewise behind `after`.
    pub async fn robots(
        &self,
        owner: &str,
        after: &str,
        limit: u64,
    ) -> Result<Vec<StoredRobot>, CatalogError> {
        let query = "SELECT r.name, (SELECT MAX(CAST(m.role AS bigint)) FROM memberships m WHERE m.member_id = r.id AND m.group_id = r.owner_id) AS role, \
                     r.addresses, r.created_at FROM principals r JOIN principals o ON o.id = r.owner_id \
                     WHERE o.handle = $1 AND r.kind = 2 AND r.state <> 2 AND r.handle > $2 ORDER BY r.handle LIMIT $3";
        let values = [owner.into(), after.into(), signed(limit).into()];
        let rows: Vec<RobotRow> = self.reads.all(query, values).await?;
        rows.into_iter()
            .map(|row| {
                Ok(StoredRobot {
                    name: row.name,
                    role: row.role.and_then(role),
                    addresses: row.addresses.as_deref().map(addresses).transpose()?,
                    created_at: row.created_at,
                })
            })
            .collect()
    }

    /// Whoever or whatever goes by that name.
    pub async fn named(
        &self,
        handle: &str,
    ) -> Result<Option<(PrincipalId, PrincipalKind)>, CatalogError> {
        let query = "SELECT id, CAST(kind AS bigint) AS kind FROM principals WHERE handle = $1 AND state <> 2";
        let found: Option<KindRow> = self.reads.one(query, [handle.into()]).await?;
        Ok(found.map(|found| {
            let kind = match found.kind {
                USER => PrincipalKind::User,
                ROBOT => PrincipalKind::Robot,
                ORGANISATION => PrincipalKind::Organisation,
                _ => PrincipalKind::Team,
            };
            (PrincipalId(found.id), kind)
        }))
    }

    /// Says from where a user or robot may be used, or the namespaces of an organisation; from everywhere without a list.
    pub async fn set_addresses(
        &self,
        by: &Authority,
        handle: &str,
        blocks: Option<AddressBlocks>,
    ) -> Result<Decided<Outcome<()>>, CatalogError> {
        let handle = handle.to_owned();
        self.decided(by, async move |write, by| {
            if let Some(refusal) = heedless(write, blocks.as_ref()).await? {
                return Ok(Err(refusal));
            }
            let find = format!(
                "SELECT id, CAST(kind AS bigint) AS kind FROM principals WHERE handle = $1 AND state <> 2 AND kind <= 3{}",
                write.dialect.lock_values("principals")
            );
            let found = sql::one(&write.transaction, &find, [handle.as_str().into()]).await?;
            let Some(KindRow { id, kind }) = found else {
                return Ok(Err(Refusal::NoSuch(handle)));
            };
            if let Some(address) = shut_out(by, &handle, kind, blocks.as_ref()) {
                return Ok(Err(Refusal::ShutsOut(address)));
            }
            let set = "UPDATE principals SET addresses = $2 WHERE id = $1";
            let values = [id.into(), text(blocks.as_ref())?.into()];
            sql::execute(&write.transaction, set, values).await?;
            count_up(write).await?;
            let action = match kind {
                USER => action::USER_CHANGE,
                ROBOT => action::ROBOT_CHANGE,
                _ => action::GROUP_CHANGE,
            };
            let detail = json!({ "addresses": blocks });
            by.note(write, Deed::new(action, handle).with(detail))
                .await?;
            Ok(Ok(()))
        })
        .await
    }
}
