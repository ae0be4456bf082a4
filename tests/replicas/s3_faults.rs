//! An HTTP proxy before the S3 server that answers in its place, lies about what happened, or breaks off.
//!
//! Everything is passed on as it came, the `Host` that was signed included.

mod wire;

use std::{
    collections::BTreeSet,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    io::{AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
};

use self::wire::{Head, copy_body, discard_body, read_head, truncate_body};
use crate::dice::Dice;

/// What happens to some of the requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    None,
    /// 503, and nothing is done.
    SlowDown,
    /// Writes are carried out, and answered with 500.
    FailedAfterAll,
    /// Bodies of reads end in the middle.
    Truncated,
    /// Writes are answered with an ETag of something else.
    WrongTag,
    /// Answers take their time.
    Slow,
    /// There is no room for another byte.
    Full,
}

/// In this many of a hundred requests, unless there is no room.
const OFTEN: usize = 40;

/// The proxy, as long as its runtime lives.
#[derive(Clone)]
pub(crate) struct S3Faults {
    pub(crate) address: SocketAddr,
    state: Arc<State>,
}

struct State {
    upstream: SocketAddr,
    trouble: Mutex<(Trouble, Dice)>,
    /// Paths of objects for which a multipart upload was begun.
    begun: Mutex<BTreeSet<String>>,
}

impl S3Faults {
    pub(crate) async fn start(upstream: SocketAddr, seed: u64) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let state = Arc::new(State {
            upstream,
            trouble: Mutex::new((Trouble::None, Dice::new(seed, 2_000_000))),
            begun: Mutex::default(),
        });
        let shared = Arc::clone(&state);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let state = Arc::clone(&shared);
                // A broken connection is the other side's to notice.
                tokio::spawn(async move { drop(serve(&state, client).await) });
            }
        });
        Ok(Self { address, state })
    }

    pub(crate) fn set(&self, trouble: Trouble) {
        self.state
            .trouble
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .0 = trouble;
    }

    /// The paths, `/BUCKET/KEY`, of all objects that were begun in parts.
    pub(crate) fn begun(&self) -> BTreeSet<String> {
        self.state
            .begun
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

impl State {
    /// What is to happen to this request.
    fn trouble(&self, head: &Head) -> Trouble {
        let mut guard = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        let (trouble, dice) = &mut *guard;
        let reads = matches!(head.method(), "GET" | "HEAD");
        let concerned = match trouble {
            Trouble::None => false,
            Trouble::SlowDown | Trouble::Slow => dice.chance(OFTEN),
            Trouble::FailedAfterAll => !reads && dice.chance(OFTEN),
            Trouble::WrongTag => head.method() == "PUT" && dice.chance(OFTEN),
            Trouble::Truncated => head.method() == "GET" && dice.chance(OFTEN),
            Trouble::Full => matches!(head.method(), "PUT" | "POST"),
        };
        if concerned { *trouble } else { Trouble::None }
    }

    fn note(&self, head: &Head) {
        let (path, query) = head.target().split_once('?').unwrap_or_default();
        if head.method() == "POST" && query.split('&').any(|part| part.starts_with("uploads")) {
            self.begun
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .insert(path.to_owned());
        }
    }
}

/// Serves one connection, with one of its own to the server.
async fn serve(state: &State, client: TcpStream) -> io::Result<()> {
    client.set_nodelay(true)?;
    let mut client = BufReader::new(client);
    let mut server: Option<BufReader<TcpStream>> = None;
    while let Some(request) = read_head(&mut client).await? {
        let trouble = state.trouble(&request);
        if request.value("expect").is_some() {
            client.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
        }
        if matches!(trouble, Trouble::SlowDown | Trouble::Full) {
            discard_body(&request, true, &mut client).await?;
            let (status, code) = match trouble {
                Trouble::Full => ("507 Insufficient Storage", "XMinioStorageFull"),
                _ => ("503 Slow Down", "SlowDown"),
            };
            refuse(&mut client, &request, status, code).await?;
            continue;
        }
        if trouble == Trouble::Slow {
            tokio::time::sleep(Duration::from_millis(1500)).await;
        }
        state.note(&request);
        let server = match &mut server {
            Some(server) => server,
            none => {
                let stream = TcpStream::connect(state.upstream).await?;
                stream.set_nodelay(true)?;
                none.insert(BufReader::new(stream))
            }
        };
        server.write_all(request.bytes()).await?;
        copy_body(&request, true, &mut client, server).await?;
        server.flush().await?;
        if !answer(trouble, &request, server, &mut client).await? {
            return Ok(());
        }
    }
    Ok(())
}

/// Passes the answer on, or another one. `false` if the connection ends with it.
async fn answer(
    trouble: Trouble,
    request: &Head,
    server: &mut BufReader<TcpStream>,
    client: &mut BufReader<TcpStream>,
) -> io::Result<bool> {
    let mut head = loop {
        match read_head(server).await? {
            Some(head) if head.is_interim() => {}
            Some(head) => break head,
            None => return Ok(false),
        }
    };
    let has_body = request.method() != "HEAD";
    match trouble {
        Trouble::FailedAfterAll => {
            discard_body(&head, has_body, server).await?;
            let status = "500 Internal Server Error";
            refuse(client, request, status, "InternalError").await?;
            return Ok(true);
        }
        Trouble::Truncated if head.length().is_some_and(|length| length > 1000) => {
            client.write_all(head.bytes()).await?;
            truncate_body(&head, server, client).await?;
            client.shutdown().await?;
            return Ok(false);
        }
        Trouble::WrongTag => head.replace("etag", "\"00000000000000000000000000000000\""),
        _ => {}
    }
    client.write_all(head.bytes()).await?;
    copy_body(&head, has_body, server, client).await?;
    client.flush().await?;
    Ok(head.value("connection") != Some("close"))
}

async fn refuse(
    client: &mut BufReader<TcpStream>,
    request: &Head,
    status: &str,
    code: &str,
) -> io::Result<()> {
    let body = if request.method() == "HEAD" {
        String::new()
    } else {
        format!(
            "<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>a test</Message></Error>"
        )
    };
    let length = body.len();
    let answer = format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/xml\r\nContent-Length: {length}\r\n\r\n{body}"
    );
    client.write_all(answer.as_bytes()).await?;
    client.flush().await
}
