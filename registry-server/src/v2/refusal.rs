//! Errors as the specification's envelope: one table from kind to status, code, text and detail.

use actix_web::{
    HttpResponse,
    http::{
        StatusCode,
        header::{self, HeaderName, HeaderValue},
    },
};
use granary_oci::{
    DigestError, ErrorCode, MAX_MANIFEST_BYTES, ManifestError, NameError, RangeError,
    ReferenceError, RepositoryName, TagError,
};
use granary_registry::{Asks, BodyError, Denial, Reason, RegistryError, Shown, SignInError};
use serde_json::{Value, json};

use crate::{auth::Problem, limits::Limited};

use super::{
    schema::{ErrorEntry, ErrorEnvelope},
    uploads::session_headers,
};

/// Why a request is refused, in the words of the edge.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refusal {
    #[error(transparent)]
    Registry(#[from] RegistryError),
    #[error(transparent)]
    Name(#[from] NameError),
    #[error(transparent)]
    Digest(#[from] DigestError),
    #[error(transparent)]
    Reference(#[from] ReferenceError),
    #[error(transparent)]
    Tag(#[from] TagError),
    #[error("{0}")]
    ChunkRange(RangeError),
    #[error("{0}")]
    ReadRange(RangeError),
    #[error("no endpoint of the distribution API has this path")]
    NoEndpoint,
    #[error("this endpoint has no method {0}")]
    Method(String, String),
    #[error("'{0}' is not a page size: use a number that is not negative")]
    PageSize(String),
    #[error("'{0}' is not a time: write it as RFC 3339, such as 2026-11-21T10:00:00Z")]
    Time(String),
    #[error("{0}")]
    Query(&'static str),
    #[error("'{0}' is not a condition on a tag: use one digest in double quotes, or *")]
    Condition(String),
    #[error("at most {0} tags can be set by one request")]
    TooManyTags(usize),
    #[error(
        "the server is about to stop and takes no new uploads: try again, another replica or the next start will take it"
    )]
    Draining,
    #[error("{0}")]
    SignIn(#[from] SignInError),
    #[error(transparent)]
    Limited(#[from] Limited),
}

/// One line of the table: everything the client sees.
struct Line {
    status: StatusCode,
    code: ErrorCode,
    detail: Value,
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl Line {
    fn new(status: StatusCode, code: ErrorCode, detail: Value) -> Self {
        Self {
            status,
            code,
            detail,
            headers: Vec::new(),
        }
    }

    fn with(mut self, name: HeaderName, value: &str) -> Self {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.push((name, value));
        }
        self
    }
}

impl Refusal {
    /// The answer to the client.
    pub(crate) fn answer(&self, repository: Option<&str>) -> HttpResponse {
        let line = self.line(repository);
        // What went wrong inside is nobody's business but the log's.
        let message = match line.status {
            StatusCode::INTERNAL_SERVER_ERROR => {
                tracing::error!(error = %self, "a request failed");
                "the registry failed; its log says why, under this answer's X-Request-Id".to_owned()
            }
            StatusCode::SERVICE_UNAVAILABLE => {
                tracing::warn!(error = %self, "a request could not be served now");
                match self {
                    // Only who shows a token of that issuer gets here, and it says nothing of what is inside.
                    Self::Registry(error) | Self::SignIn(SignInError::Registry(error))
                        if matches!(error, RegistryError::IssuerUnreachable) =>
                    {
                        error.to_string()
                    }
                    // What a database or bucket says is for the log.
                    Self::Registry(error) | Self::SignIn(SignInError::Registry(error))
                        if error.is_transient() =>
                    {
                        "the registry cannot reach one of its back ends now: try again in a moment"
                            .to_owned()
                    }
                    _ => self.to_string(),
                }
            }
            _ => self.to_string(),
        };
        let mut answer = HttpResponse::build(line.status);
        for header in line.headers {
            answer.insert_header(header);
        }
        let entry = ErrorEntry {
            code: line.code.as_str(),
            message,
            detail: line.detail,
        };
        answer.json(ErrorEnvelope {
            errors: vec![entry],
        })
    }

    /// What was wrong with the credentials, if better ones would help; `shown` says whether that was a token.
    pub(crate) fn asks_for_credentials(&self, shown: &Shown) -> Option<Problem> {
        let was_token = matches!(shown, Shown::Bearer(_));
        let problem = match self {
            Self::SignIn(SignInError::Wrong) => Problem::InvalidToken,
            Self::SignIn(SignInError::Registry(RegistryError::Denied(denial)))
            | Self::Registry(RegistryError::Denied(denial)) => match denial.reason {
                Reason::NoCredentials | Reason::Ended => Problem::InvalidToken,
                Reason::TokenTooNarrow => Problem::InsufficientScope,
                _ => return None,
            },
            _ => return None,
        };
        // A client that showed a token and is told of no error would ask for the same one again.
        Some(if was_token { problem } else { Problem::None })
    }

    /// Whether what was shown counted once and does no longer.
    pub(crate) fn says_that_credentials_ended(&self) -> bool {
        matches!(self, Self::Registry(RegistryError::Denied(denial)) if denial.reason == Reason::Ended)
    }

    /// Whether it was refused because the caller may not see the repository, or there is none.
    pub(crate) fn is_of_what_is_hidden(&self) -> bool {
        matches!(self, Self::Registry(RegistryError::Denied(denial)) if is_hidden(denial))
    }

    fn line(&self, repository: Option<&str>) -> Line {
        use ErrorCode as Code;
        use StatusCode as Status;
        let bad = |code, value: &dyn ToString| {
            Line::new(
                Status::BAD_REQUEST,
                code,
                json!({"value": value.to_string()}),
            )
        };
        match self {
            Self::Registry(error) => registry_line(error, repository),
            Self::Name(error) => bad(Code::NameInvalid, &error.value),
            Self::Digest(error) => digest_line(error),
            Self::Reference(ReferenceError::Digest(error)) => digest_line(error),
            Self::Reference(ReferenceError::Tag(error)) | Self::Tag(error) => {
                bad(Code::TagInvalid, &error.value)
            }
            Self::ChunkRange(RangeError::Form(value)) => bad(Code::BlobUploadInvalid, value),
            Self::ReadRange(RangeError::Unsatisfiable { value, length })
            | Self::ChunkRange(RangeError::Unsatisfiable { value, length }) => {
                let detail = json!({"range": value, "length": length});
                Line::new(Status::RANGE_NOT_SATISFIABLE, Code::RangeInvalid, detail)
                    .with(header::CONTENT_RANGE, &format!("bytes */{length}"))
            }
            Self::ReadRange(RangeError::Form(value)) => bad(Code::RangeInvalid, value),
            Self::NoEndpoint => Line::new(Status::NOT_FOUND, Code::Unsupported, Value::Null),
            Self::Method(method, allowed) => Line::new(
                Status::METHOD_NOT_ALLOWED,
                Code::Unsupported,
                json!({"method": method, "allowed": allowed}),
            )
            .with(header::ALLOW, allowed),
            Self::PageSize(value) => bad(Code::PaginationNumberInvalid, value),
            Self::Time(value) => bad(Code::Unsupported, value),
            Self::Query(_) => Line::new(Status::BAD_REQUEST, Code::Unsupported, Value::Null),
            Self::Condition(value) => bad(Code::ManifestInvalid, value),
            Self::TooManyTags(most) => Line::new(
                Status::URI_TOO_LONG,
                Code::ManifestInvalid,
                json!({"most": most}),
            ),
            Self::SignIn(error) => match error {
                SignInError::Wrong => {
                    Line::new(Status::UNAUTHORIZED, Code::Unauthorized, Value::Null)
                }
                SignInError::Waits { retry_after } | SignInError::Busy { retry_after } => {
                    let seconds = retry_after.as_secs() + 1;
                    Line::new(
                        Status::TOO_MANY_REQUESTS,
                        Code::TooManyRequests,
                        Value::Null,
                    )
                    .with(header::RETRY_AFTER, &seconds.to_string())
                }
                SignInError::Registry(error) => registry_line(error, repository),
            },
            Self::Limited(limited) => Line::new(
                Status::TOO_MANY_REQUESTS,
                Code::TooManyRequests,
                json!({"limit": limited.by.word(), "rate": limited.rate.to_string()}),
            )
            .with(header::RETRY_AFTER, &limited.retry_after().to_string()),
            Self::Draining => {
                Line::new(Status::SERVICE_UNAVAILABLE, Code::Unavailable, Value::Null)
                    .with(header::RETRY_AFTER, "5")
            }
        }
    }
}

fn digest_line(error: &DigestError) -> Line {
    let value = match error {
        DigestError::Form(value)
        | DigestError::Algorithm(value)
        | DigestError::Encoded { value, .. } => value,
    };
    Line::new(
        StatusCode::BAD_REQUEST,
        ErrorCode::DigestInvalid,
        json!({"value": value}),
    )
}

#[expect(
    clippy::too_many_lines,
    reason = "one exhaustive table reads better than its halves"
)]
fn registry_line(error: &RegistryError, repository: Option<&str>) -> Line {
    use ErrorCode as Code;
    use StatusCode as Status;
    let (status, code, detail) = match error {
        RegistryError::NameUnknown(name) => (
            Status::NOT_FOUND,
            Code::NameUnknown,
            json!({"name": name.as_str()}),
        ),
        RegistryError::BlobUnknown(digest) => (
            Status::NOT_FOUND,
            Code::BlobUnknown,
            json!({"digest": digest}),
        ),
        RegistryError::ManifestUnknown(reference) => (
            Status::NOT_FOUND,
            Code::ManifestUnknown,
            json!({"reference": reference}),
        ),
        RegistryError::ManifestRemoved { digest, removed_at } => {
            let detail = json!({"digest": digest, "removed_at": removed_at.and_then(time)});
            (Status::NOT_FOUND, Code::ManifestUnknown, detail)
        }
        RegistryError::UploadUnknown(session) => (
            Status::NOT_FOUND,
            Code::BlobUploadUnknown,
            json!({"session": session}),
        ),
        RegistryError::UploadBusy { retry_after } => {
            let detail = json!({"retry_after": retry_after.as_secs() + 1});
            (Status::TOO_MANY_REQUESTS, Code::TooManyRequests, detail)
        }
        RegistryError::UploadSuperseded => (Status::CONFLICT, Code::BlobUploadInvalid, Value::Null),
        RegistryError::ChunkOutOfOrder { first, status } => {
            let detail = json!({"first": first, "received": status.received});
            (
                Status::RANGE_NOT_SATISFIABLE,
                Code::BlobUploadInvalid,
                detail,
            )
        }
        RegistryError::SizeDiffers { announced, actual } => (
            Status::BAD_REQUEST,
            Code::SizeInvalid,
            json!({"announced": announced, "actual": actual}),
        ),
        RegistryError::DigestDiffers { expected, actual } => (
            Status::BAD_REQUEST,
            Code::DigestInvalid,
            json!({"expected": expected, "actual": actual}),
        ),
        RegistryError::TooManyUploads { limit } => (
            Status::TOO_MANY_REQUESTS,
            Code::TooManyRequests,
            json!({"limit": limit}),
        ),
        RegistryError::ManifestInvalid(ManifestError::TooLarge) => (
            Status::PAYLOAD_TOO_LARGE,
            Code::ManifestInvalid,
            json!({"most": MAX_MANIFEST_BYTES}),
        ),
        RegistryError::ManifestInvalid(error) => (
            Status::BAD_REQUEST,
            Code::ManifestInvalid,
            json!({"problem": error.to_string()}),
        ),
        RegistryError::ContentMissing(digests) => (
            Status::NOT_FOUND,
            Code::ManifestBlobUnknown,
            json!({"missing": digests}),
        ),
        RegistryError::Referenced(by) => (
            Status::METHOD_NOT_ALLOWED,
            Code::Unsupported,
            json!({"referenced_by": by}),
        ),
        RegistryError::PreconditionFailed { tag, current } => {
            let detail = json!({"tag": tag.as_str(), "current": current});
            (Status::PRECONDITION_FAILED, Code::ManifestInvalid, detail)
        }
        RegistryError::NoAccounts | RegistryError::TokenTooLong => {
            (Status::BAD_REQUEST, Code::Unsupported, Value::Null)
        }
        RegistryError::PreconditionWithoutTag => {
            (Status::BAD_REQUEST, Code::ManifestInvalid, Value::Null)
        }
        RegistryError::DeleteDisabled => {
            (Status::METHOD_NOT_ALLOWED, Code::Unsupported, Value::Null)
        }
        RegistryError::Denied(denial) => denial_line(denial),
        RegistryError::Body(BodyError::Cut) => {
            (Status::BAD_REQUEST, Code::BlobUploadInvalid, Value::Null)
        }
        RegistryError::Body(BodyError::Stalled) => (
            Status::REQUEST_TIMEOUT,
            Code::BlobUploadInvalid,
            Value::Null,
        ),
        RegistryError::QuotaExceeded(quota) => {
            let what = quota.what.to_string();
            let detail =
                json!({"reason": "quota", "what": what, "used": quota.used, "limit": quota.limit});
            (Status::FORBIDDEN, Code::Denied, detail)
        }
        RegistryError::OlderReplica(_) => (Status::CONFLICT, Code::Unsupported, Value::Null),
        RegistryError::StoreFull | RegistryError::IssuerUnreachable => {
            (Status::SERVICE_UNAVAILABLE, Code::Unavailable, Value::Null)
        }
        error if error.is_transient() => {
            (Status::SERVICE_UNAVAILABLE, Code::Unavailable, Value::Null)
        }
        RegistryError::Catalog(_) | RegistryError::Store(_) | RegistryError::Internal(_) => {
            (Status::INTERNAL_SERVER_ERROR, Code::Unknown, Value::Null)
        }
    };
    with_headers(Line::new(status, code, detail), error, repository)
}

/// What of a denial a client learns (decision 24): what it may not see looks as if it were not there.
fn denial_line(denial: &Denial) -> (StatusCode, ErrorCode, Value) {
    use ErrorCode as Code;
    use StatusCode as Status;
    let name = denial.repository.as_ref().map(RepositoryName::as_str);
    match denial.reason {
        Reason::NoCredentials | Reason::Ended | Reason::TokenTooNarrow => {
            (Status::UNAUTHORIZED, Code::Unauthorized, Value::Null)
        }
        Reason::Address => {
            let detail = json!({"reason": "address"});
            (Status::FORBIDDEN, Code::Denied, detail)
        }
        _ if is_hidden(denial) => (Status::NOT_FOUND, Code::NameUnknown, json!({"name": name})),
        Reason::NotGranted | Reason::ImmutableTag => {
            let reason = match denial.reason {
                Reason::ImmutableTag => "immutable-tag",
                _ => "not-granted",
            };
            let detail = json!({"repository": name, "reason": reason});
            (Status::FORBIDDEN, Code::Denied, detail)
        }
        _ => (Status::FORBIDDEN, Code::Denied, Value::Null),
    }
}

/// Whether a read was denied, or the repository is not there. Whoever may read and is denied something else sees it.
fn is_hidden(denial: &Denial) -> bool {
    let is_answered = matches!(
        denial.reason,
        Reason::NoCredentials | Reason::Ended | Reason::TokenTooNarrow | Reason::Address
    );
    let is_hidden = denial.asks == Asks::Read || denial.reason == Reason::Missing;
    is_hidden && !is_answered
}

/// What some errors say in headers too, for clients that act on them.
fn with_headers(mut line: Line, error: &RegistryError, repository: Option<&str>) -> Line {
    match error {
        RegistryError::UploadBusy { retry_after } => line.with(
            header::RETRY_AFTER,
            &(retry_after.as_secs() + 1).to_string(),
        ),
        RegistryError::TooManyUploads { .. } | RegistryError::StoreFull => {
            line.with(header::RETRY_AFTER, "60")
        }
        error if error.is_transient() => line.with(header::RETRY_AFTER, "1"),
        RegistryError::ChunkOutOfOrder { status, .. } => {
            line.headers
                .extend(session_headers(repository.unwrap_or_default(), status));
            line
        }
        RegistryError::PreconditionFailed {
            current: Some(current),
            ..
        } => line.with(header::ETAG, &format!("\"{current}\"")),
        _ => line,
    }
}

/// Microseconds since 1970 as RFC 3339.
fn time(micros: i64) -> Option<String> {
    jiff::Timestamp::from_microsecond(micros)
        .ok()
        .map(|time| time.to_string())
}
