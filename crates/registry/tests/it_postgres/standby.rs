//! A server that is no primary any more, as the former primary is after a fail-over.

use std::time::Duration;

use granary_catalog::Catalog;
use granary_testbed::{Postgres, StopMode};

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_is_neither_read_nor_written() {
    let mut server = Postgres::start_fast().unwrap();
    let url = server.create_database().unwrap();
    let catalog = Catalog::open_postgres(&url, 4).await.unwrap();
    let green = catalog.setting("colour", "green".to_owned());
    assert_eq!(green.await.unwrap(), "green");

    server.stop(StopMode::Fast).unwrap();
    server.start_as_standby().unwrap();
    // It answers whoever asks it.
    let name = url.rsplit('/').next().unwrap();
    let read = "SELECT value FROM settings WHERE name = 'colour'";
    assert_eq!(server.psql(name, read).unwrap(), "green");
    let error = catalog.now().await.unwrap_err();
    assert!(error.is_transient(), "{error}");
    let error = catalog.ping().await.unwrap_err();
    assert!(error.is_transient(), "{error}");

    // A write that waits goes through as soon as the server leads again.
    let shape = tokio::time::timeout(
        Duration::from_secs(30),
        catalog.setting("shape", "round".to_owned()),
    );
    let (shape, promoted) = tokio::join!(shape, async { server.promote() });
    promoted.unwrap();
    assert_eq!(shape.unwrap().unwrap(), "round");
    catalog.now().await.unwrap();
}
