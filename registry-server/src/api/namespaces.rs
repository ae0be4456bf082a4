//! Namespaces: whose they are, their settings, and the grants in them.

use actix_web::{HttpResponse, web};
use granary_registry::{GrantReport, NamespaceAdmin, NamespaceReport, NamespaceSettings};

use super::{
    ApiRefusal, Permitted, PermittedJson, get, listed, ok, patch, resource,
    schema::{BodyRefusals, Done, Listed, PageQuery, Refusals},
};

pub(super) fn configure(scope: &mut web::ServiceConfig) {
    let namespace = [get(get_namespace), patch(patch_namespace)];
    resource(scope, "/api/v1/namespaces/{namespace}", namespace);
    let grants = "/api/v1/namespaces/{namespace}/grants";
    resource(scope, grants, [get(get_grants)]);
}

/// Says how a namespace is.
#[utoipa::path(
    get,
    path = "/api/v1/namespaces/{namespace}",
    tag = "namespaces",
    params(("namespace" = String, Path, description = "what stands before the first slash of a repository's name")),
    responses((status = 200, description = "its owner and settings", body = Done<NamespaceReport>), Refusals)
)]
pub(crate) async fn get_namespace(
    Permitted(leave): Permitted<NamespaceAdmin>,
) -> Result<HttpResponse, ApiRefusal> {
    Ok(ok(leave.namespace_to_be().await?))
}

/// Changes a namespace, and says how it is afterwards.
#[utoipa::path(
    patch,
    path = "/api/v1/namespaces/{namespace}",
    tag = "namespaces",
    params(("namespace" = String, Path, description = "its name")),
    request_body = NamespaceSettings,
    responses((status = 200, description = "its owner and settings", body = Done<NamespaceReport>), Refusals, BodyRefusals)
)]
pub(crate) async fn patch_namespace(
    PermittedJson(leave, body): PermittedJson<NamespaceAdmin, NamespaceSettings>,
) -> Result<HttpResponse, ApiRefusal> {
    let report = match body.is_empty() {
        true => leave.namespace_to_be().await?,
        false => leave.change_namespace(body).await?,
    };
    Ok(ok(report))
}

/// Lists the grants in a namespace, in the order in which they were made.
#[utoipa::path(
    get,
    path = "/api/v1/namespaces/{namespace}/grants",
    tag = "namespaces",
    params(("namespace" = String, Path, description = "its name"), PageQuery),
    responses((status = 200, description = "grants", body = Listed<Vec<GrantReport>>), Refusals)
)]
pub(crate) async fn get_grants(
    Permitted(leave): Permitted<NamespaceAdmin>,
    query: web::Query<PageQuery>,
) -> Result<HttpResponse, ApiRefusal> {
    let limit = query.limit()?;
    let after = match query.after.as_deref().map(str::parse) {
        None => 0,
        Some(Ok(after)) => after,
        Some(Err(_)) => return Err(ApiRefusal::Invalid("after is a grant's number".to_owned())),
    };
    let grants = leave.grants(after, limit).await?;
    let is_full = grants.len() as u64 == limit;
    let next = grants.last().filter(|_| is_full);
    let next = next.map(|grant| grant.id.to_string());
    Ok(listed(grants, next))
}
