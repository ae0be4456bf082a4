//! `granary robot` and `publisher`.

use clap::Subcommand;

use super::{NewTokenArgs, Part, part_of_plus};
use crate::cli::{AddressesArgs, PublisherRuleArgs};

/// `granary robot`
#[derive(Debug, Subcommand)]
pub enum RobotCommand {
    /// Make a robot. Its tokens are made with 'granary robot token', and looked after with 'granary token ... --robot'.
    #[command(alias = "add")]
    Create {
        /// The robot.
        #[arg(value_name = "OWNER+ROBOT", value_parser = part_of_plus)]
        robot: Part,
    },
    /// List the robots of an organisation, or one's own.
    List {
        /// Whose: an organisation, or oneself.
        #[arg(value_name = "OWNER")]
        owner: String,
    },
    /// Say from where a robot may be used.
    Address {
        /// The robot.
        #[arg(value_name = "OWNER+ROBOT", value_parser = part_of_plus)]
        robot: Part,
        /// From where.
        #[command(flatten)]
        addresses: AddressesArgs,
    },
    /// Remove a robot for good, with its tokens and rights.
    #[command(alias = "delete")]
    Remove {
        /// The robot.
        #[arg(value_name = "OWNER+ROBOT", value_parser = part_of_plus)]
        robot: Part,
    },
    /// Make a token of a robot and print it, this once.
    Token {
        /// The robot.
        #[arg(value_name = "OWNER+ROBOT", value_parser = part_of_plus)]
        robot: Part,
        /// The token.
        #[command(flatten)]
        token: NewTokenArgs,
    },
}

/// `granary publisher`
#[derive(Debug, Subcommand)]
pub enum PublisherCommand {
    /// Have identity tokens of an issuer be a robot, if their claims say so. It may be added before the first of them comes.
    Add {
        /// The robot.
        #[arg(value_name = "OWNER+ROBOT", value_parser = part_of_plus)]
        robot: Part,
        /// Which tokens.
        #[command(flatten)]
        rule: PublisherRuleArgs,
    },
    /// List the publishers of the robots of an organisation, or of one's own.
    List {
        /// Whose robots.
        #[arg(value_name = "OWNER")]
        owner: String,
    },
    /// Remove a publisher. What was signed in by it counts no longer.
    Remove {
        /// Whose robots.
        #[arg(value_name = "OWNER")]
        owner: String,
        /// Its number, as the list says.
        #[arg(value_name = "ID")]
        id: i64,
    },
}
