//! The configuration, as `granary` takes it: errors end with code 2 and name place, key and remedy.

use std::{fs, path::Path};

use crate::harness::{Ran, TestServer, granary, noise, run};

/// Runs `granary` with a configuration file, in a folder of its own.
async fn check(file: &str, arguments: &[&str], environment: &[(&str, &str)]) -> Ran {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("granary.toml");
    std::fs::write(&path, file).unwrap();
    let mut command = granary();
    command
        .args(arguments)
        .arg("--config")
        .arg(path)
        .current_dir(&folder);
    command.envs(environment.iter().copied());
    run(command).await
}

#[track_caller]
fn assert_said(ran: &Ran, words: &[&str]) {
    for word in words {
        assert!(ran.stderr.contains(word), "no {word} in: {}", ran.stderr);
    }
}

#[tokio::test]
async fn errors_in_the_file_name_line_key_and_remedy() {
    let cases: [(&str, &[&str]); 7] = [
        (
            "[server]\nlisten = \"127.0.0.1:0\"\nlisen = \"x\"\n",
            &["line 3", "server.lisen", "server.listen"],
        ),
        (
            "[gc]\n\ngrace = \"soon\"\n",
            &["line 3", "gc.grace", "soon", "24h"],
        ),
        ("[gc]\ngrace = 5\n", &["line 2", "gc.grace"]),
        ("[server\n", &["line 1"]),
        (
            "[storage]\nkind = \"floppy\"\n",
            &["line 2", "storage.kind", "floppy", "fs"],
        ),
        (
            "[policy]\nsparse = \"yes\"\n",
            &["line 2", "policy.sparse", "true or false"],
        ),
        (
            "[server]\ntls_cert = \"cert.pem\"\n",
            &["line 2", "server.tls_cert", "server.tls_key"],
        ),
    ];
    for (file, words) in cases {
        for arguments in [&["serve"][..], &["config", "check"], &["gc"]] {
            let ran = check(file, arguments, &[]).await.exits(2);
            assert_said(&ran, &["granary.toml"]);
            assert_said(&ran, words);
        }
    }
}

#[tokio::test]
async fn errors_in_the_environment_name_the_variable() {
    let cases: [(&str, &str, &[&str]); 4] = [
        ("GRANARY_GC__GRACE", "soon", &["gc.grace", "soon", "24h"]),
        (
            "GRANARY_GC__GRASE",
            "1h",
            &["gc.grase", "GRANARY_GC__GRACE"],
        ),
        (
            "GRANARY_SERVER__LISTEN",
            "nowhere",
            &["server.listen", "nowhere"],
        ),
        (
            "GRANARY_UPLOADS__MAX_PER_PRINCIPAL",
            "0",
            &["uploads.max_per_principal"],
        ),
    ];
    for (name, value, words) in cases {
        let ran = check("", &["serve"], &[(name, value)]).await.exits(2);
        assert_said(&ran, &[name]);
        assert_said(&ran, words);
    }
}

/// Decision 34: what is not built yet is not known either.
#[tokio::test]
async fn keys_and_commands_to_come_are_unknown() {
    for key in ["search.kind", "audit.keep"] {
        let (section, name) = key.rsplit_once('.').unwrap();
        let ran = check(
            &format!("[{section}]\n{name} = \"x\"\n"),
            &["config", "check"],
            &[],
        )
        .await;
        assert_said(&ran.exits(2), &["line", section]);
    }
    for arguments in [
        &["publish"][..],
        &["admin", "team"],
        &["serve", "--port", "1"],
        &[],
    ] {
        let mut command = granary();
        command.args(arguments);
        run(command).await.exits(2);
    }
}

#[tokio::test]
async fn a_file_that_is_missing_is_named() {
    let mut command = granary();
    command.args(["serve", "--config", "no-such-file.toml"]);
    let ran = run(command).await.exits(2);
    assert_said(&ran, &["no-such-file.toml", "--config"]);
}

#[tokio::test]
async fn the_effective_configuration_is_shown_without_secrets() {
    let file =
        "[gc]\ngrace = \"2d\"\n[telemetry]\notlp_endpoint = \"http://me:hunter2@127.0.0.1:4318\"\n";
    let environment = [("GRANARY_TAGS__HISTORY", "30d")];
    let ran = check(file, &["config", "show", "--json"], &environment)
        .await
        .exits(0);
    let shown = ran.json();
    assert_eq!(
        (&shown["gc"]["grace"], &shown["tags"]["history"]),
        (&"2d".into(), &"30d".into())
    );
    assert_eq!(shown["server"]["listen"], "127.0.0.1:5000");
    let text = check(file, &["config", "show"], &environment)
        .await
        .exits(0)
        .stdout;
    assert!(
        text.contains("GRANARY_TAGS__HISTORY") && text.contains("line 2"),
        "{text}"
    );
    for shown in [ran.stdout, text] {
        assert!(
            shown.contains("127.0.0.1:4318") && !shown.contains("hunter2"),
            "{shown}"
        );
    }
    let ran = check(file, &["config", "check", "--json"], &[])
        .await
        .exits(0);
    assert_eq!(ran.json()["ok"], true);
}

#[tokio::test]
async fn other_machines_are_let_in_only_on_request() {
    for listen in ["0.0.0.0:0", "[::]:0"] {
        let ran = check("", &["serve", "--listen", listen], &[])
            .await
            .exits(2);
        assert_said(&ran, &[listen, "--allow-anonymous", "127.0.0.1"]);
    }
    let server = TestServer::builder()
        .argument("--listen")
        .argument("0.0.0.0:0")
        .argument("--allow-anonymous")
        .start()
        .await;
    server
        .get("/v2/")
        .header("Host", "registry.example.org")
        .await
        .is(200);
}

#[tokio::test]
async fn a_file_configures_the_server() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("granary.toml");
    std::fs::write(
        &path,
        "[policy]\ndelete = false\n[storage]\ninline_max = \"1KiB\"\n",
    )
    .unwrap();
    let server = TestServer::builder()
        .argument("--config")
        .argument(path.to_str().unwrap())
        .start()
        .await;
    let digest = server.push_blob("configured/by-file", &[b'x'; 1_025]).await;
    assert_eq!(server.objects().len(), 1);
    let path = format!("/v2/configured/by-file/blobs/{digest}");
    server.delete(&path).await.refused(405, "UNSUPPORTED");
}

#[tokio::test]
async fn a_store_in_memory_leaves_no_objects() {
    let mut server = TestServer::builder()
        .env("GRANARY_STORAGE__KIND", "memory")
        .start()
        .await;
    let content = vec![b'x'; 200_000];
    let digest = server.push_blob("configured/memory", &content).await;
    let path = format!("/v2/configured/memory/blobs/{digest}");
    assert!(server.get(&path).await.is(200).body == content);
    assert!(server.objects().is_empty());
    server.restart().await;
    server.get(&path).await.is(404);
}

#[tokio::test]
async fn a_store_of_another_catalog_is_refused() {
    let mut server = TestServer::start().await;
    server.push_blob("configured/store", b"content").await;
    server.stop().await;
    // A fresh catalog on a store that belongs to another.
    for entry in std::fs::read_dir(server.data()).unwrap() {
        let path = entry.unwrap().path();
        if path
            .file_name()
            .is_some_and(|name| name.to_string_lossy().starts_with("granary.db"))
        {
            std::fs::remove_file(path).unwrap();
        }
    }
    let data: &Path = server.data();
    let mut command = granary();
    command
        .args(["serve", "--listen", "127.0.0.1:0", "--data"])
        .arg(data);
    let ran = run(command).await.exits(1);
    assert_said(&ran, &["store"]);
}

/// A disk that is not mounted looks like a store that was never used.
#[tokio::test]
async fn a_store_that_was_never_used_is_refused_if_the_catalog_names_objects() {
    let mut server = TestServer::start().await;
    let content = noise(100_000, 1);
    let digest = server.push_blob("configured/away", &content).await;
    let path = format!("/v2/configured/away/blobs/{digest}");
    server.stop().await;
    let (blobs, away) = (server.data().join("blobs"), server.data().join("away"));
    fs::rename(&blobs, &away).unwrap();
    let id = fs::read_to_string(away.join("store-id")).unwrap();
    let starts: [&[&str]; 3] = [&["serve", "--listen", "127.0.0.1:0"], &["scrub"], &["gc"]];
    for arguments in starts {
        let ran = server.run(arguments).await.exits(1);
        assert_said(&ran, &["the blob store was never used", "mounted"]);
        assert_said(&ran, &["restore a backup", "store-id", id.trim()]);
        assert!(!blobs.join("store-id").exists());
    }
    fs::remove_dir_all(&blobs).unwrap();
    fs::rename(&away, &blobs).unwrap();
    server.start_again().await;
    assert!(server.get(&path).await.is(200).body == content);

    // The objects are lost after all, and the operator goes on without them as he was told.
    server.stop().await;
    fs::remove_dir_all(&blobs).unwrap();
    fs::create_dir(&blobs).unwrap();
    fs::write(blobs.join("store-id"), id.trim()).unwrap();
    server.start_again().await;
    server
        .get(&path)
        .await
        .refused_naming(404, "BLOB_UNKNOWN", &digest);
    server.push_blob("configured/away", &content).await;
    assert!(server.get(&path).await.is(200).body == content);
}

#[tokio::test]
async fn a_store_that_was_never_used_will_do_if_the_catalog_names_no_objects() {
    let mut server = TestServer::start().await;
    // Small enough to lie in the catalog.
    let digest = server.push_blob("configured/small", b"content").await;
    server.stop().await;
    fs::remove_dir_all(server.data().join("blobs")).unwrap();
    server.start_again().await;
    let path = format!("/v2/configured/small/blobs/{digest}");
    assert_eq!(server.get(&path).await.is(200).body, &b"content"[..]);
}
