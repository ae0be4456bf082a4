//! Errors as the specification's envelope: one table from kind to status, code, text and detail.

use actix_web::{
    HttpResponse,
    http::{
        StatusCode,
        header::{self, HeaderName, HeaderValue},
    },
};
use granary_oci::{
    DigestError, ErrorCode, ManifestError, NameError, RangeError, ReferenceError, TagError,
};
use granary_registry::{BodyError, RegistryError};
use serde_json::{Value, json};

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

fn registry_line(error: &RegistryError, repository: Option<&str>) -> Line {
    use ErrorCode as Code;
    use StatusCode as Status;
    let missing = |code, detail| Line::new(Status::NOT_FOUND, code, detail);
    match error {
        RegistryError::NameUnknown(name) => {
            missing(Code::NameUnknown, json!({"name": name.as_str()}))
        }
        RegistryError::BlobUnknown(digest) => missing(Code::BlobUnknown, json!({"digest": digest})),
        RegistryError::ManifestUnknown(reference) => {
            missing(Code::ManifestUnknown, json!({"reference": reference}))
        }
        RegistryError::ManifestRemoved { digest, removed_at } => {
            let removed_at = removed_at.and_then(|at| jiff_time(at));
            missing(
                Code::ManifestUnknown,
                json!({"digest": digest, "removed_at": removed_at}),
            )
        }
        RegistryError::UploadUnknown(session) => {
            missing(Code::BlobUploadUnknown, json!({"session": session}))
        }
        RegistryError::UploadBusy { retry_after } => {
            let seconds = retry_after.as_secs() + 1;
            Line::new(
                Status::TOO_MANY_REQUESTS,
                Code::TooManyRequests,
                json!({"retry_after": seconds}),
            )
            .with(header::RETRY_AFTER, &seconds.to_string())
        }
        RegistryError::ChunkOutOfOrder { first, status } => {
            let detail = json!({"first": first, "received": status.received});
            let mut line = Line::new(
                Status::RANGE_NOT_SATISFIABLE,
                Code::BlobUploadInvalid,
                detail,
            );
            line.headers
                .extend(session_headers(repository.unwrap_or_default(), status));
            line
        }
        RegistryError::SizeDiffers { announced, actual } => Line::new(
            Status::BAD_REQUEST,
            Code::SizeInvalid,
            json!({"announced": announced, "actual": actual}),
        ),
        RegistryError::DigestDiffers { expected, actual } => Line::new(
            Status::BAD_REQUEST,
            Code::DigestInvalid,
            json!({"expected": expected, "actual": actual}),
        ),
        RegistryError::TooManyUploads { limit } => Line::new(
            Status::TOO_MANY_REQUESTS,
            Code::TooManyRequests,
            json!({"limit": limit}),
        )
        .with(header::RETRY_AFTER, "60"),
        RegistryError::ManifestInvalid(ManifestError::TooLarge) => Line::new(
            Status::PAYLOAD_TOO_LARGE,
            Code::ManifestInvalid,
            json!({"most": granary_oci::MAX_MANIFEST_BYTES}),
        ),
        RegistryError::ManifestInvalid(_) => {
            Line::new(Status::BAD_REQUEST, Code::ManifestInvalid, Value::Null)
        }
        RegistryError::ContentMissing(digests) => Line::new(
            Status::NOT_FOUND,
            Code::ManifestBlobUnknown,
            json!({"missing": digests}),
        ),
        RegistryError::Referenced(by) => Line::new(
            Status::METHOD_NOT_ALLOWED,
            Code::Unsupported,
            json!({"referenced_by": by}),
        ),
        RegistryError::PreconditionFailed { tag, current } => {
            let detail = json!({"tag": tag.as_str(), "current": current});
            let line = Line::new(Status::PRECONDITION_FAILED, Code::ManifestInvalid, detail);
            match current {
                Some(current) => line.with(header::ETAG, &format!("\"{current}\"")),
                None => line,
            }
        }
        RegistryError::PreconditionWithoutTag => {
            Line::new(Status::BAD_REQUEST, Code::ManifestInvalid, Value::Null)
        }
        RegistryError::DeleteDisabled => {
            Line::new(Status::METHOD_NOT_ALLOWED, Code::Unsupported, Value::Null)
        }
        RegistryError::Denied => Line::new(Status::FORBIDDEN, Code::Denied, Value::Null),
        RegistryError::Body(BodyError::Cut) => {
            Line::new(Status::BAD_REQUEST, Code::BlobUploadInvalid, Value::Null)
        }
        RegistryError::Body(BodyError::Stalled) => Line::new(
            Status::REQUEST_TIMEOUT,
            Code::BlobUploadInvalid,
            Value::Null,
        ),
        RegistryError::StoreFull => {
            Line::new(Status::SERVICE_UNAVAILABLE, Code::Unavailable, Value::Null)
                .with(header::RETRY_AFTER, "60")
        }
        RegistryError::Catalog(_) | RegistryError::Store(_) | RegistryError::Internal(_) => {
            Line::new(Status::INTERNAL_SERVER_ERROR, Code::Unknown, Value::Null)
        }
    }
}

/// Microseconds since 1970 as RFC 3339.
fn jiff_time(micros: i64) -> Option<String> {
    jiff::Timestamp::from_microsecond(micros)
        .ok()
        .map(|time| time.to_string())
}
