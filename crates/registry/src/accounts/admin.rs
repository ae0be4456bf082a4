//! What the machine's operator does about accounts: the first administrator, users, passwords, tokens.

use std::time::Duration;

use granary_access::{Handle, HandleError, PrincipalId, Scopes, Visibility};
use granary_catalog::{CredentialKind, Departure, FirstAccount, NewToken, NewUser, dialect};
use granary_identity::{PasswordRefused, PoolError, Secret, Token, TokenKind, digest_of, hint};
use granary_oci::RepositoryName;
use serde::{Deserialize, Serialize};

use super::tenancy::{GrantReport, NamespaceReport, TenancyCommand};
use crate::{Registry, RegistryError, access::Administering};

/// Something to do about accounts. It crosses the socket of a running server, which only the server's user can open.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case")]
pub enum AccountsCommand {
    /// Make the first account, an administrator.
    Bootstrap {
        /// Its name.
        user: String,
        /// Its password.
        #[serde(with = "revealed")]
        password: Secret,
    },
    /// Make a user.
    AddUser {
        /// Its name.
        user: String,
        /// Its password.
        #[serde(with = "revealed")]
        password: Secret,
        /// Whether it administers the installation.
        administrator: bool,
    },
    /// Give a user another password.
    SetPassword {
        /// Its name.
        user: String,
        /// The new one.
        #[serde(with = "revealed")]
        password: Secret,
    },
    /// Make an API token.
    CreateToken {
        /// Whose.
        user: String,
        /// What it is for.
        name: String,
        /// What it caps.
        scopes: Scopes,
        /// How long it is good, in seconds; without an end if it is not said.
        lifetime: Option<u64>,
    },
    /// End an API token.
    RevokeToken {
        /// Its number.
        id: i64,
    },
    /// List the users.
    Users,
    /// Let a user go or return.
    ChangeUser {
        /// Its name.
        user: String,
        /// How.
        change: UserChange,
    },
    /// List the API tokens of a user.
    Tokens {
        /// Whose.
        user: String,
    },
    /// Look after rights in a namespace.
    Tenancy(TenancyCommand),
    /// Say who sees a repository.
    SetVisibility {
        /// Which.
        repository: RepositoryName,
        /// Who.
        visibility: Visibility,
    },
    /// Remove a repository with all that is in it.
    RemoveRepository {
        /// Which.
        repository: RepositoryName,
    },
}

/// How a user goes or returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
#[derive(Clone, Debug, Serialize)]
pub struct UserReport {
    /// Its name.
    pub user: String,
    /// Whether it may sign in.
    pub active: bool,
    /// Whether it administers the installation.
    pub administrator: bool,
    /// When it was made, in microseconds since 1970.
    pub created_at: i64,
}

/// An API token, for people and programs; never the token itself.
#[derive(Clone, Debug, Serialize)]
pub struct TokenReport {
    /// Its number.
    pub id: i64,
    /// What it is for.
    pub name: String,
    /// Its last characters.
    pub hint: String,
    /// What it caps.
    pub scopes: Scopes,
    /// When it was made, in microseconds since 1970.
    pub created_at: i64,
    /// When it ends.
    pub expires_at: Option<i64>,
}

/// What it came to.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "done", rename_all = "kebab-case")]
pub enum AccountsReport {
    /// All users.
    Users {
        /// In the order of their names.
        users: Vec<UserReport>,
    },
    /// A user went or returned.
    UserChanged {
        /// Its name.
        user: String,
        /// How.
        change: UserChange,
    },
    /// The tokens of a user.
    Tokens {
        /// In the order in which they were made.
        tokens: Vec<TokenReport>,
    },
    /// Something was granted.
    Granted(GrantReport),
    /// The grants in a namespace.
    Grants {
        /// In the order in which they were made.
        grants: Vec<GrantReport>,
    },
    /// A grant was taken back.
    GrantRemoved {
        /// Its number.
        id: i64,
    },
    /// How a namespace is.
    Namespace(NamespaceReport),
    /// The first account is there.
    Bootstrapped {
        /// Its name.
        user: String,
        /// Namespaces that were there, and are its own now.
        namespaces: u64,
    },
    /// A user is there.
    UserAdded {
        /// Its name.
        user: String,
        /// Whether repositories below that name are its own. Somebody may have made some before.
        owns_its_name: bool,
    },
    /// The new password counts.
    PasswordSet {
        /// Whose.
        user: String,
    },
    /// A token is there.
    TokenCreated {
        /// Its number.
        id: i64,
        /// The token, which is shown this once.
        #[serde(serialize_with = "revealed::serialize")]
        token: Secret,
    },
    /// A token has ended.
    TokenRevoked {
        /// Its number.
        id: i64,
    },
    /// The repository has that visibility.
    VisibilitySet {
        /// Which.
        repository: RepositoryName,
        /// Who sees it.
        visibility: Visibility,
    },
    /// The repository is gone. What was in it goes by and by.
    RepositoryRemoved {
        /// Its name, which is free.
        repository: RepositoryName,
    },
}

/// Why it was not done.
#[derive(Debug, thiserror::Error)]
pub enum AccountsError {
    /// The name cannot be one of a user.
    #[error(transparent)]
    Handle(#[from] HandleError),
    /// The password is not good enough.
    #[error(transparent)]
    Password(#[from] PasswordRefused),
    /// There are accounts already.
    #[error("there are accounts already: an administrator makes further ones")]
    NotTheFirst,
    /// There are no accounts yet.
    #[error("there are no accounts yet: make the first with 'granary admin bootstrap'")]
    NoAccounts,
    /// A replica would serve everybody.
    #[error(
        "a replica of version {0} is running, which knows no accounts and would serve everybody: stop or upgrade it, wait a \
         minute, and try again"
    )]
    OldReplica(String),
    /// The same, and the first account is made.
    #[error(
        "the first account is made, but a replica of version {0} is running, which knows no accounts and serves everybody: stop it \
         NOW"
    )]
    OldReplicaServes(String),
    /// Nothing encrypts the keys.
    #[error(
        "accounts need a key of the installation: put 32 random bytes into a file, such as with 'head -c 32 /dev/urandom', \
         name it as auth.key_file for every replica, and start them again"
    )]
    NoKey,
    /// The name is taken.
    #[error("the name '{0}' is taken")]
    Taken(Handle),
    /// There is no such user.
    #[error("there is no user '{0}'")]
    NoSuchUser(String),
    /// There is no such user, or nobody would administer the installation any more.
    #[error("there is no user '{0}', or it is the last administrator who may log in")]
    NoSuchUserOrLast(String),
    /// Nothing that can be granted.
    #[error("read, write, update, delete and admin can be granted, and at least one of them")]
    NotGrantable,
    /// The repositories are of no one namespace.
    #[error(
        "a grant is about repositories of one namespace: write a name, or a prefix that ends in '/**'"
    )]
    NoNamespace,
    /// There is no such grant.
    #[error("there is no grant {0}")]
    NoSuchGrant(i64),
    /// There is no such namespace.
    #[error("there is no namespace '{0}'")]
    NoSuchNamespace(String),
    /// The text is no licence.
    #[error("a licence is an SPDX expression of at most 200 characters, such as Apache-2.0 OR MIT")]
    NoLicense,
    /// There is no such token.
    #[error("there is no token {0} that has not ended")]
    NoSuchToken(i64),
    /// There is no such repository.
    #[error("there is no repository '{0}'")]
    NoSuchRepository(RepositoryName),
    /// Too many passwords are hashed at once.
    #[error("{0}: try again in a moment")]
    Hashing(#[from] PoolError),
    /// The registry failed.
    #[error(transparent)]
    Registry(#[from] RegistryError),
}

impl From<granary_catalog::CatalogError> for AccountsError {
    fn from(error: granary_catalog::CatalogError) -> Self {
        Self::Registry(error.into())
    }
}

impl Registry {
    /// Does what the operator asks.
    pub async fn administer(
        &self,
        command: AccountsCommand,
    ) -> Result<AccountsReport, AccountsError> {
        match command {
            AccountsCommand::Bootstrap { user, password } => self.bootstrap(&user, password).await,
            AccountsCommand::AddUser {
                user,
                password,
                administrator,
            } => self.add_user(&user, password, administrator).await,
            AccountsCommand::SetPassword { user, password } => {
                self.set_password(&user, password).await
            }
            AccountsCommand::CreateToken {
                user,
                name,
                scopes,
                lifetime,
            } => {
                let lifetime = lifetime.map(Duration::from_secs);
                self.create_token(&user, name, scopes, lifetime).await
            }
            AccountsCommand::Users => self.users().await,
            AccountsCommand::ChangeUser { user, change } => {
                let how = match change {
                    UserChange::Enabled => Departure::Returns,
                    UserChange::Disabled => Departure::Disabled,
                    UserChange::Removed => Departure::Removed,
                };
                match self.parts.catalog.depart(&user, how).await? {
                    true => Ok(AccountsReport::UserChanged { user, change }),
                    false => Err(AccountsError::NoSuchUserOrLast(user)),
                }
            }
            AccountsCommand::Tokens { user } => self.tokens(&user).await,
            AccountsCommand::Tenancy(command) => self.tenancy(command).await,
            AccountsCommand::RevokeToken { id } => {
                let credential = granary_access::CredentialId(id);
                match self.parts.catalog.revoke_token(credential).await? {
                    true => Ok(AccountsReport::TokenRevoked { id }),
                    false => Err(AccountsError::NoSuchToken(id)),
                }
            }
            AccountsCommand::SetVisibility {
                repository,
                visibility,
            } => {
                let catalog = &self.parts.catalog;
                match catalog.set_visibility(&repository, visibility).await? {
                    true => Ok(AccountsReport::VisibilitySet {
                        repository,
                        visibility,
                    }),
                    false => Err(AccountsError::NoSuchRepository(repository)),
                }
            }
            AccountsCommand::RemoveRepository { repository } => {
                let may = self.operator::<Administering>(&repository);
                match may.remove_repository().await {
                    Ok(()) => Ok(AccountsReport::RepositoryRemoved { repository }),
                    Err(RegistryError::NameUnknown(name)) => {
                        Err(AccountsError::NoSuchRepository(name))
                    }
                    Err(error) => Err(error.into()),
                }
            }
        }
    }

    async fn users(&self) -> Result<AccountsReport, AccountsError> {
        let users = self.parts.catalog.users().await?;
        let users = users.into_iter().map(|user| UserReport {
            user: user.name,
            active: user.is_active,
            administrator: user.is_administrator,
            created_at: user.created_at,
        });
        Ok(AccountsReport::Users {
            users: users.collect(),
        })
    }

    async fn tokens(&self, user: &str) -> Result<AccountsReport, AccountsError> {
        let id = self.known(user).await?;
        let tokens = self.parts.catalog.tokens(id).await?;
        let tokens = tokens.into_iter().map(|token| TokenReport {
            id: token.id.0,
            name: token.name,
            hint: token.hint,
            scopes: token.scopes,
            created_at: token.created_at,
            expires_at: token.expires_at,
        });
        Ok(AccountsReport::Tokens {
            tokens: tokens.collect(),
        })
    }

    async fn bootstrap(
        &self,
        user: &str,
        password: Secret,
    ) -> Result<AccountsReport, AccountsError> {
        if self.has_accounts().await? {
            return Err(AccountsError::NotTheFirst);
        }
        if self.parts.rules.accounts.key.is_none() {
            return Err(AccountsError::NoKey);
        }
        let user = self.new_user(user, password, true).await?;
        let handle = user.handle.to_string();
        match self.parts.catalog.create_first_account(user).await? {
            FirstAccount::NotTheFirst => Err(AccountsError::NotTheFirst),
            FirstAccount::OldReplica { version } => Err(AccountsError::OldReplica(version)),
            FirstAccount::Made { namespaces, .. } => {
                // Every replica knows of it by then, so nobody is served without credentials after this answer.
                tokio::time::sleep(self.parts.catalog.accounts_are_known_after()).await;
                // One that started meanwhile may have come too late for the first look.
                if let Some(version) = self.parts.catalog.replica_without_accounts().await? {
                    return Err(AccountsError::OldReplicaServes(version));
                }
                self.signer().await?;
                Ok(AccountsReport::Bootstrapped {
                    user: handle,
                    namespaces,
                })
            }
        }
    }

    async fn add_user(
        &self,
        user: &str,
        password: Secret,
        administrator: bool,
    ) -> Result<AccountsReport, AccountsError> {
        self.need_accounts().await?;
        let user = self.new_user(user, password, administrator).await?;
        let handle = user.handle.clone();
        let made = self.parts.catalog.create_user(user).await?;
        let (_, owns_its_name) = made.ok_or_else(|| AccountsError::Taken(handle.clone()))?;
        Ok(AccountsReport::UserAdded {
            user: handle.to_string(),
            owns_its_name,
        })
    }

    async fn new_user(
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

    async fn hashed(&self, handle: &str, password: Secret) -> Result<String, AccountsError> {
        let settings = &self.parts.rules.accounts.passwords;
        settings.check_new(password.expose(), handle)?;
        let pool = self.parts.accounts.passwords(settings)?;
        Ok(pool.hash(password).await?)
    }

    async fn set_password(
        &self,
        user: &str,
        password: Secret,
    ) -> Result<AccountsReport, AccountsError> {
        self.need_accounts().await?;
        let id = self.known(user).await?;
        let phc = self.hashed(user, password).await?;
        self.parts.catalog.set_password(id, phc).await?;
        Ok(AccountsReport::PasswordSet {
            user: user.to_owned(),
        })
    }

    async fn create_token(
        &self,
        user: &str,
        name: String,
        scopes: Scopes,
        lifetime: Option<Duration>,
    ) -> Result<AccountsReport, AccountsError> {
        self.need_accounts().await?;
        let principal = self.known(user).await?;
        let token = Token::generate(TokenKind::Api)
            .map_err(|_| RegistryError::Internal("there is no randomness"))?;
        let text = token.text().expose();
        let now = self.parts.catalog.now().await?;
        let kept = NewToken {
            principal,
            kind: CredentialKind::Api,
            name,
            secret: digest_of(text),
            hint: hint(text).to_owned(),
            scopes,
            parent: None,
            expires_at: lifetime.map(|lifetime| now.saturating_add(dialect::micros(lifetime))),
        };
        let id = self.parts.catalog.create_token(kept).await?;
        Ok(AccountsReport::TokenCreated {
            id: id.0,
            token: token.into_text(),
        })
    }

    /// The number of the user of that name, who may be disabled.
    pub(super) async fn known(&self, user: &str) -> Result<PrincipalId, AccountsError> {
        let found = self.parts.catalog.principal(user).await?;
        found.ok_or_else(|| AccountsError::NoSuchUser(user.to_owned()))
    }

    pub(super) async fn need_accounts(&self) -> Result<(), AccountsError> {
        match self.has_accounts().await? {
            true => Ok(()),
            false => Err(AccountsError::NoAccounts),
        }
    }
}

/// A secret on its way through the server's own socket.
mod revealed {
    use granary_identity::Secret;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(
        secret: &Secret,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(secret.expose())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Secret, D::Error> {
        String::deserialize(deserializer).map(Secret::from)
    }
}
