//! Why content could not be moved in or out.

use std::{io, path::PathBuf};

use crate::RegistryError;

/// The annotation in the list of a layout that names a descriptor.
pub(crate) const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// Why an import or export ended early. Nothing that it did so far is lost, and it can be run again.
#[derive(Debug, thiserror::Error)]
pub enum MovingError {
    /// The registry failed or refused.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The source cannot be read at all.
    #[error("{} cannot be read: {source}; the process that imports (the server, if one runs) must see it under this path", path.display())]
    Unreadable {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A bucket cannot be opened.
    #[error("{address} cannot be read: {source}")]
    Bucket {
        /// Which one.
        address: String,
        /// Why.
        source: granary_blobs::StoreError,
    },
    /// The source holds nothing that can be imported.
    #[error("{} is neither the storage of a registry nor an OCI image layout: {hint}", path.display())]
    NotRecognised {
        /// Where.
        path: PathBuf,
        /// What may help.
        hint: &'static str,
    },
    /// Content cannot stay where it is.
    #[error("{0}: what lies there can be imported without --in-place, which copies it")]
    NotInPlace(String),
    /// A layout does not say which repository it belongs to.
    #[error("an image layout does not say where it belongs: name its repository with --repository")]
    RepositoryNeeded,
    /// The list of a layout is damaged.
    #[error("{} is no image layout that can be read: {problem}", path.display())]
    Layout {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// An export was asked for without a repository.
    #[error("name at least one repository")]
    NothingNamed,
    /// A layout holds one repository.
    #[error(
        "a layout holds the tags of one repository: export {0} and {1} to a path of its own each"
    )]
    SeveralRepositories(granary_oci::RepositoryName, granary_oci::RepositoryName),
    /// Something else lies where an export should go.
    #[error("{} is in the way: an export goes to a new or empty folder, an OCI image layout, or a .tar file", .0.display())]
    InTheWay(PathBuf),
    /// Another export writes there.
    #[error("another export writes to {}: wait for its end", .0.display())]
    Busy(PathBuf),
    /// The target cannot be written.
    #[error("{} cannot be written: {source}", path.display())]
    Unwritable {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}
