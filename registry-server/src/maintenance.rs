//! The commands that look after what is stored. They run in the server that holds the data folder, or here if none does.

use std::{
    io::{self, IsTerminal, Write},
    time::Duration,
};

use granary_oci::Digest;
use granary_registry::{
    AccountsCommand, Explanation, Keeper, Maintenance, MaintenanceReport, Progress,
};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};

use crate::{
    cli::{GcArgs, ScrubArgs, WhyArgs},
    config::Config,
    control,
    installation::{DataLock, Installation},
};

/// `granary gc`
pub fn gc(config: Config, args: &GcArgs) -> anyhow::Result<()> {
    let report = run(
        &config,
        Maintenance::Gc {
            dry_run: args.dry_run,
        },
    )?;
    let text = format!(
        "{}: {} blobs ({}), {} manifests, {} upload sessions, {} objects deleted from the store\n{}",
        if args.dry_run {
            "would be removed, unless something refers to them by then"
        } else {
            "removed"
        },
        report["blobs"],
        indicatif::HumanBytes(report["bytes"].as_u64().unwrap_or(0)),
        report["manifests"],
        report["uploads"],
        report["objects"],
        waiting(&report),
    );
    print(&report, args.json, &text)
}

fn waiting(report: &Value) -> String {
    if report["skipped"] == true {
        return "the clock jumped, so this round was skipped: run it again\n".to_owned();
    }
    let (withdrawn, removed) = (&report["withdrawn"], report["repositories"].as_u64());
    let removed = removed.filter(|number| *number > 0);
    if report["dry_run"] == true {
        let removed =
            removed.map(|number| format!("the rest of {number} removed repositories would go\n"));
        return format!(
            "{withdrawn} blobs would be withdrawn from repositories that no longer refer to them\n{}",
            removed.unwrap_or_default()
        );
    }
    let removed =
        removed.map(|number| format!("the rest of {number} removed repositories is gone\n"));
    format!(
        "{withdrawn} blobs withdrawn from repositories that no longer refer to them\n{}",
        removed.unwrap_or_default()
    )
}

/// `granary scrub`. Fails if something is damaged, so that scripts notice.
pub fn scrub(config: Config, args: &ScrubArgs) -> anyhow::Result<()> {
    let report = run(&config, Maintenance::Scrub { rate: args.rate })?;
    let damaged = report["damaged"].as_array().cloned().unwrap_or_default();
    let mut text = format!(
        "{} blobs and {} manifests re-hashed, {}\n",
        report["blobs"],
        report["manifests"],
        indicatif::HumanBytes(report["bytes"].as_u64().unwrap_or(0)),
    );
    for damage in &damaged {
        let word = |field: &str| damage[field].as_str().unwrap_or_default().to_owned();
        text.push_str(&format!(
            "damaged {} {}: {}\n",
            word("kind"),
            word("digest"),
            word("problem")
        ));
    }
    for digest in report["restored"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
    {
        text.push_str(&format!("good again, and served again: {digest}\n"));
    }
    print(&report, args.json, &text)?;
    if damaged.is_empty() {
        return Ok(());
    }
    anyhow::bail!(
        "{} damaged: not served any more, push them again to repair them",
        damaged.len()
    )
}

/// `granary why DIGEST`
pub fn why(config: Config, args: &WhyArgs) -> anyhow::Result<()> {
    let digest = args.digest;
    let report = run(&config, Maintenance::Why { digest })?;
    let mut text = format!("{digest}\n");
    for line in report["explanation"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
    {
        text.push_str(&format!("  {line}\n"));
    }
    print(&report, args.json, &text)?;
    anyhow::ensure!(report["known"] == true, "{digest} is not stored here");
    Ok(())
}

/// Does `work` in the server that holds the data folder, or here.
pub(crate) fn run(config: &Config, work: Maintenance) -> anyhow::Result<Value> {
    with_progress(async |progress| {
        let lock = match begins(&work) {
            true => DataLock::take(&config.data)?,
            false => DataLock::take_existing(config).await?,
        };
        let Some(lock) = lock else {
            return control::ask(&config.data, &work, progress).await;
        };
        let installation = Installation::open(config, lock).await?;
        let report = installation.registry.maintain(work, progress).await?;
        Ok(report_json(&report))
    })
}

/// Whether it may be the first that is done in an installation, which is made then. Anywhere else a folder without one is a
/// mistake.
fn begins(work: &Maintenance) -> bool {
    matches!(
        work,
        Maintenance::Import(_) | Maintenance::Accounts(AccountsCommand::Bootstrap { .. })
    )
}

/// Does `work` and shows how far it is.
pub(crate) fn with_progress<T>(
    work: impl AsyncFnOnce(&Progress) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let (progress, bar) = shown_progress();
    let report = runtime.block_on(work(&progress));
    bar.finish_and_clear();
    // The work is done; nothing that is left may keep the command from ending.
    runtime.shutdown_timeout(Duration::from_secs(2));
    report
}

/// Progress, and the bar that shows it on a terminal until it is finished.
pub(crate) fn shown_progress() -> (Progress, ProgressBar) {
    let bar = bar();
    let shown = bar.clone();
    let progress = Progress::new(move |stage, by| {
        if let Some(stage) = stage {
            shown.set_message(stage.to_owned());
        }
        shown.inc(by);
    });
    (progress, bar)
}

fn bar() -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{spinner} {msg}  {pos}")
        .unwrap_or_else(|_| ProgressStyle::default_spinner());
    let bar = ProgressBar::new_spinner().with_style(style);
    bar.enable_steady_tick(Duration::from_millis(100));
    bar
}

pub(crate) fn print(report: &Value, json: bool, text: &str) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    if json {
        writeln!(out, "{report:#}")?;
    } else {
        out.write_all(text.as_bytes())?;
    }
    Ok(())
}

/// A report as JSON, the same from here and from a running server.
pub fn report_json(report: &MaintenanceReport) -> Value {
    match report {
        MaintenanceReport::Gc(report) => json!(report),
        MaintenanceReport::Scrub(report) => json!(report),
        MaintenanceReport::Why(digest, explanation) => why_json(digest, explanation),
        MaintenanceReport::Backup(report) => json!(report),
        MaintenanceReport::Import(report) => json!(report),
        MaintenanceReport::TakeOwnership(report) => json!(report),
        MaintenanceReport::Export(report) => json!(report),
        MaintenanceReport::Accounts(report) => json!(report),
        MaintenanceReport::Audit(report) => json!(report),
    }
}

fn why_json(digest: &Digest, explanation: &Explanation) -> Value {
    let mut lines = Vec::new();
    match (explanation.blob, explanation.manifests) {
        (None, 0) => lines.push("not stored here".to_owned()),
        (blob, manifests) => {
            if let Some(size) = blob {
                lines.push(format!("a blob of {size} bytes"));
            }
            if manifests > 0 {
                lines.push(format!("a manifest in {manifests} repositories"));
            }
        }
    }
    if explanation.quarantined {
        lines.push("quarantined: its bytes are damaged; push it again to repair it".to_owned());
    }
    if let Some(name) = &explanation.foreign {
        lines.push(format!(
            "its bytes belong to another registry, as {name} in the bucket: garbage collection never deletes them there"
        ));
    }
    lines.extend(explanation.keepers.iter().map(sentence));
    if explanation.keepers.is_empty() && (explanation.blob.is_some() || explanation.manifests > 0) {
        lines.push("nothing keeps it: garbage collection may remove it".to_owned());
    }
    json!({
        "digest": digest,
        "known": explanation.blob.is_some() || explanation.manifests > 0,
        "blob_size": explanation.blob,
        "manifests": explanation.manifests,
        "quarantined": explanation.quarantined,
        "foreign": explanation.foreign,
        "keepers": explanation.keepers.iter().map(keeper_json).collect::<Vec<_>>(),
        "explanation": lines,
    })
}

fn sentence(keeper: &Keeper) -> String {
    match keeper {
        Keeper::Tag { name } => format!("tagged {name}"),
        Keeper::Manifest { repository, digest } => {
            format!("manifest {repository}@{digest} refers to it")
        }
        Keeper::Subject { repository, digest } => {
            format!("a referrer of {repository}@{digest}, which is there")
        }
        Keeper::Lease { repository, until } => {
            format!(
                "held by {repository}; kept there until {} even if nothing refers to it",
                moment(&time(*until))
            )
        }
        Keeper::Untagged { repository, since } => {
            format!(
                "without a tag in {repository} since {}; [gc] untagged decides how long it stays",
                moment(&time(*since))
            )
        }
    }
}

fn keeper_json(keeper: &Keeper) -> Value {
    match keeper {
        Keeper::Tag { name } => json!({"kind": "tag", "tag": name}),
        Keeper::Manifest { repository, digest } => {
            json!({"kind": "manifest", "repository": repository, "digest": digest})
        }
        Keeper::Subject { repository, digest } => {
            json!({"kind": "subject", "repository": repository, "digest": digest})
        }
        Keeper::Lease { repository, until } => {
            json!({"kind": "lease", "repository": repository, "until": time(*until)})
        }
        Keeper::Untagged { repository, since } => {
            json!({"kind": "untagged", "repository": repository, "since": time(*since)})
        }
    }
}

/// A time of a report as people read it: to the second.
pub(crate) fn moment(time: &str) -> String {
    let parsed = time.parse::<jiff::Timestamp>();
    let second = parsed.and_then(|parsed| jiff::Timestamp::from_second(parsed.as_second()));
    second.map_or_else(|_| time.to_owned(), |second| second.to_string())
}

fn time(micros: i64) -> String {
    jiff::Timestamp::from_microsecond(micros)
        .map_or_else(|_| "an unknown time".to_owned(), |time| time.to_string())
}
