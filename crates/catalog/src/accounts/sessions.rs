//! Sessions of browsers: credentials of kind 4. They end as every credential does, at the next request.

use std::{sync::Arc, time::Duration};

use granary_access::{
    AnonymousMode, Caller, Credential, CredentialId, Origin, Principal, PrincipalId, Scopes,
};
use sea_orm::FromQueryResult;
use serde_json::json;

use super::{
    confirm::Asker,
    office::{Authority, Decided},
    warm::count_up,
};
use crate::{
    Catalog, CatalogError,
    audit::{self, Deed, action},
    dialect::micros,
    sql::{self, Id},
    writer::Write,
};

/// `credentials.kind` of a session.
const SESSION: i16 = 4;
/// Most sessions of a user. One more ends the oldest.
const MOST_SESSIONS: i64 = 100;

/// A session to begin.
#[derive(Clone)]
pub struct NewSession {
    /// SHA-256 of its token.
    pub secret: [u8; 32],
    /// The token's last characters, for people.
    pub hint: String,
    /// How long it is good.
    pub lifetime: Duration,
    /// The name of the provider that says who it is; nothing if a password did.
    pub provider: Option<String>,
}

/// A session. Whether it still counts its reader has to ask for with [rights](Catalog::rights).
#[derive(Clone, Debug)]
pub struct KnownSession {
    /// Whose.
    pub principal: PrincipalId,
    /// The name of that user.
    pub name: Arc<str>,
    /// Its row.
    pub credential: CredentialId,
    /// The name of the provider that said who it is.
    pub provider: Option<String>,
    /// When it ends, in microseconds since 1970.
    pub expires_at: i64,
}

#[derive(FromQueryResult)]
struct SessionRow {
    id: i64,
    principal_id: i64,
    name: String,
    issuer: Option<String>,
    expires_at: Option<i64>,
}

#[derive(FromQueryResult)]
struct Name {
    name: String,
}

impl Catalog {
    /// The session whose token has this SHA-256.
    pub async fn session(&self, secret: &[u8; 32]) -> Result<Option<KnownSession>, CatalogError> {
        let query = "SELECT c.id, c.principal_id, p.name, c.issuer, c.expires_at FROM credentials c \
                     JOIN principals p ON p.id = c.principal_id WHERE c.secret = $1 AND c.kind = 4";
        let row: Option<SessionRow> = self.reads.one(query, [secret.to_vec().into()]).await?;
        Ok(row.map(|row| KnownSession {
            principal: PrincipalId(row.principal_id),
            name: row.name.into(),
            credential: CredentialId(row.id),
            provider: row.issuer,
            expires_at: row.expires_at.unwrap_or_default(),
        }))
    }

    /// Begins a session of a user who showed the password `by`, and which ends with that; `false` if the password counts no
    /// longer.
    pub async fn begin_session(
        &self,
        principal: PrincipalId,
        by: CredentialId,
        session: NewSession,
        origin: Origin,
    ) -> Result<bool, CatalogError> {
        self.write(async move |write| {
            let counts = format!(
                "SELECT p.name FROM principals p JOIN credentials c ON c.principal_id = p.id \
                 WHERE p.id = $1 AND p.state = 0 AND c.id = $2 AND c.kind = 1 AND c.revoked_at IS NULL{}",
                write.dialect.lock_values("p")
            );
            let values = [principal.0.into(), by.0.into()];
            let found: Option<Name> = sql::one(&write.transaction, &counts, values).await?;
            let Some(Name { name }) = found else {
                return Ok(false);
            };
            begin(write, (principal.0, &name), Some(by.0), session, &origin).await?;
            Ok(true)
        })
        .await
    }

    /// Ends the session by whose leave it is; `false` if it is none.
    pub async fn end_session(&self, by: &Authority) -> Result<Decided<bool>, CatalogError> {
        self.decided(by, async move |write, by| {
            let Some((principal, credential)) = by.asker.principal.ids() else {
                return Ok(false);
            };
            let end = "UPDATE credentials SET revoked_at = $3 WHERE id = $1 AND principal_id = $2 AND kind = 4 AND revoked_at IS NULL";
            let values = [credential.0.into(), principal.0.into(), write.now.into()];
            if sql::execute(&write.transaction, end, values).await? == 0 {
                return Ok(false);
            }
            count_up(write).await?;
            let name = by.asker.principal.name().to_owned();
            by.note(write, Deed::new(action::LOGOUT, name)).await?;
            Ok(true)
        })
        .await
    }
}

/// Begins a session of that principal, and gives who it is by it.
pub(super) async fn begin(
    write: &mut Write,
    (principal, name): (i64, &str),
    parent: Option<i64>,
    session: NewSession,
    origin: &Origin,
) -> Result<Asker, CatalogError> {
    let insert = "INSERT INTO credentials (principal_id, kind, name, secret, hint, parent_id, created_at, created_by, expires_at, issuer) \
                  VALUES ($1, $2, 'session', $3, $4, $5, $6, $1, $7, $8) RETURNING id";
    let values = [
        principal.into(),
        SESSION.into(),
        session.secret.to_vec().into(),
        session.hint.into(),
        parent.into(),
        write.now.into(),
        (write.now + micros(session.lifetime)).into(),
        session.provider.clone().into(),
    ];
    let row: Option<Id> = sql::one(&write.transaction, insert, values).await?;
    let Id { id } =
        row.ok_or_else(|| CatalogError::damaged("credentials", "an insert returned no row"))?;
    let end = "UPDATE credentials SET revoked_at = $2 WHERE principal_id = $1 AND kind = 4 AND revoked_at IS NULL AND id < ( \
                 SELECT MIN(id) FROM (SELECT id FROM credentials WHERE principal_id = $1 AND kind = 4 AND revoked_at IS NULL \
                 ORDER BY id DESC LIMIT $3) newest)";
    let values = [principal.into(), write.now.into(), MOST_SESSIONS.into()];
    if sql::execute(&write.transaction, end, values).await? > 0 {
        count_up(write).await?;
    }
    let caller = Caller {
        principal: Principal::Known {
            id: PrincipalId(principal),
            name: name.into(),
            credential: Credential {
                id: CredentialId(id),
                scopes: Scopes::unlimited(),
                token: None,
            },
        },
        origin: origin.clone(),
    };
    let asker = Asker::new(caller, AnonymousMode::None);
    let deed = Deed::new(action::LOGIN, name).with(json!({ "provider": session.provider }));
    audit::note(write, &asker, deed).await?;
    Ok(asker)
}
