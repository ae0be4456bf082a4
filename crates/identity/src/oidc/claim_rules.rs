//! Which tokens of an issuer speak for a robot: rules from claims to patterns.

use std::{collections::BTreeMap, str::FromStr};

use granary_access::stars_match;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{IssuerPreset, id_token, told};

/// Longest name of a claim.
const MOST_NAME: usize = 255;
/// Longest pattern.
const MOST_PATTERN: usize = 1024;
/// Most stars of a pattern; each may be tried at every place of a claim.
const MOST_STARS: usize = 4;
/// Most rules of a set.
const MOST_RULES: usize = 20;

/// Why rules cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClaimRuleError {
    /// There is none, or more than 20.
    #[error("give 1 to 20 claims that must match")]
    Count,
    /// A claim's name is empty, too long, or has control characters.
    #[error("'{0}' is not the name of a claim: write 1 to 255 characters, such as 'repository'")]
    Name(String),
    /// A pattern is empty, too long, has control characters or too many stars.
    #[error(
        "'{0}' is not a pattern for a claim: write 1 to 1024 characters, of which at most 4 are '*' for any run of characters"
    )]
    Pattern(String),
    /// The rules would match everybody of an issuer.
    #[error("these rules do not say who is meant: {0}")]
    Everybody(&'static str),
    /// The name of no preset.
    #[error("'{0}' is not a kind of issuer: write github, gitlab, kubernetes or plain")]
    Preset(String),
}

/// A text in which `*` stands for any run of characters, also none.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ClaimPattern(String);

impl ClaimPattern {
    /// Whether `text` is one of those meant.
    pub fn matches(&self, text: &str) -> bool {
        stars_match(&self.0, text)
    }

    /// What is before the first star; nothing if there is none.
    pub(super) fn stem(&self) -> Option<&str> {
        self.0.split_once('*').map(|(stem, _)| stem)
    }

    /// Whether a claim is meant. In a list one must be; an object never is.
    fn matches_claim(&self, claim: &Value) -> bool {
        match claim {
            Value::String(text) => self.matches(text),
            Value::Number(number) => self.matches(&number.to_string()),
            Value::Bool(is) => self.matches(if *is { "true" } else { "false" }),
            Value::Array(values) => values
                .iter()
                .filter_map(Value::as_str)
                .any(|text| self.matches(text)),
            Value::Null | Value::Object(_) => false,
        }
    }
}

impl FromStr for ClaimPattern {
    type Err = ClaimRuleError;

    fn from_str(text: &str) -> Result<Self, ClaimRuleError> {
        let is_good = (1..=MOST_PATTERN).contains(&text.len())
            && !text.contains(char::is_control)
            && text.matches('*').count() <= MOST_STARS;
        match is_good {
            true => Ok(Self(text.to_owned())),
            false => Err(ClaimRuleError::Pattern(told(text))),
        }
    }
}

impl TryFrom<String> for ClaimPattern {
    type Error = ClaimRuleError;

    fn try_from(text: String) -> Result<Self, ClaimRuleError> {
        text.parse()
    }
}

impl From<ClaimPattern> for String {
    fn from(pattern: ClaimPattern) -> Self {
        pattern.0
    }
}

/// Claims and what they must be; all must match. In JSON an object from names to patterns.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(
    try_from = "BTreeMap<String, ClaimPattern>",
    into = "BTreeMap<String, ClaimPattern>"
)]
pub struct ClaimRules(BTreeMap<String, ClaimPattern>);

impl ClaimRules {
    /// Refuses rules that would match everybody of an issuer of this kind.
    pub fn check(&self, preset: IssuerPreset) -> Result<(), ClaimRuleError> {
        match self.identify(preset) {
            true => Ok(()),
            false => Err(ClaimRuleError::Everybody(preset.claims_help())),
        }
    }

    /// Whether all rules match. Those that [`Self::check`] refuses match nobody, whoever let them in.
    pub fn match_claims(&self, preset: IssuerPreset, claims: &Map<String, Value>) -> bool {
        let meant = |(name, pattern): (&String, &ClaimPattern)| {
            id_token::find(claims, name).is_some_and(|claim| pattern.matches_claim(claim))
        };
        self.identify(preset) && self.0.iter().all(meant)
    }

    /// How many there are: the more, the narrower.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    fn identify(&self, preset: IssuerPreset) -> bool {
        self.0
            .iter()
            .any(|(name, pattern)| preset.identifies(name, pattern))
    }
}

impl TryFrom<BTreeMap<String, ClaimPattern>> for ClaimRules {
    type Error = ClaimRuleError;

    fn try_from(rules: BTreeMap<String, ClaimPattern>) -> Result<Self, ClaimRuleError> {
        if !(1..=MOST_RULES).contains(&rules.len()) {
            return Err(ClaimRuleError::Count);
        }
        let is_bad = |name: &&String| {
            !(1..=MOST_NAME).contains(&name.len()) || name.contains(char::is_control)
        };
        match rules.keys().find(is_bad) {
            Some(name) => Err(ClaimRuleError::Name(told(name))),
            None => Ok(Self(rules)),
        }
    }
}

impl From<ClaimRules> for BTreeMap<String, ClaimPattern> {
    fn from(rules: ClaimRules) -> Self {
        rules.0
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn rules(json: Value) -> ClaimRules {
        serde_json::from_value(json).unwrap()
    }

    fn matches(preset: IssuerPreset, given: Value, claims: &Value) -> bool {
        rules(given).match_claims(preset, claims.as_object().unwrap())
    }

    /// The shape of a token of GitHub Actions.
    fn github() -> Value {
        json!({
            "sub": "repo:acme/app:ref:refs/heads/main", "repository": "acme/app", "repository_id": "74",
            "repository_owner": "acme", "repository_owner_id": "65", "ref": "refs/heads/main",
            "job_workflow_ref": "acme/app/.github/workflows/release.yml@refs/heads/main", "run_attempt": 1,
        })
    }

    #[test]
    fn all_rules_must_match() {
        let preset = IssuerPreset::GitHub;
        for (given, is) in [
            (json!({"repository": "acme/app"}), true),
            (json!({"repository": "acme/*"}), true),
            (
                json!({"repository": "acme/app", "ref": "refs/heads/*"}),
                true,
            ),
            (
                json!({"repository": "acme/app", "ref": "refs/tags/*"}),
                false,
            ),
            (json!({"repository": "acme/app", "missing": "*"}), false),
            (json!({"repository": "acme/ap"}), false),
            (json!({"repository": "Acme/app"}), false),
            (json!({"sub": "repo:acme/app:*"}), true),
            (json!({"sub": "repo:acme/a:*"}), false),
            (
                json!({"repository_owner_id": "65", "run_attempt": "1"}),
                true,
            ),
            (json!({"repository_owner_id": "6"}), false),
        ] {
            assert_eq!(matches(preset, given.clone(), &github()), is, "{given}");
        }
    }

    #[test]
    fn nobody_matches_everybody() {
        for (preset, given) in [
            (IssuerPreset::GitHub, json!({"ref": "refs/heads/main"})),
            (IssuerPreset::GitHub, json!({"repository": "*"})),
            (IssuerPreset::GitHub, json!({"repository": "*/app"})),
            (IssuerPreset::GitHub, json!({"repository": "acme*"})),
            (IssuerPreset::GitHub, json!({"repository_owner": "acme*"})),
            (IssuerPreset::GitHub, json!({"repository_owner": "*"})),
            (IssuerPreset::GitHub, json!({"sub": "*"})),
            (IssuerPreset::GitHub, json!({"sub": "repo:*"})),
            (IssuerPreset::GitHub, json!({"sub": "repo:*/app:*"})),
            (IssuerPreset::GitHub, json!({"sub": "*/acme/"})),
            // Everybody may call a workflow that is public.
            (
                IssuerPreset::GitHub,
                json!({"job_workflow_ref": "acme/app/.github/workflows/release.yml@refs/heads/main"}),
            ),
            (IssuerPreset::GitLab, json!({"sub": "project_path:*"})),
            (IssuerPreset::GitLab, json!({"project_path": "*"})),
            (IssuerPreset::GitLab, json!({"ref_protected": "true"})),
            (
                IssuerPreset::Kubernetes,
                json!({"sub": "system:serviceaccount:*"}),
            ),
            (
                IssuerPreset::Kubernetes,
                json!({"sub": "system:serviceaccount::*"}),
            ),
            (
                IssuerPreset::Kubernetes,
                json!({"kubernetes.io.namespace": "*"}),
            ),
            (
                IssuerPreset::Kubernetes,
                json!({"kubernetes.io.serviceaccount.name": "default"}),
            ),
            (IssuerPreset::Plain, json!({"sub": "*"})),
            (IssuerPreset::Plain, json!({"sub": "organization:*"})),
            (IssuerPreset::Plain, json!({"sub": "organization:acm*"})),
            (IssuerPreset::Plain, json!({"sub": "https://*"})),
            (
                IssuerPreset::Plain,
                json!({"sub": "https://forge.example/*"}),
            ),
            (IssuerPreset::Plain, json!({"name": "exactly"})),
        ] {
            let refused = rules(given.clone()).check(preset);
            assert!(
                matches!(refused, Err(ClaimRuleError::Everybody(_))),
                "{given}"
            );
            assert!(!matches(preset, given.clone(), &github()), "{given}");
        }
        for (preset, given) in [
            (
                IssuerPreset::GitLab,
                json!({"project_path": "acme/app", "ref_protected": "true"}),
            ),
            (
                IssuerPreset::GitLab,
                json!({"sub": "project_path:acme/app:*"}),
            ),
            (IssuerPreset::GitLab, json!({"namespace_id": "72"})),
            (
                IssuerPreset::Kubernetes,
                json!({"sub": "system:serviceaccount:prod:*"}),
            ),
            (
                IssuerPreset::Kubernetes,
                json!({"kubernetes.io.namespace": "prod"}),
            ),
            (IssuerPreset::Plain, json!({"sub": "organization:acme:*"})),
            (IssuerPreset::Plain, json!({"sub": "anything"})),
        ] {
            assert_eq!(rules(given.clone()).check(preset), Ok(()), "{given}");
        }
    }

    #[test]
    fn claims_are_texts_numbers_and_lists() {
        let claims = json!({"sub": "s", "yes": true, "number": 7, "list": ["a", "b", 3], "none": null,
            "object": {"inner": "x"}, "kubernetes.io": {"namespace": "n"}});
        for (name, pattern, is) in [
            ("yes", "true", true),
            ("yes", "false", false),
            ("number", "7", true),
            ("list", "b", true),
            ("list", "c", false),
            ("list", "3", false),
            ("none", "*", false),
            ("none", "null", false),
            ("object", "*", false),
            ("object.inner", "x", true),
            ("kubernetes.io.namespace", "n", true),
        ] {
            let given = json!({"sub": "s", name: pattern});
            assert_eq!(
                matches(IssuerPreset::Plain, given, &claims),
                is,
                "{name} {pattern}"
            );
        }
    }

    #[test]
    fn rules_are_bounded_and_come_back() {
        let many = |count: usize| -> Value {
            (0..count)
                .map(|number| (format!("c{number}"), json!("x")))
                .collect::<Map<_, _>>()
                .into()
        };
        for bad in [
            json!({}),
            json!([]),
            many(21),
            json!({"": "x"}),
            json!({"a\n": "x"}),
            json!({"a": ""}),
            json!({"a": "*****"}),
            json!({"a": "x\n"}),
            json!({"a": "x".repeat(1025)}),
            json!({"a": 1}),
        ] {
            assert!(
                serde_json::from_value::<ClaimRules>(bad.clone()).is_err(),
                "{bad}"
            );
        }
        let given = many(20);
        assert_eq!(serde_json::to_value(rules(given.clone())).unwrap(), given);
        for preset in IssuerPreset::ALL {
            assert_eq!(preset.to_string().parse(), Ok(preset));
            assert_eq!(
                serde_json::to_value(preset).unwrap(),
                json!(preset.as_str())
            );
        }
        assert!("GitHub".parse::<IssuerPreset>().is_err());
    }

    /// Four stars over a long claim that nearly matches.
    #[test]
    fn hostile_claims_take_no_time() {
        let pattern: ClaimPattern = format!("*{0}*{0}*{0}*", "a".repeat(300)).parse().unwrap();
        assert!(!pattern.matches(&format!("{}b", "a".repeat(299)).repeat(40)));
        assert!(pattern.matches(&"a".repeat(900)));
    }
}
