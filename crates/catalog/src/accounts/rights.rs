//! What somebody may do in a repository, read by one statement and so true at one moment.

use std::{net::IpAddr, sync::Arc};

use granary_access::{
    AddressBlocks, CreateBy, CredentialId, Grant, PrincipalId, RepositoryPattern, Rights, Role,
    TagPatterns, Verbs, Visibility,
};
use granary_oci::RepositoryName;
use sea_orm::{FromQueryResult, Value};

use super::warm::{GENERATION, Warm};
use crate::{
    Catalog, CatalogError,
    cache::Cache,
    dialect::{self, Dialect},
    sql::{placeholders, signed},
};

/// Rights, and when they were so.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RightsNow {
    /// What may be done.
    pub rights: Rights,
    /// The database's time, in microseconds since 1970.
    pub now: i64,
}

/// A row for each group that matters and each grant; what is about the principal and the repository stands in all of them.
#[derive(FromQueryResult)]
pub(super) struct RightsRow {
    generation: Option<i64>,
    now: Option<i64>,
    state: Option<i64>,
    handle: Option<String>,
    system_role: Option<i64>,
    own_addresses: Option<String>,
    credential_id: Option<i64>,
    revoked_at: Option<i64>,
    ends_at: Option<i64>,
    credential_addresses: Option<String>,
    robot_owner_state: Option<i64>,
    robot_owner_addresses: Option<String>,
    parent_addresses: Option<String>,
    parent_revoked_at: Option<i64>,
    parent_ends_at: Option<i64>,
    namespace_id: Option<i64>,
    owner_id: Option<i64>,
    owner_addresses: Option<String>,
    repository_id: Option<i64>,
    visibility: Option<i64>,
    create_by: Option<i64>,
    default_visibility: Option<i64>,
    immutable_tags: Option<String>,
    grantee_id: i64,
    role: i64,
    actions: Option<i64>,
    tags: Option<String>,
    expires_at: Option<i64>,
}

impl RightsRow {
    /// When the credential expires, or what it was made from does.
    fn ends_at(&self) -> Option<i64> {
        self.ends_at.into_iter().chain(self.parent_ends_at).min()
    }
}

/// Every table is entered by a key: the cost grows with the principal's groups in the one organisation that owns the
/// namespace, not with its groups, grants and repositories elsewhere.
fn statement(dialect: Dialect, patterns: usize) -> String {
    format!(
        "WITH head AS ( \
           SELECT {GENERATION} AS generation, {clock} AS now, \
                  CAST(p.state AS bigint) AS state, p.handle, CAST(p.system_role AS bigint) AS system_role, p.addresses AS own_addresses, \
                  c.id AS credential_id, c.revoked_at, c.expires_at AS ends_at, c.addresses AS credential_addresses, \
                  o.revoked_at AS parent_revoked_at, o.expires_at AS parent_ends_at, o.addresses AS parent_addresses, \
                  CAST(u.state AS bigint) AS robot_owner_state, u.addresses AS robot_owner_addresses, \
                  n.id AS namespace_id, n.owner_id, w.addresses AS owner_addresses, r.id AS repository_id, CAST(r.visibility AS bigint) AS visibility, \
                  CAST(s.create_by AS bigint) AS create_by, CAST(s.default_visibility AS bigint) AS default_visibility, \
                  s.immutable_tags \
           FROM (SELECT 1 AS one) z \
           LEFT JOIN principals p ON p.id = $1 \
           LEFT JOIN principals u ON u.id = p.owner_id AND u.kind = 1 \
           LEFT JOIN credentials c ON c.id = $2 AND c.principal_id = $1 \
           LEFT JOIN credentials o ON o.id = c.parent_id \
           LEFT JOIN namespaces n ON n.name = $3 \
           LEFT JOIN principals w ON w.id = n.owner_id AND w.kind = 3 \
           LEFT JOIN namespace_settings s ON s.namespace_id = n.id \
           LEFT JOIN repositories r ON r.name = $4 \
         ), me AS ( \
           SELECT CAST($1 AS bigint) AS id, CAST(0 AS bigint) AS role \
           UNION ALL \
           SELECT m.group_id, CAST(m.role AS bigint) FROM head \
           JOIN memberships m ON m.member_id = $1 AND m.organisation_id = head.owner_id \
         ) \
         SELECT head.*, me.id AS grantee_id, me.role, CAST(g.actions AS bigint) AS actions, g.tags, g.expires_at \
         FROM head JOIN me ON TRUE \
         LEFT JOIN grants g ON g.grantee_id = me.id AND g.namespace_id = head.namespace_id AND g.pattern IN ({patterns}) \
         WHERE g.id IS NOT NULL OR me.id = $1 OR me.id = head.owner_id",
        // SQLite runs in this process. A number in the text would make each statement another one.
        clock = match dialect {
            Dialect::Sqlite => "NULL".to_owned(),
            Dialect::Postgres => dialect.clock(),
        },
        patterns = placeholders(5, patterns),
    )
}

/// The statement, and what it is asked.
pub(super) fn question(
    dialect: Dialect,
    principal: Option<(PrincipalId, CredentialId)>,
    repository: Option<&RepositoryName>,
) -> (String, Vec<Value>) {
    let (namespace, name) = match repository {
        Some(repository) => (repository.namespace(), repository.as_str()),
        None => ("", ""),
    };
    let patterns = repository
        .into_iter()
        .flat_map(RepositoryPattern::texts_for)
        .collect();
    ask(dialect, principal, (namespace, name), patterns)
}

/// The same of all of a namespace: only grants on the whole of it count.
pub(super) fn question_of_namespace(
    dialect: Dialect,
    principal: Option<(PrincipalId, CredentialId)>,
    namespace: &str,
) -> (String, Vec<Value>) {
    let patterns = vec!["**".to_owned(), format!("{namespace}/**")];
    ask(dialect, principal, (namespace, ""), patterns)
}

fn ask(
    dialect: Dialect,
    principal: Option<(PrincipalId, CredentialId)>,
    (namespace, name): (&str, &str),
    mut patterns: Vec<String>,
) -> (String, Vec<Value>) {
    let (principal, credential) = principal.map_or((0, 0), |(id, credential)| (id.0, credential.0));
    // Names have different depths; few statements are prepared if their lists have few lengths.
    patterns.resize(patterns.len().next_power_of_two(), String::new());
    let statement = statement(dialect, patterns.len());
    let values = [
        principal.into(),
        credential.into(),
        namespace.into(),
        name.into(),
    ];
    let values = values
        .into_iter()
        .chain(patterns.into_iter().map(Value::from));
    (statement, values.collect())
}

/// Reads the rights out of rows; `now` is the time where the database has none of its own.
pub(super) fn read(
    rows: &[RightsRow],
    principal: Option<(PrincipalId, CredentialId)>,
    repository: Option<&RepositoryName>,
    now: i64,
) -> Result<RightsNow, CatalogError> {
    let head = rows.first().ok_or_else(|| {
        CatalogError::damaged("principals", "the question for rights has no answer")
    })?;
    let now = head.now.unwrap_or(now);
    let namespace = repository.map(RepositoryName::namespace);
    let is_owner = principal.is_some_and(|(id, _)| head.owner_id == Some(id.0));
    let would_be =
        head.namespace_id.is_none() && namespace.is_some() && head.handle.as_deref() == namespace;
    let mut grants = Vec::new();
    for row in rows {
        if let Some(actions) = row.actions {
            let verbs = i16::try_from(actions).ok().and_then(Verbs::from_bits);
            grants.push(Grant {
                verbs: verbs.ok_or_else(|| CatalogError::damaged("grants", "an unknown action"))?,
                tags: patterns(row.tags.as_deref())?.unwrap_or_else(TagPatterns::all),
                ends_at: row.expires_at,
            });
        }
    }
    let role = rows
        .iter()
        .filter(|row| head.owner_id == Some(row.grantee_id))
        .filter_map(|row| role(row.role))
        .max();
    let visibility = head.visibility.or(head.default_visibility);
    let rights = Rights {
        accounts: head.generation.is_some(),
        stands: head.state == Some(ACTIVE)
            // A user's robot acts for him.
            && head.robot_owner_state.is_none_or(|state| state == ACTIVE)
            && head.credential_id.is_some()
            && head.revoked_at.is_none()
            && head.parent_revoked_at.is_none()
            && head.ends_at().is_none_or(|end| now < end),
        exists: head.repository_id.is_some(),
        namespace_exists: head.namespace_id.is_some(),
        visibility: match visibility {
            Some(PUBLIC) => Visibility::Public,
            _ => Visibility::Private,
        },
        is_administrator: head.system_role == Some(ADMINISTRATOR),
        is_own: is_owner || would_be,
        role,
        grants: Arc::from(grants),
        create_by: match head.create_by {
            None | Some(0) => CreateBy::Writers,
            Some(_) => CreateBy::Administrators,
        },
        immutable: patterns(head.immutable_tags.as_deref())?,
        usable_from: [
            &head.own_addresses,
            &head.robot_owner_addresses,
            &head.credential_addresses,
            &head.parent_addresses,
        ]
        .into_iter()
        .filter_map(|list| list.as_deref())
        .map(addresses)
        .collect::<Result<_, _>>()?,
        open_to: head.owner_addresses.as_deref().map(addresses).transpose()?,
    };
    Ok(RightsNow { rights, now })
}

/// Whether the principal goes by the name of that namespace.
pub(super) fn bears(rows: &[RightsRow], namespace: &str) -> bool {
    rows.first()
        .is_some_and(|head| head.handle.as_deref() == Some(namespace))
}

/// `principals.state`
pub(super) const ACTIVE: i64 = 0;
/// `principals.system_role`
pub(super) const ADMINISTRATOR: i64 = 1;
/// `repositories.visibility` and `namespace_settings.default_visibility`
const PUBLIC: i64 = 2;

pub(super) fn role(number: i64) -> Option<Role> {
    Some(match number {
        1 => Role::Member,
        2 => Role::Read,
        3 => Role::Write,
        4 => Role::Admin,
        5 => Role::Owner,
        _ => return None,
    })
}

pub(super) fn addresses(text: &str) -> Result<AddressBlocks, CatalogError> {
    serde_json::from_str(text).map_err(|error| CatalogError::damaged("principals", error))
}

pub(super) fn patterns(text: Option<&str>) -> Result<Option<TagPatterns>, CatalogError> {
    text.map(|text| {
        serde_json::from_str(text).map_err(|error| CatalogError::damaged("grants", error))
    })
    .transpose()
}

impl Catalog {
    /// What a principal may do in `repository`, which need not exist; without one, whether its credentials are good.
    /// Nobody in particular is `None`.
    pub async fn rights(
        &self,
        principal: Option<(PrincipalId, CredentialId)>,
        repository: Option<&RepositoryName>,
    ) -> Result<RightsNow, CatalogError> {
        let key = (principal, repository.cloned());
        let (reads, warm) = (&self.reads, &self.warm_rights);
        if let Some(rights) = warm.of(&key, &self.memory, reads).await? {
            return Ok(rights);
        }
        // With SQLite the generation is the writer's: one that is the same before and after was not left meanwhile.
        let generation = || self.memory.exact().and_then(Cache::rights_generation);
        let before = generation();
        let (statement, values) = question(reads.dialect, principal, repository);
        let now = dialect::now();
        let rows: Vec<RightsRow> = reads.all(&statement, values).await?;
        let read = read(&rows, principal, repository, now)?;
        let generation = match reads.dialect {
            Dialect::Sqlite => before.filter(|before| generation() == Some(*before)),
            Dialect::Postgres => rows.first().and_then(|row| row.generation),
        };
        if let Some(generation) = generation {
            let (read, until) = (read.clone(), rows.first().and_then(RightsRow::ends_at));
            let kept = Warm {
                read,
                generation,
                until,
            };
            warm.keep(key, kept);
        }
        Ok(read)
    }

    /// Up to `limit` names of repositories with a manifest that a principal may read, bytewise behind `last`; without one,
    /// those that are public.
    pub async fn readable_repositories(
        &self,
        principal: Option<PrincipalId>,
        address: Option<IpAddr>,
        last: &str,
        limit: u64,
    ) -> Result<Vec<String>, CatalogError> {
        let closed = self.closed_to(address).await?;
        let rows: Vec<Name> = match principal {
            None => {
                let query = format!(
                    "SELECT r.name FROM repositories r JOIN namespaces n ON n.id = r.namespace_id \
                     WHERE r.name > $1 AND r.listed AND r.visibility = 2{closed} ORDER BY r.name LIMIT $2"
                );
                let values = [last.into(), signed(limit).into()];
                self.reads.all(&query, values).await?
            }
            Some(principal) => {
                let query = format!(
                    "SELECT r.name FROM repositories r JOIN namespaces n ON n.id = r.namespace_id \
                     WHERE r.name > $3 AND r.listed AND {READABLE}{closed} ORDER BY r.name LIMIT $4"
                );
                let now = self.now().await?;
                let limit = signed(limit);
                let values = [principal.0.into(), now.into(), last.into(), limit.into()];
                self.reads.all(&query, values).await?
            }
        };
        Ok(rows.into_iter().map(|row| row.name).collect())
    }

    /// The organisations that are not open to that address. Few have such a list, and a database cannot compare addresses
    /// with it.
    pub async fn closed_organisations(
        &self,
        address: Option<IpAddr>,
    ) -> Result<Vec<PrincipalId>, CatalogError> {
        let query = "SELECT id, addresses FROM principals WHERE kind = 3 AND state <> 2 AND addresses IS NOT NULL ORDER BY id";
        let lists: Vec<AddressList> = self.reads.all(query, []).await?;
        let mut closed = Vec::new();
        for list in lists {
            if !addresses(&list.addresses)?.contain(address) {
                closed.push(PrincipalId(list.id));
            }
        }
        Ok(closed)
    }

    /// A condition that leaves out namespaces `n` of organisations that are not open to that address.
    async fn closed_to(&self, address: Option<IpAddr>) -> Result<String, CatalogError> {
        let closed = self.closed_organisations(address).await?;
        let closed: Vec<String> = closed.iter().map(|id| id.0.to_string()).collect();
        Ok(match closed.is_empty() {
            true => String::new(),
            false => format!(
                " AND (n.owner_id IS NULL OR n.owner_id NOT IN ({}))",
                closed.join(", ")
            ),
        })
    }
}

#[derive(FromQueryResult)]
struct AddressList {
    id: i64,
    addresses: String,
}

#[derive(FromQueryResult)]
struct Name {
    name: String,
}

/// The same sources of rights as [`statement`] reads for one repository, here as a condition on many: whether the principal
/// `$1` may read the repository `r` of the namespace `n`, at the time `$2`.
pub(crate) const READABLE: &str = "(r.visibility = 2 OR n.owner_id = $1 \
      OR EXISTS (SELECT 1 FROM principals p WHERE p.id = $1 AND p.system_role = 1) \
      OR EXISTS (SELECT 1 FROM memberships m WHERE m.member_id = $1 AND m.group_id = n.owner_id AND m.role >= 2) \
      OR EXISTS (SELECT 1 FROM grants g WHERE g.namespace_id = n.id AND g.actions % 2 = 1 \
        AND (g.grantee_id = $1 OR g.grantee_id IN (SELECT m.group_id FROM memberships m WHERE m.member_id = $1 AND m.organisation_id = n.owner_id)) \
        AND (g.expires_at IS NULL OR g.expires_at > $2) \
        AND (g.pattern = r.name OR g.pattern = '**' OR (g.pattern LIKE '%/**' \
          AND SUBSTR(r.name, 1, LENGTH(g.pattern) - 2) = SUBSTR(g.pattern, 1, LENGTH(g.pattern) - 2)))))";
