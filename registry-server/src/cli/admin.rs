//! `granary admin`: accounts, rights and the database's schema.

use clap::{Args, Subcommand};

use super::{
    AuditCommand, ConfigArgs, OutputArgs, ProviderCommand,
    groups::{MemberCommand, OrgCommand, RobotCommand, TeamCommand},
    publishers::{IssuerCommand, KeysCommand, PublisherCommand},
};
use crate::config::parse_size;

/// `granary admin`
#[derive(Debug, Subcommand)]
pub enum AdminCommand {
    /// Make the first account, an administrator. From then on whoever comes has to log in.
    Bootstrap(BootstrapArgs),
    /// Users.
    #[command(subcommand)]
    User(UserCommand),
    /// API tokens, for CI and other machines.
    #[command(subcommand)]
    Token(TokenCommand),
    /// Rights of users, teams and robots in repositories that are not their own.
    #[command(subcommand)]
    Grant(GrantCommand),
    /// Organisations.
    #[command(subcommand)]
    Org(OrgCommand),
    /// Teams of organisations.
    #[command(subcommand)]
    Team(TeamCommand),
    /// Who belongs to organisations and teams, and as what.
    #[command(subcommand)]
    Member(MemberCommand),
    /// Robots of organisations.
    #[command(subcommand)]
    Robot(RobotCommand),
    /// Issuers of identity tokens, such as those of CI systems and clusters.
    #[command(subcommand)]
    Issuer(IssuerCommand),
    /// Which identity tokens are which robot, so that jobs publish without a secret.
    #[command(subcommand)]
    Publisher(PublisherCommand),
    /// The keys that sign tokens of the token service.
    #[command(subcommand)]
    Keys(KeysCommand),
    /// Say how a namespace is, and change what is named.
    Namespace(NamespaceChangeArgs),
    /// Say who sees a repository: those who were given something in it, or everybody.
    Visibility(VisibilityArgs),
    /// What groups of identity providers mean.
    #[command(subcommand)]
    Provider(ProviderCommand),
    /// Repositories as a whole.
    #[command(subcommand)]
    Repository(RepositoryCommand),
    /// The audit log: what happened, and the proof that nobody changed what is said of it.
    #[command(subcommand)]
    Audit(AuditCommand),
    /// The database's schema.
    #[command(subcommand)]
    Schema(SchemaCommand),
}

/// Where a password comes from. Without this it is asked for.
#[derive(Debug, Args)]
pub struct PasswordArgs {
    /// Read the password from the first line of standard input.
    #[arg(long)]
    pub password_stdin: bool,
}

/// `granary admin bootstrap`
#[derive(Debug, Args)]
pub struct BootstrapArgs {
    /// The administrator's name.
    #[arg(long = "username", alias = "user", value_name = "NAME")]
    pub user: String,
    /// Where the password comes from.
    #[command(flatten)]
    pub password: PasswordArgs,
    /// Where the configuration comes from.
    #[command(flatten)]
    pub config: ConfigArgs,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// `granary admin user`
#[derive(Debug, Subcommand)]
pub enum UserCommand {
    /// Make a user, who may do everything in repositories whose names begin with his.
    Add(UserAddArgs),
    /// Give a user another password. Whatever was logged in by the former one has to log in again.
    Password(UserPasswordArgs),
    /// List the users.
    List(OutputArgs),
    /// Keep a user from logging in. Its tokens count no longer either, until it is enabled.
    Disable(UserArgs),
    /// Let a user log in again.
    Enable(UserArgs),
    /// Remove a user for good, with its tokens and grants. Its repositories stay; whoever gets its name gets nothing of it.
    Remove(UserArgs),
}

/// A command about a user.
#[derive(Debug, Args)]
pub struct UserArgs {
    /// The user's name.
    #[arg(value_name = "NAME")]
    pub user: String,
    /// Where the configuration comes from.
    #[command(flatten)]
    pub config: ConfigArgs,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// `granary admin user add`
#[derive(Debug, Args)]
pub struct UserAddArgs {
    /// The user's name.
    #[arg(value_name = "NAME")]
    pub user: String,
    /// The user administers the installation.
    #[arg(long)]
    pub admin: bool,
    /// Where the password comes from.
    #[command(flatten)]
    pub password: PasswordArgs,
    /// Where the configuration comes from.
    #[command(flatten)]
    pub config: ConfigArgs,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// `granary admin user password`
#[derive(Debug, Args)]
pub struct UserPasswordArgs {
    /// The user's name.
    #[arg(value_name = "NAME")]
    pub user: String,
    /// Where the password comes from.
    #[command(flatten)]
    pub password: PasswordArgs,
    /// Where the configuration comes from.
    #[command(flatten)]
    pub config: ConfigArgs,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// `granary admin token`
#[derive(Debug, Subcommand)]
pub enum TokenCommand {
    /// Make a token and print it, this once.
    Create(TokenCreateArgs),
    /// List the tokens of a user, without what is secret of them.
    List(UserArgs),
    /// Give a token a successor of the same name, scopes and end, and print it, this once. The token itself ends a while later.
    Rotate(TokenRotateArgs),
    /// End a token, and what was logged in by it.
    Revoke(TokenRevokeArgs),
}

/// `granary admin token rotate`
#[derive(Debug, Args)]
pub struct TokenRotateArgs {
    /// Its number, as the list says.
    #[arg(value_name = "ID")]
    pub id: i64,
    /// How long it is good beside its successor, 30 days at most.
    #[arg(long, value_name = "DURATION", default_value = "1d", value_parser = crate::cli::duration)]
    pub overlap: std::time::Duration,
    /// How to answer.
    #[command(flatten)]
    pub output: OutputArgs,
}

/// `granary admin grant`
#[derive(Debug, Subcommand)]
pub enum GrantCommand {
    /// Grant a user, team or robot something in repositories of one namespace.
    Add(GrantAddArgs),
    /// List the grants in a namespace.
    List(NamespaceArgs),
    /// Take a grant back.
    Remove(TokenRevokeArgs),
}

/// `granary admin grant add`
#[derive(Debug, Args)]
pub struct GrantAddArgs {
    /// To whom: a user, ORGANISATION/TEAM or OWNER+ROBOT.
    #[arg(value_name = "NAME")]
    pub user: String,
    /// What: VERBS of read, write, update, delete, admin; REPOSITORIES is a name, or a prefix with /**; TAGS are patterns with *.
    #[arg(value_name = "VERBS:REPOSITORIES[:TAGS]")]
    pub grant: granary_access::Scope,
    /// For how long, such as 30d; without an end if it is not said.
    #[arg(long, value_name = "DURATION", value_parser = crate::cli::duration)]
    pub expires: Option<std::time::Duration>,
    /// Where the configuration comes from.
    #[command(flatten)]
    pub config: ConfigArgs,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// A command about a namespace.
#[derive(Debug, Args)]
pub struct NamespaceArgs {
    /// The namespace: what stands before the first slash of a repository's name, or 'library'.
    #[arg(value_name = "NAMESPACE")]
    pub namespace: String,
    /// Where the configuration comes from.
    #[command(flatten)]
    pub config: ConfigArgs,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// `granary admin namespace`
#[derive(Debug, Args)]
pub struct NamespaceChangeArgs {
    /// Which, and where the configuration comes from.
    #[command(flatten)]
    pub about: NamespaceArgs,
    /// Give it to this user, who may do everything in it, or to this organisation.
    #[arg(long, value_name = "NAME")]
    pub owner: Option<String>,
    /// Who sees repositories that are made from now on.
    #[arg(long, value_enum)]
    pub visibility: Option<VisibilityArg>,
    /// Who makes repositories.
    #[arg(long, value_enum)]
    pub create_by: Option<CreateByArg>,
    /// Tags that nobody moves: patterns with * and commas between, such as v*; an empty text for none.
    #[arg(long, value_name = "PATTERNS")]
    pub immutable_tags: Option<String>,
    /// The licence of repositories that say nothing else, such as Apache-2.0; an empty text for none.
    #[arg(long, value_name = "SPDX")]
    pub default_license: Option<String>,
    /// Most bytes of distinct blobs in it, such as 10GiB; none for no limit.
    #[arg(long, value_name = "SIZE", value_parser = limit_of_bytes)]
    pub quota_bytes: Option<u64>,
    /// Most manifests in it; none for no limit.
    #[arg(long, value_name = "NUMBER", value_parser = limit_of_manifests)]
    pub quota_artifacts: Option<u64>,
}

pub(super) fn limit_of_bytes(text: &str) -> Result<u64, String> {
    match text {
        "none" => Ok(0),
        size => parse_size(size).map_err(|error| error.to_string()),
    }
}

pub(super) fn limit_of_manifests(text: &str) -> Result<u64, std::num::ParseIntError> {
    match text {
        "none" => Ok(0),
        number => number.parse(),
    }
}

/// Who makes repositories.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum CreateByArg {
    /// Whoever may write to one of that name.
    Writers,
    /// Whoever administers the namespace.
    Administrators,
}

impl From<CreateByArg> for granary_access::CreateBy {
    fn from(create_by: CreateByArg) -> Self {
        match create_by {
            CreateByArg::Writers => Self::Writers,
            CreateByArg::Administrators => Self::Administrators,
        }
    }
}

/// `granary admin token create`
#[derive(Debug, Args)]
pub struct TokenCreateArgs {
    /// Whose: it may do no more than this user or robot may.
    #[arg(value_name = "USER")]
    pub user: String,
    /// What it is for.
    #[arg(long, value_name = "NAME", default_value = "token")]
    pub name: String,
    /// What it may do, of what the user may; everything if nothing is said. VERBS are of read, write, update, delete, admin,
    /// account; REPOSITORIES is a name, a prefix with /**, or **; TAGS are patterns with *.
    #[arg(long = "scope", value_name = "VERBS:REPOSITORIES[:TAGS]")]
    pub scopes: Vec<granary_access::Scope>,
    /// From where it may be used, an address or CIDR block; may be repeated. From everywhere if nothing is said.
    #[arg(long = "from", value_name = "BLOCK")]
    pub from: Vec<granary_access::AddressBlock>,
    /// How long it is good, such as 30d; without an end if it is not said.
    #[arg(long, value_name = "DURATION", value_parser = crate::cli::duration)]
    pub expires: Option<std::time::Duration>,
    /// Where the configuration comes from.
    #[command(flatten)]
    pub config: ConfigArgs,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// `granary admin token revoke`
#[derive(Debug, Args)]
pub struct TokenRevokeArgs {
    /// Its number, as the list says.
    #[arg(value_name = "ID")]
    pub id: i64,
    /// Where the configuration comes from.
    #[command(flatten)]
    pub config: ConfigArgs,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// `granary admin visibility`
#[derive(Debug, Args)]
pub struct VisibilityArgs {
    /// The repository.
    #[arg(value_name = "REPOSITORY")]
    pub repository: granary_oci::RepositoryName,
    /// Who sees it.
    #[arg(value_enum)]
    pub visibility: VisibilityArg,
    /// Where the configuration comes from.
    #[command(flatten)]
    pub config: ConfigArgs,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// Who sees a repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum VisibilityArg {
    /// Those who were given something in it.
    Private,
    /// Every user, and those without credentials as far as auth.anonymous says.
    Public,
}

impl From<VisibilityArg> for granary_access::Visibility {
    fn from(visibility: VisibilityArg) -> Self {
        match visibility {
            VisibilityArg::Private => Self::Private,
            VisibilityArg::Public => Self::Public,
        }
    }
}

/// `granary admin repository`
#[derive(Debug, Subcommand)]
pub enum RepositoryCommand {
    /// Remove a repository with its tags, manifests, blobs, history and upload sessions, at once and for good.
    Remove(RepositoryArgs),
}

/// A command about a repository.
#[derive(Debug, Args)]
pub struct RepositoryArgs {
    /// The repository.
    #[arg(value_name = "NAME")]
    pub repository: granary_oci::RepositoryName,
    /// Where the configuration comes from.
    #[command(flatten)]
    pub config: ConfigArgs,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// `granary admin schema`
#[derive(Debug, Subcommand)]
pub enum SchemaCommand {
    /// Say where the schema stands and which replicas are alive. Changes nothing.
    Status(OutputArgs),
    /// Apply what is pending, as `serve` does when it starts.
    Up(OutputArgs),
}
