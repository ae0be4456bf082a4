//! Who asks.

use std::{fmt, net::IpAddr, str::FromStr, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::{Scopes, TokenAccess};

/// The number of a principal in the catalog; never given to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PrincipalId(pub i64);

/// The number of a credential in the catalog; never given to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CredentialId(pub i64);

/// Why a text is no handle.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{value}' cannot be the name of a user or an organisation: {rule}")]
pub struct HandleError {
    /// The offending text, cut to a bounded length.
    pub value: String,
    /// The rule it breaks, as a remedy.
    pub rule: &'static str,
}

/// The unique name of a user or an organisation. It is also the name of a namespace, so it is one component of a
/// repository name, of 2 to 64 bytes.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Handle(Arc<str>);

/// Names that would be taken for something else.
const RESERVED: [&str; 9] = [
    "library",
    "token",
    "anonymous",
    "operator",
    "granary",
    "system",
    "gc",
    "api",
    "v2",
];

impl Handle {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Handle {
    type Err = HandleError;

    fn from_str(text: &str) -> Result<Self, HandleError> {
        let refuse = |rule| {
            Err(HandleError {
                value: text.chars().take(80).flat_map(char::escape_debug).collect(),
                rule,
            })
        };
        if !(2..=64).contains(&text.len()) {
            return refuse("it has 2 to 64 bytes");
        }
        if text.contains('/') || text.parse::<granary_oci::RepositoryName>().is_err() {
            return refuse(
                "use lower-case letters and digits, with single '.', '_', '__' or dashes between them",
            );
        }
        if RESERVED.contains(&text) {
            return refuse("this name is kept for Granary itself");
        }
        Ok(Self(text.into()))
    }
}

impl fmt::Display for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for Handle {
    type Error = HandleError;

    fn try_from(text: String) -> Result<Self, HandleError> {
        text.parse()
    }
}

impl From<Handle> for String {
    fn from(handle: Handle) -> Self {
        handle.0.to_string()
    }
}

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Principal {
    /// Whoever reaches a server that has no accounts. The edge lets in only whom the operator wants.
    Local,
    /// Nobody in particular, where there are accounts.
    Anonymous,
    /// A user or robot who proved it.
    Known {
        /// Its number.
        id: PrincipalId,
        /// Its name, for history and logs.
        name: Arc<str>,
        /// What proved it, and what that caps.
        credential: Credential,
    },
    /// A command of the machine's operator, on the data folder or its control socket.
    Operator,
}

impl Principal {
    /// The name that history and sessions keep.
    pub fn name(&self) -> &str {
        match self {
            Self::Local | Self::Anonymous => "anonymous",
            Self::Known { name, .. } => name,
            Self::Operator => "operator",
        }
    }

    /// What upload sessions are bound to. A name may go to another principal one day, a number does not.
    pub fn key(&self) -> String {
        match self {
            Self::Known { id, .. } => format!("#{}", id.0),
            other => other.name().to_owned(),
        }
    }

    /// The same without what a token of the token service caps.
    #[must_use]
    pub fn without_token(&self) -> Self {
        let mut principal = self.clone();
        if let Self::Known { credential, .. } = &mut principal {
            credential.token = None;
        }
        principal
    }

    /// Its number and that of what proved it, if it has them.
    pub fn ids(&self) -> Option<(PrincipalId, CredentialId)> {
        match self {
            Self::Known { id, credential, .. } => Some((*id, credential.id)),
            _ => None,
        }
    }
}

/// Where a request comes from: for lists of addresses, and for the audit log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// The client's address, as far as it can be believed. A command of the operator has none.
    pub address: Option<IpAddr>,
    /// The request's name in logs; empty if it is none.
    pub request: Arc<str>,
}

/// Who asks, and from where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// Who.
    pub principal: Principal,
    /// From where.
    pub origin: Origin,
}

impl Caller {
    /// A command of the machine's operator.
    pub fn operator() -> Self {
        Self::from(&Principal::Operator)
    }

    /// The same without what a token of the token service caps.
    #[must_use]
    pub fn without_token(&self) -> Self {
        Self {
            principal: self.principal.without_token(),
            origin: self.origin.clone(),
        }
    }
}

impl From<&Principal> for Caller {
    fn from(principal: &Principal) -> Self {
        Self {
            principal: principal.clone(),
            origin: Origin::default(),
        }
    }
}

impl From<&Self> for Caller {
    fn from(caller: &Self) -> Self {
        caller.clone()
    }
}

/// What proved a principal. A token proves who somebody is and caps what he may do; rights come from the catalog
/// (decision 25).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credential {
    /// Its row.
    pub id: CredentialId,
    /// What it caps.
    pub scopes: Scopes,
    /// What the token service granted, if a token of its is what was shown.
    pub token: Option<TokenAccess>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn handles_are_names_of_namespaces() {
        for good in ["alice", "a1", "my-org", "a.b", "a__b"] {
            assert_eq!(good.parse::<Handle>().unwrap().as_str(), good);
        }
        let long = "a".repeat(65);
        for bad in [
            "", "a", "Alice", "a/b", "a b", "-a", "a:b", "ü1", "library", "token", &long,
        ] {
            assert!(bad.parse::<Handle>().is_err(), "{bad}");
        }
    }
}
