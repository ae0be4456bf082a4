//! Blobs that stay where they are (docs/adr/0010).
//!
//! A file gets a second name in our blob folder: the other registry's name and ours are then the same bytes, and either may
//! go without the other. An object of our bucket gets a row with a foreign key. Both are hashed before their row is written.

use std::{
    os::fd::AsRawFd,
    path::{Path, PathBuf},
    time::Duration,
};

use granary_blobs::{BucketReader, ObjectKey, StoreError};
use granary_catalog::{Asker, BlobPlace};
use granary_oci::{Digest, RepositoryName};

use super::{
    Import, ImportSource,
    blobs::{Outcome, damaged, unreadable},
    source::{Content, Place, ReadError},
};
use crate::{MovingError, Registry, RegistryError, receive::re_read};

/// How long the key of a blob stays reserved: long enough to hash or copy the largest one.
pub(super) const RESERVED: Duration = Duration::from_secs(7 * 24 * 3600);

const ELSEWHERE: &str = "import without --in-place, which copies it";

impl Registry {
    /// The bucket from which to adopt in place; `None` for a folder. Refuses what can never be adopted.
    pub(super) fn in_place(
        &self,
        source: &ImportSource,
    ) -> Result<Option<BucketReader>, MovingError> {
        let refused = |why: &str| Err(MovingError::NotInPlace(format!("{source} {why}")));
        match (source, self.parts.store.bucket()) {
            (ImportSource::Path(path), _) if path.is_file() => {
                refused("is an archive: unpack it on the file system of the blob folder")
            }
            (ImportSource::Path(_), None) => Ok(None),
            (ImportSource::Path(_), Some(_)) => {
                refused("is a folder, and this installation keeps its objects in a bucket")
            }
            (ImportSource::Bucket(address, access), Some(own))
                if own.is_bucket(address.bucket(), access.endpoint.as_deref()) =>
            {
                Ok(Some(own))
            }
            (ImportSource::Bucket(..), _) => {
                refused("is not in the bucket in which this installation keeps its objects")
            }
        }
    }
}

impl Import<'_> {
    /// Has the repository hold a blob that stays where it is; `content` is what was opened to look at it.
    pub(super) async fn leave_in_place(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
        content: Content,
    ) -> Result<Outcome, RegistryError> {
        match self.source.place(&self.blob_path(digest)).await {
            Ok(Place::Object(key)) => self.name_object(repository, digest, content, &key).await,
            Ok(Place::File { folder, name }) => {
                let length = content.length;
                drop(content);
                // The folder is open, so no name on the way to it can be made a link meanwhile.
                let file = PathBuf::from(format!("/proc/self/fd/{}", folder.as_raw_fd()));
                let key = ObjectKey::unique();
                let outcome = self
                    .link_file(repository, digest, length, &key, &file.join(name))
                    .await;
                drop(folder);
                // After an error a row may name it all the same.
                if let Ok(Outcome::LeftOut(..)) = outcome {
                    self.forget(&key).await;
                }
                outcome
            }
            Ok(Place::Nowhere) => Ok(Outcome::LeftOut(
                "it cannot stay where it is".to_owned(),
                ELSEWHERE,
            )),
            Err(error) => Ok(unreadable(&error)),
        }
    }

    async fn name_object(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
        content: Content,
        key: &ObjectKey,
    ) -> Result<Outcome, RegistryError> {
        let length = content.length;
        match self.hash(content, digest).await {
            Ok(actual) if actual != *digest => return Ok(damaged(&actual)),
            Ok(_) => {}
            Err(error) => return Ok(unreadable(&ReadError::Io(error))),
        }
        let place = BlobPlace::Object(key.as_str().to_owned());
        let blob = self
            .registry
            .finished(repository, *digest, length, place, Asker::operator());
        self.registry.parts.catalog.store_blob(blob).await?;
        Ok(Outcome::InPlace(length))
    }

    async fn link_file(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
        length: u64,
        key: &ObjectKey,
        file: &Path,
    ) -> Result<Outcome, RegistryError> {
        let parts = &self.registry.parts;
        let name = key.as_str().to_owned();
        parts.catalog.reserve_key(name.clone(), RESERVED).await?;
        match parts.store.adopt_file(key, file).await {
            Ok(true) => {}
            Ok(false) => {
                let why = "this installation does not keep its objects in files".to_owned();
                return Ok(Outcome::LeftOut(why, ELSEWHERE));
            }
            Err(StoreError::Io(failure)) => return Ok(not_linked(&failure.source)),
            Err(error) => return Err(error.into()),
        }
        granary_failpoint::reach_async("import::linked").await;
        // What has our name now is hashed, whatever becomes of the other name.
        let found = parts.store.length(key).await?.unwrap_or(0);
        let actual = match re_read(parts, key, found, digest.algorithm()).await {
            Ok(actual) => actual,
            Err(RegistryError::Store(StoreError::Io(failure))) => {
                return Ok(unreadable(&ReadError::Io(failure.source)));
            }
            Err(error) => return Err(error),
        };
        self.progress.advance(found);
        if actual != *digest {
            return Ok(damaged(&actual));
        }
        let place = BlobPlace::Object(name);
        let blob = self
            .registry
            .finished(repository, *digest, found, place, Asker::operator());
        if !parts.catalog.store_reserved(blob).await? {
            return Ok(Outcome::LeftOut(
                format!("hashing its {length} bytes took longer than a week"),
                "import once more",
            ));
        }
        Ok(Outcome::InPlace(found))
    }

    /// Takes back a name that no row needs. Should that fail, garbage collection does it when the reservation ends.
    async fn forget(&self, key: &ObjectKey) {
        let parts = &self.registry.parts;
        let removed = match parts.store.delete(std::slice::from_ref(key)).await {
            Ok(()) => {
                let name = key.as_str().to_owned();
                let forgotten = parts.catalog.forget_objects(vec![name]).await;
                forgotten.map_err(RegistryError::from)
            }
            Err(error) => Err(error.into()),
        };
        if let Err(error) = removed {
            tracing::warn!(%error, %key, "an object that is not needed goes later");
        }
    }
}

/// Why a file got no second name.
fn not_linked(error: &std::io::Error) -> Outcome {
    use std::io::ErrorKind::{CrossesDevices, NotFound, PermissionDenied, TooManyLinks};
    let why = |text: &str| format!("{text}: {error}");
    match error.kind() {
        CrossesDevices => Outcome::LeftOut(
            why("it lies on another file system, or another mount, than the blob folder"),
            ELSEWHERE,
        ),
        PermissionDenied => Outcome::LeftOut(
            why("it may not be linked"),
            "let the user of granary own it, or read and write it (fs.protected_hardlinks), or import without --in-place",
        ),
        TooManyLinks => Outcome::LeftOut(why("it has too many names"), ELSEWHERE),
        NotFound => unreadable(&ReadError::Missing),
        _ => Outcome::LeftOut(why("it cannot be linked"), ELSEWHERE),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn stores_and_catalog_mark_foreign_keys_alike() {
        assert_eq!(granary_blobs::FOREIGN, granary_catalog::FOREIGN);
    }
}
