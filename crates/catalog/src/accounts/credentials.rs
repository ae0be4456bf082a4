//! What proves a principal: passwords and tokens. A row never changes what it proves, so what was verified once may be
//! remembered under its number; whether it still counts is read for every request.

use std::{sync::Arc, time::Duration};

use granary_access::{AddressBlocks, CredentialId, PrincipalId, Scopes};
use sea_orm::FromQueryResult;
use serde_json::json;

use super::{
    groups::{Count, Outcome, Refusal},
    office::{Authority, Decided},
    rights::addresses,
    robots::{heedless, text},
    warm::count_up,
};
use crate::{
    Catalog, CatalogError,
    audit::{Deed, action},
    dialect::micros,
    sql::{self, Id, signed},
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

/// Whose a credential is, and when it ends.
#[derive(Clone, Debug, PartialEq, Eq, FromQueryResult)]
pub struct CredentialBearer {
    /// Its user or robot.
    pub name: String,
    /// Whether that is a robot.
    pub is_robot: bool,
    /// When it ends, in microseconds since 1970.
    pub expires_at: Option<i64>,
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
    /// From where it may be used, if not from everywhere.
    pub addresses: Option<AddressBlocks>,
    /// Its successor.
    pub replaced_by: Option<CredentialId>,
    /// When it was used last, as far as that was written down.
    pub last_used_at: Option<i64>,
    /// From where it was used last.
    pub last_used_from: Option<String>,
}

/// Most API tokens of a principal that have not ended.
const MOST_TOKENS: u64 = 1000;
/// Most API tokens in a list: those that have not ended, and the youngest of the others.
const LISTED: u64 = 2 * MOST_TOKENS;
/// For how long a token that expired is listed.
const REMEMBERED: Duration = Duration::from_secs(30 * 24 * 3600);

#[derive(FromQueryResult)]
struct TokenRow {
    id: i64,
    name: String,
    hint: String,
    scopes: Option<String>,
    created_at: i64,
    expires_at: Option<i64>,
    addresses: Option<String>,
    replaced_by: Option<i64>,
    last_used_at: Option<i64>,
    last_used_from: Option<String>,
}

impl TokenRow {
    fn read(self) -> Result<StoredToken, CatalogError> {
        Ok(StoredToken {
            id: CredentialId(self.id),
            name: self.name,
            hint: self.hint,
            scopes: read_scopes(self.scopes.as_deref())?,
            created_at: self.created_at,
            expires_at: self.expires_at,
            addresses: self.addresses.as_deref().map(addresses).transpose()?,
            replaced_by: self.replaced_by.map(CredentialId),
            last_used_at: self.last_used_at,
            last_used_from: self.last_used_from,
        })
    }
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
    /// From where it may be used, if not from everywhere.
    pub addresses: Option<AddressBlocks>,
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

    /// The API tokens of a principal that were not withdrawn, oldest first: those that have not ended, and the last of those that
    /// expired.
    pub async fn tokens(&self, principal: PrincipalId) -> Result<Vec<StoredToken>, CatalogError> {
        let query = "SELECT id, name, hint, scopes, created_at, expires_at, addresses, replaced_by, last_used_at, last_used_from \
                     FROM credentials WHERE principal_id = $1 AND kind = 2 AND revoked_at IS NULL \
                     AND (expires_at IS NULL OR expires_at > $2) \
                     ORDER BY CASE WHEN expires_at IS NULL OR expires_at > $3 THEN 0 ELSE 1 END, id DESC LIMIT $4";
        let now = self.now().await?;
        let values = [
            principal.0.into(),
            (now - micros(REMEMBERED)).into(),
            now.into(),
            signed(LISTED).into(),
        ];
        let rows: Vec<TokenRow> = self.reads.all(query, values).await?;
        let tokens: Result<Vec<_>, _> = rows.into_iter().map(TokenRow::read).collect();
        let mut tokens = tokens?;
        tokens.sort_unstable_by_key(|token| token.id);
        Ok(tokens)
    }

    /// Whose a credential is, and when it ends.
    pub async fn bearer_of(
        &self,
        credential: CredentialId,
    ) -> Result<Option<CredentialBearer>, CatalogError> {
        let query = "SELECT p.handle AS name, p.kind = 2 AS is_robot, c.expires_at \
                     FROM credentials c JOIN principals p ON p.id = c.principal_id WHERE c.id = $1";
        self.reads.one(query, [credential.0.into()]).await
    }

    /// Keeps a token that somebody made.
    pub async fn create_token(
        &self,
        by: &Authority,
        token: NewToken,
    ) -> Result<Decided<Outcome<CredentialId>>, CatalogError> {
        let scopes = write_scopes(&token.scopes)?;
        self.decided(by, async move |write, by| {
            let (owner, name) = (token.principal, token.name.clone());
            if let Some(refusal) = heedless(write, token.addresses.as_ref()).await? {
                return Ok(Err(refusal));
            }
            if let Some(refusal) = no_more(write, owner).await? {
                return Ok(Err(refusal));
            }
            let detail = json!({
                "name": name,
                "scopes": token.scopes,
                "expires_at": token.expires_at,
                "addresses": token.addresses,
            });
            let id = insert(write, token, scopes, by.author()).await?;
            let target = format!("{}#{}", name_of(write, owner).await?, id.0);
            let deed = Deed::new(action::TOKEN_CREATE, target).with(detail);
            by.note(write, deed).await?;
            Ok(Ok(id))
        })
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

    /// Gives the user another password. The former one, and what was made from it, ends. `false` if it was to be proved by
    /// the password `proved`, and that counts no longer.
    pub async fn set_password(
        &self,
        by: &Authority,
        principal: PrincipalId,
        proved: Option<CredentialId>,
        phc: String,
    ) -> Result<Decided<bool>, CatalogError> {
        self.decided(by, async move |write, by| {
            if let Some(CredentialId(proved)) = proved {
                // Whoever else sets one waits here, and finds it ended.
                let end = "UPDATE credentials SET revoked_at = $3 WHERE id = $1 AND principal_id = $2 AND kind = 1 AND revoked_at IS NULL";
                let values = [proved.into(), principal.0.into(), write.now.into()];
                if sql::execute(&write.transaction, end, values).await? == 0 {
                    return Ok(false);
                }
            }
            set_password(write, principal.0, &phc).await?;
            let target = name_of(write, principal).await?;
            by.note(write, Deed::new(action::PASSWORD_SET, target))
                .await?;
            Ok(true)
        })
        .await
    }
}

/// Why a principal gets no further token: it is gone, or has as many as it may.
pub(super) async fn no_more(
    write: &Write,
    principal: PrincipalId,
) -> Result<Option<Refusal>, CatalogError> {
    // Nobody removes it, or makes another for it, until this transaction ends.
    let lock = format!(
        "SELECT id FROM principals WHERE id = $1 AND kind <= 2 AND state <> 2{}",
        write.dialect.lock("principals")
    );
    let found: Option<Id> = sql::one(&write.transaction, &lock, [principal.0.into()]).await?;
    if found.is_none() {
        return Ok(Some(Refusal::NoSuch(name_of(write, principal).await?)));
    }
    let count = "SELECT COUNT(*) AS number FROM credentials WHERE principal_id = $1 AND kind = 2 AND revoked_at IS NULL \
                 AND (expires_at IS NULL OR expires_at > $2)";
    let values = [principal.0.into(), write.now.into()];
    let live: Option<Count> = sql::one(&write.transaction, count, values).await?;
    let is_full = live.is_some_and(|live| sql::unsigned(live.number) >= MOST_TOKENS);
    Ok(is_full.then_some(Refusal::Full(MOST_TOKENS)))
}

pub(super) async fn insert(
    write: &mut Write,
    token: NewToken,
    scopes: Option<String>,
    author: Option<i64>,
) -> Result<CredentialId, CatalogError> {
    let expires_at = match token.parent {
        Some(parent) => earlier(token.expires_at, end_of(write, parent).await?),
        None => token.expires_at,
    };
    let insert = "INSERT INTO credentials (principal_id, kind, name, secret, hint, scopes, parent_id, created_at, expires_at, created_by, addresses) \
                  VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) RETURNING id";
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
        text(token.addresses.as_ref())?.into(),
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

pub(super) fn earlier(one: Option<i64>, other: Option<i64>) -> Option<i64> {
    one.into_iter().chain(other).min()
}

pub(super) fn read_scopes(text: Option<&str>) -> Result<Scopes, CatalogError> {
    match text {
        None => Ok(Scopes::unlimited()),
        Some(text) => {
            serde_json::from_str(text).map_err(|error| CatalogError::damaged("credentials", error))
        }
    }
}

pub(super) fn write_scopes(scopes: &Scopes) -> Result<Option<String>, CatalogError> {
    if scopes.are_unlimited() {
        return Ok(None);
    }
    serde_json::to_string(scopes)
        .map(Some)
        .map_err(|error| CatalogError::damaged("credentials", error))
}
