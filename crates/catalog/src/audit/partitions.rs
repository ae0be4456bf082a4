//! The months that the log is divided into on PostgreSQL, so that what is old goes by whole tables.
//!
//! A table is made apart and then attached: that takes no lock that a reader or writer of the log would wait for. There is
//! no partition for what fits nowhere else, as each later one would have to be compared with it under a lock.

use std::{collections::BTreeSet, fmt, str::FromStr};

use jiff::{Timestamp, civil, tz::TimeZone};
use sea_orm::{ConnectionTrait, FromQueryResult};
use serde::{Deserialize, Serialize};

use crate::{CatalogError, dialect::Dialect, sql, writer::Write};

/// A month of the calendar, in UTC, from 1970 to 9998.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Month {
    year: i16,
    /// From 1.
    month: i8,
}

/// Why a text is no month.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is no month: write it as YYYY-MM, such as 2026-11")]
pub struct MonthError(String);

/// Years that have all of their months, and a next one.
const YEARS: std::ops::RangeInclusive<i16> = 1970..=9998;
/// What the name of a partition begins with.
const PREFIX: &str = "audit_log_y";

impl Month {
    /// The month of a time in microseconds since 1970, if that is in one.
    pub fn of(at: i64) -> Option<Self> {
        let date = Timestamp::from_microsecond(at).ok()?;
        let date = date.to_zoned(TimeZone::UTC).date();
        Self::new(date.year(), date.month())
    }

    fn new(year: i16, month: i8) -> Option<Self> {
        (YEARS.contains(&year) && (1..=12).contains(&month)).then_some(Self { year, month })
    }

    /// When it begins, in microseconds since 1970.
    pub fn begin(self) -> i64 {
        let first = civil::date(self.year, self.month, 1).to_zoned(TimeZone::UTC);
        // Every month of these years has a first day.
        first.map_or(0, |first| first.timestamp().as_microsecond())
    }

    /// When the next one begins.
    pub fn end(self) -> i64 {
        let (year, month) = self.following();
        Self { year, month }.begin()
    }

    fn following(self) -> (i16, i8) {
        match self.month {
            12 => (self.year + 1, 1),
            month => (self.year, month + 1),
        }
    }

    fn next(self) -> Option<Self> {
        let (year, month) = self.following();
        Self::new(year, month)
    }

    /// The table of its rows.
    fn table(self) -> String {
        format!("{PREFIX}{:04}m{:02}", self.year, self.month)
    }

    /// The reverse of [`Self::table`].
    fn of_table(name: &str) -> Option<Self> {
        let (year, month) = name.strip_prefix(PREFIX)?.split_once('m')?;
        Self::new(year.parse().ok()?, month.parse().ok()?)
    }
}

impl fmt::Display for Month {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}-{:02}", self.year, self.month)
    }
}

impl FromStr for Month {
    type Err = MonthError;

    fn from_str(text: &str) -> Result<Self, MonthError> {
        let digits = |text: &str, number| {
            (text.len() == number && text.bytes().all(|byte| byte.is_ascii_digit())).then_some(())
        };
        let parsed = || {
            let (year, month) = text.split_once('-')?;
            digits(year, 4)?;
            digits(month, 2)?;
            Self::new(year.parse().ok()?, month.parse().ok()?)
        };
        parsed().ok_or_else(|| MonthError(text.to_owned()))
    }
}

impl TryFrom<String> for Month {
    type Error = MonthError;

    fn try_from(text: String) -> Result<Self, MonthError> {
        text.parse()
    }
}

impl From<Month> for String {
    fn from(month: Month) -> Self {
        month.to_string()
    }
}

/// The month of a row, which has to be in one.
pub(super) fn month_of(at: i64) -> Result<Month, CatalogError> {
    Month::of(at).ok_or_else(|| {
        CatalogError::damaged(
            "audit_pending",
            format!("the time {at} of a row is in none of the years that the log holds"),
        )
    })
}

#[derive(FromQueryResult)]
struct Partition {
    name: String,
}

/// The months that have a table, oldest first; none on SQLite.
pub(super) async fn partitions(
    connection: &impl ConnectionTrait,
    dialect: Dialect,
) -> Result<BTreeSet<Month>, CatalogError> {
    if dialect == Dialect::Sqlite {
        return Ok(BTreeSet::new());
    }
    let query = "SELECT c.relname::text AS name FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid \
                 WHERE i.inhparent = 'audit_log'::regclass";
    let found: Vec<Partition> = sql::all(connection, query, []).await?;
    Ok(found
        .iter()
        .filter_map(|partition| Month::of_table(&partition.name))
        .collect())
}

/// Makes the tables that are missing for rows of these times; the next two months' as well if `ahead` is a time.
/// Nothing on SQLite.
pub(crate) async fn make_partitions(
    write: &Write,
    times: impl IntoIterator<Item = i64>,
    ahead: Option<i64>,
) -> Result<(), CatalogError> {
    if write.dialect == Dialect::Sqlite {
        return Ok(());
    }
    let mut months = BTreeSet::new();
    for at in times {
        months.insert(month_of(at)?);
    }
    let first = ahead.and_then(Month::of);
    months.extend(std::iter::successors(first, |month| month.next()).take(3));
    let known = partitions(&write.transaction, write.dialect).await?;
    for month in months.difference(&known) {
        let (table, begin, end) = (month.table(), month.begin(), month.end());
        let make = format!("CREATE TABLE {table} (LIKE audit_log INCLUDING ALL)");
        write.transaction.execute_unprepared(&make).await?;
        let attach = format!(
            "ALTER TABLE audit_log ATTACH PARTITION {table} FOR VALUES FROM ({begin}) TO ({end})"
        );
        write.transaction.execute_unprepared(&attach).await?;
    }
    Ok(())
}

#[derive(FromQueryResult)]
struct Edges {
    first: Option<i64>,
    last: Option<i64>,
}

/// Drops the table of the first month before `end` in which no row is behind `last_seq`. Says how many rows it had, by their
/// numbers: to count them would take longer than a statement may.
pub(super) async fn drop_partition(
    write: &Write,
    end: i64,
    last_seq: i64,
) -> Result<Option<u64>, CatalogError> {
    for month in partitions(&write.transaction, write.dialect).await? {
        if month.end() > end {
            break;
        }
        let table = month.table();
        let edges = format!("SELECT MIN(seq) AS first, MAX(seq) AS last FROM {table}");
        let edges: Option<Edges> = sql::one(&write.transaction, &edges, []).await?;
        let edges = edges.and_then(|row| Some((row.first?, row.last?)));
        if edges.is_some_and(|(_, last)| last > last_seq) {
            continue;
        }
        let drop = format!("DROP TABLE {table}");
        write.transaction.execute_unprepared(&drop).await?;
        return Ok(Some(
            edges.map_or(0, |(first, last)| last.abs_diff(first) + 1),
        ));
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn months_begin_and_end_where_the_calendar_says() {
        let november: Month = "2026-11".parse().unwrap();
        assert_eq!(november.begin(), 1_793_491_200_000_000);
        assert_eq!(november.end(), 1_796_083_200_000_000);
        assert_eq!(Month::of(november.begin()), Some(november));
        assert_eq!(Month::of(november.end() - 1), Some(november));
        assert_eq!(Month::of(november.end()), november.next());
        assert_eq!(november.table(), "audit_log_y2026m11");
        assert_eq!(Month::of_table("audit_log_y2026m11"), Some(november));
        assert_eq!(Month::of(0).map(String::from).as_deref(), Some("1970-01"));
        let last: Month = "9998-12".parse().unwrap();
        assert_eq!((last.next(), Month::of(last.end())), (None, None));
        assert!(last.end() > last.begin());
        assert_eq!((Month::of(-1), Month::of(i64::MAX)), (None, None));
    }

    #[test]
    fn what_is_no_month_is_refused() {
        for text in [
            "",
            "2026",
            "2026-",
            "2026-00",
            "2026-13",
            "2026-1",
            "26-01",
            "2026-11-01",
            "+026-01",
            "1969-12",
            "9999-01",
            "2026/11",
            "audit_log_y2026m11",
        ] {
            assert!(text.parse::<Month>().is_err(), "{text}");
        }
        assert_eq!(Month::of_table("audit_log_yxm11"), None);
    }
}
