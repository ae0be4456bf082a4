//! Names that go to others, and what is given while its owner goes: nobody gets anything of who was there before.

use granary_access::Role;
use granary_registry::{
    AccountsCommand, AccountsError, Caller, GroupsCommand, Installation, NamespaceSettings,
    OrganisationAdmin, OrganisationMember, OrganisationOwner, Reason, RobotOwner, TenancyCommand,
    UserChange,
};

use crate::{
    accounts::{bob, password, pushes, reads, reason, sign_in, world as people},
    gate::{run, together},
    groups::{acme, add, alice, change, denied, found, grant, grantees, leave, page, push_image},
};

#[test]
fn nothing_is_left_of_what_is_given_to_somebody_who_is_being_removed() {
    let _unset = together();
    run(async {
        let world = acme().await;
        let registry = &world.registry;
        for round in 0..12 {
            let user = format!("guest{round}");
            add(registry, &user).await;
            let (id, _) = registry.catalog().named(&user).await.unwrap().unwrap();
            let token = AccountsCommand::CreateToken {
                user: user.clone(),
                name: "late".to_owned(),
                scopes: granary_access::Scopes::unlimited(),
                lifetime: None,
                addresses: None,
            };
            let joins = GroupsCommand::SetMember {
                organisation: "acme".to_owned(),
                member: user.clone(),
                role: Role::Write,
            };
            let owns = TenancyCommand::Namespace {
                namespace: format!("room{round}"),
                change: NamespaceSettings {
                    owner: Some(user.clone()),
                    ..NamespaceSettings::default()
                },
            };
            // What comes too late is refused; what comes in time goes with him. He keeps a namespace.
            let (_, _, _, _, removed) = tokio::join!(
                grant(registry, &user, "read:acme/**"),
                registry.administer(token),
                registry.administer(AccountsCommand::Groups(joins)),
                registry.administer(AccountsCommand::Tenancy(owns)),
                change(registry, &user, UserChange::Removed),
            );
            removed.unwrap();
            assert!(grantees(registry, "acme").await.is_empty(), "round {round}");
            assert!(registry.catalog().tokens(id).await.unwrap().is_empty());
            let who = alice(registry).await;
            let member = leave::<OrganisationMember>(registry, &who, "acme".to_owned()).await;
            let members = member.members(page("", 100)).await.unwrap().entries;
            let members: Vec<_> = members.iter().map(|member| &*member.member).collect();
            assert_eq!(members, ["bob"], "round {round}");
        }
    });
}

#[test]
fn whoever_gets_a_name_gets_nothing_of_who_had_it() {
    let _unset = together();
    run(async {
        let world = acme().await;
        let registry = &world.registry;
        let carol = sign_in(registry, "carol", password("carol")).await.unwrap();
        let dave = sign_in(registry, "dave", password("dave")).await.unwrap();
        let owner = bob(registry).await;
        let acme = leave::<OrganisationOwner>(registry, &owner, "acme".to_owned()).await;
        let full = acme.remove_organisation().await;
        assert!(
            matches!(full, Err(AccountsError::HasRepositories(_))),
            "{full:?}"
        );
        // A user.
        acme.set_member("dave", Role::Write).await.unwrap();
        grant(registry, "dave", "read,write:acme/**").await.unwrap();
        change(registry, "dave", UserChange::Removed).await.unwrap();
        let successor = add(registry, "dave").await;
        assert_ne!(successor.ids(), dave.ids());
        let refused = reason(reads(registry, &successor, "acme/app").await);
        assert_eq!(refused, Some(Reason::Hidden));
        let former = reason(reads(registry, &dave, "acme/app").await);
        assert_eq!(former, Some(Reason::Ended));
        // An organisation, with all that is in it.
        let fill = async || {
            found(registry, "other", "bob").await;
            let who = bob(registry).await;
            let admin = leave::<OrganisationAdmin>(registry, &who, "other".to_owned()).await;
            admin.create_team("core").await.unwrap();
            let robots = leave::<RobotOwner>(registry, &who, "other".to_owned()).await;
            robots.create_robot("ci").await.unwrap();
            robots
        };
        let robots = fill().await;
        let caller = Caller::from(&bob(registry).await);
        registry
            .set_member(&caller, "other", "carol", Role::Admin)
            .await
            .unwrap();
        grant(registry, "carol", "admin:other/**").await.unwrap();
        grant(registry, "other/core", "admin:other/**")
            .await
            .unwrap();
        grant(registry, "other+ci", "read,write:other/**")
            .await
            .unwrap();
        let (_, token) = robots
            .create_robot_token("ci", crate::robots::request("ci"))
            .await
            .unwrap();
        let robot = sign_in(registry, "other+ci", token.clone()).await.unwrap();
        assert!(pushes(registry, &robot, "other/app").await.is_ok());
        let other = leave::<OrganisationOwner>(registry, &owner, "other".to_owned()).await;
        other.remove_organisation().await.unwrap();
        for who in [&bob(registry).await, &carol] {
            let refused = reason(pushes(registry, who, "other/app").await);
            assert_eq!(refused, Some(Reason::Hidden));
        }
        let refused = reason(pushes(registry, &robot, "other/app").await);
        assert_eq!(refused, Some(Reason::Ended));
        fill().await;
        let refused = reason(pushes(registry, &carol, "other/app").await);
        assert_eq!(refused, Some(Reason::Hidden));
        let robot = sign_in(registry, "other+ci", token).await.unwrap();
        let refused = reason(pushes(registry, &robot, "other/app").await);
        assert_eq!(refused, Some(Reason::Ended));
        assert!(grantees(registry, "other").await.is_empty());
    });
}

#[test]
fn an_organisation_takes_over_a_namespace_of_its_owner_only() {
    let _unset = together();
    run(async {
        let world = people().await;
        let registry = &world.registry;
        let admin = leave::<Installation>(registry, &alice(registry).await, ()).await;
        push_image(registry, &alice(registry).await, "shop/app").await;
        let taken = admin.create_organisation("shop", "bob").await;
        assert!(
            matches!(taken, Err(AccountsError::NamespaceTaken(_))),
            "{taken:?}"
        );
        let taken = admin.create_organisation("bob", "bob").await;
        assert!(matches!(taken, Err(AccountsError::Taken(_))), "{taken:?}");
        let nobody = admin.create_organisation("new", "nobody").await;
        assert!(
            matches!(nobody, Err(AccountsError::NoSuch(_))),
            "{nobody:?}"
        );
        let caller = Caller::from(&bob(registry).await);
        let his = registry.ask_leave::<Installation>(&caller, ()).await;
        assert_eq!(denied(his), Some(Reason::NotGranted));
        assert!(admin.create_organisation("shop", "alice").await.unwrap());
        assert!(!admin.create_organisation("new", "bob").await.unwrap());
        registry
            .set_member(
                &Caller::from(&alice(registry).await),
                "shop",
                "bob",
                Role::Read,
            )
            .await
            .unwrap();
        assert!(
            reads(registry, &bob(registry).await, "shop/app")
                .await
                .is_ok()
        );
    });
}
