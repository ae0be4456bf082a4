//! Sessions of browsers. They count on `/api/v1` and `/auth` only, and change something only for pages of this service.

use actix_web::{
    HttpRequest, HttpResponse, ResponseError as _,
    http::{
        Method,
        header::{AUTHORIZATION, HeaderName, ORIGIN, WWW_AUTHENTICATE},
    },
    web,
};
use granary_identity::{Secret, csrf_token, is_csrf_token};
use granary_registry::{AccountsError, Caller, OwnAccount, Reason, Session};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    Doors,
    cookie::{self, SESSION},
};
use crate::{
    api::{
        ApiRefusal, no_content, ok, permitted,
        schema::{BodyRefusals, Done, Refusals},
    },
    endpoint::{get, post, resource},
};

/// What shows that a request comes from a page of this service.
const CSRF: HeaderName = HeaderName::from_static("x-csrf-token");

/// Who logs in, and by what.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PasswordLogin {
    /// The user's name.
    #[schema(max_length = 64)]
    user: String,
    /// The password.
    #[schema(max_length = 1024)]
    password: String,
}

/// A session.
#[derive(Serialize, ToSchema)]
pub(crate) struct SessionReport {
    /// Who is logged in.
    user: String,
    /// What `X-CSRF-Token` has to be in every request that changes something.
    csrf: String,
    /// When the session ends.
    #[schema(format = DateTime)]
    expires_at: String,
    /// The provider that said who it is; nothing if a password did.
    provider: Option<String>,
}

/// Adds the sessions, which find [`Doors`] in the application's data.
pub(crate) fn configure(app: &mut web::ServiceConfig) {
    resource(app, "/auth/session", [get(get_session), post(post_session)]);
    resource(app, "/auth/logout", [post(post_logout)]);
    resource(app, "/auth/providers", [get(get_providers)]);
}

/// Says who is logged in, and what `X-CSRF-Token` has to be.
#[utoipa::path(
    get,
    path = "/auth/session",
    tag = "sessions",
    responses((status = 200, description = "the session of this browser", body = Done<SessionReport>), Refusals)
)]
pub(crate) async fn get_session(request: HttpRequest, doors: web::Data<Doors>) -> HttpResponse {
    answer(show(&request, &doors).await)
}

async fn show(request: &HttpRequest, doors: &Doors) -> Result<HttpResponse, ApiRefusal> {
    doors.limits.address(|| doors.place.client(request)).await?;
    let secret = cookie::get(request, SESSION).ok_or(ApiRefusal::NoCredentials)?;
    let (session, caller) = doors.session(request, &secret).await?;
    let leave = doors.registry.ask_leave::<OwnAccount>(&caller, ()).await?;
    Ok(ok(SessionReport {
        user: leave.principal().name().to_owned(),
        csrf: csrf_token(&secret),
        expires_at: session.ends_at(),
        provider: session.provider,
    }))
}

/// Logs in by a password.
#[utoipa::path(
    post,
    path = "/auth/session",
    tag = "sessions",
    request_body = PasswordLogin,
    responses((status = 204, description = "logged in, with the cookie of a session"), Refusals, BodyRefusals)
)]
pub(crate) async fn post_session(
    request: HttpRequest,
    payload: web::Payload,
    doors: web::Data<Doors>,
) -> HttpResponse {
    answer(enter(&request, payload, &doors).await)
}

async fn enter(
    request: &HttpRequest,
    payload: web::Payload,
    doors: &Doors,
) -> Result<HttpResponse, ApiRefusal> {
    doors.limits.address(|| doors.place.client(request)).await?;
    doors.check_origin(request)?;
    let body: PasswordLogin = permitted::json(request, payload.into_inner()).await?;
    let origin = doors.place.origin_of(request);
    let password = Secret::from(body.password);
    let registry = &doors.registry;
    let session = registry.log_in_by_password(body.user, password, &origin);
    let session = session.await?;
    let mut answer = no_content();
    cookie::set(&mut answer, SESSION, &session, doors.session);
    Ok(answer)
}

/// Ends the session of this browser, and whoever copied its cookie is logged out with it.
#[utoipa::path(
    post,
    path = "/auth/logout",
    tag = "sessions",
    params(("X-CSRF-Token" = String, Header, description = "as the session says")),
    responses((status = 204, description = "the session has ended"), Refusals)
)]
pub(crate) async fn post_logout(request: HttpRequest, doors: web::Data<Doors>) -> HttpResponse {
    answer(leave(&request, &doors).await)
}

async fn leave(request: &HttpRequest, doors: &Doors) -> Result<HttpResponse, ApiRefusal> {
    doors.limits.address(|| doors.place.client(request)).await?;
    let secret = cookie::get(request, SESSION).ok_or(ApiRefusal::NoCredentials)?;
    let (_, caller) = doors.session(request, &secret).await?;
    let leave = doors.registry.ask_leave::<OwnAccount>(&caller, ()).await?;
    leave.end_session().await?;
    let mut answer = no_content();
    cookie::remove(&mut answer, SESSION);
    Ok(answer)
}

/// Lists the identity providers that people can log in through, by name.
#[utoipa::path(
    get,
    path = "/auth/providers",
    tag = "sessions",
    responses((status = 200, description = "their names, each for /auth/login/NAME", body = Done<Vec<String>>), Refusals)
)]
pub(crate) async fn get_providers(
    request: HttpRequest,
    doors: web::Data<Doors>,
) -> Result<HttpResponse, ApiRefusal> {
    doors
        .limits
        .address(|| doors.place.client(&request))
        .await?;
    let names: Vec<&str> = doors.providers.names().collect();
    Ok(ok(names))
}

/// An answer about a session. Those who have none are not asked for credentials in a header: none count there.
fn answer(result: Result<HttpResponse, ApiRefusal>) -> HttpResponse {
    let refused = |refusal: ApiRefusal| {
        let mut answer = refusal.error_response();
        answer.headers_mut().remove(WWW_AUTHENTICATE);
        answer
    };
    result.unwrap_or_else(refused)
}

impl Doors {
    /// Who sends a request with the cookie of a session and no other credentials.
    pub(crate) async fn by_cookie(
        &self,
        request: &HttpRequest,
    ) -> Result<Option<Caller>, ApiRefusal> {
        if request.headers().contains_key(AUTHORIZATION) {
            return Ok(None);
        }
        match cookie::get(request, SESSION) {
            Some(secret) => Ok(Some(self.session(request, &secret).await?.1)),
            None => Ok(None),
        }
    }

    /// The session of that secret, and who sends the request. Another site can have a browser send the cookie: what changes
    /// something shows that it comes from a page of ours.
    async fn session(
        &self,
        request: &HttpRequest,
        secret: &Secret,
    ) -> Result<(Session, Caller), ApiRefusal> {
        let ended = AccountsError::Denied(Reason::Ended);
        let session = self.registry.session(secret).await?.ok_or(ended)?;
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            let mut shown = request.headers().get_all(CSRF);
            let is_ours = match (shown.next(), shown.next()) {
                (Some(shown), None) => is_csrf_token(secret, shown.as_bytes()),
                _ => false,
            };
            if !is_ours {
                return Err(ApiRefusal::Csrf);
            }
            self.check_origin(request)?;
        }
        let caller = Caller {
            principal: session.principal.clone(),
            origin: self.place.origin_of(request),
        };
        Ok((session, caller))
    }

    /// Refuses what a page of another origin sends.
    fn check_origin(&self, request: &HttpRequest) -> Result<(), ApiRefusal> {
        let own = self.place.origin(request);
        let is_ours = |origin: &actix_web::http::header::HeaderValue| origin == own.as_str();
        match request.headers().get_all(ORIGIN).all(is_ours) {
            true => Ok(()),
            false => Err(ApiRefusal::Csrf),
        }
    }
}
