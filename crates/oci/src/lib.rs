//! What the OCI specifications define, as types that can only hold valid values.
//!
//! Everything here is parsed once, at the edge, and trusted afterwards. This crate does no I/O, knows no
//! HTTP framework and never decides a policy.

mod digest;
mod error;
mod hasher;
mod manifest;
mod name;
mod range;
mod tag;

pub use digest::{Algorithm, Digest, DigestError};
pub use error::ErrorCode;
pub use hasher::{Hasher, HasherStateError};
pub use manifest::{
    Edge, EdgeKind, MAX_MANIFEST_BYTES, Manifest, ManifestError, SIGNED_SCHEMA_1, media_type,
};
pub use name::{NameError, RepositoryName};
pub use range::{ByteRange, ContentRange, RangeError, RangeSet};
pub use tag::{Reference, ReferenceError, Tag, TagError};
