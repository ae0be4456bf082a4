//! What an identity provider is configured with.

use std::fmt;

use granary_identity::Secret;
use serde::{Deserialize, Serialize};

/// Which provider one is; it fills in what was left out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ProviderPreset {
    /// Any provider with discovery.
    #[default]
    Generic,
    /// accounts.google.com. It knows no groups.
    Google,
    /// gitlab.com or an own GitLab; `groups` come from its userinfo endpoint.
    GitLab,
    /// A realm of a Keycloak; `groups` need a mapper of the kind "Group Membership" in the client's scope.
    Keycloak,
    /// github.com or an own GitHub, by plain OAuth2; groups are teams as `organisation/team`.
    GitHub,
}

impl ProviderPreset {
    /// Its name in the configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Generic => "generic",
            Self::Google => "google",
            Self::GitLab => "gitlab",
            Self::Keycloak => "keycloak",
            Self::GitHub => "github",
        }
    }

    pub(crate) const fn issuer(self) -> Option<&'static str> {
        match self {
            Self::Google => Some("https://accounts.google.com"),
            Self::GitLab => Some("https://gitlab.com"),
            Self::GitHub => Some("https://github.com"),
            Self::Generic | Self::Keycloak => None,
        }
    }

    pub(crate) const fn scopes(self) -> &'static [&'static str] {
        match self {
            Self::Generic | Self::Google | Self::GitLab | Self::Keycloak => {
                &["openid", "profile", "email"]
            }
            Self::GitHub => &["read:user", "read:org"],
        }
    }

    pub(crate) const fn groups_claim(self) -> Option<&'static str> {
        match self {
            Self::GitLab | Self::Keycloak => Some("groups"),
            Self::Generic | Self::Google | Self::GitHub => None,
        }
    }
}

impl fmt::Display for ProviderPreset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Where a provider without discovery is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OAuthEndpoints {
    /// Where browsers are sent.
    pub authorization: String,
    /// Where codes are exchanged.
    pub token: String,
    /// Where the API is that has `/user` and `/user/teams`, without a slash at its end.
    pub api: String,
}

/// An identity provider as it is configured.
#[derive(Clone, Debug)]
pub struct ProviderSettings {
    /// Its name in our URLs and messages: 1 to 64 lower-case letters, digits and `-`.
    pub name: String,
    /// Which it is.
    pub preset: ProviderPreset,
    /// Its issuer; the preset's if nothing.
    pub issuer: Option<String>,
    /// Our id there.
    pub client_id: String,
    /// Our secret there; clients that have none rely on PKCE.
    pub client_secret: Option<Secret>,
    /// What is asked for; the preset's if empty.
    pub scopes: Vec<String>,
    /// The claim that has the groups, such as `groups` or `realm_access.roles`; the preset's if nothing.
    pub groups_claim: Option<String>,
    /// For an own GitHub; others have discovery.
    pub endpoints: Option<OAuthEndpoints>,
}
