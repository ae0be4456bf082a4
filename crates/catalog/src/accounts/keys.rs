//! Keys that sign, kept encrypted. Every replica signs with the same one.

use sea_orm::FromQueryResult;
use serde_json::json;

use super::office::{Authority, Decided};
use crate::{
    Catalog, CatalogError,
    audit::{Deed, action},
    sql::{self, Id},
    writer::Write,
};

/// What a key signs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyPurpose {
    /// Tokens of the token service.
    Tokens,
    /// Checkpoints of the audit log.
    Audit,
}

impl KeyPurpose {
    fn number(self) -> i16 {
        match self {
            Self::Tokens => 1,
            Self::Audit => 2,
        }
    }
}

/// A key as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredKey {
    /// Its public name.
    pub kid: String,
    /// Counts up with each key of its purpose.
    pub slot: i64,
    /// The public half.
    pub public_key: Vec<u8>,
    /// The private half, encrypted.
    pub sealed: Vec<u8>,
    /// Which installation key encrypted it.
    pub wrapped_by: String,
    /// When it was made, in microseconds since 1970.
    pub created_at: i64,
    /// From when on it signs, in microseconds since 1970.
    pub active_from: i64,
    /// From when on nothing is verified with it any more.
    pub retires_at: Option<i64>,
}

#[derive(FromQueryResult)]
struct KeyRow {
    kid: String,
    slot: i64,
    public_key: Vec<u8>,
    sealed: Vec<u8>,
    wrapped_by: String,
    created_at: i64,
    active_from: i64,
    retires_at: Option<i64>,
}

impl Catalog {
    /// All keys of a purpose, also those that are retired, oldest first.
    pub async fn keys(&self, purpose: KeyPurpose) -> Result<Vec<StoredKey>, CatalogError> {
        let query = "SELECT kid, slot, public_key, sealed, wrapped_by, created_at, active_from, retires_at FROM signing_keys \
                     WHERE purpose = $1 ORDER BY slot";
        let rows: Vec<KeyRow> = self.reads.all(query, [purpose.number().into()]).await?;
        let keys = rows.into_iter().map(|row| StoredKey {
            kid: row.kid,
            slot: row.slot,
            public_key: row.public_key,
            sealed: row.sealed,
            wrapped_by: row.wrapped_by,
            created_at: row.created_at,
            active_from: row.active_from,
            retires_at: row.retires_at,
        });
        Ok(keys.collect())
    }

    /// Keeps a key, unless another process has kept one in the same slot before: then that one counts.
    pub async fn keep_key(&self, purpose: KeyPurpose, key: StoredKey) -> Result<(), CatalogError> {
        self.write(async move |write| insert(write, purpose, key).await.map(drop))
            .await
    }

    /// Keeps a key that signs from a later time on, and lets those before it verify until `until`; `false` if another process
    /// did so before.
    pub async fn rotate_key(
        &self,
        by: &Authority,
        purpose: KeyPurpose,
        key: StoredKey,
        until: i64,
    ) -> Result<Decided<bool>, CatalogError> {
        self.decided(by, async move |write, by| {
            let (kid, slot, from) = (key.kid.clone(), key.slot, key.active_from);
            if !insert(write, purpose, key).await? {
                return Ok(false);
            }
            let retire = "UPDATE signing_keys SET retires_at = $3 WHERE purpose = $1 AND slot < $2 AND (retires_at IS NULL OR retires_at > $3)";
            let values = [purpose.number().into(), slot.into(), until.into()];
            sql::execute(&write.transaction, retire, values).await?;
            let detail = json!({ "state": "added", "active_from": from, "others_until": until });
            by.note(write, Deed::new(action::KEYS_CHANGE, kid).with(detail)).await?;
            Ok(true)
        })
        .await
    }

    /// Verifies nothing with a key any more; `false` if there is none of that name that is not retired.
    pub async fn retire_key(
        &self,
        by: &Authority,
        purpose: KeyPurpose,
        kid: &str,
    ) -> Result<Decided<bool>, CatalogError> {
        let kid = kid.to_owned();
        self.decided(by, async move |write, by| {
            let retire = "UPDATE signing_keys SET retires_at = $3 WHERE kid = $1 AND purpose = $2 AND (retires_at IS NULL OR retires_at > $3) \
                          RETURNING slot AS id";
            let values = [kid.as_str().into(), purpose.number().into(), write.now.into()];
            let retired: Option<Id> = sql::one(&write.transaction, retire, values).await?;
            if retired.is_none() {
                return Ok(false);
            }
            let deed = Deed::new(action::KEYS_CHANGE, kid).with(json!({ "state": "retired" }));
            by.note(write, deed).await?;
            Ok(true)
        })
        .await
    }
}

/// Inserts a key; `false` if its slot is taken.
async fn insert(write: &Write, purpose: KeyPurpose, key: StoredKey) -> Result<bool, CatalogError> {
    let insert = "INSERT INTO signing_keys (kid, purpose, slot, algorithm, public_key, sealed, wrapped_by, created_at, active_from) \
                  VALUES ($1, $2, $3, 'EdDSA', $4, $5, $6, $7, $8) ON CONFLICT (purpose, slot) DO NOTHING";
    let values = [
        key.kid.into(),
        purpose.number().into(),
        key.slot.into(),
        key.public_key.into(),
        key.sealed.into(),
        key.wrapped_by.into(),
        write.now.into(),
        key.active_from.into(),
    ];
    Ok(sql::execute(&write.transaction, insert, values).await? > 0)
}
