//! Where an import reads from.

use std::{io, os::fd::OwnedFd};

use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt, stream::BoxStream};
use granary_blobs::ObjectKey;

/// What an entry of a folder is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EntryKind {
    Folder,
    File,
    /// A symbolic or hard link. Links are never followed: they may lead out of the source.
    Link,
    /// A device, a socket, or a name that is no text.
    Other,
}

/// One entry of a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) name: String,
    pub(crate) kind: EntryKind,
}

/// A file that was opened.
pub(crate) struct Content {
    pub(crate) length: u64,
    pub(crate) pieces: BoxStream<'static, io::Result<Bytes>>,
}

/// Where a file lies, for a store that may leave it there.
pub(crate) enum Place {
    /// In an open folder, under this name.
    File { folder: OwnedFd, name: String },
    /// In a bucket.
    Object(ObjectKey),
    /// In something else.
    Nowhere,
}

/// Why something cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadError {
    #[error("it is missing")]
    Missing,
    #[error("it is a link, and links are not followed")]
    Link,
    #[error("it is no regular file")]
    NotAFile,
    #[error("it is larger than {0} bytes")]
    TooLarge(usize),
    #[error("it has more than {ENTRIES} entries")]
    TooMany,
    #[error("it cannot be read: {0}")]
    Io(#[from] io::Error),
}

/// Most entries of one folder, or of one archive.
pub(crate) const ENTRIES: usize = 1_000_000;

/// Something to import from. Paths are relative, joined by `/`, and made of plain names only.
#[async_trait::async_trait]
pub(crate) trait Source: Send + Sync {
    /// What lies in a folder, by name; nothing if there is no such folder.
    async fn list(&self, folder: &str) -> Result<Vec<Entry>, ReadError>;

    /// Opens a regular file.
    async fn open(&self, path: &str) -> Result<Content, ReadError>;

    /// Where a file lies, whether it is there or not.
    async fn place(&self, path: &str) -> Result<Place, ReadError> {
        let _ = path;
        Ok(Place::Nowhere)
    }
}

/// The whole of a small file.
pub(crate) async fn read(
    source: &dyn Source,
    path: &str,
    limit: usize,
) -> Result<Bytes, ReadError> {
    let mut content = source.open(path).await?;
    if content.length > limit as u64 {
        return Err(ReadError::TooLarge(limit));
    }
    let mut bytes = BytesMut::with_capacity(usize::try_from(content.length).unwrap_or(0));
    while let Some(piece) = content.pieces.next().await {
        bytes.extend_from_slice(&piece?);
        if bytes.len() > limit {
            return Err(ReadError::TooLarge(limit));
        }
    }
    Ok(bytes.freeze())
}

/// A part of a file, read piece by piece.
pub(crate) fn pieces(
    file: std::sync::Arc<std::fs::File>,
    first: u64,
    length: u64,
) -> BoxStream<'static, io::Result<Bytes>> {
    /// With 16 pieces on their way to the writer this is 2 MiB for each blob.
    const PIECE: u64 = 128 * 1024;
    let end = first.saturating_add(length);
    let stream = futures_util::stream::unfold(first, move |offset| {
        let file = std::sync::Arc::clone(&file);
        async move {
            let wanted = end.saturating_sub(offset).min(PIECE);
            if wanted == 0 {
                return None;
            }
            let read = tokio::task::spawn_blocking(move || {
                let mut bytes = vec![0; usize::try_from(wanted).unwrap_or(0)];
                let number = std::os::unix::fs::FileExt::read_at(&*file, &mut bytes, offset)?;
                bytes.truncate(number);
                Ok(bytes)
            });
            let read = read
                .await
                .unwrap_or_else(|_| Err(io::ErrorKind::Interrupted.into()));
            match read {
                Ok(bytes) if bytes.is_empty() => {
                    Some((Err(io::ErrorKind::UnexpectedEof.into()), end))
                }
                Ok(bytes) => {
                    let next = offset + bytes.len() as u64;
                    Some((Ok(Bytes::from(bytes)), next))
                }
                Err(error) => Some((Err(error), end)),
            }
        }
    });
    stream.boxed()
}
