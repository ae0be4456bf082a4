//! Repositories, for who administers them.

use actix_web::{HttpResponse, web};
use granary_access::Visibility;
use granary_registry::RepositoryAdmin;
use serde::Deserialize;
use utoipa::ToSchema;

use super::{
    ApiRefusal, PermittedJson, at, no_content, patch,
    schema::{BodyRefusals, Refusals},
};

/// How a repository is to be.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RepositoryPatch {
    /// Who sees it.
    visibility: Visibility,
}

pub(super) fn configure(scope: &mut web::ServiceConfig) {
    // Names have slashes.
    let names = ("/api/v1/repositories/{name}", "/repositories/{name:.+}");
    at(scope, names, [patch(patch_repository)]);
}

/// Changes who sees a repository.
#[utoipa::path(
    patch,
    path = "/api/v1/repositories/{name}",
    tag = "repositories",
    params(("name" = String, Path, description = "its name; its slashes may stand as they are")),
    request_body = RepositoryPatch,
    responses((status = 204, description = "it is so"), Refusals, BodyRefusals)
)]
pub(crate) async fn patch_repository(
    PermittedJson(leave, body): PermittedJson<RepositoryAdmin, RepositoryPatch>,
) -> Result<HttpResponse, ApiRefusal> {
    leave.set_visibility(body.visibility).await?;
    Ok(no_content())
}
