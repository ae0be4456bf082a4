//! Sessions whose object was begun in a bucket when no byte of it was safe, or ever will be.

use std::{collections::BTreeSet, sync::atomic::Ordering};

use granary_blobs::StoreError;
use granary_oci::Digest;
use granary_registry::{Chunk, RegistryError};

use crate::{
    bucket::{Bucket, everywhere},
    gate::{run, together},
    staged::{Plan, staged},
    world::{
        LARGE, Leave, append, begin, body, collect, content, finish, no_grace, pull, received,
    },
};

/// Enough for a part, and more.
const PARTS: usize = 10 * 1024 * 1024;

/// Ids of the uploads in the bucket that were neither joined nor ended.
async fn unfinished(bucket: &Bucket, plan: &Plan) -> BTreeSet<String> {
    let keys = plan.begun.lock().unwrap().clone();
    let mut ids = BTreeSet::new();
    for key in keys {
        let path = format!("{}-granary/blobs/{key}", bucket.prefix);
        let list = bucket.client.list_multipart_uploads().bucket("granary");
        let listed = list.prefix(path).send().await.unwrap();
        let uploads = listed.uploads().iter();
        ids.extend(uploads.filter_map(|upload| upload.upload_id().map(str::to_owned)));
    }
    ids
}

#[test]
fn a_session_goes_on_with_the_upload_it_began() {
    let _unset = together();
    run(async {
        for bucket in everywhere().await {
            let (world, plan) = staged(bucket.store().await, no_grace()).await;
            let registry = &world.registry;
            for length in [PARTS, LARGE] {
                let id = begin(registry, "a/b").await;
                plan.loses_answer.store(true, Ordering::Relaxed);
                let cut = append(registry, "a/b", &id, &content(0, PARTS)).await;
                let unsaved = matches!(cut, Err(RegistryError::Store(StoreError::Unsaved { .. })));
                assert!(unsaved, "{cut:?}");
                assert_eq!(received(registry, &id).await.unwrap(), 0);
                let begun = unfinished(&bucket, &plan).await;
                assert_eq!(begun.len(), 1, "{}", bucket.maker);

                let bytes = content(length, length);
                append(registry, "a/b", &id, &bytes).await.unwrap();
                assert_eq!(unfinished(&bucket, &plan).await, begun, "{}", bucket.maker);
                let digest = finish(registry, "a/b", &id, &bytes).await.unwrap();
                let left = unfinished(&bucket, &plan).await;
                assert!(left.is_empty(), "{}: {left:?}", bucket.maker);
                assert!(pull(registry, "a/b", &digest).await == Some(bytes));
            }
        }
    });
}

#[test]
fn what_a_refused_body_began_is_ended() {
    let _unset = together();
    run(async {
        for bucket in everywhere().await {
            let (world, plan) = staged(bucket.store().await, no_grace()).await;
            let registry = &world.registry;
            let id = begin(registry, "a/b").await;
            let (first, rest) = (content(1, 10), content(2, PARTS));
            append(registry, "a/b", &id, &first).await.unwrap();
            let (wrong, whole) = (Digest::sha256(b"x"), Chunk::default());
            let refused = registry
                .pushes("a/b")
                .await
                .finish_upload(&id, wrong, whole, body(rest.clone()))
                .await;
            let differs = matches!(refused, Err(RegistryError::DigestDiffers { .. }));
            assert!(differs, "{refused:?}");
            assert_eq!(received(registry, &id).await.unwrap(), 10);
            assert_eq!(unfinished(&bucket, &plan).await.len(), 1);

            append(registry, "a/b", &id, &rest).await.unwrap();
            let bytes = [first, rest].concat();
            let digest = finish(registry, "a/b", &id, &bytes).await.unwrap();
            collect(registry).await;
            let left = unfinished(&bucket, &plan).await;
            assert!(left.is_empty(), "{}: {left:?}", bucket.maker);
            assert!(pull(registry, "a/b", &digest).await.unwrap() == bytes);
        }
    });
}
