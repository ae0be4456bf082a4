//! Namespaces by `/api/v1`, before anybody has pushed to them.

use serde_json::{Value, json};

use crate::{
    accounts::{basic, push_image, settings, with_accounts},
    harness::{Answer, TestServer, image},
};

async fn change(server: &TestServer, by: &str, namespace: &str, change: &Value) -> Answer {
    let path = format!("/api/v1/namespaces/{namespace}");
    let request = server.patch(&path).by(&basic(by));
    let request = request.header("content-type", "application/json");
    request.body(change.to_string()).await
}

async fn ask(server: &TestServer, by: &str, namespace: &str) -> Answer {
    let path = format!("/api/v1/namespaces/{namespace}");
    server.get(&path).by(&basic(by)).await
}

#[tokio::test]
async fn an_administrator_sets_one_up_before_it_is_used() {
    let server = with_accounts(settings()).await;
    let wanted = json!({"owner": "bob", "quota_artifacts": 1});
    for by in ["bob", "carol"] {
        ask(&server, by, "ahead").await.is(404);
        change(&server, by, "ahead", &wanted).await.is(404);
    }
    let before = ask(&server, "alice", "ahead").await.is(200).json();
    assert_eq!(before["data"]["owner"], Value::Null);
    change(&server, "alice", "ahead", &json!({})).await.is(200);
    ask(&server, "bob", "ahead").await.is(404);
    let given = change(&server, "alice", "ahead", &wanted).await.is(200);
    assert_eq!(given.json()["data"]["owner"], "bob");
    let seen = ask(&server, "bob", "ahead").await.is(200).json();
    assert_eq!(seen["data"]["quota_artifacts"], 1);
    push_image(&server, &basic("bob"), "ahead/app", "v1", &image(1)).await;
    // What none can have is there for nobody.
    for name in ["Ahead", "a%20b", "-a", "a%2Fb", "%C3%A4"] {
        ask(&server, "alice", name).await.is(404);
        change(&server, "alice", name, &wanted).await.is(404);
    }
}
