//! Robots of organisations and users, and their tokens.

use actix_web::{HttpRequest, HttpResponse, web};
use granary_access::AddressBlocks;
use granary_registry::{RobotOwner, RobotReport, TokenReport};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    ApiRefusal, Permitted, PermittedJson,
    account::{MadeToken, NewToken, TokenRotation, said, some_addresses},
    created, delete, get, listed, no_content, ok, patch,
    permitted::{number, part},
    post, resource,
    schema::{BodyRefusals, Done, Listed, PageQuery, Refusals},
};

/// A robot to make.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewRobot {
    /// Its name, without that of its owner: lower-case letters, digits, dots, dashes and underscores.
    #[schema(min_length = 1, max_length = 64)]
    robot: String,
}

/// A robot that was made.
#[derive(Serialize, ToSchema)]
pub(crate) struct MadeRobot {
    /// Its whole name, `OWNER+ROBOT`, by which it logs in and is granted something.
    robot: String,
}

/// How a robot is to be.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RobotPatch {
    /// From where it may be used: addresses and CIDR blocks, at most 64. From everywhere if it is null.
    #[serde(default, deserialize_with = "said")]
    #[schema(value_type = Option<Vec<String>>)]
    addresses: Option<Option<AddressBlocks>>,
}

pub(super) fn configure(scope: &mut web::ServiceConfig) {
    let all = [get(get_robots), post(post_robot)];
    resource(scope, "/api/v1/owners/{owner}/robots", all);
    let one = [patch(patch_robot), delete(delete_robot)];
    resource(scope, "/api/v1/owners/{owner}/robots/{robot}", one);
    let tokens = "/api/v1/owners/{owner}/robots/{robot}/tokens";
    let endpoints = [get(get_robot_tokens), post(post_robot_token)];
    resource(scope, tokens, endpoints);
    let token = "/api/v1/owners/{owner}/robots/{robot}/tokens/{id}";
    resource(scope, token, [delete(delete_robot_token)]);
    let rotate = "/api/v1/owners/{owner}/robots/{robot}/tokens/{id}/rotate";
    resource(scope, rotate, [post(rotate_robot_token)]);
}

/// Lists the robots of an organisation, or one's own.
#[utoipa::path(
    get,
    path = "/api/v1/owners/{owner}/robots",
    tag = "robots",
    params(("owner" = String, Path, description = "an organisation, or oneself"), PageQuery),
    responses((status = 200, description = "robots by their names", body = Listed<Vec<RobotReport>>), Refusals)
)]
pub(crate) async fn get_robots(
    Permitted(leave): Permitted<RobotOwner>,
    query: web::Query<PageQuery>,
) -> Result<HttpResponse, ApiRefusal> {
    let page = leave.robots(query.page()?).await?;
    Ok(listed(page.entries, page.next))
}

/// Makes a robot. What it may do it is granted, or its role in the organisation says.
#[utoipa::path(
    post,
    path = "/api/v1/owners/{owner}/robots",
    tag = "robots",
    params(("owner" = String, Path, description = "an organisation, or oneself")),
    request_body = NewRobot,
    responses((status = 201, description = "it is there", body = Done<MadeRobot>), Refusals, BodyRefusals)
)]
pub(crate) async fn post_robot(
    PermittedJson(leave, body): PermittedJson<RobotOwner, NewRobot>,
) -> Result<HttpResponse, ApiRefusal> {
    let robot = leave.create_robot(&body.robot).await?;
    Ok(created(MadeRobot { robot }))
}

/// Says from where a robot may be used.
#[utoipa::path(
    patch,
    path = "/api/v1/owners/{owner}/robots/{robot}",
    tag = "robots",
    params(("owner" = String, Path, description = "an organisation, or oneself"), ("robot" = String, Path, description = "the robot's name, without that of its owner")),
    request_body = RobotPatch,
    responses((status = 204, description = "it is so"), Refusals, BodyRefusals)
)]
pub(crate) async fn patch_robot(
    PermittedJson(leave, body): PermittedJson<RobotOwner, RobotPatch>,
    request: HttpRequest,
) -> Result<HttpResponse, ApiRefusal> {
    if let Some(addresses) = body.addresses {
        let (robot, addresses) = (part(&request, "robot"), some_addresses(addresses)?);
        leave.set_robot_addresses(&robot, addresses).await?;
    }
    Ok(no_content())
}

/// Removes a robot for good, with its tokens and rights.
#[utoipa::path(
    delete,
    path = "/api/v1/owners/{owner}/robots/{robot}",
    tag = "robots",
    params(("owner" = String, Path, description = "an organisation, or oneself"), ("robot" = String, Path, description = "the robot's name, without that of its owner")),
    responses((status = 204, description = "it is gone"), Refusals)
)]
pub(crate) async fn delete_robot(
    Permitted(leave): Permitted<RobotOwner>,
    request: HttpRequest,
) -> Result<HttpResponse, ApiRefusal> {
    leave.remove_robot(&part(&request, "robot")).await?;
    Ok(no_content())
}

/// Lists the API tokens of a robot, without what is secret of them.
#[utoipa::path(
    get,
    path = "/api/v1/owners/{owner}/robots/{robot}/tokens",
    tag = "robots",
    params(("owner" = String, Path, description = "an organisation, or oneself"), ("robot" = String, Path, description = "the robot's name, without that of its owner")),
    responses((status = 200, description = "in the order in which they were made", body = Done<Vec<TokenReport>>), Refusals)
)]
pub(crate) async fn get_robot_tokens(
    Permitted(leave): Permitted<RobotOwner>,
    request: HttpRequest,
) -> Result<HttpResponse, ApiRefusal> {
    Ok(ok(leave.robot_tokens(&part(&request, "robot")).await?))
}

/// Makes an API token of a robot. Without scopes it may do what the robot may in repositories.
#[utoipa::path(
    post,
    path = "/api/v1/owners/{owner}/robots/{robot}/tokens",
    tag = "robots",
    params(("owner" = String, Path, description = "an organisation, or oneself"), ("robot" = String, Path, description = "the robot's name, without that of its owner")),
    request_body = NewToken,
    responses((status = 201, description = "the token, this once", body = Done<MadeToken>), Refusals, BodyRefusals)
)]
pub(crate) async fn post_robot_token(
    PermittedJson(leave, body): PermittedJson<RobotOwner, NewToken>,
    request: HttpRequest,
) -> Result<HttpResponse, ApiRefusal> {
    let (robot, wanted) = (part(&request, "robot"), body.checked()?);
    let (id, token) = leave.create_robot_token(&robot, wanted).await?;
    let token = token.expose().to_owned();
    Ok(created(MadeToken { id, token }))
}

/// Gives an API token of a robot a successor of the same name, scopes and end. The token itself ends a while later.
#[utoipa::path(
    post,
    path = "/api/v1/owners/{owner}/robots/{robot}/tokens/{id}/rotate",
    tag = "robots",
    params(("owner" = String, Path, description = "an organisation, or oneself"), ("robot" = String, Path, description = "the robot's name, without that of its owner"), ("id" = i64, Path, description = "the token's number")),
    request_body = TokenRotation,
    responses((status = 201, description = "the successor, this once", body = Done<MadeToken>), Refusals, BodyRefusals)
)]
pub(crate) async fn rotate_robot_token(
    PermittedJson(leave, body): PermittedJson<RobotOwner, TokenRotation>,
    request: HttpRequest,
) -> Result<HttpResponse, ApiRefusal> {
    let (robot, id) = (part(&request, "robot"), number(&request, "id")?);
    let (id, token) = leave.rotate_robot_token(&robot, body.of(id)).await?;
    let token = token.expose().to_owned();
    Ok(created(MadeToken { id, token }))
}

/// Ends an API token of a robot, and what was logged in by it.
#[utoipa::path(
    delete,
    path = "/api/v1/owners/{owner}/robots/{robot}/tokens/{id}",
    tag = "robots",
    params(("owner" = String, Path, description = "an organisation, or oneself"), ("robot" = String, Path, description = "the robot's name, without that of its owner"), ("id" = i64, Path, description = "the token's number")),
    responses((status = 204, description = "it counts no longer"), Refusals)
)]
pub(crate) async fn delete_robot_token(
    Permitted(leave): Permitted<RobotOwner>,
    request: HttpRequest,
) -> Result<HttpResponse, ApiRefusal> {
    let (robot, id) = (part(&request, "robot"), number(&request, "id")?);
    leave.revoke_robot_token(&robot, id).await?;
    Ok(no_content())
}
