//! `granary admin provider`: what groups of identity providers mean.

use clap::{Args, Subcommand, ValueEnum};

use super::ConfigArgs;

/// `granary admin provider`
#[derive(Debug, Subcommand)]
pub enum ProviderCommand {
    /// Say what a group of a provider means: from their next log-in on its people belong to an organisation or team.
    Map(ProviderMapArgs),
    /// Take that back. Who belongs there by no other mapping does so no longer.
    Unmap(ProviderUnmapArgs),
    /// List what the groups of a provider mean.
    List(ProviderListArgs),
}

/// What a provider's group is here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum MappedRole {
    /// One of its people.
    Member,
    /// Reads everything of an organisation.
    Read,
    /// Reads and pushes everything of it.
    Write,
    /// Looks after it.
    Admin,
    /// Owns it.
    Owner,
    /// Looks after a team.
    Maintainer,
}

impl From<MappedRole> for granary_access::Role {
    fn from(role: MappedRole) -> Self {
        match role {
            MappedRole::Member => Self::Member,
            MappedRole::Read => Self::Read,
            MappedRole::Write => Self::Write,
            MappedRole::Admin | MappedRole::Maintainer => Self::Admin,
            MappedRole::Owner => Self::Owner,
        }
    }
}

/// A group of a provider, and what it stands for.
#[derive(Debug, Args)]
pub struct ProviderGroupArgs {
    /// The provider: its name in the configuration, or its issuer.
    #[arg(value_name = "PROVIDER")]
    pub provider: String,
    /// The group's name at the provider.
    #[arg(value_name = "GROUP")]
    pub group: String,
    /// An organisation, or a team as ORGANISATION/TEAM.
    #[arg(value_name = "ORG-OR-TEAM")]
    pub to: String,
}

/// `granary admin provider map`
#[derive(Debug, Args)]
pub struct ProviderMapArgs {
    /// Which.
    #[command(flatten)]
    pub group: ProviderGroupArgs,
    /// What its people are there: of a team, member or maintainer.
    #[arg(long, value_enum, default_value = "member")]
    pub role: MappedRole,
    /// Where the configuration comes from.
    #[command(flatten)]
    pub config: ConfigArgs,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// `granary admin provider unmap`
#[derive(Debug, Args)]
pub struct ProviderUnmapArgs {
    /// Which.
    #[command(flatten)]
    pub group: ProviderGroupArgs,
    /// Where the configuration comes from.
    #[command(flatten)]
    pub config: ConfigArgs,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// `granary admin provider list`
#[derive(Debug, Args)]
pub struct ProviderListArgs {
    /// The provider: its name in the configuration, or its issuer.
    #[arg(value_name = "PROVIDER")]
    pub provider: String,
    /// Where the configuration comes from.
    #[command(flatten)]
    pub config: ConfigArgs,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}
