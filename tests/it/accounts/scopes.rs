//! What API tokens are narrowed to: verbs, repositories and tags (decision 26, row 9).

use super::{
    api_token, basic, basic_with, bearer, begin, jwt, push_blob, push_image, put_image, settings,
    tags, with_accounts,
};
use crate::harness::{Image, TestServer, image, noise};

/// An API token with these scopes as a password, and a token of the token service made from it.
async fn narrowed(server: &TestServer, scopes: &[&str]) -> [String; 2] {
    let token = api_token(server, "bob", scopes).await;
    let by_name = basic_with("bob", &token.text);
    let all = ["repository:bob/app:*", "repository:bob/other:*"];
    let issued = jwt(server, &by_name, &all).await;
    [by_name, bearer(&issued)]
}

/// Where a tag stands.
async fn standing(server: &TestServer, tag: &str) -> String {
    let path = format!("/v2/bob/app/manifests/{tag}");
    let answer = server.head(&path).by(&basic("bob")).await.is(200);
    answer.header("docker-content-digest").to_owned()
}

/// Pushes an image without a tag.
async fn push_untagged(server: &TestServer, by: &str, image: &Image) {
    push_image(server, by, "bob/app", &image.digest(), image).await;
}

#[tokio::test]
async fn a_token_that_reads_changes_nothing() {
    let server = with_accounts(settings()).await;
    let (bob, pushed) = (basic("bob"), image(1));
    push_image(&server, &bob, "bob/app", "a", &pushed).await;
    let loose = push_blob(&server, &bob, "bob/app", b"loose").await;
    let session = begin(&server, &bob, "bob/app").await;
    let base = "/v2/bob/app";
    let blob = format!("{base}/blobs/{loose}");
    for by in narrowed(&server, &["read:bob/app"]).await {
        for path in [
            &format!("{base}/manifests/a"),
            &blob,
            &format!("{base}/tags/list"),
        ] {
            server.get(path).by(&by).await.is(200);
            server.head(path).by(&by).await.is(200);
        }
        for request in [
            server.post(&format!("{base}/blobs/uploads/")),
            server.post(&format!("{base}/blobs/uploads/?mount={loose}&from=bob/app")),
            server.post("/v2/bob/other/blobs/uploads/"),
            server.get(&session),
            server.patch(&session).body("x"),
            server
                .put(&format!("{session}?digest={loose}"))
                .body("loose"),
            server.delete(&session),
            server.delete(&blob),
            server.delete(&format!("{base}/manifests/a")),
            server.delete(&format!("{base}/manifests/{}", pushed.digest())),
        ] {
            request.by(&by).await.refused(403, "DENIED");
        }
        let answer = put_image(&server, &by, "bob/app", "b", &pushed).await;
        answer.refused(403, "DENIED");
    }
    assert_eq!(tags(&server, &bob, "bob/app").await, ["a"]);
    let status = server.get(&session).by(&bob).await.is(204);
    assert_eq!(status.header("range"), "0-0");
    server.get(&blob).by(&bob).await.is(200);
}

#[tokio::test]
async fn a_tag_pattern_binds_the_tags_that_are_set() {
    let server = with_accounts(settings()).await;
    let (bob, release) = (basic("bob"), image(1));
    push_image(&server, &bob, "bob/app", "latest", &release).await;
    let scopes = ["read,write,update:bob/app:v*"];
    for (seed, by) in (10..).zip(narrowed(&server, &scopes).await) {
        let (one, other) = (image(seed), image(seed + 10));
        let version = format!("v{seed}");
        push_image(&server, &by, "bob/app", &version, &one).await;
        for content in [&other.config, &other.layer] {
            push_blob(&server, &by, "bob/app", content).await;
        }
        // By itself, and among others that would do.
        let several = format!("{}?tag={version}&tag=new", other.digest());
        for reference in ["latest", "new", "av1", &several] {
            let answer = put_image(&server, &by, "bob/app", reference, &other).await;
            answer.refused(403, "DENIED");
            assert!(answer.message().contains("these credentials"), "{answer:?}");
        }
        let path = format!("/v2/bob/app/manifests/{}", other.digest());
        let read = server.get(&path).by(&bob).await;
        read.refused(404, "MANIFEST_UNKNOWN");
        assert_eq!(standing(&server, &version).await, one.digest());
        assert_eq!(standing(&server, "latest").await, release.digest());
        // Those that fit may move, and a digest has no tag.
        push_untagged(&server, &by, &other).await;
        put_image(&server, &by, "bob/app", &version, &other)
            .await
            .is(201);
        assert_eq!(standing(&server, &version).await, other.digest());
    }
    let all = tags(&server, &bob, "bob/app").await;
    assert_eq!(all, ["latest", "v10", "v11"]);
}

#[tokio::test]
async fn who_may_only_create_moves_nothing() {
    let server = with_accounts(settings()).await;
    let (bob, release) = (basic("bob"), image(1));
    push_image(&server, &bob, "bob/app", "latest", &release).await;
    for (seed, by) in (10..).zip(narrowed(&server, &["read,write:bob/**"]).await) {
        let (one, other) = (image(seed), image(seed + 10));
        let tag = format!("build-{seed}");
        push_image(&server, &by, "bob/app", &tag, &one).await;
        push_untagged(&server, &by, &other).await;
        // What stands there already does not move.
        put_image(&server, &by, "bob/app", &tag, &one).await.is(201);
        let several = format!("{}?tag=fresh-{seed}&tag=latest", other.digest());
        for reference in ["latest", &tag, &several] {
            let answer = put_image(&server, &by, "bob/app", reference, &other).await;
            answer.refused(403, "DENIED");
        }
        assert_eq!(standing(&server, &tag).await, one.digest());
        assert_eq!(standing(&server, "latest").await, release.digest());
        push_image(&server, &by, "bob/other", &tag, &one).await;
    }
    let all = tags(&server, &bob, "bob/app").await;
    assert_eq!(all, ["build-10", "build-11", "latest"]);
}

#[tokio::test]
async fn who_may_not_delete_deletes_nothing() {
    let server = with_accounts(settings()).await;
    let (bob, pushed) = (basic("bob"), image(1));
    push_image(&server, &bob, "bob/app", "a", &pushed).await;
    let loose = push_blob(&server, &bob, "bob/app", b"loose").await;
    for by in narrowed(&server, &["read,write,update:bob/app"]).await {
        for path in [
            "/v2/bob/app/manifests/a".to_owned(),
            format!("/v2/bob/app/manifests/{}", pushed.digest()),
            format!("/v2/bob/app/blobs/{loose}"),
        ] {
            server.delete(&path).by(&by).await.refused(403, "DENIED");
            server.get(&path).by(&bob).await.is(200);
        }
        // To give up what one began is no deleting.
        let session = begin(&server, &by, "bob/app").await;
        server.delete(&session).by(&by).await.is(204);
    }
}

#[tokio::test]
async fn a_tag_pattern_binds_the_tags_that_are_deleted() {
    let server = with_accounts(settings()).await;
    let bob = basic("bob");
    let scopes = ["delete:bob/app:v*"];
    for (seed, by) in (10..).zip(narrowed(&server, &scopes).await) {
        let pushed = image(seed);
        for tag in ["v1", "v2", "latest"] {
            push_image(&server, &bob, "bob/app", tag, &pushed).await;
        }
        let path = |reference: &str| format!("/v2/bob/app/manifests/{reference}");
        let whole = path(&pushed.digest());
        // With the manifest a tag would go that is not this token's to delete.
        for path in [&path("latest"), &whole] {
            server.delete(path).by(&by).await.refused(403, "DENIED");
        }
        let all = tags(&server, &bob, "bob/app").await;
        assert_eq!(all, ["latest", "v1", "v2"]);
        server.delete(&path("v1")).by(&by).await.is(202);
        let all = tags(&server, &bob, "bob/app").await;
        assert_eq!(all, ["latest", "v2"]);
        server.delete(&path("latest")).by(&bob).await.is(202);
        server.delete(&whole).by(&by).await.is(202);
        assert!(tags(&server, &bob, "bob/app").await.is_empty());
        let loose = push_blob(&server, &bob, "bob/app", &noise(300, seed)).await;
        let blob = format!("/v2/bob/app/blobs/{loose}");
        server.delete(&blob).by(&by).await.is(202);
    }
}

/// A scope cuts what its user may; it adds nothing.
#[tokio::test]
async fn a_scope_gives_nothing_that_the_user_has_not() {
    let server = with_accounts(settings()).await;
    push_image(&server, &basic("carol"), "carol/app", "a", &image(1)).await;
    let scopes = ["read,write,update,delete,admin:carol/**", "read:**"];
    let token = api_token(&server, "bob", &scopes).await;
    let scope = "repository:carol/app:*";
    let issued = jwt(&server, &basic_with("bob", &token.text), &[scope]).await;
    for by in [token.bearer(), bearer(&issued)] {
        let read = server.get("/v2/carol/app/manifests/a").by(&by).await;
        read.refused(404, "NAME_UNKNOWN");
        let push = server.post("/v2/carol/app/blobs/uploads/").by(&by).await;
        push.refused(403, "DENIED");
    }
}

#[tokio::test]
async fn several_scopes_are_not_one() {
    let server = with_accounts(settings()).await;
    for repository in ["bob/app", "bob/other"] {
        push_image(&server, &basic("bob"), repository, "a", &image(1)).await;
    }
    for by in narrowed(&server, &["read:bob/app", "write:bob/other"]).await {
        server.get("/v2/bob/app/manifests/a").by(&by).await.is(200);
        begin(&server, &by, "bob/other").await;
        let read = server.get("/v2/bob/other/manifests/a").by(&by).await;
        read.refused(404, "NAME_UNKNOWN");
        let push = server.post("/v2/bob/app/blobs/uploads/").by(&by).await;
        push.refused(403, "DENIED");
    }
}
