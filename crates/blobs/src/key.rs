//! Names of objects in a store.

use std::{fmt, str::FromStr, sync::Arc};

use granary_oci::Digest;
use uuid::Uuid;

/// A text that names no object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "not an object key: '<2 hex>/<32 hex>' in lower case, the two being the first of the 32, or 'foreign:<path>' is needed"
)]
pub struct ObjectKeyError;

/// The name of an object. Cheap to clone.
///
/// - `ab/ab34…`, a random UUID behind its own first two digits, is an object of ours. It is unique per upload and never
///   derived from a digest, so that deleting an old object can never hurt a new push of the same bytes.
/// - `foreign:<path>` is an object that another registry put into our bucket, by its full name there. A store reads it
///   and never writes or removes it (docs/adr/0010).
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectKey(Arc<str>);

/// What the text of a foreign object's key begins with.
pub const FOREIGN: &str = "foreign:";

const PREFIX_LENGTH: usize = 2;
const NAME_LENGTH: usize = 32;
/// The longest name of an object that S3 allows, in bytes.
const PATH_LENGTH: usize = 1024;

impl ObjectKey {
    /// A key nobody has used.
    pub fn unique() -> Self {
        let name = Uuid::new_v4().simple().to_string();
        Self(format!("{}/{name}", &name[..PREFIX_LENGTH]).into())
    }

    /// The key of an object of another registry, by its full name in our bucket: at most 1024 bytes, in parts that are
    /// neither empty nor `.` nor `..`, without control characters.
    pub fn foreign(path: &str) -> Result<Self, ObjectKeyError> {
        let plain = |part: &str| !matches!(part, "" | "." | "..");
        let good = path.len() <= PATH_LENGTH
            && path.split('/').all(plain)
            && !path.chars().any(char::is_control);
        if !good {
            return Err(ObjectKeyError);
        }
        Ok(Self(format!("{FOREIGN}{path}").into()))
    }

    /// The full name of a foreign object in its bucket; `None` if the object is ours.
    pub fn foreign_path(&self) -> Option<&str> {
        self.0.strip_prefix(FOREIGN)
    }

    /// The key of ours under which a copy of a foreign object lies in another store: always the same one, so that a copy
    /// that was cut, or a later backup, finds what is there. Not for a store that the object's own catalog uses.
    pub fn stand_in(&self) -> Self {
        let digest = Digest::sha256(self.0.as_bytes()).to_string();
        let name = digest.split_once(':').map_or("", |(_, hex)| hex);
        let name = name.get(..NAME_LENGTH).unwrap_or_default();
        Self::from_name(name).unwrap_or_else(Self::unique)
    }

    /// The key as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The key of an object of ours.
    pub(crate) fn own(text: &str) -> Option<Self> {
        let (_, name) = text.split_once('/')?;
        Self::from_name(name).filter(|key| key.as_str() == text)
    }

    /// The two digits that name the directory of an object of ours.
    pub(crate) fn prefix(&self) -> &str {
        &self.0[..PREFIX_LENGTH]
    }

    /// The key of the object called `name`, if that is a name we give.
    pub(crate) fn from_name(name: &str) -> Option<Self> {
        let hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        let well_formed = name.len() == NAME_LENGTH && name.bytes().all(hex);
        well_formed.then(|| Self(format!("{}/{name}", &name[..PREFIX_LENGTH]).into()))
    }
}

impl FromStr for ObjectKey {
    type Err = ObjectKeyError;

    fn from_str(text: &str) -> Result<Self, ObjectKeyError> {
        match text.strip_prefix(FOREIGN) {
            Some(path) => Self::foreign(path),
            None => Self::own(text).ok_or(ObjectKeyError),
        }
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_reads_back() {
        let key = ObjectKey::unique();
        assert_eq!(key.as_str().parse(), Ok(key.clone()));
        assert_ne!(key, ObjectKey::unique());
        assert!(key.as_str().starts_with(key.prefix()));
    }

    #[test]
    fn a_foreign_key_reads_back_and_stays_in_its_bucket() {
        let key = ObjectKey::foreign("docker/registry/v2/blobs/sha256/ab/ab01/data").unwrap();
        assert_eq!(key.as_str().parse(), Ok(key.clone()));
        assert_eq!(
            key.foreign_path(),
            Some("docker/registry/v2/blobs/sha256/ab/ab01/data")
        );
        assert_eq!(ObjectKey::unique().foreign_path(), None);
        assert_eq!(ObjectKey::own(key.as_str()), None);
        let copy = key.stand_in();
        assert_eq!((copy.foreign_path(), &copy), (None, &key.stand_in()));
        assert_ne!(copy, ObjectKey::foreign("elsewhere").unwrap().stand_in());
        let long = "x".repeat(PATH_LENGTH + 1);
        for bad in [
            "", "/a", "a/", "a//b", ".", "a/..", "../a", "a/./b", "a\nb", &long,
        ] {
            assert_eq!(ObjectKey::foreign(bad), Err(ObjectKeyError), "{bad:?}");
            let text = format!("foreign:{bad}");
            assert_eq!(text.parse::<ObjectKey>(), Err(ObjectKeyError), "{bad:?}");
        }
    }

    #[test]
    fn anything_else_is_refused() {
        let name = "0123456789abcdef0123456789abcdef";
        assert!(format!("01/{name}").parse::<ObjectKey>().is_ok());
        let upper = name.to_uppercase();
        for bad in [
            String::new(),
            "/".to_owned(),
            name.to_owned(),
            format!("01{name}"),
            format!("/01/{name}"),
            format!("01/{name}/"),
            format!("01//{name}"),
            format!("02/{name}"),
            format!("../{name}"),
            format!("01/../{name}"),
            format!("01/{name}0"),
            format!("01/{}", &name[1..]),
            format!("01/{upper}"),
            format!("01/{}.", &name[1..]),
            format!("01/{}é", &name[2..]),
            format!("01/{name}\n"),
            format!("01/{name}\0"),
        ] {
            assert_eq!(bad.parse::<ObjectKey>(), Err(ObjectKeyError), "{bad:?}");
        }
    }
}
