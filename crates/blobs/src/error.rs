//! What can go wrong in a store.

use std::{
    error::Error,
    fmt, io,
    path::{Path, PathBuf},
};

use crate::ObjectKey;

/// Why a store did not do what it was asked. The texts are for logs: they name keys and paths.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// There is no such object.
    #[error("object {key} is not in the store")]
    Missing {
        /// The object.
        key: ObjectKey,
    },
    /// There is less room than uploads must leave; deletes still work.
    #[error("{free} bytes are free in the store, uploads must leave {reserve}")]
    Full {
        /// Free bytes.
        free: u64,
        /// Bytes to be left.
        reserve: u64,
    },
    /// The object is not as long as it was acknowledged to be.
    #[error("object {key} is damaged: {expected} bytes must be there, {found} are")]
    Damaged {
        /// The object.
        key: ObjectKey,
        /// Length it needs at least.
        expected: u64,
        /// Length it has.
        found: u64,
    },
    /// Another writer of the object has not ended yet.
    #[error("object {key} has another writer")]
    Busy {
        /// The object.
        key: ObjectKey,
    },
    /// A write or sync of the object failed before, so nothing more is acknowledged on it (decision 7).
    #[error("object {key} takes no more bytes since a write or sync of it failed")]
    Poisoned {
        /// The object.
        key: ObjectKey,
    },
    /// Another writer has taken the upload session over.
    #[error("the upload session of object {key} has another writer now")]
    Superseded {
        /// The object.
        key: ObjectKey,
    },
    /// The checkpoint could not be kept, so nothing behind it was written.
    #[error("how far the upload of object {key} got could not be saved")]
    Unsaved {
        /// The object.
        key: ObjectKey,
    },
    /// The object belongs to another registry.
    #[error("object {key} belongs to another registry and is never written to")]
    Foreign {
        /// The object.
        key: ObjectKey,
    },
    /// The system refused.
    #[error(transparent)]
    Io(#[from] IoFailure),
    /// A server that holds the objects refused or could not be reached.
    #[error(transparent)]
    Remote(#[from] RemoteFailure),
}

/// What the system refused, and where.
#[derive(Debug, thiserror::Error)]
#[error("{action} {} failed: {source}", path.display())]
pub struct IoFailure {
    /// What was tried, such as "syncing".
    pub action: &'static str,
    /// The file or directory.
    pub path: PathBuf,
    /// The system's answer.
    pub source: io::Error,
}

/// What a server refused, in texts that hold neither credentials nor addresses that let anybody in.
#[derive(Clone, Debug)]
pub struct RemoteFailure {
    /// What was tried, such as "sending a part of".
    pub action: &'static str,
    /// The object, if it was about one.
    pub key: Option<ObjectKey>,
    /// HTTP status of the answer, if there was one.
    pub status: Option<u16>,
    /// The server's name for the error, such as `AccessDenied`.
    pub code: Option<String>,
    /// The server's words, or what kept it from answering.
    pub reason: String,
    /// Whether trying again later may help.
    pub transient: bool,
}

impl RemoteFailure {
    /// A failure that no answer tells and no repetition mends.
    pub(crate) fn new(action: &'static str, key: Option<&ObjectKey>, reason: String) -> Self {
        Self {
            action,
            key: key.cloned(),
            status: None,
            code: None,
            reason,
            transient: false,
        }
    }
}

impl fmt::Display for RemoteFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.action)?;
        if let Some(key) = &self.key {
            write!(f, " object {key}")?;
        }
        f.write_str(" failed: ")?;
        match (self.status, &self.code) {
            (Some(status), Some(code)) => write!(f, "{status} {code}: ")?,
            (Some(status), None) => write!(f, "{status}: ")?,
            (None, Some(code)) => write!(f, "{code}: ")?,
            (None, None) => {}
        }
        f.write_str(&self.reason)
    }
}

impl Error for RemoteFailure {}

impl StoreError {
    /// Whether the same may succeed later without anybody doing anything: the edge answers 503 instead of 500.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Remote(failure) => failure.transient,
            Self::Busy { .. } | Self::Unsaved { .. } => true,
            // A whole file system may answer so for a moment; it says nothing about the object.
            Self::Io(failure) => failure.source.kind() == io::ErrorKind::StaleNetworkFileHandle,
            Self::Missing { .. }
            | Self::Full { .. }
            | Self::Damaged { .. }
            | Self::Poisoned { .. }
            | Self::Superseded { .. }
            | Self::Foreign { .. } => false,
        }
    }

    /// Whether this says of the object itself that its bytes are gone or wrong. Other errors, such as too many open files,
    /// missing rights or a server that does not answer, say nothing about them.
    pub fn is_damage(&self) -> bool {
        use rustix::io::Errno;
        const OF_THE_BYTES: [Errno; 7] = [
            Errno::IO,
            Errno::BADMSG,
            Errno::UCLEAN,
            Errno::ILSEQ,
            Errno::NODATA,
            Errno::ISDIR,
            Errno::LOOP,
        ];
        match self {
            Self::Missing { .. } | Self::Damaged { .. } => true,
            Self::Io(failure) => Errno::from_io_error(&failure.source)
                .is_some_and(|found| OF_THE_BYTES.contains(&found)),
            _ => false,
        }
    }

    /// Makes an error of the system's answer; for `map_err`.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| {
            IoFailure {
                action,
                path: path.to_owned(),
                source,
            }
            .into()
        }
    }
}

#[cfg(test)]
mod tests {
    use rustix::io::Errno;

    use super::*;

    fn refused(errno: Errno) -> StoreError {
        StoreError::io("reading", Path::new("00/object"))(errno.into())
    }

    #[test]
    fn only_what_speaks_of_the_bytes_is_damage() {
        let key = ObjectKey::unique();
        let damage = [
            StoreError::Missing { key: key.clone() },
            StoreError::Damaged {
                key: key.clone(),
                expected: 2,
                found: 1,
            },
            refused(Errno::IO),
            refused(Errno::UCLEAN),
        ];
        for error in damage {
            assert!(error.is_damage(), "{error}");
        }
        let none = [
            refused(Errno::MFILE),
            refused(Errno::ACCESS),
            refused(Errno::STALE),
            refused(Errno::NOSPC),
            // Not one of the system's own errors.
            StoreError::io("reading", Path::new("00/object"))(io::Error::other("a job ended")),
            RemoteFailure::new("reading", Some(&key), "it went away".to_owned()).into(),
            StoreError::Busy { key: key.clone() },
            StoreError::Full {
                free: 1,
                reserve: 2,
            },
            StoreError::Poisoned { key: key.clone() },
            StoreError::Superseded { key: key.clone() },
            StoreError::Unsaved { key: key.clone() },
            StoreError::Foreign { key },
        ];
        for error in none {
            assert!(!error.is_damage(), "{error}");
        }
    }
}
