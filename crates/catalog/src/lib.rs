//! Everything SQL: repositories, blobs, manifests, tags, uploads, and what keeps what.
//!
//! The catalog is the only truth about what exists and who may read it. It holds no rules of its own: a use case
//! hands it what was decided, and one transaction makes all of it visible or none. Reads never write.
//!
//! SQL is plain and runs on SQLite and PostgreSQL alike; what differs stands in [`dialect`].

mod blobs;
mod cache;
mod collect;
mod connection;
pub mod dialect;
mod error;
mod explain;
mod manifests;
mod put_manifest;
mod repositories;
mod sql;
mod tags;
mod uploads;
mod writer;

pub use blobs::{BlobPlace, ScrubItem, ScrubKind, StoredBlob};
pub use collect::{CollectedPage, CollectionLimits};
pub use connection::Catalog;
pub use error::CatalogError;
pub use explain::{Explanation, Keeper};
pub use manifests::{Removal, StoredManifest};
pub use put_manifest::{ManifestPut, PutOutcome};
pub use repositories::{ReferrerFilter, ReferrersPage};
pub use tags::{Precondition, TagAt};
pub use uploads::{FinishOutcome, FinishedBlob, NewUpload, Progress, StoredUpload};
