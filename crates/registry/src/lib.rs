//! The use cases: upload, put a manifest, resolve, delete, collect garbage, scrub, explain,
//! import, export.
//!
//! Here it is decided what happens; the catalog and the store only keep it. Nothing here knows HTTP: the edge
//! translates requests into these calls and their errors into answers.

mod access;
mod accounts;
mod audit;
mod backup;
mod blobs;
mod collect;
mod copy;
mod error;
mod export;
mod import;
mod leave;
mod left_out;
mod maintenance;
mod manifests;
mod moving;
mod receive;
mod registry;
mod removal;
mod scrub;
mod sessions;
mod transfer;
mod uploads;

pub use access::{
    Administering, AnonymousMode, Asks, Caller, Deleting, Denial, May, Origin, Principal, Pushing,
    Reading, Reason, Right,
};
pub use accounts::{
    AccountKind, AccountReport, AccountRules, AccountsCommand, AccountsError, AccountsReport,
    GivenKeys, GrantReport, GrantRequest, GroupsCommand, GroupsReport, IdentityRefused,
    IssuedToken, IssuerChange, IssuerReport, IssuerRequest, Issuers, KeyReport, KeyState,
    KeysCommand, KeysReport, LOGIN_TIME, LoginError, LoginUnderWay, MappingReport, MappingRequest,
    MemberReport, NamespaceReport, NamespaceSettings, Newcomer, OrganisationReport, Page,
    PageRequest, ProviderCommand, PublisherReport, PublisherRequest, PublishingCommand,
    PublishingReport, RobotReport, RotateRequest, Session, Shown, SignInError, TeamMemberReport,
    TeamReport, TenancyCommand, TokenReport, TokenRequest, TrustedIssuer, UserChange, UserReport,
    is_namespace, network,
};
pub use audit::{
    AuditCheck, AuditCommand, AuditCursor, AuditEvent, AuditFault, AuditFinding, AuditKeys,
    AuditLineError, AuditPage, AuditQuery, AuditRange, AuditRemoval, AuditReport, Checked, LastRow,
    LastRowError, VerifyReport, check_exported,
};
pub use backup::{BackupNote, BackupReport, restore};
pub use blobs::BlobBody;
pub use collect::{Collected, CollectionReport};
pub use copy::{CopyError, CopyOptions, CopyReport, Side, copy_installation};
pub use error::RegistryError;
pub use export::{ExportReference, ExportReferenceError, ExportReport, ExportRequest};
pub use granary_catalog::{
    AuditFilter, AuditRow, Explanation, Keeper, Month, Precondition, QuotaExceeded, QuotaKind,
    ReferrerFilter, ReferrersPage, StoredBlob, StoredManifest,
};
pub use import::{
    BucketAccess, BucketAddress, BucketAddressError, ImportReport, ImportRequest, ImportSource,
    ImportedBlobs, ImportedManifests, ImportedTags, OwnershipReport, SourceKind, recognise,
};
pub use leave::{
    Installation, Leave, NamespaceAdmin, Oneself, OrganisationAdmin, OrganisationMember,
    OrganisationOwner, OwnAccount, RepositoryAdmin, RobotOwner, Sphere, TeamMaintainer,
};
pub use left_out::{Finding, Findings, Kind};
pub use maintenance::{Maintenance, MaintenanceError, MaintenanceReport, Progress};
pub use manifests::{ManifestRequest, PutManifest};
pub use moving::MovingError;
pub use registry::{OpenError, Redirect, Registry, Rules, Untagged};
pub use scrub::{Damage, ScrubReport};
pub use uploads::{BodyError, Chunk, UploadStatus};
