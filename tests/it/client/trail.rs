//! The audit log from elsewhere: written out, and verified by who does not believe the server.

use std::{fs, os::unix::fs::PermissionsExt as _};

use sea_orm::{ConnectionTrait as _, Database};
use serde_json::{Value, json};

use super::{
    Machine, said,
    stub::{Stub, json_answer},
};
use crate::{
    accounts::{basic, push_image, settings, with_accounts},
    harness::{Answer, TestServer, image},
};

/// Does something to the database, as somebody with its file does.
async fn sql(server: &TestServer, statements: &str) {
    let url = format!("sqlite://{}", server.data().join("granary.db").display());
    let database = Database::connect(url).await.unwrap();
    let ran = database.execute_unprepared(statements).await;
    ran.unwrap_or_else(|error| panic!("{statements}: {error}"));
    database.close().await.unwrap();
}

/// More rows than one page has, as if each had been committed with what it tells of.
const MANY: &str = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2500) \
    INSERT INTO audit_pending (at, request_id, action, allowed, reason, actor, target) \
    SELECT 1793600000000000 + i, 'request-' || i, 'login.succeed', 1, '', 'bob', 'user bob' FROM n";

#[tokio::test]
async fn who_verifies_the_log_needs_not_believe_the_server() {
    let server = with_accounts(settings()).await;
    push_image(&server, &basic("bob"), "bob/app", "a", &image(1)).await;
    let alice = Machine::of(&server, "alice").await;
    sql(&server, MANY).await;
    let verify = ["audit", "verify"];
    let told = alice.run(&verify).await.exits(0).stdout;
    assert!(told.contains("\nnot yet signed: 0\n"), "{told}");
    let report = alice.run(&["audit", "verify", "--json"]).await.exits(0);
    let report = report.json();
    assert!(report["rows"].as_u64().unwrap() > 2500, "{report:#}");
    assert_eq!(
        (&report["found"], &report["unsigned"], &report["unproven"]),
        (&0.into(), &0.into(), &Value::Array(Vec::new()))
    );
    // It is what the machine's operator is told.
    let by_operator = server.run(&["admin", "audit", "verify", "--json"]).await;
    let mut by_operator = by_operator.exits(0).json();
    by_operator.as_object_mut().unwrap().remove("done");
    assert_eq!(report, by_operator);

    let note = report["last"].as_str().unwrap();
    assert!(told.ends_with(&format!("--last {note}\n")), "{told}");
    let with_note = ["audit", "verify", "--last", note];
    alice.run(&with_note).await.exits(0);
    for (done, finding) in [
        (
            "UPDATE audit_log SET target = 'other' WHERE seq = 1234",
            "altered: row 1234 is not the one that was sealed",
        ),
        (
            "DELETE FROM audit_log WHERE seq = 2",
            "removed: row 2 was removed",
        ),
        (
            "DELETE FROM audit_log WHERE seq < 100",
            "removed: rows 1 to 99 were removed",
        ),
        ("DELETE FROM audit_log", "removed: rows 1 to "),
        (
            "UPDATE audit_log SET seq = CASE seq WHEN 4 THEN 3 ELSE 4 END WHERE seq IN (3, 4)",
            "altered: row 3 is not the one that was sealed",
        ),
        (
            "UPDATE audit_checkpoints SET signature = chain WHERE number = 1",
            "checkpoint-forged: checkpoint 1 ",
        ),
    ] {
        let kept = ["audit_log", "audit_checkpoints"];
        for table in kept {
            sql(
                &server,
                &format!("CREATE TABLE kept_{table} AS SELECT * FROM {table}"),
            )
            .await;
        }
        sql(&server, done).await;
        let ran = alice.run(&with_note).await.exits(1);
        assert!(ran.stdout.starts_with(finding), "{done}: {}", ran.stdout);
        said(&ran, "is not as it was sealed");
        for table in kept {
            let back = format!(
                "DELETE FROM {table}; INSERT INTO {table} SELECT * FROM kept_{table}; DROP TABLE kept_{table}"
            );
            sql(&server, &back).await;
        }
    }
    alice.run(&with_note).await.exits(0);
    // The end of it, with all that was signed of that: only who noted it finds out.
    let end = "DELETE FROM audit_log WHERE seq > 1; DELETE FROM audit_checkpoints";
    sql(&server, end).await;
    alice.run(&verify).await.exits(0);
    let ran = alice.run(&with_note).await.exits(1);
    assert!(ran.stdout.starts_with("removed: row "), "{}", ran.stdout);
}

#[tokio::test]
async fn an_export_from_elsewhere_is_that_of_the_operator() {
    let server = with_accounts(settings()).await;
    let alice = Machine::of(&server, "alice").await;
    sql(&server, MANY).await;
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let (file, keys) = (path("export"), path("keys"));
    let to = ["audit", "export", "--to", &file];
    said(&alice.run(&to).await.exits(0), "written to ");
    let written = fs::read_to_string(&file).unwrap();
    let mode = fs::metadata(&file).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    said(&alice.run(&to).await.exits(1), &file);
    let printed = alice.run(&["audit", "export"]).await.exits(0);
    let by_operator = server.run(&["admin", "audit", "export"]).await.exits(0);
    for same in [
        printed.stdout,
        by_operator.stdout,
        fs::read_to_string(&file).unwrap(),
    ] {
        assert!(same == written, "{same}");
    }
    assert!(written.lines().count() > 2500);

    let report = alice.run(&["audit", "verify", "--json"]).await.exits(0);
    fs::write(&keys, report.stdout).unwrap();
    let of_file = ["audit", "verify", "--file", &file, "--keys", &keys];
    let by_operator = [&["admin"], &of_file[..]].concat();
    server.run(&by_operator).await.exits(0);
    // Nobody is logged in there.
    let elsewhere = Machine::new();
    elsewhere.run(&of_file).await.exits(0);
    fs::write(&file, written.replacen("\"bob\"", "\"eve\"", 1)).unwrap();
    for ran in [
        elsewhere.run(&of_file).await,
        server.run(&by_operator).await,
    ] {
        let stdout = ran.exits(1).stdout;
        assert!(stdout.starts_with("altered: row "), "{stdout}");
    }
    // Keys that were kept count before those that the server names.
    fs::write(&keys, "{\"keys\": []}").unwrap();
    let ran = alice.run(&["audit", "verify", "--keys", &keys]).await;
    let stdout = ran.exits(1).stdout;
    assert!(stdout.starts_with("checkpoint-forged: "), "{stdout}");

    let none = path("none");
    let of_none = ["audit", "export", "--to", &none, "--from", "2999-01"];
    said(&alice.run(&of_none).await.exits(0), "no such rows");
    assert!(!fs::exists(&none).unwrap());
}

#[tokio::test]
async fn the_log_is_for_administrators() {
    let server = with_accounts(settings()).await;
    let carol = Machine::of(&server, "carol").await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("export").display().to_string();
    for arguments in [
        &["audit", "verify"][..],
        &["audit", "export"],
        &["audit", "export", "--to", &file],
        &["audit", "list"],
    ] {
        let ran = carol.run(arguments).await.exits(1);
        said(&ran, "(DENIED)");
        assert_eq!(ran.stdout, "");
    }
    assert!(!fs::exists(&file).unwrap());
}

#[tokio::test]
async fn an_export_comes_in_pages() {
    let server = with_accounts(settings()).await;
    let ask = async |query: &str| -> Answer {
        let path = format!("/api/v1/audit/export?{query}");
        server.get(&path).by(&basic("alice")).await
    };
    let whole = ask("").await.is(200).json();
    let whole_lines = whole["data"].as_array().unwrap();
    assert!(whole_lines.len() > 4 && whole["next"].is_null(), "{whole}");
    for limit in [1, 2] {
        let (mut lines, mut query) = (Vec::new(), format!("limit={limit}"));
        loop {
            let page = ask(&query).await.is(200).json();
            let on_page = page["data"].as_array().unwrap();
            // The first line is none of the log, and the last page may have found nothing more.
            let most = limit + usize::from(lines.is_empty());
            assert!(on_page.len() <= most, "{page}");
            assert!(!on_page.is_empty() || page["next"].is_null(), "{page}");
            lines.extend(on_page.clone());
            let Some(next) = page["next"].as_str() else {
                break;
            };
            query = format!("limit={limit}&after={next}");
        }
        assert_eq!(&lines, whole_lines);
    }
    for wrong in [
        "after=x",
        "after=e30",
        "from=2026-13",
        "through=",
        "limit=0",
        "limit=1001",
        "whole=true&from=2026-01",
        "whole=perhaps",
    ] {
        let refused = ask(wrong).await.is(400).json();
        assert_eq!(refused["error"]["code"], "INVALID", "{wrong}: {refused}");
    }
    let none = ask("from=2999-01").await.is(200).json();
    assert_eq!(none["data"], Value::Array(Vec::new()));
    let keys = server.get("/api/v1/audit/keys").by(&basic("alice")).await;
    let keys = keys.is(200).json();
    let keys = keys["data"]["keys"]["keys"].as_array().unwrap();
    let last = whole_lines.last().unwrap();
    assert_eq!((keys.len(), &keys[0]["kid"]), (1, &last["kid"]));
}

#[tokio::test]
async fn a_part_of_an_export_is_not_left_behind() {
    let page = "{\"ok\":true,\"data\":[{\"kind\":\"start\"}],\"next\":\"1\"}";
    let stub = Stub::start(move |_| json_answer(200, page));
    let machine = Machine::new().env("GRANARY_TOKEN", "grn_t_some");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("export").display().to_string();
    let url = stub.url();
    let arguments = ["audit", "export", "--to", &file, "--server", &url];
    said(&machine.run(&arguments).await.exits(1), "nothing more");
    assert_eq!(stub.asked().len(), 2);
    assert!(!fs::exists(&file).unwrap());
}

#[tokio::test]
async fn a_log_that_is_none_is_not_verified() {
    let odd = "x\u{1b}[2J";
    let start =
        json!({"kind": "start", "installation": "i", "seq": 0, "chain": "", "checkpoint": 0});
    let checkpoint = json!({
        "kind": "checkpoint", "number": 1, "first_seq": 1, "last_seq": 1, "first_at": 0, "last_at": 0, "chain": "", "kid": odd,
        "signature": "", "signed_at": 0,
    });
    let answers = |lines: Value| {
        Stub::start(move |asked| {
            let data = match asked.line.contains("/keys") {
                true => json!({"keys": {"keys": []}, "unproven": []}),
                false => lines.clone(),
            };
            json_answer(200, &format!("{{\"ok\":true,\"data\":{data}}}"))
        })
    };
    let machine = Machine::new().env("GRANARY_TOKEN", "grn_t_some");
    for (lines, words) in [
        (json!([]), "line 1 is not one of an export"),
        (json!([{"kind": "row"}]), "line 1 is not one of an export"),
        (json!([start, {}]), "line 2 is not one of an export"),
        (json!({"lines": []}), "does not answer as Granary does"),
    ] {
        let stub = answers(lines);
        let arguments = ["audit", "verify", "--server", &stub.url()];
        said(&machine.run(&arguments).await.exits(1), words);
    }
    let stub = answers(json!([start, checkpoint]));
    let arguments = ["audit", "verify", "--server", &stub.url()];
    let ran = machine.run(&arguments).await.exits(1);
    assert!(
        ran.stdout.starts_with("checkpoint-forged: ") && ran.stdout.contains("x\\u{1b}[2J"),
        "{:?}",
        ran.stdout
    );
}
