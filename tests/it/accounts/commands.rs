//! The commands that make accounts: what they refuse, and that they do the same whether a server runs or not.

use super::{
    NOBODY, add_user, api_token, basic, basic_with, bootstrap, challenge, publish, push_image,
    revoke, said, settings, try_add, try_bootstrap, with_accounts,
};
use crate::harness::image;

/// Names and passwords that are none, and what people are told to do about it.
fn no_good() -> Vec<(&'static str, String, &'static str)> {
    let good = || "a-good-password".to_owned();
    vec![
        ("", good(), "2 to 64 bytes"),
        ("a", good(), "2 to 64 bytes"),
        ("Alice", good(), "use lower-case letters and digits"),
        ("al/ice", good(), "use lower-case letters and digits"),
        ("al:ice", good(), "use lower-case letters and digits"),
        ("library", good(), "kept for Granary"),
        ("token", good(), "kept for Granary"),
        ("alice", String::new(), "at least 12 characters"),
        ("alice", "elevenchars".to_owned(), "at least 12 characters"),
        ("alice", "PasswordPassword".to_owned(), "choose another"),
        ("alice", "alicealicealice".to_owned(), "user's name"),
        (
            "alice",
            "with a\ttab in it".to_owned(),
            "control characters",
        ),
        ("alice", "x".repeat(1025), "at most 1024 bytes"),
    ]
}

#[tokio::test]
async fn bad_names_and_passwords_make_no_first_account() {
    let mut server = settings().start().await;
    for (user, password, remedy) in no_good() {
        let ran = try_bootstrap(&server, user, &password).await.exits(1);
        said(&ran, remedy);
        assert_eq!(ran.stdout, "", "{user} {password}");
        server.get("/v2/").await.is(200);
    }
    server.stop().await;
    for (user, password, remedy) in no_good() {
        let ran = try_bootstrap(&server, user, &password).await.exits(1);
        said(&ran, remedy);
    }
    server.start_again().await;
    server.get("/v2/").await.is(200);
    let ran = try_add(&server, "bob", "a-good-password").await.exits(1);
    said(&ran, "granary admin bootstrap");
}

#[tokio::test]
async fn bad_names_and_passwords_make_no_user() {
    let server = with_accounts(settings()).await;
    for (user, password, remedy) in no_good() {
        let ran = try_add(&server, user, &password).await.exits(1);
        said(&ran, remedy);
        if user != "alice" {
            let answer = server.get("/v2/").by(&basic_with(user, &password)).await;
            challenge(&answer);
            continue;
        }
        let arguments = ["admin", "user", "password", user, "--password-stdin"];
        let input = format!("{password}\n");
        let ran = server.run_with_input(&arguments, &input).await.exits(1);
        said(&ran, remedy);
    }
    server.get("/v2/").by(&basic("alice")).await.is(200);
}

#[tokio::test]
async fn users_and_tokens_come_after_the_first_account() {
    let server = settings().start().await;
    let commands: [&[&str]; 3] = [
        &["admin", "user", "add", "bob", "--password-stdin"],
        &["admin", "user", "password", "bob", "--password-stdin"],
        &["admin", "token", "create", "bob"],
    ];
    for arguments in commands {
        let ran = server.run_with_input(arguments, "a-good-password\n").await;
        said(&ran.exits(1), "granary admin bootstrap");
    }
    server.get("/v2/").await.is(200);
}

#[tokio::test]
async fn commands_name_what_is_taken_or_not_there() {
    let server = with_accounts(settings()).await;
    let ran = try_add(&server, "bob", "another-password").await.exits(1);
    said(&ran, "'bob' is taken");
    server.get("/v2/").by(&basic("bob")).await.is(200);
    let cases: [(&[&str], &str); 4] = [
        (
            &["admin", "user", "password", "dave", "--password-stdin"],
            "no user 'dave'",
        ),
        (&["admin", "token", "create", "dave"], "no user 'dave'"),
        (&["admin", "token", "revoke", "4711"], "no token 4711"),
        (
            &["admin", "visibility", "dave/app", "public"],
            "no repository 'dave/app'",
        ),
    ];
    for (arguments, words) in cases {
        let ran = server.run_with_input(arguments, "a-good-password\n").await;
        said(&ran.exits(1), words);
    }
}

#[tokio::test]
async fn a_password_is_not_waited_for_where_nobody_types() {
    let server = settings().start().await;
    let ran = server.run(&["admin", "bootstrap", "--user", "alice"]).await;
    said(&ran.exits(2), "--password-stdin");
    server.get("/v2/").await.is(200);
}

#[tokio::test]
async fn commands_do_the_same_while_no_server_runs() {
    let mut server = settings().start().await;
    let pushed = image(1);
    push_image(&server, NOBODY, "old/app", "a", &pushed).await;
    server.stop().await;
    let made = bootstrap(&server).await;
    assert_eq!(made["namespaces"], 1);
    add_user(&server, "bob").await;
    let (kept, ended) = (
        api_token(&server, "bob", &[]).await,
        api_token(&server, "bob", &[]).await,
    );
    revoke(&server, &ended).await;
    publish(&server, "old/app").await;
    server.start_again().await;
    challenge(&server.get("/v2/").await);
    for by in [basic("alice"), basic("bob"), kept.bearer()] {
        let read = server.get("/v2/old/app/manifests/a").by(&by).await;
        assert!(read.is(200).body == pushed.manifest);
    }
    challenge(&server.get("/v2/").by(&ended.bearer()).await);
}
