//! The way of a read: one request for the range, and another one for the rest each time the stream breaks.

use std::{sync::Arc, time::Duration};

use aws_sdk_s3::{error::ProvideErrorMetadata as _, primitives::ByteStream};
use bytes::Bytes;
use futures_util::stream;
use granary_oci::ByteRange;
use tokio::time::{sleep, timeout};

use super::{
    bucket::Bucket,
    config::STANDSTILL,
    failure::{failed, failure, status},
};
use crate::{BlobStream, ObjectKey, RemoteFailure, StoreError};

/// How often in a row a stream is taken up again without a byte in between.
const RETRIES: u32 = 4;

/// How long is waited before that, times the number of failures.
const PAUSE: Duration = Duration::from_millis(100);

const ACTION: &str = "reading";

/// A read that is under way.
struct Reading {
    bucket: Arc<Bucket>,
    key: ObjectKey,
    body: ByteStream,
    /// The object must stay this one.
    etag: Option<String>,
    /// What is still to come.
    rest: ByteRange,
    failures: u32,
}

/// Streams exactly `range`.
pub(super) async fn stream(
    bucket: &Arc<Bucket>,
    key: &ObjectKey,
    range: ByteRange,
) -> Result<BlobStream, StoreError> {
    let (body, etag) = open(bucket, key, range, None).await?;
    let reading = Reading {
        bucket: Arc::clone(bucket),
        key: key.clone(),
        body,
        etag,
        rest: range,
        failures: 0,
    };
    Ok(Box::pin(stream::try_unfold(Some(reading), next)))
}

/// Streams a whole object of a length that is not known before; with that length. `None` if there is no such object.
pub(super) async fn whole(
    bucket: &Arc<Bucket>,
    key: &ObjectKey,
) -> Result<Option<(u64, BlobStream)>, StoreError> {
    let answer = bucket
        .client
        .get_object()
        .bucket(&bucket.name)
        .key(bucket.path(key))
        .send()
        .await;
    let answer = match answer {
        Ok(answer) => answer,
        Err(error) if status(&error) == Some(404) => return Ok(None),
        Err(error) => return Err(failed(ACTION, Some(key))(error)),
    };
    let length = answer.content_length().and_then(|n| u64::try_from(n).ok());
    let length = length.ok_or_else(|| {
        let reason = "the server did not say how long it is".to_owned();
        StoreError::from(RemoteFailure::new(ACTION, Some(key), reason))
    })?;
    let reading = length.checked_sub(1).map(|last| Reading {
        bucket: Arc::clone(bucket),
        key: key.clone(),
        body: answer.body,
        etag: answer.e_tag,
        rest: ByteRange { first: 0, last },
        failures: 0,
    });
    let stream = stream::try_unfold(reading, next);
    Ok(Some((length, Box::pin(stream))))
}

/// Asks for `range`; the object must have ETag `etag`, if that is known.
async fn open(
    bucket: &Bucket,
    key: &ObjectKey,
    range: ByteRange,
    etag: Option<&str>,
) -> Result<(ByteStream, Option<String>), StoreError> {
    let answer = bucket
        .client
        .get_object()
        .bucket(&bucket.name)
        .key(bucket.path(key))
        .range(format!("bytes={}-{}", range.first, range.last))
        .set_if_match(etag.map(str::to_owned))
        .send()
        .await;
    let damaged = |found| StoreError::Damaged {
        key: key.clone(),
        expected: range.last.saturating_add(1),
        found,
    };
    let answer = match answer {
        Ok(answer) => answer,
        Err(error) => {
            return Err(match status(&error) {
                Some(404) if error.code() == Some("NoSuchKey") => {
                    StoreError::Missing { key: key.clone() }
                }
                // Something between says that it does not know the bucket; of the object that says nothing.
                Some(404) => {
                    let mut failure = failure(ACTION, Some(key), &error);
                    failure.transient = true;
                    failure.into()
                }
                // The range lies behind the end.
                Some(416) => match bucket.head(key).await? {
                    Some(head) => damaged(head.length),
                    None => StoreError::Missing { key: key.clone() },
                },
                _ => failed(ACTION, Some(key))(error),
            });
        }
    };
    if answer.content_length() != i64::try_from(range.length()).ok() {
        // "bytes 0-99/100": the server cuts a range at the end of the object.
        let total = answer
            .content_range()
            .and_then(|range| range.rsplit_once('/'))
            .and_then(|(_, total)| total.parse().ok());
        return Err(damaged(total.unwrap_or(0)));
    }
    Ok((answer.body, answer.e_tag))
}

/// The next piece, and what is left to read after it.
async fn next(reading: Option<Reading>) -> Result<Option<(Bytes, Option<Reading>)>, StoreError> {
    let Some(mut reading) = reading else {
        return Ok(None);
    };
    loop {
        let broken = match timeout(STANDSTILL, reading.body.next()).await {
            Ok(Some(Ok(piece))) if piece.is_empty() => continue,
            Ok(Some(Ok(piece))) => return Ok(Some(reading.took(piece))),
            Ok(Some(Err(_)) | None) => reading.cut(),
            Err(_) => reading.away("the stream stood still".to_owned()),
        };
        reading.resume(broken).await?;
    }
}

impl Reading {
    /// Counts a piece.
    fn took(mut self, mut piece: Bytes) -> (Bytes, Option<Self>) {
        let left = self.rest.length();
        if piece.len() as u64 >= left {
            // The HTTP layer never gives more than was announced; were it to, nobody gets to see it.
            piece.truncate(left as usize);
            return (piece, None);
        }
        self.rest.first += piece.len() as u64;
        self.failures = 0;
        (piece, Some(self))
    }

    /// The stream ends early although the server answers: there is no more of the object.
    fn cut(&self) -> StoreError {
        StoreError::Damaged {
            key: self.key.clone(),
            expected: self.rest.last.saturating_add(1),
            found: self.rest.first,
        }
    }

    /// The server does not answer, which says nothing about the object.
    fn away(&self, reason: String) -> StoreError {
        RemoteFailure {
            transient: true,
            ..RemoteFailure::new(ACTION, Some(&self.key), reason)
        }
        .into()
    }

    /// Asks again for what is still to come; `broken` is what is said if that has been tried often enough.
    async fn resume(&mut self, mut broken: StoreError) -> Result<(), StoreError> {
        while self.failures < RETRIES {
            self.failures += 1;
            sleep(PAUSE * self.failures).await;
            match open(&self.bucket, &self.key, self.rest, self.etag.as_deref()).await {
                Ok((body, _)) => {
                    self.body = body;
                    return Ok(());
                }
                Err(error) if error.is_transient() => broken = error,
                Err(error) => return Err(error),
            }
        }
        Err(broken)
    }
}
