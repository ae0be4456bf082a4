//! Leave to do something in a repository. Verbs are methods of [`May`], and only a decision makes one, so a door that
//! forgets to ask does not compile.

use std::marker::PhantomData;

use granary_access::{Action, Context, Decision};
pub use granary_access::{AnonymousMode, Caller, Origin, Principal, Reason};
use granary_catalog::{Asker, Deed, RightsNow, TagChange, action};
use granary_oci::RepositoryName;

use crate::{Registry, RegistryError, registry::Parts};

/// What a [`May`] gives leave for.
pub trait Right: Send + Sync + 'static {
    /// What is asked of the decision function.
    const ASKS: Asks;
}

/// What a request asks leave for, before it is known which tags it would change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Asks {
    /// To learn that the registry is there.
    Ping,
    /// To list repositories.
    List,
    /// To read.
    Read,
    /// To push.
    Push,
    /// To delete by digest or by tag.
    Delete,
    /// To look after the repository itself.
    Administer,
}

impl Asks {
    fn action(self) -> Action<'static> {
        match self {
            Self::Ping => Action::Ping,
            Self::List => Action::List,
            Self::Read => Action::Read,
            Self::Push => Action::Push,
            Self::Delete => Action::Delete,
            Self::Administer => Action::Administer,
        }
    }
}

/// Leave to read.
#[derive(Debug)]
pub enum Reading {}

/// Leave to push.
#[derive(Debug)]
pub enum Pushing {}

/// Leave to delete.
#[derive(Debug)]
pub enum Deleting {}

/// Leave to look after the repository itself.
#[derive(Debug)]
pub enum Administering {}

impl Right for Reading {
    const ASKS: Asks = Asks::Read;
}

impl Right for Pushing {
    const ASKS: Asks = Asks::Push;
}

impl Right for Deleting {
    const ASKS: Asks = Asks::Delete;
}

impl Right for Administering {
    const ASKS: Asks = Asks::Administer;
}

/// Leave of one principal to do `R` in one repository, which need not exist. Only [`Registry::authorise`] gives it.
pub struct May<R> {
    pub(crate) registry: Registry,
    pub(crate) repository: RepositoryName,
    pub(crate) caller: Caller,
    rights: RightsNow,
    right: PhantomData<fn() -> R>,
}

/// Why something is not allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denial {
    /// The reason. What of it a client may learn the edge knows (decision 24).
    pub reason: Reason,
    /// What was asked for.
    pub asks: Asks,
    /// Where.
    pub repository: Option<RepositoryName>,
    /// What was to become of a tag, if it is denied for that.
    pub tag: Option<TagChange>,
}

impl<R> Clone for May<R> {
    fn clone(&self) -> Self {
        Self {
            registry: self.registry.clone(),
            repository: self.repository.clone(),
            caller: self.caller.clone(),
            rights: self.rights.clone(),
            right: PhantomData,
        }
    }
}

impl<R: Right> May<R> {
    /// The error of a change that was denied where it was to be made.
    pub(crate) fn denied(&self, reason: Reason) -> RegistryError {
        self.denied_at(reason, None)
    }

    /// The same, for what was to become of a tag.
    pub(crate) fn denied_at(&self, reason: Reason, tag: Option<TagChange>) -> RegistryError {
        RegistryError::Denied(Denial {
            reason,
            asks: R::ASKS,
            repository: Some(self.repository.clone()),
            tag,
        })
    }
}

impl<R> May<R> {
    /// Where it counts.
    pub fn repository(&self) -> &RepositoryName {
        &self.repository
    }

    pub(crate) fn parts(&self) -> &Parts {
        &self.registry.parts
    }

    /// Who asks, for the transaction that decides again.
    pub(crate) fn asker(&self) -> Asker {
        let anonymous = self.registry.parts.rules.accounts.anonymous;
        Asker::new(self.caller.clone(), anonymous)
    }

    /// Whether the principal may do this there, too, whatever the token at hand was issued for.
    pub(crate) fn also(&self, asks: Asks) -> bool {
        let (who, repository) = (self.caller.without_token(), Some(&self.repository));
        self.registry
            .decide(&who, asks, repository, &self.rights)
            .allows()
    }
}

impl Registry {
    /// Asks leave for `caller` to do `R` in `repository`.
    pub async fn authorise<R: Right>(
        &self,
        caller: impl Into<Caller>,
        repository: RepositoryName,
    ) -> Result<May<R>, RegistryError> {
        let caller = caller.into();
        let rights = self.rights(&caller.principal, Some(&repository)).await?;
        self.allowed(&caller, R::ASKS, Some(&repository), &rights)?;
        Ok(May {
            registry: self.clone(),
            repository,
            caller,
            rights,
            right: PhantomData,
        })
    }

    /// Asks leave for what is about no repository.
    pub async fn admit(&self, caller: impl Into<Caller>, asks: Asks) -> Result<(), RegistryError> {
        let caller = caller.into();
        let rights = self.rights(&caller.principal, None).await?;
        self.allowed(&caller, asks, None, &rights)
    }

    /// Leave for a command of the machine's operator, who may do everything.
    pub(crate) fn operator<R: Right>(&self, repository: &RepositoryName) -> May<R> {
        May {
            registry: self.clone(),
            repository: repository.clone(),
            caller: Caller::operator(),
            rights: RightsNow::default(),
            right: PhantomData,
        }
    }

    /// What the catalog says of the principal there, by a statement that is sent now (decision 8).
    pub(crate) async fn rights(
        &self,
        principal: &Principal,
        repository: Option<&RepositoryName>,
    ) -> Result<RightsNow, RegistryError> {
        let catalog = &self.parts.catalog;
        match principal {
            Principal::Operator => Ok(RightsNow::default()),
            Principal::Local => {
                let mut rights = RightsNow::default();
                rights.rights.accounts = catalog.has_accounts().await?;
                Ok(rights)
            }
            // Nobody has to be asked what strangers may who may nothing.
            Principal::Anonymous if self.parts.rules.accounts.anonymous == AnonymousMode::None => {
                let mut rights = RightsNow::default();
                rights.rights.accounts = true;
                Ok(rights)
            }
            Principal::Anonymous | Principal::Known { .. } => {
                Ok(catalog.rights(principal.ids(), repository).await?)
            }
        }
    }

    pub(crate) fn decide(
        &self,
        caller: &Caller,
        asks: Asks,
        repository: Option<&RepositoryName>,
        RightsNow { rights, now }: &RightsNow,
    ) -> Decision {
        let context = Context {
            now: *now,
            anonymous: self.parts.rules.accounts.anonymous,
            address: caller.origin.address,
        };
        granary_access::decide(
            &caller.principal,
            asks.action(),
            repository,
            rights,
            &context,
        )
    }

    pub(crate) fn allowed(
        &self,
        caller: &Caller,
        asks: Asks,
        repository: Option<&RepositoryName>,
        rights: &RightsNow,
    ) -> Result<(), RegistryError> {
        match self.decide(caller, asks, repository, rights) {
            Decision::Allow => {
                self.note_use(caller, rights.now);
                if let (Asks::Read, Some(repository)) = (asks, repository) {
                    self.note_read(caller, repository);
                }
                Ok(())
            }
            Decision::Deny(reason) => {
                let target = repository.map(ToString::to_string).unwrap_or_default();
                self.note_denial(caller, target, reason);
                Err(RegistryError::Denied(Denial {
                    reason,
                    asks,
                    repository: repository.cloned(),
                    tag: None,
                }))
            }
        }
    }

    /// Tells the audit log what was not allowed, a few times for each principal and reason. The answer does not wait for it,
    /// so that it takes no longer than another.
    pub(crate) fn note_denial(&self, caller: &Caller, target: String, reason: Reason) {
        let is_known = matches!(caller.principal, Principal::Known { .. });
        // Clients show credentials only once they were asked for them: that is no news.
        if !is_known || !self.parts.accounts.denials.is_news(caller, reason) {
            return;
        }
        let (registry, caller) = (self.clone(), caller.clone());
        tokio::spawn(async move {
            let deed = Deed::new(action::DENIED, target);
            let catalog = &registry.parts.catalog;
            let noting = catalog.note_denial(caller.principal, caller.origin, deed, reason);
            if let Err(error) = noting.await {
                tracing::warn!(%error, "a denial could not be noted in the audit log");
            }
        });
    }
}
