//! Which upload sessions have a writer right now (decision 2).

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// The sessions that a request writes to at this moment.
#[derive(Default)]
pub(crate) struct Sessions {
    active: Arc<Mutex<HashMap<String, Active>>>,
}

struct Active {
    number: u64,
    pulse: Arc<Pulse>,
    stop: CancellationToken,
    ended: watch::Receiver<()>,
}

/// What a writer is at.
struct Pulse {
    last_byte: Mutex<Instant>,
    /// All bytes came.
    finishing: AtomicBool,
    /// The store is taking bytes in.
    working: AtomicBool,
}

impl Pulse {
    fn new() -> Self {
        Self {
            last_byte: Mutex::new(Instant::now()),
            finishing: AtomicBool::new(false),
            working: AtomicBool::new(false),
        }
    }

    /// How long a byte has been waited for; no time while none is.
    fn silence(&self) -> Duration {
        if self.finishing.load(Ordering::Relaxed) || self.working.load(Ordering::Relaxed) {
            return Duration::ZERO;
        }
        let last = self.last_byte.lock();
        last.unwrap_or_else(PoisonError::into_inner).elapsed()
    }
}

/// How a session was claimed.
pub(crate) enum Claim {
    /// Nobody else writes to it.
    Free(Lease),
    /// Somebody did, fell silent, and has ended now.
    TakenOver(Lease),
    /// Somebody does.
    Busy {
        /// When he may be overtaken.
        retry_after: Duration,
    },
}

/// The right to write to a session, until it is dropped.
pub(crate) struct Lease {
    id: String,
    number: u64,
    active: Arc<Mutex<HashMap<String, Active>>>,
    pulse: Arc<Pulse>,
    stop: CancellationToken,
    _ended: watch::Sender<()>,
}

impl Sessions {
    /// Claims session `id`; a writer without a byte for `silence` is stopped and waited for, but not one that waits for the store.
    pub(crate) async fn claim(&self, id: &str, silence: Duration) -> Claim {
        let mut taken_over = false;
        loop {
            let mut ended = {
                let mut active = self.active.lock().unwrap_or_else(PoisonError::into_inner);
                let Some(other) = active.get(id) else {
                    let lease = self.enter(&mut active, id);
                    return if taken_over {
                        Claim::TakenOver(lease)
                    } else {
                        Claim::Free(lease)
                    };
                };
                let idle = other.pulse.silence();
                if idle < silence {
                    return Claim::Busy {
                        retry_after: silence - idle,
                    };
                }
                other.stop.cancel();
                other.ended.clone()
            };
            taken_over = true;
            // The sender is dropped with the lease, which ends the wait with an error: that is the event.
            let _ = ended.changed().await;
        }
    }

    /// Stops the writer of session `id`, if there is one, and waits for its end.
    pub(crate) async fn stop(&self, id: &str) {
        let ended = {
            let active = self.active.lock().unwrap_or_else(PoisonError::into_inner);
            active.get(id).map(|other| {
                other.stop.cancel();
                other.ended.clone()
            })
        };
        if let Some(mut ended) = ended {
            let _ = ended.changed().await;
        }
    }

    /// The sessions that have a writer.
    pub(crate) fn busy(&self) -> Vec<String> {
        self.active
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .keys()
            .cloned()
            .collect()
    }

    fn enter(&self, active: &mut HashMap<String, Active>, id: &str) -> Lease {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let (sender, ended) = watch::channel(());
        let pulse = Arc::new(Pulse::new());
        let stop = CancellationToken::new();
        let entry = Active {
            number,
            pulse: Arc::clone(&pulse),
            stop: stop.clone(),
            ended,
        };
        active.insert(id.to_owned(), entry);
        Lease {
            id: id.to_owned(),
            number,
            active: Arc::clone(&self.active),
            pulse,
            stop,
            _ended: sender,
        }
    }
}

impl Lease {
    /// Notes that a byte came.
    pub(crate) fn heartbeat(&self) {
        let mut last = self
            .pulse
            .last_byte
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *last = Instant::now();
    }

    /// Notes that all bytes came: what is left takes its time without any.
    pub(crate) fn finishing(&self) {
        self.pulse.finishing.store(true, Ordering::Relaxed);
    }

    /// Notes whether the store is taking bytes in.
    pub(crate) fn working(&self, working: bool) {
        self.pulse.working.store(working, Ordering::Relaxed);
    }

    /// Whether all bytes came.
    pub(crate) fn is_finishing(&self) -> bool {
        self.pulse.finishing.load(Ordering::Relaxed)
    }

    /// Whether a byte came within `time`, or none is waited for.
    pub(crate) fn is_active_within(&self, time: Duration) -> bool {
        self.pulse.silence() <= time
    }

    /// Ends when another request takes the session over or cancels it.
    pub(crate) async fn stopped(&self) {
        self.stop.cancelled().await;
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut active = self.active.lock().unwrap_or_else(PoisonError::into_inner);
        if active
            .get(&self.id)
            .is_some_and(|entry| entry.number == self.number)
        {
            active.remove(&self.id);
        }
    }
}
