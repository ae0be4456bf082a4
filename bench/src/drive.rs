//! Drives the workers through one phase: as fast as answers come (closed loop), or on a schedule that no slow answer can stretch
//! (open loop; latency then counts from the moment a request should have started, so that no stall hides).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use tokio::sync::Mutex;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::connection::Failure;
use crate::worker::{Operation, Worker};

/// A run with that many errors stops: it has no score anyway.
const MAX_ERRORS: u64 = 100;
const KEPT_MESSAGES: usize = 3;
/// Latencies are kept in nanoseconds, from 1 µs to 10 minutes, to three digits.
const SHORTEST: u64 = 1_000;
const LONGEST: u64 = 600_000_000_000;
const DIGITS: u8 = 3;

/// When a phase ends, whichever comes first.
#[derive(Clone, Copy)]
pub(crate) struct Limit {
    pub(crate) duration: Option<Duration>,
    pub(crate) count: Option<u64>,
}

/// What one phase gave.
pub(crate) struct Recording {
    pub(crate) latency: Histogram<u64>,
    pub(crate) closing: Histogram<u64>,
    pub(crate) operations: u64,
    pub(crate) bytes: u64,
    pub(crate) verified: u64,
    pub(crate) errors: u64,
    pub(crate) messages: Vec<String>,
    /// Requests of the schedule that were not even started by its end.
    pub(crate) unserved: u64,
}

impl Recording {
    fn new() -> anyhow::Result<Self> {
        Ok(Self {
            latency: Histogram::new_with_bounds(SHORTEST, LONGEST, DIGITS)?,
            closing: Histogram::new_with_bounds(SHORTEST, LONGEST, DIGITS)?,
            operations: 0,
            bytes: 0,
            verified: 0,
            errors: 0,
            messages: Vec::new(),
            unserved: 0,
        })
    }

    pub(crate) fn note_failure(&mut self, failure: &Failure) {
        self.errors += 1;
        if self.messages.len() < KEPT_MESSAGES {
            self.messages.push(failure.to_string());
        }
    }

    fn note(&mut self, latency: Duration, outcome: &Result<Operation, Failure>) {
        match outcome {
            Ok(operation) => {
                self.operations += 1;
                self.bytes += operation.bytes;
                self.verified += u64::from(operation.verified);
                self.latency.saturating_record(nanoseconds(latency));
                if let Some(closing) = operation.closing {
                    self.closing.saturating_record(nanoseconds(closing));
                }
            }
            Err(failure) => self.note_failure(failure),
        }
    }

    fn note_unserved(&mut self, age: Duration) {
        self.unserved += 1;
        self.latency.saturating_record(nanoseconds(age));
    }

    fn add(&mut self, other: Self) -> anyhow::Result<()> {
        self.latency.add(&other.latency)?;
        self.closing.add(&other.closing)?;
        self.operations += other.operations;
        self.bytes += other.bytes;
        self.verified += other.verified;
        self.errors += other.errors;
        self.unserved += other.unserved;
        self.messages.extend(other.messages);
        self.messages.truncate(KEPT_MESSAGES);
        Ok(())
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// A finished phase: the workers with their open connections, and what was recorded.
pub(crate) struct Phase {
    pub(crate) workers: Vec<Worker>,
    pub(crate) recording: Recording,
    pub(crate) elapsed: Duration,
}

/// What the workers of a phase share.
struct Bounds {
    deadline: Option<Instant>,
    count: u64,
    started: AtomicU64,
    errors: AtomicU64,
    timeout: Duration,
}

impl Bounds {
    fn new(limit: Limit, timeout: Duration) -> Self {
        Self {
            deadline: limit.duration.map(|duration| Instant::now() + duration),
            count: limit.count.unwrap_or(u64::MAX),
            started: AtomicU64::new(0),
            errors: AtomicU64::new(0),
            timeout,
        }
    }

    fn is_over(&self) -> bool {
        self.errors.load(Ordering::Relaxed) >= MAX_ERRORS
            || self
                .deadline
                .is_some_and(|deadline| Instant::now() >= deadline)
    }

    /// Whether one more operation may start; it is counted then.
    fn admits(&self) -> bool {
        !self.is_over() && self.started.fetch_add(1, Ordering::Relaxed) < self.count
    }

    async fn attempt(&self, worker: &mut Worker) -> Result<Operation, Failure> {
        let outcome = timeout(self.timeout, worker.operate())
            .await
            .unwrap_or(Err(Failure::TimedOut));
        if outcome.is_err() {
            self.errors.fetch_add(1, Ordering::Relaxed);
        }
        outcome
    }
}

/// Runs all workers until `limit`; the clock stops when the last operation has ended. With a `rate` the loop is open.
pub(crate) async fn run_phase(
    workers: Vec<Worker>,
    rate: Option<f64>,
    limit: Limit,
    timeout: Duration,
) -> anyhow::Result<Phase> {
    let started = Instant::now();
    let bounds = Arc::new(Bounds::new(limit, timeout));
    let mut tasks = JoinSet::new();
    if let Some(rate) = rate {
        let (sender, receiver) = unbounded_channel();
        let pacing = Arc::clone(&bounds);
        thread::spawn(move || pace(rate, &pacing, &sender));
        let arrivals = Arc::new(Mutex::new(receiver));
        for worker in workers {
            tasks.spawn(open_loop(
                worker,
                Arc::clone(&bounds),
                Arc::clone(&arrivals),
            ));
        }
    } else {
        for worker in workers {
            tasks.spawn(closed_loop(worker, Arc::clone(&bounds)));
        }
    }
    let mut workers = Vec::new();
    let mut recording = Recording::new()?;
    while let Some(ended) = tasks.join_next().await {
        let (worker, recorded) = ended??;
        workers.push(worker);
        recording.add(recorded)?;
    }
    Ok(Phase {
        workers,
        recording,
        elapsed: started.elapsed(),
    })
}

async fn closed_loop(
    mut worker: Worker,
    bounds: Arc<Bounds>,
) -> anyhow::Result<(Worker, Recording)> {
    let mut recording = Recording::new()?;
    while bounds.admits() {
        let started = Instant::now();
        let outcome = bounds.attempt(&mut worker).await;
        recording.note(started.elapsed(), &outcome);
    }
    Ok((worker, recording))
}

async fn open_loop(
    mut worker: Worker,
    bounds: Arc<Bounds>,
    arrivals: Arc<Mutex<UnboundedReceiver<Instant>>>,
) -> anyhow::Result<(Worker, Recording)> {
    let mut recording = Recording::new()?;
    loop {
        let arrival = arrivals.lock().await.recv().await;
        let Some(intended) = arrival else {
            return Ok((worker, recording));
        };
        if bounds.is_over() {
            recording.note_unserved(intended.elapsed());
            continue;
        }
        let outcome = bounds.attempt(&mut worker).await;
        recording.note(intended.elapsed(), &outcome);
    }
}

/// Hands out the moments at which requests should start. A thread of its own, because the runtime's timers know only milliseconds.
fn pace(rate: f64, bounds: &Bounds, arrivals: &UnboundedSender<Instant>) {
    let start = Instant::now();
    while bounds.admits() {
        let index = bounds.started.load(Ordering::Relaxed) - 1;
        let intended = start + Duration::from_secs_f64(index as f64 / rate);
        if bounds.deadline.is_some_and(|deadline| intended >= deadline) {
            return;
        }
        thread::sleep(intended.saturating_duration_since(Instant::now()));
        if arrivals.send(intended).is_err() {
            return;
        }
    }
}
