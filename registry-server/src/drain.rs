//! The way out: from the first signal to the last connection.
//!
//! 1. [`Drain::start`]: readiness turns 503, new upload sessions are refused, answers ask clients to
//!    close. Requests are still taken, so that uploads can be closed and probes see the 503.
//! 2. When nothing runs any more, or at `drain_timeout`, idle connections are closed and the
//!    listener ends.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// A shared handle on the end of the process.
#[derive(Debug, Clone, Default)]
pub struct Drain(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// What requests ask, because the token takes a lock to answer.
    flag: AtomicBool,
    started: CancellationToken,
    closing: CancellationToken,
}

impl Drain {
    /// Begins to drain.
    pub fn start(&self) {
        self.0.flag.store(true, Ordering::Relaxed);
        self.0.started.cancel();
    }

    /// Whether draining has begun.
    pub fn is_started(&self) -> bool {
        self.0.flag.load(Ordering::Relaxed)
    }

    /// Waits until draining begins.
    pub async fn started(&self) {
        self.0.started.cancelled().await;
    }

    /// Closes connections as soon as they are idle.
    pub(crate) fn close_idle(&self) {
        self.0.closing.cancel();
    }

    pub(crate) fn closing(&self) -> WaitForCancellationFutureOwned {
        self.0.closing.clone().cancelled_owned()
    }
}

/// Starts listening for SIGTERM and SIGINT at once; the future that comes back must run in a task.
/// The first signal drains, the second ends the process.
pub fn on_signals(drain: Drain) -> io::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        loop {
            let name = tokio::select! {
                _ = terminate.recv() => "SIGTERM",
                _ = interrupt.recv() => "SIGINT",
            };
            if drain.is_started() {
                tracing::warn!(
                    signal = name,
                    "second signal: ending without waiting for requests"
                );
                std::process::exit(1);
            }
            tracing::info!(
                signal = name,
                "draining: running requests finish, new uploads are refused"
            );
            drain.start();
        }
    })
}
