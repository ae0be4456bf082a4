//! Organisations and teams: what a role or a grant gives, and what is lost with it, at the next request and wherever it is asked.

use std::collections::BTreeSet;

use granary_access::{AddressBlocks, Role, TeamRole};
use granary_oci::Reference;
use granary_registry::{
    AccountsCommand, AccountsError, AccountsReport, Administering, AnonymousMode, Caller, Deleting,
    GrantRequest, GroupsCommand, Installation, Leave, ManifestRequest, NamespaceSettings,
    OrganisationAdmin, OrganisationMember, OrganisationOwner, Origin, OwnAccount, PageRequest,
    Precondition, Principal, Pushing, Reason, Registry, Right, Shown, Sphere, TeamMaintainer,
    TenancyCommand, UserChange,
};

use crate::{
    accounts::{bob, password, pushes, reads, reason, rules, sign_in, world as people},
    gate::{run, together},
    world::{World, image, is_postgres, name, open},
};

pub(crate) async fn add(registry: &Registry, user: &str) -> Principal {
    let command = AccountsCommand::AddUser {
        user: user.to_owned(),
        password: password(user),
        administrator: false,
    };
    registry.administer(command).await.unwrap();
    // Whoever had the name had the same password here, and may be remembered.
    registry.forget(Shown::Password {
        user: user.to_owned(),
        secret: password(user),
    });
    sign_in(registry, user, password(user)).await.unwrap()
}

pub(crate) async fn alice(registry: &Registry) -> Principal {
    sign_in(registry, "alice", password("alice")).await.unwrap()
}

pub(crate) async fn operator(registry: &Registry, command: GroupsCommand) {
    let done = registry.administer(AccountsCommand::Groups(command)).await;
    done.unwrap();
}

pub(crate) async fn leave<S: Sphere>(
    registry: &Registry,
    who: impl Into<Caller>,
    of: S::Of,
) -> Leave<S> {
    registry.ask_leave(&who.into(), of).await.unwrap()
}

pub(crate) async fn found(registry: &Registry, organisation: &str, owner: &str) {
    let command = GroupsCommand::CreateOrganisation {
        organisation: organisation.to_owned(),
        owner: owner.to_owned(),
    };
    operator(registry, command).await;
}

pub(crate) fn page(after: &str, limit: u64) -> PageRequest {
    PageRequest {
        after: after.to_owned(),
        limit,
    }
}

fn denied<T>(result: Result<T, AccountsError>) -> Option<Reason> {
    match result {
        Ok(_) => None,
        Err(AccountsError::Denied(reason)) => Some(reason),
        Err(other) => panic!("{other}"),
    }
}

/// Pushes an image of no layers, which makes the repository.
pub(crate) async fn push_image(registry: &Registry, who: &Principal, repository: &str) {
    let request = ManifestRequest {
        reference: "v".parse::<Reference>().unwrap(),
        tags: Vec::new(),
        content_type: None,
        precondition: Precondition::None,
        body: image(&[]),
    };
    let may = pushes(registry, who, repository).await.unwrap();
    may.put_manifest(request).await.unwrap();
}

/// Grants something, as the operator.
pub(crate) async fn grant(
    registry: &Registry,
    to: &str,
    scope: &str,
) -> Result<i64, AccountsError> {
    let scope: granary_access::Scope = scope.parse().unwrap();
    let request = GrantRequest {
        user: to.to_owned(),
        verbs: scope.verbs,
        repositories: scope.repositories,
        tags: scope.tags,
        lifetime: None,
    };
    Ok(registry.grant(&Caller::operator(), request).await?.id)
}

async fn grantees(registry: &Registry, namespace: &str) -> Vec<String> {
    let command = TenancyCommand::Grants {
        namespace: namespace.to_owned(),
    };
    match registry.administer(AccountsCommand::Tenancy(command)).await {
        Ok(AccountsReport::Grants { grants }) => {
            grants.into_iter().map(|grant| grant.user).collect()
        }
        other => panic!("{other:?}"),
    }
}

async fn change(registry: &Registry, user: &str, change: UserChange) -> Result<(), AccountsError> {
    let command = AccountsCommand::ChangeUser {
        user: user.to_owned(),
        change,
    };
    registry.administer(command).await.map(drop)
}

/// A registry in which bob owns the organisation acme, which has the private repository acme/app; and carol and dave are users.
pub(crate) async fn acme() -> World {
    let world = people().await;
    let registry = &world.registry;
    for user in ["carol", "dave"] {
        add(registry, user).await;
    }
    found(registry, "acme", "bob").await;
    push_image(registry, &bob(registry).await, "acme/app").await;
    world
}

/// The registry, and where there may be several one more on the same catalog.
async fn replicas(world: &World) -> Vec<Registry> {
    let mut all = vec![world.registry.clone()];
    if is_postgres() {
        all.push(open(world.folder.path(), rules(AnonymousMode::None)).await);
    }
    all
}

async fn may<R: Right>(registry: &Registry, who: &Principal) -> bool {
    registry.authorise::<R>(who, name("acme/app")).await.is_ok()
}

/// What somebody may do in acme/app: read, push, delete, administer.
async fn held(registry: &Registry, who: &Principal) -> [bool; 4] {
    [
        reads(registry, who, "acme/app").await.is_ok(),
        may::<Pushing>(registry, who).await,
        may::<Deleting>(registry, who).await,
        may::<Administering>(registry, who).await,
    ]
}

const NOTHING: [bool; 4] = [false; 4];
const READS: [bool; 4] = [true, false, false, false];
const WRITES: [bool; 4] = [true, true, false, false];
const EVERYTHING: [bool; 4] = [true; 4];

#[test]
fn a_role_gives_what_it_says_and_takes_it_back_at_the_next_request() {
    let _unset = together();
    run(async {
        let world = acme().await;
        let owner = leave::<OrganisationOwner>(
            &world.registry,
            &bob(&world.registry).await,
            "acme".to_owned(),
        )
        .await;
        let carol = sign_in(&world.registry, "carol", password("carol"))
            .await
            .unwrap();
        let all = replicas(&world).await;
        for _ in 0..5 {
            for (role, gives) in [
                (Role::Member, NOTHING),
                (Role::Read, READS),
                (Role::Write, WRITES),
                (Role::Admin, EVERYTHING),
                (Role::Owner, EVERYTHING),
                (Role::Member, NOTHING),
                (Role::Write, WRITES),
            ] {
                owner.set_member("carol", role).await.unwrap();
                for registry in &all {
                    assert_eq!(held(registry, &carol).await, gives, "{role:?}");
                    let all = registry.repositories(&carol, "", 10).await.unwrap();
                    assert_eq!(all.len(), usize::from(gives[0]), "{role:?}");
                }
            }
            owner.remove_member("carol").await.unwrap();
            for registry in &all {
                assert_eq!(held(registry, &carol).await, NOTHING);
                let refused = reason(reads(registry, &carol, "acme/app").await);
                assert_eq!(refused, Some(Reason::Hidden));
                let caller = Caller::from(&carol);
                let asked = registry.ask_leave::<OrganisationMember>(&caller, "acme".to_owned());
                assert_eq!(denied(asked.await), Some(Reason::Hidden));
            }
        }
    });
}

#[test]
fn what_a_team_was_granted_its_members_have_as_long_as_they_are_that() {
    let _unset = together();
    run(async {
        let world = acme().await;
        let registry = &world.registry;
        let owner = bob(registry).await;
        let admin = leave::<OrganisationAdmin>(registry, &owner, "acme".to_owned()).await;
        let dave = sign_in(registry, "dave", password("dave")).await.unwrap();
        let all = replicas(&world).await;
        for _ in 0..5 {
            admin.create_team("core").await.unwrap();
            let again = admin.create_team("core").await;
            assert!(matches!(again, Err(AccountsError::Taken(_))), "{again:?}");
            let id = grant(registry, "acme/core", "read,write:acme/app")
                .await
                .unwrap();
            assert_eq!(grantees(registry, "acme").await, ["acme/core"]);
            let team = leave::<TeamMaintainer>(registry, &owner, "acme/core".to_owned()).await;
            for registry in &all {
                assert_eq!(held(registry, &dave).await, NOTHING);
            }
            team.set_member("dave", TeamRole::Member).await.unwrap();
            for registry in &all {
                assert_eq!(held(registry, &dave).await, WRITES);
            }
            team.remove_member("dave").await.unwrap();
            for registry in &all {
                assert_eq!(held(registry, &dave).await, NOTHING);
            }
            team.set_member("dave", TeamRole::Maintainer).await.unwrap();
            registry
                .remove_grant(&Caller::from(&owner), id)
                .await
                .unwrap();
            for registry in &all {
                assert_eq!(held(registry, &dave).await, NOTHING);
            }
            grant(registry, "acme/core", "read:acme/**").await.unwrap();
            for registry in &all {
                assert_eq!(held(registry, &dave).await, READS);
            }
            admin.remove_team("core").await.unwrap();
            for registry in &all {
                assert_eq!(held(registry, &dave).await, NOTHING);
            }
            assert!(grantees(registry, "acme").await.is_empty());
        }
        // Whoever was in a team belongs to the organisation since, and goes from its teams with that.
        admin.create_team("core").await.unwrap();
        let team = leave::<TeamMaintainer>(registry, &owner, "acme/core".to_owned()).await;
        team.set_member("dave", TeamRole::Member).await.unwrap();
        grant(registry, "acme/core", "read:acme/**").await.unwrap();
        grant(registry, "dave", "write:acme/app").await.unwrap();
        assert_eq!(held(registry, &dave).await, WRITES);
        admin.remove_member("dave").await.unwrap();
        assert_eq!(held(registry, &dave).await, NOTHING);
        let left = admin.remove_member("dave").await;
        assert!(matches!(left, Err(AccountsError::NoSuch(_))), "{left:?}");
    });
}

#[test]
fn a_maintainer_looks_after_his_team_and_nothing_else() {
    let _unset = together();
    run(async {
        let world = acme().await;
        let registry = &world.registry;
        let admin =
            leave::<OrganisationAdmin>(registry, &bob(registry).await, "acme".to_owned()).await;
        for team in ["core", "docs"] {
            admin.create_team(team).await.unwrap();
        }
        let owner = bob(registry).await;
        let team = leave::<TeamMaintainer>(registry, &owner, "acme/core".to_owned()).await;
        team.set_member("carol", TeamRole::Maintainer)
            .await
            .unwrap();
        let carol = sign_in(registry, "carol", password("carol")).await.unwrap();
        let hers = leave::<TeamMaintainer>(registry, &carol, "acme/core".to_owned()).await;
        hers.set_member("dave", TeamRole::Member).await.unwrap();
        let caller = Caller::from(&carol);
        let other = registry.ask_leave::<TeamMaintainer>(&caller, "acme/docs".to_owned());
        assert_eq!(denied(other.await), Some(Reason::NotGranted));
        let admins = registry.ask_leave::<OrganisationAdmin>(&caller, "acme".to_owned());
        assert_eq!(denied(admins.await), Some(Reason::NotGranted));
        let member = leave::<OrganisationMember>(registry, &carol, "acme".to_owned()).await;
        let members = member.team_members("core", page("", 10)).await.unwrap();
        let members: Vec<_> = members
            .entries
            .iter()
            .map(|m| (&*m.member, m.role))
            .collect();
        assert_eq!(
            members,
            [("carol", TeamRole::Maintainer), ("dave", TeamRole::Member)]
        );
        // Leave that was given lasts no longer than what it was given for.
        team.set_member("carol", TeamRole::Member).await.unwrap();
        let late = hers.remove_member("dave").await;
        assert_eq!(denied(late), Some(Reason::NotGranted));
    });
}

#[test]
fn an_organisation_keeps_an_owner_and_only_owners_make_owners() {
    let _unset = together();
    run(async {
        let world = acme().await;
        let registry = &world.registry;
        let (bob, carol) = (
            Caller::from(&bob(registry).await),
            Caller::from(&sign_in(registry, "carol", password("carol")).await.unwrap()),
        );
        let alice = Caller::from(&alice(registry).await);
        for who in [&bob, &alice] {
            let last = registry.set_member(who, "acme", "bob", Role::Admin).await;
            assert!(matches!(last, Err(AccountsError::LastOwner(_))), "{last:?}");
            let last = registry.remove_member(who, "acme", "bob").await;
            assert!(matches!(last, Err(AccountsError::LastOwner(_))), "{last:?}");
        }
        let last = change(registry, "bob", UserChange::Removed).await;
        assert!(matches!(last, Err(AccountsError::LastOwner(_))), "{last:?}");
        registry
            .set_member(&bob, "acme", "carol", Role::Admin)
            .await
            .unwrap();
        for member in ["carol", "dave"] {
            let refused = registry
                .set_member(&carol, "acme", member, Role::Owner)
                .await;
            assert_eq!(denied(refused), Some(Reason::NotGranted));
        }
        let refused = registry.remove_member(&carol, "acme", "bob").await;
        assert_eq!(denied(refused), Some(Reason::NotGranted));
        // Nor with leave that was asked for as an administrator.
        let admin = leave::<OrganisationAdmin>(registry, &carol, "acme".to_owned()).await;
        for refused in [
            admin.set_member("dave", Role::Owner).await,
            admin.set_member("bob", Role::Read).await,
            admin.remove_member("bob").await,
        ] {
            assert!(
                matches!(refused, Err(AccountsError::OwnersOnly)),
                "{refused:?}"
            );
        }
        registry
            .set_member(&carol, "acme", "dave", Role::Admin)
            .await
            .unwrap();
        registry
            .set_member(&alice, "acme", "carol", Role::Owner)
            .await
            .unwrap();
        change(registry, "bob", UserChange::Removed).await.unwrap();
        let last = change(registry, "carol", UserChange::Removed).await;
        assert!(matches!(last, Err(AccountsError::LastOwner(_))), "{last:?}");
        assert_eq!(owners(registry).await, ["carol"]);
    });
}

async fn owners(registry: &Registry) -> Vec<String> {
    let who = alice(registry).await;
    let leave = leave::<OrganisationMember>(registry, &who, "acme".to_owned()).await;
    let members = leave.members(page("", 100)).await.unwrap().entries;
    let owners = members
        .into_iter()
        .filter(|member| member.role == Role::Owner);
    owners.map(|member| member.member).collect()
}

#[test]
fn of_two_owners_who_remove_each_other_one_stays() {
    let _unset = together();
    run(async {
        let world = acme().await;
        let registry = &world.registry;
        let bob = Caller::from(&bob(registry).await);
        let carol = Caller::from(&sign_in(registry, "carol", password("carol")).await.unwrap());
        for round in 0..20 {
            for member in ["bob", "carol"] {
                let command = GroupsCommand::SetMember {
                    organisation: "acme".to_owned(),
                    member: member.to_owned(),
                    role: Role::Owner,
                };
                operator(registry, command).await;
            }
            let (one, other) = match round % 3 {
                0 => tokio::join!(
                    registry.remove_member(&bob, "acme", "carol"),
                    registry.remove_member(&carol, "acme", "bob"),
                ),
                1 => tokio::join!(
                    registry.remove_member(&bob, "acme", "bob"),
                    registry.set_member(&carol, "acme", "carol", Role::Read),
                ),
                _ => tokio::join!(
                    registry.set_member(&carol, "acme", "bob", Role::Member),
                    registry.remove_member(&carol, "acme", "carol"),
                ),
            };
            assert!(one.is_ok() || other.is_ok(), "{one:?} {other:?}");
            assert_eq!(owners(registry).await.len(), 1, "round {round}");
        }
    });
}

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
            admin.create_robot("ci").await.unwrap();
            admin
        };
        let admin = fill().await;
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
        let (_, token) = admin
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

fn at(who: &Principal, address: &str) -> Caller {
    Caller {
        principal: who.clone(),
        origin: Origin {
            address: Some(address.parse().unwrap()),
            ..Origin::default()
        },
    }
}

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
fn lists_come_in_pages_that_hold_everything_once() {
    let _unset = together();
    run(async {
        let world = acme().await;
        let registry = &world.registry;
        let owner = bob(registry).await;
        let admin = leave::<OrganisationAdmin>(registry, &owner, "acme".to_owned()).await;
        for number in 0..5 {
            admin.create_team(&format!("t{number}")).await.unwrap();
            admin.create_robot(&format!("r{number}")).await.unwrap();
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
                        let page = admin.robots(page).await.unwrap();
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
