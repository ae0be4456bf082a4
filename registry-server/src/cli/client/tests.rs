//! What the client commands take.

use clap::{CommandFactory, Parser};

use super::*;
use crate::cli::{Cli, Command};

#[test]
fn every_client_command_stands_in_the_help_once() {
    let help = Cli::command().render_help().to_string();
    let commands = ClientCommand::augment_subcommands(clap::Command::new("granary"));
    for command in commands.get_subcommands() {
        let line = format!("\n  {} ", command.get_name());
        assert_eq!(help.matches(&line).count(), 1, "{line} in {help}");
    }
}

#[test]
fn usage_errors_end_with_2() {
    for arguments in [
        "granary token",
        "granary token create",
        "granary token create ci --scope read",
        "granary token revoke seven",
        "granary login a --server b",
        "granary login a --password-stdin",
        "granary login a --token-stdin --username bob",
        "granary login a --token-stdin --expires 1d",
        "granary user address bob",
        "granary user address bob --from here",
        "granary visibility bob/app secret",
        "granary visibility Bob//app public",
        "granary team create acme",
        "granary robot create acme/ci",
        "granary robot create acme+",
        "granary member set acme bob king",
        "granary grant add bob own:a/**",
        "granary namespace",
        "granary audit list --limit 0",
        "granary audit export --from yesterday",
        "granary audit export --to f --delete",
        "granary audit verify --file f",
    ] {
        let error = Cli::try_parse_from(arguments.split(' ')).unwrap_err();
        assert_eq!(error.exit_code(), 2, "{arguments}");
    }
}

#[test]
fn the_commands_scripts_rely_on_are_there() {
    for arguments in [
        "granary login",
        "granary login registry.example.org --username bob --password-stdin --expires 1d --ca f --json",
        "granary login --server http://registry --token-stdin",
        "granary logout --local --server s",
        "granary whoami --json",
        "granary token create ci --scope read:a/b --scope read,write:bob/**:v* --expires 30d --server s --json",
        "granary token --server s list --json",
        "granary token revoke 7",
        "granary token rotate 7 --overlap 1h",
        "granary org create acme --owner bob",
        "granary token list --robot acme+ci",
        "granary token revoke 7 --robot acme+ci",
        "granary token rotate 7 --robot acme+ci",
        "granary password --password-stdin",
        "granary user add bob --password-stdin --admin",
        "granary user list --json",
        "granary user password bob",
        "granary user address bob --from 10.0.0.0/8 --from ::1",
        "granary user disable bob",
        "granary user enable bob",
        "granary user remove bob",
        "granary visibility bob/app public --server s",
        "granary repository remove bob/app --json",
        "granary org address acme --everywhere",
        "granary robot address acme+ci --from 192.0.2.7",
        "granary org list",
        "granary org show acme",
        "granary org remove acme",
        "granary team create acme/dev",
        "granary team list acme",
        "granary team remove acme/dev",
        "granary member list acme/dev",
        "granary member set acme bob admin",
        "granary member remove acme bob",
        "granary robot create acme+ci",
        "granary robot list acme",
        "granary robot remove acme+ci",
        "granary robot token acme+ci build --scope read:acme/** --expires 1h",
        "granary publisher add acme+ci --issuer github --claim repository=acme/app --scope write:acme/app:v* --once --expires 7d",
        "granary publisher list acme",
        "granary publisher remove acme 3",
        "granary grant add acme/dev read,write:acme/** --expires 30d",
        "granary grant list acme",
        "granary grant remove 3",
        "granary namespace bob --owner acme --visibility public --create-by administrators --immutable-tags v*",
        "granary audit list --actor bob --target bob/app --action token.create --after 7 --limit 9 --json",
        "granary audit export --to f --from 2026-01 --through 2026-06 --server s",
        "granary audit verify --file f --keys k --json",
        "granary audit verify --keys k --last 7:4d6e9b68e2234bd6f9639bf2732312a95eb4a71f74cfb2d9bbc7a526cd9d5bf0",
    ] {
        let parsed = Cli::try_parse_from(arguments.split(' '));
        assert!(parsed.is_ok(), "{arguments}");
    }
}

#[test]
fn the_server_may_be_named_before_and_behind_a_command() {
    for arguments in [
        "granary token --server s list",
        "granary token list --server s",
    ] {
        let parsed = Cli::try_parse_from(arguments.split(' ')).unwrap();
        let Command::Client(ClientCommand::Token(at)) = parsed.command else {
            panic!("{arguments} is another command");
        };
        assert_eq!(at.server.server.as_deref(), Some("s"), "{arguments}");
    }
}
