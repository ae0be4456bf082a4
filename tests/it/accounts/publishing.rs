//! Jobs push without a secret, by the identity tokens of their CI system.

use std::{
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use granary_testbed::free_port;
use serde_json::{Value, json};

use super::{
    basic, basic_with, bearer, push_image, put_image, said, settings, text, with_accounts,
};
use crate::{
    harness::{Answer, TestServer, image},
    issuer::{Issuer, with},
};

const EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
const ID_TOKEN: &str = "urn:ietf:params:oauth:token-type:id_token";

/// An issuer on loopback, with discovery, and how often it was asked.
fn serving() -> (Issuer, Arc<AtomicU64>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let issuer = Issuer::new(&url);
    let metadata = json!({
        "issuer": url,
        "jwks_uri": format!("{url}/keys"),
        "authorization_endpoint": format!("{url}/authorize"),
        "token_endpoint": format!("{url}/token"),
        "response_types_supported": ["id_token"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["ES256"],
    });
    let (metadata, keys) = (metadata.to_string(), issuer.jwks());
    let requests = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&requests);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            counted.fetch_add(1, Ordering::SeqCst);
            answer(stream.unwrap(), &metadata, &keys);
        }
    });
    (issuer, requests)
}

fn answer(mut stream: TcpStream, metadata: &str, keys: &str) {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && stream.read_exact(&mut byte).is_ok() {
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap();
    let (status, body) = match head.split(' ').nth(1).unwrap_or_default() {
        "/.well-known/openid-configuration" => ("200 OK", metadata),
        "/keys" => ("200 OK", keys),
        _ => ("404 Not Found", ""),
    };
    let length = body.len();
    let answer = format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
    );
    // Who asked may be gone.
    let _ = stream.write_all(answer.as_bytes());
}

/// Runs a command of the administrator that succeeds, and says what it answered.
async fn admin(server: &TestServer, arguments: &[&str]) -> Value {
    let arguments = [&["admin"], arguments, &["--json"]].concat();
    server.run(&arguments).await.exits(0).json()
}

/// A server with bob's organisation acme, whose robot acme+ci may write there.
async fn with_robot() -> TestServer {
    let server = with_accounts(settings()).await;
    for arguments in [
        &["org", "create", "acme", "--owner", "bob"][..],
        &["robot", "create", "acme+ci"],
        &["member", "set", "acme", "acme+ci", "write"],
    ] {
        admin(&server, arguments).await;
    }
    server
}

/// Has releases of acme/app be the robot.
async fn add_publisher(server: &TestServer, issuer: &Issuer, more: &[&str]) -> i64 {
    let arguments = [
        "publisher",
        "add",
        "acme+ci",
        "--issuer",
        &issuer.url,
        "--claim",
        "repository=acme/app",
        "--claim",
        "ref=refs/tags/v*",
    ];
    let made = admin(server, &[&arguments[..], more].concat()).await;
    made["id"].as_i64().expect("a number")
}

async fn exchange(server: &TestServer, token: &str, scope: &str) -> Answer {
    let form = [
        ("grant_type", EXCHANGE),
        ("subject_token_type", ID_TOKEN),
        ("subject_token", token),
        ("scope", scope),
    ];
    let form: Vec<String> = form
        .iter()
        .map(|(name, value)| format!("{name}={}", value.replace(':', "%3A").replace(',', "%2C")))
        .collect();
    server
        .post("/auth/token")
        .header("content-type", "application/x-www-form-urlencoded")
        .body(form.join("&"))
        .await
}

#[tokio::test]
async fn a_job_pushes_without_a_secret() {
    let server = with_robot().await;
    let (issuer, requests) = serving();
    let requests = || requests.load(Ordering::SeqCst);
    let says = issuer.github("acme/app", "refs/tags/v1");
    let token = issuer.token(&says);
    let job = basic_with("token", &token);
    // Nobody is asked about an issuer that is not trusted.
    server.get("/v2/").by(&job).await.is(401);
    server.get("/v2/").by(&bearer(&token)).await.is(401);
    exchange(&server, &token, "").await.is(401);
    assert_eq!(requests(), 0);
    let added = admin(
        &server,
        &["issuer", "add", &issuer.url, "--preset", "github"],
    )
    .await;
    assert_eq!(added["problem"], Value::Null, "{added}");
    let capped = ["--scope", "read,write:acme/app:v*", "--expires", "7d"];
    let id = add_publisher(&server, &issuer, &capped).await;

    push_image(&server, &job, "acme/app", "v1", &image(1)).await;
    let named = basic_with("acme+ci", &token);
    push_image(&server, &named, "acme/app", "v2", &image(2)).await;
    push_image(&server, &bearer(&token), "acme/app", "v3", &image(3)).await;
    let refused = put_image(&server, &job, "acme/app", "latest", &image(1)).await;
    refused.refused(403, "DENIED");
    server
        .get("/v2/")
        .by(&basic_with("bob", &token))
        .await
        .is(401);
    server.get("/api/v1/tokens").by(&job).await.is(403);

    let scope = "repository:acme/app:pull,push";
    let issued = exchange(&server, &token, scope).await.is(200).json();
    assert_eq!(issued["token_type"], "Bearer");
    assert_eq!(
        issued["issued_token_type"],
        "urn:ietf:params:oauth:token-type:access_token"
    );
    assert_eq!(
        (&issued["scope"], &issued["refresh_token"]),
        (&json!(scope), &Value::Null)
    );
    let ours = bearer(&text(&issued["access_token"]));
    push_image(&server, &ours, "acme/app", "v4", &image(4)).await;
    // As docker does, which asks for a refresh token too.
    let asked = server.get("/auth/token?offline_token=true&scope=repository:acme/app:pull");
    let asked = asked.by(&job).await.is(200).json();
    assert_eq!(asked["refresh_token"], Value::Null);
    // The keys were fetched for all of it, once.
    assert!(requests() <= 2, "{} requests", requests());

    let other = issuer.token(&issuer.github("acme/app2", "refs/tags/v1"));
    let wrong_key = Issuer::new(&issuer.url).token(&says);
    let late = issuer.token(&with(says.clone(), json!({"exp": 1_000_000_000})));
    for wrong in [&other, &wrong_key, &late] {
        server.get("/v2/").by(&bearer(wrong)).await.is(401);
        let refused = exchange(&server, wrong, scope).await;
        refused.refused(401, "UNAUTHORIZED");
        assert_eq!(refused.json()["error"], "invalid_grant");
    }
    let path = format!("/api/v1/owners/acme/publishers/{id}");
    server.delete(&path).by(&basic("bob")).await.is(204);
    for ended in [&job, &named, &ours, &bearer(&token)] {
        server.get("/v2/").by(ended).await.is(401);
    }
    exchange(&server, &token, scope).await.is(401);
}

#[tokio::test]
async fn a_token_that_counts_once_is_exchanged() {
    let server = with_robot().await;
    let issuer = Issuer::new("https://token.actions.githubusercontent.com");
    let keys = server.data().join("keys.json");
    std::fs::write(&keys, issuer.jwks()).unwrap();
    let keys = keys.to_str().unwrap();
    admin(&server, &["issuer", "add", "github", "--keys", keys]).await;
    add_publisher(&server, &issuer, &["--once"]).await;
    let token = issuer.token(&issuer.github("acme/app", "refs/tags/v1"));
    let scope = "repository:acme/app:pull,push";
    let issued = exchange(&server, &token, scope).await.is(200).json();
    let ours = bearer(&text(&issued["access_token"]));
    push_image(&server, &ours, "acme/app", "v1", &image(1)).await;
    exchange(&server, &token, scope).await.is(401);
    server.get("/v2/").by(&bearer(&token)).await.is(401);
}

#[tokio::test]
async fn given_keys_are_replaced_without_touching_publishers() {
    let server = with_robot().await;
    let issuer = Issuer::new("https://token.actions.githubusercontent.com");
    let later = Issuer::new(&issuer.url);
    let file = |name: &str, issuer: &Issuer| {
        let path = server.data().join(name);
        std::fs::write(&path, issuer.jwks()).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (former, keys) = (file("keys.json", &issuer), file("later.json", &later));
    admin(&server, &["issuer", "add", "github", "--keys", &former]).await;
    add_publisher(&server, &issuer, &[]).await;
    let token = |issuer: &Issuer| bearer(&issuer.token(&issuer.github("acme/app", "refs/tags/v1")));
    let (before, after) = (token(&issuer), token(&later));
    push_image(&server, &before, "acme/app", "v1", &image(1)).await;
    server.get("/v2/").by(&after).await.is(401);

    let again = ["admin", "issuer", "add", "github", "--keys", &keys];
    said(&server.run(&again).await.exits(1), "issuer change");
    let change = ["admin", "issuer", "change", &issuer.url, "--keys", &keys];
    server.run(&change).await.exits(0);
    server.get("/v2/").by(&before).await.is(401);
    push_image(&server, &after, "acme/app", "v2", &image(2)).await;
    for line in [
        "admin issuer change github",
        "admin issuer change github --discovery --keys-url https://a.example",
    ] {
        let words: Vec<&str> = line.split(' ').collect();
        server.run(&words).await.exits(2);
    }
    let trail = ["audit", "list", "--action", "issuer.change", "--limit", "1"];
    let trail = admin(&server, &trail).await;
    let row = &trail["events"][0];
    assert_eq!(row["target"], issuer.url, "{trail}");
    assert_eq!(row["detail"]["keys"], true, "{trail}");
    admin(&server, &["issuer", "remove", &issuer.url]).await;
    server.get("/v2/").by(&after).await.is(401);
}

#[tokio::test]
async fn keys_that_cannot_be_had_are_no_fault_of_the_token() {
    let server = with_robot().await;
    let issuer = Issuer::new(&format!("http://127.0.0.1:{}", free_port().unwrap()));
    let added = admin(
        &server,
        &["issuer", "add", &issuer.url, "--preset", "github"],
    )
    .await;
    assert!(added["problem"].is_string(), "{added}");
    let token = issuer.token(&issuer.github("acme/app", "refs/tags/v1"));
    let refused = server.get("/v2/").by(&bearer(&token)).await.is(503);
    assert_eq!(refused.header("retry-after"), "1");
    let exchanged = exchange(&server, &token, "").await;
    for refused in [refused, exchanged] {
        assert_eq!(refused.status, 503, "{refused:?}");
        let message = refused.json()["errors"][0]["message"].to_string();
        assert!(message.contains("keys of this token's issuer"), "{message}");
        assert!(!message.contains("127.0.0.1"), "{message}");
    }
    // Others are not kept waiting.
    server.get("/v2/").by(&basic("bob")).await.is(200);
}

#[tokio::test]
async fn the_commands_say_what_is_wrong() {
    let server = with_robot().await;
    for (arguments, words) in [
        (
            &["issuer", "add", "http://issuer.example"][..],
            "write https",
        ),
        (
            &[
                "publisher",
                "add",
                "acme+ci",
                "--issuer",
                "github",
                "--claim",
                "repository=a/b",
            ],
            "is not trusted",
        ),
        (&["publisher", "remove", "7"], "no publisher 7"),
        (&["issuer", "remove", "7"], "there is no issuer 7"),
        (
            &["issuer", "change", "7", "--discovery"],
            "there is no issuer 7",
        ),
    ] {
        let ran = server.run(&[&["admin"], arguments].concat()).await;
        said(&ran.exits(1), words);
    }
    let plain = [
        "issuer",
        "add",
        "gitlab",
        "--audience",
        "registry.example",
        "--keys-url",
    ];
    let keys = format!("http://127.0.0.1:{}/keys", free_port().unwrap());
    let ran = server
        .run(&[&["admin"], &plain[..], &[&keys]].concat())
        .await;
    said(&ran.exits(1), "is not https");
}

#[tokio::test]
async fn keys_are_listed_rotated_and_revoked() {
    let server = with_accounts(settings()).await;
    let token = bearer(&super::jwt(&server, &basic("bob"), &[]).await);
    server.get("/v2/").by(&token).await.is(200);
    let listed = admin(&server, &["keys", "list"]).await;
    let kid = text(&listed["entries"][0]["kid"]);
    assert_eq!(listed["entries"][0]["state"], "signs");
    let rotated = admin(&server, &["keys", "rotate"]).await;
    assert_eq!(rotated["state"], "next");
    server.get("/v2/").by(&token).await.is(200);
    let ran = server
        .run(&["admin", "keys", "revoke", &kid])
        .await
        .exits(0);
    assert_eq!(ran.stdout, format!("what {kid} signed counts no longer\n"));
    server.get("/v2/").by(&token).await.is(401);
    let again = bearer(&super::jwt(&server, &basic("bob"), &[]).await);
    server.get("/v2/").by(&again).await.is(200);
    let ran = server.run(&["admin", "keys", "revoke", &kid]).await;
    said(&ran.exits(1), "there is no key");
    let plain = server.run(&["admin", "keys", "list"]).await.exits(0);
    assert_eq!(plain.stdout.lines().count(), 3, "{}", plain.stdout);
}
