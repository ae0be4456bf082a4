//! `granary org`, `team` and `member`: who belongs together.

use reqwest::Method;
use serde_json::json;

use super::{
    Column, MOST, Session,
    http::Question,
    table::{column, fields},
    users::admit_from,
};
use crate::cli::client::{MemberCommand, OrgCommand, TeamCommand};

const ORGANISATION: &[Column] = &[
    column("NAME", "organisation"),
    column("YOU ARE", "role"),
    column("OPEN TO", "addresses").or("everywhere"),
    column("MADE", "created_at"),
];

const TEAM: &[Column] = &[column("TEAM", "team"), column("MADE", "created_at")];

const MEMBER: &[Column] = &[
    column("MEMBER", "member"),
    column("ROLE", "role"),
    column("ROBOT", "robot"),
    column("SAID BY", "source"),
    column("SINCE", "since"),
];

/// `granary org`
pub(super) async fn org(session: &Session, command: &OrgCommand) -> anyhow::Result<()> {
    match command {
        OrgCommand::Create {
            organisation,
            owner,
        } => {
            let mut body = json!({"organisation": organisation});
            if let Some(owner) = owner {
                body["owner"] = json!(owner);
            }
            let made = session.ask(Question::post(&["orgs"], body)).await?;
            session.tell(&made, &format!("{organisation} is there\n"))
        }
        OrgCommand::List => {
            let rows = session.list(&["orgs"], &[], MOST).await?;
            session.tell_list(rows, ORGANISATION)
        }
        OrgCommand::Show { organisation } => {
            let found = session.ask(Question::get(&["orgs", organisation])).await?;
            session.tell(&found, &fields(&found, ORGANISATION))
        }
        OrgCommand::Address {
            organisation,
            addresses,
        } => admit_from(session, &["orgs", organisation], organisation, addresses).await,
        OrgCommand::Remove { organisation } => {
            let parts = ["orgs", organisation.as_str()];
            removed(session, Question::delete(&parts), organisation).await
        }
    }
}

pub(super) async fn removed(
    session: &Session,
    question: Question<'_>,
    name: &str,
) -> anyhow::Result<()> {
    let done = session.ask(question).await?;
    session.tell(&done, &format!("{name} is removed\n"))
}

/// `granary team`
pub(super) async fn team(session: &Session, command: &TeamCommand) -> anyhow::Result<()> {
    match command {
        TeamCommand::Create { team } => {
            let parts = ["orgs", &team.owner, "teams"];
            let question = Question::post(&parts, json!({"team": team.name}));
            let made = session.ask(question).await?;
            let text = format!("{}/{} is there\n", team.owner, team.name);
            session.tell(&made, &text)
        }
        TeamCommand::List { organisation } => {
            let parts = ["orgs", organisation, "teams"];
            session.tell_list(session.list(&parts, &[], MOST).await?, TEAM)
        }
        TeamCommand::Remove { team } => {
            let parts = ["orgs", &team.owner, "teams", &team.name];
            let name = format!("{}/{}", team.owner, team.name);
            removed(session, Question::delete(&parts), &name).await
        }
    }
}

/// The path of the members of `ORGANISATION` or `ORGANISATION/TEAM`.
fn members(group: &str) -> Vec<&str> {
    match group.split_once('/') {
        Some((organisation, team)) => vec!["orgs", organisation, "teams", team, "members"],
        None => vec!["orgs", group, "members"],
    }
}

/// `granary member`
pub(super) async fn member(session: &Session, command: &MemberCommand) -> anyhow::Result<()> {
    match command {
        MemberCommand::List { group } => {
            let rows = session.list(&members(group), &[], MOST).await?;
            session.tell_list(rows, MEMBER)
        }
        MemberCommand::Set {
            group,
            member,
            role,
        } => {
            role.check_of(group)?;
            let mut parts = members(group);
            parts.push(member);
            let role = role.name();
            let question = Question::new(Method::PUT, &parts).with(json!({"role": role}));
            let done = session.ask(question).await?;
            session.tell(&done, &format!("{member} belongs to {group}, as {role}\n"))
        }
        MemberCommand::Remove { group, member } => {
            let mut parts = members(group);
            parts.push(member);
            let done = session.ask(Question::delete(&parts)).await?;
            session.tell(&done, &format!("{member} belongs to {group} no longer\n"))
        }
    }
}
