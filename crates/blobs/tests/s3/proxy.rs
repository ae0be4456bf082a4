//! A proxy between the store and a server that makes mistakes on demand.
//!
//! One request per connection: it says `Connection: close` both ways, so that every request is seen.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

/// What happens to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The server does not see it; the answer is 503.
    Unavailable,
    /// The server does not see it; whoever stands between knows no such page.
    NoPage,
    /// The server does not see it; the answer is that there is no such bucket.
    NoBucket,
    /// The server does it; the answer is 500.
    LostAnswer,
    /// The server does it; the connection ends without an answer.
    Cut,
    /// The body of the answer ends after so many bytes.
    Truncated(usize),
    /// The answer has another ETag.
    WrongEtag,
}

impl Fault {
    /// The answer that is given without asking the server.
    fn at_once(self) -> Option<String> {
        match self {
            Self::Unavailable => Some(error("503 Service Unavailable", "SlowDown")),
            Self::NoPage => Some(respond(
                "404 Not Found",
                "text/plain",
                "404 page not found\n",
            )),
            Self::NoBucket => Some(error("404 Not Found", "NoSuchBucket")),
            Self::LostAnswer | Self::Cut | Self::Truncated(_) | Self::WrongEtag => None,
        }
    }
}

/// Faults for the next requests that begin so, such as `PUT` or `POST /bucket/key?uploadId=`.
struct Plan {
    method: &'static str,
    contains: &'static str,
    faults: VecDeque<Fault>,
}

#[derive(Default)]
struct Script {
    plans: Vec<Plan>,
    /// The request lines seen.
    seen: Vec<String>,
}

/// The proxy; it ends when it is dropped.
pub(crate) struct Proxy {
    pub(crate) endpoint: String,
    script: Arc<Mutex<Script>>,
    task: JoinHandle<()>,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Proxy {
    pub(crate) async fn before(endpoint: &str) -> Self {
        let server = endpoint
            .strip_prefix("http://")
            .expect("plain HTTP")
            .to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let endpoint = format!("http://{}", listener.local_addr().expect("an address"));
        let script = Arc::<Mutex<Script>>::default();
        let shared = Arc::clone(&script);
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (server, script) = (server.clone(), Arc::clone(&shared));
                tokio::spawn(async move {
                    // A broken connection is the tested store's business.
                    serve(client, &server, &script).await.ok();
                });
            }
        });
        Self {
            endpoint,
            script,
            task,
        }
    }

    /// The next requests of this method whose target contains `contains` fare so.
    pub(crate) fn plan(&self, method: &'static str, contains: &'static str, faults: &[Fault]) {
        self.script.lock().expect("no panic").plans.push(Plan {
            method,
            contains,
            faults: faults.iter().copied().collect(),
        });
    }

    /// Request lines since the last look.
    pub(crate) fn seen(&self) -> Vec<String> {
        std::mem::take(&mut self.script.lock().expect("no panic").seen)
    }

    /// Whether all faults have happened.
    pub(crate) fn is_done(&self) -> bool {
        let script = self.script.lock().expect("no panic");
        script.plans.iter().all(|plan| plan.faults.is_empty())
    }
}

/// The head of a message, and what came of its body.
struct Message {
    head: String,
    body: Vec<u8>,
}

impl Message {
    async fn read(stream: &mut TcpStream) -> std::io::Result<Self> {
        let mut bytes = Vec::new();
        loop {
            if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
                let body = bytes.split_off(end + 4);
                let head = String::from_utf8_lossy(&bytes).into_owned();
                return Ok(Self { head, body });
            }
            if stream.read_buf(&mut bytes).await? == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    fn set(&mut self, name: &str, value: &str) {
        let keep = |line: &&str| {
            let found = line.split_once(':').map_or("", |(found, _)| found);
            !line.is_empty() && !found.eq_ignore_ascii_case(name)
        };
        let lines: Vec<_> = self.head.lines().filter(keep).collect();
        self.head = format!("{}\r\n{name}: {value}\r\n\r\n", lines.join("\r\n"));
    }

    /// Reads the rest of a body of known length.
    async fn fill(&mut self, stream: &mut TcpStream) -> std::io::Result<()> {
        let length = self.header("content-length").and_then(|n| n.parse().ok());
        while self.body.len() < length.unwrap_or(0) {
            if stream.read_buf(&mut self.body).await? == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(())
    }
}

async fn serve(mut client: TcpStream, server: &str, script: &Mutex<Script>) -> std::io::Result<()> {
    let mut request = Message::read(&mut client).await?;
    let line = request.head.lines().next().unwrap_or_default().to_owned();
    let fault = {
        let mut script = script.lock().expect("no panic");
        script.seen.push(line.clone());
        let (method, target) = line.split_once(' ').unwrap_or_default();
        let plan = script.plans.iter_mut().find(|plan| {
            !plan.faults.is_empty() && plan.method == method && target.contains(plan.contains)
        });
        plan.and_then(|plan| plan.faults.pop_front())
    };
    if request.header("expect").is_some() {
        client.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
        request.set("Expect", "");
    }
    request.fill(&mut client).await?;
    if let Some(answer) = fault.and_then(Fault::at_once) {
        return client.write_all(answer.as_bytes()).await;
    }
    let mut upstream = TcpStream::connect(server).await?;
    // The `Host` stays as it was signed; `Connection` is never signed.
    request.set("Connection", "close");
    upstream.write_all(request.head.as_bytes()).await?;
    upstream.write_all(&request.body).await?;
    let mut answer = Message::read(&mut upstream).await?;
    answer.set("Connection", "close");
    match fault {
        None | Some(Fault::Unavailable | Fault::NoPage | Fault::NoBucket) => {
            client.write_all(answer.head.as_bytes()).await?;
            client.write_all(&answer.body).await?;
            tokio::io::copy(&mut upstream, &mut client).await?;
        }
        Some(Fault::LostAnswer) => {
            upstream.read_to_end(&mut answer.body).await?;
            client
                .write_all(error("500 Internal Server Error", "InternalError").as_bytes())
                .await?;
        }
        Some(Fault::Cut) => {
            upstream.read_to_end(&mut answer.body).await?;
        }
        Some(Fault::Truncated(length)) => {
            while answer.body.len() < length && upstream.read_buf(&mut answer.body).await? > 0 {}
            answer.body.truncate(length);
            client.write_all(answer.head.as_bytes()).await?;
            client.write_all(&answer.body).await?;
        }
        Some(Fault::WrongEtag) => {
            answer.set("ETag", "\"00000000000000000000000000000000\"");
            client.write_all(answer.head.as_bytes()).await?;
            client.write_all(&answer.body).await?;
            tokio::io::copy(&mut upstream, &mut client).await?;
        }
    }
    Ok(())
}

fn error(status: &str, code: &str) -> String {
    let body = format!("<Error><Code>{code}</Code><Message>planned</Message></Error>");
    respond(status, "application/xml", &body)
}

fn respond(status: &str, kind: &str, body: &str) -> String {
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
}
