//! end-9 and end-10: what is deleted, and what may not be (decision 15).

use serde_json::json;

use crate::harness::{IMAGE, INDEX, TestServer, artifact, image, index, noise, sha256};

#[tokio::test]
async fn end_9_by_tag_removes_the_tag_alone() {
    let server = TestServer::start().await;
    let pushed = image(1);
    server.push_image("delete/tag", "a", &pushed).await;
    server
        .push_manifest("delete/tag", "b", IMAGE, &pushed.manifest)
        .await;
    server.delete("/v2/delete/tag/manifests/a").await.is(202);
    server
        .get("/v2/delete/tag/manifests/a")
        .await
        .refused_naming(404, "MANIFEST_UNKNOWN", "a");
    assert_eq!(server.tags("delete/tag").await, ["b"]);
    server.delete("/v2/delete/tag/manifests/b").await.is(202);
    assert!(server.tags("delete/tag").await.is_empty());
    let path = format!("/v2/delete/tag/manifests/{}", pushed.digest());
    assert_eq!(server.get(&path).await.is(200).body, pushed.manifest);
    let answer = server.delete("/v2/delete/tag/manifests/a").await;
    answer.refused_naming(404, "MANIFEST_UNKNOWN", "a");
}

#[tokio::test]
async fn end_9_by_digest_removes_the_manifest_with_its_tags() {
    let server = TestServer::start().await;
    let (pushed, other) = (image(1), image(2));
    server.push_image("delete/digest", "a", &pushed).await;
    server
        .push_manifest("delete/digest", "b", IMAGE, &pushed.manifest)
        .await;
    server.push_image("delete/digest", "keep", &other).await;
    server.push_image("delete/elsewhere", "a", &pushed).await;
    let path = format!("/v2/delete/digest/manifests/{}", pushed.digest());
    server.delete(&path).await.is(202);
    server
        .get(&path)
        .await
        .refused_naming(404, "MANIFEST_UNKNOWN", &pushed.digest());
    server.head(&path).await.is(404);
    for tag in ["a", "b"] {
        server
            .get(&format!("/v2/delete/digest/manifests/{tag}"))
            .await
            .is(404);
    }
    assert_eq!(server.tags("delete/digest").await, ["keep"]);
    assert_eq!(server.tags("delete/elsewhere").await, ["a"]);
    server
        .delete(&path)
        .await
        .refused_naming(404, "MANIFEST_UNKNOWN", &pushed.digest());
    // It can be pushed again.
    server
        .push_manifest("delete/digest", "a", IMAGE, &pushed.manifest)
        .await;
    assert_eq!(server.get(&path).await.is(200).body, pushed.manifest);
}

#[tokio::test]
async fn end_9_refuses_what_an_index_lists() {
    let server = TestServer::start().await;
    let pushed = image(1);
    server.push_image("delete/listed", "a", &pushed).await;
    let listing = index(&[pushed.descriptor()]);
    let parent = server
        .push_manifest("delete/listed", "i", INDEX, &listing)
        .await;
    let child = format!("/v2/delete/listed/manifests/{}", pushed.digest());
    server
        .delete(&child)
        .await
        .refused_naming(405, "UNSUPPORTED", &parent);
    assert_eq!(server.tags("delete/listed").await, ["a", "i"]);
    // The tag of the index keeps nothing; the index does.
    server.delete("/v2/delete/listed/manifests/i").await.is(202);
    server
        .delete(&child)
        .await
        .refused_naming(405, "UNSUPPORTED", &parent);
    server
        .delete(&format!("/v2/delete/listed/manifests/{parent}"))
        .await
        .is(202);
    server.delete(&child).await.is(202);
}

#[tokio::test]
async fn end_10_removes_a_blob_of_one_repository() {
    let server = TestServer::start().await;
    for content in [noise(100, 1), noise(200_000, 1)] {
        let digest = server.push_blob("delete/blob", &content).await;
        server.push_blob("delete/other", &content).await;
        let path = format!("/v2/delete/blob/blobs/{digest}");
        server.get(&path).await.is(200);
        server.delete(&path).await.is(202);
        server
            .get(&path)
            .await
            .refused_naming(404, "BLOB_UNKNOWN", &digest);
        server.head(&path).await.is(404);
        server
            .delete(&path)
            .await
            .refused_naming(404, "BLOB_UNKNOWN", &digest);
        let other = server
            .get(&format!("/v2/delete/other/blobs/{digest}"))
            .await
            .is(200);
        assert!(other.body == content);
        server.push_blob("delete/blob", &content).await;
        assert!(server.get(&path).await.is(200).body == content);
    }
}

#[tokio::test]
async fn end_10_refuses_what_a_manifest_refers_to() {
    let server = TestServer::start().await;
    let pushed = image(1);
    let manifest = server.push_image("delete/used", "a", &pushed).await;
    let second = artifact("application/vnd.example", None, json!({"a": "b"}));
    server.push_artifact("delete/used", &second).await;
    for content in [&pushed.config, &pushed.layer] {
        let path = format!("/v2/delete/used/blobs/{}", sha256(content));
        server
            .delete(&path)
            .await
            .refused_naming(405, "UNSUPPORTED", &manifest);
        server.get(&path).await.is(200);
    }
    let path = format!("/v2/delete/used/blobs/{}", sha256(b"{}"));
    server
        .delete(&path)
        .await
        .refused_naming(405, "UNSUPPORTED", &sha256(&second));

    // Only manifests of the same repository count.
    server.push_blob("delete/unused", &pushed.layer).await;
    let unused = format!("/v2/delete/unused/blobs/{}", sha256(&pushed.layer));
    server.delete(&unused).await.is(202);

    server
        .delete(&format!("/v2/delete/used/manifests/{manifest}"))
        .await
        .is(202);
    let path = format!("/v2/delete/used/blobs/{}", sha256(&pushed.layer));
    server.delete(&path).await.is(202);
    server.get(&path).await.is(404);
}

#[tokio::test]
async fn unknown_and_unreadable_things_are_not_deleted() {
    let server = TestServer::start().await;
    let missing = sha256(b"missing");
    for kind in ["manifests", "blobs"] {
        let code = if kind == "blobs" {
            "BLOB_UNKNOWN"
        } else {
            "MANIFEST_UNKNOWN"
        };
        server.push_image("delete/known", "a", &image(1)).await;
        let answer = server
            .delete(&format!("/v2/delete/known/{kind}/{missing}"))
            .await;
        answer.refused_naming(404, code, &missing);
        server
            .delete(&format!("/v2/delete/unknown/{kind}/{missing}"))
            .await
            .is(404);
        let answer = server
            .delete(&format!("/v2/delete/known/{kind}/sha256:short"))
            .await;
        answer.refused_naming(400, "DIGEST_INVALID", "sha256:short");
    }
}

#[tokio::test]
async fn nothing_is_deleted_where_deleting_is_switched_off() {
    let server = TestServer::builder()
        .env("GRANARY_POLICY__DELETE", "false")
        .start()
        .await;
    let pushed = image(1);
    let manifest = server.push_image("delete/off", "a", &pushed).await;
    let blob = server.push_blob("delete/off", b"unreferenced").await;
    for path in [
        "manifests/a".to_owned(),
        format!("manifests/{manifest}"),
        format!("blobs/{blob}"),
    ] {
        let path = format!("/v2/delete/off/{path}");
        server.delete(&path).await.refused(405, "UNSUPPORTED");
        server.get(&path).await.is(200);
    }
    assert_eq!(server.tags("delete/off").await, ["a"]);
    // An upload of one's own can still be given up.
    let location = server.begin("delete/off").await;
    server.delete(&location).await.is(204);
}
