//! Accounts and what proves them.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use serde::{Deserialize, Deserializer, Serialize, de};

use super::{
    OidcConfig,
    forms::{period, size},
};

/// The fewest characters that a password may be asked to have.
const SHORTEST: u64 = 8;
/// The bounds of the memory for a password hash. Several hashes may run at once.
const MEMORY: [u64; 2] = [8 << 20, 256 << 20];
/// The bounds of the passes over it.
const ITERATIONS: [u64; 2] = [1, 16];

/// `[auth]`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AuthConfig {
    /// What those get who show no credentials, once there are accounts.
    pub anonymous: AnonymousAccess,
    /// A file with the 32 bytes that keys in the catalog are encrypted with; without it, one in the data folder.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_file: Option<PathBuf>,
    /// Wrong passwords of a name from an address that are free, before the next one waits; 0 for no limit.
    pub password_failures: u32,
    /// The fewest characters of a new password.
    #[serde(deserialize_with = "min_length")]
    pub password_min_length: u64,
    /// Memory that hashing a password takes.
    #[serde(serialize_with = "size::serialize", deserialize_with = "memory")]
    pub password_memory: u64,
    /// Passes over that memory.
    #[serde(deserialize_with = "iterations")]
    pub password_iterations: u64,
    /// How long a browser's session is good.
    #[serde(with = "period")]
    pub session: Duration,
    /// Identity providers through which people log in, by the names that the operator gives them.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub oidc: BTreeMap<String, OidcConfig>,
}

impl Default for AuthConfig {
    fn default() -> Self {
        Self {
            anonymous: AnonymousAccess::None,
            key_file: None,
            password_failures: 10,
            password_min_length: 12,
            // RFC 9106 and OWASP: 19 MiB and two passes.
            password_memory: 19 << 20,
            password_iterations: 2,
            session: Duration::from_secs(12 * 3600),
            oidc: BTreeMap::new(),
        }
    }
}

/// What those get who show no credentials, once there are accounts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AnonymousAccess {
    /// Nothing.
    #[default]
    None,
    /// To read what is public.
    Read,
    /// To push to it, too.
    Write,
}

fn min_length<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    within(u64::deserialize(deserializer)?, [SHORTEST, 128])
}

fn memory<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    within(size::deserialize(deserializer)?, MEMORY)
}

fn iterations<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    within(u64::deserialize(deserializer)?, ITERATIONS)
}

fn within<E: de::Error>(value: u64, [least, most]: [u64; 2]) -> Result<u64, E> {
    match (least..=most).contains(&value) {
        true => Ok(value),
        false => Err(E::custom(format!(
            "{value} is not between {least} and {most}"
        ))),
    }
}
