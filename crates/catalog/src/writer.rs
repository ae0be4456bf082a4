//! The one writer of a SQLite catalog.
//!
//! Writes queue up; whatever is waiting runs in one `BEGIN IMMEDIATE` transaction, each in a savepoint of its own, and
//! shares one commit, which is one sync of the write-ahead log (decision 18). Nobody hears of success before that.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use futures_util::future::LocalBoxFuture;
use sea_orm::{
    ConnectionTrait, DatabaseConnection, DatabaseTransaction, SqliteTransactionMode,
    TransactionOptions, TransactionTrait,
};
use tokio::sync::{mpsc, oneshot};

use crate::{
    CatalogError,
    cache::{Cache, Touched},
    dialect,
};

/// Most writes that share one commit.
const GROUP: usize = 64;
/// Most writes that wait; further callers wait for a place.
const QUEUE: usize = 1024;

/// One transaction, as a write sees it.
pub(crate) struct Write {
    pub(crate) transaction: DatabaseTransaction,
    /// The database's time, one for the whole transaction.
    pub(crate) now: i64,
    touched: Vec<Touched>,
}

impl Write {
    /// Notes that a row changed, so that its copy in memory goes.
    pub(crate) fn touch(&mut self, row: Touched) {
        self.touched.push(row);
    }
}

type Reply = Box<dyn FnOnce(Result<(), CatalogError>) + Send>;
type Job = Box<
    dyn for<'w> FnOnce(&'w mut Write) -> LocalBoxFuture<'w, (Result<(), CatalogError>, Reply)>
        + Send,
>;

/// Hands writes to the thread that runs them.
pub(crate) struct Writer {
    queue: mpsc::Sender<Job>,
    commits: Arc<AtomicU64>,
}

impl Writer {
    /// Starts the thread that owns `connection`.
    pub(crate) fn start(
        connection: DatabaseConnection,
        cache: Arc<Cache>,
    ) -> Result<Self, CatalogError> {
        let (queue, jobs) = mpsc::channel(QUEUE);
        let commits = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&commits);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| CatalogError::damaged("writer", error))?;
        std::thread::Builder::new()
            .name("catalog-writer".into())
            .spawn(move || runtime.block_on(run(connection, cache, jobs, counter)))
            .map_err(|error| CatalogError::damaged("writer", error))?;
        Ok(Self { queue, commits })
    }

    /// How many transactions were committed so far.
    pub(crate) fn commits(&self) -> u64 {
        self.commits.load(Ordering::Relaxed)
    }

    /// Runs `work` in a transaction and answers once it is durable.
    ///
    /// An error of `work` undoes only its own statements. The work runs to its end even if the caller goes away.
    pub(crate) async fn write<T, F>(&self, work: F) -> Result<T, CatalogError>
    where
        T: Send + 'static,
        F: AsyncFnOnce(&mut Write) -> Result<T, CatalogError> + Send + 'static,
    {
        let (answer, answered) = oneshot::channel();
        let job: Job = Box::new(move |write| {
            Box::pin(async move {
                let (done, value) = match work(write).await {
                    Ok(value) => (Ok(()), Some(value)),
                    Err(error) => (Err(error), None),
                };
                let reply: Reply = Box::new(move |committed| {
                    // The caller may be gone; the write stands all the same.
                    let _ = answer.send(committed.and_then(|()| value.ok_or(CatalogError::Closed)));
                });
                (done, reply)
            })
        });
        self.queue
            .send(job)
            .await
            .map_err(|_| CatalogError::Closed)?;
        answered.await.map_err(|_| CatalogError::Closed)?
    }
}

async fn run(
    connection: DatabaseConnection,
    cache: Arc<Cache>,
    mut jobs: mpsc::Receiver<Job>,
    commits: Arc<AtomicU64>,
) {
    let mut group = Vec::with_capacity(GROUP);
    while jobs.recv_many(&mut group, GROUP).await > 0 {
        commit_group(&connection, &cache, group.drain(..)).await;
        commits.fetch_add(1, Ordering::Relaxed);
    }
}

async fn commit_group(
    connection: &DatabaseConnection,
    cache: &Cache,
    group: impl Iterator<Item = Job>,
) {
    let options = TransactionOptions {
        sqlite_transaction_mode: Some(SqliteTransactionMode::Immediate),
        ..TransactionOptions::default()
    };
    let transaction = match connection.begin_with_options(options).await {
        Ok(transaction) => transaction,
        Err(error) => return refuse_all(group, &error.to_string()),
    };
    let mut write = Write {
        transaction,
        now: dialect::now(),
        touched: Vec::new(),
    };
    let mut replies = Vec::new();
    for job in group {
        match run_one(&mut write, job).await {
            (Ok(()), reply) => replies.push(reply),
            (Err(error), reply) => reply(Err(error)),
        }
    }
    let closed = cache.close(&write.touched);
    granary_failpoint::reach("catalog::before_commit");
    let committed = write
        .transaction
        .commit()
        .await
        .map_err(|error| error.to_string());
    granary_failpoint::reach("catalog::after_commit");
    drop(closed);
    for reply in replies {
        reply(committed.clone().map_err(commit_failed));
    }
}

async fn run_one(write: &mut Write, job: Job) -> (Result<(), CatalogError>, Reply) {
    let touched = write.touched.len();
    let begun = write
        .transaction
        .execute_unprepared("SAVEPOINT one_write")
        .await;
    let (mut done, reply) = job(write).await;
    if let Err(error) = begun {
        done = Err(error.into());
    }
    let ending = match &done {
        Ok(()) => "RELEASE one_write",
        Err(_) => "ROLLBACK TO one_write; RELEASE one_write",
    };
    if done.is_err() {
        write.touched.truncate(touched);
    }
    if let Err(error) = write.transaction.execute_unprepared(ending).await {
        done = Err(error.into());
    }
    (done, reply)
}

fn refuse_all(group: impl Iterator<Item = Job>, problem: &str) {
    tracing::error!(problem, "the catalog could not begin a transaction");
    // Dropping a job drops its answer's sender: the caller hears that the catalog is closed.
    group.for_each(drop);
}

fn commit_failed(problem: String) -> CatalogError {
    CatalogError::Database(sea_orm::DbErr::Custom(format!(
        "the commit failed: {problem}"
    )))
}
