//! The commands that move content in and out.

use std::{
    io,
    path::{Path, PathBuf},
};

use granary_registry::{
    BucketAccess, ExportRequest, ImportRequest, ImportSource, Maintenance, MovingError, SourceKind,
};
use indicatif::HumanBytes;
use serde_json::Value;

use crate::{
    cli::{ExportArgs, ImportArgs, SourceArg},
    config::{Config, LoadOptions, S3Config},
    maintenance::{print, run},
};

/// What was asked for cannot be done as it was written.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct UsageError(pub(crate) String);

/// `granary import`. Fails if something was left out, so that scripts notice.
pub fn import(config: Config, args: &ImportArgs) -> anyhow::Result<()> {
    if args.take_ownership {
        return take_ownership(&config, args);
    }
    let request = ImportRequest {
        source: source(&config, args)?,
        repository: args.repository.clone(),
        dry_run: args.dry_run,
        in_place: args.in_place,
    };
    let report = run(&config, Maintenance::Import(request))?;
    let (blobs, manifests, tags) = (&report["blobs"], &report["manifests"], &report["tags"]);
    let mut text = format!(
        "{} is {}\n{}{} repositories: {} manifests ({} were here), {} blobs copied ({}), {} left in place ({}), \
         {} of other repositories, {} were here; {} tags new, {} moved, {} as they were\n",
        report["path"].as_str().unwrap_or_default(),
        match report["kind"].as_str() {
            Some("layout") => "an OCI image layout",
            _ => "the storage of a registry",
        },
        if args.dry_run { "would come from " } else { "" },
        report["repositories"],
        manifests["stored"],
        manifests["held"],
        blobs["copied"],
        HumanBytes(blobs["bytes"].as_u64().unwrap_or(0)),
        blobs["in_place"],
        HumanBytes(blobs["in_place_bytes"].as_u64().unwrap_or(0)),
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

/// `granary import --take-ownership`. Fails if something is missing or damaged, so that scripts notice.
fn take_ownership(config: &Config, args: &ImportArgs) -> anyhow::Result<()> {
    let source = match &args.source {
        None => None,
        Some(SourceArg::Bucket(address)) => Some(address.clone()),
        Some(SourceArg::Path(path)) => {
            let problem = format!(
                "{} is no bucket: files that were imported in place are this installation's own already",
                path.display()
            );
            return Err(UsageError(problem).into());
        }
    };
    let report = run(config, Maintenance::TakeOwnership { source })?;
    let mut text = format!(
        "{} objects copied ({}) that belonged to another registry\n",
        report["taken"],
        HumanBytes(report["bytes"].as_u64().unwrap_or(0)),
    );
    findings(&mut text, "left out", &report["left_out"]);
    print(&report, args.json, &text)?;
    complete(&report, "they answer 404 until they are pushed again")
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
    path.canonicalize().map_err(|error| {
        let remedy = match error.kind() {
            io::ErrorKind::NotFound => {
                "look how the path is written, and whether what it names is mounted here"
            }
            io::ErrorKind::PermissionDenied => {
                "let the user of granary read it and enter the folders above it"
            }
            _ => "make it readable and run the command again",
        };
        UsageError(format!(
            "{} cannot be opened: {error}: {remedy}",
            path.display()
        ))
    })
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

/// The source as the server has to know it. What a path holds is looked at here, so that a mistake ends before anything
/// begins; a bucket is only opened by whoever reads it.
fn source(config: &Config, args: &ImportArgs) -> anyhow::Result<ImportSource> {
    let Some(source) = &args.source else {
        return Err(UsageError("name what is to be imported".to_owned()).into());
    };
    match (source, &args.source_config) {
        (SourceArg::Path(_), Some(file)) => {
            let problem = format!(
                "--source-config {} says how a bucket is reached, and the source is none",
                file.display()
            );
            Err(UsageError(problem).into())
        }
        (SourceArg::Path(path), None) => {
            let path = absolute(path)?;
            let kind = recognise(&path)?;
            if kind == SourceKind::Layout && args.repository.is_none() {
                return Err(UsageError(MovingError::RepositoryNeeded.to_string()).into());
            }
            Ok(ImportSource::Path(path))
        }
        (SourceArg::Bucket(address), file) => {
            let access = match file {
                None => access(&config.storage.s3)?,
                Some(file) => {
                    let options = LoadOptions {
                        file: Some(file.clone()),
                        ..LoadOptions::default()
                    };
                    // What the environment says is about this installation, and the file is about another place.
                    access(&Config::load_alone(options)?.storage.s3)?
                }
            };
            Ok(ImportSource::Bucket(address.clone(), access))
        }
    }
}

fn access(s3: &S3Config) -> Result<BucketAccess, UsageError> {
    let secret = s3.secret_access_key.as_ref();
    Ok(BucketAccess {
        endpoint: s3.endpoint.as_ref().map(|at| at.as_str().to_owned()),
        region: s3.region.clone(),
        path_style: s3.path_style,
        access_key_id: s3.access_key_id.clone(),
        secret_access_key: secret.map(|secret| secret.expose().to_owned()),
        ca_file: s3.ca_file.as_deref().map(absolute).transpose()?,
    })
}

fn recognise(path: &Path) -> anyhow::Result<SourceKind> {
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let recognised = runtime.block_on(granary_registry::recognise(path));
    recognised.map_err(|error| match error {
        MovingError::NotRecognised { .. } => UsageError(error.to_string()).into(),
        other => other.into(),
    })
}
