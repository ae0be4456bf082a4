//! What all clients share: the doors to the registry, what they know of it, and what they found wrong.

use std::{
    collections::BTreeMap,
    fmt::Display,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use granary_oci::Digest;
use reqwest::{
    Client, Method, RequestBuilder, StatusCode,
    header::{HeaderMap, HeaderName},
};

use crate::{
    checker::{End, Time},
    history::{Clock, History},
    ledger::Ledger,
};

/// Few repositories and tags, so that clients meet.
pub(crate) const REPOSITORIES: [&str; 2] = ["soak/one", "soak/two"];
pub(crate) const TAGS: [&str; 3] = ["latest", "stable", "edge"];

/// How long a client waits for an answer. Every fault is over long before.
const PATIENCE: Duration = Duration::from_secs(45);

/// Where the balancer says which replicas it asked.
const ASKED: &str = "x-upstream";

/// A way to the registry.
#[derive(Clone)]
pub(crate) struct Door {
    pub(crate) name: String,
    pub(crate) url: String,
}

pub(crate) struct World {
    pub(crate) seed: u64,
    pub(crate) clock: Clock,
    pub(crate) history: History,
    pub(crate) ledger: Ledger,
    pub(crate) doors: Vec<Door>,
    /// How long a session may be idle.
    pub(crate) expiry: Time,
    http: Client,
    stop: AtomicBool,
    unique: AtomicU64,
    violations: Mutex<Vec<String>>,
    counts: Mutex<BTreeMap<String, u64>>,
    /// Manifests that were put at tags, for whoever wants to put or delete one again.
    manifests: Mutex<Vec<(usize, Bytes)>>,
}

/// A request.
pub(crate) struct Ask {
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: Bytes,
}

pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// What came of a request.
pub(crate) enum Heard {
    /// An answer below 500.
    Answer(Answer),
    /// Nobody knows whether it was carried out.
    Doubt(End),
    /// It was never sent.
    Never,
}

/// A request that is over.
pub(crate) struct Told {
    pub(crate) heard: Heard,
    pub(crate) invoked: Time,
    pub(crate) ended: Time,
    /// The balancer sent it to a second replica after the first one broke off, and did not say so.
    pub(crate) repeated: bool,
    /// For whoever reads a report: what was asked, and where.
    pub(crate) what: String,
}

impl World {
    pub(crate) fn new(seed: u64, doors: Vec<Door>, grace: Duration, expiry: Duration) -> Self {
        let micros = |time: Duration| Time::try_from(time.as_micros()).unwrap();
        Self {
            seed,
            clock: Clock::start(),
            history: History::default(),
            ledger: Ledger::new(micros(grace)),
            doors,
            expiry: micros(expiry),
            http: client(),
            stop: AtomicBool::new(false),
            unique: AtomicU64::new(1),
            violations: Mutex::default(),
            counts: Mutex::default(),
            manifests: Mutex::default(),
        }
    }

    /// A number that nobody else has.
    pub(crate) fn unique(&self) -> u64 {
        self.unique.fetch_add(1, Ordering::Relaxed)
    }

    pub(crate) fn is_over(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    pub(crate) fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// The registry did what it must never do.
    pub(crate) fn violation(&self, what: impl Display) {
        let text = format!("at {}: {what}", self.clock.now());
        self.violations
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(text);
        self.stop();
    }

    pub(crate) fn violations(&self) -> Vec<String> {
        let violations = self
            .violations
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        violations.clone()
    }

    pub(crate) fn count(&self, what: impl Into<String>) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        *counts.entry(what.into()).or_default() += 1;
    }

    pub(crate) fn counts(&self) -> BTreeMap<String, u64> {
        let counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts.clone()
    }

    pub(crate) fn remember_manifest(&self, repository: usize, body: Bytes) {
        let mut manifests = self
            .manifests
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if manifests.len() > 40 {
            manifests.remove(0);
        }
        manifests.push((repository, body));
    }

    pub(crate) fn manifests(&self) -> Vec<(usize, Bytes)> {
        let manifests = self
            .manifests
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        manifests.clone()
    }

    pub(crate) fn request(&self, door: &Door, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("{}{path}", door.url))
    }

    /// Sends a request and waits for its end.
    pub(crate) async fn ask(&self, door: &Door, ask: Ask) -> Told {
        let mut request = self.request(door, ask.method.clone(), &ask.path);
        for (name, value) in &ask.headers {
            request = request.header(*name, value);
        }
        if !ask.body.is_empty() || ask.method != Method::GET {
            request = request.body(ask.body);
        }
        let what = format!("{} {} at {}", ask.method, ask.path, door.name);
        let invoked = self.clock.now();
        let (heard, repeated) = self.hear(request, &ask.method).await;
        Told {
            heard,
            invoked,
            ended: self.clock.now(),
            repeated,
            what,
        }
    }

    async fn hear(&self, request: RequestBuilder, method: &Method) -> (Heard, bool) {
        let answer = match request.send().await {
            Ok(answer) => answer,
            Err(error) => return (self.nothing_heard(&error, method), false),
        };
        let (status, headers) = (answer.status(), answer.headers().clone());
        self.count_status(method, status);
        let asked = headers.get(ASKED).and_then(|asked| asked.to_str().ok());
        let repeated = asked.is_some_and(|asked| asked.contains(','));
        if repeated {
            self.count(format!("{method} repeated by the balancer"));
        }
        let heard = match answer.bytes().await {
            Err(error) => self.nothing_heard(&error, method),
            Ok(_) if status.is_server_error() => Heard::Doubt(End::Doubtful(self.clock.now())),
            Ok(body) => Heard::Answer(Answer {
                status: status.as_u16(),
                headers,
                body,
            }),
        };
        (heard, repeated)
    }

    pub(crate) fn count_status(&self, method: &Method, status: StatusCode) {
        self.count(format!("{method} {}", status.as_u16()));
    }

    pub(crate) fn nothing_heard(&self, error: &reqwest::Error, method: &Method) -> Heard {
        if error.is_timeout() {
            self.count(format!("{method} without an answer in time"));
            return Heard::Doubt(End::Abandoned);
        }
        if error.is_connect() {
            self.count("refused connections");
            return Heard::Never;
        }
        self.count(format!("{method} broken off"));
        Heard::Doubt(End::Doubtful(self.clock.now()))
    }
}

fn client() -> Client {
    // Without a provider of the process, reqwest makes no client.
    let _ = rustls::crypto::ring::default_provider().install_default();
    Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(Duration::from_secs(5))
        .timeout(PATIENCE)
        .build()
        .unwrap()
}

impl Ask {
    pub(crate) fn new(method: Method, path: String) -> Self {
        Self {
            method,
            path,
            headers: Vec::new(),
            body: Bytes::new(),
        }
    }

    pub(crate) fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    pub(crate) fn body(mut self, body: Bytes) -> Self {
        self.body = body;
        self
    }
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let name: HeaderName = name.parse().unwrap();
        self.headers.get(name)?.to_str().ok()
    }

    pub(crate) fn digest(&self) -> Option<Digest> {
        self.header("docker-content-digest")?.parse().ok()
    }

    /// For reports.
    pub(crate) fn text(&self) -> String {
        let body = String::from_utf8_lossy(&self.body);
        let id = self.header("x-request-id").unwrap_or_default();
        let body: String = body.chars().take(400).collect();
        format!("{} {body} (request {id})", self.status)
    }
}

impl Told {
    /// For operations whose outcome is not certain: how they ended. `None` if they were never sent.
    pub(crate) fn end(&self) -> Option<End> {
        match self.heard {
            Heard::Answer(_) => Some(End::Acknowledged(self.ended)),
            Heard::Doubt(end) => Some(end),
            Heard::Never => None,
        }
    }
}
