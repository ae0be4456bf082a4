//! Everything SQL: repositories, blobs, manifests, tags, uploads, and what keeps what.
//!
//! The catalog is the only truth about what exists and who may read it. It holds no rules of its own: a use case
//! hands it what was decided, and one transaction makes all of it visible or none. Reads never write.
//!
//! SQL is plain and runs on SQLite and PostgreSQL alike; what differs stands in [`dialect`].

mod accounts;
mod adopt;
mod audit;
mod backoff;
mod blobs;
mod cache;
mod collect;
mod connection;
mod copy;
pub mod dialect;
mod error;
mod explain;
mod guard;
mod hold;
mod leases;
mod manifests;
mod memory;
mod put_manifest;
mod quota;
mod reach;
mod removal;
mod repositories;
mod schema;
mod session;
mod sql;
mod tags;
mod together;
mod uploads;
mod writer;

pub use accounts::{
    Asker, Authority, CredentialBearer, CredentialKind, Decided, Departed, Departure, FirstAccount,
    ForeignUser, Founded, IdentityTaken, IdentityUse, IssuerKeyPlace, IssuerSettings, KeyPurpose,
    KnownPassword, KnownSession, KnownToken, LogIn, Mapped, NamespaceChange, NamespaceUsage,
    NewIssuer, NewLogin, NewPublisher, NewSession, NewToken, NewUser, Office, Outcome,
    PrincipalKind, Refusal, RightsNow, Rotation, StoredGrant, StoredIssuer, StoredKey, StoredLogin,
    StoredMapping, StoredMember, StoredNamespace, StoredOrganisation, StoredPublisher, StoredRobot,
    StoredTeam, StoredToken, StoredUser, Use,
};
pub use adopt::FOREIGN;
pub use audit::{
    AuditCheckpoint, AuditFilter, AuditRow, AuditState, Deed, Link, Month, MonthError, Reads,
    RemovedRows, SealedBatch, Unsigned, action,
};
pub use blobs::{BlobPlace, MountOutcome, ScrubItem, ScrubKind, StoredBlob};
pub use collect::{CollectedPage, CollectionLimits, DoomedObject};
pub use connection::Catalog;
pub use copy::{
    COPIED, Column, CopyClaim, CopyItem, CopyStart, Figures, Kind, LEFT_OUT, Snapshot, Table,
};
pub use error::CatalogError;
pub use explain::{Explanation, Keeper};
pub use hold::HOLD;
pub use leases::{Replica, live_replicas};
pub use manifests::{Removal, StoredManifest};
pub use memory::SharedContent;
pub use put_manifest::{ManifestPut, PutOutcome, TagChange};
pub use quota::{QuotaExceeded, QuotaKind};
pub use reach::reach_postgres;
pub use removal::RepositoryRemoval;
pub use repositories::{ReferrerFilter, ReferrersPage};
pub use schema::{SchemaStatus, schema_release, schema_status, schema_up};
pub use session::{
    ClaimOutcome, FinishOutcome, FinishedBlob, NewUpload, Progress, StoredUpload, Unsent,
    UploadStanding,
};
pub use tags::{Precondition, TagAt};
pub use writer::Connected;
