//! Writing rows.

use granary_access::{Origin, Principal, Reason};
use serde_json::{Value as Json, json};

use crate::{Asker, Catalog, CatalogError, sql, writer::Write};

/// Names of what is done, `NOUN.VERB`; they are part of the log's format and never change their meaning.
pub mod action {
    /// The first account was made.
    pub const BOOTSTRAP: &str = "installation.bootstrap";
    /// Somebody was signed in: a session began.
    pub const LOGIN: &str = "login.succeed";
    /// Somebody was not.
    pub const LOGIN_FAILED: &str = "login.fail";
    /// A session was ended by its owner.
    pub const LOGOUT: &str = "login.end";
    /// A user was made.
    pub const USER_CREATE: &str = "user.create";
    /// A user was disabled, enabled or removed.
    pub const USER_CHANGE: &str = "user.change";
    /// A user has another password.
    pub const PASSWORD_SET: &str = "password.set";
    /// An API token was made.
    pub const TOKEN_CREATE: &str = "token.create";
    /// An API token was withdrawn.
    pub const TOKEN_REVOKE: &str = "token.revoke";
    /// An API token got a successor.
    pub const TOKEN_ROTATE: &str = "token.rotate";
    /// Something was granted.
    pub const GRANT_CREATE: &str = "grant.create";
    /// A grant was taken back.
    pub const GRANT_REMOVE: &str = "grant.remove";
    /// A namespace has another owner or other settings.
    pub const NAMESPACE_CHANGE: &str = "namespace.change";
    /// Others see a repository.
    pub const VISIBILITY_SET: &str = "repository.visibility";
    /// A repository was removed.
    pub const REPOSITORY_REMOVE: &str = "repository.remove";
    /// A manifest was pushed, and tags perhaps moved to it.
    pub const MANIFEST_PUT: &str = "manifest.put";
    /// A manifest was deleted.
    pub const MANIFEST_DELETE: &str = "manifest.delete";
    /// A tag was deleted.
    pub const TAG_DELETE: &str = "tag.delete";
    /// A blob was deleted.
    pub const BLOB_DELETE: &str = "blob.delete";
    /// An organisation or a team was made.
    pub const GROUP_CREATE: &str = "group.create";
    /// An organisation or a team has other settings.
    pub const GROUP_CHANGE: &str = "group.change";
    /// An organisation or a team was removed.
    pub const GROUP_REMOVE: &str = "group.remove";
    /// Somebody belongs to a group, or is something else in it.
    pub const MEMBER_SET: &str = "member.set";
    /// Somebody belongs to a group no longer.
    pub const MEMBER_REMOVE: &str = "member.remove";
    /// A robot was made.
    pub const ROBOT_CREATE: &str = "robot.create";
    /// A robot has other settings.
    pub const ROBOT_CHANGE: &str = "robot.change";
    /// A robot was removed.
    pub const ROBOT_REMOVE: &str = "robot.remove";
    /// Groups of an identity provider mean groups here.
    pub const MAPPING_CHANGE: &str = "mapping.change";
    /// An issuer of identity tokens is trusted, or no longer.
    pub const ISSUER_CHANGE: &str = "issuer.change";
    /// Identity tokens of a kind are a robot, or no longer.
    pub const PUBLISHER_CHANGE: &str = "publisher.change";
    /// Signing keys were rotated or retired.
    pub const KEYS_CHANGE: &str = "keys.change";
    /// Rows of this log were removed, after they were exported.
    pub const AUDIT_REMOVE: &str = "audit.remove";
    /// Something was allowed to be read, as often as `count` in the detail says since it was last said.
    pub const READ: &str = "access.read";
    /// Something was not allowed.
    pub const DENIED: &str = "access.deny";
}

/// What was done.
#[derive(Clone, Debug)]
pub struct Deed {
    /// Its name, one of [`action`].
    pub action: &'static str,
    /// What it is about, such as the name of a repository or a user.
    pub target: String,
    /// More about it, as JSON. Never a secret.
    pub detail: Option<Json>,
}

impl Deed {
    /// One about `target`.
    pub fn new(action: &'static str, target: impl ToString) -> Self {
        Self {
            action,
            target: target.to_string(),
            detail: None,
        }
    }

    /// The same with more about it.
    #[must_use]
    pub fn with(self, detail: Json) -> Self {
        Self {
            detail: Some(detail),
            ..self
        }
    }
}

/// How often somebody was let in to read something.
#[derive(Clone, Debug)]
pub struct Reads {
    /// Who.
    pub principal: Principal,
    /// From where the first of them came.
    pub origin: Origin,
    /// What, such as the name of a repository.
    pub target: String,
    /// How often.
    pub count: u64,
}

/// Longest target that is kept, in bytes. Names are shorter; what somebody typed may be longer.
const LONGEST: usize = 512;

/// Notes in the transaction of a deed that it was done. Without accounts there is nobody to tell of.
pub(crate) async fn note(write: &Write, asker: &Asker, deed: Deed) -> Result<(), CatalogError> {
    if asker.principal == Principal::Local {
        return Ok(());
    }
    insert(write, (&asker.principal, &asker.origin), deed, "").await
}

async fn insert(
    write: &Write,
    (principal, origin): (&Principal, &Origin),
    deed: Deed,
    reason: &str,
) -> Result<(), CatalogError> {
    let insert = "INSERT INTO audit_pending (at, request_id, action, allowed, reason, actor_id, actor, credential_id, address, target, detail) \
                  VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)";
    let ids = principal.ids();
    let mut target = deed.target;
    target.truncate(target.floor_char_boundary(LONGEST));
    let values = [
        write.now.into(),
        origin.request.as_ref().into(),
        deed.action.into(),
        reason.is_empty().into(),
        reason.into(),
        ids.map(|(id, _)| id.0).into(),
        principal.name().into(),
        ids.map(|(_, credential)| credential.0).into(),
        origin.address.map(|address| address.to_string()).into(),
        target.into(),
        deed.detail.map(|detail| detail.to_string()).into(),
    ];
    sql::execute(&write.transaction, insert, values).await?;
    Ok(())
}

/// The name of a reason in the log.
pub(crate) fn reason_name(reason: Reason) -> &'static str {
    match reason {
        Reason::NoCredentials => "no-credentials",
        Reason::Ended => "ended",
        Reason::Address => "address",
        Reason::Hidden => "hidden",
        Reason::Missing => "missing",
        Reason::NotGranted => "not-granted",
        Reason::ScopeTooNarrow => "scope-too-narrow",
        Reason::TokenTooNarrow => "token-too-narrow",
        Reason::ImmutableTag => "immutable-tag",
        Reason::NotCreatable => "not-creatable",
    }
}

impl Catalog {
    /// Notes something that was done or tried, outside of any other transaction; `reason` says why it was not allowed, and is
    /// empty if it was.
    pub async fn note(
        &self,
        principal: Principal,
        origin: Origin,
        deed: Deed,
        reason: &'static str,
    ) -> Result<(), CatalogError> {
        self.write(async move |write| insert(write, (&principal, &origin), deed, reason).await)
            .await
    }

    /// Notes how often somebody was let in to read: a row for each of these, in one transaction (decision 29).
    pub async fn note_reads(&self, reads: Vec<Reads>) -> Result<(), CatalogError> {
        self.write(async move |write| {
            for Reads {
                principal,
                origin,
                target,
                count,
            } in &reads
            {
                let deed = Deed::new(action::READ, target).with(json!({"count": count}));
                insert(write, (principal, origin), deed, "").await?;
            }
            Ok(())
        })
        .await
    }

    /// Notes that something was not allowed.
    pub async fn note_denial(
        &self,
        principal: Principal,
        origin: Origin,
        deed: Deed,
        reason: Reason,
    ) -> Result<(), CatalogError> {
        self.note(principal, origin, deed, reason_name(reason))
            .await
    }
}
