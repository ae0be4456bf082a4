//! How often a denial is told to the audit log: an attacker must not fill it.

use std::{
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use granary_access::{Caller, Reason};
use moka::sync::Cache;

/// Rows a minute for each principal, address and reason.
const MOST: u32 = 10;
/// Principals, addresses and reasons that are remembered.
const REMEMBERED: u64 = 20_000;

type Key = (i64, Option<IpAddr>, Reason);

/// Denials of the last minute.
pub(crate) struct Denials(Cache<Key, Arc<AtomicU32>>);

impl Denials {
    pub(crate) fn new() -> Self {
        let minute = Duration::from_secs(60);
        let counts = Cache::builder().max_capacity(REMEMBERED);
        Self(counts.time_to_live(minute).build())
    }

    /// Whether this one is to be told.
    pub(crate) fn is_news(&self, caller: &Caller, reason: Reason) -> bool {
        let id = caller.principal.ids().map_or(0, |(id, _)| id.0);
        let count = self
            .0
            .get_with((id, caller.origin.address, reason), Arc::default);
        count.fetch_add(1, Ordering::Relaxed) < MOST
    }
}
