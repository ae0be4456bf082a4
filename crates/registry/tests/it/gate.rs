//! Failpoints as gates: a test learns that one was reached and opens it when it likes.

use std::sync::{
    Arc, Mutex, RwLock, RwLockReadGuard,
    atomic::{AtomicBool, Ordering},
    mpsc,
};

use tokio::sync::Notify;

/// Failpoints are global to the process: tests that set some run alone, all others beside each other.
static FAILPOINTS: RwLock<()> = RwLock::new(());

/// Runs a test that sets failpoints.
pub(crate) fn alone(test: impl Future<Output = ()>) {
    alone_on(tokio::runtime::Builder::new_multi_thread(), test);
}

/// The same, on a runtime of the test's choice.
pub(crate) fn alone_on(mut runtime: tokio::runtime::Builder, test: impl Future<Output = ()>) {
    let _turn = FAILPOINTS
        .write()
        .unwrap_or_else(|failed| failed.into_inner());
    let scenario = fail::FailScenario::setup();
    let runtime = runtime.enable_all().build().unwrap();
    runtime.block_on(test);
    drop(runtime);
    scenario.teardown();
}

/// Keeps failpoints unset while a test runs.
pub(crate) fn together() -> RwLockReadGuard<'static, ()> {
    FAILPOINTS
        .read()
        .unwrap_or_else(|failed| failed.into_inner())
}

/// Stops the first task that passes a failpoint; later ones pass freely.
pub(crate) struct Gate {
    reached: Arc<Notify>,
    open: mpsc::Sender<()>,
}

impl Gate {
    /// Shuts the failpoint `name`.
    pub(crate) fn shut(name: &str) -> Self {
        let reached = Arc::new(Notify::new());
        let (open, opened) = mpsc::channel();
        let (tell, opened, used) = (
            Arc::clone(&reached),
            Mutex::new(opened),
            AtomicBool::new(false),
        );
        fail::cfg_callback(name, move || {
            if !used.swap(true, Ordering::SeqCst) {
                tell.notify_one();
                // A gate that was dropped is open.
                let _ = opened
                    .lock()
                    .unwrap_or_else(|failed| failed.into_inner())
                    .recv();
            }
        })
        .unwrap();
        Self { reached, open }
    }

    /// Waits until somebody stands before it.
    pub(crate) async fn reached(&self) {
        self.reached.notified().await;
    }

    /// Lets him through.
    pub(crate) fn open(self) {
        self.open.send(()).unwrap();
    }
}

/// Runs a test on several threads.
pub(crate) fn run(test: impl Future<Output = ()>) {
    tokio::runtime::Runtime::new().unwrap().block_on(test);
}
