//! U+0000, which PostgreSQL keeps in no text: whoever sends it is refused, by either database, and nothing fails.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use granary_testbed::Postgres;
use reqwest::Method;
use serde_json::json;
use tempfile::TempDir;

use crate::{
    accounts::{NOBODY, basic, basic_with, push_image, settings, with_accounts},
    harness::{INDEX, TestServer, image, noise},
};

/// What holds U+0000 in its address, who asks for it, and the answer.
const ADDRESSES: &[(&str, &str, &str, u16)] = &[
    ("GET", "/v2/_catalog?last=%00", "bob", 200),
    ("GET", "/v2/_catalog?last=a%00b", "", 401),
    ("GET", "/v2/bob/app/tags/list?last=%00", "bob", 200),
    ("GET", "/v2/bob/app/tags/list?n=1&last=a%00", "bob", 200),
    (
        "GET",
        "/v2/bob/app/referrers/DIGEST?artifactType=%00",
        "bob",
        400,
    ),
    (
        "GET",
        "/v2/bob/app/referrers/DIGEST?artifactType=a/b&artifactType=a%00",
        "bob",
        400,
    ),
    (
        "GET",
        "/v2/bob/none/referrers/DIGEST?artifactType=%00",
        "carol",
        400,
    ),
    ("GET", "/v2/bob/app/manifests/a%00", "bob", 400),
    ("GET", "/v2/bob/app/blobs/a%00", "bob", 400),
    ("GET", "/v2/bob/app/blobs/uploads/a%00", "bob", 404),
    ("GET", "/v2/bob%00/app/tags/list", "bob", 400),
    (
        "POST",
        "/v2/bob/app/blobs/uploads/?mount=DIGEST&from=a%00b",
        "bob",
        400,
    ),
    ("GET", "/auth/token?scope=%00", "bob", 400),
    (
        "GET",
        "/auth/token?offline_token=true&client_id=a%00",
        "bob",
        400,
    ),
    ("GET", "/api/v1/orgs/a%00b", "bob", 404),
    ("GET", "/api/v1/orgs/a%00b", "alice", 404),
    ("GET", "/api/v1/orgs/acme%00/members", "bob", 404),
    ("DELETE", "/api/v1/orgs/acme/members/a%00", "bob", 404),
    ("GET", "/api/v1/orgs/acme/teams/a%00", "bob", 400),
    (
        "DELETE",
        "/api/v1/orgs/acme/teams/core/members/a%00",
        "bob",
        404,
    ),
    ("GET", "/api/v1/owners/bob%00/robots", "bob", 404),
    ("GET", "/api/v1/owners/acme/robots/a%00/tokens", "bob", 400),
    ("GET", "/api/v1/namespaces/a%00", "bob", 404),
    ("GET", "/api/v1/namespaces/a%00", "alice", 404),
    ("GET", "/api/v1/users/a%00b/tokens", "alice", 404),
    ("DELETE", "/api/v1/users/a%00b", "alice", 404),
    ("DELETE", "/api/v1/repositories/bob/a%00", "bob", 404),
    ("GET", "/api/v1/providers/a%00/mappings", "alice", 404),
    ("GET", "/api/v1/orgs?after=%00", "bob", 400),
    ("GET", "/api/v1/orgs/acme/members?after=a%00", "bob", 400),
    ("GET", "/api/v1/owners/bob/robots?after=a%00", "bob", 400),
    ("GET", "/api/v1/users?after=%00", "alice", 400),
    ("GET", "/api/v1/audit?actor=%00", "alice", 400),
    ("GET", "/api/v1/audit?target=a%00", "alice", 400),
    ("GET", "/api/v1/audit?action=%00", "alice", 400),
    ("GET", "/api/v1/audit?after=%00", "alice", 400),
];

/// The same of bodies, which are JSON.
const BODIES: &[(&str, &str, &str, &str)] = &[
    (
        "POST",
        "/auth/session",
        "",
        r#"{"user": "a\u0000b", "password": "x"}"#,
    ),
    (
        "POST",
        "/auth/session",
        "",
        r#"{"user": "bob", "password": "\\\u0000"}"#,
    ),
    (
        "POST",
        "/api/v1/grants",
        "bob",
        r#"{"to": "a\u0000", "verbs": ["read"], "repositories": "bob/**"}"#,
    ),
    (
        "POST",
        "/api/v1/grants",
        "bob",
        r#"{"to": "carol", "verbs": ["read"], "repositories": "bob/**", "tags": ["a\u0000"]}"#,
    ),
    (
        "POST",
        "/api/v1/orgs",
        "alice",
        r#"{"organisation": "beta", "owner": "a\u0000"}"#,
    ),
    ("POST", "/api/v1/tokens", "bob", r#"{"name": "a\u0000"}"#),
    (
        "POST",
        "/api/v1/owners/acme/publishers",
        "bob",
        r#"{"robot": "ci", "issuer": "a\u0000", "claims": {"sub": "job"}}"#,
    ),
    (
        "PATCH",
        "/api/v1/namespaces/bob",
        "bob",
        r#"{"owner": "a\u0000"}"#,
    ),
    (
        "PATCH",
        "/api/v1/namespaces/bob",
        "alice",
        r#"{"owner": "a\u0000"}"#,
    ),
    (
        "POST",
        "/api/v1/providers/corp/mappings",
        "alice",
        r#"{"group": "a\u0000", "to": "acme", "role": "write"}"#,
    ),
];

fn by(user: &str) -> String {
    match user {
        "" => NOBODY.to_owned(),
        user => basic(user),
    }
}

async fn addresses_are_refused(server: &TestServer, digest: &str) {
    for &(method, path, user, status) in ADDRESSES {
        let path = path.replace("DIGEST", digest);
        let method: Method = method.parse().unwrap();
        let answer = server.request(method, &path).by(&by(user)).await;
        assert_eq!(answer.status, status, "{path} {answer:?}");
    }
}

async fn bodies_are_refused(server: &TestServer) {
    for &(method, path, user, body) in BODIES {
        let request = server
            .request(method.parse().unwrap(), path)
            .by(&by(user))
            .header("content-type", "application/json");
        let answer = request.body(body).await.is(400);
        assert_eq!(answer.json()["error"]["code"], "INVALID", "{path}");
    }
    // An escaped backslash and digits are no escape.
    let body = r#"{"name": "a\\u0000"}"#;
    let named = server
        .post("/api/v1/tokens")
        .by(&basic("bob"))
        .header("content-type", "application/json")
        .body(body);
    named.await.is(201);
}

async fn the_token_service_refuses(server: &TestServer) {
    // Nobody has verified what names its issuer.
    let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
    let token = format!(
        "{}.{}.{}",
        part(r#"{"alg": "RS256"}"#),
        part(r#"{"iss": "https://ci.example\u0000"}"#),
        part("s")
    );
    let exchange = format!(
        "grant_type=urn:ietf:params:oauth:grant-type:token-exchange&subject_token={token}\
         &subject_token_type=urn:ietf:params:oauth:token-type:id_token"
    );
    for (form, status) in [
        ("grant_type=password&username=a%00b&password=x", 400),
        ("grant_type=password&username=bob&password=%00", 400),
        ("grant_type=refresh_token&refresh_token=%00", 400),
        (exchange.as_str(), 401),
    ] {
        let asking = server.post("/auth/token").body(form.to_owned());
        asking.await.is(status);
    }
    server
        .get("/v2/")
        .by(&format!("Bearer {token}"))
        .await
        .is(401);
    for shown in [
        basic_with("a\0b", "x"),
        basic_with("bob", "\0"),
        basic_with("bob", &token),
    ] {
        server.get("/v2/").by(&shown).await.is(401);
    }
}

async fn manifests_are_refused(server: &TestServer, digest: &str) {
    let odd = "application/x\0y";
    let child = json!({"mediaType": INDEX, "digest": digest, "size": 2, "artifactType": odd});
    let tag = format!("sha256-{}", digest.trim_start_matches("sha256:"));
    for (reference, manifest) in [
        ("n", json!({"artifactType": odd})),
        ("n", json!({"config": {"mediaType": odd}})),
        ("n", json!({"mediaType": odd})),
        // One that a client lists itself, where a registry has no referrers API.
        (
            tag.as_str(),
            json!({"mediaType": INDEX, "manifests": [child]}),
        ),
    ] {
        let path = format!("/v2/bob/app/manifests/{reference}");
        let put = server
            .put(&path)
            .by(&basic("bob"))
            .body(manifest.to_string());
        put.await.refused(400, "MANIFEST_INVALID");
    }
    // In what is served as it came, it may stand.
    let annotated = json!({"schemaVersion": 2, "annotations": {"a\0": "\0"}, "subject": {
        "mediaType": INDEX, "digest": digest, "size": 2}});
    let put = server
        .put("/v2/bob/app/manifests/annotated")
        .by(&basic("bob"))
        .body(annotated.to_string());
    put.await.is(201);
    let path = format!("/v2/bob/app/referrers/{digest}");
    let listed = server.get(&path).by(&basic("bob")).await.is(200).json();
    assert_eq!(
        listed["manifests"][0]["annotations"],
        json!({"a\0": "\0"}),
        "{listed}"
    );
}

async fn nothing_fails(server: TestServer) {
    let bob = basic("bob");
    push_image(&server, &bob, "bob/app", "v1", &image(1)).await;
    let (alice, acme) = (
        basic("alice"),
        json!({"organisation": "acme", "owner": "bob"}),
    );
    for (path, body, by) in [
        ("/api/v1/orgs", acme, &alice),
        ("/api/v1/orgs/acme/teams", json!({"team": "core"}), &bob),
        ("/api/v1/owners/acme/robots", json!({"robot": "ci"}), &bob),
    ] {
        let making = server
            .post(path)
            .by(by)
            .header("content-type", "application/json");
        making.body(body.to_string()).await.is(201);
    }
    let pushed = server
        .get("/v2/bob/app/manifests/v1")
        .by(&bob)
        .await
        .is(200);
    let digest = pushed.header("docker-content-digest");
    addresses_are_refused(&server, digest).await;
    bodies_are_refused(&server).await;
    the_token_service_refuses(&server).await;
    manifests_are_refused(&server, digest).await;
}

#[tokio::test]
async fn on_sqlite() {
    nothing_fails(with_accounts(settings()).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn on_postgres() {
    let url = Postgres::shared().unwrap().create_database().unwrap();
    let folder = TempDir::new().unwrap();
    let key = folder.path().join("auth.key");
    std::fs::write(&key, noise(32, 1)).unwrap();
    let settings = settings()
        .env("GRANARY_DATABASE__URL", url)
        .env("GRANARY_AUTH__KEY_FILE", key);
    nothing_fails(with_accounts(settings).await).await;
}
