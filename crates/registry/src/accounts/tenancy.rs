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
    },
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
}

impl NamespaceReport {
    fn new(namespace: String, stored: StoredNamespace) -> Self {
        Self {
            namespace,
            owner: stored.owner,
            default_visibility: stored.default_visibility,
            create_by: stored.create_by,
            immutable_tags: stored.immutable_tags,
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
            } => {
                let is_name = !namespace.contains('/')
                    && format!("{namespace}/x").parse::<RepositoryName>().is_ok();
                if !is_name {
                    return Err(AccountsError::NoSuchNamespace(namespace));
                }
                let owner = match owner {
                    Some(owner) => Some(self.known(&owner).await?),
                    None => None,
                };
                let changes = owner.is_some()
                    || default_visibility.is_some()
                    || create_by.is_some()
                    || immutable_tags.is_some();
                let stored = match changes {
                    false => catalog.namespace(&namespace).await?,
                    true => {
                        let change = NamespaceChange {
                            owner,
                            default_visibility,
                            create_by,
                            immutable_tags,
                        };
                        let changing = catalog.change_namespace(namespace.clone(), change);
                        Some(changing.await?)
                    }
                };
                let stored =
                    stored.ok_or_else(|| AccountsError::NoSuchNamespace(namespace.clone()))?;
                Ok(AccountsReport::Namespace(NamespaceReport::new(
                    namespace, stored,
                )))
            }
        }
    }
}
