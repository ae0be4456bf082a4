use sea_orm::DbErr;

/// What can go wrong in the catalog itself. Outcomes a caller must tell apart are return values, not errors.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    /// The database refused or failed a statement.
    #[error("the database failed: {0}")]
    Database(#[from] DbErr),
    /// A row holds what this version cannot read.
    #[error("a row of '{table}' cannot be read: {problem}")]
    Damaged {
        /// The table.
        table: &'static str,
        /// What is wrong.
        problem: String,
    },
    /// The writer has stopped, because the process is ending.
    #[error("the catalog is closed")]
    Closed,
}

impl CatalogError {
    pub(crate) fn damaged(table: &'static str, problem: impl ToString) -> Self {
        Self::Damaged {
            table,
            problem: problem.to_string(),
        }
    }
}
