use std::time::Duration;

use granary_blobs::StoreError;
use granary_catalog::{CatalogError, QuotaExceeded, TagChange};
use granary_oci::{Digest, ManifestError, RepositoryName, Tag};

use crate::{Asks, BodyError, Denial, Reason, UploadStatus};

/// Why a use case did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// Nothing was ever stored under this name.
    #[error("repository '{0}' is not known here")]
    NameUnknown(RepositoryName),
    /// The repository holds no such blob.
    #[error("blob {0} is not in this repository")]
    BlobUnknown(Digest),
    /// The repository has no such tag or manifest.
    #[error("manifest '{0}' is not in this repository")]
    ManifestUnknown(String),
    /// The tag stood, at the time asked for, at a manifest that was removed since.
    #[error("the tag stood at {digest} then, which was removed since")]
    ManifestRemoved {
        /// What it stood at.
        digest: Digest,
        /// When that was removed, in microseconds since 1970, if it is known.
        removed_at: Option<i64>,
    },
    /// There is no such open session.
    #[error(
        "upload session '{0}' is not open here: it ended, expired or belongs to another repository; begin a new one"
    )]
    UploadUnknown(String),
    /// Another request is writing to the session.
    #[error("another request is writing to this upload session")]
    UploadBusy {
        /// When to try again.
        retry_after: Duration,
    },
    /// Another request took the session over while this one was silent.
    #[error(
        "another request has taken this upload session over: ask for its status and go on from there"
    )]
    UploadSuperseded,
    /// The chunk does not begin where the session stands.
    #[error("the chunk begins at byte {first}, but the session has {} bytes: send from there", status.received)]
    ChunkOutOfOrder {
        /// Where the chunk begins.
        first: u64,
        /// Where the session stands.
        status: UploadStatus,
    },
    /// The body has another length than was announced.
    #[error("the body has {actual} bytes, but {announced} were announced: nothing of it was kept")]
    SizeDiffers {
        /// What the headers said.
        announced: u64,
        /// What came.
        actual: u64,
    },
    /// The content hashes to something else.
    #[error("the content has digest {actual}, not {expected}: nothing was stored")]
    DigestDiffers {
        /// What the client said.
        expected: Digest,
        /// What the content has.
        actual: Digest,
    },
    /// The principal has too many open sessions.
    #[error("there are already {limit} open upload sessions: finish or cancel some")]
    TooManyUploads {
        /// The most there may be.
        limit: u64,
    },
    /// The body is no acceptable manifest.
    #[error(transparent)]
    ManifestInvalid(#[from] ManifestError),
    /// The manifest refers to content that the repository lacks.
    #[error("the manifest refers to content that is not in this repository: push it first")]
    ContentMissing(Vec<Digest>),
    /// Manifests refer to what was to be removed.
    #[error("manifests of this repository refer to it: delete those first")]
    Referenced(Vec<Digest>),
    /// The tag moved.
    #[error("tag '{tag}' does not stand where the request expects")]
    PreconditionFailed {
        /// The tag.
        tag: Tag,
        /// Where it stands.
        current: Option<Digest>,
    },
    /// A condition was given where no tag is changed.
    #[error(
        "If-Match and If-None-Match compare the digest of a tag: use them with a tag, not with a digest alone"
    )]
    PreconditionWithoutTag,
    /// Deleting is switched off.
    #[error(
        "this registry keeps everything: deleting is switched off by its configuration ([policy] delete)"
    )]
    DeleteDisabled,
    /// The caller may not.
    #[error("{}", denial_text(.0))]
    Denied(Denial),
    /// Nobody needs a token where there are no accounts.
    #[error("there are no accounts here: nobody needs a token")]
    NoAccounts,
    /// So many long names fit into no token.
    #[error("a token for all of this would be too long: ask for fewer repositories at once")]
    TokenTooLong,
    /// The keys of an issuer of identity tokens cannot be had.
    #[error(
        "the keys of this token's issuer cannot be had now: try again in a moment; if it stays so, the registry's log says why"
    )]
    IssuerUnreachable,
    /// The request's body did not arrive whole.
    #[error(transparent)]
    Body(#[from] BodyError),
    /// The store has no room.
    #[error("the registry is out of space for uploads")]
    StoreFull,
    /// The namespace would hold more than it may.
    #[error(transparent)]
    QuotaExceeded(QuotaExceeded),
    /// A replica runs that would spoil this.
    #[error("{0}")]
    OlderReplica(CatalogError),
    /// The catalog failed.
    #[error(transparent)]
    Catalog(CatalogError),
    /// The store failed.
    #[error("the blob store failed: {0}")]
    Store(StoreError),
    /// Something that cannot happen did.
    #[error("{0}")]
    Internal(&'static str),
}

impl RegistryError {
    /// Whether a back end was away, so that the same may succeed in a moment.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Catalog(error) => error.is_transient(),
            Self::Store(error) => error.is_transient(),
            Self::IssuerUnreachable => true,
            _ => false,
        }
    }
}

impl From<CatalogError> for RegistryError {
    fn from(error: CatalogError) -> Self {
        match error {
            CatalogError::QuotaExceeded(exceeded) => Self::QuotaExceeded(exceeded),
            older @ CatalogError::OlderReplica(_) => Self::OlderReplica(older),
            other => Self::Catalog(other),
        }
    }
}

impl From<StoreError> for RegistryError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Full { .. } => Self::StoreFull,
            // The writer before this one has not let go yet.
            StoreError::Busy { .. } => Self::UploadBusy {
                retry_after: Duration::from_secs(1),
            },
            // The writer that took the session over goes on with it.
            StoreError::Superseded { .. } => Self::UploadSuperseded,
            other => Self::Store(other),
        }
    }
}

/// The same of a tag that may not be set. That it stands whoever sets tags there learns in any case.
fn tag_text(reason: Reason, name: &str, change: &TagChange) -> Option<String> {
    let tag = &change.tag;
    Some(match (reason, change.moves) {
        (Reason::ImmutableTag, _) => format!(
            "the tag '{tag}' stands in '{name}' with other content, and tags of this name are immutable there: push under another one"
        ),
        (Reason::NotGranted, true) => format!(
            "the tag '{tag}' stands in '{name}' with other content: you may not move it, which takes the verb 'update'"
        ),
        (Reason::ScopeTooNarrow, true) => format!(
            "the tag '{tag}' stands in '{name}' with other content: to move it takes the verb 'update', which these credentials lack for it"
        ),
        (Reason::NotGranted, false) => {
            format!("you may not set the tag '{tag}' in '{name}'")
        }
        (Reason::ScopeTooNarrow, false) => {
            format!("these credentials may not set the tag '{tag}' in '{name}'")
        }
        _ => return None,
    })
}

/// What people are told. As with everything that is said of a denial: nothing that shows whether what may not be seen exists.
fn denial_text(denial: &Denial) -> String {
    let name = denial.repository.as_ref().map(RepositoryName::as_str);
    if let (Some(name), Some(change)) = (name, &denial.tag)
        && let Some(text) = tag_text(denial.reason, name, change)
    {
        return text;
    }
    match (denial.reason, denial.asks) {
        (Reason::NoCredentials, _) => "credentials are needed: log in first".to_owned(),
        (Reason::Ended, _) => "these credentials are no longer good: log in again".to_owned(),
        (Reason::Address, _) => "these credentials are not good from this address".to_owned(),
        (Reason::TokenTooNarrow, _) => "the token was issued for less than this".to_owned(),
        (Reason::ImmutableTag, _) => format!(
            "tags of this name are immutable in '{}': who may administer it removes them",
            name.unwrap_or_default()
        ),
        (_, Asks::Read) | (Reason::Missing, _) => format!(
            "repository '{}' is not known here",
            name.unwrap_or_default()
        ),
        (_, Asks::Push) => format!("you may not push this to '{}'", name.unwrap_or_default()),
        (_, Asks::Delete) => format!(
            "you may not delete this from '{}'",
            name.unwrap_or_default()
        ),
        (_, Asks::Administer) => {
            format!("you may not look after '{}'", name.unwrap_or_default())
        }
        (_, Asks::Ping | Asks::List) => "this action is not allowed".to_owned(),
    }
}
