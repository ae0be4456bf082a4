//! The keys that sign tokens: others take their place, and what one signed ends when it is revoked.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use granary_registry::{
    AccountsCommand, AccountsError, AccountsReport, AnonymousMode, KeyReport, KeyState,
    KeysCommand, KeysReport, Origin, Principal, Registry, Shown, SignInError,
};

use crate::{
    accounts::{bob, rules, world as people},
    audit::sql::Sql,
    gate::{run, together},
    world::{is_postgres, open},
};

async fn asked(registry: &Registry, command: KeysCommand) -> Result<KeysReport, AccountsError> {
    match registry.administer(AccountsCommand::Keys(command)).await? {
        AccountsReport::Keys(report) => Ok(report),
        other => panic!("{other:?}"),
    }
}

async fn listed(registry: &Registry) -> Vec<KeyReport> {
    match asked(registry, KeysCommand::List).await.unwrap() {
        KeysReport::Listed { entries } => entries,
        other => panic!("{other:?}"),
    }
}

async fn states(registry: &Registry) -> Vec<KeyState> {
    listed(registry).await.iter().map(|key| key.state).collect()
}

/// A token of bob's by the token service.
async fn token(registry: &Registry) -> granary_identity::Secret {
    let bob = bob(registry).await;
    registry.issue_token(&bob, &[], None).await.unwrap().token
}

async fn shown(
    registry: &Registry,
    token: &granary_identity::Secret,
) -> Result<Principal, SignInError> {
    let shown = Shown::Bearer(token.clone());
    registry.sign_in(shown, &Origin::default()).await
}

async fn published(registry: &Registry) -> usize {
    let keys = registry.key_set().await.unwrap();
    keys["keys"].as_array().unwrap().len()
}

#[test]
fn another_key_signs_later_and_the_former_one_still_verifies() {
    use KeyState::{Next, Signs, Verifies};
    let _unset = together();
    run(async {
        let world = people().await;
        let registry = &world.registry;
        let first = token(registry).await;
        assert_eq!(states(registry).await, [Signs]);
        let KeysReport::Rotated(next) = asked(registry, KeysCommand::Rotate).await.unwrap() else {
            panic!("no other key");
        };
        assert_eq!(states(registry).await, [Signs, Next]);
        assert_eq!(published(registry).await, 2);
        // There is one that waits already.
        let again = asked(registry, KeysCommand::Rotate).await.unwrap();
        assert!(matches!(again, KeysReport::Rotated(key) if key.kid == next.kid));
        let second = token(registry).await;
        let sql = Sql::of(world.folder.path()).await;
        // The ten minutes pass.
        sql.run("UPDATE signing_keys SET active_from = 1 WHERE slot = 2")
            .await;
        registry.look_after_keys().await.unwrap();
        assert_eq!(states(registry).await, [Verifies, Signs]);
        let third = token(registry).await;
        for token in [&first, &second, &third] {
            assert_eq!(shown(registry, token).await.unwrap().name(), "bob");
        }
        // The hour passes too.
        sql.run("UPDATE signing_keys SET retires_at = 1 WHERE slot = 1")
            .await;
        registry.look_after_keys().await.unwrap();
        assert!(shown(registry, &first).await.is_err());
        assert!(shown(registry, &second).await.is_err());
        assert_eq!(shown(registry, &third).await.unwrap().name(), "bob");
        assert_eq!(published(registry).await, 1);
    });
}

#[test]
fn what_a_revoked_key_signed_counts_no_longer() {
    use KeyState::{Retired, Signs};
    let _unset = together();
    run(async {
        let world = people().await;
        let registry = &world.registry;
        let other = match is_postgres() {
            true => open(world.folder.path(), rules(AnonymousMode::None)).await,
            false => registry.clone(),
        };
        let token_of_first = token(registry).await;
        // Remembered, at each of them.
        for registry in [registry, &other] {
            shown(registry, &token_of_first).await.unwrap();
        }
        let kid = listed(registry).await[0].kid.clone();
        let revoke = KeysCommand::Revoke { kid };
        asked(registry, revoke.clone()).await.unwrap();
        assert!(shown(registry, &token_of_first).await.is_err());
        other.look_after_keys().await.unwrap();
        assert!(shown(&other, &token_of_first).await.is_err());
        let again = asked(registry, revoke).await;
        assert!(matches!(again, Err(AccountsError::NoSuchKey(_))));
        let second = token(registry).await;
        assert_eq!(states(registry).await, [Retired, Signs]);
        // It has read the keys just now, and does so at most once a second for a token of an unknown one.
        other.look_after_keys().await.unwrap();
        for registry in [registry, &other] {
            assert_eq!(shown(registry, &second).await.unwrap().name(), "bob");
        }
    });
}

#[test]
fn a_key_that_has_signed_for_long_is_replaced_by_itself() {
    use KeyState::{Next, Signs};
    let _unset = together();
    run(async {
        let world = people().await;
        let registry = &world.registry;
        registry.look_after_keys().await.unwrap();
        assert_eq!(states(registry).await, [Signs]);
        let sql = Sql::of(world.folder.path()).await;
        sql.run("UPDATE signing_keys SET created_at = created_at - 7776001000000")
            .await;
        for _ in 0..2 {
            registry.look_after_keys().await.unwrap();
            assert_eq!(states(registry).await, [Signs, Next]);
        }
    });
}

/// Whoever shows a token of an unknown key has the keys read: what he must not do is to keep others from noticing.
#[test]
fn a_revoked_key_is_noticed_whoever_had_the_keys_read() {
    if !is_postgres() {
        return;
    }
    let _unset = together();
    run(async {
        let world = people().await;
        let registry = &world.registry;
        let other = open(world.folder.path(), rules(AnonymousMode::None)).await;
        let token = token(registry).await;
        shown(&other, &token).await.unwrap();
        let kid = listed(registry).await[0].kid.clone();
        asked(registry, KeysCommand::Revoke { kid }).await.unwrap();
        let (_, rest) = token.expose().split_once('.').unwrap();
        let header = URL_SAFE_NO_PAD.encode(r#"{"typ":"JWT","alg":"EdDSA","kid":"none"}"#);
        let unknown = granary_identity::Secret::from(format!("{header}.{rest}"));
        let noticed = async {
            while shown(&other, &token).await.is_ok() {
                assert!(shown(&other, &unknown).await.is_err());
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            }
        };
        let patience = std::time::Duration::from_secs(20);
        tokio::time::timeout(patience, noticed).await.unwrap();
    });
}
