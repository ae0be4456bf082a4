//! Look-ups that wait at the same time share a statement (decision 8).
//!
//! A few statements run at once. Whoever asks while they do waits for the next one, which asks for everything that has
//! gathered; so each answer comes from a statement that was sent after its question. The busier a process is, the more
//! questions a statement answers, and the less each costs the database.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::oneshot;

use crate::{CatalogError, sql::Reads};

/// Something that can be asked for many at a time. Equal questions are asked once.
pub(crate) trait Question: PartialEq + Send + Sync + Sized + 'static {
    /// What comes back.
    type Answer: Clone + Send + 'static;

    /// Asks all of `questions` in one statement; the answers come in their order.
    fn ask(
        reads: &Reads,
        questions: &[Self],
    ) -> impl Future<Output = Result<Vec<Self::Answer>, CatalogError>> + Send;
}

/// Most questions of one statement, as their answers are in memory together.
pub(crate) const MOST: usize = 16;

/// Everybody who waits for the answer to a question.
type Askers<Q> = Vec<oneshot::Sender<<Q as Question>::Answer>>;

/// Where questions gather.
pub(crate) struct Together<Q: Question> {
    shared: Arc<Shared<Q>>,
}

struct Shared<Q: Question> {
    reads: Reads,
    /// Most statements at a time.
    lanes: usize,
    queue: Mutex<Queue<Q>>,
}

struct Queue<Q: Question> {
    waiting: VecDeque<(Q, oneshot::Sender<Q::Answer>)>,
    running: usize,
}

impl<Q: Question> Together<Q> {
    /// Asks over `reads`, with at most `lanes` statements at a time.
    pub(crate) fn new(reads: Reads, lanes: usize) -> Self {
        let queue = Mutex::new(Queue {
            waiting: VecDeque::new(),
            running: 0,
        });
        Self {
            shared: Arc::new(Shared {
                reads,
                lanes,
                queue,
            }),
        }
    }

    /// The answer; `None` if the statement failed, and then the caller asks for itself.
    pub(crate) async fn ask(&self, question: Q) -> Option<Q::Answer> {
        let (sender, answer) = oneshot::channel();
        let begins = {
            let mut queue = self.shared.queue();
            queue.waiting.push_back((question, sender));
            let begins = queue.running < self.shared.lanes;
            queue.running += usize::from(begins);
            begins
        };
        if begins {
            let lane = Lane {
                shared: Arc::clone(&self.shared),
                ended: false,
            };
            // Others wait for the statement as well, so it does not end with this request.
            tokio::spawn(lane.run());
        }
        answer.await.ok()
    }
}

impl<Q: Question> Shared<Q> {
    fn queue(&self) -> MutexGuard<'_, Queue<Q>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One of the statements that run at a time.
struct Lane<Q: Question> {
    shared: Arc<Shared<Q>>,
    /// Whether its place is free again.
    ended: bool,
}

impl<Q: Question> Lane<Q> {
    async fn run(mut self) {
        loop {
            let (questions, senders) = self.gathered();
            if questions.is_empty() {
                return;
            }
            match Q::ask(&self.shared.reads, &questions).await {
                Ok(answers) => {
                    for (answer, senders) in answers.into_iter().zip(senders) {
                        for sender in senders {
                            // Who asked may be gone.
                            let _ = sender.send(answer.clone());
                        }
                    }
                }
                // Each asks for itself, and tries again for as long as it may.
                Err(error) => tracing::debug!(%error, "a shared statement failed"),
            }
        }
    }

    /// What has gathered, each question once with everybody who waits for its answer. If that is nothing, the lane ends
    /// before anybody can come and wait for it.
    fn gathered(&mut self) -> (Vec<Q>, Vec<Askers<Q>>) {
        let mut queue = self.shared.queue();
        let (mut questions, mut senders) = (Vec::new(), Vec::<Askers<Q>>::new());
        while let Some((question, sender)) = queue.waiting.pop_front() {
            if sender.is_closed() {
                continue;
            }
            let place = questions.iter().position(|known| *known == question);
            match place.and_then(|place| senders.get_mut(place)) {
                Some(others) => others.push(sender),
                None if questions.len() < MOST => {
                    questions.push(question);
                    senders.push(vec![sender]);
                }
                None => {
                    queue.waiting.push_front((question, sender));
                    break;
                }
            }
        }
        if questions.is_empty() {
            queue.running -= 1;
            self.ended = true;
        }
        (questions, senders)
    }
}

impl<Q: Question> Drop for Lane<Q> {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        // It was cut short, by the end of its runtime. Nobody is left waiting: they ask for themselves.
        let mut queue = self.shared.queue();
        queue.running -= 1;
        if queue.running == 0 {
            queue.waiting.clear();
        }
    }
}
