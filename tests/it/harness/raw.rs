//! Bytes on a socket, for what no decent client sends.

use std::net::SocketAddr;

use bytes::Bytes;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use super::{Answer, PATIENCE};

/// The head of a request with a proper `Host`, and these further lines.
pub(crate) fn request_head(method: &str, target: &str, lines: &[&str]) -> String {
    let lines: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
    format!("{method} {target} HTTP/1.1\r\nHost: localhost\r\n{lines}\r\n")
}

/// A connection.
pub(crate) struct Raw {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Raw {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self {
            stream,
            buffer: Vec::new(),
        }
    }

    /// Sends bytes that the server must take.
    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        assert!(
            self.try_send(bytes).await,
            "the server has closed the connection"
        );
    }

    /// Sends bytes; false if the server has closed the connection.
    pub(crate) async fn try_send(&mut self, bytes: &[u8]) -> bool {
        let sent = timeout(PATIENCE, self.stream.write_all(bytes)).await;
        sent.expect("the server takes bytes").is_ok()
    }

    /// Sends nothing more, and lets the server see that.
    pub(crate) async fn end(mut self) {
        let _ = self.stream.shutdown().await;
    }

    /// Reads the next answer of a request that is no HEAD; `None` if the server closes instead.
    pub(crate) async fn answer(&mut self) -> Option<Answer> {
        let end = loop {
            if let Some(at) = self.buffer.windows(4).position(|four| four == b"\r\n\r\n") {
                break at;
            }
            if !self.more().await {
                return None;
            }
        };
        let head = String::from_utf8_lossy(&self.buffer[..end]).into_owned();
        self.buffer.drain(..end + 4);
        let mut answer = Answer::parse_head(&head);
        let length = answer
            .find_header("content-length")
            .map_or(0, |length| length.parse().unwrap());
        while self.buffer.len() < length {
            assert!(self.more().await, "the answer broke off: {head}");
        }
        answer.body = Bytes::from(self.buffer.drain(..length).collect::<Vec<_>>());
        Some(answer)
    }

    /// Waits until the server closes the connection, and returns what it said before.
    pub(crate) async fn rest(mut self) -> Vec<u8> {
        while self.more().await {}
        self.buffer
    }

    /// Whether more came; false if the server has closed the connection.
    async fn more(&mut self) -> bool {
        let read = timeout(2 * PATIENCE, self.stream.read_buf(&mut self.buffer)).await;
        read.expect("the server answers or closes")
            .is_ok_and(|length| length > 0)
    }
}
