//! The commands that move content in and out.

use std::path::{Path, PathBuf};

use granary_registry::{ExportRequest, ImportRequest, Maintenance, MovingError, SourceKind};
use indicatif::HumanBytes;
use serde_json::Value;

use crate::{
    cli::{ExportArgs, ImportArgs},
    config::Config,
    maintenance::{print, run},
};

/// What was asked for cannot be done as it was written.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct UsageError(pub(crate) String);

/// `granary import`. Fails if something was left out, so that scripts notice.
pub fn import(config: Config, args: &ImportArgs) -> anyhow::Result<()> {
    let path = absolute(&args.path)?;
    let kind = recognise(&path)?;
    if kind == SourceKind::Layout && args.repository.is_none() {
        return Err(UsageError(MovingError::RepositoryNeeded.to_string()).into());
    }
    let request = ImportRequest {
        path,
        repository: args.repository.clone(),
        dry_run: args.dry_run,
    };
    let report = run(&config, Maintenance::Import(request))?;
    let (blobs, manifests, tags) = (&report["blobs"], &report["manifests"], &report["tags"]);
    let mut text = format!(
        "{} is {}\n{}{} repositories: {} manifests ({} were here), {} blobs copied ({}), {} of other repositories, \
         {} were here; {} tags new, {} moved, {} as they were\n",
        args.path.display(),
        match kind {
            SourceKind::StorageTree => "the storage of a registry",
            SourceKind::Layout => "an OCI image layout",
        },
        if args.dry_run { "would come from " } else { "" },
        report["repositories"],
        manifests["stored"],
        manifests["held"],
        blobs["copied"],
        HumanBytes(blobs["bytes"].as_u64().unwrap_or(0)),
        blobs["mounted"],
        blobs["held"],
        tags["created"],
        tags["moved"],
        tags["held"],
    );
    findings(&mut text, "note", &report["notes"]);
    findings(&mut text, "left out", &report["left_out"]);
    print(&report, args.json, &text)?;
    complete(
        &report,
        "everything else came; run it again when that is repaired",
    )
}

/// `granary export`. Fails if something was left out, so that scripts notice.
pub fn export(config: Config, args: &ExportArgs) -> anyhow::Result<()> {
    let Some(first) = args.references.first().map(|first| &first.repository) else {
        return Err(UsageError(MovingError::NothingNamed.to_string()).into());
    };
    if let Some(other) = args
        .references
        .iter()
        .find(|reference| reference.repository != *first)
    {
        let several = MovingError::SeveralRepositories(first.clone(), other.repository.clone());
        return Err(UsageError(several.to_string()).into());
    }
    let request = ExportRequest {
        references: args.references.clone(),
        to: absolute_target(&args.to)?,
    };
    let report = run(&config, Maintenance::Export(request))?;
    let mut text = format!(
        "{} exported to {}: {} tags, {} manifests ({} referrers), {} files written ({}), {} were there\n",
        first,
        args.to.display(),
        report["tags"],
        report["manifests"],
        report["referrers"],
        report["written"],
        HumanBytes(report["bytes"].as_u64().unwrap_or(0)),
        report["kept"],
    );
    findings(&mut text, "left out", &report["left_out"]);
    print(&report, args.json, &text)?;
    complete(&report, "everything else was exported")
}

/// An error if something was left out.
fn complete(report: &Value, next: &str) -> anyhow::Result<()> {
    match report["left_out"]["number"].as_u64().unwrap_or(0) {
        0 => Ok(()),
        number => anyhow::bail!("{number} left out: {next}"),
    }
}

/// One line for each finding, and one for those that are only counted.
fn findings(text: &mut String, label: &str, findings: &Value) {
    let shown = findings["shown"].as_array().map_or(&[][..], Vec::as_slice);
    for finding in shown {
        let word = |field: &str| finding[field].as_str().unwrap_or_default();
        let place = match word("repository") {
            "" => String::new(),
            repository => format!(" in {repository}"),
        };
        text.push_str(&format!(
            "{label}: {} {}{place}: {} ({})\n",
            word("kind"),
            word("what"),
            word("why"),
            word("remedy"),
        ));
    }
    let number = findings["number"].as_u64().unwrap_or(0);
    let more = number.saturating_sub(shown.len() as u64);
    if more > 0 {
        text.push_str(&format!("{label}: {more} more\n"));
    }
}

/// The path as the server has to know it, which runs in another folder.
fn absolute(path: &Path) -> Result<PathBuf, UsageError> {
    path.canonicalize()
        .map_err(|error| UsageError(format!("{} cannot be opened: {error}", path.display())))
}

/// The same for a path that need not be there yet; its folder must.
pub(crate) fn absolute_target(path: &Path) -> Result<PathBuf, UsageError> {
    if path.exists() {
        return absolute(path);
    }
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => absolute(parent)?,
        _ => absolute(Path::new("."))?,
    };
    match path.file_name() {
        Some(name) => Ok(parent.join(name)),
        None => Err(UsageError(format!(
            "{} names no file or folder",
            path.display()
        ))),
    }
}

fn recognise(path: &Path) -> anyhow::Result<SourceKind> {
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let recognised = runtime.block_on(granary_registry::recognise(path));
    recognised.map_err(|error| match error {
        MovingError::NotRecognised { .. } => UsageError(error.to_string()).into(),
        other => other.into(),
    })
}
