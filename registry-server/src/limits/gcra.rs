//! How much somebody has used of a limit (GCRA), in this process.
//!
//! Each request leaves a debt of one interval, and time pays debts off. Who would owe more than the whole burst waits.
//! The debt is kept beside the time when it was looked at, so that a clock which jumps can only forget debts or make
//! them last a little longer; the moment when all will be paid, which is the usual form, would lie in the far future
//! after a clock was set back. [`super::redis`] says the same in Redis' language.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use moka::sync::Cache;

use super::Whose;
use crate::config::Rate;

/// Addresses, users and namespaces that are remembered. Beyond it the rarest are forgotten first.
const REMEMBERED: u64 = 200_000;

/// What somebody owes.
#[derive(Debug, Default)]
struct Usage {
    /// Nanoseconds until all is paid, seen from `at`.
    debt: u64,
    /// When that was, in nanoseconds of the caller's clock.
    at: u64,
}

impl Usage {
    /// Takes one request at `now`; else says how long it is until one can be taken.
    fn take(&mut self, rate: &Rate, now: u64) -> Result<(), Duration> {
        let passed = now.saturating_sub(self.at);
        // More than the burst can be owed only if the rate was another one.
        let debt = self.debt.min(rate.window()).saturating_sub(passed);
        let wait = (debt + rate.interval()).saturating_sub(rate.window());
        self.at = now;
        if wait > 0 {
            self.debt = debt;
            return Err(Duration::from_nanos(wait));
        }
        self.debt = debt + rate.interval();
        Ok(())
    }
}

/// What all owe to this process. Nobody waits for anybody else: each has a lock of their own, held for this arithmetic.
pub(super) struct Local {
    usages: Cache<Whose, Arc<Mutex<Usage>>>,
    opened: Instant,
}

impl Local {
    /// Nobody owes anything. `longest` is how long the longest of all debts takes.
    pub(super) fn new(longest: Duration) -> Self {
        let usages = Cache::builder()
            .max_capacity(REMEMBERED)
            .time_to_idle(longest)
            .build();
        Self {
            usages,
            opened: Instant::now(),
        }
    }

    /// Takes one request of `whose`; else says how long it is until one can be taken.
    pub(super) fn take(&self, whose: Whose, rate: &Rate) -> Result<(), Duration> {
        let usage = self.usages.get_with(whose, Arc::default);
        let mut usage = usage.lock().unwrap_or_else(PoisonError::into_inner);
        // With the lock held, so that one who waited for it does not turn the clock back.
        let now = u64::try_from(self.opened.elapsed().as_nanos()).unwrap_or(u64::MAX);
        usage.take(rate, now)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn rate(text: &str) -> Rate {
        text.parse().unwrap()
    }

    #[test]
    fn a_burst_passes_and_then_one_each_interval() {
        let (rate, mut usage, mut now) = (rate("10/s burst 3"), Usage::default(), 5 * SECOND);
        for _ in 0..3 {
            assert_eq!(usage.take(&rate, now), Ok(()));
        }
        assert_eq!(usage.take(&rate, now), Err(Duration::from_millis(100)));
        now += SECOND / 20;
        assert_eq!(usage.take(&rate, now), Err(Duration::from_millis(50)));
        now += SECOND / 20;
        assert_eq!(usage.take(&rate, now), Ok(()));
        assert!(usage.take(&rate, now).is_err());
        // However long nobody came, no more than the burst is there.
        now += 1000 * SECOND;
        let passed = (0..10).filter(|_| usage.take(&rate, now).is_ok()).count();
        assert_eq!(passed, 3);
    }

    #[test]
    fn who_waits_as_long_as_was_said_passes() {
        for text in ["1/s", "3/s", "7/m burst 2", "1000000/s burst 1", "11/h"] {
            let (rate, mut usage, mut now) = (rate(text), Usage::default(), 1);
            for _ in 0..100 {
                if let Err(wait) = usage.take(&rate, now) {
                    let wait = u64::try_from(wait.as_nanos()).unwrap();
                    let mut early = Usage { ..usage };
                    assert!(early.take(&rate, now + wait - 1).is_err());
                    now += wait;
                    assert_eq!(usage.take(&rate, now), Ok(()), "{text}");
                }
            }
        }
    }

    #[test]
    fn a_clock_that_is_set_back_locks_nobody_out() {
        let (rate, mut usage, now) = (rate("1/s burst 5"), Usage::default(), 10_000 * SECOND);
        while usage.take(&rate, now).is_ok() {}
        let mut now = now - 9000 * SECOND;
        // The debt is as it was, and goes on being paid from there.
        assert_eq!(usage.take(&rate, now), Err(Duration::from_secs(1)));
        now += SECOND;
        assert_eq!(usage.take(&rate, now), Ok(()));
        assert!(usage.take(&rate, now).is_err());
    }

    #[test]
    fn another_rate_forgets_what_it_does_not_allow() {
        let mut usage = Usage::default();
        while usage.take(&rate("10/h"), 0).is_ok() {}
        let now_shorter = rate("2/s");
        assert_eq!(usage.take(&now_shorter, 0), Err(Duration::from_millis(500)));
    }

    #[test]
    fn everybody_has_a_budget_of_their_own() {
        let (local, rate) = (Local::new(Duration::from_secs(3600)), rate("2/h"));
        for whose in [
            Whose::Principal(1),
            Whose::Principal(2),
            Whose::Namespace("acme".into()),
            Whose::Address(None),
            Whose::Nobody(None),
        ] {
            let passed = (0..5).filter(|_| local.take(whose.clone(), &rate).is_ok());
            assert_eq!(passed.count(), 2);
        }
    }

    #[test]
    fn of_many_at_once_as_many_pass_as_may() {
        let (local, rate) = (Local::new(Duration::from_secs(3600)), rate("100/h"));
        let take = || local.take(Whose::Principal(7), &rate).is_ok();
        let some = || (0..100).filter(|_| take()).count();
        let passed: usize = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(some)).collect();
            threads.into_iter().map(|one| one.join().unwrap()).sum()
        });
        assert_eq!(passed, 100);
    }

    proptest! {
        #[test]
        fn in_no_window_more_pass_than_the_rate_and_the_burst(
            count in 1_u64..2000,
            burst in 1_u64..50,
            gaps in prop::collection::vec(0_u64..3_000_000_000, 1..300),
            divisor in 1_u64..5000,
        ) {
            let rate = rate(&format!("{count}/s burst {burst}"));
            let (mut usage, mut now, mut passed) = (Usage::default(), 0, Vec::new());
            for gap in gaps {
                now += gap / divisor;
                let mut taken = usage.take(&rate, now);
                if let Err(wait) = taken && gap % 2 == 0 {
                    now += u64::try_from(wait.as_nanos()).unwrap();
                    taken = usage.take(&rate, now);
                    prop_assert!(taken.is_ok());
                }
                if taken.is_ok() {
                    passed.push(now);
                }
            }
            prop_assert!(!passed.is_empty());
            for (first, from) in passed.iter().enumerate() {
                for (last, to) in passed.iter().enumerate().skip(first) {
                    let (number, window) = ((last - first + 1) as u128, u128::from(to - from));
                    // number <= rate * window + burst, in whole numbers.
                    let most = u128::from(count) * window + u128::from(burst * SECOND);
                    prop_assert!(number * u128::from(SECOND) <= most);
                }
            }
        }

        #[test]
        fn a_jumping_clock_gives_no_more_than_its_way_forward(
            steps in prop::collection::vec(-5_000_000_000_i64..5_000_000_000, 1..200),
        ) {
            let rate = rate("2/s burst 4");
            let (mut usage, mut now, mut forward, mut passed) = (Usage::default(), 1_u64 << 50, 0, 0_u64);
            for step in steps {
                now = now.saturating_add_signed(step);
                forward += u64::try_from(step).unwrap_or(0);
                match usage.take(&rate, now) {
                    Ok(()) => passed += 1,
                    Err(wait) => prop_assert!(wait <= Duration::from_millis(500)),
                }
            }
            prop_assert!(passed <= 4 + forward / (SECOND / 2));
        }
    }
}
