//! Shapes of JSON answers, for the OpenAPI document.

use serde::Serialize;
use utoipa::ToSchema;

/// Every error (distribution-spec, "Error Codes").
#[derive(Serialize, ToSchema)]
pub(crate) struct ErrorEnvelope {
    /// What is wrong, one entry or more.
    pub(crate) errors: Vec<ErrorEntry>,
}

/// One error.
#[derive(Serialize, ToSchema)]
pub(crate) struct ErrorEntry {
    /// A code of the specification, such as `MANIFEST_UNKNOWN`.
    pub(crate) code: &'static str,
    /// What was wrong and what to do, for people.
    pub(crate) message: String,
    /// The offending value and what a client can act on.
    pub(crate) detail: serde_json::Value,
}

/// A page of repositories.
#[derive(Serialize, ToSchema)]
pub(crate) struct Catalog {
    /// Names in bytewise order.
    pub(crate) repositories: Vec<String>,
}

/// A page of tags.
#[derive(Serialize, ToSchema)]
pub(crate) struct Tags<'a> {
    /// The repository.
    pub(crate) name: &'a str,
    /// Tags in ASCII order.
    pub(crate) tags: Vec<String>,
}

/// What the registry offers beyond the specification.
#[derive(Serialize, ToSchema)]
pub(crate) struct Extensions {
    /// One entry an extension.
    pub(crate) extensions: Vec<Extension>,
}

/// One extension.
#[derive(Serialize, ToSchema)]
pub(crate) struct Extension {
    /// Its name.
    pub(crate) name: &'static str,
    /// Where it is specified.
    pub(crate) url: &'static str,
    /// What it is.
    pub(crate) description: &'static str,
    /// Its paths below `/v2/`.
    pub(crate) endpoints: Vec<&'static str>,
}
