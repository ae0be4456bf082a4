//! `granary scrub`: damaged content is found, no longer served, and repaired by the next push.

use std::{
    fs,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use serde_json::Value;

use crate::harness::{IMAGE, TestServer, image, noise, sha256};

async fn scrub(server: &TestServer, code: i32) -> Value {
    server
        .run(&["scrub", "--json", "--rate", "10GiB"])
        .await
        .exits(code)
        .json()
}

/// A server with an image and a blob in a file, and that file.
async fn server_with_object() -> (TestServer, Bytes, PathBuf) {
    let server = TestServer::start().await;
    server.push_image("scrub/repository", "a", &image(1)).await;
    let content = noise(300_000, 1);
    server.push_blob("scrub/repository", &content).await;
    let [object] = &server.objects()[..] else {
        panic!("one object was expected")
    };
    let object = object.clone();
    (server, content, object)
}

/// The blob is not served, and the next push of it makes it good again.
async fn assert_quarantined_and_repairable(server: &TestServer, content: &Bytes) {
    let digest = sha256(content);
    let path = format!("/v2/scrub/repository/blobs/{digest}");
    server
        .get(&path)
        .await
        .refused_naming(404, "BLOB_UNKNOWN", &digest);
    server.head(&path).await.is(404);
    let mount = format!("/v2/scrub/other/blobs/uploads/?mount={digest}&from=scrub/repository");
    server.post(&mount).await.is(202);
    server.push_blob("scrub/repository", content).await;
    assert!(server.get(&path).await.is(200).body == *content);
    let report = scrub(server, 0).await;
    assert_eq!(report["damaged"], Value::Array(Vec::new()));
    server.run(&["gc"]).await.exits(0);
    assert!(server.get(&path).await.is(200).body == *content);
}

#[tokio::test]
async fn scrub_reads_everything_and_finds_nothing() {
    let (mut server, _, _) = server_with_object().await;
    for running in [true, false] {
        if !running {
            server.stop().await;
        }
        let report = scrub(&server, 0).await;
        assert_eq!(
            (&report["blobs"], &report["manifests"]),
            (&3.into(), &1.into())
        );
        let expected = image(1).config.len() + 500 + 300_000 + image(1).manifest.len();
        assert_eq!(report["bytes"], expected);
        assert_eq!(report["damaged"], Value::Array(Vec::new()));
    }
}

fn flip(object: &Path) {
    let mut bytes = fs::read(object).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(object, bytes).unwrap();
}

fn truncate(object: &Path) {
    let bytes = fs::read(object).unwrap();
    fs::write(object, &bytes[..bytes.len() - 1]).unwrap();
}

fn remove(object: &Path) {
    fs::remove_file(object).unwrap();
}

#[tokio::test]
async fn scrub_finds_damaged_objects_beside_a_running_server() {
    for damage in [flip, truncate, remove] {
        let (server, content, object) = server_with_object().await;
        damage(&object);
        let report = scrub(&server, 1).await;
        let damaged = report["damaged"].as_array().unwrap();
        assert_eq!(damaged.len(), 1, "{report}");
        assert_eq!(
            (&damaged[0]["digest"], &damaged[0]["kind"]),
            (&sha256(&content).into(), &"blob".into())
        );
        assert!(
            damaged[0]["problem"]
                .as_str()
                .is_some_and(|problem| !problem.is_empty())
        );
        assert_quarantined_and_repairable(&server, &content).await;
    }
}

#[tokio::test]
async fn scrub_finds_damaged_objects_without_a_server() {
    let (mut server, content, object) = server_with_object().await;
    server.stop().await;
    flip(&object);
    let ran = server.run(&["scrub"]).await.exits(1);
    assert!(ran.stdout.contains(&sha256(&content)), "{}", ran.stdout);
    server.start_again().await;
    let why = server
        .run(&["why", &sha256(&content)])
        .await
        .exits(0)
        .stdout;
    assert!(why.contains("quarantined"), "{why}");
    assert_quarantined_and_repairable(&server, &content).await;
}

#[tokio::test]
async fn a_lost_object_is_found_by_the_read_that_needs_it() {
    let (server, content, object) = server_with_object().await;
    remove(&object);
    let digest = sha256(&content);
    let path = format!("/v2/scrub/repository/blobs/{digest}");
    server
        .get(&path)
        .await
        .refused_naming(404, "BLOB_UNKNOWN", &digest);
    assert_quarantined_and_repairable(&server, &content).await;
}

#[tokio::test]
async fn an_object_that_became_shorter_is_never_served_as_whole() {
    let (server, content, object) = server_with_object().await;
    truncate(&object);
    let path = format!("/v2/scrub/repository/blobs/{}", sha256(&content));
    // The connection breaks off, or the answer is an error; it is not 200 with what is left.
    if let Ok(answer) = server.get(&path).try_send().await {
        assert!(answer.status >= 400, "{}", answer.status);
    }
    server.get("/v2/").await.is(200);
}

/// Changes content where it stands in the database of a server that is stopped.
fn flip_in_database(server: &TestServer, content: &[u8]) {
    let path = server.data().join("granary.db");
    let mut bytes = fs::read(&path).unwrap();
    let place = bytes
        .windows(content.len())
        .position(|window| window == content);
    let place = place.expect("the content is not in the database");
    bytes[place + content.len() / 2] ^= 1;
    fs::write(&path, bytes).unwrap();
}

#[tokio::test]
async fn scrub_finds_damage_in_the_database() {
    let mut server = TestServer::start().await;
    let pushed = image(1);
    let digest = server.push_image("scrub/repository", "a", &pushed).await;
    server.stop().await;
    flip_in_database(&server, &pushed.config);
    // A digit inside a digest, so that the manifest is still one.
    flip_in_database(&server, &pushed.manifest[100..130]);
    let report = scrub(&server, 1).await;
    let mut damaged: Vec<(&str, &str)> = report["damaged"]
        .as_array()
        .unwrap()
        .iter()
        .map(|damage| {
            (
                damage["kind"].as_str().unwrap(),
                damage["digest"].as_str().unwrap(),
            )
        })
        .collect();
    damaged.sort_unstable();
    let config = sha256(&pushed.config);
    assert_eq!(
        damaged,
        [("blob", config.as_str()), ("manifest", digest.as_str())]
    );

    server.start_again().await;
    for reference in ["a", digest.as_str()] {
        let path = format!("/v2/scrub/repository/manifests/{reference}");
        server
            .get(&path)
            .await
            .refused_naming(404, "MANIFEST_UNKNOWN", reference);
    }
    let put = server.put_manifest("scrub/repository", "a", IMAGE, &pushed.manifest);
    put.await
        .refused_naming(404, "MANIFEST_BLOB_UNKNOWN", &config);
    server.push_image("scrub/repository", "a", &pushed).await;
    let answer = server.get("/v2/scrub/repository/manifests/a").await.is(200);
    assert_eq!(answer.body, pushed.manifest);
    scrub(&server, 0).await;
}

/// A volume that was away must not cost anything once it is back.
#[tokio::test]
async fn what_was_only_away_is_served_again() {
    let (server, content, object) = server_with_object().await;
    let path = format!("/v2/scrub/repository/blobs/{}", sha256(&content));
    let away = object.with_extension("away");
    fs::rename(&object, &away).unwrap();
    server.get(&path).await.refused(404, "BLOB_UNKNOWN");
    assert_eq!(
        scrub(&server, 1).await["restored"],
        Value::Array(Vec::new())
    );
    fs::rename(&away, &object).unwrap();
    server.head(&path).await.is(404);
    let report = scrub(&server, 0).await;
    assert_eq!(report["restored"], serde_json::json!([sha256(&content)]));
    assert!(server.get(&path).await.is(200).body == content);
    assert_eq!(
        scrub(&server, 0).await["restored"],
        Value::Array(Vec::new())
    );
}
