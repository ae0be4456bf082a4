//! `granary audit`: what happened, and whether anybody changed what is said of it.

use anyhow::Context as _;
use granary_catalog::dialect;
use granary_registry::{AuditKeys, Checked, LastRow, Progress, VerifyReport, check_exported};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::{Column, Question, Said, Session, note, table::column};
use crate::{
    audit::{Destination, NO_ROWS, WRITING, keys_of, tell_verified, verify_file},
    cli::{
        Since,
        client::{At, AuditCommand, AuditExportArgs, AuditListArgs, AuditVerifyArgs},
    },
    maintenance::shown_progress,
};

/// Most entries of a page, so that none is larger than an answer may be.
const PAGE: u16 = 200;
/// Most lines of an export in one page. The server sends fewer if they are long.
const LINES: u16 = 1000;
/// Pages of an export that wait for being compared.
const AHEAD: usize = 2;
/// Most walks along the log, if rows are removed meanwhile.
const WALKS: u32 = 3;

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
    column("DETAIL", "detail"),
];

/// `granary audit`
pub(super) async fn audit(
    open: impl FnOnce() -> anyhow::Result<Session>,
    at: &At<AuditCommand>,
) -> anyhow::Result<()> {
    match &at.command {
        AuditCommand::List(args) => list(&open()?, args).await,
        AuditCommand::Export(args) => export(&open()?, args).await,
        AuditCommand::Verify(args) => {
            let report = match (&args.file, &args.keys) {
                (Some(file), Some(keys)) => verify_file(file, &keys_of(keys)?, args.last.clone())?,
                _ => json!(verify(&open()?, args).await?),
            };
            tell_verified(&report, at.server.json)
        }
    }
}

async fn list(session: &Session, args: &AuditListArgs) -> anyhow::Result<()> {
    let mut query = vec![("limit", args.limit.min(PAGE).to_string())];
    for (name, value) in [
        ("actor", &args.actor),
        ("target", &args.target),
        ("action", &args.action),
        ("after", &args.after),
    ] {
        if let Some(value) = value {
            query.push((name, value.clone()));
        }
    }
    if args.denied {
        query.push(("denied", "true".to_owned()));
    }
    query.extend(args.since.map(|since| ("since", time_of(since))));
    let most = usize::from(args.limit);
    let rows = session.list(&["audit"], &query, most).await?;
    session.tell_list(rows, COLUMNS)
}

/// As RFC 3339.
fn time_of(since: Since) -> String {
    let micros = match since {
        Since::At(time) => time,
        Since::Ago(ago) => dialect::now().saturating_sub(dialect::micros(ago)),
    };
    // What is before all time is before the log.
    jiff::Timestamp::from_microsecond(micros)
        .unwrap_or_default()
        .to_string()
}

/// An export, page by page.
struct Pages<'s> {
    session: &'s Session,
    query: Vec<(&'static str, String)>,
    after: Option<String>,
    is_over: bool,
}

impl<'s> Pages<'s> {
    fn new(session: &'s Session, mut query: Vec<(&'static str, String)>) -> Self {
        query.push(("limit", LINES.to_string()));
        Self {
            session,
            query,
            after: None,
            is_over: false,
        }
    }

    /// The lines of the next page; nothing behind the last one.
    async fn next(&mut self) -> anyhow::Result<Option<Vec<Value>>> {
        if self.is_over {
            return Ok(None);
        }
        let mut query = self.query.clone();
        query.extend(self.after.clone().map(|after| ("after", after)));
        let question = Question::get(&["audit", "export"]).query(query);
        let Said { data, next } = self.session.said(question).await?;
        let server = self.session.http.server();
        let Value::Array(lines) = data else {
            anyhow::bail!("{server} does not answer as Granary does: an export has no lines");
        };
        // They would never end.
        anyhow::ensure!(
            next.is_none() || (next != self.after && !lines.is_empty()),
            "{server} says that the audit log goes on, and sends nothing more of it: try again"
        );
        self.is_over = next.is_none();
        self.after = next;
        Ok(Some(lines))
    }
}

async fn export(session: &Session, args: &AuditExportArgs) -> anyhow::Result<()> {
    let mut query = Vec::new();
    for (name, month) in [("from", args.from), ("through", args.through)] {
        query.extend(month.map(|month| (name, month.to_string())));
    }
    let mut pages = Pages::new(session, query);
    let first = pages.next().await?.unwrap_or_default();
    if first.is_empty() {
        return Ok(note(NO_ROWS.trim_end())?);
    }
    let mut out = Destination::open(args.to.as_deref())?;
    let (progress, bar) = shown_progress();
    progress.tell(Some(WRITING), 0);
    let written = write_out(first, &mut pages, &mut out, &progress).await;
    let said = out.close(written);
    bar.finish_and_clear();
    match said?.trim_end() {
        "" => Ok(()),
        said => Ok(note(said)?),
    }
}

async fn write_out(
    first: Vec<Value>,
    pages: &mut Pages<'_>,
    out: &mut Destination<'_>,
    progress: &Progress,
) -> anyhow::Result<()> {
    let mut page = Some(first);
    while let Some(lines) = page {
        for line in &lines {
            out.line(line)?;
        }
        progress.tell(None, lines.len() as u64);
        page = pages.next().await?;
    }
    Ok(())
}

/// Compares what the server sends with its chain and signatures. Only for the keys its word is taken, unless some were kept.
async fn verify(session: &Session, args: &AuditVerifyArgs) -> anyhow::Result<VerifyReport> {
    let AuditKeys { keys, unproven } = match &args.keys {
        Some(path) => AuditKeys {
            keys: keys_of(path)?,
            unproven: Vec::new(),
        },
        None => {
            let keys = session.ask(Question::get(&["audit", "keys"])).await?;
            let server = session.http.server();
            serde_json::from_value(keys)
                .with_context(|| format!("{server} does not answer as Granary does"))?
        }
    };
    let (progress, bar) = shown_progress();
    progress.tell(
        Some("comparing the rows of the audit log with their chain"),
        0,
    );
    let mut checked = walk(session, &keys, args.last.as_ref(), &progress).await?;
    for _ in 1..WALKS {
        if checked.found == 0 {
            break;
        }
        // Rows that were removed in order, while they were walked along, are no finding.
        let kept = checked.first_kept;
        checked = walk(session, &keys, args.last.as_ref(), &progress).await?;
        if checked.first_kept == kept {
            break;
        }
    }
    bar.finish_and_clear();
    Ok(VerifyReport {
        checked,
        keys,
        unproven,
    })
}

/// Fetches the whole log, and compares it meanwhile.
async fn walk(
    session: &Session,
    keys: &Value,
    last: Option<&LastRow>,
    progress: &Progress,
) -> anyhow::Result<Checked> {
    let (hand, mut handed) = mpsc::channel::<Vec<Value>>(AHEAD);
    let (keys, last) = (keys.clone(), last.cloned());
    let check = tokio::task::spawn_blocking(move || {
        let pages = std::iter::from_fn(|| handed.blocking_recv());
        let lines = pages.flatten().map(|line| Ok(line.to_string()));
        check_exported(lines, &keys, last)
    });
    let mut pages = Pages::new(session, vec![("whole", "true".to_owned())]);
    while let Some(lines) = pages.next().await? {
        let number = lines.len() as u64;
        if hand.send(lines).await.is_err() {
            // It cannot be compared; the check says why.
            break;
        }
        progress.tell(None, number);
    }
    drop(hand);
    let server = session.http.server();
    let checked = check.await.context("the check was cut off")?;
    checked.with_context(|| format!("the audit log of {server} cannot be verified"))
}
