//! What is somebody else's: upload sessions, and blobs that could be mounted (decision 25; rows 6 and 29).

use super::{
    api_token, basic, basic_with, bearer, begin, jwt, publish, push_blob, push_image, settings,
    with_accounts,
};
use crate::harness::{TestServer, image, noise, sha256};

#[tokio::test]
async fn a_session_is_whose_who_began_it() {
    let server = with_accounts(settings()).await;
    let (bob, content) = (basic("bob"), noise(300, 1));
    push_image(&server, &bob, "bob/app", "a", &image(1)).await;
    let session = begin(&server, &bob, "bob/app").await;
    let first = server.patch(&session).by(&bob).body(content.slice(..100));
    first.await.is(202);
    let closing = format!("{session}?digest={}", sha256(&content));
    // Alice may do everything, and carol may not even see the repository.
    for (user, status, code) in [
        ("alice", 404, "BLOB_UPLOAD_UNKNOWN"),
        ("carol", 403, "DENIED"),
    ] {
        for request in [
            server.get(&session),
            server.patch(&session).body("x"),
            server.put(&closing).body(content.slice(100..)),
            server.put(&session).body("without a digest"),
            server.delete(&session),
        ] {
            request.by(&basic(user)).await.refused(status, code);
        }
    }
    let elsewhere = session.replace("bob/app", "bob/other");
    for request in [server.get(&elsewhere), server.delete(&elsewhere)] {
        let answer = request.by(&bob).await;
        answer.refused(404, "BLOB_UPLOAD_UNKNOWN");
    }
    // By what he proves himself makes no difference.
    let token = api_token(&server, "bob", &[]).await;
    let issued = jwt(&server, &bob, &["repository:bob/app:pull,push"]).await;
    let status = server.get(&session).by(&bearer(&issued)).await.is(204);
    assert_eq!(status.header("range"), "0-99");
    let rest = server.patch(&session).by(&bearer(&issued));
    rest.body(content.slice(100..200)).await.is(202);
    let rest = server.put(&closing).by(&token.bearer());
    rest.body(content.slice(200..)).await.is(201);
    // Who closes again what is closed is told the same, and only if it was his.
    server.put(&closing).by(&bob).await.is(201);
    let again = server.put(&closing).by(&basic("alice")).await;
    again.refused(404, "BLOB_UPLOAD_UNKNOWN");
}

/// Asks to mount a blob, and looks whether the repository has it then.
async fn mounts(server: &TestServer, by: &str, repository: &str, query: &str) -> bool {
    let path = format!("/v2/{repository}/blobs/uploads/?mount={query}");
    let answer = server.post(&path).by(by).await;
    let digest = query.split('&').next().unwrap();
    let blob = format!("/v2/{repository}/blobs/{digest}");
    let read = server.get(&blob).by(by).await;
    match answer.status {
        201 => assert_eq!(read.status, 200, "{read:?}"),
        // A session, as for a blob that is nowhere.
        202 => assert_eq!(read.status, 404, "{read:?}"),
        _ => panic!("{answer:?}"),
    }
    answer.status == 201
}

#[tokio::test]
async fn a_blob_comes_only_from_where_one_may_read() {
    let server = with_accounts(settings()).await;
    for (number, content) in [noise(300, 1), noise(300_000, 1)].iter().enumerate() {
        let source = format!("bob/app{number}");
        let digest = push_blob(&server, &basic("bob"), &source, content).await;
        let from = format!("{digest}&from={source}");
        let to = |owner: &str, number: usize| format!("{owner}/copy{number}");
        for query in [&digest, &from] {
            let (carols, bobs) = (to("carol", number), to("bob", query.len()));
            assert!(!mounts(&server, &basic("carol"), &carols, query).await);
            assert!(mounts(&server, &basic("bob"), &bobs, query).await);
            let alices = to("alice", query.len());
            assert!(mounts(&server, &basic("alice"), &alices, query).await);
        }
        // A repository that one may read, but that has no such blob.
        let carols = format!("carol/own{number}");
        push_blob(&server, &basic("carol"), &carols, b"something else").await;
        let query = format!("{digest}&from={carols}");
        let target = to("carol", number);
        assert!(!mounts(&server, &basic("carol"), &target, &query).await);
        publish(&server, &source).await;
        assert!(mounts(&server, &basic("carol"), &target, &from).await);
        // Reading is not enough where the blob is to go.
        let path = format!("/v2/{source}/blobs/uploads/?mount={digest}&from={target}");
        let into = server.post(&path).by(&basic("carol")).await;
        into.refused(403, "DENIED");
    }
}

#[tokio::test]
async fn a_mount_keeps_to_the_credentials_scopes() {
    let server = with_accounts(settings()).await;
    let bob = basic("bob");
    let digest = push_blob(&server, &bob, "bob/app", b"content").await;
    let from = format!("{digest}&from=bob/app");
    let token = api_token(&server, "bob", &["read,write:bob/narrow"]).await;
    let scope = ["repository:bob/narrow:pull,push"];
    let of_token = jwt(&server, &basic_with("bob", &token.text), &scope).await;
    for by in [token.bearer(), bearer(&of_token)] {
        for query in [&digest, &from] {
            assert!(!mounts(&server, &by, "bob/narrow", query).await);
        }
    }
    // Clients do not always ask for a token that names the source, too.
    let issued = bearer(&jwt(&server, &bob, &scope).await);
    assert!(mounts(&server, &issued, "bob/narrow", &from).await);
}
