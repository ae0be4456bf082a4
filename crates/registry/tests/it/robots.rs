//! Robots, what they may be given, and tokens: their bounds, successors, addresses and last use.

use std::time::Duration;

use granary_access::{AddressBlocks, Role, Scopes, TeamRole};
use granary_identity::Secret;
use granary_registry::{
    AccountsCommand, AccountsError, Caller, NamespaceSettings, OrganisationAdmin, Origin,
    OwnAccount, Principal, Reading, Reason, Registry, RotateRequest, Shown, TeamMaintainer,
    TenancyCommand, TokenRequest,
};

use crate::{
    accounts::{bob, pushes, reads, reason, sign_in},
    gate::{run, together},
    groups::{acme, add, at, grant, leave, own_robots, push_image, robots_of_acme},
    world::{World, is_postgres, name},
};

pub(crate) fn request(name: &str) -> TokenRequest {
    TokenRequest {
        name: name.to_owned(),
        scopes: Scopes::unlimited(),
        lifetime: None,
        addresses: None,
    }
}

async fn own(registry: &Registry, who: &Principal) -> granary_registry::Leave<OwnAccount> {
    leave::<OwnAccount>(registry, who, ()).await
}

async fn admin(registry: &Registry) -> granary_registry::Leave<OrganisationAdmin> {
    leave::<OrganisationAdmin>(registry, &bob(registry).await, "acme".to_owned()).await
}

async fn robot(registry: &Registry, name: &str) -> Principal {
    let robots = robots_of_acme(registry).await;
    let robot = robots.create_robot(name).await.unwrap();
    let (_, token) = robots
        .create_robot_token(name, request(name))
        .await
        .unwrap();
    sign_in(registry, &robot, token).await.unwrap()
}

async fn give(registry: &Registry, namespace: &str, owner: &str) -> Result<(), AccountsError> {
    let command = TenancyCommand::Namespace {
        namespace: namespace.to_owned(),
        change: NamespaceSettings {
            owner: Some(owner.to_owned()),
            ..NamespaceSettings::default()
        },
    };
    registry
        .administer(AccountsCommand::Tenancy(command))
        .await
        .map(drop)
}

#[test]
fn robots_and_teams_have_rights_with_whom_they_belong_to_only() {
    let _unset = together();
    run(async {
        let world = acme().await;
        let registry = &world.registry;
        let ci = robot(registry, "ci").await;
        let bob = bob(registry).await;
        push_image(registry, &bob, "bob/app").await;
        let his = own_robots(registry, &bob)
            .await
            .create_robot("ci")
            .await
            .unwrap();
        assert_eq!(his, "bob+ci");
        admin(registry).await.create_team("core").await.unwrap();
        for (to, scope) in [
            ("acme+ci", "read:bob/**"),
            ("acme+ci", "read:nobody/**"),
            ("acme+ci", "read:carol/app"),
            ("acme/core", "read:bob/app"),
            ("bob+ci", "read:acme/**"),
        ] {
            let refused = grant(registry, to, scope).await;
            assert!(
                matches!(refused, Err(AccountsError::Foreign(_))),
                "{to} {scope} {refused:?}"
            );
        }
        let refused = grant(registry, "acme", "read:bob/**").await;
        assert!(
            matches!(refused, Err(AccountsError::NotToOrganisation(_))),
            "{refused:?}"
        );
        grant(registry, "bob+ci", "read:bob/**").await.unwrap();
        grant(registry, "acme+ci", "read,write:acme/**")
            .await
            .unwrap();
        assert!(pushes(registry, &ci, "acme/app").await.is_ok());
        let refused = reason(reads(registry, &ci, "bob/app").await);
        assert_eq!(refused, Some(Reason::Hidden));
        // A namespace that goes to somebody else takes no robots and teams along.
        give(registry, "acme", "bob").await.unwrap();
        let refused = reason(reads(registry, &ci, "acme/app").await);
        assert_eq!(refused, Some(Reason::Hidden));
        give(registry, "acme", "acme").await.unwrap();
        let refused = reason(reads(registry, &ci, "acme/app").await);
        assert_eq!(refused, Some(Reason::Hidden));
        for owner in ["acme+ci", "acme/core", "nobody"] {
            let refused = give(registry, "acme", owner).await;
            assert!(
                matches!(refused, Err(AccountsError::NoSuch(_))),
                "{refused:?}"
            );
        }
    });
}

#[test]
fn a_robot_reads_and_writes_and_looks_after_nothing() {
    let _unset = together();
    run(async {
        let world = acme().await;
        let registry = &world.registry;
        let ci = robot(registry, "ci").await;
        let (admin, bob) = (admin(registry).await, bob(registry).await);
        assert!(reads(registry, &ci, "acme/app").await.is_err());
        admin.set_member("acme+ci", Role::Read).await.unwrap();
        assert!(reads(registry, &ci, "acme/app").await.is_ok());
        assert!(pushes(registry, &ci, "acme/app").await.is_err());
        admin.set_member("acme+ci", Role::Write).await.unwrap();
        assert!(pushes(registry, &ci, "acme/app").await.is_ok());
        let refused = admin.set_member("acme+ci", Role::Admin).await;
        assert!(
            matches!(refused, Err(AccountsError::NotForRobots)),
            "{refused:?}"
        );
        let his = own_robots(registry, &bob).await;
        his.create_robot("ci").await.unwrap();
        let refused = admin.set_member("bob+ci", Role::Read).await;
        assert!(
            matches!(refused, Err(AccountsError::Foreign(_))),
            "{refused:?}"
        );
        admin.create_team("core").await.unwrap();
        let team = leave::<TeamMaintainer>(registry, &bob, "acme/core".to_owned()).await;
        team.set_member("acme+ci", TeamRole::Member).await.unwrap();
        let refused = team.set_member("acme+ci", TeamRole::Maintainer).await;
        assert!(
            matches!(refused, Err(AccountsError::NotForRobots)),
            "{refused:?}"
        );
        let refused = team.set_member("bob+ci", TeamRole::Member).await;
        assert!(
            matches!(refused, Err(AccountsError::Foreign(_))),
            "{refused:?}"
        );
        // A token that leaks makes no others.
        let refused = registry
            .ask_leave::<OwnAccount>(&Caller::from(&ci), ())
            .await;
        assert!(
            matches!(refused, Err(AccountsError::Denied(Reason::ScopeTooNarrow))),
            "{:?}",
            refused.err()
        );
        let password = AccountsCommand::SetPassword {
            user: "acme+ci".to_owned(),
            password: Secret::from("a good long one".to_owned()),
        };
        let refused = registry.administer(password).await;
        assert!(
            matches!(refused, Err(AccountsError::NoSuchUser(_))),
            "{refused:?}"
        );
        // One of the same name is another.
        let robots = robots_of_acme(registry).await;
        robots.remove_robot("ci").await.unwrap();
        let refused = reason(reads(registry, &ci, "acme/app").await);
        assert_eq!(refused, Some(Reason::Ended));
        let again = robot(registry, "ci").await;
        let refused = reason(reads(registry, &again, "acme/app").await);
        assert_eq!(refused, Some(Reason::Hidden));
        for bad in ["", "CI", "c/i", "c+i"] {
            let refused = robots.create_robot(bad).await;
            assert!(
                matches!(refused, Err(AccountsError::GroupName(_))),
                "{refused:?}"
            );
        }
    });
}

pub(crate) async fn by_token(
    registry: &Registry,
    token: &Secret,
    address: Option<&str>,
) -> Result<(), granary_registry::RegistryError> {
    let origin = Origin {
        address: address.map(|address| address.parse().unwrap()),
        ..Origin::default()
    };
    let shown = Shown::Bearer(token.clone());
    let principal = registry.sign_in(shown, &origin).await.unwrap();
    let caller = Caller { principal, origin };
    let may = registry.authorise::<Reading>(caller, name("bob/app"));
    may.await.map(drop)
}

#[test]
fn what_is_made_from_a_token_is_good_from_its_addresses_only() {
    let _unset = together();
    run(async {
        let world = acme().await;
        let registry = &world.registry;
        let bob = bob(registry).await;
        push_image(registry, &bob, "bob/app").await;
        let narrow = TokenRequest {
            addresses: Some(AddressBlocks::of(vec!["10.0.0.0/8".parse().unwrap()]).unwrap()),
            ..request("narrow")
        };
        let (_, token) = own(registry, &bob)
            .await
            .create_token(narrow)
            .await
            .unwrap();
        let who = sign_in(registry, "bob", token).await.unwrap();
        let issued = registry
            .issue_token(at(&who, "10.1.2.3"), &[], Some("test"))
            .await;
        let refresh = issued.unwrap().refresh.unwrap();
        let again = registry.sign_in_again(&refresh).await.unwrap();
        for (address, refused) in [("10.9.9.9", None), ("192.0.2.1", Some(Reason::Address))] {
            let caller = at(&again, address);
            let may = registry.authorise::<Reading>(caller, name("bob/app"));
            assert_eq!(reason(may.await), refused, "{address}");
        }
    });
}

#[test]
fn a_token_is_good_from_its_addresses_only_and_its_last_use_is_written_down() {
    let _unset = together();
    run(async {
        let world = acme().await;
        let registry = &world.registry;
        let bob = bob(registry).await;
        push_image(registry, &bob, "bob/app").await;
        let mine = own(registry, &bob).await;
        let blocks = [
            "10.0.0.0/8".parse().unwrap(),
            "2001:db8::/32".parse().unwrap(),
        ];
        let (id, token) = mine
            .create_token(TokenRequest {
                addresses: Some(AddressBlocks::of(blocks.to_vec()).unwrap()),
                ..request("narrow")
            })
            .await
            .unwrap();
        for _ in 0..2 {
            for address in [Some("192.0.2.1"), Some("2001:db9::1"), None] {
                let refused = reason(by_token(registry, &token, address).await);
                assert_eq!(refused, Some(Reason::Address), "{address:?}");
            }
        }
        registry.keep_uses().await;
        let kept = mine.tokens().await.unwrap();
        assert_eq!(kept[0].last_used_at, None);
        let before = registry.catalog().now().await.unwrap();
        by_token(registry, &token, Some("2001:db8::7"))
            .await
            .unwrap();
        by_token(registry, &token, Some("10.2.3.4")).await.unwrap();
        assert_eq!(mine.tokens().await.unwrap()[0].last_used_at, None);
        registry.keep_uses().await;
        let kept = mine.tokens().await.unwrap();
        assert_eq!((kept.len(), kept[0].id), (1, id));
        assert!(kept[0].last_used_at.is_some_and(|used| used >= before));
        assert_eq!(kept[0].last_used_from.as_deref(), Some("10.2.3.4"));
        assert!(kept[0].addresses.is_some());
    });
}

#[test]
fn a_token_and_its_successor_are_both_good_for_a_while() {
    let _unset = together();
    run(async {
        let world = acme().await;
        let registry = &world.registry;
        let bob = bob(registry).await;
        push_image(registry, &bob, "bob/app").await;
        let mine = own(registry, &bob).await;
        let (id, first) = mine
            .create_token(TokenRequest {
                scopes: Scopes::only(vec!["read:bob/**".parse().unwrap()]),
                lifetime: Some(Duration::from_secs(3600)),
                ..request("ci")
            })
            .await
            .unwrap();
        let overlap = Duration::from_secs(60);
        let stranger = add(registry, "erin").await;
        let theirs = own(registry, &stranger).await;
        let foreign = theirs.rotate_token(RotateRequest { id, overlap }).await;
        assert!(
            matches!(foreign, Err(AccountsError::NoSuchToken(_))),
            "{:?}",
            foreign.err()
        );
        let long = Duration::from_secs(31 * 24 * 3600);
        let long = mine.rotate_token(RotateRequest { id, overlap: long }).await;
        assert!(
            matches!(long, Err(AccountsError::Overlap)),
            "{:?}",
            long.err()
        );
        let (next, second) = mine
            .rotate_token(RotateRequest { id, overlap })
            .await
            .unwrap();
        for token in [&first, &second] {
            by_token(registry, token, None).await.unwrap();
        }
        let kept = mine.tokens().await.unwrap();
        assert_eq!((kept[0].id, kept[1].id), (id, next));
        assert_eq!(kept[0].replaced_by, Some(next));
        assert_eq!(
            (&kept[0].name, &kept[0].scopes),
            (&kept[1].name, &kept[1].scopes)
        );
        assert!(kept[0].expires_at < kept[1].expires_at);
        let twice = mine.rotate_token(RotateRequest { id, overlap }).await;
        assert!(
            matches!(&twice, Err(AccountsError::HasSuccessor { .. })),
            "{:?}",
            twice.err()
        );
        let now = RotateRequest {
            id: next,
            overlap: Duration::ZERO,
        };
        let (_, third) = mine.rotate_token(now).await.unwrap();
        let refused = reason(by_token(registry, &second, None).await);
        assert_eq!(refused, Some(Reason::Ended));
        by_token(registry, &third, None).await.unwrap();
    });
}

/// The name of the world's database on PostgreSQL.
fn database(world: &World) -> String {
    let url = std::fs::read_to_string(world.folder.path().join("database-url")).unwrap();
    let name = url.rsplit('/').next().unwrap();
    name.split('?').next().unwrap().to_owned()
}

#[test]
fn nobody_has_more_than_a_thousand_tokens() {
    let _unset = together();
    run(async {
        let world = acme().await;
        let registry = &world.registry;
        let mine = own(registry, &bob(registry).await).await;
        let (first, _) = mine.create_token(request("first")).await.unwrap();
        match is_postgres() {
            // A transaction for each would take half a minute there.
            true => {
                let rows = format!(
                    "INSERT INTO credentials (principal_id, kind, name, created_at) \
                     SELECT principal_id, kind, 'more', created_at FROM credentials, generate_series(2, 1000) WHERE credentials.id = {first}"
                );
                let database = database(&world);
                let server = granary_testbed::Postgres::shared().unwrap();
                server.psql(&database, &rows).unwrap();
            }
            false => {
                for _ in 1..1000 {
                    mine.create_token(request("more")).await.unwrap();
                }
            }
        }
        let refused = mine.create_token(request("more")).await;
        assert!(
            matches!(refused, Err(AccountsError::Full(1000))),
            "{:?}",
            refused.err()
        );
        assert_eq!(mine.tokens().await.unwrap().len(), 1000);
        mine.revoke_token(first).await.unwrap();
        mine.create_token(request("one more")).await.unwrap();
    });
}

/// A list of addresses is none where a process would not look at it.
#[test]
fn no_list_of_addresses_is_set_beside_a_process_that_knows_none() {
    if !is_postgres() {
        return;
    }
    let _unset = together();
    run(async {
        let world = acme().await;
        let registry = &world.registry;
        let database = database(&world);
        let server = granary_testbed::Postgres::shared().unwrap();
        let replica = |release: i64| {
            format!(
                "INSERT INTO replicas (id, version, release, started_at, heartbeat_at) \
                 SELECT 'old', '0.0.1', {release}, t, t FROM (SELECT (EXTRACT(EPOCH FROM clock_timestamp()) * 1000000)::bigint AS t) x \
                 ON CONFLICT (id) DO UPDATE SET release = excluded.release"
            )
        };
        let blocks = || Some(AddressBlocks::of(vec!["10.0.0.0/8".parse().unwrap()]).unwrap());
        let who = bob(registry).await;
        let within = at(&who, "10.1.2.3");
        let admin = leave::<OrganisationAdmin>(registry, within, "acme".to_owned()).await;
        let mine = own(registry, &who).await;
        let narrow = || TokenRequest {
            addresses: blocks(),
            ..request("narrow")
        };
        server.psql(&database, &replica(4)).unwrap();
        let refused = admin.set_addresses(blocks()).await;
        assert!(
            matches!(&refused, Err(AccountsError::IgnoresAddresses(version)) if version == "0.0.1"),
            "{refused:?}"
        );
        let refused = mine.create_token(narrow()).await;
        assert!(
            matches!(refused, Err(AccountsError::IgnoresAddresses(_))),
            "{:?}",
            refused.err()
        );
        admin.set_addresses(None).await.unwrap();
        mine.create_token(request("wide")).await.unwrap();
        server.psql(&database, &replica(5)).unwrap();
        admin.set_addresses(blocks()).await.unwrap();
        mine.create_token(narrow()).await.unwrap();
    });
}
