//! Who may remove a repository, and what those lose who had rights in it.

use granary_access::{Scope, Scopes, Visibility};
use granary_registry::{
    AccountsCommand, AccountsReport, Administering, AnonymousMode, GrantRequest, May, Principal,
    Reason, Registry, RegistryError, Rules,
};

use crate::{
    accounts::{bob, image_of_bob, pushes, reads, reason, revoke, rules, token, world},
    gate::{Gate, alone, run, together},
    removal::{is_unknown, remove},
    world::{name, open, tag},
};

async fn administers(
    registry: &Registry,
    who: &Principal,
    repository: &str,
) -> Result<May<Administering>, RegistryError> {
    registry.authorise(who, name(repository)).await
}

/// Lets carol write to repositories that `pattern` names.
async fn grant(registry: &Registry, scope: &str) {
    let scope: Scope = scope.parse().unwrap();
    let command = AccountsCommand::Tenancy(granary_registry::TenancyCommand::Grant(GrantRequest {
        user: "carol".to_owned(),
        verbs: scope.verbs,
        repositories: scope.repositories,
        tags: scope.tags,
        lifetime: None,
    }));
    registry.administer(command).await.unwrap();
}

async fn carol(registry: &Registry) -> Principal {
    let command = AccountsCommand::AddUser {
        user: "carol".to_owned(),
        password: crate::accounts::password("carol"),
        administrator: false,
    };
    registry.administer(command).await.unwrap();
    let carol = crate::accounts::sign_in(registry, "carol", crate::accounts::password("carol"));
    carol.await.unwrap()
}

#[test]
fn who_administers_a_repository_may_remove_it() {
    let _unset = together();
    run(async {
        let world = world().await;
        let registry = &world.registry;
        image_of_bob(registry, "v").await;
        let (bob, carol) = (bob(registry).await, carol(registry).await);
        grant(registry, "read,write,update,delete:bob/app").await;
        let public = AccountsCommand::SetVisibility {
            repository: name("bob/app"),
            visibility: Visibility::Public,
        };
        registry.administer(public).await.unwrap();
        assert!(reads(registry, &carol, "bob/app").await.is_ok());
        let refused = reason(administers(registry, &carol, "bob/app").await);
        assert_eq!(refused, Some(Reason::NotGranted));
        let refused = reason(administers(registry, &bob, "bob/other").await);
        assert_eq!(refused, Some(Reason::Missing));
        let refused = reason(administers(registry, &Principal::Local, "bob/app").await);
        assert_eq!(refused, Some(Reason::NoCredentials));

        let may = administers(registry, &bob, "bob/app").await.unwrap();
        may.remove_repository().await.unwrap();
        let again = reason(may.remove_repository().await);
        assert_eq!(again, Some(Reason::Missing));
        for who in [&bob, &carol] {
            let refused = reads(registry, who, "bob/app").await;
            assert!(reason(refused).is_some());
        }
        // What was granted in it, and that everybody saw it, is gone although the name comes back.
        image_of_bob(registry, "v").await;
        let refused = reason(reads(registry, &carol, "bob/app").await);
        assert_eq!(refused, Some(Reason::Hidden));
        assert!(reads(registry, &bob, "bob/app").await.is_ok());
    });
}

#[test]
fn a_grant_of_more_than_it_stays() {
    let _unset = together();
    run(async {
        let world = world().await;
        let registry = &world.registry;
        image_of_bob(registry, "v").await;
        let carol = carol(registry).await;
        grant(registry, "read:bob/**").await;
        grant(registry, "write:bob/app").await;
        remove(registry, "bob/app").await.unwrap();
        image_of_bob(registry, "v").await;
        assert!(reads(registry, &carol, "bob/app").await.is_ok());
        let refused = reason(pushes(registry, &carol, "bob/app").await);
        assert_eq!(refused, Some(Reason::NotGranted));
    });
}

#[test]
fn a_token_withdrawn_before_its_end_removes_nothing() {
    alone(async {
        let world = world().await;
        let registry = &world.registry;
        image_of_bob(registry, "v").await;
        let (id, token) = token(registry).await;
        let who = crate::accounts::sign_in(registry, "bob", token)
            .await
            .unwrap();
        let may = administers(registry, &who, "bob/app").await.unwrap();
        let gate = Gate::shut("repository::before_remove");
        let removing = tokio::spawn(async move { may.remove_repository().await });
        gate.reached().await;
        revoke(registry, id).await;
        gate.open();
        assert_eq!(reason(removing.await.unwrap()), Some(Reason::Ended));
        let reads = reads(registry, &bob(registry).await, "bob/app").await;
        assert!(reads.unwrap().resolve(&"v".parse().unwrap()).await.is_ok());
    });
}

#[test]
fn where_nothing_may_be_deleted_only_the_operator_removes() {
    let _unset = together();
    run(async {
        let world = world().await;
        image_of_bob(&world.registry, "v").await;
        let world = world
            .restarted(Rules {
                delete: false,
                ..rules(AnonymousMode::None)
            })
            .await;
        let registry = &world.registry;
        let may = administers(registry, &bob(registry).await, "bob/app").await;
        let refused = may.unwrap().remove_repository().await;
        assert!(matches!(refused, Err(RegistryError::DeleteDisabled)));
        remove(registry, "bob/app").await.unwrap();
    });
}

/// Whoever may administer by his own rights may be narrowed by his token.
#[test]
fn a_token_without_that_right_removes_nothing() {
    let _unset = together();
    run(async {
        let world = world().await;
        let registry = &world.registry;
        image_of_bob(registry, "v").await;
        let scope: Scope = "read,write,update,delete:bob/**".parse().unwrap();
        let command = AccountsCommand::CreateToken {
            user: "bob".to_owned(),
            name: "ci".to_owned(),
            scopes: Scopes::only(vec![scope]),
            addresses: None,
            lifetime: None,
        };
        let AccountsReport::TokenCreated { token, .. } =
            registry.administer(command).await.unwrap()
        else {
            panic!("a token");
        };
        let who = crate::accounts::sign_in(registry, "bob", token)
            .await
            .unwrap();
        let refused = reason(administers(registry, &who, "bob/app").await);
        assert_eq!(refused, Some(Reason::ScopeTooNarrow));
    });
}

/// It is gone for the next request on every replica, whatever these hold in memory.
#[test]
fn it_is_gone_on_every_replica() {
    if !crate::world::is_postgres() {
        return;
    }
    let _unset = together();
    run(async {
        let world = world().await;
        let one = &world.registry;
        let two = open(world.folder.path(), rules(AnonymousMode::Read)).await;
        let (who, reference, standing) = (bob(one).await, "v".parse().unwrap(), tag("v"));
        for _ in 0..20 {
            image_of_bob(one, "v").await;
            let may = reads(&two, &who, "bob/app").await.unwrap();
            may.resolve(&reference).await.unwrap();
            two.pull(&who, name("bob/app"), &standing).await.unwrap();
            remove(one, "bob/app").await.unwrap();
            let pulled = two.pull(&who, name("bob/app"), &standing).await;
            assert_eq!(reason(pulled), Some(Reason::Missing));
            assert!(is_unknown(may.resolve(&reference).await));
        }
    });
}
