//! Publishing without a secret: issuers whose identity tokens are taken, and which of those tokens are which robot.

use std::collections::BTreeMap;

use actix_web::{HttpRequest, HttpResponse, web};
use granary_access::Scope;
use granary_registry::{
    Installation, IssuerChange, IssuerReport, IssuerRequest, PublisherReport, PublisherRequest,
    RobotOwner,
};
use serde::Deserialize;
use utoipa::ToSchema;

use super::{
    ApiRefusal, Permitted, PermittedJson,
    account::{lifetime, said},
    created, delete, get, listed, no_content, ok, patch,
    permitted::number,
    post, resource,
    schema::{BodyRefusals, Done, Listed, PageQuery, Refusals},
};

/// An issuer to trust.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewIssuer {
    /// Its identifier, as its tokens have it in `iss`; or `github` or `gitlab` for those of the whole world.
    #[schema(
        max_length = 2048,
        example = "https://token.actions.githubusercontent.com"
    )]
    issuer: String,
    /// What kind it is: github, gitlab, kubernetes or plain.
    #[serde(default)]
    #[schema(max_length = 20)]
    preset: Option<String>,
    /// Whom its tokens must be for; this registry's own name if it is left out.
    #[serde(default)]
    #[schema(max_length = 512)]
    audience: Option<String>,
    /// Where its keys are, if not where it says.
    #[serde(default)]
    #[schema(max_length = 2048)]
    keys_url: Option<String>,
    /// The keys themselves, as the text of a JSON Web Key Set.
    #[serde(default)]
    jwks: Option<String>,
}

/// What is to be changed of an issuer; what is left out stays.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct IssuerPatch {
    /// Whom its tokens must be for; this registry's own name if it is null.
    #[serde(default, deserialize_with = "said")]
    #[schema(value_type = Option<String>, max_length = 512)]
    audience: Option<Option<String>>,
    /// Where its keys are; where it says itself if it is null. Keys that were given count no longer.
    #[serde(default, deserialize_with = "said")]
    #[schema(value_type = Option<String>, max_length = 2048)]
    keys_url: Option<Option<String>>,
    /// The keys themselves, as the text of a JSON Web Key Set, in the place of those of before; where it says itself if it is null.
    #[serde(default, deserialize_with = "said")]
    #[schema(value_type = Option<String>)]
    jwks: Option<Option<String>>,
}

/// A publisher to add.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewPublisher {
    /// The robot's name in the organisation.
    #[schema(max_length = 64)]
    robot: String,
    /// The identifier of an issuer that is trusted, or `github` or `gitlab`.
    #[schema(max_length = 2048)]
    issuer: String,
    /// What claims of a token must be, all of them: texts in which `*` stands for any run of characters.
    #[schema(example = json!({"repository": "acme/app", "ref": "refs/tags/v*"}))]
    claims: BTreeMap<String, String>,
    /// What it may do, of what the robot may; everything in repositories if they are left out.
    #[serde(default)]
    scopes: Option<Vec<Scope>>,
    /// Whether each token counts once: then it has to be exchanged for another.
    #[serde(default)]
    once: bool,
    /// For how long it waits for its first use, in seconds; without an end if it is left out.
    #[serde(default)]
    #[schema(minimum = 1, maximum = 3_153_600_000_u64)]
    expires_in: Option<u64>,
}

pub(super) fn configure(scope: &mut web::ServiceConfig) {
    let issuers = [get(get_issuers), post(post_issuer)];
    resource(scope, "/api/v1/issuers", issuers);
    let issuer = [patch(patch_issuer), delete(delete_issuer)];
    resource(scope, "/api/v1/issuers/{id}", issuer);
    let publishers = [get(get_publishers), post(post_publisher)];
    resource(scope, "/api/v1/owners/{owner}/publishers", publishers);
    let publisher = [delete(delete_publisher)];
    resource(scope, "/api/v1/owners/{owner}/publishers/{id}", publisher);
}

/// Lists the issuers whose identity tokens are taken.
#[utoipa::path(
    get,
    path = "/api/v1/issuers",
    tag = "publishers",
    responses((status = 200, description = "by their identifiers", body = Done<Vec<IssuerReport>>), Refusals)
)]
pub(crate) async fn get_issuers(
    Permitted(leave): Permitted<Installation>,
) -> Result<HttpResponse, ApiRefusal> {
    Ok(ok(leave.issuers().await?))
}

/// Trusts an issuer of identity tokens. Its keys are asked for; `problem` says why if they cannot be had now.
#[utoipa::path(
    post,
    path = "/api/v1/issuers",
    tag = "publishers",
    request_body = NewIssuer,
    responses((status = 201, description = "it is trusted", body = Done<IssuerReport>), Refusals, BodyRefusals)
)]
pub(crate) async fn post_issuer(
    PermittedJson(leave, body): PermittedJson<Installation, NewIssuer>,
) -> Result<HttpResponse, ApiRefusal> {
    let request = IssuerRequest {
        issuer: body.issuer,
        preset: body.preset,
        audience: body.audience,
        keys_url: body.keys_url,
        jwks: body.jwks,
    };
    Ok(created(leave.add_issuer(request).await?))
}

/// Changes the keys or the audience of an issuer. Its publishers stay; what was signed in by its tokens of before signs in
/// again. `problem` says why its keys cannot be had now.
#[utoipa::path(
    patch,
    path = "/api/v1/issuers/{id}",
    tag = "publishers",
    params(("id" = i64, Path, description = "its number")),
    request_body = IssuerPatch,
    responses((status = 200, description = "as it is now", body = Done<IssuerReport>), Refusals, BodyRefusals)
)]
pub(crate) async fn patch_issuer(
    PermittedJson(leave, body): PermittedJson<Installation, IssuerPatch>,
    request: HttpRequest,
) -> Result<HttpResponse, ApiRefusal> {
    let change = IssuerChange {
        audience: body.audience.map(Option::unwrap_or_default),
        has_other_keys: body.keys_url.is_some() || body.jwks.is_some(),
        keys_url: body.keys_url.flatten(),
        jwks: body.jwks.flatten(),
    };
    let id = number(&request, "id")?.to_string();
    Ok(ok(leave.change_issuer(&id, change).await?))
}

/// Trusts an issuer no longer. Its publishers go with it.
#[utoipa::path(
    delete,
    path = "/api/v1/issuers/{id}",
    tag = "publishers",
    params(("id" = i64, Path, description = "its number")),
    responses((status = 204, description = "its tokens count no longer"), Refusals)
)]
pub(crate) async fn delete_issuer(
    Permitted(leave): Permitted<Installation>,
    request: HttpRequest,
) -> Result<HttpResponse, ApiRefusal> {
    let id = number(&request, "id")?.to_string();
    leave.remove_issuer(&id).await?;
    Ok(no_content())
}

/// Lists the publishers of an organisation's robots, or of one's own.
#[utoipa::path(
    get,
    path = "/api/v1/owners/{owner}/publishers",
    tag = "publishers",
    params(("owner" = String, Path, description = "an organisation, or oneself"), PageQuery),
    responses((status = 200, description = "in the order in which they were made", body = Listed<Vec<PublisherReport>>), Refusals)
)]
pub(crate) async fn get_publishers(
    Permitted(leave): Permitted<RobotOwner>,
    query: web::Query<PageQuery>,
) -> Result<HttpResponse, ApiRefusal> {
    let page = leave.publishers(query.page()?).await?;
    Ok(listed(page.entries, page.next))
}

/// Has identity tokens be a robot, if their claims say so. It may be added before the first of them comes.
#[utoipa::path(
    post,
    path = "/api/v1/owners/{owner}/publishers",
    tag = "publishers",
    params(("owner" = String, Path, description = "an organisation, or oneself")),
    request_body = NewPublisher,
    responses((status = 201, description = "it waits for its first use", body = Done<PublisherReport>), Refusals, BodyRefusals)
)]
pub(crate) async fn post_publisher(
    PermittedJson(leave, body): PermittedJson<RobotOwner, NewPublisher>,
) -> Result<HttpResponse, ApiRefusal> {
    let request = PublisherRequest {
        robot: body.robot,
        issuer: body.issuer,
        claims: body.claims,
        scopes: body.scopes,
        once: body.once,
        waits: lifetime(body.expires_in)?.map(|waits| waits.as_secs()),
    };
    Ok(created(leave.add_publisher(request).await?))
}

/// Removes a publisher. What was signed in by it counts no longer.
#[utoipa::path(
    delete,
    path = "/api/v1/owners/{owner}/publishers/{id}",
    tag = "publishers",
    params(("owner" = String, Path, description = "an organisation, or oneself"), ("id" = i64, Path, description = "the publisher's number")),
    responses((status = 204, description = "it counts no longer"), Refusals)
)]
pub(crate) async fn delete_publisher(
    Permitted(leave): Permitted<RobotOwner>,
    request: HttpRequest,
) -> Result<HttpResponse, ApiRefusal> {
    leave.remove_publisher(number(&request, "id")?).await?;
    Ok(no_content())
}
