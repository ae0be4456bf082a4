//! How values appear in a file and in the environment: serde modules for `#[serde(with = ...)]`.

use std::{fmt, str::FromStr, time::Duration};

use serde::{Deserialize, Deserializer, Serializer, de};

use super::units::{parse_duration, parse_size, show_duration, show_size};

/// A value by its `FromStr` and `Display`: one way in, one way out.
pub(super) mod text {
    use super::*;

    pub(in crate::config) fn deserialize<'de, D, T>(deserializer: D) -> Result<T, D::Error>
    where
        D: Deserializer<'de>,
        T: FromStr<Err: std::fmt::Display>,
    {
        String::deserialize(deserializer)?
            .parse()
            .map_err(de::Error::custom)
    }

    pub(in crate::config) fn serialize<S: Serializer>(
        value: &impl fmt::Display,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_str(value)
    }
}

/// [`text`] for a key without a default.
pub(super) mod optional_text {
    use super::*;

    pub(in crate::config) fn deserialize<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
    where
        D: Deserializer<'de>,
        T: FromStr<Err: std::fmt::Display>,
    {
        text::deserialize(deserializer).map(Some)
    }

    pub(in crate::config) fn serialize<S: Serializer>(
        value: &Option<impl fmt::Display>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match value {
            Some(value) => serializer.collect_str(value),
            None => serializer.serialize_none(),
        }
    }
}

/// A list: a TOML array, or one comma-separated text, which is the form the environment has.
pub(super) mod list {
    use super::*;

    pub(in crate::config) fn deserialize<'de, D, T>(deserializer: D) -> Result<Vec<T>, D::Error>
    where
        D: Deserializer<'de>,
        T: FromStr<Err: std::fmt::Display>,
    {
        #[derive(Deserialize)]
        #[serde(untagged, expecting = "expected a list of texts")]
        enum Form {
            Text(String),
            Array(Vec<String>),
        }
        let items = match Form::deserialize(deserializer)? {
            Form::Text(text) => text
                .split(',')
                .map(str::trim)
                .filter(|item| !item.is_empty())
                .map(str::to_owned)
                .collect(),
            Form::Array(items) => items,
        };
        items
            .iter()
            .map(|item| item.parse().map_err(de::Error::custom))
            .collect()
    }

    pub(in crate::config) fn serialize<S: Serializer>(
        value: &[impl fmt::Display],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(value.iter().map(ToString::to_string))
    }
}

/// Serde of a duration as text.
pub(super) mod duration {
    use super::*;

    pub(in crate::config) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Duration, D::Error> {
        parse_duration(&String::deserialize(deserializer)?).map_err(de::Error::custom)
    }

    pub(in crate::config) fn serialize<S: Serializer>(
        value: &Duration,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&show_duration(*value))
    }
}

/// Serde of a duration that must not be zero, because something happens every so often.
pub(super) mod period {
    use super::*;

    pub(in crate::config) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Duration, D::Error> {
        let period = duration::deserialize(deserializer)?;
        if period < Duration::from_secs(1) {
            return Err(de::Error::custom("one second is the least"));
        }
        Ok(period)
    }

    pub(in crate::config) use super::duration::serialize;
}

/// Serde of a number of bytes: an integer, or text with a unit.
pub(super) mod size {
    use super::*;

    struct Visitor;

    impl de::Visitor<'_> for Visitor {
        type Value = u64;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a number of bytes")
        }

        fn visit_u64<E: de::Error>(self, value: u64) -> Result<u64, E> {
            Ok(value)
        }

        fn visit_i64<E: de::Error>(self, value: i64) -> Result<u64, E> {
            u64::try_from(value).map_err(|_| E::custom("a size is not negative"))
        }

        fn visit_str<E: de::Error>(self, value: &str) -> Result<u64, E> {
            parse_size(value).map_err(E::custom)
        }
    }

    pub(in crate::config) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<u64, D::Error> {
        deserializer.deserialize_any(Visitor)
    }

    pub(in crate::config) fn serialize<S: Serializer>(
        value: &u64,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&show_size(*value))
    }
}
