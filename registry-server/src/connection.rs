//! One client's connection, with the deadlines that actix-web has not: it times only the first
//! request's head, and nothing that is written.
//!
//! Deadlines are counted in ticks of a timer per connection, so that a request costs no timer and
//! no look at the clock, only a few writes to cells of its own thread. A deadline of `n` ticks
//! therefore ends between `n - 1` and `n` ticks after its cause.
//!
//! | state of the connection | ends after |
//! |---|---|
//! | a request's head has begun and is not complete (HTTP/1.1) | 10-15 s |
//! | bytes wait to be written and the client takes none | 60-65 s |
//! | a response body has more and the client makes no room (HTTP/2 windows) | 60-65 s |
//! | no request runs; actix's own timer starts anew with every tick | 75-80 s |
//! | no request runs and the server is ending | 0.25-0.5 s |

use std::{
    cell::Cell,
    io::{self, IoSlice},
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep},
};
use tokio_util::sync::WaitForCancellationFutureOwned;

use crate::drain::Drain;

/// The deadlines of a connection, in ticks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Deadlines {
    tick: Duration,
    closing_tick: Duration,
    head: u32,
    write: u32,
    idle: u32,
}

impl Deadlines {
    pub(crate) const STANDARD: Self = Self {
        tick: Duration::from_secs(5),
        closing_tick: Duration::from_millis(250),
        head: 3,
        write: 13,
        idle: 16,
    };
}

/// What the edge tells a connection, and what the connection remembers between ticks.
#[derive(Debug, Default)]
pub(crate) struct Activity {
    /// Requests that are being answered.
    active: Cell<u32>,
    /// Response bodies that have given a chunk and were not asked for the next.
    sending: Cell<u32>,
    /// Bytes came while no request ran: a head has begun.
    head_begun: Cell<bool>,
    write_blocked: Cell<bool>,
    head_ticks: Cell<u32>,
    write_ticks: Cell<u32>,
    sending_ticks: Cell<u32>,
    idle_ticks: Cell<u32>,
}

impl Activity {
    /// A request's head is complete.
    pub(crate) fn request_started(&self) {
        self.active.set(self.active.get() + 1);
        self.head_begun.set(false);
        self.head_ticks.set(0);
        self.idle_ticks.set(0);
    }

    /// A request was answered or given up.
    pub(crate) fn request_ended(&self) {
        self.active.set(self.active.get().saturating_sub(1));
    }

    /// A response body has given bytes: now the client must make room for more.
    pub(crate) fn body_waits_for_client(&self) {
        self.sending.set(self.sending.get() + 1);
        self.sending_ticks.set(0);
    }

    /// A response body is asked for more, or has ended.
    pub(crate) fn client_made_room(&self) {
        self.sending.set(self.sending.get().saturating_sub(1));
        self.sending_ticks.set(0);
    }

    fn bytes_arrived(&self) {
        if self.active.get() == 0 {
            self.head_begun.set(true);
        }
    }

    /// Counts one tick.
    fn tick(&self) {
        let count = |ticks: &Cell<u32>, condition: bool| {
            ticks.set(if condition { ticks.get() + 1 } else { 0 })
        };
        let idle = self.active.get() == 0;
        count(&self.head_ticks, idle && self.head_begun.get());
        count(&self.idle_ticks, idle);
        count(&self.write_ticks, self.write_blocked.get());
        count(&self.sending_ticks, self.sending.get() > 0);
    }

    /// What is overdue.
    fn overdue(&self, deadlines: &Deadlines) -> Option<&'static str> {
        [
            (
                &self.head_ticks,
                deadlines.head,
                "the request head took too long",
            ),
            (
                &self.write_ticks,
                deadlines.write,
                "the client does not read",
            ),
            (
                &self.sending_ticks,
                deadlines.write,
                "the client makes no room for the response",
            ),
            (&self.idle_ticks, deadlines.idle, "no request for too long"),
        ]
        .into_iter()
        .find_map(|(ticks, limit, what)| (ticks.get() >= limit).then_some(what))
    }
}

/// A stream to a client that ends when the client is too slow, or idle while the server ends.
pub(crate) struct Connection<T> {
    stream: T,
    activity: Rc<Activity>,
    deadlines: Deadlines,
    drain: Drain,
    closing: Pin<Box<WaitForCancellationFutureOwned>>,
    timer: Pin<Box<Sleep>>,
    /// Who is woken by the timer: the connection's task, which stays the same.
    waker: Option<Waker>,
}

impl<T> Connection<T> {
    /// Guards a stream. HTTP/2 has frames between requests, so its heads have no deadline of their
    /// own; the one for idle connections bounds them.
    pub(crate) fn new(stream: T, http2: bool, deadlines: Deadlines, drain: &Drain) -> Self {
        let head = if http2 { u32::MAX } else { deadlines.head };
        Self {
            stream,
            activity: Rc::default(),
            deadlines: Deadlines { head, ..deadlines },
            drain: drain.clone(),
            closing: Box::pin(drain.closing()),
            timer: Box::pin(sleep(deadlines.tick)),
            waker: None,
        }
    }

    /// What the edge reports to.
    pub(crate) fn activity(&self) -> Rc<Activity> {
        Rc::clone(&self.activity)
    }

    /// Looks whether the connection must end, whenever the stream has nothing to do. `Ok(true)`
    /// ends it in order.
    fn watch(&mut self, context: &mut Context<'_>) -> io::Result<bool> {
        let known = self
            .waker
            .as_ref()
            .is_some_and(|waker| waker.will_wake(context.waker()));
        if known && !self.timer.is_elapsed() && !self.drain.is_started() {
            return Ok(false);
        }
        self.look(context)
    }

    #[cold]
    fn look(&mut self, context: &mut Context<'_>) -> io::Result<bool> {
        self.waker = Some(context.waker().clone());
        let closing = Pin::as_mut(&mut self.closing).poll(context).is_ready();
        let tick = if closing {
            self.deadlines.closing_tick
        } else {
            self.deadlines.tick
        };
        let soonest = Instant::now() + tick;
        if self.timer.deadline() > soonest {
            self.timer.as_mut().reset(soonest);
        }
        while self.timer.as_mut().poll(context).is_ready() {
            self.activity.tick();
            if let Some(what) = self.activity.overdue(&self.deadlines) {
                tracing::debug!(reason = what, "connection ended");
                return Err(io::Error::new(io::ErrorKind::TimedOut, what));
            }
            if closing && self.activity.idle_ticks.get() > 0 && !self.activity.write_blocked.get() {
                return Ok(true);
            }
            self.timer.as_mut().reset(soonest);
        }
        Ok(false)
    }

    /// Notes whether a write had to wait, and looks at the deadlines if so.
    fn written<R>(
        &mut self,
        context: &mut Context<'_>,
        result: Poll<io::Result<R>>,
    ) -> Poll<io::Result<R>> {
        self.activity.write_blocked.set(result.is_pending());
        if result.is_pending() {
            self.watch(context)?;
        }
        result
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Connection<T> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        match Pin::new(&mut this.stream).poll_read(context, buffer) {
            Poll::Pending if this.watch(context)? => Poll::Ready(Ok(())),
            Poll::Pending => Poll::Pending,
            ready => {
                this.activity.bytes_arrived();
                ready
            }
        }
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Connection<T> {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let result = Pin::new(&mut this.stream).poll_write(context, bytes);
        this.written(context, result)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let result = Pin::new(&mut this.stream).poll_write_vectored(context, slices);
        this.written(context, result)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        match Pin::new(&mut this.stream).poll_flush(context) {
            Poll::Pending => this.written(context, Poll::Pending),
            ready => ready,
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests;
