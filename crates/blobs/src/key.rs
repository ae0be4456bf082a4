//! Names of objects in a store.

use std::{fmt, str::FromStr, sync::Arc};

use uuid::Uuid;

/// A text that names no object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "not an object key: '<2 hex>/<32 hex>' in lower case, the two being the first of the 32, is needed"
)]
pub struct ObjectKeyError;

/// `ab/ab34…`: a random UUID behind its own first two digits. Cheap to clone.
///
/// Unique per upload and never derived from a digest, so that deleting an old object can never hurt a new push of
/// the same bytes.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectKey(Arc<str>);

const PREFIX_LENGTH: usize = 2;
const NAME_LENGTH: usize = 32;

impl ObjectKey {
    /// A key nobody has used.
    pub fn unique() -> Self {
        let name = Uuid::new_v4().simple().to_string();
        Self(format!("{}/{name}", &name[..PREFIX_LENGTH]).into())
    }

    /// The key as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The two digits that name the object's directory.
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
        let (_, name) = text.split_once('/').ok_or(ObjectKeyError)?;
        Self::from_name(name)
            .filter(|key| key.as_str() == text)
            .ok_or(ObjectKeyError)
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
