//! Repositories, for who administers them.

use actix_web::{HttpRequest, HttpResponse, web};
use granary_access::Visibility;
use granary_registry::{AccountsError, Administering, Reason, RepositoryAdmin};
use serde::Deserialize;
use utoipa::ToSchema;

use super::{
    ApiRefusal, PermittedJson, Signed, at, delete, no_content, patch,
    permitted::part,
    schema::{BodyRefusals, Refusals},
};
use crate::auth::Doors;

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
    at(
        scope,
        names,
        [patch(patch_repository), delete(delete_repository)],
    );
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

/// Removes a repository with all that is in it, at once and for good. Its name is free; who pushes to it makes another one.
#[utoipa::path(
    delete,
    path = "/api/v1/repositories/{name}",
    tag = "repositories",
    params(("name" = String, Path, description = "its name; its slashes may stand as they are")),
    responses((status = 204, description = "it is gone"), Refusals)
)]
pub(crate) async fn delete_repository(
    Signed(caller): Signed,
    request: HttpRequest,
    doors: web::Data<Doors>,
) -> Result<HttpResponse, ApiRefusal> {
    let name = part(&request, "name").parse();
    let name = name.map_err(|_| AccountsError::Denied(Reason::Missing))?;
    let may = doors.registry.authorise::<Administering>(&caller, name);
    may.await?.remove_repository().await?;
    Ok(no_content())
}
