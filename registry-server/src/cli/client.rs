//! The commands of those who use a server: they ask its `/api/v1`, with an account of their own.

use std::{path::PathBuf, time::Duration};

use clap::{Args, Subcommand};
use granary_access::Scope;
use granary_registry::{LastRow, Month};

use super::{
    AddressesArgs, CreateByArg, VisibilityArg,
    admin::{limit_of_bytes, limit_of_manifests},
    audit::{Since, since},
};
use crate::moving::UsageError;

mod robots;
mod users;

pub use robots::{PublisherCommand, RobotCommand};
pub use users::{OwnPasswordArgs, RepositoryCommand, SetVisibilityArgs, UserCommand};

/// Commands that ask a server. `granary --help` lists them by themselves, see [`help`].
#[derive(Debug, Subcommand)]
pub enum ClientCommand {
    /// Log in: makes a token for this machine and keeps it.
    #[command(hide = true)]
    Login(LoginArgs),
    /// Log out: ends that token and forgets it.
    #[command(hide = true)]
    Logout(LogoutArgs),
    /// Say who is logged in.
    #[command(hide = true)]
    Whoami(ServerArgs),
    /// One's own API tokens, for CI and other machines.
    #[command(hide = true)]
    Token(At<TokenCommand>),
    /// Change one's own password. API tokens stay good, those of 'granary login' too.
    #[command(hide = true)]
    Password(OwnPasswordArgs),
    /// Users, for who administers the installation.
    #[command(hide = true)]
    User(At<UserCommand>),
    /// Organisations.
    #[command(hide = true)]
    Org(At<OrgCommand>),
    /// Teams of organisations.
    #[command(hide = true)]
    Team(At<TeamCommand>),
    /// Who belongs to organisations and teams, and as what.
    #[command(hide = true)]
    Member(At<MemberCommand>),
    /// Robots of organisations and one's own, and their tokens.
    #[command(hide = true)]
    Robot(At<RobotCommand>),
    /// Whose identity tokens are a robot, so that CI publishes without a secret.
    #[command(hide = true)]
    Publisher(At<PublisherCommand>),
    /// Rights of others in one's own repositories.
    #[command(hide = true)]
    Grant(At<GrantCommand>),
    /// Say how a namespace is, and change what is named.
    #[command(hide = true)]
    Namespace(NamespaceArgs),
    /// Say who sees a repository: those who were given something in it, or everybody.
    #[command(hide = true)]
    Visibility(SetVisibilityArgs),
    /// Repositories as a whole.
    #[command(hide = true)]
    Repository(At<RepositoryCommand>),
    /// What happened, and who did it.
    #[command(hide = true)]
    Audit(At<AuditCommand>),
}

/// The client commands, as `granary --help` shows them: in a list of their own, below those of the server.
pub(super) fn help() -> String {
    let commands = ClientCommand::augment_subcommands(clap::Command::new("granary"));
    let lines = commands.get_subcommands().map(|command| {
        let about = command.get_about().map(ToString::to_string);
        format!(
            "\n  {:<10} {}",
            command.get_name(),
            about.unwrap_or_default()
        )
    });
    let heading = "Commands for people, who ask a running server with an account of their own:";
    std::iter::once(heading.to_owned()).chain(lines).collect()
}

/// Commands, and the server that they are for.
#[derive(Debug, Args)]
pub struct At<C: Subcommand> {
    /// What is to be done.
    #[command(subcommand)]
    pub command: C,
    /// Which server, and how to answer.
    #[command(flatten)]
    pub server: ServerArgs,
}

/// Which server is asked, and how the answer is printed.
#[derive(Debug, Args)]
pub struct ServerArgs {
    /// The server, such as registry.example.org [default: GRANARY_SERVER, the one logged in to last, or http://127.0.0.1:5000].
    #[arg(long, global = true, value_name = "URL")]
    pub server: Option<String>,
    /// Certificates (PEM) of authorities that are trusted besides the system's.
    #[arg(long, global = true, value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// Print JSON: what the server said.
    #[arg(long, global = true)]
    pub json: bool,
}

/// `granary login`
#[derive(Debug, Args)]
pub struct LoginArgs {
    /// The server; https unless it is on this machine, or http:// is written [default: as --server says].
    #[arg(value_name = "SERVER", conflicts_with = "server")]
    pub to: Option<String>,
    /// The user's name. Without it, it is asked for.
    #[arg(long, value_name = "NAME")]
    pub username: Option<String>,
    /// Read the password from the first line of standard input. Without this it is asked for.
    #[arg(long, requires = "username")]
    pub password_stdin: bool,
    /// Read an API token from the first line of standard input, and keep it instead of making one.
    #[arg(long, conflicts_with_all = ["username", "password_stdin", "expires"])]
    pub token_stdin: bool,
    /// How long the token of this machine is good.
    #[arg(long, value_name = "DURATION", default_value = "90d", value_parser = crate::cli::duration)]
    pub expires: Duration,
    /// Which server, and how to answer.
    #[command(flatten)]
    pub server: ServerArgs,
}

/// `granary logout`
#[derive(Debug, Args)]
pub struct LogoutArgs {
    /// Only forget the token here, without a word to the server: it stays good until it ends.
    #[arg(long)]
    pub local: bool,
    /// Which server, and how to answer.
    #[command(flatten)]
    pub server: ServerArgs,
}

/// `granary token`
#[derive(Debug, Subcommand)]
pub enum TokenCommand {
    /// Make a token and print it, this once.
    Create(NewTokenArgs),
    /// List one's tokens, without what is secret of them.
    List {
        /// Those of this robot instead.
        #[arg(long, value_name = "OWNER+ROBOT", value_parser = part_of_plus)]
        robot: Option<Part>,
    },
    /// End a token, and what was logged in by it.
    Revoke {
        /// Its number, as the list says.
        #[arg(value_name = "ID")]
        id: i64,
        /// It is one of this robot.
        #[arg(long, value_name = "OWNER+ROBOT", value_parser = part_of_plus)]
        robot: Option<Part>,
    },
    /// Give a token a successor of the same name, scopes and end, and print that, this once. The token itself ends a while later.
    Rotate {
        /// Its number, as the list says.
        #[arg(value_name = "ID")]
        id: i64,
        /// How long it is good beside its successor.
        #[arg(long, value_name = "DURATION", default_value = "1d", value_parser = crate::cli::duration)]
        overlap: Duration,
        /// It is one of this robot.
        #[arg(long, value_name = "OWNER+ROBOT", value_parser = part_of_plus)]
        robot: Option<Part>,
    },
}

/// A token to make.
#[derive(Debug, Args)]
pub struct NewTokenArgs {
    /// What it is for.
    #[arg(value_name = "NAME")]
    pub name: String,
    /// What it may do, of what its owner may; everything if nothing is said. VERBS are of read, write, update, delete, admin,
    /// account; REPOSITORIES is a name, a prefix with /**, or **; TAGS are patterns with *.
    #[arg(long = "scope", value_name = "VERBS:REPOSITORIES[:TAGS]")]
    pub scopes: Vec<Scope>,
    /// How long it is good, such as 30d; without an end if it is not said.
    #[arg(long, value_name = "DURATION", value_parser = crate::cli::duration)]
    pub expires: Option<Duration>,
}

/// `granary org`
#[derive(Debug, Subcommand)]
pub enum OrgCommand {
    /// Make an organisation, and its namespace.
    #[command(alias = "add")]
    Create {
        /// Its name.
        #[arg(value_name = "NAME")]
        organisation: String,
        /// Its first owner, a user [default: who asks].
        #[arg(long, value_name = "USER")]
        owner: Option<String>,
    },
    /// List the organisations that one may see.
    List,
    /// Say how an organisation is.
    Show {
        /// Its name.
        #[arg(value_name = "NAME")]
        organisation: String,
    },
    /// Say from where an organisation's repositories may be used. Elsewhere it looks as if it were not there.
    Address {
        /// Its name.
        #[arg(value_name = "NAME")]
        organisation: String,
        /// From where.
        #[command(flatten)]
        addresses: AddressesArgs,
    },
    /// Remove an organisation that has no repositories, with its teams and robots.
    #[command(alias = "delete")]
    Remove {
        /// Its name.
        #[arg(value_name = "NAME")]
        organisation: String,
    },
}

/// `granary team`
#[derive(Debug, Subcommand)]
pub enum TeamCommand {
    /// Make a team. What it may do it is granted: 'granary grant add ORGANISATION/TEAM ...'.
    #[command(alias = "add")]
    Create {
        /// The team.
        #[arg(value_name = "ORGANISATION/TEAM", value_parser = part_of_slash)]
        team: Part,
    },
    /// List the teams of an organisation.
    List {
        /// The organisation.
        #[arg(value_name = "ORGANISATION")]
        organisation: String,
    },
    /// Remove a team, and what it was granted.
    #[command(alias = "delete")]
    Remove {
        /// The team.
        #[arg(value_name = "ORGANISATION/TEAM", value_parser = part_of_slash)]
        team: Part,
    },
}

/// `granary member`
#[derive(Debug, Subcommand)]
pub enum MemberCommand {
    /// List the members of an organisation or a team.
    List {
        /// The organisation or team.
        #[arg(value_name = "ORGANISATION[/TEAM]")]
        group: String,
    },
    /// Make somebody a member of an organisation or a team, or something else there.
    Set {
        /// The organisation or team.
        #[arg(value_name = "ORGANISATION[/TEAM]")]
        group: String,
        /// A user, or a robot of the organisation.
        #[arg(value_name = "MEMBER")]
        member: String,
        /// What he is there: a team has member and maintainer only, an organisation all but maintainer.
        #[arg(value_enum)]
        role: RoleArg,
    },
    /// End that somebody belongs to an organisation and its teams, or to a team.
    Remove {
        /// The organisation or team.
        #[arg(value_name = "ORGANISATION[/TEAM]")]
        group: String,
        /// A user, or a robot of the organisation.
        #[arg(value_name = "MEMBER")]
        member: String,
    },
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

impl RoleArg {
    /// Whether somebody can be that in `ORGANISATION` or `ORGANISATION/TEAM`.
    pub fn check_of(self, group: &str) -> Result<(), UsageError> {
        let problem = match (self, group.contains('/')) {
            (Self::Maintainer, false) => "only a team has maintainers: write ORGANISATION/TEAM",
            (Self::Read | Self::Write | Self::Admin | Self::Owner, true) => {
                "in a team somebody is member or maintainer"
            }
            _ => return Ok(()),
        };
        Err(UsageError(problem.to_owned()))
    }

    /// Its name in the API.
    pub fn name(self) -> &'static str {
        match self {
            Self::Member => "member",
            Self::Read => "read",
            Self::Write => "write",
            Self::Admin => "admin",
            Self::Owner => "owner",
            Self::Maintainer => "maintainer",
        }
    }
}

/// A team of an organisation, or a robot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Whose it is.
    pub owner: String,
    /// What it is called there.
    pub name: String,
}

fn part(text: &str, sign: char, form: &str) -> Result<Part, String> {
    match text.split_once(sign) {
        Some((owner, name)) if !owner.is_empty() && !name.is_empty() => Ok(Part {
            owner: owner.to_owned(),
            name: name.to_owned(),
        }),
        _ => Err(format!("write it as {form}")),
    }
}

fn part_of_slash(text: &str) -> Result<Part, String> {
    part(text, '/', "ORGANISATION/TEAM")
}

fn part_of_plus(text: &str) -> Result<Part, String> {
    part(text, '+', "OWNER+ROBOT")
}

/// `granary grant`
#[derive(Debug, Subcommand)]
pub enum GrantCommand {
    /// Grant somebody something in repositories of one namespace.
    Add {
        /// To whom: a user, a team ORGANISATION/TEAM or a robot OWNER+ROBOT.
        #[arg(value_name = "WHOM")]
        to: String,
        /// What: VERBS of read, write, update, delete, admin; REPOSITORIES is a name, or a prefix with /**; TAGS are patterns with *.
        #[arg(value_name = "VERBS:REPOSITORIES[:TAGS]")]
        grant: Scope,
        /// For how long, such as 30d; without an end if it is not said.
        #[arg(long, value_name = "DURATION", value_parser = crate::cli::duration)]
        expires: Option<Duration>,
    },
    /// List the grants in a namespace.
    List {
        /// The namespace: what stands before the first slash of a repository's name.
        #[arg(value_name = "NAMESPACE")]
        namespace: String,
    },
    /// Take a grant back.
    Remove {
        /// Its number, as the list says.
        #[arg(value_name = "ID")]
        id: i64,
    },
}

/// `granary namespace`
#[derive(Debug, Args)]
pub struct NamespaceArgs {
    /// The namespace: what stands before the first slash of a repository's name.
    #[arg(value_name = "NAMESPACE")]
    pub namespace: String,
    /// Give it to this user or organisation.
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
    /// Most bytes of distinct blobs in it, such as 10GiB; none for no limit. For who administers the installation.
    #[arg(long, value_name = "SIZE", value_parser = limit_of_bytes)]
    pub quota_bytes: Option<u64>,
    /// Most manifests in it; none for no limit. For who administers the installation.
    #[arg(long, value_name = "NUMBER", value_parser = limit_of_manifests)]
    pub quota_artifacts: Option<u64>,
    /// Which server, and how to answer.
    #[command(flatten)]
    pub server: ServerArgs,
}

/// `granary audit`
#[derive(Debug, Subcommand)]
pub enum AuditCommand {
    /// List what happened, newest first.
    List(AuditListArgs),
    /// Compare the whole audit log with its chain and its signed checkpoints, here. Ends with 1 if anything is wrong.
    Verify(AuditVerifyArgs),
    /// Write the audit log out as lines of JSON.
    Export(AuditExportArgs),
}

/// `granary audit list`
#[derive(Debug, Args)]
pub struct AuditListArgs {
    /// What this user did.
    #[arg(long, value_name = "NAME")]
    pub actor: Option<String>,
    /// What is about this, such as a repository.
    #[arg(long, value_name = "TARGET")]
    pub target: Option<String>,
    /// What is of this kind, such as token.create.
    #[arg(long, value_name = "ACTION")]
    pub action: Option<String>,
    /// What was denied.
    #[arg(long)]
    pub denied: bool,
    /// What happened since: a day such as 2026-11-01 (UTC), a time such as 2026-11-01T00:00:00Z, or how long ago, such as 7d.
    #[arg(long, value_name = "DAY|TIME|DURATION", value_parser = since)]
    pub since: Option<Since>,
    /// Those behind this one, as 'next' of an earlier list says.
    #[arg(long, value_name = "NUMBER")]
    pub after: Option<String>,
    /// Most lines, up to 10000.
    #[arg(long, value_name = "NUMBER", default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    pub limit: u16,
}

/// `granary audit verify`
#[derive(Debug, Args)]
pub struct AuditVerifyArgs {
    /// A row that an earlier verification printed and that you kept elsewhere: finds out whether rows behind the last
    /// checkpoint were removed together with it.
    #[arg(long, value_name = "NUMBER:CHAIN")]
    pub last: Option<LastRow>,
    /// Verify an export instead of the log; no server is asked.
    #[arg(long, value_name = "FILE", requires = "keys")]
    pub file: Option<PathBuf>,
    /// The keys that may have signed, kept from the JSON of an earlier verification [default: those that the server names].
    #[arg(long, value_name = "FILE")]
    pub keys: Option<PathBuf>,
}

/// `granary audit export`
#[derive(Debug, Args)]
pub struct AuditExportArgs {
    /// The file, which must not be there yet; standard output if it is not named.
    #[arg(long, value_name = "FILE")]
    pub to: Option<PathBuf>,
    /// The first month.
    #[arg(long, value_name = "YYYY-MM")]
    pub from: Option<Month>,
    /// The last month.
    #[arg(long, value_name = "YYYY-MM")]
    pub through: Option<Month>,
}

#[cfg(test)]
mod tests;
