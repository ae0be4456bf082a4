//! `granary user` and `password`: accounts.

use reqwest::Method;
use serde_json::{Map, Value, json};

use super::{Column, MOST, Session, http::Question, table::column};
use crate::{
    accounts::{asked, line, password, typed_twice},
    cli::{
        AddressesArgs,
        client::{OwnPasswordArgs, UserCommand},
    },
    moving::UsageError,
};

const USER: &[Column] = &[
    column("USER", "user"),
    column("LOGS IN", "active"),
    column("ADMINISTERS", "administrator"),
    column("FROM", "addresses").or("everywhere"),
    column("MADE", "created_at"),
];

/// `granary user`
pub(super) async fn user(session: &Session, command: &UserCommand) -> anyhow::Result<()> {
    match command {
        UserCommand::Add {
            user,
            password: from,
            admin,
        } => {
            let secret = password(from)?;
            let body = json!({"user": user, "password": secret.expose(), "administrator": admin});
            let made = session.ask(Question::post(&["users"], body)).await?;
            let text = match made["owns_its_name"] == false {
                true => format!(
                    "{user} may log in; repositories whose names begin with {user}/ belong to another user, who was there first\n"
                ),
                false => format!(
                    "{user} may log in, and push to repositories whose names begin with {user}/\n"
                ),
            };
            session.tell(&made, &text)
        }
        UserCommand::List => {
            let rows = session.list(&["users"], &[], MOST).await?;
            session.tell_list(rows, USER)
        }
        UserCommand::Password {
            user,
            password: from,
        } => {
            let body = json!({"password": password(from)?.expose()});
            let parts = ["users", user.as_str(), "password"];
            let question = Question::new(Method::PUT, &parts).with(body);
            let done = session.ask(question).await?;
            let text = format!(
                "{user} has another password; what was logged in by the former one has to log in again. API tokens stay good, those of \
                 'granary login' too: on the server, 'granary admin token list {user}' lists them, and 'granary admin token revoke ID' \
                 ends one\n"
            );
            session.tell(&done, &text)
        }
        UserCommand::Address { user, addresses } => {
            admit_from(session, &["users", user], user, addresses).await
        }
        UserCommand::Disable { user } => {
            let text = format!("{user} may not log in until it is enabled\n");
            change(session, user, json!({"active": false}), &text).await
        }
        UserCommand::Enable { user } => {
            let text = format!("{user} may log in\n");
            change(session, user, json!({"active": true}), &text).await
        }
        UserCommand::Remove { user } => {
            let done = session.ask(Question::delete(&["users", user])).await?;
            session.tell(&done, &format!("{user} is removed\n"))
        }
    }
}

async fn change(session: &Session, user: &str, body: Value, text: &str) -> anyhow::Result<()> {
    let parts = ["users", user];
    let question = Question::new(Method::PATCH, &parts).with(body);
    session.tell(&session.ask(question).await?, text)
}

/// Says from where what has this path may be used.
pub(super) async fn admit_from(
    session: &Session,
    parts: &[&str],
    name: &str,
    addresses: &AddressesArgs,
) -> anyhow::Result<()> {
    let list = addresses.list()?;
    let text = match list {
        None => format!("{name} may be used from everywhere\n"),
        Some(_) => format!("{name} may be used from these addresses only\n"),
    };
    let body = Map::from_iter([("addresses".to_owned(), json!(list))]);
    let question = Question::new(Method::PATCH, parts).with(body.into());
    session.tell(&session.ask(question).await?, &text)
}

/// `granary password`
pub(super) async fn own_password(session: &Session, args: &OwnPasswordArgs) -> anyhow::Result<()> {
    let (current, new) = match args.password_stdin {
        true => {
            let (current, new) = (line()?, line()?);
            if new.expose().is_empty() {
                let problem = "the second line of standard input, the new password, is missing";
                return Err(UsageError(problem.to_owned()).into());
            }
            (current, new)
        }
        false => {
            crate::accounts::need_terminal(
                "the password that counts now and the new one, a line each",
            )?;
            (
                asked("Password that counts now: ")?,
                typed_twice("New password: ")?,
            )
        }
    };
    let body = json!({"current": current.expose(), "new": new.expose()});
    let question = Question::new(Method::PUT, &["me", "password"]).with(body);
    let done = session.ask(question).await?;
    session.tell(
        &done,
        "the new password counts; what was logged in by the former one has to log in again. API tokens stay good, those of \
         'granary login' too: 'granary token list' lists them, and 'granary token revoke ID' ends one\n",
    )
}
