//! The envelopes of every answer, and what all of them can be refused with.

use granary_registry::PageRequest;
use serde::{Deserialize, Deserializer, Serialize, de};
use utoipa::{IntoParams, IntoResponses, ToSchema};

/// Something was done, or is as it says.
#[derive(Serialize, ToSchema)]
pub(crate) struct Done<T> {
    /// `true`
    pub(crate) ok: bool,
    /// What it is.
    pub(crate) data: T,
}

/// A page of a list.
#[derive(Serialize, ToSchema)]
pub(crate) struct Listed<T> {
    /// `true`
    pub(crate) ok: bool,
    /// The entries.
    pub(crate) data: T,
    /// What `after` has to be for the page behind this one, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) next: Option<String>,
}

/// Something was not done.
#[derive(Serialize, ToSchema)]
pub(crate) struct Failed {
    /// `false`
    pub(crate) ok: bool,
    /// Why.
    pub(crate) error: Failure,
    /// The request's name in the server's log, as in `X-Request-Id`.
    pub(crate) request_id: String,
}

/// Why something was not done.
#[derive(Serialize, ToSchema)]
pub(crate) struct Failure {
    /// A word for programs, such as `NOT_FOUND`.
    pub(crate) code: &'static str,
    /// What was wrong and what to do, for people.
    pub(crate) message: String,
    /// The offending value and what a client can act on.
    pub(crate) detail: serde_json::Value,
}

/// A part of a list.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct PageQuery {
    /// Entries behind this one: `next` of the page before.
    #[param(max_length = 256)]
    #[serde(default, deserialize_with = "at_most::<_, 256>")]
    pub(crate) after: Option<String>,
    /// Most entries.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    pub(crate) limit: Option<u16>,
}

/// A text of at most that many characters, none of which is U+0000: a database may refuse that.
pub(crate) fn at_most<'de, D: Deserializer<'de>, const MOST: usize>(
    deserializer: D,
) -> Result<Option<String>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?;
    match &text {
        Some(long) if long.chars().count() > MOST => {
            let problem = format!("a value here has at most {MOST} characters");
            Err(de::Error::custom(problem))
        }
        Some(null) if null.contains('\0') => {
            Err(de::Error::custom("a value here holds the character U+0000"))
        }
        _ => Ok(text),
    }
}

impl PageQuery {
    /// The page that is asked for.
    pub(crate) fn page(&self) -> Result<PageRequest, super::ApiRefusal> {
        Ok(PageRequest {
            after: self.after.clone().unwrap_or_default(),
            limit: self.limit()?,
        })
    }

    /// Most entries, if that is a number a page can have.
    pub(crate) fn limit(&self) -> Result<u64, super::ApiRefusal> {
        checked_limit(self.limit)
    }
}

/// Most entries of a page where nobody says how many.
const USUAL: u16 = 100;
/// Most entries of any page.
const MOST: u16 = 1000;

/// Most entries of a page, if that is a number a page can have.
pub(crate) fn checked_limit(limit: Option<u16>) -> Result<u64, super::ApiRefusal> {
    let limit = limit.unwrap_or(USUAL);
    match (1..=MOST).contains(&limit) {
        true => Ok(limit.into()),
        false => Err(super::ApiRefusal::Invalid(format!(
            "limit is a number from 1 to {MOST}"
        ))),
    }
}

/// What any operation can be refused with.
#[derive(IntoResponses)]
#[expect(dead_code, reason = "only its schema is used")]
pub(crate) enum Refusals {
    /// Something in the request is malformed or breaks a rule; the message says what.
    #[response(status = 400)]
    Invalid(Failed),
    /// Credentials are needed, or those shown are not good (any more).
    #[response(status = 401)]
    Unauthorized(Failed),
    /// The credentials are good, and this is not allowed.
    #[response(status = 403)]
    Denied(Failed),
    /// There is no such thing, or it may not be seen.
    #[response(status = 404)]
    NotFound(Failed),
    /// It cannot be done as things stand, such as making what is there already.
    #[response(status = 409)]
    Conflict(Failed),
    /// More than a limit allows, or too many sign in at once: `Retry-After` says when to try again.
    #[response(status = 429)]
    TooMany(Failed),
    /// A back end cannot be reached now.
    #[response(status = 503)]
    Unavailable(Failed),
}

/// What an operation with a body can be refused with besides.
#[derive(IntoResponses)]
#[expect(dead_code, reason = "only its schema is used")]
pub(crate) enum BodyRefusals {
    /// The body came too slowly.
    #[response(status = 408)]
    Slow(Failed),
    /// The body is larger than 64 KiB.
    #[response(status = 413)]
    TooLarge(Failed),
    /// The body is not `application/json`.
    #[response(status = 415)]
    MediaType(Failed),
}
