//! Wrong passwords: whoever sends many waits.
//!
//! They are counted for a name at an address, so that nobody can lock a user out from elsewhere, and for an address over
//! all names. The same wrong one again does not count: it is a client with an old password, who guesses nothing. What was
//! verified lately, and tokens, never come here. Each process counts for itself.

use std::{
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use moka::sync::Cache;

/// The longest wait for the next one.
const LONGEST: Duration = Duration::from_secs(15 * 60);
/// After how long without a wrong one all are forgotten.
const FORGOTTEN: Duration = Duration::from_secs(3600);
/// How many times more are free of an address over all names, which many people may share.
const SHARED: u32 = 20;
/// How long the next one waits then.
const WAIT_OF_ADDRESS: Duration = Duration::from_secs(10);
/// Names and addresses that are remembered.
const REMEMBERED: u64 = 100_000;

/// What is counted.
#[derive(Clone, PartialEq, Eq, Hash)]
enum Whose {
    /// The name as it was sent, whether there is such a user or not, cut to a bounded length.
    Name(Box<str>, Option<IpAddr>),
    Address(Option<IpAddr>),
}

#[derive(Default)]
struct Tries {
    failed: u32,
    /// What failed last, as a fingerprint, and when.
    last: Option<([u8; 32], Instant)>,
    /// Nothing is tried before.
    until: Option<Instant>,
}

/// Wrong passwords of late.
pub(super) struct Failures {
    tries: Cache<Whose, Arc<Mutex<Tries>>>,
    /// Those of a name at an address that cost nothing but their hash; 0 if none is counted.
    free: u32,
}

impl Failures {
    pub(super) fn new(free: u32) -> Self {
        let tries = Cache::builder()
            .max_capacity(REMEMBERED)
            .time_to_idle(FORGOTTEN)
            .build();
        Self { tries, free }
    }

    /// How long `user` at `from` has to wait before a password is looked at.
    pub(super) fn wait(&self, user: &str, from: Option<IpAddr>, now: Instant) -> Option<Duration> {
        let waits = whose(user, from).map(|whose| {
            let tries = self.tries.get(&whose)?;
            let until = tries.lock().unwrap_or_else(PoisonError::into_inner).until?;
            until
                .checked_duration_since(now)
                .filter(|wait| !wait.is_zero())
        });
        waits.into_iter().flatten().max()
    }

    /// Notes a wrong password by its fingerprint.
    pub(super) fn failed(
        &self,
        user: &str,
        from: Option<IpAddr>,
        fingerprint: [u8; 32],
        now: Instant,
    ) {
        if self.free == 0 {
            return;
        }
        for whose in whose(user, from) {
            let of_name = matches!(whose, Whose::Name(..));
            let tries = self.tries.get_with(whose, Arc::default);
            let mut tries = tries.lock().unwrap_or_else(PoisonError::into_inner);
            match tries.last {
                Some((last, _)) if last == fingerprint => continue,
                Some((_, at)) if now.saturating_duration_since(at) >= FORGOTTEN => {
                    *tries = Tries::default();
                }
                _ => {}
            }
            tries.last = Some((fingerprint, now));
            tries.failed = tries.failed.saturating_add(1);
            let wait = match (of_name, tries.failed) {
                (true, failed) if failed >= self.free => {
                    let doubled = 1_u64.checked_shl(failed - self.free).unwrap_or(u64::MAX);
                    Duration::from_secs(doubled).min(LONGEST)
                }
                (false, failed) if failed >= self.free.saturating_mul(SHARED) => WAIT_OF_ADDRESS,
                _ => continue,
            };
            tries.until = Some(now + wait);
        }
    }

    /// Notes the right one.
    pub(super) fn succeeded(&self, user: &str, from: Option<IpAddr>) {
        let [name, _] = whose(user, from);
        self.tries.invalidate(&name);
    }
}

fn whose(user: &str, from: Option<IpAddr>) -> [Whose; 2] {
    let from = from.map(network);
    let user = user.chars().take(80).collect::<String>();
    [Whose::Name(user.into(), from), Whose::Address(from)]
}

/// An address as requests are counted: of IPv6 the network of 64 bits that a household has.
pub fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let network = address.to_bits() & !u128::from(u64::MAX);
            IpAddr::V6(Ipv6Addr::from_bits(network))
        }
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Option<IpAddr> {
        Some(text.parse().unwrap())
    }

    /// A fingerprint of its own for each number.
    fn print(number: u32) -> [u8; 32] {
        let mut print = [0; 32];
        print[..4].copy_from_slice(&number.to_be_bytes());
        print
    }

    #[test]
    fn who_fails_waits_longer_each_time_and_nobody_else_does() {
        let (failures, here) = (Failures::new(5), address("10.0.0.1"));
        let mut now = Instant::now();
        for number in 1..5 {
            failures.failed("bob", here, print(number), now);
            assert_eq!(failures.wait("bob", here, now), None);
        }
        let waits = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 900, 900];
        for (number, seconds) in (100..).zip(waits) {
            failures.failed("bob", here, print(number), now);
            // The same again is an old password, and no guess.
            failures.failed("bob", here, print(number), now);
            let wait = failures.wait("bob", here, now).unwrap();
            assert_eq!(wait, Duration::from_secs(seconds));
            assert_eq!(failures.wait("bob", address("10.0.0.2"), now), None);
            assert_eq!(failures.wait("carol", here, now), None);
            now += wait;
            assert_eq!(failures.wait("bob", here, now), None);
        }
        failures.succeeded("bob", here);
        failures.failed("bob", here, print(0), now);
        assert_eq!(failures.wait("bob", here, now), None);
    }

    #[test]
    fn nothing_is_counted_where_that_is_switched_off() {
        let (failures, now) = (Failures::new(0), Instant::now());
        for number in 0..1000 {
            failures.failed("bob", None, print(number), now);
        }
        assert_eq!(failures.wait("bob", None, now), None);
    }

    #[test]
    fn an_address_that_tries_many_names_waits() {
        let (failures, now) = (Failures::new(5), Instant::now());
        let household = |host: u32| address(&format!("2001:db8:1:2::{host:x}"));
        for number in 1..5 * SHARED {
            let user = format!("user{number}");
            failures.failed(&user, household(number), print(number), now);
        }
        assert_eq!(failures.wait("bob", household(9999), now), None);
        failures.failed("another", household(1), print(0), now);
        assert_eq!(
            failures.wait("bob", household(9999), now),
            Some(WAIT_OF_ADDRESS)
        );
        assert_eq!(failures.wait("bob", address("2001:db8:1:3::1"), now), None);
    }
}
