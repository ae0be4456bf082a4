//! The `granary` command: reads the command line and turns the outcome into an exit code.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use clap::Parser;
use registry_server::{
    accounts, audit,
    cli::{AdminCommand, Cli, Command, ConfigCommand, OutputArgs, SchemaCommand},
    client,
    config::ConfigError,
    groups, maintenance,
    moving::{self, UsageError},
    openapi, providers, publishers, relocation, schema, serve,
};

/// Bad usage or configuration; clap ends with the same.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(cli.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // A closed stderr leaves nobody to tell.
            let _ = writeln!(io::stderr(), "granary: {}", told(&error));
            let usage = error.is::<ConfigError>() || error.is::<UsageError>();
            if usage {
                ExitCode::from(USAGE)
            } else {
                ExitCode::FAILURE
            }
        }
    }
}

/// The error and what led to it. Many errors name their cause themselves, and nobody needs to read it twice.
fn told(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if text.is_empty() {
            text = cause;
        } else if !text.contains(&cause) {
            text.push_str(": ");
            text.push_str(&cause);
        }
    }
    text
}

fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Serve(args) => {
            let config = args.load()?;
            serve::serve(config, args.allow_anonymous)
        }
        Command::Config(ConfigCommand::Check(args)) => check(&args),
        Command::Config(ConfigCommand::Show(args)) => show(&args),
        Command::Gc(args) => maintenance::gc(args.config.load()?, &args),
        Command::Why(args) => maintenance::why(args.config.load()?, &args),
        Command::Scrub(args) => maintenance::scrub(args.config.load()?, &args),
        Command::Import(args) => moving::import(args.config.load()?, &args),
        Command::Export(args) => moving::export(args.config.load()?, &args),
        Command::Backup(args) => relocation::backup(args.config.load()?, &args),
        Command::Restore(args) => relocation::restore(args.config.load()?, &args),
        Command::Migrate(args) => relocation::migrate(&args),
        Command::Admin(command) => admin(&command),
        Command::Openapi => print(&openapi::document()?),
        Command::Client(command) => client::run(&command),
    }
}

fn admin(command: &AdminCommand) -> anyhow::Result<()> {
    match command {
        AdminCommand::Bootstrap(args) => accounts::bootstrap(args),
        AdminCommand::User(command) => accounts::user(command),
        AdminCommand::Token(command) => accounts::token(command),
        AdminCommand::Grant(command) => accounts::grant(command),
        AdminCommand::Org(command) => groups::org(command),
        AdminCommand::Team(command) => groups::team(command),
        AdminCommand::Member(command) => groups::member(command),
        AdminCommand::Robot(command) => groups::robot(command),
        AdminCommand::Issuer(command) => publishers::issuer(command),
        AdminCommand::Keys(command) => publishers::keys(command),
        AdminCommand::Publisher(command) => publishers::publisher(command),
        AdminCommand::Namespace(args) => accounts::namespace(args),
        AdminCommand::Provider(command) => providers::provider(command),
        AdminCommand::Visibility(args) => accounts::visibility(args),
        AdminCommand::Audit(command) => audit::audit(command),
        AdminCommand::Repository(command) => accounts::repository(command),
        AdminCommand::Schema(SchemaCommand::Status(args)) => {
            schema::status(&args.config.load()?, args.json)
        }
        AdminCommand::Schema(SchemaCommand::Up(args)) => {
            schema::up(&args.config.load()?, args.json)
        }
    }
}

fn check(args: &OutputArgs) -> anyhow::Result<()> {
    args.config.load()?;
    print(if args.json {
        "{\"ok\":true}\n"
    } else {
        "the configuration is good\n"
    })
}

fn show(args: &OutputArgs) -> anyhow::Result<()> {
    let config = args.config.load()?;
    if args.json {
        print(&format!("{:#}\n", config.to_json()?))
    } else {
        print(&config.show()?)
    }
}

fn print(text: &str) -> anyhow::Result<()> {
    Ok(io::stdout().lock().write_all(text.as_bytes())?)
}
