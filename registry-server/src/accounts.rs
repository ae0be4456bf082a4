//! `granary admin` commands about accounts: the first administrator, users, tokens, who sees a repository.

use std::{
    io::{self, BufRead as _, IsTerminal as _, Write as _},
    time::Duration,
};

use granary_access::TagPatterns;
use granary_identity::Secret;
use granary_registry::{
    AccountsCommand, GrantRequest, GroupsCommand, Maintenance, NamespaceSettings, TenancyCommand,
    UserChange,
};
use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
use serde_json::Value;

use crate::{
    cli::{
        BootstrapArgs, ConfigArgs, GrantCommand, NamespaceChangeArgs, PasswordArgs,
        RepositoryCommand, TokenCommand, UserArgs, UserCommand, VisibilityArgs,
    },
    config::{Config, human_size},
    groups::blocks,
    maintenance::{moment, print, run},
    moving::UsageError,
};

/// Longest line that is taken for a password; more than any password may have.
const LONGEST: usize = 4096;

/// `granary admin bootstrap`
pub fn bootstrap(args: &BootstrapArgs) -> anyhow::Result<()> {
    let command = AccountsCommand::Bootstrap {
        user: args.user.clone(),
        password: password(&args.password)?,
    };
    let config = args.config.load()?;
    let mut report = run(&config, Maintenance::Accounts(command))?;
    // Whoever named another folder than the server's has made an installation there that nobody serves.
    report["installation"] = place(&config).into();
    let said = format!(
        "{} administers the installation in {} now, and owns the {} namespaces that were there.\n\
         Whoever comes without credentials gets nothing, unless auth.anonymous says otherwise.\n",
        text(&report, "user"),
        text(&report, "installation"),
        report["namespaces"]
    );
    print(&report, args.json, &said)
}

/// The database that others use too, or else the data folder.
fn place(config: &Config) -> String {
    match config.database.url.is_shared() {
        true => format!("the database {}", config.database.url),
        false => {
            let whole = config.data.canonicalize();
            whole
                .unwrap_or_else(|_| config.data.clone())
                .display()
                .to_string()
        }
    }
}

/// `granary admin user`
pub fn user(command: &UserCommand) -> anyhow::Result<()> {
    match command {
        UserCommand::Add(args) => {
            let command = AccountsCommand::AddUser {
                user: args.user.clone(),
                password: password(&args.password)?,
                administrator: args.admin,
            };
            done(&args.config, command, args.json, |report| {
                let user = text(report, "user");
                match report["owns_its_name"] == true {
                    true => format!(
                        "{user} may log in, and push to repositories whose names begin with {user}/\n"
                    ),
                    false => format!(
                        "{user} may log in; repositories whose names begin with {user}/ belong to another user, who was there first\n"
                    ),
                }
            })
        }
        UserCommand::Password(args) => {
            let command = AccountsCommand::SetPassword {
                user: args.user.clone(),
                password: password(&args.password)?,
            };
            done(&args.config, command, args.json, |report| {
                let user = text(report, "user");
                format!(
                    "{user} has another password; what was logged in by the former one has to log in again, but API tokens stay: \
                     'granary admin token list {user}' shows them\n"
                )
            })
        }
        UserCommand::List(args) => {
            done(&args.config, AccountsCommand::Users, args.json, |report| {
                rows(report, "users", |user| {
                    let administrator = if user["administrator"] == true {
                        "  administrator"
                    } else {
                        ""
                    };
                    let disabled = if user["active"] == true {
                        ""
                    } else {
                        "  disabled"
                    };
                    let from = match &user["addresses"] {
                        Value::Null => String::new(),
                        addresses => format!("  from {}", list(addresses)),
                    };
                    format!("{}{administrator}{disabled}{from}", text(user, "user"))
                })
            })
        }
        UserCommand::Disable(args) => change(args, UserChange::Disabled),
        UserCommand::Enable(args) => change(args, UserChange::Enabled),
        UserCommand::Remove(args) => change(args, UserChange::Removed),
    }
}

fn change(args: &UserArgs, change: UserChange) -> anyhow::Result<()> {
    let user = args.user.clone();
    let command = AccountsCommand::ChangeUser { user, change };
    done(&args.config, command, args.json, |report| {
        format!("{} is {}\n", text(report, "user"), text(report, "change"))
    })
}

/// `granary admin token`
pub fn token(command: &TokenCommand) -> anyhow::Result<()> {
    match command {
        TokenCommand::Create(args) => {
            let lifetime = seconds(args.expires)?;
            let command = AccountsCommand::CreateToken {
                user: args.user.clone(),
                name: args.name.clone(),
                scopes: match args.scopes.is_empty() {
                    true => granary_access::Scopes::unlimited(),
                    false => granary_access::Scopes::only(args.scopes.clone()),
                },
                lifetime,
                addresses: match args.from.is_empty() {
                    true => None,
                    false => Some(blocks(&args.from)?),
                },
            };
            done(&args.config, command, args.json, |report| {
                format!("{}\n", text(report, "token"))
            })?;
            Ok(say_once(args.json)?)
        }
        TokenCommand::List(args) => {
            let command = AccountsCommand::Tokens {
                user: args.user.clone(),
            };
            done(&args.config, command, args.json, |report| {
                rows(report, "tokens", |token| {
                    let end = match token["expires_at"].as_str() {
                        Some(end) => format!("until {}", moment(end)),
                        None => "without an end".to_owned(),
                    };
                    let scopes = token["scopes"].as_array().map_or_else(
                        || "all that the user may".to_owned(),
                        |scopes| scopes.iter().map(scope).collect::<Vec<_>>().join("  "),
                    );
                    let used = match token["last_used_at"].as_str() {
                        Some(used) => format!("used {}", moment(used)),
                        None => "not used".to_owned(),
                    };
                    let (id, name, hint) = (&token["id"], text(token, "name"), text(token, "hint"));
                    let successor = match &token["replaced_by"] {
                        Value::Null => String::new(),
                        successor => format!("  succeeded by {successor}"),
                    };
                    format!("{id}  {name}  ...{hint}  {end}  {used}  {scopes}{successor}")
                })
            })
        }
        TokenCommand::Rotate(args) => {
            let command = AccountsCommand::Groups(GroupsCommand::RotateToken {
                id: args.id,
                overlap: args.overlap.as_secs(),
            });
            done(&args.output.config, command, args.output.json, |report| {
                format!("{}\n", text(report, "token"))
            })?;
            Ok(say_once(args.output.json)?)
        }
        TokenCommand::Revoke(args) => {
            let command = AccountsCommand::RevokeToken { id: args.id };
            done(&args.config, command, args.json, |report| {
                format!("token {} has ended\n", report["id"])
            })
        }
    }
}

/// Not on standard output, so that a script gets the token alone.
fn say_once(json: bool) -> io::Result<()> {
    if json {
        return Ok(());
    }
    writeln!(
        io::stderr(),
        "the token is shown this once; it goes where a password goes, with the user's name or 'token'"
    )
}

/// `granary admin grant`
pub fn grant(command: &GrantCommand) -> anyhow::Result<()> {
    match command {
        GrantCommand::Add(args) => {
            let command = AccountsCommand::Tenancy(TenancyCommand::Grant(GrantRequest {
                user: args.user.clone(),
                verbs: args.grant.verbs,
                repositories: args.grant.repositories.clone(),
                tags: args.grant.tags.clone(),
                lifetime: seconds(args.expires)?.map(Duration::from_secs),
            }));
            done(&args.config, command, args.json, |report| {
                format!("{}\n", granted(report))
            })
        }
        GrantCommand::List(args) => {
            let namespace = args.namespace.clone();
            let command = AccountsCommand::Tenancy(TenancyCommand::Grants { namespace });
            done(&args.config, command, args.json, |report| {
                rows(report, "grants", granted)
            })
        }
        GrantCommand::Remove(args) => {
            let command = AccountsCommand::Tenancy(TenancyCommand::RemoveGrant { id: args.id });
            done(&args.config, command, args.json, |report| {
                format!("grant {} is taken back\n", report["id"])
            })
        }
    }
}

/// `granary admin namespace`
pub fn namespace(args: &NamespaceChangeArgs) -> anyhow::Result<()> {
    let about = &args.about;
    let command = AccountsCommand::Tenancy(TenancyCommand::Namespace {
        namespace: about.namespace.clone(),
        change: NamespaceSettings {
            owner: args.owner.clone(),
            default_visibility: args.visibility.map(Into::into),
            create_by: args.create_by.map(Into::into),
            immutable_tags: match args.immutable_tags.as_deref() {
                None => None,
                Some("") => Some(TagPatterns::none()),
                Some(list) => Some(tag_patterns(list)?),
            },
            default_license: args.default_license.clone(),
            quota_bytes: args.quota_bytes,
            quota_artifacts: args.quota_artifacts,
        },
    });
    done(&about.config, command, about.json, |report| {
        let tags = list(&report["immutable_tags"]);
        let awaited = match report["awaited"] == true {
            true => "nobody has it and no repository is in it yet: these settings wait for it\n",
            false => "",
        };
        format!(
            "{}\n  owner           {}\n  new ones are    {}\n  made by         {}\n  nobody moves    {}\n  licence         {}\n  bytes           {}\n  manifests       {}\n{awaited}",
            text(report, "namespace"),
            report["owner"]
                .as_str()
                .unwrap_or("nobody: administrators only"),
            text(report, "default_visibility"),
            text(report, "create_by"),
            if tags.is_empty() { "no tag" } else { &tags },
            report["default_license"].as_str().unwrap_or("not said"),
            used(report, "bytes", human_size),
            used(report, "artifacts", |number| number.to_string()),
        )
    })
}

/// What is used of a quota.
fn used(report: &Value, what: &str, shown: fn(u64) -> String) -> String {
    let Some(limit) = report[format!("quota_{what}")].as_u64() else {
        return "no limit".to_owned();
    };
    let used = report[format!("used_{what}")].as_u64().unwrap_or(0);
    let counting = match report["counting"] == true {
        true => ", and is still being counted",
        false => "",
    };
    format!("{} of {}{counting}", shown(used), shown(limit))
}

pub(crate) fn tag_patterns(list: &str) -> Result<TagPatterns, UsageError> {
    let patterns: Result<Vec<_>, _> = list
        .split(',')
        .map(|pattern| pattern.trim().parse())
        .collect();
    let patterns = patterns.and_then(TagPatterns::of);
    patterns.map_err(|error: granary_access::PatternError| UsageError(error.to_string()))
}

/// How long something is good, in whole seconds.
pub(crate) fn seconds(expires: Option<Duration>) -> Result<Option<u64>, UsageError> {
    match expires.map(|lifetime| lifetime.as_secs()) {
        Some(0) => Err(UsageError("--expires is at least a second".to_owned())),
        seconds => Ok(seconds),
    }
}

/// A grant as a line.
fn granted(grant: &Value) -> String {
    let end = match grant["ends_at"].as_str() {
        Some(end) => format!("until {}", moment(end)),
        None => "without an end".to_owned(),
    };
    format!(
        "{}  {}  {}  {end}",
        grant["id"],
        text(grant, "to"),
        scope(grant)
    )
}

/// Verbs, repositories and tags, as they are written in a command.
pub(crate) fn scope(scope: &Value) -> String {
    let tags = list(&scope["tags"]);
    let tags = if tags.is_empty() {
        tags
    } else {
        format!(":{tags}")
    };
    format!(
        "{}:{}{tags}",
        list(&scope["verbs"]),
        text(scope, "repositories")
    )
}

pub(crate) fn list(values: &Value) -> String {
    let values = values.as_array().into_iter().flatten();
    values
        .filter_map(Value::as_str)
        .collect::<Vec<_>>()
        .join(",")
}

pub(crate) fn rows(report: &Value, field: &str, line: impl Fn(&Value) -> String) -> String {
    let rows = report[field].as_array().into_iter().flatten();
    rows.map(|row| line(row) + "\n").collect()
}

/// `granary admin visibility`
pub fn visibility(args: &VisibilityArgs) -> anyhow::Result<()> {
    let command = AccountsCommand::SetVisibility {
        repository: args.repository.clone(),
        visibility: args.visibility.into(),
    };
    done(&args.config, command, args.json, |report| {
        format!(
            "{} is {}\n",
            text(report, "repository"),
            text(report, "visibility")
        )
    })
}

/// `granary admin repository`
pub fn repository(command: &RepositoryCommand) -> anyhow::Result<()> {
    match command {
        RepositoryCommand::Remove(args) => {
            let repository = args.repository.clone();
            let command = AccountsCommand::RemoveRepository { repository };
            done(&args.config, command, args.json, |report| {
                format!(
                    "{} is gone, and its name is free; what was in it goes with the next collections of garbage\n",
                    text(report, "repository")
                )
            })
        }
    }
}

pub(crate) fn done(
    config: &ConfigArgs,
    command: AccountsCommand,
    json: bool,
    sentence: impl FnOnce(&Value) -> String,
) -> anyhow::Result<()> {
    let report = run(&config.load()?, Maintenance::Accounts(command))?;
    print(&report, json, &sentence(&report))
}

pub(crate) fn text<'r>(report: &'r Value, field: &str) -> &'r str {
    report[field].as_str().unwrap_or_default()
}

/// The password: a line of standard input, or typed twice at a terminal, which does not show it.
pub(crate) fn password(args: &PasswordArgs) -> anyhow::Result<Secret> {
    if args.password_stdin {
        return Ok(line()?);
    }
    need_terminal("the password")?;
    typed_twice("Password: ")
}

pub(crate) fn need_terminal(what: &str) -> Result<(), UsageError> {
    match io::stdin().is_terminal() {
        true => Ok(()),
        false => Err(UsageError(format!(
            "there is no terminal to ask for {what}: give it on standard input, with --password-stdin"
        ))),
    }
}

pub(crate) fn typed_twice(prompt: &str) -> anyhow::Result<Secret> {
    let first = asked(prompt)?;
    let again = asked("The same again: ")?;
    anyhow::ensure!(
        first.expose() == again.expose(),
        "the two are not the same: nothing was changed"
    );
    Ok(first)
}

pub(crate) fn asked(prompt: &str) -> io::Result<Secret> {
    let mut terminal = io::stderr();
    write!(terminal, "{prompt}")?;
    terminal.flush()?;
    let stdin = io::stdin();
    let shown = tcgetattr(&stdin)?;
    let mut hidden = shown.clone();
    hidden.local_modes.remove(LocalModes::ECHO);
    tcsetattr(&stdin, OptionalActions::Flush, &hidden)?;
    let typed = line();
    tcsetattr(&stdin, OptionalActions::Flush, &shown)?;
    writeln!(terminal)?;
    typed
}

/// A line without its end.
pub(crate) fn line() -> io::Result<Secret> {
    let mut line = String::new();
    io::Read::take(io::stdin().lock(), LONGEST as u64).read_line(&mut line)?;
    let text = line.trim_end_matches(['\r', '\n']);
    Ok(Secret::from(text.to_owned()))
}
