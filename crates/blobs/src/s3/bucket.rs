//! The requests about one object, each with its name in our words.

use std::time::Duration;

use aws_config::{retry::RetryConfig, timeout::TimeoutConfig};
use aws_sdk_s3::{
    Client,
    config::http::HttpResponse,
    error::{ProvideErrorMetadata, SdkError},
    operation::{
        complete_multipart_upload::CompleteMultipartUploadError, put_object::PutObjectError,
    },
    types::{
        ChecksumAlgorithm, ChecksumMode, ChecksumType, CompletedMultipartUpload, CompletedPart,
    },
};

use super::{
    config::ANSWER,
    failure::{failed, status},
    part::Part,
    removal,
    state::{Multipart, StoredPart, fits_etag, fits_upload, is_joined_etag},
};
use crate::{ObjectKey, RemoteFailure, StoreError};

/// How long joining the parts of an object may take: servers that copy them need their time.
const JOINING: Duration = Duration::from_secs(300);

/// What a request with a body is granted for each byte, besides [`ANSWER`]: 128 KiB a second.
const BYTES_PER_SECOND: u64 = 128 * 1024;

/// Attempts at beginning an upload.
const BEGINNINGS: u32 = 4;

/// The name under which an object tells which writer put it there.
const WRITER: &str = "granary-writer";

/// One bucket as this store uses it.
pub(super) struct Bucket {
    pub(super) client: Client,
    pub(super) links: Client,
    pub(super) name: String,
    pub(super) endpoint: Option<String>,
    pub(super) prefix: String,
}

/// An object as the server describes it.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) length: u64,
    pub(super) etag: Option<String>,
    /// Who put it there, if that was noted.
    pub(super) writer: Option<String>,
    /// The CRC-32C of all its bytes, if the server keeps it.
    pub(super) crc: Option<u32>,
}

impl Head {
    /// Whether the object was joined of exactly these parts, if the server lets us see that.
    pub(super) fn is_joined_of(&self, multipart: &Multipart) -> Option<bool> {
        if let Some(crc) = self.crc {
            return Some(crc == multipart.crc());
        }
        // An ETag of another form than that of joined objects follows rules of its own.
        let etag = self.etag.as_ref()?;
        let expected = multipart.etag()?;
        is_joined_etag(etag).then(|| *etag == expected)
    }
}

/// What must be true of the present object for a new one to take its place.
#[derive(Clone, Debug)]
pub(super) enum Place {
    /// There is none.
    Free,
    /// It is the one with this ETag.
    Holds(String),
}

/// How an attempt to put an object ended.
pub(super) enum Put {
    Done,
    /// The place is not as it was said to be.
    Taken,
}

/// How an attempt to join the parts ended.
pub(super) enum Joined {
    Done,
    /// The answer leaves it open whether there is an object now.
    Unclear(RemoteFailure),
}

impl Bucket {
    /// The full name of an object.
    pub(super) fn path(&self, key: &ObjectKey) -> String {
        match key.foreign_path() {
            Some(path) => path.to_owned(),
            None => format!("{}blobs/{key}", self.prefix),
        }
    }

    /// The object's description, or `None` if there is no object.
    pub(super) async fn head(&self, key: &ObjectKey) -> Result<Option<Head>, StoreError> {
        let answer = self
            .client
            .head_object()
            .bucket(&self.name)
            .key(self.path(key))
            .checksum_mode(ChecksumMode::Enabled)
            .send()
            .await;
        let head = match answer {
            Ok(head) => head,
            Err(error) if status(&error) == Some(404) => return Ok(None),
            Err(error) => return Err(failed("looking at", Some(key))(error)),
        };
        // A sum of sums says nothing about the bytes as a whole.
        let whole = head.checksum_type() != Some(&ChecksumType::Composite);
        Ok(Some(Head {
            length: head
                .content_length()
                .and_then(|n| n.try_into().ok())
                .unwrap_or(0),
            crc: head
                .checksum_crc32_c()
                .filter(|_| whole)
                .and_then(decode_crc),
            writer: head
                .metadata()
                .and_then(|metadata| metadata.get(WRITER))
                .cloned(),
            etag: head.e_tag,
        }))
    }

    /// Makes the object of `part` alone, if its place is as said.
    pub(super) async fn put(
        &self,
        key: &ObjectKey,
        part: &Part,
        writer: &str,
        place: &Place,
    ) -> Result<Put, StoreError> {
        let request = self
            .client
            .put_object()
            .bucket(&self.name)
            .key(self.path(key))
            .metadata(WRITER, writer)
            .checksum_crc32_c(encode_crc(part.crc()))
            .body(part.body());
        let request = match place {
            Place::Free => request.if_none_match("*"),
            Place::Holds(etag) => request.if_match(etag),
        };
        let answer = request
            .customize()
            .disable_payload_signing()
            .config_override(patience(patience_for(part)))
            .send()
            .await;
        match answer {
            Ok(_) => Ok(Put::Done),
            Err(error) if is_conflict(&error, place) => Ok(Put::Taken),
            Err(error) => Err(failed("writing", Some(key))(error)),
        }
    }

    /// Begins an object of several parts.
    pub(super) async fn begin(&self, key: &ObjectKey) -> Result<String, StoreError> {
        let action = "beginning";
        let mut attempt = 1;
        let answer = loop {
            let answer = self
                .client
                .create_multipart_upload()
                .bucket(&self.name)
                .key(self.path(key))
                .checksum_algorithm(ChecksumAlgorithm::Crc32C)
                .checksum_type(ChecksumType::FullObject)
                .customize()
                // A repetition by the SDK would leave an upload behind that nobody knows of.
                .config_override(
                    aws_sdk_s3::config::Builder::new().retry_config(RetryConfig::disabled()),
                )
                .send()
                .await;
            let error = match answer {
                Ok(answer) => break answer,
                Err(error) => failed(action, Some(key))(error),
            };
            if !error.is_transient() || attempt == BEGINNINGS {
                return Err(error);
            }
            // It may have begun all the same: what there is of this key is not in use yet.
            for upload in removal::unfinished(self, key).await? {
                self.abort(key, &upload).await?;
            }
            attempt += 1;
        };
        answer
            .upload_id
            .filter(|upload| fits_upload(upload))
            .ok_or_else(|| {
                let reason = "the server gave no upload id".to_owned();
                RemoteFailure::new(action, Some(key), reason).into()
            })
    }

    /// The parts of an upload as the server lists them, without their checksums, which not every server remembers.
    pub(super) async fn parts(
        &self,
        key: &ObjectKey,
        upload: &str,
    ) -> Result<Vec<StoredPart>, StoreError> {
        let mut pages = self
            .client
            .list_parts()
            .bucket(&self.name)
            .key(self.path(key))
            .upload_id(upload)
            .into_paginator()
            .send();
        let mut parts = Vec::new();
        while let Some(page) = pages.next().await {
            let page = page.map_err(failed("listing the parts of", Some(key)))?;
            parts.extend(page.parts().iter().filter_map(|part| {
                Some(StoredPart {
                    number: part.part_number()?.try_into().ok()?,
                    size: part.size()?.try_into().ok()?,
                    crc: 0,
                    etag: part.e_tag().filter(|etag| fits_etag(etag))?.to_owned(),
                })
            }));
        }
        Ok(parts)
    }

    /// Sends a part.
    pub(super) async fn send(
        &self,
        key: &ObjectKey,
        upload: &str,
        number: u32,
        part: &Part,
    ) -> Result<StoredPart, StoreError> {
        let action = "sending a part of";
        let answer = self
            .client
            .upload_part()
            .bucket(&self.name)
            .key(self.path(key))
            .upload_id(upload)
            .part_number(number as i32)
            .checksum_crc32_c(encode_crc(part.crc()))
            .body(part.body())
            .customize()
            .disable_payload_signing()
            .config_override(patience(patience_for(part)))
            .send()
            .await;
        let answer = match answer {
            Ok(answer) => answer,
            // The upload has ended: finished by another writer, or aborted.
            Err(error) if error.code() == Some("NoSuchUpload") => {
                return Err(StoreError::Missing { key: key.clone() });
            }
            Err(error) => return Err(failed(action, Some(key))(error)),
        };
        let refused = |reason: &str| {
            StoreError::from(RemoteFailure::new(action, Some(key), reason.to_owned()))
        };
        if let Some(crc) = answer.checksum_crc32_c()
            && decode_crc(crc) != Some(part.crc())
        {
            return Err(refused("the server has other bytes than were sent"));
        }
        let etag = answer.e_tag.filter(|etag| fits_etag(etag));
        Ok(StoredPart {
            number,
            size: part.length(),
            crc: part.crc(),
            etag: etag.ok_or_else(|| refused("the server gave no ETag"))?,
        })
    }

    /// Makes the object of its parts.
    pub(super) async fn join(
        &self,
        key: &ObjectKey,
        multipart: &Multipart,
    ) -> Result<Joined, StoreError> {
        let parts = multipart
            .parts
            .iter()
            .map(|part| {
                CompletedPart::builder()
                    .part_number(part.number as i32)
                    .e_tag(&part.etag)
                    .checksum_crc32_c(encode_crc(part.crc))
                    .build()
            })
            .collect();
        let answer = self
            .client
            .complete_multipart_upload()
            .bucket(&self.name)
            .key(self.path(key))
            .upload_id(&multipart.upload)
            .checksum_type(ChecksumType::FullObject)
            .checksum_crc32_c(encode_crc(multipart.crc()))
            .multipart_upload(
                CompletedMultipartUpload::builder()
                    .set_parts(Some(parts))
                    .build(),
            )
            .customize()
            .config_override(patience(JOINING))
            .send()
            .await;
        match answer {
            Ok(_) => Ok(Joined::Done),
            Err(error) => {
                let failure = super::failure::failure("joining the parts of", Some(key), &error);
                if failure.transient || is_unclear(&error) {
                    Ok(Joined::Unclear(failure))
                } else {
                    Err(failure.into())
                }
            }
        }
    }

    /// Ends a multipart upload that will never become an object; one that is gone already is success.
    pub(super) async fn abort(&self, key: &ObjectKey, upload: &str) -> Result<(), StoreError> {
        let answer = self
            .client
            .abort_multipart_upload()
            .bucket(&self.name)
            .key(self.path(key))
            .upload_id(upload)
            .send()
            .await;
        match answer {
            Ok(_) => Ok(()),
            Err(error) if status(&error) == Some(404) => Ok(()),
            Err(error) => Err(failed("ending the upload of", Some(key))(error)),
        }
    }
}

/// Whether an object is where none, or another one, was expected.
fn is_conflict(error: &SdkError<PutObjectError, HttpResponse>, place: &Place) -> bool {
    match status(error) {
        Some(409 | 412) => true,
        // "It must be that object" fails so where there is none.
        Some(404) => matches!(place, Place::Holds(_)) && error.code() != Some("NoSuchBucket"),
        _ => false,
    }
}

/// Whether the parts may have been joined by a request whose answer was lost.
fn is_unclear(error: &SdkError<CompleteMultipartUploadError, HttpResponse>) -> bool {
    error.code() == Some("NoSuchUpload") || !matches!(error, SdkError::ServiceError(_))
}

fn patience_for(part: &Part) -> Duration {
    ANSWER + Duration::from_secs(part.length() / BYTES_PER_SECOND)
}

fn patience(attempt: Duration) -> aws_sdk_s3::config::Builder {
    aws_sdk_s3::Config::builder().timeout_config(
        TimeoutConfig::builder()
            .operation_attempt_timeout(attempt)
            .build(),
    )
}

/// The form of a CRC-32C in headers: Base64 of its four bytes, the highest first.
pub(super) fn encode_crc(crc: u32) -> String {
    aws_smithy_types::base64::encode(crc.to_be_bytes())
}

fn decode_crc(text: &str) -> Option<u32> {
    let bytes = aws_smithy_types::base64::decode(text).ok()?;
    Some(u32::from_be_bytes(bytes.try_into().ok()?))
}
