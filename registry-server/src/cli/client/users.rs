//! `granary user`, `password`, `visibility` and `repository`.

use clap::{Args, Subcommand};
use granary_oci::RepositoryName;

use super::ServerArgs;
use crate::cli::{AddressesArgs, PasswordArgs, VisibilityArg};

/// `granary user`
#[derive(Debug, Subcommand)]
pub enum UserCommand {
    /// Make a user, who may do everything in repositories whose names begin with his.
    #[command(alias = "create")]
    Add {
        /// The user's name.
        #[arg(value_name = "NAME")]
        user: String,
        /// Where the password comes from.
        #[command(flatten)]
        password: PasswordArgs,
        /// The user administers the installation.
        #[arg(long)]
        admin: bool,
    },
    /// List the users.
    List,
    /// Give a user another password. Whatever was logged in by the former one has to log in again; API tokens stay good.
    Password {
        /// The user's name.
        #[arg(value_name = "NAME")]
        user: String,
        /// Where the password comes from.
        #[command(flatten)]
        password: PasswordArgs,
    },
    /// Say from where a user may be used.
    Address {
        /// The user's name.
        #[arg(value_name = "NAME")]
        user: String,
        /// From where.
        #[command(flatten)]
        addresses: AddressesArgs,
    },
    /// Keep a user from logging in. Its tokens count no longer either, until it is enabled.
    Disable {
        /// The user's name.
        #[arg(value_name = "NAME")]
        user: String,
    },
    /// Let a user log in again.
    Enable {
        /// The user's name.
        #[arg(value_name = "NAME")]
        user: String,
    },
    /// Remove a user for good, with its tokens and grants. Its repositories stay; whoever gets its name gets nothing of it.
    #[command(alias = "delete")]
    Remove {
        /// The user's name.
        #[arg(value_name = "NAME")]
        user: String,
    },
}

/// `granary password`
#[derive(Debug, Args)]
pub struct OwnPasswordArgs {
    /// Read the password that counts now from the first line of standard input, and the new one from the second. Without this they
    /// are asked for.
    #[arg(long)]
    pub password_stdin: bool,
    /// Which server, and how to answer.
    #[command(flatten)]
    pub server: ServerArgs,
}

/// `granary visibility`
#[derive(Debug, Args)]
pub struct SetVisibilityArgs {
    /// The repository.
    #[arg(value_name = "REPOSITORY")]
    pub repository: RepositoryName,
    /// Who sees it.
    #[arg(value_enum)]
    pub visibility: VisibilityArg,
    /// Which server, and how to answer.
    #[command(flatten)]
    pub server: ServerArgs,
}

/// `granary repository`
#[derive(Debug, Subcommand)]
pub enum RepositoryCommand {
    /// Remove a repository with all that is in it, at once and for good.
    #[command(alias = "delete")]
    Remove {
        /// The repository.
        #[arg(value_name = "REPOSITORY")]
        repository: RepositoryName,
    },
}
