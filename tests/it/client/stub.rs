//! What answers in a server's place where no real one would answer so: it is no Granary, or a hostile one. It notes what it is
//! asked.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
};

use serde_json::Value;

/// A request that came.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    /// Method and target.
    pub(super) line: String,
    /// Everything else of its head.
    pub(super) head: String,
    pub(super) body: String,
}

/// Answers each request with the same, and ends with the test.
pub(super) struct Stub {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Stub {
    /// `answer` makes an answer of a request: its first line, headers and body.
    pub(super) fn start(answer: impl Fn(&Asked) -> String + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let noted = Arc::clone(&asked);
        thread::spawn(move || {
            for stream in listener.incoming() {
                // A client that goes away is none of this test's business.
                let _ = stream.map(|stream| serve(stream, &noted, &answer));
            }
        });
        Self { address, asked }
    }

    /// One that says of everything that it is done.
    pub(super) fn granary(data: &Value) -> Self {
        let body = format!("{{\"ok\":true,\"data\":{data}}}");
        Self::start(move |_| json_answer(200, &body))
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What came so far.
    pub(super) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }
}

/// An answer in JSON.
pub(super) fn json_answer(status: u16, body: &str) -> String {
    let length = body.len();
    format!(
        "HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
    )
}

fn serve(
    mut stream: TcpStream,
    noted: &Mutex<Vec<Asked>>,
    answer: impl Fn(&Asked) -> String,
) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let (mut head, mut length) = (String::new(), 0);
    loop {
        let mut field = String::new();
        reader.read_line(&mut field)?;
        if field.trim().is_empty() {
            break;
        }
        if let Some(text) = field.to_lowercase().strip_prefix("content-length:") {
            length = text.trim().parse().unwrap();
        }
        head.push_str(&field);
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let line = line.trim_end().trim_end_matches(" HTTP/1.1").to_owned();
    let body = String::from_utf8(body).unwrap();
    let asked = Asked { line, head, body };
    noted.lock().unwrap().push(asked.clone());
    let text = answer(&asked).replacen("\r\n", "\r\nConnection: close\r\n", 1);
    stream.write_all(text.as_bytes())
}
