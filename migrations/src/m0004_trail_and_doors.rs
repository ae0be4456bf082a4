//! What accounts leave behind and how they come in: the audit log, log-in by identity providers, publishing from CI without
//! a secret, quotas, and repositories on their way out.
//!
//! ```text
//! audit_pending --(the sealer)--> audit_log, audit_checkpoints
//! identities n--1 principals        group_mappings n--1 principals (an organisation or a team)        logins
//! trusted_issuers 1--n publishers n--1 principals (a robot)        used_identities
//! namespaces 1--1 namespace_usage        namespaces n--n blobs (namespace_blobs)
//! ```

use sea_orm_migration::prelude::*;

use crate::words::in_dialect;

/// Expands only: a process of the release before goes on working. It writes no audit rows, and knows no quotas and no
/// address lists; whoever sets one is told of such a process.
#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let (connection, backend) = (manager.get_connection(), manager.get_database_backend());
        for statement in STATEMENTS.iter().chain(&COLUMNS).chain(&INDEXES) {
            let statement = in_dialect(statement, backend);
            connection.execute_unprepared(&statement).await?;
        }
        Ok(())
    }

    /// On SQLite too, as the change before.
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }
}

const STATEMENTS: [&str; 11] = [
    AUDIT_PENDING,
    AUDIT_LOG,
    AUDIT_CHECKPOINTS,
    IDENTITIES,
    GROUP_MAPPINGS,
    LOGINS,
    TRUSTED_ISSUERS,
    PUBLISHERS,
    USED_IDENTITIES,
    NAMESPACE_USAGE,
    NAMESPACE_BLOBS,
];

/// Rows that were committed with what they tell of, and are not chained yet (decision 29). `actor`: a name as it was then;
/// `target`: what it is about, such as a repository, a user, a token's number. `detail`: JSON, never a secret.
const AUDIT_PENDING: &str = "\
CREATE TABLE audit_pending (
  id {id},
  at bigint NOT NULL,
  request_id varchar NOT NULL,
  action varchar NOT NULL,
  allowed boolean NOT NULL,
  reason varchar NOT NULL,
  actor_id bigint NULL,
  actor varchar NOT NULL,
  credential_id bigint NULL,
  address varchar NULL,
  target varchar NOT NULL,
  detail text NULL
)";

/// The log. One sealer at a time moves rows here, numbers them from 1 without gaps, and chains them: `chain` is the SHA-256
/// of the chain before and of this row. Nothing here is ever updated. The key holds `at`, because that of a partitioned
/// table has to hold what it is partitioned by.
const AUDIT_LOG: &str = "\
CREATE TABLE audit_log (
  at bigint NOT NULL,
  seq bigint NOT NULL,
  request_id varchar NOT NULL,
  action varchar NOT NULL,
  allowed boolean NOT NULL,
  reason varchar NOT NULL,
  actor_id bigint NULL,
  actor varchar NOT NULL,
  credential_id bigint NULL,
  address varchar NULL,
  target varchar NOT NULL,
  detail text NULL,
  chain {bytes} NOT NULL,
  PRIMARY KEY (at, seq)
){monthly}";

/// Signed statements of how far the chain is. `removed_at`: its rows were exported and removed; it stays, so that the chain
/// goes on behind it.
const AUDIT_CHECKPOINTS: &str = "\
CREATE TABLE audit_checkpoints (
  number bigint NOT NULL PRIMARY KEY,
  first_seq bigint NOT NULL,
  last_seq bigint NOT NULL,
  first_at bigint NOT NULL,
  last_at bigint NOT NULL,
  chain {bytes} NOT NULL,
  kid varchar NOT NULL,
  signature {bytes} NOT NULL,
  signed_at bigint NOT NULL,
  removed_at bigint NULL
)";

/// Users whom an identity provider knows: by issuer and subject, never by a name or an address, which may go to others.
const IDENTITIES: &str = "\
CREATE TABLE identities (
  issuer varchar NOT NULL,
  subject varchar NOT NULL,
  principal_id bigint NOT NULL REFERENCES principals (id),
  claimed_name varchar NULL,
  created_at bigint NOT NULL,
  seen_at bigint NOT NULL,
  PRIMARY KEY (issuer, subject)
)";

/// Which groups of an issuer are which organisations and teams here. `claim`: the group's name there, compared exactly.
const GROUP_MAPPINGS: &str = "\
CREATE TABLE group_mappings (
  id {id},
  issuer varchar NOT NULL,
  claim varchar NOT NULL,
  group_id bigint NOT NULL REFERENCES principals (id),
  role smallint NOT NULL
)";

/// Log-ins under way. `state` and `browser` are hashes: of what comes back in the address, and of the cookie that has to come
/// with it. The row goes with its first use.
const LOGINS: &str = "\
CREATE TABLE logins (
  state {bytes} NOT NULL PRIMARY KEY,
  provider varchar NOT NULL,
  nonce varchar NOT NULL,
  verifier varchar NOT NULL,
  browser {bytes} NOT NULL,
  return_to varchar NOT NULL,
  expires_at bigint NOT NULL
)";

/// Issuers whose identity tokens are taken from CI systems and clusters. `keys_url`, or `keys` themselves as a JSON Web Key
/// Set, stand in for the issuer's own discovery.
const TRUSTED_ISSUERS: &str = "\
CREATE TABLE trusted_issuers (
  id {id},
  issuer varchar NOT NULL,
  preset varchar NOT NULL,
  audience varchar NOT NULL,
  keys_url varchar NULL,
  keys text NULL,
  created_at bigint NOT NULL,
  created_by bigint NULL
)";

/// Who of an issuer is which robot: `claims` is a JSON object of patterns that must all match. `credential_id`: a credential of
/// its own (`kind` 5) without a secret, which has what it caps and ends with it. `once`: an identity token counts once. `expires_at`: one
/// that was never used ends then.
const PUBLISHERS: &str = "\
CREATE TABLE publishers (
  id {id},
  issuer_id bigint NOT NULL REFERENCES trusted_issuers (id),
  robot_id bigint NOT NULL REFERENCES principals (id),
  credential_id bigint NOT NULL REFERENCES credentials (id),
  claims text NOT NULL,
  once boolean NOT NULL DEFAULT FALSE,
  created_at bigint NOT NULL,
  created_by bigint NULL,
  expires_at bigint NULL,
  used_at bigint NULL
)";

/// Identity tokens that counted once: the SHA-256 of their `jti`.
const USED_IDENTITIES: &str = "\
CREATE TABLE used_identities (
  issuer_id bigint NOT NULL,
  jti {bytes} NOT NULL,
  expires_at bigint NOT NULL,
  PRIMARY KEY (issuer_id, jti)
)";

/// What a namespace with a quota holds (decision 28). There is a row since the quota was set, and only as long as there is
/// one `namespace_blobs` is kept for it. `counted_to`: the last repository that was counted, until all were.
const NAMESPACE_USAGE: &str = "\
CREATE TABLE namespace_usage (
  namespace_id bigint NOT NULL PRIMARY KEY REFERENCES namespaces (id),
  bytes bigint NOT NULL,
  artifacts bigint NOT NULL,
  counted_to bigint NULL,
  counted_at bigint NOT NULL
)";

/// The distinct blobs of a namespace with a quota.
const NAMESPACE_BLOBS: &str = "\
CREATE TABLE namespace_blobs (
  namespace_id bigint NOT NULL REFERENCES namespaces (id),
  blob_id bigint NOT NULL REFERENCES blobs (id),
  PRIMARY KEY (namespace_id, blob_id)
)";

/// A repository that was removed is renamed to `~` and its number, a name that no client can ask for; what is in it goes
/// later, by and by. Sessions of browsers keep what their requests have to show besides the cookie, and who logged them in.
const COLUMNS: [&str; 8] = [
    "ALTER TABLE repositories ADD COLUMN removed_at bigint NULL",
    "ALTER TABLE repositories ADD COLUMN former_name varchar NULL",
    "ALTER TABLE namespace_settings ADD COLUMN default_license varchar NULL",
    "ALTER TABLE namespace_settings ADD COLUMN quota_bytes bigint NULL",
    "ALTER TABLE namespace_settings ADD COLUMN quota_artifacts bigint NULL",
    "ALTER TABLE uploads ADD COLUMN reserved bigint NOT NULL DEFAULT 0",
    "ALTER TABLE credentials ADD COLUMN csrf {bytes} NULL",
    "ALTER TABLE credentials ADD COLUMN issuer varchar NULL",
];

const INDEXES: [&str; 12] = [
    "CREATE INDEX audit_log_seq ON audit_log (seq)",
    "CREATE INDEX audit_log_actor ON audit_log (actor_id, at)",
    "CREATE INDEX audit_log_target ON audit_log (target, at)",
    "CREATE INDEX identities_principal ON identities (principal_id)",
    "CREATE UNIQUE INDEX group_mappings_claim ON group_mappings (issuer, claim, group_id)",
    "CREATE INDEX logins_expiry ON logins (expires_at)",
    "CREATE UNIQUE INDEX trusted_issuers_issuer ON trusted_issuers (issuer)",
    "CREATE INDEX publishers_issuer ON publishers (issuer_id)",
    "CREATE INDEX publishers_robot ON publishers (robot_id)",
    "CREATE INDEX used_identities_expiry ON used_identities (expires_at)",
    "CREATE INDEX namespace_blobs_blob ON namespace_blobs (blob_id)",
    "CREATE INDEX repositories_removed ON repositories (removed_at) WHERE removed_at IS NOT NULL",
];
