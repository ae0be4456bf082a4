//! Every operation of the API, asked for by whoever may not: a route that is not listed here fails.

use std::collections::BTreeSet;

use bytes::Bytes;
use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    accounts::{
        Mint, NOBODY, api_token, basic, basic_with, bearer, begin, challenge, jwt, publish,
        push_blob, push_image, settings, with_accounts,
    },
    harness::{Answer, INDEX, Request, TestServer, image, index, noise, sha256, texts},
    office_permissions::OFFICES,
};

const DOCUMENT: &str = include_str!("../../openapi/registry.json");

/// Who may pass, and what others see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Door {
    /// Whoever proves who he is.
    Known,
    /// Who may read in the repository; to others it is not there.
    Reading,
    /// The same, but where there is nothing the list is empty.
    Listing,
    /// Who may change the repository.
    Writing,
}

use Door::{Known, Listing, Reading, Writing};

/// Operations of `/v2/`, and the status for who may.
const GUARDED: &[(&str, Door, u16)] = &[
    ("GET /v2/", Known, 200),
    ("GET /v2/_catalog", Known, 200),
    ("GET /v2/_oci/ext/discover", Known, 200),
    ("GET /v2/{name}/tags/list", Reading, 200),
    ("GET /v2/{name}/referrers/{digest}", Listing, 200),
    ("GET /v2/{name}/manifests/{reference}", Reading, 200),
    ("HEAD /v2/{name}/manifests/{reference}", Reading, 200),
    ("PUT /v2/{name}/manifests/{reference}", Writing, 201),
    ("DELETE /v2/{name}/manifests/{reference}", Writing, 202),
    ("GET /v2/{name}/blobs/{digest}", Reading, 200),
    ("HEAD /v2/{name}/blobs/{digest}", Reading, 200),
    ("DELETE /v2/{name}/blobs/{digest}", Writing, 202),
    ("POST /v2/{name}/blobs/uploads/", Writing, 202),
    ("GET /v2/{name}/blobs/uploads/{session}", Writing, 204),
    ("PATCH /v2/{name}/blobs/uploads/{session}", Writing, 202),
    ("PUT /v2/{name}/blobs/uploads/{session}", Writing, 201),
    ("DELETE /v2/{name}/blobs/uploads/{session}", Writing, 204),
];

/// The same of what the document does not name: HEAD beside GET, and the extensions of a repository.
const UNNAMED: &[(&str, Door, u16)] = &[
    ("HEAD /v2/", Known, 200),
    ("HEAD /v2/_catalog", Known, 200),
    ("HEAD /v2/_oci/ext/discover", Known, 200),
    ("GET /v2/{name}/_oci/ext/discover", Reading, 200),
    ("HEAD /v2/{name}/_oci/ext/discover", Reading, 200),
    ("HEAD /v2/{name}/tags/list", Reading, 200),
    ("HEAD /v2/{name}/referrers/{digest}", Listing, 200),
    ("HEAD /v2/{name}/blobs/uploads/{session}", Writing, 204),
];

/// Operations for everybody, and the status for: nobody in particular, a wrong password, a forged token, a narrow token, a
/// stranger, and a user.
const OPEN: &[(&str, [u16; 6])] = &[
    ("GET /health/live", [200; 6]),
    ("GET /health/ready", [200; 6]),
    ("GET /metrics", [200; 6]),
    ("GET /.well-known/jwks.json", [200; 6]),
    // It is where credentials are looked at; a token is not made from another.
    ("GET /auth/token", [401, 401, 401, 401, 200, 200]),
    // Here they are in the form, and there is none.
    ("POST /auth/token", [400; 6]),
    // Nobody is logged in here by a header; and this server has no provider.
    ("GET /auth/providers", [200; 6]),
    ("GET /auth/login/{provider}", [404; 6]),
    ("GET /auth/callback/{provider}", [404; 6]),
    ("GET /auth/session", [401; 6]),
    ("POST /auth/session", [415; 6]),
    ("POST /auth/logout", [401; 6]),
];

const METHODS: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];

/// The operations of the document, such as `GET /v2/`.
fn documented() -> BTreeSet<String> {
    let document: Value = serde_json::from_str(DOCUMENT).unwrap();
    let paths = document["paths"].as_object().expect("paths");
    let mut operations = BTreeSet::new();
    for (path, methods) in paths {
        for method in methods.as_object().expect("methods").keys() {
            let method = method.to_uppercase();
            assert!(METHODS.contains(&&*method), "{method} {path}");
            operations.insert(format!("{method} {path}"));
        }
    }
    operations
}

#[test]
fn every_operation_is_listed() {
    let guarded = GUARDED.iter().map(|(operation, ..)| operation);
    let open = OPEN.iter().map(|(operation, _)| operation);
    let offices = OFFICES.iter().map(|row| &row.operation);
    let all = guarded.chain(open).chain(offices);
    let listed: Vec<String> = all.map(|text| (*text).to_owned()).collect();
    let as_set: BTreeSet<String> = listed.iter().cloned().collect();
    assert_eq!(as_set.len(), listed.len(), "an operation is listed twice");
    assert_eq!(as_set, documented());
    for (operation, ..) in UNNAMED {
        assert!(!as_set.contains(*operation), "{operation} has a name");
    }
}

/// What there is in bob/app for one operation.
struct Place {
    tag: String,
    digest: String,
    session: String,
    /// A manifest that is not there, and could be.
    manifest: Bytes,
}

const CHUNK: &str = "the last chunk";

impl Place {
    async fn furnished(server: &TestServer, seed: u64) -> Self {
        let (bob, pushed) = (basic("bob"), image(seed));
        let tag = format!("v{seed}");
        push_image(server, &bob, "bob/app", &tag, &pushed).await;
        let loose = noise(300, 1_000 + seed);
        let digest = push_blob(server, &bob, "bob/app", &loose).await;
        let location = begin(server, &bob, "bob/app").await;
        let session = location.rsplit('/').next().unwrap().to_owned();
        Self {
            tag,
            digest,
            session,
            manifest: index(&[pushed.descriptor()]),
        }
    }

    /// The operation on what is here, or would be if the repository were this one.
    fn request(&self, server: &TestServer, operation: &str, repository: &str) -> Request {
        let (method, path) = operation.split_once(' ').expect("a method");
        let path = path
            .replace("{name}", repository)
            .replace("{reference}", &self.tag)
            .replace("{digest}", &self.digest)
            .replace("{session}", &self.session);
        let closing = format!("{path}?digest={}", sha256(CHUNK.as_bytes()));
        match operation {
            "PATCH /v2/{name}/blobs/uploads/{session}" => server.patch(&path).body(CHUNK),
            "PUT /v2/{name}/blobs/uploads/{session}" => server.put(&closing).body(CHUNK),
            "PUT /v2/{name}/manifests/{reference}" => {
                server.put_manifest(repository, &self.tag, INDEX, &self.manifest)
            }
            _ => server.request(method.parse().unwrap(), &path),
        }
    }

    /// What bob sees here.
    async fn seen(&self, server: &TestServer) -> Vec<String> {
        let mut seen = Vec::new();
        for path in [
            "tags/list".to_owned(),
            format!("manifests/{}", self.tag),
            format!("manifests/{}", sha256(&self.manifest)),
            format!("blobs/{}", self.digest),
            format!("blobs/{}", sha256(CHUNK.as_bytes())),
            format!("blobs/uploads/{}", self.session),
        ] {
            let path = format!("/v2/bob/app/{path}");
            let answer = server.get(&path).by(&basic("bob")).await;
            let (status, range) = (answer.status, answer.find_header("range"));
            seen.push(format!("{path}: {status} {range:?} {:?}", answer.body));
        }
        seen
    }
}

/// Everything of an answer that a client can compare, with the repository's name taken out.
fn shown(answer: &Answer, repository: &str) -> Vec<String> {
    let mut shown = vec![
        answer.status.to_string(),
        String::from_utf8_lossy(&answer.body).into_owned(),
    ];
    for (name, value) in &answer.headers {
        if !["date", "x-request-id"].contains(&name.as_str()) {
            let value = String::from_utf8_lossy(value.as_bytes());
            shown.push(format!("{name}: {value}"));
        }
    }
    shown.sort();
    shown
        .iter()
        .map(|line| line.replace(repository, "NAME"))
        .collect()
}

/// Who asks.
struct Cast {
    /// Whom nobody knows.
    unknown: Vec<String>,
    /// A good token, but for another repository.
    elsewhere: String,
    /// A good token that only reads.
    reading: String,
}

impl Cast {
    async fn of(server: &mut TestServer) -> Self {
        let mint = Mint::open(server, "bob/app").await;
        let elsewhere = ["read,write,update,delete:bob/lib"];
        let elsewhere = api_token(server, "bob", &elsewhere).await.bearer();
        let reading = api_token(server, "bob", &["read:bob/app"]).await.bearer();
        Self {
            unknown: vec![
                NOBODY.to_owned(),
                basic_with("bob", "a-wrong-password"),
                bearer("nonsense"),
                bearer(&mint.expired()),
                bearer(&mint.strange()),
                bearer(&mint.unsigned()),
            ],
            elsewhere,
            reading,
        }
    }

    /// Who is known and may not pass, and repositories that are not there and must look the same to them.
    fn known(&self, door: Door) -> Vec<(String, &'static [&'static str])> {
        let mut known = vec![(basic("carol"), MISSING)];
        let mut tokens = vec![&self.elsewhere];
        tokens.extend((door == Writing).then_some(&self.reading));
        // What of bob's own a narrow token sees is asked below.
        known.extend(
            tokens
                .into_iter()
                .map(|token| (token.clone(), &MISSING[1..])),
        );
        known
    }
}

/// One in bob's namespace and one in nobody's, with names as long as that of the one that is there.
const MISSING: &[&str] = &["bob/nil", "eve/app"];

/// What somebody is told who is known and may not pass.
#[track_caller]
fn assert_turned_away(answer: &Answer, door: Door, is_head: bool) {
    let (status, code) = match door {
        Known | Listing => (200, None),
        Reading => (404, Some("NAME_UNKNOWN")),
        Writing => (403, Some("DENIED")),
    };
    assert_eq!(answer.status, status, "{answer:?}");
    assert_eq!(answer.find_header("www-authenticate"), None, "{answer:?}");
    if is_head {
        return;
    }
    if let Some(code) = code {
        answer.refused(status, code);
    }
    if door == Listing {
        let empty = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": []});
        assert_eq!(answer.json(), empty);
    }
}

/// One row: refused to all others, alike whether the repository is there or not; nothing changes; and bob may.
async fn check(server: &TestServer, cast: &Cast, row: (&str, Door, u16), seed: u64) {
    let (operation, door, served) = row;
    let is_head = operation.starts_with("HEAD");
    let place = Place::furnished(server, seed).await;
    let before = place.seen(server).await;
    let unknown = cast.unknown.iter().map(|by| (by.clone(), MISSING, false));
    let known = cast.known(door).into_iter();
    let known = known.map(|(by, missing)| (by, missing, true));
    for (by, missing, is_known) in unknown.chain(known) {
        let asks = |repository| place.request(server, operation, repository).by(&by);
        let answer = asks("bob/app").await;
        if is_known {
            assert_turned_away(&answer, door, is_head);
        } else {
            challenge(&answer);
        }
        for &repository in missing {
            let other = asks(repository).await;
            let (here, there) = (shown(&answer, "bob/app"), shown(&other, repository));
            assert_eq!(here, there, "{operation} by {by}");
        }
    }
    assert_eq!(place.seen(server).await, before, "{operation}");
    let request = place.request(server, operation, "bob/app");
    request.by(&basic("bob")).await.is(served);
}

#[tokio::test]
async fn nobody_gets_through_a_door_that_is_not_his() {
    let mut server = with_accounts(settings()).await;
    let cast = Cast::of(&mut server).await;
    for (seed, row) in (0..).zip(GUARDED.iter().chain(UNNAMED)) {
        check(&server, &cast, *row, seed).await;
    }
}

#[tokio::test]
async fn what_is_for_everybody_is_for_everybody() {
    let mut server = with_accounts(settings()).await;
    let cast = Cast::of(&mut server).await;
    let forged = cast.unknown.last().expect("a token").clone();
    let wrong = basic_with("bob", "a-wrong-password");
    let shown = [
        NOBODY.to_owned(),
        wrong,
        forged,
        cast.elsewhere,
        basic("carol"),
        basic("bob"),
    ];
    for (operation, statuses) in OPEN {
        let (method, path) = operation.split_once(' ').expect("a method");
        for (by, status) in shown.iter().zip(statuses) {
            let method: Method = method.parse().unwrap();
            let answer = server.request(method, path).by(by).await;
            assert_eq!(answer.status, *status, "{answer:?}");
            assert_eq!(answer.find_header("www-authenticate"), None, "{answer:?}");
        }
    }
}

/// Nothing is behind a method that an endpoint lacks, for whomever.
#[tokio::test]
async fn a_method_that_an_endpoint_lacks_does_nothing() {
    let server = with_accounts(settings()).await;
    let place = Place::furnished(&server, 1).await;
    let before = place.seen(&server).await;
    let here: Vec<&str> = GUARDED
        .iter()
        .chain(UNNAMED)
        .map(|(operation, ..)| *operation)
        .collect();
    let paths: BTreeSet<&str> = here
        .iter()
        .filter_map(|operation| Some(operation.split_once(' ')?.1))
        .collect();
    let mut lacking = 0;
    for path in paths {
        for method in METHODS {
            let operation = format!("{method} {path}");
            if here.contains(&operation.as_str()) {
                continue;
            }
            lacking += 1;
            let asks = |by: &str| place.request(&server, &operation, "bob/app").by(by);
            challenge(&asks(&basic_with("bob", "a-wrong-password")).await);
            for by in [NOBODY, &basic("bob"), &basic("carol")] {
                let answer = asks(by).await.is(405);
                let allowed = answer.header("allow").split(", ");
                let allowed: Vec<String> = allowed.map(|other| format!("{other} {path}")).collect();
                let expected = here
                    .iter()
                    .filter(|other| other.ends_with(&format!(" {path}")));
                let expected: BTreeSet<&str> = expected.copied().collect();
                assert_eq!(
                    allowed.iter().map(String::as_str).collect::<BTreeSet<_>>(),
                    expected
                );
            }
        }
    }
    assert!(lacking > 20, "{lacking}");
    assert_eq!(place.seen(&server).await, before);
}

/// A token that is narrowed to one repository is not to ask around which others there are.
#[tokio::test]
async fn a_narrow_token_learns_of_no_other_repository() {
    let server = with_accounts(settings()).await;
    let place = Place::furnished(&server, 1).await;
    let scopes = ["read,write,update,delete:bob/lib"];
    let narrow = api_token(&server, "bob", &scopes).await.bearer();
    for (operation, ..) in GUARDED.iter().chain(UNNAMED) {
        let asks = |repository| place.request(&server, operation, repository).by(&narrow);
        let (here, there) = (asks("bob/app").await, asks("bob/nil").await);
        let (here, there) = (shown(&here, "bob/app"), shown(&there, "bob/nil"));
        assert_eq!(here, there, "{operation}");
    }
}

#[tokio::test]
async fn there_is_nothing_beside_the_api() {
    let server = with_accounts(settings()).await;
    push_image(&server, &basic("bob"), "bob/app", "a", &image(1)).await;
    for path in [
        "/",
        "/v2/bob/app",
        "/v2/bob/app/manifests",
        "/v2/bob/app/unknown/a",
        "/v2x/bob/app/tags/list",
        "/v1/bob/app/tags/list",
        "/auth",
        "/auth/token/bob",
        "/.well-known/openid-configuration",
        "/.well-known/jwks.json/x",
        "/health",
        "/auth.key",
        "/granary.db",
    ] {
        for by in [NOBODY, &basic("bob")] {
            for method in [Method::GET, Method::PUT] {
                let answer = server.request(method, path).by(by).await;
                answer.refused(404, "UNSUPPORTED");
            }
        }
    }
}

#[tokio::test]
async fn the_catalog_lists_what_one_may_read() {
    let server = with_accounts(settings().env("GRANARY_AUTH__ANONYMOUS", "read")).await;
    for user in ["alice", "bob", "carol"] {
        for name in ["app", "lib", "open"] {
            let repository = format!("{user}/{name}");
            push_image(&server, &basic(user), &repository, "a", &image(1)).await;
        }
        publish(&server, &format!("{user}/open")).await;
    }
    let scopes = ["read:bob/app", "write:bob/lib", "read:alice/**"];
    let narrow = api_token(&server, "bob", &scopes).await;
    // Tokens of the token service: what a client gets to list with, what one gets that logs in, and those for repositories.
    let to_list = jwt(&server, &basic("bob"), &["registry:catalog:*"]).await;
    let to_log_in = jwt(&server, &basic("bob"), &[]).await;
    let scopes =
        ["app:pull", "lib:push", "none:pull"].map(|scope| format!("repository:bob/{scope}"));
    let scopes: Vec<&str> = scopes.iter().map(String::as_str).collect();
    let to_pull = jwt(&server, &basic("bob"), &scopes).await;
    let both = ["registry:catalog:*", "repository:carol/open:pull"];
    let both = jwt(&server, &basic("bob"), &both).await;
    let of_narrow = ["repository:alice/open:pull", "repository:bob/lib:push"];
    let of_narrow = jwt(&server, &basic_with("bob", &narrow.text), &of_narrow).await;
    let public = ["alice/open", "bob/open", "carol/open"];
    let of_bob = ["alice/open", "bob/app", "bob/lib", "bob/open", "carol/open"];
    let of_all = [
        "alice/app",
        "alice/lib",
        "alice/open",
        "bob/app",
        "bob/lib",
        "bob/open",
        "carol/app",
        "carol/lib",
        "carol/open",
    ];
    let cases: [(String, &[&str]); 9] = [
        (NOBODY.to_owned(), &public),
        (basic("bob"), &of_bob),
        (basic("alice"), &of_all),
        (narrow.bearer(), &["alice/open", "bob/app"]),
        (bearer(&to_list), &of_bob),
        (bearer(&to_log_in), &of_bob),
        (bearer(&to_pull), &["bob/app"]),
        (bearer(&both), &["carol/open"]),
        (bearer(&of_narrow), &["alice/open"]),
    ];
    for (by, expected) in &cases {
        let list = server.get("/v2/_catalog").by(by).await.is(200).json();
        assert_eq!(texts(&list["repositories"]), *expected, "{by}");
        // Pages are full though most names are somebody else's.
        for size in 1..4 {
            let mut pages = Vec::new();
            let mut next = Some(format!("/v2/_catalog?n={size}"));
            while let Some(path) = next {
                let answer = server.get(&path).by(by).await.is(200);
                pages.push(texts(&answer.json()["repositories"]));
                next = answer.next_page();
            }
            let expected: Vec<_> = expected.chunks(size).collect();
            assert_eq!(pages, expected, "{by}");
        }
    }
}
