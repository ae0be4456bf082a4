//! Accounts: who there is, what proves it, who belongs to whom, what each may do where; and the keys that sign.
//!
//! Times are microseconds since 1970, from the database's clock. Handles and patterns compare bytewise. Lists are JSON;
//! one that is null says nothing, which is not the same as an empty one.
//!
//! ```text
//! principals 1--n credentials 1--n credentials (what a refresh token was made from)
//!      |1  +-----n principals (robots and teams of their owner)
//!      +--n memberships n--1 principals (an organisation or a team)
//!      +--n grants n--1 namespaces 1--1 namespace_settings
//!      +--n namespaces (their owner)                                signing_keys
//! ```

use sea_orm_migration::prelude::*;

use crate::words::in_dialect;

/// Expands only: a process that knows the second schema alone goes on working. It would let everybody do everything, so
/// the first account notes a release at which such a process does not start (see [`crate::RELEASE`]).
#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let (connection, backend) = (manager.get_connection(), manager.get_database_backend());
        for statement in STATEMENTS.iter().chain(&INDEXES) {
            let statement = in_dialect(statement, backend);
            connection.execute_unprepared(&statement).await?;
        }
        Ok(())
    }

    /// On SQLite too, where it is not the habit: a process that dies in between leaves nothing behind that could not be
    /// made a second time.
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }
}

/// Of the tables that are in use, `repositories` comes first, because whoever makes a repository looks there before
/// making its namespace: on PostgreSQL each waits for the locks of the other in the same order.
const STATEMENTS: [&str; 8] = [
    PRINCIPALS,
    CREDENTIALS,
    MEMBERSHIPS,
    VISIBILITY,
    OWNER,
    GRANTS,
    NAMESPACE_SETTINGS,
    SIGNING_KEYS,
];

/// `kind`: 1 user, 2 robot, 3 organisation, 4 team. `state`: 0 active, 1 disabled, 2 removed; the row of a removed one
/// stays, for whoever reads history.
///
/// `handle` is what it goes by: `alice`, `acme`, `acme+ci` (a robot), `acme/core` (a team); null once it is removed, so
/// that the name is free, and a successor is another row. `name` is the handle that it had last.
///
/// `owner_id`: the organisation or user that a robot or team belongs to. It was there before, and a copy relies on
/// that, because it brings rows by number, in many transactions, and each row must find what it refers to.
///
/// `system_role`: 0 none, 1 administrator of the installation. `addresses`: blocks from which it may be used; of an
/// organisation, from which its namespaces may.
const PRINCIPALS: &str = "\
CREATE TABLE principals (
  id {id},
  kind smallint NOT NULL,
  handle {name} NULL,
  name {name} NOT NULL,
  owner_id bigint NULL REFERENCES principals (id) CHECK (owner_id < id),
  display_name text NULL,
  email text NULL,
  system_role smallint NOT NULL DEFAULT 0,
  state smallint NOT NULL DEFAULT 0,
  addresses text NULL,
  created_at bigint NOT NULL,
  created_by bigint NULL,
  removed_at bigint NULL
)";

/// `kind`: 1 password, 2 API token, 3 refresh token, 4 session. A row never changes what it proves, a new password or a
/// rotated token is a new row; so what was verified once may be remembered under the row's number.
///
/// `secret`: the SHA-256 of a token, whose bits are random and many; null for a password, which has `phc` instead:
/// argon2id with its parameters. `hint`: the last characters of a token, for people. `scopes`: null for all that its
/// principal may do. `addresses`: blocks from which it may be used.
///
/// `parent_id`: what a refresh token was made from, and ends with. Passwords and API tokens, which alone are copied,
/// have no parent among the others; and like every owner, every parent was there before.
///
/// `replaced_by`: the successor, while both are good. `last_used_at` is written from time to time, not at each use.
const CREDENTIALS: &str = "\
CREATE TABLE credentials (
  id {id},
  principal_id bigint NOT NULL REFERENCES principals (id),
  kind smallint NOT NULL,
  name varchar NOT NULL,
  secret {bytes} NULL,
  phc text NULL,
  hint varchar NOT NULL DEFAULT '',
  scopes text NULL,
  addresses text NULL,
  parent_id bigint NULL REFERENCES credentials (id) CHECK (parent_id < id),
  replaced_by bigint NULL,
  created_at bigint NOT NULL,
  created_by bigint NULL,
  expires_at bigint NULL,
  revoked_at bigint NULL,
  last_used_at bigint NULL,
  last_used_from varchar NULL
)";

/// Who belongs to an organisation or a team. `role` in an organisation: 1 member, 2 read, 3 write, 4 administrator,
/// 5 owner; in a team: 1 member, 4 maintainer.
///
/// `source`: empty if somebody said so, else the issuer whose groups did: a log-in replaces the rows of its own issuer
/// only. `organisation_id` repeats the group's organisation, so that one look-up gives the groups that count in a
/// namespace.
const MEMBERSHIPS: &str = "\
CREATE TABLE memberships (
  member_id bigint NOT NULL REFERENCES principals (id),
  group_id bigint NOT NULL REFERENCES principals (id),
  source varchar NOT NULL DEFAULT '',
  organisation_id bigint NOT NULL REFERENCES principals (id),
  role smallint NOT NULL,
  created_at bigint NOT NULL,
  created_by bigint NULL,
  PRIMARY KEY (member_id, group_id, source)
)";

/// 1 private, 2 public. What was there before anybody had an account is private once somebody has one.
const VISIBILITY: &str =
    "ALTER TABLE repositories ADD COLUMN visibility smallint NOT NULL DEFAULT 1";

/// Null where nobody owns it, as everywhere until the first account is made.
const OWNER: &str =
    "ALTER TABLE namespaces ADD COLUMN owner_id bigint NULL REFERENCES principals (id)";

/// Rights in a namespace. `pattern`: a repository's name, a prefix that ends in `/**`, or `**` for the whole namespace.
/// `actions`: one bit each. `tags`: patterns; null for every tag.
const GRANTS: &str = "\
CREATE TABLE grants (
  id {id},
  namespace_id bigint NOT NULL REFERENCES namespaces (id),
  pattern {name} NOT NULL,
  grantee_id bigint NOT NULL REFERENCES principals (id),
  actions smallint NOT NULL,
  tags text NULL,
  created_at bigint NOT NULL,
  created_by bigint NULL,
  expires_at bigint NULL
)";

/// A namespace without a row has the defaults. `create_by`, who makes repositories: 0 whoever may write there,
/// 1 administrators of the namespace. `default_visibility` as that of a repository. `immutable_tags`: patterns.
const NAMESPACE_SETTINGS: &str = "\
CREATE TABLE namespace_settings (
  namespace_id bigint NOT NULL PRIMARY KEY REFERENCES namespaces (id),
  create_by smallint NOT NULL DEFAULT 0,
  default_visibility smallint NOT NULL DEFAULT 1,
  immutable_tags text NULL,
  updated_at bigint NOT NULL
)";

/// `purpose`: 1 tokens, 2 checkpoints of the audit log. `slot` counts up, and stands once for each purpose: of several
/// processes that start at once, one makes the key. `sealed`: the private key, encrypted by the key `wrapped_by`.
const SIGNING_KEYS: &str = "\
CREATE TABLE signing_keys (
  kid varchar NOT NULL PRIMARY KEY,
  purpose smallint NOT NULL,
  slot bigint NOT NULL,
  algorithm varchar NOT NULL,
  public_key {bytes} NOT NULL,
  sealed {bytes} NOT NULL,
  wrapped_by varchar NOT NULL,
  created_at bigint NOT NULL,
  active_from bigint NOT NULL,
  retires_at bigint NULL
)";

/// What requests and lists look up. Unique ones leave null out, so removed principals and passwords never collide; of
/// passwords each principal has one that is good, also when two processes set one at once.
const INDEXES: [&str; 15] = [
    "CREATE UNIQUE INDEX principals_handle ON principals (handle)",
    "CREATE INDEX principals_owner ON principals (owner_id) WHERE owner_id IS NOT NULL",
    "CREATE UNIQUE INDEX credentials_secret ON credentials (secret)",
    "CREATE UNIQUE INDEX credentials_password ON credentials (principal_id) WHERE kind = 1 AND revoked_at IS NULL",
    "CREATE INDEX credentials_principal ON credentials (principal_id, kind)",
    "CREATE INDEX credentials_parent ON credentials (parent_id) WHERE parent_id IS NOT NULL",
    "CREATE INDEX credentials_expiry ON credentials (expires_at) WHERE expires_at IS NOT NULL",
    "CREATE INDEX memberships_organisation ON memberships (member_id, organisation_id, group_id, role)",
    "CREATE INDEX memberships_group ON memberships (group_id, member_id)",
    "CREATE INDEX repositories_public ON repositories (name) WHERE listed AND visibility = 2",
    "CREATE INDEX repositories_namespace ON repositories (namespace_id, name)",
    "CREATE INDEX namespaces_owner ON namespaces (owner_id) WHERE owner_id IS NOT NULL",
    "CREATE INDEX grants_grantee ON grants (grantee_id, namespace_id, pattern)",
    "CREATE INDEX grants_namespace ON grants (namespace_id, pattern)",
    "CREATE UNIQUE INDEX signing_keys_slot ON signing_keys (purpose, slot)",
];
