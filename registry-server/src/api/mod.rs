//! `/api/v1`: accounts, organisations, rights and settings, for people's tools and the client commands.
//!
//! A handler takes the leave it needs as an argument ([`Permitted`], [`PermittedJson`]), which asks the one decision function; it
//! calls one use case and renders what comes back. Every answer is one of two envelopes (see [`schema`]).

mod account;
mod audit;
mod grants;
mod namespaces;
mod organisations;
pub(crate) mod permitted;
mod providers;
mod publishers;
mod refusal;
mod repositories;
mod robots;
pub(crate) mod schema;
mod teams;
mod users;

use actix_web::{
    HttpRequest, HttpResponse,
    http::{StatusCode, header::CACHE_CONTROL},
    web,
};
use granary_registry::{Caller, Principal};
use serde::Serialize;
use utoipa::OpenApi;

pub(crate) use self::refusal::ApiRefusal;
use self::{
    permitted::{Permitted, PermittedJson, Signed, SignedJson},
    schema::{Done, Listed},
};
use crate::{
    auth::{self, Doors},
    endpoint::{Endpoint, at, delete, get, patch, post, put},
};

/// The operations, for the document.
#[derive(OpenApi)]
#[openapi(paths(
    account::get_me,
    account::put_password,
    account::get_tokens,
    account::post_token,
    account::rotate_token,
    account::delete_token,
    users::get_users,
    users::post_user,
    users::patch_user,
    users::delete_user,
    users::put_password,
    users::get_tokens,
    users::post_token,
    users::delete_token,
    namespaces::get_namespace,
    namespaces::patch_namespace,
    namespaces::get_grants,
    grants::post_grant,
    grants::delete_grant,
    organisations::get_organisations,
    organisations::post_organisation,
    organisations::get_organisation,
    organisations::patch_organisation,
    organisations::delete_organisation,
    organisations::get_members,
    organisations::put_member,
    organisations::delete_member,
    teams::get_teams,
    teams::post_team,
    teams::get_team,
    teams::delete_team,
    teams::get_team_members,
    teams::put_team_member,
    teams::delete_team_member,
    robots::get_robots,
    robots::post_robot,
    robots::patch_robot,
    robots::delete_robot,
    robots::get_robot_tokens,
    robots::post_robot_token,
    robots::rotate_robot_token,
    robots::delete_robot_token,
    publishers::get_issuers,
    publishers::post_issuer,
    publishers::patch_issuer,
    publishers::delete_issuer,
    publishers::get_publishers,
    publishers::post_publisher,
    publishers::delete_publisher,
    repositories::patch_repository,
    providers::get_mappings,
    providers::post_mapping,
    providers::delete_mapping,
    repositories::delete_repository,
    audit::get_audit,
    audit::get_audit_export,
    audit::get_audit_keys,
))]
pub(crate) struct Document;

/// Adds the API, which finds [`Doors`] in the application's data.
pub(crate) fn configure(app: &mut web::ServiceConfig) {
    // A query that cannot be read is refused as everything else is.
    let queries = web::QueryConfig::default()
        .error_handler(|error, _| ApiRefusal::Invalid(error.to_string()).into());
    let scope = web::scope("/api/v1")
        .app_data(queries)
        .configure(account::configure)
        .configure(users::configure)
        .configure(organisations::configure)
        .configure(teams::configure)
        .configure(robots::configure)
        .configure(publishers::configure)
        .configure(namespaces::configure)
        .configure(grants::configure)
        .configure(repositories::configure)
        .configure(providers::configure)
        .configure(audit::configure)
        .default_service(web::to(no_endpoint));
    app.service(scope);
}

/// Adds a resource, whose name in metrics and logs is its path.
fn resource<const N: usize>(
    scope: &mut web::ServiceConfig,
    route: &'static str,
    endpoints: [Endpoint; N],
) {
    let path = route.strip_prefix("/api/v1").unwrap_or(route);
    at(scope, (route, path), endpoints);
}

async fn no_endpoint() -> Result<HttpResponse, ApiRefusal> {
    Err(ApiRefusal::NoEndpoint)
}

impl Doors {
    /// Who sends a request; nobody in particular is told to log in.
    async fn caller(&self, request: &HttpRequest) -> Result<Caller, ApiRefusal> {
        self.limits.address(|| self.place.client(request)).await?;
        let caller = match self.by_cookie(request).await? {
            Some(caller) => caller,
            None => {
                let origin = self.place.origin_of(request);
                let principal = self.registry.sign_in(auth::shown(request), &origin).await?;
                Caller { principal, origin }
            }
        };
        self.limits.principal(&caller).await?;
        match caller.principal {
            Principal::Local => Err(ApiRefusal::NoAccounts),
            Principal::Anonymous => Err(ApiRefusal::NoCredentials),
            Principal::Known { .. } | Principal::Operator => Ok(caller),
        }
    }
}

/// What was asked for.
pub(crate) fn ok(data: impl Serialize) -> HttpResponse {
    answer(StatusCode::OK, data)
}

/// What was made.
fn created(data: impl Serialize) -> HttpResponse {
    answer(StatusCode::CREATED, data)
}

/// Nothing to say: it is done.
pub(crate) fn no_content() -> HttpResponse {
    HttpResponse::NoContent().finish()
}

/// A page of a list; `next` is what asks for the one behind it.
fn listed(data: impl Serialize, next: Option<String>) -> HttpResponse {
    let listed = Listed {
        ok: true,
        data,
        next,
    };
    HttpResponse::Ok()
        .insert_header((CACHE_CONTROL, "no-store"))
        .json(listed)
}

fn answer(status: StatusCode, data: impl Serialize) -> HttpResponse {
    HttpResponse::build(status)
        .insert_header((CACHE_CONTROL, "no-store"))
        .json(Done { ok: true, data })
}
