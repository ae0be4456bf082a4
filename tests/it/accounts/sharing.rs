//! What is granted to others, settings of a namespace, and users who go.

use serde_json::{Value, json};

use super::{
    NOBODY, add_user, api_token, basic, basic_with, bearer, challenge, jwt, push_image, put_image,
    said, settings, tags, with_accounts,
};
use crate::harness::{TestServer, eventually, image};

async fn admin(server: &TestServer, arguments: &[&str]) -> Value {
    let arguments = [&["admin"], arguments, &["--json"]].concat();
    server.run(&arguments).await.exits(0).json()
}

/// Grants something and returns its number.
async fn grant(server: &TestServer, user: &str, what: &str) -> String {
    let granted = admin(server, &["grant", "add", user, what]).await;
    assert_eq!(
        (&granted["done"], &granted["to"]),
        (&json!("granted"), &json!(user))
    );
    granted["id"].to_string()
}

#[tokio::test]
async fn a_grant_counts_until_it_is_taken_back() {
    let server = with_accounts(settings()).await;
    let (bob, carol, pushed) = (basic("bob"), basic("carol"), image(1));
    push_image(&server, &bob, "bob/app", "v1", &pushed).await;
    push_image(&server, &bob, "bob/secret", "v1", &pushed).await;
    let reads = grant(&server, "carol", "read:bob/app").await;
    server
        .get("/v2/bob/app/manifests/v1")
        .by(&carol)
        .await
        .is(200);
    let hidden = server.get("/v2/bob/secret/manifests/v1").by(&carol).await;
    hidden.refused(404, "NAME_UNKNOWN");
    let denied = put_image(&server, &carol, "bob/app", "v2", &pushed).await;
    denied.refused(403, "DENIED");
    let listed = server.get("/v2/_catalog").by(&carol).await.is(200).json();
    assert_eq!(listed["repositories"], json!(["bob/app"]));
    // Below a prefix, also where nothing is yet.
    let writes = grant(&server, "carol", "read,write:bob/shared/**").await;
    push_image(&server, &carol, "bob/shared/new", "v1", &image(2)).await;
    push_image(&server, &carol, "bob/shared/new", "v2", &pushed).await;
    let moved = put_image(&server, &carol, "bob/shared/new", "v1", &pushed).await;
    moved.refused(403, "DENIED");
    assert_eq!(tags(&server, &bob, "bob/shared/new").await, ["v1", "v2"]);
    let listed = admin(&server, &["grant", "list", "bob"]).await;
    let listed = listed["grants"].as_array().unwrap();
    let places: Vec<_> = listed.iter().map(|grant| &grant["repositories"]).collect();
    assert_eq!(places, [&json!("bob/app"), &json!("bob/shared/**")]);
    for id in [reads, writes] {
        admin(&server, &["grant", "remove", &id]).await;
    }
    for name in ["bob/app", "bob/shared/new"] {
        let read = server
            .get(&format!("/v2/{name}/tags/list"))
            .by(&carol)
            .await;
        read.refused(404, "NAME_UNKNOWN");
    }
}

#[tokio::test]
async fn a_grant_on_some_tags_binds_those() {
    let server = with_accounts(settings()).await;
    let (bob, carol) = (basic("bob"), basic("carol"));
    push_image(&server, &bob, "bob/app", "v1", &image(1)).await;
    push_image(&server, &bob, "bob/app", "latest", &image(2)).await;
    grant(&server, "carol", "read,write,update:bob/app:v*").await;
    put_image(&server, &carol, "bob/app", "v2", &image(2))
        .await
        .is(201);
    put_image(&server, &carol, "bob/app", "v1", &image(2))
        .await
        .is(201);
    for (tag, why) in [
        (
            "latest",
            "'latest' stands in 'bob/app' with other content: you may not move it",
        ),
        ("new", "you may not set the tag 'new' in 'bob/app'"),
    ] {
        let denied = put_image(&server, &carol, "bob/app", tag, &image(1)).await;
        denied.refused(403, "DENIED");
        assert!(denied.message().contains(why), "{denied:?}");
    }
    // A token of hers that is wider than the grant is no wider.
    let token = api_token(&server, "carol", &["read,write,update:**"]).await;
    let by = basic_with("carol", &token.text);
    let issued = bearer(&jwt(&server, &by, &["repository:bob/app:pull,push"]).await);
    for by in [by, issued] {
        let denied = put_image(&server, &by, "bob/app", "latest", &image(1)).await;
        denied.refused(403, "DENIED");
        put_image(&server, &by, "bob/app", "v3", &image(1))
            .await
            .is(201);
    }
}

#[tokio::test]
async fn nobody_moves_an_immutable_tag() {
    let server = with_accounts(settings()).await;
    let (alice, bob) = (basic("alice"), basic("bob"));
    push_image(&server, &bob, "bob/app", "v1", &image(1)).await;
    push_image(&server, &bob, "bob/app", "latest", &image(2)).await;
    let set = admin(
        &server,
        &["namespace", "bob", "--immutable-tags", "v*,release-*"],
    )
    .await;
    assert_eq!(set["immutable_tags"], json!(["v*", "release-*"]));
    for by in [&alice, &bob] {
        let denied = put_image(&server, by, "bob/app", "v1", &image(2)).await;
        denied.refused(403, "DENIED");
        assert_eq!(
            denied.json()["errors"][0]["detail"]["reason"],
            "immutable-tag"
        );
        assert!(
            denied.message().contains("'bob/app'"),
            "{}",
            denied.message()
        );
    }
    put_image(&server, &bob, "bob/app", "v1", &image(1))
        .await
        .is(201);
    put_image(&server, &bob, "bob/app", "latest", &image(1))
        .await
        .is(201);
    put_image(&server, &bob, "bob/app", "v2", &image(1))
        .await
        .is(201);
    admin(&server, &["namespace", "bob", "--immutable-tags", ""]).await;
    put_image(&server, &bob, "bob/app", "v1", &image(2))
        .await
        .is(201);
}

#[tokio::test]
async fn a_namespace_has_an_owner_and_settings() {
    let server = with_accounts(settings().env("GRANARY_AUTH__ANONYMOUS", "read")).await;
    let (alice, bob, carol) = (basic("alice"), basic("bob"), basic("carol"));
    push_image(&server, &alice, "acme/app", "v1", &image(1)).await;
    let read = server.get("/v2/acme/app/tags/list").by(&bob).await;
    read.refused(404, "NAME_UNKNOWN");
    let now = admin(
        &server,
        &[
            "namespace",
            "acme",
            "--owner",
            "bob",
            "--visibility",
            "public",
        ],
    )
    .await;
    assert_eq!(
        (&now["owner"], &now["default_visibility"]),
        (&json!("bob"), &json!("public"))
    );
    // The setting is for new ones.
    challenge(&server.get("/v2/acme/app/tags/list").by(NOBODY).await);
    push_image(&server, &bob, "acme/new", "v1", &image(1)).await;
    server
        .get("/v2/acme/new/tags/list")
        .by(NOBODY)
        .await
        .is(200);
    // Writers may make repositories, unless only administrators do.
    grant(&server, "carol", "read,write:acme/**").await;
    push_image(&server, &carol, "acme/hers", "v1", &image(1)).await;
    admin(
        &server,
        &["namespace", "acme", "--create-by", "administrators"],
    )
    .await;
    let path = "/v2/acme/another/blobs/uploads/";
    server.post(path).by(&carol).await.refused(403, "DENIED");
    server.post(path).by(&bob).await.is(202);
    let unchanged = admin(&server, &["namespace", "acme"]).await;
    assert_eq!(unchanged["create_by"], "administrators");
    assert_eq!(unchanged["owner"], "bob");
    let nothing = server.run(&["admin", "namespace", "nobody"]).await.exits(1);
    said(&nothing, "no namespace 'nobody'");
}

#[tokio::test]
async fn who_is_gone_is_gone_and_a_successor_has_nothing_of_it() {
    let server = with_accounts(settings()).await;
    let (bob, pushed) = (basic("bob"), image(1));
    push_image(&server, &bob, "bob/app", "v1", &pushed).await;
    push_image(&server, &basic("alice"), "acme/app", "v1", &pushed).await;
    grant(&server, "bob", "read:acme/**").await;
    let token = api_token(&server, "bob", &[]).await;
    let issued = bearer(&jwt(&server, &bob, &["repository:bob/app:pull"]).await);
    let credentials = [bob.clone(), token.bearer(), issued];
    let path = "/v2/bob/app/manifests/v1";
    for by in &credentials {
        server.get(path).by(by).await.is(200);
    }
    admin(&server, &["user", "disable", "bob"]).await;
    for by in &credentials {
        challenge(&server.get(path).by(by).await);
    }
    admin(&server, &["user", "enable", "bob"]).await;
    for by in &credentials {
        server.get(path).by(by).await.is(200);
    }
    admin(&server, &["user", "remove", "bob"]).await;
    for by in &credentials {
        challenge(&server.get(path).by(by).await);
    }
    let gone = server
        .run(&["admin", "user", "enable", "bob"])
        .await
        .exits(1);
    said(&gone, "no user 'bob'");
    add_user(&server, "bob").await;
    for by in &credentials[1..] {
        challenge(&server.get(path).by(by).await);
    }
    // The successor has the same name and password, and is somebody else.
    eventually("a log-in", async || {
        let answer = server.get("/auth/token").by(&bob).await;
        (answer.status == 200).then_some(())
    })
    .await;
    for path in [path, "/v2/acme/app/manifests/v1"] {
        let hidden = server.get(path).by(&bob).await;
        hidden.refused(404, "NAME_UNKNOWN");
    }
    let users = admin(&server, &["user", "list"]).await;
    let users = users["users"].as_array().unwrap();
    let names: Vec<_> = users.iter().map(|user| &user["user"]).collect();
    assert_eq!(names, ["alice", "bob", "carol"]);
    let last = server
        .run(&["admin", "user", "remove", "alice"])
        .await
        .exits(1);
    said(&last, "last administrator");
    server.get("/v2/").by(&basic("alice")).await.is(200);
}

#[tokio::test]
async fn tokens_are_listed_without_what_is_secret() {
    let server = with_accounts(settings()).await;
    let narrow = api_token(&server, "bob", &["read:bob/**", "write:bob/app:v*"]).await;
    let wide = api_token(&server, "bob", &[]).await;
    let listed = server
        .run(&["admin", "token", "list", "bob"])
        .await
        .exits(0);
    assert!(
        listed.stdout.contains("read:bob/**  write:bob/app:v*"),
        "{}",
        listed.stdout
    );
    assert!(
        listed.stdout.contains("all that the user may"),
        "{}",
        listed.stdout
    );
    for token in [&narrow, &wide] {
        assert!(!listed.stdout.contains(&token.text));
        assert!(listed.stdout.contains(&token.text[token.text.len() - 4..]));
    }
    let id = narrow.id.to_string();
    admin(&server, &["token", "revoke", &id]).await;
    let left = admin(&server, &["token", "list", "bob"]).await;
    let left = left["tokens"].as_array().unwrap();
    assert_eq!(left.len(), 1);
    assert_eq!(left[0]["id"], wide.id);
}

#[tokio::test]
async fn what_cannot_be_granted_is_refused() {
    let server = with_accounts(settings()).await;
    for (arguments, code, words) in [
        (
            ["grant", "add", "carol", "account:bob/**"],
            1,
            "can be granted",
        ),
        (["grant", "add", "carol", "read:**"], 1, "one namespace"),
        (
            ["grant", "add", "nobody", "read:bob/**"],
            1,
            "user 'nobody'",
        ),
        (["grant", "add", "carol", "read:Bob/**"], 2, "write a name"),
        (["grant", "remove", "77", "--json"], 1, "no grant 77"),
        (["namespace", "bob", "--immutable-tags", "a/b"], 2, "tags"),
        (
            ["namespace", "bob", "--owner", "nobody"],
            1,
            "user 'nobody'",
        ),
    ] {
        let arguments = [&["admin"], &arguments[..]].concat();
        let ran = server.run(&arguments).await.exits(code);
        said(&ran, words);
    }
}
