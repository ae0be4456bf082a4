//! Copying a whole catalog into another database, of either kind.
//!
//! The source is read in one snapshot ([`Snapshot`]); [`tables`] says what is in it, and [`target`] writes it, in
//! batches, each with a note of how far it got, so that a copy that was cut goes on.

mod snapshot;
mod tables;
mod target;

use std::collections::BTreeMap;

use serde_json::{Map, Value as Json};

use crate::CatalogError;

pub use snapshot::Snapshot;
pub use tables::{COPIED, Column, Kind, LEFT_OUT, Table};
pub use target::{CopyClaim, CopyItem, CopyStart};

/// What a catalog holds, in figures: per table the number of rows, then a sum over each column.
///
/// Equal figures after a copy say that every row arrived. Other figures than before say that the source was used since.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Figures(BTreeMap<String, Vec<i64>>);

impl Figures {
    /// The number of rows in each table.
    pub fn rows(&self) -> BTreeMap<String, u64> {
        let count = |sums: &Vec<i64>| sums.first().map_or(0, |count| crate::sql::unsigned(*count));
        self.0
            .iter()
            .map(|(table, sums)| (table.clone(), count(sums)))
            .collect()
    }

    /// The first table in which the two differ.
    pub fn difference<'a>(&'a self, other: &'a Self) -> Option<&'a str> {
        let differs = |table: &&String| self.0.get(*table) != other.0.get(*table);
        self.0
            .keys()
            .chain(other.0.keys())
            .find(differs)
            .map(String::as_str)
    }

    fn to_json(&self) -> Json {
        let tables = self
            .0
            .iter()
            .map(|(table, sums)| (table.clone(), Json::from(sums.clone())));
        Json::Object(tables.collect::<Map<_, _>>())
    }

    fn from_json(json: &Json) -> Result<Self, CatalogError> {
        let read = |(table, sums): (&String, &Json)| {
            let sums = sums.as_array()?.iter().map(Json::as_i64);
            Some((table.clone(), sums.collect::<Option<Vec<i64>>>()?))
        };
        json.as_object()
            .and_then(|tables| tables.iter().map(read).collect::<Option<_>>())
            .map(Self)
            .ok_or_else(|| CatalogError::damaged("settings", "the figures of a copy"))
    }
}
