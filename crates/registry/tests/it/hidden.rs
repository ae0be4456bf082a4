//! Names of others: whoever may not see what bears one learns nothing from trying to give it something.

use granary_access::{Role, Scope, Scopes, TeamRole};
use granary_registry::{
    AccountsCommand, AccountsError, AccountsReport, Caller, GrantRequest, Principal, Registry,
    TeamMaintainer,
};

use crate::{
    accounts::{bob, sign_in},
    gate::{run, together},
    groups::{acme, alice, found, leave, own_robots, robots_of_acme},
    world::World,
};

/// What an attempt to give something says of the name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Said {
    Nothing,
    Foreign,
    Organisation,
}

fn said<T: std::fmt::Debug>(result: Result<T, AccountsError>, name: &str) -> Said {
    match result {
        Err(AccountsError::NoSuch(told)) if told == name => Said::Nothing,
        Err(AccountsError::Foreign(told)) if told == name => Said::Foreign,
        Err(AccountsError::NotToOrganisation(told)) if told == name => Said::Organisation,
        other => panic!("{name}: {other:?}"),
    }
}

async fn grants(registry: &Registry, by: impl Into<Caller>, to: &str, scope: &str) -> Said {
    let scope: Scope = scope.parse().unwrap();
    let request = GrantRequest {
        user: to.to_owned(),
        verbs: scope.verbs,
        repositories: scope.repositories,
        tags: scope.tags,
        lifetime: None,
    };
    said(registry.grant(&by.into(), request).await, to)
}

/// Who shows a token of that user with these scopes.
async fn narrow(registry: &Registry, user: &str, scopes: &str) -> Principal {
    let command = AccountsCommand::CreateToken {
        user: user.to_owned(),
        name: "narrow".to_owned(),
        scopes: Scopes::only(vec![scopes.parse().unwrap()]),
        lifetime: None,
        addresses: None,
    };
    let AccountsReport::TokenCreated { token, .. } = registry.administer(command).await.unwrap()
    else {
        panic!("no token was made");
    };
    sign_in(registry, user, token).await.unwrap()
}

/// The organisation acme of bob with a team and a robot, a robot of bob's own, and the organisation beta of carol.
async fn world() -> (World, Principal) {
    let world = acme().await;
    let registry = &world.registry;
    let bob = bob(registry).await;
    let carol = crate::accounts::password("carol");
    let carol = sign_in(registry, "carol", carol).await.unwrap();
    let robots = robots_of_acme(registry).await;
    robots.create_robot("ci").await.unwrap();
    let own = own_robots(registry, &bob).await;
    own.create_robot("ci").await.unwrap();
    found(registry, "beta", "carol").await;
    for (who, organisation) in [(&bob, "acme"), (&carol, "beta")] {
        let admin =
            leave::<granary_registry::OrganisationAdmin>(registry, who, organisation.to_owned());
        admin.await.create_team("core").await.unwrap();
    }
    (world, carol)
}

const OF_OTHERS: [&str; 4] = ["acme", "acme/core", "acme+ci", "bob+ci"];

#[test]
fn a_grant_does_not_tell_what_is_there_and_hidden() {
    let _unset = together();
    run(async {
        let (world, carol) = world().await;
        let registry = &world.registry;
        for name in OF_OTHERS.into_iter().chain(["nil", "nil/core", "nil+ci"]) {
            let told = grants(registry, &carol, name, "read:carol/**").await;
            assert_eq!(told, Said::Nothing, "{name}");
        }
        // A member sees what is in the organisation, and nothing of its other members.
        let bob = Caller::from(&bob(registry).await);
        let joining = registry.set_member(&bob, "acme", "carol", Role::Member);
        joining.await.unwrap();
        for (name, expected) in [
            ("acme", Said::Organisation),
            ("acme/core", Said::Foreign),
            ("acme+ci", Said::Foreign),
            ("bob+ci", Said::Nothing),
        ] {
            let told = grants(registry, &carol, name, "read:carol/**").await;
            assert_eq!(told, expected, "{name}");
        }
        // So does a token of his only if it may look after accounts.
        let narrow = narrow(registry, "carol", "read,admin:**").await;
        for name in OF_OTHERS {
            let told = grants(registry, &narrow, name, "read:carol/**").await;
            assert_eq!(told, Said::Nothing, "{name}");
        }
    });
}

#[test]
fn who_may_know_is_told_why_nothing_was_granted() {
    let _unset = together();
    run(async {
        let (world, _) = world().await;
        let registry = &world.registry;
        let everybody = [
            Said::Organisation,
            Said::Foreign,
            Said::Foreign,
            Said::Foreign,
        ];
        for by in [Caller::operator(), Caller::from(&alice(registry).await)] {
            for (name, expected) in OF_OTHERS.into_iter().zip(everybody) {
                let told = grants(registry, by.clone(), name, "read:carol/**").await;
                assert_eq!(told, expected, "{by:?} {name}");
            }
        }
        let bob = bob(registry).await;
        for (name, place, expected) in [
            ("acme", "read:bob/**", Said::Organisation),
            ("acme/core", "read:bob/**", Said::Foreign),
            ("acme+ci", "read:bob/**", Said::Foreign),
            ("bob+ci", "read:acme/**", Said::Foreign),
            ("beta", "read:bob/**", Said::Nothing),
            ("beta/core", "read:bob/**", Said::Nothing),
        ] {
            let told = grants(registry, &bob, name, place).await;
            assert_eq!(told, expected, "{name}");
        }
    });
}

#[test]
fn a_robot_of_others_looks_missing_to_who_adds_members() {
    let _unset = together();
    run(async {
        let (world, carol) = world().await;
        let registry = &world.registry;
        let (alice, carol) = (Caller::from(&alice(registry).await), Caller::from(&carol));
        let own = own_robots(registry, &carol.principal).await;
        own.create_robot("ci").await.unwrap();
        for (by, name, expected) in [
            (&carol, "acme+ci", Said::Nothing),
            (&carol, "bob+ci", Said::Nothing),
            (&carol, "nil+ci", Said::Nothing),
            (&carol, "carol+ci", Said::Foreign),
            (&alice, "acme+ci", Said::Foreign),
            (&alice, "bob+ci", Said::Foreign),
            (&alice, "nil+ci", Said::Nothing),
        ] {
            let joining = registry.set_member(by, "beta", name, Role::Read).await;
            assert_eq!(said(joining, name), expected, "{name}");
            let team = leave::<TeamMaintainer>(registry, by.clone(), "beta/core".to_owned()).await;
            let joining = team.set_member(name, TeamRole::Member).await;
            assert_eq!(said(joining, name), expected, "{name}");
        }
    });
}
