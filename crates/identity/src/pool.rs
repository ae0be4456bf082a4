//! Threads that hash passwords.
//!
//! A hash costs tens of milliseconds and megabytes on purpose. So there are few threads for it, each with memory of
//! its own, and few may wait for them: a flood of log-ins takes at most half of the cores, and what is more is refused.

use std::{
    io,
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    },
    thread,
};

use futures_channel::oneshot;

use crate::{
    PasswordSettings, Secret,
    hasher::{HashError, Hasher},
};

/// What a password turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The right one.
    Right,
    /// The right one, hashed by other parameters than today's settings: hash it again and keep that.
    RightButWeak,
    /// Another one; or there is none.
    Wrong,
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PoolError {
    /// So many wait already that it makes no sense to join them: ask again in a second.
    #[error("too many passwords wait to be hashed")]
    Full,
    /// The hash in the catalog is damaged or asks for too much, or the machine has no memory for it.
    #[error("a password cannot be hashed: {0}")]
    Failed(String),
}

type Job = Box<dyn FnOnce(&mut Hasher) + Send>;
/// Where the result of a job arrives.
type Outcome<T> = oneshot::Receiver<Result<T, HashError>>;

/// Threads that hash passwords, and the queue before them. They end when this is dropped.
#[derive(Debug)]
pub struct Passwords {
    jobs: SyncSender<Job>,
}

impl Passwords {
    /// Jobs that may wait, if nobody knows better.
    pub const QUEUE: usize = 64;

    /// Half of the cores, 1 to 4: threads to start, if nobody knows better.
    pub fn default_threads() -> usize {
        thread::available_parallelism().map_or(1, |cores| (cores.get() / 2).clamp(1, 4))
    }

    /// Starts `threads` threads, before which `queue` jobs may wait; at least one of each. A thread holds
    /// `settings.memory_kib` once it has hashed something. Fails if argon2 cannot work by the settings, or if the
    /// system gives no more threads.
    pub fn start(settings: PasswordSettings, threads: usize, queue: usize) -> io::Result<Self> {
        let (jobs, waiting) = sync_channel(queue.max(1));
        let waiting = Arc::new(Mutex::new(waiting));
        for number in 0..threads.max(1) {
            let mut hasher = Hasher::new(&settings)
                .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
            let waiting = Arc::clone(&waiting);
            thread::Builder::new()
                .name(format!("password-{number}"))
                .spawn(move || {
                    while let Some(job) = next(&waiting) {
                        job(&mut hasher);
                    }
                })?;
        }
        Ok(Self { jobs })
    }

    /// The PHC string of `password`, under a fresh salt and by the settings.
    pub async fn hash(&self, password: Secret) -> Result<String, PoolError> {
        let outcome = self.submit(move |hasher| hasher.hash(&password))?;
        answer(outcome).await
    }

    /// Whether `password` is the one that `phc` was made from. For a user who does not exist or has no password, `phc`
    /// is `None`: that takes as long, and says [`Verdict::Wrong`].
    pub async fn verify(
        &self,
        password: Secret,
        phc: Option<String>,
    ) -> Result<Verdict, PoolError> {
        let outcome = self.submit(move |hasher| hasher.verify(&password, phc.as_deref()))?;
        answer(outcome).await
    }

    /// Lets a job wait for a thread.
    fn submit<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Hasher) -> Result<T, HashError> + Send + 'static,
    ) -> Result<Outcome<T>, PoolError> {
        let (sender, outcome) = oneshot::channel();
        let job: Job = Box::new(move |hasher: &mut Hasher| {
            // Whoever asked may have gone while this waited; then it costs nothing.
            if !sender.is_canceled() {
                let _ = sender.send(work(hasher));
            }
        });
        match self.jobs.try_send(job) {
            Ok(()) => Ok(outcome),
            Err(TrySendError::Full(_)) => Err(PoolError::Full),
            Err(TrySendError::Disconnected(_)) => Err(gone()),
        }
    }
}

/// The next job; `None` when the pool is gone. The lock is held while one waits for a job, not while he does it.
fn next(waiting: &Mutex<Receiver<Job>>) -> Option<Job> {
    let waiting = waiting.lock().unwrap_or_else(PoisonError::into_inner);
    waiting.recv().ok()
}

async fn answer<T>(outcome: Outcome<T>) -> Result<T, PoolError> {
    match outcome.await {
        Ok(result) => result.map_err(|error| PoolError::Failed(error.to_string())),
        Err(oneshot::Canceled) => Err(gone()),
    }
}

fn gone() -> PoolError {
    PoolError::Failed("its thread has ended".to_owned())
}

#[cfg(test)]
mod tests {
    use std::{cell::RefCell, sync::mpsc};

    use super::*;

    const CHEAP: PasswordSettings = PasswordSettings {
        memory_kib: 8,
        iterations: 1,
        min_length: 12,
    };

    fn secret(text: &str) -> Secret {
        Secret::from(text.to_owned())
    }

    /// A pool whose only thread is busy, and what frees it.
    fn busy() -> (Passwords, mpsc::Sender<()>, Outcome<()>) {
        let pool = Passwords::start(CHEAP, 1, 1).unwrap();
        let (started, has_started) = mpsc::channel();
        let (gate, opened) = mpsc::channel();
        let job = pool.submit(move |_| {
            started.send(()).unwrap();
            opened.recv().unwrap();
            Ok(())
        });
        has_started.recv().unwrap();
        (pool, gate, job.unwrap())
    }

    #[tokio::test]
    async fn passwords_are_hashed_and_verified() {
        let pool = Passwords::start(CHEAP, 2, 4).unwrap();
        let phc = pool.hash(secret("correct horse")).await.unwrap();
        for (password, phc, verdict) in [
            ("correct horse", Some(phc.clone()), Verdict::Right),
            ("correct house", Some(phc), Verdict::Wrong),
            ("correct horse", None, Verdict::Wrong),
        ] {
            assert_eq!(pool.verify(secret(password), phc).await, Ok(verdict));
        }
        let excessive = "$argon2id$v=19$m=4194304,t=1,p=1$c2FsdHNhbHQ$MDEyMzQ1Njc4OTAx".to_owned();
        let refused = pool.verify(secret("correct horse"), Some(excessive)).await;
        assert!(matches!(refused, Err(PoolError::Failed(_))), "{refused:?}");
    }

    #[tokio::test]
    async fn a_full_queue_refuses() {
        let (pool, gate, first) = busy();
        let second = pool.submit(|hasher| hasher.hash(&secret("waits"))).unwrap();
        assert_eq!(pool.hash(secret("too many")).await, Err(PoolError::Full));
        let refused = pool.verify(secret("too many"), None).await;
        assert_eq!(refused, Err(PoolError::Full));
        gate.send(()).unwrap();
        assert_eq!(answer(first).await, Ok(()));
        assert!(answer(second).await.unwrap().starts_with("$argon2id$"));
        assert!(pool.hash(secret("room again")).await.is_ok());
    }

    #[tokio::test]
    async fn nobody_hashes_for_who_has_gone() {
        let (pool, gate, first) = busy();
        let (ran, has_run) = mpsc::channel();
        let second = pool.submit(move |_| {
            ran.send(()).unwrap();
            Ok(())
        });
        drop(second);
        gate.send(()).unwrap();
        assert_eq!(answer(first).await, Ok(()));
        // The job was dropped without having run.
        assert_eq!(has_run.recv(), Err(mpsc::RecvError));
    }

    #[test]
    fn threads_end_with_the_pool() {
        thread_local! {
            // Dropped when its thread ends.
            static ALIVE: RefCell<Option<mpsc::Sender<()>>> = const { RefCell::new(None) };
        }
        let pool = Passwords::start(CHEAP, 1, 1).unwrap();
        let (alive, ended) = mpsc::channel();
        let outcome = pool.submit(move |_| {
            ALIVE.set(Some(alive));
            Ok(())
        });
        drop(pool);
        assert_eq!(ended.recv(), Err(mpsc::RecvError));
        drop(outcome);
    }

    #[test]
    fn a_pool_starts_with_settings_that_argon2_can_work_by_only() {
        let settings = PasswordSettings {
            memory_kib: 1,
            ..CHEAP
        };
        let error = Passwords::start(settings, 1, 1).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        assert!((1..=4).contains(&Passwords::default_threads()));
        assert!(Passwords::start(CHEAP, 0, 0).is_ok());
    }
}
