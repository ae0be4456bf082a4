//! `granary token`: one's own API tokens.

use serde_json::{Value, json};

use super::{
    Column, MOST, Session, http::Question, made, note, store::Credential, table::column,
    whole_seconds,
};
use crate::cli::client::{NewTokenArgs, Part, TokenCommand};

const COLUMNS: &[Column] = &[
    column("ID", "id"),
    column("NAME", "name"),
    column("HINT", "hint"),
    column("MADE", "created_at"),
    column("UNTIL", "expires_at").or("no end"),
    column("SUCCESSOR", "replaced_by"),
    column("LAST USED", "last_used_at"),
    column("FROM", "addresses"),
    column("MAY", "scopes").or("all that its owner may"),
];

/// `granary token`
pub(super) async fn token(session: &Session, command: &TokenCommand) -> anyhow::Result<()> {
    match command {
        TokenCommand::Create(args) => {
            let question = Question::post(&["tokens"], new_token(args)?);
            session.tell_token(&session.ask(question).await?)
        }
        TokenCommand::List { robot } => {
            let parts = tokens(robot.as_ref());
            session.tell_list(session.list(&parts, &[], MOST).await?, COLUMNS)
        }
        TokenCommand::Revoke { id, robot } => {
            let (number, mut parts) = (id.to_string(), tokens(robot.as_ref()));
            parts.push(&number);
            let done = session.ask(Question::delete(&parts)).await?;
            forget(session, *id)?;
            session.tell(&done, &format!("token {id} has ended\n"))
        }
        TokenCommand::Rotate { id, overlap, robot } => {
            let (number, mut parts) = (id.to_string(), tokens(robot.as_ref()));
            parts.extend([&number, "rotate"]);
            let body = json!({"overlap": overlap.as_secs()});
            let data = session.ask(Question::post(&parts, body)).await?;
            // Printed even if it cannot be kept: nobody can say it again.
            session.tell_token(&data)?;
            succeed(session, *id, &data)
        }
    }
}

/// The path of one's own tokens, or those of a robot.
fn tokens(robot: Option<&Part>) -> Vec<&str> {
    match robot {
        Some(robot) => vec!["owners", &robot.owner, "robots", &robot.name, "tokens"],
        None => vec!["tokens"],
    }
}

/// The body that asks for a token.
pub(super) fn new_token(args: &NewTokenArgs) -> anyhow::Result<Value> {
    let mut body = json!({"name": args.name});
    if !args.scopes.is_empty() {
        body["scopes"] = json!(args.scopes);
    }
    if let Some(expires) = args.expires {
        body["expires_in"] = whole_seconds(expires)?.into();
    }
    Ok(body)
}

/// The log-in of this machine, if this is its token.
fn own(session: &Session, id: i64) -> Option<&Credential> {
    let (_, known) = session.kept.as_ref()?;
    (known.id == Some(id)).then_some(known)
}

fn forget(session: &Session, id: i64) -> anyhow::Result<()> {
    if let (Some((store, _)), Some(known)) = (&session.kept, own(session, id)) {
        store.forget(session.http.server(), known)?;
        note("this was the token of this machine's log-in, which is over")?;
    }
    Ok(())
}

/// Keeps the successor of this machine's own token.
fn succeed(session: &Session, id: i64, data: &Value) -> anyhow::Result<()> {
    if let (Some((store, _)), Some(known)) = (&session.kept, own(session, id)) {
        let (id, token) = made(data)?;
        let known = known.clone();
        store.keep(session.http.server(), Credential { token, id, ..known })?;
        note("this was the token of this machine's log-in, which goes on with the new one")?;
    }
    Ok(())
}
