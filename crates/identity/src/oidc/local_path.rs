//! Where a browser goes after it has logged in.

use std::{fmt, str::FromStr};

use super::told;

/// Longest path.
const MOST_PATH: usize = 2048;

/// Why a text is no place to go to after a log-in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "'{0}' is not a path of this service: write one that starts with a single '/', without '\\', of at most 2048 visible ASCII characters"
)]
pub struct ReturnToError(String);

/// A path of this service, and nothing that a browser could take for another host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReturnTo(String);

impl ReturnTo {
    /// The path, with its query if it has one. It is fit for the header `Location`.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for ReturnTo {
    /// Where a session is shown.
    fn default() -> Self {
        Self("/auth/session".to_owned())
    }
}

impl FromStr for ReturnTo {
    type Err = ReturnToError;

    fn from_str(text: &str) -> Result<Self, ReturnToError> {
        let is_local = text.starts_with('/') && !text.starts_with("//");
        // Browsers take '\' for '/', and leave out line ends and tabs before they look at the slashes.
        let fits = |byte: u8| byte.is_ascii_graphic() && byte != b'\\';
        match is_local && text.len() <= MOST_PATH && text.bytes().all(fits) {
            true => Ok(Self(text.to_owned())),
            false => Err(ReturnToError(told(text))),
        }
    }
}

impl fmt::Display for ReturnTo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use url::Url;

    use super::*;

    const HOME: &str = "https://registry.example.org/auth/callback";

    /// Where a browser goes that is at [`HOME`].
    fn followed(path: &str) -> Url {
        Url::parse(HOME).unwrap().join(path).unwrap()
    }

    #[test]
    fn local_paths_stay_here() {
        let longest = format!("/{}", "a".repeat(2047));
        for good in [
            "/",
            "/auth/session",
            "/a?b=https://evil.example/#c",
            "/%2f/evil.example",
            "/%5cevil.example",
            "/.//evil.example",
            "/@evil.example",
            "/:80",
            "/https://evil.example",
            &longest,
        ] {
            let path: ReturnTo = good.parse().unwrap();
            assert_eq!(path.as_str(), good);
            assert_eq!(
                followed(good).host_str(),
                Some("registry.example.org"),
                "{good}"
            );
        }
        assert_eq!(ReturnTo::default(), "/auth/session".parse().unwrap());
    }

    #[test]
    fn nothing_leads_elsewhere() {
        let long = format!("/{}", "a".repeat(2048));
        for bad in [
            "",
            "a",
            "auth/session",
            "//evil.example",
            "///evil.example",
            "/\\evil.example",
            "\\/evil.example",
            "\\\\evil.example",
            "/a\\b",
            "/\t/evil.example",
            "/\n/evil.example",
            "/\r\nSet-Cookie: a=b",
            "\t//evil.example",
            " //evil.example",
            "/ /evil.example",
            "https://evil.example",
            "https:evil.example",
            "javascript:alert(1)",
            "data:text/html,x",
            "?a",
            "#a",
            ".",
            "/\0",
            "/\u{7f}",
            "/ü",
            "/\u{2215}evil.example",
            "\u{feff}//evil.example",
            &long,
        ] {
            let refused = bad.parse::<ReturnTo>().unwrap_err().to_string();
            assert!(!refused.contains(char::is_control), "{refused:?}");
        }
    }
}
