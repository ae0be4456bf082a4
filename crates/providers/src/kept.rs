//! What was fetched, until it is to be fetched again.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use crate::ProviderError;

/// How long something is good.
const GOOD_FOR: Duration = Duration::from_secs(3600);
/// How long nobody is asked again after a failure, and after something was fetched again before its time.
const PAUSE: Duration = Duration::from_secs(10);

/// A document of a provider. One request at a time fetches it; who needs what is there never waits for that.
#[derive(Debug)]
pub(crate) struct Kept<T> {
    slot: Mutex<Slot<T>>,
    fetching: tokio::sync::Mutex<()>,
}

#[derive(Debug)]
struct Slot<T> {
    value: Option<(Arc<T>, Instant)>,
    failed: Option<(ProviderError, Instant)>,
    renewed: Option<Instant>,
}

impl<T> Kept<T> {
    pub(crate) fn new() -> Self {
        Self {
            slot: Mutex::new(Slot {
                value: None,
                failed: None,
                renewed: None,
            }),
            fetching: tokio::sync::Mutex::new(()),
        }
    }

    /// What is good, or else what `fetch` brings.
    pub(crate) async fn get(
        &self,
        fetch: impl Future<Output = Result<T, ProviderError>>,
    ) -> Result<Arc<T>, ProviderError> {
        if let Some(known) = self.known() {
            return known;
        }
        let _alone = self.fetching.lock().await;
        // Whoever was before us may have fetched it.
        match self.known() {
            Some(known) => known,
            None => self.store(fetch.await),
        }
    }

    /// What `fetch` brings, if what is there is still `old` and it was not renewed just now.
    pub(crate) async fn renew(
        &self,
        old: &Arc<T>,
        fetch: impl Future<Output = Result<T, ProviderError>>,
    ) -> Result<Arc<T>, ProviderError> {
        let _alone = self.fetching.lock().await;
        {
            let mut slot = self.slot.lock().unwrap_or_else(PoisonError::into_inner);
            let newer = slot.value.as_ref().map(|(value, _)| value);
            if let Some(newer) = newer.filter(|value| !Arc::ptr_eq(value, old)) {
                return Ok(Arc::clone(newer));
            }
            if slot.renewed.is_some_and(|at| at.elapsed() < PAUSE) {
                return Ok(Arc::clone(old));
            }
            slot.renewed = Some(Instant::now());
        }
        self.store(fetch.await)
    }

    /// What needs no request.
    fn known(&self) -> Option<Result<Arc<T>, ProviderError>> {
        let slot = self.slot.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((value, at)) = &slot.value
            && at.elapsed() < GOOD_FOR
        {
            return Some(Ok(Arc::clone(value)));
        }
        match &slot.failed {
            Some((error, at)) if at.elapsed() < PAUSE => Some(Err(error.clone())),
            _ => None,
        }
    }

    fn store(&self, fetched: Result<T, ProviderError>) -> Result<Arc<T>, ProviderError> {
        let mut slot = self.slot.lock().unwrap_or_else(PoisonError::into_inner);
        match fetched {
            Ok(value) => {
                let value = Arc::new(value);
                slot.value = Some((Arc::clone(&value), Instant::now()));
                slot.failed = None;
                Ok(value)
            }
            Err(error) => {
                slot.failed = Some((error.clone(), Instant::now()));
                Err(error)
            }
        }
    }
}
