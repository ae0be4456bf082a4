//! What handlers take: a caller who signed in, the leave that he has, and a body that is read only then. So nobody learns from
//! an error in a body, or in a name, what only others may know.

use actix_web::{FromRequest, HttpRequest, dev::Payload, http::header::CONTENT_TYPE, web};
use futures_util::future::LocalBoxFuture;
use granary_access::{Verb, Verbs};
use granary_oci::RepositoryName;
use granary_registry::{
    AccountsError, BodyError, Caller, Installation, Leave, NamespaceAdmin, Oneself,
    OrganisationAdmin, OrganisationMember, OrganisationOwner, OwnAccount, Reason, RegistryError,
    RepositoryAdmin, RobotOwner, Sphere, TeamMaintainer, is_namespace,
};
use serde::de::DeserializeOwned;

use super::refusal::ApiRefusal;
use crate::{
    auth::{self, Doors},
    v2::{
        body::{Body, content_length},
        refusal::Refusal,
    },
};

/// Most bytes of a body.
const BODY: usize = 64 * 1024;

/// What says in a path which one of its kind leave is asked for.
pub(crate) trait InPath: Sphere {
    /// What people call its kind.
    const WHAT: &'static str;
    /// The parts of the path that name it.
    const PARTS: &'static [&'static str];
    /// What the scopes of a token have to say.
    const VERB: Verb;

    /// What who may not do it has not got. Only who may know of it is told.
    fn needs(name: &str) -> String;

    /// Reads it.
    fn named(request: &HttpRequest) -> Result<Self::Of, ApiRefusal>;
}

/// Its name, as the path says it.
fn name<S: InPath>(request: &HttpRequest) -> String {
    let parts: Vec<String> = S::PARTS.iter().map(|name| part(request, name)).collect();
    parts.join("/")
}

/// A part of the path. U+0000 becomes what is read of bytes that are no text: no name has that, and a database may refuse the
/// former.
pub(crate) fn part(request: &HttpRequest, name: &str) -> String {
    let text = request.match_info().get(name).unwrap_or_default();
    let text = crate::v2::unescape(text);
    text.replace('\0', char::REPLACEMENT_CHARACTER.encode_utf8(&mut [0; 4]))
}

/// A number in the path.
pub(crate) fn number(request: &HttpRequest, name: &str) -> Result<i64, ApiRefusal> {
    let text = part(request, name);
    text.parse()
        .map_err(|_| ApiRefusal::Invalid(format!("{name} is a number")))
}

fn needs_role(role: &str, name: &str) -> String {
    format!("this needs the role {role} in '{name}'")
}

impl InPath for Oneself {
    const WHAT: &'static str = "account";
    const PARTS: &'static [&'static str] = &[];
    const VERB: Verb = Verb::Account;

    fn needs(_: &str) -> String {
        "this is not yours".to_owned()
    }

    fn named(_: &HttpRequest) -> Result<(), ApiRefusal> {
        Ok(())
    }
}

impl InPath for OwnAccount {
    const WHAT: &'static str = "account";
    const PARTS: &'static [&'static str] = &[];
    const VERB: Verb = Verb::Account;

    fn needs(_: &str) -> String {
        "this is not yours".to_owned()
    }

    fn named(_: &HttpRequest) -> Result<(), ApiRefusal> {
        Ok(())
    }
}

impl InPath for Installation {
    const WHAT: &'static str = "installation";
    const PARTS: &'static [&'static str] = &[];
    const VERB: Verb = Verb::Account;

    fn needs(_: &str) -> String {
        "only administrators of the installation may do this".to_owned()
    }

    fn named(_: &HttpRequest) -> Result<(), ApiRefusal> {
        Ok(())
    }
}

impl InPath for OrganisationMember {
    const WHAT: &'static str = "organisation";
    const PARTS: &'static [&'static str] = &["org"];
    const VERB: Verb = Verb::Account;

    fn needs(name: &str) -> String {
        format!("only who belongs to '{name}' may do this")
    }

    fn named(request: &HttpRequest) -> Result<String, ApiRefusal> {
        Ok(name::<Self>(request))
    }
}

impl InPath for OrganisationAdmin {
    const WHAT: &'static str = "organisation";
    const PARTS: &'static [&'static str] = &["org"];
    const VERB: Verb = Verb::Account;

    fn needs(name: &str) -> String {
        needs_role("admin", name)
    }

    fn named(request: &HttpRequest) -> Result<String, ApiRefusal> {
        Ok(name::<Self>(request))
    }
}

impl InPath for OrganisationOwner {
    const WHAT: &'static str = "organisation";
    const PARTS: &'static [&'static str] = &["org"];
    const VERB: Verb = Verb::Account;

    fn needs(name: &str) -> String {
        needs_role("owner", name)
    }

    fn named(request: &HttpRequest) -> Result<String, ApiRefusal> {
        Ok(name::<Self>(request))
    }
}

impl InPath for RobotOwner {
    const WHAT: &'static str = "organisation";
    const PARTS: &'static [&'static str] = &["owner"];
    const VERB: Verb = Verb::Account;

    fn needs(name: &str) -> String {
        needs_role("admin", name)
    }

    fn named(request: &HttpRequest) -> Result<String, ApiRefusal> {
        Ok(name::<Self>(request))
    }
}

impl InPath for TeamMaintainer {
    const WHAT: &'static str = "team";
    const PARTS: &'static [&'static str] = &["org", "team"];
    const VERB: Verb = Verb::Account;

    fn needs(name: &str) -> String {
        let organisation = name.split('/').next().unwrap_or_default();
        format!("this needs the role maintainer in '{name}', or admin in '{organisation}'")
    }

    fn named(request: &HttpRequest) -> Result<String, ApiRefusal> {
        Ok(name::<Self>(request))
    }
}

impl InPath for NamespaceAdmin {
    const WHAT: &'static str = "namespace";
    const PARTS: &'static [&'static str] = &["namespace"];
    const VERB: Verb = Verb::Admin;

    fn needs(name: &str) -> String {
        format!("this needs the role admin in '{name}', or that admin:{name}/** was granted")
    }

    fn named(request: &HttpRequest) -> Result<String, ApiRefusal> {
        // A name that none can have is one of nothing, also for who may make any.
        let name = name::<Self>(request);
        match is_namespace(&name) {
            true => Ok(name),
            false => Err(AccountsError::Denied(Reason::Missing).into()),
        }
    }
}

impl InPath for RepositoryAdmin {
    const WHAT: &'static str = "repository";
    const PARTS: &'static [&'static str] = &["name"];
    const VERB: Verb = Verb::Admin;

    fn needs(name: &str) -> String {
        format!("this needs the verb 'admin' in '{name}'")
    }

    fn named(request: &HttpRequest) -> Result<RepositoryName, ApiRefusal> {
        // A name that none can have is one of nothing.
        let name = name::<Self>(request).parse();
        name.map_err(|_| AccountsError::Denied(Reason::Missing).into())
    }
}

/// What a token has to have.
pub(super) fn needs_verb(verb: Verb) -> String {
    let verb = Verbs::from(verb);
    format!(
        "this needs the verb '{verb}' in the token's scopes: log in with a password, or with a token that has it"
    )
}

/// Who signed in.
pub(crate) struct Signed(pub(crate) Caller);

/// Leave to look after an `S`, which the path names.
pub(crate) struct Permitted<S>(pub(crate) Leave<S>);

/// The same, and a body.
pub(crate) struct PermittedJson<S, T>(pub(crate) Leave<S>, pub(crate) T);

/// Who signed in, and a body.
pub(crate) struct SignedJson<T>(pub(crate) Caller, pub(crate) T);

fn api(request: &HttpRequest) -> Result<&web::Data<Doors>, ApiRefusal> {
    let api = request.app_data::<web::Data<Doors>>();
    api.ok_or_else(|| RegistryError::Internal("the API was not set up").into())
}

/// Leave, or why not.
async fn leave<S: InPath>(request: &HttpRequest) -> Result<Leave<S>, ApiRefusal> {
    let leave = ask::<S>(request).await;
    leave.map_err(|refusal| match refusal {
        ApiRefusal::Accounts(error) => refused::<S>(error, &name::<S>(request)),
        other => other,
    })
}

/// Why there is no leave for what has this name, and what it needs. What one may not see and what is not there is named by the
/// same words.
pub(super) fn refused<S: InPath>(error: AccountsError, name: &str) -> ApiRefusal {
    let AccountsError::Denied(reason) = error else {
        return error.into();
    };
    match reason {
        Reason::Hidden | Reason::Missing => ApiRefusal::Missing(S::WHAT, name.to_owned()),
        Reason::NotGranted => ApiRefusal::Needs(reason, S::needs(name)),
        Reason::ScopeTooNarrow => ApiRefusal::Needs(reason, needs_verb(S::VERB)),
        reason => AccountsError::Denied(reason).into(),
    }
}

async fn ask<S: InPath>(request: &HttpRequest) -> Result<Leave<S>, ApiRefusal> {
    let api = api(request)?;
    let caller = api.caller(request).await?;
    let asked = api.registry.ask_leave(&caller, S::named(request)?).await;
    if !matches!(asked, Err(AccountsError::Denied(Reason::Ended))) {
        return Ok(asked?);
    }
    // What was known of these credentials counts no longer, but the same password may have been set anew.
    api.registry.forget(auth::shown(request));
    let caller = api.caller(request).await?;
    Ok(api.registry.ask_leave(&caller, S::named(request)?).await?)
}

/// What a body holds.
pub(crate) async fn json<T: DeserializeOwned>(
    request: &HttpRequest,
    payload: Payload,
) -> Result<T, ApiRefusal> {
    let kind = request.headers().get(CONTENT_TYPE);
    let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let essence = kind.split(';').next().unwrap_or_default().trim();
    if !essence.eq_ignore_ascii_case("application/json") {
        return Err(ApiRefusal::MediaType);
    }
    let mut payload = payload;
    let payload = web::Payload::from_request(request, &mut payload).await;
    let payload = payload.map_err(|_| ApiRefusal::Slow)?;
    let mut body = Body::new(payload);
    let whole = body.read_whole(content_length(request), BODY).await;
    let whole = whole.map_err(|refusal| match refusal {
        Refusal::Registry(RegistryError::ManifestInvalid(_)) => ApiRefusal::TooLarge,
        Refusal::Registry(RegistryError::Body(BodyError::Stalled | BodyError::Cut)) => {
            ApiRefusal::Slow
        }
        _ => ApiRefusal::Slow,
    })?;
    // A list of values would count as an object of them, in the order of its fields.
    if whole.trim_ascii_start().first() != Some(&b'{') {
        let problem = "the body is not what is needed: it is no JSON object";
        return Err(ApiRefusal::Invalid(problem.to_owned()));
    }
    if holds_null(&whole) {
        let problem = "a text in the body holds the character U+0000: leave it out";
        return Err(ApiRefusal::Invalid(problem.to_owned()));
    }
    serde_json::from_slice(&whole)
        .map_err(|error| ApiRefusal::Invalid(format!("the body is not what is needed: {error}")))
}

/// Whether a text in this JSON holds U+0000, which PostgreSQL keeps in no text. There it can stand as an escape only.
fn holds_null(json: &[u8]) -> bool {
    let mut rest = json;
    while let Some(at) = rest.iter().position(|byte| *byte == b'\\') {
        rest = &rest[at + 1..];
        if rest.starts_with(b"u0000") {
            return true;
        }
        // A backslash that is escaped begins no escape.
        rest = rest.get(1..).unwrap_or_default();
    }
    false
}

impl FromRequest for Signed {
    type Error = ApiRefusal;
    type Future = LocalBoxFuture<'static, Result<Self, ApiRefusal>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let request = request.clone();
        Box::pin(async move { Ok(Self(api(&request)?.caller(&request).await?)) })
    }
}

impl<S: InPath> FromRequest for Permitted<S> {
    type Error = ApiRefusal;
    type Future = LocalBoxFuture<'static, Result<Self, ApiRefusal>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let request = request.clone();
        Box::pin(async move { Ok(Self(leave(&request).await?)) })
    }
}

impl<S: InPath, T: DeserializeOwned + 'static> FromRequest for PermittedJson<S, T> {
    type Error = ApiRefusal;
    type Future = LocalBoxFuture<'static, Result<Self, ApiRefusal>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let (request, payload) = (request.clone(), payload.take());
        Box::pin(async move {
            let leave = leave(&request).await?;
            Ok(Self(leave, json(&request, payload).await?))
        })
    }
}

impl<T: DeserializeOwned + 'static> FromRequest for SignedJson<T> {
    type Error = ApiRefusal;
    type Future = LocalBoxFuture<'static, Result<Self, ApiRefusal>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let (request, payload) = (request.clone(), payload.take());
        Box::pin(async move {
            let caller = api(&request)?.caller(&request).await?;
            Ok(Self(caller, json(&request, payload).await?))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn null_is_found_wherever_a_text_has_it() {
        for text in ["\0", "a\0b", "\\\0", "\\\\\0\\", "\"\0", "\n\u{1}\0"] {
            for value in [
                serde_json::json!({ "a": text }),
                serde_json::json!({ text: 1 }),
            ] {
                assert!(holds_null(value.to_string().as_bytes()), "{value}");
            }
        }
        for text in [
            "",
            "u0000",
            "\\u0000",
            "\\\\u0000",
            "\u{1}0000",
            "\\",
            "\"\\u0000",
        ] {
            let value = serde_json::json!({ "a": text });
            assert!(!holds_null(value.to_string().as_bytes()), "{value}");
        }
        assert!(!holds_null(b"\\"));
    }
}
