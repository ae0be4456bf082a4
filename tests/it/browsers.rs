//! Sessions of browsers, by what stands in requests and answers. The log-in at a provider itself is done by a real browser, in
//! `conformance/browser.sh`.

use serde_json::{Value, json};

use crate::{
    accounts::{basic, bearer, password, settings, with_accounts},
    harness::{Answer, Request, TestServer},
};

const PUBLIC: &str = "https://registry.example.org";

/// With a provider that nothing listens for.
async fn server() -> TestServer {
    let settings = settings()
        .env("GRANARY_SERVER__PUBLIC_URL", PUBLIC)
        .env("GRANARY_AUTH__OIDC__CORP__ISSUER", "http://127.0.0.1:1")
        .env("GRANARY_AUTH__OIDC__CORP__CLIENT_ID", "granary");
    with_accounts(settings).await
}

fn with_json(request: Request, body: &Value) -> Request {
    request
        .header("content-type", "application/json")
        .body(body.to_string())
}

fn entering(server: &TestServer, user: &str, password: &str) -> Request {
    let body = json!({"user": user, "password": password});
    with_json(server.post("/auth/session"), &body)
}

/// The cookie that an answer sets, and what is said of it.
fn cookie(answer: &Answer) -> (String, String) {
    let header = answer.header("set-cookie");
    let (cookie, attributes) = header.split_once("; ").expect("attributes");
    (cookie.to_owned(), attributes.to_owned())
}

/// Bob's cookie and the token that goes with it.
async fn enters(server: &TestServer) -> (String, String) {
    let answer = entering(server, "bob", &password("bob")).await.is(204);
    let (cookie, attributes) = cookie(&answer);
    assert!(cookie.starts_with("__Host-granary=grn_s_"), "{cookie}");
    let expected = "Path=/; Max-Age=43200; Secure; HttpOnly; SameSite=Lax";
    assert_eq!(attributes, expected);
    let shown = server.get("/auth/session").header("cookie", &cookie);
    let shown = shown.await.is(200).json();
    assert_eq!(shown["data"]["user"], "bob");
    assert_eq!(shown["data"]["provider"], Value::Null);
    let csrf = shown["data"]["csrf"].as_str().unwrap().to_owned();
    (cookie, csrf)
}

#[tokio::test]
async fn a_session_counts_for_the_api_and_nowhere_else() {
    let server = server().await;
    let (cookie, csrf) = enters(&server).await;
    let by_cookie = |path: &str| server.get(path).header("cookie", &cookie);
    let me = by_cookie("/api/v1/me").await.is(200).json();
    assert_eq!(me["data"]["user"], "bob");
    for path in ["/v2/", "/v2/bob/app/tags/list", "/auth/token"] {
        by_cookie(path).header("x-csrf-token", &csrf).await.is(401);
    }
    // What stands in the header counts, and a session does not stand there.
    let (_, secret) = cookie.split_once('=').unwrap();
    for shown in [bearer(secret), bearer("nonsense")] {
        by_cookie("/api/v1/me").by(&shown).await.is(401);
    }
    let alice = by_cookie("/api/v1/me").by(&basic("alice")).await.is(200);
    assert_eq!(alice.json()["data"]["user"], "alice");
    let twice = format!("{cookie}; {cookie}");
    let twice = server.get("/api/v1/me").header("cookie", &twice);
    twice.await.is(401);
}

#[tokio::test]
async fn what_changes_something_comes_from_a_page_of_ours() {
    let server = server().await;
    let (cookie, csrf) = enters(&server).await;
    let (_, other) = enters(&server).await;
    let makes = |headers: &[(&str, &str)]| {
        let request = server.post("/api/v1/tokens").header("cookie", &cookie);
        let request = with_json(request, &json!({"name": "t"}));
        let add = |request: Request, (name, value): &(&str, &str)| request.header(name, value);
        headers.iter().fold(request, add)
    };
    let token = ("x-csrf-token", csrf.as_str());
    for headers in [
        &[][..],
        &[("x-csrf-token", "")],
        &[("x-csrf-token", &other)],
        &[token, token],
        &[token, ("origin", "https://evil.example")],
        &[token, ("origin", "null")],
        &[token, ("origin", "http://registry.example.org")],
    ] {
        let refused = makes(headers).await.is(403).json();
        assert_eq!(refused["error"]["code"], "CSRF", "{headers:?}");
    }
    makes(&[token]).await.is(201);
    makes(&[token, ("origin", PUBLIC)]).await.is(201);
    let enters = entering(&server, "bob", &password("bob"));
    enters
        .header("origin", "https://evil.example")
        .await
        .is(403);
}

#[tokio::test]
async fn a_session_that_was_left_has_ended() {
    let server = server().await;
    let (cookie, csrf) = enters(&server).await;
    let leaves = || server.post("/auth/logout").header("cookie", &cookie);
    leaves().await.is(403);
    let left = leaves().header("x-csrf-token", &csrf).await.is(204);
    let removed = "__Host-granary=; Path=/; Max-Age=0; Secure; HttpOnly; SameSite=Lax";
    assert_eq!(left.header("set-cookie"), removed);
    leaves().header("x-csrf-token", &csrf).await.is(401);
    for path in ["/auth/session", "/api/v1/me"] {
        server.get(path).header("cookie", &cookie).await.is(401);
    }
}

#[tokio::test]
async fn who_is_not_known_gets_no_session() {
    let server = server().await;
    for (user, password) in [
        ("bob", "not-what-bob-has"),
        ("nobody", "whatever-it-is"),
        ("bob", ""),
    ] {
        let refused = entering(&server, user, password).await.is(401);
        assert_eq!(refused.find_header("set-cookie"), None);
    }
    let token = with_json(server.post("/api/v1/tokens"), &json!({"name": "t"}));
    let token = token.by(&basic("bob")).await.is(201).json();
    let token = token["data"]["token"].as_str().unwrap();
    entering(&server, "bob", token).await.is(401);
    let form = server.post("/auth/session").body("user=bob");
    form.await.is(415);
}

#[tokio::test]
async fn a_provider_that_is_down_is_one_log_in_less() {
    let server = server().await;
    let names = server.get("/auth/providers").await.is(200).json();
    assert_eq!(names["data"], json!(["corp"]));
    let down = server.get("/auth/login/corp").await.is(503);
    assert!(!down.header("retry-after").is_empty());
    assert_eq!(down.find_header("set-cookie"), None);
    let text = String::from_utf8_lossy(&down.body).into_owned();
    assert!(
        text.contains("the provider 'corp' cannot be reached now"),
        "{text}"
    );
    server.get("/auth/login/other").await.is(404);
    let away = server.get("/auth/login/corp?return_to=//evil.example");
    away.await.is(400);
    let back = server.get("/auth/callback/corp?state=a&code=b");
    let back = back.await.is(400);
    assert!(
        back.header("set-cookie")
            .starts_with("__Host-granary-login=;")
    );
    enters(&server).await;
}
