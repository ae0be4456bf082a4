//! Issuers whose identity tokens are taken.

use sea_orm::FromQueryResult;
use serde_json::json;

use super::{
    groups::{Outcome, Refusal},
    office::{Authority, Decided},
    publishers::is_full,
    warm::{GENERATION, count_up},
};
use crate::{
    Catalog, CatalogError,
    audit::{Deed, action},
    sql::{self, Id},
    writer::Write,
};

/// Most issuers that are trusted.
const MOST_ISSUERS: u64 = 100;

/// An issuer to trust.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewIssuer {
    /// Its identifier, as its tokens have it.
    pub issuer: String,
    /// What kind it is.
    pub preset: String,
    /// Whom its tokens must be for; empty for the registry's own name.
    pub audience: String,
    /// Where its keys are, if not where it says.
    pub keys_url: Option<String>,
    /// The keys themselves, as a JSON Web Key Set.
    pub keys: Option<String>,
}

/// Where the keys of an issuer are. Of neither: where it says itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IssuerKeyPlace {
    /// Where they are, if not where it says.
    pub url: Option<String>,
    /// The keys themselves, as a JSON Web Key Set.
    pub keys: Option<String>,
}

/// What is to be changed of an issuer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IssuerSettings {
    /// Whom its tokens must be for; empty for the registry's own name.
    pub audience: Option<String>,
    /// Where its keys are.
    pub keys: Option<IssuerKeyPlace>,
}

/// An issuer that is trusted.
#[derive(Clone, Debug, PartialEq, Eq, FromQueryResult)]
pub struct StoredIssuer {
    /// Its number.
    pub id: i64,
    /// Its identifier, as its tokens have it.
    pub issuer: String,
    /// What kind it is.
    pub preset: String,
    /// Whom its tokens must be for; empty for the registry's own name.
    pub audience: String,
    /// Where its keys are, if not where it says.
    pub keys_url: Option<String>,
    /// The keys themselves, as a JSON Web Key Set.
    pub keys: Option<String>,
    /// When it was added, in microseconds since 1970.
    pub created_at: i64,
    /// At which generation of rights it was read.
    pub generation: Option<i64>,
}

impl StoredIssuer {
    /// Whether it is the same issuer, with the same audience and keys.
    pub fn verifies_as(&self, other: &Self) -> bool {
        self.id == other.id
            && self.audience == other.audience
            && self.keys_url == other.keys_url
            && self.keys == other.keys
    }
}

const ISSUERS: &str = "SELECT id, issuer, preset, audience, keys_url, keys, created_at, CAST(NULL AS bigint) AS generation \
     FROM trusted_issuers ORDER BY issuer";

impl Catalog {
    /// Trusts an issuer, and says its number.
    pub async fn trust_issuer(
        &self,
        by: &Authority,
        new: NewIssuer,
    ) -> Result<Decided<Outcome<i64>>, CatalogError> {
        self.decided(by, async move |write, by| {
            let count = "SELECT COUNT(*) AS number FROM trusted_issuers";
            if is_full(write, (count, &[]), MOST_ISSUERS).await? {
                return Ok(Err(Refusal::Full(MOST_ISSUERS)));
            }
            let detail = json!({
                "state": "trusted",
                "preset": new.preset,
                "audience": new.audience,
                "keys_url": new.keys_url,
                "keys": new.keys.is_some(),
            });
            let insert = "INSERT INTO trusted_issuers (issuer, preset, audience, keys_url, keys, created_at, created_by) \
                          VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (issuer) DO NOTHING RETURNING id";
            let values = [
                new.issuer.as_str().into(),
                new.preset.into(),
                new.audience.into(),
                new.keys_url.into(),
                new.keys.into(),
                write.now.into(),
                by.author().into(),
            ];
            let made: Option<Id> = sql::one(&write.transaction, insert, values).await?;
            let Some(Id { id }) = made else {
                return Ok(Err(Refusal::Taken(new.issuer)));
            };
            let deed = Deed::new(action::ISSUER_CHANGE, new.issuer).with(detail);
            by.note(write, deed).await?;
            Ok(Ok(id))
        })
        .await
    }

    /// Changes what an issuer's tokens are verified by, and ends what was signed in by tokens of before: its publishers stay.
    /// `false` if there is none of that number and identifier.
    pub async fn change_issuer(
        &self,
        by: &Authority,
        (id, issuer): (i64, String),
        settings: IssuerSettings,
    ) -> Result<Decided<bool>, CatalogError> {
        self.decided(by, async move |write, by| {
            // Nobody adds a publisher until this transaction ends.
            let lock = format!(
                "SELECT issuer AS name FROM trusted_issuers WHERE id = $1 AND issuer = $2{}",
                write.dialect.lock("trusted_issuers")
            );
            let values = [id.into(), issuer.as_str().into()];
            let found: Option<Name> = sql::one(&write.transaction, &lock, values).await?;
            let Some(Name { name }) = found else {
                return Ok(false);
            };
            let keys = settings.keys.clone().unwrap_or_default();
            let mut detail = json!({ "state": "changed" });
            if let Some(audience) = &settings.audience {
                detail["audience"] = json!(audience);
            }
            if settings.keys.is_some() {
                detail["keys_url"] = json!(keys.url);
                detail["keys"] = json!(keys.keys.is_some());
            }
            let change = "UPDATE trusted_issuers SET audience = COALESCE($2, audience), \
                            keys_url = CASE WHEN $3 THEN $4 ELSE keys_url END, keys = CASE WHEN $3 THEN $5 ELSE keys END \
                          WHERE id = $1";
            let values = [
                id.into(),
                settings.audience.into(),
                settings.keys.is_some().into(),
                keys.url.into(),
                keys.keys.into(),
            ];
            sql::execute(&write.transaction, change, values).await?;
            replace_credentials(write, by, id).await?;
            count_up(write).await?;
            let deed = Deed::new(action::ISSUER_CHANGE, name).with(detail);
            by.note(write, deed).await?;
            Ok(true)
        })
        .await
    }

    /// Trusts an issuer no longer: its publishers go with it. `false` if there is none of that number.
    pub async fn distrust_issuer(
        &self,
        by: &Authority,
        id: i64,
    ) -> Result<Decided<bool>, CatalogError> {
        self.decided(by, async move |write, by| {
            // Nobody adds a publisher until this transaction ends.
            let lock = format!(
                "SELECT issuer AS name FROM trusted_issuers WHERE id = $1{}",
                write.dialect.lock("trusted_issuers")
            );
            let found: Option<Name> = sql::one(&write.transaction, &lock, [id.into()]).await?;
            let Some(Name { name }) = found else {
                return Ok(false);
            };
            let end = "UPDATE credentials SET revoked_at = $2 WHERE revoked_at IS NULL \
                       AND id IN (SELECT credential_id FROM publishers WHERE issuer_id = $1)";
            let values = [id.into(), write.now.into()];
            sql::execute(&write.transaction, end, values).await?;
            for delete in [
                "DELETE FROM publishers WHERE issuer_id = $1",
                "DELETE FROM trusted_issuers WHERE id = $1",
            ] {
                sql::execute(&write.transaction, delete, [id.into()]).await?;
            }
            count_up(write).await?;
            let detail = json!({ "state": "removed" });
            let deed = Deed::new(action::ISSUER_CHANGE, name).with(detail);
            by.note(write, deed).await?;
            Ok(true)
        })
        .await
    }

    /// All issuers that are trusted, by their identifiers.
    pub async fn trusted_issuers(&self) -> Result<Vec<StoredIssuer>, CatalogError> {
        self.reads.all(ISSUERS, []).await
    }

    /// The issuer of that identifier, if it is trusted.
    pub async fn trusted_issuer(&self, issuer: &str) -> Result<Option<StoredIssuer>, CatalogError> {
        let query = format!(
            "SELECT id, issuer, preset, audience, keys_url, keys, created_at, {GENERATION} AS generation \
             FROM trusted_issuers WHERE issuer = $1"
        );
        self.reads.one(&query, [issuer.into()]).await
    }
}

/// Gives the publishers of an issuer credentials of the same name and scopes, and ends those that they had: whoever is
/// remembered by a token that the former keys signed has to show one of the keys of now.
async fn replace_credentials(
    write: &mut Write,
    by: &Authority,
    issuer: i64,
) -> Result<(), CatalogError> {
    // Until all is done, each new one is found by the former one as its parent.
    let add = "INSERT INTO credentials (principal_id, kind, name, scopes, parent_id, created_at, created_by) \
               SELECT c.principal_id, c.kind, c.name, c.scopes, c.id, CAST($2 AS bigint), CAST($3 AS bigint) \
               FROM publishers p JOIN credentials c ON c.id = p.credential_id AND c.revoked_at IS NULL \
               WHERE p.issuer_id = $1 ORDER BY p.id";
    let values = [issuer.into(), write.now.into(), by.author().into()];
    sql::execute(&write.transaction, add, values).await?;
    let end = "UPDATE credentials SET revoked_at = $2 WHERE revoked_at IS NULL \
               AND id IN (SELECT credential_id FROM publishers WHERE issuer_id = $1)";
    let values = [issuer.into(), write.now.into()];
    sql::execute(&write.transaction, end, values).await?;
    for statement in [
        "UPDATE publishers SET credential_id = COALESCE((SELECT n.id FROM credentials n \
           WHERE n.parent_id = publishers.credential_id AND n.kind = 5 AND n.revoked_at IS NULL), credential_id) \
         WHERE issuer_id = $1",
        "UPDATE credentials SET parent_id = NULL WHERE kind = 5 AND parent_id IS NOT NULL \
         AND id IN (SELECT credential_id FROM publishers WHERE issuer_id = $1)",
    ] {
        sql::execute(&write.transaction, statement, [issuer.into()]).await?;
    }
    Ok(())
}

#[derive(FromQueryResult)]
struct Name {
    name: String,
}
