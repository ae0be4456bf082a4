//! Objects of many parts.

use granary_blobs::{BlobStore as _, ObjectKey};
use granary_oci::Algorithm;

use crate::servers::{Bucket, MIB, everywhere, expect, feed, noise, start, unsaved};

#[tokio::test(flavor = "multi_thread")]
async fn sizes_around_the_edges_of_parts() {
    everywhere(|bucket: Bucket| async move {
        let store = bucket.store().await;
        for length in [
            5 * MIB - 1,
            8 * MIB,
            8 * MIB + 1,
            16 * MIB,
            16 * MIB + 5,
            60 * MIB + 7,
        ] {
            let (key, content) = (ObjectKey::unique(), noise(length as u64, length));
            let mut writer = store.append(&key, start(), unsaved()).await.unwrap();
            feed(&mut *writer, &content).await.unwrap();
            let digest = Algorithm::Sha256.digest(&content);
            assert_eq!(
                writer.digest(Algorithm::Sha256).await.unwrap(),
                Some(digest)
            );
            let checkpoint = writer.finish().await.unwrap();
            assert_eq!(checkpoint.offset, length as u64, "{}", bucket.maker);
            expect(&store, &key, &content).await;
            assert!(bucket.unfinished(&key).await.is_empty());
        }
        assert_eq!(store.in_use(), 0);
    })
    .await;
}
