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
    time::Instant,
};

use futures_util::future::LocalBoxFuture;
use sea_orm::{Database, DatabaseConnection, FromQueryResult, TransactionTrait};
use tokio::sync::{OnceCell, Semaphore, mpsc, oneshot};

use super::{QUEUE, Write, start_thread};
use crate::{
    CatalogError,
    backoff::Backoff,
    dialect::{self, Dialect},
    sql::{self, PATIENCE},
};

/// Most runs of a write that keeps meeting others.
const MEETINGS: u32 = 8;

type Job = Box<dyn FnOnce(Rc<Connections>) -> LocalBoxFuture<'static, ()> + Send>;

/// Hands writes to the thread that runs them.
pub(super) struct Each {
    queue: mpsc::Sender<Job>,
}

struct Connections {
    url: String,
    most: u32,
    /// Made on the thread that uses them, because sockets belong to a runtime.
    pool: OnceCell<DatabaseConnection>,
    places: Arc<Semaphore>,
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
        start_thread(move || {
            let connections = Connections {
                url,
                most: connections,
                pool: OnceCell::new(),
                places: Arc::new(Semaphore::new(connections as usize)),
                commits,
            };
            run(Rc::new(connections), jobs)
        })?;
        Ok(Self { queue })
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
    while let Some(job) = jobs.recv().await {
        // The semaphore is never closed, so there is always a place in the end.
        let Ok(place) = Arc::clone(&connections.places).acquire_owned().await else {
            return;
        };
        let work = job(Rc::clone(&connections));
        tokio::task::spawn_local(async move {
            work.await;
            drop(place);
        });
    }
    // The queue is closed: the last writes end before the connections do.
    let _all = connections.places.acquire_many(connections.most).await;
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
            let error = match self.once(work.clone()).await {
                Err(error) => error,
                done => return done,
            };
            let again = if error.is_conflict() {
                meetings += 1;
                meetings < MEETINGS
            } else {
                error.is_transient()
                    && !matches!(error, CatalogError::Indeterminate(_))
                    && began.elapsed() < PATIENCE
            };
            if !again {
                return Err(error);
            }
            tracing::debug!(%error, "a write is tried again");
            backoff.wait().await;
        }
    }

    async fn once<T, F>(&self, work: F) -> Result<T, CatalogError>
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
        granary_failpoint::reach("catalog::before_commit");
        let committed = write.transaction.commit().await;
        committed.map_err(|error| CatalogError::Indeterminate(error.to_string()))?;
        granary_failpoint::reach("catalog::after_commit");
        self.commits.fetch_add(1, Ordering::Relaxed);
        Ok(value)
    }
}
