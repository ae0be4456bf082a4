//! What a source holds.

use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

use granary_blobs::BucketReader;

use super::{
    archive::TarSource,
    bucket::BucketSource,
    folder::FolderSource,
    report::SourceKind,
    request::{BucketAccess, BucketAddress, ImportSource},
    source::{EntryKind, ReadError, Source, read},
};
use crate::{MovingError, left_out::Findings};

/// A source that was recognised.
pub(super) struct Recognised {
    pub(super) kind: SourceKind,
    pub(super) source: Box<dyn Source>,
    /// Where in the source `blobs` lies.
    pub(super) root: &'static str,
    /// What the source itself refuses to give.
    pub(super) refused: Findings,
}

/// Says what `path` holds, if it is something that can be imported.
pub async fn recognise(path: &Path) -> Result<SourceKind, MovingError> {
    Ok(open_path(path).await?.kind)
}

/// Opens a source; a bucket by `own` if that is it.
pub(super) async fn open(
    source: &ImportSource,
    own: Option<BucketReader>,
) -> Result<Recognised, MovingError> {
    match source {
        ImportSource::Path(path) => open_path(path).await,
        ImportSource::Bucket(address, access) => open_bucket(address, access, own).await,
    }
}

async fn open_bucket(
    address: &BucketAddress,
    access: &BucketAccess,
    own: Option<BucketReader>,
) -> Result<Recognised, MovingError> {
    let reader = match own {
        Some(own) => Ok(own),
        None => BucketReader::open(access.config(address)).await,
    };
    let reader = reader.map_err(|source| MovingError::Bucket {
        address: address.to_string(),
        source,
    })?;
    let source = BucketSource::new(reader, address);
    let at = || PathBuf::from(address.to_string());
    let hint = "below its prefix there must be 'oci-layout' or 'docker/registry/v2/repositories'; prefixes end where folders \
                would, and keys count in every letter";
    recognised(Box::new(source), Findings::default(), at, || hint).await
}

async fn open_path(path: &Path) -> Result<Recognised, MovingError> {
    let owned = path.to_owned();
    let opened = tokio::task::spawn_blocking(move || -> io::Result<(Box<dyn Source>, _)> {
        if owned.is_dir() {
            return Ok((Box::new(FolderSource::open(&owned)?), Findings::default()));
        }
        let (source, refused) = TarSource::open(&owned)?;
        Ok((Box::new(source), refused))
    });
    let opened = opened
        .await
        .unwrap_or_else(|_| Err(io::ErrorKind::Interrupted.into()));
    let (source, refused) = opened.map_err(|source| MovingError::Unreadable {
        path: path.to_owned(),
        source,
    })?;
    recognised(source, refused, || path.to_owned(), || hint(path)).await
}

async fn recognised(
    source: Box<dyn Source>,
    refused: Findings,
    at: impl Fn() -> PathBuf,
    hint: impl Fn() -> &'static str,
) -> Result<Recognised, MovingError> {
    match look(&*source).await {
        Ok(Some((kind, root))) => Ok(Recognised {
            kind,
            source,
            root,
            refused,
        }),
        Ok(None) => Err(MovingError::NotRecognised {
            path: at(),
            hint: hint(),
        }),
        Err(error) => Err(MovingError::Unreadable {
            path: at(),
            source: io::Error::other(error),
        }),
    }
}

async fn look(source: &dyn Source) -> Result<Option<(SourceKind, &'static str)>, ReadError> {
    match read(source, "oci-layout", 4096).await {
        Ok(_) => return Ok(Some((SourceKind::Layout, ""))),
        Err(ReadError::Missing) => {}
        Err(error) => return Err(error),
    }
    for root in ["docker/registry/v2", "registry/v2", "v2", ""] {
        let entries = source.list(root).await?;
        let has = |name: &str| {
            entries
                .iter()
                .any(|entry| entry.name == name && entry.kind == EntryKind::Folder)
        };
        if has("repositories") {
            return Ok(Some((SourceKind::StorageTree, root)));
        }
    }
    Ok(None)
}

/// What may be meant by a file that is no archive.
fn hint(path: &Path) -> &'static str {
    let mut head = [0; 6];
    let read = File::open(path).and_then(|mut file| file.read(&mut head));
    match (read, head) {
        (Ok(_), [0x1f, 0x8b, ..] | [0x28, 0xb5, 0x2f, 0xfd, ..] | [0xfd, b'7', b'z', b'X', ..]) => {
            "the archive is compressed: unpack it first"
        }
        _ => {
            "it must have 'oci-layout' or 'docker/registry/v2/repositories' in it; an archive of 'docker save' without \
             'oci-layout' can be converted: skopeo copy docker-archive:FILE oci:FOLDER:TAG"
        }
    }
}
