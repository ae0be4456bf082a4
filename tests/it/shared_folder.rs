//! Several processes on one PostgreSQL and one folder of blobs.

use std::path::Path;

use granary_testbed::Postgres;
use rustix::process::Signal;
use tempfile::TempDir;

use crate::harness::{Ran, TestServer, eventually, granary, noise, run, sha256};

const MIB: usize = 1 << 20;

/// Starts a replica on the database and the folder.
async fn replica(url: &str, root: &Path) -> TestServer {
    TestServer::builder()
        .env("GRANARY_DATABASE__URL", url)
        .env("GRANARY_STORAGE__FS__ROOT", root)
        .env("GRANARY_STORAGE__FS__SHARED", "true")
        .start()
        .await
}

/// A start that must fail.
async fn refused(url: &str, root: &Path, shared: bool) -> Ran {
    let data = TempDir::new().unwrap();
    let mut command = granary();
    command
        .env("GRANARY_DATABASE__URL", url)
        .env("GRANARY_STORAGE__FS__ROOT", root)
        .env("GRANARY_STORAGE__FS__SHARED", shared.to_string())
        .args(["serve", "--listen", "127.0.0.1:0", "--data"])
        .arg(data.path());
    run(command).await
}

fn files(root: &Path) -> usize {
    let folders = std::fs::read_dir(root).unwrap();
    let folders = folders.map(|entry| entry.unwrap().path());
    let folders = folders.filter(|path| path.is_dir());
    folders
        .map(|path| std::fs::read_dir(path).unwrap().count())
        .sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_share_a_folder_and_survive_each_other() {
    let url = Postgres::shared().unwrap().create_database().unwrap();
    let root = TempDir::new().unwrap();
    let mut one = replica(&url, root.path()).await;
    let two = replica(&url, root.path()).await;

    let whole = noise(6 * MIB, 1);
    let location = one.begin("shared/a").await;
    for (number, piece) in whole.chunks(2 * MIB).enumerate() {
        let server = [&two, &one][number % 2];
        server.patch(&location).body(piece.to_vec()).await.is(202);
    }
    let close = |location: &str, content: &[u8]| format!("{location}?digest={}", sha256(content));
    one.put(&close(&location, &whole)).await.is(201);
    for server in [&one, &two] {
        let path = format!("/v2/shared/a/blobs/{}", sha256(&whole));
        assert_eq!(server.get(&path).await.is(200).body, whole);
    }
    assert_eq!(files(root.path()), 1);

    // One falls asleep in the middle of a chunk; the other goes on, and the sleeper wakes up and writes.
    let other = noise(6 * MIB, 2);
    let location = one.begin("shared/a").await;
    one.patch(&location)
        .body(other.slice(..2 * MIB).to_vec())
        .await
        .is(202);
    let mut raw = one.begin_patch(&location, 4 * MIB, &noise(MIB, 3)).await;
    one.signal(Signal::STOP);
    let answer = eventually("the session is taken over", async || {
        let body = other.slice(2 * MIB..4 * MIB).to_vec();
        let answer = two.patch(&location).body(body).await;
        // It may have fallen asleep in a transaction: PostgreSQL ends that soon, and until then this can be tried again.
        (![429, 503].contains(&answer.status)).then_some(answer)
    })
    .await;
    answer.is(202);
    one.signal(Signal::CONT);
    raw.send(&noise(3 * MIB, 4)).await;
    two.patch(&location)
        .body(other.slice(4 * MIB..).to_vec())
        .await
        .is(202);
    let late = raw.answer().await;
    assert!(late.is_none_or(|answer| answer.status >= 400));
    two.put(&close(&location, &other)).await.is(201);
    for server in [&one, &two] {
        let path = format!("/v2/shared/a/blobs/{}", sha256(&other));
        assert_eq!(server.get(&path).await.is(200).body, other);
    }
    assert_eq!(files(root.path()), 2);

    // One that is killed leaves a session that the other can go on with.
    let third = noise(3 * MIB, 5);
    let location = one.begin("shared/a").await;
    one.patch(&location)
        .body(third.slice(..MIB).to_vec())
        .await
        .is(202);
    let _raw = one
        .begin_patch(&location, 2 * MIB, &third[MIB..2 * MIB])
        .await;
    one.kill().await;
    let answer = eventually("the session is taken over", async || {
        let answer = two.patch(&location).body(third.slice(MIB..).to_vec()).await;
        (answer.status != 429).then_some(answer)
    })
    .await;
    answer.is(202);
    two.put(&close(&location, &third)).await.is(201);
    one.start_again().await;
    let scrubbed = one.run(&["scrub", "--json"]).await.exits(0).json();
    assert_eq!(scrubbed["blobs"], 3, "{scrubbed}");
    assert_eq!(files(root.path()), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_shares_a_folder_and_who_does_not_stay_apart() {
    let url = Postgres::shared().unwrap().create_database().unwrap();
    let root = TempDir::new().unwrap();
    let mut shared = replica(&url, root.path()).await;
    let ran = refused(&url, root.path(), false).await.exits(1);
    let folder = root.path().display().to_string();
    assert!(
        ran.stderr.contains(&folder) && ran.stderr.contains("storage.fs.shared = true in each"),
        "{}",
        ran.stderr
    );
    shared.stop().await;

    let _alone = TestServer::builder()
        .env("GRANARY_DATABASE__URL", &url)
        .env("GRANARY_STORAGE__FS__ROOT", root.path())
        .start()
        .await;
    let ran = refused(&url, root.path(), true).await.exits(1);
    assert!(
        ran.stderr.contains(&folder) && ran.stderr.contains("without storage.fs.shared = true"),
        "{}",
        ran.stderr
    );
    // Nor do two of the one-process kind.
    let ran = refused(&url, root.path(), false).await.exits(1);
    assert!(
        ran.stderr.contains("another process uses"),
        "{}",
        ran.stderr
    );
}

#[tokio::test]
async fn a_shared_folder_wants_a_shared_catalog() {
    let data = TempDir::new().unwrap();
    let mut command = granary();
    command
        .env("GRANARY_STORAGE__FS__SHARED", "true")
        .args(["serve", "--listen", "127.0.0.1:0", "--data"])
        .arg(data.path());
    let ran = run(command).await.exits(2);
    let expected = "environment variable GRANARY_STORAGE__FS__SHARED: storage.fs.shared: replicas that share a folder share the catalog too";
    assert!(ran.stderr.contains(expected), "{}", ran.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_says_what_is_wrong_with_the_database() {
    let server = Postgres::shared().unwrap();
    let host = format!("127.0.0.1:{}", server.port());
    let url = format!("postgres://postgres:s3cr3t@{host}/nowhere");
    let root = TempDir::new().unwrap();
    let ran = refused(&url, root.path(), false).await.exits(1);
    let expected =
        format!("there is no database \"nowhere\" at {host}; make it with CREATE DATABASE");
    assert!(ran.stderr.contains(&expected), "{}", ran.stderr);
    assert!(!ran.stderr.contains("s3cr3t") && !ran.stdout.contains("s3cr3t"));
}
