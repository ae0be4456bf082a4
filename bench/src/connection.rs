//! One keep-alive HTTP/1.1 connection over a plain socket. It knows no proxies, no redirects and no TLS: the client must cost
//! as little as it can, because it runs on the machine it measures.

use std::io;
use std::net::SocketAddr;

use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::response::{self, Framing, Head, malformed};

const BUFFER_BYTES: usize = 256 * 1024;
/// Bodies up to this size leave in one write with their head.
const COALESCED_BYTES: usize = 64 * 1024;

/// Why an operation failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error("{what}: answered {got} instead of {expected}")]
    Status {
        what: &'static str,
        expected: u16,
        got: u16,
    },
    #[error("connection: {0}")]
    Connection(#[from] io::Error),
    #[error("{what}: the answer has other content than it should")]
    Corrupt { what: &'static str },
    #[error("no answer within the time limit")]
    TimedOut,
}

impl Failure {
    /// True for the answers of a server that does not know this kind of request.
    pub(crate) fn means_no_support(&self) -> bool {
        matches!(
            self,
            Self::Status {
                got: 202 | 404 | 405 | 415 | 501,
                ..
            }
        )
    }
}

/// Where the bytes of a response's body go.
pub(crate) enum Sink {
    Discard,
    Hash(Sha256),
    Keep(Vec<u8>),
}

impl Sink {
    pub(crate) fn hash() -> Self {
        Self::Hash(Sha256::new())
    }

    fn push(&mut self, bytes: &[u8]) {
        match self {
            Self::Discard => {}
            Self::Hash(hasher) => hasher.update(bytes),
            Self::Keep(kept) => kept.extend_from_slice(bytes),
        }
    }
}

/// A response whose body went into a [`Sink`].
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) location: Option<String>,
    pub(crate) bytes: u64,
}

impl Response {
    pub(crate) fn expect(self, what: &'static str, expected: u16) -> Result<Self, Failure> {
        if self.status == expected {
            return Ok(self);
        }
        let got = self.status;
        Err(Failure::Status {
            what,
            expected,
            got,
        })
    }
}

/// What is sent: a rendered head, and the body in as many pieces as it lies in.
pub(crate) struct Request<'a> {
    pub(crate) head: &'a [u8],
    pub(crate) body: &'a [&'a [u8]],
    /// A HEAD request: its response names a length but has no body.
    pub(crate) bodyless: bool,
}

impl<'a> Request<'a> {
    pub(crate) fn new(head: &'a [u8], body: &'a [&'a [u8]]) -> Self {
        let bodyless = head.starts_with(b"HEAD ");
        Self {
            head,
            body,
            bodyless,
        }
    }
}

pub(crate) struct Connection {
    address: SocketAddr,
    /// Absent before the first request, while one runs, and after one that failed or was dropped half-way.
    stream: Option<TcpStream>,
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
}

impl Connection {
    pub(crate) fn new(address: SocketAddr) -> Self {
        Self {
            address,
            stream: None,
            buffer: vec![0; BUFFER_BYTES].into_boxed_slice(),
            start: 0,
            end: 0,
        }
    }

    /// Sends one request and reads its whole response.
    pub(crate) async fn send(
        &mut self,
        request: &Request<'_>,
        sink: &mut Sink,
    ) -> io::Result<Response> {
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => self.connect().await?,
        };
        write(&mut stream, request).await?;
        let mut head = self.read_head(&mut stream).await?;
        while head.status < 200 {
            head = self.read_head(&mut stream).await?;
        }
        let framing = if request.bodyless {
            Framing::Length(0)
        } else {
            head.framing
        };
        let bytes = self.read_body(&mut stream, framing, sink).await?;
        if !head.close && framing != Framing::UntilClose {
            self.stream = Some(stream);
        }
        Ok(Response {
            status: head.status,
            location: head.location,
            bytes,
        })
    }

    async fn connect(&mut self) -> io::Result<TcpStream> {
        self.start = 0;
        self.end = 0;
        let stream = TcpStream::connect(self.address).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    async fn read_head(&mut self, stream: &mut TcpStream) -> io::Result<Head> {
        let length = self.read_until(stream, b"\r\n\r\n").await?;
        let head = response::parse(&self.buffer[self.start..self.start + length])?;
        self.start += length + 4;
        Ok(head)
    }

    async fn read_body(
        &mut self,
        stream: &mut TcpStream,
        framing: Framing,
        sink: &mut Sink,
    ) -> io::Result<u64> {
        match framing {
            Framing::Length(length) => self.read_exactly(stream, length, sink).await,
            Framing::Chunked => self.read_chunks(stream, sink).await,
            Framing::UntilClose => self.read_to_end(stream, sink).await,
        }
    }

    async fn read_exactly(
        &mut self,
        stream: &mut TcpStream,
        length: u64,
        sink: &mut Sink,
    ) -> io::Result<u64> {
        let mut left = length;
        while left > 0 {
            if self.start == self.end {
                self.fill(stream).await?;
            }
            let available = self.end - self.start;
            let taken = available.min(usize::try_from(left).unwrap_or(usize::MAX));
            self.pass_on(taken, sink);
            left -= taken as u64;
        }
        Ok(length)
    }

    async fn read_chunks(&mut self, stream: &mut TcpStream, sink: &mut Sink) -> io::Result<u64> {
        let mut total = 0;
        loop {
            let line = self.read_line(stream).await?;
            let digits = line.split(';').next().unwrap_or_default().trim();
            let size =
                u64::from_str_radix(digits, 16).map_err(|_| malformed("chunk without a size"))?;
            if size == 0 {
                break;
            }
            total += self.read_exactly(stream, size, sink).await?;
            self.read_exactly(stream, 2, &mut Sink::Discard).await?;
        }
        // Trailers, if any, end with an empty line.
        while !self.read_line(stream).await?.is_empty() {}
        Ok(total)
    }

    async fn read_to_end(&mut self, stream: &mut TcpStream, sink: &mut Sink) -> io::Result<u64> {
        let mut total = 0;
        loop {
            let available = self.end - self.start;
            self.pass_on(available, sink);
            total += available as u64;
            match self.fill(stream).await {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(total),
                Err(error) => return Err(error),
            }
        }
    }

    async fn read_line(&mut self, stream: &mut TcpStream) -> io::Result<String> {
        let length = self.read_until(stream, b"\r\n").await?;
        let line = String::from_utf8_lossy(&self.buffer[self.start..self.start + length]);
        let line = line.into_owned();
        self.start += length + 2;
        Ok(line)
    }

    /// Fills the buffer until `mark` is in it and returns how far behind `start` it stands.
    async fn read_until(&mut self, stream: &mut TcpStream, mark: &[u8]) -> io::Result<usize> {
        loop {
            let unread = &self.buffer[self.start..self.end];
            let found = unread.windows(mark.len()).position(|window| window == mark);
            if let Some(length) = found {
                return Ok(length);
            }
            self.fill(stream).await?;
        }
    }

    fn pass_on(&mut self, count: usize, sink: &mut Sink) {
        sink.push(&self.buffer[self.start..self.start + count]);
        self.start += count;
    }

    /// Reads once; the end of the stream is an error.
    async fn fill(&mut self, stream: &mut TcpStream) -> io::Result<()> {
        if self.start == self.end {
            self.start = 0;
            self.end = 0;
        } else if self.end == self.buffer.len() {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        if self.end == self.buffer.len() {
            return Err(malformed("response head is longer than the buffer"));
        }
        let read = stream.read(&mut self.buffer[self.end..]).await?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.end += read;
        Ok(())
    }
}

async fn write(stream: &mut TcpStream, request: &Request<'_>) -> io::Result<()> {
    let size: usize = request.body.iter().map(|part| part.len()).sum();
    if size == 0 {
        return stream.write_all(request.head).await;
    }
    if size <= COALESCED_BYTES {
        let mut whole = request.head.to_vec();
        for part in request.body {
            whole.extend_from_slice(part);
        }
        return stream.write_all(&whole).await;
    }
    stream.write_all(request.head).await?;
    for part in request.body {
        stream.write_all(part).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    /// Answers one request with `pieces`, each in a write of its own, and closes.
    async fn answer(pieces: &'static [&'static [u8]]) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 1024];
            let _ = stream.read(&mut request).await.unwrap();
            for piece in pieces {
                stream.write_all(piece).await.unwrap();
                tokio::task::yield_now().await;
            }
        });
        address
    }

    async fn fetch(pieces: &'static [&'static [u8]]) -> io::Result<(Response, Vec<u8>)> {
        let mut connection = Connection::new(answer(pieces).await);
        let mut sink = Sink::Keep(Vec::new());
        let request = Request::new(b"GET / HTTP/1.1\r\n\r\n", &[]);
        let response = connection.send(&request, &mut sink).await?;
        let Sink::Keep(body) = sink else {
            return Err(malformed("the sink changed"));
        };
        Ok((response, body))
    }

    #[tokio::test]
    async fn chunks_are_joined_wherever_the_reads_cut_them() {
        let pieces: &[&[u8]] = &[
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Enco",
            b"ding: chunked\r\n\r\n3;x=y\r\nabc\r",
            b"\n2\r\nde\r\n0\r\nTrailer: t\r\n\r\n",
        ];
        let (response, body) = fetch(pieces).await.unwrap();
        assert_eq!((response.status, response.bytes), (200, 5));
        assert_eq!(body, b"abcde");
    }

    #[tokio::test]
    async fn without_a_length_the_body_ends_with_the_connection() {
        let (response, body) = fetch(&[b"HTTP/1.1 200 OK\r\n\r\nab", b"c"]).await.unwrap();
        assert_eq!(response.bytes, 3);
        assert_eq!(body, b"abc");
    }

    #[tokio::test]
    async fn a_body_that_breaks_off_is_an_error() {
        let broken = fetch(&[b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab"]).await;
        assert!(broken.is_err());
    }
}
