//! Accounts: who may do what with what proves who he is.

mod first_account;
mod ownership;
mod passwords;
mod withdrawal;

use std::sync::Arc;

use granary_access::Scopes;
use granary_identity::{InstallationKey, PasswordSettings, Secret};
use granary_oci::Digest;
use granary_registry::{
    AccountRules, AccountsCommand, AccountsReport, AnonymousMode, Denial, ManifestRequest, May,
    Origin, Precondition, Principal, Pushing, Reading, Reason, Registry, RegistryError, Rules,
    Shown, SignInError,
};

use crate::world::{World, body, content, image, name, no_grace};

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
