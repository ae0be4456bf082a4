//! The configuration: defaults, then the file, then the environment, then flags.
//!
//! Every source goes through the same types key by key, so that an error names where the value
//! stands, its key and what to write instead. This is the only place that reads the environment.

mod auth;
mod client;
mod error;
mod forms;
mod keys;
mod layers;
mod limits;
mod oidc;
mod storage;
mod units;
mod values;

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use serde::{Deserialize, Serialize};

use forms::{duration, list, optional_text, period, text};
use layers::Layers;

pub use auth::{AnonymousAccess, AuthConfig};
pub use client::ClientEnvironment;
pub use error::{ConfigError, Origin};
pub use granary_access::AddressBlock;
pub use limits::{LimitsConfig, Rate};
pub use oidc::{OidcConfig, ProviderPreset};
pub use storage::{DatabaseConfig, FsConfig, RedisConfig, S3Config, StorageConfig, StorageKind};
pub use units::{human_size, parse_size};
pub use values::{
    BadValue, DatabaseUrl, Endpoint, Listen, LogLevel, Namespace, PublicUrl, Secret, SecretUrl,
    ServiceUrl, Untagged,
};

/// Everything `granary serve` can be told, as it takes effect.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The data folder; given by `--data` only.
    #[serde(skip)]
    pub data: PathBuf,
    /// Where and how the server listens.
    pub server: ServerConfig,
    /// Where the catalog lies.
    pub database: DatabaseConfig,
    /// Where bytes lie.
    pub storage: StorageConfig,
    /// What replicas share and may lose.
    pub redis: RedisConfig,
    /// Upload sessions.
    pub uploads: UploadsConfig,
    /// Garbage collection.
    pub gc: GcConfig,
    /// Accounts and what proves them.
    pub auth: AuthConfig,
    /// How many requests may come.
    pub limits: LimitsConfig,
    /// What clients may do.
    pub policy: PolicyConfig,
    /// Tags and their history.
    pub tags: TagsConfig,
    /// The server's log.
    pub log: LogConfig,
    /// Traces.
    pub telemetry: TelemetryConfig,
    #[serde(skip)]
    layers: Layers,
}

/// `[server]`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ServerConfig {
    /// The address of the registry.
    #[serde(with = "text")]
    pub listen: Listen,
    /// The origin clients use, when it is not the address they connect to.
    #[serde(with = "optional_text", skip_serializing_if = "Option::is_none")]
    pub public_url: Option<PublicUrl>,
    /// A PEM file with the certificate and its chain; with `tls_key` it turns TLS on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls_cert: Option<PathBuf>,
    /// The PEM file with the certificate's private key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls_key: Option<PathBuf>,
    /// How long running requests may take to finish after SIGTERM.
    #[serde(with = "duration")]
    pub drain_timeout: Duration,
    /// An address of its own for `/metrics`; without it the registry's address serves it.
    #[serde(with = "optional_text", skip_serializing_if = "Option::is_none")]
    pub metrics_listen: Option<Listen>,
    /// Peers whose `X-Forwarded-For` is believed.
    #[serde(with = "list")]
    pub trusted_proxies: Vec<AddressBlock>,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            listen: Listen::standard(),
            public_url: None,
            tls_cert: None,
            tls_key: None,
            drain_timeout: Duration::from_secs(30),
            metrics_listen: None,
            trusted_proxies: Vec::new(),
        }
    }
}

/// `[uploads]`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct UploadsConfig {
    /// Idle sessions end after this.
    #[serde(with = "period")]
    pub expiry: Duration,
    /// Sessions one principal may have open.
    pub max_per_principal: std::num::NonZeroU32,
}

impl Default for UploadsConfig {
    fn default() -> Self {
        const SESSIONS: std::num::NonZeroU32 = std::num::NonZeroU32::MIN.saturating_add(999);
        Self {
            expiry: Duration::from_secs(86_400),
            max_per_principal: SESSIONS,
        }
    }
}

/// `[gc]`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GcConfig {
    /// How long something stays after nothing refers to it.
    #[serde(with = "duration")]
    pub grace: Duration,
    /// The time between two rounds.
    #[serde(with = "period")]
    pub interval: Duration,
    /// What happens to manifests without a tag.
    #[serde(with = "text")]
    pub untagged: Untagged,
}

impl Default for GcConfig {
    fn default() -> Self {
        Self {
            grace: Duration::from_secs(86_400),
            interval: Duration::from_secs(3600),
            untagged: Untagged::Keep,
        }
    }
}

/// `[policy]`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PolicyConfig {
    /// Whether manifests may refer to content that is not here.
    pub sparse: bool,
    /// Whether clients may delete.
    pub delete: bool,
}

impl Default for PolicyConfig {
    fn default() -> Self {
        Self {
            sparse: false,
            delete: true,
        }
    }
}

/// `[tags]`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TagsConfig {
    /// How long the moves of tags are remembered.
    #[serde(with = "duration")]
    pub history: Duration,
}

impl Default for TagsConfig {
    fn default() -> Self {
        Self {
            history: Duration::from_secs(400 * 86_400),
        }
    }
}

/// `[log]`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogConfig {
    /// The form of a line.
    pub format: LogFormat,
    /// What is logged.
    #[serde(with = "text")]
    pub level: LogLevel,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self {
            format: LogFormat::Text,
            level: LogLevel::standard(),
        }
    }
}

/// The forms of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// `[telemetry]`
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TelemetryConfig {
    /// Where traces go, by OTLP over HTTP; without it none are made.
    #[serde(with = "optional_text", skip_serializing_if = "Option::is_none")]
    pub otlp_endpoint: Option<SecretUrl>,
}

/// The data folder when `--data` is not given.
pub const DEFAULT_DATA: &str = "./granary-data";

/// What the command line says about the configuration.
#[derive(Debug, Clone, Default)]
pub struct LoadOptions {
    /// `--config`
    pub file: Option<PathBuf>,
    /// `--data`
    pub data: Option<PathBuf>,
    /// `--listen`
    pub listen: Option<String>,
}

/// Who may use a server that has no accounts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Anonymous {
    /// This machine only: requests that came through a proxy or by another name are refused.
    Loopback,
    /// Whoever reaches the address, because `--allow-anonymous` says so.
    Anyone,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data: DEFAULT_DATA.into(),
            server: ServerConfig::default(),
            database: DatabaseConfig::default(),
            storage: StorageConfig::default(),
            redis: RedisConfig::default(),
            uploads: UploadsConfig::default(),
            gc: GcConfig::default(),
            auth: AuthConfig::default(),
            limits: LimitsConfig::default(),
            policy: PolicyConfig::default(),
            tags: TagsConfig::default(),
            log: LogConfig::default(),
            telemetry: TelemetryConfig::default(),
            layers: Layers::default(),
        }
        .placed_in(Path::new(DEFAULT_DATA))
    }
}

impl Config {
    /// Reads every source of this process.
    pub fn load(options: LoadOptions) -> Result<Self, ConfigError> {
        Self::load_from(options, layers::environment())
    }

    /// Reads them all but the environment, which is about another installation.
    pub fn load_alone(options: LoadOptions) -> Result<Self, ConfigError> {
        Self::load_from(options, [])
    }

    /// [`Self::load`] with the environment given.
    fn load_from(
        options: LoadOptions,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        let data = options.data.unwrap_or_else(|| DEFAULT_DATA.into());
        if data.to_str().is_none() {
            return Err(ConfigError::Data { data });
        }
        let mut layers = Layers::default();
        if let Some(file) = &options.file {
            layers.add_file(file)?;
        }
        layers.add_environment(environment)?;
        if let Some(listen) = options.listen {
            layers.set("server.listen", listen.into(), Origin::Flag("--listen"))?;
        }
        let config = layers.apply_to(&Self::default().placed_in(&data))?;
        config.check()?;
        Ok(config)
    }

    /// The defaults that depend on the data folder.
    fn placed_in(mut self, data: &Path) -> Self {
        self.database.url = DatabaseUrl::Sqlite(data.join("granary.db"));
        self.storage.fs.root = data.join("blobs");
        self.data = data.to_owned();
        self
    }

    /// What no key can say alone.
    fn check(&self) -> Result<(), ConfigError> {
        let server = &self.server;
        match (&server.tls_cert, &server.tls_key) {
            (Some(_), None) => {
                Err(self.conflict("server.tls_cert", "it needs server.tls_key beside it"))
            }
            (None, Some(_)) => {
                Err(self.conflict("server.tls_key", "it needs server.tls_cert beside it"))
            }
            _ if server.metrics_listen.as_ref() == Some(&server.listen)
                && !server.listen.is_any_port() =>
            {
                Err(self.conflict(
                    "server.metrics_listen",
                    "it is the address of server.listen; leave it out to share",
                ))
            }
            _ => {
                self.check_providers()?;
                self.check_storage()
            }
        }
    }

    /// What identity providers need.
    fn check_providers(&self) -> Result<(), ConfigError> {
        match self.auth.oidc.keys().next() {
            Some(name) if self.server.public_url.is_none() => Err(self.conflict(
                &self.layers.first_below(&format!("auth.oidc.{name}.")),
                "it needs server.public_url, the origin to which the provider sends browsers back",
            )),
            _ => Ok(()),
        }
    }

    /// What the back ends need of each other.
    fn check_storage(&self) -> Result<(), ConfigError> {
        let (storage, s3) = (&self.storage, &self.storage.s3);
        if storage.kind == StorageKind::S3 && s3.bucket.is_empty() {
            return Err(self.conflict("storage.s3.bucket", "storage.kind = \"s3\" needs a bucket"));
        }
        if s3.access_key_id.is_some() != s3.secret_access_key.is_some() {
            return Err(self.conflict(
                "storage.s3.access_key_id",
                "access_key_id and secret_access_key go together; without both, the environment's credentials are used",
            ));
        }
        if storage.kind == StorageKind::Fs && storage.fs.shared && !self.database.url.is_shared() {
            return Err(self.conflict(
                "storage.fs.shared",
                "replicas that share a folder share the catalog too, and SQLite belongs to one process; \
                 set database.url to postgres://..., or leave storage.fs.shared out",
            ));
        }
        if storage.kind == StorageKind::Memory && self.database.url.is_shared() {
            return Err(self.conflict(
                "storage.kind",
                "a store in memory ends with the process, and a PostgreSQL catalog would not; use \"s3\" or \"fs\"",
            ));
        }
        Ok(())
    }

    fn conflict(&self, key: &str, problem: impl Into<String>) -> ConfigError {
        ConfigError::Key {
            origin: self.layers.origin(key),
            key: key.to_owned(),
            problem: problem.into(),
        }
    }

    /// Decides who may use the server while it has no accounts: only this machine, unless
    /// `--allow-anonymous` was given.
    pub fn anonymous(&self, allow_anonymous: bool) -> Result<Anonymous, ConfigError> {
        if allow_anonymous {
            return Ok(Anonymous::Anyone);
        }
        let listen = &self.server.listen;
        let addresses = listen.resolve().map_err(|error| {
            self.conflict(
                "server.listen",
                format!("\"{listen}\" is no address here ({error})"),
            )
        })?;
        if addresses
            .iter()
            .all(|address| address.ip().to_canonical().is_loopback())
        {
            return Ok(Anonymous::Loopback);
        }
        Err(self.conflict(
            "server.listen",
            format!(
                "{listen} can be reached from other machines, and this server has no accounts: whoever reaches it \
                 could push and delete; make the first account with 'granary admin bootstrap --username NAME --data {}', \
                 listen on 127.0.0.1, or accept that with --allow-anonymous",
                self.data.display()
            ),
        ))
    }

    /// The configuration as TOML, with secrets hidden and with where each value comes from.
    pub fn show(&self) -> Result<String, ConfigError> {
        layers::show(self)
    }

    /// The configuration as JSON, with secrets hidden.
    pub fn to_json(&self) -> Result<serde_json::Value, ConfigError> {
        let mut json =
            serde_json::to_value(self).map_err(|error| ConfigError::Show(error.to_string()))?;
        json["data"] = self.data.to_string_lossy().into();
        Ok(json)
    }
}

#[cfg(test)]
mod tests;
