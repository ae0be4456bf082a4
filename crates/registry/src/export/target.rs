//! Where an export goes.

use std::{
    io,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use futures_util::{StreamExt, stream::BoxStream};
use granary_oci::{Digest, Hasher};
use serde_json::{Map, Value, json};
use tokio::io::AsyncWriteExt;

use super::{archive::ArchiveTarget, folder::FolderTarget};
use crate::{MovingError, Progress};

/// The content of `oci-layout`.
pub(super) const LAYOUT: &[u8] = b"{\"imageLayoutVersion\":\"1.0.0\"}";

/// Something to write out: what it must hash to, how long it is, and its bytes.
pub(super) struct Item<'a> {
    pub(super) digest: Digest,
    pub(super) size: u64,
    pub(super) pieces: BoxStream<'a, Result<Bytes, String>>,
}

/// A folder or an archive.
pub(super) enum Target {
    Folder(FolderTarget),
    Archive(ArchiveTarget),
}

impl Target {
    /// Makes sure that an export may go to `path`, and begins it.
    pub(super) async fn open(path: &Path) -> Result<Self, MovingError> {
        let archive = path.extension().is_some_and(|extension| extension == "tar");
        if archive && !path.is_dir() {
            return Ok(Self::Archive(ArchiveTarget::open(path).await?));
        }
        Ok(Self::Folder(FolderTarget::open(path).await?))
    }

    /// Whether it has these bytes already.
    pub(super) async fn has(&self, digest: &Digest, size: u64) -> bool {
        match self {
            Self::Folder(folder) => folder.has(digest, size).await,
            Self::Archive(_) => false,
        }
    }

    /// Writes an item if its bytes are what they should be; says what is wrong with them otherwise.
    pub(super) async fn write(
        &mut self,
        item: Item<'_>,
        progress: &Progress,
    ) -> Result<Result<(), String>, MovingError> {
        match self {
            Self::Folder(folder) => folder.write(item, progress).await,
            Self::Archive(archive) => archive.write(item, progress).await,
        }
    }

    /// Writes the list, and with it makes the whole export visible.
    pub(super) async fn finish(self, entries: Vec<Value>) -> Result<(), MovingError> {
        match self {
            Self::Folder(folder) => folder.finish(entries).await,
            Self::Archive(archive) => archive.finish(entries).await,
        }
    }
}

/// Where a blob lies in a layout.
pub(super) fn blob_path(digest: &Digest) -> String {
    format!("blobs/{}", digest.to_string().replace(':', "/"))
}

/// The list of a new layout.
pub(super) fn new_index() -> Map<String, Value> {
    let mut index = Map::new();
    index.insert("schemaVersion".to_owned(), json!(2));
    index.insert(
        "mediaType".to_owned(),
        json!(granary_oci::media_type::IMAGE_INDEX),
    );
    index.insert("manifests".to_owned(), json!([]));
    index
}

/// Writes the bytes of an item and compares them with its digest.
pub(super) async fn copy(
    file: &mut tokio::fs::File,
    mut item: Item<'_>,
    progress: &Progress,
) -> io::Result<Result<(), String>> {
    let mut hasher = Hasher::new(Some(item.digest.algorithm()));
    let mut length = 0;
    while let Some(piece) = item.pieces.next().await {
        let piece = match piece {
            Ok(piece) => piece,
            Err(problem) => return Ok(Err(problem)),
        };
        length += piece.len() as u64;
        if length > item.size {
            break;
        }
        hasher.update(&piece);
        file.write_all(&piece).await?;
        progress.advance(piece.len() as u64);
    }
    file.flush().await?;
    if length != item.size {
        let size = item.size;
        return Ok(Err(format!("it has {length} bytes instead of {size}")));
    }
    match hasher.digest(item.digest.algorithm()) {
        Some(actual) if actual == item.digest => Ok(Ok(())),
        Some(actual) => Ok(Err(format!("its bytes hash to {actual}"))),
        None => Ok(Err("a hasher lost its algorithm".to_owned())),
    }
}

/// A file that is not there yet under its own name, and goes away if it never gets it.
pub(super) struct Draft {
    path: PathBuf,
    kept: bool,
}

impl Draft {
    /// Makes a file beside `path`.
    pub(super) async fn create(path: &Path) -> io::Result<(Self, tokio::fs::File)> {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let id = uuid::Uuid::new_v4().simple();
        let draft = path.with_file_name(format!(".{name}.{id}{PART}"));
        let mut options = tokio::fs::OpenOptions::new();
        let file = options.read(true).write(true).create_new(true);
        let file = file.open(&draft).await?;
        Ok((
            Self {
                path: draft,
                kept: false,
            },
            file,
        ))
    }

    /// Makes the bytes durable and gives the file its name. The folder is the caller's to sync.
    pub(super) async fn keep(mut self, file: tokio::fs::File, path: &Path) -> io::Result<()> {
        file.sync_all().await?;
        drop(file);
        tokio::fs::rename(&self.path, path).await?;
        self.kept = true;
        Ok(())
    }
}

/// How the names of drafts end.
pub(super) const PART: &str = ".granary-part";

impl Drop for Draft {
    fn drop(&mut self) {
        if !self.kept {
            // Should it stay, the next export to this folder removes it.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Makes the names in a folder durable.
pub(super) async fn sync_folder(path: &Path) -> io::Result<()> {
    tokio::fs::File::open(path).await?.sync_all().await
}
