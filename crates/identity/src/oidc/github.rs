//! Who GitHub says somebody is. It has no OpenID Connect for people: its API answers instead.

use serde::Deserialize;

use super::{AnswerRefused, flow::json};

/// Most teams that GitHub puts on a page, and that are asked for.
pub const MOST_TEAMS_OF_PAGE: usize = 100;

/// A user of GitHub, as `GET /user` has it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct GitHubUser {
    /// Its number. Names are given to others later, numbers are not.
    pub id: u64,
    /// Its name for logging in.
    pub login: String,
}

impl GitHubUser {
    /// What `GET /user` answered.
    pub fn parse(bytes: &[u8]) -> Result<Self, AnswerRefused> {
        let user: Self = json(bytes)?;
        match is_name(&user.login) && user.id > 0 {
            true => Ok(user),
            false => Err(AnswerRefused::Malformed),
        }
    }

    /// What an account is found by.
    pub fn subject(&self) -> String {
        self.id.to_string()
    }
}

#[derive(Deserialize)]
struct Team {
    slug: String,
    organization: Organization,
}

#[derive(Deserialize)]
struct Organization {
    login: String,
}

/// The teams of a page that `GET /user/teams` answered, each as `organisation/team`.
pub fn github_teams(bytes: &[u8]) -> Result<Vec<String>, AnswerRefused> {
    let teams: Vec<Team> = json(bytes)?;
    let is_good = |team: &Team| is_name(&team.slug) && is_name(&team.organization.login);
    if teams.len() > MOST_TEAMS_OF_PAGE || !teams.iter().all(is_good) {
        return Err(AnswerRefused::Malformed);
    }
    let group = |team: &Team| format!("{}/{}", team.organization.login, team.slug);
    Ok(teams.iter().map(group).collect())
}

/// Whether `name` is one of GitHub's: with a slash in it, a team could be taken for that of another organisation.
fn is_name(name: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    (1..=255).contains(&name.len()) && name.bytes().all(fits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_a_number() {
        let user = br#"{"login":"octocat","id":583231,"node_id":"x","type":"User","email":null}"#;
        let user = GitHubUser::parse(user).unwrap();
        assert_eq!(
            (user.subject().as_str(), user.login.as_str()),
            ("583231", "octocat")
        );
        for bad in [
            r#"{"login":"octocat"}"#,
            r#"{"login":"octocat","id":"583231"}"#,
            r#"{"login":"octocat","id":-1}"#,
            r#"{"login":"octocat","id":0}"#,
            r#"{"login":"a\nb","id":1}"#,
            r#"{"login":"","id":1}"#,
            "[]",
        ] {
            assert_eq!(
                GitHubUser::parse(bad.as_bytes()),
                Err(AnswerRefused::Malformed),
                "{bad}"
            );
        }
    }

    #[test]
    fn teams_are_those_of_their_organisation() {
        let page = br#"[{"slug":"core","name":"Core!","organization":{"login":"acme","id":1}},
            {"slug":"ops","organization":{"login":"other"}}]"#;
        assert_eq!(github_teams(page).unwrap(), ["acme/core", "other/ops"]);
        assert_eq!(github_teams(b"[]"), Ok(Vec::new()));
        for bad in [
            "{}",
            r#"[{"slug":"core"}]"#,
            r#"[{"slug":"a/b","organization":{"login":"acme"}}]"#,
            r#"[{"slug":"b","organization":{"login":"acme/a"}}]"#,
        ] {
            assert_eq!(
                github_teams(bad.as_bytes()),
                Err(AnswerRefused::Malformed),
                "{bad}"
            );
        }
    }
}
