//! Errors as the envelope of `/api/v1`: one table from kind to status, code and text.

use std::fmt;

use actix_web::{
    HttpResponse, ResponseError,
    http::{
        StatusCode,
        header::{ALLOW, CACHE_CONTROL, RETRY_AFTER, WWW_AUTHENTICATE},
    },
};
use granary_registry::{
    AccountsError, Denial, Reason, RegistryError, RepositoryAdmin, SignInError,
};
use serde_json::{Value, json};

use super::{
    permitted::{InPath as _, needs_verb},
    schema::{Failed, Failure},
};
use crate::{edge::current_request_id, limits::Limited};

/// Why a request is refused.
#[derive(Debug)]
pub(crate) enum ApiRefusal {
    Accounts(AccountsError),
    SignIn(SignInError),
    Limited(Limited),
    /// A value that breaks a rule; the text says which.
    Invalid(String),
    NoCredentials,
    /// A browser sends it with the cookie of its session, and not for a page of ours.
    Csrf,
    NoAccounts,
    NoEndpoint,
    /// Why there is no leave, and what it needs.
    Needs(Reason, String),
    /// What kind of thing, and the name of none that one may see.
    Missing(&'static str, String),
    /// The method, and those that there are.
    Method(String, String),
    MediaType,
    TooLarge,
    Slow,
}

impl From<AccountsError> for ApiRefusal {
    fn from(error: AccountsError) -> Self {
        Self::Accounts(error)
    }
}

impl From<SignInError> for ApiRefusal {
    fn from(error: SignInError) -> Self {
        Self::SignIn(error)
    }
}

impl From<Limited> for ApiRefusal {
    fn from(limited: Limited) -> Self {
        Self::Limited(limited)
    }
}

impl From<RegistryError> for ApiRefusal {
    fn from(error: RegistryError) -> Self {
        Self::Accounts(error.into())
    }
}

/// One line of the table.
struct Line {
    status: StatusCode,
    code: &'static str,
    message: String,
    detail: Value,
    retry_after: Option<u64>,
}

impl Line {
    fn new(status: StatusCode, code: &'static str, message: impl ToString) -> Self {
        Self {
            status,
            code,
            message: message.to_string(),
            detail: Value::Null,
            retry_after: None,
        }
    }

    fn with(self, detail: Value) -> Self {
        Self { detail, ..self }
    }

    fn later(self, seconds: u64) -> Self {
        Self {
            retry_after: Some(seconds),
            ..self
        }
    }
}

impl ApiRefusal {
    fn line(&self) -> Line {
        use StatusCode as Status;
        match self {
            Self::Accounts(error) => of_accounts(error),
            Self::SignIn(SignInError::Wrong) => {
                Line::new(Status::UNAUTHORIZED, "UNAUTHORIZED", SignInError::Wrong)
            }
            Self::SignIn(
                error @ (SignInError::Waits { retry_after } | SignInError::Busy { retry_after }),
            ) => Line::new(Status::TOO_MANY_REQUESTS, "TOO_MANY_REQUESTS", error)
                .later(retry_after.as_secs() + 1),
            Self::SignIn(SignInError::Registry(error)) => of_registry(error),
            Self::Limited(limited) => {
                let line = Line::new(Status::TOO_MANY_REQUESTS, "TOO_MANY_REQUESTS", limited);
                line.later(limited.retry_after())
            }
            Self::Invalid(problem) => Line::new(Status::BAD_REQUEST, "INVALID", problem),
            Self::NoCredentials => Line::new(
                Status::UNAUTHORIZED,
                "UNAUTHORIZED",
                "credentials are needed: log in, or send a token",
            ),
            Self::Csrf => Line::new(
                Status::FORBIDDEN,
                "CSRF",
                "with the cookie of a session, what changes something needs X-CSRF-Token as GET /auth/session says it, from a page of this service",
            ),
            Self::NoAccounts => of_accounts(&AccountsError::NoAccounts),
            Self::NoEndpoint => Line::new(
                Status::NOT_FOUND,
                "NOT_FOUND",
                "no endpoint of this API has this path",
            ),
            Self::Needs(reason, message) => Line {
                message: message.clone(),
                ..of_denial(*reason)
            },
            Self::Missing(what, name) => no_such(what, name),
            Self::Method(method, _) => Line::new(
                Status::METHOD_NOT_ALLOWED,
                "METHOD_NOT_ALLOWED",
                format!("this endpoint has no method {method}"),
            ),
            Self::MediaType => Line::new(
                Status::UNSUPPORTED_MEDIA_TYPE,
                "MEDIA_TYPE",
                "the body has to be application/json",
            ),
            Self::TooLarge => Line::new(
                Status::PAYLOAD_TOO_LARGE,
                "TOO_LARGE",
                "the body is larger than 64 KiB",
            ),
            Self::Slow => Line::new(
                Status::REQUEST_TIMEOUT,
                "TIMEOUT",
                "the body did not arrive whole, or too slowly",
            ),
        }
    }
}

fn of_accounts(error: &AccountsError) -> Line {
    use AccountsError as Error;
    use StatusCode as Status;
    match error {
        Error::Denied(reason) => of_denial(*reason),
        Error::Handle(_)
        | Error::GroupName(_)
        | Error::Password(_)
        | Error::NotGrantable
        | Error::NoNamespace
        | Error::Mapping(_)
        | Error::NoLicense
        | Error::Foreign(_)
        | Error::NotToOrganisation(_)
        | Error::NotForRobots
        | Error::InvalidIssuer(_)
        | Error::Claims(_)
        | Error::PublisherScopes
        | Error::After
        | Error::Overlap => Line::new(Status::BAD_REQUEST, "INVALID", error),
        Error::OwnersOnly => Line::new(Status::FORBIDDEN, "DENIED", error),
        Error::NoSuch(_)
        | Error::NoSuchOwner(_)
        | Error::NoMember(..)
        | Error::NoSuchUser(_)
        | Error::NoSuchGrant(_)
        | Error::NoSuchNamespace(_)
        | Error::NoSuchToken(_)
        | Error::NoSuchProvider(_)
        | Error::NoSuchOrganisationOrTeam(_)
        | Error::NoSuchMapping(_)
        | Error::NoSuchIssuer(_)
        | Error::NoIssuer(_)
        | Error::NoSuchPublisher(_)
        | Error::NoSuchKey(_)
        | Error::NoSuchRepository(_) => Line::new(Status::NOT_FOUND, "NOT_FOUND", error),
        Error::NotTheFirst
        | Error::NoAccounts
        | Error::OldReplica(_)
        | Error::OldReplicaServes(_)
        | Error::NoKey
        | Error::Taken(_)
        | Error::IssuerTaken(_)
        | Error::NamespaceTaken(_)
        | Error::LastOwner(_)
        | Error::HasRepositories(_)
        | Error::Full(_)
        | Error::IgnoresAddresses(_)
        | Error::ShutsOut(_)
        | Error::HasSuccessor { .. }
        | Error::LastAdministrator(_) => Line::new(Status::CONFLICT, "CONFLICT", error),
        Error::WrongPassword => {
            Line::new(Status::FORBIDDEN, "DENIED", error).with(json!({"reason": "password"}))
        }
        Error::Later(after) => Line::new(Status::TOO_MANY_REQUESTS, "TOO_MANY_REQUESTS", error)
            .later(after.as_secs() + 1),
        Error::Hashing(_) => {
            Line::new(Status::TOO_MANY_REQUESTS, "TOO_MANY_REQUESTS", error).later(1)
        }
        Error::Registry(error) => of_registry(error),
    }
}

/// What is hidden and what is missing is told in the same words.
fn no_such(what: &str, name: impl fmt::Display) -> Line {
    let message = format!("there is no {what} '{name}', or you may not see it");
    Line::new(StatusCode::NOT_FOUND, "NOT_FOUND", message)
}

/// What of a denial a client learns (decision 24): what it may not see looks as if it were not there.
fn of_denial(reason: Reason) -> Line {
    use StatusCode as Status;
    match reason {
        Reason::NoCredentials => ApiRefusal::NoCredentials.line(),
        Reason::Ended => Line::new(
            Status::UNAUTHORIZED,
            "UNAUTHORIZED",
            "these credentials are no longer good: log in again",
        ),
        Reason::Hidden | Reason::Missing => Line::new(
            Status::NOT_FOUND,
            "NOT_FOUND",
            "there is nothing of that name, or you may not see it",
        ),
        Reason::Address => Line::new(
            Status::FORBIDDEN,
            "DENIED",
            "these credentials are not good from this address",
        )
        .with(json!({"reason": "address"})),
        Reason::ScopeTooNarrow => Line::new(
            Status::FORBIDDEN,
            "DENIED",
            "the scopes of this token do not say so: log in with a password, or with a wider token",
        )
        .with(json!({"reason": "scope"})),
        Reason::TokenTooNarrow => Line::new(
            Status::FORBIDDEN,
            "DENIED",
            "a token of the token service is good for repositories alone: log in with a password, or with an API token",
        )
        .with(json!({"reason": "scope"})),
        Reason::NotGranted | Reason::ImmutableTag | Reason::NotCreatable => {
            Line::new(Status::FORBIDDEN, "DENIED", "you may not do this")
                .with(json!({"reason": "not-granted"}))
        }
    }
}

fn of_registry(error: &RegistryError) -> Line {
    use StatusCode as Status;
    match error {
        RegistryError::Denied(Denial {
            reason: Reason::Hidden | Reason::Missing,
            repository: Some(name),
            ..
        })
        | RegistryError::NameUnknown(name) => no_such("repository", name),
        // Repositories are administered here, and nothing else is done with them.
        RegistryError::Denied(Denial {
            reason: reason @ Reason::NotGranted,
            repository: Some(name),
            ..
        }) => Line {
            message: RepositoryAdmin::needs(name.as_str()),
            ..of_denial(*reason)
        },
        RegistryError::Denied(Denial {
            reason: reason @ Reason::ScopeTooNarrow,
            ..
        }) => Line {
            message: needs_verb(RepositoryAdmin::VERB),
            ..of_denial(*reason)
        },
        RegistryError::Denied(denial) => of_denial(denial.reason),
        RegistryError::DeleteDisabled | RegistryError::OlderReplica(_) => {
            Line::new(Status::CONFLICT, "CONFLICT", error)
        }
        RegistryError::IssuerUnreachable => {
            Line::new(Status::SERVICE_UNAVAILABLE, "UNAVAILABLE", error).later(1)
        }
        error if error.is_transient() => {
            tracing::warn!(%error, "a request could not be served now");
            Line::new(
                Status::SERVICE_UNAVAILABLE,
                "UNAVAILABLE",
                "the registry cannot reach one of its back ends now: try again in a moment",
            )
            .later(1)
        }
        error => {
            tracing::error!(%error, "a request failed");
            Line::new(
                Status::INTERNAL_SERVER_ERROR,
                "INTERNAL",
                "the registry failed; its log says why, under this answer's request_id",
            )
        }
    }
}

impl fmt::Display for ApiRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Accounts(error) => error.fmt(f),
            other => f.write_str(&other.line().message),
        }
    }
}

impl ResponseError for ApiRefusal {
    fn status_code(&self) -> StatusCode {
        self.line().status
    }

    fn error_response(&self) -> HttpResponse {
        let line = self.line();
        let mut answer = HttpResponse::build(line.status);
        answer.insert_header((CACHE_CONTROL, "no-store"));
        if let Some(seconds) = line.retry_after {
            answer.insert_header((RETRY_AFTER, seconds.to_string()));
        }
        if let Self::Method(_, allow) = self {
            answer.insert_header((ALLOW, allow.as_str()));
        }
        if line.status == StatusCode::UNAUTHORIZED {
            answer.insert_header((WWW_AUTHENTICATE, "Bearer"));
        }
        let name = current_request_id();
        answer.json(Failed {
            ok: false,
            error: Failure {
                code: line.code,
                message: line.message,
                detail: line.detail,
            },
            request_id: name.map(|name| name.to_string()).unwrap_or_default(),
        })
    }
}
