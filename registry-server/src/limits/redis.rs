//! How much somebody has used of a limit, in a Redis that all replicas use.

use std::time::Duration;

use redis::{RedisError, aio::ConnectionManager};

use super::Whose;
use crate::{config::Rate, redis::Link};

/// The arithmetic of [`super::gcra`], in one step for all replicas and by Redis' clock.
///
/// KEYS: whose. ARGV: the interval and the window of the rate, in nanoseconds. It answers the microseconds to wait, 0 if
/// the request was taken. All numbers stay below 2^53, so they are exact. What is kept goes away once all is paid.
const TAKE: &str = r"
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local interval, window = tonumber(ARGV[1]), tonumber(ARGV[2])
local debt, at = string.match(redis.call('GET', KEYS[1]) or '', '^(%d+) (%d+)$')
debt, at = math.min(tonumber(debt or 0), window), tonumber(at or now)
debt = math.max(0, debt - math.max(0, now - at) * 1000)
local wait = math.max(0, debt + interval - window)
if wait == 0 then debt = debt + interval end
local kept = string.format('%.0f %.0f', debt, now)
redis.call('SET', KEYS[1], kept, 'PX', string.format('%.0f', math.ceil(debt / 1000000) + 1))
return math.ceil(wait / 1000)
";

/// What all owe to all replicas of an installation.
pub(super) struct Shared {
    link: Link,
    /// What the names of our keys begin with.
    prefix: String,
}

impl Shared {
    /// `installation` tells those apart which use the same Redis.
    pub(super) fn new(link: Link, installation: &str) -> Self {
        Self {
            link,
            prefix: format!("granary:limit:{installation}:"),
        }
    }

    /// Takes one request of `whose`, or says how long it is until one can be taken; nothing if Redis does not answer.
    pub(super) async fn take(&self, whose: &Whose, rate: &Rate) -> Option<Result<(), Duration>> {
        let (key, rate) = (format!("{}{whose}", self.prefix), *rate);
        let take = move |redis| async move { take(redis, key, rate).await };
        self.link.ask(take).await
    }
}

async fn take(
    mut redis: ConnectionManager,
    key: String,
    rate: Rate,
) -> Result<Result<(), Duration>, RedisError> {
    // The whole text each time: it is short, and there is no second call for a Redis that has forgotten it.
    let wait: u64 = redis::cmd("EVAL")
        .arg(TAKE)
        .arg(1)
        .arg(key)
        .arg(rate.interval())
        .arg(rate.window())
        .query_async(&mut redis)
        .await?;
    Ok(match wait {
        0 => Ok(()),
        wait => Err(Duration::from_micros(wait)),
    })
}

#[cfg(test)]
mod tests {
    use granary_testbed::Redis;

    use super::*;

    async fn connect(server: &Redis) -> ConnectionManager {
        let client = redis::Client::open(server.url()).unwrap();
        ConnectionManager::new(client).await.unwrap()
    }

    async fn passed(redis: &ConnectionManager, key: &str, rate: Rate) -> usize {
        let mut passed = 0;
        for _ in 0..20 {
            let taken = take(redis.clone(), key.to_owned(), rate).await.unwrap();
            passed += usize::from(taken.is_ok());
        }
        passed
    }

    #[tokio::test]
    async fn of_many_at_once_as_many_pass_as_may() {
        let server = Redis::start().unwrap();
        let redis = connect(&server).await;
        let rate: Rate = "10/h".parse().unwrap();
        let some = || {
            let redis = redis.clone();
            tokio::spawn(async move { passed(&redis, "one", rate).await })
        };
        let tasks = [some(), some(), some()];
        let mut all = 0;
        for task in tasks {
            all += task.await.unwrap();
        }
        assert_eq!(all, 10);
        let refused = take(redis.clone(), "one".to_owned(), rate).await.unwrap();
        let wait = refused.unwrap_err();
        assert!(wait > Duration::ZERO && wait <= Duration::from_secs(360));
        assert_eq!(passed(&redis, "another", rate).await, 10);
        // What nobody uses goes away by itself.
        let left = server.command("PTTL one").unwrap();
        let left: u64 = left.trim_start_matches(':').parse().unwrap();
        assert!(left > 0 && left <= 3_600_001, "{left}");
    }

    #[tokio::test]
    async fn who_waits_as_long_as_was_said_passes() {
        let server = Redis::start().unwrap();
        let redis = connect(&server).await;
        let rate: Rate = "5/s burst 2".parse().unwrap();
        let take = || take(redis.clone(), "one".to_owned(), rate);
        let mut refused = 0;
        for _ in 0..6 {
            if let Err(wait) = take().await.unwrap() {
                refused += 1;
                tokio::time::sleep(wait).await;
                assert_eq!(take().await.unwrap(), Ok(()));
            }
        }
        assert!(refused > 0);
    }

    #[tokio::test]
    async fn what_cannot_be_locks_nobody_out() {
        let server = Redis::start().unwrap();
        let redis = connect(&server).await;
        let rate: Rate = "5/h".parse().unwrap();
        // Not our form; a debt from another rate; a time to come, after the clock was set back.
        for (kept, most) in [
            ("\"\"", 5),
            ("nonsense", 5),
            ("\"9000000000000000 1\"", 5),
            ("\"0 9000000000000000\"", 5),
            ("\"1800000000000 9000000000000000\"", 2),
        ] {
            server.command(&format!("SET one {kept}")).unwrap();
            assert_eq!(passed(&redis, "one", rate).await, most, "{kept}");
        }
    }
}
