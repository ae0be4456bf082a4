//! Uploads that were interrupted go on where their bytes are durable (decisions 1 and 2).

use bytes::Bytes;

use crate::harness::{TestServer, eventually, image, noise, request_head, sha256};

/// How far a session got.
async fn offset(server: &TestServer, location: &str) -> usize {
    let status = server.get(location).await.is(204);
    let last = status
        .header("range")
        .strip_prefix("0-")
        .unwrap()
        .parse::<usize>()
        .unwrap();
    // Zero bytes are written `0-0`; no test here leaves a session at one byte.
    if last == 0 { 0 } else { last + 1 }
}

/// Sends the rest of an upload from where the session stands, and checks the blob.
async fn finish(server: &TestServer, repository: &str, location: &str, content: &Bytes) {
    let digest = sha256(content);
    let from = offset(server, location).await;
    if from < content.len() {
        let rest = server.patch(location).body(content.slice(from..));
        let range = format!("{from}-{}", content.len() - 1);
        rest.header("Content-Range", &range).await.is(202);
    }
    server
        .put(&format!("{location}?digest={digest}"))
        .await
        .is(201);
    let read = server
        .get(&format!("/v2/{repository}/blobs/{digest}"))
        .await
        .is(200);
    assert!(read.body == *content);
}

#[tokio::test]
async fn a_cut_connection_keeps_what_came() {
    let server = TestServer::start().await;
    for (length, sent) in [(5_000, 2_000), (900_000, 600_000)] {
        let content = noise(length, 1);
        let location = server.begin("resume/cut").await;
        let mut client = server.raw().await;
        let announced = format!("Content-Length: {length}");
        client
            .send(request_head("PATCH", &location, &[&announced]).as_bytes())
            .await;
        client.send(&content[..sent]).await;
        client.end().await;
        let kept = eventually("something is kept", async || {
            Some(offset(&server, &location).await).filter(|&offset| offset > 0)
        })
        .await;
        assert!(kept <= sent, "{kept} of {sent} bytes");
        finish(&server, "resume/cut", &location, &content).await;
    }
}

#[tokio::test]
async fn a_cut_closing_put_keeps_what_came() {
    let server = TestServer::start().await;
    let content = noise(900_000, 1);
    let location = server.begin("resume/put").await;
    let closing = format!("{location}?digest={}", sha256(&content));
    let mut client = server.raw().await;
    client
        .send(request_head("PUT", &closing, &["Content-Length: 900000"]).as_bytes())
        .await;
    client.send(&content[..500_000]).await;
    client.end().await;
    eventually("something is kept", async || {
        Some(offset(&server, &location).await).filter(|&offset| offset > 0)
    })
    .await;
    finish(&server, "resume/put", &location, &content).await;
}

#[tokio::test]
async fn a_session_outlives_the_server() {
    let mut server = TestServer::start().await;
    let (small, large) = (noise(4_000, 1), noise(900_000, 2));
    let mut sessions = Vec::new();
    for content in [&small, &large] {
        let location = server.begin("resume/restart").await;
        server
            .patch(&location)
            .body(content.slice(..content.len() / 2))
            .await
            .is(202);
        sessions.push((location, content));
    }
    let untouched = server.begin("resume/restart").await;
    server.restart().await;
    assert_eq!(offset(&server, &untouched).await, 0);
    for (location, content) in sessions {
        assert_eq!(offset(&server, &location).await, content.len() / 2);
        finish(&server, "resume/restart", &location, content).await;
    }
}

#[tokio::test]
async fn what_was_acknowledged_outlives_a_kill() {
    let mut server = TestServer::start().await;
    let (small, large) = (noise(4_000, 1), noise(900_000, 2));
    let pushed = image(1);
    let manifest = server.push_image("resume/kill", "a", &pushed).await;
    let mut sessions = Vec::new();
    for content in [&small, &large] {
        let location = server.begin("resume/kill").await;
        server
            .patch(&location)
            .body(content.slice(..content.len() / 2))
            .await
            .is(202);
        sessions.push((location, content));
    }
    server.kill().await;
    server.start_again().await;
    let answer = server.get("/v2/resume/kill/manifests/a").await.is(200);
    assert_eq!(answer.header("docker-content-digest"), manifest);
    let blob = format!("/v2/resume/kill/blobs/{}", sha256(&pushed.layer));
    assert_eq!(server.get(&blob).await.is(200).body, pushed.layer);
    for (location, content) in sessions {
        assert_eq!(offset(&server, &location).await, content.len() / 2);
        finish(&server, "resume/kill", &location, content).await;
    }
}

#[tokio::test]
async fn a_kill_in_the_middle_of_a_chunk_loses_no_acknowledged_byte() {
    let mut server = TestServer::start().await;
    let content = noise(2_000_000, 1);
    let location = server.begin("resume/middle").await;
    server
        .patch(&location)
        .body(content.slice(..500_000))
        .await
        .is(202);
    let mut client = server.raw().await;
    client
        .send(request_head("PATCH", &location, &["Content-Length: 1500000"]).as_bytes())
        .await;
    client.send(&content[500_000..1_400_000]).await;
    server.kill().await;
    server.start_again().await;
    let kept = offset(&server, &location).await;
    assert!((500_000..=1_400_000).contains(&kept), "{kept}");
    finish(&server, "resume/middle", &location, &content).await;
}

#[tokio::test]
async fn a_repeated_closing_put_is_known_after_a_restart() {
    let mut server = TestServer::start().await;
    let content = noise(200_000, 1);
    let location = server.begin("resume/closed").await;
    let closing = format!("{location}?digest={}", sha256(&content));
    server.put(&closing).body(content.clone()).await.is(201);
    server.kill().await;
    server.start_again().await;
    server.put(&closing).body(content.clone()).await.is(201);
    server.put(&closing).await.is(201);
}

#[tokio::test]
async fn a_cancelled_upload_leaves_no_object() {
    let server = TestServer::start().await;
    let location = server.begin("resume/cancelled").await;
    server
        .patch(&location)
        .body(noise(300_000, 1))
        .await
        .is(202);
    assert_eq!(server.objects().len(), 1);
    server.delete(&location).await.is(204);
    server.run(&["gc"]).await.exits(0);
    assert_eq!(server.objects(), Vec::<std::path::PathBuf>::new());
}
