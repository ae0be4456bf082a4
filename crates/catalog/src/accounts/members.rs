//! Who belongs to an organisation or a team, and as what.

use granary_access::{Role, TeamHandle, TeamRole};
use sea_orm::FromQueryResult;
use serde_json::json;

use super::{
    groups::{Count, OWNER, Outcome, ROBOT, Refusal, foreign, organisation, team},
    office::{Authority, Decided, Office},
    rights::role,
    warm::count_up,
};
use crate::{
    Catalog, CatalogError,
    audit::{Deed, action},
    sql::{self, Id, signed},
    writer::Write,
};

/// Most members of an organisation or a team.
const MOST_MEMBERS: u64 = 50_000;

/// `memberships.role` of a member, in an organisation and in a team.
const MEMBER: i16 = 1;
/// The least `memberships.role` of a team's maintainer.
const MAINTAINER: i16 = 4;

/// What somebody is in an organisation or a team, and who said so. Somebody may be so several times.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredMember {
    /// His name.
    pub name: String,
    /// Whether it is a robot.
    pub is_robot: bool,
    /// What he is. In a team, [`Role::Admin`] is a maintainer.
    pub role: Role,
    /// Empty if somebody said so, else the issuer whose groups did.
    pub source: String,
    /// Since when, in microseconds since 1970.
    pub since: i64,
}

#[derive(FromQueryResult)]
struct MemberRow {
    name: String,
    kind: i64,
    role: i64,
    source: String,
    created_at: i64,
}

/// Somebody who may belong to a group, whose row stays while the transaction lasts.
#[derive(FromQueryResult)]
struct Candidate {
    id: i64,
    kind: i64,
    owner_id: Option<i64>,
}

#[derive(FromQueryResult)]
struct OwnerRow {
    member_id: i64,
    source: String,
}

async fn candidate(write: &Write, handle: &str) -> Result<Option<Candidate>, CatalogError> {
    let keep = format!(
        "SELECT id, CAST(kind AS bigint) AS kind, owner_id FROM principals WHERE handle = $1 AND kind IN (1, 2) AND state <> 2{}",
        write.dialect.keep("principals")
    );
    sql::one(&write.transaction, &keep, [handle.into()]).await
}

/// Whether `by` is leave of an owner.
fn makes_owners(by: &Authority) -> bool {
    by.is_operator() || matches!(by.office, Office::Organisation(_, Role::Owner))
}

/// Why `member` may not become `role`, or nothing (if `role` is `None`), in an organisation that is locked.
async fn of_owners(
    write: &Write,
    by: &Authority,
    (group, name): (i64, &str),
    member: i64,
    becomes: Option<Role>,
) -> Result<Option<Refusal>, CatalogError> {
    let query = "SELECT member_id, source FROM memberships WHERE group_id = $1 AND role = 5";
    let owners: Vec<OwnerRow> = sql::all(&write.transaction, query, [group.into()]).await?;
    let is_owner = owners.iter().any(|owner| owner.member_id == member);
    let stays = becomes == Some(Role::Owner);
    if (is_owner || stays) && !makes_owners(by) {
        return Ok(Some(Refusal::OwnersOnly));
    }
    // Another role by hand leaves what the groups of an issuer say.
    let remains = |owner: &OwnerRow| {
        owner.member_id != member || (becomes.is_some() && !owner.source.is_empty())
    };
    if is_owner && !stays && !owners.iter().any(remains) {
        return Ok(Some(Refusal::LastOwner(name.to_owned())));
    }
    Ok(None)
}

/// Whether the group has as many members as it may, and `member` is none of them.
async fn is_full(write: &Write, group: i64, member: i64) -> Result<bool, CatalogError> {
    let count =
        "SELECT COUNT(*) AS number FROM memberships WHERE group_id = $1 AND member_id <> $2";
    let values = [group.into(), member.into()];
    let found: Option<Count> = sql::one(&write.transaction, count, values).await?;
    Ok(found.is_some_and(|found| sql::unsigned(found.number) >= MOST_MEMBERS))
}

async fn join(
    write: &Write,
    by: &Authority,
    (member, group, organisation): (i64, i64, i64),
    role: i16,
) -> Result<(), CatalogError> {
    let join = "INSERT INTO memberships (member_id, group_id, source, organisation_id, role, created_at, created_by) \
                VALUES ($1, $2, '', $3, $4, $5, $6) ON CONFLICT (member_id, group_id, source) DO UPDATE SET role = excluded.role";
    let values = [
        member.into(),
        group.into(),
        organisation.into(),
        role.into(),
        write.now.into(),
        by.author().into(),
    ];
    sql::execute(&write.transaction, join, values).await?;
    Ok(())
}

/// `memberships.role` in an organisation.
fn number(role: Role) -> i16 {
    match role {
        Role::Member => MEMBER,
        Role::Read => 2,
        Role::Write => 3,
        Role::Admin => 4,
        Role::Owner => OWNER,
    }
}

impl Catalog {
    /// Makes somebody a member of an organisation, or something else in it. A robot is at most one who writes.
    pub async fn set_member(
        &self,
        by: &Authority,
        handle: &str,
        member: String,
        role: Role,
    ) -> Result<Decided<Outcome<()>>, CatalogError> {
        let handle = handle.to_owned();
        self.decided(by, async move |write, by| {
            let Some(group) = organisation(write, &handle).await? else {
                return Ok(Err(Refusal::NoSuch(handle)));
            };
            let Some(found) = candidate(write, &member).await? else {
                return Ok(Err(Refusal::NoSuch(member)));
            };
            if found.kind == ROBOT && found.owner_id != Some(group) {
                return Ok(Err(foreign(write, by, found.owner_id, member).await?));
            }
            if found.kind == ROBOT && role >= Role::Admin {
                return Ok(Err(Refusal::NotForRobots));
            }
            let organisation = (group, handle.as_str());
            if let Some(refusal) = of_owners(write, by, organisation, found.id, Some(role)).await? {
                return Ok(Err(refusal));
            }
            if is_full(write, group, found.id).await? {
                return Ok(Err(Refusal::Full(MOST_MEMBERS)));
            }
            join(write, by, (found.id, group, group), number(role)).await?;
            count_up(write).await?;
            let detail = json!({ "member": member, "role": role });
            by.note(write, Deed::new(action::MEMBER_SET, handle).with(detail))
                .await?;
            Ok(Ok(()))
        })
        .await
    }

    /// Ends that somebody belongs to an organisation and its teams, whoever said so; of a user, also what he himself was
    /// granted in its namespaces.
    pub async fn remove_member(
        &self,
        by: &Authority,
        handle: &str,
        member: String,
    ) -> Result<Decided<Outcome<()>>, CatalogError> {
        let handle = handle.to_owned();
        self.decided(by, async move |write, by| {
            let Some(group) = organisation(write, &handle).await? else {
                return Ok(Err(Refusal::NoSuch(handle)));
            };
            // Who is not there is told of in the same words.
            let Some(found) = candidate(write, &member).await? else {
                return Ok(Err(Refusal::NoMember(member, handle)));
            };
            let organisation = (group, handle.as_str());
            if let Some(refusal) = of_owners(write, by, organisation, found.id, None).await? {
                return Ok(Err(refusal));
            }
            let values = || [found.id.into(), group.into()];
            let leave = "DELETE FROM memberships WHERE member_id = $1 AND organisation_id = $2";
            if sql::execute(&write.transaction, leave, values()).await? == 0 {
                return Ok(Err(Refusal::NoMember(member, handle)));
            }
            let mut grants = 0;
            if found.kind != ROBOT {
                let lose = "DELETE FROM grants WHERE grantee_id = $1 \
                            AND namespace_id IN (SELECT id FROM namespaces WHERE owner_id = $2)";
                grants = sql::execute(&write.transaction, lose, values()).await?;
            }
            count_up(write).await?;
            let detail = json!({ "member": member, "grants": grants });
            by.note(write, Deed::new(action::MEMBER_REMOVE, handle).with(detail))
                .await?;
            Ok(Ok(()))
        })
        .await
    }

    /// Makes somebody a member or maintainer of a team; who was none yet becomes a member of the organisation, too.
    pub async fn set_team_member(
        &self,
        by: &Authority,
        handle: TeamHandle,
        member: String,
        role: TeamRole,
    ) -> Result<Decided<Outcome<()>>, CatalogError> {
        self.decided(by, async move |write, by| {
            let owner = organisation(write, handle.organisation()).await?;
            let (Some(owner), Some(group)) = (owner, team(write, handle.as_str()).await?) else {
                return Ok(Err(Refusal::NoSuch(handle.to_string())));
            };
            let Some(found) = candidate(write, &member).await? else {
                return Ok(Err(Refusal::NoSuch(member)));
            };
            if found.kind == ROBOT && found.owner_id != Some(owner) {
                return Ok(Err(foreign(write, by, found.owner_id, member).await?));
            }
            if found.kind == ROBOT && role == TeamRole::Maintainer {
                return Ok(Err(Refusal::NotForRobots));
            }
            let belongs = "SELECT member_id AS id FROM memberships WHERE member_id = $1 AND group_id = $2 LIMIT 1";
            let values = [found.id.into(), owner.into()];
            let belongs: Option<Id> = sql::one(&write.transaction, belongs, values).await?;
            if is_full(write, group, found.id).await?
                || (belongs.is_none() && is_full(write, owner, found.id).await?)
            {
                return Ok(Err(Refusal::Full(MOST_MEMBERS)));
            }
            if belongs.is_none() {
                join(write, by, (found.id, owner, owner), MEMBER).await?;
            }
            let number = match role {
                TeamRole::Member => MEMBER,
                TeamRole::Maintainer => MAINTAINER,
            };
            join(write, by, (found.id, group, owner), number).await?;
            count_up(write).await?;
            let detail = json!({ "member": member, "role": role });
            by.note(write, Deed::new(action::MEMBER_SET, &handle).with(detail))
                .await?;
            Ok(Ok(()))
        })
        .await
    }

    /// Ends that somebody belongs to a team, whoever said so.
    pub async fn remove_team_member(
        &self,
        by: &Authority,
        handle: TeamHandle,
        member: String,
    ) -> Result<Decided<Outcome<()>>, CatalogError> {
        self.decided(by, async move |write, by| {
            organisation(write, handle.organisation()).await?;
            let Some(group) = team(write, handle.as_str()).await? else {
                return Ok(Err(Refusal::NoSuch(handle.to_string())));
            };
            let leave = "DELETE FROM memberships WHERE group_id = $1 \
                         AND member_id = (SELECT id FROM principals WHERE handle = $2)";
            let values = [group.into(), member.as_str().into()];
            if sql::execute(&write.transaction, leave, values).await? == 0 {
                return Ok(Err(Refusal::NoMember(member, handle.to_string())));
            }
            count_up(write).await?;
            let detail = json!({ "member": member });
            by.note(
                write,
                Deed::new(action::MEMBER_REMOVE, &handle).with(detail),
            )
            .await?;
            Ok(Ok(()))
        })
        .await
    }

    /// Up to `limit` lines about members of an organisation or a team, behind the one of that name and source.
    pub async fn members(
        &self,
        group: &str,
        (name, source): (&str, &str),
        limit: u64,
    ) -> Result<Vec<StoredMember>, CatalogError> {
        let query = "SELECT p.name, CAST(p.kind AS bigint) AS kind, CAST(m.role AS bigint) AS role, m.source, m.created_at \
                     FROM principals g JOIN memberships m ON m.group_id = g.id JOIN principals p ON p.id = m.member_id \
                     WHERE g.handle = $1 AND g.kind IN (3, 4) AND (p.name > $2 OR (p.name = $2 AND m.source > $3)) \
                     ORDER BY p.name, m.source LIMIT $4";
        let values = [
            group.into(),
            name.into(),
            source.into(),
            signed(limit).into(),
        ];
        let rows: Vec<MemberRow> = self.reads.all(query, values).await?;
        rows.into_iter()
            .map(|row| {
                Ok(StoredMember {
                    name: row.name,
                    is_robot: row.kind == ROBOT,
                    role: role(row.role)
                        .ok_or_else(|| CatalogError::damaged("memberships", "an unknown role"))?,
                    source: row.source,
                    since: row.created_at,
                })
            })
            .collect()
    }

    /// Whether somebody of that name owns the organisation.
    pub async fn is_owner(&self, organisation: &str, member: &str) -> Result<bool, CatalogError> {
        let query = "SELECT m.member_id AS id FROM principals g JOIN memberships m ON m.group_id = g.id AND m.role = 5 \
                     JOIN principals p ON p.id = m.member_id WHERE g.handle = $1 AND g.kind = 3 AND p.handle = $2 LIMIT 1";
        let values = [organisation.into(), member.into()];
        let found: Option<Id> = self.reads.one(query, values).await?;
        Ok(found.is_some())
    }
}
