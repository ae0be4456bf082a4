//! The head of an HTTP/1.1 response, as far as a load generator must understand it.

use std::io;

/// How the end of the body is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    Length(u64),
    Chunked,
    UntilClose,
}

#[derive(Debug)]
pub(crate) struct Head {
    pub(crate) status: u16,
    pub(crate) framing: Framing,
    /// The server ends the connection after this response.
    pub(crate) close: bool,
    pub(crate) location: Option<String>,
}

/// Parses a head without its closing empty line.
pub(crate) fn parse(head: &[u8]) -> io::Result<Head> {
    let text = std::str::from_utf8(head).map_err(|_| malformed("response head is not UTF-8"))?;
    let mut lines = text.split("\r\n");
    let status_line = lines.next().unwrap_or_default();
    let status = status_line
        .strip_prefix("HTTP/1.")
        .and_then(|rest| rest.get(2..5))
        .and_then(|code| code.parse().ok())
        .ok_or_else(|| malformed("no HTTP/1 status line"))?;
    let mut parsed = Head {
        status,
        framing: Framing::UntilClose,
        close: false,
        location: None,
    };
    for line in lines {
        if let Some((name, value)) = line.split_once(':') {
            parsed.take(name, value.trim())?;
        }
    }
    if matches!(status, 100..=199 | 204 | 304) {
        parsed.framing = Framing::Length(0);
    }
    Ok(parsed)
}

impl Head {
    fn take(&mut self, name: &str, value: &str) -> io::Result<()> {
        if name.eq_ignore_ascii_case("content-length") {
            let length = value
                .parse()
                .map_err(|_| malformed("Content-Length is no number"))?;
            self.framing = Framing::Length(length);
        } else if name.eq_ignore_ascii_case("transfer-encoding") {
            self.framing = Framing::Chunked;
        } else if name.eq_ignore_ascii_case("connection") {
            self.close = value.eq_ignore_ascii_case("close");
        } else if name.eq_ignore_ascii_case("location") {
            self.location = Some(value.to_owned());
        }
        Ok(())
    }
}

/// An error for what is not HTTP/1.1.
pub(crate) fn malformed(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_says_status_framing_and_location() {
        let head = parse(b"HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\nLocation: /v2/x?a=b\r\nConnection: close").unwrap();
        assert_eq!(head.status, 202);
        assert_eq!(head.framing, Framing::Length(0));
        assert_eq!(head.location.as_deref(), Some("/v2/x?a=b"));
        assert!(head.close);
    }

    #[test]
    fn the_framing_follows_from_headers_and_status() {
        let framing = |head: &[u8]| parse(head).unwrap().framing;
        assert_eq!(
            framing(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked"),
            Framing::Chunked
        );
        assert_eq!(framing(b"HTTP/1.1 200 OK"), Framing::UntilClose);
        assert_eq!(framing(b"HTTP/1.1 204 No Content"), Framing::Length(0));
    }

    #[test]
    fn what_is_not_http_is_refused() {
        assert!(parse(b"SSH-2.0-x").is_err());
        assert!(parse(b"HTTP/1.1 200 OK\r\nContent-Length: many").is_err());
    }
}
