//! What is asked of an import.

use std::{fmt, path::PathBuf, str::FromStr};

use granary_blobs::S3Config;

/// What is to be imported.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ImportRequest {
    /// Where it lies.
    pub source: ImportSource,
    /// Where a layout goes; what stands before the names of a storage tree.
    pub repository: Option<granary_oci::RepositoryName>,
    /// Only look.
    pub dry_run: bool,
    /// Blobs stay where they are: files of the blob folder's file system, objects of this installation's bucket.
    #[serde(default)]
    pub in_place: bool,
}

/// Where an import reads from.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ImportSource {
    /// A folder or a tar archive.
    Path(PathBuf),
    /// A bucket, or a part of one.
    Bucket(BucketAddress, BucketAccess),
}

impl fmt::Display for ImportSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) => path.display().fmt(f),
            Self::Bucket(address, _) => address.fmt(f),
        }
    }
}

impl ImportSource {
    /// How errors name a place in it.
    pub(super) fn join(&self, name: &str) -> PathBuf {
        match self {
            Self::Path(path) => path.join(name),
            Self::Bucket(address, _) => PathBuf::from(address.to_string()).join(name),
        }
    }
}

/// A text that is no address of a bucket.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "'{0}' is no address of a bucket: s3://BUCKET or s3://BUCKET/PREFIX is needed, the prefix without empty parts, '.' and '..'"
)]
pub struct BucketAddressError(String);

/// `s3://BUCKET/PREFIX`: the keys of a bucket below a prefix, which ends where a folder's name would end.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct BucketAddress {
    bucket: String,
    prefix: String,
}

/// What an address of a bucket begins with.
const SCHEME: &str = "s3://";

impl BucketAddress {
    /// Whether a text is meant as one.
    pub fn is_meant_by(text: &str) -> bool {
        text.starts_with(SCHEME)
    }

    /// The bucket's name.
    pub fn bucket(&self) -> &str {
        &self.bucket
    }

    /// The prefix without slashes at its ends; empty for the whole bucket.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }
}

impl FromStr for BucketAddress {
    type Err = BucketAddressError;

    fn from_str(text: &str) -> Result<Self, BucketAddressError> {
        let bad = || BucketAddressError(text.escape_debug().to_string());
        let rest = text.strip_prefix(SCHEME).ok_or_else(bad)?;
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let prefix = prefix.strip_suffix('/').unwrap_or(prefix);
        let plain =
            |part: &str| !matches!(part, "" | "." | "..") && !part.chars().any(char::is_control);
        if !plain(bucket) || !(prefix.is_empty() || prefix.split('/').all(plain)) {
            return Err(bad());
        }
        Ok(Self {
            bucket: bucket.to_owned(),
            prefix: prefix.to_owned(),
        })
    }
}

impl fmt::Display for BucketAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SCHEME}{}", self.bucket)?;
        match &*self.prefix {
            "" => Ok(()),
            prefix => write!(f, "/{prefix}"),
        }
    }
}

impl TryFrom<String> for BucketAddress {
    type Error = BucketAddressError;

    fn try_from(text: String) -> Result<Self, BucketAddressError> {
        text.parse()
    }
}

impl From<BucketAddress> for String {
    fn from(address: BucketAddress) -> Self {
        address.to_string()
    }
}

/// How the server of a bucket is reached. The fields mean what the settings of `[storage.s3]` do.
#[derive(Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct BucketAccess {
    /// Address of the server; AWS's for the region if there is none.
    pub endpoint: Option<String>,
    /// The region, which takes part in signatures.
    pub region: String,
    /// Whether the bucket stands in the path of an address instead of the host name.
    pub path_style: bool,
    /// Access key; without one the usual places are asked by the process that reads.
    pub access_key_id: Option<String>,
    /// Secret key that belongs to the access key.
    pub secret_access_key: Option<String>,
    /// Certificates to be trusted besides the system's, in PEM.
    pub ca_file: Option<PathBuf>,
}

impl BucketAccess {
    pub(super) fn config(&self, address: &BucketAddress) -> S3Config {
        S3Config {
            endpoint: self.endpoint.clone(),
            access_key_id: self.access_key_id.clone(),
            secret_access_key: self.secret_access_key.clone().map(Into::into),
            path_style: self.path_style,
            ca_file: self.ca_file.clone(),
            ..S3Config::new(&self.region, address.bucket())
        }
    }
}

/// Keys stay out, because one of them is secret.
impl fmt::Debug for BucketAccess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BucketAccess")
            .field("endpoint", &self.endpoint)
            .field("region", &self.region)
            .field("path_style", &self.path_style)
            .field("ca_file", &self.ca_file)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_read_back() {
        for (text, bucket, prefix) in [
            ("s3://b", "b", ""),
            ("s3://b/", "b", ""),
            ("s3://my.bucket/old/registry/", "my.bucket", "old/registry"),
        ] {
            let address: BucketAddress = text.parse().unwrap();
            assert_eq!((address.bucket(), address.prefix()), (bucket, prefix));
            assert_eq!(address.to_string().parse(), Ok(address));
        }
        for bad in [
            "",
            "b",
            "s3:/b",
            "s3://",
            "s3:///p",
            "s3://b//p",
            "s3://b/p//",
            "s3://b/../p",
            "s3://b/.",
            "s3://b/a\nb",
            "S3://b",
        ] {
            assert!(bad.parse::<BucketAddress>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_secret_is_not_shown() {
        let access = BucketAccess {
            endpoint: None,
            region: "here".to_owned(),
            path_style: false,
            access_key_id: Some("id".to_owned()),
            secret_access_key: Some("hunter2".to_owned()),
            ca_file: None,
        };
        assert!(!format!("{access:?}").contains("hunter2"));
    }
}
