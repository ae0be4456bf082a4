//! What the machine's operator does about accounts: the first administrator, users, passwords, tokens, rights. The operator
//! has leave for all of it.

use std::time::Duration;

use granary_access::{AddressBlocks, Scopes, Visibility};
use granary_catalog::FirstAccount;
use granary_identity::Secret;
use granary_oci::RepositoryName;
use serde::{Deserialize, Serialize};

use super::{
    AccountsError,
    groups_command::{GroupsCommand, GroupsReport},
    key_rotation::{KeysCommand, KeysReport},
    mappings::{MappingReport, ProviderCommand},
    publishing_command::{PublishingCommand, PublishingReport},
    tenancy::{GrantReport, NamespaceReport, TenancyCommand},
    tokens::{TokenReport, TokenRequest},
    users::{UserChange, UserReport},
};
use crate::{Administering, Installation, Registry, RegistryError, RepositoryAdmin};

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
        /// From where it may be used, if not from everywhere.
        #[serde(default)]
        addresses: Option<AddressBlocks>,
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
    /// Look after what groups of identity providers mean.
    Provider(ProviderCommand),
    /// Look after organisations, teams and robots.
    Groups(GroupsCommand),
    /// Look after issuers of identity tokens, and publishers.
    Publishing(PublishingCommand),
    /// Look after the keys that sign tokens.
    Keys(KeysCommand),
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
    Namespace {
        /// Its settings.
        #[serde(flatten)]
        report: NamespaceReport,
        /// Nobody has it and no repository is in it: the settings wait for it.
        awaited: bool,
    },
    /// What became of organisations, teams or robots.
    Groups(GroupsReport),
    /// What became of issuers or publishers.
    Publishing(PublishingReport),
    /// What became of the keys that sign tokens.
    Keys(KeysReport),
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
    /// A group of a provider means something.
    Mapped(MappingReport),
    /// What the groups of a provider mean.
    Mappings {
        /// In the order in which it was said.
        mappings: Vec<MappingReport>,
    },
    /// A group of a provider means something no longer.
    Unmapped {
        /// The mapping's number.
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

impl AccountsCommand {
    /// Whether it makes no sense before there is the first account. Quotas do, and removing a repository.
    fn is_about_accounts(&self) -> bool {
        !matches!(
            self,
            Self::RemoveRepository { .. } | Self::Tenancy(TenancyCommand::Namespace { .. })
        )
    }
}

impl Registry {
    /// Does what the operator asks.
    pub async fn administer(
        &self,
        command: AccountsCommand,
    ) -> Result<AccountsReport, AccountsError> {
        if let AccountsCommand::Bootstrap { user, password } = command {
            return self.bootstrap(&user, password).await;
        }
        if command.is_about_accounts() {
            self.need_accounts().await?;
        }
        let leave = self.operators_leave::<Installation>(());
        match command {
            AccountsCommand::Bootstrap { .. } => Err(AccountsError::NotTheFirst),
            AccountsCommand::AddUser {
                user,
                password,
                administrator,
            } => {
                let owns_its_name = leave.add_user(&user, password, administrator).await?;
                Ok(AccountsReport::UserAdded {
                    user,
                    owns_its_name,
                })
            }
            AccountsCommand::SetPassword { user, password } => {
                leave.set_password(&user, password).await?;
                Ok(AccountsReport::PasswordSet { user })
            }
            AccountsCommand::CreateToken {
                user,
                name,
                scopes,
                lifetime,
                addresses,
            } => {
                let request = TokenRequest {
                    name,
                    scopes,
                    lifetime: lifetime.map(Duration::from_secs),
                    addresses,
                };
                let (id, token) = leave.create_token(&user, request).await?;
                Ok(AccountsReport::TokenCreated { id, token })
            }
            AccountsCommand::Users => Ok(AccountsReport::Users {
                users: leave.users("", u64::MAX).await?,
            }),
            AccountsCommand::ChangeUser { user, change } => {
                leave.change_user(&user, change).await?;
                Ok(AccountsReport::UserChanged { user, change })
            }
            AccountsCommand::Tokens { user } => Ok(AccountsReport::Tokens {
                tokens: leave.tokens(&user).await?,
            }),
            AccountsCommand::Tenancy(command) => self.tenancy(command).await,
            AccountsCommand::Provider(command) => self.about_provider(command).await,
            AccountsCommand::Groups(command) => self.groups(command).await,
            AccountsCommand::Publishing(command) => self.publishing(command).await,
            AccountsCommand::Keys(command) => self.keys_command(command).await,
            AccountsCommand::RevokeToken { id } => {
                leave.revoke_token(id).await?;
                Ok(AccountsReport::TokenRevoked { id })
            }
            AccountsCommand::SetVisibility {
                repository,
                visibility,
            } => self.show_to(repository, visibility).await,
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

    async fn show_to(
        &self,
        repository: RepositoryName,
        visibility: Visibility,
    ) -> Result<AccountsReport, AccountsError> {
        let leave = self.operators_leave::<RepositoryAdmin>(repository.clone());
        leave.set_visibility(visibility).await?;
        Ok(AccountsReport::VisibilitySet {
            repository,
            visibility,
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

    pub(super) async fn need_accounts(&self) -> Result<(), AccountsError> {
        match self.has_accounts().await? {
            true => Ok(()),
            false => Err(AccountsError::NoAccounts),
        }
    }
}

/// A secret on its way through the server's own socket.
pub(super) mod revealed {
    use granary_identity::Secret;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(in crate::accounts) fn serialize<S: Serializer>(
        secret: &Secret,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(secret.expose())
    }

    pub(in crate::accounts) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Secret, D::Error> {
        String::deserialize(deserializer).map(Secret::from)
    }
}
