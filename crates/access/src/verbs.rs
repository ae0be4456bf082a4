//! What can be given.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use utoipa::ToSchema;

/// One thing that can be given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[repr(u8)]
pub enum Verb {
    /// Read tags, manifests, blobs and referrers.
    Read = 1,
    /// Push blobs and manifests, and create tags.
    Write = 2,
    /// Move tags that stand.
    Update = 4,
    /// Delete tags, manifests and blobs.
    Delete = 8,
    /// Give rights, and change settings and visibility.
    Admin = 16,
    /// Act on accounts: tokens, organisations, teams. Only credentials have it or lack it; nobody is granted it.
    Account = 32,
}

impl Verb {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Read,
        Self::Write,
        Self::Update,
        Self::Delete,
        Self::Admin,
        Self::Account,
    ];

    /// Its name in scopes and grants.
    pub fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Update => "update",
            Self::Delete => "delete",
            Self::Admin => "admin",
            Self::Account => "account",
        }
    }
}

/// A set of verbs. As text and in JSON it is a list of their names.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, ToSchema)]
#[schema(value_type = Vec<Verb>)]
pub struct Verbs(u8);

impl Verbs {
    /// Nothing.
    pub const NONE: Self = Self(0);
    /// Read.
    pub const READ: Self = Self(Verb::Read as u8);
    /// What the role `write` has: read, write and update.
    pub const WRITER: Self = Self(Verb::Read as u8 | Verb::Write as u8 | Verb::Update as u8);
    /// What is about content: all but `admin` and `account`.
    pub const CONTENT: Self = Self(15);
    /// Everything that can be granted in a repository.
    pub const EVERYTHING: Self = Self(31);
    /// Everything that a credential without scopes may.
    pub const UNLIMITED: Self = Self(63);

    /// The set that the catalog keeps as a number; `None` if it has a bit of no verb.
    pub fn from_bits(bits: i16) -> Option<Self> {
        let bits = u8::try_from(bits).ok()?;
        (bits & !Self::UNLIMITED.0 == 0).then_some(Self(bits))
    }

    /// The number that the catalog keeps.
    pub fn bits(self) -> i16 {
        self.0.into()
    }

    /// Whether `verb` is in the set.
    pub fn has(self, verb: Verb) -> bool {
        self.0 & verb as u8 != 0
    }

    /// What is in either set.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// What is in both sets.
    #[must_use]
    pub fn within(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// The verbs, in their order.
    pub fn iter(self) -> impl Iterator<Item = Verb> {
        Verb::ALL.into_iter().filter(move |verb| self.has(*verb))
    }
}

impl From<Verb> for Verbs {
    fn from(verb: Verb) -> Self {
        Self(verb as u8)
    }
}

impl FromIterator<Verb> for Verbs {
    fn from_iter<I: IntoIterator<Item = Verb>>(verbs: I) -> Self {
        verbs
            .into_iter()
            .fold(Self::NONE, |set, verb| set.and(verb.into()))
    }
}

impl fmt::Display for Verbs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, verb) in self.iter().enumerate() {
            if number > 0 {
                f.write_str(",")?;
            }
            f.write_str(verb.name())?;
        }
        Ok(())
    }
}

impl fmt::Debug for Verbs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{{{self}}}")
    }
}

impl Serialize for Verbs {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter())
    }
}

impl<'de> Deserialize<'de> for Verbs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Vec::<Verb>::deserialize(deserializer)?
            .into_iter()
            .collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_set_is_known_by_its_number_and_its_text() {
        for bits in 0..64 {
            let verbs = Verbs::from_bits(bits).unwrap();
            assert_eq!(verbs.bits(), bits);
            let again: Verbs = verbs.iter().collect();
            assert_eq!(again, verbs);
        }
        for bits in [-1, 64, 127, i16::MAX] {
            assert_eq!(Verbs::from_bits(bits), None);
        }
        assert_eq!(Verbs::WRITER.to_string(), "read,write,update");
        assert!(!Verbs::EVERYTHING.has(Verb::Account));
    }
}
