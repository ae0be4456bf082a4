//! `granary admin issuer`, `publisher`: who publishes without a secret.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use clap::{Args, Subcommand};

use super::OutputArgs;
use crate::moving::UsageError;

/// `granary admin issuer`
#[derive(Debug, Subcommand)]
pub enum IssuerCommand {
    /// Take identity tokens of an issuer: of a CI system, a cluster, or whoever has OpenID Connect's discovery.
    Add(IssuerAddArgs),
    /// List the issuers.
    List(OutputArgs),
    /// Change the keys of an issuer, or whom its tokens must be for. Its publishers stay; jobs that are signed in sign in again.
    Change(IssuerChangeArgs),
    /// Take the tokens of an issuer no longer. Its publishers go with it.
    Remove(IssuerArgs),
}

/// `granary admin issuer change`
#[derive(Debug, Args)]
#[command(group(
    clap::ArgGroup::new("change").required(true).multiple(true).args(["audience", "keys_url", "keys", "discovery"])
))]
pub struct IssuerChangeArgs {
    /// Its number, as the list says, 'github', 'gitlab', or the issuer as its tokens have it in 'iss'.
    #[arg(value_name = "ID|URL")]
    pub issuer: String,
    /// Whom its tokens must be for; an empty text for this registry's own name.
    #[arg(long, value_name = "AUDIENCE")]
    pub audience: Option<String>,
    /// Where its keys are. Keys that were given count no longer.
    #[arg(long, value_name = "URL", conflicts_with_all = ["keys", "discovery"])]
    pub keys_url: Option<String>,
    /// A file with its keys, a JSON Web Key Set: these count, and no others.
    #[arg(long, value_name = "FILE", conflicts_with = "discovery")]
    pub keys: Option<PathBuf>,
    /// Ask the issuer itself where its keys are.
    #[arg(long)]
    pub discovery: bool,
    /// How to answer.
    #[command(flatten)]
    pub output: OutputArgs,
}

/// A command about an issuer.
#[derive(Debug, Args)]
pub struct IssuerArgs {
    /// Its number, as the list says, 'github', 'gitlab', or the issuer as its tokens have it in 'iss'.
    #[arg(value_name = "ID|URL")]
    pub issuer: String,
    /// How to answer.
    #[command(flatten)]
    pub output: OutputArgs,
}

/// `granary admin issuer add`
#[derive(Debug, Args)]
pub struct IssuerAddArgs {
    /// 'github', 'gitlab', or the issuer as its tokens have it in 'iss'.
    #[arg(value_name = "NAME|URL")]
    pub issuer: String,
    /// What kind it is, which says which claims name somebody: github, gitlab, kubernetes or plain.
    #[arg(long, value_name = "KIND")]
    pub preset: Option<String>,
    /// Whom its tokens must be for; this registry's own name, host and port of server.public_url, if it is not said.
    #[arg(long, value_name = "AUDIENCE")]
    pub audience: Option<String>,
    /// Where its keys are, if the issuer's own name leads nowhere from here.
    #[arg(long, value_name = "URL", conflicts_with = "keys")]
    pub keys_url: Option<String>,
    /// A file with its keys, a JSON Web Key Set. It has to be given anew with 'issuer change' when the issuer changes them.
    #[arg(long, value_name = "FILE")]
    pub keys: Option<PathBuf>,
    /// How to answer.
    #[command(flatten)]
    pub output: OutputArgs,
}

/// A command about something with a number.
#[derive(Debug, Args)]
pub struct NumberArgs {
    /// Its number, as the list says.
    #[arg(value_name = "ID")]
    pub id: i64,
    /// How to answer.
    #[command(flatten)]
    pub output: OutputArgs,
}

/// `granary admin keys`
#[derive(Debug, Subcommand)]
pub enum KeysCommand {
    /// List the keys that sign tokens of the token service.
    List(OutputArgs),
    /// Have another key sign, from ten minutes from now on. This happens by itself every 90 days.
    Rotate(OutputArgs),
    /// Believe nothing any more that a key signed, because it may have leaked. Clients ask for other tokens by themselves.
    Revoke(KeyArgs),
}

/// `granary admin keys revoke`
#[derive(Debug, Args)]
pub struct KeyArgs {
    /// Its name, as the list says.
    #[arg(value_name = "KID")]
    pub kid: String,
    /// How to answer.
    #[command(flatten)]
    pub output: OutputArgs,
}

/// `granary admin publisher`
#[derive(Debug, Subcommand)]
pub enum PublisherCommand {
    /// Have identity tokens of an issuer be a robot, if their claims say so. It may be added before the first of them comes.
    Add(PublisherAddArgs),
    /// List the publishers of the robots of an organisation or user.
    List(PublisherListArgs),
    /// Remove a publisher. What was signed in by it counts no longer.
    Remove(NumberArgs),
}

/// `granary admin publisher add`
#[derive(Debug, Args)]
pub struct PublisherAddArgs {
    /// The robot.
    #[arg(value_name = "OWNER+ROBOT")]
    pub robot: granary_access::RobotHandle,
    /// Which tokens.
    #[command(flatten)]
    pub rule: PublisherRuleArgs,
    /// How to answer.
    #[command(flatten)]
    pub output: OutputArgs,
}

/// Which identity tokens are a robot, and what they may do as that.
#[derive(Debug, Args)]
pub struct PublisherRuleArgs {
    /// Whose tokens: 'github', 'gitlab', or an issuer that was added.
    #[arg(long, value_name = "NAME|URL")]
    pub issuer: String,
    /// What a claim must be, such as repository=acme/app or ref=refs/tags/v*, in which * stands for any run of characters. All
    /// that are given must match.
    #[arg(long = "claim", value_name = "CLAIM=PATTERN", required = true, value_parser = claim)]
    pub claims: Vec<(String, String)>,
    /// What it may do, of what the robot may; everything in repositories if nothing is said. VERBS are of read, write, update,
    /// delete, admin; REPOSITORIES is a name, a prefix with /**, or **; TAGS are patterns with *.
    #[arg(long = "scope", value_name = "VERBS:REPOSITORIES[:TAGS]")]
    pub scopes: Vec<granary_access::Scope>,
    /// Take each token once: it has to be exchanged for another at /auth/token.
    #[arg(long)]
    pub once: bool,
    /// How long it waits for its first use, such as 7d; without an end if it is not said.
    #[arg(long, value_name = "DURATION", value_parser = crate::cli::duration)]
    pub expires: Option<Duration>,
}

impl PublisherRuleArgs {
    /// What claims must be.
    pub fn claims(&self) -> Result<BTreeMap<String, String>, UsageError> {
        let mut claims = BTreeMap::new();
        for (name, pattern) in &self.claims {
            if claims.insert(name.clone(), pattern.clone()).is_some() {
                return Err(UsageError(format!(
                    "the claim '{name}' is given twice: all that are given must match"
                )));
            }
        }
        Ok(claims)
    }
}

/// `granary admin publisher list`
#[derive(Debug, Args)]
pub struct PublisherListArgs {
    /// Whose robots.
    #[arg(value_name = "OWNER")]
    pub owner: String,
    /// Those behind this number.
    #[arg(long, value_name = "ID", default_value = "")]
    pub after: String,
    /// How to answer.
    #[command(flatten)]
    pub output: OutputArgs,
}

fn claim(text: &str) -> Result<(String, String), String> {
    let split = text.split_once('=');
    let (name, pattern) = split.ok_or("write CLAIM=PATTERN, such as repository=acme/app")?;
    Ok((name.to_owned(), pattern.to_owned()))
}
