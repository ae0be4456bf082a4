//! Identity providers through which people log in.

use serde::{Deserialize, Serialize};

use super::{
    Secret,
    forms::{list, optional_text},
};

/// `[auth.oidc.NAME]`
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OidcConfig {
    /// Which provider it is; it fills in what is left out.
    pub preset: ProviderPreset,
    /// Its issuer, exactly as it calls itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub issuer: Option<String>,
    /// Our id there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_id: Option<String>,
    /// Our secret there.
    #[serde(with = "optional_text", skip_serializing_if = "Option::is_none")]
    pub client_secret: Option<Secret>,
    /// What is asked for, instead of what the preset asks for.
    #[serde(with = "list")]
    pub scopes: Vec<String>,
    /// The claim that has the groups.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub groups_claim: Option<String>,
    /// Where browsers are sent; of an own GitHub whose addresses are others than usual.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub authorization_url: Option<String>,
    /// Where codes are exchanged, likewise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_url: Option<String>,
    /// Where its API is, likewise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub api_url: Option<String>,
}

pub use granary_providers::ProviderPreset;
