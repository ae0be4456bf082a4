//! The requests that go no further than the edge.

use actix_http::RequestHead;
use actix_web::{
    HttpResponse,
    http::{
        Method, StatusCode, Version,
        header::{CONTENT_ENCODING, CONTENT_LENGTH, TRANSFER_ENCODING},
    },
};
use serde_json::json;

use crate::config::Anonymous;

use super::{announced_length, loopback};

/// Why a request is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// It came from elsewhere to a server that serves anonymously on loopback.
    NotLocal(&'static str),
    /// Its body is encoded: digests are of exact bytes.
    Encoded,
}

impl Refusal {
    /// The reason to refuse this request, if there is one.
    pub(super) fn of(head: &RequestHead, anonymous: Anonymous) -> Option<Self> {
        if anonymous == Anonymous::Loopback
            && let Some(sign) = loopback::sign_of_elsewhere(head)
        {
            return Some(Self::NotLocal(sign));
        }
        let encoding = head.headers.get(CONTENT_ENCODING)?;
        let identity = encoding.as_bytes().eq_ignore_ascii_case(b"identity");
        (!identity && has_body(head)).then_some(Self::Encoded)
    }

    /// The answer, in the form of the OCI specification.
    pub(super) fn response(self) -> HttpResponse {
        let (status, code, message, detail) = match self {
            Self::NotLocal(sign) => (
                StatusCode::FORBIDDEN,
                "DENIED",
                "this server has no accounts and serves only its own machine; make the first with \
                 'granary admin bootstrap', or start it with --allow-anonymous to serve everybody",
                sign,
            ),
            Self::Encoded => (
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "UNSUPPORTED",
                "bodies are stored as they are; send this one without Content-Encoding",
                "Content-Encoding",
            ),
        };
        HttpResponse::build(status)
            .json(json!({"errors": [{"code": code, "message": message, "detail": detail}]}))
    }
}

fn has_body(head: &RequestHead) -> bool {
    if head.headers.contains_key(CONTENT_LENGTH) {
        return announced_length(&head.headers) > 0;
    }
    let may_stream =
        head.version == Version::HTTP_2 && !matches!(head.method, Method::GET | Method::HEAD);
    may_stream || head.headers.contains_key(TRANSFER_ENCODING)
}
