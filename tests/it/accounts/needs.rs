//! Refusals say what would be needed, to whoever may know of it.

use reqwest::Method;
use serde_json::{Value, json};

use super::{api_token, basic, push_image, settings, with_accounts};
use crate::{
    harness::image,
    office_permissions::{asked, assert_refused},
};

#[tokio::test]
async fn who_may_know_of_it_is_told_what_it_needs() {
    let server = with_accounts(settings()).await;
    push_image(&server, &basic("bob"), "bob/app", "v1", &image(1)).await;
    let acme = json!({"organisation": "acme", "owner": "bob"});
    let making = asked(server.post("/api/v1/orgs"), &acme).by(&basic("alice"));
    making.await.is(201);
    let core = json!({"team": "core"});
    let making = asked(server.post("/api/v1/orgs/acme/teams"), &core).by(&basic("bob"));
    making.await.is(201);
    let member = json!({"role": "member"});
    let setting = asked(server.put("/api/v1/orgs/acme/members/carol"), &member);
    setting.by(&basic("bob")).await.is(204);
    let read = json!({"to": "carol", "verbs": ["read"], "repositories": "bob/app"});
    let granting = asked(server.post("/api/v1/grants"), &read).by(&basic("bob"));
    granting.await.is(201);
    let visibility = json!({"visibility": "public"});
    let narrow = api_token(&server, "carol", &["read:**"]).await.bearer();
    let carol = basic("carol");
    for (by, request, words) in [
        (
            &carol,
            asked(
                server.post("/api/v1/orgs/acme/teams"),
                &json!({"team": "t"}),
            ),
            "the role admin in 'acme'",
        ),
        (
            &carol,
            asked(server.delete("/api/v1/orgs/acme"), &Value::Null),
            "the role owner in 'acme'",
        ),
        (
            &carol,
            asked(
                server.put("/api/v1/orgs/acme/teams/core/members/carol"),
                &member,
            ),
            "the role maintainer in 'acme/core', or admin in 'acme'",
        ),
        (
            &carol,
            asked(
                server.request(Method::PATCH, "/api/v1/repositories/bob/app"),
                &visibility,
            ),
            "the verb 'admin' in 'bob/app'",
        ),
        (
            &carol,
            server.delete("/api/v1/repositories/bob/app"),
            "the verb 'admin' in 'bob/app'",
        ),
        (
            &carol,
            asked(server.post("/api/v1/grants"), &read),
            "the verb 'admin' in 'bob/app'",
        ),
        (
            &narrow,
            server.get("/api/v1/orgs/acme/members"),
            "the verb 'account' in the token's scopes",
        ),
    ] {
        let answer = request.by(by).await;
        assert_refused(&answer, 403, "DENIED");
        let message = answer.json()["error"]["message"].to_string();
        assert!(message.contains(words), "{words}: {message}");
    }
    let library = json!({"to": "carol", "verbs": ["read"], "repositories": "app"});
    let answer = asked(server.post("/api/v1/grants"), &library).by(&carol);
    let answer = answer.await;
    assert_refused(&answer, 404, "NOT_FOUND");
    let message = answer.json()["error"]["message"].to_string();
    assert!(message.contains("no namespace 'library'"), "{message}");
}
