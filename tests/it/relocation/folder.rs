//! What `granary backup` does to the folder that it is given, and what it leaves alone.

use std::fs;

use tempfile::TempDir;

use super::{fill, serve, text};
use crate::harness::{Ran, TestServer, image, noise, sha256};

#[track_caller]
fn assert_said(ran: &Ran, words: &str) {
    assert!(ran.stderr.contains(words), "{}", ran.stderr);
}

/// The folder is an installation. What was pushed to it is in no other.
#[tokio::test]
async fn a_backup_that_was_served_is_not_replaced() {
    let server = TestServer::start().await;
    fill(&server).await;
    let folder = TempDir::new().unwrap();
    let to = folder.path().to_owned();
    let backup = ["backup", "--to", text(&to)];
    // Nobody serves it in between, so the second one is welcome.
    server.run(&backup).await.exits(0);
    server.run(&backup).await.exits(0);

    let mut copy = serve(folder, None).await;
    let (theirs, large) = (image(20), noise(150_000, 20));
    copy.push_image("team/app", "theirs", &theirs).await;
    copy.push_blob("team/app", &large).await;
    let busy = server.run(&backup).await.exits(1);
    assert_said(&busy, "another process uses");
    copy.stop().await;
    let journal = fs::metadata(to.join("granary.db-wal"));
    assert_eq!(journal.map_or(0, |journal| journal.len()), 0);
    let refused = server.run(&backup).await.exits(1);
    assert_said(
        &refused,
        "was used as an installation since the last backup",
    );

    copy.start_again().await;
    let manifest = copy.get("/v2/team/app/manifests/theirs").await.is(200);
    assert_eq!(manifest.body, theirs.manifest);
    let path = format!("/v2/team/app/blobs/{}", sha256(&large));
    assert!(copy.get(&path).await.is(200).body == large);
}

#[tokio::test]
async fn a_strangers_lock_keeps_its_content() {
    let server = TestServer::start().await;
    fill(&server).await;
    for others in [true, false] {
        let folder = TempDir::new().unwrap();
        let lock = folder.path().join("lock");
        fs::write(&lock, "of somebody else").unwrap();
        if others {
            fs::write(folder.path().join("letter"), "dear").unwrap();
        }
        let ran = server.run(&["backup", "--to", text(folder.path())]).await;
        if others {
            assert_said(&ran.exits(1), "holds something that is no backup");
            assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
        } else {
            ran.exits(0);
        }
        assert_eq!(fs::read_to_string(&lock).unwrap(), "of somebody else");
    }
}
