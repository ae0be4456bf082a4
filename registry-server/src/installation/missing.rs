//! Where there is no installation: most commands make none, because a folder without one is a mistake.

use std::{
    fs::{File, TryLockError},
    io,
    path::Path,
};

use anyhow::Context;

use super::memory_database;
use crate::config::{Config, DatabaseUrl, StorageKind};

/// Where an installation was looked for and is none.
#[derive(Debug, thiserror::Error)]
#[error("there is no installation in {place}: name the server's {remedy}")]
pub struct Missing {
    /// A folder, a file or a database.
    pub place: String,
    remedy: &'static str,
}

const DATA_FOLDER: &str = "data folder with --data";
const DATABASE: &str = "database with database.url";

/// Where there is no installation though `config` says so. What a mistake in its settings names is not touched.
pub async fn missing(config: &Config) -> anyhow::Result<Option<Missing>> {
    let DatabaseUrl::Postgres(url) = &config.database.url else {
        return missing_file(config);
    };
    // The data folder may rightly be empty or not there: what counts is in the database.
    let status = granary_catalog::schema_status(&url.expose()).await;
    let status = status.with_context(|| format!("the database {url} cannot be used"))?;
    if status.release == 0 {
        let place = format!("the database {url}");
        return Ok(Some(Missing {
            place,
            remedy: DATABASE,
        }));
    }
    let root = &config.storage.fs.root;
    let is_below = config.storage.kind == StorageKind::Fs && root.starts_with(&config.data);
    Ok((is_below && !is_there(root)?).then(|| no_folder(config)))
}

/// The same for a catalog in a file; one in a database is not asked.
pub fn missing_file(config: &Config) -> anyhow::Result<Option<Missing>> {
    let Some(path) = config.database.url.path() else {
        return Ok(None);
    };
    let path = match config.storage.kind {
        StorageKind::Memory => memory_database(config),
        StorageKind::Fs | StorageKind::S3 => path.to_owned(),
    };
    if is_there(&path)? {
        return Ok(None);
    }
    Ok(Some(match path.starts_with(&config.data) {
        true => no_folder(config),
        false => Missing {
            place: path.display().to_string(),
            remedy: DATABASE,
        },
    }))
}

fn no_folder(config: &Config) -> Missing {
    Missing {
        place: config.data.display().to_string(),
        remedy: DATA_FOLDER,
    }
}

fn is_there(path: &Path) -> anyhow::Result<bool> {
    match path.try_exists() {
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => Ok(false),
        looked => looked.with_context(|| format!("{} cannot be looked at", path.display())),
    }
}

/// Whether a process holds the lock of `folder`. Makes nothing.
pub(super) fn is_held(folder: &Path) -> anyhow::Result<bool> {
    let path = folder.join("lock");
    match File::options().read(true).write(true).open(&path) {
        Ok(file) => Ok(matches!(file.try_lock(), Err(TryLockError::WouldBlock))),
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
            ) =>
        {
            Ok(false)
        }
        Err(error) => Err(error).with_context(|| format!("{} cannot be opened", path.display())),
    }
}
