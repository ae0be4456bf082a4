//! The types that configuration values are parsed into, once, at the edge.

use std::{
    fmt,
    net::{SocketAddr, ToSocketAddrs},
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

use actix_web::http::Uri;
use url::Url;

use super::units::{parse_duration, show_duration};

/// Why a value was refused. It never holds the value of a key that may carry a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadValue(String);

impl BadValue {
    pub(super) fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

/// An address to listen on, `HOST:PORT`; the host may be a name, an IPv4 or a bracketed IPv6 address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listen(String);

impl Listen {
    /// The address when nothing is said.
    pub(super) fn standard() -> Self {
        Self("127.0.0.1:5000".to_owned())
    }

    /// Whether the system chooses the port.
    pub(super) fn is_any_port(&self) -> bool {
        self.0.ends_with(":0")
    }

    /// The socket addresses behind the name.
    pub fn resolve(&self) -> std::io::Result<Vec<SocketAddr>> {
        Ok(self.0.to_socket_addrs()?.collect())
    }
}

impl FromStr for Listen {
    type Err = BadValue;

    fn from_str(text: &str) -> Result<Self, BadValue> {
        let (host, port) = text
            .rsplit_once(':')
            .ok_or_else(|| BadValue::new(format!("\"{text}\" names no port")))?;
        if host.is_empty() {
            return Err(BadValue::new(format!("\"{text}\" names no host")));
        }
        if port.parse::<u16>().is_err() {
            return Err(BadValue::new(format!("\"{port}\" is not a port")));
        }
        if host.contains(':') && text.parse::<SocketAddr>().is_err() {
            return Err(BadValue::new(format!(
                "\"{host}\" is not a host; an IPv6 address goes in [ ]"
            )));
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The origin under which clients reach the server, without a trailing slash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicUrl(String);

impl PublicUrl {
    /// `scheme://host[:port]`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether clients speak TLS with it.
    pub fn is_tls(&self) -> bool {
        self.0.starts_with("https://")
    }

    /// `host[:port]`.
    pub fn authority(&self) -> &str {
        self.0.split_once("://").map_or(&self.0, |(_, host)| host)
    }
}

impl FromStr for PublicUrl {
    type Err = BadValue;

    fn from_str(text: &str) -> Result<Self, BadValue> {
        if !text.starts_with("http://") && !text.starts_with("https://") {
            return Err(BadValue::new("this is not an http:// or https:// URL"));
        }
        let url = Url::parse(text).map_err(|_| BadValue::new("this is not a URL"))?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err(BadValue::new("a public URL holds no credentials"));
        }
        if url.query().is_some() || url.fragment().is_some() || url.path() != "/" {
            return Err(BadValue::new(
                "a registry sits at the root of its host: no path and no query",
            ));
        }
        // As browsers write it in `Origin`, without the port that the scheme has anyway (RFC 6454 section 6.2).
        Ok(Self(url.origin().ascii_serialization()))
    }
}

impl fmt::Display for PublicUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An `http://` URL that may hold credentials: whatever prints it shows `***` in their place.
///
/// It is for collectors nearby; the exporter is built without TLS.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretUrl(Uri);

impl SecretUrl {
    /// The URL with its credentials, for the one call that needs it.
    pub fn expose(&self) -> String {
        self.0.to_string()
    }
}

impl FromStr for SecretUrl {
    type Err = BadValue;

    fn from_str(text: &str) -> Result<Self, BadValue> {
        let uri: Uri = text
            .parse()
            .map_err(|_| BadValue::new("this is not a URL"))?;
        if uri.host().is_none_or(str::is_empty) {
            return Err(BadValue::new("this is not an http:// URL"));
        }
        match uri.scheme_str() {
            Some("http") => Ok(Self(uri)),
            Some("https") => Err(BadValue::new(
                "https is not built in; send to a collector nearby over http",
            )),
            _ => Err(BadValue::new("this is not an http:// URL")),
        }
    }
}

impl fmt::Display for SecretUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hidden(&self.0, f)
    }
}

/// Writes a URL without what may be secret in it.
fn write_hidden(uri: &Uri, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let authority = uri.authority().map_or("", |authority| authority.as_str());
    write!(f, "{}://", uri.scheme_str().unwrap_or_default())?;
    match authority.rsplit_once('@') {
        Some((_, host)) => write!(f, "***@{host}")?,
        None => f.write_str(authority)?,
    }
    f.write_str(uri.path())?;
    if uri.query().is_some() {
        f.write_str("?***")?;
    }
    Ok(())
}

impl fmt::Debug for SecretUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Where the catalog lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DatabaseUrl {
    /// `sqlite://PATH`: a file, created when it is missing.
    Sqlite(PathBuf),
    /// `postgres://USER:PASSWORD@HOST:PORT/DATABASE`: a database, which must exist.
    Postgres(ServiceUrl),
}

impl DatabaseUrl {
    /// The database file, if it is one.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::Sqlite(path) => Some(path),
            Self::Postgres(_) => None,
        }
    }

    /// Whether other processes may use it too.
    pub fn is_shared(&self) -> bool {
        matches!(self, Self::Postgres(_))
    }
}

impl FromStr for DatabaseUrl {
    type Err = BadValue;

    fn from_str(text: &str) -> Result<Self, BadValue> {
        match text.split_once("://") {
            Some(("sqlite", "")) => Err(BadValue::new("\"sqlite://\" names no file")),
            Some(("sqlite", path)) if path.contains('?') => Err(BadValue::new(
                "options after \"?\" are not taken from the URL",
            )),
            Some(("sqlite", path)) => Ok(Self::Sqlite(path.into())),
            Some(("postgres" | "postgresql", _)) => {
                let url: ServiceUrl = text.parse()?;
                if url.0.path().len() < 2 {
                    return Err(BadValue::new("this URL names no database"));
                }
                Ok(Self::Postgres(url))
            }
            Some((scheme, _)) => Err(BadValue::new(format!(
                "the database kind \"{scheme}\" is not known"
            ))),
            None => Err(BadValue::new("this is not a database URL")),
        }
    }
}

impl fmt::Display for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => write!(f, "sqlite://{}", path.display()),
            Self::Postgres(url) => fmt::Display::fmt(url, f),
        }
    }
}

/// The URL of a back end, which may hold credentials: whatever prints it shows `***` in their place.
#[derive(Clone, PartialEq, Eq)]
pub struct ServiceUrl(Uri);

impl ServiceUrl {
    /// The URL with its credentials, for the one call that needs it.
    pub fn expose(&self) -> String {
        self.0.to_string()
    }
}

impl FromStr for ServiceUrl {
    type Err = BadValue;

    fn from_str(text: &str) -> Result<Self, BadValue> {
        let bad = || {
            BadValue::new(
                "this is no URL with a host; percent-encode what is special in a password",
            )
        };
        let uri: Uri = text.parse().map_err(|_| bad())?;
        if uri.scheme().is_none() || uri.host().is_none_or(str::is_empty) {
            return Err(bad());
        }
        Ok(Self(uri))
    }
}

impl fmt::Display for ServiceUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hidden(&self.0, f)
    }
}

impl fmt::Debug for ServiceUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Where an S3 server is: an `http://` or `https://` origin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint(PublicUrl);

impl Endpoint {
    /// `scheme://host[:port]`.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl FromStr for Endpoint {
    type Err = BadValue;

    fn from_str(text: &str) -> Result<Self, BadValue> {
        let bad = || BadValue::new("this is no http:// or https:// origin without a path");
        text.parse().map(Self).map_err(|_| bad())
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The first segment of repository names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Namespace(String);

impl Namespace {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Namespace {
    type Err = BadValue;

    fn from_str(text: &str) -> Result<Self, BadValue> {
        match text.parse::<granary_oci::RepositoryName>() {
            Ok(_) if !text.contains('/') => Ok(Self(text.to_owned())),
            _ => Err(BadValue::new(format!(
                "\"{text}\" is not the name of a namespace"
            ))),
        }
    }
}

impl fmt::Display for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A text that nothing prints.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// The text, for the one call that needs it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl FromStr for Secret {
    type Err = BadValue;

    fn from_str(text: &str) -> Result<Self, BadValue> {
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// What garbage collection does with manifests that no tag names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Untagged {
    /// They stay.
    Keep,
    /// They go this long after their last tag was lost.
    After(Duration),
}

impl FromStr for Untagged {
    type Err = BadValue;

    fn from_str(text: &str) -> Result<Self, BadValue> {
        if text == "keep" {
            Ok(Self::Keep)
        } else {
            parse_duration(text).map(Self::After)
        }
    }
}

impl fmt::Display for Untagged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Keep => f.write_str("keep"),
            Self::After(age) => f.write_str(&show_duration(*age)),
        }
    }
}

/// The least important level to log, or a full `tracing` filter such as `info,granary_catalog=debug`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLevel(String);

impl LogLevel {
    /// The level when nothing is said.
    pub(super) fn standard() -> Self {
        Self("info".to_owned())
    }

    /// The filter's text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for LogLevel {
    type Err = BadValue;

    fn from_str(text: &str) -> Result<Self, BadValue> {
        const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
        // A filter takes a bare word as a module's name, so that a misspelt level would silence everything.
        for part in text.split(',') {
            if !part.contains(['=', ':', '['])
                && !LEVELS.contains(&part.trim().to_ascii_lowercase().as_str())
            {
                return Err(BadValue::new(format!("\"{part}\" is not a level")));
            }
        }
        tracing_subscriber::EnvFilter::try_new(text)
            .map_err(|error| BadValue::new(format!("\"{text}\" is not a filter ({error})")))?;
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for LogLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests;
