//! Named points where tests stop, pause or kill the process; nothing in a released build.
//!
//! With the feature `failpoints` a point does what `FAILPOINTS` or `fail::cfg` says of it (see the crate `fail`):
//! `pause` blocks, `return(kill)` sends SIGKILL to the process, `return(fail)` makes [`fails`] true.
//! Without it, every call is empty.

#[cfg(feature = "failpoints")]
mod enabled {
    fn evaluate(name: &str) -> Option<String> {
        fail::fail_point!(name, |action| Some(action.unwrap_or_default()));
        None
    }

    /// Passes a point on this thread, which a paused point blocks.
    pub fn reach(name: &str) {
        fails(name);
    }

    /// Passes a point from async code; a paused point blocks a thread of its own.
    pub async fn reach_async(name: &'static str) {
        if fail::list().iter().any(|(point, _)| point == name) {
            // A point that panics ends its own thread only, which is all that such a test wants.
            let _ = tokio::task::spawn_blocking(move || reach(name)).await;
        }
    }

    /// Passes a point; true if the operation behind it is to fail.
    pub fn fails(name: &str) -> bool {
        match evaluate(name).as_deref() {
            Some("kill") => {
                // Whoever set this wants the process gone, and a signal to oneself always arrives.
                let _ = rustix::process::kill_process(
                    rustix::process::getpid(),
                    rustix::process::Signal::KILL,
                );
                true
            }
            Some("fail") => true,
            _ => false,
        }
    }
}

#[cfg(feature = "failpoints")]
pub use enabled::{fails, reach, reach_async};

#[cfg(not(feature = "failpoints"))]
mod disabled {
    /// Nothing.
    #[inline(always)]
    pub fn reach(_name: &str) {}

    /// Nothing.
    #[inline(always)]
    pub async fn reach_async(_name: &'static str) {}

    /// Never.
    #[inline(always)]
    pub fn fails(_name: &str) -> bool {
        false
    }
}

#[cfg(not(feature = "failpoints"))]
pub use disabled::{fails, reach, reach_async};
