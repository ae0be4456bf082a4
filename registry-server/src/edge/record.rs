//! What is remembered of a request while it runs, and told when it has ended.

use std::{
    fmt::{self, Write},
    net::{IpAddr, SocketAddr},
    rc::Rc,
    time::{Duration, Instant},
};

use actix_web::{
    dev::ServiceRequest,
    http::{
        Method, StatusCode, Uri,
        header::{HeaderMap, HeaderName, HeaderValue},
    },
};
use opentelemetry::{propagation::Extractor, trace::TraceContextExt};
use tracing::{Span, field::DisplayValue};
use tracing_opentelemetry::OpenTelemetrySpanExt;

use crate::{config::AddressBlock, connection::Activity, metrics::method_label};

use super::{Scope, Worker, announced_length};

/// The target of the span around a request, which is for traces and not for the log.
pub const REQUEST_TARGET: &str = "granary::request";

/// The status of a request whose client left before there was an answer.
const CLIENT_LEFT: u16 = 499;

/// The longest part of a path that is logged.
const LOGGED_PATH: usize = 256;

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// A request that is being answered; dropped when the last byte of the answer was handed over.
#[derive(Debug)]
pub struct Running {
    pub(super) scope: Scope,
    pub(super) worker: Rc<Worker>,
    /// Of the answer; until there is one, that of a client that left.
    pub(super) status: StatusCode,
    /// The body came to its end.
    pub(super) complete: bool,
    /// The body broke off on our side.
    pub(super) body_failed: bool,
    method: Method,
    uri: Uri,
    client: Option<IpAddr>,
    received: u64,
    sent: u64,
    sending: bool,
    started: Instant,
    activity: Option<Rc<Activity>>,
    span: Span,
}

impl Running {
    pub(super) fn start(request: &ServiceRequest, scope: Scope, worker: &Rc<Worker>) -> Self {
        let activity = request.conn_data::<Rc<Activity>>().cloned();
        if let Some(activity) = &activity {
            activity.request_started();
        }
        worker.options.metrics.request_started();
        let head = request.head();
        let bodiless = matches!(head.method, Method::GET | Method::HEAD);
        Self {
            scope,
            worker: Rc::clone(worker),
            status: StatusCode::from_u16(CLIENT_LEFT).unwrap_or(StatusCode::BAD_REQUEST),
            complete: false,
            body_failed: false,
            method: head.method.clone(),
            uri: head.uri.clone(),
            client: client(
                head.peer_addr,
                &head.headers,
                &worker.options.trusted_proxies,
            ),
            received: if bodiless {
                0
            } else {
                announced_length(&head.headers)
            },
            sent: 0,
            sending: false,
            started: Instant::now(),
            activity,
            span: span(request, scope),
        }
    }

    /// Does a part of the request's work in its scope.
    pub(super) fn enter<R>(&mut self, work: impl FnOnce() -> R) -> R {
        let Self { scope, span, .. } = self;
        scope.enter(|| span.in_scope(work))
    }

    /// Bytes of the body were handed over.
    pub(super) fn sent(&mut self, bytes: usize) {
        self.sent += bytes as u64;
        self.sending = true;
        if let Some(activity) = &self.activity {
            activity.body_waits_for_client();
        }
    }

    /// The client took what it was given.
    pub(super) fn client_made_room(&mut self) {
        if std::mem::take(&mut self.sending)
            && let Some(activity) = &self.activity
        {
            activity.client_made_room();
        }
    }

    /// One line: failures at error, writes at info, the rest at debug.
    fn log(&self, took: Duration) {
        let broken = self.body_failed;
        // A probe that hears "not ready" has been answered well.
        let failed = self.status.is_server_error() && !self.scope.route.starts_with("/health/");
        if broken || failed {
            let what = if broken {
                "the answer broke off"
            } else {
                "failed"
            };
            self.line(took, |line| line.at_error(what));
        } else if self.is_write() {
            let what = if self.status.as_u16() == CLIENT_LEFT {
                "the client left"
            } else {
                "answered"
            };
            self.line(took, |line| line.at_info(what));
        } else if tracing::enabled!(tracing::Level::DEBUG) {
            self.line(took, |line| line.at_debug());
        }
    }

    fn line(&self, took: Duration, write: impl FnOnce(Line<'_>)) {
        let line = Line {
            method: method_label(&self.method),
            path: Path(self.uri.path()),
            status: self.status.as_u16(),
            sent: self.sent,
            milliseconds: took.as_micros() as f64 / 1000.0,
            client: self.client.map(tracing::field::display),
        };
        let mut scope = self.scope;
        scope.enter(|| write(line));
    }

    fn is_write(&self) -> bool {
        matches!(
            self.method,
            Method::PUT | Method::POST | Method::PATCH | Method::DELETE
        )
    }

    fn trace(&self) {
        if self.span.is_disabled() {
            return;
        }
        let method = method_label(&self.method);
        // Not by its field: a span that has begun takes no name from there.
        self.span
            .context()
            .span()
            .update_name(format!("{method} {}", self.scope.route));
        self.span.record("http.route", self.scope.route);
        let status = i64::from(self.status.as_u16());
        self.span.record("http.response.status_code", status);
        if self.status.is_server_error() || self.body_failed {
            self.span.record("otel.status_code", "ERROR");
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.client_made_room();
        if let Some(activity) = &self.activity {
            activity.request_ended();
        }
        let worker = Rc::clone(&self.worker);
        let metrics = &worker.options.metrics;
        metrics.request_ended();
        if std::thread::panicking() && self.status.as_u16() == CLIENT_LEFT {
            self.status = StatusCode::INTERNAL_SERVER_ERROR;
        }
        let took = self.started.elapsed();
        if let Ok(mut series) = worker.series.try_borrow_mut() {
            let series = series.get(metrics, &self.method, self.scope.route, self.status);
            series.record(took, self.received, self.sent);
        }
        self.trace();
        self.log(took);
    }
}

/// What a request's line in the log says.
struct Line<'a> {
    method: &'static str,
    path: Path<'a>,
    status: u16,
    sent: u64,
    milliseconds: f64,
    client: Option<DisplayValue<IpAddr>>,
}

impl Line<'_> {
    fn at_error(self, what: &str) {
        let Self {
            method,
            path,
            status,
            sent,
            milliseconds,
            client,
        } = self;
        tracing::error!(method, %path, status, sent, milliseconds, client, "{what}");
    }

    fn at_info(self, what: &str) {
        let Self {
            method,
            path,
            status,
            sent,
            milliseconds,
            client,
        } = self;
        tracing::info!(method, %path, status, sent, milliseconds, client, "{what}");
    }

    fn at_debug(self) {
        let Self {
            method,
            path,
            status,
            sent,
            milliseconds,
            client,
        } = self;
        tracing::debug!(method, %path, status, sent, milliseconds, client, "answered");
    }
}

/// The address of the client, as far as it can be believed: the peer, or what the nearest trusted
/// proxy says of it.
pub(crate) fn client(
    peer: Option<SocketAddr>,
    headers: &HeaderMap,
    trusted: &[AddressBlock],
) -> Option<IpAddr> {
    let peer = peer?.ip().to_canonical();
    let believed = |ip: IpAddr| trusted.iter().any(|net| net.contains(ip));
    if trusted.is_empty() || !believed(peer) {
        return Some(peer);
    }
    // What a client wrote may be no text; what proxies appended behind it is read all the same.
    let lists: Vec<&[u8]> = headers
        .get_all(FORWARDED_FOR)
        .map(HeaderValue::as_bytes)
        .collect();
    let entries = lists
        .iter()
        .rev()
        .flat_map(|list| list.rsplit(|byte| *byte == b','));
    let mut nearest = peer;
    for entry in entries {
        let text = std::str::from_utf8(entry).unwrap_or_default();
        let Ok(address) = text.trim().parse() else {
            break;
        };
        nearest = address;
        if !believed(nearest) {
            break;
        }
    }
    Some(nearest)
}

/// The span of a request; disabled unless traces are exported.
fn span(request: &ServiceRequest, scope: Scope) -> Span {
    if !tracing::span_enabled!(target: REQUEST_TARGET, tracing::Level::INFO) {
        return Span::none();
    }
    let span = tracing::info_span!(
        target: REQUEST_TARGET,
        "request",
        otel.kind = "server",
        otel.status_code = tracing::field::Empty,
        http.request.method = method_label(request.method()),
        http.route = tracing::field::Empty,
        http.response.status_code = tracing::field::Empty,
        url.path = %Path(request.path()),
        request_id = %scope.id,
    );
    let parent = opentelemetry::global::get_text_map_propagator(|propagator| {
        propagator.extract(&Headers(request.headers()))
    });
    // It fails only when no traces are exported.
    let _ = span.set_parent(parent);
    span
}

struct Headers<'a>(&'a HeaderMap);

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.to_str().ok()
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(HeaderName::as_str).collect()
    }
}

/// A path as it may stand in a log: bounded, and without control characters.
pub(super) struct Path<'a>(pub(super) &'a str);

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let end = self.0.floor_char_boundary(LOGGED_PATH);
        for character in self.0[..end].chars() {
            if character.is_control() {
                write!(f, "{}", character.escape_default())?
            } else {
                f.write_char(character)?
            }
        }
        if end < self.0.len() {
            f.write_str("...")
        } else {
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_proxies_say_is_read_from_the_nearest_one() {
        let trusted = [
            "127.0.0.0/8".parse().unwrap(),
            "10.0.0.0/8".parse().unwrap(),
        ];
        let seen = |peer: &str, lists: &[&[u8]]| {
            let mut headers = HeaderMap::new();
            for list in lists {
                let value = HeaderValue::from_bytes(list).unwrap();
                headers.append(FORWARDED_FOR, value);
            }
            let peer = SocketAddr::new(peer.parse().unwrap(), 1);
            client(Some(peer), &headers, &trusted).unwrap().to_string()
        };
        let there = "203.0.113.9";
        for (peer, lists, client) in [
            (there, &[&b"127.0.0.1"[..]][..], there),
            ("127.0.0.1", &[], "127.0.0.1"),
            ("127.0.0.1", &[b"203.0.113.9"], there),
            ("127.0.0.1", &[b"127.0.0.1, 203.0.113.9"], there),
            ("127.0.0.1", &[b"127.0.0.1", b"203.0.113.9,10.0.0.1"], there),
            // What the client wrote itself is no address, and no text.
            ("127.0.0.1", &[b"\xff, 203.0.113.9"], there),
            ("127.0.0.1", &[b"\xff", b"203.0.113.9"], there),
            ("127.0.0.1", &[b"203.0.113.9, \xff"], "127.0.0.1"),
        ] {
            assert_eq!(seen(peer, lists), client, "{lists:?}");
        }
    }
}
