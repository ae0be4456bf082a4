//! `granary admin audit` commands.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, BufWriter, Write},
    path::Path,
    time::Duration,
};

use anyhow::Context;
use granary_registry::{
    AuditCommand, AuditCursor, AuditPage, AuditQuery, AuditRange, Maintenance, Progress,
    check_exported,
};
use serde_json::{Value, json};

use crate::{
    cli::{AuditCommand as Command, AuditExportArgs, AuditListArgs, AuditVerifyArgs, Since},
    config::Config,
    control,
    installation::{DataLock, Installation},
    maintenance::{print, report_json, run, with_progress},
};

/// `granary admin audit`
pub fn audit(command: &Command) -> anyhow::Result<()> {
    match command {
        Command::Verify(args) => verify(args),
        Command::Export(args) => export(args),
        Command::List(args) => list(args),
    }
}

/// Fails if something is wrong with the log, so that scripts notice.
fn verify(args: &AuditVerifyArgs) -> anyhow::Result<()> {
    let report = match (&args.file, &args.keys) {
        (Some(file), Some(keys)) => verify_file(file, keys, args)?,
        _ => {
            let last = args.last.clone();
            run(
                &args.config.load()?,
                Maintenance::Audit(AuditCommand::Verify { last }),
            )?
        }
    };
    print(&report, args.json, &verified(&report))?;
    let found = report["found"].as_u64().unwrap_or(u64::MAX);
    anyhow::ensure!(
        found == 0,
        "the audit log is not as it was sealed; findings: {found}"
    );
    Ok(())
}

fn verify_file(file: &Path, keys: &Path, args: &AuditVerifyArgs) -> anyhow::Result<Value> {
    let unreadable = |path: &Path| format!("{} cannot be read", path.display());
    let set = std::fs::read_to_string(keys).with_context(|| unreadable(keys))?;
    let set: Value = serde_json::from_str(&set).with_context(|| unreadable(keys))?;
    // Either the set itself, or the whole report that it stands in.
    let set = match set["keys"].is_object() {
        true => &set["keys"],
        false => &set,
    };
    let lines = BufReader::new(File::open(file).with_context(|| unreadable(file))?).lines();
    let checked = check_exported(lines, set, args.last.clone())
        .with_context(|| format!("{} cannot be verified", file.display()))?;
    Ok(json!(checked))
}

fn verified(report: &Value) -> String {
    let mut text = String::new();
    for finding in report["findings"].as_array().into_iter().flatten() {
        let (fault, problem) = (word(finding, "fault"), word(finding, "problem"));
        text.push_str(&format!("{fault}: {problem}\n"));
    }
    let number = |field: &str| report[field].as_i64().unwrap_or_default();
    text.push_str(&format!(
        "{} rows and {} checkpoints compared\n",
        number("rows"),
        number("checkpoints")
    ));
    if number("first_kept") > 1 {
        text.push_str(&format!(
            "rows up to {} were exported and removed\n",
            number("first_kept") - 1
        ));
    }
    text.push_str(&format!("not yet signed: {}\n", number("unsigned")));
    for kid in report["unproven"].as_array().into_iter().flatten() {
        text.push_str(&format!(
            "the key {} signed, which auth.key_file does not open: compare it with the one you noted\n",
            kid.as_str().unwrap_or_default()
        ));
    }
    if report["was_compared"] == false {
        text.push_str(
            "the row of --last is not there any more, and nothing was compared with it\n",
        );
    }
    text.push_str(&format!(
        "keep this elsewhere for the next time: --last {}\n",
        word(report, "last")
    ));
    text
}

fn export(args: &AuditExportArgs) -> anyhow::Result<()> {
    let config = args.config.load()?;
    let mut said = String::new();
    with_progress(async |progress| {
        let place = Place::open(&config).await?;
        let (from, through) = (args.from, args.through);
        let range = AuditCommand::Range { from, through };
        let range = place.ask(range, progress).await?["range"].take();
        let range: Option<AuditRange> = serde_json::from_value(range)?;
        let Some(range) = range else {
            said = "there are no such rows in the audit log: nothing was written\n".to_owned();
            return Ok(());
        };
        progress.tell(Some("writing the audit log out"), 0);
        match &args.to {
            None => {
                let mut out = BufWriter::new(io::stdout());
                write_out(&place, &range, &mut out, progress).await?;
            }
            Some(path) => {
                let problem = || format!("{} cannot be written", path.display());
                let file = new_file(path).with_context(problem)?;
                let mut out = BufWriter::new(file);
                write_out(&place, &range, &mut out, progress)
                    .await
                    .with_context(problem)?;
                let file = out.into_inner().map_err(io::IntoInnerError::into_error);
                // What is removed next must not be lost with the power.
                file.and_then(|file| file.sync_all())
                    .with_context(problem)?;
                sync_folder_of(path).with_context(problem)?;
                said = format!("written to {}\n", path.display());
            }
        }
        if args.delete {
            let exported = range.last_row;
            let remove = AuditCommand::Remove { through, exported };
            let removed = place.ask(remove, progress).await?;
            said.push_str(&format!("{} rows removed\n", removed["rows"]));
        }
        Ok(())
    })?;
    // Standard output may be the export.
    io::stderr().write_all(said.as_bytes())?;
    Ok(())
}

/// Who may read who did what from where: the one who asked for it.
fn new_file(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt as _;
    File::options()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
}

fn sync_folder_of(path: &Path) -> io::Result<()> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    File::open(folder)?.sync_all()
}

async fn write_out(
    place: &Place<'_>,
    range: &AuditRange,
    out: &mut impl Write,
    progress: &Progress,
) -> anyhow::Result<()> {
    let mut next: Option<AuditCursor> = Some(range.cursor());
    while let Some(after) = next {
        let range = range.clone();
        let page = place.ask(AuditCommand::Page { range, after }, progress);
        let page: AuditPage = serde_json::from_value(page.await?)?;
        for line in &page.lines {
            writeln!(out, "{line}")?;
        }
        progress.tell(None, page.lines.len() as u64);
        next = page.next;
    }
    Ok(out.flush()?)
}

/// Where the log is: in the server that holds the data folder, or here. Several questions go to the same.
enum Place<'c> {
    Server(&'c Config),
    Here(Box<Installation>),
}

impl<'c> Place<'c> {
    async fn open(config: &'c Config) -> anyhow::Result<Self> {
        Ok(match DataLock::take(&config.data)? {
            None => Self::Server(config),
            Some(lock) => Self::Here(Box::new(Installation::open(config, lock).await?)),
        })
    }

    async fn ask(&self, command: AuditCommand, progress: &Progress) -> anyhow::Result<Value> {
        let work = Maintenance::Audit(command);
        match self {
            Self::Server(config) => control::ask(&config.data, &work, progress).await,
            Self::Here(installation) => {
                let report = installation.registry.maintain(work, progress).await?;
                Ok(report_json(&report))
            }
        }
    }
}

fn list(args: &AuditListArgs) -> anyhow::Result<()> {
    let (since, since_ago) = match args.since {
        None => (None, None),
        Some(Since::At(time)) => (Some(time), None),
        Some(Since::Ago(ago)) => (None, Some(ago.max(Duration::from_secs(1)).as_secs())),
    };
    let query = AuditQuery {
        actor: args.actor.clone(),
        target: args.target.clone(),
        action: args.action.clone(),
        denied: args.denied,
        since,
        since_ago,
        limit: args.limit,
    };
    let work = Maintenance::Audit(AuditCommand::List { query });
    let report = run(&args.config.load()?, work)?;
    let events = report["events"].as_array().into_iter().flatten();
    let text: String = events.map(event).collect();
    print(&report, args.json, &text)
}

/// What happened, as a line. What others chose is written so that it stays on the line.
fn event(event: &Value) -> String {
    let allowed = match (event["allowed"] == true, word(event, "reason")) {
        (true, _) => "allowed".to_owned(),
        (false, "") => "DENIED".to_owned(),
        (false, reason) => format!("DENIED ({})", reason.escape_default()),
    };
    let plain = |field: &str| {
        let text = word(event, field);
        match text.is_empty() {
            true => "-".to_owned(),
            false => text.escape_default().to_string(),
        }
    };
    format!(
        "{}  {}  {}  {allowed}  {}  {}  {}\n",
        event["seq"],
        plain("time"),
        plain("action"),
        plain("actor"),
        plain("target"),
        plain("address"),
    )
}

fn word<'r>(report: &'r Value, field: &str) -> &'r str {
    report[field].as_str().unwrap_or_default()
}
