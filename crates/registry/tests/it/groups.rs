//! Organisations and teams: what a role or a grant gives, and what is lost with it, at the next request and wherever it is asked.

use granary_access::{CreateBy, Role, TeamRole};
use granary_oci::Reference;
use granary_registry::{
    AccountsCommand, AccountsError, AccountsReport, Administering, AnonymousMode, Caller, Deleting,
    GrantRequest, GroupsCommand, Leave, ManifestRequest, NamespaceSettings, OrganisationAdmin,
    OrganisationMember, OrganisationOwner, Origin, PageRequest, Precondition, Principal, Pushing,
    Reason, Registry, Right, RobotOwner, Shown, Sphere, TeamMaintainer, TenancyCommand, UserChange,
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

/// Leave to look after the robots of `acme`, as its owner.
pub(crate) async fn robots_of_acme(registry: &Registry) -> Leave<RobotOwner> {
    leave(registry, &bob(registry).await, "acme".to_owned()).await
}

/// The same of somebody's own.
pub(crate) async fn own_robots(registry: &Registry, who: &Principal) -> Leave<RobotOwner> {
    leave(registry, who, who.name().to_owned()).await
}

/// Somebody at an address.
pub(crate) fn at(who: &Principal, address: &str) -> Caller {
    Caller {
        principal: who.clone(),
        origin: Origin {
            address: Some(address.parse().unwrap()),
            ..Origin::default()
        },
    }
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

pub(crate) fn denied<T>(result: Result<T, AccountsError>) -> Option<Reason> {
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

pub(crate) async fn grantees(registry: &Registry, namespace: &str) -> Vec<String> {
    let command = TenancyCommand::Grants {
        namespace: namespace.to_owned(),
    };
    match registry.administer(AccountsCommand::Tenancy(command)).await {
        Ok(AccountsReport::Grants { grants }) => grants.into_iter().map(|grant| grant.to).collect(),
        other => panic!("{other:?}"),
    }
}

pub(crate) async fn change(
    registry: &Registry,
    user: &str,
    change: UserChange,
) -> Result<(), AccountsError> {
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
pub(crate) async fn replicas(world: &World) -> Vec<Registry> {
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
pub(crate) async fn held(registry: &Registry, who: &Principal) -> [bool; 4] {
    [
        reads(registry, who, "acme/app").await.is_ok(),
        may::<Pushing>(registry, who).await,
        may::<Deleting>(registry, who).await,
        may::<Administering>(registry, who).await,
    ]
}

pub(crate) const NOTHING: [bool; 4] = [false; 4];
const READS: [bool; 4] = [true, false, false, false];
const WRITES: [bool; 4] = [true, true, false, false];
const EVERYTHING: [bool; 4] = [true; 4];

#[test]
fn a_namespace_is_in_use_by_who_has_it_or_what_is_in_it() {
    let _unset = together();
    run(async {
        let world = acme().await;
        let registry = &world.registry;
        let administrator = alice(registry).await;
        push_image(registry, &administrator, "left/app").await;
        let about = async |command| registry.administer(AccountsCommand::Tenancy(command)).await;
        let awaited = async |namespace: &str, change: NamespaceSettings| {
            let namespace = namespace.to_owned();
            match about(TenancyCommand::Namespace { namespace, change }).await {
                Ok(AccountsReport::Namespace { awaited, .. }) => awaited,
                other => panic!("{other:?}"),
            }
        };
        for used in ["acme", "left", "bob"] {
            let change = NamespaceSettings {
                create_by: Some(CreateBy::Writers),
                ..NamespaceSettings::default()
            };
            assert!(!awaited(used, change).await, "{used}");
        }
        let quota = NamespaceSettings {
            quota_artifacts: Some(1),
            ..NamespaceSettings::default()
        };
        assert!(awaited("acmee", quota).await);
        assert!(awaited("acmee", NamespaceSettings::default()).await);
        let grants = |namespace: &str| TenancyCommand::Grants {
            namespace: namespace.to_owned(),
        };
        for nobodys in ["acmee", "nix"] {
            let refused = about(grants(nobodys)).await;
            assert!(matches!(refused, Err(AccountsError::NoSuchOwner(name)) if name == nobodys));
        }
        for used in ["acme", "left", "bob"] {
            let listed = about(grants(used)).await;
            assert!(matches!(listed, Ok(AccountsReport::Grants { grants }) if grants.is_empty()));
        }
    });
}

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
        for _ in 0..2 {
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
        for _ in 0..2 {
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
        assert!(matches!(left, Err(AccountsError::NoMember(..))), "{left:?}");
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
        // What is not there is that to everybody.
        for (who, seen) in [
            (&carol, Reason::Hidden),
            (&alice(registry).await, Reason::Missing),
        ] {
            let caller = Caller::from(who);
            let none = registry.ask_leave::<OrganisationAdmin>(&caller, "nil".to_owned());
            assert_eq!(denied(none.await), Some(seen));
            let none = registry.ask_leave::<TeamMaintainer>(&caller, "nil/core".to_owned());
            assert_eq!(denied(none.await), Some(seen));
        }
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
