//! Organisations, and who belongs to them.

use actix_web::{HttpRequest, HttpResponse, web};
use granary_access::{AddressBlocks, Role};
use granary_registry::{
    Installation, MemberReport, OrganisationAdmin, OrganisationMember, OrganisationOwner,
    OrganisationReport, OwnAccount,
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    ApiRefusal, Permitted, PermittedJson, Signed, SignedJson,
    account::{said, some_addresses},
    created, delete, get, listed, no_content, ok, patch,
    permitted::part,
    post, put, resource,
    schema::{BodyRefusals, Done, Listed, PageQuery, Refusals},
};
use crate::auth::Doors;

/// An organisation to make.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewOrganisation {
    /// Its name, which is also that of its namespace: 2 to 64 lower-case letters, digits, dots, dashes and underscores.
    #[schema(min_length = 2, max_length = 64)]
    organisation: String,
    /// Its first owner, a user; whoever asks if it is left out.
    #[serde(default)]
    #[schema(max_length = 64)]
    owner: Option<String>,
}

/// An organisation that was made.
#[derive(Serialize, ToSchema)]
pub(crate) struct MadeOrganisation {
    /// Its name.
    organisation: String,
    /// The namespace of its name was there, and is its own now.
    took_over: bool,
}

/// How an organisation is to be.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct OrganisationPatch {
    /// From where its namespaces may be used: addresses and CIDR blocks, at most 64. From everywhere if it is null.
    #[serde(default, deserialize_with = "said")]
    #[schema(value_type = Option<Vec<String>>)]
    addresses: Option<Option<AddressBlocks>>,
}

/// What somebody is to be.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct MemberRole {
    /// What.
    role: Role,
}

pub(super) fn configure(scope: &mut web::ServiceConfig) {
    let all = [get(get_organisations), post(post_organisation)];
    resource(scope, "/api/v1/orgs", all);
    let one = [
        get(get_organisation),
        patch(patch_organisation),
        delete(delete_organisation),
    ];
    resource(scope, "/api/v1/orgs/{org}", one);
    resource(scope, "/api/v1/orgs/{org}/members", [get(get_members)]);
    let member = [put(put_member), delete(delete_member)];
    resource(scope, "/api/v1/orgs/{org}/members/{member}", member);
}

/// Lists the organisations that one belongs to; all of them for who administers the installation.
#[utoipa::path(
    get,
    path = "/api/v1/orgs",
    tag = "organisations",
    params(PageQuery),
    responses((status = 200, description = "organisations by their names", body = Listed<Vec<OrganisationReport>>), Refusals)
)]
pub(crate) async fn get_organisations(
    Permitted(leave): Permitted<OwnAccount>,
    query: web::Query<PageQuery>,
) -> Result<HttpResponse, ApiRefusal> {
    let page = leave.organisations(query.page()?).await?;
    Ok(listed(page.entries, page.next))
}

/// Makes an organisation with its namespace.
#[utoipa::path(
    post,
    path = "/api/v1/orgs",
    tag = "organisations",
    request_body = NewOrganisation,
    responses((status = 201, description = "it is there", body = Done<MadeOrganisation>), Refusals, BodyRefusals)
)]
pub(crate) async fn post_organisation(
    PermittedJson(leave, body): PermittedJson<Installation, NewOrganisation>,
) -> Result<HttpResponse, ApiRefusal> {
    let organisation = body.organisation;
    let owner = body.owner.as_deref();
    let owner = owner.unwrap_or_else(|| leave.principal().name());
    let took_over = leave.create_organisation(&organisation, owner).await?;
    Ok(created(MadeOrganisation {
        organisation,
        took_over,
    }))
}

/// Says how an organisation is.
#[utoipa::path(
    get,
    path = "/api/v1/orgs/{org}",
    tag = "organisations",
    params(("org" = String, Path, description = "its name")),
    responses((status = 200, description = "how it is", body = Done<OrganisationReport>), Refusals)
)]
pub(crate) async fn get_organisation(
    Permitted(leave): Permitted<OrganisationMember>,
) -> Result<HttpResponse, ApiRefusal> {
    Ok(ok(leave.organisation().await?))
}

/// Says from where the namespaces of an organisation may be used. Elsewhere it looks as if it were not there.
#[utoipa::path(
    patch,
    path = "/api/v1/orgs/{org}",
    tag = "organisations",
    params(("org" = String, Path, description = "its name")),
    request_body = OrganisationPatch,
    responses((status = 204, description = "it is so"), Refusals, BodyRefusals)
)]
pub(crate) async fn patch_organisation(
    PermittedJson(leave, body): PermittedJson<OrganisationAdmin, OrganisationPatch>,
) -> Result<HttpResponse, ApiRefusal> {
    if let Some(addresses) = body.addresses {
        leave.set_addresses(some_addresses(addresses)?).await?;
    }
    Ok(no_content())
}

/// Removes an organisation that has no repositories, with its teams and robots. Whoever gets its name gets nothing of it.
#[utoipa::path(
    delete,
    path = "/api/v1/orgs/{org}",
    tag = "organisations",
    params(("org" = String, Path, description = "its name")),
    responses((status = 204, description = "it is gone"), Refusals)
)]
pub(crate) async fn delete_organisation(
    Permitted(leave): Permitted<OrganisationOwner>,
) -> Result<HttpResponse, ApiRefusal> {
    leave.remove_organisation().await?;
    Ok(no_content())
}

/// Lists who belongs to an organisation, and who said so.
#[utoipa::path(
    get,
    path = "/api/v1/orgs/{org}/members",
    tag = "organisations",
    params(("org" = String, Path, description = "its name"), PageQuery),
    responses((status = 200, description = "members by their names", body = Listed<Vec<MemberReport>>), Refusals)
)]
pub(crate) async fn get_members(
    Permitted(leave): Permitted<OrganisationMember>,
    query: web::Query<PageQuery>,
) -> Result<HttpResponse, ApiRefusal> {
    let page = leave.members(query.page()?).await?;
    Ok(listed(page.entries, page.next))
}

/// Makes somebody a member of an organisation, or something else in it. Only owners make owners, and change what they are.
#[utoipa::path(
    put,
    path = "/api/v1/orgs/{org}/members/{member}",
    tag = "organisations",
    params(("org" = String, Path, description = "its name"), ("member" = String, Path, description = "a user, or a robot ORGANISATION+ROBOT of it")),
    request_body = MemberRole,
    responses((status = 204, description = "it is so"), Refusals, BodyRefusals)
)]
pub(crate) async fn put_member(
    SignedJson(caller, body): SignedJson<MemberRole>,
    request: HttpRequest,
    doors: web::Data<Doors>,
) -> Result<HttpResponse, ApiRefusal> {
    let (organisation, member) = (part(&request, "org"), part(&request, "member"));
    let registry = &doors.registry;
    let setting = registry.set_member(&caller, &organisation, &member, body.role);
    setting.await?;
    Ok(no_content())
}

/// Ends that somebody belongs to an organisation and its teams, and what he was granted in its namespaces.
#[utoipa::path(
    delete,
    path = "/api/v1/orgs/{org}/members/{member}",
    tag = "organisations",
    params(("org" = String, Path, description = "its name"), ("member" = String, Path, description = "a user, or a robot ORGANISATION+ROBOT of it")),
    responses((status = 204, description = "it is so"), Refusals)
)]
pub(crate) async fn delete_member(
    Signed(caller): Signed,
    request: HttpRequest,
    doors: web::Data<Doors>,
) -> Result<HttpResponse, ApiRefusal> {
    let (organisation, member) = (part(&request, "org"), part(&request, "member"));
    let registry = &doors.registry;
    registry
        .remove_member(&caller, &organisation, &member)
        .await?;
    Ok(no_content())
}
