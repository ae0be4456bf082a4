//! The audit log of a copy is that of its source, and goes on.

use granary_registry::{AnonymousMode, CopyOptions, Progress};

use super::{Site, copy_into, directions};
use crate::{
    accounts::rules,
    audit::{THEN, commit, intact, sql::Sql, verify},
    gate::{run, together},
};

async fn sql(site: &Site) -> Sql {
    let file = format!("sqlite://{}", site.path().join("granary.db").display());
    Sql::at(site.url.as_ref().unwrap_or(&file)).await
}

#[test]
fn the_audit_log_arrives_whole_and_is_chained_on() {
    let _unset = together();
    run(async {
        for (from, to) in directions() {
            let (source, target) = (Site::new(from), Site::new(to));
            let rules = rules(AnonymousMode::None);
            let registry = source.registry(rules.clone()).await;
            let rows = sql(&source).await;
            // More than a batch of a copy, in several months.
            for (number, days) in (0..).zip([0, 40, 100]) {
                commit(&rows, number * 700 + 1, 700, THEN + days * 86_400_000_000).await;
                registry.seal_audit_now().await.unwrap();
            }
            let noted = intact(&registry).await;
            commit(&rows, 5000, 5, THEN).await;
            let progress = Progress::silent();
            let options = CopyOptions { verify: false };
            let report = copy_into(&registry, &target, options, &progress)
                .await
                .unwrap();
            assert!(report.is_whole(), "{report:?}");
            assert_eq!(report.rows["audit_log"], 2100);
            assert_eq!(report.rows["audit_pending"], 5);
            let copy = target.registry(rules).await;
            let checked = verify(&copy, Some(&noted)).await.checked;
            assert_eq!(
                (checked.found, checked.was_compared),
                (0, true),
                "{checked:?}"
            );
            assert_eq!((checked.last.seq, checked.unsigned), (2105, 0));
            // Numbers of rows that wait go on behind those that came along.
            commit(&sql(&target).await, 6000, 5, THEN).await;
            assert_eq!(intact(&copy).await.seq, 2110);
        }
    });
}
