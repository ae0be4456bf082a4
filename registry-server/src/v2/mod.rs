//! `/v2/`: the distribution API.
//!
//! One handler reads the path, decides whether the caller may, and calls the endpoint. Endpoints translate; what
//! happens is decided in `granary-registry`.

pub(crate) mod blobs;
mod body;
mod conditions;
pub(crate) mod lists;
pub(crate) mod manifests;
mod query;
mod refusal;
mod route;
pub(crate) mod schema;
pub(crate) mod uploads;

use actix_web::{
    HttpRequest, HttpResponse,
    http::{Method, header::HeaderName},
    web,
};
use granary_oci::RepositoryName;
use granary_registry::{Principal, Registry, RegistryError, decide};
use tokio::sync::Semaphore;

use self::{body::Body, query::Query, refusal::Refusal, route::Route};
use crate::{drain::Drain, edge::set_route};

/// `Docker-Content-Digest`
pub(crate) const CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");
const API_VERSION: HeaderName = HeaderName::from_static("docker-distribution-api-version");

/// KiB of manifests that may be held at once while they are read and parsed.
const MANIFEST_BUDGET: usize = 32 * 1024;

/// What the endpoints need.
pub struct V2 {
    registry: Registry,
    drain: Drain,
    /// One permit a KiB of manifest under way.
    manifest_budget: Semaphore,
}

impl V2 {
    /// The API of one registry.
    pub fn new(registry: Registry, drain: Drain) -> Self {
        Self {
            registry,
            drain,
            manifest_budget: Semaphore::new(MANIFEST_BUDGET),
        }
    }
}

/// A request on a repository, after the checks every one of them passes.
pub(crate) struct Call<'r> {
    v2: &'r V2,
    request: &'r HttpRequest,
    principal: Principal,
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
    let answer = match route {
        Some(route) => dispatch(route, &request, &mut body, &v2).await,
        None => Err(Refusal::NoEndpoint),
    };
    let mut answer = match answer {
        Ok(answer) => answer,
        Err(refusal) => {
            body.drain().await;
            refusal.answer(route.and_then(Route::repository))
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
    let method = request.method();
    let Some(action) = route.action(method) else {
        let allowed: Vec<&str> = route.methods().iter().map(Method::as_str).collect();
        return Err(Refusal::Method(
            method.to_string().chars().take(40).collect(),
            allowed.join(", "),
        ));
    };
    let principal = Principal::Local;
    let repository = route
        .repository()
        .map(str::parse::<RepositoryName>)
        .transpose()?;
    if !decide(&principal, action, repository.as_ref()).allows() {
        return Err(RegistryError::Denied.into());
    }
    let call = Call {
        v2,
        request,
        principal,
        query: Query::parse(request.query_string()),
    };
    let Some(repository) = repository else {
        return match route {
            Route::Catalog => lists::get_catalog(&call).await,
            Route::Discover(_) => Ok(lists::get_extensions()),
            _ => Ok(lists::get_base()),
        };
    };
    match route {
        Route::Base | Route::Catalog | Route::Discover(_) => Ok(lists::get_extensions()),
        Route::Tags(_) => lists::get_tags(&call, &repository).await,
        Route::Referrers(_, digest) => lists::get_referrers(&call, &repository, digest).await,
        Route::Manifest(_, reference) => match *method {
            Method::PUT => manifests::put_manifest(&call, &repository, reference, body).await,
            Method::DELETE => manifests::delete_manifest(&call, &repository, reference).await,
            _ => manifests::get_manifest(&call, &repository, reference).await,
        },
        Route::Blob(_, digest) => match *method {
            Method::DELETE => blobs::delete_blob(&call, &repository, digest).await,
            Method::HEAD => blobs::head_blob(&call, &repository, digest).await,
            _ => blobs::get_blob(&call, &repository, digest).await,
        },
        Route::Uploads(_) => uploads::post_upload(&call, &repository, body).await,
        Route::Upload(_, session) => match *method {
            Method::PATCH => uploads::patch_upload(&call, &repository, session, body).await,
            Method::PUT => uploads::put_upload(&call, &repository, session, body).await,
            Method::DELETE => uploads::delete_upload(&call, &repository, session).await,
            _ => uploads::get_upload(&call, &repository, session).await,
        },
    }
}

impl Call<'_> {
    fn registry(&self) -> &Registry {
        &self.v2.registry
    }

    /// A request header, if it is there and is text.
    fn header(&self, name: &HeaderName) -> Option<&str> {
        self.request.headers().get(name)?.to_str().ok()
    }
}

/// Undoes percent-encoding in the last part of a path: some clients escape the colon of a digest. The parsers behind it
/// are strict, so nothing is let in that could not be sent plainly.
fn unescape(part: &str) -> std::borrow::Cow<'_, str> {
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
