//! `granary audit`: what happened.

use super::{Column, Session, table::column};
use crate::cli::client::AuditCommand;

/// Most entries of a page, so that none is larger than an answer may be.
const PAGE: u16 = 200;

const COLUMNS: &[Column] = &[
    column("NUMBER", "seq"),
    column("NUMBER", "id"),
    column("TIME", "time"),
    column("TIME", "at"),
    column("ACTION", "action"),
    column("ALLOWED", "allowed"),
    column("REASON", "reason"),
    column("ACTOR", "actor"),
    column("TARGET", "target"),
    column("ADDRESS", "address"),
];

/// `granary audit`
pub(super) async fn audit(session: &Session, command: &AuditCommand) -> anyhow::Result<()> {
    let AuditCommand::List {
        actor,
        target,
        action,
        after,
        limit,
    } = command;
    let mut query = vec![("limit", limit.min(&PAGE).to_string())];
    for (name, value) in [
        ("actor", actor),
        ("target", target),
        ("action", action),
        ("after", after),
    ] {
        if let Some(value) = value {
            query.push((name, value.clone()));
        }
    }
    let rows = session
        .list(&["audit"], &query, usize::from(*limit))
        .await?;
    session.tell_list(rows, COLUMNS)
}
