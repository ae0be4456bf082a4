//! Where things lie.
//!
//! ```text
//! <root>/
//!   store-id              the store's identity: one line, written once, after everything below was synced
//!   lock                  held by those who use the folder, if their catalog is on a server
//!   00/ 01/ … ff/         all made when the store is opened
//!     ab/ab34…            one object: the raw bytes, in their final place from the first one on
//! ```
//!
//! There are no temporary objects and nothing is ever renamed; an object no catalog row names is a stranger.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
    time::Instant,
};

use fail::fail_point;

use crate::{
    ObjectKey, StoreError,
    figures::{Figures, Operation, Outcome},
};

const STORE_ID: &str = "store-id";
const STORE_ID_DRAFT: &str = "store-id.new";

/// The directory tree of a store.
pub(super) struct Tree {
    root: PathBuf,
    /// The root, open: to look things up below it and to ask for free space.
    directory: File,
    reserve: u64,
    figures: Figures,
}

impl Tree {
    /// Makes what is missing of the layout and syncs it.
    pub(super) fn open(root: &Path, reserve: u64) -> Result<Self, StoreError> {
        fs::create_dir_all(root).map_err(StoreError::io("creating", root))?;
        // Absolute, so that its ancestors are known and a later change of directory does not matter.
        let root = root
            .canonicalize()
            .map_err(StoreError::io("opening", root))?;
        for prefix in 0..=u8::MAX {
            let path = root.join(format!("{prefix:02x}"));
            match fs::create_dir(&path) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                    return Err(StoreError::io("creating", &path)(error));
                }
                _ => {}
            }
        }
        sync_directory(&root).map_err(StoreError::io("syncing", &root))?;
        let settled = root.join(STORE_ID);
        if !settled
            .try_exists()
            .map_err(StoreError::io("opening", &settled))?
        {
            // Any ancestor may have been made just now, or by an earlier start that did not get as far as this.
            sync_ancestors(&root)?;
        }
        let directory = File::open(&root).map_err(StoreError::io("opening", &root))?;
        Ok(Self {
            root,
            directory,
            reserve,
            figures: Figures::default(),
        })
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    pub(super) fn figures(&self) -> &Figures {
        &self.figures
    }

    /// Does `job`, and counts it by how it ends.
    pub(super) fn counted<T>(
        &self,
        operation: Operation,
        job: impl FnOnce() -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let since = Instant::now();
        let done = job();
        let outcome = match &done {
            Ok(_) => Outcome::Ok,
            Err(StoreError::Missing { .. }) => Outcome::Missing,
            Err(StoreError::Full { .. }) => Outcome::Refused,
            Err(_) => Outcome::Failed,
        };
        self.figures.count(operation, outcome, since.elapsed(), 0);
        done
    }

    pub(super) fn directory(&self) -> &File {
        &self.directory
    }

    /// Bytes uploads leave free.
    pub(super) fn reserve(&self) -> u64 {
        self.reserve
    }

    /// Bytes an unprivileged process may still write.
    pub(super) fn free(&self) -> Result<u64, StoreError> {
        let space = rustix::fs::fstatvfs(&self.directory).map_err(|errno| {
            StoreError::io("asking for the free space of", &self.root)(errno.into())
        })?;
        Ok(space.f_bavail.saturating_mul(space.f_frsize))
    }

    pub(super) fn path(&self, key: &ObjectKey) -> PathBuf {
        self.root.join(key.as_str())
    }

    /// Opens an object for reading.
    pub(super) fn open_object(&self, key: &ObjectKey) -> Result<File, StoreError> {
        let path = self.path(key);
        again_if_stale(|| File::open(&path))
            .map_err(|error| missing_or("opening", &path, key, error))
    }

    pub(super) fn length(&self, key: &ObjectKey) -> Result<Option<u64>, StoreError> {
        let path = self.path(key);
        match again_if_stale(|| fs::metadata(&path)) {
            Ok(metadata) => Ok(Some(metadata.len())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(StoreError::io("looking at", &path)(error)),
        }
    }

    /// Gives `file` the name of an object beside its own.
    pub(super) fn adopt(&self, key: &ObjectKey, file: &Path) -> Result<(), StoreError> {
        let path = self.path(key);
        // Does not follow a link in the last part: what is looked at afterwards is what got the name.
        fs::hard_link(file, &path).map_err(StoreError::io("linking a file to", &path))?;
        let settle = || {
            if !fs::symlink_metadata(&path)?.is_file() {
                return Err(io::Error::other("it is no regular file"));
            }
            // Whoever wrote it may not have synced it.
            File::open(&path)?.sync_all()?;
            self.sync_name(key)
        };
        settle().map_err(|error| {
            // Should this fail too, it is a stranger.
            let _ = fs::remove_file(&path);
            StoreError::io("adopting", &path)(error)
        })
    }

    /// Makes the whole file system durable that the root is on: one call, however many objects there are.
    pub(super) fn settle(&self) -> Result<(), StoreError> {
        let settle = || Ok(rustix::fs::syncfs(File::open(&self.root)?)?);
        settle().map_err(StoreError::io("syncing the file system of", &self.root))
    }

    /// Makes the name of a new object durable.
    pub(super) fn sync_name(&self, key: &ObjectKey) -> io::Result<()> {
        sync_directory(&self.root.join(key.prefix()))
    }

    /// Removes objects. The directories are not synced: should an object come back after a crash, no row names it
    /// any more and no new upload ever gets its key, so it only takes room until a scrub lists it as a stranger.
    pub(super) fn delete(&self, keys: &[ObjectKey]) -> Result<(), StoreError> {
        let mut outcome = Ok(());
        for key in keys {
            let path = self.path(key);
            match again_if_stale(|| remove(&path)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    outcome = outcome.and(Err(StoreError::io("removing", &path)(error)));
                }
                _ => {}
            }
        }
        outcome
    }

    /// The objects behind `after`, in order. Files with other names are no objects and are passed over.
    pub(super) fn list(
        &self,
        after: Option<&ObjectKey>,
        limit: usize,
    ) -> Result<Vec<ObjectKey>, StoreError> {
        let mut page = Vec::new();
        for prefix in 0..=u8::MAX {
            let prefix = format!("{prefix:02x}");
            if page.len() >= limit {
                break;
            }
            if after.is_some_and(|after| *prefix < *after.prefix()) {
                continue;
            }
            let mut keys = self.keys_of(&prefix)?;
            keys.retain(|key| after.is_none_or(|after| key > after));
            keys.sort_unstable();
            page.extend(keys);
        }
        page.truncate(limit);
        Ok(page)
    }

    fn keys_of(&self, prefix: &str) -> Result<Vec<ObjectKey>, StoreError> {
        let path = self.root.join(prefix);
        let mut keys = Vec::new();
        for entry in fs::read_dir(&path).map_err(StoreError::io("listing", &path))? {
            let name = entry.map_err(StoreError::io("listing", &path))?.file_name();
            keys.extend(
                name.to_str()
                    .and_then(ObjectKey::from_name)
                    .filter(|key| key.prefix() == prefix),
            );
        }
        Ok(keys)
    }

    /// The identity, if there is one.
    pub(super) fn known_identity(&self) -> Result<Option<String>, StoreError> {
        let path = self.root.join(STORE_ID);
        match fs::read_to_string(&path) {
            Ok(text) if text.trim().is_empty() => Err(StoreError::io("reading", &path)(
                io::Error::from(io::ErrorKind::InvalidData),
            )),
            Ok(text) => Ok(Some(text.trim().to_owned())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(StoreError::io("reading", &path)(error)),
        }
    }

    /// The identity, which is `fresh` from now on if there was none. If the root is `shared`, other processes may ask at
    /// the same time.
    pub(super) fn identity(&self, fresh: &str, shared: bool) -> Result<String, StoreError> {
        if let Some(known) = self.known_identity()? {
            return Ok(known);
        }
        let path = self.root.join(STORE_ID);
        let written = match shared {
            false => self.write_identity(&path, fresh),
            true => self.agree_on_identity(&path, fresh),
        };
        written.map_err(StoreError::io("writing", &path))
    }

    /// A draft and a rename, so that a crash leaves either no identity or a whole one.
    fn write_identity(&self, path: &Path, fresh: &str) -> io::Result<String> {
        let draft = self.root.join(STORE_ID_DRAFT);
        write_draft(&draft, fresh)?;
        fs::rename(&draft, path)?;
        sync_directory(&self.root)?;
        Ok(fresh.to_owned())
    }

    /// The same where several processes may do so at once: a link, unlike a rename, takes no other's place.
    fn agree_on_identity(&self, path: &Path, fresh: &str) -> io::Result<String> {
        let own = ObjectKey::unique();
        let name = own.as_str().rsplit('/').next().unwrap_or_default();
        let draft = self.root.join(format!("{STORE_ID_DRAFT}.{name}"));
        write_draft(&draft, fresh)?;
        let linked = fs::hard_link(&draft, path);
        fs::remove_file(&draft)?;
        match linked {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => sync_directory(&self.root)?,
        }
        Ok(fs::read_to_string(path)?.trim().to_owned())
    }
}

fn write_draft(draft: &Path, identity: &str) -> io::Result<()> {
    let mut file = File::create(draft)?;
    writeln!(file, "{identity}")?;
    file.sync_all()
}

/// Does `job` again if what it found has gone from under it, as on a file system that other machines change too: the
/// second time nothing is taken from memory.
pub(super) fn again_if_stale<T>(job: impl Fn() -> io::Result<T>) -> io::Result<T> {
    match job() {
        Err(error) if error.kind() == io::ErrorKind::StaleNetworkFileHandle => job(),
        outcome => outcome,
    }
}

/// The kind for a file that could not be opened.
pub(super) fn missing_or(
    action: &'static str,
    path: &Path,
    key: &ObjectKey,
    error: io::Error,
) -> StoreError {
    match error.kind() {
        io::ErrorKind::NotFound => StoreError::Missing { key: key.clone() },
        _ => StoreError::io(action, path)(error),
    }
}

fn remove(path: &Path) -> io::Result<()> {
    fail_point!("blobs::delete", |_| Err(io::Error::from(
        rustix::io::Errno::IO
    )));
    fs::remove_file(path)
}

fn sync_directory(path: &Path) -> io::Result<()> {
    fail_point!("blobs::sync_directory", |_| Err(io::Error::from(
        rustix::io::Errno::IO
    )));
    File::open(path)?.sync_all()
}

/// Syncs the directories that hold the root's name. One that may not be read or synced was not made by us.
fn sync_ancestors(root: &Path) -> Result<(), StoreError> {
    use io::ErrorKind::{InvalidInput, PermissionDenied, ReadOnlyFilesystem, Unsupported};
    for ancestor in root.ancestors().skip(1) {
        match sync_directory(ancestor) {
            Err(error)
                if ![
                    InvalidInput,
                    PermissionDenied,
                    ReadOnlyFilesystem,
                    Unsupported,
                ]
                .contains(&error.kind()) =>
            {
                return Err(StoreError::io("syncing", ancestor)(error));
            }
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stale_handle_is_asked_about_once_more() {
        let stale = || io::Error::from(rustix::io::Errno::STALE);
        let asked = std::cell::Cell::new(0);
        let answer = again_if_stale(|| {
            asked.set(asked.get() + 1);
            if asked.get() == 1 {
                Err(stale())
            } else {
                Ok(7)
            }
        });
        assert_eq!((answer.unwrap(), asked.get()), (7, 2));
        // If it stays so, that is the file system's failure and says nothing about the object.
        let failed = again_if_stale::<()>(|| Err(stale())).unwrap_err();
        let key = ObjectKey::unique();
        let error = missing_or("opening", Path::new("x"), &key, failed);
        assert!(matches!(error, StoreError::Io(_)) && error.is_transient());
        let gone = again_if_stale::<()>(|| Err(io::ErrorKind::NotFound.into())).unwrap_err();
        let error = missing_or("opening", Path::new("x"), &key, gone);
        assert!(matches!(error, StoreError::Missing { .. }));
    }
}
