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
    ConnectionTrait, DatabaseConnection, SqliteTransactionMode, TransactionOptions,
    TransactionTrait,
};
use tokio::sync::{mpsc, oneshot};

use super::{QUEUE, Write, start_thread};
use crate::{
    CatalogError,
    cache::Cache,
    dialect::{self, Dialect},
};

/// Most writes that share one commit.
const GROUP: usize = 64;

type Reply = Box<dyn FnOnce(Result<(), CatalogError>) + Send>;
type Job = Box<
    dyn for<'w> FnOnce(&'w mut Write) -> LocalBoxFuture<'w, (Result<(), CatalogError>, Reply)>
        + Send,
>;

/// Hands writes to the thread that runs them.
pub(super) struct Grouped {
    queue: mpsc::Sender<Job>,
}

impl Grouped {
    /// Starts the thread that owns `connection`; it counts its commits in `commits`.
    pub(super) fn start(
        connection: DatabaseConnection,
        cache: Arc<Cache>,
        commits: Arc<AtomicU64>,
    ) -> Result<Self, CatalogError> {
        let (queue, jobs) = mpsc::channel(QUEUE);
        start_thread(move || run(connection, cache, jobs, commits))?;
        Ok(Self { queue })
    }

    pub(super) async fn write<T, F>(&self, work: F) -> Result<T, CatalogError>
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
        dialect: Dialect::Sqlite,
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
