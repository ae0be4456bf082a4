//! The memory that all uploads of a process gather their parts in, and who gets it when it runs short.
//!
//! The memory is counted in blocks of [`BLOCK`] bytes. An upload takes a block when it has bytes to put in, so a slow
//! client holds what it sent and no more. Two rules keep the uploads from starving or blocking each other:
//!
//! - *Parallelism falls first.* While it has parts on their way, an upload leaves an eighth of the budget free and
//!   stands behind the uploads that have none. Its own parts, once the server has them, give it memory again.
//! - *One part can always be filled* (the banker's algorithm). A part can be sent once it has its least size, so what
//!   is missing to that size is the most an upload needs before it gives memory back. A block is handed out only if
//!   afterwards the uploads could still, one after the other, get what they miss. Else each of many uploads could
//!   hold half a part, and none could go on.
//!
//! Among those who wait, the one that has gathered most goes first, since it gives back soonest; having sent its part
//! it is the last again, so each one's turn comes.

#[cfg(test)]
mod tests;

use std::{
    cmp::Reverse,
    collections::{HashMap, HashSet},
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::oneshot;

/// The unit in which memory is handed out: little for a small object, and few steps for a part.
pub(super) const BLOCK: usize = 256 * 1024;

/// Blocks needed for `bytes`.
pub(super) fn blocks(bytes: u64) -> usize {
    usize::try_from(bytes.div_ceil(BLOCK as u64)).unwrap_or(usize::MAX)
}

/// The memory of one store.
pub(super) struct Budget {
    total: usize,
    books: Mutex<Books>,
}

struct Books {
    free: usize,
    uploads: HashMap<u64, Account>,
    waiters: Vec<Waiter>,
    next: u64,
    /// Buffers that were used before: the system would have to find and clear new pages.
    spare: Vec<Vec<u8>>,
}

/// What one upload has, in blocks.
#[derive(Clone, Copy, Default)]
struct Account {
    held: usize,
    /// Of these, in the part that is not sent yet.
    gathered: usize,
    /// With how many the present part could be sent.
    least: usize,
}

impl Account {
    fn sending(self) -> bool {
        self.held > self.gathered
    }

    fn missing(self) -> usize {
        self.least.saturating_sub(self.gathered)
    }
}

struct Waiter {
    upload: u64,
    ticket: u64,
    sender: oneshot::Sender<Grant>,
}

impl Books {
    /// Whether a block for `upload` leaves a way for all to go on.
    fn may_grant(&self, upload: u64, total: usize) -> bool {
        let Some(&account) = self.uploads.get(&upload) else {
            return false;
        };
        let Some(free) = self.free.checked_sub(1) else {
            return false;
        };
        if account.sending() && free < total / 8 {
            return false;
        }
        let mut gathering: Vec<_> = self
            .uploads
            .iter()
            .map(|(&id, account)| {
                let mut account = *account;
                account.gathered += usize::from(id == upload);
                account
            })
            .filter(|account| account.gathered > 0)
            .collect();
        gathering.sort_unstable_by_key(|account| account.missing());
        let waiting: usize = gathering.iter().map(|account| account.gathered).sum();
        // What is on its way to the server comes back by itself.
        let mut available = total.saturating_sub(waiting);
        gathering.iter().all(|account| {
            let fits = account.missing() <= available;
            available += account.gathered;
            fits
        })
    }

    /// Notes what a part needs before it can be sent. Known before its first block is handed out: a part that seems to
    /// need nothing would take what another one was promised.
    fn needs(&mut self, upload: u64, least: u64) {
        if let Some(account) = self.uploads.get_mut(&upload) {
            // A tail in front may leave a block partly empty.
            account.least = blocks(least) + 1;
        }
    }

    fn grant(&mut self, upload: u64) {
        self.free -= 1;
        if let Some(account) = self.uploads.get_mut(&upload) {
            account.held += 1;
            account.gathered += 1;
        }
    }

    fn give_back(&mut self, upload: u64, blocks: usize, gathered: bool) {
        self.free += blocks;
        if let Some(account) = self.uploads.get_mut(&upload) {
            account.held = account.held.saturating_sub(blocks);
            if gathered {
                account.gathered = account.gathered.saturating_sub(blocks);
            }
        }
    }

    /// The waiter that is served next, if one can be.
    fn next_waiter(&mut self, total: usize) -> Option<Waiter> {
        self.waiters.retain(|waiter| !waiter.sender.is_closed());
        let mut order: Vec<_> = self
            .waiters
            .iter()
            .enumerate()
            .map(|(index, waiter)| {
                let account = self
                    .uploads
                    .get(&waiter.upload)
                    .copied()
                    .unwrap_or_default();
                let rank = (account.sending(), Reverse(account.gathered), waiter.ticket);
                (rank, index, waiter.upload)
            })
            .collect();
        order.sort_unstable();
        // The answer depends on nothing else of an upload, and of many that wait most are alike.
        let mut refused = HashSet::new();
        for (_, index, upload) in order {
            let account = self.uploads.get(&upload).copied().unwrap_or_default();
            let like = (account.sending(), account.gathered, account.least);
            if refused.contains(&like) {
                continue;
            }
            if self.may_grant(upload, total) {
                return Some(self.waiters.swap_remove(index));
            }
            refused.insert(like);
        }
        None
    }
}

impl Budget {
    /// A budget of `bytes`, rounded down to whole blocks.
    pub(super) fn new(bytes: usize) -> Arc<Self> {
        let total = bytes / BLOCK;
        Arc::new(Self {
            total,
            books: Mutex::new(Books {
                free: total,
                uploads: HashMap::new(),
                waiters: Vec::new(),
                next: 0,
                spare: Vec::new(),
            }),
        })
    }

    /// Bytes handed out.
    pub(super) fn in_use(&self) -> usize {
        (self.total - self.books().free) * BLOCK
    }

    /// Whether an upload waits for blocks that others hold. One with parts on their way waits for those.
    pub(super) fn has_waiters(&self) -> bool {
        let mut books = self.books();
        books.waiters.retain(|waiter| !waiter.sender.is_closed());
        let stuck = |waiter: &Waiter| {
            let account = books.uploads.get(&waiter.upload);
            account.is_some_and(|account| !account.sending())
        };
        books.waiters.iter().any(stuck)
    }

    /// The largest part that leaves room for another upload's.
    pub(super) fn largest_part(&self) -> u64 {
        (self.total / 2 * BLOCK) as u64
    }

    /// Opens the account of an upload.
    pub(super) fn join(self: &Arc<Self>) -> Share {
        let mut books = self.books();
        let upload = books.next;
        books.next += 1;
        books.uploads.insert(upload, Account::default());
        Share {
            budget: Arc::clone(self),
            upload,
        }
    }

    /// Every change under the lock is complete before anything can panic.
    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn give_back(self: &Arc<Self>, upload: u64, blocks: usize, gathered: bool) {
        let mut books = self.books();
        books.give_back(upload, blocks, gathered);
        if books.free == self.total {
            // Nobody uploads: the memory goes back to the system.
            books.spare = Vec::new();
        }
        self.serve(&mut books);
    }

    fn serve(self: &Arc<Self>, books: &mut Books) {
        while let Some(waiter) = books.next_waiter(self.total) {
            books.grant(waiter.upload);
            let grant = Grant::new(self, waiter.upload);
            if let Err(mut unwanted) = waiter.sender.send(grant) {
                // Dropping a grant takes the lock that is held here.
                unwanted.blocks = 0;
                books.give_back(waiter.upload, 1, true);
            }
        }
    }

    /// An empty buffer of one block.
    pub(super) fn buffer(self: &Arc<Self>) -> Buffer {
        let spare = self.books().spare.pop();
        Buffer {
            bytes: spare.unwrap_or_else(|| Vec::with_capacity(BLOCK)),
            budget: Arc::clone(self),
        }
    }
}

/// One upload's account.
pub(super) struct Share {
    budget: Arc<Budget>,
    upload: u64,
}

impl Share {
    /// Starts a part.
    pub(super) fn part(&self) -> Hold {
        Hold {
            grants: Grant {
                budget: Arc::clone(&self.budget),
                upload: self.upload,
                blocks: 0,
                gathered: true,
            },
        }
    }

    /// One block for a part that can be sent from `least` bytes on, if there is one to spare and nobody waits.
    pub(super) fn try_take(&self, least: u64) -> Option<Grant> {
        let mut books = self.budget.books();
        books.needs(self.upload, least);
        if !books.waiters.is_empty() || !books.may_grant(self.upload, self.budget.total) {
            return None;
        }
        books.grant(self.upload);
        Some(Grant::new(&self.budget, self.upload))
    }

    /// The same, as soon as it is this upload's turn.
    pub(super) async fn take(&self, least: u64) -> Grant {
        loop {
            let (sender, receiver) = oneshot::channel();
            {
                let mut books = self.budget.books();
                books.needs(self.upload, least);
                let ticket = books.next;
                books.next += 1;
                books.waiters.push(Waiter {
                    upload: self.upload,
                    ticket,
                    sender,
                });
                self.budget.serve(&mut books);
            }
            // The books drop a waiter only if it stopped waiting, so an error cannot come; asking again is right anyway.
            if let Ok(grant) = receiver.await {
                return grant;
            }
        }
    }

    pub(super) fn budget(&self) -> &Arc<Budget> {
        &self.budget
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut books = self.budget.books();
        books.uploads.remove(&self.upload);
        self.budget.serve(&mut books);
    }
}

/// Blocks that were handed out; they go back when it is dropped.
pub(super) struct Grant {
    budget: Arc<Budget>,
    upload: u64,
    blocks: usize,
    gathered: bool,
}

impl Grant {
    fn new(budget: &Arc<Budget>, upload: u64) -> Self {
        Self {
            budget: Arc::clone(budget),
            upload,
            blocks: 1,
            gathered: true,
        }
    }
}

impl Drop for Grant {
    fn drop(&mut self) {
        if self.blocks > 0 {
            self.budget
                .give_back(self.upload, self.blocks, self.gathered);
        }
    }
}

/// The blocks of one part, all given back together.
pub(super) struct Hold {
    grants: Grant,
}

impl Hold {
    /// Adds a block to the part.
    pub(super) fn add(&mut self, mut grant: Grant) {
        self.grants.blocks += mem::take(&mut grant.blocks);
    }

    /// How many blocks there are.
    pub(super) fn blocks(&self) -> usize {
        self.grants.blocks
    }

    /// Gives back what goes beyond `blocks`.
    pub(super) fn keep(&mut self, blocks: usize) {
        let grants = &mut self.grants;
        let excess = grants.blocks.saturating_sub(blocks);
        if excess > 0 {
            grants.blocks -= excess;
            grants
                .budget
                .give_back(grants.upload, excess, grants.gathered);
        }
    }

    /// The part is on its way to the server and needs nothing more.
    pub(super) fn sent(&mut self) {
        let grants = &mut self.grants;
        if mem::take(&mut grants.gathered) {
            let mut books = grants.budget.books();
            if let Some(account) = books.uploads.get_mut(&grants.upload) {
                account.gathered = account.gathered.saturating_sub(grants.blocks);
            }
            grants.budget.serve(&mut books);
        }
    }
}

/// A block's memory, used again after it is dropped.
pub(super) struct Buffer {
    bytes: Vec<u8>,
    budget: Arc<Budget>,
}

impl Buffer {
    /// Copies in the beginning of `bytes` as far as it fits, and says how much that was.
    pub(super) fn fill(&mut self, bytes: &[u8]) -> usize {
        let taken = bytes.len().min(BLOCK - self.bytes.len());
        self.bytes.extend_from_slice(&bytes[..taken]);
        taken
    }

    pub(super) fn is_full(&self) -> bool {
        self.bytes.len() == BLOCK
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let mut books = self.budget.books();
        // With nothing handed out any more, nobody is there to use it again.
        if books.free < self.budget.total && books.spare.len() < self.budget.total {
            let mut bytes = mem::take(&mut self.bytes);
            bytes.clear();
            books.spare.push(bytes);
        }
    }
}
