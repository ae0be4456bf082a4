//! The store in a bucket, on two real servers of different make.
#![expect(clippy::expect_used, reason = "helpers of tests")]

mod browsing;
mod faults;
mod habits;
mod opening;
mod proxy;
mod removals;
mod servers;
mod sharing;
mod uploads;

use granary_blobs::suite;
use servers::{Bucket, everywhere};

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_passes_the_suite() {
    everywhere(|bucket: Bucket| async move {
        suite::run(&bucket.store().await).await;
    })
    .await;
}
