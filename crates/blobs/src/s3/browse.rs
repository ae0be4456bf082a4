//! A bucket as another program filled it: a tree of folders, only read.

use std::sync::Arc;

use aws_sdk_s3::types::EncodingType;

use super::{S3Config, bucket::Bucket, failure::failed, opening, reader, watch::Watch};
use crate::{BlobStream, ObjectKey, StoreError};

/// Reads whatever lies in a bucket. Cheap to clone.
#[derive(Clone)]
pub struct BucketReader {
    bucket: Arc<Bucket>,
}

/// What lies directly below a folder, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FolderPage {
    /// At most 1000 names.
    pub entries: Vec<Named>,
    /// Where the next page begins, if there is one.
    pub next: Option<String>,
}

/// A name in a folder. Nothing keeps a bucket from having a folder and an object of the same name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// The part of the key behind the folder's name; any text without a slash, even an empty one.
    pub name: String,
    /// Whether keys go on behind it.
    pub is_folder: bool,
}

impl BucketReader {
    /// Opens the bucket, asking the server once whether it may be listed. `config.prefix` does not count.
    pub async fn open(config: S3Config) -> Result<Self, StoreError> {
        // Not the store's figures: what another bucket answers says nothing about the own one.
        let (client, links) = config.clients(Watch(Arc::default())).await?;
        let reader = Self {
            bucket: Arc::new(Bucket {
                client,
                links,
                name: config.bucket,
                endpoint: config.endpoint,
                prefix: String::new(),
            }),
        };
        opening::probe(&reader.bucket, "list and read").await?;
        Ok(reader)
    }

    pub(super) fn of(bucket: &Arc<Bucket>) -> Self {
        Self {
            bucket: Arc::clone(bucket),
        }
    }

    /// Whether this is the bucket of that name.
    pub fn has_name(&self, name: &str) -> bool {
        self.bucket.name == name
    }

    /// Whether both read the same bucket of the same server, as far as their settings tell.
    pub fn is_bucket(&self, name: &str, endpoint: Option<&str>) -> bool {
        let plain = |endpoint: &str| endpoint.trim_end_matches('/').to_ascii_lowercase();
        self.bucket.name == name
            && self.bucket.endpoint.as_deref().map(plain) == endpoint.map(plain)
    }

    /// A page of what lies directly below `folder`, which is empty or ends with a slash; `from` is the `next` of the page
    /// before. A folder that is not there is empty.
    pub async fn list(&self, folder: &str, from: Option<String>) -> Result<FolderPage, StoreError> {
        let bucket = &self.bucket;
        let page = bucket
            .client
            .list_objects_v2()
            .bucket(&bucket.name)
            .prefix(folder)
            .delimiter("/")
            .set_continuation_token(from)
            // Names may have characters that XML cannot hold.
            .encoding_type(EncodingType::Url)
            .send()
            .await
            .map_err(failed("listing objects", None))?;
        let encoded = page.encoding_type() == Some(&EncodingType::Url);
        let below = |key: &str| {
            let key = if encoded {
                decoded(key)
            } else {
                key.to_owned()
            };
            key.strip_prefix(folder).map(str::to_owned)
        };
        let folders = page.common_prefixes().iter().filter_map(|common| {
            let name = below(common.prefix()?)?;
            Some(Named {
                name: name.strip_suffix('/').unwrap_or(&name).to_owned(),
                is_folder: true,
            })
        });
        let objects = page.contents().iter().filter_map(|object| {
            let name = below(object.key()?)?;
            // Some tools put an empty object in the place of a folder.
            (!name.is_empty()).then_some(Named {
                name,
                is_folder: false,
            })
        });
        let mut entries: Vec<_> = folders.chain(objects).collect();
        entries.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        let next = page
            .next_continuation_token
            .filter(|_| page.is_truncated == Some(true));
        Ok(FolderPage { entries, next })
    }

    /// The length of an object in bytes, and its bytes; `None` if there is no such object.
    ///
    /// A stream that breaks is taken up again, of the same object; one that cannot be ends with an error.
    pub async fn read(&self, key: &ObjectKey) -> Result<Option<(u64, BlobStream)>, StoreError> {
        reader::whole(&self.bucket, key).await
    }
}

/// Undoes the encoding of a listing: `%` and two hex digits for a byte, `+` for a space.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, behind)) = rest.split_first() {
        rest = behind;
        let hex = behind
            .get(..2)
            .and_then(|hex| std::str::from_utf8(hex).ok());
        let byte = hex.and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match (first, byte) {
            (b'%', Some(byte)) => {
                bytes.push(byte);
                rest = behind.get(2..).unwrap_or_default();
            }
            (b'+', _) => bytes.push(b' '),
            (other, _) => bytes.push(*other),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::decoded;

    #[test]
    fn names_of_a_listing_are_decoded() {
        for (text, name) in [
            ("docker/registry/v2/", "docker/registry/v2/"),
            ("a%20b+c", "a b c"),
            ("100%25", "100%"),
            ("%C3%A9%0A", "é\n"),
            ("%", "%"),
            ("%zz", "%zz"),
        ] {
            assert_eq!(decoded(text), name);
        }
    }
}
