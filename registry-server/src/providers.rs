//! `granary admin provider`: what groups of identity providers mean.

use granary_registry::{self as registry, AccountsCommand, MappingRequest};
use serde_json::Value;

use crate::{
    accounts::{done, rows, text},
    cli::ProviderCommand,
};

/// `granary admin provider`
pub fn provider(command: &ProviderCommand) -> anyhow::Result<()> {
    match command {
        ProviderCommand::Map(args) => {
            let command = registry::ProviderCommand::Map(MappingRequest {
                provider: args.group.provider.clone(),
                group: args.group.group.clone(),
                to: args.group.to.clone(),
                role: args.role.into(),
            });
            let command = AccountsCommand::Provider(command);
            done(&args.config, command, args.json, |report| {
                format!("{}, from the next log-in on\n", mapped(report))
            })
        }
        ProviderCommand::Unmap(args) => {
            let command = registry::ProviderCommand::Unmap {
                provider: args.group.provider.clone(),
                group: args.group.group.clone(),
                to: args.group.to.clone(),
            };
            let command = AccountsCommand::Provider(command);
            done(&args.config, command, args.json, |report| {
                format!("mapping {} is taken back\n", report["id"])
            })
        }
        ProviderCommand::List(args) => {
            let provider = args.provider.clone();
            let command = AccountsCommand::Provider(registry::ProviderCommand::List { provider });
            done(&args.config, command, args.json, |report| {
                rows(report, "mappings", mapped)
            })
        }
    }
}

/// A mapping as a line.
fn mapped(mapping: &Value) -> String {
    format!(
        "{}  {}: {} in {}",
        mapping["id"],
        text(mapping, "group"),
        text(mapping, "role"),
        text(mapping, "to")
    )
}
