//! What is asked of those who show nothing, and what becomes of what others show.

use reqwest::Method;

use super::{
    NOBODY, api_token, ask, basic, basic_with, bearer, challenge, claims, jwt, password,
    push_image, settings, text, with_accounts,
};
use crate::harness::{Answer, TestServer, eventually, image, noise, request_head, sha256};

/// Where a challenge leads.
fn realm(challenge: &str) -> &str {
    let rest = challenge.strip_prefix("Bearer realm=\"");
    let realm = rest.and_then(|rest| rest.split('"').next());
    realm.expect("a realm")
}

/// Sends a request of these header lines alone.
async fn raw(server: &TestServer, lines: &[&str]) -> Answer {
    let mut raw = server.raw().await;
    let lines: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
    raw.send(format!("GET /v2/ HTTP/1.1\r\n{lines}\r\n").as_bytes())
        .await;
    raw.answer().await.expect("an answer")
}

#[tokio::test]
async fn each_request_is_asked_for_what_it_needs() {
    let server = with_accounts(settings()).await;
    push_image(&server, &basic("bob"), "bob/app", "a", &image(1)).await;
    let digest = sha256(b"x");
    let (pull, push) = ("repository:NAME:pull", "repository:NAME:pull,push");
    let (delete, catalog) = ("repository:NAME:pull,push,delete", "registry:catalog:*");
    let mount = "repository:NAME:pull,push repository:carol/base:pull";
    let cases = [
        (Method::GET, "/v2/", ""),
        (Method::GET, "/v2/_catalog", catalog),
        (Method::GET, "/v2/_oci/ext/discover", catalog),
        (Method::GET, "/v2/NAME/_oci/ext/discover", pull),
        (Method::GET, "/v2/NAME/tags/list", pull),
        (Method::GET, "/v2/NAME/manifests/a", pull),
        (Method::HEAD, "/v2/NAME/manifests/a", pull),
        (Method::GET, "/v2/NAME/blobs/DIGEST", pull),
        (Method::HEAD, "/v2/NAME/blobs/DIGEST", pull),
        (Method::GET, "/v2/NAME/referrers/DIGEST", pull),
        (Method::POST, "/v2/NAME/blobs/uploads/", push),
        (Method::POST, "/v2/NAME/blobs/uploads/?digest=DIGEST", push),
        (Method::POST, "/v2/NAME/blobs/uploads/?mount=DIGEST", push),
        (
            Method::POST,
            "/v2/NAME/blobs/uploads/?mount=DIGEST&from=carol/base",
            mount,
        ),
        (
            Method::POST,
            "/v2/NAME/blobs/uploads/?mount=DIGEST&from=Carol\",x=",
            push,
        ),
        (Method::GET, "/v2/NAME/blobs/uploads/x", push),
        (Method::PATCH, "/v2/NAME/blobs/uploads/x", push),
        (Method::PUT, "/v2/NAME/blobs/uploads/x?digest=DIGEST", push),
        (Method::DELETE, "/v2/NAME/blobs/uploads/x", push),
        (Method::PUT, "/v2/NAME/manifests/a", push),
        (Method::DELETE, "/v2/NAME/manifests/a", delete),
        (Method::DELETE, "/v2/NAME/blobs/DIGEST", delete),
    ];
    let start = format!(
        "Bearer realm=\"{}\",service=\"granary\"",
        server.url("/auth/token")
    );
    // One that is there, one that is not, and one without a slash.
    for name in ["bob/app", "bob/none", "alpine"] {
        for (method, path, scope) in &cases {
            let path = path.replace("NAME", name).replace("DIGEST", &digest);
            let answer = server.request(method.clone(), &path).await;
            let scope = match scope.replace("NAME", name) {
                scope if scope.is_empty() => scope,
                scope => format!(",scope=\"{scope}\""),
            };
            assert_eq!(challenge(&answer), format!("{start}{scope}"), "{path}");
            if *method != Method::HEAD {
                answer.refused(401, "UNAUTHORIZED");
            }
        }
    }
}

#[tokio::test]
async fn the_realm_is_where_the_client_asked() {
    let server = with_accounts(settings()).await;
    for host in ["registry.example.org:5000", "[::1]:5000", "localhost"] {
        let answer = server.get("/v2/").header("Host", host).await;
        let expected = format!("http://{host}/auth/token");
        assert_eq!(realm(&challenge(&answer)), expected);
    }
    // Only a proxy that is known is believed that its clients speak TLS.
    let answer = server.get("/v2/").header("X-Forwarded-Proto", "https");
    assert_eq!(realm(&challenge(&answer.await)), server.url("/auth/token"));
    // What is no host gets into no header.
    for host in [
        "evil\",x=\"y",
        "evil example.org",
        "evil\\",
        "evil/x",
        "e@x",
    ] {
        let answer = raw(&server, &[&format!("Host: {host}")]).await;
        assert_eq!(
            challenge(&answer),
            "Bearer realm=\"http://localhost/auth/token\",service=\"granary\"",
            "{host}"
        );
    }
}

#[tokio::test]
async fn a_known_proxy_says_how_its_clients_come() {
    let builder = settings().env("GRANARY_SERVER__TRUSTED_PROXIES", "127.0.0.1");
    let server = with_accounts(builder).await;
    let answer = server
        .get("/v2/")
        .header("Host", "registry.example.org")
        .header("X-Forwarded-Proto", "https")
        .await;
    let expected = "https://registry.example.org/auth/token";
    assert_eq!(realm(&challenge(&answer)), expected);
}

#[tokio::test]
async fn a_public_url_is_the_realm_whatever_the_host() {
    let builder = settings().env("GRANARY_SERVER__PUBLIC_URL", "https://granary.example.org");
    let server = with_accounts(builder).await;
    let answer = server.get("/v2/").header("Host", "evil.example").await;
    assert_eq!(
        challenge(&answer),
        "Bearer realm=\"https://granary.example.org/auth/token\",service=\"granary.example.org\""
    );
    let token = jwt(&server, &basic("bob"), &[]).await;
    assert_eq!(claims(&token)["aud"], "granary.example.org");
    server.get("/v2/").by(&bearer(&token)).await.is(200);
}

#[tokio::test]
async fn over_http2_the_realm_is_the_authority() {
    let server = with_accounts(settings().http2()).await;
    let answer = server.get("/v2/").await;
    assert_eq!(realm(&challenge(&answer)), server.url("/auth/token"));
    server.get("/v2/").by(&basic("bob")).await.is(200);
}

#[tokio::test]
async fn a_password_or_an_api_token_is_enough() {
    let server = with_accounts(settings()).await;
    let token = api_token(&server, "bob", &[]).await;
    let shown = [
        basic("bob"),
        basic("bob").replace("Basic", "basic"),
        basic_with("bob", &token.text),
        basic_with("token", &token.text),
        token.bearer(),
    ];
    for (seed, credentials) in (0..).zip(&shown) {
        server.get("/v2/").by(credentials).await.is(200);
        let pushed = image(seed);
        push_image(&server, credentials, "bob/app", "a", &pushed).await;
        let read = server.get("/v2/bob/app/manifests/a").by(credentials).await;
        assert!(read.is(200).body == pushed.manifest);
    }
}

#[tokio::test]
async fn whatever_is_wrong_is_told_in_the_same_words() {
    let server = with_accounts(settings()).await;
    let token = api_token(&server, "bob", &[]).await;
    let query = "offline_token=true&scope=repository:bob/app:pull";
    let issued = ask(&server, &basic("bob"), query).await.is(200).json();
    let (jwt, refresh) = (text(&issued["token"]), text(&issued["refresh_token"]));
    let (unknown, mistyped) = (token.text.replace("grn_t_", "grn_t_x"), &token.text[..40]);
    let wrong = [
        basic_with("bob", "a-wrong-password"),
        basic_with("bob", &password("carol")),
        basic_with("bob", ""),
        basic_with("", &password("bob")),
        basic_with("Bob", &password("bob")),
        basic_with("token", &password("bob")),
        basic_with("dave", "a-wrong-password"),
        basic_with("carol", &token.text),
        basic_with("bob", mistyped),
        basic_with("bob", &refresh),
        basic_with("bob", &jwt),
        bearer(&password("bob")),
        bearer(mistyped),
        bearer(&unknown),
        bearer(&refresh),
    ];
    let first = server.get("/v2/").by(&wrong[0]).await;
    first.refused(401, "UNAUTHORIZED");
    for credentials in &wrong {
        for path in ["/v2/", "/v2/bob/app/tags/list", "/v2/_catalog"] {
            let answer = server.get(path).by(credentials).await;
            challenge(&answer);
            assert_eq!(answer.body, first.body, "{credentials}");
        }
    }
}

#[tokio::test]
async fn what_cannot_be_read_is_refused_although_it_may_be_right() {
    let server = with_accounts(settings()).await;
    let right = format!("Authorization: {}", basic("bob"));
    let host = "Host: localhost";
    raw(&server, &[host, &right]).await.is(200);
    let long = right.replace("Basic ", &format!("Basic {}", " ".repeat(20 << 10)));
    let no_colon = "Authorization: Basic Ym9i";
    let cases: [&[&str]; 12] = [
        &[&right, &right],
        &[&right, "Authorization:"],
        &["Authorization: Digest username=\"bob\"", &right],
        &["Authorization:"],
        &["Authorization: Basic"],
        &["Authorization: Basic ="],
        &["Authorization: Basic Böb"],
        &["Authorization: Bearer tökən"],
        &["Authorization: Bearer a b"],
        &["Authorization: Digest username=\"bob\""],
        &[no_colon],
        &[&long],
    ];
    for lines in cases {
        let lines = [&[host][..], lines].concat();
        challenge(&raw(&server, &lines).await);
    }
}

/// Whoever sends wrong passwords waits, and is told for how long; others do not.
#[tokio::test]
async fn many_wrong_passwords_wait() {
    let proxied = settings()
        .env("GRANARY_AUTH__PASSWORD_FAILURES", "3")
        .env("GRANARY_SERVER__TRUSTED_PROXIES", "127.0.0.0/8");
    let server = with_accounts(proxied).await;
    for path in ["/v2/", "/auth/token"] {
        // An address of its own each time, as the proxy says.
        let from = if path == "/v2/" {
            "192.0.2.1"
        } else {
            "192.0.2.2"
        };
        let asks = |from: &str, by: String| {
            let request = server.get(path).header("X-Forwarded-For", from);
            request.by(&by)
        };
        // The same one again is no guess.
        for _ in 0..5 {
            let stale = asks(from, basic_with("bob", "a-stale-password")).await;
            assert_eq!(stale.status, 401);
        }
        let mut number = 0;
        let waits = eventually("a wait", async || {
            number += 1;
            let answer = asks(from, basic_with("bob", &format!("wrong {number}"))).await;
            (answer.status == 429).then_some(answer)
        });
        let waits = waits.await;
        assert!(number >= 3, "{number}");
        waits.refused(429, "TOOMANYREQUESTS");
        let seconds: u64 = waits.header("retry-after").parse().unwrap();
        assert!(seconds >= 1, "{seconds}");
        asks("192.0.2.3", basic("bob")).await.is(200);
        // Now he is known, and waits nowhere.
        asks(from, basic("bob")).await.is(200);
    }
}

/// Clients keep a connection on which they were refused.
#[tokio::test]
async fn a_refused_push_is_read_away() {
    let server = with_accounts(settings()).await;
    let mut raw = server.raw().await;
    for by in [NOBODY.to_owned(), basic_with("bob", "a-wrong-password")] {
        let shown = format!("Authorization: {by}");
        let mut lines = vec!["Content-Length: 300000"];
        lines.extend((by != NOBODY).then_some(shown.as_str()));
        let path = "/v2/bob/app/blobs/uploads/";
        raw.send(request_head("POST", path, &lines).as_bytes())
            .await;
        raw.send(&noise(300_000, 1)).await;
        challenge(&raw.answer().await.expect("an answer"));
    }
    let shown = format!("Authorization: {}", basic("bob"));
    raw.send(request_head("GET", "/v2/", &[&shown]).as_bytes())
        .await;
    raw.answer().await.expect("an answer").is(200);
}
