//! Waiting longer each time, and never at the same moment as everybody else.

use std::{
    hash::{BuildHasher, RandomState},
    time::Duration,
};

const FIRST: Duration = Duration::from_millis(10);
const LONGEST: Duration = Duration::from_secs(1);

/// Pauses between tries: doubling from 10 ms to 1 s, each between half and all of that.
///
/// Processes that lost the same database must not all come back at once (jitter).
pub(crate) struct Backoff {
    next: Duration,
}

impl Backoff {
    pub(crate) fn new() -> Self {
        Self { next: FIRST }
    }

    pub(crate) async fn wait(&mut self) {
        tokio::time::sleep(self.pause()).await;
    }

    fn pause(&mut self) -> Duration {
        let whole = self.next;
        self.next = (whole * 2).min(LONGEST);
        // A hasher's random keys are the standard library's only source of chance, and chance enough here.
        let chance = RandomState::new().hash_one(()) % 1000;
        whole / 2 + whole.mul_f64(chance as f64 / 2000.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_bound_and_vary() {
        let mut backoff = Backoff::new();
        let pauses: Vec<Duration> = (0..20).map(|_| backoff.pause()).collect();
        assert!(pauses[0] >= FIRST / 2 && pauses[0] <= FIRST);
        let late = &pauses[10..];
        assert!(
            late.iter()
                .all(|pause| *pause >= LONGEST / 2 && *pause <= LONGEST)
        );
        assert!(late.iter().any(|pause| *pause != late[0]), "{late:?}");
    }
}
