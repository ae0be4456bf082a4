//! The server under test: its address, and the heads of the requests sent to it.

use std::net::{SocketAddr, ToSocketAddrs as _};

use anyhow::{Context as _, bail};

pub(crate) struct Target {
    pub(crate) address: SocketAddr,
    host: String,
    /// Further headers of every request, each with its line end.
    headers: String,
}

impl Target {
    /// `url` is `http://HOST:PORT`; `headers` are lines such as `Authorization: Basic …`.
    pub(crate) fn parse(url: &str, headers: &[String]) -> anyhow::Result<Self> {
        let Some(host) = url.strip_prefix("http://") else {
            bail!("{url}: only http:// URLs can be measured");
        };
        let host = host.trim_end_matches('/');
        if host.contains('/') {
            bail!("{url}: give the URL without a path");
        }
        let address = host
            .to_socket_addrs()
            .with_context(|| format!("{url}: needs the form http://HOST:PORT"))?
            .next()
            .with_context(|| format!("{host} has no address"))?;
        let headers = headers.iter().map(|line| format!("{line}\r\n")).collect();
        Ok(Self {
            address,
            host: host.to_owned(),
            headers,
        })
    }

    /// Renders a head. `headers` are whole lines with their ends; `length` is given for requests that may have a body.
    pub(crate) fn head(
        &self,
        method: &str,
        path: &str,
        headers: &str,
        length: Option<usize>,
    ) -> Vec<u8> {
        let length = length.map_or_else(String::new, |size| format!("Content-Length: {size}\r\n"));
        let (host, common) = (&self.host, &self.headers);
        format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\n{common}{headers}{length}\r\n")
            .into_bytes()
    }
}

/// The path and query of a `Location`, which some servers give with scheme and host.
pub(crate) fn path_of(location: &str) -> &str {
    if location.starts_with('/') {
        return location;
    }
    let Some((_, rest)) = location.split_once("://") else {
        return location;
    };
    rest.find('/').map_or("/", |slash| &rest[slash..])
}

/// Adds the digest to an upload's path, which may have a query already.
pub(crate) fn with_digest(path: &str, digest: &str) -> String {
    let separator = if path.contains('?') { '&' } else { '?' };
    format!("{path}{separator}digest={digest}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_location_may_be_absolute_or_relative() {
        assert_eq!(path_of("http://127.0.0.1:5000/v2/a?b=c"), "/v2/a?b=c");
        assert_eq!(path_of("/v2/a?u=http://x/y"), "/v2/a?u=http://x/y");
    }

    #[test]
    fn a_digest_joins_the_query_that_is_there() {
        assert_eq!(with_digest("/u/1", "sha256:0"), "/u/1?digest=sha256:0");
        assert_eq!(
            with_digest("/u/1?s=2", "sha256:0"),
            "/u/1?s=2&digest=sha256:0"
        );
    }

    #[test]
    fn a_head_ends_with_an_empty_line() {
        let target = Target::parse("http://127.0.0.1:5000/", &["X-A: b".to_owned()]).unwrap();
        assert_eq!(
            target.head("POST", "/v2/", "Accept: c\r\n", Some(0)),
            b"POST /v2/ HTTP/1.1\r\nHost: 127.0.0.1:5000\r\nX-A: b\r\nAccept: c\r\nContent-Length: 0\r\n\r\n"
        );
        assert!(Target::parse("https://127.0.0.1:5000", &[]).is_err());
    }
}
