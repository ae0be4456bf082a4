//! Keys that sign, kept encrypted. Every replica signs with the same one.

use sea_orm::FromQueryResult;

use crate::{Catalog, CatalogError, sql};

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
    active_from: i64,
    retires_at: Option<i64>,
}

impl Catalog {
    /// All keys of a purpose that are not retired, oldest first.
    pub async fn keys(&self, purpose: KeyPurpose) -> Result<Vec<StoredKey>, CatalogError> {
        let query = "SELECT kid, slot, public_key, sealed, wrapped_by, active_from, retires_at FROM signing_keys \
                     WHERE purpose = $1 ORDER BY slot";
        let rows: Vec<KeyRow> = self.reads.all(query, [purpose.number().into()]).await?;
        let keys = rows.into_iter().map(|row| StoredKey {
            kid: row.kid,
            slot: row.slot,
            public_key: row.public_key,
            sealed: row.sealed,
            wrapped_by: row.wrapped_by,
            active_from: row.active_from,
            retires_at: row.retires_at,
        });
        Ok(keys.collect())
    }

    /// Keeps a key, unless another process has kept one in the same slot before: then that one counts.
    pub async fn keep_key(&self, purpose: KeyPurpose, key: StoredKey) -> Result<(), CatalogError> {
        self.write(async move |write| {
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
            sql::execute(&write.transaction, insert, values).await?;
            Ok(())
        })
        .await
    }
}
