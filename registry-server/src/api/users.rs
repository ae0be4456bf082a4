//! Users, for who administers the installation.

use actix_web::{HttpRequest, HttpResponse, web};
use granary_access::AddressBlocks;
use granary_identity::Secret;
use granary_registry::{Installation, TokenReport, UserChange, UserReport};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    ApiRefusal, Permitted, PermittedJson,
    account::{MadeToken, NewToken, said, some_addresses},
    created, delete, get, listed, no_content, ok, patch,
    permitted::{number, part},
    post, put, resource,
    schema::{BodyRefusals, Done, Listed, PageQuery, Refusals},
};

/// A user to make.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewUser {
    /// Its name: 2 to 64 lower-case letters, digits, dots, dashes and underscores.
    #[schema(min_length = 2, max_length = 64)]
    user: String,
    /// Its password.
    #[schema(value_type = String, max_length = 1024)]
    password: String,
    /// Whether it administers the installation.
    #[serde(default)]
    administrator: bool,
}

/// A user that was made.
#[derive(Serialize, ToSchema)]
pub(crate) struct MadeUser {
    /// Its name.
    user: String,
    /// Whether repositories below that name are its own. Somebody may have made some before.
    owns_its_name: bool,
}

/// How a user is to be.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct UserPatch {
    /// Whether it may log in; as it is if it is left out.
    #[serde(default)]
    active: Option<bool>,
    /// From where it may be used: addresses and CIDR blocks, at most 64. From everywhere if it is null, as it is if it is left out.
    #[serde(default, deserialize_with = "said")]
    #[schema(value_type = Option<Vec<String>>)]
    addresses: Option<Option<AddressBlocks>>,
}

/// A password to set.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewPassword {
    /// The one that is to count.
    #[schema(value_type = String, max_length = 1024)]
    password: String,
}

pub(super) fn configure(scope: &mut web::ServiceConfig) {
    resource(scope, "/api/v1/users", [get(get_users), post(post_user)]);
    let user = [patch(patch_user), delete(delete_user)];
    resource(scope, "/api/v1/users/{user}", user);
    resource(scope, "/api/v1/users/{user}/password", [put(put_password)]);
    let tokens = [get(get_tokens), post(post_token)];
    resource(scope, "/api/v1/users/{user}/tokens", tokens);
    resource(
        scope,
        "/api/v1/users/{user}/tokens/{id}",
        [delete(delete_token)],
    );
}

/// Lists users by their names.
#[utoipa::path(
    get,
    path = "/api/v1/users",
    tag = "users",
    params(PageQuery),
    responses((status = 200, description = "users", body = Listed<Vec<UserReport>>), Refusals)
)]
pub(crate) async fn get_users(
    Permitted(leave): Permitted<Installation>,
    query: web::Query<PageQuery>,
) -> Result<HttpResponse, ApiRefusal> {
    let limit = query.limit()?;
    let after = query.after.as_deref().unwrap_or_default();
    let users = leave.users(after, limit).await?;
    let is_full = users.len() as u64 == limit;
    let next = users
        .last()
        .filter(|_| is_full)
        .map(|user| user.user.clone());
    Ok(listed(users, next))
}

/// Makes a user.
#[utoipa::path(
    post,
    path = "/api/v1/users",
    tag = "users",
    request_body = NewUser,
    responses((status = 201, description = "the user is there", body = Done<MadeUser>), Refusals, BodyRefusals)
)]
pub(crate) async fn post_user(
    PermittedJson(leave, body): PermittedJson<Installation, NewUser>,
) -> Result<HttpResponse, ApiRefusal> {
    let password = Secret::from(body.password);
    let adding = leave.add_user(&body.user, password, body.administrator);
    let owns_its_name = adding.await?;
    Ok(created(MadeUser {
        user: body.user,
        owns_its_name,
    }))
}

/// Keeps a user from logging in, or lets it in again, and says from where. Its tokens do not count elsewhere, or meanwhile.
#[utoipa::path(
    patch,
    path = "/api/v1/users/{user}",
    tag = "users",
    params(("user" = String, Path, description = "its name")),
    request_body = UserPatch,
    responses((status = 204, description = "it is so"), Refusals, BodyRefusals)
)]
pub(crate) async fn patch_user(
    PermittedJson(leave, body): PermittedJson<Installation, UserPatch>,
    request: HttpRequest,
) -> Result<HttpResponse, ApiRefusal> {
    let user = part(&request, "user");
    if let Some(addresses) = body.addresses {
        let addresses = some_addresses(addresses)?;
        leave.set_user_addresses(&user, addresses).await?;
    }
    if let Some(active) = body.active {
        let change = match active {
            true => UserChange::Enabled,
            false => UserChange::Disabled,
        };
        leave.change_user(&user, change).await?;
    }
    Ok(no_content())
}

/// Removes a user for good, with its tokens and grants. Its repositories stay.
#[utoipa::path(
    delete,
    path = "/api/v1/users/{user}",
    tag = "users",
    params(("user" = String, Path, description = "its name")),
    responses((status = 204, description = "it is gone"), Refusals)
)]
pub(crate) async fn delete_user(
    Permitted(leave): Permitted<Installation>,
    request: HttpRequest,
) -> Result<HttpResponse, ApiRefusal> {
    let user = part(&request, "user");
    leave.change_user(&user, UserChange::Removed).await?;
    Ok(no_content())
}

/// Gives a user another password. Whatever was logged in by the former one has to log in again.
#[utoipa::path(
    put,
    path = "/api/v1/users/{user}/password",
    tag = "users",
    params(("user" = String, Path, description = "its name")),
    request_body = NewPassword,
    responses((status = 204, description = "the new password counts"), Refusals, BodyRefusals)
)]
pub(crate) async fn put_password(
    PermittedJson(leave, body): PermittedJson<Installation, NewPassword>,
    request: HttpRequest,
) -> Result<HttpResponse, ApiRefusal> {
    let password = Secret::from(body.password);
    leave
        .set_password(&part(&request, "user"), password)
        .await?;
    Ok(no_content())
}

/// Lists the API tokens of a user, without what is secret of them.
#[utoipa::path(
    get,
    path = "/api/v1/users/{user}/tokens",
    tag = "users",
    params(("user" = String, Path, description = "its name")),
    responses((status = 200, description = "in the order in which they were made", body = Done<Vec<TokenReport>>), Refusals)
)]
pub(crate) async fn get_tokens(
    Permitted(leave): Permitted<Installation>,
    request: HttpRequest,
) -> Result<HttpResponse, ApiRefusal> {
    Ok(ok(leave.tokens(&part(&request, "user")).await?))
}

/// Makes an API token of a user.
#[utoipa::path(
    post,
    path = "/api/v1/users/{user}/tokens",
    tag = "users",
    params(("user" = String, Path, description = "its name")),
    request_body = NewToken,
    responses((status = 201, description = "the token, this once", body = Done<MadeToken>), Refusals, BodyRefusals)
)]
pub(crate) async fn post_token(
    PermittedJson(leave, body): PermittedJson<Installation, NewToken>,
    request: HttpRequest,
) -> Result<HttpResponse, ApiRefusal> {
    let (user, wanted) = (part(&request, "user"), body.checked()?);
    let (id, token) = leave.create_token(&user, wanted).await?;
    let token = token.expose().to_owned();
    Ok(created(MadeToken { id, token }))
}

/// Ends an API token of a user, and what was logged in by it.
#[utoipa::path(
    delete,
    path = "/api/v1/users/{user}/tokens/{id}",
    tag = "users",
    params(("user" = String, Path, description = "its name"), ("id" = i64, Path, description = "the token's number")),
    responses((status = 204, description = "it counts no longer"), Refusals)
)]
pub(crate) async fn delete_token(
    Permitted(leave): Permitted<Installation>,
    request: HttpRequest,
) -> Result<HttpResponse, ApiRefusal> {
    let (user, id) = (part(&request, "user"), number(&request, "id")?);
    leave.revoke_token_of(&user, id).await?;
    Ok(no_content())
}
