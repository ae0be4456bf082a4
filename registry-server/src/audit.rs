//! `granary admin audit` commands, and what `granary audit` shares with them.

use std::{
    fmt::Display,
    fs::File,
    io::{self, BufRead, BufReader, BufWriter, Write},
    path::Path,
    time::Duration,
};

use anyhow::Context;
use granary_registry::{
    AuditCommand, AuditCursor, AuditPage, AuditQuery, AuditRange, LastRow, Maintenance, Progress,
    check_exported,
};
use serde_json::{Value, json};

use crate::{
    cli::{AuditCommand as Command, AuditExportArgs, AuditListArgs, AuditVerifyArgs, Since},
    client::plain,
    config::Config,
    control,
    installation::{DataLock, Installation},
    maintenance::{moment, print, report_json, run, with_progress},
};

/// `granary admin audit`
pub fn audit(command: &Command) -> anyhow::Result<()> {
    match command {
        Command::Verify(args) => verify(args),
        Command::Export(args) => export(args),
        Command::List(args) => list(args),
    }
}

fn verify(args: &AuditVerifyArgs) -> anyhow::Result<()> {
    let last = args.last.clone();
    let report = match (&args.file, &args.keys) {
        (Some(file), Some(keys)) => verify_file(file, &keys_of(keys)?, last)?,
        _ => run(
            &args.config.load()?,
            Maintenance::Audit(AuditCommand::Verify { last }),
        )?,
    };
    tell_verified(&report, args.json)
}

/// The keys that somebody kept: the set itself, or the whole report that it stands in.
pub(crate) fn keys_of(path: &Path) -> anyhow::Result<Value> {
    let unreadable = || format!("{} cannot be read", path.display());
    let set = std::fs::read_to_string(path).with_context(unreadable)?;
    let mut set: Value = serde_json::from_str(&set).with_context(unreadable)?;
    Ok(match set["keys"].is_object() {
        true => set["keys"].take(),
        false => set,
    })
}

/// Verifies an export.
pub(crate) fn verify_file(
    file: &Path,
    keys: &Value,
    last: Option<LastRow>,
) -> anyhow::Result<Value> {
    let unreadable = || format!("{} cannot be read", file.display());
    let lines = BufReader::new(File::open(file).with_context(unreadable)?).lines();
    let checked = check_exported(lines, keys, last)
        .with_context(|| format!("{} cannot be verified", file.display()))?;
    Ok(json!(checked))
}

/// Prints what a verification came to. Fails if something is wrong with the log, so that scripts notice.
pub(crate) fn tell_verified(report: &Value, json: bool) -> anyhow::Result<()> {
    print(report, json, &verified(report))?;
    let found = report["found"].as_u64().unwrap_or(u64::MAX);
    anyhow::ensure!(
        found == 0,
        "the audit log is not as it was sealed; findings: {found}"
    );
    Ok(())
}

fn verified(report: &Value) -> String {
    let mut text = String::new();
    for finding in report["findings"].as_array().into_iter().flatten() {
        // The names of keys in it may come from a server, or from whoever altered the log.
        let (fault, problem) = (word(finding, "fault"), plain(word(finding, "problem")));
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
            plain(kid.as_str().unwrap_or_default())
        ));
    }
    if report["was_compared"] == false {
        text.push_str(
            "the row of --last is not there any more, and nothing was compared with it\n",
        );
    }
    // What was altered is nothing to compare with later.
    if report["found"] == 0 {
        text.push_str(&format!(
            "keep this elsewhere for the next time: --last {}\n",
            word(report, "last")
        ));
    }
    text
}

/// What an export of no rows says.
pub(crate) const NO_ROWS: &str = "there are no such rows in the audit log: nothing was written\n";

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
            said = NO_ROWS.to_owned();
            return Ok(());
        };
        progress.tell(Some(WRITING), 0);
        let mut out = Destination::open(args.to.as_deref())?;
        let written = write_out(&place, &range, &mut out, progress).await;
        said = out.close(written)?;
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

/// What an export shows while it is written.
pub(crate) const WRITING: &str = "writing the audit log out";

/// Where an export goes: a file that was not there before, or standard output.
pub(crate) struct Destination<'p> {
    out: BufWriter<Box<dyn Write>>,
    file: Option<(&'p Path, File)>,
}

impl<'p> Destination<'p> {
    pub(crate) fn open(path: Option<&'p Path>) -> anyhow::Result<Self> {
        let (out, file): (Box<dyn Write>, _) = match path {
            None => (Box::new(io::stdout()), None),
            Some(path) => {
                let problem = || unwritable(path);
                let file = new_file(path).with_context(problem)?;
                let same = file.try_clone().with_context(problem)?;
                (Box::new(file), Some((path, same)))
            }
        };
        let out = BufWriter::new(out);
        Ok(Self { out, file })
    }

    /// Adds a line.
    pub(crate) fn line(&mut self, line: impl Display) -> anyhow::Result<()> {
        let written = writeln!(self.out, "{line}");
        written.with_context(|| self.unwritable())
    }

    /// Makes what was written last, and says where it is; or removes it if not all was `written`.
    pub(crate) fn close(mut self, written: anyhow::Result<()>) -> anyhow::Result<String> {
        let done = written.and_then(|()| {
            self.out.flush().with_context(|| self.unwritable())?;
            let Some((path, file)) = &self.file else {
                return Ok(String::new());
            };
            // What is removed next must not be lost with the power.
            let synced = file.sync_all().and_then(|()| sync_folder_of(path));
            synced.with_context(|| self.unwritable())?;
            Ok(format!("written to {}\n", path.display()))
        });
        if let (Err(_), Some((path, _))) = (&done, &self.file) {
            // A part of a log would look like a whole one. Should it stay, the error says that there is no export.
            let _ = std::fs::remove_file(path);
        }
        done
    }

    fn unwritable(&self) -> String {
        match &self.file {
            Some((path, _)) => unwritable(path),
            None => "standard output cannot be written".to_owned(),
        }
    }
}

fn unwritable(path: &Path) -> String {
    format!("{} cannot be written", path.display())
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
    out: &mut Destination<'_>,
    progress: &Progress,
) -> anyhow::Result<()> {
    let mut next: Option<AuditCursor> = Some(range.cursor());
    while let Some(after) = next {
        let range = range.clone();
        let page = place.ask(AuditCommand::Page { range, after }, progress);
        let page: AuditPage = serde_json::from_value(page.await?)?;
        for line in &page.lines {
            out.line(line)?;
        }
        progress.tell(None, page.lines.len() as u64);
        next = page.next;
    }
    Ok(())
}

/// Where the log is: in the server that holds the data folder, or here. Several questions go to the same.
enum Place<'c> {
    Server(&'c Config),
    Here(Box<Installation>),
}

impl<'c> Place<'c> {
    async fn open(config: &'c Config) -> anyhow::Result<Self> {
        Ok(match DataLock::take_existing(config).await? {
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
    let detail = match &event["detail"] {
        Value::Null => String::new(),
        detail => format!("  {}", plain(&detail.to_string())),
    };
    let plain = |field: &str| {
        let text = word(event, field);
        match text.is_empty() {
            true => "-".to_owned(),
            false => text.escape_default().to_string(),
        }
    };
    format!(
        "{}  {}  {}  {allowed}  {}  {}  {}{detail}\n",
        event["seq"],
        moment(&plain("at")),
        plain("action"),
        plain("actor"),
        plain("target"),
        plain("address"),
    )
}

fn word<'r>(report: &'r Value, field: &str) -> &'r str {
    report[field].as_str().unwrap_or_default()
}
