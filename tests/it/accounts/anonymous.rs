//! What those get who show no credentials, as `auth.anonymous` says (decision 23, row 13).

use serde_json::json;

use super::{
    NOBODY, ask, basic, basic_with, bearer, begin, challenge, claims, entry, publish, push_blob,
    push_image, put_image, settings, tags, text, with_accounts,
};
use crate::harness::{IMAGE, Request, TestServer, image, sha256, texts};

/// A server with this setting and two images of bob's: everybody sees that in `bob/open`.
async fn open(anonymous: &str) -> TestServer {
    let builder = settings().env("GRANARY_AUTH__ANONYMOUS", anonymous);
    let server = with_accounts(builder).await;
    for repository in ["bob/open", "bob/app"] {
        push_image(&server, &basic("bob"), repository, "a", &image(1)).await;
    }
    publish(&server, "bob/open").await;
    server
}

/// Every way to read from a repository.
fn reads(server: &TestServer, repository: &str) -> Vec<Request> {
    let (image, base) = (image(1), format!("/v2/{repository}"));
    let manifest = format!("{base}/manifests/{}", image.digest());
    let blob = format!("{base}/blobs/{}", sha256(&image.layer));
    vec![
        server.get(&format!("{base}/tags/list")),
        server.get(&format!("{base}/manifests/a")),
        server.get(&manifest),
        server.head(&manifest),
        server.get(&blob),
        server.head(&blob),
        server.get(&format!("{base}/referrers/{}", image.digest())),
        server.get(&format!("{base}/_oci/ext/discover")),
    ]
}

/// Every way to change one.
fn writes(server: &TestServer, repository: &str) -> Vec<Request> {
    let (image, base) = (image(1), format!("/v2/{repository}"));
    let blob = sha256(&image.layer);
    vec![
        server.post(&format!("{base}/blobs/uploads/")),
        server.post(&format!("{base}/blobs/uploads/?mount={blob}")),
        server
            .post(&format!("{base}/blobs/uploads/?digest={}", sha256(b"x")))
            .body("x"),
        server.put_manifest(repository, "b", IMAGE, &image.manifest),
    ]
}

fn deletes(server: &TestServer, repository: &str) -> Vec<Request> {
    let (image, base) = (image(1), format!("/v2/{repository}"));
    vec![
        server.delete(&format!("{base}/manifests/a")),
        server.delete(&format!("{base}/manifests/{}", image.digest())),
        server.delete(&format!("{base}/blobs/{}", sha256(&image.layer))),
    ]
}

fn by_all(credentials: &str, requests: Vec<Request>) -> Vec<Request> {
    let requests = requests.into_iter();
    requests.map(|request| request.by(credentials)).collect()
}

async fn assert_asked(requests: impl IntoIterator<Item = Request>) {
    for request in requests {
        challenge(&request.await);
    }
}

#[tokio::test]
async fn where_nothing_is_open_public_is_for_users() {
    let server = open("none").await;
    for repository in ["bob/open", "bob/app", "bob/none"] {
        assert_asked(reads(&server, repository)).await;
        assert_asked(writes(&server, repository)).await;
        assert_asked(deletes(&server, repository)).await;
    }
    assert_asked([server.get("/v2/"), server.get("/v2/_catalog")]).await;
    let scope = "scope=repository:bob/open:pull";
    let answer = ask(&server, NOBODY, scope).await;
    answer.refused(401, "UNAUTHORIZED");
    for request in reads(&server, "bob/open") {
        request.by(&basic("carol")).await.is(200);
    }
}

#[tokio::test]
async fn what_is_public_can_be_read_without_credentials() {
    let server = open("read").await;
    for request in reads(&server, "bob/open") {
        request.await.is(200);
    }
    for repository in ["bob/app", "bob/none", "dave/app"] {
        assert_asked(reads(&server, repository)).await;
    }
    for repository in ["bob/open", "bob/app", "bob/none"] {
        assert_asked(writes(&server, repository)).await;
        assert_asked(deletes(&server, repository)).await;
    }
    // Clients show what they have only to who asks here.
    challenge(&server.get("/v2/").await);
    let list = server.get("/v2/_catalog").await.is(200).json();
    assert_eq!(texts(&list["repositories"]), ["bob/open"]);
    // What is wrong is no better than nothing, it is worse.
    for by in [basic_with("bob", "a-wrong-password"), bearer("nonsense")] {
        assert_asked(by_all(&by, reads(&server, "bob/open"))).await;
    }
    // Users see it too, and no more.
    let carol = basic("carol");
    for request in reads(&server, "bob/open") {
        request.by(&carol).await.is(200);
    }
    let changes = writes(&server, "bob/open").into_iter();
    for request in changes.chain(deletes(&server, "bob/open")) {
        let detail = request.by(&carol).await.refused(403, "DENIED");
        let expected = json!({"repository": "bob/open", "reason": "not-granted"});
        assert_eq!(detail, expected);
    }
    assert_eq!(tags(&server, &basic("bob"), "bob/open").await, ["a"]);

    let arguments = ["admin", "visibility", "bob/open", "private", "--json"];
    let set = server.run(&arguments).await.exits(0).json();
    let expected =
        json!({"done": "visibility-set", "repository": "bob/open", "visibility": "private"});
    assert_eq!(set, expected);
    assert_asked(reads(&server, "bob/open")).await;
}

#[tokio::test]
async fn nobody_in_particular_gets_a_token_for_what_is_public() {
    let server = open("read").await;
    let scopes = "scope=repository:bob/open:pull,push&scope=repository:bob/app:pull";
    let query = format!("service=granary&offline_token=true&{scopes}");
    let issued = ask(&server, NOBODY, &query).await.is(200).json();
    assert_eq!(issued.get("refresh_token"), None);
    let token = text(&issued["token"]);
    let says = claims(&token);
    assert_eq!(says["sub"], "");
    assert_eq!(says["access"], json!([entry("bob/open", &["pull"])]));
    let by = bearer(&token);
    for request in by_all(&by, reads(&server, "bob/open")) {
        request.await.is(200);
    }
    assert_asked(by_all(&by, reads(&server, "bob/app"))).await;
    assert_asked(by_all(&by, writes(&server, "bob/open"))).await;
    assert_asked(by_all(&by, deletes(&server, "bob/open"))).await;
    // Wrong credentials are not nobody's.
    let by = basic_with("bob", "a-wrong-password");
    let answer = ask(&server, &by, &query).await;
    answer.refused(401, "UNAUTHORIZED");
}

#[tokio::test]
async fn what_is_public_can_be_pushed_to_if_the_operator_wants_it() {
    let server = open("write").await;
    for request in reads(&server, "bob/open") {
        request.await.is(200);
    }
    for repository in ["bob/app", "bob/none", "dave/app", "alpine"] {
        assert_asked(reads(&server, repository)).await;
        assert_asked(writes(&server, repository)).await;
    }
    for repository in ["bob/open", "bob/app"] {
        assert_asked(deletes(&server, repository)).await;
    }
    challenge(&server.get("/v2/").await);
    let other = image(2);
    push_image(&server, NOBODY, "bob/open", "b", &other).await;
    put_image(&server, NOBODY, "bob/open", "a", &other)
        .await
        .is(201);
    assert_eq!(tags(&server, NOBODY, "bob/open").await, ["a", "b"]);
    // From what is private nothing is mounted.
    let private = push_blob(&server, &basic("bob"), "bob/app", b"private").await;
    for from in ["", "&from=bob/app"] {
        let path = format!("/v2/bob/open/blobs/uploads/?mount={private}{from}");
        server.post(&path).await.is(202);
    }
    let blob = format!("/v2/bob/open/blobs/{private}");
    server.get(&blob).await.refused(404, "BLOB_UNKNOWN");
    // A session without a name is not bob's.
    let session = begin(&server, NOBODY, "bob/open").await;
    let answer = server.patch(&session).by(&basic("bob")).body("x").await;
    answer.refused(404, "BLOB_UPLOAD_UNKNOWN");
    server.patch(&session).body("x").await.is(202);
    let closing = format!("{session}?digest={}", sha256(b"x"));
    server.put(&closing).await.is(201);

    let scope = "scope=repository:bob/open:*&scope=repository:bob/app:*";
    let issued = ask(&server, NOBODY, scope).await.is(200).json();
    let token = text(&issued["token"]);
    let granted = entry("bob/open", &["pull", "push"]);
    assert_eq!(claims(&token)["access"], json!([granted]));
    push_image(&server, &bearer(&token), "bob/open", "c", &image(3)).await;
}
