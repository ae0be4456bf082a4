//! What the operator does about rights in a namespace: grants and settings.

use std::time::Duration;

use granary_access::{CreateBy, Grant, RepositoryPattern, TagPatterns, Verb, Verbs, Visibility};
use granary_catalog::{NamespaceChange, StoredGrant, StoredNamespace, dialect};
use granary_oci::RepositoryName;
use serde::{Deserialize, Serialize};

use super::{AccountsError, AccountsReport};
use crate::Registry;

/// Something to do about rights in a namespace.
#[derive(Clone, Debug, Serialize, Deserialize)]
// Another word than that of the command it is in, because both are fields of one object.
#[serde(tag = "about", rename_all = "kebab-case")]
pub enum TenancyCommand {
    /// Grant something to a user.
    Grant {
        /// To whom.
        user: String,
        /// What.
        verbs: Verbs,
        /// Where: repositories of one namespace.
        repositories: RepositoryPattern,
        /// On which tags.
        tags: TagPatterns,
        /// For how long, in seconds; without an end if it is not said.
        lifetime: Option<u64>,
    },
    /// List the grants in a namespace.
    Grants {
        /// Its name.
        namespace: String,
    },
    /// Take a grant back.
    RemoveGrant {
        /// Its number.
        id: i64,
    },
    /// Change a namespace, or just say how it is.
    Namespace {
        /// Its name.
        namespace: String,
        /// Another owner.
        owner: Option<String>,
        /// Who sees repositories that are made from now on.
        default_visibility: Option<Visibility>,
        /// Who makes repositories.
        create_by: Option<CreateBy>,
        /// Tags that nobody moves.
        immutable_tags: Option<TagPatterns>,
        /// What it may hold, and under which licence.
        #[serde(flatten)]
        limits: NamespaceLimits,
    },
}

/// What a namespace may hold, and under which licence its repositories are.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct NamespaceLimits {
    /// The licence of repositories that say nothing else, as an SPDX expression; an empty text for none.
    pub default_license: Option<String>,
    /// Most bytes of distinct blobs; 0 for no limit.
    pub quota_bytes: Option<u64>,
    /// Most manifests; 0 for no limit.
    pub quota_artifacts: Option<u64>,
}

/// A grant, for people and programs.
#[derive(Clone, Debug, Serialize)]
pub struct GrantReport {
    /// Its number.
    pub id: i64,
    /// To whom.
    pub user: String,
    /// What.
    pub verbs: Verbs,
    /// Where.
    pub repositories: String,
    /// On which tags; all if nothing is said.
    pub tags: TagPatterns,
    /// Until when, in microseconds since 1970.
    pub ends_at: Option<i64>,
}

impl From<StoredGrant> for GrantReport {
    fn from(grant: StoredGrant) -> Self {
        Self {
            id: grant.id,
            user: grant.grantee,
            verbs: grant.grant.verbs,
            repositories: grant.repositories,
            tags: grant.grant.tags,
            ends_at: grant.grant.ends_at,
        }
    }
}

/// A namespace, for people and programs.
#[derive(Clone, Debug, Serialize)]
pub struct NamespaceReport {
    /// Its name.
    pub namespace: String,
    /// Whose it is.
    pub owner: Option<String>,
    /// Who sees repositories that are made from now on.
    pub default_visibility: Visibility,
    /// Who makes repositories.
    pub create_by: CreateBy,
    /// Tags that nobody moves.
    pub immutable_tags: TagPatterns,
    /// The licence of repositories that say nothing else.
    pub default_license: Option<String>,
    /// Most bytes of distinct blobs.
    pub quota_bytes: Option<u64>,
    /// Most manifests.
    pub quota_artifacts: Option<u64>,
    /// Bytes that count, where there is a quota.
    pub used_bytes: Option<u64>,
    /// Manifests that count, where there is a quota.
    pub used_artifacts: Option<u64>,
    /// Whether the two are still being counted.
    pub counting: bool,
}

impl NamespaceReport {
    fn new(namespace: String, stored: StoredNamespace) -> Self {
        Self {
            namespace,
            owner: stored.owner,
            default_visibility: stored.default_visibility,
            create_by: stored.create_by,
            immutable_tags: stored.immutable_tags,
            default_license: stored.default_license,
            quota_bytes: stored.quota_bytes,
            quota_artifacts: stored.quota_artifacts,
            used_bytes: stored.usage.map(|usage| usage.bytes),
            used_artifacts: stored.usage.map(|usage| usage.artifacts),
            counting: stored.usage.is_some_and(|usage| !usage.is_counted),
        }
    }
}

impl Registry {
    async fn grant(
        &self,
        user: String,
        (verbs, repositories, tags): (Verbs, RepositoryPattern, TagPatterns),
        lifetime: Option<Duration>,
    ) -> Result<AccountsReport, AccountsError> {
        if verbs.has(Verb::Account) || verbs == Verbs::NONE {
            return Err(AccountsError::NotGrantable);
        }
        let (catalog, grantee) = (&self.parts.catalog, self.known(&user).await?);
        let now = catalog.now().await?;
        let ends_at = lifetime.map(|lifetime| now.saturating_add(dialect::micros(lifetime)));
        let grant = Grant {
            verbs,
            tags: tags.clone(),
            ends_at,
        };
        let id = catalog.grant(grantee, repositories.clone(), grant).await?;
        Ok(AccountsReport::Granted(GrantReport {
            id: id.ok_or(AccountsError::NoNamespace)?,
            user,
            verbs,
            repositories: repositories.to_string(),
            tags,
            ends_at,
        }))
    }

    pub(super) async fn tenancy(
        &self,
        command: TenancyCommand,
    ) -> Result<AccountsReport, AccountsError> {
        self.need_accounts().await?;
        let catalog = &self.parts.catalog;
        match command {
            TenancyCommand::Grant {
                user,
                verbs,
                repositories,
                tags,
                lifetime,
            } => {
                let lifetime = lifetime.map(Duration::from_secs);
                self.grant(user, (verbs, repositories, tags), lifetime)
                    .await
            }
            TenancyCommand::Grants { namespace } => {
                let grants = catalog.grants(&namespace).await?;
                let grants = grants.into_iter().map(GrantReport::from).collect();
                Ok(AccountsReport::Grants { grants })
            }
            TenancyCommand::RemoveGrant { id } => match catalog.remove_grant(id).await? {
                true => Ok(AccountsReport::GrantRemoved { id }),
                false => Err(AccountsError::NoSuchGrant(id)),
            },
            TenancyCommand::Namespace {
                namespace,
                owner,
                default_visibility,
                create_by,
                immutable_tags,
                limits,
            } => {
                let owner = match owner {
                    Some(owner) => Some(self.known(&owner).await?),
                    None => None,
                };
                let change = NamespaceChange {
                    owner,
                    default_visibility,
                    create_by,
                    immutable_tags,
                    default_license: limits.default_license,
                    quota_bytes: limits.quota_bytes,
                    quota_artifacts: limits.quota_artifacts,
                };
                self.change_namespace(namespace, change).await
            }
        }
    }

    /// Changes a namespace if anything is to be changed, and says how it is.
    async fn change_namespace(
        &self,
        namespace: String,
        change: NamespaceChange,
    ) -> Result<AccountsReport, AccountsError> {
        let is_name =
            !namespace.contains('/') && format!("{namespace}/x").parse::<RepositoryName>().is_ok();
        if !is_name {
            return Err(AccountsError::NoSuchNamespace(namespace));
        }
        if change
            .default_license
            .as_deref()
            .is_some_and(|text| !is_license(text))
        {
            return Err(AccountsError::NoLicense);
        }
        let catalog = &self.parts.catalog;
        let limits = change.quota_bytes.is_some() || change.quota_artifacts.is_some();
        let changes = limits
            || change.owner.is_some()
            || change.default_visibility.is_some()
            || change.create_by.is_some()
            || change.immutable_tags.is_some()
            || change.default_license.is_some();
        if changes {
            catalog.change_namespace(namespace.clone(), change).await?;
        }
        if limits {
            // Otherwise the next collection of garbage would do it.
            let registry = self.clone();
            let counting = async move { Ok(registry.parts.catalog.count_usage().await?) };
            self.to_the_end(counting).await?;
        }
        let stored = catalog.namespace(&namespace).await?;
        let stored = stored.ok_or_else(|| AccountsError::NoSuchNamespace(namespace.clone()))?;
        Ok(AccountsReport::Namespace(NamespaceReport::new(
            namespace, stored,
        )))
    }
}

/// Whether the text can be an SPDX expression, or is empty.
fn is_license(text: &str) -> bool {
    let may_stand = |c: char| c.is_ascii_alphanumeric() || "-.+:() ".contains(c);
    text.len() <= LONGEST_LICENSE && text.chars().all(may_stand)
}

/// Longest SPDX expression.
const LONGEST_LICENSE: usize = 200;
