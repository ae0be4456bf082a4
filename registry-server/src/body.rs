//! Reading a request's body with a deadline for its progress.

use std::time::{Duration, Instant};

use actix_web::{error::PayloadError, web};
use bytes::Bytes;
use futures_util::{FutureExt, StreamExt};
use tokio::time::timeout;

/// How long the server waits for [`LEAST_PROGRESS`] more bytes.
const PATIENCE: Duration = Duration::from_secs(30);

/// What counts as progress: below about 140 bytes a second a body is given up.
const LEAST_PROGRESS: usize = 4096;

/// Why a body ended early.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BodyError {
    /// The client sent too little for too long: 408.
    #[error("the request body made no progress for {} seconds", PATIENCE.as_secs())]
    Stalled,
    /// The connection broke, or the body is malformed.
    #[error("the request body broke off")]
    Broken(#[source] PayloadError),
}

/// A request's body, which the client must keep sending. Only time spent waiting for the client
/// counts, not the time the server takes between two chunks.
pub struct BodyReader {
    payload: web::Payload,
    patience: Duration,
    waited: Duration,
    progress: usize,
}

impl BodyReader {
    /// Reads this body.
    pub fn new(payload: web::Payload) -> Self {
        Self {
            payload,
            patience: PATIENCE,
            waited: Duration::ZERO,
            progress: 0,
        }
    }

    /// The next bytes, or `None` at the end.
    pub async fn next_chunk(&mut self) -> Result<Option<Bytes>, BodyError> {
        let next = match self.payload.next().now_or_never() {
            Some(next) => next,
            None => self.wait().await?,
        };
        let Some(chunk) = next.transpose().map_err(BodyError::Broken)? else {
            return Ok(None);
        };
        self.progress += chunk.len();
        if self.progress >= LEAST_PROGRESS {
            self.progress = 0;
            self.waited = Duration::ZERO;
        }
        Ok(Some(chunk))
    }

    async fn wait(&mut self) -> Result<Option<Result<Bytes, PayloadError>>, BodyError> {
        let left = self.patience.saturating_sub(self.waited);
        let start = Instant::now();
        let next = timeout(left, self.payload.next())
            .await
            .map_err(|_| BodyError::Stalled)?;
        self.waited += start.elapsed();
        Ok(next)
    }
}

#[cfg(test)]
mod tests {
    use actix_http::BoxedPayloadStream;
    use actix_web::{FromRequest, dev::Payload, test::TestRequest};
    use futures_util::stream;

    use super::*;

    async fn reader(
        chunks: impl futures_util::Stream<Item = Result<Bytes, PayloadError>> + 'static,
    ) -> BodyReader {
        let request = TestRequest::default().to_http_request();
        let chunks: BoxedPayloadStream = Box::pin(chunks);
        let mut payload = Payload::Stream { payload: chunks };
        let payload = web::Payload::from_request(&request, &mut payload)
            .await
            .unwrap();
        BodyReader {
            patience: Duration::from_millis(100),
            ..BodyReader::new(payload)
        }
    }

    #[actix_web::test]
    async fn a_body_comes_through_whole() {
        let mut body = reader(stream::iter([
            Ok(Bytes::from_static(b"a")),
            Ok(Bytes::from_static(b"b")),
        ]))
        .await;
        assert_eq!(body.next_chunk().await.unwrap().unwrap(), "a");
        assert_eq!(body.next_chunk().await.unwrap().unwrap(), "b");
        assert!(body.next_chunk().await.unwrap().is_none());
    }

    #[actix_web::test]
    async fn single_bytes_do_not_keep_a_stalling_body_alive() {
        let drip = stream::unfold((), |()| async {
            tokio::time::sleep(Duration::from_millis(20)).await;
            Some((Ok(Bytes::from_static(b"x")), ()))
        });
        let mut body = reader(drip).await;
        let mut chunks = 0;
        let error = loop {
            match body.next_chunk().await {
                Ok(_) => chunks += 1,
                Err(error) => break error,
            }
        };
        assert!(matches!(error, BodyError::Stalled));
        assert!((1..=5).contains(&chunks), "{chunks}");
    }

    #[actix_web::test]
    async fn real_progress_renews_the_patience() {
        let steady = stream::unfold(0, |count| async move {
            tokio::time::sleep(Duration::from_millis(20)).await;
            (count < 15).then(|| (Ok(Bytes::from(vec![0; LEAST_PROGRESS])), count + 1))
        });
        let mut body = reader(steady).await;
        let mut chunks = 0;
        while body.next_chunk().await.unwrap().is_some() {
            chunks += 1;
        }
        assert_eq!(chunks, 15);
    }
}
