//! What groups of identity providers mean here: organisations and teams.

use std::collections::BTreeMap;

use granary_access::Role;
use sea_orm::FromQueryResult;
use serde_json::json;

use super::{
    office::{Authority, Decided},
    rights::role,
    warm::count_up,
};
use crate::{
    Catalog, CatalogError,
    audit::{Deed, action},
    sql::{self, Id},
    writer::Write,
};

/// Most mappings of an issuer. All of them are read when somebody logs in.
const MOST_MAPPINGS: usize = 1000;

/// `principals.kind` of a team; an organisation has the number before.
const TEAM: i64 = 4;
/// `memberships.role` of a member.
const MEMBER: i16 = 1;

/// A group of a provider, and what it means here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredMapping {
    /// Its number.
    pub id: i64,
    /// The group's name at the provider.
    pub claim: String,
    /// The organisation or team.
    pub group: String,
    /// What its people are there. In a team, [`Role::Admin`] is a maintainer.
    pub role: Role,
}

/// What came of mapping a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mapped {
    /// The mapping has this number.
    As(i64),
    /// There is no organisation or team of that name.
    NoSuchGroup,
    /// A team has members and maintainers only.
    NotInTeams,
    /// The issuer has as many as it may.
    TooMany,
}

/// As what somebody is to belong to a group.
pub(super) struct Belongs {
    pub(super) role: i16,
    pub(super) organisation: i64,
    pub(super) name: String,
}

#[derive(FromQueryResult)]
struct MappingRow {
    id: i64,
    claim: String,
    group_id: i64,
    name: String,
    role: i64,
    kind: i64,
    owner_id: Option<i64>,
}

#[derive(FromQueryResult)]
struct Group {
    id: i64,
    kind: i64,
}

const MAPPINGS: &str = "SELECT g.id, g.claim, g.group_id, p.name, CAST(g.role AS bigint) AS role, CAST(p.kind AS bigint) AS kind, p.owner_id \
     FROM group_mappings g JOIN principals p ON p.id = g.group_id AND p.state <> 2 WHERE g.issuer = $1 ORDER BY g.id";

/// `memberships.role` and `group_mappings.role`.
fn number(role: Role) -> i16 {
    match role {
        Role::Member => MEMBER,
        Role::Read => 2,
        Role::Write => 3,
        Role::Admin => 4,
        Role::Owner => 5,
    }
}

impl Catalog {
    /// What the groups of an issuer mean, in the order in which it was said.
    pub async fn mappings(&self, issuer: &str) -> Result<Vec<StoredMapping>, CatalogError> {
        let rows: Vec<MappingRow> = self.reads.all(MAPPINGS, [issuer.into()]).await?;
        let mapping = |row: MappingRow| {
            let role = role(row.role)
                .ok_or_else(|| CatalogError::damaged("group_mappings", "an unknown role"))?;
            Ok(StoredMapping {
                id: row.id,
                claim: row.claim,
                group: row.name,
                role,
            })
        };
        rows.into_iter().map(mapping).collect()
    }

    /// Says what the group `claim` of an issuer means from the next log-in on.
    pub async fn map_group(
        &self,
        by: &Authority,
        issuer: &str,
        claim: &str,
        (group, role): (&str, Role),
    ) -> Result<Decided<Mapped>, CatalogError> {
        let (issuer, claim, group) = (issuer.to_owned(), claim.to_owned(), group.to_owned());
        self.decided(by, async move |write, by| {
            let find = format!(
                "SELECT id, CAST(kind AS bigint) AS kind FROM principals WHERE handle = $1 AND kind IN (3, 4) AND state <> 2{}",
                write.dialect.keep("principals")
            );
            let found: Option<Group> =
                sql::one(&write.transaction, &find, [group.as_str().into()]).await?;
            let Some(found) = found else {
                return Ok(Mapped::NoSuchGroup);
            };
            if found.kind == TEAM && !matches!(role, Role::Member | Role::Admin) {
                return Ok(Mapped::NotInTeams);
            }
            let count = "SELECT id FROM group_mappings WHERE issuer = $1";
            let all: Vec<Id> =
                sql::all(&write.transaction, count, [issuer.as_str().into()]).await?;
            if all.len() >= MOST_MAPPINGS {
                return Ok(Mapped::TooMany);
            }
            let insert = "INSERT INTO group_mappings (issuer, claim, group_id, role) VALUES ($1, $2, $3, $4) \
                          ON CONFLICT (issuer, claim, group_id) DO UPDATE SET role = excluded.role RETURNING id";
            let values = [
                issuer.as_str().into(),
                claim.as_str().into(),
                found.id.into(),
                number(role).into(),
            ];
            let row: Option<Id> = sql::one(&write.transaction, insert, values).await?;
            let row = row.ok_or_else(|| {
                CatalogError::damaged("group_mappings", "an insert returned no row")
            })?;
            // One who was mapped to more than that is so no longer.
            limit(write, &issuer).await?;
            let detail = json!({ "issuer": issuer, "group": claim, "role": role });
            let deed = Deed::new(action::MAPPING_CHANGE, group).with(detail);
            by.note(write, deed).await?;
            Ok(Mapped::As(row.id))
        })
        .await
    }

    /// Takes a mapping of an issuer back, and what nobody is any more without it; `false` if there is none of that number.
    pub async fn unmap_group(
        &self,
        by: &Authority,
        issuer: &str,
        id: i64,
    ) -> Result<Decided<bool>, CatalogError> {
        let issuer = issuer.to_owned();
        self.decided(by, async move |write, by| {
            let rows: Vec<MappingRow> =
                sql::all(&write.transaction, MAPPINGS, [issuer.as_str().into()]).await?;
            let Some(row) = rows.into_iter().find(|row| row.id == id) else {
                return Ok(false);
            };
            let remove = "DELETE FROM group_mappings WHERE id = $1";
            sql::execute(&write.transaction, remove, [id.into()]).await?;
            limit(write, &issuer).await?;
            let detail = json!({ "issuer": issuer, "group": row.claim, "role": null });
            let deed = Deed::new(action::MAPPING_CHANGE, row.name).with(detail);
            by.note(write, deed).await?;
            Ok(true)
        })
        .await
    }
}

/// As what somebody in these groups of an issuer belongs to which groups here. Who is in a team is in its organisation.
pub(super) async fn of_groups(
    write: &Write,
    issuer: &str,
    groups: &[String],
) -> Result<BTreeMap<i64, Belongs>, CatalogError> {
    let rows: Vec<MappingRow> = sql::all(&write.transaction, MAPPINGS, [issuer.into()]).await?;
    let meant = rows.into_iter().filter(|row| groups.contains(&row.claim));
    all_of(meant)
}

fn all_of(rows: impl Iterator<Item = MappingRow>) -> Result<BTreeMap<i64, Belongs>, CatalogError> {
    let mut all: BTreeMap<i64, Belongs> = BTreeMap::new();
    let mut add = |group: i64, belongs: Belongs| {
        let entry = all.entry(group).or_insert(Belongs { role: 0, ..belongs });
        entry.role = entry.role.max(belongs.role);
    };
    for row in rows {
        let role = i16::try_from(row.role)
            .map_err(|_| CatalogError::damaged("group_mappings", "an unknown role"))?;
        let organisation = match row.owner_id.filter(|_| row.kind == TEAM) {
            Some(owner) => owner,
            None => row.group_id,
        };
        if organisation != row.group_id {
            let name = row.name.split('/').next().unwrap_or_default();
            add(
                organisation,
                Belongs {
                    role: MEMBER,
                    organisation,
                    name: name.to_owned(),
                },
            );
        }
        add(
            row.group_id,
            Belongs {
                role,
                organisation,
                name: row.name,
            },
        );
    }
    Ok(all)
}

/// Takes from everybody who belongs to a group by the word of an issuer what no mapping says any more. Which group of the
/// issuer it was by is not kept: what is still said of another of its groups goes at the next log-in.
async fn limit(write: &mut Write, issuer: &str) -> Result<(), CatalogError> {
    let rows: Vec<MappingRow> = sql::all(&write.transaction, MAPPINGS, [issuer.into()]).await?;
    let all = all_of(rows.into_iter())?;
    let given = "SELECT DISTINCT group_id AS id FROM memberships WHERE source = $1";
    let given: Vec<Id> = sql::all(&write.transaction, given, [issuer.into()]).await?;
    let mut changed = 0;
    for Id { id } in given {
        changed += match all.get(&id) {
            None => {
                let remove = "DELETE FROM memberships WHERE group_id = $1 AND source = $2";
                sql::execute(&write.transaction, remove, [id.into(), issuer.into()]).await?
            }
            Some(Belongs { role, .. }) => {
                let lower = "UPDATE memberships SET role = $3 WHERE group_id = $1 AND source = $2 AND role > $3";
                let values = [id.into(), issuer.into(), (*role).into()];
                sql::execute(&write.transaction, lower, values).await?
            }
        };
    }
    if changed > 0 {
        count_up(write).await?;
    }
    Ok(())
}
