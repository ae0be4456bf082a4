//! `/v2/`: the distribution API.
//!
//! One handler reads the path, decides whether the caller may, and calls the endpoint. Endpoints translate; what
//! happens is decided in `granary-registry`.

pub(crate) mod blobs;
pub(crate) mod body;
mod conditions;
pub(crate) mod lists;
pub(crate) mod manifests;
pub(crate) mod query;
pub(crate) mod refusal;
mod route;
pub(crate) mod schema;
pub(crate) mod uploads;

use std::sync::Arc;

use actix_web::{
    HttpRequest, HttpResponse,
    http::{
        Method,
        header::{HeaderName, WWW_AUTHENTICATE},
    },
    web,
};
use granary_oci::RepositoryName;
use granary_registry::{Caller, May, Registry, Right};
use tokio::sync::Semaphore;

use self::{body::Body, query::Query, refusal::Refusal, route::Route};
use crate::{
    auth::{self, Challenge, Place},
    drain::Drain,
    edge::set_route,
    limits::Limits,
};

/// `Docker-Content-Digest`
pub(crate) const CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");
const API_VERSION: HeaderName = HeaderName::from_static("docker-distribution-api-version");

/// KiB of manifests that may be held at once while they are read and parsed.
const MANIFEST_BUDGET: usize = 32 * 1024;

/// What the endpoints need.
pub struct V2 {
    registry: Registry,
    place: Place,
    drain: Drain,
    limits: Arc<Limits>,
    /// One permit a KiB of manifest under way.
    manifest_budget: Semaphore,
}

impl V2 {
    /// The API of one registry.
    pub fn new(registry: Registry, place: Place, drain: Drain, limits: Arc<Limits>) -> Self {
        Self {
            registry,
            place,
            drain,
            limits,
            manifest_budget: Semaphore::new(MANIFEST_BUDGET),
        }
    }
}

/// A request on a repository, after the checks every one of them passes.
pub(crate) struct Call<'r> {
    v2: &'r V2,
    request: &'r HttpRequest,
    caller: Caller,
    query: Query,
}

/// Answers every request below `/v2`.
pub async fn handle(
    request: HttpRequest,
    payload: web::Payload,
    v2: web::Data<V2>,
) -> HttpResponse {
    let route = Route::parse(request.path());
    let label = route.map_or("/v2/{unknown}", Route::label);
    set_route(label);
    let mut body = Body::new(payload);
    let admitted = v2.limits.address(|| v2.place.client(&request)).await;
    let answer = match (admitted, route) {
        (Ok(()), Some(route)) => dispatch(route, &request, &mut body, &v2).await,
        (Ok(()), None) => Err(Refusal::NoEndpoint),
        (Err(limited), _) => Err(limited.into()),
    };
    let mut answer = match answer {
        Ok(answer) => answer,
        Err(refusal) => {
            body.drain().await;
            if refusal.says_that_credentials_ended() {
                v2.registry.forget(auth::shown(&request));
            }
            let mut answer = refusal.answer(route.and_then(Route::repository));
            if let Some(problem) = refusal.asks_for_credentials(&auth::shown(&request)) {
                let scope = route.map(|route| route.scope(&request)).unwrap_or_default();
                let challenge = Challenge { scope, problem };
                if let Some(value) = v2.place.challenge(&request, &challenge) {
                    answer.headers_mut().insert(WWW_AUTHENTICATE, value);
                }
            }
            answer
        }
    };
    answer.headers_mut().insert(
        API_VERSION,
        actix_web::http::header::HeaderValue::from_static("registry/2.0"),
    );
    answer
}

async fn dispatch(
    route: Route<'_>,
    request: &HttpRequest,
    body: &mut Body,
    v2: &V2,
) -> Result<HttpResponse, Refusal> {
    let origin = v2.place.origin_of(request);
    let signing_in = v2.registry.sign_in(auth::shown(request), &origin);
    let caller = Caller {
        principal: signing_in.await?,
        origin,
    };
    v2.limits.principal(&caller).await?;
    let method = request.method();
    if !route.methods().contains(method) {
        let allowed: Vec<&str> = route.methods().iter().map(Method::as_str).collect();
        return Err(Refusal::Method(
            method.to_string().chars().take(40).collect(),
            allowed.join(", "),
        ));
    }
    let call = Call {
        v2,
        request,
        caller,
        query: Query::parse(request.query_string()),
    };
    // What an endpoint needs leave for stands in its signature.
    match route {
        Route::Base => lists::get_base(&call).await,
        Route::Catalog => lists::get_catalog(&call).await,
        Route::Discover(None) => lists::get_extensions(&call).await,
        Route::Discover(Some(name)) => Ok(lists::get_extensions_of(&call.may(name).await?)),
        Route::Tags(name) => lists::get_tags(&call, call.may(name).await?).await,
        Route::Referrers(name, digest) => match call.may(name).await {
            // What may not be seen has no referrers, as what is not there (decision 24).
            Err(refusal) if refusal.is_of_what_is_hidden() => lists::no_referrers(&call, digest),
            may => lists::get_referrers(&call, may?, digest).await,
        },
        Route::Manifest(name, reference) => match *method {
            Method::PUT => {
                manifests::put_manifest(&call, call.may(name).await?, reference, body).await
            }
            Method::DELETE => {
                manifests::delete_manifest(&call, call.may(name).await?, reference).await
            }
            _ => manifests::get_manifest(&call, name, reference).await,
        },
        Route::Blob(name, digest) => match *method {
            Method::DELETE => blobs::delete_blob(call.may(name).await?, digest).await,
            Method::HEAD => blobs::head_blob(&call, call.may(name).await?, digest).await,
            _ => blobs::get_blob(&call, call.may(name).await?, digest).await,
        },
        Route::Uploads(name) => uploads::post_upload(&call, call.may(name).await?, body).await,
        Route::Upload(name, session) => {
            let may = call.may(name).await?;
            match *method {
                Method::PATCH => uploads::patch_upload(&call, may, session, body).await,
                Method::PUT => uploads::put_upload(&call, may, session, body).await,
                Method::DELETE => uploads::delete_upload(may, session).await,
                _ => uploads::get_upload(may, session).await,
            }
        }
    }
}

impl Call<'_> {
    fn registry(&self) -> &Registry {
        &self.v2.registry
    }

    /// Leave for what the endpoint needs, in the repository of this name.
    async fn may<R: Right>(&self, name: &str) -> Result<May<R>, Refusal> {
        let repository: RepositoryName = name.parse()?;
        let authorised = self
            .registry()
            .authorise(&self.caller, repository.clone())
            .await?;
        let limits = &self.v2.limits;
        limits
            .namespace(&self.caller.principal, &repository)
            .await?;
        Ok(authorised)
    }

    /// A request header, if it is there and is text.
    fn header(&self, name: &HeaderName) -> Option<&str> {
        self.request.headers().get(name)?.to_str().ok()
    }
}

/// Undoes percent-encoding in the last part of a path: some clients escape the colon of a digest. The parsers behind it
/// are strict, so nothing is let in that could not be sent plainly.
pub(crate) fn unescape(part: &str) -> std::borrow::Cow<'_, str> {
    if !part.contains('%') {
        return part.into();
    }
    let mut bytes = Vec::with_capacity(part.len());
    let mut rest = part.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let escaped = (first == b'%').then(|| tail.get(..2)).flatten();
        let value = escaped
            .and_then(|hex| std::str::from_utf8(hex).ok())
            .and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match value {
            Some(value) => {
                bytes.push(value);
                rest = &tail[2..];
            }
            None => {
                bytes.push(first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned().into()
}
