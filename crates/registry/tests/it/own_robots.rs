//! Robots of users.

use granary_access::AddressBlocks;
use granary_registry::{AccountsCommand, AccountsError, GroupsCommand, Reason, UserChange};

use crate::{
    accounts::{bob, reads, reason, sign_in},
    gate::{run, together},
    groups::{acme, add, grant, operator, own_robots, push_image},
    robots::{by_token, request},
};

#[test]
fn robots_of_a_user_go_with_him() {
    let _unset = together();
    run(async {
        let world = acme().await;
        let registry = &world.registry;
        let erin = add(registry, "erin").await;
        push_image(registry, &erin, "erin/app").await;
        let hers = own_robots(registry, &erin).await;
        hers.create_robot("ci").await.unwrap();
        grant(registry, "erin+ci", "read:erin/**").await.unwrap();
        let (_, token) = hers.create_robot_token("ci", request("ci")).await.unwrap();
        let ci = sign_in(registry, "erin+ci", token).await.unwrap();
        assert!(reads(registry, &ci, "erin/app").await.is_ok());
        let command = AccountsCommand::ChangeUser {
            user: "erin".to_owned(),
            change: UserChange::Removed,
        };
        registry.administer(command).await.unwrap();
        let refused = reason(reads(registry, &ci, "erin/app").await);
        assert_eq!(refused, Some(Reason::Ended));
        let successor = add(registry, "erin").await;
        let robots = own_robots(registry, &successor).await;
        let robots = robots.robots(crate::groups::page("", 10)).await.unwrap();
        assert!(robots.entries.is_empty(), "{robots:?}");
    });
}

#[test]
fn a_users_robot_acts_for_him() {
    let _unset = together();
    run(async {
        let world = acme().await;
        let registry = &world.registry;
        let bob = bob(registry).await;
        push_image(registry, &bob, "bob/app").await;
        let his = own_robots(registry, &bob).await;
        his.create_robot("ci").await.unwrap();
        grant(registry, "bob+ci", "read:bob/**").await.unwrap();
        let (_, token) = his.create_robot_token("ci", request("ci")).await.unwrap();
        by_token(registry, &token, None).await.unwrap();
        for (change, ended) in [
            (UserChange::Disabled, Some(Reason::Ended)),
            (UserChange::Enabled, None),
        ] {
            let user = "bob".to_owned();
            let command = AccountsCommand::ChangeUser { user, change };
            registry.administer(command).await.unwrap();
            assert_eq!(reason(by_token(registry, &token, None).await), ended);
        }
        // Where he may not be used, it may not.
        let command = GroupsCommand::SetAddresses {
            name: "bob".to_owned(),
            addresses: Some(AddressBlocks::of(vec!["10.0.0.0/8".parse().unwrap()]).unwrap()),
        };
        operator(registry, command).await;
        let elsewhere = by_token(registry, &token, Some("192.0.2.1")).await;
        assert_eq!(reason(elsewhere), Some(Reason::Address));
        by_token(registry, &token, Some("10.1.2.3")).await.unwrap();
    });
}

#[test]
fn a_user_has_a_few_robots() {
    let _unset = together();
    run(async {
        let world = acme().await;
        let registry = &world.registry;
        let his = own_robots(registry, &bob(registry).await).await;
        for number in 0..20 {
            his.create_robot(&format!("r{number}")).await.unwrap();
        }
        let refused = his.create_robot("one-more").await;
        assert!(
            matches!(refused, Err(AccountsError::Full(20))),
            "{refused:?}"
        );
        his.remove_robot("r7").await.unwrap();
        his.create_robot("one-more").await.unwrap();
    });
}
