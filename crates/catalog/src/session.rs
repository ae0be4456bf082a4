//! What is known of an upload session: begun, saved, claimed, ended.

use std::time::Duration;

use bytes::Bytes;
use granary_access::Reason;
use granary_oci::{Digest, RepositoryName};

use crate::{Asker, BlobPlace};

/// A session to begin.
#[derive(Clone, Debug)]
pub struct NewUpload {
    /// Its unique, unguessable name.
    pub id: String,
    /// Where the blob goes.
    pub repository: RepositoryName,
    /// Who uploads.
    pub principal: String,
    /// The state of a hasher that has seen nothing.
    pub hash_state: Vec<u8>,
    /// The object that will hold the bytes, if it is known already.
    pub storage_key: Option<String>,
    /// Most open sessions of the principal.
    pub limit: u64,
}

/// How far a session got, as every request about it looks first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UploadStanding {
    /// Who began it.
    pub principal: String,
    /// Bytes so far, all durable.
    pub received: u64,
    /// The blob it became.
    pub finished: Option<Digest>,
}

/// A session as it was last saved, for its one writer. Everything before `received` is durable.
#[derive(Clone, Debug)]
pub struct StoredUpload {
    /// Counts take-overs; a save with another epoch is refused.
    pub epoch: i64,
    /// Bytes so far.
    pub received: u64,
    /// The hasher's state at `received`.
    pub hash_state: Vec<u8>,
    /// The object that holds the bytes, once they are too many for `tail`.
    pub storage_key: Option<String>,
    /// What the store keeps between requests.
    pub store_state: Vec<u8>,
    /// The bytes, while they are few; `None` once an object holds them, and before the first.
    pub tail: Option<Bytes>,
    /// The last of the bytes before `received`, while they are too few for the store to hold.
    pub unsent: Bytes,
}

/// What to save of a session.
#[derive(Clone, Debug)]
pub struct Progress {
    /// Bytes so far, all durable.
    pub received: u64,
    /// The hasher's state there.
    pub hash_state: Vec<u8>,
    /// The object that holds them, if there is one.
    pub storage_key: Option<String>,
    /// What the store keeps between requests.
    pub store_state: Vec<u8>,
    /// The bytes themselves, if there is no object.
    pub tail: Option<Bytes>,
    /// The last of the bytes, which the store does not hold yet.
    pub unsent: Unsent,
    /// Whether the session has no writer afterwards.
    pub release: bool,
    /// An object that the session has no use for any more, and that may be unfinished.
    pub leftover: Option<String>,
}

/// The last bytes of a session that the store does not hold yet. Rows are appended, so that many small chunks cost no
/// more than their bytes (decision 6).
#[derive(Clone, Debug, Default)]
pub struct Unsent {
    /// All of them.
    pub bytes: Bytes,
    /// How many of them, from the first on, were saved before.
    pub saved: usize,
    /// Whether others were saved before, which are in the store now.
    pub replaces: bool,
}

/// What became of an attempt to write to a session.
#[derive(Clone, Debug)]
pub enum ClaimOutcome {
    /// The session has one writer now: the caller. This is how far it was saved.
    Claimed(Box<StoredUpload>),
    /// Another process writes to it.
    Busy {
        /// When that one may be overtaken, if it stays silent.
        retry_after: Duration,
    },
    /// There is no such open session.
    Unknown,
}

/// A blob whose bytes are durable and match their digest.
#[derive(Clone, Debug)]
pub struct FinishedBlob {
    /// Where it goes.
    pub repository: RepositoryName,
    /// Its digest.
    pub digest: Digest,
    /// Length in bytes.
    pub size: u64,
    /// Where the bytes are.
    pub place: BlobPlace,
    /// How long it is kept though nothing refers to it.
    pub lease: Duration,
    /// Who brings it.
    pub asker: Asker,
}

/// What became of a closing PUT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FinishOutcome {
    /// The blob is stored and the session closed.
    Stored,
    /// Another request took the session over, or it ended.
    Superseded,
    /// It may not be stored there (any more); the session is open still.
    Denied(Reason),
}
