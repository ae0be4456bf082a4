use granary_access::Visibility;
use granary_registry::{AccountsCommand, AnonymousMode, AuditFilter, Principal, Registry};

use crate::{
    accounts::{self, bob, reason},
    gate::{run, together},
    groups::push_image,
    world::{name, tag},
};

/// What the log says was read: by whom, where, and how often; sorted.
async fn told(registry: &Registry) -> Vec<(String, String, String)> {
    registry.keep_reads().await;
    registry.seal_audit_now().await.unwrap();
    let filter = AuditFilter {
        action: Some("access.read".to_owned()),
        ..AuditFilter::default()
    };
    let rows = registry.audit(&filter, None, 100).await.unwrap();
    let told = rows.into_iter().map(|row| {
        assert!(row.allowed);
        (row.actor, row.target, row.detail.unwrap_or_default())
    });
    let mut told: Vec<_> = told.collect();
    told.sort();
    told
}

fn line(actor: &str, target: &str, count: u64) -> (String, String, String) {
    let detail = format!("{{\"count\":{count}}}");
    (actor.to_owned(), target.to_owned(), detail)
}

#[test]
fn reads_are_counted_and_told_once() {
    let _unset = together();
    run(async {
        let world = accounts::world().await;
        let registry = &world.registry;
        let bob = bob(registry).await;
        push_image(registry, &bob, "bob/app").await;
        push_image(registry, &bob, "bob/other").await;
        for _ in 0..3 {
            let pulled = registry.pull(&bob, name("bob/app"), &tag("v")).await;
            pulled.unwrap();
        }
        accounts::reads(registry, &bob, "bob/other").await.unwrap();
        // What is refused is told elsewhere.
        let stranger = accounts::reads(registry, &Principal::Anonymous, "bob/app").await;
        assert!(reason(stranger).is_some());
        let first = [line("bob", "bob/app", 3), line("bob", "bob/other", 1)];
        assert_eq!(told(registry).await, first);
        assert_eq!(told(registry).await, first);

        accounts::reads(registry, &bob, "bob/app").await.unwrap();
        let then = [
            line("bob", "bob/app", 1),
            line("bob", "bob/app", 3),
            line("bob", "bob/other", 1),
        ];
        assert_eq!(told(registry).await, then);
    });
}

#[test]
fn strangers_are_counted_together_and_nobody_before_there_are_accounts() {
    let _unset = together();
    run(async {
        let (world, _sql) = super::world().await;
        let local = accounts::reads(&world.registry, &Principal::Local, "bob/app").await;
        local.unwrap();
        assert_eq!(told(&world.registry).await, []);

        accounts::bootstrap(&world.registry).await;
        push_image(&world.registry, &Principal::Operator, "library/app").await;
        let public = AccountsCommand::SetVisibility {
            repository: name("library/app"),
            visibility: Visibility::Public,
        };
        world.registry.administer(public).await.unwrap();
        let world = world.restarted(accounts::rules(AnonymousMode::Read)).await;
        for _ in 0..2 {
            let read = accounts::reads(&world.registry, &Principal::Anonymous, "library/app").await;
            read.unwrap();
        }
        let strangers = [line("anonymous", "library/app", 2)];
        assert_eq!(told(&world.registry).await, strangers);
    });
}
