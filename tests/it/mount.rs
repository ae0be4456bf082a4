//! end-11: a blob that is here already becomes one of another repository.

use crate::harness::{TestServer, noise, sha256, sha512};

#[tokio::test]
async fn end_11_mounts_a_blob_of_another_repository() {
    let server = TestServer::start().await;
    for content in [noise(100, 1), noise(200_000, 1)] {
        let digest = server.push_blob("mount/source", &content).await;
        let path = format!("/v2/mount/target/blobs/uploads/?mount={digest}&from=mount/source");
        let answer = server.post(&path).await.is(201);
        let location = format!("/v2/mount/target/blobs/{digest}");
        assert_eq!(answer.header("location"), location);
        assert_eq!(answer.header("docker-content-digest"), digest);
        assert!(server.get(&location).await.is(200).body == content);

        // Each repository holds it for itself.
        server
            .delete(&format!("/v2/mount/source/blobs/{digest}"))
            .await
            .is(202);
        server
            .get(&format!("/v2/mount/source/blobs/{digest}"))
            .await
            .is(404);
        assert!(server.get(&location).await.is(200).body == content);
    }
}

#[tokio::test]
async fn end_11_mounts_without_from_what_the_client_may_read() {
    let server = TestServer::start().await;
    let digest = server.push_blob("mount/any", b"content").await;
    for from in ["", "&from="] {
        let path = format!(
            "/v2/mount/target{}/blobs/uploads/?mount={digest}{from}",
            from.len()
        );
        let answer = server.post(&path).await.is(201);
        let read = server.get(answer.header("location")).await.is(200);
        assert_eq!(read.body, "content");
    }
}

#[tokio::test]
async fn end_11_begins_a_session_if_there_is_nothing_to_mount() {
    let server = TestServer::start().await;
    let digest = server.push_blob("mount/here", b"content").await;
    server.push_blob("mount/other", b"something else").await;
    let missing = sha256(b"missing");
    let by_another_name = sha512(b"content");
    let queries = [
        format!("mount={missing}&from=mount/here"),
        format!("mount={missing}"),
        // There is such a blob, but not where the client says, or not under that digest.
        format!("mount={digest}&from=mount/other"),
        format!("mount={digest}&from=mount/unknown"),
        format!("mount={by_another_name}&from=mount/here"),
    ];
    for query in queries {
        let answer = server
            .post(&format!("/v2/mount/new/blobs/uploads/?{query}"))
            .await
            .is(202);
        let location = answer.header("location");
        assert_eq!(answer.header("range"), "0-0", "{query}");
        let content = query.as_bytes().to_vec();
        let closing = format!("{location}?digest={}", sha256(&content));
        server.put(&closing).body(content).await.is(201);
    }
    server
        .get(&format!("/v2/mount/new/blobs/{digest}"))
        .await
        .is(404);
}

#[tokio::test]
async fn end_11_names_what_cannot_be_read() {
    let server = TestServer::start().await;
    let digest = server.push_blob("mount/names", b"content").await;
    let answer = server
        .post("/v2/mount/new/blobs/uploads/?mount=sha256:abc")
        .await;
    answer.refused_naming(400, "DIGEST_INVALID", "sha256:abc");
    let path = format!("/v2/mount/new/blobs/uploads/?mount={digest}&from=Mount/../x");
    server
        .post(&path)
        .await
        .refused_naming(400, "NAME_INVALID", "Mount/../x");
}

#[tokio::test]
async fn a_deleted_blob_is_mounted_no_more() {
    let server = TestServer::start().await;
    let digest = server.push_blob("mount/gone", b"content").await;
    server
        .delete(&format!("/v2/mount/gone/blobs/{digest}"))
        .await
        .is(202);
    for from in ["", "&from=mount/gone"] {
        let path = format!("/v2/mount/late/blobs/uploads/?mount={digest}{from}");
        server.post(&path).await.is(202);
    }
}
