//! Every operation of `/api/v1`, asked for by whoever may not. The test that all operations of the document are listed stands
//! in `permissions.rs`, and counts those here.

use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    accounts::{
        Mint, NOBODY, api_token, basic, basic_with, bearer, password, push_image, settings,
        with_accounts,
    },
    harness::{Answer, Request, TestServer, image},
};

/// Who may pass, and what others see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Office {
    /// Whoever has good credentials, for himself.
    Oneself,
    /// Everybody, for himself.
    Own,
    /// Who administers the installation; others are told that they may not.
    Installation,
    /// Who looks after what the operation is about; to others it is not there.
    Theirs,
}

use Office::{Installation, Oneself, Own, Theirs};

/// An operation, who may, its body, and the status for who may. `{id}` is the number of what [`prepare`] makes for it.
pub(crate) struct Row {
    pub(crate) operation: &'static str,
    office: Office,
    body: fn() -> Value,
    served: u16,
}

const fn row(operation: &'static str, office: Office, body: fn() -> Value, served: u16) -> Row {
    Row {
        operation,
        office,
        body,
        served,
    }
}

fn none() -> Value {
    Value::Null
}

/// Bob owns the organisation `acme`, the namespace `bob` and the repository `bob/app`, and looks after no installation; that alice does.
pub(crate) const OFFICES: &[Row] = &[
    row("GET /api/v1/me", Oneself, none, 200),
    row(
        "PUT /api/v1/me/password",
        Own,
        || json!({"current": password("bob"), "new": password("bob")}),
        204,
    ),
    row("GET /api/v1/tokens", Own, none, 200),
    row("POST /api/v1/tokens", Own, || json!({"name": "t"}), 201),
    row(
        "POST /api/v1/tokens/{id}/rotate",
        Own,
        || json!({"overlap": 60}),
        201,
    ),
    row("DELETE /api/v1/tokens/{id}", Own, none, 204),
    row("GET /api/v1/orgs", Own, none, 200),
    row(
        "POST /api/v1/orgs",
        Installation,
        || json!({"organisation": "beta", "owner": "carol"}),
        201,
    ),
    row("GET /api/v1/orgs/{org}", Theirs, none, 200),
    row(
        "PATCH /api/v1/orgs/{org}",
        Theirs,
        || json!({"addresses": null}),
        204,
    ),
    row("GET /api/v1/orgs/{org}/members", Theirs, none, 200),
    row(
        "PUT /api/v1/orgs/{org}/members/{member}",
        Theirs,
        || json!({"role": "write"}),
        204,
    ),
    row(
        "POST /api/v1/orgs/{org}/teams",
        Theirs,
        || json!({"team": "core"}),
        201,
    ),
    row("GET /api/v1/orgs/{org}/teams", Theirs, none, 200),
    row("GET /api/v1/orgs/{org}/teams/{team}", Theirs, none, 200),
    row(
        "PUT /api/v1/orgs/{org}/teams/{team}/members/{member}",
        Theirs,
        || json!({"role": "maintainer"}),
        204,
    ),
    row(
        "GET /api/v1/orgs/{org}/teams/{team}/members",
        Theirs,
        none,
        200,
    ),
    row(
        "DELETE /api/v1/orgs/{org}/teams/{team}/members/{member}",
        Theirs,
        none,
        204,
    ),
    row("DELETE /api/v1/orgs/{org}/teams/{team}", Theirs, none, 204),
    row(
        "DELETE /api/v1/orgs/{org}/members/{member}",
        Theirs,
        none,
        204,
    ),
    row(
        "POST /api/v1/owners/{owner}/robots",
        Theirs,
        || json!({"robot": "ci"}),
        201,
    ),
    row("GET /api/v1/owners/{owner}/robots", Theirs, none, 200),
    row(
        "POST /api/v1/owners/{owner}/robots/{robot}/tokens",
        Theirs,
        || json!({"name": "t", "addresses": ["10.0.0.0/8"]}),
        201,
    ),
    row(
        "GET /api/v1/owners/{owner}/robots/{robot}/tokens",
        Theirs,
        none,
        200,
    ),
    row(
        "PATCH /api/v1/owners/{owner}/robots/{robot}",
        Theirs,
        || json!({"addresses": null}),
        204,
    ),
    row(
        "POST /api/v1/owners/{owner}/robots/{robot}/tokens/{id}/rotate",
        Theirs,
        || json!({"overlap": 60}),
        201,
    ),
    row(
        "DELETE /api/v1/owners/{owner}/robots/{robot}/tokens/{id}",
        Theirs,
        none,
        204,
    ),
    row("GET /api/v1/issuers", Installation, none, 200),
    row("POST /api/v1/issuers", Installation, || issuer(ISSUER), 201),
    row(
        "PATCH /api/v1/issuers/{id}",
        Installation,
        || json!({"audience": null, "jwks": issuer(ISSUER)["jwks"]}),
        200,
    ),
    row("DELETE /api/v1/issuers/{id}", Installation, none, 204),
    row(
        "POST /api/v1/owners/{owner}/publishers",
        Theirs,
        publisher,
        201,
    ),
    row("GET /api/v1/owners/{owner}/publishers", Theirs, none, 200),
    row(
        "DELETE /api/v1/owners/{owner}/publishers/{id}",
        Theirs,
        none,
        204,
    ),
    row(
        "DELETE /api/v1/owners/{owner}/robots/{robot}",
        Theirs,
        none,
        204,
    ),
    row("DELETE /api/v1/orgs/{org}", Theirs, none, 204),
    row("GET /api/v1/users", Installation, none, 200),
    row(
        "POST /api/v1/users",
        Installation,
        || json!({"user": "erin", "password": password("erin")}),
        201,
    ),
    row(
        "PATCH /api/v1/users/{user}",
        Installation,
        || json!({"active": true, "addresses": null}),
        204,
    ),
    row(
        "PUT /api/v1/users/{user}/password",
        Installation,
        || json!({"password": password("dave")}),
        204,
    ),
    row("GET /api/v1/users/{user}/tokens", Installation, none, 200),
    row(
        "POST /api/v1/users/{user}/tokens",
        Installation,
        || json!({"name": "t"}),
        201,
    ),
    row(
        "DELETE /api/v1/users/{user}/tokens/{id}",
        Installation,
        none,
        204,
    ),
    row("DELETE /api/v1/users/{user}", Installation, none, 204),
    row("GET /api/v1/namespaces/{namespace}", Theirs, none, 200),
    row(
        "PATCH /api/v1/namespaces/{namespace}",
        Theirs,
        || json!({"create_by": "writers"}),
        200,
    ),
    row(
        "GET /api/v1/namespaces/{namespace}/grants",
        Theirs,
        none,
        200,
    ),
    row(
        "POST /api/v1/grants",
        Theirs,
        || json!({"to": "carol", "verbs": ["read"], "repositories": "bob/lib/**"}),
        201,
    ),
    row("DELETE /api/v1/grants/{id}", Theirs, none, 204),
    row(
        "PATCH /api/v1/repositories/{name}",
        Theirs,
        || json!({"visibility": "private"}),
        204,
    ),
    // This server has no provider: who may is told so.
    row(
        "GET /api/v1/providers/{provider}/mappings",
        Installation,
        none,
        404,
    ),
    row(
        "POST /api/v1/providers/{provider}/mappings",
        Installation,
        || json!({"group": "engineers", "to": "acme", "role": "write"}),
        404,
    ),
    row(
        "DELETE /api/v1/providers/{provider}/mappings/{id}",
        Installation,
        none,
        404,
    ),
    row("GET /api/v1/audit", Installation, none, 200),
    row("GET /api/v1/audit/export", Installation, none, 200),
    row("GET /api/v1/audit/keys", Installation, none, 200),
    row("DELETE /api/v1/repositories/{name}", Theirs, none, 204),
];

const ISSUER: &str = "https://issuer.example";

/// An issuer whose keys are given (that of RFC 7517, A.1), so that nobody is asked.
fn issuer(url: &str) -> Value {
    let key = json!({
        "kty": "EC", "crv": "P-256", "kid": "1", "x": "MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4",
        "y": "4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM",
    });
    json!({"issuer": url, "jwks": json!({ "keys": [key] }).to_string()})
}

fn publisher() -> Value {
    json!({"robot": "ci", "issuer": ISSUER, "claims": {"sub": "job"}})
}

/// Makes what an operation is about, and says its number.
async fn prepare(server: &TestServer, operation: &str) -> i64 {
    match operation {
        "DELETE /api/v1/tokens/{id}" | "POST /api/v1/tokens/{id}/rotate" => {
            api_token(server, "bob", &[]).await.id
        }
        "DELETE /api/v1/owners/{owner}/robots/{robot}/tokens/{id}"
        | "POST /api/v1/owners/{owner}/robots/{robot}/tokens/{id}/rotate" => {
            let made = asked(
                server.post("/api/v1/owners/acme/robots/ci/tokens"),
                &json!({"name": "t"}),
            );
            let made = made.by(&basic("bob")).await.is(201).json();
            made["data"]["id"].as_i64().expect("a number")
        }
        "PATCH /api/v1/issuers/{id}" | "DELETE /api/v1/issuers/{id}" => {
            let body = issuer(&format!("https://{}.example", operation.len()));
            let made = asked(server.post("/api/v1/issuers"), &body).by(&basic("alice"));
            let made = made.await.is(201).json();
            made["data"]["id"].as_i64().expect("a number")
        }
        "DELETE /api/v1/owners/{owner}/publishers/{id}" => {
            let path = "/api/v1/owners/acme/publishers";
            let made = asked(server.post(path), &publisher()).by(&basic("bob"));
            let made = made.await.is(201).json();
            made["data"]["id"].as_i64().expect("a number")
        }
        "DELETE /api/v1/users/{user}/tokens/{id}" => api_token(server, "dave", &[]).await.id,
        "DELETE /api/v1/grants/{id}" => {
            let body = json!({"to": "carol", "verbs": ["read"], "repositories": "bob/elsewhere"});
            let made = asked(server.post("/api/v1/grants"), &body).by(&basic("bob"));
            let made = made.await.is(201).json();
            made["data"]["id"].as_i64().expect("a number")
        }
        _ => 0,
    }
}

pub(crate) fn asked(request: Request, body: &Value) -> Request {
    match body {
        Value::Null => request,
        body => request
            .header("content-type", "application/json")
            .body(body.to_string()),
    }
}

impl Row {
    fn request(&self, server: &TestServer, id: i64) -> Request {
        let (method, path) = self.operation.split_once(' ').expect("a method");
        let path = path
            .replace("{id}", &id.to_string())
            .replace("{user}", "dave")
            .replace("{org}", "acme")
            .replace("{owner}", "acme")
            .replace("{team}", "core")
            .replace("{member}", "dave")
            .replace("{robot}", "ci")
            .replace("{namespace}", "bob")
            .replace("{provider}", "corp")
            .replace("{name}", "bob/app");
        let method: Method = method.parse().unwrap();
        asked(server.request(method, &path), &(self.body)())
    }

    fn who_may(&self) -> &'static str {
        match self.office {
            Installation => "alice",
            Oneself | Own | Theirs => "bob",
        }
    }
}

/// What the envelope says went wrong.
#[track_caller]
pub(crate) fn assert_refused(answer: &Answer, status: u16, code: &str) {
    assert_eq!(answer.status, status, "{answer:?}");
    let body = answer.json();
    assert_eq!(
        (&body["ok"], &body["error"]["code"]),
        (&json!(false), &json!(code))
    );
    assert_eq!(body["request_id"], answer.header("x-request-id"));
}

#[tokio::test]
async fn nobody_holds_an_office_that_is_not_his() {
    let mut server = with_accounts(settings()).await;
    push_image(&server, &basic("bob"), "bob/app", "v1", &image(1)).await;
    let dave = json!({"user": "dave", "password": password("dave")});
    let making = asked(server.post("/api/v1/users"), &dave).by(&basic("alice"));
    making.await.is(201);
    let acme = json!({"organisation": "acme", "owner": "bob"});
    let making = asked(server.post("/api/v1/orgs"), &acme).by(&basic("alice"));
    making.await.is(201);
    let mint = Mint::open(&mut server, "bob/app").await;
    let unknown = [
        NOBODY.to_owned(),
        basic_with("bob", "a-wrong-password"),
        basic_with("alice", "a-wrong-password"),
        bearer("nonsense"),
        bearer(&mint.expired()),
        bearer(&mint.strange()),
        bearer(&mint.unsigned()),
    ];
    // All that can be done in repositories, and nothing else: no token makes tokens unless it was made to.
    let everywhere = "read,write,update,delete:**";
    let narrow = [
        api_token(&server, "bob", &[everywhere]).await.bearer(),
        api_token(&server, "alice", &[everywhere]).await.bearer(),
    ];
    for row in OFFICES {
        let id = prepare(&server, row.operation).await;
        let asks = |by: &str| row.request(&server, id).by(by);
        for by in &unknown {
            assert_refused(&asks(by).await, 401, "UNAUTHORIZED");
        }
        for by in &narrow {
            let answer = asks(by).await;
            if row.office == Oneself {
                let me = answer.is(200).json();
                assert_eq!(me["data"]["administrator"], Value::Null, "{me}");
                continue;
            }
            assert!(
                [403, 404].contains(&answer.status),
                "{} {answer:?}",
                row.operation
            );
        }
        match row.office {
            Oneself | Own => {}
            Installation => {
                let answer = asks(&basic("carol")).await;
                assert_refused(&answer, 403, "DENIED");
                let message = answer.json()["error"]["message"].to_string();
                assert!(message.contains("only administrators"), "{message}");
            }
            Theirs => assert_refused(&asks(&basic("carol")).await, 404, "NOT_FOUND"),
        }
        let served = asks(&basic(row.who_may())).await;
        assert_eq!(served.status, row.served, "{} {served:?}", row.operation);
    }
}

/// A stranger cannot tell what is there and not his from what is not there.
#[tokio::test]
async fn what_is_hidden_looks_like_what_is_missing() {
    let server = with_accounts(settings()).await;
    push_image(&server, &basic("bob"), "bob/app", "v1", &image(1)).await;
    let acme = json!({"organisation": "acme", "owner": "bob"});
    let making = asked(server.post("/api/v1/orgs"), &acme).by(&basic("alice"));
    making.await.is(201);
    let making = asked(
        server.post("/api/v1/orgs/acme/teams"),
        &json!({"team": "core"}),
    );
    making.by(&basic("bob")).await.is(201);
    let carol = basic("carol");
    let said = async |method: Method, path: &str, body: Value| {
        let answer = asked(server.request(method, path), &body).by(&carol).await;
        let mut said = answer.json();
        said["request_id"] = Value::Null;
        // The name is the one that was asked for.
        let message = said["error"]["message"].as_str().unwrap_or_default();
        let mut parts: Vec<&str> = message.split('\'').collect();
        if let [_, name, _] = &mut parts[..] {
            let place = name.replacen('/', "/teams/", 1);
            let asked = format!("{path} {body}");
            assert!(asked.contains(*name) || asked.contains(&place), "{name}");
            *name = "NAME";
        }
        let message = parts.join("'");
        said["error"]["message"] = message.into();
        (answer.status, said)
    };
    let visibility = json!({"visibility": "public"});
    let grant = |place: &str| json!({"to": "carol", "verbs": ["read"], "repositories": place});
    for (here, there, method, bodies) in [
        (
            "/namespaces/bob",
            "/namespaces/nil",
            Method::GET,
            [Value::Null, Value::Null],
        ),
        (
            "/namespaces/bob/grants",
            "/namespaces/nil/grants",
            Method::GET,
            [Value::Null, Value::Null],
        ),
        (
            "/orgs/acme",
            "/orgs/nil",
            Method::GET,
            [Value::Null, Value::Null],
        ),
        (
            "/orgs/acme/members/bob",
            "/orgs/nil/members/bob",
            Method::DELETE,
            [Value::Null, Value::Null],
        ),
        (
            "/orgs/acme/teams/core",
            "/orgs/acme/teams/nil",
            Method::GET,
            [Value::Null, Value::Null],
        ),
        (
            "/repositories/bob/app",
            "/repositories/bob/nil",
            Method::PATCH,
            [visibility.clone(), visibility],
        ),
        (
            "/grants",
            "/grants",
            Method::POST,
            [grant("bob/app"), grant("nil/app")],
        ),
    ] {
        let [first, second] = bodies;
        let here = said(method.clone(), &format!("/api/v1{here}"), first).await;
        let there = said(method, &format!("/api/v1{there}"), second).await;
        assert_eq!(here.0, 404);
        assert_eq!(here, there);
    }
}

#[tokio::test]
async fn what_cannot_be_read_is_refused_in_the_envelope() {
    let server = with_accounts(settings()).await;
    let bob = basic("bob");
    let json = |body: &str| {
        let request = server.post("/api/v1/tokens").by(&bob);
        request
            .header("content-type", "application/json")
            .body(body.to_owned())
    };
    for body in [
        "",
        "x",
        "[]",
        "{}",
        "{\"name\":\"\"}",
        "{\"name\":\"a\\nb\"}",
        "{\"name\":\"a\",\"scopes\":[]}",
        "{\"name\":\"a\",\"scopes\":[{\"verbs\":[\"fly\"],\"repositories\":\"**\"}]}",
        "{\"name\":\"a\",\"scopes\":[{\"verbs\":[\"read\"],\"repositories\":\"A//b\"}]}",
        "{\"name\":\"a\",\"addresses\":[]}",
        "{\"name\":\"a\",\"addresses\":[\"10.0.0.0/33\"]}",
        "{\"name\":\"a\",\"expires_in\":0}",
        "{\"name\":\"a\",\"expires_in\":99999999999999}",
        "{\"name\":\"a\",\"who\":\"alice\"}",
    ] {
        assert_refused(&json(body).await, 400, "INVALID");
    }
    assert_refused(&json(&" ".repeat(70_000)).await, 413, "TOO_LARGE");
    let plain = server.post("/api/v1/tokens").by(&bob).body("name=a");
    assert_refused(&plain.await, 415, "MEDIA_TYPE");
    let elsewhere = server.get("/api/v1/nothing").by(&bob);
    assert_refused(&elsewhere.await, 404, "NOT_FOUND");
    let wrong = server.delete("/api/v1/tokens").by(&bob).await;
    assert_refused(&wrong, 405, "METHOD_NOT_ALLOWED");
    assert_eq!(wrong.header("allow"), "GET, HEAD, POST");
    for (path, allow) in [
        ("/auth/token", "GET, HEAD, POST"),
        ("/auth/session", "GET, HEAD, POST"),
        ("/.well-known/jwks.json", "GET, HEAD"),
        ("/health/ready", "GET, HEAD"),
        ("/metrics", "GET, HEAD"),
    ] {
        let wrong = server.delete(path).await;
        assert_refused(&wrong, 405, "METHOD_NOT_ALLOWED");
        assert_eq!(wrong.header("allow"), allow, "{path}");
    }
    let hidden = server.get("/api/v1/orgs/nowhere").by(&bob).await;
    assert_refused(&hidden, 404, "NOT_FOUND");
    let said = hidden.json()["error"]["message"].to_string();
    assert!(said.contains("organisation 'nowhere'"), "{said}");
    let query = server.get("/api/v1/users?limit=many").by(&basic("alice"));
    assert_refused(&query.await, 400, "INVALID");
    let tokens = server.get("/api/v1/tokens").by(&bob).await.is(200).json();
    assert_eq!(tokens["data"], json!([]));
}

#[tokio::test]
async fn a_password_is_changed_by_who_knows_it() {
    let server = with_accounts(settings()).await;
    let change = |by: &str, current: &str| {
        let body = json!({"current": current, "new": "quite another password"});
        asked(server.put("/api/v1/me/password"), &body).by(by)
    };
    let token = api_token(&server, "bob", &[]).await;
    let bob = basic("bob");
    assert_refused(&change(&bob, "not this one").await, 403, "DENIED");
    assert_refused(&change(&bob, &token.text).await, 403, "DENIED");
    let kept = server.get("/api/v1/me").by(&bob).await.is(200).json();
    assert_eq!(kept["data"]["user"], "bob");
    change(&token.bearer(), &password("bob")).await.is(204);
    server.get("/api/v1/me").by(&bob).await.is(401);
    let new = basic_with("bob", "quite another password");
    server.get("/api/v1/me").by(&new).await.is(200);
}

#[tokio::test]
async fn lists_come_in_pages() {
    let server = with_accounts(settings()).await;
    let alice = basic("alice");
    let mut path = "/api/v1/users?limit=1".to_owned();
    let mut found = Vec::new();
    loop {
        let page = server.get(&path).by(&alice).await.is(200).json();
        let users = page["data"].as_array().expect("users");
        found.extend(users.iter().map(|user| user["user"].clone()));
        match page["next"].as_str() {
            Some(next) => path = format!("/api/v1/users?limit=1&after={next}"),
            None => break,
        }
    }
    assert_eq!(found, ["alice", "bob", "carol"]);
}
