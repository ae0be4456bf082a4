//! Who may do what, as a table: each line is one principal in one repository, and what it may do there.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::sync::Arc;

use granary_access::{
    Action, AddressBlocks, AnonymousMode, Context, CreateBy, Credential, CredentialId, Decision,
    Grant, Principal, PrincipalId, Reason, RepositoryPattern, Rights, Role, Scope, Scopes,
    TagPattern, TagPatterns, TokenAccess, TokenVerbs, Verb, Verbs, Visibility, decide,
};
use granary_oci::{RepositoryName, Tag};

const NOW: i64 = 1_000;

fn name() -> RepositoryName {
    "acme/app".parse().unwrap()
}

fn tag() -> Tag {
    "v1.0".parse().unwrap()
}

fn tags(pattern: &str) -> TagPatterns {
    let pattern: TagPattern = pattern.parse().unwrap();
    TagPatterns::of(vec![pattern]).unwrap()
}

fn user() -> Principal {
    with(Scopes::unlimited(), None)
}

fn with(scopes: Scopes, token: Option<TokenAccess>) -> Principal {
    Principal::Known {
        id: PrincipalId(7),
        name: "alice".into(),
        credential: Credential {
            id: CredentialId(1),
            scopes,
            token,
        },
    }
}

fn scope(verbs: &[Verb], repositories: &str, tags: TagPatterns) -> Scope {
    Scope {
        verbs: verbs.iter().copied().collect(),
        repositories: repositories.parse::<RepositoryPattern>().unwrap(),
        tags,
    }
}

/// A private repository that is there, in which nothing was given.
fn private() -> Rights {
    Rights {
        accounts: true,
        stands: true,
        exists: true,
        namespace_exists: true,
        ..Rights::default()
    }
}

fn granted(verbs: Verbs, tags: TagPatterns, ends_at: Option<i64>) -> Rights {
    let grant = Grant {
        verbs,
        tags,
        ends_at,
    };
    Rights {
        grants: Arc::new([grant]),
        ..private()
    }
}

fn asked(principal: &Principal, action: Action<'_>, rights: &Rights) -> Decision {
    let context = Context {
        now: NOW,
        anonymous: AnonymousMode::Read,
        address: None,
    };
    decide(principal, action, Some(&name()), rights, &context)
}

/// What may be done, a letter each: Read, Push, Create, Update, delete a tag (x), delete (X), Administer.
fn may(principal: &Principal, rights: &Rights) -> String {
    let tag = tag();
    let actions = [
        ('R', Action::Read),
        ('P', Action::Push),
        ('C', Action::CreateTag(&tag)),
        ('U', Action::UpdateTag(&tag)),
        ('x', Action::DeleteTag(&tag)),
        ('X', Action::Delete),
        ('A', Action::Administer),
    ];
    actions
        .into_iter()
        .filter(|(_, action)| asked(principal, *action, rights).allows())
        .map(|(letter, _)| letter)
        .collect()
}

const EVERYTHING: &str = "RPCUxXA";

#[test]
fn what_roles_and_grants_give() {
    let public = Rights {
        visibility: Visibility::Public,
        ..private()
    };
    let role = |role| Rights {
        role: Some(role),
        ..private()
    };
    let verbs = |verbs: &[Verb]| granted(verbs.iter().copied().collect(), TagPatterns::all(), None);
    for (rights, expected) in [
        (private(), ""),
        (public, "R"),
        (role(Role::Member), ""),
        (role(Role::Read), "R"),
        (role(Role::Write), "RPCU"),
        (role(Role::Admin), EVERYTHING),
        (role(Role::Owner), EVERYTHING),
        (verbs(&[Verb::Read]), "R"),
        // Who may create and not move does not overwrite `latest`.
        (verbs(&[Verb::Read, Verb::Write]), "RPC"),
        (verbs(&[Verb::Write]), "PC"),
        (verbs(&[Verb::Update]), "U"),
        (verbs(&[Verb::Delete]), "xX"),
        (verbs(&[Verb::Admin]), "A"),
        // Who was given some tags looks after no repository.
        (granted(Verbs::EVERYTHING, tags("nightly-*"), None), "RPX"),
        (granted(Verbs::EVERYTHING, tags("v1.*"), None), "RPCUxX"),
        (granted(Verbs::EVERYTHING, TagPatterns::none(), None), "RPX"),
        (
            granted(Verbs::EVERYTHING, TagPatterns::all(), Some(NOW)),
            "",
        ),
        (
            granted(Verbs::EVERYTHING, TagPatterns::all(), Some(NOW + 1)),
            EVERYTHING,
        ),
        (
            Rights {
                is_own: true,
                ..private()
            },
            EVERYTHING,
        ),
        (
            Rights {
                is_administrator: true,
                ..private()
            },
            EVERYTHING,
        ),
    ] {
        assert_eq!(may(&user(), &rights), expected, "{rights:?}");
    }
}

#[test]
fn a_credential_only_takes_away() {
    let rights = Rights {
        role: Some(Role::Admin),
        ..private()
    };
    let all = [
        Verb::Read,
        Verb::Write,
        Verb::Update,
        Verb::Delete,
        Verb::Admin,
    ];
    let scopes = |scopes: Vec<Scope>| with(Scopes::only(scopes), None);
    for (repositories, expected) in [
        ("acme/app", EVERYTHING),
        ("acme/**", EVERYTHING),
        ("**", EVERYTHING),
        ("acme", ""),
        ("acme/app/**", ""),
        ("acme/app/x", ""),
        ("acme/ap", ""),
        ("acme/app2", ""),
    ] {
        let narrow = scopes(vec![scope(&all, repositories, TagPatterns::all())]);
        assert_eq!(may(&narrow, &rights), expected, "{repositories}");
        assert_eq!(may(&narrow, &private()), "", "a scope gives nothing");
    }
    assert_eq!(may(&scopes(vec![]), &rights), "");
    let read = scope(&[Verb::Read], "acme/**", TagPatterns::all());
    let push = scope(&[Verb::Write, Verb::Update], "acme/app", tags("nightly"));
    assert_eq!(may(&scopes(vec![read, push]), &rights), "RP");

    let token = |pull, push, delete| {
        let words = TokenVerbs { pull, push, delete };
        with(
            Scopes::unlimited(),
            Some(TokenAccess::new(vec![(name(), words)])),
        )
    };
    assert_eq!(may(&token(true, false, false), &rights), "R");
    assert_eq!(may(&token(true, true, false), &rights), "RPCU");
    assert_eq!(may(&token(true, true, true), &rights), "RPCUxX");
    assert_eq!(may(&token(false, false, true), &rights), "xX");
    assert_eq!(may(&token(true, true, true), &private()), "");
    let other: RepositoryName = "acme/app2".parse().unwrap();
    let words = TokenVerbs {
        pull: true,
        push: true,
        delete: true,
    };
    let elsewhere = TokenAccess::new(vec![(other, words)]);
    assert_eq!(
        may(&with(Scopes::unlimited(), Some(elsewhere)), &rights),
        ""
    );
}

#[test]
fn who_has_no_account_may_what_is_public_and_the_mode_allows() {
    let public = Rights {
        visibility: Visibility::Public,
        ..private()
    };
    let missing = Rights {
        exists: false,
        ..public.clone()
    };
    let guarded = Rights {
        create_by: CreateBy::Administrators,
        ..missing.clone()
    };
    let nowhere = Rights {
        namespace_exists: false,
        ..missing.clone()
    };
    let may_in_mode = |mode, rights: &Rights| -> String {
        let (tag, context) = (
            tag(),
            Context {
                now: NOW,
                anonymous: mode,
                address: None,
            },
        );
        let actions = [
            ('R', Action::Read),
            ('P', Action::Push),
            ('C', Action::CreateTag(&tag)),
            ('U', Action::UpdateTag(&tag)),
            ('x', Action::DeleteTag(&tag)),
            ('X', Action::Delete),
            ('A', Action::Administer),
            ('I', Action::Installation),
            ('O', Action::OwnAccount),
            ('!', Action::Ping),
        ];
        let allowed = actions.into_iter().filter(|(_, action)| {
            decide(
                &Principal::Anonymous,
                *action,
                Some(&name()),
                rights,
                &context,
            )
            .allows()
        });
        allowed.map(|(letter, _)| letter).collect()
    };
    for (mode, rights, expected) in [
        (AnonymousMode::None, &public, ""),
        (AnonymousMode::Read, &public, "R"),
        (AnonymousMode::Read, &private(), ""),
        (AnonymousMode::Read, &missing, ""),
        (AnonymousMode::Write, &public, "RPCU"),
        (AnonymousMode::Write, &private(), ""),
        (AnonymousMode::Write, &missing, "PC"),
        (AnonymousMode::Write, &guarded, ""),
        (AnonymousMode::Write, &nowhere, ""),
    ] {
        assert_eq!(may_in_mode(mode, rights), expected, "{mode:?} {rights:?}");
    }
}

#[test]
fn without_accounts_everybody_may_use_the_registry_and_with_them_nobody() {
    let before = Rights::default();
    assert_eq!(may(&Principal::Local, &before), "RPCUxX");
    assert_eq!(may(&Principal::Local, &private()), "");
    assert_eq!(may(&Principal::Operator, &private()), EVERYTHING);
}

#[test]
fn what_is_not_there_can_be_made_by_whom_the_namespace_says() {
    let missing = |rights: Rights| Rights {
        exists: false,
        ..rights
    };
    let writer = missing(Rights {
        role: Some(Role::Write),
        ..private()
    });
    let admin = missing(Rights {
        role: Some(Role::Admin),
        ..private()
    });
    let guarded = |rights: &Rights| Rights {
        create_by: CreateBy::Administrators,
        ..rights.clone()
    };
    let nowhere = |rights: &Rights| Rights {
        namespace_exists: false,
        ..rights.clone()
    };
    assert_eq!(may(&user(), &writer), "PC");
    assert_eq!(may(&user(), &guarded(&writer)), "");
    assert_eq!(may(&user(), &guarded(&admin)), "PC");
    assert_eq!(may(&user(), &nowhere(&admin)), "");
    let own = Rights {
        stands: true,
        is_own: true,
        ..Rights::default()
    };
    assert_eq!(may(&user(), &own), "PC");
    let reason = asked(&user(), Action::Push, &guarded(&writer));
    assert_eq!(reason, Decision::Deny(Reason::NotCreatable));
}

#[test]
fn credentials_that_ended_are_good_for_nothing() {
    let ended = Rights {
        stands: false,
        is_administrator: true,
        is_own: true,
        visibility: Visibility::Public,
        ..private()
    };
    let context = Context {
        now: NOW,
        anonymous: AnonymousMode::Write,
        address: None,
    };
    for action in [
        Action::Read,
        Action::Push,
        Action::Delete,
        Action::Administer,
    ] {
        assert_eq!(
            asked(&user(), action, &ended),
            Decision::Deny(Reason::Ended)
        );
    }
    for action in [Action::Ping, Action::List, Action::OwnAccount] {
        let decision = decide(&user(), action, None, &ended, &context);
        assert_eq!(decision, Decision::Deny(Reason::Ended));
    }
}

#[test]
fn nobody_moves_an_immutable_tag() {
    let immutable = |rights: Rights| Rights {
        immutable: Some(tags("v*")),
        ..rights
    };
    let admin = immutable(Rights {
        role: Some(Role::Owner),
        ..private()
    });
    let deleter = immutable(granted(
        Verbs::READ.and(Verb::Delete.into()),
        TagPatterns::all(),
        None,
    ));
    assert_eq!(may(&user(), &admin), "RPCxXA");
    assert_eq!(may(&user(), &deleter), "RX");
    let reason = asked(&user(), Action::UpdateTag(&tag()), &admin);
    assert_eq!(reason, Decision::Deny(Reason::ImmutableTag));
    let other: Tag = "latest".parse().unwrap();
    assert!(asked(&user(), Action::UpdateTag(&other), &admin).allows());
}

#[test]
fn the_reason_tells_whether_the_repository_may_be_known_of() {
    let reader = granted(Verbs::READ, TagPatterns::all(), None);
    let deny = |reason| Decision::Deny(reason);
    assert_eq!(
        asked(&user(), Action::Push, &private()),
        deny(Reason::Hidden)
    );
    let missing = Rights {
        exists: false,
        ..private()
    };
    assert_eq!(asked(&user(), Action::Read, &missing), deny(Reason::Hidden));
    assert_eq!(
        asked(&user(), Action::Push, &reader),
        deny(Reason::NotGranted)
    );
    let token = with(Scopes::unlimited(), Some(TokenAccess::default()));
    assert_eq!(
        asked(&token, Action::Read, &reader),
        deny(Reason::TokenTooNarrow)
    );
    let scoped = with(Scopes::only(vec![]), None);
    assert_eq!(
        asked(&scoped, Action::Read, &reader),
        deny(Reason::ScopeTooNarrow)
    );
    assert_eq!(
        asked(&Principal::Anonymous, Action::Read, &private()),
        deny(Reason::NoCredentials)
    );
}

#[test]
fn accounts_need_a_credential_that_says_so() {
    let context = Context {
        now: NOW,
        anonymous: AnonymousMode::None,
        address: None,
    };
    let admin = Rights {
        is_administrator: true,
        ..private()
    };
    let ask = |principal: &Principal, action, rights: &Rights| {
        decide(principal, action, None, rights, &context).allows()
    };
    for action in [Action::OwnAccount, Action::Installation] {
        let mine = matches!(action, Action::OwnAccount);
        assert_eq!(ask(&user(), action, &private()), mine);
        assert!(ask(&user(), action, &admin));
        let narrow = scope(&[Verb::Read, Verb::Admin], "**", TagPatterns::all());
        assert!(!ask(
            &with(Scopes::only(vec![narrow]), None),
            action,
            &admin
        ));
        let account = scope(&[Verb::Account], "**", TagPatterns::all());
        assert!(ask(
            &with(Scopes::only(vec![account]), None),
            action,
            &admin
        ));
        let part = scope(&[Verb::Account], "acme/**", TagPatterns::all());
        assert!(!ask(&with(Scopes::only(vec![part]), None), action, &admin));
        let token = with(Scopes::unlimited(), Some(TokenAccess::default()));
        assert!(!ask(&token, action, &admin));
        assert!(!ask(&Principal::Anonymous, action, &admin));
        assert!(!ask(&Principal::Local, action, &Rights::default()));
    }
}

fn from(address: &str) -> Context {
    Context {
        now: NOW,
        anonymous: AnonymousMode::Write,
        address: Some(address.parse().unwrap()),
    }
}

fn blocks(list: &[&str]) -> AddressBlocks {
    AddressBlocks::of(list.iter().map(|block| block.parse().unwrap()).collect()).unwrap()
}

#[test]
fn a_credential_is_good_only_where_its_lists_say() {
    let rights = Rights {
        is_own: true,
        usable_from: Arc::new([
            blocks(&["10.0.0.0/8", "::1"]),
            blocks(&["10.1.0.0/16", "::1"]),
        ]),
        ..private()
    };
    let ask = |action, context: &Context| decide(&user(), action, Some(&name()), &rights, context);
    for action in [
        Action::Ping,
        Action::List,
        Action::Read,
        Action::Push,
        Action::OwnAccount,
    ] {
        assert!(ask(action, &from("10.1.2.3")).allows(), "{action:?}");
        assert!(ask(action, &from("::ffff:10.1.2.3")).allows(), "{action:?}");
        assert!(ask(action, &from("::1")).allows(), "{action:?}");
        // In one list and not in the other, in none, and from an address that nobody knows.
        let unknown = Context {
            address: None,
            ..from("::1")
        };
        for context in [from("10.2.0.1"), from("192.0.2.1"), unknown] {
            assert_eq!(ask(action, &context), Decision::Deny(Reason::Address));
        }
    }
}

#[test]
fn an_organisation_is_hidden_from_where_it_is_not_open() {
    let rights = Rights {
        role: Some(Role::Owner),
        is_administrator: true,
        visibility: Visibility::Public,
        open_to: Some(blocks(&["10.0.0.0/8"])),
        ..private()
    };
    let ask = |who: &Principal, action, address| {
        decide(who, action, Some(&name()), &rights, &from(address))
    };
    for action in [
        Action::Read,
        Action::Push,
        Action::Namespace,
        Action::Organisation(Role::Member),
    ] {
        assert!(ask(&user(), action, "10.9.9.9").allows(), "{action:?}");
        assert_eq!(
            ask(&user(), action, "11.0.0.1"),
            Decision::Deny(Reason::Hidden)
        );
    }
    assert!(ask(&user(), Action::Installation, "11.0.0.1").allows());
    assert!(ask(&Principal::Anonymous, Action::Read, "10.9.9.9").allows());
    assert!(!ask(&Principal::Anonymous, Action::Read, "11.0.0.1").allows());
}

#[test]
fn roles_and_scopes_decide_about_organisations() {
    let at = |role, scopes: Scopes, action| {
        let rights = Rights { role, ..private() };
        decide(&with(scopes, None), action, None, &rights, &from("::1"))
    };
    let every = Scopes::unlimited;
    let organisation = Action::Organisation;
    for (role, least, allowed) in [
        (Some(Role::Owner), Role::Owner, true),
        (Some(Role::Admin), Role::Owner, false),
        (Some(Role::Admin), Role::Admin, true),
        (Some(Role::Write), Role::Admin, false),
        (Some(Role::Member), Role::Member, true),
        (None, Role::Member, false),
    ] {
        assert_eq!(
            at(role, every(), organisation(least)).allows(),
            allowed,
            "{role:?} {least:?}"
        );
    }
    let stranger = at(None, every(), organisation(Role::Member));
    assert_eq!(stranger, Decision::Deny(Reason::Hidden));
    let member = at(Some(Role::Member), every(), organisation(Role::Admin));
    assert_eq!(member, Decision::Deny(Reason::NotGranted));
    // A token that may push everywhere makes no teams.
    let push = Scopes::only([scope(&[Verb::Write, Verb::Admin], "**", TagPatterns::all())]);
    let narrow = at(Some(Role::Owner), push.clone(), organisation(Role::Admin));
    assert_eq!(narrow, Decision::Deny(Reason::ScopeTooNarrow));
    assert!(at(Some(Role::Owner), push, Action::Namespace).allows());
    assert!(!at(Some(Role::Write), every(), Action::Namespace).allows());
}

#[test]
fn what_takes_an_administrator_takes_a_credential_that_is_good_for_it() {
    let owner = Rights {
        is_own: true,
        immutable: Some(tags("v*")),
        create_by: CreateBy::Administrators,
        ..private()
    };
    let missing = Rights {
        exists: false,
        ..owner.clone()
    };
    let scoped = |verbs: &[Verb]| {
        let scope = scope(verbs, "acme/**", TagPatterns::all());
        with(Scopes::only(vec![scope]), None)
    };
    let writer = scoped(&[Verb::Read, Verb::Write, Verb::Delete]);
    let admin = scoped(&[Verb::Read, Verb::Write, Verb::Delete, Verb::Admin]);
    let tag = tag();
    for (action, rights) in [
        (Action::DeleteTag(&tag), &owner),
        (Action::Push, &missing),
        (Action::CreateTag(&tag), &missing),
    ] {
        assert!(asked(&user(), action, rights).allows());
        assert!(asked(&admin, action, rights).allows());
        assert_eq!(
            asked(&writer, action, rights),
            Decision::Deny(Reason::ScopeTooNarrow)
        );
    }
    let other: Tag = "latest".parse().unwrap();
    assert!(asked(&writer, Action::DeleteTag(&other), &owner).allows());
}

#[test]
fn to_look_after_a_repository_is_about_all_its_tags() {
    let everything = Verbs::EVERYTHING;
    let rights = Rights {
        immutable: Some(tags("*")),
        ..granted(everything, tags("v*"), None)
    };
    let (tag, other): (Tag, Tag) = (tag(), "latest".parse().unwrap());
    for action in [
        Action::Read,
        Action::Push,
        Action::Delete,
        Action::CreateTag(&tag),
        Action::DeleteTag(&tag),
    ] {
        assert!(asked(&user(), action, &rights).allows(), "{action:?}");
    }
    for action in [
        Action::Administer,
        Action::CreateTag(&other),
        Action::DeleteTag(&other),
    ] {
        assert!(!asked(&user(), action, &rights).allows(), "{action:?}");
    }
    // The same of a credential.
    let all = granted(everything, TagPatterns::all(), None);
    let scope = scope(&[Verb::Read, Verb::Admin, Verb::Account], "**", tags("v*"));
    let narrow = with(Scopes::only(vec![scope]), None);
    assert!(asked(&narrow, Action::Read, &all).allows());
    for action in [Action::Administer, Action::OwnAccount] {
        assert!(!asked(&narrow, action, &all).allows(), "{action:?}");
    }
}
