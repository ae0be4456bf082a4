//! Patterns for repositories and tags (decision 26).

use std::{fmt, iter, str::FromStr, sync::Arc};

use granary_oci::{RepositoryName, Tag};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::Verbs;

/// Why a text is no pattern.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{value}' is not a pattern for {of}: {rule}")]
pub struct PatternError {
    /// The offending text, cut to a bounded length.
    pub value: String,
    /// What it was to be a pattern for.
    pub of: &'static str,
    /// The rule it breaks, as a remedy.
    pub rule: String,
}

impl PatternError {
    fn new(text: &str, of: &'static str, rule: impl Into<String>) -> Self {
        Self {
            value: text.chars().take(80).flat_map(char::escape_debug).collect(),
            of,
            rule: rule.into(),
        }
    }
}

/// Repositories: one by its name (`a/b`), all below a prefix (`a/**`, which does not have `a` itself), or all (`**`).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RepositoryPattern {
    /// The name, or the prefix with its `/`; empty for all.
    stem: Arc<str>,
    is_exact: bool,
}

/// Behind every byte that a name may have.
const BEHIND: char = '~';

impl RepositoryPattern {
    /// All repositories.
    pub fn all() -> Self {
        Self {
            stem: "".into(),
            is_exact: false,
        }
    }

    /// Just this one.
    pub fn exactly(name: &RepositoryName) -> Self {
        Self {
            stem: name.as_str().into(),
            is_exact: true,
        }
    }

    /// Whether `name` is one of them.
    pub fn matches(&self, name: &RepositoryName) -> bool {
        match self.is_exact {
            true => name.as_str() == &*self.stem,
            false => name.as_str().starts_with(&*self.stem),
        }
    }

    /// Whether every repository of `other` is one of these.
    pub fn covers(&self, other: &Self) -> bool {
        match (self.is_exact, other.is_exact) {
            (true, false) => false,
            (true, true) => self.stem == other.stem,
            (false, _) => other.stem.starts_with(&*self.stem),
        }
    }

    /// The namespace that has them all; nothing if several have.
    pub fn namespace(&self) -> Option<&str> {
        match (self.stem.split_once('/'), self.is_exact) {
            (Some((first, _)), _) => Some(first),
            (None, true) => Some("library"),
            (None, false) => None,
        }
    }

    /// The first and the last text, bytewise, between which exactly these names lie.
    pub fn range(&self) -> (String, String) {
        let low = self.stem.to_string();
        let high = match self.is_exact {
            true => low.clone(),
            false => format!("{low}{BEHIND}"),
        };
        (low, high)
    }

    /// The texts of all patterns that `name` matches: its own, one for each prefix, and that of all.
    pub fn texts_for(name: &RepositoryName) -> impl Iterator<Item = String> {
        let name = name.as_str();
        let prefixes = name
            .match_indices('/')
            .map(move |(at, _)| format!("{}/**", &name[..at]));
        iter::once(name.to_owned())
            .chain(prefixes)
            .chain(iter::once("**".to_owned()))
    }
}

impl FromStr for RepositoryPattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        if text == "**" {
            return Ok(Self::all());
        }
        let (name, is_exact) = match text.strip_suffix("/**") {
            Some(prefix) => (prefix, false),
            None => (text, true),
        };
        let name: RepositoryName = name.parse().map_err(|error: granary_oci::NameError| {
            let rule = format!(
                "write a name, a prefix that ends in '/**', or '**'; in a name, {}",
                error.rule
            );
            PatternError::new(text, "repositories", rule)
        })?;
        let stem = match is_exact {
            true => name.as_str().into(),
            false => format!("{name}/").into(),
        };
        Ok(Self { stem, is_exact })
    }
}

impl fmt::Display for RepositoryPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.stem)?;
        f.write_str(if self.is_exact { "" } else { "**" })
    }
}

/// Tags: a text in which `*` stands for any run of characters, also none.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(try_from = "String", into = "String")]
#[schema(value_type = String, example = "v*")]
pub struct TagPattern(Arc<str>);

/// Most stars of a pattern; each may be tried at every place of a tag.
const STARS: usize = 4;
/// Longest pattern: that of a tag.
const LENGTH: usize = 128;

impl TagPattern {
    /// Whether `tag` is one of them.
    pub fn matches(&self, tag: &Tag) -> bool {
        stars_match(&self.0, tag.as_str())
    }
}

/// Whether `text` is `pattern`, in which each `*` stands for any run of characters, also none. It takes as long as both
/// are long for each star.
pub fn stars_match(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let mut rest = text;
    let (Some(first), last) = (parts.next(), parts.next_back()) else {
        return false;
    };
    let Some(last) = last else {
        return rest == first;
    };
    let Some(behind) = rest.strip_prefix(first) else {
        return false;
    };
    rest = behind;
    // Each part as early as it can stand leaves most for those behind it.
    for part in parts {
        let Some(at) = rest.find(part) else {
            return false;
        };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

impl FromStr for TagPattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        let refuse = |rule: &str| Err(PatternError::new(text, "tags", rule));
        let fits =
            |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-' | b'*');
        if text.is_empty() || text.len() > LENGTH || !text.bytes().all(fits) {
            return refuse(
                "use 1 to 128 letters, digits, '.', '_', '-', and '*' for any run of them",
            );
        }
        if text.matches('*').count() > STARS {
            return refuse("it may have at most 4 stars");
        }
        Ok(Self(text.into()))
    }
}

impl fmt::Display for TagPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for RepositoryPattern {
    type Error = PatternError;

    fn try_from(text: String) -> Result<Self, PatternError> {
        text.parse()
    }
}

impl From<RepositoryPattern> for String {
    fn from(pattern: RepositoryPattern) -> Self {
        pattern.to_string()
    }
}

impl TryFrom<String> for TagPattern {
    type Error = PatternError;

    fn try_from(text: String) -> Result<Self, PatternError> {
        text.parse()
    }
}

impl From<TagPattern> for String {
    fn from(pattern: TagPattern) -> Self {
        pattern.to_string()
    }
}

/// Tags that a grant or scope speaks of: all, or those of some patterns.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(try_from = "Option<Vec<TagPattern>>", into = "Option<Vec<TagPattern>>")]
#[schema(value_type = Option<Vec<TagPattern>>)]
pub struct TagPatterns(Option<Arc<[TagPattern]>>);

impl TagPatterns {
    /// Most patterns of a list.
    pub const MOST: usize = 20;

    /// All tags.
    pub const fn all() -> Self {
        Self(None)
    }

    /// No tag.
    pub fn none() -> Self {
        Self(Some(Arc::new([])))
    }

    /// Those that one of `patterns` matches.
    pub fn of(patterns: Vec<TagPattern>) -> Result<Self, PatternError> {
        match patterns.get(Self::MOST) {
            None => Ok(Self(Some(patterns.into()))),
            Some(beyond) => Err(PatternError::new(
                &beyond.0,
                "tags",
                "a list may have at most 20 patterns",
            )),
        }
    }

    /// Whether `tag` is one of them.
    pub fn matches(&self, tag: &Tag) -> bool {
        match &self.0 {
            None => true,
            Some(patterns) => patterns.iter().any(|pattern| pattern.matches(tag)),
        }
    }

    /// What is left of `verbs` that were given on these tags, on `tag` if the question is about one. To look after a
    /// repository, or an account, is about more than some of its tags.
    pub(crate) fn limit(&self, verbs: Verbs, tag: Option<&Tag>) -> Verbs {
        match tag {
            Some(tag) if !self.matches(tag) => Verbs::NONE,
            Some(_) => verbs,
            None if self.are_all() => verbs,
            None => verbs.within(Verbs::CONTENT),
        }
    }

    /// Whether these are all tags.
    pub fn are_all(&self) -> bool {
        self.0.is_none()
    }
}

impl TryFrom<Option<Vec<TagPattern>>> for TagPatterns {
    type Error = PatternError;

    fn try_from(patterns: Option<Vec<TagPattern>>) -> Result<Self, PatternError> {
        patterns.map_or(Ok(Self::all()), Self::of)
    }
}

impl From<TagPatterns> for Option<Vec<TagPattern>> {
    fn from(patterns: TagPatterns) -> Self {
        patterns.0.map(|patterns| patterns.to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> RepositoryName {
        text.parse().unwrap()
    }

    fn repositories(text: &str) -> RepositoryPattern {
        text.parse().unwrap()
    }

    fn tags(text: &str) -> TagPattern {
        text.parse().unwrap()
    }

    #[test]
    fn a_name_is_neither_its_parent_nor_its_child_nor_its_sibling() {
        let exact = repositories("a/b");
        for (other, matches) in [
            ("a/b", true),
            ("a", false),
            ("ab", false),
            ("a/b/c", false),
            ("a/bc", false),
            ("b", false),
        ] {
            assert_eq!(exact.matches(&name(other)), matches, "{other}");
        }
        let below = repositories("a/b/**");
        for (other, matches) in [
            ("a/b", false),
            ("a/b/c", true),
            ("a/b/c/d", true),
            ("a/bc", false),
            ("a/b-c", false),
            ("ab/c", false),
        ] {
            assert_eq!(below.matches(&name(other)), matches, "{other}");
        }
    }

    #[test]
    fn what_is_no_pattern_says_why() {
        for bad in [
            "", "*", "a/*", "**/a", "a/**/b", "a**", "/**", "A/b", "a/../**", "a//**", "a/***",
            "a b",
        ] {
            let error = bad.parse::<RepositoryPattern>().unwrap_err();
            assert!(error.to_string().contains("'**'"), "{error}");
        }
        let long = "a".repeat(129);
        for bad in ["", "a/b", "v1:2", "*****", "ü", &long] {
            assert!(bad.parse::<TagPattern>().is_err(), "{bad}");
        }
        let hostile = "\u{1b}[31m".repeat(100);
        let error = hostile.parse::<RepositoryPattern>().unwrap_err();
        assert!(!error.to_string().contains('\u{1b}'));
        assert!(error.value.len() < 1000);
    }

    #[test]
    fn stars_stand_for_any_run() {
        for (pattern, tag, matches) in [
            ("*", "latest", true),
            ("v1.*", "v1.2", true),
            ("v1.*", "v1", false),
            ("v1.*", "v10", false),
            ("*-rc*", "v1-rc2", true),
            ("*-rc*", "v1", false),
            ("a*a", "a", false),
            ("a*a", "aa", true),
            ("a*b*a", "aba", true),
            ("a*ab*b", "aab", false),
            ("a*ab*b", "aabb", true),
            ("latest", "latest", true),
            ("latest", "latest2", false),
        ] {
            let tag: Tag = tag.parse().unwrap();
            assert_eq!(tags(pattern).matches(&tag), matches, "{pattern} {tag}");
        }
    }

    #[test]
    fn lists_of_tags_are_bounded() {
        let many = vec![tags("a"); TagPatterns::MOST];
        assert!(TagPatterns::of(many.clone()).is_ok());
        let more = [many, vec![tags("b")]].concat();
        assert!(TagPatterns::of(more).is_err());
        let tag: Tag = "v1".parse().unwrap();
        assert!(TagPatterns::all().matches(&tag));
        assert!(!TagPatterns::none().matches(&tag));
    }
}
