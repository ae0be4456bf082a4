//! `granary admin org`, `team`, `member`, `robot`: who belongs together.

use clap::{Args, Subcommand};
use granary_access::{AddressBlock, AddressBlocks};

use super::OutputArgs;
use crate::{groups::blocks, moving::UsageError};

/// `granary admin org`
#[derive(Debug, Subcommand)]
pub enum OrgCommand {
    /// Make an organisation with its first owner, and its namespace.
    Create(OrgCreateArgs),
    /// List the organisations.
    List(OrgListArgs),
    /// Say how an organisation is.
    Show(OrgArgs),
    /// Remove an organisation that has no repositories, with its teams and robots. Whoever gets its name gets nothing of it.
    Remove(OrgArgs),
    /// Say from where an organisation's repositories may be used, or a user or robot. Elsewhere the organisation looks as if it
    /// were not there.
    Address(AddressArgs),
}

/// `granary admin org create`
#[derive(Debug, Args)]
pub struct OrgCreateArgs {
    /// The organisation's name.
    #[arg(value_name = "NAME")]
    pub organisation: String,
    /// Its first owner, a user.
    #[arg(long, value_name = "USER")]
    pub owner: String,
    /// How to answer.
    #[command(flatten)]
    pub output: OutputArgs,
}

/// `granary admin org list`
#[derive(Debug, Args)]
pub struct OrgListArgs {
    /// Those behind this one.
    #[arg(long, value_name = "NAME", default_value = "")]
    pub after: String,
    /// How to answer.
    #[command(flatten)]
    pub output: OutputArgs,
}

/// A command about an organisation.
#[derive(Debug, Args)]
pub struct OrgArgs {
    /// The organisation's name.
    #[arg(value_name = "NAME")]
    pub organisation: String,
    /// How to answer.
    #[command(flatten)]
    pub output: OutputArgs,
}

/// `granary admin org address`
#[derive(Debug, Args)]
pub struct AddressArgs {
    /// An organisation, a user, or a robot.
    #[arg(value_name = "NAME")]
    pub name: String,
    /// From where.
    #[command(flatten)]
    pub addresses: AddressesArgs,
    /// How to answer.
    #[command(flatten)]
    pub output: OutputArgs,
}

/// From where something may be used.
#[derive(Debug, Args)]
pub struct AddressesArgs {
    /// An address or CIDR block, such as 10.0.0.0/8; may be repeated.
    #[arg(
        long = "from",
        value_name = "BLOCK",
        required_unless_present = "everywhere"
    )]
    pub from: Vec<AddressBlock>,
    /// From everywhere, as it is without a list.
    #[arg(long, conflicts_with = "from")]
    pub everywhere: bool,
}

impl AddressesArgs {
    /// The list; nothing for everywhere.
    pub fn list(&self) -> Result<Option<AddressBlocks>, UsageError> {
        match self.everywhere {
            true => Ok(None),
            false => blocks(&self.from).map(Some),
        }
    }
}

/// `granary admin team`
#[derive(Debug, Subcommand)]
pub enum TeamCommand {
    /// Make a team. What it may do it is granted: 'granary admin grant add ORGANISATION/TEAM ...'.
    Create(TeamArgs),
    /// List the teams of an organisation.
    List(PartsArgs),
    /// Remove a team, and what it was granted.
    Remove(TeamArgs),
}

/// A command about a team.
#[derive(Debug, Args)]
pub struct TeamArgs {
    /// The team.
    #[arg(value_name = "ORGANISATION/TEAM")]
    pub team: granary_access::TeamHandle,
    /// How to answer.
    #[command(flatten)]
    pub output: OutputArgs,
}

/// A list of what an organisation has.
#[derive(Debug, Args)]
pub struct PartsArgs {
    /// The organisation's name.
    #[arg(value_name = "ORGANISATION")]
    pub organisation: String,
    /// Those behind this one, by its whole name.
    #[arg(long, value_name = "NAME", default_value = "")]
    pub after: String,
    /// How to answer.
    #[command(flatten)]
    pub output: OutputArgs,
}

/// `granary admin member`
#[derive(Debug, Subcommand)]
pub enum MemberCommand {
    /// Make somebody a member of an organisation or a team, or something else there.
    Set(MemberSetArgs),
    /// End that somebody belongs to an organisation, its teams, and what he was granted there; or to a team.
    Remove(MemberArgs),
    /// List the members of an organisation or a team.
    List(MemberListArgs),
}

/// `granary admin member set`
#[derive(Debug, Args)]
pub struct MemberSetArgs {
    /// Who and where.
    #[command(flatten)]
    pub about: MemberArgs,
    /// What he is there.
    #[arg(value_enum)]
    pub role: RoleArg,
}

/// A command about a member.
#[derive(Debug, Args)]
pub struct MemberArgs {
    /// The organisation or team.
    #[arg(value_name = "ORGANISATION[/TEAM]")]
    pub group: String,
    /// A user, or a robot of the organisation.
    #[arg(value_name = "MEMBER")]
    pub member: String,
    /// How to answer.
    #[command(flatten)]
    pub output: OutputArgs,
}

/// `granary admin member list`
#[derive(Debug, Args)]
pub struct MemberListArgs {
    /// The organisation or team.
    #[arg(value_name = "ORGANISATION[/TEAM]")]
    pub group: String,
    /// Those behind this one.
    #[arg(long, value_name = "NAME", default_value = "")]
    pub after: String,
    /// How to answer.
    #[command(flatten)]
    pub output: OutputArgs,
}

/// What somebody is in an organisation or a team.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum RoleArg {
    /// One of its people; what he may do he is granted, or his teams are.
    Member,
    /// Reads everything of the organisation.
    Read,
    /// Reads and pushes everything of the organisation.
    Write,
    /// Does everything in the organisation's repositories, and looks after its members.
    Admin,
    /// The same, and makes owners.
    Owner,
    /// Looks after the members of the team.
    Maintainer,
}

/// `granary admin robot`
#[derive(Debug, Subcommand)]
pub enum RobotCommand {
    /// Make a robot. Its tokens are made with 'granary admin token create OWNER+ROBOT'.
    Create(RobotArgs),
    /// List the robots of an organisation or user.
    List(PartsArgs),
    /// Remove a robot for good, with its tokens and rights.
    Remove(RobotArgs),
}

/// A command about a robot.
#[derive(Debug, Args)]
pub struct RobotArgs {
    /// The robot.
    #[arg(value_name = "OWNER+ROBOT")]
    pub robot: granary_access::RobotHandle,
    /// How to answer.
    #[command(flatten)]
    pub output: OutputArgs,
}
