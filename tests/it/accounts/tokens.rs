//! The token service, with GET and with POST, and the keys of its tokens.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use granary_identity::{KeyRing, VerifyingKey};
use serde_json::json;

use super::{
    NOBODY, api_token, ask, basic, basic_with, bearer, challenge, claims, entry, jwt, part,
    password, publish, push_image, settings, text, with_accounts,
};
use crate::harness::{Answer, TestServer, image};

/// What the token service answers to a form.
async fn post(server: &TestServer, form: impl Into<Bytes>) -> Answer {
    server
        .post("/auth/token")
        .header("Content-Type", "application/x-www-form-urlencoded")
        .body(form.into())
        .await
}

/// The form of a log-in, and what more is in it.
fn log_in(user: &str, secret: &str, more: &str) -> String {
    format!("grant_type=password&service=granary&username={user}&password={secret}{more}")
}

/// Another token of the same principal would do.
#[track_caller]
fn too_narrow(answer: &Answer, scope: &str) {
    let challenge = challenge(answer);
    let expected = format!(",scope=\"{scope}\",error=\"insufficient_scope\"");
    assert!(challenge.ends_with(&expected), "{challenge}");
}

/// The token service refuses, and asks for nothing: whoever comes here knows what to show.
#[track_caller]
fn wrong(answer: &Answer) {
    answer.refused(401, "UNAUTHORIZED");
    assert_eq!(answer.find_header("www-authenticate"), None);
    assert_eq!(answer.header("cache-control"), "no-store");
}

#[tokio::test]
async fn a_password_gets_a_token_that_pushes_and_pulls() {
    let server = with_accounts(settings()).await;
    let bob = basic("bob");
    let query = "service=granary&client_id=docker&account=bob&scope=repository:bob/app:pull,push";
    let answer = ask(&server, &bob, query).await.is(200);
    assert_eq!(answer.header("cache-control"), "no-store");
    let issued = answer.json();
    assert_eq!(issued["token"], issued["access_token"]);
    assert_eq!(issued["expires_in"], 300);
    assert_eq!(
        (issued.get("refresh_token"), issued.get("scope")),
        (None, None)
    );
    let token = text(&issued["token"]);
    let says = claims(&token);
    let issued_at: jiff::Timestamp = text(&issued["issued_at"]).parse().unwrap();
    assert_eq!(says["iat"], issued_at.as_second());
    assert_eq!(says["exp"], issued_at.as_second() + 300);
    assert_eq!(
        (&says["sub"], &says["aud"]),
        (&json!("bob"), &json!("granary"))
    );
    let granted = entry("bob/app", &["pull", "push"]);
    assert_eq!(says["access"], json!([granted]));

    let by = bearer(&token);
    let pushed = image(1);
    push_image(&server, &by, "bob/app", "v1", &pushed).await;
    let read = server.get("/v2/bob/app/manifests/v1").by(&by).await;
    assert!(read.is(200).body == pushed.manifest);
    for path in ["/v2/", "/v2/bob/app/tags/list"] {
        server.get(path).by(&by).await.is(200);
    }
    // Nobody asked for leave to delete.
    let manifest = "/v2/bob/app/manifests/v1";
    let answer = server.delete(manifest).by(&by).await;
    too_narrow(&answer, "repository:bob/app:pull,push,delete");
    let deleting = jwt(&server, &bob, &["repository:bob/app:delete"]).await;
    let answer = server.delete(manifest).by(&bearer(&deleting)).await;
    answer.is(202);
}

#[tokio::test]
async fn a_token_grants_what_was_asked_for_and_is_allowed() {
    let server = with_accounts(settings()).await;
    push_image(&server, &basic("carol"), "carol/app", "a", &image(1)).await;
    push_image(&server, &basic("carol"), "carol/open", "a", &image(1)).await;
    publish(&server, "carol/open").await;
    let app = entry("bob/app", &["pull", "push"]);
    let lib = entry("bob/lib", &["pull"]);
    let cases = [
        ("service=granary", json!([])),
        // Neither one that is there nor one that is not.
        ("scope=repository:carol/app:pull", json!([])),
        ("scope=repository:carol/none:pull,push", json!([])),
        ("scope=repository:dave/app:*", json!([])),
        ("scope=repository:alpine:pull,push", json!([])),
        ("scope=registry:catalog:*", json!([])),
        ("scope=repository:Bob/app:pull", json!([])),
        ("scope=repository:bob/app:fly", json!([])),
        (
            "scope=repository:carol/open:pull,push,delete",
            json!([entry("carol/open", &["pull"])]),
        ),
        (
            "scope=repository:carol/app:pull&scope=repository:bob/app:push,pull",
            json!([app]),
        ),
        (
            "scope=repository:bob/app:pull,push%20repository:bob/lib:pull",
            json!([app, lib]),
        ),
        (
            "scope=repository:bob/lib:pull&scope=repository:bob/app:pull,push",
            json!([app, lib]),
        ),
        (
            "scope=repository:bob/app:*",
            json!([entry("bob/app", &["pull", "push", "delete"])]),
        ),
    ];
    for (query, granted) in cases {
        let issued = ask(&server, &basic("bob"), query).await.is(200).json();
        let says = claims(&text(&issued["token"]));
        assert_eq!(says["access"], granted, "{query}");
    }
}

#[tokio::test]
async fn a_token_counts_for_its_repository_alone() {
    let server = with_accounts(settings()).await;
    let neighbours = ["bob/ap", "bob/apps", "bob/app/x"];
    for repository in ["bob/app"].iter().chain(&neighbours) {
        push_image(&server, &basic("bob"), repository, "a", &image(1)).await;
    }
    push_image(&server, &basic("carol"), "carol/app", "a", &image(1)).await;
    let scopes = ["repository:bob/app:pull,push"];
    let by = bearer(&jwt(&server, &basic("bob"), &scopes).await);
    let read = |name: &str| server.get(&format!("/v2/{name}/tags/list")).by(&by);
    let push = |name: &str| server.post(&format!("/v2/{name}/blobs/uploads/")).by(&by);
    read("bob/app").await.is(200);
    push("bob/app").await.is(202);
    // To bob a wider token would open them.
    for name in neighbours {
        too_narrow(&read(name).await, &format!("repository:{name}:pull"));
        too_narrow(&push(name).await, &format!("repository:{name}:pull,push"));
    }
    let scope = "repository:bob/none:pull,push";
    too_narrow(&push("bob/none").await, scope);
    read("bob/none").await.refused(404, "NAME_UNKNOWN");
    // Nothing opens these to him.
    for name in ["carol/app", "carol/none", "bob"] {
        read(name).await.refused(404, "NAME_UNKNOWN");
        push(name).await.refused(403, "DENIED");
    }
    let scopes = ["repository:bob/app:pull"];
    let by = bearer(&jwt(&server, &basic("bob"), &scopes).await);
    let push = server.post("/v2/bob/app/blobs/uploads/").by(&by).await;
    too_narrow(&push, "repository:bob/app:pull,push");
}

/// Decision 25: a token caps, and what was made from it caps no less.
#[tokio::test]
async fn a_token_made_from_an_api_token_may_do_no_more() {
    let server = with_accounts(settings()).await;
    push_image(&server, &basic("bob"), "bob/app", "a", &image(1)).await;
    let reading = api_token(&server, "bob", &["read:bob/app"]).await;
    let credentials = basic_with("bob", &reading.text);
    let scopes = ["repository:bob/app:*", "repository:bob/lib:*"];
    let token = jwt(&server, &credentials, &scopes).await;
    let granted = entry("bob/app", &["pull"]);
    assert_eq!(claims(&token)["access"], json!([granted]));
    let by = bearer(&token);
    let read = server.get("/v2/bob/app/manifests/a").by(&by).await;
    read.is(200);
    // No token of this credential could.
    let push = server.post("/v2/bob/app/blobs/uploads/").by(&by).await;
    push.refused(403, "DENIED");
}

#[tokio::test]
async fn the_token_service_takes_good_credentials_only() {
    let server = with_accounts(settings()).await;
    let token = api_token(&server, "bob", &[]).await;
    let scope = "scope=repository:bob/app:pull";
    ask(&server, &basic_with("bob", &token.text), scope)
        .await
        .is(200);
    let issued = jwt(&server, &basic("bob"), &["repository:bob/app:pull"]).await;
    for credentials in [
        NOBODY.to_owned(),
        basic_with("bob", "a-wrong-password"),
        basic_with("dave", "a-wrong-password"),
        "Basic Ym9i".to_owned(),
        // A token is not made from another.
        bearer(&issued),
    ] {
        wrong(&ask(&server, &credentials, scope).await);
    }
}

#[tokio::test]
async fn a_form_with_a_password_gets_a_token() {
    let server = with_accounts(settings()).await;
    let scope = "&scope=repository:bob/app:pull,push%20repository:carol/app:pull";
    let answer = post(&server, log_in("bob", &password("bob"), scope)).await;
    let issued = answer.is(200).json();
    assert_eq!(issued["expires_in"], 300);
    assert_eq!(issued["scope"], "repository:bob/app:pull,push");
    assert_eq!(
        (issued.get("token"), issued.get("refresh_token")),
        (None, None)
    );
    let by = bearer(&text(&issued["access_token"]));
    push_image(&server, &by, "bob/app", "v1", &image(1)).await;

    let token = api_token(&server, "bob", &["read:bob/app"]).await;
    let answer = post(&server, log_in("token", &token.text, scope)).await;
    assert_eq!(answer.is(200).json()["scope"], "repository:bob/app:pull");
}

#[tokio::test]
async fn a_refresh_token_gets_tokens_and_nothing_else() {
    let server = with_accounts(settings()).await;
    push_image(&server, &basic("bob"), "bob/app", "a", &image(1)).await;
    let by_get = ask(
        &server,
        &basic("bob"),
        "offline_token=true&client_id=docker",
    )
    .await;
    let form = log_in("bob", &password("bob"), "&access_type=offline&client_id=x");
    let by_post = post(&server, form).await;
    for issued in [by_get.is(200).json(), by_post.is(200).json()] {
        let refresh = text(&issued["refresh_token"]);
        let form = format!(
            "grant_type=refresh_token&refresh_token={refresh}&access_type=offline&scope=repository:bob/app:pull"
        );
        // Clients keep the one they have.
        for _ in 0..2 {
            let again = post(&server, form.clone()).await.is(200);
            assert_eq!(again.header("cache-control"), "no-store");
            let again = again.json();
            assert_eq!(again["scope"], "repository:bob/app:pull");
            assert_eq!(again.get("refresh_token"), None);
            let by = bearer(&text(&again["access_token"]));
            let read = server.get("/v2/bob/app/manifests/a").by(&by).await;
            read.is(200);
        }
        for credentials in [bearer(&refresh), basic_with("bob", &refresh)] {
            challenge(&server.get("/v2/").by(&credentials).await);
            wrong(&ask(&server, &credentials, "").await);
        }
    }
}

#[tokio::test]
async fn a_bad_form_is_told_what_is_bad() {
    let server = with_accounts(settings()).await;
    let token = api_token(&server, "bob", &[]).await;
    let issued = jwt(&server, &basic("bob"), &[]).await;
    let as_refresh = |secret: &str| format!("grant_type=refresh_token&refresh_token={secret}");
    let cases = [
        (401, "invalid_grant", log_in("bob", "a-wrong-password", "")),
        (401, "invalid_grant", log_in("dave", "a-wrong-password", "")),
        (401, "invalid_grant", log_in("carol", &token.text, "")),
        (401, "invalid_grant", as_refresh(&token.text)),
        (401, "invalid_grant", as_refresh(&issued)),
        (401, "invalid_grant", as_refresh("grn_r_none")),
        (400, "unsupported_grant_type", String::new()),
        (
            400,
            "unsupported_grant_type",
            "grant_type=client_credentials".to_owned(),
        ),
        (
            400,
            "invalid_request",
            "grant_type=password&username=bob".to_owned(),
        ),
        (
            400,
            "invalid_request",
            "grant_type=refresh_token".to_owned(),
        ),
    ];
    for (status, error, form) in cases {
        let answer = post(&server, form.clone()).await;
        let code = match status {
            401 => "UNAUTHORIZED",
            _ => "UNSUPPORTED",
        };
        answer.refused(status, code);
        assert_eq!(answer.json()["error"], error, "{form}");
        assert_eq!(answer.header("cache-control"), "no-store");
        assert_eq!(answer.find_header("www-authenticate"), None);
    }
    let answer = post(&server, &b"grant_type=\xff"[..]).await;
    answer.refused(400, "UNSUPPORTED");
    let padding = format!("&padding={}", "x".repeat(20 << 10));
    let long = log_in("bob", &password("bob"), &padding);
    post(&server, long).await.is(413);
}

/// Scopes of that many repositories of bob's.
fn scopes(number: usize, name: &str) -> Vec<String> {
    (0..number)
        .map(|number| format!("repository:bob/{name}{number}:pull"))
        .collect()
}

#[tokio::test]
async fn a_token_names_many_repositories() {
    let server = with_accounts(settings()).await;
    let bob = basic("bob");
    let in_a_list = format!("scope={}", scopes(64, "r").join("%20"));
    let one_by_one = format!("scope={}", scopes(64, "r").join("&scope="));
    for query in [in_a_list, one_by_one] {
        let issued = ask(&server, &bob, &query).await.is(200).json();
        let token = text(&issued["token"]);
        let granted = claims(&token)["access"].as_array().map(Vec::len);
        assert_eq!(granted, Some(64));
        let push = server
            .post("/v2/bob/r63/blobs/uploads/")
            .by(&bearer(&token))
            .await;
        too_narrow(&push, "repository:bob/r63:pull,push");
    }
    // So long a token would be taken by nobody.
    let long = scopes(40, &"x".repeat(240));
    let answer = ask(&server, &bob, &format!("scope={}", long.join("&scope="))).await;
    answer.refused(400, "UNSUPPORTED");
}

/// A client that was given less than it asked for would ask again and again.
#[tokio::test]
async fn more_repositories_than_a_token_names_are_refused_and_not_cut() {
    let server = with_accounts(settings()).await;
    let in_a_list = format!("scope={}", scopes(65, "r").join("%20"));
    let one_by_one = format!("scope={}", scopes(65, "r").join("&scope="));
    for query in [in_a_list, one_by_one] {
        let answer = ask(&server, &basic("bob"), &query).await;
        answer.refused(400, "UNSUPPORTED");
        let form = log_in("bob", &password("bob"), &format!("&{query}"));
        post(&server, form).await.refused(400, "UNSUPPORTED");
    }
}

#[tokio::test]
async fn keys_are_published_and_stay() {
    let mut server = with_accounts(settings()).await;
    push_image(&server, &basic("bob"), "bob/app", "a", &image(1)).await;
    let scopes = ["repository:bob/app:pull"];
    let token = jwt(&server, &basic("bob"), &scopes).await;
    let set = server.get("/.well-known/jwks.json").await.is(200).json();
    let kid = text(&part(&token, 0)["kid"]);
    assert_eq!(set["keys"].as_array().map(Vec::len), Some(1));
    let key = &set["keys"][0];
    let public_key = text(&key["x"]);
    let expected = json!({
        "kty": "OKP", "crv": "Ed25519", "use": "sig", "alg": "EdDSA", "kid": kid, "x": public_key,
    });
    assert_eq!(*key, expected);
    verify(&token, &kid, &public_key);

    server.restart().await;
    let again = server.get("/.well-known/jwks.json").await.is(200).json();
    assert_eq!(again, set);
    let tags = server.get("/v2/bob/app/tags/list").by(&bearer(&token));
    tags.await.is(200);
    let later = jwt(&server, &basic("bob"), &scopes).await;
    assert_eq!(part(&later, 0), part(&token, 0));
}

/// What is published verifies the token.
#[track_caller]
fn verify(token: &str, kid: &str, public_key: &str) {
    let public_key = URL_SAFE_NO_PAD.decode(public_key).expect("base64url");
    let ring = KeyRing::new([VerifyingKey {
        kid: kid.to_owned(),
        public_key: public_key.try_into().expect("32 bytes"),
        retires_at: None,
    }]);
    let says = claims(token);
    let now = says["iat"].as_i64().expect("a time");
    let verified = ring.verify(token, &text(&says["iss"]), "granary", now);
    assert_eq!(verified.expect("a good token").subject, "bob");
}
