//! Keeping objects from being deleted while somebody copies them (decision 36).

use std::time::Duration;

use crate::{Catalog, CatalogError, dialect::Dialect, dialect::micros, sql};

/// How long a hold lasts that nobody prolongs, because its process died.
pub const HOLD: Duration = Duration::from_secs(300);

/// A condition that is true while there is a hold.
pub(crate) fn held(dialect: Dialect) -> String {
    format!(
        "EXISTS (SELECT 1 FROM leases WHERE SUBSTR(name, 1, 5) = 'hold/' AND until >= {})",
        dialect.clock()
    )
}

impl Catalog {
    /// Keeps every object in the store, also those of rows that go, until [`Self::let_go`], or until `lifetime` passed
    /// without another call. Answers `false` if there was a hold of this name and it ended meanwhile.
    pub async fn hold(&self, name: &str, lifetime: Duration) -> Result<bool, CatalogError> {
        let name = format!("hold/{name}");
        self.write(async move |write| {
            let take = "INSERT INTO leases (name, holder, until) VALUES ($1, 'hold', $2) ON CONFLICT (name) DO UPDATE \
                        SET until = excluded.until WHERE leases.until >= $3";
            let until = write.now + micros(lifetime);
            let values = [name.into(), until.into(), write.now.into()];
            Ok(sql::execute(&write.transaction, take, values).await? == 1)
        })
        .await
    }

    /// Ends a hold; objects whose rows went meanwhile are deleted by the next collection.
    pub async fn let_go(&self, name: &str) -> Result<(), CatalogError> {
        let name = format!("hold/{name}");
        self.write(async move |write| {
            let delete = "DELETE FROM leases WHERE name = $1 OR (SUBSTR(name, 1, 5) = 'hold/' AND until < $2)";
            sql::execute(&write.transaction, delete, [name.into(), write.now.into()]).await?;
            Ok(())
        })
        .await
    }
}
