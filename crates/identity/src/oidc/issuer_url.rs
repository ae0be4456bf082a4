//! Where an issuer and its endpoints are.

use std::{fmt, net::IpAddr, str::FromStr};

use serde::{Deserialize, Serialize};
use url::{Host, Url};

use super::told;

/// Longest URL of an issuer or of one of its endpoints.
const MOST_URL: usize = 2048;

/// Why a text is no URL of an issuer or of one of its endpoints.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UrlRefused {
    /// It is none, or longer than 2048 bytes.
    #[error(
        "'{0}' is not a URL of at most 2048 bytes: write one such as https://login.example.org"
    )]
    Malformed(String),
    /// Its scheme is neither `https` nor, where the issuer's is that, `http`.
    #[error("'{0}' is not https: only an issuer that is itself configured with http may use http")]
    Scheme(String),
    /// It has a user name, a password or a fragment; an issuer's also a query.
    #[error("'{0}' has more than a host, a port and a path: remove the rest")]
    Parts(String),
    /// It names a private address, and the issuer is elsewhere.
    #[error(
        "'{0}' is a private address and not the issuer's own: configure the address of its keys by hand if it is right"
    )]
    Private(String),
}

/// An issuer's identifier, compared as it was written: `https://a` and `https://a/` are two.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct IssuerUrl {
    text: String,
    url: Url,
}

impl IssuerUrl {
    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The host, with its port where that is not the usual one.
    pub fn host(&self) -> String {
        host_of(&self.url)
    }

    /// Where its discovery document is (OpenID Connect Discovery 1.0, section 4).
    pub fn discovery_url(&self) -> Url {
        let mut url = self.url.clone();
        let path = url.path().trim_end_matches('/');
        let path = format!("{path}/.well-known/openid-configuration");
        url.set_path(&path);
        url
    }

    /// Whether it was configured with `http`, so that its endpoints may use that too.
    pub fn is_plain(&self) -> bool {
        self.url.scheme() == "http"
    }

    /// The URL of an endpoint that its discovery document names. A provider on the Internet that names an address of the
    /// internal network would have us ask there.
    pub fn endpoint(&self, text: &str) -> Result<Url, UrlRefused> {
        let url = self.configured(text)?;
        match is_private(&url) && url.host() != self.url.host() {
            true => Err(UrlRefused::Private(told(text))),
            false => Ok(url),
        }
    }

    /// The URL of an endpoint that whoever configured the issuer wrote, which may be a private address.
    pub fn configured(&self, text: &str) -> Result<Url, UrlRefused> {
        let url = parse(text)?;
        match url.scheme() == "https" || self.is_plain() {
            true => Ok(url),
            false => Err(UrlRefused::Scheme(told(text))),
        }
    }
}

impl FromStr for IssuerUrl {
    type Err = UrlRefused;

    fn from_str(text: &str) -> Result<Self, UrlRefused> {
        let url = parse(text)?;
        match url.query() {
            Some(_) => Err(UrlRefused::Parts(told(text))),
            None => Ok(Self {
                text: text.to_owned(),
                url,
            }),
        }
    }
}

impl fmt::Display for IssuerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl TryFrom<String> for IssuerUrl {
    type Error = UrlRefused;

    fn try_from(text: String) -> Result<Self, UrlRefused> {
        text.parse()
    }
}

impl From<IssuerUrl> for String {
    fn from(issuer: IssuerUrl) -> Self {
        issuer.text
    }
}

fn parse(text: &str) -> Result<Url, UrlRefused> {
    // The parser of URLs takes away blanks and line ends, so that two texts would be one URL.
    if text.len() > MOST_URL || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(UrlRefused::Malformed(told(text)));
    }
    let url = Url::parse(text).map_err(|_| UrlRefused::Malformed(told(text)))?;
    if !matches!(url.scheme(), "https" | "http") {
        return Err(UrlRefused::Scheme(told(text)));
    }
    if !url.username().is_empty() || url.password().is_some() || url.fragment().is_some() {
        // What stands there may be a secret.
        return Err(UrlRefused::Parts(host_of(&url)));
    }
    Ok(url)
}

fn host_of(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    match url.port() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    }
}

/// Whether a URL says by itself that it leads to this machine or its network.
fn is_private(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => {
            let name = name.trim_end_matches('.');
            name == "localhost" || name.ends_with(".localhost")
        }
        Some(Host::Ipv4(address)) => is_private_address(IpAddr::V4(address)),
        Some(Host::Ipv6(address)) => is_private_address(IpAddr::V6(address).to_canonical()),
        None => true,
    }
}

fn is_private_address(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => {
            let [first, second, ..] = address.octets();
            // 0.0.0.0/8 is this machine, 100.64.0.0/10 is shared by those behind one provider.
            let is_shared = first == 100 && second & 0xc0 == 64;
            address.is_loopback()
                || address.is_private()
                || address.is_link_local()
                || first == 0
                || is_shared
        }
        IpAddr::V6(address) => {
            address.is_loopback()
                || address.is_unspecified()
                || address.is_unique_local()
                || address.is_unicast_link_local()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn issuer(text: &str) -> IssuerUrl {
        text.parse().unwrap()
    }

    #[test]
    fn an_issuer_is_compared_as_it_was_written() {
        let issuer = issuer("https://accounts.example.org");
        assert_eq!(issuer.as_str(), "https://accounts.example.org");
        assert_eq!(issuer.host(), "accounts.example.org");
        assert_ne!(issuer, "https://accounts.example.org/".parse().unwrap());
        let json = serde_json::to_string(&issuer).unwrap();
        assert_eq!(json, "\"https://accounts.example.org\"");
        assert_eq!(serde_json::from_str::<IssuerUrl>(&json).unwrap(), issuer);
    }

    #[test]
    fn discovery_is_below_the_issuer() {
        for (text, url) in [
            ("https://a", "https://a/.well-known/openid-configuration"),
            ("https://a/", "https://a/.well-known/openid-configuration"),
            (
                "https://a/realms/b",
                "https://a/realms/b/.well-known/openid-configuration",
            ),
            (
                "http://127.0.0.1:8080",
                "http://127.0.0.1:8080/.well-known/openid-configuration",
            ),
        ] {
            assert_eq!(issuer(text).discovery_url().as_str(), url);
        }
    }

    #[test]
    fn what_is_no_issuer_says_why() {
        for bad in [
            "",
            "a",
            "ftp://a",
            "file:///etc/passwd",
            "https://",
            "https://u:secret@a",
            "https://a#b",
            "https://a?b",
            "https://a\n",
            " https://a",
            "https://ä",
        ] {
            let refused = bad.parse::<IssuerUrl>().unwrap_err().to_string();
            assert!(!refused.contains("secret"), "{refused}");
        }
        assert!(
            format!("https://{}", "a".repeat(2048))
                .parse::<IssuerUrl>()
                .is_err()
        );
    }

    #[test]
    fn endpoints_do_not_lead_inside() {
        let public = issuer("https://login.example.org");
        assert!(
            public
                .endpoint("https://keys.example.org:8443/jwks?v=1")
                .is_ok()
        );
        let plain = public.endpoint("http://login.example.org/jwks");
        assert!(matches!(plain, Err(UrlRefused::Scheme(_))));
        for inside in [
            "https://169.254.169.254/latest",
            "https://127.0.0.1/",
            "https://127.1/",
            "https://2130706433/",
            "https://0x7f.0.0.1/",
            "https://0.0.0.0/",
            "https://10.0.0.1:6443/openid/v1/jwks",
            "https://192.168.1.1/",
            "https://172.16.0.1/",
            "https://100.64.0.1/",
            "https://[::1]/",
            "https://[::ffff:127.0.0.1]/",
            "https://[fd00::1]/",
            "https://[fe80::1]/",
            "https://localhost/",
            "https://localhost./",
            "https://a.localhost/",
        ] {
            let refused = public.endpoint(inside);
            assert!(matches!(refused, Err(UrlRefused::Private(_))), "{inside}");
            assert!(public.configured(inside).is_ok(), "{inside}");
        }
        let inner = issuer("http://127.0.0.1:8080");
        assert!(inner.endpoint("http://127.0.0.1:8080/jwks").is_ok());
        assert!(inner.endpoint("http://127.0.0.2:8080/jwks").is_err());
        assert!(inner.endpoint("http://login.example.org/jwks").is_ok());
    }
}
