//! A few of each: what somebody may have happen so and so often, as each process counts it for itself.

use std::{
    hash::Hash,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use moka::sync::Cache;

/// What is counted of late, by whom it is about.
pub(super) struct Few<K> {
    counts: Cache<K, Arc<AtomicU32>>,
    most: u32,
}

impl<K: Hash + Eq + Send + Sync + 'static> Few<K> {
    /// At most `most` within that time of each. Beyond `remembered` of them the rarest are forgotten.
    pub(super) fn new(most: u32, within: Duration, remembered: u64) -> Self {
        let counts = Cache::builder().max_capacity(remembered);
        Self {
            counts: counts.time_to_live(within).build(),
            most,
        }
    }

    /// Counts one more, and says whether it is one of the few.
    pub(super) fn takes(&self, whose: K) -> bool {
        let count = self.counts.get_with(whose, Arc::default);
        count.fetch_add(1, Ordering::Relaxed) < self.most
    }
}
