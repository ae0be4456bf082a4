//! `granary admin` commands about accounts: the first administrator, users, tokens, who sees a repository.

use std::io::{self, BufRead as _, IsTerminal as _, Write as _};

use granary_identity::Secret;
use granary_registry::{AccountsCommand, Maintenance};
use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
use serde_json::Value;

use crate::{
    cli::{BootstrapArgs, ConfigArgs, PasswordArgs, TokenCommand, UserCommand, VisibilityArgs},
    maintenance::{print, run},
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
    done(&args.config, command, args.json, |report| {
        format!(
            "{} administers this installation now, and owns the {} namespaces that were there.\n\
             Whoever comes without credentials gets nothing, unless auth.anonymous says otherwise.\n",
            text(report, "user"),
            report["namespaces"]
        )
    })
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
                format!(
                    "{} has another password; what was logged in by the former one has to log in again\n",
                    text(report, "user")
                )
            })
        }
    }
}

/// `granary admin token`
pub fn token(command: &TokenCommand) -> anyhow::Result<()> {
    match command {
        TokenCommand::Create(args) => {
            if args.expires.is_some_and(|lifetime| lifetime.as_secs() == 0) {
                return Err(UsageError("a token is good for at least a second".to_owned()).into());
            }
            let command = AccountsCommand::CreateToken {
                user: args.user.clone(),
                name: args.name.clone(),
                scopes: match args.scopes.is_empty() {
                    true => granary_access::Scopes::unlimited(),
                    false => granary_access::Scopes::only(args.scopes.clone()),
                },
                lifetime: args.expires.map(|lifetime| lifetime.as_secs()),
            };
            if !args.json {
                // Not on standard output, so that a script gets the token alone.
                writeln!(
                    io::stderr(),
                    "the token is shown this once; it goes where a password goes, with the user's name or 'token'"
                )?;
            }
            done(&args.config, command, args.json, |report| {
                format!("{}\n", text(report, "token"))
            })
        }
        TokenCommand::Revoke(args) => {
            let command = AccountsCommand::RevokeToken { id: args.id };
            done(&args.config, command, args.json, |report| {
                format!("token {} has ended\n", report["id"])
            })
        }
    }
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

fn done(
    config: &ConfigArgs,
    command: AccountsCommand,
    json: bool,
    sentence: impl FnOnce(&Value) -> String,
) -> anyhow::Result<()> {
    let report = run(&config.load()?, Maintenance::Accounts(command))?;
    print(&report, json, &sentence(&report))
}

fn text<'r>(report: &'r Value, field: &str) -> &'r str {
    report[field].as_str().unwrap_or_default()
}

/// The password: a line of standard input, or typed twice at a terminal, which does not show it.
fn password(args: &PasswordArgs) -> anyhow::Result<Secret> {
    if args.password_stdin {
        return Ok(line()?);
    }
    if !io::stdin().is_terminal() {
        return Err(UsageError(
            "there is no terminal to ask for the password: give it on standard input, with --password-stdin".to_owned(),
        )
        .into());
    }
    let first = asked("Password: ")?;
    let again = asked("The same again: ")?;
    anyhow::ensure!(
        first.expose() == again.expose(),
        "the two are not the same: nothing was changed"
    );
    Ok(first)
}

fn asked(prompt: &str) -> io::Result<Secret> {
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
fn line() -> io::Result<Secret> {
    let mut line = String::new();
    io::Read::take(io::stdin().lock(), LONGEST as u64).read_line(&mut line)?;
    let text = line.trim_end_matches(['\r', '\n']);
    Ok(Secret::from(text.to_owned()))
}
