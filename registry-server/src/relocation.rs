//! The commands that copy a whole installation: `backup`, `restore` and `migrate`.

use std::path::Path;

use anyhow::Context;
use granary_registry::{CopyOptions, CopyReport, Maintenance, copy_installation};
use indicatif::HumanBytes;
use serde_json::{Value, json};

use crate::{
    cli::{BackupArgs, MigrateArgs, RestoreArgs},
    config::{Config, ConfigError, LoadOptions, StorageKind},
    installation::{DataLock, Missing, Parts, missing},
    maintenance::{moment, print, run, with_progress},
    moving::{UsageError, absolute_target},
};

/// `granary backup`. Fails if something is not in the backup, so that scripts notice.
pub fn backup(config: Config, args: &BackupArgs) -> anyhow::Result<()> {
    let to = absolute_target(&args.to)?;
    let report = run(&config, Maintenance::Backup { to })?;
    let mut text = format!(
        "{} holds everything as it was on {}\n{}, {} removed that nothing needs any more\n",
        args.to.display(),
        moment(report["started_at"].as_str().unwrap_or_default()),
        counts(&report),
        report["removed"],
    );
    lost(&mut text, &report);
    print(&report, args.json, &text)?;
    whole(
        &report,
        "restored, they answer 404 until they are pushed again",
    )
}

/// `granary restore`. Fails if something is missing or damaged, so that scripts notice.
pub fn restore(config: Config, args: &RestoreArgs) -> anyhow::Result<()> {
    if !args.from.join("backup.json").is_file() {
        let problem = format!(
            "{} is no backup: there is no backup.json in it",
            args.from.display()
        );
        return Err(UsageError(problem).into());
    }
    let options = CopyOptions {
        verify: args.verify,
    };
    let report = with_progress(async |progress| {
        let to = open(&config, "target").await?;
        let done = granary_registry::restore(&args.from, to.side(), options, progress).await;
        to.close().await;
        Ok(done?)
    })?;
    let text = format!("restored from {}\n", args.from.display());
    tell(&report, args.json, text)
}

/// `granary migrate`. Fails if something is missing or damaged, so that scripts notice.
pub fn migrate(args: &MigrateArgs) -> anyhow::Result<()> {
    let from = config_of(&args.from, args.from_data.as_deref(), Config::load_alone)?;
    let to = config_of(&args.to, args.to_data.as_deref(), Config::load)?;
    let options = CopyOptions {
        verify: args.verify,
    };
    let report = with_progress(async |progress| {
        if let Some(Missing { place, .. }) = missing(&from).await? {
            anyhow::bail!("there is no installation in {place}: name the source's with --from");
        }
        let source = open(&from, "source").await?;
        if !args.force {
            nobody_serves(&source).await?;
        }
        let target = open(&to, "target").await?;
        let done = copy_installation(source.side(), target.side(), options, progress).await;
        target.close().await;
        source.close().await;
        Ok(done?)
    })?;
    let text = format!(
        "copied from {} to {}: from now on serve the target only\n",
        args.from.display(),
        args.to.display()
    );
    tell(&report, args.json, text)
}

/// A settings file, or the data folder of an installation without one.
fn config_of(
    path: &Path,
    data: Option<&Path>,
    load: fn(LoadOptions) -> Result<Config, ConfigError>,
) -> anyhow::Result<Config> {
    let options = match (path.is_dir(), data) {
        (true, Some(_)) => {
            let problem = format!(
                "{} is a data folder itself: give a settings file, or leave the other folder out",
                path.display()
            );
            return Err(UsageError(problem).into());
        }
        (true, None) => LoadOptions {
            data: Some(path.to_owned()),
            ..LoadOptions::default()
        },
        (false, data) => LoadOptions {
            file: Some(path.to_owned()),
            data: data.map(Path::to_owned),
            ..LoadOptions::default()
        },
    };
    // What the environment says is about one installation, and a bare folder is another.
    Ok(if path.is_dir() {
        Config::load_alone(options)?
    } else {
        load(options)?
    })
}

/// Opens one end of a copy, which no process may use meanwhile.
async fn open(config: &Config, side: &'static str) -> anyhow::Result<Parts> {
    if config.storage.kind == StorageKind::Memory {
        let problem = format!("the {side} has storage.kind = \"memory\", which keeps nothing");
        return Err(UsageError(problem).into());
    }
    let lock = if config.database.url.is_shared() {
        None
    } else {
        let lock = DataLock::take(&config.data)?.with_context(|| {
            format!(
                "another process uses the data folder {}, or it is that of the other end: stop it, or name another folder",
                config.data.display()
            )
        })?;
        Some(lock)
    };
    Parts::open(config, lock)
        .await
        .with_context(|| format!("the {side} cannot be opened"))
}

async fn nobody_serves(source: &Parts) -> anyhow::Result<()> {
    let replicas = source.catalog.replicas().await?;
    let ids: Vec<&str> = replicas.iter().map(|replica| &*replica.id).collect();
    anyhow::ensure!(
        ids.is_empty(),
        "the source is served by {}: stop them, and wait a minute for those that were killed; with --force what is pushed \
         meanwhile is lost",
        ids.join(", ")
    );
    Ok(())
}

fn tell(report: &CopyReport, as_json: bool, mut text: String) -> anyhow::Result<()> {
    let report = json!(report);
    text.push_str(&counts(&report));
    text.push('\n');
    lost(&mut text, &report);
    let withdrawn = report["tokens_withdrawn"].as_u64().unwrap_or(0);
    if withdrawn > 0 {
        text.push_str(&format!(
            "{withdrawn} API tokens were withdrawn, because some may have been since the backup was made: make new ones\n"
        ));
    }
    let strangers = report["strangers"].as_u64().unwrap_or(0);
    if strangers > 0 {
        text.push_str(&format!(
            "{strangers} objects in the target that nothing names; they are not touched:\n"
        ));
        for key in list(&report, "stranger_keys") {
            text.push_str(&format!("  {}\n", key.as_str().unwrap_or_default()));
        }
    }
    print(&report, as_json, &text)?;
    whole(
        &report,
        "they answer 404 until they are pushed again, or `granary scrub` finds them good",
    )
}

fn counts(report: &Value) -> String {
    let rows = |table: &str| report["rows"][table].as_u64().unwrap_or(0);
    let mut text = format!(
        "{} repositories, {} manifests, {} tags, {} blobs; {} objects copied ({}), {} were there",
        rows("repositories"),
        rows("manifests"),
        rows("tags"),
        rows("blobs"),
        report["objects"],
        HumanBytes(report["bytes"].as_u64().unwrap_or(0)),
        report["present"],
    );
    let verified = report["verified"].as_u64().unwrap_or(0);
    if verified > 0 {
        text.push_str(&format!(", {verified} blobs and manifests verified"));
    }
    let quarantined = report["quarantined"].as_u64().unwrap_or(0);
    if quarantined > 0 {
        text.push_str(&format!(
            ", {quarantined} known to be damaged before and still so"
        ));
    }
    text
}

/// One line for everything that did not arrive.
fn lost(text: &mut String, report: &Value) {
    for label in ["missing", "damaged"] {
        for one in list(report, label) {
            let word = |field: &str| one[field].as_str().unwrap_or_default();
            let (kind, digest, problem) = (word("kind"), word("digest"), word("problem"));
            text.push_str(&format!("{label} {kind} {digest}: {problem}\n"));
        }
    }
}

fn list<'a>(report: &'a Value, field: &str) -> &'a [Value] {
    report[field].as_array().map_or(&[][..], Vec::as_slice)
}

/// An error if something did not arrive.
fn whole(report: &Value, next: &str) -> anyhow::Result<()> {
    match list(report, "missing").len() + list(report, "damaged").len() {
        0 => Ok(()),
        number => anyhow::bail!("{number} blobs or manifests missing or damaged: {next}"),
    }
}
