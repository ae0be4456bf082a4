//! What must hold of every principal, credential and pattern, checked on generated ones.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::sync::Arc;

use granary_access::{
    Action, AnonymousMode, Context, CreateBy, Credential, CredentialId, Grant, Principal,
    PrincipalId, RepositoryPattern, Rights, Role, Scope, Scopes, TagPattern, TagPatterns,
    TokenAccess, TokenVerbs, Verbs, Visibility, decide,
};
use granary_oci::{RepositoryName, Tag};
use proptest::{collection::vec, option, prelude::*};

/// Few letters and parts, so that names and patterns meet.
fn names() -> impl Strategy<Value = RepositoryName> {
    vec("[ab](-?[ab])?", 1..4).prop_map(|parts| parts.join("/").parse().unwrap())
}

fn patterns() -> impl Strategy<Value = RepositoryPattern> {
    (names(), 0..3_u8).prop_map(|(name, kind)| match kind {
        0 => RepositoryPattern::all(),
        1 => RepositoryPattern::exactly(&name),
        _ => format!("{name}/**").parse().unwrap(),
    })
}

fn tags() -> impl Strategy<Value = Tag> {
    "[ab]{1,6}".prop_map(|text| text.parse().unwrap())
}

fn tag_patterns() -> impl Strategy<Value = TagPatterns> {
    let pattern = "[ab]{0,2}[*]?[ab]{1,2}[*]?".prop_map(|text| text.parse::<TagPattern>().unwrap());
    option::of(vec(pattern, 0..3)).prop_map(|patterns| match patterns {
        None => TagPatterns::all(),
        Some(patterns) => TagPatterns::of(patterns).unwrap(),
    })
}

fn verbs() -> impl Strategy<Value = Verbs> {
    (0..64_i16).prop_map(|bits| Verbs::from_bits(bits).unwrap())
}

fn rights() -> impl Strategy<Value = Rights> {
    let grant =
        (verbs(), tag_patterns(), option::of(0..3_i64)).prop_map(|(verbs, tags, ends_at)| Grant {
            verbs,
            tags,
            ends_at,
        });
    let role = prop::sample::select(vec![
        None,
        Some(Role::Member),
        Some(Role::Read),
        Some(Role::Write),
        Some(Role::Admin),
        Some(Role::Owner),
    ]);
    let flags = any::<[bool; 6]>();
    let immutable = option::of(tag_patterns());
    (flags, role, vec(grant, 0..4), immutable, any::<bool>()).prop_map(
        |(flags, role, grants, immutable, accounts)| Rights {
            accounts,
            stands: true,
            exists: flags[0],
            namespace_exists: flags[0] || flags[1],
            visibility: if flags[2] {
                Visibility::Public
            } else {
                Visibility::Private
            },
            is_administrator: flags[3],
            is_own: flags[4],
            role,
            grants: grants.into(),
            create_by: if flags[5] {
                CreateBy::Administrators
            } else {
                CreateBy::Writers
            },
            immutable,
            usable_from: Arc::default(),
            open_to: None,
        },
    )
}

fn scopes() -> impl Strategy<Value = Scopes> {
    let scope =
        (verbs(), patterns(), tag_patterns()).prop_map(|(verbs, repositories, tags)| Scope {
            verbs,
            repositories,
            tags,
        });
    option::of(vec(scope, 0..4)).prop_map(Scopes::from)
}

fn tokens() -> impl Strategy<Value = Option<TokenAccess>> {
    let entry = (names(), any::<[bool; 3]>())
        .prop_map(|(name, [pull, push, delete])| (name, TokenVerbs { pull, push, delete }));
    option::of(vec(entry, 0..4)).prop_map(|entries| entries.map(TokenAccess::new))
}

fn known(scopes: Scopes, token: Option<TokenAccess>) -> Principal {
    Principal::Known {
        id: PrincipalId(1),
        name: "alice".into(),
        credential: Credential {
            id: CredentialId(1),
            scopes,
            token,
        },
    }
}

fn actions(tag: &Tag) -> [Action<'_>; 13] {
    [
        Action::Ping,
        Action::List,
        Action::Read,
        Action::Push,
        Action::CreateTag(tag),
        Action::UpdateTag(tag),
        Action::DeleteTag(tag),
        Action::Delete,
        Action::Administer,
        Action::Namespace,
        Action::Organisation(Role::Admin),
        Action::OwnAccount,
        Action::Installation,
    ]
}

fn context(anonymous: AnonymousMode) -> Context {
    Context {
        now: 1,
        anonymous,
        address: None,
    }
}

proptest! {
    /// Three ways to ask the same: the pattern itself, its range of names, and its text among those of a name.
    #[test]
    fn a_pattern_is_its_range_and_its_text(pattern in patterns(), name in names()) {
        let (low, high) = pattern.range();
        let between = low.as_str() <= name.as_str() && name.as_str() <= high.as_str();
        prop_assert_eq!(pattern.matches(&name), between);
        let text = pattern.to_string();
        let listed = RepositoryPattern::texts_for(&name).any(|one| one == text);
        prop_assert_eq!(pattern.matches(&name), listed);
        prop_assert_eq!(text.parse::<RepositoryPattern>().unwrap(), pattern);
    }

    #[test]
    fn what_a_pattern_covers_it_matches(wide in patterns(), narrow in patterns(), name in names()) {
        if wide.covers(&narrow) && narrow.matches(&name) {
            prop_assert!(wide.matches(&name));
        }
    }

    #[test]
    fn any_text_is_a_pattern_or_an_error(text in ".{0,200}") {
        if let Ok(pattern) = text.parse::<RepositoryPattern>() {
            prop_assert_eq!(pattern.to_string(), &*text);
        }
        if let Ok(pattern) = text.parse::<TagPattern>() {
            prop_assert_eq!(pattern.to_string(), text);
        }
    }

    /// The matcher against the definition: cut the tag in front of each part in every way.
    #[test]
    fn stars_match_as_they_are_defined(pattern in "[ab*]{1,6}", tag in tags()) {
        fn defined(pattern: &str, text: &str) -> bool {
            match pattern.split_at_checked(1) {
                None => text.is_empty(),
                Some(("*", rest)) => (0..=text.len()).any(|at| defined(rest, &text[at..])),
                Some((letter, rest)) => text.strip_prefix(letter).is_some_and(|text| defined(rest, text)),
            }
        }
        if let Ok(parsed) = pattern.parse::<TagPattern>() {
            prop_assert_eq!(parsed.matches(&tag), defined(&pattern, tag.as_str()));
        }
    }

    /// A credential proves who somebody is and takes away; it never gives (decision 25).
    #[test]
    fn scopes_and_tokens_only_take_away(
        rights in rights(), scopes in scopes(), token in tokens(), name in names(), tag in tags()
    ) {
        let context = context(AnonymousMode::Write);
        for action in actions(&tag) {
            let allowed = |principal: &Principal| {
                decide(principal, action, Some(&name), &rights, &context).allows()
            };
            let narrow = allowed(&known(scopes.clone(), token.clone()));
            let scoped = allowed(&known(scopes.clone(), None));
            let whole = allowed(&known(Scopes::unlimited(), None));
            prop_assert!(!narrow || scoped, "{action:?}");
            prop_assert!(!scoped || whole, "{action:?}");
        }
    }

    /// More rights never forbid what fewer allow, but for tags that nobody moves.
    #[test]
    fn a_further_grant_takes_nothing_away(
        rights in rights(), grant in (verbs(), tag_patterns()), name in names(), tag in tags()
    ) {
        let context = context(AnonymousMode::None);
        let further = Grant { verbs: grant.0, tags: grant.1, ends_at: None };
        let more = Rights {
            grants: rights.grants.iter().cloned().chain([further]).collect(),
            ..rights.clone()
        };
        for action in actions(&tag) {
            let ask = |rights: &Rights| {
                decide(&known(Scopes::unlimited(), None), action, Some(&name), rights, &context).allows()
            };
            prop_assert!(!ask(&rights) || ask(&more), "{action:?}");
        }
    }

    /// Whoever has no account may never do what a stranger with one may not, in a repository that is there.
    #[test]
    fn the_anonymous_get_only_what_is_public(rights in rights(), name in names(), tag in tags()) {
        for mode in [AnonymousMode::None, AnonymousMode::Read, AnonymousMode::Write] {
            for action in actions(&tag) {
                let allowed = decide(&Principal::Anonymous, action, Some(&name), &rights, &context(mode)).allows();
                let reads = matches!(action, Action::Read | Action::List);
                let writes = matches!(action, Action::Push | Action::CreateTag(_) | Action::UpdateTag(_));
                let may = match mode {
                    AnonymousMode::None => false,
                    AnonymousMode::Read => reads,
                    AnonymousMode::Write => reads || writes,
                };
                prop_assert!(!allowed || may, "{mode:?} {action:?}");
                if allowed && action != Action::List {
                    prop_assert_eq!(rights.visibility, Visibility::Public);
                }
            }
        }
    }

    #[test]
    fn scopes_survive_their_json(scopes in scopes()) {
        let text = serde_json::to_string(&scopes).unwrap();
        prop_assert_eq!(serde_json::from_str::<Scopes>(&text).unwrap(), scopes);
    }
}
