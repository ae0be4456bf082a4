//! What the operator does about whole repositories and namespaces: removes the former, limits the latter.

use serde_json::{Value, json};

use super::{NOBODY, basic, push_blob, push_image, put_image, said, settings, tags, with_accounts};
use crate::harness::{TestServer, image};

async fn admin(server: &TestServer, arguments: &[&str]) -> Value {
    let arguments = [&["admin"], arguments, &["--json"]].concat();
    server.run(&arguments).await.exits(0).json()
}

#[tokio::test]
async fn a_repository_is_removed_by_a_command() {
    let mut server = settings().start().await;
    push_image(&server, NOBODY, "a/b", "v1", &image(1)).await;
    push_image(&server, NOBODY, "a/c", "v1", &image(1)).await;
    let remove = ["repository", "remove", "a/b"];
    let removed = admin(&server, &remove).await;
    let expected = json!({"done": "repository-removed", "repository": "a/b"});
    assert_eq!(removed, expected);
    for path in ["manifests/v1", "tags/list"] {
        let read = server.get(&format!("/v2/a/b/{path}")).await;
        read.refused(404, "NAME_UNKNOWN");
    }
    let listed = server.get("/v2/_catalog").await.is(200).json();
    assert_eq!(listed["repositories"], json!(["a/c"]));
    let again = [&["admin"], &remove[..]].concat();
    said(&server.run(&again).await.exits(1), "no repository 'a/b'");
    push_image(&server, NOBODY, "a/b", "v2", &image(2)).await;
    assert_eq!(tags(&server, NOBODY, "a/b").await, ["v2"]);
    server.stop().await;
    let said = server.run(&again).await.exits(0).stdout;
    assert!(said.contains("a/b is gone"), "{said}");
    let gone = server.run(&["gc"]).await.exits(0).stdout;
    assert!(
        gone.contains("the rest of 2 removed repositories is gone"),
        "{gone}"
    );
    server.start_again().await;
    server
        .get("/v2/a/b/tags/list")
        .await
        .refused(404, "NAME_UNKNOWN");
    assert_eq!(tags(&server, NOBODY, "a/c").await, ["v1"]);
}

#[tokio::test]
async fn a_namespace_holds_no_more_than_its_quota() {
    let server = with_accounts(settings()).await;
    let bob = basic("bob");
    push_blob(&server, &bob, "bob/app", &[7; 1000]).await;
    let limits = [
        "namespace",
        "bob",
        "--quota-bytes",
        "2KiB",
        "--quota-artifacts",
        "1",
        "--default-license",
        "Apache-2.0 OR MIT",
    ];
    let set = admin(&server, &limits).await;
    let expected = json!({
        "done": "namespace", "namespace": "bob", "owner": "bob", "default_visibility": "private", "create_by": "writers",
        "immutable_tags": [], "default_license": "Apache-2.0 OR MIT", "quota_bytes": 2048, "quota_artifacts": 1,
        "used_bytes": 1000, "used_artifacts": 0, "counting": false, "awaited": false,
    });
    assert_eq!(set, expected);
    let path = |content: &[u8]| {
        let digest = crate::harness::sha256(content);
        format!("/v2/bob/app/blobs/uploads/?digest={digest}")
    };
    let refused = server
        .post(&path(&[8; 1049]))
        .by(&bob)
        .body(vec![8; 1049])
        .await;
    refused.refused(403, "DENIED");
    let detail = json!({"reason": "quota", "what": "bytes", "used": 1000, "limit": 2048});
    assert_eq!(refused.json()["errors"][0]["detail"], detail);
    let message = refused.json()["errors"][0]["message"].to_string();
    assert!(message.contains("1000 of the 2048 bytes"), "{message}");
    push_blob(&server, &bob, "bob/other", &[8; 1048]).await;
    let shown = server.run(&["admin", "namespace", "bob"]).await.exits(0);
    for words in ["2 KiB of 2 KiB", "0 of 1", "Apache-2.0 OR MIT"] {
        assert!(shown.stdout.contains(words), "{}", shown.stdout);
    }
    admin(&server, &["namespace", "bob", "--quota-bytes", "none"]).await;
    push_image(&server, &bob, "bob/app", "v1", &image(1)).await;
    put_image(&server, &bob, "bob/app", "v2", &image(1))
        .await
        .is(201);
    push_blob(&server, &bob, "bob/app", &image(2).config).await;
    push_blob(&server, &bob, "bob/app", &image(2).layer).await;
    let refused = put_image(&server, &bob, "bob/app", "v2", &image(2)).await;
    refused.refused(403, "DENIED");
    let detail = json!({"reason": "quota", "what": "manifests", "used": 1, "limit": 1});
    assert_eq!(refused.json()["errors"][0]["detail"], detail);
    let free = [
        "namespace",
        "bob",
        "--quota-artifacts",
        "0",
        "--default-license",
        "",
    ];
    let free = admin(&server, &free).await;
    for field in [
        "quota_bytes",
        "quota_artifacts",
        "used_bytes",
        "default_license",
    ] {
        assert_eq!(free[field], Value::Null, "{field}");
    }
    put_image(&server, &bob, "bob/app", "v2", &image(2))
        .await
        .is(201);
    let odd = ["admin", "namespace", "bob", "--default-license", "<script>"];
    said(&server.run(&odd).await.exits(1), "SPDX");
    for odd in ["--quota-bytes=much", "--quota-artifacts=-1"] {
        server
            .run(&["admin", "namespace", "bob", odd])
            .await
            .exits(2);
    }
}
