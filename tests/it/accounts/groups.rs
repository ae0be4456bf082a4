//! Organisations, teams and robots by the operator's commands, and what they are worth to a client.

use serde_json::json;

use super::{add_user, basic, basic_with, publish, push_image, said, settings, with_accounts};
use crate::harness::{TestServer, image};

/// What a command answers in JSON.
async fn told(server: &TestServer, arguments: &[&str]) -> serde_json::Value {
    let arguments = [&["admin"], arguments, &["--json"]].concat();
    server.run(&arguments).await.exits(0).json()
}

#[tokio::test]
async fn commands_look_after_organisations_teams_and_robots() {
    let mut server = with_accounts(settings()).await;
    let pushed = image(1);
    // The same while a server runs and while none does.
    for number in 0..2 {
        let org = format!("acme{number}");
        let (team, robot) = (format!("{org}/core"), format!("{org}+ci"));
        if number == 1 {
            server.stop().await;
        }
        let made = told(&server, &["org", "create", &org, "--owner", "bob"]).await;
        assert_eq!(
            (&made["organisation"], &made["took_over"]),
            (&json!(org), &json!(false))
        );
        told(&server, &["team", "create", &team]).await;
        told(&server, &["member", "set", &team, "carol", "maintainer"]).await;
        told(&server, &["robot", "create", &robot]).await;
        told(&server, &["member", "set", &org, &robot, "write"]).await;
        let grant = format!("read,write:{org}/**");
        told(&server, &["grant", "add", &team, &grant]).await;
        let members = told(&server, &["member", "list", &org]).await;
        let members = members["entries"].as_array().expect("members");
        let members: Vec<_> = members
            .iter()
            .map(|member| (member["member"].as_str(), member["role"].as_str()))
            .collect();
        assert_eq!(
            members,
            [
                (Some(&*robot), Some("write")),
                (Some("bob"), Some("owner")),
                (Some("carol"), Some("member")),
            ]
        );
        let maintainers = told(&server, &["member", "list", &team]).await;
        assert_eq!(maintainers["entries"][0]["role"], "maintainer");
        let teams = told(&server, &["team", "list", &org]).await;
        assert_eq!(teams["entries"][0]["team"], json!(team));
        let token = told(&server, &["token", "create", &robot]).await;
        let (id, first) = (&token["id"], token["token"].as_str().expect("a token"));
        let rotated = told(&server, &["token", "rotate", &id.to_string()]).await;
        let second = rotated["token"].as_str().expect("a token");
        let here = [
            "org",
            "address",
            &org,
            "--from",
            "127.0.0.0/8",
            "--from",
            "::1",
        ];
        told(&server, &here).await;
        if number == 1 {
            server.start_again().await;
        }
        let app = format!("{org}/app");
        for by in [
            basic_with(&robot, first),
            basic_with("token", second),
            basic("carol"),
        ] {
            push_image(&server, &by, &app, "v1", &pushed).await;
        }
        told(&server, &["org", "address", &org, "--from", "192.0.2.0/24"]).await;
        let path = format!("/v2/{app}/manifests/v1");
        server.get(&path).by(&basic("bob")).await.is(404);
        told(&server, &["org", "address", &org, "--everywhere"]).await;
        server.get(&path).by(&basic("bob")).await.is(200);
        let full = server.run(&["admin", "org", "remove", &org]).await;
        said(&full.exits(1), "has repositories");
        told(&server, &["member", "remove", &team, "carol"]).await;
        server.get(&path).by(&basic("carol")).await.is(404);
        told(&server, &["robot", "remove", &robot]).await;
        server
            .get(&path)
            .by(&basic_with(&robot, first))
            .await
            .is(401);
        told(&server, &["team", "remove", &team]).await;
        let last = server
            .run(&["admin", "member", "remove", &org, "bob"])
            .await;
        said(&last.exits(1), "make somebody else an owner first");
    }
    told(&server, &["org", "create", "empty", "--owner", "carol"]).await;
    told(&server, &["org", "remove", "empty"]).await;
    let gone = server.run(&["admin", "org", "show", "empty"]).await;
    said(&gone.exits(1), "'empty'");
    let list = server.run(&["admin", "org", "list"]).await.exits(0).stdout;
    assert_eq!(list, "acme0\nacme1\n");
}

/// The whole way by the API: an organisation, a robot, its token, and a push by it.
#[tokio::test]
async fn an_owner_gives_a_robot_a_token_by_the_api() {
    let server = with_accounts(settings()).await;
    add_user(&server, "dave").await;
    let asked = async |method: &str, path: &str, by: &str, body: serde_json::Value, status| {
        let path = format!("/api/v1{path}");
        let request = server.request(method.parse().unwrap(), &path);
        let request = request.header("content-type", "application/json");
        request.by(by).body(body.to_string()).await.is(status)
    };
    let (alice, bob) = (basic("alice"), basic("bob"));
    let acme = json!({"organisation": "acme", "owner": "bob"});
    asked("POST", "/orgs", &alice, acme.clone(), 201).await;
    asked("POST", "/orgs", &alice, acme, 409).await;
    asked(
        "POST",
        "/owners/acme/robots",
        &bob,
        json!({"robot": "ci"}),
        201,
    )
    .await;
    asked(
        "POST",
        "/owners/acme/robots",
        &bob,
        json!({"robot": "C I"}),
        400,
    )
    .await;
    let role = |role: &str| json!({"role": role});
    asked(
        "PUT",
        "/orgs/acme/members/acme+ci",
        &bob,
        role("write"),
        204,
    )
    .await;
    asked(
        "PUT",
        "/orgs/acme/members/acme+ci",
        &bob,
        role("owner"),
        400,
    )
    .await;
    asked("PUT", "/orgs/acme/members/nobody", &bob, role("read"), 404).await;
    asked("PUT", "/orgs/acme/members/bob", &bob, role("read"), 409).await;
    asked("PUT", "/orgs/acme/members/dave", &bob, role("admin"), 204).await;
    let dave = basic("dave");
    asked("PUT", "/orgs/acme/members/carol", &dave, role("owner"), 403).await;
    let made = asked(
        "POST",
        "/owners/acme/robots/ci/tokens",
        &dave,
        json!({"name": "t"}),
        201,
    );
    let token = made.await.json();
    let token = token["data"]["token"].as_str().expect("a token");
    push_image(
        &server,
        &basic_with("acme+ci", token),
        "acme/app",
        "v1",
        &image(1),
    )
    .await;
    publish(&server, "acme/app").await;
    let mine = server.get("/api/v1/orgs").by(&dave).await.is(200).json();
    assert_eq!(mine["data"][0]["organisation"], "acme");
    assert_eq!(mine["data"][0]["role"], "admin");
    let all = server.get("/api/v1/orgs").by(&alice).await.is(200).json();
    assert_eq!(all["data"][0]["role"], json!(null));
}

#[tokio::test]
async fn elsewhere_an_organisation_looks_as_if_it_were_not_there() {
    let server = with_accounts(settings()).await;
    let bob = basic("bob");
    told(&server, &["org", "create", "acme", "--owner", "bob"]).await;
    push_image(&server, &bob, "acme/app", "v1", &image(1)).await;
    publish(&server, "acme/app").await;
    let admit = async |addresses: serde_json::Value, status| {
        let request = server.request("PATCH".parse().unwrap(), "/api/v1/orgs/acme");
        let request = request.header("content-type", "application/json");
        let body = json!({ "addresses": addresses }).to_string();
        request.by(&bob).body(body).await.is(status)
    };
    let refused = admit(json!(["192.0.2.0/24"]), 409).await.json().to_string();
    assert!(
        refused.contains("127.0.0.1, from where you ask"),
        "{refused}"
    );
    admit(json!(["192.0.2.0/24", "127.0.0.0/8"]), 204).await;
    server.get("/api/v1/orgs/acme").by(&bob).await.is(200);
    told(
        &server,
        &["org", "address", "acme", "--from", "192.0.2.0/24"],
    )
    .await;
    server.get("/api/v1/orgs/acme").by(&bob).await.is(404);
    // Also what everybody sees elsewhere.
    let path = "/v2/acme/app/manifests/v1";
    server.get(path).by(&basic("carol")).await.is(404);
    let none = server.get("/api/v1/orgs").by(&bob).await.is(200).json();
    assert_eq!(none["data"], json!([]));
}
