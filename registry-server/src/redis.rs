//! What replicas share over Redis: bytes by digest, and nothing that an answer depends on (decision 8).
//!
//! Redis may be slow, stopped or wiped at any moment. Nobody waits for it longer than [`PATIENCE`], and after a failure
//! it is left alone for [`PAUSE`].

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
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

/// Bytes by digest in a Redis that all replicas use.
#[derive(Clone)]
pub(crate) struct RedisContent {
    inner: Arc<Inner>,
}

struct Inner {
    client: Client,
    connection: OnceCell<ConnectionManager>,
    quiet_until: Mutex<Option<Instant>>,
    writing: AtomicUsize,
    runtime: Handle,
}

impl RedisContent {
    /// Checks the URL; connects when it is first needed. Work goes on in `runtime`.
    pub(crate) fn new(url: &ServiceUrl, runtime: Handle) -> Result<Self, RedisError> {
        Ok(Self {
            inner: Arc::new(Inner {
                client: Client::open(url.expose())?,
                connection: OnceCell::new(),
                quiet_until: Mutex::default(),
                writing: AtomicUsize::new(0),
                runtime,
            }),
        })
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
        let until = self
            .quiet_until
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        until.is_some_and(|until| Instant::now() < until)
    }

    fn failed(&self, problem: &str) {
        tracing::warn!(
            problem,
            "Redis does not answer; it is done without for a moment"
        );
        let mut until = self
            .quiet_until
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *until = Some(Instant::now() + PAUSE);
    }

    async fn get(&self, key: String) -> Result<Option<Vec<u8>>, RedisError> {
        self.connection().await?.get(key).await
    }

    async fn put(&self, key: String, bytes: Bytes) -> Result<(), RedisError> {
        let mut connection = self.connection().await?;
        connection.set_ex(key, &bytes[..], LIFETIME.as_secs()).await
    }
}

fn key(digest: &Digest) -> String {
    format!("granary:content:{digest}")
}

#[async_trait]
impl SharedContent for RedisContent {
    async fn get(&self, digest: &Digest) -> Option<Bytes> {
        if self.inner.is_quiet() {
            return None;
        }
        let (inner, key) = (Arc::clone(&self.inner), key(digest));
        // In the runtime that keeps the connection: a worker that ends must not take it along.
        let asking = self
            .inner
            .runtime
            .spawn(async move { inner.get(key).await });
        match tokio::time::timeout(PATIENCE, asking).await {
            Ok(Ok(Ok(found))) => found.map(Bytes::from),
            Ok(Ok(Err(error))) => {
                self.inner.failed(&error.to_string());
                None
            }
            Ok(Err(_)) => None,
            Err(_) => {
                self.inner.failed("no answer in time");
                None
            }
        }
    }

    fn put(&self, digest: &Digest, bytes: &Bytes) {
        if bytes.len() > LARGEST || self.inner.is_quiet() {
            return;
        }
        if self.inner.writing.fetch_add(1, Ordering::Relaxed) >= WRITES {
            self.inner.writing.fetch_sub(1, Ordering::Relaxed);
            return;
        }
        let (inner, key, bytes) = (Arc::clone(&self.inner), key(digest), bytes.clone());
        self.inner.runtime.spawn(async move {
            if let Err(error) = inner.put(key, bytes).await {
                inner.failed(&error.to_string());
            }
            inner.writing.fetch_sub(1, Ordering::Relaxed);
        });
    }
}
