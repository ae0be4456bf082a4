//! Repository names (distribution-spec, "Pulling manifests").

use std::{fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::digest::excerpt;

/// Why a text is no repository name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{value}' is not a repository name: {rule}")]
pub struct NameError {
    /// The offending text, cut to a bounded length.
    pub value: String,
    /// The rule it breaks, as a remedy.
    pub rule: &'static str,
}

/// A repository name: path components of lower-case letters and digits, parted by `.`, `_`, `__` or dashes,
/// joined by `/`, at most 255 bytes.
///
/// Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RepositoryName(Arc<str>);

/// Most bytes of a name; clients limit host and name together to 255.
const MAX_LENGTH: usize = 255;

impl RepositoryName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The namespace that owns it: the first of several segments, or `library` for a one-segment name
    /// (decision 22).
    pub fn namespace(&self) -> &str {
        self.0.split_once('/').map_or("library", |(first, _)| first)
    }
}

impl FromStr for RepositoryName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let refuse = |rule| NameError {
            value: excerpt(text),
            rule,
        };
        if text.len() > MAX_LENGTH {
            return Err(refuse("it may have at most 255 bytes"));
        }
        if text.split('/').all(is_component) {
            Ok(Self(text.into()))
        } else {
            Err(refuse(
                "use lower-case letters and digits, with single '.', '_', '__' or dashes between them, and '/' between parts",
            ))
        }
    }
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`
fn is_component(component: &str) -> bool {
    let alphanumeric = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = component.as_bytes();
    let (Some(first), Some(last)) = (bytes.first(), bytes.last()) else {
        return false;
    };
    if !alphanumeric(first) || !alphanumeric(last) {
        return false;
    }
    bytes.split(alphanumeric).all(|separator| {
        matches!(separator, b"" | b"." | b"_" | b"__") || separator.iter().all(|&b| b == b'-')
    })
}

impl fmt::Display for RepositoryName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for RepositoryName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for RepositoryName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for RepositoryName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_the_specification() {
        for good in [
            "a",
            "alpine",
            "a/b",
            "a/b/c/d",
            "a.b",
            "a_b",
            "a__b",
            "a-b",
            "a---b",
            "0/1",
            "a.b-c__d/e",
        ] {
            assert!(good.parse::<RepositoryName>().is_ok(), "{good}");
        }
        for bad in [
            "",
            "/",
            "a/",
            "/a",
            "a//b",
            "A",
            "a..b",
            "a___b",
            "a._b",
            ".a",
            "a.",
            "-a",
            "a-",
            "a b",
            "a/../b",
            "..",
            "a/./b",
            "a%2fb",
            "a\0b",
            "é",
            "a/b\n",
            "a_-b",
            &"a".repeat(256),
        ] {
            assert!(bad.parse::<RepositoryName>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn one_segment_belongs_to_library() {
        assert_eq!(
            "alpine".parse::<RepositoryName>().unwrap().namespace(),
            "library"
        );
        assert_eq!(
            "team/app/x".parse::<RepositoryName>().unwrap().namespace(),
            "team"
        );
    }
}
