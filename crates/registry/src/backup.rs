//! Backups: a folder that is an installation itself, with a note of what it holds.
//!
//! ```text
//! <folder>/
//!   backup.json       what this is, and whether it is complete ([`BackupNote`])
//!   granary.db        the catalog as it was at one moment
//!   blobs/            the objects that it names, under their own keys; never changed, so the next backup adds to them
//!   granary.db.part   the next catalog while it is made
//!   lock              held by whoever writes here
//! ```

use std::{
    collections::BTreeMap,
    fs::{self, File, TryLockError},
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use granary_blobs::{BlobStore, FileStore, ObjectKey, StoreError};
use granary_catalog::{Catalog, Snapshot};

use crate::{
    CopyError, CopyOptions, CopyReport, Progress, Registry, Side,
    copy::{Origin, Tokens, copy, each_stranger, held, time},
};

/// The version of the form of a backup.
const FORMAT: u32 = 1;
const NOTE: &str = "backup.json";
const DATABASE: &str = "granary.db";
const PART: &str = "granary.db.part";
/// Most objects that one backup removes because nothing names them any more; the next one removes more.
const REMOVED: usize = 1_000_000;

/// What a backup is.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct BackupNote {
    /// The version of its form.
    pub format: u32,
    /// Whether it can be restored.
    pub complete: bool,
    /// The installation that it is of.
    pub store_id: String,
    /// When it was begun.
    pub started_at: String,
    /// When it was complete.
    pub finished_at: Option<String>,
    /// The version that made it.
    pub version: String,
    /// The schema release that its database was brought to. If there are accounts in it, the database notes one more.
    pub schema_release: i64,
    /// Rows of each table.
    pub rows: BTreeMap<String, u64>,
    /// Objects in it.
    pub objects: u64,
    /// Blobs whose bytes were missing or damaged when it was made.
    pub lost: u64,
}

/// What a backup came to.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct BackupReport {
    /// Where it is.
    pub folder: PathBuf,
    /// When it was begun; nothing later is in it.
    pub started_at: String,
    /// When it was complete.
    pub finished_at: String,
    /// What was copied.
    #[serde(flatten)]
    pub copy: CopyReport,
    /// Objects of earlier backups that were removed, because nothing names them any more.
    pub removed: u64,
}

impl Registry {
    /// Makes a backup in `folder`, or brings the one that is there up to date. The service goes on meanwhile.
    pub async fn back_up(
        &self,
        folder: &Path,
        progress: &Progress,
    ) -> Result<BackupReport, CopyError> {
        let from = self.side();
        let fresh = uuid::Uuid::new_v4().simple().to_string();
        let store_id = from.catalog.setting("store-id", fresh).await?;
        let mut note = BackupNote {
            format: FORMAT,
            complete: false,
            store_id,
            started_at: time(),
            finished_at: None,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            schema_release: granary_catalog::schema_release(),
            rows: BTreeMap::new(),
            objects: 0,
            lost: 0,
        };
        fs::create_dir_all(folder).map_err(file("making", folder))?;
        let _lock = lock(folder)?;
        prepare(folder, &note)?;
        let store = open_store(folder).map_err(CopyError::Target)?;
        let (copied, strangers) =
            held(from.catalog, self.copy_into(folder, &store, progress)).await?;
        replace(folder).await?;
        store.delete(&strangers).await.map_err(CopyError::Target)?;
        let finished_at = time();
        note.complete = true;
        note.finished_at = Some(finished_at.clone());
        note.rows.clone_from(&copied.rows);
        note.objects = copied.objects + copied.present;
        note.lost = (copied.missing.len() + copied.damaged.len()) as u64;
        write_note(folder, &note)?;
        Ok(BackupReport {
            folder: folder.to_owned(),
            started_at: note.started_at,
            finished_at,
            copy: CopyReport {
                strangers: 0,
                stranger_keys: Vec::new(),
                ..copied
            },
            removed: strangers.len() as u64,
        })
    }

    /// Copies into `granary.db.part` and the objects; answers which objects are not needed any more.
    async fn copy_into(
        &self,
        folder: &Path,
        store: &FileStore,
        progress: &Progress,
    ) -> Result<(CopyReport, Vec<ObjectKey>), CopyError> {
        let from = self.side();
        let origin = Origin {
            snapshot: from.catalog.snapshot().await?,
            store: from.store,
        };
        let part = folder.join(PART);
        let catalog = Catalog::open_sqlite(&part).await?;
        let to = Side {
            catalog: &catalog,
            store,
        };
        let copied = copy(origin, to, CopyOptions::default(), Tokens::Keep, progress).await?;
        let mut strangers = Vec::new();
        each_stranger(to, |keys| {
            let room = REMOVED.saturating_sub(strangers.len());
            let keys = keys.iter().filter_map(|key| key.parse().ok());
            strangers.extend(keys.take(room));
        })
        .await?;
        catalog.seal().await?;
        Ok((copied, strangers))
    }
}

/// Puts the backup in `folder` into an empty installation, or the rest of it.
pub async fn restore(
    folder: &Path,
    to: Side<'_>,
    options: CopyOptions,
    progress: &Progress,
) -> Result<CopyReport, CopyError> {
    let note = read_note(folder)?.ok_or_else(|| {
        CopyError::Folder(format!(
            "{} is no backup: there is no {NOTE} in it",
            folder.display()
        ))
    })?;
    if !note.complete {
        return Err(CopyError::Folder(format!(
            "the backup in {} was begun on {} and never ended: run the backup again",
            folder.display(),
            note.started_at
        )));
    }
    // A backup that cannot be written to is nobody's to change either.
    let _lock = match lock(folder) {
        Err(CopyError::File { source, .. })
            if matches!(
                source.kind(),
                io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem
            ) =>
        {
            None
        }
        lock => Some(lock?),
    };
    let database = folder.join(DATABASE);
    if note.schema_release < granary_catalog::schema_release() {
        progress.say("bringing the backup's database to the schema of this version");
        let catalog = Catalog::open_sqlite(&database).await?;
        catalog.seal().await?;
    }
    let store = open_store(folder).map_err(CopyError::Source)?;
    let origin = Origin {
        snapshot: Snapshot::open_sqlite(&database).await?,
        store: &store,
    };
    copy(origin, to, options, Tokens::Withdraw, progress).await
}

fn open_store(folder: &Path) -> Result<FileStore, StoreError> {
    FileStore::open(&folder.join("blobs"), 0)
}

/// Makes sure that the folder is empty or a backup of the same installation, and that there is nothing half done in it.
fn prepare(folder: &Path, note: &BackupNote) -> Result<(), CopyError> {
    match read_note(folder)? {
        Some(known) if known.store_id != note.store_id => {
            return Err(CopyError::Folder(format!(
                "{} holds a backup of another installation (store-id {}): use a folder of its own",
                folder.display(),
                known.store_id
            )));
        }
        Some(_) => {}
        None => {
            let entries = fs::read_dir(folder).map_err(file("reading", folder))?;
            for entry in entries {
                let entry = entry.map_err(file("reading", folder))?;
                if entry.file_name() != "lock" {
                    return Err(CopyError::Folder(format!(
                        "{} holds something that is no backup: use an empty folder",
                        folder.display()
                    )));
                }
            }
            write_note(folder, note)?;
        }
    }
    let log = folder.join(format!("{DATABASE}-wal"));
    if has_write_ahead_log(&folder.join(DATABASE))
        || fs::metadata(&log).is_ok_and(|log| log.len() > 0)
    {
        return Err(CopyError::Folder(format!(
            "{} was used as an installation since the last backup (serve, scrub, gc, why and migrate open it as one): use another folder",
            folder.display()
        )));
    }
    for suffix in ["", "-wal", "-shm", "-journal"] {
        let path = folder.join(format!("{PART}{suffix}"));
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(file("removing", &path)(error));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Whether a server has run on the database since it was sealed. Sealing takes the write-ahead log from a database
/// (<https://www.sqlite.org/fileformat.html>, bytes 18 and 19), and serving it gives it one for good.
fn has_write_ahead_log(database: &Path) -> bool {
    let mut head = [0; 20];
    let read = File::open(database).and_then(|mut file| file.read_exact(&mut head));
    read.is_ok() && head[18..] != [1, 1]
}

/// Puts the finished catalog in the place of the one before.
async fn replace(folder: &Path) -> Result<(), CopyError> {
    let (part, whole) = (folder.join(PART), folder.join(DATABASE));
    let synced = tokio::fs::File::open(&part).await;
    let synced = match synced {
        Ok(part) => part.sync_all().await,
        Err(error) => Err(error),
    };
    synced.map_err(file("syncing", &part))?;
    fs::rename(&part, &whole).map_err(file("renaming", &part))?;
    sync(folder)
}

fn read_note(folder: &Path) -> Result<Option<BackupNote>, CopyError> {
    let path = folder.join(NOTE);
    let text = match fs::read(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        text => text.map_err(file("reading", &path))?,
    };
    let note: BackupNote = serde_json::from_slice(&text).map_err(|error| {
        CopyError::Folder(format!("{} cannot be read: {error}", path.display()))
    })?;
    if note.format > FORMAT {
        return Err(CopyError::Folder(format!(
            "{} has format {}, and this version of granary knows {FORMAT}: use a newer one",
            path.display(),
            note.format
        )));
    }
    Ok(Some(note))
}

fn write_note(folder: &Path, note: &BackupNote) -> Result<(), CopyError> {
    let (path, draft) = (folder.join(NOTE), folder.join("backup.json.part"));
    let text = serde_json::to_vec_pretty(note)
        .map_err(|error| CopyError::Folder(format!("the note cannot be written: {error}")))?;
    fs::write(&draft, text)
        .and_then(|()| File::open(&draft)?.sync_all())
        .map_err(file("writing", &draft))?;
    fs::rename(&draft, &path).map_err(file("renaming", &draft))?;
    sync(folder)
}

fn sync(folder: &Path) -> Result<(), CopyError> {
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(file("syncing", folder))
}

fn lock(folder: &Path) -> Result<File, CopyError> {
    let path = folder.join("lock");
    // What lies there may be anybody's, until it is known to be a backup.
    let lock = File::options()
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .map_err(file("opening", &path))?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(CopyError::Folder(format!(
            "another process uses {}: wait for it",
            folder.display()
        ))),
        Err(TryLockError::Error(error)) => Err(file("locking", &path)(error)),
    }
}

fn file(what: &str, path: &Path) -> impl FnOnce(io::Error) -> CopyError {
    let what = format!("{what} {}", path.display());
    move |source| CopyError::File { what, source }
}
