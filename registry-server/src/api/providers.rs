//! What groups of identity providers mean.

use actix_web::{HttpRequest, HttpResponse, web};
use granary_access::Role;
use granary_registry::{Installation, MappingReport, MappingRequest};
use serde::Deserialize;
use utoipa::ToSchema;

use super::{
    ApiRefusal, Permitted, PermittedJson, created, delete, get, no_content, ok,
    permitted::{number, part},
    post, resource,
    schema::{BodyRefusals, Done, Refusals},
};

/// What a group is to mean.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewMapping {
    /// The group's name at the provider.
    #[schema(min_length = 1, max_length = 255)]
    group: String,
    /// The organisation, or the team as `ORGANISATION/TEAM`.
    #[schema(max_length = 200, example = "acme/core")]
    to: String,
    /// What its people are there; of a team, `member` or `admin` for a maintainer.
    role: Role,
}

pub(super) fn configure(scope: &mut web::ServiceConfig) {
    resource(
        scope,
        "/api/v1/providers/{provider}/mappings",
        [get(get_mappings), post(post_mapping)],
    );
    resource(
        scope,
        "/api/v1/providers/{provider}/mappings/{id}",
        [delete(delete_mapping)],
    );
}

/// Lists what the groups of a provider mean.
#[utoipa::path(
    get,
    path = "/api/v1/providers/{provider}/mappings",
    tag = "providers",
    params(("provider" = String, Path, description = "its name in the configuration")),
    responses((status = 200, description = "in the order in which it was said", body = Done<Vec<MappingReport>>), Refusals)
)]
pub(crate) async fn get_mappings(
    Permitted(leave): Permitted<Installation>,
    request: HttpRequest,
) -> Result<HttpResponse, ApiRefusal> {
    Ok(ok(leave.mappings(&part(&request, "provider")).await?))
}

/// Says what a group of a provider means, from the next log-in of its people on.
#[utoipa::path(
    post,
    path = "/api/v1/providers/{provider}/mappings",
    tag = "providers",
    params(("provider" = String, Path, description = "its name in the configuration")),
    request_body = NewMapping,
    responses((status = 201, description = "it is said", body = Done<MappingReport>), Refusals, BodyRefusals)
)]
pub(crate) async fn post_mapping(
    PermittedJson(leave, body): PermittedJson<Installation, NewMapping>,
    request: HttpRequest,
) -> Result<HttpResponse, ApiRefusal> {
    let request = MappingRequest {
        provider: part(&request, "provider"),
        group: body.group,
        to: body.to,
        role: body.role,
    };
    Ok(created(leave.map_group(request).await?))
}

/// Takes a mapping back, and from everybody what no mapping says any more.
#[utoipa::path(
    delete,
    path = "/api/v1/providers/{provider}/mappings/{id}",
    tag = "providers",
    params(
        ("provider" = String, Path, description = "its name in the configuration"),
        ("id" = i64, Path, description = "the mapping's number"),
    ),
    responses((status = 204, description = "it is taken back"), Refusals)
)]
pub(crate) async fn delete_mapping(
    Permitted(leave): Permitted<Installation>,
    request: HttpRequest,
) -> Result<HttpResponse, ApiRefusal> {
    let id = number(&request, "id")?;
    leave.unmap_group(&part(&request, "provider"), id).await?;
    Ok(no_content())
}
