//! HTTP/1.1 as it lies on the wire: heads, and where bodies end.

use std::io;

use tokio::io::{
    AsyncBufRead, AsyncBufReadExt as _, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _,
};

/// The first line and the headers of a request or an answer.
pub(super) struct Head {
    bytes: Vec<u8>,
    first: String,
    headers: Vec<(String, String)>,
}

enum Framing {
    Length(u64),
    Chunked,
    UntilTheEnd,
}

/// Reads a head; `None` if the connection ended before it.
pub(super) async fn read_head(from: &mut (impl AsyncBufRead + Unpin)) -> io::Result<Option<Head>> {
    let mut bytes = Vec::new();
    loop {
        let begin = bytes.len();
        if from.read_until(b'\n', &mut bytes).await? == 0 {
            return match bytes.is_empty() {
                true => Ok(None),
                false => Err(io::ErrorKind::UnexpectedEof.into()),
            };
        }
        if matches!(&bytes[begin..], b"\r\n" | b"\n") {
            break;
        }
    }
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let mut lines = text.lines();
    let first = lines.next().unwrap_or_default().to_owned();
    let headers = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.trim().to_lowercase(), value.trim().to_owned()))
        .collect();
    Ok(Some(Head {
        bytes,
        first,
        headers,
    }))
}

impl Head {
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(super) fn method(&self) -> &str {
        self.word(0)
    }

    pub(super) fn target(&self) -> &str {
        self.word(1)
    }

    fn word(&self, number: usize) -> &str {
        self.first.split(' ').nth(number).unwrap_or_default()
    }

    /// Whether another answer follows.
    pub(super) fn is_interim(&self) -> bool {
        self.first.starts_with("HTTP/") && self.word(1).starts_with('1')
    }

    pub(super) fn value(&self, name: &str) -> Option<&str> {
        let mut found = self.headers.iter().filter(|(other, _)| other == name);
        found.next().map(|(_, value)| value.as_str())
    }

    pub(super) fn length(&self) -> Option<u64> {
        self.value("content-length")?.parse().ok()
    }

    /// Gives a header, if it is there, another value.
    pub(super) fn replace(&mut self, name: &str, value: &str) {
        let text = String::from_utf8_lossy(&self.bytes).into_owned();
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        for line in &mut lines {
            let own = line.split(':').next().unwrap_or_default().to_owned();
            if own.eq_ignore_ascii_case(name) {
                *line = format!("{own}: {value}");
            }
        }
        self.bytes = (lines.join("\r\n") + "\r\n").into_bytes();
    }

    fn framing(&self, has_body: bool) -> Framing {
        let is_answer = self.first.starts_with("HTTP/");
        let empty = is_answer && matches!(self.word(1), "204" | "304");
        if !has_body || empty {
            return Framing::Length(0);
        }
        let chunked = self
            .value("transfer-encoding")
            .is_some_and(|coding| coding.eq_ignore_ascii_case("chunked"));
        match self.length() {
            _ if chunked => Framing::Chunked,
            Some(length) => Framing::Length(length),
            None if is_answer => Framing::UntilTheEnd,
            None => Framing::Length(0),
        }
    }
}

/// Passes the body on that follows `head`.
pub(super) async fn copy_body(
    head: &Head,
    has_body: bool,
    from: &mut (impl AsyncBufRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
) -> io::Result<()> {
    match head.framing(has_body) {
        Framing::Length(length) => copy(from, to, length).await,
        Framing::UntilTheEnd => tokio::io::copy_buf(from, to).await.map(drop),
        Framing::Chunked => copy_chunks(from, to).await,
    }
}

pub(super) async fn discard_body(
    head: &Head,
    has_body: bool,
    from: &mut (impl AsyncBufRead + Unpin),
) -> io::Result<()> {
    copy_body(head, has_body, from, &mut tokio::io::sink()).await
}

/// Passes half of the body on.
pub(super) async fn truncate_body(
    head: &Head,
    from: &mut (impl AsyncBufRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
) -> io::Result<()> {
    let half = head.length().unwrap_or_default() / 2;
    copy(from, to, half).await
}

async fn copy(
    from: &mut (impl AsyncBufRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
    length: u64,
) -> io::Result<()> {
    let copied = tokio::io::copy_buf(&mut from.take(length), to).await?;
    if copied < length {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    to.flush().await
}

async fn copy_chunks(
    from: &mut (impl AsyncBufRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
) -> io::Result<()> {
    let mut last = false;
    loop {
        let mut line = Vec::new();
        if from.read_until(b'\n', &mut line).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        to.write_all(&line).await?;
        let text = String::from_utf8_lossy(&line).trim().to_owned();
        if last {
            // Trailers, and the empty line behind them.
            if text.is_empty() {
                return to.flush().await;
            }
            continue;
        }
        let size = text.split(';').next().unwrap_or_default();
        let size = u64::from_str_radix(size, 16)
            .map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
        if size == 0 {
            last = true;
        } else {
            copy(from, to, size + 2).await?;
        }
    }
}
