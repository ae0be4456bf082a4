//! Rotating an API token: a successor is made, and both are good for a while.

use std::time::Duration;

use granary_access::{CredentialId, PrincipalId};
use sea_orm::FromQueryResult;
use serde_json::json;

use super::{
    credentials::{
        CredentialKind, NewToken, earlier, insert, name_of, no_more, read_scopes, write_scopes,
    },
    groups::{Outcome, Refusal},
    office::{Authority, Decided},
    rights::addresses,
    warm::count_up,
};
use crate::{
    Catalog, CatalogError,
    audit::{Deed, action},
    dialect::micros,
    sql::{self, Id},
    writer::Write,
};

/// What is to succeed an API token.
#[derive(Clone, Debug)]
pub struct Rotation {
    /// The token.
    pub token: CredentialId,
    /// How long it is good beside its successor.
    pub overlap: Duration,
    /// SHA-256 of the successor.
    pub secret: [u8; 32],
    /// The successor's last characters, for people.
    pub hint: String,
}

#[derive(FromQueryResult)]
struct FormerRow {
    name: String,
    scopes: Option<String>,
    addresses: Option<String>,
    expires_at: Option<i64>,
    replaced_by: Option<i64>,
}

/// The token, if it has not ended.
async fn former(
    write: &Write,
    token: CredentialId,
    owner: Option<PrincipalId>,
) -> Result<Option<FormerRow>, CatalogError> {
    let lock = format!(
        "SELECT name, scopes, addresses, expires_at, replaced_by FROM credentials \
         WHERE id = $1 AND kind = 2 AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > $2) \
         AND principal_id = COALESCE($3, principal_id){}",
        write.dialect.lock("credentials")
    );
    let owner = owner.map(|owner| owner.0);
    let values = [token.0.into(), write.now.into(), owner.into()];
    sql::one(&write.transaction, &lock, values).await
}

impl Catalog {
    /// Gives an API token a successor of the same name, scopes, addresses and end. The former one ends after the overlap, if not
    /// before. [`Refusal::NoSuch`] if it has ended, or is not `owner`'s where one is named.
    pub async fn rotate_token(
        &self,
        by: &Authority,
        owner: Option<PrincipalId>,
        rotation: Rotation,
    ) -> Result<Decided<Outcome<CredentialId>>, CatalogError> {
        self.decided(by, async move |write, by| {
            let gone = Refusal::NoSuch(rotation.token.0.to_string());
            let whose = "SELECT principal_id AS id FROM credentials WHERE id = $1 AND kind = 2";
            let whose: Option<Id> =
                sql::one(&write.transaction, whose, [rotation.token.0.into()]).await?;
            let Some(principal) = whose.map(|whose| PrincipalId(whose.id)) else {
                return Ok(Err(gone));
            };
            // Its principal is locked before it, as by whoever removes him.
            let refusal = no_more(write, principal).await?;
            let Some(found) = former(write, rotation.token, owner).await? else {
                return Ok(Err(gone));
            };
            if let Some(successor) = found.replaced_by {
                return Ok(Err(Refusal::HasSuccessor {
                    successor: CredentialId(successor),
                    ends_at: found.expires_at,
                }));
            }
            if let Some(refusal) = refusal {
                return Ok(Err(refusal));
            }
            let successor = NewToken {
                principal,
                kind: CredentialKind::Api,
                name: found.name,
                secret: rotation.secret,
                hint: rotation.hint.clone(),
                scopes: read_scopes(found.scopes.as_deref())?,
                parent: None,
                expires_at: found.expires_at,
                addresses: found.addresses.as_deref().map(addresses).transpose()?,
            };
            let scopes = write_scopes(&successor.scopes)?;
            let made = insert(write, successor, scopes, by.author()).await?;
            let until = earlier(
                found.expires_at,
                Some(write.now.saturating_add(micros(rotation.overlap))),
            );
            let replace = "UPDATE credentials SET replaced_by = $2, expires_at = $3 WHERE id = $1";
            let values = [rotation.token.0.into(), made.0.into(), until.into()];
            sql::execute(&write.transaction, replace, values).await?;
            count_up(write).await?;
            let target = format!("{}#{}", name_of(write, principal).await?, rotation.token.0);
            let detail = json!({ "successor": made.0, "until": until });
            let deed = Deed::new(action::TOKEN_ROTATE, target).with(detail);
            by.note(write, deed).await?;
            Ok(Ok(made))
        })
        .await
    }
}
