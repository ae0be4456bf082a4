//! What a path holds.

use std::{
    fs::File,
    io::{self, Read},
    path::Path,
};

use super::{
    archive::TarSource,
    folder::FolderSource,
    report::SourceKind,
    source::{EntryKind, ReadError, Source, read},
};
use crate::{MovingError, left_out::Finding};

/// A source that was recognised.
pub(super) struct Recognised {
    pub(super) kind: SourceKind,
    pub(super) source: Box<dyn Source>,
    /// Where in the source `blobs` lies.
    pub(super) root: &'static str,
    /// What the source itself refuses to give.
    pub(super) refused: Vec<Finding>,
}

/// Says what `path` holds, if it is something that can be imported.
pub async fn recognise(path: &Path) -> Result<SourceKind, MovingError> {
    Ok(open(path).await?.kind)
}

pub(super) async fn open(path: &Path) -> Result<Recognised, MovingError> {
    let unreadable = |source: io::Error| MovingError::Unreadable {
        path: path.to_owned(),
        source,
    };
    let owned = path.to_owned();
    let opened = tokio::task::spawn_blocking(move || -> io::Result<(Box<dyn Source>, _)> {
        if owned.is_dir() {
            return Ok((Box::new(FolderSource::open(&owned)?), Vec::new()));
        }
        let (source, refused) = TarSource::open(&owned)?;
        Ok((Box::new(source), refused))
    });
    let opened = opened
        .await
        .unwrap_or_else(|_| Err(io::ErrorKind::Interrupted.into()));
    let (source, refused) = opened.map_err(unreadable)?;
    let (kind, root) = match look(&*source).await {
        Ok(Some(found)) => found,
        Ok(None) => {
            return Err(MovingError::NotRecognised {
                path: path.to_owned(),
                hint: hint(path),
            });
        }
        Err(error) => return Err(unreadable(io::Error::other(error))),
    };
    Ok(Recognised {
        kind,
        source,
        root,
        refused,
    })
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
