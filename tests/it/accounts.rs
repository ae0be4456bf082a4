//! Accounts: what the first one changes, and the commands that make and mend them.
//!
//! In all of these tests alice administers the installation, and bob and carol are users who know nothing of each other.

mod anonymous;
mod challenges;
mod commands;
mod endings;
mod forgery;
mod groups;
mod needs;
mod operating;
mod others;
mod publishing;
mod scopes;
mod secrets;
mod sharing;
mod tokens;
mod trail;
mod whole;

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use serde_json::{Value, json};

use crate::harness::{
    Answer, Builder, IMAGE, Image, Ran, TestServer, eventually, granary, image, run,
    run_with_input, sha256, texts,
};

pub(crate) use self::forgery::Mint;

/// Credentials of whoever shows none.
pub(crate) const NOBODY: &str = "";

/// The settings of a server whose passwords cost little, and which a test may ask with any number of wrong ones.
pub(crate) fn settings() -> Builder {
    TestServer::builder()
        .env("GRANARY_AUTH__PASSWORD_FAILURES", "0")
        .env("GRANARY_AUTH__PASSWORD_MEMORY", "8MiB")
        .env("GRANARY_AUTH__PASSWORD_ITERATIONS", "1")
}

pub(crate) fn password(user: &str) -> String {
    format!("a-password-of-{user}")
}

/// The credentials of a user.
pub(crate) fn basic(user: &str) -> String {
    basic_with(user, &password(user))
}

/// A name and a password, or a token in its place.
pub(crate) fn basic_with(user: &str, secret: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{user}:{secret}")))
}

pub(crate) fn bearer(token: &str) -> String {
    format!("Bearer {token}")
}

/// A server with alice, bob and carol.
pub(crate) async fn with_accounts(builder: Builder) -> TestServer {
    let server = builder.start().await;
    bootstrap(&server).await;
    for user in ["bob", "carol"] {
        add_user(&server, user).await;
    }
    server
}

/// Makes alice, and returns what the command said.
async fn bootstrap(server: &TestServer) -> Value {
    let arguments = ["admin", "bootstrap", "--user", "alice", "--json"];
    let arguments = [&arguments[..], &["--password-stdin"]].concat();
    let input = format!("{}\n", password("alice"));
    let ran = server.run_with_input(&arguments, &input).await;
    ran.exits(0).json()
}

async fn try_bootstrap(server: &TestServer, user: &str, password: &str) -> Ran {
    let arguments = ["admin", "bootstrap", "--user", user, "--password-stdin"];
    server
        .run_with_input(&arguments, &format!("{password}\n"))
        .await
}

async fn try_add(server: &TestServer, user: &str, password: &str) -> Ran {
    let arguments = ["admin", "user", "add", user, "--password-stdin"];
    server
        .run_with_input(&arguments, &format!("{password}\n"))
        .await
}

async fn add_user(server: &TestServer, user: &str) {
    try_add(server, user, &password(user)).await.exits(0);
}

/// An API token.
pub(crate) struct ApiToken {
    pub(crate) id: i64,
    pub(crate) text: String,
}

impl ApiToken {
    pub(crate) fn bearer(&self) -> String {
        bearer(&self.text)
    }
}

/// Makes an API token with these scopes; without any it may do all that its user may.
pub(crate) async fn api_token(server: &TestServer, user: &str, scopes: &[&str]) -> ApiToken {
    api_token_for(server, user, scopes, "1h").await
}

async fn api_token_for(
    server: &TestServer,
    user: &str,
    scopes: &[&str],
    lifetime: &str,
) -> ApiToken {
    let mut arguments = vec!["admin", "token", "create", user, "--name", "ci", "--json"];
    arguments.extend(["--expires", lifetime]);
    for &scope in scopes {
        arguments.extend(["--scope", scope]);
    }
    let made = server.run(&arguments).await.exits(0).json();
    assert_eq!(made["done"], "token-created");
    ApiToken {
        id: made["id"].as_i64().expect("a number"),
        text: text(&made["token"]),
    }
}

async fn revoke(server: &TestServer, token: &ApiToken) {
    let id = token.id.to_string();
    let ran = server.run(&["admin", "token", "revoke", &id]).await;
    ran.exits(0);
}

/// Lets everybody see a repository.
pub(crate) async fn publish(server: &TestServer, repository: &str) {
    let ran = server
        .run(&["admin", "visibility", repository, "public"])
        .await;
    ran.exits(0);
}

/// What the token service answers to GET.
async fn ask(server: &TestServer, by: &str, query: &str) -> Answer {
    server.get(&format!("/auth/token?{query}")).by(by).await
}

/// A token for these scopes, or as much of them as is granted.
pub(crate) async fn jwt(server: &TestServer, by: &str, scopes: &[&str]) -> String {
    let scopes: Vec<String> = scopes
        .iter()
        .map(|scope| format!("scope={scope}"))
        .collect();
    let answer = ask(server, by, &scopes.join("&")).await.is(200);
    text(&answer.json()["token"])
}

/// What a token of the token service says, without a look at its signature.
fn claims(token: &str) -> Value {
    part(token, 1)
}

/// The header of a token, or its claims.
fn part(token: &str, number: usize) -> Value {
    let part = token.split('.').nth(number).expect("a part");
    let bytes = URL_SAFE_NO_PAD.decode(part).expect("base64url");
    serde_json::from_slice(&bytes).expect("JSON")
}

/// An entry of the claim `access`.
fn entry(repository: &str, actions: &[&str]) -> Value {
    json!({"type": "repository", "name": repository, "actions": actions})
}

#[track_caller]
fn text(value: &Value) -> String {
    value.as_str().expect("a text").to_owned()
}

/// The answer asks for credentials, by exactly one challenge, which is returned.
#[track_caller]
pub(crate) fn challenge(answer: &Answer) -> String {
    assert_eq!(answer.status, 401, "{answer:?}");
    let challenges: Vec<_> = answer.headers.get_all("www-authenticate").iter().collect();
    assert_eq!(challenges.len(), 1, "{answer:?}");
    let challenge = challenges[0].to_str().expect("a header of text");
    assert!(
        challenge.starts_with("Bearer realm=\"http"),
        "{challenge} is no challenge"
    );
    challenge.to_owned()
}

#[track_caller]
fn said(ran: &Ran, words: &str) {
    assert!(ran.stderr.contains(words), "no '{words}' in {}", ran.stderr);
}

pub(crate) async fn push_blob(
    server: &TestServer,
    by: &str,
    repository: &str,
    content: &[u8],
) -> String {
    let digest = sha256(content);
    let path = format!("/v2/{repository}/blobs/uploads/?digest={digest}");
    server
        .post(&path)
        .by(by)
        .body(content.to_vec())
        .await
        .is(201);
    digest
}

/// Pushes an image with its content.
pub(crate) async fn push_image(
    server: &TestServer,
    by: &str,
    repository: &str,
    tag: &str,
    image: &Image,
) {
    push_blob(server, by, repository, &image.config).await;
    push_blob(server, by, repository, &image.layer).await;
    put_image(server, by, repository, tag, image).await.is(201);
}

/// Puts only the manifest of an image.
async fn put_image(
    server: &TestServer,
    by: &str,
    repository: &str,
    reference: &str,
    image: &Image,
) -> Answer {
    server
        .put_manifest(repository, reference, IMAGE, &image.manifest)
        .by(by)
        .await
}

/// Begins an upload session and returns its location.
pub(crate) async fn begin(server: &TestServer, by: &str, repository: &str) -> String {
    let path = format!("/v2/{repository}/blobs/uploads/");
    let answer = server.post(&path).by(by).await.is(202);
    answer.header("location").to_owned()
}

async fn tags(server: &TestServer, by: &str, repository: &str) -> Vec<String> {
    let path = format!("/v2/{repository}/tags/list");
    let list = server.get(&path).by(by).await.is(200).json();
    texts(&list["tags"])
}

#[tokio::test]
async fn before_the_first_account_nothing_that_is_shown_counts() {
    let server = settings().start().await;
    let known = basic("bob");
    let shown = [
        NOBODY,
        &known,
        "Basic !!!",
        "Bearer a.b.c",
        "Bearer grn_t_none",
        "Digest username=\"bob\"",
    ];
    for (seed, credentials) in (0..).zip(shown) {
        server.get("/v2/").by(credentials).await.is(200);
        let pushed = image(seed);
        push_image(&server, credentials, "open/app", "a", &pushed).await;
        let read = server.get("/v2/open/app/manifests/a").by(credentials);
        assert!(read.await.is(200).body == pushed.manifest, "{credentials}");
    }
    let twice = server.get("/v2/").by(&known).by(&basic("carol"));
    twice.await.is(200);
    // There is nothing to log in to.
    let answer = ask(&server, NOBODY, "service=granary").await;
    answer.refused(400, "UNSUPPORTED");
    let keys = server.get("/.well-known/jwks.json").await.is(200).json();
    assert_eq!(keys, json!({"keys": []}));
}

#[tokio::test]
async fn the_first_account_closes_what_was_open_and_owns_it() {
    let server = settings().start().await;
    let was_there = [("old/app", image(1)), ("alpine", image(2))];
    for (repository, pushed) in &was_there {
        push_image(&server, NOBODY, repository, "a", pushed).await;
    }
    let session = begin(&server, NOBODY, "old/app").await;
    let made = bootstrap(&server).await;
    challenge(&server.get("/v2/").await);
    assert_eq!(
        made,
        json!({
            "done": "bootstrapped", "user": "alice", "namespaces": 2,
            "installation": server.data().canonicalize().unwrap(),
        })
    );
    for request in [
        server.get("/v2/_catalog"),
        server.get("/v2/old/app/manifests/a"),
        server.get("/v2/alpine/tags/list"),
        server.post("/v2/old/app/blobs/uploads/"),
        server.patch(&session).body("more"),
        server.delete("/v2/alpine/manifests/a"),
    ] {
        challenge(&request.await);
    }
    let alice = basic("alice");
    // Whoever began the session had no name.
    let answer = server.patch(&session).by(&alice).body("more").await;
    answer.refused(404, "BLOB_UPLOAD_UNKNOWN");
    add_user(&server, "bob").await;
    for (repository, pushed) in &was_there {
        let path = format!("/v2/{repository}/manifests/a");
        let read = server.get(&path).by(&alice).await.is(200);
        assert!(read.body == pushed.manifest);
        push_image(&server, &alice, repository, "b", &image(3)).await;
        let read = server.get(&path).by(&basic("bob")).await;
        read.refused(404, "NAME_UNKNOWN");
        let path = format!("/v2/{repository}/blobs/uploads/");
        let pushed = server.post(&path).by(&basic("bob")).await;
        pushed.refused(403, "DENIED");
    }
    server
        .delete("/v2/alpine/manifests/a")
        .by(&alice)
        .await
        .is(202);
}

#[tokio::test]
async fn there_is_one_first_account() {
    let mut server = settings().start().await;
    bootstrap(&server).await;
    let other = "another-password";
    for user in ["alice", "mallory"] {
        let ran = try_bootstrap(&server, user, other).await.exits(1);
        said(&ran, "there are accounts already");
    }
    server.stop().await;
    for user in ["alice", "mallory"] {
        let ran = try_bootstrap(&server, user, other).await.exits(1);
        said(&ran, "there are accounts already");
    }
    server.start_again().await;
    server.get("/v2/").by(&basic("alice")).await.is(200);
    for user in ["alice", "mallory"] {
        challenge(&server.get("/v2/").by(&basic_with(user, other)).await);
    }
}

/// A command on a data folder, with passwords that cost little.
fn on(data: &std::path::Path, arguments: &[&str]) -> std::process::Command {
    let mut command = granary();
    command.args(arguments).arg("--data").arg(data);
    command
        .env("GRANARY_AUTH__PASSWORD_MEMORY", "8MiB")
        .env("GRANARY_AUTH__PASSWORD_ITERATIONS", "1");
    command
}

/// A data folder with the account of alice.
async fn alices() -> tempfile::TempDir {
    let data = tempfile::tempdir().unwrap();
    let arguments = ["admin", "bootstrap", "--user", "alice", "--password-stdin"];
    let input = format!("{}\n", password("alice"));
    let bootstrap = on(data.path(), &arguments);
    run_with_input(bootstrap, &input).await.exits(0);
    data
}

#[tokio::test]
async fn a_server_with_accounts_listens_to_everybody() {
    let empty = tempfile::tempdir().unwrap();
    let serve = on(empty.path(), &["serve", "--listen", "0.0.0.0:0"]);
    said(&run(serve).await.exits(2), "--allow-anonymous");

    let server = settings()
        .on(alices().await)
        .argument("--listen")
        .argument("0.0.0.0:0")
        .start()
        .await;
    let from_elsewhere = || {
        server
            .get("/v2/")
            .header("Host", "registry.example.org")
            .header("X-Forwarded-For", "192.0.2.7")
    };
    challenge(&from_elsewhere().await);
    from_elsewhere().by(&basic("alice")).await.is(200);
}

#[tokio::test]
async fn whoever_listens_in_on_plain_http_is_warned_of() {
    for (listen, public_url, is_warned) in [
        ("0.0.0.0:0", "http://registry.example.org", true),
        ("0.0.0.0:0", "https://registry.example.org", false),
        ("127.0.0.1:0", "http://registry.example.org", false),
    ] {
        let server = settings()
            .on(alices().await)
            .env("GRANARY_SERVER__PUBLIC_URL", public_url)
            .argument("--listen")
            .argument(listen)
            .start()
            .await;
        let greeting = eventually("the greeting", async || {
            Some(server.output()).filter(|output| output.contains("_catalog"))
        })
        .await;
        let is = greeting.contains("passwords and tokens come over plain HTTP");
        assert_eq!(is, is_warned, "{listen} {public_url} {greeting}");
    }
}

#[tokio::test]
async fn the_first_account_lets_in_who_comes_through_a_proxy() {
    let server = settings().start().await;
    let forwarded = || {
        server
            .get("/v2/")
            .header("Host", "registry.example.org")
            .header("X-Forwarded-For", "192.0.2.7")
    };
    forwarded().await.refused(403, "DENIED");
    bootstrap(&server).await;
    challenge(&forwarded().await);
    forwarded().by(&basic("alice")).await.is(200);
}

#[tokio::test]
async fn allow_anonymous_allows_nothing_where_there_are_accounts() {
    let mut server = settings().argument("--allow-anonymous").start().await;
    push_image(&server, NOBODY, "old/app", "a", &image(1)).await;
    bootstrap(&server).await;
    challenge(&server.get("/v2/old/app/manifests/a").await);
    server.restart().await;
    challenge(&server.get("/v2/old/app/manifests/a").await);
    eventually("the server says that it has no effect", async || {
        let output = server.output();
        output
            .contains("--allow-anonymous has no effect")
            .then_some(())
    })
    .await;
}

/// Decision 22: the first segment that is a user's name is the user's, whoever pushes there first.
#[tokio::test]
async fn what_an_administrator_pushes_for_a_user_is_the_users() {
    let server = with_accounts(settings()).await;
    let pushed = image(1);
    push_image(&server, &basic("alice"), "bob/app", "a", &pushed).await;
    let bob = basic("bob");
    let read = server.get("/v2/bob/app/manifests/a").by(&bob).await;
    assert!(read.is(200).body == pushed.manifest);
    for repository in ["bob/app", "bob/other"] {
        push_image(&server, &bob, repository, "b", &image(2)).await;
    }
}
