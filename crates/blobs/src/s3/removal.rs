//! Removing objects, and what is left of unfinished ones.

use aws_sdk_s3::{
    config::http::HttpResponse,
    error::{ProvideErrorMetadata, SdkError},
    operation::delete_objects::DeleteObjectsError,
    types::{Delete, ObjectIdentifier},
};
use futures_util::future::join_all;

use super::{
    bucket::Bucket,
    failure::{failed, status},
    state::Multipart,
};
use crate::{ObjectKey, RemoteFailure, StoreError};

/// The most keys one request may name.
const BATCH: usize = 1000;

/// Requests that run at once where each names one key.
const PARALLEL: usize = 16;

/// How often unfinished uploads are looked for: a part that was on its way may outlive the first end of its upload.
const ROUNDS: usize = 3;

const ACTION: &str = "deleting";

/// Removes the objects; of several errors the first is told, after everything was tried.
pub(super) async fn delete(bucket: &Bucket, keys: &[ObjectKey]) -> Result<(), StoreError> {
    if let [key] = keys {
        return delete_one(bucket, key).await;
    }
    let mut outcome = Ok(());
    for batch in keys.chunks(BATCH) {
        let deleted = match delete_batch(bucket, batch).await {
            Ok(deleted) => deleted,
            Err(error) if lacks_batches(&error) => delete_each(bucket, batch).await,
            Err(error) => Err(failed(ACTION, batch.first())(error)),
        };
        outcome = outcome.and(deleted);
    }
    outcome
}

/// Removes several objects in one request. The outer error is the request's, the inner one an object's.
async fn delete_batch(
    bucket: &Bucket,
    keys: &[ObjectKey],
) -> Result<Result<(), StoreError>, SdkError<DeleteObjectsError, HttpResponse>> {
    let objects = keys
        .iter()
        .map(|key| ObjectIdentifier::builder().key(bucket.path(key)).build())
        .collect::<Result<Vec<_>, _>>()
        .map_err(SdkError::construction_failure)?;
    let delete = Delete::builder()
        .set_objects(Some(objects))
        .quiet(true)
        .build()
        .map_err(SdkError::construction_failure)?;
    let answer = bucket
        .client
        .delete_objects()
        .bucket(&bucket.name)
        .delete(delete)
        .send()
        .await?;
    let refused = answer
        .errors()
        .iter()
        .find(|error| error.code() != Some("NoSuchKey"));
    Ok(refused.map_or(Ok(()), |refused| {
        let named = |key: &&ObjectKey| refused.key() == Some(&bucket.path(key));
        let reason = refused.message().unwrap_or("no reason given").to_owned();
        Err(RemoteFailure {
            code: refused.code().map(str::to_owned),
            ..RemoteFailure::new(ACTION, keys.iter().find(named), reason)
        }
        .into())
    }))
}

/// Whether the server does not know the request, or not as it was sent.
fn lacks_batches(error: &SdkError<DeleteObjectsError, HttpResponse>) -> bool {
    matches!(status(error), Some(405 | 501))
        || matches!(
            error.code(),
            Some("NotImplemented" | "MethodNotAllowed" | "MalformedXML")
        )
}

async fn delete_each(bucket: &Bucket, keys: &[ObjectKey]) -> Result<(), StoreError> {
    let mut outcome = Ok(());
    for keys in keys.chunks(PARALLEL) {
        let deleted = join_all(keys.iter().map(|key| delete_one(bucket, key))).await;
        outcome = deleted.into_iter().fold(outcome, Result::and);
    }
    outcome
}

async fn delete_one(bucket: &Bucket, key: &ObjectKey) -> Result<(), StoreError> {
    let answer = bucket
        .client
        .delete_object()
        .bucket(&bucket.name)
        .key(bucket.path(key))
        .send()
        .await;
    match answer {
        Ok(_) => Ok(()),
        Err(error) if error.code() == Some("NoSuchKey") => Ok(()),
        Err(error) => Err(failed(ACTION, Some(key))(error)),
    }
}

/// Removes everything a session left under `key`.
pub(super) async fn abandon(
    bucket: &Bucket,
    key: &ObjectKey,
    state: &[u8],
) -> Result<(), StoreError> {
    // Notes that cannot be read name nothing that is not found by the key too.
    if let Ok(multipart) = Multipart::decode(state) {
        bucket.abort(key, &multipart.upload).await?;
    }
    for _ in 0..ROUNDS {
        let uploads = unfinished(bucket, key).await?;
        if uploads.is_empty() {
            break;
        }
        for upload in uploads {
            bucket.abort(key, &upload).await?;
        }
    }
    delete_one(bucket, key).await
}

/// The ids of unfinished uploads of exactly this object.
pub(super) async fn unfinished(
    bucket: &Bucket,
    key: &ObjectKey,
) -> Result<Vec<String>, StoreError> {
    let path = bucket.path(key);
    let answer = bucket
        .client
        .list_multipart_uploads()
        .bucket(&bucket.name)
        .prefix(&path)
        .send()
        .await
        .map_err(failed("looking for unfinished uploads of", Some(key)))?;
    // One page: each round ends what it lists, and more than a page for one key there never is.
    Ok(answer
        .uploads()
        .iter()
        .filter(|upload| upload.key() == Some(&path))
        .filter_map(|upload| upload.upload_id().map(str::to_owned))
        .collect())
}
