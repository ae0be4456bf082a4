//! Whose a repository, a session and a blob are, and that others cannot even tell that they are there.

use granary_access::Visibility;
use granary_oci::Digest;
use granary_registry::{AccountsCommand, Chunk, ManifestRequest, Reason, RegistryError};

use super::{bob, image_of_bob, manifest, password, pushes, reads, reason, sign_in, world};
use crate::{
    gate::{run, together},
    world::{body, content, image, name},
};

#[test]
fn what_is_not_ones_own_cannot_be_told_from_what_is_not_there() {
    let _unset = together();
    run(async {
        let world = world().await;
        let registry = &world.registry;
        image_of_bob(registry, "v").await;
        let carol = AccountsCommand::AddUser {
            user: "carol".to_owned(),
            password: password("carol"),
            administrator: false,
        };
        registry.administer(carol).await.unwrap();
        let carol = sign_in(registry, "carol", password("carol")).await.unwrap();
        for repository in ["bob/app", "bob/nothing", "nobody/nothing", "library"] {
            let refused = reason(reads(registry, &carol, repository).await);
            assert_eq!(refused, Some(Reason::Hidden), "{repository}");
            let refused = reason(pushes(registry, &carol, repository).await);
            assert_eq!(refused, Some(Reason::Hidden), "{repository}");
        }
        let all = registry.repositories(&carol, "", 10).await.unwrap();
        assert!(all.is_empty(), "{all:?}");
        let mine = registry
            .repositories(&bob(registry).await, "", 10)
            .await
            .unwrap();
        assert_eq!(mine, ["bob/app"]);
        let public = AccountsCommand::SetVisibility {
            repository: name("bob/app"),
            visibility: Visibility::Public,
        };
        registry.administer(public).await.unwrap();
        assert!(reads(registry, &carol, "bob/app").await.is_ok());
        let refused = reason(pushes(registry, &carol, "bob/app").await);
        assert_eq!(refused, Some(Reason::NotGranted));
        let all = registry.repositories(&carol, "", 10).await.unwrap();
        assert_eq!(all, ["bob/app"]);
    });
}

#[test]
fn a_namespace_belongs_to_the_user_of_its_name() {
    let _unset = together();
    run(async {
        let world = world().await;
        let registry = &world.registry;
        let alice = sign_in(registry, "alice", password("alice")).await.unwrap();
        let may = pushes(registry, &alice, "bob/app").await.unwrap();
        let request = ManifestRequest {
            body: image(&[]),
            ..manifest("v", Digest::sha256(b""))
        };
        may.put_manifest(request).await.unwrap();
        let bob = bob(registry).await;
        assert!(reads(registry, &bob, "bob/app").await.is_ok());
        assert!(pushes(registry, &bob, "bob/app").await.is_ok());
        // One that nobody has the name of is its maker's.
        let may = pushes(registry, &alice, "shared/app").await.unwrap();
        let request = ManifestRequest {
            body: image(&[]),
            ..manifest("v", Digest::sha256(b""))
        };
        may.put_manifest(request).await.unwrap();
        let refused = reason(pushes(registry, &bob, "shared/app").await);
        assert_eq!(refused, Some(Reason::Hidden));
    });
}

#[test]
fn a_session_is_its_principals_own() {
    let _unset = together();
    run(async {
        let world = world().await;
        let registry = &world.registry;
        let may = pushes(registry, &bob(registry).await, "bob/app")
            .await
            .unwrap();
        let session = may.begin_upload(None).await.unwrap().id;
        let alice = sign_in(registry, "alice", password("alice")).await.unwrap();
        let other = pushes(registry, &alice, "bob/app").await.unwrap();
        let unknown = |result: Result<(), RegistryError>| {
            assert!(
                matches!(result, Err(RegistryError::UploadUnknown(_))),
                "{result:?}"
            );
        };
        let (bytes, chunk) = (content(1, 300), Chunk::default());
        let digest = Digest::sha256(&bytes);
        unknown(other.upload_status(&session).await.map(drop));
        unknown(
            other
                .append(&session, chunk, body(bytes.clone()))
                .await
                .map(drop),
        );
        unknown(
            other
                .finish_upload(&session, digest, chunk, body(bytes.clone()))
                .await,
        );
        unknown(other.cancel_upload(&session).await);
        may.finish_upload(&session, digest, chunk, body(bytes.clone()))
            .await
            .unwrap();
        unknown(
            other
                .finish_upload(&session, digest, chunk, body(bytes))
                .await,
        );
    });
}

#[test]
fn a_blob_comes_only_from_where_one_may_read() {
    let _unset = together();
    run(async {
        let world = world().await;
        let registry = &world.registry;
        let layer = image_of_bob(registry, "v").await;
        let carol = AccountsCommand::AddUser {
            user: "carol".to_owned(),
            password: password("carol"),
            administrator: false,
        };
        registry.administer(carol).await.unwrap();
        let carol = sign_in(registry, "carol", password("carol")).await.unwrap();
        let hers = pushes(registry, &carol, "carol/app").await.unwrap();
        for from in [None, Some(name("bob/app"))] {
            assert!(
                !hers.mount(from.as_ref(), &layer).await.unwrap(),
                "{from:?}"
            );
        }
        let his = pushes(registry, &bob(registry).await, "bob/other")
            .await
            .unwrap();
        assert!(his.mount(None, &layer).await.unwrap());
    });
}
