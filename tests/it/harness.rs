//! Runs the real server for a test, and talks to it.
//!
//! Each [`TestServer`] is a process of its own on a folder of its own, so tests need no care for one another. What it
//! wrote is shown when its test fails.

mod answer;
mod bucket;
mod command;
mod content;
mod raw;

use std::{
    ffi::OsString,
    io::{self, BufRead, BufReader, Read, Write},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex, PoisonError, mpsc},
    thread,
    time::{Duration, Instant},
};

use reqwest::{Client, Method};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

pub(crate) use self::{
    answer::{Answer, Request},
    bucket::Bucket,
    command::{Ran, granary, run, run_with_input},
    content::{
        CONFIG, DOCKER_LIST, DOCKER_MANIFEST, EMPTY, IMAGE, INDEX, Image, LAYER, artifact,
        descriptor, image, index, noise, sha256, sha512,
    },
    raw::{Raw, request_head},
};

/// Nothing a test waits for may take longer.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(20);

/// Asks until there is an answer, for at most [`PATIENCE`].
pub(crate) async fn eventually<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(Instant::now() < deadline, "this never came: {what}");
        tokio::time::sleep(POLL).await;
    }
}

/// How a server is to be started.
#[derive(Clone, Default)]
pub(crate) struct Builder {
    environment: Vec<(String, OsString)>,
    arguments: Vec<String>,
    data: Option<Arc<TempDir>>,
    http2: bool,
}

impl Builder {
    /// Sets a variable of the server's environment, and of the commands run on its data.
    pub(crate) fn env(mut self, name: &str, value: impl Into<OsString>) -> Self {
        self.environment.push((name.to_owned(), value.into()));
        self
    }

    /// Adds an argument to `granary serve`.
    pub(crate) fn argument(mut self, argument: &str) -> Self {
        self.arguments.push(argument.to_owned());
        self
    }

    /// Starts the server on a folder that is there.
    pub(crate) fn on(mut self, data: TempDir) -> Self {
        self.data = Some(Arc::new(data));
        self
    }

    /// Requests go over HTTP/2 without TLS.
    pub(crate) fn http2(mut self) -> Self {
        self.http2 = true;
        self
    }

    /// Starts the server and waits until it is ready.
    pub(crate) async fn start(self) -> TestServer {
        let data = self
            .data
            .clone()
            .unwrap_or_else(|| Arc::new(TempDir::new().unwrap()));
        use_ring();
        let mut client = Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(Duration::from_secs(90));
        if self.http2 {
            client = client.http2_prior_knowledge();
        }
        let mut server = TestServer {
            data,
            client: client.build().unwrap(),
            builder: self,
            process: None,
        };
        server.start_again().await;
        server
    }
}

/// A running server, or one that a test has stopped.
pub(crate) struct TestServer {
    builder: Builder,
    data: Arc<TempDir>,
    client: Client,
    process: Option<Process>,
}

struct Process {
    child: Child,
    output: Output,
    address: SocketAddr,
}

impl TestServer {
    pub(crate) fn builder() -> Builder {
        Builder::default()
    }

    /// A server as it is without any configuration.
    pub(crate) async fn start() -> Self {
        Self::builder().start().await
    }

    /// Starts the server again on its data, at another port.
    pub(crate) async fn start_again(&mut self) {
        assert!(self.process.is_none(), "the server runs already");
        let mut command = self.command();
        command.args(["serve", "--data"]).arg(self.data.path());
        if !self
            .builder
            .arguments
            .iter()
            .any(|argument| argument == "--listen")
        {
            command.args(["--listen", "127.0.0.1:0"]);
        }
        command.args(&self.builder.arguments);
        let (process, url) = spawn(command);
        self.process = Some(process);
        if url.starts_with("https:") {
            // The client speaks no TLS; the sockets are bound when the address is printed.
            return;
        }
        eventually("the server is ready", async || {
            let answer = self.client.get(self.url("/health/ready")).send().await;
            answer.ok().filter(|answer| answer.status() == 200)
        })
        .await;
    }

    /// Ends the server in order and starts it again.
    pub(crate) async fn restart(&mut self) {
        self.stop().await;
        self.start_again().await;
    }

    /// Changes a variable of the environment, for the next start.
    pub(crate) fn set_env(&mut self, name: &str, value: &str) {
        self.builder.environment.retain(|(known, _)| known != name);
        self.builder
            .environment
            .push((name.to_owned(), value.into()));
    }

    /// SIGKILL: the server ends without another instruction.
    pub(crate) async fn kill(&mut self) {
        let mut process = self.process.take().expect("the server does not run");
        process.child.kill().unwrap();
        process.child.wait().unwrap();
    }

    /// SIGTERM, and the exit that must follow with code 0.
    pub(crate) async fn stop(&mut self) {
        self.signal(Signal::TERM);
        self.ended().await;
    }

    /// Sends a signal to the server.
    pub(crate) fn signal(&self, signal: Signal) {
        let id = i32::try_from(self.process().child.id()).unwrap();
        kill_process(Pid::from_raw(id).unwrap(), signal).unwrap();
    }

    /// Waits for the end of a server that was told to end; the code must be 0.
    pub(crate) async fn ended(&mut self) {
        let status = eventually("the server ends", async || {
            self.process.as_mut()?.child.try_wait().unwrap()
        })
        .await;
        let output = self.output();
        self.process = None;
        assert_eq!(status.code(), Some(0), "the server ended badly:\n{output}");
    }

    fn process(&self) -> &Process {
        self.process.as_ref().expect("the server does not run")
    }

    /// What the server has written so far, to both streams.
    pub(crate) fn output(&self) -> String {
        self.process().output.text()
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.process().address
    }

    pub(crate) fn data(&self) -> &Path {
        self.data.path()
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address())
    }

    /// A command with this server's environment, and nothing of the tester's.
    fn command(&self) -> Command {
        let mut command = granary();
        command.envs(
            self.builder
                .environment
                .iter()
                .map(|(name, value)| (name, value)),
        );
        command
    }

    /// Runs a command on the server's data, whether the server runs or not.
    pub(crate) async fn run(&self, arguments: &[&str]) -> Ran {
        let mut command = self.command();
        command.args(arguments).arg("--data").arg(self.data.path());
        run(command).await
    }

    /// The files that hold objects.
    pub(crate) fn objects(&self) -> Vec<PathBuf> {
        let is_object = |path: &PathBuf| {
            let name = path.file_name().unwrap().to_string_lossy();
            name.len() == 32 && name.bytes().all(|byte| byte.is_ascii_hexdigit())
        };
        let mut files = Vec::new();
        let mut folders = vec![self.data.path().to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else if is_object(&path) {
                    files.push(path);
                }
            }
        }
        files
    }

    pub(crate) fn request(&self, method: Method, path: &str) -> Request {
        Request::new(&self.client, method, &self.url(path))
    }

    pub(crate) fn get(&self, path: &str) -> Request {
        self.request(Method::GET, path)
    }

    pub(crate) fn head(&self, path: &str) -> Request {
        self.request(Method::HEAD, path)
    }

    pub(crate) fn post(&self, path: &str) -> Request {
        self.request(Method::POST, path)
    }

    pub(crate) fn put(&self, path: &str) -> Request {
        self.request(Method::PUT, path)
    }

    pub(crate) fn patch(&self, path: &str) -> Request {
        self.request(Method::PATCH, path)
    }

    pub(crate) fn delete(&self, path: &str) -> Request {
        self.request(Method::DELETE, path)
    }

    /// A connection for what no decent client would send.
    pub(crate) async fn raw(&self) -> Raw {
        Raw::connect(self.address()).await
    }

    /// Sends a request whose target is not tidied up, and reads its answer.
    pub(crate) async fn send_raw(&self, method: &str, target: &str) -> Answer {
        let mut raw = self.raw().await;
        raw.send(request_head(method, target, &["Content-Length: 0"]).as_bytes())
            .await;
        raw.answer().await.expect("an answer")
    }

    /// Begins an upload session and returns its location.
    pub(crate) async fn begin(&self, repository: &str) -> String {
        let answer = self.post(&format!("/v2/{repository}/blobs/uploads/")).await;
        answer.is(202).header("location").to_owned()
    }

    /// Begins a PATCH of `length` bytes, of which only these are sent yet. The server writes to the session.
    pub(crate) async fn begin_patch(&self, location: &str, length: usize, first: &[u8]) -> Raw {
        let length = format!("Content-Length: {length}");
        eventually("the session is written to", async || {
            let mut raw = self.raw().await;
            raw.send(request_head("PATCH", location, &[&length]).as_bytes())
                .await;
            raw.send(first).await;
            // The PATCH, and the request that asks for it.
            eventually("the request runs", async || {
                (self.metric("http_server_active_requests").await >= 2).then_some(())
            })
            .await;
            // A look at the session is a writer itself; should the PATCH have met it, it is sent again.
            for _ in 0..100 {
                if self.knock(location).await.status == 429 {
                    return Some(raw);
                }
            }
            None
        })
        .await
    }

    /// A chunk that can never fit: 429 while somebody else writes to the session, else 416. It changes nothing.
    pub(crate) fn knock(&self, location: &str) -> Request {
        self.patch(location)
            .header("Content-Range", "900000000-900000000")
            .body("x")
    }

    /// Pushes a blob in one request and returns its digest.
    pub(crate) async fn push_blob(&self, repository: &str, content: &[u8]) -> String {
        let digest = sha256(content);
        let path = format!("/v2/{repository}/blobs/uploads/?digest={digest}");
        self.post(&path).body(content.to_vec()).await.is(201);
        digest
    }

    /// Puts a manifest under a tag or digest.
    pub(crate) fn put_manifest(
        &self,
        repository: &str,
        reference: &str,
        media_type: &str,
        manifest: &[u8],
    ) -> Request {
        self.put(&format!("/v2/{repository}/manifests/{reference}"))
            .header("Content-Type", media_type)
            .body(manifest.to_vec())
    }

    /// Puts a manifest that must be taken, and returns its digest.
    pub(crate) async fn push_manifest(
        &self,
        repository: &str,
        reference: &str,
        media_type: &str,
        manifest: &[u8],
    ) -> String {
        let answer = self
            .put_manifest(repository, reference, media_type, manifest)
            .await;
        answer.is(201).header("docker-content-digest").to_owned()
    }

    /// Pushes an image with its content, and returns the manifest's digest.
    pub(crate) async fn push_image(
        &self,
        repository: &str,
        reference: &str,
        image: &Image,
    ) -> String {
        self.push_blob(repository, &image.config).await;
        self.push_blob(repository, &image.layer).await;
        self.push_manifest(repository, reference, IMAGE, &image.manifest)
            .await
    }

    /// Pushes an artifact manifest made by [`artifact`], and returns its digest.
    pub(crate) async fn push_artifact(&self, repository: &str, manifest: &[u8]) -> String {
        self.push_blob(repository, b"{}").await;
        self.push_manifest(repository, &sha256(manifest), IMAGE, manifest)
            .await
    }

    /// A figure without labels from the server's metrics.
    pub(crate) async fn metric(&self, name: &str) -> u64 {
        let metrics = self.get("/metrics").await.is(200).body;
        let metrics = String::from_utf8(metrics.to_vec()).unwrap();
        let mut figures = metrics
            .lines()
            .filter_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        figures.next().expect(&metrics).parse().unwrap()
    }

    /// The tags of a repository, in the order they are listed.
    pub(crate) async fn tags(&self, repository: &str) -> Vec<String> {
        let list = self
            .get(&format!("/v2/{repository}/tags/list"))
            .await
            .is(200)
            .json();
        texts(&list["tags"])
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        let Some(mut process) = self.process.take() else {
            return;
        };
        let _ = process.child.kill();
        let _ = process.child.wait();
        if thread::panicking() {
            let _ = writeln!(io::stderr(), "the server wrote:\n{}", process.output.text());
        }
    }
}

/// Without a provider of the process, reqwest makes no client.
pub(crate) fn use_ring() {
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// The texts of a JSON list.
#[track_caller]
pub(crate) fn texts(list: &Value) -> Vec<String> {
    let list = list.as_array().expect("a list");
    list.iter()
        .map(|text| text.as_str().expect("a text").to_owned())
        .collect()
}

/// What a process writes, gathered while it runs.
#[derive(Clone, Default)]
struct Output(Arc<Mutex<String>>);

impl Output {
    fn text(&self) -> String {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Gathers a stream's lines and hands each to `look`.
    fn follow(&self, stream: impl Read + Send + 'static, look: impl Fn(&str) + Send + 'static) {
        let output = self.clone();
        thread::spawn(move || {
            for line in BufReader::new(stream).lines().map_while(Result::ok) {
                look(&line);
                let mut text = output.0.lock().unwrap_or_else(PoisonError::into_inner);
                text.push_str(&line);
                text.push('\n');
            }
        });
    }
}

/// Starts `granary serve` and waits until it says where it listens.
fn spawn(mut command: Command) -> (Process, String) {
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let output = Output::default();
    let (found, address) = mpsc::channel();
    output.follow(child.stdout.take().unwrap(), move |line| {
        if let Some(url) = line.split_whitespace().find(|word| word.contains("://")) {
            let _ = found.send(url.trim_end_matches(['/', '.', ',']).to_owned());
        }
    });
    output.follow(child.stderr.take().unwrap(), |_| {});
    let Ok(url) = address.recv_timeout(PATIENCE) else {
        let _ = child.kill();
        let _ = child.wait();
        panic!("the server printed no address:\n{}", output.text());
    };
    let port = url.rsplit(':').next().and_then(|port| port.parse().ok());
    let port: u16 = port.unwrap_or_else(|| panic!("{url} has no port"));
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    (
        Process {
            child,
            output,
            address,
        },
        url,
    )
}
