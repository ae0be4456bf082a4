//! What a store counts of its dealings with a disk or a server: how often, with what outcome, and how long they took.
//!
//! The labels are few and fixed, so that what is made of them stays small whatever clients do.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

/// Upper ends of the buckets of durations, in seconds.
const BOUNDS: [f64; 13] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 30.0,
];

/// What was asked of a disk or a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    /// Bytes of an object. Files: only what was not in the page cache.
    Read,
    /// Bytes sent or written: on S3 a part or a whole small object, on a disk a batch.
    Write,
    /// Making written bytes durable; files only.
    Sync,
    /// Beginning an object of several parts; S3 only.
    Begin,
    /// Making an object of its parts; S3 only.
    Join,
    /// Whether an object is there, and its length.
    Look,
    /// Names of objects, parts or uploads.
    List,
    /// Removing objects.
    Delete,
    /// Ending an unfinished upload; S3 only.
    Abort,
    /// Anything else.
    Other,
}

const OPERATIONS: [(Operation, &str); 10] = [
    (Operation::Read, "read"),
    (Operation::Write, "write"),
    (Operation::Sync, "sync"),
    (Operation::Begin, "begin"),
    (Operation::Join, "join"),
    (Operation::Look, "look"),
    (Operation::List, "list"),
    (Operation::Delete, "delete"),
    (Operation::Abort, "abort"),
    (Operation::Other, "other"),
];

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Well.
    Ok,
    /// There is no such object.
    Missing,
    /// The answer was no: no right, no room, or the object is not as the request wanted it.
    Refused,
    /// It failed, after all tries: the disk or the server did not do what it should have.
    Failed,
}

const OUTCOMES: [(Outcome, &str); 4] = [
    (Outcome::Ok, "ok"),
    (Outcome::Missing, "missing"),
    (Outcome::Refused, "refused"),
    (Outcome::Failed, "failed"),
];

/// The counts of a store.
#[derive(Debug, Default)]
pub(crate) struct Figures([Counts; OPERATIONS.len()]);

#[derive(Debug, Default)]
struct Counts {
    outcomes: [AtomicU64; OUTCOMES.len()],
    retries: AtomicU64,
    /// One more than bounds, for what is slower than all of them.
    buckets: [AtomicU64; BOUNDS.len() + 1],
    micros: AtomicU64,
}

/// What became of one kind of operation since the store was opened.
#[derive(Clone, Debug, PartialEq)]
pub struct OperationFigures {
    /// Its name, one of a dozen.
    pub operation: &'static str,
    /// How many ended how: `ok`, `missing`, `refused` or `failed`.
    pub outcomes: [(&'static str, u64); 4],
    /// Tries beyond the first.
    pub retries: u64,
    /// Upper ends in seconds, the last without end, and how many took no longer than that and longer than the one before.
    pub buckets: Vec<(f64, u64)>,
    /// Seconds that all of them took, repetitions included.
    pub seconds: f64,
}

impl Figures {
    /// Counts one operation and `retries` further tries at it.
    pub(crate) fn count(
        &self,
        operation: Operation,
        outcome: Outcome,
        took: Duration,
        retries: u64,
    ) {
        let counts = &self.0[operation as usize];
        let seconds = took.as_secs_f64();
        let bucket = BOUNDS
            .iter()
            .position(|bound| seconds <= *bound)
            .unwrap_or(BOUNDS.len());
        counts.outcomes[outcome as usize].fetch_add(1, Relaxed);
        counts.buckets[bucket].fetch_add(1, Relaxed);
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        counts.micros.fetch_add(micros, Relaxed);
        if retries > 0 {
            counts.retries.fetch_add(retries, Relaxed);
        }
    }

    /// What happened so far; nothing of what never happened.
    pub(crate) fn read(&self) -> Vec<OperationFigures> {
        let bounds = || BOUNDS.iter().copied().chain([f64::INFINITY]);
        let all = OPERATIONS.iter().zip(&self.0);
        let figures = all.map(|((_, operation), counts)| OperationFigures {
            operation,
            outcomes: std::array::from_fn(|outcome| {
                (OUTCOMES[outcome].1, counts.outcomes[outcome].load(Relaxed))
            }),
            retries: counts.retries.load(Relaxed),
            buckets: bounds()
                .zip(&counts.buckets)
                .map(|(bound, count)| (bound, count.load(Relaxed)))
                .collect(),
            seconds: Duration::from_micros(counts.micros.load(Relaxed)).as_secs_f64(),
        });
        figures
            .filter(|figures| figures.outcomes.iter().any(|(_, count)| *count > 0))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stand_at_the_place_of_what_they_name() {
        for (place, (operation, _)) in OPERATIONS.iter().enumerate() {
            assert_eq!(*operation as usize, place);
        }
        for (place, (outcome, _)) in OUTCOMES.iter().enumerate() {
            assert_eq!(*outcome as usize, place);
        }
    }

    #[test]
    fn what_happened_is_counted_once_and_what_did_not_is_left_out() {
        let figures = Figures::default();
        assert_eq!(figures.read(), []);
        figures.count(Operation::Sync, Outcome::Ok, Duration::from_millis(5), 0);
        figures.count(Operation::Sync, Outcome::Failed, Duration::from_secs(60), 3);
        let all = figures.read();
        assert_eq!(
            (all.len(), all[0].operation, all[0].retries),
            (1, "sync", 3)
        );
        assert_eq!(
            all[0].outcomes,
            [("ok", 1), ("missing", 0), ("refused", 0), ("failed", 1)]
        );
        let filled: Vec<f64> = all[0]
            .buckets
            .iter()
            .filter(|(_, count)| *count == 1)
            .map(|(bound, _)| *bound)
            .collect();
        assert_eq!(filled, [0.005, f64::INFINITY]);
        assert!((all[0].seconds - 60.005).abs() < 1e-9);
    }
}
