//! What replicas share over Redis: bytes by digest, how much of a limit was used, and nothing that must be right
//! (decision 8).
//!
//! Redis may be slow, stopped or wiped at any moment. Nobody waits for it longer than [`PATIENCE`], and after a failure
//! it is left alone for [`PAUSE`].

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use async_trait::async_trait;
use bytes::Bytes;
use granary_catalog::SharedContent;
use granary_oci::Digest;
use redis::{
    AsyncCommands, Client, RedisError,
    aio::{ConnectionManager, ConnectionManagerConfig},
};
use tokio::{runtime::Handle, sync::OnceCell};

use crate::config::ServiceUrl;

/// Longest that a request waits for Redis.
const PATIENCE: Duration = Duration::from_millis(10);
/// How long Redis is left alone after it failed.
const PAUSE: Duration = Duration::from_secs(1);
/// How long bytes stay there.
const LIFETIME: Duration = Duration::from_secs(3600);
/// Larger bytes are not worth the way.
const LARGEST: usize = 1 << 20;
/// Writes under way at most; more are not worth memory.
const WRITES: usize = 64;

/// The way to a Redis that may be away.
#[derive(Clone)]
pub(crate) struct Link {
    inner: Arc<Inner>,
}

struct Inner {
    client: Client,
    connection: OnceCell<ConnectionManager>,
    opened: Instant,
    /// Microseconds after `opened` until which Redis is left alone.
    quiet_until: AtomicU64,
    is_away: AtomicBool,
    /// What is done meanwhile, for the log.
    meanwhile: &'static str,
    runtime: Handle,
}

impl Link {
    /// Checks the URL; connects when it is first needed. Work goes on in `runtime`.
    pub(crate) fn new(
        url: &ServiceUrl,
        meanwhile: &'static str,
        runtime: Handle,
    ) -> Result<Self, RedisError> {
        Ok(Self {
            inner: Arc::new(Inner {
                client: Client::open(url.expose())?,
                connection: OnceCell::new(),
                opened: Instant::now(),
                quiet_until: AtomicU64::new(0),
                is_away: AtomicBool::new(false),
                meanwhile,
                runtime,
            }),
        })
    }

    /// What Redis answers, if it does in time.
    pub(crate) async fn ask<T, F>(
        &self,
        question: impl FnOnce(ConnectionManager) -> F + Send + 'static,
    ) -> Option<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, RedisError>> + Send + 'static,
    {
        if self.inner.is_quiet() {
            return None;
        }
        let inner = Arc::clone(&self.inner);
        // In the runtime that keeps the connection: a worker that ends must not take it along.
        let asking = self
            .inner
            .runtime
            .spawn(async move { question(inner.connection().await?).await });
        match tokio::time::timeout(PATIENCE, asking).await {
            Ok(Ok(answer)) => self.inner.note(answer),
            Ok(Err(_)) => None,
            Err(_) => {
                self.inner.failed("no answer in time");
                None
            }
        }
    }
}

impl Inner {
    async fn connection(&self) -> Result<ConnectionManager, RedisError> {
        let connect = async || {
            let config = ConnectionManagerConfig::new()
                .set_number_of_retries(0)
                .set_connection_timeout(Some(Duration::from_secs(1)))
                .set_response_timeout(Some(Duration::from_secs(1)));
            ConnectionManager::new_with_config(self.client.clone(), config).await
        };
        self.connection.get_or_try_init(connect).await.cloned()
    }

    fn is_quiet(&self) -> bool {
        self.elapsed() < self.quiet_until.load(Ordering::Relaxed)
    }

    fn elapsed(&self) -> u64 {
        u64::try_from(self.opened.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    fn note<T>(&self, answer: Result<T, RedisError>) -> Option<T> {
        match answer {
            Ok(answer) => {
                if self.is_away.load(Ordering::Relaxed)
                    && self.is_away.swap(false, Ordering::Relaxed)
                {
                    tracing::info!("Redis answers again");
                }
                Some(answer)
            }
            Err(error) => {
                self.failed(&error.to_string());
                None
            }
        }
    }

    /// Leaves Redis alone for a moment, and says so once until it answers again.
    fn failed(&self, problem: &str) {
        let pause = u64::try_from(PAUSE.as_micros()).unwrap_or(u64::MAX);
        let until = self.elapsed().saturating_add(pause);
        self.quiet_until.store(until, Ordering::Relaxed);
        if !self.is_away.swap(true, Ordering::Relaxed) {
            let meanwhile = self.meanwhile;
            tracing::warn!(problem, "Redis does not answer; until it does, {meanwhile}");
        }
    }
}

/// Bytes by digest in a Redis that all replicas use.
#[derive(Clone)]
pub(crate) struct RedisContent {
    link: Link,
    writing: Arc<AtomicUsize>,
}

impl RedisContent {
    /// Checks the URL. Work goes on in `runtime`.
    pub(crate) fn new(url: &ServiceUrl, runtime: Handle) -> Result<Self, RedisError> {
        Ok(Self {
            link: Link::new(url, "bytes are read from the catalog", runtime)?,
            writing: Arc::default(),
        })
    }
}

fn key(digest: &Digest) -> String {
    format!("granary:content:{digest}")
}

#[async_trait]
impl SharedContent for RedisContent {
    async fn get(&self, digest: &Digest) -> Option<Bytes> {
        let key = key(digest);
        let get = move |mut redis: ConnectionManager| async move { redis.get(key).await };
        let found: Option<Vec<u8>> = self.link.ask(get).await?;
        found.map(Bytes::from)
    }

    fn put(&self, digest: &Digest, bytes: &Bytes) {
        let inner = &self.link.inner;
        if bytes.len() > LARGEST || inner.is_quiet() {
            return;
        }
        if self.writing.fetch_add(1, Ordering::Relaxed) >= WRITES {
            self.writing.fetch_sub(1, Ordering::Relaxed);
            return;
        }
        let (key, bytes) = (key(digest), bytes.clone());
        let (inner, writing) = (Arc::clone(inner), Arc::clone(&self.writing));
        self.link.inner.runtime.spawn(async move {
            let write = async {
                let mut redis = inner.connection().await?;
                redis.set_ex(key, &bytes[..], LIFETIME.as_secs()).await
            };
            let _: Option<()> = inner.note(write.await);
            writing.fetch_sub(1, Ordering::Relaxed);
        });
    }
}
