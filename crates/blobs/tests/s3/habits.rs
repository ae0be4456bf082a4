//! What the store relies on a server for.

use aws_sdk_s3::primitives::ByteStream;

use crate::servers::{Bucket, everywhere};

const CONTENT: &[u8] = b"123456789";

/// The CRC-32C of [`CONTENT`] in Base64, and of other bytes.
const RIGHT: &str = "4waSgw==";
const WRONG: &str = "4waShA==";

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_checksum_is_refused() {
    everywhere(|bucket: Bucket| async move {
        for (crc, accepted) in [(RIGHT, true), (WRONG, false)] {
            let put = bucket
                .client
                .put_object()
                .bucket(bucket.name())
                .key(format!("{}sum", bucket.config.prefix))
                .checksum_crc32_c(crc)
                .body(ByteStream::from_static(CONTENT))
                .customize()
                .disable_payload_signing()
                .send()
                .await;
            assert_eq!(put.is_ok(), accepted, "{} put {crc}: {put:?}", bucket.maker);
        }
        let upload = bucket
            .client
            .create_multipart_upload()
            .bucket(bucket.name())
            .key(format!("{}sums", bucket.config.prefix))
            .send()
            .await
            .expect("an upload");
        for (crc, accepted) in [(RIGHT, true), (WRONG, false)] {
            let sent = bucket
                .client
                .upload_part()
                .bucket(bucket.name())
                .key(format!("{}sums", bucket.config.prefix))
                .upload_id(upload.upload_id().expect("an id"))
                .part_number(1)
                .checksum_crc32_c(crc)
                .body(ByteStream::from_static(CONTENT))
                .customize()
                .disable_payload_signing()
                .send()
                .await;
            assert_eq!(
                sent.is_ok(),
                accepted,
                "{} part {crc}: {sent:?}",
                bucket.maker
            );
        }
    })
    .await;
}
