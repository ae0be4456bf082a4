//! Where everything lies: the sections of the back ends.

use std::{num::NonZeroU32, path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};

use super::{
    DEFAULT_DATA,
    forms::{list, optional_text, period, size, text},
    values::{DatabaseUrl, Endpoint, Namespace, Secret, ServiceUrl},
};

/// The largest blob that may be kept in the catalog itself.
const INLINE_LIMIT: u64 = 1 << 20;

/// `[database]`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DatabaseConfig {
    /// Where the catalog lies.
    #[serde(with = "text")]
    pub url: DatabaseUrl,
    /// Connections that this process holds open at most; SQLite has its own number.
    pub max_connections: NonZeroU32,
}

impl Default for DatabaseConfig {
    fn default() -> Self {
        const CONNECTIONS: NonZeroU32 = NonZeroU32::MIN.saturating_add(19);
        Self {
            url: DatabaseUrl::Sqlite(DEFAULT_DATA.into()),
            max_connections: CONNECTIONS,
        }
    }
}

/// `[storage]`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StorageConfig {
    /// Which store holds the bytes.
    pub kind: StorageKind,
    /// Blobs up to this many bytes lie in the catalog.
    #[serde(serialize_with = "size::serialize", deserialize_with = "inline_max")]
    pub inline_max: u64,
    /// `[storage.fs]`
    pub fs: FsConfig,
    /// `[storage.s3]`
    pub s3: S3Config,
}

impl Default for StorageConfig {
    fn default() -> Self {
        Self {
            kind: StorageKind::Fs,
            inline_max: 65_536,
            fs: FsConfig::default(),
            s3: S3Config::default(),
        }
    }
}

fn inline_max<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    let size = size::deserialize(deserializer)?;
    if size > INLINE_LIMIT {
        return Err(serde::de::Error::custom(format!(
            "{size} bytes are more than 1MiB"
        )));
    }
    Ok(size)
}

/// The kinds of store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StorageKind {
    /// Files below `[storage.fs] root`.
    Fs,
    /// A bucket, as `[storage.s3]` says.
    S3,
    /// Nothing outlives the process: for trials and tests.
    Memory,
}

/// `[storage.fs]`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FsConfig {
    /// The folder of the blobs.
    pub root: PathBuf,
    /// Below this much free space uploads are refused.
    #[serde(with = "size")]
    pub reserve: u64,
    /// Whether several processes use the folder at the same time; it needs a catalog that they share too.
    pub shared: bool,
}

impl Default for FsConfig {
    fn default() -> Self {
        Self {
            root: DEFAULT_DATA.into(),
            reserve: 256 << 20,
            shared: false,
        }
    }
}

/// `[storage.s3]`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct S3Config {
    /// Where the server is; without it, Amazon's address of the region.
    #[serde(with = "optional_text")]
    pub endpoint: Option<Endpoint>,
    /// Where clients reach it, for redirects; without it, `endpoint`.
    #[serde(with = "optional_text")]
    pub public_endpoint: Option<Endpoint>,
    /// The region that requests are signed for.
    pub region: String,
    /// The bucket, which must exist.
    pub bucket: String,
    /// What every key in the bucket begins with.
    pub prefix: String,
    /// The key that requests are signed with; without it, the environment's credentials.
    pub access_key_id: Option<String>,
    /// Its secret.
    #[serde(with = "optional_text")]
    pub secret_access_key: Option<Secret>,
    /// Whether the bucket stands in the path instead of the host's name.
    pub path_style: bool,
    /// Whether pulls are sent on to the bucket by presigned URLs.
    pub redirect: bool,
    /// Smaller blobs are served by this process all the same.
    #[serde(with = "size")]
    pub redirect_min: u64,
    /// Namespaces whose pulls are never sent on.
    #[serde(with = "list")]
    pub redirect_except: Vec<Namespace>,
    /// How long a presigned URL is good.
    #[serde(with = "period")]
    pub presign_ttl: Duration,
    /// Certificates of authorities to trust beside the system's, as PEM.
    pub ca_file: Option<PathBuf>,
}

impl Default for S3Config {
    fn default() -> Self {
        Self {
            endpoint: None,
            public_endpoint: None,
            region: "us-east-1".to_owned(),
            bucket: String::new(),
            prefix: String::new(),
            access_key_id: None,
            secret_access_key: None,
            path_style: false,
            redirect: false,
            redirect_min: 1 << 20,
            redirect_except: Vec::new(),
            presign_ttl: Duration::from_secs(60),
            ca_file: None,
        }
    }
}

/// `[redis]`
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RedisConfig {
    /// Where it is; without it, nothing is shared but the catalog.
    #[serde(with = "optional_text")]
    pub url: Option<ServiceUrl>,
}
