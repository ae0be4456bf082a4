//! What the operator's commands make of a slip of the pen, and how they answer.

use std::{path::Path, process::Command};

use granary_testbed::Postgres;
use serde_json::Value;

use super::{alices, basic, bootstrap, on, password, push_image, said, settings, with_accounts};
use crate::harness::{Ran, TestServer, eventually, image, run, run_with_input};

/// All that is in a folder, by name.
fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    let name = |entry: std::io::Result<std::fs::DirEntry>| {
        entry.unwrap().file_name().to_string_lossy().into_owned()
    };
    let mut names: Vec<String> = entries.map(name).collect();
    names.sort();
    names
}

/// Commands of every kind that needs an installation.
fn commands(to: &str) -> Vec<Vec<&str>> {
    vec![
        vec!["admin", "user", "list"],
        vec!["admin", "namespace", "acme"],
        vec!["admin", "audit", "list"],
        vec!["admin", "audit", "export"],
        vec!["admin", "audit", "verify"],
        vec!["admin", "schema", "status"],
        vec!["admin", "schema", "up"],
        vec!["gc"],
        vec!["scrub"],
        vec!["why", EMPTY],
        vec!["export", "team/app", "--to", to],
        vec!["backup", "--to", to],
        vec!["import", "--take-ownership"],
    ]
}

const EMPTY: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

#[tokio::test]
async fn a_folder_that_was_mistyped_stays_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let to = folder.path().join("written").display().to_string();
    for name in ["there", "not-there"] {
        let data = folder.path().join(name);
        if name == "there" {
            std::fs::create_dir(&data).unwrap();
            std::fs::write(data.join("something"), "else").unwrap();
        }
        let message = format!(
            "there is no installation in {}: name the server's data folder with --data\n",
            data.display()
        );
        for arguments in commands(&to) {
            let ran = run(on(&data, &arguments)).await.exits(1);
            assert_eq!(ran.stderr, format!("granary: {message}"), "{arguments:?}");
            assert_eq!(ran.stdout, "", "{arguments:?}");
        }
        assert_eq!(names(folder.path()), ["there"]);
        assert_eq!(names(&folder.path().join("there")), ["something"]);
    }
    let file = folder.path().join("there/something");
    let ran = run(on(&file, &["gc"])).await.exits(1);
    said(&ran, &format!("no installation in {}", file.display()));
    let (from, target) = (folder.path().join("there"), folder.path().join("target"));
    let mut migrate = crate::harness::granary();
    migrate.args(["migrate", "--from"]).arg(&from);
    std::fs::create_dir(&target).unwrap();
    migrate.arg("--to").arg(&target);
    let ran = run(migrate).await.exits(1);
    said(&ran, &format!("no installation in {}", from.display()));
    assert_eq!(names(&from), ["something"]);
    assert_eq!(names(&target), [""; 0]);
}

#[tokio::test]
async fn with_postgresql_the_database_is_what_counts() {
    let url = Postgres::shared().unwrap().create_database().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (data, root) = (folder.path().join("data"), folder.path().join("blobs"));
    let with = |arguments: &[&str], root: Option<&Path>| -> Command {
        let mut command = on(&data, arguments);
        command.env("GRANARY_DATABASE__URL", &url);
        if let Some(root) = root {
            command.env("GRANARY_STORAGE__FS__ROOT", root);
        }
        command
    };
    for arguments in [["admin", "user", "list"], ["admin", "audit", "list"]] {
        let ran = run(with(&arguments, Some(&root))).await.exits(1);
        said(&ran, "there is no installation in the database postgres://");
        assert_eq!(names(folder.path()), [""; 0]);
    }
    // With the schema there is one, though nobody has served it yet; the folder need not be there.
    run(with(&["admin", "schema", "up"], Some(&root)))
        .await
        .exits(0);
    let ran = run(with(&["admin", "user", "list"], None)).await.exits(1);
    said(
        &ran,
        &format!("there is no installation in {}", data.display()),
    );
    assert_eq!(names(folder.path()), [""; 0]);
    let ran = run(with(&["admin", "user", "list"], Some(&root))).await;
    said(&ran.exits(1), "granary admin bootstrap");
}

#[tokio::test]
async fn the_first_account_is_made_where_the_answer_says() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let arguments = ["admin", "bootstrap", "--user", "alice", "--password-stdin"];
    let input = format!("{}\n", password("alice"));
    let ran = run_with_input(on(&data, &arguments), &input).await.exits(0);
    let place = data.canonicalize().unwrap().display().to_string();
    assert!(ran.stdout.contains(&place), "{}", ran.stdout);
    let server = settings().start().await;
    let made = bootstrap(&server).await;
    let place = server.data().canonicalize().unwrap();
    assert_eq!(made["installation"], place.display().to_string());
    let serve = tempfile::tempdir().unwrap();
    let refused = run(on(serve.path(), &["serve", "--listen", "0.0.0.0:0"])).await;
    let remedy = format!(
        "'granary admin bootstrap --username NAME --data {}'",
        serve.path().display()
    );
    said(&refused.exits(2), &remedy);
}

async fn admin(server: &TestServer, arguments: &[&str]) -> Ran {
    server.run(&[&["admin"], arguments].concat()).await
}

async fn told(server: &TestServer, arguments: &[&str]) -> Value {
    let arguments = [arguments, &["--json"]].concat();
    admin(server, &arguments).await.exits(0).json()
}

#[tokio::test]
async fn a_list_of_nobody_is_an_error() {
    let server = with_accounts(settings()).await;
    for arguments in [
        ["publisher", "list", "nix"],
        ["team", "list", "nix"],
        ["member", "list", "nix"],
        ["robot", "list", "nix"],
        ["grant", "list", "nix"],
    ] {
        let ran = admin(&server, &arguments).await.exits(1);
        said(&ran, "there is no organisation or user 'nix'");
    }
    for arguments in [
        ["publisher", "list", "bob"],
        ["robot", "list", "bob"],
        ["grant", "list", "bob"],
    ] {
        assert_eq!(admin(&server, &arguments).await.exits(0).stdout, "");
    }
    // What is in a namespace may be nobody's.
    push_image(&server, &basic("alice"), "nobodys/app", "v1", &image(1)).await;
    admin(&server, &["grant", "list", "nobodys"]).await.exits(0);
}

#[tokio::test]
async fn answers_have_whole_names() {
    let server = with_accounts(settings()).await;
    told(&server, &["org", "create", "acme", "--owner", "bob"]).await;
    told(&server, &["member", "set", "acme", "carol", "owner"]).await;
    let shown = told(&server, &["org", "show", "acme"]).await;
    assert_eq!(shown["organisation"], "acme");
    assert_eq!(shown["owners"], serde_json::json!(["bob", "carol"]));
    let shown = admin(&server, &["org", "show", "acme"]).await.exits(0);
    assert!(
        shown.stdout.contains("  owners     bob,carol\n"),
        "{}",
        shown.stdout
    );
    for (kind, name) in [
        ("team", "acme/core"),
        ("robot", "acme+ci"),
        ("robot", "bob+ci"),
    ] {
        for verb in ["create", "remove"] {
            let report = told(&server, &[kind, verb, name]).await;
            assert_eq!(report["name"], name, "{report}");
        }
        told(&server, &[kind, "create", name]).await;
        let ran = admin(&server, &[kind, "remove", name]).await.exits(0);
        assert_eq!(ran.stdout, format!("{name} is removed\n"));
    }
    told(&server, &["team", "create", "acme/core"]).await;
    told(&server, &["grant", "add", "acme/core", "read:acme/app"]).await;
    let grants = told(&server, &["grant", "list", "acme"]).await;
    assert_eq!(grants["grants"][0]["to"], "acme/core", "{grants}");
    for (url, more, words) in [
        ("http://127.0.0.1:9", &[][..], "  for granary\n"),
        (
            "http://127.0.0.1:10",
            &["--keys-url", "http://127.0.0.1:10/keys"],
            "  for granary  by the keys at http://127.0.0.1:10/keys\n",
        ),
    ] {
        let arguments = [&["issuer", "add", url][..], more].concat();
        admin(&server, &arguments).await.exits(0);
        let list = admin(&server, &["issuer", "list"]).await.exits(0).stdout;
        assert!(list.contains(&format!("  {url}  plain{words}")), "{list}");
    }
    let folder = tempfile::tempdir().unwrap();
    let keys = folder.path().join("keys");
    std::fs::write(&keys, KEYS).unwrap();
    let arguments = ["issuer", "add", "http://127.0.0.1:11", "--keys"];
    let arguments = [&arguments[..], &[keys.to_str().unwrap()]].concat();
    admin(&server, &arguments).await.exits(0);
    let list = admin(&server, &["issuer", "list"]).await.exits(0).stdout;
    let words = "  http://127.0.0.1:11  plain  for granary  by the keys of --keys\n";
    assert!(list.contains(words), "{list}");
}

/// The key of RFC 8037, which signs nothing here.
const KEYS: &str = r#"{"keys":[{"kty":"OKP","crv":"Ed25519","alg":"EdDSA","kid":"a","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#;

#[tokio::test]
async fn a_token_is_announced_when_there_is_one() {
    let server = with_accounts(settings()).await;
    let refused = admin(&server, &["token", "create", "bobb"]).await.exits(1);
    assert_eq!(refused.stderr, "granary: there is no user 'bobb'\n");
    let refused = admin(&server, &["token", "rotate", "4711"]).await.exits(1);
    assert!(!refused.stderr.contains("this once"), "{}", refused.stderr);
    let made = admin(&server, &["token", "create", "bob"]).await.exits(0);
    said(&made, "shown this once");
    let listed = told(&server, &["token", "list", "bob"]).await;
    let id = listed["tokens"][0]["id"].to_string();
    let rotated = admin(&server, &["token", "rotate", &id]).await.exits(0);
    said(&rotated, "shown this once");
    for token in [made.stdout, rotated.stdout] {
        assert!(token.starts_with("grn_t_") && token.lines().count() == 1);
    }
}

#[tokio::test]
async fn a_namespace_that_is_not_there_yet_is_told_of() {
    let server = with_accounts(settings()).await;
    let words = "nobody has it and no repository is in it yet: these settings wait for it\n";
    let quota = ["namespace", "acmee", "--quota-bytes", "500KiB"];
    let ran = admin(&server, &quota).await.exits(0);
    assert!(ran.stdout.ends_with(words), "{}", ran.stdout);
    assert!(
        ran.stdout.contains("0 bytes of 500 KiB\n"),
        "{}",
        ran.stdout
    );
    let report = told(&server, &["namespace", "acmee"]).await;
    assert_eq!(
        (&report["namespace"], &report["awaited"]),
        (&"acmee".into(), &true.into())
    );
    assert_eq!(report["quota_bytes"], 500 * 1024);
    let quota = ["namespace", "bob", "--quota-bytes", "10GiB"];
    let ran = admin(&server, &quota).await.exits(0);
    assert!(!ran.stdout.contains(words), "{}", ran.stdout);
    assert!(ran.stdout.contains(" of 10 GiB\n"), "{}", ran.stdout);
    let tags = [
        "namespace",
        "bob",
        "--immutable-tags",
        "v*, rel-*",
        "--json",
    ];
    let report = admin(&server, &tags).await.exits(0).json();
    assert_eq!(report["immutable_tags"], serde_json::json!(["v*", "rel-*"]));
    assert_eq!(report["awaited"], false);
    let odd = ["namespace", "bob", "--quota-bytes", "1.5GiB"];
    said(
        &admin(&server, &odd).await.exits(2),
        "such as 64KiB or 1536MiB",
    );
}

/// The time of a line, which is a word of it.
fn times(text: &str) -> Vec<&str> {
    let is_time = |word: &&str| word.starts_with("20") && word.contains('T');
    text.split_whitespace().filter(is_time).collect()
}

#[tokio::test]
async fn people_read_seconds_and_programs_more() {
    let server = with_accounts(settings()).await;
    let create = ["token", "create", "bob", "--expires", "1h"];
    admin(&server, &create).await.exits(0);
    let grant = ["grant", "add", "carol", "read:bob/app", "--expires", "1h"];
    admin(&server, &grant).await.exits(0);
    for arguments in [
        &["token", "list", "bob"][..],
        &["grant", "list", "bob"],
        &["keys", "list"],
        &["audit", "list"],
    ] {
        let text = admin(&server, arguments).await.exits(0).stdout;
        let times = times(&text);
        assert!(!times.is_empty(), "{text}");
        let seconds = "2026-11-21T10:00:00Z".len();
        assert!(times.iter().all(|time| time.len() == seconds), "{text}");
    }
    let listed = told(&server, &["audit", "list", "--action", "grant.create"]).await;
    let event = &listed["events"][0];
    let by_api = server
        .get("/api/v1/audit?action=grant.create")
        .by(&basic("alice"))
        .await;
    assert_eq!(*event, by_api.is(200).json()["data"][0]);
    assert_eq!(event["detail"]["to"], "carol", "{event}");
    let exported = admin(&server, &["audit", "export"]).await.exits(0).stdout;
    let row = exported
        .lines()
        .find(|line| line.contains("\"grant.create\""));
    let row: Value = serde_json::from_str(row.unwrap()).unwrap();
    assert!(row["at"].is_i64() && row["detail"].is_string(), "{row}");
}

#[tokio::test]
async fn what_to_try_is_where_the_server_listens() {
    let server = settings()
        .on(alices().await)
        .argument("--listen")
        .argument("0.0.0.0:0")
        .start()
        .await;
    let greeting = eventually("the greeting", async || {
        Some(server.output()).filter(|output| output.contains("_catalog"))
    })
    .await;
    let port = server.address().port();
    for line in [
        format!("Try:\n  docker login localhost:{port} --username NAME\n"),
        format!("&& docker push localhost:{port}/NAME/alpine\n"),
        format!("  curl --user NAME http://localhost:{port}/v2/_catalog\n"),
    ] {
        assert!(greeting.contains(&line), "no {line} in {greeting}");
    }
    let server = settings().start().await;
    let greeting = eventually("the greeting", async || {
        Some(server.output()).filter(|output| output.contains("_catalog"))
    })
    .await;
    assert!(!greeting.contains("docker login"), "{greeting}");
}
