//! A layout as a folder.
//!
//! Blobs come first, each under its name only when it is whole; `index.json` comes last and replaces the older one in
//! one step. Whatever ends an export early, the folder is the older layout with some blobs more.

use std::{
    collections::HashSet,
    fs::{File, TryLockError},
    io,
    path::{Path, PathBuf},
};

use granary_oci::Digest;
use serde_json::{Map, Value};
use tokio::{fs, io::AsyncWriteExt};

use super::target::{Draft, Item, LAYOUT, PART, blob_path, copy, new_index, sync_folder};
use crate::{MovingError, Progress, moving::REF_NAME};

pub(super) struct FolderTarget {
    path: PathBuf,
    index: Map<String, Value>,
    /// Folders in which something got a name.
    changed: HashSet<PathBuf>,
    /// One export at a time.
    _lock: File,
}

impl FolderTarget {
    pub(super) async fn open(path: &Path) -> Result<Self, MovingError> {
        let unwritable = |source| unwritable(path, source);
        if path.exists() && !path.is_dir() {
            return Err(MovingError::InTheWay(path.to_owned()));
        }
        fs::create_dir_all(path).await.map_err(unwritable)?;
        let lock = File::open(path).map_err(unwritable)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(MovingError::Busy(path.to_owned())),
            Err(TryLockError::Error(error)) => return Err(unwritable(error)),
        }
        let marker = path.join("oci-layout");
        if !marker.exists() {
            let mut entries = fs::read_dir(path).await.map_err(unwritable)?;
            while let Some(entry) = entries.next_entry().await.map_err(unwritable)? {
                if !is_draft(&entry.file_name().to_string_lossy()) {
                    return Err(MovingError::InTheWay(path.to_owned()));
                }
            }
        }
        let index = read_index(path).await?;
        let target = Self {
            path: path.to_owned(),
            index,
            changed: HashSet::new(),
            _lock: lock,
        };
        target.clear().await.map_err(unwritable)?;
        if !marker.exists() {
            target.replace(&marker, LAYOUT).await.map_err(unwritable)?;
            if let Some(parent) = path.parent() {
                sync_folder(parent).await.map_err(unwritable)?;
            }
        }
        Ok(target)
    }

    /// Removes what an export that was cut left behind.
    async fn clear(&self) -> io::Result<()> {
        let blobs = self.path.join("blobs");
        let folders = [
            self.path.clone(),
            blobs.join("sha256"),
            blobs.join("sha512"),
        ];
        for folder in folders {
            let mut entries = match fs::read_dir(&folder).await {
                Ok(entries) => entries,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            while let Some(entry) = entries.next_entry().await? {
                if is_draft(&entry.file_name().to_string_lossy()) {
                    fs::remove_file(entry.path()).await?;
                }
            }
        }
        Ok(())
    }

    pub(super) async fn has(&self, digest: &Digest, size: u64) -> bool {
        let path = self.path.join(blob_path(digest));
        let found = fs::symlink_metadata(path).await;
        found.is_ok_and(|found| found.is_file() && found.len() == size)
    }

    pub(super) async fn write(
        &mut self,
        item: Item<'_>,
        progress: &Progress,
    ) -> Result<Result<(), String>, MovingError> {
        let path = self.path.join(blob_path(&item.digest));
        let written = self.write_blob(&path, item, progress).await;
        written.map_err(|source| unwritable(&path, source))
    }

    async fn write_blob(
        &mut self,
        path: &Path,
        item: Item<'_>,
        progress: &Progress,
    ) -> io::Result<Result<(), String>> {
        let folder = path.parent().unwrap_or(path);
        if !self.changed.contains(folder) {
            fs::create_dir_all(folder).await?;
            self.changed.insert(folder.to_owned());
        }
        let (draft, mut file) = Draft::create(path).await?;
        if let Err(problem) = copy(&mut file, item, progress).await? {
            return Ok(Err(problem));
        }
        draft.keep(file, path).await?;
        Ok(Ok(()))
    }

    pub(super) async fn finish(mut self, entries: Vec<Value>) -> Result<(), MovingError> {
        let path = self.path.clone();
        self.end(entries)
            .await
            .map_err(|source| unwritable(&path, source))
    }

    async fn end(&mut self, entries: Vec<Value>) -> io::Result<()> {
        // What the list names has to be found again after a power loss before the list names it.
        for folder in &self.changed {
            sync_folder(folder).await?;
        }
        if !self.changed.is_empty() {
            sync_folder(&self.path.join("blobs")).await?;
        }
        sync_folder(&self.path).await?;
        let older = self.index.remove("manifests");
        let mut manifests = keep(older, &entries);
        manifests.extend(entries);
        self.index
            .insert("manifests".to_owned(), Value::Array(manifests));
        let text = serde_json::to_vec(&self.index)?;
        let path = self.path.join("index.json");
        self.replace(&path, &text).await
    }

    async fn replace(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let (draft, mut file) = Draft::create(path).await?;
        file.write_all(bytes).await?;
        file.flush().await?;
        draft.keep(file, path).await?;
        sync_folder(&self.path).await
    }
}

/// The entries of an older list that the new ones do not replace.
fn keep(older: Option<Value>, entries: &[Value]) -> Vec<Value> {
    let name = |entry: &Value| entry["annotations"][REF_NAME].as_str().map(str::to_owned);
    let digest = |entry: &Value| entry["digest"].as_str().map(str::to_owned);
    let names: HashSet<_> = entries.iter().filter_map(name).collect();
    let digests: HashSet<_> = entries.iter().filter_map(digest).collect();
    let Some(Value::Array(mut older)) = older else {
        return Vec::new();
    };
    older.retain(|entry| match (name(entry), digest(entry)) {
        (Some(name), _) => !names.contains(&name),
        (None, Some(digest)) => !digests.contains(&digest),
        (None, None) => true,
    });
    older
}

/// The list of the layout that is there, or an empty one.
async fn read_index(path: &Path) -> Result<Map<String, Value>, MovingError> {
    let path = path.join("index.json");
    let text = match fs::read(&path).await {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(new_index()),
        Err(source) => return Err(MovingError::Unreadable { path, source }),
    };
    serde_json::from_slice(&text).map_err(|error| MovingError::Layout {
        path,
        problem: error.to_string(),
    })
}

fn is_draft(name: &str) -> bool {
    name.starts_with('.') && name.ends_with(PART)
}

fn unwritable(path: &Path, source: io::Error) -> MovingError {
    MovingError::Unwritable {
        path: path.to_owned(),
        source,
    }
}
