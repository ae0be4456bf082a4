//! Log-ins through identity providers, and the sessions of browsers that come of them.

use granary_access::Role;
use granary_identity::{
    Secret,
    oidc::{LoginSecrets, fresh_secret},
};
use granary_registry::{
    AccountsCommand, AccountsReport, AnonymousMode, GroupsCommand, LoginError, MappingRequest,
    Newcomer, Origin, OwnAccount, Principal, ProviderCommand, Reason, Registry, SignInError,
    UserChange,
};

use crate::{
    accounts::{password, pushes, reads, reason, rules, secret, sign_in, world as people},
    gate::{run, together},
    groups::{add, alice, found, leave, operator, push_image},
    world::{World, is_postgres, open},
};

const ISSUER: &str = "https://login.example.org";

/// Who `subject` is at the provider.
fn newcomer(subject: &str, name: &str, groups: &[&str]) -> Newcomer {
    Newcomer {
        issuer: ISSUER.to_owned(),
        subject: subject.to_owned(),
        name: Some(name.to_owned()),
        email: None,
        groups: groups.iter().map(|group| (*group).to_owned()).collect(),
    }
}

async fn tries(
    registry: &Registry,
    (subject, name): (&str, &str),
    groups: &[&str],
) -> Result<Secret, LoginError> {
    let user = newcomer(subject, name, groups);
    registry.log_in("corp", user, &Origin::default()).await
}

async fn of(registry: &Registry, session: &Secret) -> Principal {
    let found = registry.session(session).await.unwrap();
    found.unwrap().principal
}

async fn logs_in(registry: &Registry, who: (&str, &str), groups: &[&str]) -> Principal {
    let session = tries(registry, who, groups).await.unwrap();
    of(registry, &session).await
}

const ERIN: (&str, &str) = ("4711", "erin");

async fn about(registry: &Registry, command: ProviderCommand) -> AccountsReport {
    let command = AccountsCommand::Provider(command);
    registry.administer(command).await.unwrap()
}

async fn map(registry: &Registry, group: &str, to: &str, role: Role) {
    let request = MappingRequest {
        provider: ISSUER.to_owned(),
        group: group.to_owned(),
        to: to.to_owned(),
        role,
    };
    about(registry, ProviderCommand::Map(request)).await;
}

async fn unmap(registry: &Registry, group: &str, to: &str) {
    let command = ProviderCommand::Unmap {
        provider: ISSUER.to_owned(),
        group: group.to_owned(),
        to: to.to_owned(),
    };
    about(registry, command).await;
}

async fn change(registry: &Registry, user: &str, change: UserChange) {
    let user = user.to_owned();
    let command = AccountsCommand::ChangeUser { user, change };
    registry.administer(command).await.unwrap();
}

/// alice administers and owns acme; bob is a user. On PostgreSQL the second registry is another replica.
async fn world() -> (World, Registry) {
    let world = people().await;
    found(&world.registry, "acme", "alice").await;
    let other = match is_postgres() {
        true => open(world.folder.path(), rules(AnonymousMode::None)).await,
        false => world.registry.clone(),
    };
    (world, other)
}

#[test]
fn a_log_in_is_finished_once_by_the_browser_and_at_the_provider_that_began_it() {
    let _unset = together();
    run(async {
        let (world, other) = world().await;
        let (secrets, browser) = (LoginSecrets::fresh().unwrap(), fresh_secret().unwrap());
        let strange = fresh_secret().unwrap();
        let to = "/ui/?a=b".parse().unwrap();
        let began = &world.registry;
        began
            .begin_login("corp", &secrets, &browser, &to, &Origin::default())
            .await
            .unwrap();
        for (provider, state, browser) in [
            ("corp", &secrets.state, &strange),
            ("corp", &strange, &browser),
            ("corp", &secrets.nonce, &browser),
            ("evil", &secrets.state, &browser),
        ] {
            let taken = other.take_login(provider, state, browser).await;
            assert!(matches!(taken, Err(LoginError::Unknown)), "{taken:?}");
        }
        // Of many who bring the same at once, on both replicas, one has it.
        let takes = |registry: &Registry| {
            let (registry, state, browser) =
                (registry.clone(), secrets.state.clone(), browser.clone());
            tokio::spawn(async move { registry.take_login("corp", &state, &browser).await })
        };
        let all = [takes(&other), takes(began), takes(&other), takes(began)];
        let mut had = Vec::new();
        for one in all {
            match one.await.unwrap() {
                Ok(login) => had.push(login),
                Err(LoginError::Unknown) => {}
                Err(error) => panic!("{error}"),
            }
        }
        assert_eq!(had.len(), 1);
        assert_eq!(had[0].secrets.nonce.expose(), secrets.nonce.expose());
        assert_eq!(had[0].secrets.verifier.expose(), secrets.verifier.expose());
        assert_eq!(had[0].return_to, to);
    });
}

#[test]
fn who_logs_in_is_found_by_subject_and_gets_nothing_by_a_name() {
    let _unset = together();
    run(async {
        let (world, other) = world().await;
        let registry = &world.registry;
        let erin = logs_in(registry, ERIN, &[]).await;
        assert_eq!(erin.name(), "erin");
        push_image(registry, &erin, "erin/app").await;
        // She is the same under another name, on another replica.
        let again = logs_in(&other, ("4711", "erin-married"), &[]).await;
        assert_eq!(again.ids().map(|(id, _)| id), erin.ids().map(|(id, _)| id));
        assert!(pushes(&other, &again, "erin/app").await.is_ok());
        // Others are others, whatever they are called.
        for (who, named, theirs) in [
            (("1", "bob"), "bob-2", "bob/app"),
            (("2", "erin"), "erin-2", "erin/app"),
            (("3", "acme"), "acme-2", "acme/app"),
        ] {
            let stranger = logs_in(registry, who, &[]).await;
            assert_eq!(stranger.name(), named);
            let denied = reason(pushes(registry, &stranger, theirs).await);
            assert!(denied.is_some(), "{named} pushes to {theirs}");
            assert!(
                pushes(registry, &stranger, &format!("{named}/app"))
                    .await
                    .is_ok()
            );
        }
    });
}

#[test]
fn one_subject_that_comes_twice_at_once_is_one_user() {
    let _unset = together();
    run(async {
        let (world, other) = world().await;
        let enters = |registry: &Registry| {
            let registry = registry.clone();
            tokio::spawn(async move { logs_in(&registry, ERIN, &[]).await })
        };
        let mut ids = Vec::new();
        let registry = &world.registry;
        for one in [
            enters(registry),
            enters(&other),
            enters(registry),
            enters(&other),
        ] {
            ids.push(one.await.unwrap().ids().map(|(id, _)| id));
        }
        ids.dedup();
        assert_eq!(ids.len(), 1, "{ids:?}");
    });
}

#[test]
fn who_is_disabled_or_removed_does_not_come_in_and_leaves_nothing_to_another() {
    let _unset = together();
    run(async {
        let (world, other) = world().await;
        let registry = &world.registry;
        let erin = logs_in(registry, ERIN, &[]).await;
        push_image(registry, &erin, "erin/app").await;
        change(registry, "erin", UserChange::Disabled).await;
        let denied = reason(reads(&other, &erin, "erin/app").await);
        assert_eq!(denied, Some(Reason::Ended));
        let refused = tries(&other, ERIN, &[]).await;
        assert!(matches!(refused, Err(LoginError::Gone(name)) if name == "erin"));
        change(registry, "erin", UserChange::Enabled).await;
        logs_in(&other, ERIN, &[]).await;
        change(registry, "erin", UserChange::Removed).await;
        let refused = tries(&other, ERIN, &[]).await;
        assert!(matches!(refused, Err(LoginError::Gone(_))));
        // Somebody else of that name, at the provider and here.
        let next = logs_in(registry, ("4712", "erin"), &[]).await;
        assert_eq!(next.name(), "erin-2");
        let denied = reason(reads(registry, &next, "erin/app").await);
        assert_eq!(denied, Some(Reason::Hidden));
        let made = add(registry, "erin").await;
        let denied = reason(reads(registry, &made, "erin/app").await);
        assert_eq!(denied, Some(Reason::Hidden));
        let refused = tries(registry, ERIN, &[]).await;
        assert!(matches!(refused, Err(LoginError::Gone(_))));
    });
}

#[test]
fn groups_of_a_provider_give_rights_until_a_log_in_without_them() {
    let _unset = together();
    run(async {
        let (world, other) = world().await;
        let registry = &world.registry;
        push_image(registry, &alice(registry).await, "acme/app").await;
        map(registry, "engineers", "acme", Role::Write).await;
        map(registry, "engineers", "acme", Role::Read).await;
        map(registry, "leads", "acme", Role::Write).await;
        let erin = logs_in(registry, ERIN, &["engineers", "others", "no\0ne"]).await;
        assert!(reads(&other, &erin, "acme/app").await.is_ok());
        let denied = reason(pushes(&other, &erin, "acme/app").await);
        assert_eq!(denied, Some(Reason::NotGranted));
        let lead = logs_in(&other, ERIN, &["engineers", "leads"]).await;
        assert!(pushes(registry, &lead, "acme/app").await.is_ok());
        // What she is by the provider holds for whatever she shows.
        assert!(pushes(&other, &erin, "acme/app").await.is_ok());
        let nothing = logs_in(&other, ERIN, &[]).await;
        for who in [&nothing, &lead, &erin] {
            let denied = reason(reads(registry, who, "acme/app").await);
            assert_eq!(denied, Some(Reason::Hidden));
        }
    });
}

#[test]
fn what_was_said_by_hand_stays() {
    let _unset = together();
    run(async {
        let (world, other) = world().await;
        let registry = &world.registry;
        push_image(registry, &alice(registry).await, "acme/app").await;
        map(registry, "engineers", "acme", Role::Write).await;
        logs_in(registry, ERIN, &["engineers"]).await;
        let by_hand = GroupsCommand::SetMember {
            organisation: "acme".to_owned(),
            member: "erin".to_owned(),
            role: Role::Read,
        };
        operator(registry, by_hand).await;
        let erin = logs_in(&other, ERIN, &[]).await;
        assert!(reads(registry, &erin, "acme/app").await.is_ok());
        let denied = reason(pushes(registry, &erin, "acme/app").await);
        assert_eq!(denied, Some(Reason::NotGranted));
    });
}

#[test]
fn a_mapping_that_is_taken_back_counts_no_longer_at_once() {
    let _unset = together();
    run(async {
        let (world, other) = world().await;
        let registry = &world.registry;
        push_image(registry, &alice(registry).await, "acme/app").await;
        let team = GroupsCommand::CreateTeam {
            organisation: "acme".to_owned(),
            team: "core".to_owned(),
        };
        operator(registry, team).await;
        map(registry, "engineers", "acme", Role::Write).await;
        map(registry, "people", "acme/core", Role::Member).await;
        let erin = logs_in(registry, ERIN, &["engineers", "people"]).await;
        assert!(pushes(&other, &erin, "acme/app").await.is_ok());
        unmap(registry, "engineers", "acme").await;
        // Of the organisation she still is, for her team is of it.
        let denied = reason(pushes(&other, &erin, "acme/app").await);
        assert_eq!(denied, Some(Reason::Hidden));
        assert_eq!(roles(registry).await, ["erin Member"]);
        unmap(registry, "people", "acme/core").await;
        assert!(roles(registry).await.is_empty());
    });
}

/// Who belongs to acme by the word of the provider, and as what.
async fn roles(registry: &Registry) -> Vec<String> {
    let who = alice(registry).await;
    let leave = leave::<granary_registry::OrganisationMember>(registry, &who, "acme".to_owned());
    let members = leave.await.members(crate::groups::page("", 100)).await;
    let members = members.unwrap().entries.into_iter();
    let of_provider = members.filter(|member| member.source == ISSUER);
    of_provider
        .map(|member| format!("{} {:?}", member.member, member.role))
        .collect()
}

#[test]
fn a_session_ends_where_it_is_ended() {
    let _unset = together();
    run(async {
        let (world, other) = world().await;
        let registry = &world.registry;
        let (first, second) = (
            tries(registry, ERIN, &[]).await.unwrap(),
            tries(registry, ERIN, &[]).await.unwrap(),
        );
        let erin = of(&other, &first).await;
        assert!(pushes(&other, &erin, "erin/app").await.is_ok());
        let own = leave::<OwnAccount>(registry, &erin, ()).await;
        own.end_session().await.unwrap();
        let denied = reason(pushes(&other, &of(&other, &first).await, "erin/app").await);
        assert_eq!(denied, Some(Reason::Ended));
        assert!(own.end_session().await.is_err());
        let left = of(&other, &second).await;
        assert!(pushes(&other, &left, "erin/app").await.is_ok());
        // It is no token.
        let user = "erin";
        let shown = sign_in(registry, user, second.clone()).await;
        assert!(matches!(shown, Err(SignInError::Wrong)));
        let bearer = granary_registry::Shown::Bearer(second);
        let shown = registry.sign_in(bearer, &Origin::default()).await;
        assert!(matches!(shown, Err(SignInError::Wrong)));
    });
}

#[test]
fn a_session_by_a_password_ends_with_it() {
    let _unset = together();
    run(async {
        let (world, other) = world().await;
        let registry = &world.registry;
        let by = async |registry: &Registry, password: Secret| {
            let origin = Origin::default();
            let user = "bob".to_owned();
            registry.log_in_by_password(user, password, &origin).await
        };
        let wrong = by(registry, secret("not what bob has")).await;
        assert!(matches!(wrong, Err(SignInError::Wrong)));
        let session = by(registry, password("bob")).await.unwrap();
        let bob = of(&other, &session).await;
        assert!(pushes(&other, &bob, "bob/app").await.is_ok());
        let command = AccountsCommand::SetPassword {
            user: "bob".to_owned(),
            password: secret("another, quite long"),
        };
        registry.administer(command).await.unwrap();
        let denied = reason(pushes(&other, &bob, "bob/app").await);
        assert_eq!(denied, Some(Reason::Ended));
        // Both may remember the former one.
        for registry in [registry, &other] {
            let former = by(registry, password("bob")).await;
            assert!(matches!(former, Err(SignInError::Wrong)));
            let session = by(registry, secret("another, quite long")).await.unwrap();
            assert_eq!(of(registry, &session).await.name(), "bob");
        }
        change(registry, "bob", UserChange::Disabled).await;
        let disabled = by(&other, secret("another, quite long")).await;
        assert!(matches!(disabled, Err(SignInError::Wrong)));
    });
}

#[test]
fn one_network_does_not_use_up_the_log_ins_of_all() {
    let _unset = together();
    run(async {
        let (world, _) = world().await;
        let begin = async |address: &str| {
            let (secrets, browser) = (LoginSecrets::fresh().unwrap(), fresh_secret().unwrap());
            let (to, origin) = (
                "/".parse().unwrap(),
                Origin {
                    address: Some(address.parse().unwrap()),
                    ..Origin::default()
                },
            );
            let registry = &world.registry;
            registry
                .begin_login("corp", &secrets, &browser, &to, &origin)
                .await
        };
        for number in 0..300 {
            begin(&format!("2001:db8::{number:x}")).await.unwrap();
        }
        let refused = begin("2001:db8::ffff").await;
        assert!(matches!(refused, Err(LoginError::TooMany)), "{refused:?}");
        begin("2001:db8:0:1::1").await.unwrap();
        begin("192.0.2.1").await.unwrap();
    });
}
