//! What the first account changes, also for who began before it was made.

use granary_oci::Digest;
use granary_registry::{
    AccountsCommand, AccountsError, AnonymousMode, ManifestRequest, Origin, Principal, Reason,
    Shown, SignInError,
};

use super::{bootstrap, manifest, password, pushes, reads, reason, rules, sign_in};
use crate::{
    gate::{Gate, alone, run, together},
    world::{World, content, image, push, put},
};

#[test]
fn the_first_account_closes_the_registry_and_owns_what_is_there() {
    let _unset = together();
    run(async {
        let world = World::new(rules(AnonymousMode::None)).await;
        let registry = &world.registry;
        push(registry, "a/b", &content(1, 300)).await.unwrap();
        put(registry, "a/b", "v", &image(&[])).await.unwrap();
        let anybody = registry
            .sign_in(Shown::Nothing, &Origin::default())
            .await
            .unwrap();
        assert_eq!(anybody, Principal::Local);
        bootstrap(registry).await;
        // Also for a request that began before.
        let refused = reason(reads(registry, &anybody, "a/b").await);
        assert_eq!(refused, Some(Reason::NoCredentials));
        let anybody = registry
            .sign_in(Shown::Nothing, &Origin::default())
            .await
            .unwrap();
        assert_eq!(anybody, Principal::Anonymous);
        let refused = reason(reads(registry, &anybody, "a/b").await);
        assert_eq!(refused, Some(Reason::NoCredentials));
        let alice = sign_in(registry, "alice", password("alice")).await.unwrap();
        let found = reads(registry, &alice, "a/b").await.unwrap();
        assert!(found.resolve(&"v".parse().unwrap()).await.is_ok());
        let again = AccountsCommand::Bootstrap {
            user: "mallory".to_owned(),
            password: password("mallory"),
        };
        let refused = registry.administer(again).await;
        assert!(
            matches!(refused, Err(AccountsError::NotTheFirst)),
            "{refused:?}"
        );
        let nobody = sign_in(registry, "mallory", password("mallory")).await;
        assert!(matches!(nobody, Err(SignInError::Wrong)));
    });
}

#[test]
fn a_manifest_that_is_put_while_the_first_account_is_made_is_refused() {
    alone(async {
        let world = World::new(rules(AnonymousMode::None)).await;
        let registry = &world.registry;
        put(registry, "a/b", "v", &image(&[])).await.unwrap();
        let may = pushes(registry, &Principal::Local, "a/b").await.unwrap();
        let gate = Gate::shut("manifest::before_put");
        let request = ManifestRequest {
            body: image(&[]),
            ..manifest("later", Digest::sha256(b""))
        };
        let putting = tokio::spawn(async move { may.put_manifest(request).await });
        gate.reached().await;
        bootstrap(registry).await;
        gate.open();
        let refused = reason(putting.await.unwrap());
        assert_eq!(refused, Some(Reason::NoCredentials));
    });
}
