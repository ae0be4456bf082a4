//! Where a server is, as people write it and as it is asked.

use std::{fmt, str::FromStr};

use reqwest::Url;

use crate::moving::UsageError;

/// A server: a scheme, a host and a port, nothing behind them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ServerUrl(Url);

impl ServerUrl {
    /// Whether what is sent there can be read on the way.
    pub(super) fn is_readable_by_others(&self) -> bool {
        self.0.scheme() == "http" && !self.is_here()
    }

    /// The same server without TLS, if it is asked with TLS.
    pub(super) fn without_tls(&self) -> Option<String> {
        let origin = self.to_string();
        let rest = origin.strip_prefix("https://")?;
        let port = match self.0.port() {
            Some(_) => "",
            None => ":443",
        };
        Some(format!("http://{rest}{port}"))
    }

    /// The port that is asked because no other is written.
    pub(super) fn usual_port(&self) -> Option<u16> {
        match self.0.port() {
            Some(_) => None,
            None => self.0.port_or_known_default(),
        }
    }

    /// Whether it is this machine.
    pub(super) fn is_here(&self) -> bool {
        let host = self.0.host_str().unwrap_or_default();
        let number = host.trim_start_matches('[').trim_end_matches(']');
        match number.parse::<std::net::IpAddr>() {
            Ok(address) => address.is_loopback(),
            Err(_) => host == "localhost" || host.ends_with(".localhost"),
        }
    }

    /// The address of what `parts` name below `/api/v1`.
    pub(super) fn at(&self, parts: &[&str], query: &[(&str, String)]) -> Result<Url, UsageError> {
        let mut url = self.0.clone();
        for part in parts {
            // What a path cannot say: it would be the path of something else.
            if ["", ".", ".."].contains(part) {
                return Err(UsageError(format!("'{part}' is no name")));
            }
        }
        if let Ok(mut path) = url.path_segments_mut() {
            path.extend(["api", "v1"]).extend(parts);
        }
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        Ok(url)
    }
}

impl fmt::Display for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.origin().ascii_serialization())
    }
}

impl FromStr for ServerUrl {
    type Err = UsageError;

    /// Reads a URL, or a host with or without a port: that is https, unless it is this machine.
    fn from_str(text: &str) -> Result<Self, UsageError> {
        // The text stays out, because people write passwords into URLs.
        let bad = || {
            UsageError(
                "a server is a name or URL such as registry.example.org, localhost:5000 or http://10.0.0.7:5000, without a path or a user"
                    .to_owned(),
            )
        };
        let is_whole = text.contains("://");
        let parse = |scheme: &str| {
            let url = match is_whole {
                true => Url::parse(text),
                false => Url::parse(&format!("{scheme}://{text}")),
            };
            url.map(Self).map_err(|_| bad())
        };
        let mut server = parse("https")?;
        if !is_whole && server.is_here() {
            server = parse("http")?;
        }
        let url = &server.0;
        let is_bare = url.username().is_empty()
            && url.password().is_none()
            && url.path() == "/"
            && url.query().is_none()
            && url.fragment().is_none();
        match is_bare && ["http", "https"].contains(&url.scheme()) && url.has_host() {
            true => Ok(server),
            false => Err(bad()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(text: &str) -> String {
        text.parse::<ServerUrl>().unwrap().to_string()
    }

    #[test]
    fn a_server_is_https_unless_it_is_here_or_said_otherwise() {
        for (text, meant) in [
            ("registry.example.org", "https://registry.example.org"),
            (
                "Registry.Example.org:5000",
                "https://registry.example.org:5000",
            ),
            (
                "http://registry.example.org/",
                "http://registry.example.org",
            ),
            ("10.0.0.7:5000", "https://10.0.0.7:5000"),
            ("localhost:5000", "http://localhost:5000"),
            ("localhost:443", "http://localhost:443"),
            ("127.0.0.1", "http://127.0.0.1"),
            ("[::1]:5000", "http://[::1]:5000"),
            ("https://localhost:5000", "https://localhost:5000"),
            ("localhost.example.org", "https://localhost.example.org"),
        ] {
            assert_eq!(server(text), meant);
        }
    }

    #[test]
    fn what_is_no_server_is_refused_without_repeating_it() {
        for text in [
            "",
            "http://",
            "ftp://registry",
            "https://bob:hunter2@registry",
            "https://hunter2@registry",
            "registry/hunter2",
            "registry?hunter2",
            "registry#hunter2",
            "a b",
        ] {
            let error = text.parse::<ServerUrl>().unwrap_err().to_string();
            assert!(error.contains("a server is"), "{text}: {error}");
            assert!(!error.contains("hunter2"), "{text}: {error}");
        }
    }

    #[test]
    fn a_name_stays_one_part_of_the_path() {
        let server: ServerUrl = "localhost".parse().unwrap();
        let url = server.at(&["orgs", "a/../b?c#d%2f"], &[("after", "e&f=g".to_owned())]);
        let url = url.unwrap();
        assert_eq!(
            url.as_str(),
            "http://localhost/api/v1/orgs/a%2F..%2Fb%3Fc%23d%252f?after=e%26f%3Dg"
        );
        for name in ["", ".", ".."] {
            assert!(server.at(&["orgs", name], &[]).is_err(), "{name}");
        }
    }
}
