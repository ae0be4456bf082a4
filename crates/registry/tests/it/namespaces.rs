//! Namespaces: who says whose they are and how much they hold, also before they are used.

use granary_access::Visibility;
use granary_registry::{Caller, NamespaceAdmin, NamespaceSettings, Reason};

use crate::{
    accounts::{bob, reads, world},
    audit::sql::Sql,
    gate::{Gate, alone, run, together},
    groups::{add, alice, denied, leave, push_image},
};

fn quota(bytes: u64) -> NamespaceSettings {
    NamespaceSettings {
        quota_bytes: Some(bytes),
        ..NamespaceSettings::default()
    }
}

/// Somebody else has taken the office of alice away meanwhile; her namespace is still hers.
#[test]
fn an_owner_and_a_quota_are_decided_again_where_they_are_set() {
    for change in [
        quota(5),
        NamespaceSettings {
            quota_artifacts: Some(5),
            ..NamespaceSettings::default()
        },
        NamespaceSettings {
            owner: Some("bob".to_owned()),
            ..NamespaceSettings::default()
        },
    ] {
        alone(async {
            let world = world().await;
            let registry = &world.registry;
            let alice = alice(registry).await;
            push_image(registry, &alice, "alice/app").await;
            let own = || leave::<NamespaceAdmin>(registry, &alice, "alice".to_owned());
            let (before, changes) = (own().await, own().await);
            let gate = Gate::shut("namespace::before_change");
            let changing = tokio::spawn(async move { changes.change_namespace(change).await });
            gate.reached().await;
            let sql = Sql::of(world.folder.path()).await;
            sql.run("UPDATE principals SET system_role = 0 WHERE handle = 'alice'")
                .await;
            gate.open();
            let refused = changing.await.unwrap();
            assert_eq!(denied(refused), Some(Reason::NotGranted));
            let kept = before.namespace().await.unwrap();
            assert_eq!(kept.owner.as_deref(), Some("alice"));
            assert_eq!((kept.quota_bytes, kept.quota_artifacts), (None, None));
            // What is hers to say is not asked of the installation.
            let visible = NamespaceSettings {
                default_visibility: Some(Visibility::Public),
                ..NamespaceSettings::default()
            };
            let changed = before.change_namespace(visible).await.unwrap();
            assert_eq!(changed.default_visibility, Visibility::Public);
        });
    }
}

#[test]
fn an_administrator_sets_up_a_namespace_that_nobody_has_made() {
    let _unset = together();
    run(async {
        let world = world().await;
        let registry = &world.registry;
        let (alice, bob) = (alice(registry).await, bob(registry).await);
        let carol = add(registry, "carol").await;
        let ahead = leave::<NamespaceAdmin>(registry, &alice, "ahead".to_owned()).await;
        let before = ahead.namespace_to_be().await.unwrap();
        assert_eq!((before.owner, before.quota_bytes), (None, None));
        assert_eq!(before.default_visibility, Visibility::Private);
        // To look at it makes nothing.
        for who in [&bob, &carol] {
            let who = Caller::from(who);
            let asked = registry.ask_leave::<NamespaceAdmin>(&who, "ahead".to_owned());
            assert_eq!(denied(asked.await), Some(Reason::Hidden));
        }
        let given = NamespaceSettings {
            owner: Some("bob".to_owned()),
            ..quota(1 << 20)
        };
        let given = ahead.change_namespace(given).await.unwrap();
        assert_eq!(given.owner.as_deref(), Some("bob"));
        assert_eq!(given.quota_bytes, Some(1 << 20));
        push_image(registry, &bob, "ahead/app").await;
        assert!(reads(registry, &carol, "ahead/app").await.is_err());
        // One that bears a user's name would be the user's.
        let theirs = leave::<NamespaceAdmin>(registry, &alice, "carol".to_owned()).await;
        let before = theirs.namespace_to_be().await.unwrap();
        assert_eq!(before.owner.as_deref(), Some("carol"));
        let given = theirs.change_namespace(quota(7)).await.unwrap();
        assert_eq!(given.owner.as_deref(), Some("carol"));
        let own = leave::<NamespaceAdmin>(registry, &carol, "carol".to_owned()).await;
        assert_eq!(own.namespace().await.unwrap().quota_bytes, Some(7));
    });
}
