//! Request bodies: bounded in size and in patience.

use std::{pin::pin, time::Duration};

use actix_web::{HttpRequest, http::header, web};
use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt, stream};
use granary_oci::ManifestError;
use granary_registry::{BodyError, RegistryError};

use super::refusal::Refusal;
use crate::body::{self, BodyReader};

/// Most bytes read from a body whose request was refused, so that the client gets to read why.
const DRAINED: usize = 1 << 20;
/// Longest time spent on that.
const DRAIN_TIME: Duration = Duration::from_secs(2);

/// `Content-Length`, if the body has one.
pub(crate) fn content_length(request: &HttpRequest) -> Option<u64> {
    request
        .headers()
        .get(header::CONTENT_LENGTH)?
        .to_str()
        .ok()?
        .parse()
        .ok()
}

/// The body of one request.
pub(crate) struct Body {
    reader: BodyReader,
    ended: bool,
}

impl Body {
    pub(crate) fn new(payload: web::Payload) -> Self {
        Self {
            reader: BodyReader::new(payload),
            ended: false,
        }
    }

    async fn next(&mut self) -> Option<Result<Bytes, BodyError>> {
        if self.ended {
            return None;
        }
        let piece = match self.reader.next_chunk().await {
            Ok(piece) => piece.map(Ok),
            Err(body::BodyError::Stalled) => Some(Err(BodyError::Stalled)),
            Err(_) => Some(Err(BodyError::Cut)),
        };
        self.ended = !matches!(piece, Some(Ok(_)));
        piece
    }

    /// The body piece by piece, each in time.
    pub(crate) fn pieces(&mut self) -> impl Stream<Item = Result<Bytes, BodyError>> + Unpin {
        Box::pin(stream::unfold(self, |body| async move {
            body.next().await.map(|piece| (piece, body))
        }))
    }

    /// The whole body, at most `most` bytes.
    pub(crate) async fn read_whole(
        &mut self,
        announced: Option<u64>,
        most: usize,
    ) -> Result<Bytes, Refusal> {
        let expected = announced
            .and_then(|length| usize::try_from(length).ok())
            .unwrap_or(0)
            .min(most);
        let mut whole = BytesMut::with_capacity(expected);
        let mut pieces = pin!(self.pieces());
        while let Some(piece) = pieces.next().await {
            let piece = piece.map_err(RegistryError::from)?;
            if whole.len() + piece.len() > most {
                return Err(RegistryError::from(ManifestError::TooLarge).into());
            }
            whole.extend_from_slice(&piece);
        }
        Ok(whole.freeze())
    }

    /// Reads away a rest that is bounded in bytes and time (decision 31).
    pub(crate) async fn drain(&mut self) {
        let rest = async {
            let mut drained = 0;
            while let Some(Ok(piece)) = self.next().await {
                drained += piece.len();
                if drained > DRAINED {
                    break;
                }
            }
        };
        // Whether it ended in time makes no difference: the answer goes out now.
        let _ = tokio::time::timeout(DRAIN_TIME, rest).await;
    }
}
