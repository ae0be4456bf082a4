//! The token service of docker clients, and the keys that verify its tokens.
//!
//! GET with Basic credentials (distribution's token specification), POST with a form (its OAuth2 specification), and the
//! public keys as a set (RFC 7517).

use actix_web::{
    HttpRequest, HttpResponse,
    http::{
        StatusCode,
        header::{CACHE_CONTROL, RETRY_AFTER},
    },
    web,
};
use granary_identity::{RequestedScope, Secret, format_scope, parse_scopes};
use granary_registry::{
    BodyError, Caller, IssuedToken, Origin, Principal, Reason, Registry, RegistryError, Shown,
    SignInError,
};
use serde::Serialize;
use serde_json::json;
use utoipa::ToSchema;

use super::{Doors, shown};
use crate::{
    endpoint::{get, post, resource},
    limits::Limited,
    v2::{
        body::{Body, content_length},
        query::{NO_NULL, Query},
        refusal::Refusal,
        schema::ErrorEnvelope,
    },
};

/// Most bytes of a form.
const FORM: usize = 16 * 1024;
/// Most scopes of a request.
const SCOPES: usize = 64;

/// A token, as GET answers.
#[derive(Serialize, ToSchema)]
pub(crate) struct TokenAnswer {
    /// The token, to be sent as `Authorization: Bearer`.
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<String>,
    /// The same, by its name in OAuth2.
    access_token: String,
    /// How long it is good, in seconds.
    expires_in: u64,
    /// When it was issued, as RFC 3339.
    issued_at: String,
    /// What further tokens can be had for, if it was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    refresh_token: Option<String>,
    /// With a token exchange: what the token is.
    #[serde(skip_serializing_if = "Option::is_none")]
    issued_token_type: Option<&'static str>,
    /// With a token exchange: how the token is sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    token_type: Option<&'static str>,
    /// What it is good for; with POST.
    #[serde(skip_serializing_if = "Option::is_none")]
    scope: Option<String>,
}

/// How a token is to be answered.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    /// As the distribution API's token specification says.
    Docker,
    /// As OAuth2 says (RFC 6749).
    OAuth,
    /// As a token exchange (RFC 8693).
    Exchange,
}

/// The grant type of a token exchange, and what is exchanged there.
const EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
const ID_TOKEN: &str = "urn:ietf:params:oauth:token-type:id_token";
const JWT: &str = "urn:ietf:params:oauth:token-type:jwt";
const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";

/// An error of the token service: the envelope of the distribution API, and OAuth2's word for clients that read that.
#[derive(Debug)]
struct Refused {
    status: StatusCode,
    code: &'static str,
    message: String,
    error: Option<&'static str>,
    retry_after: Option<u64>,
}

/// Adds the token service, which finds [`Doors`] in the application's data.
pub(crate) fn configure(app: &mut web::ServiceConfig) {
    resource(app, "/auth/token", [get(get_token), post(post_token)]);
    resource(app, "/.well-known/jwks.json", [get(get_keys)]);
}

/// Issues a token for as much of the scopes as is allowed; to nobody in particular for what is public.
#[utoipa::path(
    get,
    path = "/auth/token",
    tag = "tokens",
    params(
        ("service" = Option<String>, Query, description = "the registry's name, from the challenge"),
        ("scope" = Option<Vec<String>>, Query, description = "repository:NAME:pull,push,delete"),
        ("offline_token" = Option<bool>, Query, description = "also give a refresh token"),
        ("client_id" = Option<String>, Query, description = "the client's name"),
        ("account" = Option<String>, Query, description = "the user's name; the credentials count"),
    ),
    responses(
        (status = 200, description = "a token", body = TokenAnswer),
        (status = 400, description = "malformed", body = ErrorEnvelope),
        (status = 401, description = "wrong credentials, or none where they are needed", body = ErrorEnvelope),
        (status = 429, description = "too many sign in at once", body = ErrorEnvelope),
    )
)]
pub(crate) async fn get_token(request: HttpRequest, service: web::Data<Doors>) -> HttpResponse {
    let query = Query::parse(request.query_string());
    let issue = async {
        service.admit(&request).await?;
        let query = query
            .without_null()
            .map_err(|_| Refused::malformed(NO_NULL))?;
        let shown = match shown(&request) {
            Shown::Bearer(_) => Shown::Unreadable,
            shown => shown,
        };
        let client = query.get("client_id").unwrap_or("docker");
        let offline = (query.get("offline_token") == Some("true")).then_some(client);
        let scopes = scopes(query.all("scope"))?;
        let who = (shown, service.place.origin_of(&request));
        service.sign_in_and_issue(who, &scopes, offline).await
    };
    match issue.await {
        Ok(issued) => answer(&issued, Form::Docker),
        Err(refused) => refused.answer(),
    }
}

/// The same for credentials in a form: a password, a refresh token, or an identity token of an issuer that is trusted.
#[utoipa::path(
    post,
    path = "/auth/token",
    tag = "tokens",
    request_body(
        description = "grant_type=password with username and password, or grant_type=refresh_token with refresh_token; service, client_id, \
                       scope, and access_type=offline for a refresh token. Or a token exchange (RFC 8693): \
                       grant_type=urn:ietf:params:oauth:grant-type:token-exchange with subject_token, an identity token of a CI \
                       system or cluster, subject_token_type=urn:ietf:params:oauth:token-type:id_token, scope, and username, \
                       the robot's name, where several could be meant",
        content_type = "application/x-www-form-urlencoded"
    ),
    responses(
        (status = 200, description = "a token", body = TokenAnswer),
        (status = 400, description = "malformed, or another grant type", body = ErrorEnvelope),
        (status = 401, description = "wrong credentials", body = ErrorEnvelope),
        (status = 413, description = "larger than 16 KiB", body = ErrorEnvelope),
        (status = 429, description = "too many sign in at once", body = ErrorEnvelope),
    )
)]
pub(crate) async fn post_token(
    request: HttpRequest,
    payload: web::Payload,
    service: web::Data<Doors>,
) -> HttpResponse {
    let issue = async {
        let mut body = Body::new(payload);
        if let Err(limited) = service.admit(&request).await {
            body.drain().await;
            return Err(limited.into());
        }
        let body = body.read_whole(content_length(&request), FORM).await;
        let body = body.map_err(|refusal| Refused::form(&refusal))?;
        let form = str::from_utf8(&body).map_err(|_| Refused::malformed("this is not a form"))?;
        let form = Query::parse(form)
            .without_null()
            .map_err(|_| Refused::malformed(NO_NULL))?;
        let secret = |name| {
            form.get(name)
                .map(|text: &str| Secret::from(text.to_owned()))
        };
        let client = form.get("client_id").unwrap_or("docker");
        let scopes = scopes(form.all("scope"))?;
        let origin = service.place.origin_of(&request);
        match form.get("grant_type") {
            Some(EXCHANGE) => {
                let issued = service.exchange(&form, origin, &scopes).await?;
                Ok((issued, Form::Exchange))
            }
            Some("password") => {
                let (Some(user), Some(secret)) = (form.get("username"), secret("password")) else {
                    return Err(Refused::malformed("username and password are needed"));
                };
                let user = user.to_owned();
                let who = (Shown::Password { user, secret }, origin);
                let offline = (form.get("access_type") == Some("offline")).then_some(client);
                let issued = service.sign_in_and_issue(who, &scopes, offline).await?;
                Ok((issued, Form::OAuth))
            }
            Some("refresh_token") => {
                let refresh = secret("refresh_token")
                    .ok_or_else(|| Refused::malformed("refresh_token is needed"))?;
                let again = service.registry.sign_in_again(&refresh).await;
                let principal = again.map_err(|error| Refused::credentials(&error))?;
                let caller = Caller { principal, origin };
                let issued = service.issue_to(&caller, &scopes).await?;
                Ok((issued, Form::OAuth))
            }
            _ => Err(Refused {
                error: Some("unsupported_grant_type"),
                ..Refused::malformed(
                    "grant_type is password, refresh_token or that of a token exchange",
                )
            }),
        }
    };
    match issue.await {
        Ok((issued, form)) => answer(&issued, form),
        Err(refused) => Refused {
            error: refused.error.or(Some("invalid_grant")),
            ..refused
        }
        .answer(),
    }
}

/// The public keys that verify tokens.
#[utoipa::path(
    get,
    path = "/.well-known/jwks.json",
    tag = "tokens",
    responses(
        (status = 200, description = "a JSON Web Key Set", body = serde_json::Value),
    )
)]
pub(crate) async fn get_keys(request: HttpRequest, service: web::Data<Doors>) -> HttpResponse {
    if let Err(limited) = service.admit(&request).await {
        return Refused::from(limited).answer();
    }
    match service.registry.key_set().await {
        Ok(keys) => HttpResponse::Ok()
            .insert_header((CACHE_CONTROL, "public, max-age=300"))
            .json(keys),
        Err(error) => Refused::registry(&error).answer(),
    }
}

impl Doors {
    /// Counts a request for where it comes from.
    pub(super) async fn admit(&self, request: &HttpRequest) -> Result<(), Limited> {
        self.limits.address(|| self.place.client(request)).await
    }

    /// A token for who shows an identity token.
    async fn exchange(
        &self,
        form: &Query,
        origin: Origin,
        scopes: &[RequestedScope],
    ) -> Result<IssuedToken, Refused> {
        let (Some(token), Some(ID_TOKEN | JWT)) =
            (form.get("subject_token"), form.get("subject_token_type"))
        else {
            return Err(Refused::malformed(
                "subject_token is needed, and subject_token_type, which is that of an id_token",
            ));
        };
        if form
            .get("requested_token_type")
            .is_some_and(|wanted| wanted != ACCESS_TOKEN)
        {
            return Err(Refused::malformed(
                "only access tokens are given for others",
            ));
        }
        let token = Secret::from(token.to_owned());
        let user = form.get("username");
        let signed_in = self.registry.sign_in_by_identity(&token, user, &origin);
        let principal = signed_in.await;
        let principal = principal.map_err(|error| Refused::credentials(&error))?;
        self.issue_to(&Caller { principal, origin }, scopes).await
    }

    /// A token for who is known, and nothing to get others for.
    async fn issue_to(
        &self,
        caller: &Caller,
        scopes: &[RequestedScope],
    ) -> Result<IssuedToken, Refused> {
        self.limits.principal(caller).await?;
        let issued = issue(&self.registry, caller, scopes, None).await;
        issued.map_err(|error| Refused::registry(&error))
    }

    /// Who shows something, and a token for them.
    async fn sign_in_and_issue(
        &self,
        (shown, origin): (Shown, Origin),
        scopes: &[RequestedScope],
        offline: Option<&str>,
    ) -> Result<IssuedToken, Refused> {
        let registry = &self.registry;
        let signed_in = registry.sign_in(shown.clone(), &origin).await;
        let principal = signed_in.map_err(|error| Refused::credentials(&error))?;
        let caller = Caller { principal, origin };
        self.limits.principal(&caller).await?;
        let issued = issue(registry, &caller, scopes, offline).await;
        issued.map_err(|error| {
            if matches!(&error, RegistryError::Denied(denial) if denial.reason == Reason::Ended) {
                registry.forget(shown);
            }
            Refused::registry(&error)
        })
    }
}

async fn issue(
    registry: &Registry,
    caller: &Caller,
    scopes: &[RequestedScope],
    offline: Option<&str>,
) -> Result<IssuedToken, RegistryError> {
    match caller.principal {
        Principal::Local => Err(RegistryError::NoAccounts),
        _ => registry.issue_token(caller, scopes, offline).await,
    }
}

fn scopes<'q>(given: impl Iterator<Item = &'q str>) -> Result<Vec<RequestedScope>, Refused> {
    // Read as one text, so that what is asked for a name in several parameters comes together.
    let text = given.collect::<Vec<_>>().join(" ");
    match text.split_whitespace().count() > SCOPES {
        true => Err(Refused::malformed("at most 64 scopes can be asked for")),
        false => Ok(parse_scopes(&text)),
    }
}

fn answer(issued: &IssuedToken, form: Form) -> HttpResponse {
    let is_oauth = form != Form::Docker;
    let is_exchange = form == Form::Exchange;
    let token = issued.token.expose().to_owned();
    let time = jiff::Timestamp::from_second(issued.issued_at).unwrap_or_default();
    let granted = issued.granted.iter();
    let granted: Vec<String> = granted
        .map(|(name, verbs)| format_scope(name, *verbs))
        .collect();
    let refresh = issued.refresh.as_ref();
    let answer = TokenAnswer {
        token: (!is_oauth).then(|| token.clone()),
        access_token: token,
        expires_in: issued.expires_in,
        issued_at: time.to_string(),
        refresh_token: refresh.map(|refresh| refresh.expose().to_owned()),
        issued_token_type: is_exchange.then_some(ACCESS_TOKEN),
        token_type: is_exchange.then_some("Bearer"),
        scope: is_oauth.then(|| granted.join(" ")),
    };
    HttpResponse::Ok()
        .insert_header((CACHE_CONTROL, "no-store"))
        .json(answer)
}

impl From<Limited> for Refused {
    fn from(limited: Limited) -> Self {
        Self {
            status: StatusCode::TOO_MANY_REQUESTS,
            code: "TOOMANYREQUESTS",
            message: limited.to_string(),
            error: Some("temporarily_unavailable"),
            retry_after: Some(limited.retry_after()),
        }
    }
}

impl Refused {
    fn malformed(message: &str) -> Self {
        Self {
            status: StatusCode::BAD_REQUEST,
            code: "UNSUPPORTED",
            message: message.to_owned(),
            error: Some("invalid_request"),
            retry_after: None,
        }
    }

    /// A form that did not arrive whole.
    fn form(refusal: &Refusal) -> Self {
        let (status, message) = match refusal {
            Refusal::Registry(RegistryError::ManifestInvalid(_)) => (
                StatusCode::PAYLOAD_TOO_LARGE,
                "the form is larger than 16 KiB",
            ),
            Refusal::Registry(RegistryError::Body(BodyError::Stalled)) => {
                (StatusCode::REQUEST_TIMEOUT, "the form came too slowly")
            }
            _ => (StatusCode::BAD_REQUEST, "the form did not arrive whole"),
        };
        Self {
            status,
            ..Self::malformed(message)
        }
    }

    fn credentials(error: &SignInError) -> Self {
        match error {
            SignInError::Wrong => Self {
                status: StatusCode::UNAUTHORIZED,
                code: "UNAUTHORIZED",
                message: error.to_string(),
                error: None,
                retry_after: None,
            },
            SignInError::Waits { retry_after } | SignInError::Busy { retry_after } => Self {
                status: StatusCode::TOO_MANY_REQUESTS,
                code: "TOOMANYREQUESTS",
                message: error.to_string(),
                error: Some("temporarily_unavailable"),
                retry_after: Some(retry_after.as_secs() + 1),
            },
            SignInError::Registry(error) => Self::registry(error),
        }
    }

    fn registry(error: &RegistryError) -> Self {
        match error {
            RegistryError::Denied(denial) if denial.reason == Reason::NoCredentials => Self {
                message: "credentials are needed".to_owned(),
                ..Self::credentials(&SignInError::Wrong)
            },
            RegistryError::Denied(_) => Self::credentials(&SignInError::Wrong),
            RegistryError::TokenTooLong | RegistryError::NoAccounts => {
                Self::malformed(&error.to_string())
            }
            error if error.is_transient() => {
                tracing::warn!(%error, "a token could not be issued now");
                Self {
                    status: StatusCode::SERVICE_UNAVAILABLE,
                    code: "UNAVAILABLE",
                    message: match error {
                        // Only who shows a token of that issuer gets here.
                        RegistryError::IssuerUnreachable => error.to_string(),
                        _ => {
                            "the registry cannot issue tokens now: try again in a moment".to_owned()
                        }
                    },
                    error: Some("temporarily_unavailable"),
                    retry_after: Some(1),
                }
            }
            error => {
                tracing::error!(%error, "a token could not be issued");
                Self {
                    status: StatusCode::INTERNAL_SERVER_ERROR,
                    code: "UNKNOWN",
                    message:
                        "the registry failed; its log says why, under this answer's X-Request-Id"
                            .to_owned(),
                    error: Some("server_error"),
                    retry_after: None,
                }
            }
        }
    }

    fn answer(self) -> HttpResponse {
        let mut answer = HttpResponse::build(self.status);
        answer.insert_header((CACHE_CONTROL, "no-store"));
        if let Some(seconds) = self.retry_after {
            answer.insert_header((RETRY_AFTER, seconds.to_string()));
        }
        let entry = json!({"code": self.code, "message": self.message, "detail": null});
        let mut body = json!({"errors": [entry]});
        if let Some(error) = self.error {
            body["error"] = error.into();
        }
        answer.json(body)
    }
}
