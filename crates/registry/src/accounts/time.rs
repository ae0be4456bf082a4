//! Times in reports: RFC 3339.

use jiff::Timestamp;
use serde::Serializer;

/// Microseconds since 1970 as RFC 3339.
pub(super) fn serialize<S: Serializer>(micros: &i64, serializer: S) -> Result<S::Ok, S::Error> {
    match Timestamp::from_microsecond(*micros) {
        Ok(time) => serializer.collect_str(&time),
        // One that no calendar has.
        Err(_) => serializer.serialize_none(),
    }
}

/// When something ends, for people: without fractions of a second.
pub(super) fn end(micros: Option<i64>) -> String {
    let time = micros.and_then(|micros| Timestamp::from_second(micros / 1_000_000).ok());
    match time {
        Some(time) => format!("ends at {time}"),
        None => "does not end by itself".to_owned(),
    }
}

/// Microseconds since 1970 as RFC 3339, or nothing.
pub(super) mod optional {
    use super::Serializer;

    pub(in crate::accounts) fn serialize<S: Serializer>(
        micros: &Option<i64>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match micros {
            Some(micros) => super::serialize(micros, serializer),
            None => serializer.serialize_none(),
        }
    }
}
