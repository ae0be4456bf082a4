//! The command line: what can be asked for, not how it is done.

mod admin;
mod audit;
pub mod client;
mod groups;
mod providers;
mod publishers;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::config::{self, Config, ConfigError, LoadOptions};

pub use admin::{
    AdminCommand, BootstrapArgs, CreateByArg, GrantAddArgs, GrantCommand, NamespaceArgs,
    NamespaceChangeArgs, PasswordArgs, RepositoryArgs, RepositoryCommand, SchemaCommand,
    TokenCommand, TokenCreateArgs, TokenRevokeArgs, TokenRotateArgs, UserAddArgs, UserArgs,
    UserCommand, UserPasswordArgs, VisibilityArg, VisibilityArgs,
};

pub use audit::{AuditCommand, AuditExportArgs, AuditListArgs, AuditVerifyArgs, Since};
pub use client::ClientCommand;
pub use groups::{
    AddressArgs, AddressesArgs, MemberArgs, MemberCommand, MemberListArgs, MemberSetArgs, OrgArgs,
    OrgCommand, OrgCreateArgs, OrgListArgs, PartsArgs, RobotArgs, RobotCommand, RoleArg, TeamArgs,
    TeamCommand,
};
pub use providers::{
    MappedRole, ProviderCommand, ProviderGroupArgs, ProviderListArgs, ProviderMapArgs,
    ProviderUnmapArgs,
};
pub use publishers::{
    IssuerAddArgs, IssuerArgs, IssuerChangeArgs, IssuerCommand, KeyArgs, KeysCommand, NumberArgs,
    PublisherAddArgs, PublisherCommand, PublisherListArgs, PublisherRuleArgs,
};

/// An OCI registry: one binary for container images and every other kind of artifact.
#[derive(Debug, Parser)]
#[command(
    name = "granary",
    version,
    about = "An OCI registry: one binary for container images and every other kind of artifact",
    arg_required_else_help = true,
    subcommand_help_heading = "Commands of the server, on its machine",
    after_help = client::help()
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the registry.
    Serve(ServeArgs),
    /// Check or print the configuration.
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Delete what nothing refers to any more.
    Gc(GcArgs),
    /// Say what keeps a blob or a manifest.
    Why(WhyArgs),
    /// Read every stored byte again and compare it with its digest.
    Scrub(ScrubArgs),
    /// Take in the storage of another registry, or an OCI image layout.
    Import(ImportArgs),
    /// Write a repository out as an OCI image layout.
    Export(ExportArgs),
    /// Copy everything into a folder while the service goes on.
    Backup(BackupArgs),
    /// Put a backup into an empty installation.
    Restore(RestoreArgs),
    /// Copy an installation into other databases and stores.
    Migrate(MigrateArgs),
    /// Look after the installation.
    #[command(subcommand)]
    Admin(AdminCommand),
    /// Print the OpenAPI document.
    Openapi,
    /// Ask a server, with an account of one's own.
    #[command(flatten)]
    Client(ClientCommand),
}

/// Where the configuration comes from.
#[derive(Debug, Clone, Default, Args)]
pub struct ConfigArgs {
    /// The configuration file (TOML).
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The folder of the database and the blobs.
    #[arg(long, value_name = "DIR", default_value = config::DEFAULT_DATA)]
    pub data: PathBuf,
}

impl ConfigArgs {
    /// Reads the configuration.
    pub fn load(&self) -> Result<Config, ConfigError> {
        self.load_listening(None)
    }

    fn load_listening(&self, listen: Option<String>) -> Result<Config, ConfigError> {
        Config::load(LoadOptions {
            file: self.config.clone(),
            data: Some(self.data.clone()),
            listen,
        })
    }
}

/// `granary serve`
#[derive(Debug, Args)]
pub struct ServeArgs {
    /// The address to listen on [default: 127.0.0.1:5000].
    #[arg(long, value_name = "ADDR:PORT")]
    pub listen: Option<String>,
    /// Where the configuration comes from.
    #[command(flatten)]
    pub config: ConfigArgs,
    /// Serve whoever reaches the address, although there are no accounts.
    #[arg(long)]
    pub allow_anonymous: bool,
}

impl ServeArgs {
    /// Reads the configuration with the address that was given.
    pub fn load(&self) -> Result<Config, ConfigError> {
        self.config.load_listening(self.listen.clone())
    }
}

/// `granary config`
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Say whether the configuration is good.
    Check(OutputArgs),
    /// Print the configuration as it takes effect, with secrets hidden.
    Show(OutputArgs),
}

/// A command that only reads the configuration.
#[derive(Debug, Args)]
pub struct OutputArgs {
    /// Where the configuration comes from.
    #[command(flatten)]
    pub config: ConfigArgs,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// `granary gc`
#[derive(Debug, Args)]
pub struct GcArgs {
    /// Where the configuration comes from.
    #[command(flatten)]
    pub config: ConfigArgs,
    /// Say what would go, and delete nothing.
    #[arg(long)]
    pub dry_run: bool,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// `granary why`
#[derive(Debug, Args)]
pub struct WhyArgs {
    /// The digest, `sha256:...`.
    pub digest: granary_oci::Digest,
    /// Where the configuration comes from.
    #[command(flatten)]
    pub config: ConfigArgs,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// `granary scrub`
#[derive(Debug, Args)]
pub struct ScrubArgs {
    /// Where the configuration comes from.
    #[command(flatten)]
    pub config: ConfigArgs,
    /// Bytes to read in a second, such as 100MiB.
    #[arg(long, value_name = "BYTES", default_value = "100MiB", value_parser = rate)]
    pub rate: u64,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// `granary import`
#[derive(Debug, Args)]
pub struct ImportArgs {
    /// The storage of a distribution or Harbor registry, or an OCI image layout: a folder, a tar archive, or
    /// s3://BUCKET/PREFIX.
    #[arg(value_name = "PATH|s3://BUCKET/PREFIX", value_parser = source, required_unless_present = "take_ownership")]
    pub source: Option<SourceArg>,
    /// A configuration file whose [storage.s3] says how the source's bucket is reached (endpoint, region, path_style,
    /// ca_file, keys); without it, the installation's own does.
    #[arg(long, value_name = "FILE")]
    pub source_config: Option<PathBuf>,
    /// The repository of a layout; for the storage of a registry, what to put before its names.
    #[arg(long, value_name = "NAME")]
    pub repository: Option<granary_oci::RepositoryName>,
    /// Say what would come, and store nothing.
    #[arg(long)]
    pub dry_run: bool,
    /// Leave blobs where they are: files get a second name in the blob folder, objects of this installation's own bucket are
    /// read in place and never deleted.
    #[arg(long)]
    pub in_place: bool,
    /// Import nothing: copy the objects that an import in place left in the bucket, or those below s3://BUCKET/PREFIX, to
    /// keys of this installation.
    #[arg(long, conflicts_with_all = ["in_place", "dry_run", "repository", "source_config"])]
    pub take_ownership: bool,
    /// Where the configuration comes from.
    #[command(flatten)]
    pub config: ConfigArgs,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// Where an import reads from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SourceArg {
    /// A folder or a tar archive.
    Path(PathBuf),
    /// A part of a bucket.
    Bucket(granary_registry::BucketAddress),
}

fn source(text: &str) -> Result<SourceArg, granary_registry::BucketAddressError> {
    if granary_registry::BucketAddress::is_meant_by(text) {
        return text.parse().map(SourceArg::Bucket);
    }
    Ok(SourceArg::Path(text.into()))
}

/// `granary export`
#[derive(Debug, Args)]
pub struct ExportArgs {
    /// What to export, all of one repository; all its tags if neither tag nor digest is named.
    #[arg(required = true, value_name = "REPOSITORY[:TAG|@DIGEST]")]
    pub references: Vec<granary_registry::ExportReference>,
    /// Where to: a folder, or a tar archive if it ends in .tar.
    #[arg(long, value_name = "PATH")]
    pub to: PathBuf,
    /// Where the configuration comes from.
    #[command(flatten)]
    pub config: ConfigArgs,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// `granary backup`
#[derive(Debug, Args)]
pub struct BackupArgs {
    /// The folder: a new or empty one, or that of an earlier backup, which is brought up to date.
    #[arg(long, value_name = "DIR")]
    pub to: PathBuf,
    /// Where the configuration comes from.
    #[command(flatten)]
    pub config: ConfigArgs,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// `granary restore`
#[derive(Debug, Args)]
pub struct RestoreArgs {
    /// The folder of the backup.
    #[arg(long, value_name = "DIR")]
    pub from: PathBuf,
    /// Where the configuration of the installation comes from that takes it in.
    #[command(flatten)]
    pub config: ConfigArgs,
    /// Read everything again from where it was restored to, and compare it with its digest.
    #[arg(long)]
    pub verify: bool,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// `granary migrate`
#[derive(Debug, Args)]
pub struct MigrateArgs {
    /// The configuration file of the source, or its data folder if it has none. The environment does not count.
    #[arg(long, value_name = "FILE|DIR")]
    pub from: PathBuf,
    /// The configuration file of the target, or its data folder if it has none.
    #[arg(long, value_name = "FILE|DIR")]
    pub to: PathBuf,
    /// The data folder of a source that has a configuration file.
    #[arg(long, value_name = "DIR")]
    pub from_data: Option<PathBuf>,
    /// The data folder of a target that has a configuration file.
    #[arg(long, value_name = "DIR")]
    pub to_data: Option<PathBuf>,
    /// Read everything again from where it was copied to, and compare it with its digest.
    #[arg(long)]
    pub verify: bool,
    /// Copy although the source is served. What is pushed meanwhile stays behind.
    #[arg(long)]
    pub force: bool,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// How long something is good.
pub(crate) fn duration(text: &str) -> Result<std::time::Duration, String> {
    humantime::parse_duration(text).map_err(|error| {
        match !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
            true => format!("write a number with its unit, such as {text}d or {text}h"),
            false => format!("{error}; write a number with its unit, such as 90d"),
        }
    })
}

fn rate(text: &str) -> Result<u64, String> {
    match config::parse_size(text) {
        Ok(0) => Err("a rate of 0 would never end".to_owned()),
        Ok(rate) => Ok(rate),
        Err(error) => Err(format!(
            "{error}; write a number of bytes such as 1000000 or 100MiB"
        )),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn usage_errors_end_with_2() {
        for arguments in [
            &["granary", "serve", "--port", "1"][..],
            &["granary", "scrub", "--rate", "fast"],
            &["granary", "backup"],
            &["granary", "restore", "--to", "d"],
            &["granary", "migrate", "--from", "d"],
            &["granary", "import"],
            &["granary", "import", "s3://bucket/../other"],
            &["granary", "import", "--in-place"],
            &["granary", "import", "--take-ownership", "--dry-run"],
            &["granary", "export", "app"],
            &["granary", "export", "--to", "p"],
            &["granary", "export", "app:", "--to", "p"],
            &["granary", "import", "p", "--repository", "NOT/A/NAME"],
            &["granary", "admin"],
            &["granary", "admin", "bootstrap"],
            &["granary", "admin", "user", "add"],
            &[
                "granary", "admin", "token", "create", "bob", "--scope", "read",
            ],
            &[
                "granary", "admin", "token", "create", "bob", "--scope", "own:a/**",
            ],
            &["granary", "admin", "visibility", "a/b", "hidden"],
            &["granary", "admin", "grant", "add", "bob", "own:a/**"],
            &["granary", "admin", "namespace"],
            &["granary", "admin", "audit"],
            &["granary", "admin", "audit", "export", "--delete"],
            &["granary", "admin", "audit", "export", "--from", "2026-13"],
            &[
                "granary", "admin", "audit", "export", "--to", "f", "--delete", "--from", "2026-01",
            ],
            &["granary", "admin", "audit", "verify", "--last", "7"],
            &["granary", "admin", "audit", "verify", "--file", "f"],
            &["granary", "admin", "audit", "list", "--limit", "0"],
            &["granary", "admin", "audit", "list", "--since", "then"],
        ] {
            assert_eq!(Cli::try_parse_from(arguments).unwrap_err().exit_code(), 2);
        }
    }

    #[test]
    fn the_commands_scripts_rely_on_are_there() {
        for arguments in [
            "granary serve --listen 127.0.0.1:0 --data d --config f --allow-anonymous",
            "granary config check --config f",
            "granary config show --json --data d",
            "granary gc --dry-run --json",
            "granary why sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a --json",
            "granary scrub --rate 1GiB",
            "granary backup --to b --data d --json",
            "granary restore --from b --config f --data d --verify --json",
            "granary migrate --from d --to f --to-data e --verify --force --json",
            "granary import tree --repository old/registry --dry-run --json --data d",
            "granary import s3://old/registry --source-config f --config g",
            "granary import tree --in-place",
            "granary import --take-ownership --json",
            "granary import s3://old --take-ownership",
            "granary export team/app:v1 team/app --to app.tar --json --data d",
            "granary openapi",
            "granary admin bootstrap --user alice --password-stdin --data d",
            "granary admin user add bob --admin --password-stdin --json",
            "granary admin user password bob --password-stdin --config f",
            "granary admin token create bob --name ci --scope read,write:bob/**:v* --scope read:a/b --expires 30d --json",
            "granary admin token revoke 7 --data d",
            "granary admin visibility bob/app public",
            "granary admin user list --json",
            "granary admin user disable bob",
            "granary admin user remove bob --data d",
            "granary admin token list bob",
            "granary admin grant add carol read,write:bob/** --expires 30d",
            "granary admin grant list bob --json",
            "granary admin grant remove 3",
            "granary admin namespace bob --owner carol --visibility public --create-by administrators --immutable-tags v*",
            "granary admin audit verify --json --data d",
            "granary admin audit verify --last 7:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a",
            "granary admin audit verify --file f --keys k",
            "granary admin audit export --from 2026-01 --through 2026-06 --config f",
            "granary admin audit export --to f --through 2026-06 --delete",
            "granary admin audit list --actor bob --target bob/app --action token.create --denied --since 7d --limit 9 --json",
            "granary admin audit list --since 2026-11-01T00:00:00Z",
            "granary admin schema status --json",
            "granary admin schema up --config f",
        ] {
            assert!(
                Cli::try_parse_from(arguments.split(' ')).is_ok(),
                "{arguments}"
            );
        }
    }
}
