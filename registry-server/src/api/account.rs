//! One's own account: who one is, the password, API tokens.

use std::time::Duration;

use actix_web::{HttpRequest, HttpResponse, web};
use granary_access::{AddressBlocks, Scope, Scopes};
use granary_identity::Secret;
use granary_registry::{
    AccountReport, Oneself, OwnAccount, RotateRequest, TokenReport, TokenRequest,
};
use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;

use super::{
    ApiRefusal, Permitted, PermittedJson, created, delete, get, no_content, ok,
    permitted::number,
    post, put, resource,
    schema::{BodyRefusals, Done, Refusals},
};

/// Another password.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct OwnPassword {
    /// The one that counts now.
    #[schema(value_type = String, max_length = 1024)]
    current: String,
    /// The one that is to count.
    #[schema(value_type = String, max_length = 1024)]
    new: String,
}

/// A token to make.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewToken {
    /// What it is for.
    #[schema(min_length = 1, max_length = 100)]
    name: String,
    /// What it may do, of what its owner may; everything if they are left out.
    #[serde(default)]
    scopes: Option<Vec<Scope>>,
    /// How long it is good, in seconds; without an end if it is left out.
    #[serde(default)]
    #[schema(minimum = 1, maximum = 3_153_600_000_u64)]
    expires_in: Option<u64>,
    /// From where it may be used: addresses and CIDR blocks, at most 64; from everywhere if they are left out.
    #[serde(default)]
    #[schema(value_type = Option<Vec<String>>)]
    addresses: Option<AddressBlocks>,
}

/// How a token is to be rotated.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct TokenRotation {
    /// How long it is good beside its successor, in seconds; a day if it is left out.
    #[serde(default)]
    #[schema(minimum = 0, maximum = 2_592_000)]
    overlap: Option<u64>,
}

impl TokenRotation {
    /// Of that token.
    pub(super) fn of(self, id: i64) -> RotateRequest {
        RotateRequest {
            id,
            overlap: Duration::from_secs(self.overlap.unwrap_or(OVERLAP)),
        }
    }
}

/// How long a token is good beside its successor where nobody says it, in seconds.
const OVERLAP: u64 = 24 * 3600;

/// A token that was made. Nobody can say it again.
#[derive(Serialize, ToSchema)]
pub(crate) struct MadeToken {
    /// Its number.
    pub(crate) id: i64,
    /// The token: it goes where a password goes, with the user's name or `token`, or as Bearer.
    pub(crate) token: String,
}

/// Longest name of a token, in characters.
const NAME: usize = 100;
/// Most scopes of a token.
const SCOPES: usize = 64;
/// The longest lifetime in seconds: a hundred years, so that no time overflows.
pub(super) const LONGEST: u64 = 100 * 365 * 24 * 3600;

impl NewToken {
    /// Checks what is asked for.
    pub(crate) fn checked(self) -> Result<TokenRequest, ApiRefusal> {
        let invalid = |text: &str| Err(ApiRefusal::Invalid(text.to_owned()));
        let has_control = self.name.chars().any(char::is_control);
        if self.name.is_empty() || self.name.chars().count() > NAME || has_control {
            return invalid("a token has a name of 1 to 100 characters, which says what it is for");
        }
        let scopes = match self.scopes {
            None => Scopes::unlimited(),
            Some(scopes) if (1..=SCOPES).contains(&scopes.len()) => Scopes::only(scopes),
            Some(_) => {
                return invalid(
                    "a token has 1 to 64 scopes; leave them out for all that its owner may",
                );
            }
        };
        Ok(TokenRequest {
            name: self.name,
            scopes,
            lifetime: lifetime(self.expires_in)?,
            addresses: some_addresses(self.addresses)?,
        })
    }
}

/// What was said, if it is only that there is nothing.
pub(super) fn said<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Option<T>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

/// A list of addresses, if there is one; one without any would let nobody in.
pub(super) fn some_addresses(
    addresses: Option<AddressBlocks>,
) -> Result<Option<AddressBlocks>, ApiRefusal> {
    let is_empty = |list: &AddressBlocks| list.iter().next().is_none();
    match addresses.as_ref().is_some_and(is_empty) {
        true => Err(ApiRefusal::Invalid(
            "addresses holds at least one address or block; leave it out, or null, for everywhere"
                .to_owned(),
        )),
        false => Ok(addresses),
    }
}

/// A lifetime of seconds.
pub(super) fn lifetime(seconds: Option<u64>) -> Result<Option<Duration>, ApiRefusal> {
    match seconds {
        Some(seconds) if !(1..=LONGEST).contains(&seconds) => Err(ApiRefusal::Invalid(format!(
            "expires_in is a number of seconds from 1 to {LONGEST}"
        ))),
        seconds => Ok(seconds.map(Duration::from_secs)),
    }
}

pub(super) fn configure(scope: &mut web::ServiceConfig) {
    resource(scope, "/api/v1/me", [get(get_me)]);
    resource(scope, "/api/v1/me/password", [put(put_password)]);
    resource(scope, "/api/v1/tokens", [get(get_tokens), post(post_token)]);
    resource(scope, "/api/v1/tokens/{id}", [delete(delete_token)]);
    resource(scope, "/api/v1/tokens/{id}/rotate", [post(rotate_token)]);
}

/// Says who is logged in, to whoever has good credentials, whatever their scopes.
#[utoipa::path(
    get,
    path = "/api/v1/me",
    tag = "account",
    responses((status = 200, description = "who is logged in", body = Done<AccountReport>), Refusals)
)]
pub(crate) async fn get_me(
    Permitted(leave): Permitted<Oneself>,
) -> Result<HttpResponse, ApiRefusal> {
    Ok(ok(leave.account().await?))
}

/// Changes one's own password. Whatever was logged in by the former one has to log in again.
#[utoipa::path(
    put,
    path = "/api/v1/me/password",
    tag = "account",
    request_body = OwnPassword,
    responses((status = 204, description = "the new password counts"), Refusals, BodyRefusals)
)]
pub(crate) async fn put_password(
    PermittedJson(leave, body): PermittedJson<OwnAccount, OwnPassword>,
) -> Result<HttpResponse, ApiRefusal> {
    let (current, new) = (Secret::from(body.current), Secret::from(body.new));
    leave.change_password(current, new).await?;
    Ok(no_content())
}

/// Lists one's own API tokens, without what is secret of them.
#[utoipa::path(
    get,
    path = "/api/v1/tokens",
    tag = "account",
    responses((status = 200, description = "in the order in which they were made", body = Done<Vec<TokenReport>>), Refusals)
)]
pub(crate) async fn get_tokens(
    Permitted(leave): Permitted<OwnAccount>,
) -> Result<HttpResponse, ApiRefusal> {
    Ok(ok(leave.tokens().await?))
}

/// Makes an API token of one's own.
#[utoipa::path(
    post,
    path = "/api/v1/tokens",
    tag = "account",
    request_body = NewToken,
    responses((status = 201, description = "the token, this once", body = Done<MadeToken>), Refusals, BodyRefusals)
)]
pub(crate) async fn post_token(
    PermittedJson(leave, body): PermittedJson<OwnAccount, NewToken>,
) -> Result<HttpResponse, ApiRefusal> {
    let (id, token) = leave.create_token(body.checked()?).await?;
    let token = token.expose().to_owned();
    Ok(created(MadeToken { id, token }))
}

/// Gives an API token of one's own a successor of the same name, scopes, addresses and end. The token itself ends after the
/// overlap.
#[utoipa::path(
    post,
    path = "/api/v1/tokens/{id}/rotate",
    tag = "account",
    params(("id" = i64, Path, description = "its number")),
    request_body = TokenRotation,
    responses((status = 201, description = "the successor, this once", body = Done<MadeToken>), Refusals, BodyRefusals)
)]
pub(crate) async fn rotate_token(
    PermittedJson(leave, body): PermittedJson<OwnAccount, TokenRotation>,
    request: HttpRequest,
) -> Result<HttpResponse, ApiRefusal> {
    let rotation = body.of(number(&request, "id")?);
    let (id, token) = leave.rotate_token(rotation).await?;
    let token = token.expose().to_owned();
    Ok(created(MadeToken { id, token }))
}

/// Ends an API token of one's own, and what was logged in by it.
#[utoipa::path(
    delete,
    path = "/api/v1/tokens/{id}",
    tag = "account",
    params(("id" = i64, Path, description = "its number")),
    responses((status = 204, description = "it counts no longer"), Refusals)
)]
pub(crate) async fn delete_token(
    Permitted(leave): Permitted<OwnAccount>,
    request: HttpRequest,
) -> Result<HttpResponse, ApiRefusal> {
    leave.revoke_token(number(&request, "id")?).await?;
    Ok(no_content())
}
