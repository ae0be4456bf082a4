//! A folder as a source. No link in it is followed, whatever it points at.

use std::{
    fs::File,
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::Path,
    sync::Arc,
};

use rustix::{
    fs::{AtFlags, Dir, FileType, Mode, OFlags, fstat, openat, statat},
    io::Errno,
};

use super::source::{Content, ENTRIES, Entry, EntryKind, Place, ReadError, Source, pieces};

/// A folder; paths are looked up below its open handle, one name at a time.
pub(super) struct FolderSource {
    root: Arc<File>,
}

impl FolderSource {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        Ok(Self {
            root: Arc::new(File::open(path)?),
        })
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(BorrowedFd<'_>) -> Result<T, ReadError> + Send + 'static,
    ) -> Result<T, ReadError> {
        let root = Arc::clone(&self.root);
        tokio::task::spawn_blocking(move || work(root.as_fd()))
            .await
            .unwrap_or_else(|_| Err(io::Error::from(io::ErrorKind::Interrupted).into()))
    }
}

#[async_trait::async_trait]
impl Source for FolderSource {
    async fn list(&self, folder: &str) -> Result<Vec<Entry>, ReadError> {
        let folder = folder.to_owned();
        self.blocking(move |root| match descend(root, &folder) {
            Ok(folder) => entries(&folder),
            Err(ReadError::Missing) => Ok(Vec::new()),
            Err(error) => Err(error),
        })
        .await
    }

    async fn open(&self, path: &str) -> Result<Content, ReadError> {
        let path = path.to_owned();
        self.blocking(move |root| {
            let (parent, name) = path.rsplit_once('/').unwrap_or(("", &path));
            let parent = descend(root, parent)?;
            // Without O_NONBLOCK a pipe that lies there would be waited for.
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
            let file = openat(&parent, name, flags, Mode::empty()).map_err(refusal)?;
            let stat = fstat(&file).map_err(refusal)?;
            if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
                return Err(ReadError::NotAFile);
            }
            let length = u64::try_from(stat.st_size).unwrap_or(0);
            Ok(Content {
                length,
                pieces: pieces(Arc::new(File::from(file)), 0, length),
            })
        })
        .await
    }

    async fn place(&self, path: &str) -> Result<Place, ReadError> {
        let path = path.to_owned();
        self.blocking(move |root| {
            let (parent, name) = path.rsplit_once('/').unwrap_or(("", &path));
            Ok(Place::File {
                folder: descend(root, parent)?,
                name: name.to_owned(),
            })
        })
        .await
    }
}

/// Opens a folder below `root` without following a link on the way.
fn descend(root: BorrowedFd<'_>, path: &str) -> Result<OwnedFd, ReadError> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::DIRECTORY;
    let mut folder = openat(root, ".", flags, Mode::empty()).map_err(refusal)?;
    for name in path.split('/').filter(|name| !name.is_empty()) {
        if name == ".." {
            return Err(ReadError::Link);
        }
        folder = match openat(&folder, name, flags, Mode::empty()) {
            Ok(inner) => inner,
            // A link where a folder should be is reported as "not a directory".
            Err(Errno::NOTDIR) if is_link(&folder, name) => return Err(ReadError::Link),
            Err(error) => return Err(refusal(error)),
        };
    }
    Ok(folder)
}

fn is_link(folder: &OwnedFd, name: &str) -> bool {
    statat(folder, name, AtFlags::SYMLINK_NOFOLLOW)
        .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Symlink)
}

fn refusal(error: Errno) -> ReadError {
    match error {
        Errno::NOENT | Errno::NOTDIR => ReadError::Missing,
        Errno::LOOP => ReadError::Link,
        other => ReadError::Io(other.into()),
    }
}

fn entries(folder: &OwnedFd) -> Result<Vec<Entry>, ReadError> {
    let mut found = Vec::new();
    for entry in Dir::read_from(folder).map_err(refusal)? {
        let entry = entry.map_err(refusal)?;
        let raw = entry.file_name();
        if matches!(raw.to_bytes(), b"." | b"..") {
            continue;
        }
        if found.len() == ENTRIES {
            return Err(ReadError::TooMany);
        }
        let kind = match entry.file_type() {
            FileType::Unknown => {
                let stat = statat(folder, raw, AtFlags::SYMLINK_NOFOLLOW).map_err(refusal)?;
                FileType::from_raw_mode(stat.st_mode)
            }
            known => known,
        };
        let name = raw.to_string_lossy().into_owned();
        let kind = match kind {
            _ if raw.to_str().is_err() => EntryKind::Other,
            FileType::Directory => EntryKind::Folder,
            FileType::RegularFile => EntryKind::File,
            FileType::Symlink => EntryKind::Link,
            _ => EntryKind::Other,
        };
        found.push(Entry { name, kind });
    }
    found.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    Ok(found)
}
