//! Writing what a snapshot holds into another catalog.

use std::sync::Arc;

use granary_oci::Digest;
use sea_orm::{
    ConnectionTrait, DatabaseConnection, DatabaseTransaction, FromQueryResult, Statement,
    TransactionTrait, Value,
};
use serde_json::{Value as Json, json};

use super::{COPIED, Column, Figures, Kind, Snapshot, Table};
use crate::{
    Catalog, CatalogError,
    audit::make_partitions,
    blobs::QUARANTINED,
    cache::Touched,
    dialect::Dialect,
    schema,
    sql::{self, Id, signed, unsigned},
    writer::Write,
};

/// Whose copy the catalog is, while it is not whole.
const SOURCE: &str = "copy-source";
/// How far that got.
const PROGRESS: &str = "copy-progress";
/// Sizes of inserts, so that each table needs few different statements.
const SHAPES: [usize; 4] = [500, 100, 10, 1];

/// Whether a copy may begin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CopyStart {
    /// The catalog was empty, or held a copy that cannot be gone on with.
    Fresh,
    /// An earlier copy of the same catalog, which did not change since, goes on.
    Resumed,
    /// An earlier copy of the same catalog ended, and may have been used since.
    Finished,
    /// The catalog holds something else; what it is.
    Occupied(String),
}

/// A blob whose object has to be copied.
#[derive(Clone, Debug)]
pub struct CopyItem {
    /// Its row, to go on behind.
    pub id: i64,
    /// What it must hash to.
    pub digest: Digest,
    /// Its length.
    pub size: u64,
    /// The object.
    pub key: String,
    /// Whether it was known to be damaged.
    pub quarantined: bool,
}

#[derive(FromQueryResult)]
struct ItemRow {
    id: i64,
    digest: Vec<u8>,
    size: i64,
    storage_key: String,
    state: i16,
}

#[derive(FromQueryResult)]
struct Setting {
    value: String,
}

#[derive(FromQueryResult)]
struct Key {
    storage_key: String,
}

/// How far the rows of a copy got.
struct Reached {
    figures: Figures,
    /// The table and the last key in it; `None` at the end.
    place: Option<(String, Vec<Json>)>,
}

impl Reached {
    fn beginning(figures: &Figures) -> Self {
        let first = COPIED.first().map(|table| (table.name.to_owned(), vec![]));
        Self {
            figures: figures.clone(),
            place: first,
        }
    }

    fn to_text(&self) -> String {
        let figures = self.figures.to_json();
        match &self.place {
            None => json!({"figures": figures, "table": null}),
            Some((table, key)) => json!({"figures": figures, "table": table, "key": key}),
        }
        .to_string()
    }

    fn from_text(text: &str) -> Result<Self, CatalogError> {
        let json: Json =
            serde_json::from_str(text).map_err(|e| CatalogError::damaged("settings", e))?;
        let key = json["key"].as_array().cloned().unwrap_or_default();
        Ok(Self {
            figures: Figures::from_json(&json["figures"])?,
            place: json["table"].as_str().map(|table| (table.to_owned(), key)),
        })
    }
}

/// Any number that no other part of Granary uses.
const COPY_LOCK: i64 = 0x6772_616e_6172_7902;

/// The right to copy into a catalog, which one process has at a time.
pub struct CopyClaim {
    /// The database takes it back when the connection ends. A SQLite file is locked as a whole.
    _transaction: Option<(DatabaseTransaction, DatabaseConnection)>,
}

impl Catalog {
    /// Takes the right to copy into this catalog; `None` while another process has it.
    pub async fn claim_copy(&self) -> Result<Option<CopyClaim>, CatalogError> {
        if !self.is_shared() {
            return Ok(Some(CopyClaim { _transaction: None }));
        }
        let (connection, _) = schema::look(&self.url).await?;
        let transaction = connection.begin().await?;
        let patient = "SET LOCAL idle_in_transaction_session_timeout = 0";
        transaction.execute_unprepared(patient).await?;
        let take = format!("SELECT pg_advisory_xact_lock({COPY_LOCK})");
        match transaction
            .execute_unprepared(&take)
            .await
            .map_err(CatalogError::from)
        {
            // It was waited for as long as for any lock.
            Err(error) if error.is_conflict() => Ok(None),
            Err(error) => Err(error),
            Ok(_) => Ok(Some(CopyClaim {
                _transaction: Some((transaction, connection)),
            })),
        }
    }

    /// Whose copy the catalog is, if that copy is not whole yet: the store-id of the source.
    pub async fn unfinished_copy(&self) -> Result<Option<String>, CatalogError> {
        self.noted(SOURCE).await
    }

    /// Makes the catalog ready to take the rows of the one whose store is `source`, or to take the rest of them.
    pub async fn begin_copy(
        &self,
        source: &str,
        figures: &Figures,
    ) -> Result<CopyStart, CatalogError> {
        let other = |id| {
            Ok(CopyStart::Occupied(format!(
                "it belongs to another installation, whose store-id is {id}"
            )))
        };
        match self.noted(SOURCE).await? {
            Some(id) if id != source => return other(id),
            Some(_) => {
                if let Some(text) = self.noted(PROGRESS).await?
                    && Reached::from_text(&text)?.figures == *figures
                {
                    return Ok(CopyStart::Resumed);
                }
            }
            None => {
                match self.noted("store-id").await? {
                    Some(id) if id != source => return other(id),
                    Some(_) => return Ok(CopyStart::Finished),
                    None => {}
                }
                for table in COPIED.iter().map(|table| table.name).chain(["uploads"]) {
                    let query = format!("SELECT CAST(1 AS BIGINT) AS id FROM {table} LIMIT 1");
                    let found: Option<Id> = self.reads.one(&query, []).await?;
                    if table != "settings" && found.is_some() {
                        return Ok(CopyStart::Occupied(format!("its table {table} has rows")));
                    }
                }
            }
        }
        let (source, progress) = (source.to_owned(), Reached::beginning(figures).to_text());
        self.write(async move |write| {
            clear(write).await?;
            note(&write.transaction, SOURCE, &source).await?;
            note(&write.transaction, PROGRESS, &progress).await
        })
        .await?;
        Ok(CopyStart::Fresh)
    }

    /// Takes every row of `from` that is not here yet. `watch` hears of tables and of rows.
    pub async fn copy_rows(
        &self,
        from: &Snapshot,
        watch: &(dyn Fn(&str, u64) + Send + Sync),
    ) -> Result<(), CatalogError> {
        let damaged = || CatalogError::damaged("settings", "there is no copy to go on with");
        let text = self.noted(PROGRESS).await?.ok_or_else(damaged)?;
        let reached = Reached::from_text(&text)?;
        let Some((table, key)) = reached.place.clone() else {
            return Ok(());
        };
        let first = COPIED.iter().position(|known| known.name == table);
        let rest = first.and_then(|first| COPIED.get(first..));
        let mut key = Some(key);
        for table in rest.ok_or_else(damaged)? {
            let key = key.take().unwrap_or_default();
            self.copy_table(from, table, key, &reached.figures, watch)
                .await?;
        }
        let done = Reached {
            place: None,
            ..reached
        };
        let arrived = {
            let here = self.snapshot().await?;
            let figures = here.figures().await?;
            here.close().await?;
            figures
        };
        if let Some(table) = done.figures.difference(&arrived) {
            return Err(CatalogError::Differs(table.to_owned()));
        }
        let progress = done.to_text();
        self.write(async move |write| {
            number_on(write).await?;
            write.touch(Touched::Everything);
            note(&write.transaction, PROGRESS, &progress).await
        })
        .await
    }

    async fn copy_table(
        &self,
        from: &Snapshot,
        table: &'static Table,
        key: Vec<Json>,
        figures: &Figures,
        watch: &(dyn Fn(&str, u64) + Send + Sync),
    ) -> Result<(), CatalogError> {
        watch(table.name, 0);
        let columns = table.key_columns();
        let mut after = match key.is_empty() {
            true => None,
            false => Some(key_from_json(&key, columns)?),
        };
        loop {
            let page = from.page(table, after.as_deref()).await?;
            let Some(last) = page.rows.last() else {
                return Ok(());
            };
            let last: Vec<Value> = last.iter().take(table.key).cloned().collect();
            let reached = Reached {
                figures: figures.clone(),
                place: Some((table.name.to_owned(), key_to_json(&last)?)),
            };
            let (rows, progress) = (Arc::new(page.rows), reached.to_text());
            let number = rows.len() as u64;
            self.write(async move |write| {
                insert(write, table, &rows).await?;
                note(&write.transaction, PROGRESS, &progress).await
            })
            .await?;
            watch(table.name, number);
            after = Some(last);
        }
    }

    /// Ends a copy: the catalog may be used from now on. Says how many tokens were withdrawn, if they were to be: a backup does
    /// not know what was withdrawn after it was made (decision 36).
    pub async fn end_copy(&self, withdraw_tokens: bool) -> Result<u64, CatalogError> {
        self.write(async move |write| {
            let mut withdrawn = 0;
            if withdraw_tokens {
                let end =
                    "UPDATE credentials SET revoked_at = $1 WHERE kind NOT IN (1, 5) AND revoked_at IS NULL";
                withdrawn = sql::execute(&write.transaction, end, [write.now.into()]).await?;
            }
            let delete = "DELETE FROM settings WHERE name IN ($1, $2)";
            sql::execute(&write.transaction, delete, [SOURCE.into(), PROGRESS.into()]).await?;
            write.touch(Touched::Everything);
            write.touch(Touched::Rights);
            Ok(withdrawn)
        })
        .await
    }

    /// A page of blobs that lie in the store, those behind row `after`.
    pub async fn objects_to_copy(
        &self,
        after: i64,
        limit: u64,
    ) -> Result<Vec<CopyItem>, CatalogError> {
        let query = "SELECT id, digest, size, storage_key, state FROM blobs \
                     WHERE id > $1 AND storage_key IS NOT NULL ORDER BY id LIMIT $2";
        self.items(query, [after.into(), signed(limit).into()])
            .await
    }

    /// What a query for blobs and their objects finds.
    pub(crate) async fn items(
        &self,
        query: &str,
        values: impl IntoIterator<Item = Value>,
    ) -> Result<Vec<CopyItem>, CatalogError> {
        let values: Vec<Value> = values.into_iter().collect();
        let rows: Vec<ItemRow> = self.reads.all(query, values).await?;
        let item = |row: ItemRow| {
            Ok(CopyItem {
                id: row.id,
                digest: Digest::from_bytes(&row.digest)
                    .ok_or_else(|| CatalogError::damaged("blobs", "digest"))?,
                size: unsigned(row.size),
                key: row.storage_key,
                quarantined: row.state == QUARANTINED,
            })
        };
        rows.into_iter().map(item).collect()
    }

    /// Those of `keys` that no row names, neither of a blob, nor of a session, nor of an object to be deleted.
    pub async fn strangers(&self, keys: Vec<String>) -> Result<Vec<String>, CatalogError> {
        let mut known = std::collections::HashSet::new();
        for part in keys.chunks(sql::LIST) {
            for table in ["blobs", "uploads", "doomed_objects"] {
                let query = format!(
                    "SELECT storage_key FROM {table} WHERE storage_key IN ({})",
                    sql::placeholders(1, part.len())
                );
                let values = part.iter().map(|key| Value::from(key.as_str()));
                let rows: Vec<Key> = self.reads.all(&query, values.collect::<Vec<_>>()).await?;
                known.extend(rows.into_iter().map(|row| row.storage_key));
            }
        }
        Ok(keys
            .into_iter()
            .filter(|key| !known.contains(key))
            .collect())
    }

    async fn noted(&self, name: &str) -> Result<Option<String>, CatalogError> {
        let query = "SELECT value FROM settings WHERE name = $1";
        let row: Option<Setting> = self.reads.one(query, [name.into()]).await?;
        Ok(row.map(|row| row.value))
    }
}

async fn note(
    transaction: &DatabaseTransaction,
    name: &str,
    value: &str,
) -> Result<(), CatalogError> {
    let upsert = "INSERT INTO settings (name, value) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET value = excluded.value";
    sql::execute(transaction, upsert, [name.into(), value.into()]).await?;
    Ok(())
}

/// Takes away what an earlier copy brought.
async fn clear(write: &Write) -> Result<(), CatalogError> {
    if write.dialect == Dialect::Postgres {
        let patient = "SET LOCAL statement_timeout = 0";
        write.transaction.execute_unprepared(patient).await?;
    }
    for table in COPIED.iter().rev() {
        let delete = format!("DELETE FROM {} WHERE {}", table.name, table.condition());
        sql::execute(&write.transaction, &delete, []).await?;
    }
    Ok(())
}

async fn insert(write: &Write, table: &Table, rows: &[Vec<Value>]) -> Result<(), CatalogError> {
    if table.name == "audit_log" {
        // Its rows lie in tables by month, which only the sealer makes otherwise.
        let times = rows.iter().filter_map(|row| match row.first() {
            Some(Value::BigInt(at)) => *at,
            _ => None,
        });
        make_partitions(write, times, None).await?;
    }
    let mut rest = rows;
    for shape in SHAPES {
        while let Some((batch, others)) = rest.split_at_checked(shape) {
            let sql = insertion(write.dialect, table, shape);
            let values = batch.iter().flatten().cloned();
            let backend = write.transaction.get_database_backend();
            let statement = Statement::from_sql_and_values(backend, sql, values);
            write.transaction.execute_raw(statement).await?;
            rest = others;
        }
    }
    Ok(())
}

fn insertion(dialect: Dialect, table: &Table, rows: usize) -> String {
    let width = table.columns.len();
    let row = |number: usize| match dialect {
        // SQLite looks every numbered parameter up in a list.
        Dialect::Sqlite => format!("({})", vec!["?"; width].join(", ")),
        Dialect::Postgres => format!("({})", sql::placeholders(number * width + 1, width)),
    };
    format!(
        "INSERT INTO {} ({}) VALUES {} ON CONFLICT DO NOTHING",
        table.name,
        table.names(),
        (0..rows).map(row).collect::<Vec<_>>().join(", ")
    )
}

/// Lets the database number new rows behind the copied ones. SQLite does so by itself.
async fn number_on(write: &Write) -> Result<(), CatalogError> {
    if write.dialect == Dialect::Sqlite {
        return Ok(());
    }
    for table in COPIED.iter().filter(|table| table.numbered) {
        let (name, id) = (table.name, table.key_names());
        let set = format!(
            "SELECT setval(pg_get_serial_sequence('{name}', '{id}'), COALESCE(MAX({id}), 1), COUNT(*) > 0) FROM {name}"
        );
        sql::execute(&write.transaction, &set, []).await?;
    }
    Ok(())
}

fn key_to_json(key: &[Value]) -> Result<Vec<Json>, CatalogError> {
    let part = |value: &Value| match value {
        Value::BigInt(Some(number)) => Ok(json!(number)),
        Value::String(Some(text)) => Ok(json!(text)),
        Value::Bytes(Some(bytes)) => Ok(json!(bytes)),
        _ => Err(CatalogError::damaged("settings", "a key of a copy")),
    };
    key.iter().map(part).collect()
}

fn key_from_json(key: &[Json], columns: &[Column]) -> Result<Vec<Value>, CatalogError> {
    let byte = |byte: &Json| byte.as_u64().and_then(|byte| u8::try_from(byte).ok());
    let part = |(json, column): (&Json, &Column)| match column.kind {
        Kind::Int | Kind::Small => json.as_i64().map(Value::from),
        Kind::Text => json.as_str().map(Value::from),
        Kind::Bytes => {
            let bytes = json
                .as_array()?
                .iter()
                .map(byte)
                .collect::<Option<Vec<u8>>>();
            bytes.map(Value::from)
        }
        Kind::Bool => json.as_bool().map(Value::from),
    };
    key.iter()
        .zip(columns)
        .map(part)
        .collect::<Option<Vec<_>>>()
        .filter(|parts| parts.len() == columns.len())
        .ok_or_else(|| CatalogError::damaged("settings", "a key of a copy"))
}
