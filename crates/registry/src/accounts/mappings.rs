//! What groups of identity providers mean here.

use granary_access::Role;
use granary_catalog::Mapped;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{AccountsError, AccountsReport};
use crate::{Installation, Leave, Registry, leave::done};

/// Longest name of a group of a provider, in bytes.
const LONGEST_GROUP: usize = 255;

/// Something to do about groups of identity providers.
#[derive(Clone, Debug, Serialize, Deserialize)]
// Another word than that of the command it is in, because both are fields of one object.
#[serde(tag = "mapping", rename_all = "kebab-case")]
pub enum ProviderCommand {
    /// Say what a group means.
    Map(MappingRequest),
    /// Take that back.
    Unmap {
        /// The provider's name, or its issuer.
        provider: String,
        /// The group's name at the provider.
        group: String,
        /// The organisation or team.
        to: String,
    },
    /// Say what the groups of a provider mean.
    List {
        /// The provider's name, or its issuer.
        provider: String,
    },
}

/// What a group is to mean.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct MappingRequest {
    /// The provider's name, or its issuer.
    pub provider: String,
    /// The group's name at the provider.
    pub group: String,
    /// The organisation or team.
    pub to: String,
    /// What its people are there; of a team, `admin` is a maintainer.
    pub role: Role,
}

/// What a group means, for people and programs.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct MappingReport {
    /// Its number.
    pub id: i64,
    /// The group's name at the provider.
    pub group: String,
    /// The organisation or team.
    pub to: String,
    /// What its people are there; of a team, `admin` is a maintainer.
    pub role: Role,
}

impl Leave<Installation> {
    /// What the groups of a provider mean, in the order in which it was said.
    pub async fn mappings(&self, provider: &str) -> Result<Vec<MappingReport>, AccountsError> {
        let issuer = self.registry.issuer_of(provider)?;
        let mappings = self.parts().catalog.mappings(&issuer).await?;
        let mappings = mappings.into_iter().map(|mapping| MappingReport {
            id: mapping.id,
            group: mapping.claim,
            to: mapping.group,
            role: mapping.role,
        });
        Ok(mappings.collect())
    }

    /// Says what a group of a provider means, from the next log-in of its people on.
    pub async fn map_group(&self, request: MappingRequest) -> Result<MappingReport, AccountsError> {
        let MappingRequest {
            provider,
            group,
            to,
            role,
        } = request;
        let issuer = self.registry.issuer_of(&provider)?;
        if !(1..=LONGEST_GROUP).contains(&group.len()) || group.contains(char::is_control) {
            return Err(AccountsError::Mapping(
                "the name of a provider's group has 1 to 255 bytes, and no control characters",
            ));
        }
        let catalog = &self.parts().catalog;
        let mapping = catalog.map_group(self.authority(), &issuer, &group, (&to, role));
        match done(mapping.await?)? {
            Mapped::As(id) => Ok(MappingReport {
                id,
                group,
                to,
                role,
            }),
            Mapped::NoSuchGroup => Err(AccountsError::NoSuchOrganisationOrTeam(to)),
            Mapped::NotInTeams => Err(AccountsError::Mapping(
                "a team has members and maintainers: say member, or admin for a maintainer",
            )),
            Mapped::TooMany => Err(AccountsError::Mapping(
                "a provider has at most 1000 mappings: take one back first",
            )),
        }
    }

    /// Takes a mapping back, and from everybody what no mapping says any more.
    pub async fn unmap_group(&self, provider: &str, id: i64) -> Result<(), AccountsError> {
        let issuer = self.registry.issuer_of(provider)?;
        let catalog = &self.parts().catalog;
        match done(catalog.unmap_group(self.authority(), &issuer, id).await?)? {
            true => Ok(()),
            false => Err(AccountsError::NoSuchMapping(id.to_string())),
        }
    }
}

impl Registry {
    /// The issuer of a provider, by the name that the configuration gives it. An issuer stands for itself, so that what was
    /// said of a provider that is configured no longer can be taken back.
    fn issuer_of(&self, provider: &str) -> Result<String, AccountsError> {
        let configured = self.parts.rules.accounts.providers.get(provider);
        match configured {
            Some(issuer) => Ok(issuer.clone()),
            None if provider.starts_with("https://") || provider.starts_with("http://") => {
                Ok(provider.to_owned())
            }
            None => Err(AccountsError::NoSuchProvider(provider.to_owned())),
        }
    }

    pub(super) async fn about_provider(
        &self,
        command: ProviderCommand,
    ) -> Result<AccountsReport, AccountsError> {
        let leave = self.operators_leave::<Installation>(());
        match command {
            ProviderCommand::Map(request) => {
                Ok(AccountsReport::Mapped(leave.map_group(request).await?))
            }
            ProviderCommand::Unmap {
                provider,
                group,
                to,
            } => {
                let all = leave.mappings(&provider).await?;
                let found = all.iter().find(|one| one.group == group && one.to == to);
                let missing = || AccountsError::NoSuchMapping(format!("of '{group}' to '{to}'"));
                let id = found.ok_or_else(missing)?.id;
                leave.unmap_group(&provider, id).await?;
                Ok(AccountsReport::Unmapped { id })
            }
            ProviderCommand::List { provider } => Ok(AccountsReport::Mappings {
                mappings: leave.mappings(&provider).await?,
            }),
        }
    }
}
