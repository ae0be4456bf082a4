//! Log-ins at identity providers that are under way: from when a browser is sent there until it comes back.

use std::time::Duration;

use sea_orm::FromQueryResult;

use crate::{Catalog, CatalogError, dialect::micros, sql};

/// Most log-ins that are under way at a time. One takes a row for some minutes at most.
const MOST_LOGINS: i64 = 10_000;

/// A log-in that begins.
#[derive(Clone)]
pub struct NewLogin {
    /// SHA-256 of its state.
    pub state: [u8; 32],
    /// SHA-256 of what its browser has in a cookie.
    pub browser: [u8; 32],
    /// The provider's name.
    pub provider: String,
    /// What the identity token must say.
    pub nonce: String,
    /// What the code is exchanged with.
    pub verifier: String,
    /// Where the browser goes in the end.
    pub return_to: String,
}

/// A log-in that was begun.
#[derive(Clone, FromQueryResult)]
pub struct StoredLogin {
    /// What the identity token must say.
    pub nonce: String,
    /// What the code is exchanged with.
    pub verifier: String,
    /// Where the browser goes in the end.
    pub return_to: String,
}

#[derive(FromQueryResult)]
struct Count {
    number: i64,
}

impl Catalog {
    /// Notes a log-in that may be finished `within` that time; `false` if too many are under way.
    pub async fn begin_login(
        &self,
        login: NewLogin,
        within: Duration,
    ) -> Result<bool, CatalogError> {
        self.write(async move |write| {
            let sweep = "DELETE FROM logins WHERE expires_at <= $1";
            sql::execute(&write.transaction, sweep, [write.now.into()]).await?;
            let count = "SELECT COUNT(*) AS number FROM logins";
            let found: Option<Count> = sql::one(&write.transaction, count, []).await?;
            if found.is_none_or(|found| found.number >= MOST_LOGINS) {
                return Ok(false);
            }
            let insert = "INSERT INTO logins (state, provider, nonce, verifier, browser, return_to, expires_at) \
                          VALUES ($1, $2, $3, $4, $5, $6, $7)";
            let values = [
                login.state.to_vec().into(),
                login.provider.into(),
                login.nonce.into(),
                login.verifier.into(),
                login.browser.to_vec().into(),
                login.return_to.into(),
                (write.now + micros(within)).into(),
            ];
            sql::execute(&write.transaction, insert, values).await?;
            Ok(true)
        })
        .await
    }

    /// Takes the log-in of that state, once. Another browser, or another provider, takes nothing and leaves it to its own.
    pub async fn take_login(
        &self,
        provider: &str,
        state: [u8; 32],
        browser: [u8; 32],
    ) -> Result<Option<StoredLogin>, CatalogError> {
        let provider = provider.to_owned();
        self.write(async move |write| {
            let take = "DELETE FROM logins WHERE state = $1 AND browser = $2 AND provider = $3 AND expires_at > $4 \
                        RETURNING nonce, verifier, return_to";
            let values = [
                state.to_vec().into(),
                browser.to_vec().into(),
                provider.into(),
                write.now.into(),
            ];
            sql::one(&write.transaction, take, values).await
        })
        .await
    }
}
