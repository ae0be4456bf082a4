//! Accounts: what is withdrawn counts no longer, wherever the request stands.

use std::sync::Arc;

use granary_access::{Scopes, Visibility};
use granary_catalog::CatalogError;
use granary_identity::{InstallationKey, PasswordSettings, Secret, parse_scopes};
use granary_oci::{Digest, Reference, Tag};
use granary_registry::{
    AccountRules, AccountsCommand, AccountsError, AccountsReport, AnonymousMode, Chunk, Denial,
    ManifestRequest, May, Origin, Precondition, Principal, Pushing, Reading, Reason, Registry,
    RegistryError, Rules, Shown, SignInError,
};

use crate::{
    gate::{Gate, alone, run, together},
    world::{World, body, content, image, is_postgres, name, no_grace, open, push, put},
};

/// Rules with accounts, whose passwords cost little.
pub(crate) fn rules(anonymous: AnonymousMode) -> Rules {
    Rules {
        accounts: AccountRules {
            anonymous,
            passwords: PasswordSettings {
                memory_kib: 8,
                iterations: 1,
                min_length: 12,
            },
            key: Some(Arc::new(InstallationKey::from_bytes([7; 32]))),
            ..AccountRules::default()
        },
        ..no_grace()
    }
}

pub(crate) fn secret(text: &str) -> Secret {
    Secret::from(text.to_owned())
}

pub(crate) fn password(user: &str) -> Secret {
    secret(&format!("{user}, quite long"))
}

pub(crate) async fn bootstrap(registry: &Registry) {
    let command = AccountsCommand::Bootstrap {
        user: "alice".to_owned(),
        password: password("alice"),
    };
    registry.administer(command).await.unwrap();
}

/// A registry in which alice administers and bob is a user.
pub(crate) async fn world() -> World {
    let world = World::new(rules(AnonymousMode::None)).await;
    bootstrap(&world.registry).await;
    let command = AccountsCommand::AddUser {
        user: "bob".to_owned(),
        password: password("bob"),
        administrator: false,
    };
    world.registry.administer(command).await.unwrap();
    world
}

pub(crate) async fn sign_in(
    registry: &Registry,
    user: &str,
    secret: Secret,
) -> Result<Principal, SignInError> {
    let user = user.to_owned();
    registry
        .sign_in(Shown::Password { user, secret }, &Origin::default())
        .await
}

pub(crate) async fn bob(registry: &Registry) -> Principal {
    sign_in(registry, "bob", password("bob")).await.unwrap()
}

/// A token of bob's, and its number.
pub(crate) async fn token(registry: &Registry) -> (i64, Secret) {
    let command = AccountsCommand::CreateToken {
        user: "bob".to_owned(),
        name: "ci".to_owned(),
        scopes: Scopes::unlimited(),
        lifetime: None,
        addresses: None,
    };
    match registry.administer(command).await.unwrap() {
        AccountsReport::TokenCreated { id, token } => (id, token),
        other => panic!("{other:?}"),
    }
}

pub(crate) async fn revoke(registry: &Registry, id: i64) {
    let command = AccountsCommand::RevokeToken { id };
    registry.administer(command).await.unwrap();
}

pub(crate) async fn pushes(
    registry: &Registry,
    who: &Principal,
    repository: &str,
) -> Result<May<Pushing>, RegistryError> {
    registry.authorise(who, name(repository)).await
}

pub(crate) async fn reads(
    registry: &Registry,
    who: &Principal,
    repository: &str,
) -> Result<May<Reading>, RegistryError> {
    registry.authorise(who, name(repository)).await
}

pub(crate) fn reason<T>(result: Result<T, RegistryError>) -> Option<Reason> {
    match result {
        Ok(_) => None,
        Err(RegistryError::Denied(Denial { reason, .. })) => Some(reason),
        Err(other) => panic!("{other}"),
    }
}

/// Pushes a blob and an image with it as bob, under a tag of that name.
pub(crate) async fn image_of_bob(registry: &Registry, tag: &str) -> Digest {
    let layer = content(1, 300);
    let digest = Digest::sha256(&layer);
    let may = pushes(registry, &bob(registry).await, "bob/app")
        .await
        .unwrap();
    may.push_blob(digest, Some(300), body(layer)).await.unwrap();
    may.put_manifest(manifest(tag, digest)).await.unwrap();
    digest
}

fn manifest(tag: &str, layer: Digest) -> ManifestRequest {
    ManifestRequest {
        reference: tag.parse().unwrap(),
        tags: Vec::new(),
        content_type: None,
        precondition: Precondition::None,
        body: image(&[(layer, 300)]),
    }
}

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
fn a_withdrawn_token_counts_no_longer_at_the_next_request() {
    let _unset = together();
    run(async {
        let world = world().await;
        let registry = &world.registry;
        image_of_bob(registry, "v").await;
        for _ in 0..20 {
            let (id, token) = token(registry).await;
            let who = sign_in(registry, "bob", token.clone()).await.unwrap();
            for _ in 0..3 {
                assert!(reads(registry, &who, "bob/app").await.is_ok());
            }
            revoke(registry, id).await;
            // What it proved is remembered; whether it counts is not.
            let who = sign_in(registry, "bob", token).await.unwrap();
            let refused = reason(reads(registry, &who, "bob/app").await);
            assert_eq!(refused, Some(Reason::Ended));
        }
        let former = bob(registry).await;
        let command = AccountsCommand::SetPassword {
            user: "bob".to_owned(),
            password: secret("something else"),
        };
        registry.administer(command).await.unwrap();
        let refused = reason(reads(registry, &former, "bob/app").await);
        assert_eq!(refused, Some(Reason::Ended));
        let who = sign_in(registry, "bob", secret("something else"))
            .await
            .unwrap();
        assert!(reads(registry, &who, "bob/app").await.is_ok());
    });
}

#[test]
fn a_token_withdrawn_while_a_manifest_is_put_stops_it() {
    alone(async {
        let world = world().await;
        let registry = &world.registry;
        let layer = image_of_bob(registry, "v").await;
        let (id, token) = token(registry).await;
        let who = sign_in(registry, "bob", token).await.unwrap();
        let may = pushes(registry, &who, "bob/app").await.unwrap();
        let gate = Gate::shut("manifest::before_put");
        let put = tokio::spawn(async move { may.put_manifest(manifest("later", layer)).await });
        gate.reached().await;
        revoke(registry, id).await;
        gate.open();
        assert_eq!(reason(put.await.unwrap()), Some(Reason::Ended));
        let may = reads(registry, &bob(registry).await, "bob/app")
            .await
            .unwrap();
        assert_eq!(may.tags("", 10).await.unwrap(), ["v"]);
    });
}

#[test]
fn a_token_withdrawn_while_a_blob_is_closed_stops_it() {
    alone(async {
        let world = world().await;
        let registry = &world.registry;
        let (id, token) = token(registry).await;
        let who = sign_in(registry, "bob", token).await.unwrap();
        let may = pushes(registry, &who, "bob/app").await.unwrap();
        let session = may.begin_upload(None).await.unwrap().id;
        let bytes = content(1, 300);
        let digest = Digest::sha256(&bytes);
        let gate = Gate::shut("upload::before_finish");
        let closing = tokio::spawn(async move {
            let chunk = Chunk::default();
            may.finish_upload(&session, digest, chunk, body(bytes))
                .await
        });
        gate.reached().await;
        revoke(registry, id).await;
        gate.open();
        assert_eq!(reason(closing.await.unwrap()), Some(Reason::Ended));
        let refused = reason(reads(registry, &bob(registry).await, "bob/app").await);
        assert_eq!(
            refused,
            Some(Reason::Missing),
            "the repository was not made"
        );
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

#[test]
fn what_was_made_from_a_credential_ends_with_it() {
    let _unset = together();
    run(async {
        let world = world().await;
        let registry = &world.registry;
        image_of_bob(registry, "v").await;
        let (id, token) = token(registry).await;
        let who = sign_in(registry, "bob", token).await.unwrap();
        let scopes = parse_scopes("repository:bob/app:pull repository:alice/app:pull,push");
        let issued = registry
            .issue_token(&who, &scopes, Some("test"))
            .await
            .unwrap();
        assert_eq!(issued.granted.len(), 1, "{:?}", issued.granted);
        let refresh = issued.refresh.unwrap();
        let nowhere = Origin::default();
        let bearer = || registry.sign_in(Shown::Bearer(issued.token.clone()), &nowhere);
        let by_token = bearer().await.unwrap();
        assert!(reads(registry, &by_token, "bob/app").await.is_ok());
        let refused = reason(pushes(registry, &by_token, "bob/app").await);
        assert_eq!(refused, Some(Reason::TokenTooNarrow));
        let again = registry.sign_in_again(&refresh).await.unwrap();
        let further = registry.issue_token(&again, &scopes, None).await.unwrap();
        assert!(further.refresh.is_none());
        revoke(registry, id).await;
        for who in [by_token, bearer().await.unwrap(), again] {
            let refused = reason(reads(registry, &who, "bob/app").await);
            assert_eq!(refused, Some(Reason::Ended));
        }
        let again = registry.sign_in_again(&refresh).await.unwrap();
        let refused = reason(registry.issue_token(&again, &scopes, None).await);
        assert_eq!(refused, Some(Reason::Ended));
    });
}

#[test]
fn the_same_password_set_again_counts() {
    let _unset = together();
    run(async {
        let world = world().await;
        let registry = &world.registry;
        image_of_bob(registry, "v").await;
        let command = AccountsCommand::SetPassword {
            user: "bob".to_owned(),
            password: password("bob"),
        };
        registry.administer(command).await.unwrap();
        let former = bob(registry).await;
        let refused = reason(reads(registry, &former, "bob/app").await);
        assert_eq!(refused, Some(Reason::Ended), "remembered from before");
        registry.forget(Shown::Password {
            user: "bob".to_owned(),
            secret: password("bob"),
        });
        let who = bob(registry).await;
        assert!(reads(registry, &who, "bob/app").await.is_ok());
    });
}

#[test]
fn a_password_is_hashed_again_by_the_settings_of_today() {
    let _unset = together();
    run(async {
        let world = world().await;
        let phc = async |registry: &Registry| {
            let found = registry.catalog().password("bob").await.unwrap().unwrap();
            (found.credential, found.phc)
        };
        let (credential, before) = phc(&world.registry).await;
        let mut stronger = rules(AnonymousMode::None);
        stronger.accounts.passwords.memory_kib = 16;
        let world = world.restarted(stronger).await;
        assert!(
            sign_in(&world.registry, "bob", secret("wrong"))
                .await
                .is_err()
        );
        assert_eq!(phc(&world.registry).await.1, before);
        bob(&world.registry).await;
        let (same, after) = phc(&world.registry).await;
        assert_eq!(same, credential, "what was made from it goes on");
        assert!(after != before && after.contains("m=16,"), "{after}");
        assert!(
            sign_in(&world.registry, "bob", password("bob"))
                .await
                .is_ok()
        );
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

/// What somebody may do is read anew although it is kept: a change on one replica counts for the next request on the other.
#[test]
fn a_change_on_one_replica_counts_on_the_other() {
    if !is_postgres() {
        return;
    }
    let _unset = together();
    run(async {
        let world = world().await;
        let one = &world.registry;
        let two = open(world.folder.path(), rules(AnonymousMode::Read)).await;
        image_of_bob(one, "v").await;
        let seen = |visibility| {
            let command = AccountsCommand::SetVisibility {
                repository: name("bob/app"),
                visibility,
            };
            one.administer(command)
        };
        let (reference, standing): (Reference, Tag) = ("v".parse().unwrap(), "v".parse().unwrap());
        for _ in 0..100 {
            seen(Visibility::Public).await.unwrap();
            let may = reads(&two, &Principal::Anonymous, "bob/app").await.unwrap();
            may.resolve(&reference).await.unwrap();
            seen(Visibility::Private).await.unwrap();
            let refused = reason(reads(&two, &Principal::Anonymous, "bob/app").await);
            assert_eq!(refused, Some(Reason::NoCredentials));
        }
        for _ in 0..100 {
            let (id, token) = token(one).await;
            let who = sign_in(&two, "token", token).await.unwrap();
            assert!(reads(&two, &who, "bob/app").await.is_ok());
            // From now on what is kept is asked for together with the tag.
            let pull = || two.pull(&who, name("bob/app"), &standing);
            pull().await.unwrap();
            revoke(one, id).await;
            assert_eq!(reason(pull().await), Some(Reason::Ended));
            let refused = reason(reads(&two, &who, "bob/app").await);
            assert_eq!(refused, Some(Reason::Ended));
        }
    });
}

#[test]
fn wrong_passwords_keep_only_those_waiting_who_send_them() {
    let _unset = together();
    run(async {
        let world = world().await;
        let registry = &world.registry;
        let known = bob(registry).await;
        let at = |address: &str| Origin {
            address: Some(address.parse().unwrap()),
            ..Origin::default()
        };
        let tries = async |user: &str, secret: Secret, from: Origin| {
            let user = user.to_owned();
            registry
                .sign_in(Shown::Password { user, secret }, &from)
                .await
        };
        for user in ["bob", "nobody"] {
            for number in 0..10 {
                let wrong = secret(&format!("wrong {number}"));
                let refused = tries(user, wrong, at("10.0.0.1")).await;
                assert!(matches!(refused, Err(SignInError::Wrong)), "{refused:?}");
            }
            let waits = tries(user, secret("once more"), at("10.0.0.1")).await;
            assert!(matches!(waits, Err(SignInError::Waits { .. })), "{waits:?}");
        }
        // Bob himself, elsewhere and where he was known before, and by a token.
        let new = tries("bob", password("bob"), at("10.0.0.2")).await;
        assert_eq!(new.unwrap(), known);
        let remembered = tries("bob", password("bob"), at("10.0.0.1")).await;
        assert_eq!(remembered.unwrap(), known);
        let (_, token) = token(registry).await;
        assert!(tries("bob", token, at("10.0.0.1")).await.is_ok());
    });
}

#[test]
fn names_and_passwords_that_are_no_good_are_refused() {
    let _unset = together();
    run(async {
        let world = world().await;
        let registry = &world.registry;
        for (user, text) in [
            ("bob", "a good long one"),
            ("Carol", "a good long one"),
            ("library", "a good long one"),
            ("carol", "short"),
            ("carol", "carolcarolcarol"),
        ] {
            let command = AccountsCommand::AddUser {
                user: user.to_owned(),
                password: secret(text),
                administrator: false,
            };
            let refused = registry.administer(command).await.unwrap_err();
            assert!(!matches!(refused, AccountsError::Registry(_)), "{refused}");
        }
        let catalog = registry.catalog();
        let found: Result<_, CatalogError> = catalog.principal("carol").await;
        assert_eq!(found.unwrap(), None);
    });
}
