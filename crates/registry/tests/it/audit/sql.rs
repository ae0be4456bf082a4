//! Statements sent round the registry, as somebody with the database's password sends them.

use std::path::Path;

use sea_orm::{
    ConnectOptions, ConnectionTrait, Database, DatabaseConnection, Statement, TransactionTrait,
};

use crate::world::is_postgres;

#[derive(Clone)]
pub(crate) struct Sql(DatabaseConnection);

impl Sql {
    /// To the database of a world.
    pub(crate) async fn of(folder: &Path) -> Self {
        let url = match is_postgres() {
            true => std::fs::read_to_string(folder.join("database-url")).unwrap(),
            false => format!("sqlite://{}", folder.join("catalog.db").display()),
        };
        Self::at(&url).await
    }

    pub(crate) async fn at(url: &str) -> Self {
        let mut options = ConnectOptions::new(url);
        options.max_connections(8).sqlx_logging(false);
        options
            .map_sqlx_sqlite_opts(|sqlite| sqlite.busy_timeout(std::time::Duration::from_secs(30)));
        Self(Database::connect(options).await.unwrap())
    }

    /// Runs statements.
    pub(crate) async fn run(&self, statements: &str) {
        let ran = self.0.execute_unprepared(statements).await;
        if let Err(error) = ran {
            panic!("{statements}: {error}");
        }
    }

    /// Runs statements in one transaction, with a pause for others before each.
    pub(crate) async fn together(&self, statements: &[String]) {
        let transaction = self.0.begin().await.unwrap();
        for statement in statements {
            transaction.execute_unprepared(statement).await.unwrap();
            tokio::task::yield_now().await;
        }
        transaction.commit().await.unwrap();
    }

    /// The numbers in the column `n`.
    pub(crate) async fn numbers(&self, query: &str) -> Vec<i64> {
        let statement = Statement::from_string(self.0.get_database_backend(), query);
        let rows = self.0.query_all_raw(statement).await.unwrap();
        let number = |row: &sea_orm::QueryResult| row.try_get::<i64>("", "n").unwrap();
        rows.iter().map(number).collect()
    }

    /// The text in the first column.
    pub(crate) async fn lines(&self, query: &str) -> Vec<String> {
        let statement = Statement::from_string(self.0.get_database_backend(), query);
        let rows = self.0.query_all_raw(statement).await.unwrap();
        let line = |row: &sea_orm::QueryResult| row.try_get_by_index::<String>(0).unwrap();
        rows.iter().map(line).collect()
    }
}
