//! Accounts, addresses and repositories, looked after from anywhere.

use serde_json::json;

use super::{Machine, row, said};
use crate::{
    accounts::{basic, basic_with, password, push_image, settings, with_accounts},
    harness::image,
};

fn words(line: &str) -> Vec<&str> {
    line.split(' ').collect()
}

#[tokio::test]
async fn users_are_looked_after_from_anywhere() {
    let server = with_accounts(settings()).await;
    let alice = Machine::of(&server, "alice").await;
    let input = format!("{}\n", password("erin"));
    let add = ["user", "add", "erin", "--password-stdin"];
    alice.run_with_input(&add, &input).await.exits(0);
    let there = || server.get("/v2/").by(&basic("erin"));
    there().await.is(200);

    let taken = alice.run_with_input(&add, &input).await.exits(1);
    said(&taken, "erin");
    assert!(!taken.stderr.contains(&password("erin")));
    let bob = Machine::of(&server, "bob").await;
    let refused = bob.run_with_input(&add, &input).await.exits(1);
    said(&refused, "(DENIED)");

    for (command, status) in [("disable", 401), ("enable", 200)] {
        alice.run(&["user", command, "erin"]).await.exits(0);
        there().await.is(status);
    }
    let only = words("user address erin --from 192.0.2.0/24 --from 2001:db8::/32");
    alice.run(&only).await.exits(0);
    there().await.is(403);
    let list = alice.run(&["user", "list", "--json"]).await.exits(0);
    let erin = row(&list.json(), "user", &json!("erin"));
    assert_eq!(erin["addresses"], json!(["192.0.2.0/24", "2001:db8::/32"]));
    let everywhere = words("user address erin --everywhere");
    alice.run(&everywhere).await.exits(0);
    there().await.is(200);
    for line in ["user address acme --everywhere", "user disable acme"] {
        said(&alice.run(&words(line)).await.exits(1), "no user 'acme'");
    }
    let last = alice.run(&words("user disable alice")).await.exits(1);
    said(&last, "last administrator");

    let other = format!("{} and more\n", password("erin"));
    let change = ["user", "password", "erin", "--password-stdin"];
    alice.run_with_input(&change, &other).await.exits(0);
    there().await.is(401);
    let by = basic_with("erin", other.trim_end());
    server.get("/v2/").by(&by).await.is(200);
    alice.run(&["user", "remove", "erin"]).await.exits(0);
    server.get("/v2/").by(&by).await.is(401);
}

#[tokio::test]
async fn ones_own_password_is_changed_by_who_knows_it() {
    let server = with_accounts(settings()).await;
    let bob = Machine::of(&server, "bob").await;
    let change = ["password", "--password-stdin"];
    let new = "bob, longer than before";
    let wrong = format!("guessed, it is\n{new}\n");
    let refused = bob.run_with_input(&change, &wrong).await.exits(1);
    said(&refused, "(DENIED)");
    let short = format!("{}\nshort\n", password("bob"));
    bob.run_with_input(&change, &short).await.exits(1);
    server.get("/v2/").by(&basic("bob")).await.is(200);

    let both = format!("{}\n{new}\n", password("bob"));
    let done = bob.run_with_input(&change, &both).await.exits(0);
    assert!(!done.stdout.contains(new) && !done.stderr.contains(new));
    server.get("/v2/").by(&basic("bob")).await.is(401);
    let by = basic_with("bob", new);
    server.get("/v2/").by(&by).await.is(200);
    said(&bob.run(&["password"]).await.exits(2), "--password-stdin");
}

#[tokio::test]
async fn tokens_and_addresses_of_a_robot() {
    let server = with_accounts(settings()).await;
    let alice = Machine::of(&server, "alice").await;
    for line in ["org create acme", "robot create acme+ci"] {
        alice.run(&words(line)).await.exits(0);
    }
    let made = alice.run(&words("robot token acme+ci deploy")).await;
    let first = basic_with("acme+ci", made.exits(0).stdout.trim());
    let list = words("token list --robot acme+ci --json");
    let tokens = alice.run(&list).await.exits(0).json();
    let id = row(&tokens, "name", &json!("deploy"))["id"].to_string();

    let rotate = ["token", "rotate", &id, "--robot", "acme+ci"];
    // Nobody's own, and of no other robot.
    said(&alice.run(&rotate[..3]).await.exits(1), "(NOT_FOUND)");
    let rotated = alice.run(&rotate).await.exits(0);
    let second = basic_with("acme+ci", rotated.stdout.trim());
    for robot in [&first, &second] {
        server.get("/v2/").by(robot).await.is(200);
    }
    let revoke = ["token", "revoke", &id, "--robot", "acme+ci"];
    alice.run(&revoke).await.exits(0);
    server.get("/v2/").by(&first).await.is(401);

    let elsewhere = words("robot address acme+ci --from 192.0.2.7");
    alice.run(&elsewhere).await.exits(0);
    server.get("/v2/").by(&second).await.is(403);
    let robots = words("robot list acme --json");
    let robots = alice.run(&robots).await.exits(0).json();
    assert_eq!(robots[0]["addresses"], json!(["192.0.2.7/32"]));
    let everywhere = words("robot address acme+ci --everywhere");
    alice.run(&everywhere).await.exits(0);
    server.get("/v2/").by(&second).await.is(200);

    let organisation = words("org address acme --from 192.0.2.0/24");
    said(
        &alice.run(&organisation).await.exits(1),
        "shut yourself out",
    );
    let operator = [&["admin"], &organisation[..]].concat();
    server.run(&operator).await.exits(0);
    said(
        &alice.run(&words("robot list acme")).await.exits(1),
        "organisation 'acme'",
    );
}

#[tokio::test]
async fn a_repository_is_shown_to_others_and_removed() {
    let server = with_accounts(settings()).await;
    push_image(&server, &basic("bob"), "bob/deep/app", "a", &image(1)).await;
    let bob = Machine::of(&server, "bob").await;
    let manifest = || {
        let carol = basic("carol");
        server.get("/v2/bob/deep/app/manifests/a").by(&carol)
    };
    for (visibility, status) in [("public", 200), ("private", 404)] {
        let set = ["visibility", "bob/deep/app", visibility];
        bob.run(&set).await.exits(0);
        manifest().await.is(status);
    }
    let carol = Machine::of(&server, "carol").await;
    let remove = ["repository", "remove", "bob/deep/app"];
    let hidden = carol.run(&remove).await.exits(1);
    said(&hidden, "no repository 'bob/deep/app'");
    bob.run(&remove).await.exits(0);
    let gone = server.get("/v2/bob/deep/app/manifests/a").by(&basic("bob"));
    gone.await.is(404);
    said(&bob.run(&remove).await.exits(1), "(NOT_FOUND)");
}
