//! Users, as who administers the installation sees them.

use granary_access::{AddressBlocks, Handle, Principal, PrincipalId, Reason, Scopes};
use granary_catalog::{Departed, Departure, NewUser, Office, PrincipalKind};
use granary_identity::Secret;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{AccountsError, SignInError};
use crate::{Installation, Leave, Oneself, OwnAccount, Registry, leave::done};

/// How a user goes or returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum UserChange {
    /// It may sign in again.
    Enabled,
    /// It may not sign in, until it is enabled.
    Disabled,
    /// It is gone for good, with its tokens and grants. Its name is free, its namespace stays.
    Removed,
}

/// A user, for people and programs.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct UserReport {
    /// Its name.
    pub user: String,
    /// Whether it may sign in.
    pub active: bool,
    /// Whether it administers the installation.
    pub administrator: bool,
    /// From where it may be used, if not from everywhere.
    pub addresses: Option<AddressBlocks>,
    /// When it was made.
    #[serde(serialize_with = "super::time::serialize")]
    #[schema(value_type = String, format = DateTime)]
    pub created_at: i64,
}

impl Leave<Installation> {
    /// Up to `limit` users whose names stand behind `after`, by their names.
    pub async fn users(&self, after: &str, limit: u64) -> Result<Vec<UserReport>, AccountsError> {
        let users = self.parts().catalog.users(after, limit).await?;
        let users = users.into_iter().map(|user| UserReport {
            user: user.name,
            active: user.is_active,
            administrator: user.is_administrator,
            addresses: user.addresses,
            created_at: user.created_at,
        });
        Ok(users.collect())
    }

    /// Makes a user, and says whether repositories below its name are its own: somebody may have made some before.
    pub async fn add_user(
        &self,
        user: &str,
        password: Secret,
        administrator: bool,
    ) -> Result<bool, AccountsError> {
        let user = self
            .registry
            .new_user(user, password, administrator)
            .await?;
        let handle = user.handle.clone();
        let catalog = &self.parts().catalog;
        let made = done(catalog.create_user(self.authority(), user).await?)?;
        let (_, owns_its_name) = made.ok_or(AccountsError::Taken(handle.to_string()))?;
        Ok(owns_its_name)
    }

    /// Gives a user another password. Whatever was logged in by the former one has to log in again.
    pub async fn set_password(&self, user: &str, password: Secret) -> Result<(), AccountsError> {
        let id = self.registry.known(user).await?;
        let phc = self.registry.hashed(user, password).await?;
        let catalog = &self.parts().catalog;
        let set = catalog.set_password(self.authority(), id, None, phc);
        done(set.await?).map(drop)
    }

    /// Says from where a user may be used; from everywhere without a list.
    pub async fn set_user_addresses(
        &self,
        user: &str,
        addresses: Option<AddressBlocks>,
    ) -> Result<(), AccountsError> {
        self.registry.known(user).await?;
        self.admit_from(user, addresses).await
    }

    /// Lets a user go or return.
    pub async fn change_user(&self, user: &str, change: UserChange) -> Result<(), AccountsError> {
        let how = match change {
            UserChange::Enabled => Departure::Returns,
            UserChange::Disabled => Departure::Disabled,
            UserChange::Removed => Departure::Removed,
        };
        let catalog = &self.parts().catalog;
        match done(catalog.depart(self.authority(), user, how).await?)? {
            Departed::Done => Ok(()),
            Departed::NotThere => Err(AccountsError::NoSuchUser(user.to_owned())),
            Departed::LastAdministrator => Err(AccountsError::LastAdministrator(user.to_owned())),
            Departed::LastOwner(organisation) => Err(AccountsError::LastOwner(organisation)),
        }
    }
}

/// What an account is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum AccountKind {
    /// A person's.
    User,
    /// A machine's, of a user or an organisation.
    Robot,
}

/// Who one is, for people and programs.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct AccountReport {
    /// The user's or the robot's name.
    pub user: String,
    /// Which of them it is.
    pub kind: AccountKind,
    /// Whether it administers the installation; nothing if the credentials at hand may not look after the account.
    pub administrator: Option<bool>,
    /// What the credentials at hand cap; nothing if it is not said.
    pub scopes: Scopes,
    /// When the credentials at hand end. A token of the token service ends before what it was given for.
    #[serde(serialize_with = "super::time::optional::serialize")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub expires_at: Option<i64>,
}

impl Leave<Oneself> {
    /// Who one is.
    pub async fn account(&self) -> Result<AccountReport, AccountsError> {
        let caller = self.authority().caller();
        let Principal::Known { credential, .. } = &caller.principal else {
            return Err(AccountsError::Denied(Reason::NoCredentials));
        };
        let bearer = self.parts().catalog.bearer_of(credential.id).await?;
        let bearer = bearer.ok_or(AccountsError::Denied(Reason::Ended))?;
        let account = self.registry.decided_of(&caller, &Office::Account).await?;
        let (decision, rights) = account;
        Ok(AccountReport {
            user: bearer.name,
            kind: match bearer.is_robot {
                true => AccountKind::Robot,
                false => AccountKind::User,
            },
            administrator: decision.allows().then_some(rights.rights.is_administrator),
            scopes: credential.scopes.clone(),
            expires_at: bearer.expires_at,
        })
    }
}

impl Leave<OwnAccount> {
    /// Changes one's own password, by the one that counts now. A robot has none.
    pub async fn change_password(&self, current: Secret, new: Secret) -> Result<(), AccountsError> {
        let caller = self.authority().caller();
        let (id, name) = (self.own_id()?, caller.principal.name());
        // What is remembered of a password may have ended since: this one is looked at now.
        let proving = self.registry.prove_password(name, current, &caller.origin);
        let proved = match proving.await.map(|principal| principal.ids()) {
            Ok(Some((who, credential))) if who == id => credential,
            Ok(_) | Err(SignInError::Wrong) => return Err(AccountsError::WrongPassword),
            Err(SignInError::Waits { retry_after } | SignInError::Busy { retry_after }) => {
                return Err(AccountsError::Later(retry_after));
            }
            Err(SignInError::Registry(error)) => return Err(error.into()),
        };
        let phc = self.registry.hashed(name, new).await?;
        let catalog = &self.parts().catalog;
        let set = catalog.set_password(self.authority(), id, Some(proved), phc);
        match done(set.await?)? {
            true => Ok(()),
            false => Err(AccountsError::WrongPassword),
        }
    }
}

impl Registry {
    pub(super) async fn new_user(
        &self,
        user: &str,
        password: Secret,
        is_administrator: bool,
    ) -> Result<NewUser, AccountsError> {
        let handle: Handle = user.parse()?;
        Ok(NewUser {
            password: self.hashed(handle.as_str(), password).await?,
            handle,
            is_administrator,
        })
    }

    pub(super) async fn hashed(
        &self,
        handle: &str,
        password: Secret,
    ) -> Result<String, AccountsError> {
        let settings = &self.parts.rules.accounts.passwords;
        settings.check_new(password.expose(), handle)?;
        let pool = self.parts.accounts.passwords(settings)?;
        Ok(pool.hash(password).await?)
    }

    /// The number of the user of that name, who may be disabled.
    pub(super) async fn known(&self, user: &str) -> Result<PrincipalId, AccountsError> {
        match self.parts.catalog.named(user).await? {
            Some((id, PrincipalKind::User)) => Ok(id),
            _ => Err(AccountsError::NoSuchUser(user.to_owned())),
        }
    }
}
