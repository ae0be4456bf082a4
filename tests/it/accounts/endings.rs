//! What ends, and with it all that was made from it: at the next request, and at what is still going on.

use super::{
    NOBODY, api_token, api_token_for, ask, basic, basic_with, bearer, begin, bootstrap, challenge,
    push_blob, push_image, put_image, revoke, said, settings, text, with_accounts,
};
use crate::harness::{
    Answer, IMAGE, Raw, TestServer, eventually, image, noise, request_head, sha256,
};

/// What the token service makes of some credentials.
struct Derived {
    token: String,
    refresh: String,
}

impl Derived {
    async fn of(server: &TestServer, by: &str) -> Self {
        let query = "offline_token=true&scope=repository:bob/app:pull,push";
        let issued = ask(server, by, query).await.is(200).json();
        Self {
            token: text(&issued["token"]),
            refresh: text(&issued["refresh_token"]),
        }
    }

    /// What the refresh token is answered.
    async fn again(&self, server: &TestServer) -> Answer {
        let form = format!(
            "grant_type=refresh_token&refresh_token={}&scope=repository:bob/app:pull,push",
            self.refresh
        );
        server
            .post("/auth/token")
            .header("Content-Type", "application/x-www-form-urlencoded")
            .body(form)
            .await
    }

    /// The token, and one that the refresh token gets.
    async fn credentials(&self, server: &TestServer) -> [String; 2] {
        let again = self.again(server).await.is(200).json();
        [bearer(&self.token), bearer(&text(&again["access_token"]))]
    }
}

/// Each of these credentials is refused whatever it asks for if it has `ended`, and else served.
async fn assert_all(server: &TestServer, credentials: &[String], ended: bool) {
    for by in credentials {
        for request in [
            server.get("/v2/bob/app/manifests/a"),
            server.get("/v2/"),
            server.get("/v2/_catalog"),
            server.post("/v2/bob/app/blobs/uploads/"),
        ] {
            let answer = request.by(by).await;
            if ended {
                challenge(&answer);
            } else {
                assert!([200, 202].contains(&answer.status), "{by}: {answer:?}");
            }
        }
    }
}

#[tokio::test]
async fn a_revoked_token_counts_no_longer_nor_what_was_made_from_it() {
    let server = with_accounts(settings()).await;
    push_image(&server, &basic("bob"), "bob/app", "a", &image(1)).await;
    let mut all = Vec::new();
    for _ in 0..2 {
        let token = api_token(&server, "bob", &[]).await;
        let by_name = basic_with("bob", &token.text);
        let derived = Derived::of(&server, &by_name).await;
        let mut credentials = derived.credentials(&server).await.to_vec();
        credentials.extend([by_name, basic_with("token", &token.text), token.bearer()]);
        assert_all(&server, &credentials, false).await;
        all.push((token, derived, credentials));
    }
    let [(token, derived, ended), (_, other, others)] = &all[..] else {
        unreachable!()
    };
    revoke(&server, token).await;
    assert_all(&server, ended, true).await;
    derived.again(&server).await.refused(401, "UNAUTHORIZED");
    let by_name = basic_with("bob", &token.text);
    let answer = ask(&server, &by_name, "").await;
    answer.refused(401, "UNAUTHORIZED");

    assert_all(&server, others, false).await;
    other.again(&server).await.is(200);
    server.get("/v2/").by(&basic("bob")).await.is(200);
    let id = token.id.to_string();
    let ran = server.run(&["admin", "token", "revoke", &id]).await;
    said(&ran.exits(1), &format!("no token {id}"));
}

#[tokio::test]
async fn a_new_password_ends_the_old_one_and_what_was_made_from_it() {
    let server = with_accounts(settings()).await;
    push_image(&server, &basic("bob"), "bob/app", "a", &image(1)).await;
    let derived = Derived::of(&server, &basic("bob")).await;
    let mut old = derived.credentials(&server).await.to_vec();
    old.push(basic("bob"));
    let token = api_token(&server, "bob", &[]).await;
    let of_token = Derived::of(&server, &basic_with("bob", &token.text)).await;
    let mut kept = of_token.credentials(&server).await.to_vec();
    kept.push(token.bearer());
    assert_all(&server, &old, false).await;

    let arguments = ["admin", "user", "password", "bob", "--password-stdin"];
    let ran = server.run_with_input(&arguments, "a-new-password-of-bob\n");
    ran.await.exits(0);
    assert_all(&server, &old, true).await;
    derived.again(&server).await.refused(401, "UNAUTHORIZED");
    let answer = ask(&server, &basic("bob"), "").await;
    answer.refused(401, "UNAUTHORIZED");
    let new = basic_with("bob", "a-new-password-of-bob");
    assert_all(&server, &[new], false).await;
    // Tokens of their own are for machines, which would not hear of it.
    assert_all(&server, &kept, false).await;
    server.get("/v2/").by(&basic("carol")).await.is(200);
}

#[tokio::test]
async fn an_expired_token_counts_no_longer_nor_what_was_made_from_it() {
    let server = with_accounts(settings()).await;
    push_image(&server, &basic("bob"), "bob/app", "a", &image(1)).await;
    let lasting = api_token(&server, "bob", &[]).await;
    // It may be over before it is used.
    let (token, derived) = eventually("a token is used before it expires", async || {
        let token = api_token_for(&server, "bob", &[], "2s").await;
        let query = "offline_token=true&scope=repository:bob/app:pull";
        let answer = ask(&server, &basic_with("bob", &token.text), query).await;
        let issued = (answer.status == 200).then(|| answer.json())?;
        let derived = Derived {
            token: text(&issued["token"]),
            refresh: text(&issued["refresh_token"]),
        };
        Some((token, derived))
    })
    .await;
    let by_name = basic_with("bob", &token.text);
    for by in [&by_name, &token.bearer(), &bearer(&derived.token)] {
        eventually("it is refused", async || {
            let answer = server.get("/v2/bob/app/manifests/a").by(by).await;
            (answer.status == 401).then_some(())
        })
        .await;
    }
    derived.again(&server).await.refused(401, "UNAUTHORIZED");
    let answer = ask(&server, &by_name, "").await;
    answer.refused(401, "UNAUTHORIZED");
    for by in [lasting.bearer(), basic("bob")] {
        server.get("/v2/").by(&by).await.is(200);
    }
}

/// Passwords have numbers too, and one that was mistyped is to lock nobody out.
#[tokio::test]
async fn a_number_that_is_no_tokens_ends_nothing() {
    let server = with_accounts(settings()).await;
    let derived = Derived::of(&server, &basic("bob")).await;
    for id in 0..10 {
        let id = id.to_string();
        let ran = server.run(&["admin", "token", "revoke", &id]).await;
        said(&ran.exits(1), &format!("no token {id}"));
    }
    for user in ["alice", "bob", "carol"] {
        server.get("/v2/").by(&basic(user)).await.is(200);
    }
    derived.again(&server).await.is(200);
}

/// Sends the head of a request, with these credentials, and the first half of its body.
async fn begin_request(
    server: &TestServer,
    (method, target): (&str, &str),
    by: &str,
    lines: &[&str],
    body: &[u8],
) -> Raw {
    let length = format!("Content-Length: {}", body.len());
    let shown = format!("Authorization: {by}");
    let mut lines = [lines, &[length.as_str()]].concat();
    lines.extend((by != NOBODY).then_some(shown.as_str()));
    let mut raw = server.raw().await;
    raw.send(request_head(method, target, &lines).as_bytes())
        .await;
    raw.send(&body[..body.len() / 2]).await;
    // The request, and the one that asks for it.
    eventually("the request runs", async || {
        (server.metric("http_server_active_requests").await >= 2).then_some(())
    })
    .await;
    raw
}

/// Sends the other half, and reads the answer.
async fn end_request(mut raw: Raw, body: &[u8]) -> Answer {
    raw.send(&body[body.len() / 2..]).await;
    raw.answer().await.expect("an answer")
}

/// Begins a closing PUT, and waits until it was let in and writes to the session. `knocking` are the credentials of
/// somebody who may look at the session.
async fn begin_closing(
    server: &TestServer,
    session: &str,
    (by, knocking): (&str, &str),
    body: &[u8],
) -> Raw {
    let target = format!("{session}?digest={}", sha256(body));
    eventually("the session is written to", async || {
        let raw = begin_request(server, ("PUT", &target), by, &[], body).await;
        // A look at the session is a writer itself; should the PUT have met it, it is sent again.
        for _ in 0..100 {
            if server.knock(session).by(knocking).await.status == 429 {
                return Some(raw);
            }
        }
        None
    })
    .await
}

/// Decision 2: rights that went while a body came are gone when it is there.
#[tokio::test]
async fn a_token_that_ends_while_a_blob_is_closed_stores_nothing() {
    let server = with_accounts(settings()).await;
    let bob = basic("bob");
    push_image(&server, &bob, "bob/app", "a", &image(1)).await;
    for length in [5_000, 300_000] {
        let content = noise(length, 7);
        let token = api_token(&server, "bob", &[]).await;
        let session = begin(&server, &token.bearer(), "bob/app").await;
        let by = token.bearer();
        let raw = begin_closing(&server, &session, (&by, &bob), &content).await;
        revoke(&server, &token).await;
        challenge(&end_request(raw, &content).await);
        let blob = format!("/v2/bob/app/blobs/{}", sha256(&content));
        let read = server.get(&blob).by(&bob).await;
        read.refused(404, "BLOB_UNKNOWN");
        // Its bytes went with it; bob, who has other credentials, begins anew.
        let status = server.get(&session).by(&bob).await;
        status.refused(404, "BLOB_UPLOAD_UNKNOWN");
        let session = begin(&server, &bob, "bob/app").await;
        let closing = format!("{session}?digest={}", sha256(&content));
        let closed = server.put(&closing).by(&bob).body(content.clone()).await;
        closed.is(201);
        let read = server.get(&blob).by(&bob).await.is(200);
        assert!(read.body == content);
    }
}

/// The same for a manifest. Whether it was let in before nobody can see from outside; the requests in between give it
/// time, and the answer has to be the same.
#[tokio::test]
async fn a_token_that_ends_while_a_manifest_comes_stores_nothing() {
    let server = with_accounts(settings()).await;
    let (bob, pushed) = (basic("bob"), image(1));
    push_image(&server, &bob, "bob/app", "a", &image(2)).await;
    for content in [&pushed.config, &pushed.layer] {
        push_blob(&server, &bob, "bob/app", content).await;
    }
    let token = api_token(&server, "bob", &[]).await;
    let target = ("PUT", "/v2/bob/app/manifests/late");
    let media_type = format!("Content-Type: {IMAGE}");
    let (by, lines) = (token.bearer(), [media_type.as_str()]);
    let raw = begin_request(&server, target, &by, &lines, &pushed.manifest).await;
    for _ in 0..20 {
        server.get("/v2/bob/app/tags/list").by(&by).await.is(200);
    }
    revoke(&server, &token).await;
    challenge(&end_request(raw, &pushed.manifest).await);
    for reference in ["late", &pushed.digest()] {
        let path = format!("/v2/bob/app/manifests/{reference}");
        let read = server.get(&path).by(&bob).await;
        read.refused(404, "MANIFEST_UNKNOWN");
    }
    let answer = put_image(&server, &bob, "bob/app", "late", &pushed).await;
    answer.is(201);
}

/// Whoever came without credentials before there were accounts stores nothing once there are some.
#[tokio::test]
async fn what_began_before_the_first_account_is_not_finished_without_one() {
    let server = settings().start().await;
    push_image(&server, NOBODY, "old/app", "a", &image(1)).await;
    let session = begin(&server, NOBODY, "old/app").await;
    let content = noise(5_000, 7);
    let raw = begin_closing(&server, &session, (NOBODY, NOBODY), &content).await;
    bootstrap(&server).await;
    challenge(&end_request(raw, &content).await);
    let blob = format!("/v2/old/app/blobs/{}", sha256(&content));
    let read = server.get(&blob).by(&basic("alice")).await;
    read.refused(404, "BLOB_UNKNOWN");
}
