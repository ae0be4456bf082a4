//! Giving and taking back rights.

use actix_web::{HttpRequest, HttpResponse, web};
use granary_access::{RepositoryPattern, TagPatterns, Verbs};
use granary_registry::{
    AccountsError, GrantReport, GrantRequest, NamespaceAdmin, Reason, RepositoryAdmin,
};
use serde::Deserialize;
use utoipa::ToSchema;

use super::{
    ApiRefusal, Signed, SignedJson,
    account::lifetime,
    created, delete, no_content,
    permitted::{number, refused},
    post, resource,
    schema::{BodyRefusals, Done, Refusals},
};
use crate::auth::Doors;

/// What is to be granted.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewGrant {
    /// To whom: a user, a robot `OWNER+ROBOT` or a team `ORGANISATION/TEAM`.
    #[schema(max_length = 200)]
    to: String,
    /// What: read, write, update, delete, admin.
    verbs: Verbs,
    /// Where: a repository's name, or a prefix that ends in `/**`.
    #[schema(value_type = String, max_length = 300, example = "acme/**")]
    repositories: RepositoryPattern,
    /// On which tags: patterns with `*`; all if they are left out.
    #[serde(default)]
    tags: TagPatterns,
    /// For how long, in seconds; without an end if it is left out.
    #[serde(default)]
    #[schema(minimum = 1, maximum = 3_153_600_000_u64)]
    expires_in: Option<u64>,
}

pub(super) fn configure(scope: &mut web::ServiceConfig) {
    resource(scope, "/api/v1/grants", [post(post_grant)]);
    resource(scope, "/api/v1/grants/{id}", [delete(delete_grant)]);
}

/// Grants something, by who looks after the namespace, or after the one repository that it is about.
#[utoipa::path(
    post,
    path = "/api/v1/grants",
    tag = "grants",
    request_body = NewGrant,
    responses((status = 201, description = "it is granted", body = Done<GrantReport>), Refusals, BodyRefusals)
)]
pub(crate) async fn post_grant(
    SignedJson(caller, body): SignedJson<NewGrant>,
    api: web::Data<Doors>,
) -> Result<HttpResponse, ApiRefusal> {
    let request = GrantRequest {
        user: body.to,
        verbs: body.verbs,
        repositories: body.repositories,
        tags: body.tags,
        lifetime: lifetime(body.expires_in)?,
    };
    let place = request.repositories.clone();
    let granting = api.registry.grant(&caller, request).await;
    let report = granting.map_err(|error| match &error {
        AccountsError::Denied(Reason::NotGranted) => {
            refused::<RepositoryAdmin>(error, &place.to_string())
        }
        // Also of a repository: one that is hidden looks like one that is not there.
        _ => refused::<NamespaceAdmin>(error, place.namespace().unwrap_or_default()),
    })?;
    Ok(created(report))
}

/// Takes a grant back.
#[utoipa::path(
    delete,
    path = "/api/v1/grants/{id}",
    tag = "grants",
    params(("id" = i64, Path, description = "its number")),
    responses((status = 204, description = "it is taken back"), Refusals)
)]
pub(crate) async fn delete_grant(
    Signed(caller): Signed,
    request: HttpRequest,
    api: web::Data<Doors>,
) -> Result<HttpResponse, ApiRefusal> {
    api.registry
        .remove_grant(&caller, number(&request, "id")?)
        .await?;
    Ok(no_content())
}
