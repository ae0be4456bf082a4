//! Query strings. Unknown parameters are ignored, as clients send some that are meant for others (`ns`).

use actix_web::web;
use granary_oci::Tag;

use super::refusal::Refusal;

/// The pairs of a query string, in order.
pub(crate) struct Query(Vec<(String, String)>);

/// Most rows of a list that one answer holds (decision 32).
pub(crate) const MOST_ROWS: u64 = 10_000;
/// Most tags that one request sets.
const MOST_TAGS: usize = 100;
/// Most artifact types that one filter names.
const MOST_TYPES: usize = 50;
/// Said of a value that holds U+0000.
pub(crate) const NO_NULL: &str =
    "a parameter holds the character U+0000, which no name and no type has: leave it out";

impl Query {
    pub(crate) fn parse(text: &str) -> Self {
        if text.is_empty() {
            return Self(Vec::new());
        }
        // A malformed escape decodes to replacement characters, which no parser behind this accepts.
        Self(
            web::Query::<Vec<(String, String)>>::from_query(text)
                .map(web::Query::into_inner)
                .unwrap_or_default(),
        )
    }

    /// The same, unless a value holds U+0000: PostgreSQL keeps that in no text, so a statement with it would fail.
    pub(crate) fn without_null(self) -> Result<Self, Refusal> {
        self.0
            .iter()
            .try_for_each(|(_, value)| refuse_null(value))?;
        Ok(self)
    }

    /// The first value of `name`.
    pub(crate) fn get<'q>(&'q self, name: &'q str) -> Option<&'q str> {
        self.all(name).next()
    }

    /// Every value of `name`.
    pub(crate) fn all<'q>(&'q self, name: &'q str) -> impl Iterator<Item = &'q str> {
        self.0
            .iter()
            .filter(move |(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }

    /// `n`: how many rows are wanted, clamped.
    pub(crate) fn rows(&self) -> Result<Option<u64>, Refusal> {
        let Some(text) = self.get("n") else {
            return Ok(None);
        };
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        if !digits {
            return Err(Refusal::PageSize(text.chars().take(40).collect()));
        }
        Ok(Some(text.parse().unwrap_or(u64::MAX).min(MOST_ROWS)))
    }

    /// `last`: the row behind which a page begins, up to the first U+0000. No row has that, so the same rows are behind both;
    /// and PostgreSQL takes it in no text.
    pub(crate) fn last(&self) -> &str {
        let last = self.get("last").unwrap_or_default();
        last.split_once('\0').map_or(last, |(before, _)| before)
    }

    /// `tag`: every tag to set.
    pub(crate) fn tags(&self) -> Result<Vec<Tag>, Refusal> {
        let mut tags: Vec<Tag> = Vec::new();
        for text in self.all("tag") {
            let tag: Tag = text.parse()?;
            if !tags.contains(&tag) {
                tags.push(tag);
            }
            if tags.len() > MOST_TAGS {
                return Err(Refusal::TooManyTags(MOST_TAGS));
            }
        }
        Ok(tags)
    }

    /// `artifactType`: any of these.
    pub(crate) fn artifact_types(&self) -> Result<Vec<String>, Refusal> {
        let types: Vec<String> = self
            .all("artifactType")
            .filter(|wanted| !wanted.is_empty())
            .map(str::to_owned)
            .collect();
        if types.len() > MOST_TYPES {
            return Err(Refusal::Query(
                "at most 50 artifactType filters can be combined",
            ));
        }
        types.iter().try_for_each(|wanted| refuse_null(wanted))?;
        Ok(types)
    }
}

fn refuse_null(value: &str) -> Result<(), Refusal> {
    match value.contains('\0') {
        true => Err(Refusal::Query(NO_NULL)),
        false => Ok(()),
    }
}

/// A value as it stands in a query string.
pub(crate) fn escape(value: &str) -> String {
    let mut escaped = String::with_capacity(value.len());
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
    }
    escaped
}
