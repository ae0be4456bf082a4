//! Issuers that are trusted already: other keys, another audience, and their end.

use granary_catalog::{IssuerKeyPlace, IssuerSettings, StoredIssuer};
use granary_identity::oidc::IssuerUrl;
use serde::{Deserialize, Serialize};

use super::{
    AccountsError,
    publishers::{IssuerReport, check_audience, check_keys, identifier},
    workload::TrustedIssuer,
};
use crate::{Installation, Leave, RegistryError, leave::done};

/// What is to be changed of an issuer; what is not said stays as it is.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct IssuerChange {
    /// Whom its tokens must be for; empty for the registry's own name.
    pub audience: Option<String>,
    /// Whether its keys are from elsewhere now: from [`Self::keys_url`], or they are [`Self::jwks`], or from where it says itself
    /// if it is neither.
    pub has_other_keys: bool,
    /// Where its keys are.
    pub keys_url: Option<String>,
    /// The keys themselves, as a JSON Web Key Set.
    pub jwks: Option<String>,
}

impl Leave<Installation> {
    /// An issuer by its number, its identifier, or the name of a preset that has one.
    async fn issuer_of(&self, named: &str) -> Result<StoredIssuer, AccountsError> {
        let catalog = &self.parts().catalog;
        let found = match named.parse::<i64>() {
            Ok(id) => {
                let all = catalog.trusted_issuers().await?;
                all.into_iter().find(|issuer| issuer.id == id)
            }
            Err(_) => catalog.trusted_issuer(identifier(named)).await?,
        };
        found.ok_or_else(|| AccountsError::NoIssuer(named.to_owned()))
    }

    /// An issuer, and whether its keys can be used now.
    pub(super) async fn tried_issuer(&self, issuer: String) -> Result<IssuerReport, AccountsError> {
        let stored = self.parts().catalog.trusted_issuer(&issuer).await?;
        let stored = stored.ok_or(AccountsError::NoIssuer(issuer))?;
        let trusted = TrustedIssuer::read(&stored, self.registry.service())?;
        let tried = self.parts().rules.accounts.issuers.keys(&trusted).await;
        Ok(IssuerReport {
            problem: tried.err().map(|refused| refused.to_string()),
            ..self.registry.issuer_report(stored)
        })
    }

    /// Changes what the tokens of an issuer are verified by. Its publishers stay; what was signed in by tokens of before has to sign
    /// in again, at every replica.
    pub async fn change_issuer(
        &self,
        named: &str,
        change: IssuerChange,
    ) -> Result<IssuerReport, AccountsError> {
        let stored = self.issuer_of(named).await?;
        if let Some(audience) = &change.audience {
            check_audience(audience)?;
        }
        if change.has_other_keys {
            let damaged = |_| RegistryError::Internal("an issuer in the catalog is damaged");
            let url: IssuerUrl = stored.issuer.parse().map_err(|_| damaged(()))?;
            check_keys(&url, change.keys_url.as_deref(), change.jwks.as_deref())?;
        }
        let settings = IssuerSettings {
            audience: change.audience,
            keys: change.has_other_keys.then_some(IssuerKeyPlace {
                url: change.keys_url,
                keys: change.jwks,
            }),
        };
        let (catalog, issuer) = (&self.parts().catalog, stored.issuer);
        if settings != IssuerSettings::default() {
            let which = (stored.id, issuer.clone());
            let changed = catalog.change_issuer(self.authority(), which, settings);
            if !done(changed.await?)? {
                return Err(AccountsError::NoIssuer(named.to_owned()));
            }
        }
        self.tried_issuer(issuer).await
    }

    /// Trusts an issuer no longer, and says its number. Its publishers go with it, and count no longer.
    pub async fn remove_issuer(&self, named: &str) -> Result<i64, AccountsError> {
        let (catalog, id) = (&self.parts().catalog, self.issuer_of(named).await?.id);
        match done(catalog.distrust_issuer(self.authority(), id).await?)? {
            true => Ok(id),
            false => Err(AccountsError::NoIssuer(named.to_owned())),
        }
    }
}
