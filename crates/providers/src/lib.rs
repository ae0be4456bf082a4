//! Identity providers and CI systems, asked over HTTP: people who log in through others, and tokens of jobs.
//!
//! What came is judged in `granary_identity::oidc`; here is how it is fetched: only from what was configured or from what
//! that names in its discovery document, within a time and a size, never by following a redirect, a few requests at a
//! time. Nothing here knows routes or the catalog, and whoever calls says what time it is.

mod client;
mod error;
mod issuer;
mod kept;
mod provider;
mod settings;

pub use client::{HttpClient, HttpFailure, HttpSettings};
pub use error::ProviderError;
pub use issuer::{IssuerKeys, KeySource};
pub use provider::{CodeExchange, ForeignIdentity, Provider};
pub use settings::{OAuthEndpoints, ProviderPreset, ProviderSettings};
