//! A layout as a tar archive, which gets its name when it is whole.

use std::{
    collections::HashSet,
    io::{self, SeekFrom},
    path::{Path, PathBuf},
};

use serde_json::{Value, json};
use tar::{EntryType, Header};
use tokio::{
    fs::File,
    io::{AsyncSeekExt, AsyncWriteExt},
};

use super::target::{Draft, Item, LAYOUT, blob_path, copy, new_index, sync_folder};
use crate::{MovingError, Progress};

const BLOCK: u64 = 512;

pub(super) struct ArchiveTarget {
    path: PathBuf,
    draft: Draft,
    file: File,
    /// Bytes so far.
    length: u64,
    folders: HashSet<String>,
}

impl ArchiveTarget {
    pub(super) async fn open(path: &Path) -> Result<Self, MovingError> {
        let unwritable = |source| unwritable(path, source);
        let (draft, file) = Draft::create(path).await.map_err(unwritable)?;
        let mut target = Self {
            path: path.to_owned(),
            draft,
            file,
            length: 0,
            folders: HashSet::new(),
        };
        target
            .small("oci-layout", LAYOUT)
            .await
            .map_err(unwritable)?;
        Ok(target)
    }

    pub(super) async fn write(
        &mut self,
        item: Item<'_>,
        progress: &Progress,
    ) -> Result<Result<(), String>, MovingError> {
        let written = self.write_blob(item, progress).await;
        written.map_err(|source| unwritable(&self.path, source))
    }

    async fn write_blob(
        &mut self,
        item: Item<'_>,
        progress: &Progress,
    ) -> io::Result<Result<(), String>> {
        let folder = format!("blobs/{}/", item.digest.algorithm());
        for folder in ["blobs/", &folder] {
            if self.folders.insert(folder.to_owned()) {
                self.header(folder, EntryType::Directory, 0).await?;
            }
        }
        let (before, size) = (self.length, item.size);
        self.header(&blob_path(&item.digest), EntryType::Regular, size)
            .await?;
        if let Err(problem) = copy(&mut self.file, item, progress).await? {
            // As if it had never been begun.
            self.file.set_len(before).await?;
            self.file.seek(SeekFrom::Start(before)).await?;
            self.length = before;
            return Ok(Err(problem));
        }
        self.length += size;
        self.pad().await?;
        Ok(Ok(()))
    }

    pub(super) async fn finish(self, entries: Vec<Value>) -> Result<(), MovingError> {
        let path = self.path.clone();
        self.end(entries)
            .await
            .map_err(|source| unwritable(&path, source))
    }

    async fn end(mut self, entries: Vec<Value>) -> io::Result<()> {
        let mut index = new_index();
        index.insert("manifests".to_owned(), json!(entries));
        self.small("index.json", &serde_json::to_vec(&index)?)
            .await?;
        self.file.write_all(&[0; 2 * BLOCK as usize]).await?;
        self.file.flush().await?;
        self.draft.keep(self.file, &self.path).await?;
        match self.path.parent() {
            Some(folder) => sync_folder(folder).await,
            None => Ok(()),
        }
    }

    /// Writes a file that is in memory.
    async fn small(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        self.header(name, EntryType::Regular, bytes.len() as u64)
            .await?;
        self.append(bytes).await?;
        self.pad().await
    }

    async fn header(&mut self, name: &str, kind: EntryType, size: u64) -> io::Result<()> {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(if kind.is_dir() { 0o755 } else { 0o644 });
        header.set_size(size);
        if header.set_path(name).is_err() {
            // The path of a sha512 blob is longer than the field, so it comes before, as GNU tar does it.
            let mut long = Header::new_gnu();
            long.set_entry_type(EntryType::GNULongName);
            long.set_path("././@LongLink")?;
            long.set_mode(0o644);
            long.set_size(name.len() as u64 + 1);
            long.set_cksum();
            self.append(long.as_bytes()).await?;
            self.append(format!("{name}\0").as_bytes()).await?;
            self.pad().await?;
            let cut: String = name.chars().take(100).collect();
            header.set_path(cut)?;
        }
        header.set_cksum();
        self.append(header.as_bytes()).await
    }

    async fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes).await?;
        self.length += bytes.len() as u64;
        Ok(())
    }

    async fn pad(&mut self) -> io::Result<()> {
        const ZEROS: [u8; BLOCK as usize] = [0; BLOCK as usize];
        let rest = usize::try_from(self.length.next_multiple_of(BLOCK) - self.length);
        self.append(&ZEROS[..rest.unwrap_or(0)]).await
    }
}

fn unwritable(path: &Path, source: io::Error) -> MovingError {
    MovingError::Unwritable {
        path: path.to_owned(),
        source,
    }
}
