//! Namespaces: who says whose they are and how much they hold.

use granary_access::Visibility;
use granary_registry::{NamespaceAdmin, NamespaceSettings, Reason};

use crate::{
    accounts::world,
    audit::sql::Sql,
    gate::{Gate, alone},
    groups::{alice, denied, leave, push_image},
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
