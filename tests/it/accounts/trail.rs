//! The commands about the audit log, whether a server runs or not.

use std::{os::unix::fs::PermissionsExt as _, path::Path};

use serde_json::Value;

use super::{basic, push_image, said, settings, with_accounts};
use crate::harness::{TestServer, image};

#[tokio::test]
async fn a_server_that_ends_says_how_often_what_was_read() {
    let mut server = with_accounts(settings()).await;
    let bob = basic("bob");
    push_image(&server, &bob, "bob/app", "v1", &image(1)).await;
    for _ in 0..3 {
        let pull = server.get("/v2/bob/app/manifests/v1").by(&bob);
        pull.await.is(200);
    }
    server.stop().await;
    let list = ["admin", "audit", "list", "--action", "access.read"];
    let told = server.run(&list).await.exits(0).stdout;
    let line = "  access.read  allowed  bob  bob/app  127.0.0.1  {\"count\":3}\n";
    assert!(told.lines().count() == 1 && told.ends_with(line), "{told}");
}

#[tokio::test]
async fn the_audit_log_is_listed_verified_and_exported() {
    let mut server = with_accounts(settings()).await;
    let folder = tempfile::tempdir().unwrap();
    for runs in [true, false] {
        if !runs {
            server.stop().await;
        }
        let list = [
            "admin",
            "audit",
            "list",
            "--action",
            "user.create",
            "--json",
        ];
        let listed = server.run(&list).await.exits(0).json();
        let events = listed["events"].as_array().unwrap();
        let targets: Vec<_> = events.iter().map(|event| &event["target"]).collect();
        assert_eq!(targets, ["carol", "bob"], "{listed:#}");
        let plain = server.run(&["admin", "audit", "list", "--limit", "1"]);
        assert_eq!(plain.await.exits(0).stdout.lines().count(), 1);

        let verify = ["admin", "audit", "verify"];
        let report = server.run(&[&verify[..], &["--json"]].concat()).await;
        let report = report.exits(0).json();
        assert_eq!(
            (&report["found"], &report["unsigned"]),
            (&0.into(), &0.into())
        );
        let note = report["last"].as_str().unwrap();
        let again = [&verify[..], &["--last", note]].concat();
        let again = server.run(&again).await.exits(0);
        assert!(
            again.stdout.contains(&format!("--last {note}")),
            "{}",
            again.stdout
        );
        let (number, chain) = note.split_once(':').unwrap();
        let other = format!("{number}:{}", chain.chars().rev().collect::<String>());
        let wrong = server
            .run(&[&verify[..], &["--last", &other]].concat())
            .await;
        let wrong = wrong.exits(1).stdout;
        assert!(
            wrong.starts_with("not-as-noted: ") && !wrong.contains("--last "),
            "{wrong}"
        );

        let file = folder.path().join(format!("export-{runs}"));
        exported_and_checked(&server, &report, &file).await;
    }
    let file = folder.path().join("last");
    let export = [
        "admin",
        "audit",
        "export",
        "--delete",
        "--to",
        file.to_str().unwrap(),
    ];
    said(&server.run(&export).await.exits(0), "rows removed");
    server.start_again().await;
    let left = ["admin", "audit", "list", "--json"];
    let left = server.run(&left).await.exits(0).json();
    assert_eq!(left["events"][0]["action"], "audit.remove", "{left:#}");
    server.run(&["admin", "audit", "verify"]).await.exits(0);
}

/// The log as lines of JSON: alike in a file and on standard output, and verified alone.
async fn exported_and_checked(server: &TestServer, report: &Value, file: &Path) {
    let verify = ["admin", "audit", "verify"];
    let keys = file.with_extension("keys");
    std::fs::write(&keys, report.to_string()).unwrap();
    let path = file.to_str().unwrap();
    let export = ["admin", "audit", "export"];
    let printed = server.run(&export).await.exits(0).stdout;
    let to = [&export[..], &["--to", path]].concat();
    server.run(&to).await.exits(0);
    let written = std::fs::read_to_string(file).unwrap();
    assert_eq!(written, printed);
    let mode = std::fs::metadata(file).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    said(&server.run(&to).await.exits(1), path);
    let kinds: Vec<String> = written.lines().map(kind).collect();
    assert_eq!(kinds.first().map(String::as_str), Some("start"));
    assert_eq!(kinds.last().map(String::as_str), Some("checkpoint"));
    assert_eq!(
        kinds.iter().filter(|kind| *kind == "row").count(),
        usize::try_from(report["rows"].as_u64().unwrap()).unwrap()
    );

    let check = ["--file", path, "--keys", keys.to_str().unwrap()];
    let check = [&verify[..], &check].concat();
    server.run(&check).await.exits(0);
    std::fs::write(file, written.replacen("\"carol\"", "\"dave\"", 1)).unwrap();
    let altered = server.run(&check).await.exits(1);
    assert!(
        altered.stdout.starts_with("altered: row "),
        "{}",
        altered.stdout
    );
    // It is nothing to compare with.
    assert!(!altered.stdout.contains("--last"), "{}", altered.stdout);
}

fn kind(line: &str) -> String {
    let line: Value = serde_json::from_str(line).unwrap();
    line["kind"].as_str().unwrap().to_owned()
}
