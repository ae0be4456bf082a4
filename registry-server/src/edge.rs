//! What every request passes on its way in, and every response on its way out.
//!
//! In: a request id, the rule for anonymous use on loopback, no `Content-Encoding`. Out:
//! `X-Request-Id` and `X-Content-Type-Options` on whatever is answered, errors included; when the
//! last byte has left, one count in the metrics and one line in the log. It never decides about
//! rights or routes, and costs no lock and next to no allocation per request.

mod loopback;
mod record;
mod refusal;
mod scope;

use std::{
    cell::RefCell,
    future::{Ready, ready},
    pin::Pin,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
};

use actix_http::ConnectionType;
use actix_web::{
    Error, HttpResponse,
    body::{BodySize, EitherBody, MessageBody},
    dev::{Service, ServiceRequest, ServiceResponse, Transform},
    error::InternalError,
    http::header::{CONTENT_LENGTH, HeaderMap, HeaderName, HeaderValue, X_CONTENT_TYPE_OPTIONS},
};
use bytes::Bytes;
use pin_project_lite::pin_project;

use crate::{
    config::{AddressBlock, Anonymous},
    drain::Drain,
    metrics::{Metrics, SeriesCache},
};

use record::Running;
use refusal::Refusal;
use scope::Scope;

pub use record::REQUEST_TARGET;
pub(crate) use record::client;
pub use scope::{InRequest, RequestId, UNNAMED_ROUTE, current_request_id, in_request, set_route};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// What the edge needs to know.
#[derive(Debug, Clone)]
pub struct EdgeOptions {
    /// Where requests are counted.
    pub metrics: Arc<Metrics>,
    /// While the server ends, answers ask clients to close their connections.
    pub drain: Drain,
    /// Whom a server without accounts serves.
    pub anonymous: Anonymous,
    /// Whether there are accounts, which then say who may do what.
    pub accounts: Arc<AtomicBool>,
    /// Peers whose `X-Forwarded-For` is believed, in the log.
    pub trusted_proxies: Vec<AddressBlock>,
}

impl EdgeOptions {
    /// Whom to let in without looking at credentials here. Where there are accounts, whoever comes is asked for them later.
    fn without_credentials(&self) -> Anonymous {
        match self.accounts.load(Ordering::Relaxed) {
            true => Anonymous::Anyone,
            false => self.anonymous,
        }
    }
}

/// The outermost middleware: `App::new().wrap(Edge::new(options))`, added last.
#[derive(Debug, Clone)]
pub struct Edge(Arc<EdgeOptions>);

impl Edge {
    /// The edge with these options.
    pub fn new(options: EdgeOptions) -> Self {
        Self(Arc::new(options))
    }
}

impl<S, B> Transform<S, ServiceRequest> for Edge
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = Error>,
    B: MessageBody,
{
    type Response = ServiceResponse<EdgeBody<B>>;
    type Error = Error;
    type Transform = EdgeService<S>;
    type InitError = ();
    type Future = Ready<Result<Self::Transform, ()>>;

    fn new_transform(&self, service: S) -> Self::Future {
        let worker = Worker {
            options: Arc::clone(&self.0),
            series: RefCell::default(),
        };
        ready(Ok(EdgeService {
            service,
            worker: Rc::new(worker),
        }))
    }
}

/// What the requests of one worker share.
#[derive(Debug)]
struct Worker {
    options: Arc<EdgeOptions>,
    series: RefCell<SeriesCache>,
}

/// See [`Edge`].
#[derive(Debug)]
pub struct EdgeService<S> {
    service: S,
    worker: Rc<Worker>,
}

impl<S, B> Service<ServiceRequest> for EdgeService<S>
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = Error>,
    B: MessageBody,
{
    type Response = ServiceResponse<EdgeBody<B>>;
    type Error = Error;
    type Future = EdgeFuture<S::Future, B>;

    fn poll_ready(&self, context: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.service.poll_ready(context)
    }

    fn call(&self, request: ServiceRequest) -> Self::Future {
        let given = request.headers().get(REQUEST_ID);
        let id = given
            .and_then(|id| RequestId::from_client(id.as_bytes()))
            .unwrap_or_else(RequestId::random);
        let scope = Scope {
            id,
            route: UNNAMED_ROUTE,
        };
        let mut running = Running::start(&request, scope, &self.worker);
        match Refusal::of(request.head(), self.worker.options.without_credentials()) {
            None => {
                let future = running.enter(|| self.service.call(request));
                EdgeFuture::Served {
                    future,
                    running: Some(running),
                }
            }
            Some(refusal) => {
                let response = request
                    .into_response(refusal.response())
                    .map_into_right_body();
                EdgeFuture::Refused {
                    answer: Some((response, running)),
                }
            }
        }
    }
}

pin_project! {
    /// The answer of [`EdgeService`].
    #[project = EdgeFutureProjection]
    #[expect(missing_docs, reason = "its parts are of no use to others")]
    pub enum EdgeFuture<F, B> {
        Served { #[pin] future: F, running: Option<Running> },
        Refused { answer: Option<(ServiceResponse<EitherBody<B>>, Running)> },
    }
}

impl<F, B> Future for EdgeFuture<F, B>
where
    F: Future<Output = Result<ServiceResponse<B>, Error>>,
    B: MessageBody,
{
    type Output = Result<ServiceResponse<EdgeBody<B>>, Error>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project() {
            EdgeFutureProjection::Served { future, running } => {
                let Some(active) = running.as_mut() else {
                    return Poll::Pending;
                };
                let result = ready!(active.enter(|| future.poll(context)));
                let Some(running) = running.take() else {
                    return Poll::Pending;
                };
                Poll::Ready(match result {
                    Ok(response) => Ok(running.answer(response.map_into_left_body())),
                    Err(error) => Err(running.fail(&error)),
                })
            }
            EdgeFutureProjection::Refused { answer } => match answer.take() {
                Some((response, running)) => Poll::Ready(Ok(running.answer(response))),
                None => Poll::Pending,
            },
        }
    }
}

impl Running {
    /// Completes the head of a response, and lets the record live until its body has ended.
    fn answer<B>(
        mut self,
        mut response: ServiceResponse<EitherBody<B>>,
    ) -> ServiceResponse<EdgeBody<B>> {
        self.status = response.status();
        self.mark(response.headers_mut());
        if self.worker.options.drain.is_started() {
            response
                .response_mut()
                .head_mut()
                .set_connection_type(ConnectionType::Close);
        }
        response.map_body(|_, body| EdgeBody {
            body,
            running: self,
            waiting: false,
        })
    }

    /// Turns an error that came without a response into one that carries our headers. Handlers'
    /// errors are responses already; these come from other middlewares.
    fn fail(mut self, error: &Error) -> Error {
        let mut response: HttpResponse = error.error_response();
        self.status = response.status();
        self.mark(response.headers_mut());
        InternalError::from_response(error.to_string(), response).into()
    }

    fn mark(&self, headers: &mut HeaderMap) {
        if let Ok(id) = HeaderValue::from_bytes(self.scope.id.as_bytes()) {
            headers.insert(REQUEST_ID, id);
        }
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    }
}

pin_project! {
    /// A response's body that reports how much of it was sent.
    pub struct EdgeBody<B> {
        #[pin]
        body: EitherBody<B>,
        running: Running,
        // A chunk was given and the next not yet asked for.
        waiting: bool,
    }
}

impl<B: MessageBody + 'static> MessageBody for EdgeBody<B> {
    type Error = <EitherBody<B> as MessageBody>::Error;

    fn size(&self) -> BodySize {
        self.body.size()
    }

    fn poll_next(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Self::Error>>> {
        let this = self.project();
        if std::mem::take(this.waiting) {
            this.running.client_made_room();
        }
        let chunk = ready!(this.running.enter(|| this.body.poll_next(context)));
        match &chunk {
            Some(Ok(bytes)) => {
                *this.waiting = true;
                this.running.sent(bytes.len());
            }
            Some(Err(_)) => this.running.body_failed = true,
            None => this.running.complete = true,
        }
        Poll::Ready(chunk)
    }
}

/// The length a request announces for its body.
fn announced_length(headers: &HeaderMap) -> u64 {
    let length = headers
        .get(CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok());
    length.and_then(|length| length.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
pub(crate) mod testing {
    use super::{RequestId, Scope, UNNAMED_ROUTE};

    /// Does `work` as if a request of this id asked for it.
    pub(crate) fn in_new_request(id: &str, work: impl FnOnce()) {
        let id = RequestId::from_client(id.as_bytes()).unwrap();
        Scope {
            id,
            route: UNNAMED_ROUTE,
        }
        .enter(work);
    }
}

#[cfg(test)]
mod tests;
