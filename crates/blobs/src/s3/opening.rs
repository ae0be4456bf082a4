//! The first look at a bucket.

use super::{bucket::Bucket, failure::failure};
use crate::StoreError;

/// Asks for one key, because the answer to this says why it failed; to a HEAD request it would not. `rights` is what the
/// access key must be allowed to do.
pub(super) async fn probe(bucket: &Bucket, rights: &str) -> Result<(), StoreError> {
    let name = &bucket.name;
    let answer = bucket
        .client
        .list_objects_v2()
        .bucket(name)
        .prefix(&bucket.prefix)
        .max_keys(1)
        .send()
        .await;
    let Err(error) = answer else {
        return Ok(());
    };
    let mut failure = failure("opening the bucket", None, &error);
    let remedy = match (failure.code.as_deref(), failure.status) {
        (Some("NoSuchBucket"), _) | (_, Some(404)) => {
            format!("create bucket '{name}' or name another one")
        }
        (Some("InvalidAccessKeyId"), _) => "the access key is unknown there".to_owned(),
        (Some("SignatureDoesNotMatch"), _) => {
            "the secret key does not belong to the access key".to_owned()
        }
        (Some("AuthorizationHeaderMalformed" | "PermanentRedirect"), _) | (_, Some(301)) => {
            "the region or the endpoint is not the bucket's".to_owned()
        }
        (_, Some(403)) => {
            format!("allow the access key to {rights} in bucket '{name}'")
        }
        (_, None) => {
            "check that the endpoint is right and that credentials can be found".to_owned()
        }
        _ => return Err(failure.into()),
    };
    failure.reason = format!("{} ({remedy})", failure.reason);
    Err(failure.into())
}
