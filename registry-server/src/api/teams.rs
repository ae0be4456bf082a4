//! Teams of organisations, and who belongs to them.

use actix_web::{HttpRequest, HttpResponse, web};
use granary_access::TeamRole;
use granary_registry::{
    OrganisationAdmin, OrganisationMember, TeamMaintainer, TeamMemberReport, TeamReport,
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    ApiRefusal, Permitted, PermittedJson, created, delete, get, listed, no_content, ok,
    permitted::part,
    post, put, resource,
    schema::{BodyRefusals, Done, Listed, PageQuery, Refusals},
};

/// A team to make.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewTeam {
    /// Its name in the organisation: lower-case letters, digits, dots, dashes and underscores.
    #[schema(min_length = 1, max_length = 64)]
    team: String,
}

/// A team that was made.
#[derive(Serialize, ToSchema)]
pub(crate) struct MadeTeam {
    /// Its whole name, `ORGANISATION/TEAM`, by which it is granted something.
    team: String,
}

/// What somebody is to be.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct TeamMemberRole {
    /// What.
    role: TeamRole,
}

pub(super) fn configure(scope: &mut web::ServiceConfig) {
    let all = [get(get_teams), post(post_team)];
    resource(scope, "/api/v1/orgs/{org}/teams", all);
    let one = [get(get_team), delete(delete_team)];
    resource(scope, "/api/v1/orgs/{org}/teams/{team}", one);
    let members = "/api/v1/orgs/{org}/teams/{team}/members";
    resource(scope, members, [get(get_team_members)]);
    let member = "/api/v1/orgs/{org}/teams/{team}/members/{member}";
    let endpoints = [put(put_team_member), delete(delete_team_member)];
    resource(scope, member, endpoints);
}

/// Lists the teams of an organisation.
#[utoipa::path(
    get,
    path = "/api/v1/orgs/{org}/teams",
    tag = "teams",
    params(("org" = String, Path, description = "the organisation's name"), PageQuery),
    responses((status = 200, description = "teams by their names", body = Listed<Vec<TeamReport>>), Refusals)
)]
pub(crate) async fn get_teams(
    Permitted(leave): Permitted<OrganisationMember>,
    query: web::Query<PageQuery>,
) -> Result<HttpResponse, ApiRefusal> {
    let page = leave.teams(query.page()?).await?;
    Ok(listed(page.entries, page.next))
}

/// Makes a team. What it may do it is granted.
#[utoipa::path(
    post,
    path = "/api/v1/orgs/{org}/teams",
    tag = "teams",
    params(("org" = String, Path, description = "the organisation's name")),
    request_body = NewTeam,
    responses((status = 201, description = "it is there", body = Done<MadeTeam>), Refusals, BodyRefusals)
)]
pub(crate) async fn post_team(
    PermittedJson(leave, body): PermittedJson<OrganisationAdmin, NewTeam>,
) -> Result<HttpResponse, ApiRefusal> {
    let team = leave.create_team(&body.team).await?;
    Ok(created(MadeTeam { team }))
}

/// Says how a team is.
#[utoipa::path(
    get,
    path = "/api/v1/orgs/{org}/teams/{team}",
    tag = "teams",
    params(("org" = String, Path, description = "the organisation's name"), ("team" = String, Path, description = "the team's name in it")),
    responses((status = 200, description = "how it is", body = Done<TeamReport>), Refusals)
)]
pub(crate) async fn get_team(
    Permitted(leave): Permitted<OrganisationMember>,
    request: HttpRequest,
) -> Result<HttpResponse, ApiRefusal> {
    Ok(ok(leave.team(&part(&request, "team")).await?))
}

/// Removes a team, and what it was granted.
#[utoipa::path(
    delete,
    path = "/api/v1/orgs/{org}/teams/{team}",
    tag = "teams",
    params(("org" = String, Path, description = "the organisation's name"), ("team" = String, Path, description = "the team's name in it")),
    responses((status = 204, description = "it is gone"), Refusals)
)]
pub(crate) async fn delete_team(
    Permitted(leave): Permitted<OrganisationAdmin>,
    request: HttpRequest,
) -> Result<HttpResponse, ApiRefusal> {
    leave.remove_team(&part(&request, "team")).await?;
    Ok(no_content())
}

/// Lists who belongs to a team, and who said so.
#[utoipa::path(
    get,
    path = "/api/v1/orgs/{org}/teams/{team}/members",
    tag = "teams",
    params(("org" = String, Path, description = "the organisation's name"), ("team" = String, Path, description = "the team's name in it"), PageQuery),
    responses((status = 200, description = "members by their names", body = Listed<Vec<TeamMemberReport>>), Refusals)
)]
pub(crate) async fn get_team_members(
    Permitted(leave): Permitted<OrganisationMember>,
    request: HttpRequest,
    query: web::Query<PageQuery>,
) -> Result<HttpResponse, ApiRefusal> {
    let team = part(&request, "team");
    let page = leave.team_members(&team, query.page()?).await?;
    Ok(listed(page.entries, page.next))
}

/// Makes somebody a member or maintainer of a team. Who was none yet becomes a member of the organisation, too.
#[utoipa::path(
    put,
    path = "/api/v1/orgs/{org}/teams/{team}/members/{member}",
    tag = "teams",
    params(("org" = String, Path, description = "the organisation's name"), ("team" = String, Path, description = "the team's name in it"), ("member" = String, Path, description = "a user, or a robot ORGANISATION+ROBOT of the organisation")),
    request_body = TeamMemberRole,
    responses((status = 204, description = "it is so"), Refusals, BodyRefusals)
)]
pub(crate) async fn put_team_member(
    PermittedJson(leave, body): PermittedJson<TeamMaintainer, TeamMemberRole>,
    request: HttpRequest,
) -> Result<HttpResponse, ApiRefusal> {
    let member = part(&request, "member");
    leave.set_member(&member, body.role).await?;
    Ok(no_content())
}

/// Ends that somebody belongs to a team.
#[utoipa::path(
    delete,
    path = "/api/v1/orgs/{org}/teams/{team}/members/{member}",
    tag = "teams",
    params(("org" = String, Path, description = "the organisation's name"), ("team" = String, Path, description = "the team's name in it"), ("member" = String, Path, description = "a user, or a robot ORGANISATION+ROBOT of the organisation")),
    responses((status = 204, description = "it is so"), Refusals)
)]
pub(crate) async fn delete_team_member(
    Permitted(leave): Permitted<TeamMaintainer>,
    request: HttpRequest,
) -> Result<HttpResponse, ApiRefusal> {
    leave.remove_member(&part(&request, "member")).await?;
    Ok(no_content())
}
