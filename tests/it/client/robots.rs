//! Robots of one's own, and jobs that are one of them without a secret.

use serde_json::json;

use super::{Machine, row, said};
use crate::{
    accounts::{basic, basic_with, bearer, push_image, settings, with_accounts},
    harness::image,
    issuer::Issuer,
};

fn words(line: &str) -> Vec<&str> {
    line.split(' ').collect()
}

#[tokio::test]
async fn a_user_has_robots_of_his_own() {
    let server = with_accounts(settings()).await;
    let bob = Machine::of(&server, "bob").await;
    bob.run(&words("robot create bob+ci")).await.exits(0);
    let list = words("robot list bob --json");
    let robots = bob.run(&list).await.exits(0).json();
    assert_eq!(robots[0]["robot"], "bob+ci");
    let made = bob.run(&words("robot token bob+ci build")).await;
    let robot = basic_with("bob+ci", made.exits(0).stdout.trim());
    server.get("/v2/").by(&robot).await.is(200);

    // It may do what it was granted, and nothing in its owner's name.
    push_image(&server, &basic("bob"), "bob/app", "v1", &image(1)).await;
    let path = "/v2/bob/app/manifests/v1";
    server.get(path).by(&robot).await.is(404);
    let grant = words("grant add bob+ci read,write:bob/**");
    bob.run(&grant).await.exits(0);
    push_image(&server, &robot, "bob/app", "v2", &image(2)).await;
    let me = server.get("/api/v1/me").by(&robot).await.is(200).json();
    let me = &me["data"];
    assert_eq!(
        (&me["user"], &me["kind"]),
        (&json!("bob+ci"), &json!("robot"))
    );
    assert_eq!(me["administrator"], json!(null));
    let refused = server.get("/api/v1/tokens").by(&robot).await.is(403);
    let message = refused.json()["error"]["message"].to_string();
    assert!(message.contains("the verb 'account'"), "{message}");
    let robots = "/api/v1/owners/bob/robots";
    // The path names its owner, which it is not.
    server.get(robots).by(&robot).await.is(404);

    // Nobody else sees them, not even who administers the installation.
    for other in ["alice", "carol"] {
        let other = Machine::of(&server, other).await;
        for line in [
            "robot list bob",
            "robot create bob+mine",
            "robot remove bob+ci",
        ] {
            said(
                &other.run(&words(line)).await.exits(1),
                "'bob', or you may not see it",
            );
        }
    }
    for line in ["robot create carol+ci", "robot list nobody"] {
        said(&bob.run(&words(line)).await.exits(1), "(NOT_FOUND)");
    }
    // A credential for repositories alone looks after no robots.
    let narrow = bob
        .run(&words("token create narrow --scope read,write:bob/**"))
        .await;
    let narrow = basic_with("bob", narrow.exits(0).stdout.trim());
    server.get(robots).by(&narrow).await.is(403);

    bob.run(&words("robot remove bob+ci")).await.exits(0);
    server.get("/v2/").by(&robot).await.is(401);
}

#[tokio::test]
async fn jobs_are_a_robot_of_ones_own_without_a_secret() {
    let server = with_accounts(settings()).await;
    let issuer = Issuer::new("https://token.actions.githubusercontent.com");
    let keys = server.data().join("keys.json");
    std::fs::write(&keys, issuer.jwks()).unwrap();
    let trust = [
        "admin",
        "issuer",
        "add",
        "github",
        "--keys",
        keys.to_str().unwrap(),
    ];
    server.run(&trust).await.exits(0);
    let bob = Machine::of(&server, "bob").await;
    for line in ["robot create bob+ci", "grant add bob+ci read,write:bob/**"] {
        bob.run(&words(line)).await.exits(0);
    }

    let add =
        "publisher add bob+ci --issuer github --claim repository=bob/app --claim ref=refs/tags/v*";
    let twice = format!("{add} --claim ref=refs/heads/main");
    said(&bob.run(&words(&twice)).await.exits(2), "given twice");
    let more = format!("{add} --scope read,write:bob/app:v* --expires 7d --json");
    let added = bob.run(&words(&more)).await.exits(0).json();
    assert_eq!(added["robot"], "bob+ci");
    let list = bob.run(&words("publisher list bob")).await.exits(0).stdout;
    assert!(
        list.contains("ref=refs/tags/v* repository=bob/app  read,write:bob/app:v*"),
        "{list}"
    );
    assert!(list.contains("not yet"), "{list}");

    let job = bearer(&issuer.token(&issuer.github("bob/app", "refs/tags/v1")));
    push_image(&server, &job, "bob/app", "v1", &image(1)).await;
    let fork = bearer(&issuer.token(&issuer.github("carol/app", "refs/tags/v1")));
    server.get("/v2/").by(&fork).await.is(401);
    let list = words("publisher list bob --json");
    let used = bob.run(&list).await.exits(0).json();
    let used = row(&used, "id", &added["id"]);
    assert!(
        used["used_at"].is_string() && used["expires_at"] == json!(null),
        "{used}"
    );

    let id = added["id"].to_string();
    let carol = Machine::of(&server, "carol").await;
    let not_hers = carol.run(&["publisher", "remove", "carol", &id]).await;
    said(&not_hers.exits(1), "no publisher");
    server.get("/v2/").by(&job).await.is(200);
    bob.run(&["publisher", "remove", "bob", &id]).await.exits(0);
    server.get("/v2/").by(&job).await.is(401);
}
