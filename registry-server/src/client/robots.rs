//! `granary robot` and `publisher`: machines that push and pull, and who is one of them without a secret.

use serde_json::json;

use super::{
    Column, MOST, Session,
    http::Question,
    table::{column, fields},
    tenancy::removed,
    token::new_token,
    users::admit_from,
    whole_seconds,
};
use crate::cli::{
    PublisherRuleArgs,
    client::{Part, PublisherCommand, RobotCommand},
};

const ROBOT: &[Column] = &[
    column("ROBOT", "robot"),
    column("ROLE", "role").or("what it was granted"),
    column("OPEN TO", "addresses").or("everywhere"),
    column("MADE", "created_at"),
];

const PUBLISHER: &[Column] = &[
    column("ID", "id"),
    column("ROBOT", "robot"),
    column("ISSUER", "issuer"),
    column("CLAIMS", "claims"),
    column("MAY", "scopes").or("all that its robot may"),
    column("ONCE", "once"),
    column("USED FIRST", "used_at").or("not yet"),
    column("WAITS UNTIL", "expires_at"),
];

/// `granary robot`
pub(super) async fn robot(session: &Session, command: &RobotCommand) -> anyhow::Result<()> {
    match command {
        RobotCommand::Create { robot } => {
            let parts = ["owners", &robot.owner, "robots"];
            let question = Question::post(&parts, json!({"robot": robot.name}));
            let made = session.ask(question).await?;
            let text = format!("{}+{} is there\n", robot.owner, robot.name);
            session.tell(&made, &text)
        }
        RobotCommand::List { owner } => {
            let parts = ["owners", owner, "robots"];
            session.tell_list(session.list(&parts, &[], MOST).await?, ROBOT)
        }
        RobotCommand::Address { robot, addresses } => {
            let parts = ["owners", &robot.owner, "robots", &robot.name];
            let name = format!("{}+{}", robot.owner, robot.name);
            admit_from(session, &parts, &name, addresses).await
        }
        RobotCommand::Remove { robot } => {
            let parts = ["owners", &robot.owner, "robots", &robot.name];
            let name = format!("{}+{}", robot.owner, robot.name);
            removed(session, Question::delete(&parts), &name).await
        }
        RobotCommand::Token { robot, token } => {
            let parts = ["owners", &robot.owner, "robots", &robot.name, "tokens"];
            let question = Question::post(&parts, new_token(token)?);
            session.tell_token(&session.ask(question).await?)
        }
    }
}

/// `granary publisher`
pub(super) async fn publisher(session: &Session, command: &PublisherCommand) -> anyhow::Result<()> {
    match command {
        PublisherCommand::Add { robot, rule } => add(session, robot, rule).await,
        PublisherCommand::List { owner } => {
            let parts = ["owners", owner, "publishers"];
            session.tell_list(session.list(&parts, &[], MOST).await?, PUBLISHER)
        }
        PublisherCommand::Remove { owner, id } => {
            let id = id.to_string();
            let parts = ["owners", owner, "publishers", &id];
            removed(
                session,
                Question::delete(&parts),
                &format!("publisher {id}"),
            )
            .await
        }
    }
}

async fn add(session: &Session, robot: &Part, rule: &PublisherRuleArgs) -> anyhow::Result<()> {
    let mut body = json!({
        "robot": robot.name,
        "issuer": rule.issuer,
        "claims": rule.claims()?,
        "once": rule.once,
    });
    if !rule.scopes.is_empty() {
        body["scopes"] = json!(rule.scopes);
    }
    if let Some(expires) = rule.expires {
        body["expires_in"] = whole_seconds(expires)?.into();
    }
    let parts = ["owners", &robot.owner, "publishers"];
    let made = session.ask(Question::post(&parts, body)).await?;
    session.tell(&made, &fields(&made, PUBLISHER))
}
