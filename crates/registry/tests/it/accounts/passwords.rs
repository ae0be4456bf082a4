//! Passwords: which are good, how they are kept, and who waits after wrong ones.

use granary_catalog::CatalogError;
use granary_identity::Secret;
use granary_registry::{
    AccountsCommand, AccountsError, AnonymousMode, Origin, OwnAccount, Reason, Registry, Shown,
    SignInError,
};

use super::{bob, image_of_bob, password, reads, reason, rules, secret, sign_in, token, world};
use crate::gate::{run, together};

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

/// It is the password that counts now which proves who changes it, and neither one that is remembered nor a token.
#[test]
fn a_password_that_ended_sets_no_other() {
    let _unset = together();
    run(async {
        let world = world().await;
        let registry = &world.registry;
        bob(registry).await;
        let (_, by_token) = token(registry).await;
        let who = sign_in(registry, "bob", by_token.clone()).await.unwrap();
        let reset = || AccountsCommand::SetPassword {
            user: "bob".to_owned(),
            password: secret("set by the operator"),
        };
        registry.administer(reset()).await.unwrap();
        let own = crate::groups::leave::<OwnAccount>(registry, &who, ()).await;
        for current in [password("bob"), by_token] {
            let changed = own
                .change_password(current, secret("set by somebody"))
                .await;
            assert!(
                matches!(changed, Err(AccountsError::WrongPassword)),
                "{changed:?}"
            );
        }
        // Nor does it say whether it was right once.
        let short = own.change_password(password("bob"), secret("short")).await;
        assert!(
            matches!(short, Err(AccountsError::WrongPassword)),
            "{short:?}"
        );
        let current = secret("set by the operator");
        own.change_password(current, secret("set by bob himself"))
            .await
            .unwrap();
        assert!(
            sign_in(registry, "bob", secret("set by bob himself"))
                .await
                .is_ok()
        );
    });
}
