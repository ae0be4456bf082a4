//! HTTP/1.1 for a client that has to know exactly when its server died.

use std::{
    io::{self, BufRead, BufReader, ErrorKind, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

/// No answer within this is a hang, and no crash.
const PATIENCE: Duration = Duration::from_secs(30);

/// The server is gone; whether it did what was asked is open.
#[derive(Debug)]
pub(super) struct Gone;

pub(super) struct Answer {
    pub(super) status: u16,
    headers: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
}

impl Answer {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        let named = |(found, _): &&(String, String)| found.eq_ignore_ascii_case(name);
        self.headers
            .iter()
            .find(named)
            .map(|(_, value)| value.as_str())
    }

    /// For messages.
    pub(super) fn text(&self) -> String {
        let body = String::from_utf8_lossy(&self.body);
        format!(
            "{} {}",
            self.status,
            body.chars().take(500).collect::<String>()
        )
    }
}

pub(super) struct Client {
    address: SocketAddr,
    connection: Option<BufReader<TcpStream>>,
}

impl Client {
    pub(super) fn new(address: SocketAddr) -> Self {
        Self {
            address,
            connection: None,
        }
    }

    /// Sends a request and reads its answer.
    pub(super) fn call(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Result<Answer, Gone> {
        self.try_call(method, path, headers, body).map_err(|error| {
            let hangs = matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut);
            assert!(!hangs, "{method} {path}: no answer in {PATIENCE:?}");
            assert!(
                error.kind() != ErrorKind::InvalidData,
                "{method} {path}: {error}"
            );
            Gone
        })
    }

    /// Announces `body`, sends half of it and hangs up.
    pub(super) fn cut(&mut self, method: &str, path: &str, body: &[u8]) {
        self.connection = None;
        // If the server is gone, the next call finds out.
        if let Ok(mut stream) = TcpStream::connect(self.address) {
            let head = format!(
                "{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n",
                body.len()
            );
            let message = [head.as_bytes(), &body[..body.len() / 2]].concat();
            let _ = stream.write_all(&message);
        }
    }

    fn try_call(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> io::Result<Answer> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => {
                let stream = TcpStream::connect(self.address)?;
                stream.set_read_timeout(Some(PATIENCE))?;
                stream.set_write_timeout(Some(PATIENCE))?;
                stream.set_nodelay(true)?;
                BufReader::new(stream)
            }
        };
        let mut head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nContent-Length: {}\r\n",
            self.address,
            body.len()
        );
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        let message = [head.as_bytes(), body].concat();
        connection.get_mut().write_all(&message)?;
        let answer = read_answer(&mut connection, method == "HEAD")?;
        if !answer
            .header("connection")
            .is_some_and(|value| value.eq_ignore_ascii_case("close"))
        {
            self.connection = Some(connection);
        }
        Ok(answer)
    }
}

fn line(connection: &mut impl BufRead) -> io::Result<String> {
    let mut line = String::new();
    if connection.read_line(&mut line)? == 0 || !line.ends_with('\n') {
        return Err(ErrorKind::UnexpectedEof.into());
    }
    Ok(line.trim_end().to_owned())
}

fn read_answer(connection: &mut impl BufRead, bodiless: bool) -> io::Result<Answer> {
    let first = line(connection)?;
    let status = first
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok());
    let status: u16 = status.ok_or_else(|| invalid(&first))?;
    let mut answer = Answer {
        status,
        headers: Vec::new(),
        body: Vec::new(),
    };
    loop {
        let next = line(connection)?;
        if next.is_empty() {
            break;
        }
        let (name, value) = next.split_once(':').ok_or_else(|| invalid(&next))?;
        answer
            .headers
            .push((name.trim().to_owned(), value.trim().to_owned()));
    }
    if bodiless || status == 204 || status == 304 {
        return Ok(answer);
    }
    if answer.header("transfer-encoding").is_some() {
        return read_chunks(connection, answer);
    }
    let length = answer
        .header("content-length")
        .and_then(|value| value.parse().ok());
    answer.body = vec![0; length.ok_or_else(|| invalid("no Content-Length"))?];
    connection.read_exact(&mut answer.body)?;
    Ok(answer)
}

fn read_chunks(connection: &mut impl BufRead, mut answer: Answer) -> io::Result<Answer> {
    loop {
        let size = line(connection)?;
        let size = usize::from_str_radix(&size, 16).map_err(|_| invalid(&size))?;
        let mut chunk = vec![0; size];
        connection.read_exact(&mut chunk)?;
        line(connection)?;
        if size == 0 {
            return Ok(answer);
        }
        answer.body.extend_from_slice(&chunk);
    }
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, format!("not HTTP: {what}"))
}
