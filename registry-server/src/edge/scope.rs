//! Which request the current thread is working for.
//!
//! The edge enters a request's scope around every poll of its handler and of its response body, so
//! that a log line knows its request without a span and a handler can name its route, both for the
//! price of a copy. Work that leaves the request's task takes its scope along with [`in_request`].

use std::{
    cell::Cell,
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

use pin_project_lite::pin_project;

/// The route of requests that no handler named.
pub const UNNAMED_ROUTE: &str = "other";

const MAX_LENGTH: usize = 64;

/// The name of one request in logs and in `X-Request-Id`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct RequestId {
    length: u8,
    text: [u8; MAX_LENGTH],
}

impl RequestId {
    /// A new random id: 16 hexadecimal digits.
    pub fn random() -> Self {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let number = next_random();
        let mut text = [0; MAX_LENGTH];
        for (place, digit) in text.iter_mut().zip(
            number
                .to_be_bytes()
                .iter()
                .flat_map(|byte| [byte >> 4, byte & 15]),
        ) {
            *place = DIGITS[usize::from(digit)];
        }
        Self { length: 16, text }
    }

    /// A client's id, if it is short and harmless in a log: 1-64 of `A-Za-z0-9._-`.
    pub fn from_client(id: &[u8]) -> Option<Self> {
        let harmless = |byte: &u8| byte.is_ascii_alphanumeric() || b"._-".contains(byte);
        if id.is_empty() || id.len() > MAX_LENGTH || !id.iter().all(harmless) {
            return None;
        }
        let mut text = [0; MAX_LENGTH];
        text[..id.len()].copy_from_slice(id);
        Some(Self {
            length: u8::try_from(id.len()).ok()?,
            text,
        })
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(self.as_bytes()).unwrap_or_default()
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.text[..usize::from(self.length)]
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// SplitMix64, seeded per thread by the system. Ids need to differ, not to be unguessable.
fn next_random() -> u64 {
    thread_local! {
        static STATE: Cell<u64> = Cell::new(uuid::Uuid::new_v4().as_u64_pair().1);
    }
    let state = STATE.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
    STATE.set(state);
    let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// What is known of a request while it runs.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scope {
    pub(super) id: RequestId,
    pub(super) route: &'static str,
}

thread_local! {
    static CURRENT: Cell<Option<Scope>> = const { Cell::new(None) };
}

impl Scope {
    /// Runs `work` inside this scope and takes over what it changed.
    pub(super) fn enter<R>(&mut self, work: impl FnOnce() -> R) -> R {
        /// Leaves the scope also when `work` panics.
        struct Leave(Option<Scope>);
        impl Drop for Leave {
            fn drop(&mut self) {
                CURRENT.set(self.0);
            }
        }
        let leave = Leave(CURRENT.replace(Some(*self)));
        let result = work();
        if let Some(scope) = CURRENT.get() {
            *self = scope;
        }
        drop(leave);
        result
    }
}

/// The id of the request this thread is working for.
pub fn current_request_id() -> Option<RequestId> {
    CURRENT.get().map(|scope| scope.id)
}

/// Names the route of the current request, for metrics, logs and traces: a template such as
/// `/v2/{name}/manifests/{reference}`, never a path.
pub fn set_route(route: &'static str) {
    if let Some(mut scope) = CURRENT.get() {
        scope.route = route;
        CURRENT.set(Some(scope));
    }
}

/// Carries the current request's scope into a future that runs in another task.
pub fn in_request<F: Future>(future: F) -> InRequest<F> {
    InRequest {
        future,
        scope: CURRENT.get(),
    }
}

pin_project! {
    /// See [`in_request`].
    pub struct InRequest<F> {
        #[pin]
        future: F,
        scope: Option<Scope>,
    }
}

impl<F: Future> Future for InRequest<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        match this.scope {
            Some(scope) => scope.enter(|| this.future.poll(context)),
            None => this.future.poll(context),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_clients_are_taken_only_when_harmless() {
        assert_eq!(
            RequestId::from_client(b"a.B-9_").unwrap().as_str(),
            "a.B-9_"
        );
        assert!(RequestId::from_client(&[b'a'; 64]).is_some());
        for id in [
            &b""[..],
            b"a b",
            b"a\nb",
            b"\x1b[31m",
            "ü".as_bytes(),
            &[b'a'; 65],
        ] {
            assert!(RequestId::from_client(id).is_none(), "{id:?}");
        }
    }

    #[test]
    fn random_ids_are_hexadecimal_and_differ() {
        let (one, other) = (RequestId::random(), RequestId::random());
        assert_eq!(one.as_str().len(), 16);
        assert!(one.as_str().bytes().all(|byte| byte.is_ascii_hexdigit()));
        assert_ne!(one, other);
    }

    #[test]
    fn scopes_nest_and_keep_the_route_a_handler_set() {
        let mut outer = Scope {
            id: RequestId::random(),
            route: UNNAMED_ROUTE,
        };
        let mut inner = Scope {
            id: RequestId::random(),
            route: UNNAMED_ROUTE,
        };
        outer.enter(|| {
            inner.enter(|| set_route("/inner"));
            assert_eq!(current_request_id(), Some(outer_id()));
            set_route("/outer");
        });
        fn outer_id() -> RequestId {
            CURRENT.get().unwrap().id
        }
        assert_eq!((outer.route, inner.route), ("/outer", "/inner"));
        assert!(current_request_id().is_none());
    }
}
