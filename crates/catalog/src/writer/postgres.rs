//! The writers of a PostgreSQL catalog: each write is a transaction of its own, READ COMMITTED.
//!
//! They run on one thread, as many at a time as there are connections. What met another transaction, or lost its
//! connection before the commit was sent, runs again from the beginning; a commit whose answer is lost does not, because
//! nobody knows whether it happened (decision 40).

use std::{
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use futures_util::future::LocalBoxFuture;
use sea_orm::{Database, DatabaseConnection, FromQueryResult, TransactionTrait};
use tokio::{
    sync::{OnceCell, Semaphore, mpsc, oneshot},
    task::JoinSet,
};

use super::{Connected, QUEUE, Write, start_thread};
use crate::{
    CatalogError,
    backoff::Backoff,
    dialect::{self, Dialect},
    sql::{self, PATIENCE},
};

/// Most runs of a write that keeps meeting others.
const MEETINGS: u32 = 20;
/// Longest that one run may take; the server's own limits are shorter, but a server may fall silent.
const RUN: Duration = Duration::from_secs(40);

type Job = Box<dyn FnOnce(Rc<Connections>) -> LocalBoxFuture<'static, ()> + Send>;

/// Hands writes to the thread that runs them.
pub(super) struct Each {
    queue: mpsc::Sender<Job>,
    places: Arc<Places>,
}

/// One place for each connection. A write that waits for its next run has none.
pub(super) struct Places {
    free: Semaphore,
    most: u32,
    waiting: AtomicU64,
}

impl Places {
    async fn take(&self) -> Option<tokio::sync::SemaphorePermit<'_>> {
        let _waiting = Waiting::count(&self.waiting);
        // The semaphore is never closed.
        self.free.acquire().await.ok()
    }
}

/// Counts one who waits until it is dropped.
struct Waiting<'a>(&'a AtomicU64);

impl<'a> Waiting<'a> {
    fn count(number: &'a AtomicU64) -> Self {
        number.fetch_add(1, Ordering::Relaxed);
        Self(number)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

struct Connections {
    url: String,
    most: u32,
    /// Made on the thread that uses them, because sockets belong to a runtime.
    pool: OnceCell<DatabaseConnection>,
    places: Arc<Places>,
    commits: Arc<AtomicU64>,
}

#[derive(FromQueryResult)]
struct Clock {
    now: i64,
}

impl Each {
    /// Starts the thread; it connects when the first write comes.
    pub(super) fn start(
        url: &str,
        connections: u32,
        commits: Arc<AtomicU64>,
    ) -> Result<Self, CatalogError> {
        let (queue, jobs) = mpsc::channel(QUEUE);
        let url = url.to_owned();
        let places = Arc::new(Places {
            free: Semaphore::new(connections as usize),
            most: connections,
            waiting: AtomicU64::new(0),
        });
        let shared = Arc::clone(&places);
        start_thread(move || {
            let connections = Connections {
                url,
                most: connections,
                pool: OnceCell::new(),
                places: shared,
                commits,
            };
            run(Rc::new(connections), jobs)
        })?;
        Ok(Self { queue, places })
    }

    /// How its connections stand.
    pub(super) fn connections(&self) -> Connected {
        let most = u64::from(self.places.most);
        Connected {
            in_use: most.saturating_sub(self.places.free.available_permits() as u64),
            most,
            waiting: self.places.waiting.load(Ordering::Relaxed),
        }
    }

    pub(super) async fn write<T, F>(&self, work: F) -> Result<T, CatalogError>
    where
        T: Send + 'static,
        F: AsyncFnOnce(&mut Write) -> Result<T, CatalogError> + Clone + Send + 'static,
    {
        let (answer, answered) = oneshot::channel();
        let job: Job = Box::new(move |connections| {
            Box::pin(async move {
                // The caller may be gone; the write stands all the same.
                let _ = answer.send(connections.persist(work).await);
            })
        });
        self.queue
            .send(job)
            .await
            .map_err(|_| CatalogError::Closed)?;
        answered.await.map_err(|_| CatalogError::Closed)?
    }
}

async fn run(connections: Rc<Connections>, mut jobs: mpsc::Receiver<Job>) {
    let mut running = JoinSet::new();
    while let Some(job) = jobs.recv().await {
        while running.len() >= QUEUE {
            running.join_next().await;
        }
        running.spawn_local(job(Rc::clone(&connections)));
        while running.try_join_next().is_some() {}
    }
    // The queue is closed: the last writes end before the connections do.
    while running.join_next().await.is_some() {}
    if let Some(pool) = connections.pool.get() {
        let _ = pool.close_by_ref().await;
    }
}

impl Connections {
    /// Runs `work` until it commits, or fails for a reason that does not pass.
    async fn persist<T, F>(&self, work: F) -> Result<T, CatalogError>
    where
        F: AsyncFnOnce(&mut Write) -> Result<T, CatalogError> + Clone,
    {
        let (mut backoff, began, mut meetings) = (Backoff::new(), Instant::now(), 0);
        loop {
            let error = match self.run(work.clone()).await {
                Err(error) => error,
                done => return done,
            };
            meetings += u32::from(error.is_conflict());
            let again = error.is_transient()
                && !matches!(error, CatalogError::Indeterminate(_))
                && meetings < MEETINGS
                && began.elapsed() < PATIENCE;
            if !again {
                return Err(error);
            }
            tracing::debug!(%error, "a write is tried again");
            backoff.wait().await;
        }
    }

    /// Runs `work` once, when there is a connection for it.
    async fn run<T, F>(&self, work: F) -> Result<T, CatalogError>
    where
        F: AsyncFnOnce(&mut Write) -> Result<T, CatalogError>,
    {
        let _place = self.places.take().await;
        let write = match tokio::time::timeout(RUN, self.prepare(work)).await {
            Ok(prepared) => prepared?,
            Err(_) => return Err(CatalogError::Silent),
        };
        let (write, value) = write;
        granary_failpoint::reach("catalog::before_commit");
        match tokio::time::timeout(RUN, write.transaction.commit()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Err(CatalogError::uncommitted(error)),
            Err(_) => return Err(CatalogError::Indeterminate("no answer came".to_owned())),
        }
        granary_failpoint::reach("catalog::after_commit");
        self.commits.fetch_add(1, Ordering::Relaxed);
        Ok(value)
    }

    /// Does everything but the commit.
    async fn prepare<T, F>(&self, work: F) -> Result<(Write, T), CatalogError>
    where
        F: AsyncFnOnce(&mut Write) -> Result<T, CatalogError>,
    {
        let connect = async || {
            Database::connect(dialect::postgres_options(&self.url, self.most))
                .await
                .map_err(CatalogError::from)
        };
        let transaction = self.pool.get_or_try_init(connect).await?.begin().await?;
        let clock = format!("SELECT {} AS now", Dialect::Postgres.clock());
        let clock: Option<Clock> = sql::one(&transaction, &clock, []).await?;
        let mut write = Write {
            transaction,
            dialect: Dialect::Postgres,
            now: clock.map_or_else(dialect::now, |clock| clock.now),
            touched: Vec::new(),
        };
        // An error leaves the transaction to be rolled back when it is dropped.
        let value = work(&mut write).await?;
        Ok((write, value))
    }
}
