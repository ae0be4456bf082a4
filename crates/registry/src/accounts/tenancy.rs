//! Rights in a namespace: grants and settings.

use std::time::Duration;

use granary_access::{
    Caller, CreateBy, Grant, PrincipalId, Reason, RepositoryPattern, TagPatterns, Verb, Verbs,
    Visibility,
};
use granary_catalog::{NamespaceChange, Office, StoredGrant, StoredNamespace, dialect};
use granary_oci::RepositoryName;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{AccountsError, AccountsReport, groups::settled};
use crate::{
    Installation, Leave, NamespaceAdmin, Registry, RegistryError, RepositoryAdmin, leave::done,
};

/// Something to do about rights in a namespace.
#[derive(Clone, Debug, Serialize, Deserialize)]
// Another word than that of the command it is in, because both are fields of one object.
#[serde(tag = "about", rename_all = "kebab-case")]
pub enum TenancyCommand {
    /// Grant something to somebody.
    Grant(GrantRequest),
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
        /// What is to be changed.
        change: NamespaceSettings,
    },
}

/// What is to be granted.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct GrantRequest {
    /// To whom: a user, a team or a robot.
    pub user: String,
    /// What.
    pub verbs: Verbs,
    /// Where: repositories of one namespace.
    pub repositories: RepositoryPattern,
    /// On which tags.
    pub tags: TagPatterns,
    /// For how long; without an end if it is not said.
    pub lifetime: Option<Duration>,
}

/// What is to be changed of a namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct NamespaceSettings {
    /// Another owner. Only who administers the installation gives a namespace away.
    pub owner: Option<String>,
    /// Who sees repositories that are made from now on.
    pub default_visibility: Option<Visibility>,
    /// Who makes repositories.
    pub create_by: Option<CreateBy>,
    /// Tags that nobody moves.
    pub immutable_tags: Option<TagPatterns>,
    /// The licence of repositories that say nothing else, as an SPDX expression; an empty text for none.
    #[schema(max_length = 200)]
    pub default_license: Option<String>,
    /// Most bytes of distinct blobs; 0 for no limit. Only who administers the installation sets it.
    pub quota_bytes: Option<u64>,
    /// Most manifests; 0 for no limit. Only who administers the installation sets it.
    pub quota_artifacts: Option<u64>,
}

impl NamespaceSettings {
    /// Whether nothing is to be changed.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether it is not for those to decide who look after the namespace itself.
    fn is_for_the_installation(&self) -> bool {
        self.owner.is_some() || self.has_quota()
    }

    fn has_quota(&self) -> bool {
        self.quota_bytes.is_some() || self.quota_artifacts.is_some()
    }
}

/// A grant, for people and programs.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct GrantReport {
    /// Its number.
    pub id: i64,
    /// To whom: a user, a team or a robot.
    pub to: String,
    /// What.
    pub verbs: Verbs,
    /// Where.
    pub repositories: String,
    /// On which tags; all if nothing is said.
    pub tags: TagPatterns,
    /// Until when.
    #[serde(serialize_with = "super::time::optional::serialize")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub ends_at: Option<i64>,
}

impl From<StoredGrant> for GrantReport {
    fn from(grant: StoredGrant) -> Self {
        Self {
            id: grant.id,
            to: grant.grantee,
            verbs: grant.grant.verbs,
            repositories: grant.repositories,
            tags: grant.grant.tags,
            ends_at: grant.grant.ends_at,
        }
    }
}

/// A namespace, for people and programs.
#[derive(Clone, Debug, Serialize, ToSchema)]
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

impl Leave<NamespaceAdmin> {
    /// Up to `limit` grants in the namespace behind the one of number `after`, in the order in which they were made.
    pub async fn grants(&self, after: i64, limit: u64) -> Result<Vec<GrantReport>, AccountsError> {
        let grants = self.parts().catalog.grants(self.of(), after, limit).await?;
        Ok(grants.into_iter().map(GrantReport::from).collect())
    }

    /// How the namespace is.
    pub async fn namespace(&self) -> Result<NamespaceReport, AccountsError> {
        let name = self.of().to_owned();
        let stored = self.parts().catalog.namespace(&name).await?;
        let stored = stored.ok_or_else(|| AccountsError::NoSuchNamespace(name.clone()))?;
        Ok(NamespaceReport::new(name, stored))
    }

    /// How the namespace is, or would be if it were there.
    pub async fn namespace_to_be(&self) -> Result<NamespaceReport, AccountsError> {
        match self.namespace().await {
            Err(AccountsError::NoSuchNamespace(name)) => {
                let stored = self.parts().catalog.namespace_to_be(&name).await?;
                Ok(NamespaceReport::new(name, stored))
            }
            found => found,
        }
    }

    /// Changes the namespace, which is made if it is not there.
    pub async fn change_namespace(
        &self,
        change: NamespaceSettings,
    ) -> Result<NamespaceReport, AccountsError> {
        let name = self.of().to_owned();
        let mut authority = self.authority().clone();
        if change.is_for_the_installation() {
            let caller = authority.caller();
            self.registry.ask_leave::<Installation>(&caller, ()).await?;
            authority = authority.and(Office::Installation);
        }
        let license = change.default_license.as_deref();
        if license.is_some_and(|text| !is_license(text)) {
            return Err(AccountsError::NoLicense);
        }
        let owner = match &change.owner {
            Some(owner) => Some(self.registry.landlord(owner).await?),
            None => None,
        };
        let has_quota = change.has_quota();
        let change = NamespaceChange {
            owner,
            default_visibility: change.default_visibility,
            create_by: change.create_by,
            immutable_tags: change.immutable_tags,
            default_license: change.default_license,
            quota_bytes: change.quota_bytes,
            quota_artifacts: change.quota_artifacts,
        };
        let catalog = &self.parts().catalog;
        granary_failpoint::reach_async("namespace::before_change").await;
        let changing = catalog.change_namespace(&authority, name, change);
        settled(changing.await?)?;
        if has_quota {
            // Otherwise the next collection of garbage would do it.
            let registry = self.registry.clone();
            let counting = async move { Ok(registry.parts.catalog.count_usage().await?) };
            self.registry.to_the_end(counting).await?;
        }
        self.namespace().await
    }
}

impl<S> Leave<S> {
    /// Whom something is granted to. An organisation that the caller may not see is not there.
    async fn grantee(&self, name: &str) -> Result<PrincipalId, AccountsError> {
        let found = self.registry.grantee(name).await;
        if let Err(AccountsError::NotToOrganisation(_)) = found {
            let caller = self.authority().caller();
            if !self.registry.sees_within(&caller, name).await? {
                return Err(AccountsError::NoSuch(name.to_owned()));
            }
        }
        found
    }

    async fn give(&self, request: GrantRequest) -> Result<GrantReport, AccountsError> {
        let GrantRequest {
            user,
            verbs,
            repositories,
            tags,
            lifetime,
        } = request;
        if verbs.has(Verb::Account) || verbs == Verbs::NONE {
            return Err(AccountsError::NotGrantable);
        }
        let (catalog, grantee) = (&self.parts().catalog, self.grantee(&user).await?);
        let now = catalog.now().await?;
        let ends_at = lifetime.map(|lifetime| now.saturating_add(dialect::micros(lifetime)));
        let grant = Grant {
            verbs,
            tags: tags.clone(),
            ends_at,
        };
        let granting = catalog.grant(self.authority(), grantee, repositories.clone(), grant);
        Ok(GrantReport {
            id: settled(granting.await?)?,
            to: user,
            verbs,
            repositories: repositories.to_string(),
            tags,
            ends_at,
        })
    }

    async fn take_back(&self, id: i64, pattern: String) -> Result<(), AccountsError> {
        let catalog = &self.parts().catalog;
        match done(catalog.remove_grant(self.authority(), id, pattern).await?)? {
            true => Ok(()),
            false => Err(AccountsError::NoSuchGrant(id)),
        }
    }
}

impl Leave<RepositoryAdmin> {
    /// Says who sees the repository.
    pub async fn set_visibility(&self, visibility: Visibility) -> Result<(), AccountsError> {
        let name: RepositoryName = self
            .of()
            .parse()
            .map_err(|_| RegistryError::Internal("leave for a repository without a name"))?;
        let catalog = &self.parts().catalog;
        let setting = catalog.set_visibility(self.authority(), &name, visibility);
        match done(setting.await?)? {
            true => Ok(()),
            false => Err(AccountsError::NoSuchRepository(name)),
        }
    }
}

impl Registry {
    /// Grants something, by leave for the namespace it is in, or for the one repository that it is about.
    pub async fn grant(
        &self,
        caller: &Caller,
        request: GrantRequest,
    ) -> Result<GrantReport, AccountsError> {
        let namespace = request.repositories.namespace().map(str::to_owned);
        let namespace = namespace.ok_or(AccountsError::NoNamespace)?;
        match request.repositories.to_string().parse::<RepositoryName>() {
            Ok(name) if self.parts.catalog.has_repository(&name).await? => {
                let leave = self.ask_leave::<RepositoryAdmin>(caller, name).await?;
                leave.give(request).await
            }
            _ => {
                let leave = self.ask_leave::<NamespaceAdmin>(caller, namespace).await?;
                leave.give(request).await
            }
        }
    }

    /// Takes a grant back, by the same leave. One that is not there looks like one of others.
    pub async fn remove_grant(&self, caller: &Caller, id: i64) -> Result<(), AccountsError> {
        let pattern = self.parts.catalog.pattern_of_grant(id).await?;
        let pattern = pattern.ok_or(AccountsError::NoSuchGrant(id))?;
        let parsed: Result<RepositoryPattern, _> = pattern.parse();
        let namespace = parsed
            .ok()
            .and_then(|pattern| pattern.namespace().map(str::to_owned));
        let namespace = namespace.ok_or(AccountsError::NoSuchGrant(id))?;
        let hidden = |error| match error {
            AccountsError::Denied(Reason::Hidden | Reason::Missing | Reason::NotGranted) => {
                AccountsError::NoSuchGrant(id)
            }
            error => error,
        };
        match pattern.parse::<RepositoryName>() {
            Ok(name) if self.parts.catalog.has_repository(&name).await? => {
                let leave = self.ask_leave::<RepositoryAdmin>(caller, name).await;
                leave.map_err(hidden)?.take_back(id, pattern).await
            }
            _ => {
                let leave = self.ask_leave::<NamespaceAdmin>(caller, namespace).await;
                leave.map_err(hidden)?.take_back(id, pattern).await
            }
        }
    }

    pub(super) async fn tenancy(
        &self,
        command: TenancyCommand,
    ) -> Result<AccountsReport, AccountsError> {
        let operator = Caller::operator();
        match command {
            TenancyCommand::Grant(request) => {
                let granted = self.grant(&operator, request).await?;
                Ok(AccountsReport::Granted(granted))
            }
            TenancyCommand::Grants { namespace } => {
                let leave = self.operators_leave::<NamespaceAdmin>(namespace.clone());
                let grants = leave.grants(0, u64::MAX).await?;
                if grants.is_empty() && !self.is_in_use(&namespace).await? {
                    self.need_owner(&namespace).await?;
                }
                Ok(AccountsReport::Grants { grants })
            }
            TenancyCommand::RemoveGrant { id } => {
                self.remove_grant(&operator, id).await?;
                Ok(AccountsReport::GrantRemoved { id })
            }
            TenancyCommand::Namespace { namespace, change } => {
                if !is_namespace(&namespace) {
                    return Err(AccountsError::NoSuchNamespace(namespace));
                }
                let leave = self.operators_leave::<NamespaceAdmin>(namespace.clone());
                let report = match change.is_empty() {
                    true => leave.namespace().await?,
                    false => leave.change_namespace(change).await?,
                };
                let awaited = !self.is_in_use(&namespace).await?;
                Ok(AccountsReport::Namespace { report, awaited })
            }
        }
    }

    /// Whether somebody has the namespace, or a repository is in it.
    async fn is_in_use(&self, namespace: &str) -> Result<bool, AccountsError> {
        let catalog = &self.parts.catalog;
        let stored = catalog.namespace(namespace).await?;
        let is_owned = stored.is_some_and(|stored| stored.owner.is_some());
        Ok(is_owned || catalog.has_repositories(namespace).await?)
    }
}

/// Whether a text can be the name of a namespace.
pub fn is_namespace(text: &str) -> bool {
    !text.contains('/') && format!("{text}/x").parse::<RepositoryName>().is_ok()
}

/// Whether the text can be an SPDX expression, or is empty.
fn is_license(text: &str) -> bool {
    let may_stand = |c: char| c.is_ascii_alphanumeric() || "-.+:() ".contains(c);
    text.len() <= LONGEST_LICENSE && text.chars().all(may_stand)
}

/// Longest SPDX expression.
const LONGEST_LICENSE: usize = 200;
