//! Rights that were granted in a namespace, and its settings.

use granary_access::{
    CreateBy, Grant, PrincipalId, RepositoryPattern, TagPatterns, Verbs, Visibility,
};
use granary_migrations::KNOWS_REMOVAL;
use sea_orm::FromQueryResult;
use serde_json::json;

use super::{
    credentials::name_of,
    groups::{Outcome, Refusal, drop_foreign_grants, foreign},
    office::{Authority, Decided},
    rights::patterns,
    warm::count_up,
};
use crate::{
    Catalog, CatalogError,
    audit::{Deed, action},
    guard,
    leases::refuse_beside_older,
    quota,
    sql::{self, Id, signed, unsigned},
    writer::Write,
};

/// A grant as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredGrant {
    /// Its number.
    pub id: i64,
    /// To whom, by name.
    pub grantee: String,
    /// Where, as the text of a [`RepositoryPattern`].
    pub repositories: String,
    /// What, on which tags, and until when.
    pub grant: Grant,
}

/// A namespace: whose it is, and its settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredNamespace {
    /// The name of its owner, if it has one.
    pub owner: Option<String>,
    /// Who sees repositories that are made from now on.
    pub default_visibility: Visibility,
    /// Who makes repositories.
    pub create_by: CreateBy,
    /// Tags that nobody moves.
    pub immutable_tags: TagPatterns,
    /// Under which licence repositories are that say nothing else, as an SPDX expression.
    pub default_license: Option<String>,
    /// Most bytes of distinct blobs.
    pub quota_bytes: Option<u64>,
    /// Most manifests.
    pub quota_artifacts: Option<u64>,
    /// What it holds, if it has a quota.
    pub usage: Option<NamespaceUsage>,
}

/// What a namespace holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NamespaceUsage {
    /// Bytes of distinct blobs, and what open upload sessions have reserved.
    pub bytes: u64,
    /// Manifests.
    pub artifacts: u64,
    /// Whether all of it was counted.
    pub is_counted: bool,
}

/// What is to be changed of a namespace.
#[derive(Clone, Debug, Default)]
pub struct NamespaceChange {
    /// Another owner.
    pub owner: Option<PrincipalId>,
    /// Another visibility of repositories that are made from now on.
    pub default_visibility: Option<Visibility>,
    /// Others who make repositories.
    pub create_by: Option<CreateBy>,
    /// Other tags that nobody moves.
    pub immutable_tags: Option<TagPatterns>,
    /// Another licence; an empty text for none.
    pub default_license: Option<String>,
    /// Another number of bytes; 0 for no limit.
    pub quota_bytes: Option<u64>,
    /// Another number of manifests; 0 for no limit.
    pub quota_artifacts: Option<u64>,
}

#[derive(FromQueryResult)]
struct GrantRow {
    id: i64,
    name: String,
    pattern: String,
    actions: i64,
    tags: Option<String>,
    expires_at: Option<i64>,
}

#[derive(FromQueryResult)]
struct PatternRow {
    pattern: String,
}

#[derive(FromQueryResult)]
struct NamespaceRow {
    owner: Option<String>,
    default_visibility: Option<i64>,
    create_by: Option<i64>,
    immutable_tags: Option<String>,
    default_license: Option<String>,
    quota_bytes: Option<i64>,
    quota_artifacts: Option<i64>,
    bytes: Option<i64>,
    artifacts: Option<i64>,
    counted_to: Option<i64>,
}

const NAMESPACE: &str = "SELECT p.handle AS owner, CAST(s.default_visibility AS bigint) AS default_visibility, \
     CAST(s.create_by AS bigint) AS create_by, s.immutable_tags, s.default_license, s.quota_bytes, s.quota_artifacts, \
     u.bytes, u.artifacts, u.counted_to FROM namespaces n LEFT JOIN principals p ON p.id = n.owner_id \
     LEFT JOIN namespace_settings s ON s.namespace_id = n.id LEFT JOIN namespace_usage u ON u.namespace_id = n.id \
     WHERE n.name = $1";

const NAMESPACE_TO_BE: &str = "SELECT (SELECT p.handle FROM principals p WHERE p.handle = $1 AND p.kind IN (1, 3)) AS owner, \
     CAST(NULL AS bigint) AS default_visibility, CAST(NULL AS bigint) AS create_by, CAST(NULL AS varchar) AS immutable_tags, \
     CAST(NULL AS varchar) AS default_license, CAST(NULL AS bigint) AS quota_bytes, CAST(NULL AS bigint) AS quota_artifacts, \
     CAST(NULL AS bigint) AS bytes, CAST(NULL AS bigint) AS artifacts, CAST(NULL AS bigint) AS counted_to";

impl NamespaceRow {
    fn read(self) -> Result<StoredNamespace, CatalogError> {
        Ok(StoredNamespace {
            owner: self.owner,
            default_visibility: match self.default_visibility {
                Some(2) => Visibility::Public,
                _ => Visibility::Private,
            },
            create_by: match self.create_by {
                None | Some(0) => CreateBy::Writers,
                Some(_) => CreateBy::Administrators,
            },
            immutable_tags: patterns(self.immutable_tags.as_deref())?
                .unwrap_or_else(TagPatterns::none),
            default_license: self.default_license,
            quota_bytes: self.quota_bytes.map(unsigned),
            quota_artifacts: self.quota_artifacts.map(unsigned),
            usage: self
                .bytes
                .zip(self.artifacts)
                .map(|(bytes, artifacts)| NamespaceUsage {
                    bytes: unsigned(bytes),
                    artifacts: unsigned(artifacts),
                    is_counted: self.counted_to.is_none(),
                }),
        })
    }
}

impl StoredNamespace {
    fn has_quota(&self) -> bool {
        self.quota_bytes.is_some() || self.quota_artifacts.is_some()
    }
}

/// What a namespace is to have, where nothing stands for what it had.
fn limit(change: Option<u64>, before: Option<u64>) -> Option<u64> {
    match change {
        None => before,
        Some(0) => None,
        Some(limit) => Some(limit),
    }
}

impl Catalog {
    /// Grants something in the namespace that `repositories` is of, which is made if it is not there. A robot or a team gets
    /// rights in namespaces of whom it belongs to only.
    pub async fn grant(
        &self,
        by: &Authority,
        grantee: PrincipalId,
        repositories: RepositoryPattern,
        grant: Grant,
    ) -> Result<Decided<Outcome<i64>>, CatalogError> {
        let Some(namespace) = repositories.namespace().map(str::to_owned) else {
            return Ok(Ok(Err(Refusal::NoNamespace)));
        };
        let tags = match grant.tags.are_all() {
            true => None,
            false => Some(text(&grant.tags)?),
        };
        self.decided(by, async move |write, by| {
            let name = name_of(write, grantee).await?;
            let Some(found) = kept(write, grantee, "kind IN (1, 2, 4)").await? else {
                return Ok(Err(Refusal::NoSuch(name)));
            };
            if let Some(owner) = found.owner_id
                && owner_of(write, &namespace).await? != Some(owner)
            {
                return Ok(Err(foreign(write, by, Some(owner), name).await?));
            }
            let namespace = make_namespace(write, &namespace, None).await?;
            let insert = "INSERT INTO grants (namespace_id, pattern, grantee_id, actions, tags, created_at, expires_at, created_by) \
                          VALUES ($1, $2, $3, $4, $5, $6, $7, $8) RETURNING id";
            let values = [
                namespace.into(),
                repositories.to_string().into(),
                grantee.0.into(),
                grant.verbs.bits().into(),
                tags.into(),
                write.now.into(),
                grant.ends_at.into(),
                by.author().into(),
            ];
            let row: Option<Id> = sql::one(&write.transaction, insert, values).await?;
            let row = row.ok_or_else(|| CatalogError::damaged("grants", "an insert returned no row"))?;
            count_up(write).await?;
            let detail = json!({
                "to": name,
                "verbs": grant.verbs,
                "tags": grant.tags,
                "ends_at": grant.ends_at,
            });
            let deed = Deed::new(action::GRANT_CREATE, &repositories).with(detail);
            by.note(write, deed).await?;
            Ok(Ok(row.id))
        })
        .await
    }

    /// Up to `limit` grants in a namespace behind number `after`, oldest first.
    pub async fn grants(
        &self,
        namespace: &str,
        after: i64,
        limit: u64,
    ) -> Result<Vec<StoredGrant>, CatalogError> {
        let query = "SELECT g.id, p.name, g.pattern, CAST(g.actions AS bigint) AS actions, g.tags, g.expires_at FROM grants g \
                     JOIN namespaces n ON n.id = g.namespace_id JOIN principals p ON p.id = g.grantee_id \
                     WHERE n.name = $1 AND g.id > $2 ORDER BY g.id LIMIT $3";
        let rows: Vec<GrantRow> = self
            .reads
            .all(
                query,
                [namespace.into(), after.into(), sql::signed(limit).into()],
            )
            .await?;
        rows.into_iter()
            .map(|row| {
                let verbs = i16::try_from(row.actions).ok().and_then(Verbs::from_bits);
                let verbs =
                    verbs.ok_or_else(|| CatalogError::damaged("grants", "an unknown action"))?;
                Ok(StoredGrant {
                    id: row.id,
                    grantee: row.name,
                    repositories: row.pattern,
                    grant: Grant {
                        verbs,
                        tags: patterns(row.tags.as_deref())?.unwrap_or_else(TagPatterns::all),
                        ends_at: row.expires_at,
                    },
                })
            })
            .collect()
    }

    /// The pattern of a grant.
    pub async fn pattern_of_grant(&self, id: i64) -> Result<Option<String>, CatalogError> {
        let query = "SELECT pattern FROM grants WHERE id = $1";
        let row: Option<PatternRow> = self.reads.one(query, [id.into()]).await?;
        Ok(row.map(|row| row.pattern))
    }

    /// Takes a grant back; `false` if there is none of that number and pattern.
    pub async fn remove_grant(
        &self,
        by: &Authority,
        id: i64,
        pattern: String,
    ) -> Result<Decided<bool>, CatalogError> {
        self.decided(by, async move |write, by| {
            let delete = "DELETE FROM grants WHERE id = $1 AND pattern = $2";
            let values = [id.into(), pattern.as_str().into()];
            let removed = sql::execute(&write.transaction, delete, values).await? > 0;
            if removed {
                count_up(write).await?;
                let deed = Deed::new(action::GRANT_REMOVE, pattern).with(json!({ "grant": id }));
                by.note(write, deed).await?;
            }
            Ok(removed)
        })
        .await
    }

    /// A namespace; `None` if there is none of that name.
    pub async fn namespace(&self, name: &str) -> Result<Option<StoredNamespace>, CatalogError> {
        let row: Option<NamespaceRow> = self.reads.one(NAMESPACE, [name.into()]).await?;
        row.map(NamespaceRow::read).transpose()
    }

    /// Whether there are repositories in a namespace.
    pub async fn has_repositories(&self, namespace: &str) -> Result<bool, CatalogError> {
        let query = "SELECT r.id FROM namespaces n JOIN repositories r ON r.namespace_id = n.id AND r.removed_at IS NULL \
                     WHERE n.name = $1 LIMIT 1";
        let found: Option<Id> = self.reads.one(query, [namespace.into()]).await?;
        Ok(found.is_some())
    }

    /// How a namespace that is not there would be if it were made: whoever bears its name owns it.
    pub async fn namespace_to_be(&self, name: &str) -> Result<StoredNamespace, CatalogError> {
        let row: Option<NamespaceRow> = self.reads.one(NAMESPACE_TO_BE, [name.into()]).await?;
        let row = row.ok_or_else(|| CatalogError::damaged("namespaces", "no row of constants"))?;
        row.read()
    }

    /// Changes a namespace, which is made if it is not there, and says how it is afterwards. What is in one that gets a quota is
    /// counted by [`Self::count_usage`].
    ///
    /// A quota is refused beside a process that would pass over it.
    pub async fn change_namespace(
        &self,
        by: &Authority,
        name: String,
        change: NamespaceChange,
    ) -> Result<Decided<Outcome<StoredNamespace>>, CatalogError> {
        self.decided(by, async move |write, by| {
            if let Some(owner) = change.owner
                && kept(write, owner, "kind IN (1, 3)").await?.is_none()
            {
                return Ok(Err(Refusal::NoSuch(name_of(write, owner).await?)));
            }
            let namespace = make_namespace(write, &name, None).await?;
            guard::namespace_alone(write, namespace).await?;
            if let Some(owner) = change.owner {
                let set = "UPDATE namespaces SET owner_id = $1 WHERE id = $2";
                let values = [owner.0.into(), namespace.into()];
                sql::execute(&write.transaction, set, values).await?;
                drop_foreign_grants(write, namespace, owner.0).await?;
            }
            let row: Option<NamespaceRow> =
                sql::one(&write.transaction, NAMESPACE, [name.as_str().into()]).await?;
            let row = row.ok_or_else(|| CatalogError::damaged("namespaces", "a row just written is missing"))?;
            let mut now = row.read()?;
            let had_quota = now.has_quota();
            now.default_visibility = change.default_visibility.unwrap_or(now.default_visibility);
            now.create_by = change.create_by.unwrap_or(now.create_by);
            now.immutable_tags = change.immutable_tags.unwrap_or(now.immutable_tags);
            now.default_license = match change.default_license {
                None => now.default_license,
                Some(license) => Some(license).filter(|license| !license.is_empty()),
            };
            now.quota_bytes = limit(change.quota_bytes, now.quota_bytes);
            now.quota_artifacts = limit(change.quota_artifacts, now.quota_artifacts);
            let sets_quota = change.quota_bytes.is_some() || change.quota_artifacts.is_some();
            if sets_quota && now.has_quota() {
                refuse_beside_older(write, KNOWS_REMOVAL).await?;
            }
            let keep = "INSERT INTO namespace_settings (namespace_id, create_by, default_visibility, immutable_tags, updated_at, \
                        default_license, quota_bytes, quota_artifacts) \
                        VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (namespace_id) DO UPDATE SET create_by = excluded.create_by, \
                        default_visibility = excluded.default_visibility, immutable_tags = excluded.immutable_tags, \
                        updated_at = excluded.updated_at, default_license = excluded.default_license, \
                        quota_bytes = excluded.quota_bytes, quota_artifacts = excluded.quota_artifacts";
            let create_by: i16 = match now.create_by {
                CreateBy::Writers => 0,
                CreateBy::Administrators => 1,
            };
            let visibility: i16 = match now.default_visibility {
                Visibility::Private => 1,
                Visibility::Public => 2,
            };
            let values = [
                namespace.into(),
                create_by.into(),
                visibility.into(),
                text(&now.immutable_tags)?.into(),
                write.now.into(),
                now.default_license.clone().into(),
                now.quota_bytes.map(signed).into(),
                now.quota_artifacts.map(signed).into(),
            ];
            sql::execute(&write.transaction, keep, values).await?;
            if now.has_quota() && !had_quota {
                quota::begin(write, namespace).await?;
            }
            count_up(write).await?;
            let detail = json!({
                "owner": now.owner,
                "default_visibility": now.default_visibility,
                "create_by": now.create_by,
                "immutable_tags": now.immutable_tags,
                "default_license": now.default_license,
                "quota_bytes": now.quota_bytes,
                "quota_artifacts": now.quota_artifacts,
            });
            let deed = Deed::new(action::NAMESPACE_CHANGE, name).with(detail);
            by.note(write, deed).await?;
            Ok(Ok(now))
        })
        .await
    }
}

fn text(patterns: &TagPatterns) -> Result<String, CatalogError> {
    serde_json::to_string(patterns).map_err(|error| CatalogError::damaged("grants", error))
}

#[derive(FromQueryResult)]
struct Kept {
    owner_id: Option<i64>,
}

/// A principal that something is given to: nobody removes it until the transaction ends.
async fn kept(
    write: &Write,
    principal: PrincipalId,
    kinds: &str,
) -> Result<Option<Kept>, CatalogError> {
    let keep = format!(
        "SELECT owner_id FROM principals WHERE id = $1 AND state <> 2 AND {kinds}{}",
        write.dialect.keep("principals")
    );
    sql::one(&write.transaction, &keep, [principal.0.into()]).await
}

/// Whose a namespace is, or would be if it were made; it gets no other owner until the transaction ends.
async fn owner_of(write: &Write, namespace: &str) -> Result<Option<i64>, CatalogError> {
    let lock = format!(
        "SELECT owner_id FROM namespaces WHERE name = $1{}",
        write.dialect.lock("namespaces")
    );
    let found: Option<Kept> = sql::one(&write.transaction, &lock, [namespace.into()]).await?;
    if let Some(found) = found {
        return Ok(found.owner_id);
    }
    let bears = "SELECT id FROM principals WHERE handle = $1 AND kind IN (1, 3)";
    let bears: Option<Id> = sql::one(&write.transaction, bears, [namespace.into()]).await?;
    Ok(bears.map(|bears| bears.id))
}

/// The row of a namespace, made if needed. It belongs to the user or organisation of its name, or else to `owner`.
pub(crate) async fn make_namespace(
    write: &Write,
    name: &str,
    owner: Option<i64>,
) -> Result<i64, CatalogError> {
    let make = "INSERT INTO namespaces (name, created_at, owner_id) \
                VALUES ($1, $2, COALESCE((SELECT id FROM principals WHERE handle = $1 AND kind IN (1, 3)), $3)) \
                ON CONFLICT (name) DO NOTHING";
    let values = [name.into(), write.now.into(), owner.into()];
    sql::execute(&write.transaction, make, values).await?;
    let find = "SELECT id FROM namespaces WHERE name = $1";
    let row: Option<Id> = sql::one(&write.transaction, find, [name.into()]).await?;
    row.map(|row| row.id)
        .ok_or_else(|| CatalogError::damaged("namespaces", "a row just written is missing"))
}
