//! Names and roles of what belongs to somebody: teams and robots.

use std::{fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::Handle;

/// Why a text is no name of a team or a robot.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{value}' cannot be the name of a {kind}: {rule}")]
pub struct GroupNameError {
    /// The offending text, cut to a bounded length.
    pub value: String,
    /// What it was to be.
    pub kind: &'static str,
    /// The rule it breaks, as a remedy.
    pub rule: &'static str,
}

/// The name of a team, such as `acme/core`: its organisation's, and its own behind a slash.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TeamHandle(Owned);

/// The name of a robot, such as `acme+ci`: that of the organisation or user it belongs to, and its own behind a plus.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RobotHandle(Owned);

/// Two names with a sign between.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Owned {
    text: Arc<str>,
    /// Where the sign is.
    at: usize,
}

impl Owned {
    fn parse(
        text: &str,
        sign: char,
        kind: &'static str,
        form: &'static str,
    ) -> Result<Self, GroupNameError> {
        let refuse = |rule| {
            Err(GroupNameError {
                value: text.chars().take(80).flat_map(char::escape_debug).collect(),
                kind,
                rule,
            })
        };
        let Some((owner, name)) = text.split_once(sign) else {
            return refuse(form);
        };
        if owner.parse::<Handle>().is_err() {
            return refuse(form);
        }
        if !(1..=64).contains(&name.len()) {
            return refuse("its own part has 1 to 64 bytes");
        }
        if name.contains('/') || name.parse::<granary_oci::RepositoryName>().is_err() {
            return refuse(
                "in its own part use lower-case letters and digits, with single '.', '_', '__' or dashes between them",
            );
        }
        Ok(Self {
            text: text.into(),
            at: owner.len(),
        })
    }
}

impl TeamHandle {
    /// The team `name` of `organisation`.
    pub fn of(organisation: &str, name: &str) -> Result<Self, GroupNameError> {
        format!("{organisation}/{name}").parse()
    }

    /// The whole name.
    pub fn as_str(&self) -> &str {
        &self.0.text
    }

    /// The organisation's name.
    pub fn organisation(&self) -> &str {
        &self.0.text[..self.0.at]
    }
}

impl RobotHandle {
    /// The robot `name` of `owner`.
    pub fn of(owner: &str, name: &str) -> Result<Self, GroupNameError> {
        format!("{owner}+{name}").parse()
    }

    /// The whole name.
    pub fn as_str(&self) -> &str {
        &self.0.text
    }

    /// The name of the organisation or user that it belongs to.
    pub fn owner(&self) -> &str {
        &self.0.text[..self.0.at]
    }
}

impl FromStr for TeamHandle {
    type Err = GroupNameError;

    fn from_str(text: &str) -> Result<Self, GroupNameError> {
        Owned::parse(text, '/', "team", "write ORGANISATION/TEAM").map(Self)
    }
}

impl FromStr for RobotHandle {
    type Err = GroupNameError;

    fn from_str(text: &str) -> Result<Self, GroupNameError> {
        Owned::parse(text, '+', "robot", "write OWNER+ROBOT").map(Self)
    }
}

impl fmt::Display for TeamHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for RobotHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a member is in a team.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum TeamRole {
    /// He has what the team was granted.
    Member,
    /// The same, and looks after its members.
    Maintainer,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn teams_and_robots_have_two_names_and_a_sign() {
        let team: TeamHandle = "acme/core".parse().unwrap();
        assert_eq!((team.as_str(), team.organisation()), ("acme/core", "acme"));
        let robot: RobotHandle = "acme+ci".parse().unwrap();
        assert_eq!((robot.as_str(), robot.owner()), ("acme+ci", "acme"));
        // What would be taken for something else as a user is nothing else here.
        assert!("acme/api".parse::<TeamHandle>().is_ok());
        for bad in [
            "", "acme", "acme/", "/core", "acme/a/b", "acme/A", "acme/a+b", "api/core", "acme+ci",
        ] {
            assert!(bad.parse::<TeamHandle>().is_err(), "{bad}");
        }
        for bad in ["acme", "acme+", "+ci", "acme+a+b", "acme+a/b", "acme/core"] {
            assert!(bad.parse::<RobotHandle>().is_err(), "{bad}");
        }
    }
}
