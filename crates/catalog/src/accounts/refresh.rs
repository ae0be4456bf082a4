//! Tokens that are issued for another credential, and end with it: those by which docker goes on without a password.

use std::time::Duration;

use granary_access::CredentialId;

use super::{
    credentials::{NewToken, insert, write_scopes},
    publishers::is_publishers,
    warm::count_up,
};
use crate::{Catalog, CatalogError, dialect::micros, sql, writer::Write};

/// Most refresh tokens of one credential. Each log-in of docker takes one for 90 days.
const MOST_REFRESH_TOKENS: i64 = 10_000;

impl Catalog {
    /// Keeps a token that was issued for another credential, and ends with it. A publisher's gets none: it would outlive the
    /// identity token that was shown.
    pub async fn issue_token(&self, token: NewToken) -> Result<Option<CredentialId>, CatalogError> {
        let scopes = write_scopes(&token.scopes)?;
        self.write(async move |write| match token.parent {
            Some(parent) if is_publishers(write, parent).await? => Ok(None),
            parent => {
                let made = insert(write, token, scopes, None).await?;
                if let Some(parent) = parent {
                    forget_all_but_newest(write, parent).await?;
                }
                Ok(Some(made))
            }
        })
        .await
    }

    /// Forgets refresh tokens and sessions that ended a day ago.
    pub async fn forget_refresh_tokens(&self) -> Result<u64, CatalogError> {
        self.write(async move |write| {
            let forget =
                "DELETE FROM credentials WHERE kind IN (3, 4) AND (expires_at < $1 OR revoked_at < $1 \
                   OR parent_id IN (SELECT id FROM credentials WHERE revoked_at < $1))";
            let day = micros(Duration::from_secs(24 * 3600));
            sql::execute(&write.transaction, forget, [(write.now - day).into()]).await
        })
        .await
    }
}

/// One refresh token more ends the oldest that was made from the same credential.
async fn forget_all_but_newest(
    write: &mut Write,
    parent: CredentialId,
) -> Result<(), CatalogError> {
    let forget = "DELETE FROM credentials WHERE parent_id = $1 AND kind = 3 AND id <= ( \
                    SELECT id FROM credentials WHERE parent_id = $1 AND kind = 3 ORDER BY id DESC LIMIT 1 OFFSET $2)";
    let values = [parent.0.into(), MOST_REFRESH_TOKENS.into()];
    if sql::execute(&write.transaction, forget, values).await? > 0 {
        count_up(write).await?;
    }
    Ok(())
}
