//! Deciding once more where a change is made: rights may have gone since the request began (decision 2).

use granary_access::{
    Action, AnonymousMode, Caller, Context, Decision, Origin, Principal, Reason, decide,
};
use granary_oci::RepositoryName;

use super::{
    rights::{self, RightsNow, RightsRow},
    watch::has_accounts,
};
use crate::{CatalogError, sql, writer::Write};

/// Who asks for a change.
#[derive(Clone, Debug)]
pub struct Asker {
    /// Who.
    pub principal: Principal,
    /// From where.
    pub origin: Origin,
    /// What those get who show no credentials.
    pub anonymous: AnonymousMode,
}

/// Rights as the transaction sees them.
pub(crate) struct Confirmed<'a> {
    asker: &'a Asker,
    repository: &'a RepositoryName,
    rights: Option<RightsNow>,
}

impl Asker {
    /// Somebody, where those without credentials get `anonymous`.
    pub fn new(caller: Caller, anonymous: AnonymousMode) -> Self {
        Self {
            principal: caller.principal,
            origin: caller.origin,
            anonymous,
        }
    }

    /// The machine's operator.
    pub fn operator() -> Self {
        Self::new(Caller::operator(), AnonymousMode::None)
    }

    /// The number of the account that owns what is made, if an account makes it.
    pub(crate) fn owner(&self) -> Option<i64> {
        self.principal.ids().map(|(id, _)| id.0)
    }

    /// Reads what the asker may do in `repository` now.
    pub(crate) async fn confirm<'a>(
        &'a self,
        write: &Write,
        repository: &'a RepositoryName,
    ) -> Result<Confirmed<'a>, CatalogError> {
        let rights = match &self.principal {
            // The operator has all rights.
            Principal::Operator => None,
            // Without accounts there are none, but the first may have been made since the request began.
            Principal::Local => {
                let mut local = RightsNow::default();
                local.rights.accounts = has_accounts(&write.transaction).await?;
                Some(local)
            }
            Principal::Anonymous | Principal::Known { .. } => {
                let ids = self.principal.ids();
                let (statement, values) = rights::question(write.dialect, ids, Some(repository));
                let rows: Vec<RightsRow> = sql::all(&write.transaction, &statement, values).await?;
                Some(rights::read(&rows, ids, Some(repository), write.now)?)
            }
        };
        Ok(Confirmed {
            asker: self,
            repository,
            rights,
        })
    }
}

impl Confirmed<'_> {
    /// Why not, if `action` is not allowed.
    pub(crate) fn denies(&self, action: Action<'_>) -> Option<Reason> {
        let RightsNow { rights, now } = self.rights.as_ref()?;
        let context = Context {
            now: *now,
            anonymous: self.asker.anonymous,
            address: self.asker.origin.address,
        };
        let principal = &self.asker.principal;
        match decide(principal, action, Some(self.repository), rights, &context) {
            Decision::Allow => None,
            Decision::Deny(reason) => Some(reason),
        }
    }
}
