//! Everything a catalog held at one moment, read in pages.

use std::{collections::BTreeMap, path::Path};

use sea_orm::{
    AccessMode, ConnectionTrait, Database, DatabaseConnection, DatabaseTransaction, IsolationLevel,
    QueryResult, Statement, TransactionOptions, TransactionTrait, Value,
};

use super::{COPIED, Column, Figures, Kind, Table};
use crate::{
    Catalog, CatalogError,
    dialect::{self, Dialect},
    schema,
    sql::{self, Id},
};

/// Most rows of a page.
pub(super) const ROWS: usize = 500;

/// Everything a catalog held at one moment, on a connection of its own. While it is open, SQLite's log grows with what is
/// written meanwhile.
pub struct Snapshot {
    transaction: DatabaseTransaction,
    connection: DatabaseConnection,
}

/// Rows in the order of their key, and the last one's key.
pub(super) struct Page {
    pub(super) rows: Vec<Vec<Value>>,
}

impl Catalog {
    /// What the catalog holds now. Changes go on meanwhile, and are not seen.
    pub async fn snapshot(&self) -> Result<Snapshot, CatalogError> {
        let (connection, dialect) = schema::look(&self.url).await?;
        Snapshot::begin(connection, dialect).await
    }
}

impl Snapshot {
    /// Opens a SQLite file that nobody writes to, without changing it.
    pub async fn open_sqlite(path: &Path) -> Result<Self, CatalogError> {
        let connection = Database::connect(dialect::sqlite_reading(path)).await?;
        Self::begin(connection, Dialect::Sqlite).await
    }

    async fn begin(connection: DatabaseConnection, dialect: Dialect) -> Result<Self, CatalogError> {
        let status = schema::status(&connection, dialect).await?;
        // One that notes more than is known would lose what the note says, even if no change is unknown.
        let is_known = status.unknown.is_empty() && status.release <= status.known;
        if !is_known || !status.pending.is_empty() {
            return Err(CatalogError::Schema(format!(
                "the database has schema release {} and this version of granary copies {} only: bring it there with that version",
                status.release, status.known
            )));
        }
        let options = match dialect {
            // Deferred: SQLite's snapshot begins with the first look at it.
            Dialect::Sqlite => TransactionOptions::default(),
            Dialect::Postgres => TransactionOptions {
                isolation_level: Some(IsolationLevel::RepeatableRead),
                access_mode: Some(AccessMode::ReadOnly),
                ..TransactionOptions::default()
            },
        };
        let transaction = connection.begin_with_options(options).await?;
        if dialect == Dialect::Postgres {
            // Whoever writes what is read here may take his time.
            let patient = "SET LOCAL statement_timeout = 0; SET LOCAL idle_in_transaction_session_timeout = 0";
            transaction.execute_unprepared(patient).await?;
        }
        sql::one::<Id>(
            &transaction,
            "SELECT CAST(COUNT(*) AS BIGINT) AS id FROM settings",
            [],
        )
        .await?;
        Ok(Self {
            transaction,
            connection,
        })
    }

    /// Ends it in order.
    pub async fn close(self) -> Result<(), CatalogError> {
        self.transaction.rollback().await?;
        self.connection.close().await?;
        Ok(())
    }

    /// The identity of the store that belongs to the catalog.
    pub async fn store_id(&self) -> Result<Option<String>, CatalogError> {
        let query = "SELECT value FROM settings WHERE name = 'store-id'";
        let row = self.transaction.query_one_raw(self.statement(query, []));
        Ok(row.await?.map(|row| row.try_get("", "value")).transpose()?)
    }

    /// Everything that is to be copied, in figures. Reads every table once.
    pub async fn figures(&self) -> Result<Figures, CatalogError> {
        let mut figures = BTreeMap::new();
        for table in &COPIED {
            let (sums, name, condition) = (table.sums(), table.name, table.condition());
            let query = format!("SELECT {sums} FROM {name} WHERE {condition}");
            let row = self
                .transaction
                .query_one_raw(self.statement(&query, []))
                .await?
                .ok_or_else(|| CatalogError::damaged(name, "a sum has no row"))?;
            let mut sums = vec![row.try_get("", "number")?];
            for column in table.columns {
                sums.push(row.try_get("", column.name)?);
            }
            figures.insert(name.to_owned(), sums);
        }
        Ok(Figures(figures))
    }

    /// The rows behind the key `after`.
    pub(super) async fn page(
        &self,
        table: &Table,
        after: Option<&[Value]>,
    ) -> Result<Page, CatalogError> {
        let keys = table.key_names();
        let mut from = format!("FROM {} WHERE {}", table.name, table.condition());
        if after.is_some() {
            let marks = sql::placeholders(1, table.key);
            from.push_str(&format!(" AND ({keys}) > ({marks})"));
        }
        let after: Vec<Value> = after.unwrap_or_default().to_vec();
        let limit = match table.heavy {
            None => ROWS as u64,
            Some(heavy) => self.rows_that_fit(heavy, &from, &keys, &after).await?,
        };
        let query = format!(
            "SELECT {} {from} ORDER BY {keys} LIMIT {limit}",
            table.reads()
        );
        let rows = self
            .transaction
            .query_all_raw(self.statement(&query, after))
            .await?;
        let rows = rows.iter().map(|row| read(row, table.columns));
        Ok(Page {
            rows: rows.collect::<Result<_, _>>()?,
        })
    }

    /// How many of the next rows are light enough to be read at once; at least one.
    async fn rows_that_fit(
        &self,
        heavy: &str,
        from: &str,
        keys: &str,
        after: &[Value],
    ) -> Result<u64, CatalogError> {
        let query = format!(
            "SELECT CAST(COALESCE(LENGTH({heavy}), 0) AS BIGINT) AS weight {from} ORDER BY {keys} LIMIT {ROWS}"
        );
        let weights: Vec<sql::Weight> = sql::all(&self.transaction, &query, after.to_vec()).await?;
        Ok(sql::rows_that_fit(&weights))
    }

    fn statement(&self, sql: &str, values: impl IntoIterator<Item = Value>) -> Statement {
        Statement::from_sql_and_values(self.transaction.get_database_backend(), sql, values)
    }
}

fn read(row: &QueryResult, columns: &[Column]) -> Result<Vec<Value>, CatalogError> {
    let value = |column: &Column| {
        let name = column.name;
        Ok(match column.kind {
            Kind::Int | Kind::Small => row.try_get::<Option<i64>>("", name)?.into(),
            Kind::Text => row.try_get::<Option<String>>("", name)?.into(),
            Kind::Bytes => row.try_get::<Option<Vec<u8>>>("", name)?.into(),
            Kind::Bool => row.try_get::<Option<bool>>("", name)?.into(),
        })
    };
    columns.iter().map(value).collect()
}
