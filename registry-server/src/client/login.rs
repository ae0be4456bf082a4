//! `granary login`, `logout` and `whoami`.

use std::{
    io::{self, IsTerminal as _, Write as _},
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use granary_identity::Secret;
use serde_json::{Value, json};

use super::{
    Session,
    http::{AskError, Http, Question, Shown},
    is_unauthorized, made, note, server_of,
    server_url::ServerUrl,
    store::{Credential, Store},
    table::{column, fields, plain},
    whole_seconds,
};
use crate::{
    accounts::{asked, line},
    cli::client::{LoginArgs, LogoutArgs},
    config::ClientEnvironment,
    maintenance::print,
    moving::UsageError,
};

/// Most characters of a token's name.
const NAME: usize = 100;

/// `granary login`: trades a password for a token of this machine, which is kept; the password is not.
pub(super) async fn login(environment: &ClientEnvironment, args: &LoginArgs) -> anyhow::Result<()> {
    let named = args.to.as_ref().or(args.server.server.as_ref());
    let server = server_of(environment, named)?;
    let store = Store::new(environment.folder.as_deref())?;
    store.prepare(&server)?;
    let ca = certificates(&store, &server, args.server.ca.as_deref())?;
    let http = Http::new(server, ca.as_deref())?;
    is_granary(&http).await?;
    if http.server().is_readable_by_others() {
        let server = http.server();
        note(&format!(
            "{server} has no TLS: whoever sees this connection learns what you show"
        ))?;
    }
    let mut credential = match args.token_stdin {
        true => brought(&http).await?,
        false => made_here(&http, args).await?,
    };
    credential.ca = ca;
    let (user, id) = (credential.user.clone(), credential.id);
    match store.keep(http.server(), credential.clone()) {
        Ok(before) => end_former(&http, before.as_ref(), &credential).await?,
        Err(error) => {
            // Nobody would ever know it.
            end(&http, &credential).await.ok();
            return Err(error.into());
        }
    }
    if environment.token.is_some() {
        note("GRANARY_TOKEN is set: commands use that, and not this log-in")?;
    }
    let server = http.server().to_string();
    let text = format!("logged in to {server} as {}\n", plain(&user));
    let report = json!({"server": server, "user": user, "token": id});
    print(&report, args.server.json, &text)
}

/// The file of certificates that is to be remembered: the one named now, or by an earlier log-in there.
fn certificates(
    store: &Store,
    server: &ServerUrl,
    named: Option<&Path>,
) -> anyhow::Result<Option<PathBuf>> {
    match named {
        Some(path) => {
            let whole = path.canonicalize();
            let whole = whole.with_context(|| format!("{} cannot be read", path.display()))?;
            Ok(Some(whole))
        }
        None => Ok(store.find(server)?.and_then(|known| known.ca)),
    }
}

/// Asks without credentials first, so that nothing secret is sent to what is no Granary, or has no accounts.
async fn is_granary(http: &Http) -> anyhow::Result<()> {
    match http.ask(Question::get(&["me"]), &Shown::Nothing).await {
        Err(error) if is_unauthorized(&error) => Ok(()),
        Err(error) => Err(error),
        Ok(_) => {
            let server = http.server();
            anyhow::bail!("{server} says who is logged in although nobody is: it is no Granary")
        }
    }
}

/// A token that somebody made elsewhere.
async fn brought(http: &Http) -> anyhow::Result<Credential> {
    let token = Secret::from(line()?.expose().trim().to_owned());
    if token.expose().is_empty() {
        return Err(UsageError("there is no token on standard input".to_owned()).into());
    }
    let said = http
        .ask(Question::get(&["me"]), &Shown::Token(&token))
        .await?;
    let user = said.data["user"].as_str().unwrap_or_default().to_owned();
    Ok(Credential {
        user,
        token,
        id: None,
        ca: None,
    })
}

/// A token that is made for this machine.
async fn made_here(http: &Http, args: &LoginArgs) -> anyhow::Result<Credential> {
    let lifetime = whole_seconds(args.expires)?;
    let (user, password) = user_and_password(args)?;
    let body = json!({"name": token_name(), "expires_in": lifetime});
    let shown = Shown::Password {
        user: &user,
        password: &password,
    };
    let said = http.ask(Question::post(&["tokens"], body), &shown).await?;
    let (id, token) = made(&said.data)?;
    Ok(Credential {
        user,
        token,
        id,
        ca: None,
    })
}

fn user_and_password(args: &LoginArgs) -> anyhow::Result<(String, Secret)> {
    if !args.password_stdin && !io::stdin().is_terminal() {
        return Err(UsageError(
            "there is no terminal to ask for the password: give it on standard input, with --username and --password-stdin, or a \
             token with --token-stdin"
                .to_owned(),
        )
        .into());
    }
    let user = match &args.username {
        Some(user) => user.clone(),
        None => {
            let mut terminal = io::stderr();
            write!(terminal, "Username: ")?;
            terminal.flush()?;
            line()?.expose().trim().to_owned()
        }
    };
    let password = match args.password_stdin {
        true => line()?,
        false => asked("Password: ")?,
    };
    Ok((user, password))
}

/// What the list of tokens calls this machine's.
fn token_name() -> String {
    let system = rustix::system::uname();
    let host = system.nodename().to_string_lossy().into_owned();
    let name = format!("granary on {host}");
    let visible = name.chars().filter(|character| !character.is_control());
    visible.take(NAME).collect()
}

/// Ends the token of an earlier log-in of this machine, which nobody knows any more.
async fn end_former(
    http: &Http,
    former: Option<&Credential>,
    now: &Credential,
) -> anyhow::Result<()> {
    let Some(former) = former.filter(|former| former.token.expose() != now.token.expose()) else {
        return Ok(());
    };
    if let Err(error) = end(http, former).await {
        let id = former.id.unwrap_or_default();
        note(&format!(
            "the token {id} of the log-in before, of {}, is forgotten here but may be good until it ends: {error}",
            plain(&former.user)
        ))?;
    }
    Ok(())
}

/// Ends a token that a log-in made, by itself. One that was brought may be used elsewhere, and one that is no good any more
/// has ended.
async fn end(http: &Http, credential: &Credential) -> anyhow::Result<()> {
    let Some(id) = credential.id else {
        return Ok(());
    };
    let id = id.to_string();
    let parts = ["tokens", id.as_str()];
    let shown = Shown::Token(&credential.token);
    match http.ask(Question::delete(&parts), &shown).await {
        Err(error) if is_unauthorized(&error) => Ok(()),
        outcome => outcome.map(drop),
    }
}

/// `granary logout`
pub(super) async fn logout(
    environment: &ClientEnvironment,
    args: &LogoutArgs,
) -> anyhow::Result<()> {
    let server = server_of(environment, args.server.server.as_ref())?;
    let store = Store::new(environment.folder.as_deref())?;
    let known = store.find(&server)?;
    let known = known.ok_or_else(|| anyhow::anyhow!("nobody is logged in to {server}"))?;
    if !args.local {
        let ca = args.server.ca.as_deref().or(known.ca.as_deref());
        let http = Http::new(server.clone(), ca)?;
        end(&http, &known).await.map_err(|error| match error.is::<AskError>() {
            true => anyhow::anyhow!(
                "{error}; the token is kept: log out again, or forget it with --local, which leaves it good until it ends"
            ),
            false => error,
        })?;
    }
    store.forget(&server, &known)?;
    let user = plain(&known.user);
    let text = match (args.local, known.id) {
        (false, Some(_)) => format!("{user} is logged out of {server}\n"),
        (false, None) => format!(
            "{user} is logged out of {server}; the token was made elsewhere and stays good: 'granary token revoke' ends it\n"
        ),
        (true, _) => {
            format!("{server} is forgotten; the token of {user} stays good until it ends\n")
        }
    };
    let has_ended = !args.local && known.id.is_some();
    let report = json!({"server": server.to_string(), "user": known.user, "ended": has_ended});
    print(&report, args.server.json, &text)
}

/// `granary whoami`
pub(super) async fn whoami(session: &Session) -> anyhow::Result<()> {
    const COLUMNS: &[super::Column] = &[
        column("user", "user"),
        column("server", "server"),
        column("administrator", "administrator"),
        column("kind", "kind"),
        column("may", "scopes").or("all that the user may"),
        column("until", "expires_at").or("no end"),
    ];
    let account: Value = session.ask(Question::get(&["me"])).await?;
    let mut shown = account.clone();
    shown["server"] = session.http.server().to_string().into();
    session.tell(&account, &fields(&shown, COLUMNS))
}
