//! Leave to look after something that is no repository's content: an account, the installation, an organisation, a
//! namespace. What can be done there are methods of [`Leave`], and only a decision makes one. Every change is decided once more
//! in its transaction.

use std::marker::PhantomData;

use granary_access::{Caller, Context, Decision, Principal, PrincipalId, Reason, Role};
use granary_catalog::{Asker, Authority, Decided, Office, RightsNow};

use crate::{AccountsError, Registry, RegistryError, registry::Parts};

/// What a [`Leave`] is for.
pub trait Sphere: Send + Sync + 'static {
    /// What says which one of its kind, such as an organisation's name.
    type Of;

    /// What is asked of the decision function, for who asks.
    fn office(of: Self::Of, asker: &Principal) -> Office;
}

/// Oneself: who one is, by whatever credentials are good.
#[derive(Debug)]
pub enum Oneself {}

/// One's own account.
#[derive(Debug)]
pub enum OwnAccount {}

/// The installation.
#[derive(Debug)]
pub enum Installation {}

/// To see an organisation from within.
#[derive(Debug)]
pub enum OrganisationMember {}

/// To look after an organisation.
#[derive(Debug)]
pub enum OrganisationAdmin {}

/// To own an organisation.
#[derive(Debug)]
pub enum OrganisationOwner {}

/// To look after the robots of an organisation, or one's own, and who publishes as one of them.
#[derive(Debug)]
pub enum RobotOwner {}

/// To look after a team, `ORGANISATION/TEAM`.
#[derive(Debug)]
pub enum TeamMaintainer {}

/// To look after a namespace.
#[derive(Debug)]
pub enum NamespaceAdmin {}

/// To administer a repository.
#[derive(Debug)]
pub enum RepositoryAdmin {}

impl Sphere for Oneself {
    type Of = ();

    fn office((): (), _: &Principal) -> Office {
        Office::Oneself
    }
}

impl Sphere for OwnAccount {
    type Of = ();

    fn office((): (), _: &Principal) -> Office {
        Office::Account
    }
}

impl Sphere for Installation {
    type Of = ();

    fn office((): (), _: &Principal) -> Office {
        Office::Installation
    }
}

impl Sphere for OrganisationMember {
    type Of = String;

    fn office(name: String, _: &Principal) -> Office {
        Office::Organisation(name, Role::Member)
    }
}

impl Sphere for OrganisationAdmin {
    type Of = String;

    fn office(name: String, _: &Principal) -> Office {
        Office::Organisation(name, Role::Admin)
    }
}

impl Sphere for OrganisationOwner {
    type Of = String;

    fn office(name: String, _: &Principal) -> Office {
        Office::Organisation(name, Role::Owner)
    }
}

impl Sphere for RobotOwner {
    type Of = String;

    fn office(owner: String, asker: &Principal) -> Office {
        match asker {
            Principal::Known { name, .. } if **name == *owner => Office::Account,
            _ => Office::Organisation(owner, Role::Admin),
        }
    }
}

impl Sphere for TeamMaintainer {
    type Of = String;

    fn office(name: String, _: &Principal) -> Office {
        Office::Team(name)
    }
}

impl Sphere for NamespaceAdmin {
    type Of = String;

    fn office(name: String, _: &Principal) -> Office {
        Office::Namespace(name)
    }
}

impl Sphere for RepositoryAdmin {
    type Of = granary_oci::RepositoryName;

    fn office(name: granary_oci::RepositoryName, _: &Principal) -> Office {
        Office::Repository(name)
    }
}

/// Leave of one principal to look after one `S`. Only [`Registry::ask_leave`] gives it.
pub struct Leave<S> {
    pub(crate) registry: Registry,
    authority: Authority,
    sphere: PhantomData<fn() -> S>,
}

impl<S> Leave<S> {
    pub(crate) fn parts(&self) -> &Parts {
        &self.registry.parts
    }

    /// What changes are made under.
    pub(crate) fn authority(&self) -> &Authority {
        &self.authority
    }

    /// Who has it.
    pub fn principal(&self) -> &Principal {
        &self.authority.asker.principal
    }

    /// The number of who has it; the operator has none.
    pub(crate) fn own_id(&self) -> Result<PrincipalId, AccountsError> {
        let ids = self.principal().ids();
        ids.map(|(id, _)| id)
            .ok_or(AccountsError::Denied(Reason::NoCredentials))
    }

    /// The organisation, team or namespace that it is about; empty if it is about none.
    pub fn of(&self) -> &str {
        match &self.authority.office {
            Office::Organisation(name, _) | Office::Team(name) | Office::Namespace(name) => name,
            Office::Repository(name) => name.as_str(),
            Office::Oneself | Office::Account | Office::Installation => "",
        }
    }
}

/// What was done, or the error of a change that was denied where it was to be made.
pub(crate) fn done<T>(decided: Decided<T>) -> Result<T, AccountsError> {
    decided.map_err(AccountsError::Denied)
}

impl Registry {
    /// Asks leave for `caller` to look after an `S`.
    pub async fn ask_leave<S: Sphere>(
        &self,
        caller: &Caller,
        of: S::Of,
    ) -> Result<Leave<S>, AccountsError> {
        let office = S::office(of, &caller.principal);
        let (decision, rights) = self.decided_of(caller, &office).await?;
        match decision {
            Decision::Allow => {
                self.note_use(caller, rights.now);
                Ok(self.given(caller, office))
            }
            Decision::Deny(reason) => {
                let named = match &office {
                    Office::Account => caller.principal.name().to_owned(),
                    _ => Leave::<S>::of(&self.given(caller, office)).to_owned(),
                };
                self.note_denial(caller, named, reason);
                Err(AccountsError::Denied(reason))
            }
        }
    }

    /// Whether `caller` may know what is in the organisation of that name. Nobody is told of the question.
    pub(crate) async fn sees_within(
        &self,
        caller: &Caller,
        organisation: &str,
    ) -> Result<bool, RegistryError> {
        let office = OrganisationMember::office(organisation.to_owned(), &caller.principal);
        let (decision, _) = self.decided_of(caller, &office).await?;
        Ok(decision.allows())
    }

    /// What is decided of an office, and by which rights. Nobody is told of it.
    pub(crate) async fn decided_of(
        &self,
        caller: &Caller,
        office: &Office,
    ) -> Result<(Decision, RightsNow), RegistryError> {
        let rights = self.rights_in(caller, office).await?;
        let context = Context {
            now: rights.now,
            anonymous: self.parts.rules.accounts.anonymous,
            address: caller.origin.address,
        };
        let decision = granary_access::decide(
            &caller.principal,
            office.action(),
            office.repository(),
            &rights.rights,
            &context,
        );
        Ok((decision, rights))
    }

    /// Leave for a command of the machine's operator, who may do everything.
    pub(crate) fn operators_leave<S: Sphere>(&self, of: S::Of) -> Leave<S> {
        let operator = Caller::operator();
        self.given(&operator, S::office(of, &operator.principal))
    }

    fn given<S>(&self, caller: &Caller, office: Office) -> Leave<S> {
        let asker = Asker::new(caller.clone(), self.parts.rules.accounts.anonymous);
        Leave {
            registry: self.clone(),
            authority: Authority::new(asker, office),
            sphere: PhantomData,
        }
    }

    async fn rights_in(
        &self,
        caller: &Caller,
        office: &Office,
    ) -> Result<RightsNow, RegistryError> {
        let catalog = &self.parts.catalog;
        match &caller.principal {
            Principal::Known { .. } => {
                let ids = caller.principal.ids();
                Ok(catalog.office_rights(ids, office).await?)
            }
            // Nobody in particular looks after nothing.
            Principal::Operator | Principal::Local | Principal::Anonymous => {
                let mut rights = RightsNow::default();
                rights.rights.accounts = catalog.has_accounts().await?;
                Ok(rights)
            }
        }
    }
}
