//! Log-ins by identity providers: a browser is sent there, and comes back.

use actix_web::{
    HttpRequest, HttpResponse,
    http::{
        StatusCode,
        header::{CACHE_CONTROL, CONTENT_TYPE, LOCATION, RETRY_AFTER},
    },
    web,
};
use granary_identity::{
    Secret,
    oidc::{LoginSecrets, ReturnTo, fresh_secret, told},
};
use granary_providers::{CodeExchange, Provider, ProviderError};
use granary_registry::{LOGIN_TIME, LoginError, Newcomer, RegistryError};

use super::{
    Doors,
    cookie::{self, LOGIN, SESSION},
};
use crate::{
    endpoint::{get, resource},
    limits::Limited,
    v2::query::Query,
};

/// Why a browser is not logged in: a text for whoever sits before it.
#[derive(Debug)]
struct Refused {
    status: StatusCode,
    text: String,
    retry_after: Option<u64>,
}

/// Adds the log-ins, which find [`Doors`] in the application's data.
pub(crate) fn configure(app: &mut web::ServiceConfig) {
    resource(app, "/auth/login/{provider}", [get(get_login)]);
    resource(app, "/auth/callback/{provider}", [get(get_callback)]);
}

/// Sends a browser to an identity provider.
#[utoipa::path(
    get,
    path = "/auth/login/{provider}",
    tag = "sessions",
    params(
        ("provider" = String, Path, description = "its name in the configuration"),
        ("return_to" = Option<String>, Query, description = "a path of this service, where the browser goes in the end"),
    ),
    responses(
        (status = 303, description = "to the provider, with a cookie for 10 minutes"),
        (status = 400, description = "return_to is not a path of this service", body = String, content_type = "text/plain"),
        (status = 404, description = "there is no such provider", body = String, content_type = "text/plain"),
        (status = 429, description = "too many requests, or too many log-ins are under way", body = String, content_type = "text/plain"),
        (status = 503, description = "the provider cannot be reached now", body = String, content_type = "text/plain"),
    )
)]
pub(crate) async fn get_login(request: HttpRequest, doors: web::Data<Doors>) -> HttpResponse {
    begin(&request, &doors)
        .await
        .unwrap_or_else(Refused::answer)
}

/// Takes a browser back from an identity provider, and logs it in.
#[utoipa::path(
    get,
    path = "/auth/callback/{provider}",
    tag = "sessions",
    params(
        ("provider" = String, Path, description = "its name in the configuration"),
        ("state" = Option<String>, Query, description = "what the log-in began with"),
        ("code" = Option<String>, Query, description = "what the provider says of who logged in, under a name"),
        ("iss" = Option<String>, Query, description = "who the provider is (RFC 9207)"),
        ("error" = Option<String>, Query, description = "why the provider let nobody in"),
    ),
    responses(
        (status = 303, description = "to where the log-in was to lead, with the cookie of a session"),
        (status = 400, description = "nobody is logged in; the text says why", body = String, content_type = "text/plain"),
        (status = 404, description = "there is no such provider", body = String, content_type = "text/plain"),
        (status = 429, description = "too many requests", body = String, content_type = "text/plain"),
        (status = 503, description = "the provider cannot be reached now", body = String, content_type = "text/plain"),
    )
)]
pub(crate) async fn get_callback(request: HttpRequest, doors: web::Data<Doors>) -> HttpResponse {
    let mut answer = finish(&request, &doors)
        .await
        .unwrap_or_else(Refused::answer);
    // A log-in is tried once, whatever came of it.
    cookie::remove(&mut answer, LOGIN);
    answer
}

async fn begin(request: &HttpRequest, doors: &Doors) -> Result<HttpResponse, Refused> {
    doors.admit(request).await?;
    let (provider, redirect_uri) = doors.provider(request)?;
    let query = Query::parse(request.query_string());
    let return_to: ReturnTo = match query.get("return_to") {
        Some(path) => path.parse().map_err(Refused::bad)?,
        None => ReturnTo::default(),
    };
    let no_randomness = |_| RegistryError::Internal("there is no randomness");
    let secrets = LoginSecrets::fresh().map_err(no_randomness)?;
    let browser = fresh_secret().map_err(no_randomness)?;
    let url = provider.authorization_url(&secrets, &redirect_uri).await;
    let url = url.map_err(|error| Refused::provider(provider.name(), &error))?;
    let registry = &doors.registry;
    registry
        .begin_login(
            provider.name(),
            &secrets,
            &browser,
            &return_to,
            &doors.place.origin_of(request),
        )
        .await?;
    let mut answer = see_other(url.as_str());
    cookie::set(&mut answer, LOGIN, &browser, LOGIN_TIME);
    Ok(answer)
}

async fn finish(request: &HttpRequest, doors: &Doors) -> Result<HttpResponse, Refused> {
    doors.admit(request).await?;
    let (provider, redirect_uri) = doors.provider(request)?;
    let (name, origin) = (provider.name(), doors.place.origin_of(request));
    let registry = &doors.registry;
    let failed = |reason: &'static str| registry.note_failed_login(name, reason, &origin);
    let query = Query::parse(request.query_string());
    let (Some(state), Some(browser)) = (once(&query, "state")?, cookie::get(request, LOGIN)) else {
        failed("no-log-in");
        return Err(LoginError::Unknown.into());
    };
    let state = Secret::from(state.to_owned());
    let login = registry.take_login(name, &state, &browser).await;
    let login = login.inspect_err(|error| {
        if matches!(error, LoginError::Unknown) {
            failed("no-log-in");
        }
    })?;
    let rejected = |error: &ProviderError| {
        failed("provider");
        Refused::provider(name, error)
    };
    let checked = provider.check_answer(once(&query, "iss")?).await;
    checked.map_err(|error| rejected(&error))?;
    if let Some(error) = once(&query, "error")? {
        failed("provider-refused");
        let why = query.get("error_description").unwrap_or_default();
        return Err(Refused::bad(format!(
            "the provider '{name}' let nobody in: {} {}",
            told(error),
            told(why)
        )));
    }
    let code = once(&query, "code")?.ok_or_else(|| {
        failed("provider");
        Refused::bad("the provider sent no code: begin again")
    })?;
    let exchange = CodeExchange {
        code: &Secret::from(code.to_owned()),
        secrets: &login.secrets,
        redirect_uri: &redirect_uri,
        now: granary_catalog::dialect::now() / 1_000_000,
    };
    let identity = provider.exchange(&exchange).await;
    let identity = identity.map_err(|error| rejected(&error))?;
    let user = Newcomer {
        issuer: identity.issuer,
        subject: identity.subject,
        name: identity.name,
        email: identity.email,
        groups: identity.groups,
    };
    let session = registry.log_in(name, user, &origin).await?;
    let mut answer = see_other(login.return_to.as_str());
    cookie::set(&mut answer, SESSION, &session, doors.session);
    Ok(answer)
}

impl Doors {
    /// The provider that the path names, and where it sends browsers back.
    fn provider(&self, request: &HttpRequest) -> Result<(&Provider, String), Refused> {
        let name = request.match_info().get("provider").unwrap_or_default();
        let found = self.providers.get(name).zip(self.place.public_url.as_ref());
        let (provider, public_url) = found.ok_or_else(|| Refused {
            status: StatusCode::NOT_FOUND,
            text: format!("there is no identity provider '{}'", told(name)),
            retry_after: None,
        })?;
        let redirect_uri = format!("{}/auth/callback/{name}", public_url.as_str());
        Ok((provider, redirect_uri))
    }
}

/// A parameter, which may be there once only (RFC 6749, section 3.1).
fn once<'q>(query: &'q Query, name: &'q str) -> Result<Option<&'q str>, Refused> {
    let mut all = query.all(name);
    match (all.next(), all.next()) {
        (found, None) => Ok(found),
        _ => Err(Refused::bad(format!("{name} is there twice: begin again"))),
    }
}

fn see_other(to: &str) -> HttpResponse {
    HttpResponse::SeeOther()
        .insert_header((LOCATION, to))
        .insert_header((CACHE_CONTROL, "no-store"))
        // The address of this answer has a code in it.
        .insert_header(("Referrer-Policy", "no-referrer"))
        .finish()
}

impl Refused {
    fn bad(text: impl ToString) -> Self {
        Self {
            status: StatusCode::BAD_REQUEST,
            text: text.to_string(),
            retry_after: None,
        }
    }

    fn later(text: impl ToString, seconds: u64) -> Self {
        Self {
            status: StatusCode::SERVICE_UNAVAILABLE,
            text: text.to_string(),
            retry_after: Some(seconds),
        }
    }

    /// What of a provider's failure a browser is told; the rest is for who runs this.
    fn provider(name: &str, error: &ProviderError) -> Self {
        match error {
            ProviderError::Setting { .. }
            | ProviderError::Http { .. }
            | ProviderError::Metadata { .. }
            | ProviderError::Keys { .. } => {
                tracing::warn!(%error, "a log-in failed");
                Self::later(
                    format!("the provider '{name}' cannot be reached now: try again in a moment"),
                    10,
                )
            }
            ProviderError::Answer { .. }
            | ProviderError::Token { .. }
            | ProviderError::MixUp { .. } => {
                tracing::info!(%error, "a log-in was refused");
                Self::bad(format!(
                    "what came from the provider '{name}' is no proof of who you are: begin again"
                ))
            }
        }
    }

    fn answer(self) -> HttpResponse {
        let mut answer = HttpResponse::build(self.status);
        answer
            .insert_header((CACHE_CONTROL, "no-store"))
            .insert_header((CONTENT_TYPE, "text/plain; charset=utf-8"))
            .insert_header(("X-Content-Type-Options", "nosniff"));
        if let Some(seconds) = self.retry_after {
            answer.insert_header((RETRY_AFTER, seconds.to_string()));
        }
        answer.body(self.text + "\n")
    }
}

impl From<Limited> for Refused {
    fn from(limited: Limited) -> Self {
        Self {
            status: StatusCode::TOO_MANY_REQUESTS,
            text: limited.to_string(),
            retry_after: Some(limited.retry_after()),
        }
    }
}

impl From<RegistryError> for Refused {
    fn from(error: RegistryError) -> Self {
        LoginError::from(error).into()
    }
}

impl From<LoginError> for Refused {
    fn from(error: LoginError) -> Self {
        match &error {
            LoginError::Unknown
            | LoginError::Gone(_)
            | LoginError::NoName
            | LoginError::NoAccounts => Self::bad(error),
            LoginError::TooMany => Self {
                status: StatusCode::TOO_MANY_REQUESTS,
                ..Self::later(error, 60)
            },
            LoginError::Registry(cause) if cause.is_transient() => {
                tracing::warn!(error = %cause, "a log-in could not be served now");
                Self::later(
                    "the registry cannot log anybody in now: try again in a moment",
                    1,
                )
            }
            LoginError::Registry(cause) => {
                tracing::error!(error = %cause, "a log-in failed");
                Self {
                    status: StatusCode::INTERNAL_SERVER_ERROR,
                    text: "the registry failed; its log says why, under this answer's X-Request-Id"
                        .to_owned(),
                    retry_after: None,
                }
            }
        }
    }
}
