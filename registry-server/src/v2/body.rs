//! Request bodies: bounded in size and in patience.

use std::{pin::pin, time::Duration};

use actix_web::{HttpRequest, http::header, web};
use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt, stream};
use granary_oci::ManifestError;
use granary_registry::{BodyError, RegistryError};

use super::refusal::Refusal;

/// Longest wait for the next bytes of a body (decision 41).
const STALL: Duration = Duration::from_secs(30);
/// Most bytes read from a body whose request is refused early, so that the client gets to read why.
const DRAINED: usize = 1 << 20;

/// `Content-Length`, if the body has one.
pub(crate) fn content_length(request: &HttpRequest) -> Option<u64> {
    request.headers().get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// The body piece by piece, each in time.
pub(crate) fn pieces(payload: web::Payload) -> impl Stream<Item = Result<Bytes, BodyError>> + Unpin {
    Box::pin(stream::unfold(Some(payload), |payload| async move {
        let mut payload = payload?;
        match tokio::time::timeout(STALL, payload.next()).await {
            Err(_) => Some((Err(BodyError::Stalled), None)),
            Ok(None) => None,
            Ok(Some(Err(_))) => Some((Err(BodyError::Cut), None)),
            Ok(Some(Ok(piece))) => Some((Ok(piece), Some(payload))),
        }
    }))
}

/// The whole body, at most `most` bytes.
pub(crate) async fn read_whole(payload: web::Payload, announced: Option<u64>, most: usize) -> Result<Bytes, Refusal> {
    let expected = announced.and_then(|length| usize::try_from(length).ok()).unwrap_or(0).min(most);
    let mut whole = BytesMut::with_capacity(expected);
    let mut pieces = pin!(pieces(payload));
    while let Some(piece) = pieces.next().await {
        let piece = piece.map_err(RegistryError::from)?;
        if whole.len() + piece.len() > most {
            return Err(RegistryError::from(ManifestError::TooLarge).into());
        }
        whole.extend_from_slice(&piece);
    }
    Ok(whole.freeze())
}

/// Reads away a bounded rest of a body (decision 31).
pub(crate) async fn drain(payload: web::Payload) {
    let mut pieces = pin!(pieces(payload));
    let mut drained = 0;
    while let Some(Ok(piece)) = pieces.next().await {
        drained += piece.len();
        if drained > DRAINED {
            return;
        }
    }
}
