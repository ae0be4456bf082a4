//! Kinds of issuers, and which of their claims say who somebody is.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use super::{ClaimPattern, ClaimRuleError, told};

/// What kind of issuer one is, and so which of its claims say who somebody is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum IssuerPreset {
    /// GitHub Actions.
    GitHub,
    /// GitLab CI.
    GitLab,
    /// Service accounts of a Kubernetes cluster.
    Kubernetes,
    /// Any other issuer.
    Plain,
}

impl IssuerPreset {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::GitHub, Self::GitLab, Self::Kubernetes, Self::Plain];

    /// Its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::GitHub => "github",
            Self::GitLab => "gitlab",
            Self::Kubernetes => "kubernetes",
            Self::Plain => "plain",
        }
    }

    /// The issuer, where there is one for the whole world. Own instances have their own.
    pub const fn default_issuer(self) -> Option<&'static str> {
        match self {
            Self::GitHub => Some("https://token.actions.githubusercontent.com"),
            Self::GitLab => Some("https://gitlab.com"),
            Self::Kubernetes | Self::Plain => None,
        }
    }

    /// How a job asks for a token for this service, for whoever sets an issuer up.
    pub const fn audience_help(self) -> &'static str {
        match self {
            Self::GitHub => {
                "the job needs `permissions: id-token: write` and asks with `&audience=<host of this registry>`"
            }
            Self::GitLab => "the job has `id_tokens: {TOKEN: {aud: <host of this registry>}}`",
            Self::Kubernetes => {
                "the pod has a projected volume with `serviceAccountToken: {audience: <host of this registry>}`"
            }
            Self::Plain => "the issuer puts the host of this registry into `aud`",
        }
    }

    /// Which claims say who somebody is, and what their patterns must have.
    pub const fn claims_help(self) -> &'static str {
        match self {
            Self::GitHub => {
                "give repository ('acme/app') or sub ('repo:acme/app:*') with an owner and '/' before the first '*', or repository_id, repository_owner or repository_owner_id without any '*'; ids also tell a repository from a later one of the same name. ref, environment and job_workflow_ref narrow further"
            }
            Self::GitLab => {
                "give project_path ('acme/app'), namespace_path or sub ('project_path:acme/app:*') with a group and '/' before the first '*', or project_id or namespace_id without any '*'. ref, ref_protected and environment narrow further"
            }
            Self::Kubernetes => {
                "give sub ('system:serviceaccount:NAMESPACE:NAME') with the namespace and ':' before the first '*', or kubernetes.io.namespace without any '*'"
            }
            Self::Plain => {
                "give sub without any '*', or with at least two of its parts, each ended by ':' or '/', before the first '*'"
            }
        }
    }

    /// Whether `pattern` of the claim `name` leaves out most of the issuer's tokens.
    pub(super) fn identifies(self, name: &str, pattern: &ClaimPattern) -> bool {
        let Some(stem) = pattern.stem() else {
            // It has no star.
            return self.exact_names().contains(&name);
        };
        match (self, name) {
            (Self::GitHub, "repository") | (Self::GitLab, "project_path" | "namespace_path") => {
                has_owner(stem)
            }
            (Self::GitHub, "sub") => stem.strip_prefix("repo:").is_some_and(has_owner),
            (Self::GitLab, "sub") => stem.strip_prefix("project_path:").is_some_and(has_owner),
            (Self::Kubernetes, "sub") => stem
                .strip_prefix("system:serviceaccount:")
                .and_then(|rest| rest.split_once(':'))
                .is_some_and(|(namespace, _)| !namespace.is_empty()),
            (Self::Plain, "sub") => {
                let stem = stem.split_once("://").map_or(stem, |(_, rest)| rest);
                let parts = stem.split([':', '/']);
                // What is behind the last separator is a part that has not ended.
                parts.filter(|part| !part.is_empty()).count() >= 2 + usize::from(!ends_part(stem))
            }
            _ => false,
        }
    }

    /// The claims that say who somebody is if they are given without a star.
    const fn exact_names(self) -> &'static [&'static str] {
        match self {
            Self::GitHub => &[
                "sub",
                "repository",
                "repository_id",
                "repository_owner",
                "repository_owner_id",
            ],
            Self::GitLab => &[
                "sub",
                "project_path",
                "project_id",
                "namespace_path",
                "namespace_id",
            ],
            Self::Kubernetes => &["sub", "kubernetes.io.namespace"],
            Self::Plain => &["sub"],
        }
    }
}

/// Whether a text has an owner before its first slash.
fn has_owner(stem: &str) -> bool {
    stem.split_once('/')
        .is_some_and(|(owner, _)| !owner.is_empty())
}

fn ends_part(stem: &str) -> bool {
    stem.ends_with([':', '/'])
}

impl FromStr for IssuerPreset {
    type Err = ClaimRuleError;

    fn from_str(text: &str) -> Result<Self, ClaimRuleError> {
        Self::ALL
            .into_iter()
            .find(|preset| preset.as_str() == text)
            .ok_or_else(|| ClaimRuleError::Preset(told(text)))
    }
}

impl fmt::Display for IssuerPreset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
