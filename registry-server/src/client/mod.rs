//! The commands that ask a running server, with an account of one's own: `granary login` and those behind it.
//!
//! They know no rule of the server: they send what was written and show what comes back.

mod audit;
mod http;
mod login;
mod rights;
mod robots;
mod server_url;
mod store;
mod table;
mod tenancy;
mod token;
mod users;

use std::{
    io::{self, Write as _},
    path::PathBuf,
};

use granary_identity::Secret;
use reqwest::StatusCode;
use serde_json::{Value, json};

pub(crate) use self::table::plain;
use self::{
    http::{AskError, Http, Question, Said, Shown, next},
    server_url::ServerUrl,
    store::{Credential, Store},
    table::{Column, table},
};
use crate::{
    cli::{ClientCommand, client::ServerArgs},
    config::ClientEnvironment,
    maintenance::print,
    moving::UsageError,
};

/// The server if none is named and one never logged in.
const USUAL: &str = "http://127.0.0.1:5000";
/// Most entries of a list that are asked for.
const MOST: usize = 100_000;

/// Does what a client command says.
pub fn run(command: &ClientCommand) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let environment = ClientEnvironment::read();
    let open = |args: &ServerArgs| Session::open(&environment, args);
    runtime.block_on(async {
        match command {
            ClientCommand::Login(args) => login::login(&environment, args).await,
            ClientCommand::Logout(args) => login::logout(&environment, args).await,
            ClientCommand::Whoami(args) => login::whoami(&open(args)?).await,
            ClientCommand::Token(at) => token::token(&open(&at.server)?, &at.command).await,
            ClientCommand::Password(args) => users::own_password(&open(&args.server)?, args).await,
            ClientCommand::User(at) => users::user(&open(&at.server)?, &at.command).await,
            ClientCommand::Org(at) => tenancy::org(&open(&at.server)?, &at.command).await,
            ClientCommand::Team(at) => tenancy::team(&open(&at.server)?, &at.command).await,
            ClientCommand::Member(at) => tenancy::member(&open(&at.server)?, &at.command).await,
            ClientCommand::Robot(at) => robots::robot(&open(&at.server)?, &at.command).await,
            ClientCommand::Publisher(at) => {
                robots::publisher(&open(&at.server)?, &at.command).await
            }
            ClientCommand::Grant(at) => rights::grant(&open(&at.server)?, &at.command).await,
            ClientCommand::Namespace(args) => rights::namespace(&open(&args.server)?, args).await,
            ClientCommand::Visibility(args) => rights::visibility(&open(&args.server)?, args).await,
            ClientCommand::Repository(at) => {
                rights::repository(&open(&at.server)?, &at.command).await
            }
            ClientCommand::Audit(at) => audit::audit(|| open(&at.server), at).await,
        }
    })
}

/// The server that is meant: the one that is named, or in `GRANARY_SERVER`, or that was logged in to last.
fn server_of(environment: &ClientEnvironment, named: Option<&String>) -> anyhow::Result<ServerUrl> {
    if let Some(named) = named.or(environment.server.as_ref()) {
        return Ok(named.parse()?);
    }
    let last = match &environment.folder {
        Some(folder) => Store::new(Some(folder))?.last()?,
        None => None,
    };
    Ok(last.as_deref().unwrap_or(USUAL).parse()?)
}

/// A server, and what it knows one by.
struct Session {
    http: Http,
    token: Secret,
    /// Where the token is kept, unless it came from the environment.
    kept: Option<(Store, Credential)>,
    json: bool,
}

impl Session {
    fn open(environment: &ClientEnvironment, args: &ServerArgs) -> anyhow::Result<Self> {
        let server = server_of(environment, args.server.as_ref())?;
        let (token, ca, kept) = match &environment.token {
            Some(token) => (token.clone(), None, None),
            None => {
                let store = Store::new(environment.folder.as_deref())?;
                let known = store.find(&server)?;
                let known = known.ok_or_else(|| {
                    anyhow::anyhow!("nobody is logged in to {server}: 'granary login {server}', or set GRANARY_TOKEN")
                })?;
                let (token, ca) = (known.token.clone(), known.ca.clone());
                (token, ca, Some((store, known)))
            }
        };
        let ca: Option<PathBuf> = args.ca.clone().or(ca);
        Ok(Self {
            http: Http::new(server, ca.as_deref())?,
            token,
            kept,
            json: args.json,
        })
    }

    async fn said(&self, question: Question<'_>) -> anyhow::Result<Said> {
        let asked = self.http.ask(question, &Shown::Token(&self.token)).await;
        asked.map_err(|error| self.with_remedy(error))
    }

    /// Says what to do about credentials that are not good any more.
    fn with_remedy(&self, error: anyhow::Error) -> anyhow::Error {
        if !is_unauthorized(&error) {
            return error;
        }
        let server = self.http.server();
        match self.kept {
            Some(_) => anyhow::anyhow!("{error}: 'granary login {server}'"),
            None => anyhow::anyhow!("{error}: GRANARY_TOKEN holds no token that {server} takes"),
        }
    }

    /// What the server says about something that was asked, changed or made.
    async fn ask(&self, question: Question<'_>) -> anyhow::Result<Value> {
        let said = self.said(question).await?;
        Ok(match said.data {
            Value::Null => json!({"ok": true}),
            data => data,
        })
    }

    /// All entries of a list, page by page, or the first `most`.
    async fn list(
        &self,
        parts: &[&str],
        query: &[(&str, String)],
        most: usize,
    ) -> anyhow::Result<Vec<Value>> {
        let mut entries = Vec::new();
        let mut after: Option<String> = None;
        loop {
            let mut query = query.to_vec();
            if let Some(after) = &after {
                query.retain(|(name, _)| *name != "after");
                query.push(("after", after.clone()));
            }
            let said = self.said(Question::get(parts).query(query)).await?;
            let (page, behind) = page(said);
            let is_empty = page.is_empty();
            entries.extend(page);
            let is_full = entries.len() >= most;
            entries.truncate(most);
            // The same page twice would never end.
            let goes_on = behind.is_some() && behind != after && !is_empty;
            if is_full || !goes_on {
                if is_full && goes_on && most == MOST {
                    note(&format!(
                        "there are more than these {MOST}, which are not shown"
                    ))?;
                }
                return Ok(entries);
            }
            after = behind;
        }
    }

    /// Prints a list.
    fn tell_list(&self, rows: Vec<Value>, columns: &[Column]) -> anyhow::Result<()> {
        let text = table(&rows, columns);
        self.tell(&Value::Array(rows), &text)
    }

    fn tell(&self, data: &Value, text: &str) -> anyhow::Result<()> {
        print(data, self.json, text)
    }

    /// Prints a token that was just made: alone on standard output, so that a script gets nothing else.
    fn tell_token(&self, data: &Value) -> anyhow::Result<()> {
        if !self.json {
            note(
                "the token is shown this once; it goes where a password goes, with the user's name or 'token'",
            )?;
        }
        self.tell(data, &format!("{}\n", made(data)?.1.expose()))
    }
}

/// The number and the text of a token that the server made.
fn made(data: &Value) -> anyhow::Result<(Option<i64>, Secret)> {
    let token = data["token"].as_str();
    let token = token
        .filter(|token| !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic()));
    let token = token.ok_or_else(|| {
        anyhow::anyhow!("the server says that it made a token, and does not say which")
    })?;
    Ok((data["id"].as_i64(), Secret::from(token.to_owned())))
}

/// The entries of a page and what asks for the next, whether they stand in the envelope or in its data.
fn page(said: Said) -> (Vec<Value>, Option<String>) {
    let Said {
        mut data,
        next: behind,
    } = said;
    match data.take() {
        Value::Array(entries) => (entries, behind),
        Value::Object(mut fields) => {
            let behind = behind.or_else(|| next(fields.get("next").unwrap_or(&Value::Null)));
            let lists = fields.values_mut().filter_map(Value::as_array_mut);
            let entries = lists.map(std::mem::take).next();
            (entries.unwrap_or_default(), behind)
        }
        _ => (Vec::new(), behind),
    }
}

fn is_unauthorized(error: &anyhow::Error) -> bool {
    let error = error.downcast_ref::<AskError>();
    matches!(error, Some(AskError::Refused { status, .. }) if *status == StatusCode::UNAUTHORIZED)
}

/// A remark for people, which no script reads.
fn note(text: &str) -> io::Result<()> {
    writeln!(io::stderr(), "{text}")
}

/// A whole number of seconds.
fn whole_seconds(duration: std::time::Duration) -> Result<u64, UsageError> {
    let seconds = crate::accounts::seconds(Some(duration))?;
    Ok(seconds.unwrap_or_default())
}
