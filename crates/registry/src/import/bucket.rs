//! A bucket as a source: keys between slashes are folders, everything else is a file.

use std::io;

use futures_util::StreamExt;
use granary_blobs::{BucketReader, Named, ObjectKey, StoreError};

use super::{
    request::BucketAddress,
    source::{Content, ENTRIES, Entry, EntryKind, Place, ReadError, Source},
};

/// A bucket, or the part of one below a prefix.
pub(super) struct BucketSource {
    reader: BucketReader,
    /// Empty, or ends with a slash.
    prefix: String,
}

impl BucketSource {
    pub(super) fn new(reader: BucketReader, address: &BucketAddress) -> Self {
        let prefix = match address.prefix() {
            "" => String::new(),
            prefix => format!("{prefix}/"),
        };
        Self { reader, prefix }
    }

    /// The key of a file. Keys are not resolved, so nothing leads out of the prefix; one with such parts is refused all
    /// the same, because some servers tidy addresses up.
    fn key(&self, path: &str) -> Result<ObjectKey, ReadError> {
        ObjectKey::foreign(&format!("{}{path}", self.prefix)).map_err(|_| ReadError::NotAFile)
    }
}

#[async_trait::async_trait]
impl Source for BucketSource {
    async fn list(&self, folder: &str) -> Result<Vec<Entry>, ReadError> {
        let folder = match folder {
            "" => self.prefix.clone(),
            folder => format!("{}{folder}/", self.prefix),
        };
        let (mut found, mut from) = (Vec::new(), None);
        loop {
            let page = self.reader.list(&folder, from).await?;
            if found.len() + page.entries.len() > ENTRIES {
                return Err(ReadError::TooMany);
            }
            found.extend(page.entries.into_iter().map(entry));
            from = page.next;
            if from.is_none() {
                break;
            }
        }
        found.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        Ok(found)
    }

    async fn open(&self, path: &str) -> Result<Content, ReadError> {
        let read = self.reader.read(&self.key(path)?).await?;
        let (length, pieces) = read.ok_or(ReadError::Missing)?;
        let pieces = pieces.map(|piece| piece.map_err(io::Error::other)).boxed();
        Ok(Content { length, pieces })
    }

    async fn place(&self, path: &str) -> Result<Place, ReadError> {
        Ok(Place::Object(self.key(path)?))
    }
}

fn entry(named: Named) -> Entry {
    let odd = matches!(&*named.name, "" | "." | "..") || named.name.chars().any(char::is_control);
    let kind = match named.is_folder {
        _ if odd => EntryKind::Other,
        true => EntryKind::Folder,
        false => EntryKind::File,
    };
    Entry {
        name: named.name,
        kind,
    }
}

impl From<StoreError> for ReadError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Missing { .. } => Self::Missing,
            other => Self::Io(io::Error::other(other)),
        }
    }
}
