//! One server for a whole test process.

use std::sync::{Mutex, OnceLock, PoisonError};

use crate::TestbedError;

/// A server that starts on first use. Statics are not dropped: the watchdog ends it with the process.
pub(crate) struct Shared<T> {
    server: OnceLock<T>,
    starting: Mutex<()>,
}

impl<T> Shared<T> {
    pub(crate) const fn new() -> Self {
        Self {
            server: OnceLock::new(),
            starting: Mutex::new(()),
        }
    }

    /// The server; when it could not start, the next call tries again.
    pub(crate) fn get(
        &self,
        start: impl FnOnce() -> Result<T, TestbedError>,
    ) -> Result<&T, TestbedError> {
        let _one_at_a_time = self.starting.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(server) = self.server.get() {
            return Ok(server);
        }
        let server = start()?;
        Ok(self.server.get_or_init(|| server))
    }
}
