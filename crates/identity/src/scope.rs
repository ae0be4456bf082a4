//! The words in which docker's clients ask for access (distribution, `docs/content/spec/auth/scope.md`).
//!
//! ```text
//! repository:acme/app:pull,push repository(plugin):acme/net:pull registry:catalog:*
//! type       name     actions             └ class
//! ```

use granary_access::TokenVerbs;
use granary_oci::RepositoryName;

/// Most scopes of a request that are looked at.
const MOST_SCOPES: usize = 64;

/// What a client asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RequestedScope {
    /// Access to a repository, which need not exist.
    Repository {
        /// Which.
        name: RepositoryName,
        /// What for.
        verbs: TokenVerbs,
    },
    /// Something that is never granted: another type, or a name that no repository of ours can have.
    Other,
}

/// The scopes of a request, separated by spaces; the first 64 of them. A repository that is named twice stands once,
/// with the actions of both. Nothing is an error: what is not understood grants nothing.
pub fn parse_scopes(text: &str) -> Vec<RequestedScope> {
    let mut scopes: Vec<RequestedScope> = Vec::new();
    let texts = text.split(' ').filter(|text| !text.is_empty());
    for text in texts.take(MOST_SCOPES) {
        let scope = parse_scope(text).unwrap_or(RequestedScope::Other);
        if !scopes.iter_mut().any(|known| known.takes_in(&scope)) {
            scopes.push(scope);
        }
    }
    scopes
}

/// The scope that says `verbs` in `name`, such as `repository:acme/app:pull,push`.
pub fn format_scope(name: &RepositoryName, verbs: TokenVerbs) -> String {
    let actions: Vec<_> = action_names(verbs).collect();
    format!("repository:{name}:{}", actions.join(","))
}

/// A name may hold colons (`host:5000/app`), so it reaches from the first to the last.
fn parse_scope(text: &str) -> Option<RequestedScope> {
    let (kind, rest) = text.split_once(':')?;
    let (name, actions) = rest.rsplit_once(':')?;
    // What class of content the repository holds makes no difference here.
    let kind = match kind.strip_suffix(')') {
        Some(classed) => classed.split_once('(')?.0,
        None => kind,
    };
    if kind != "repository" {
        return None;
    }
    Some(RequestedScope::Repository {
        name: name.parse().ok()?,
        verbs: verbs_of(actions.split(',')),
    })
}

impl RequestedScope {
    /// Whether `other` is about the same repository; then what it asks for is asked for here.
    fn takes_in(&mut self, other: &Self) -> bool {
        let Self::Repository { name, verbs } = self else {
            return false;
        };
        let Self::Repository {
            name: others,
            verbs: more,
        } = other
        else {
            return false;
        };
        let is_same = *name == *others;
        if is_same {
            verbs.pull |= more.pull;
            verbs.push |= more.push;
            verbs.delete |= more.delete;
        }
        is_same
    }
}

/// What these actions are; `*` is all of them, and what is not known is nothing.
pub(crate) fn verbs_of<'a>(actions: impl Iterator<Item = &'a str>) -> TokenVerbs {
    let mut verbs = TokenVerbs::default();
    for action in actions {
        let is_all = action == "*";
        verbs.pull |= is_all || action == "pull";
        verbs.push |= is_all || action == "push";
        verbs.delete |= is_all || action == "delete";
    }
    verbs
}

/// The actions that `verbs` are.
pub(crate) fn action_names(verbs: TokenVerbs) -> impl Iterator<Item = &'static str> {
    let named = [
        ("pull", verbs.pull),
        ("push", verbs.push),
        ("delete", verbs.delete),
    ];
    named
        .into_iter()
        .filter_map(|(name, is_meant)| is_meant.then_some(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PULL: TokenVerbs = TokenVerbs {
        pull: true,
        push: false,
        delete: false,
    };
    const PUSH: TokenVerbs = TokenVerbs {
        pull: true,
        push: true,
        delete: false,
    };
    const ALL: TokenVerbs = TokenVerbs {
        pull: true,
        push: true,
        delete: true,
    };
    const NONE: TokenVerbs = TokenVerbs {
        pull: false,
        push: false,
        delete: false,
    };

    fn repository(name: &str, verbs: TokenVerbs) -> RequestedScope {
        RequestedScope::Repository {
            name: name.parse().unwrap(),
            verbs,
        }
    }

    #[test]
    fn scopes_of_clients_are_understood() {
        for (text, name, verbs) in [
            ("repository:acme/app:pull", "acme/app", PULL),
            ("repository:acme/app:pull,push", "acme/app", PUSH),
            ("repository:acme/app:push,pull", "acme/app", PUSH),
            ("repository:acme/app:pull,push,delete", "acme/app", ALL),
            ("repository:acme/app:*", "acme/app", ALL),
            ("repository:acme/app:pull,*", "acme/app", ALL),
            ("repository:acme/app:", "acme/app", NONE),
            ("repository:acme/app:PULL,fly,,", "acme/app", NONE),
            ("repository(plugin):acme/net:pull", "acme/net", PULL),
            ("  repository:app:pull ", "app", PULL),
        ] {
            assert_eq!(parse_scopes(text), [repository(name, verbs)], "{text}");
        }
    }

    #[test]
    fn what_no_repository_of_ours_can_be_called_grants_nothing() {
        for text in [
            "repository:host:5000/a/b:pull",
            "repository:Acme/App:pull",
            "repository::pull",
            "repository:a//b:pull",
            "repository:../a:pull",
            "repository:a",
            "repository",
            ":",
            "::",
            "registry:catalog:*",
            "Repository:a:pull",
            "repository(plugin:a:pull",
            "repositoryplugin):a:pull",
            "repository\n:a:pull",
        ] {
            assert_eq!(parse_scopes(text), [RequestedScope::Other], "{text}");
        }
        // Its name is cut at the last colon.
        assert_eq!(
            parse_scopes("repository:host:5000/a/b"),
            [repository("host", NONE)]
        );
        assert!(parse_scopes("").is_empty());
        assert!(parse_scopes("   ").is_empty());
    }

    #[test]
    fn a_repository_stands_once() {
        let text = "repository:a:pull registry:catalog:* repository:b:* repository:a:push";
        let both = [
            repository("a", PUSH),
            RequestedScope::Other,
            repository("b", ALL),
        ];
        assert_eq!(parse_scopes(text), both);
    }

    #[test]
    fn scopes_are_bounded() {
        let text: Vec<_> = (0..10_000)
            .map(|number| format!("repository:a{number}:pull"))
            .collect();
        let scopes = parse_scopes(&text.join(" "));
        assert_eq!(scopes.len(), MOST_SCOPES);
        assert_eq!(scopes.last(), Some(&repository("a63", PULL)));
    }

    #[test]
    fn scopes_are_written() {
        let name = "acme/app".parse().unwrap();
        for (verbs, text) in [
            (NONE, "repository:acme/app:"),
            (PULL, "repository:acme/app:pull"),
            (ALL, "repository:acme/app:pull,push,delete"),
        ] {
            assert_eq!(format_scope(&name, verbs), text);
            assert_eq!(parse_scopes(text), [repository("acme/app", verbs)]);
        }
    }
}
