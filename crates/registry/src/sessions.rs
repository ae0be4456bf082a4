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

    /// Stops the writers of sessions that have ended, and waits for none of them.
    pub(crate) fn end(&self, ids: &[String]) {
        let active = self.active.lock().unwrap_or_else(PoisonError::into_inner);
        for writer in ids.iter().filter_map(|id| active.get(id)) {
            writer.stop.cancel();
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

#[cfg(test)]
mod tests {
    use super::*;

    const SILENCE: Duration = Duration::from_secs(60);

    /// A writer whose last byte came long ago.
    async fn silent(sessions: &Sessions) -> Lease {
        let Claim::Free(lease) = sessions.claim("id", SILENCE).await else {
            panic!("nobody else writes to it");
        };
        let long_ago = Instant::now().checked_sub(2 * SILENCE).unwrap();
        *lease.pulse.last_byte.lock().unwrap() = long_ago;
        lease
    }

    async fn is_busy(sessions: &Sessions) -> bool {
        let wait = Duration::from_secs(10);
        // One that may be overtaken is told to stop, and waited for.
        match tokio::time::timeout(wait, sessions.claim("id", SILENCE)).await {
            Ok(Claim::Busy { retry_after }) => retry_after > Duration::ZERO,
            Ok(Claim::Free(_) | Claim::TakenOver(_)) | Err(_) => false,
        }
    }

    /// Takes the session over from its writer, who ends when he is told to.
    async fn is_taken_over(sessions: &Sessions, lease: Lease) -> bool {
        let ending = async move {
            let wait = Duration::from_secs(10);
            let told = tokio::time::timeout(wait, lease.stopped()).await;
            drop(lease);
            told.is_ok()
        };
        let (claim, told) = tokio::join!(sessions.claim("id", SILENCE), ending);
        told && matches!(claim, Claim::TakenOver(_))
    }

    #[tokio::test]
    async fn a_writer_that_waits_for_the_store_is_not_taken_over() {
        let sessions = Sessions::default();
        let lease = silent(&sessions).await;
        lease.working(true);
        assert!(is_busy(&sessions).await);
        assert!(lease.is_active_within(SILENCE));
        lease.working(false);
        assert!(!lease.is_active_within(SILENCE));
        assert!(is_taken_over(&sessions, lease).await);
    }

    #[tokio::test]
    async fn a_writer_that_has_all_its_bytes_is_not_taken_over() {
        let sessions = Sessions::default();
        let lease = silent(&sessions).await;
        lease.finishing();
        assert!(is_busy(&sessions).await);
        drop(lease);
        assert!(matches!(
            sessions.claim("id", SILENCE).await,
            Claim::Free(_)
        ));
    }

    #[tokio::test]
    async fn a_byte_puts_a_take_over_off() {
        let sessions = Sessions::default();
        let lease = silent(&sessions).await;
        lease.heartbeat();
        assert!(is_busy(&sessions).await);
    }
}
