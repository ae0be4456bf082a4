//! Addresses from which organisations and users may be used, and long lists.

use std::collections::BTreeSet;

use granary_access::{AddressBlocks, Role};
use granary_registry::{
    AccountsError, Caller, GroupsCommand, OrganisationAdmin, OrganisationMember, OwnAccount, Reason,
};

use crate::{
    accounts::{bob, reason},
    gate::{run, together},
    groups::{
        acme, at, denied, found, leave, operator, page, push_image, replicas, robots_of_acme,
    },
    world::name,
};

#[test]
fn elsewhere_an_organisation_looks_as_if_it_were_not_there() {
    let _unset = together();
    run(async {
        let world = acme().await;
        let registry = &world.registry;
        let bob = bob(registry).await;
        push_image(registry, &bob, "bob/own").await;
        let (here, elsewhere) = (at(&bob, "10.1.2.3"), at(&bob, "192.0.2.1"));
        let listed = async |caller: &Caller| registry.repositories(caller, "", 10).await.unwrap();
        assert_eq!(listed(&elsewhere).await, ["acme/app", "bob/own"]);
        let blocks = AddressBlocks::of(vec!["10.0.0.0/8".parse().unwrap()]).unwrap();
        let admin = leave::<OrganisationAdmin>(registry, &here, "acme".to_owned()).await;
        admin.set_addresses(Some(blocks)).await.unwrap();
        for registry in replicas(&world).await {
            let asked = async |caller: &Caller| {
                let leave = registry.ask_leave::<OrganisationMember>(caller, "acme".to_owned());
                denied(leave.await)
            };
            assert_eq!(asked(&here).await, None);
            assert_eq!(asked(&elsewhere).await, Some(Reason::Hidden));
            let read = registry.authorise::<granary_registry::Reading>(&here, name("acme/app"));
            assert!(read.await.is_ok());
            let read =
                registry.authorise::<granary_registry::Reading>(&elsewhere, name("acme/app"));
            assert_eq!(reason(read.await), Some(Reason::Hidden));
            let catalog = registry.repositories(&elsewhere, "", 10).await.unwrap();
            assert_eq!(catalog, ["bob/own"]);
            let own = async |caller: &Caller| {
                let leave = leave::<OwnAccount>(&registry, caller, ()).await;
                let found = leave.organisations(page("", 10)).await.unwrap().entries;
                found.len()
            };
            assert_eq!((own(&here).await, own(&elsewhere).await), (1, 0));
        }
        // What was allowed here is decided again where it is done.
        let late = leave::<OrganisationAdmin>(registry, &here, "acme".to_owned()).await;
        let moved = registry.ask_leave::<OrganisationAdmin>(&elsewhere, "acme".to_owned());
        assert_eq!(denied(moved.await), Some(Reason::Hidden));
        late.set_addresses(None).await.unwrap();
        assert_eq!(listed(&elsewhere).await, ["acme/app", "bob/own"]);
        // Nobody shuts himself out.
        let other = AddressBlocks::of(vec!["192.0.2.0/24".parse().unwrap()]).unwrap();
        let himself = leave::<OwnAccount>(registry, &here, ()).await;
        for refused in [
            late.set_addresses(Some(other.clone())).await,
            himself.set_addresses(Some(other.clone())).await,
        ] {
            assert!(
                matches!(&refused, Err(AccountsError::ShutsOut(address)) if address == "10.1.2.3"),
                "{refused:?}"
            );
        }
        assert_eq!(listed(&here).await, ["acme/app", "bob/own"]);
        // Of a user.
        let blocks = AddressBlocks::of(vec!["10.1.2.3".parse().unwrap()]).unwrap();
        let own = leave::<OwnAccount>(registry, &here, ()).await;
        own.set_addresses(Some(blocks)).await.unwrap();
        let refused = registry
            .admit(&elsewhere, granary_registry::Asks::Ping)
            .await;
        assert_eq!(reason(refused), Some(Reason::Address));
        let refused = registry
            .admit(&Caller::from(&bob), granary_registry::Asks::Ping)
            .await;
        assert_eq!(reason(refused), Some(Reason::Address));
        assert!(
            registry
                .admit(&here, granary_registry::Asks::Ping)
                .await
                .is_ok()
        );
    });
}

#[test]
fn pages_leave_out_what_is_closed_and_nothing_else() {
    let _unset = together();
    run(async {
        let world = acme().await;
        let registry = &world.registry;
        let who = bob(registry).await;
        for name in ["a-closed", "b-closed", "c-open"] {
            found(registry, name, "bob").await;
        }
        for name in ["a-closed", "b-closed"] {
            let command = GroupsCommand::SetAddresses {
                name: name.to_owned(),
                addresses: Some(AddressBlocks::of(vec!["10.0.0.0/8".parse().unwrap()]).unwrap()),
            };
            operator(registry, command).await;
        }
        let own = leave::<OwnAccount>(registry, &at(&who, "192.0.2.1"), ()).await;
        let first = own.organisations(page("", 1)).await.unwrap();
        assert_eq!(first.entries[0].organisation, "acme");
        assert_eq!(
            first.next.as_deref(),
            Some("acme"),
            "names of what is closed"
        );
        let second = own.organisations(page("acme", 1)).await.unwrap();
        assert_eq!(second.entries[0].organisation, "c-open");
        assert_eq!(second.next, None);
    });
}

#[test]
fn lists_come_in_pages_that_hold_everything_once() {
    let _unset = together();
    run(async {
        let world = acme().await;
        let registry = &world.registry;
        let owner = bob(registry).await;
        let admin = leave::<OrganisationAdmin>(registry, &owner, "acme".to_owned()).await;
        let robots = robots_of_acme(registry).await;
        for number in 0..5 {
            admin.create_team(&format!("t{number}")).await.unwrap();
            robots.create_robot(&format!("r{number}")).await.unwrap();
            found(registry, &format!("org{number}"), "bob").await;
        }
        for member in ["carol", "dave", "acme+r0", "acme+r1"] {
            admin.set_member(member, Role::Read).await.unwrap();
        }
        let member = leave::<OrganisationMember>(registry, &owner, "acme".to_owned()).await;
        let own = leave::<OwnAccount>(registry, &owner, ()).await;
        let mut seen = [const { BTreeSet::new() }; 4];
        for (list, seen) in seen.iter_mut().enumerate() {
            let (mut after, mut pages) = (String::new(), 0);
            loop {
                let page = page(&after, 2);
                let (entries, next): (Vec<String>, _) = match list {
                    0 => {
                        let page = member.teams(page).await.unwrap();
                        (
                            page.entries.into_iter().map(|e| e.team).collect(),
                            page.next,
                        )
                    }
                    1 => {
                        let page = member.members(page).await.unwrap();
                        (
                            page.entries.into_iter().map(|e| e.member).collect(),
                            page.next,
                        )
                    }
                    2 => {
                        let page = robots.robots(page).await.unwrap();
                        (
                            page.entries.into_iter().map(|e| e.robot).collect(),
                            page.next,
                        )
                    }
                    _ => {
                        let page = own.organisations(page).await.unwrap();
                        let names = page.entries.into_iter().map(|e| e.organisation);
                        (names.collect(), page.next)
                    }
                };
                assert!(entries.len() <= 2, "{entries:?}");
                pages += 1;
                for entry in entries {
                    assert!(seen.insert(entry.clone()), "{entry} twice");
                }
                match next {
                    Some(next) => after = next,
                    None => break,
                }
            }
            assert_eq!(pages, 3);
        }
        let lengths = seen.each_ref().map(BTreeSet::len);
        assert_eq!(lengths, [5, 5, 5, 6]);
    });
}
