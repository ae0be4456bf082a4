//! What proves a principal: passwords and tokens. A row never changes what it proves, so what was verified once may be
//! remembered under its number; whether it still counts is read for every request.

use std::{sync::Arc, time::Duration};

use granary_access::{CredentialId, PrincipalId, Scopes};
use sea_orm::FromQueryResult;
use serde_json::json;

use super::{
    office::{Authority, Decided},
    warm::count_up,
};
use crate::{
    Catalog, CatalogError,
    audit::{Deed, action},
    dialect::micros,
    sql::{self, Id},
    writer::Write,
};

/// What kind of token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CredentialKind {
    /// An API token.
    Api,
    /// A refresh token of the token service.
    Refresh,
}

impl CredentialKind {
    fn number(self) -> i16 {
        match self {
            Self::Api => 2,
            Self::Refresh => 3,
        }
    }
}

/// `credentials.kind` of a password.
const PASSWORD: i16 = 1;

/// A password that counts.
#[derive(Clone)]
pub struct KnownPassword {
    /// Whose.
    pub principal: PrincipalId,
    /// The name of that user.
    pub name: Arc<str>,
    /// Its row.
    pub credential: CredentialId,
    /// The hash, as a PHC string.
    pub phc: String,
}

/// A token that counts.
#[derive(Clone, Debug)]
pub struct KnownToken {
    /// Whose.
    pub principal: PrincipalId,
    /// The name of that user or robot.
    pub name: Arc<str>,
    /// Its row.
    pub credential: CredentialId,
    /// What it caps.
    pub scopes: Scopes,
}

/// An API token as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredToken {
    /// Its number.
    pub id: CredentialId,
    /// What its owner calls it.
    pub name: String,
    /// Its last characters.
    pub hint: String,
    /// What it caps.
    pub scopes: Scopes,
    /// When it was made, in microseconds since 1970.
    pub created_at: i64,
    /// When it ends.
    pub expires_at: Option<i64>,
}

#[derive(FromQueryResult)]
struct TokenRow {
    id: i64,
    name: String,
    hint: String,
    scopes: Option<String>,
    created_at: i64,
    expires_at: Option<i64>,
}

/// A token to make.
#[derive(Clone, Debug)]
pub struct NewToken {
    /// Whose.
    pub principal: PrincipalId,
    /// What kind.
    pub kind: CredentialKind,
    /// What its owner calls it.
    pub name: String,
    /// SHA-256 of the token.
    pub secret: [u8; 32],
    /// The token's last characters, for people.
    pub hint: String,
    /// What it caps.
    pub scopes: Scopes,
    /// What it was made from, and ends with: it expires no later, and a withdrawal of that withdraws it.
    pub parent: Option<CredentialId>,
    /// When it ends, in microseconds since 1970.
    pub expires_at: Option<i64>,
}

#[derive(FromQueryResult)]
struct CredentialRow {
    id: i64,
    principal_id: i64,
    name: String,
    phc: Option<String>,
    scopes: Option<String>,
}

impl Catalog {
    /// The password of the user `handle`, if both count.
    pub async fn password(&self, handle: &str) -> Result<Option<KnownPassword>, CatalogError> {
        let query = "SELECT c.id, c.principal_id, p.name, c.phc, c.scopes FROM principals p \
                     JOIN credentials c ON c.principal_id = p.id AND c.kind = 1 AND c.revoked_at IS NULL \
                     WHERE p.handle = $1 AND p.state = 0";
        let row: Option<CredentialRow> = self.reads.one(query, [handle.into()]).await?;
        let Some(row) = row else { return Ok(None) };
        let phc = row
            .phc
            .ok_or_else(|| CatalogError::damaged("credentials", "a password without a hash"))?;
        Ok(Some(KnownPassword {
            principal: PrincipalId(row.principal_id),
            name: row.name.into(),
            credential: CredentialId(row.id),
            phc,
        }))
    }

    /// The token of that kind whose SHA-256 is `secret`. Whether it still counts its reader has to ask for with
    /// [rights](Self::rights).
    pub async fn token(
        &self,
        kind: CredentialKind,
        secret: &[u8; 32],
    ) -> Result<Option<KnownToken>, CatalogError> {
        let query = "SELECT c.id, c.principal_id, p.name, c.phc, c.scopes FROM credentials c \
                     JOIN principals p ON p.id = c.principal_id WHERE c.secret = $1 AND c.kind = $2";
        let values = [secret.to_vec().into(), kind.number().into()];
        let row: Option<CredentialRow> = self.reads.one(query, values).await?;
        let Some(row) = row else { return Ok(None) };
        Ok(Some(KnownToken {
            principal: PrincipalId(row.principal_id),
            name: row.name.into(),
            credential: CredentialId(row.id),
            scopes: read_scopes(row.scopes.as_deref())?,
        }))
    }

    /// The API tokens of a principal that were not withdrawn, oldest first.
    pub async fn tokens(&self, principal: PrincipalId) -> Result<Vec<StoredToken>, CatalogError> {
        let query = "SELECT id, name, hint, scopes, created_at, expires_at FROM credentials \
                     WHERE principal_id = $1 AND kind = 2 AND revoked_at IS NULL ORDER BY id";
        let rows: Vec<TokenRow> = self.reads.all(query, [principal.0.into()]).await?;
        rows.into_iter()
            .map(|row| {
                Ok(StoredToken {
                    id: CredentialId(row.id),
                    name: row.name,
                    hint: row.hint,
                    scopes: read_scopes(row.scopes.as_deref())?,
                    created_at: row.created_at,
                    expires_at: row.expires_at,
                })
            })
            .collect()
    }

    /// Keeps a token that somebody made.
    pub async fn create_token(
        &self,
        by: &Authority,
        token: NewToken,
    ) -> Result<Decided<CredentialId>, CatalogError> {
        let scopes = write_scopes(&token.scopes)?;
        self.decided(by, async move |write, by| {
            let (owner, name) = (token.principal, token.name.clone());
            let detail =
                json!({ "name": name, "scopes": token.scopes, "expires_at": token.expires_at });
            let id = insert(write, token, scopes, by.author()).await?;
            let target = format!("{}#{}", name_of(write, owner).await?, id.0);
            let deed = Deed::new(action::TOKEN_CREATE, target).with(detail);
            by.note(write, deed).await?;
            Ok(id)
        })
        .await
    }

    /// Keeps a token that was issued for another credential, and ends with it.
    pub async fn issue_token(&self, token: NewToken) -> Result<CredentialId, CatalogError> {
        let scopes = write_scopes(&token.scopes)?;
        self.write(async move |write| insert(write, token, scopes, None).await)
            .await
    }

    /// Keeps another hash of the same password, unless the password is another by now.
    pub async fn renew_hash(
        &self,
        credential: CredentialId,
        former: String,
        phc: String,
    ) -> Result<(), CatalogError> {
        self.write(async move |write| {
            let renew = "UPDATE credentials SET phc = $3 WHERE id = $1 AND phc = $2";
            let values = [credential.0.into(), former.into(), phc.into()];
            sql::execute(&write.transaction, renew, values).await?;
            Ok(())
        })
        .await
    }

    /// Forgets refresh tokens and sessions that ended a day ago.
    pub async fn forget_refresh_tokens(&self) -> Result<u64, CatalogError> {
        self.write(async move |write| {
            let forget =
                "DELETE FROM credentials WHERE kind IN (3, 4) AND (expires_at < $1 OR revoked_at < $1)";
            let day = micros(Duration::from_secs(24 * 3600));
            sql::execute(&write.transaction, forget, [(write.now - day).into()]).await
        })
        .await
    }

    /// Ends an API token, and with it everything that was made from it; `false` if there was none, or it is not `owner`'s where
    /// one is named.
    pub async fn revoke_token(
        &self,
        by: &Authority,
        owner: Option<PrincipalId>,
        credential: CredentialId,
    ) -> Result<Decided<bool>, CatalogError> {
        self.decided(by, async move |write, by| {
            let end = "UPDATE credentials SET revoked_at = $2 WHERE id = $1 AND kind = 2 AND revoked_at IS NULL \
                       AND principal_id = COALESCE($3, principal_id) RETURNING principal_id AS id";
            let owner = owner.map(|owner| owner.0);
            let values = [credential.0.into(), write.now.into(), owner.into()];
            let ended: Option<Id> = sql::one(&write.transaction, end, values).await?;
            let Some(Id { id }) = ended else {
                return Ok(false);
            };
            count_up(write).await?;
            let target = format!("{}#{}", name_of(write, PrincipalId(id)).await?, credential.0);
            by.note(write, Deed::new(action::TOKEN_REVOKE, target))
                .await?;
            Ok(true)
        })
        .await
    }

    /// Gives the user another password. The former one, and what was made from it, ends.
    pub async fn set_password(
        &self,
        by: &Authority,
        principal: PrincipalId,
        phc: String,
    ) -> Result<Decided<()>, CatalogError> {
        self.decided(by, async move |write, by| {
            set_password(write, principal.0, &phc).await?;
            let target = name_of(write, principal).await?;
            by.note(write, Deed::new(action::PASSWORD_SET, target))
                .await
        })
        .await
    }
}

async fn insert(
    write: &mut Write,
    token: NewToken,
    scopes: Option<String>,
    author: Option<i64>,
) -> Result<CredentialId, CatalogError> {
    let expires_at = match token.parent {
        Some(parent) => earlier(token.expires_at, end_of(write, parent).await?),
        None => token.expires_at,
    };
    let insert = "INSERT INTO credentials (principal_id, kind, name, secret, hint, scopes, parent_id, created_at, expires_at, created_by) \
                  VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) RETURNING id";
    let values = [
        token.principal.0.into(),
        token.kind.number().into(),
        token.name.into(),
        token.secret.to_vec().into(),
        token.hint.into(),
        scopes.into(),
        token.parent.map(|parent| parent.0).into(),
        write.now.into(),
        expires_at.into(),
        author.into(),
    ];
    let row: Option<Id> = sql::one(&write.transaction, insert, values).await?;
    row.map(|row| CredentialId(row.id))
        .ok_or_else(|| CatalogError::damaged("credentials", "an insert returned no row"))
}

pub(super) async fn set_password(
    write: &mut Write,
    principal: i64,
    phc: &str,
) -> Result<(), CatalogError> {
    // What was made from it ends with it, as whoever reads rights sees.
    let end = "UPDATE credentials SET revoked_at = $2 WHERE principal_id = $1 AND kind = 1 AND revoked_at IS NULL";
    sql::execute(
        &write.transaction,
        end,
        [principal.into(), write.now.into()],
    )
    .await?;
    let insert = "INSERT INTO credentials (principal_id, kind, name, phc, hint, created_at) VALUES ($1, $2, 'password', $3, '', $4)";
    let values = [
        principal.into(),
        PASSWORD.into(),
        phc.into(),
        write.now.into(),
    ];
    sql::execute(&write.transaction, insert, values).await?;
    count_up(write).await?;
    Ok(())
}

#[derive(FromQueryResult)]
struct Name {
    name: String,
}

/// The name of a principal, which may be gone.
pub(super) async fn name_of(write: &Write, principal: PrincipalId) -> Result<String, CatalogError> {
    let query = "SELECT name FROM principals WHERE id = $1";
    let row: Option<Name> = sql::one(&write.transaction, query, [principal.0.into()]).await?;
    Ok(row.map(|row| row.name).unwrap_or_default())
}

#[derive(FromQueryResult)]
struct End {
    expires_at: Option<i64>,
}

/// When a credential expires.
async fn end_of(write: &Write, credential: CredentialId) -> Result<Option<i64>, CatalogError> {
    let query = "SELECT expires_at FROM credentials WHERE id = $1";
    let row: Option<End> = sql::one(&write.transaction, query, [credential.0.into()]).await?;
    Ok(row.and_then(|row| row.expires_at))
}

fn earlier(one: Option<i64>, other: Option<i64>) -> Option<i64> {
    one.into_iter().chain(other).min()
}

fn read_scopes(text: Option<&str>) -> Result<Scopes, CatalogError> {
    match text {
        None => Ok(Scopes::unlimited()),
        Some(text) => {
            serde_json::from_str(text).map_err(|error| CatalogError::damaged("credentials", error))
        }
    }
}

fn write_scopes(scopes: &Scopes) -> Result<Option<String>, CatalogError> {
    if scopes.are_unlimited() {
        return Ok(None);
    }
    serde_json::to_string(scopes)
        .map(Some)
        .map_err(|error| CatalogError::damaged("credentials", error))
}
