//! `granary admin` commands about issuers of identity tokens, publishers, and the keys that sign tokens here.

use std::{io::Read as _, path::Path};

use anyhow::Context;
use granary_access::RobotHandle;
use granary_registry::{
    AccountsCommand, IssuerChange, IssuerRequest, KeysCommand, PublisherRequest, PublishingCommand,
};
use serde_json::Value;

use crate::{
    accounts::{done, rows, scope, seconds, text},
    cli::{self, IssuerCommand, OutputArgs, PublisherAddArgs, PublisherCommand},
    groups::page,
    maintenance::moment,
    moving::UsageError,
};

/// Most bytes of a file with keys.
const KEYS: u64 = 1024 * 1024;

fn ask(
    output: &OutputArgs,
    command: PublishingCommand,
    sentence: impl FnOnce(&Value) -> String,
) -> anyhow::Result<()> {
    let command = AccountsCommand::Publishing(command);
    done(&output.config, command, output.json, sentence)
}

/// `granary admin issuer`
pub fn issuer(command: &IssuerCommand) -> anyhow::Result<()> {
    match command {
        IssuerCommand::Add(args) => {
            let request = IssuerRequest {
                issuer: args.issuer.clone(),
                preset: args.preset.clone(),
                audience: args.audience.clone(),
                keys_url: args.keys_url.clone(),
                jwks: keys_in(args.keys.as_deref())?,
            };
            let command = PublishingCommand::AddIssuer(request);
            ask(&args.output, command, taken)
        }
        IssuerCommand::Change(args) => {
            let change = IssuerChange {
                audience: args.audience.clone(),
                has_other_keys: args.discovery || args.keys_url.is_some() || args.keys.is_some(),
                keys_url: args.keys_url.clone(),
                jwks: keys_in(args.keys.as_deref())?,
            };
            let issuer = args.issuer.clone();
            let command = PublishingCommand::ChangeIssuer { issuer, change };
            ask(&args.output, command, taken)
        }
        IssuerCommand::List(args) => ask(args, PublishingCommand::Issuers, |report| {
            rows(report, "issuers", |issuer| {
                let keys = match (issuer["given_keys"] == true, issuer["keys_url"].as_str()) {
                    (true, _) => "  by the keys of --keys".to_owned(),
                    (false, Some(url)) => format!("  by the keys at {url}"),
                    (false, None) => String::new(),
                };
                format!(
                    "{}  {}  {}  for {}{keys}",
                    issuer["id"],
                    text(issuer, "issuer"),
                    text(issuer, "preset"),
                    text(issuer, "audience")
                )
            })
        }),
        IssuerCommand::Remove(args) => {
            let issuer = args.issuer.clone();
            let command = PublishingCommand::RemoveIssuer { issuer };
            remove(&args.output, command, "issuer")
        }
    }
}

/// What is said of an issuer that was added or changed.
fn taken(report: &Value) -> String {
    let problem = match report["problem"].as_str() {
        Some(problem) => format!("but its keys cannot be used yet: {problem}\n"),
        None => String::new(),
    };
    format!(
        "tokens of {} for {} are taken\n{problem}",
        text(report, "issuer"),
        text(report, "audience")
    )
}

/// The keys in a file.
fn keys_in(path: Option<&Path>) -> anyhow::Result<Option<String>> {
    let Some(path) = path else {
        return Ok(None);
    };
    let mut keys = String::new();
    let file = std::fs::File::open(path);
    let read = file.and_then(|file| file.take(KEYS).read_to_string(&mut keys));
    read.with_context(|| format!("{} cannot be read", path.display()))?;
    Ok(Some(keys))
}

fn remove(output: &OutputArgs, command: PublishingCommand, what: &str) -> anyhow::Result<()> {
    ask(output, command, |report| {
        format!("{what} {} is removed\n", report["id"])
    })
}

/// `granary admin publisher`
pub fn publisher(command: &PublisherCommand) -> anyhow::Result<()> {
    match command {
        PublisherCommand::Add(args) => {
            let command = add(args)?;
            ask(&args.output, command, |report| {
                format!("{}\n", line(report))
            })
        }
        PublisherCommand::List(args) => {
            let command = PublishingCommand::Publishers {
                owner: args.owner.clone(),
                after: args.after.clone(),
            };
            ask(&args.output, command, |report| page(report, line))
        }
        PublisherCommand::Remove(args) => {
            let command = PublishingCommand::RemovePublisher { id: args.id };
            remove(&args.output, command, "publisher")
        }
    }
}

fn add(args: &PublisherAddArgs) -> Result<PublishingCommand, UsageError> {
    let rule = &args.rule;
    Ok(PublishingCommand::AddPublisher {
        owner: args.robot.owner().to_owned(),
        request: PublisherRequest {
            robot: own_part(&args.robot),
            issuer: rule.issuer.clone(),
            claims: rule.claims()?,
            scopes: (!rule.scopes.is_empty()).then(|| rule.scopes.clone()),
            once: rule.once,
            waits: seconds(rule.expires)?,
        },
    })
}

/// What stands behind the plus.
fn own_part(robot: &RobotHandle) -> String {
    let split = robot.as_str().split_once('+');
    split.map_or("", |(_, own)| own).to_owned()
}

/// A publisher as a line.
fn line(publisher: &Value) -> String {
    let claims = publisher["claims"].as_object().into_iter().flatten();
    let claims: Vec<String> = claims
        .map(|(name, pattern)| format!("{name}={}", pattern.as_str().unwrap_or_default()))
        .collect();
    let scopes = publisher["scopes"].as_array().into_iter().flatten();
    let scopes: Vec<String> = scopes.map(scope).collect();
    let end = match (
        publisher["used_at"].as_str(),
        publisher["expires_at"].as_str(),
    ) {
        (Some(used), _) => format!("used first {}", moment(used)),
        (None, Some(end)) => format!("waits until {}", moment(end)),
        (None, None) => "waits".to_owned(),
    };
    let once = match publisher["once"] == true {
        true => "  once",
        false => "",
    };
    format!(
        "{}  {}  {}  {}  {}{once}  {end}",
        publisher["id"],
        text(publisher, "robot"),
        text(publisher, "issuer"),
        claims.join(" "),
        scopes.join(" ")
    )
}

/// `granary admin keys`
pub fn keys(command: &cli::KeysCommand) -> anyhow::Result<()> {
    let (output, command) = match command {
        cli::KeysCommand::List(output) => (output, KeysCommand::List),
        cli::KeysCommand::Rotate(output) => (output, KeysCommand::Rotate),
        cli::KeysCommand::Revoke(args) => {
            let kid = args.kid.clone();
            (&args.output, KeysCommand::Revoke { kid })
        }
    };
    let command = AccountsCommand::Keys(command);
    done(&output.config, command, output.json, |report| {
        match text(report, "keys") {
            "listed" => rows(report, "entries", |key| {
                let end = match key["retires_at"].as_str() {
                    Some(end) => format!("  until {}", moment(end)),
                    None => String::new(),
                };
                format!(
                    "{}  {}  from {}{end}",
                    text(key, "kid"),
                    text(key, "state"),
                    moment(text(key, "active_from"))
                )
            }),
            "rotated" => format!(
                "{} signs from {} on\n",
                text(report, "kid"),
                moment(text(report, "active_from"))
            ),
            _ => format!("what {} signed counts no longer\n", text(report, "kid")),
        }
    })
}
