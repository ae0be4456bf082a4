//! `granary export`: what it writes, tools read and `granary import` takes back.

use std::{
    io::{self, Write},
    path::Path,
    process::Command,
};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::{IMAGE, INDEX, TestServer, artifact, descriptor, image, index, run, sha256};

/// A repository with images, an index, and a signature of one image.
async fn server_with_repository() -> TestServer {
    let server = TestServer::start().await;
    server.push_image("team/app", "v1", &image(1)).await;
    server.push_image("team/app", "v2", &image(2)).await;
    let list = index(&[image(1).descriptor(), image(2).descriptor()]);
    server.push_manifest("team/app", "all", INDEX, &list).await;
    server.push_artifact("team/app", &signature()).await;
    server
}

fn signature() -> Vec<u8> {
    let subject = descriptor(IMAGE, &image(1).manifest);
    artifact("application/x-signature", Some(subject), json!({"a": "b"})).to_vec()
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[tokio::test]
async fn an_export_comes_back_as_it_was() {
    let mut server = server_with_repository().await;
    let target = TempDir::new().unwrap();
    for (running, name) in [(true, "layout"), (true, "layout.tar"), (false, "stopped")] {
        if !running {
            server.stop().await;
        }
        let to = target.path().join(name);
        let ran = server
            .run(&["export", "team/app", "--to", text(&to), "--json"])
            .await
            .exits(0);
        let report: Value = ran.json();
        assert_eq!(
            (&report["tags"], &report["manifests"], &report["referrers"]),
            (&3.into(), &4.into(), &1.into())
        );
        let other = TestServer::start().await;
        other
            .run(&["import", text(&to), "--repository", "from/export"])
            .await
            .exits(0);
        let list = index(&[image(1).descriptor(), image(2).descriptor()]);
        for (tag, manifest) in [
            ("v1", &image(1).manifest),
            ("v2", &image(2).manifest),
            ("all", &list),
        ] {
            let answer = other.get(&format!("/v2/from/export/manifests/{tag}")).await;
            assert_eq!(answer.is(200).body, *manifest);
        }
        assert_eq!(other.tags("from/export").await, ["all", "v1", "v2"]);
        let path = format!("/v2/from/export/referrers/{}", image(1).digest());
        let referrers = other.get(&path).await.is(200).json();
        assert_eq!(referrers["manifests"][0]["digest"], sha256(&signature()));
        let blob = format!("/v2/from/export/blobs/{}", sha256(&image(2).layer));
        assert_eq!(other.get(&blob).await.is(200).body, image(2).layer);
    }
}

#[tokio::test]
async fn an_export_says_what_it_did() {
    let server = server_with_repository().await;
    let target = TempDir::new().unwrap();
    let to = target.path().join("layout");
    let arguments = ["export", "team/app:v1", "--to", text(&to)];
    let ran = server.run(&arguments).await.exits(0);
    // The image with its two blobs, and its signature with one.
    let expected = "1 tags, 2 manifests (1 referrers), 5 files written";
    assert!(ran.stdout.contains(expected), "{}", ran.stdout);
    let ran = server.run(&arguments).await.exits(0);
    assert!(
        ran.stdout.contains("0 files written (0 B), 5 were there"),
        "{}",
        ran.stdout
    );
}

#[tokio::test]
async fn exit_codes_tell_usage_from_failure() {
    let server = server_with_repository().await;
    let target = TempDir::new().unwrap();
    let to = target.path().join("layout");
    for (code, reference, part) in [
        (2, "team/app:", "is not a tag"),
        (2, "TEAM", "is not a repository name"),
        (1, "team/app:none", "none"),
        (1, "nobody/here", "is not known here"),
    ] {
        let ran = server
            .run(&["export", reference, "--to", text(&to)])
            .await
            .exits(code);
        assert!(ran.stderr.contains(part), "{}", ran.stderr);
    }
    let several = ["export", "team/app", "team/other", "--to", text(&to)];
    let ran = server.run(&several).await.exits(2);
    assert!(ran.stderr.contains("a path of its own"), "{}", ran.stderr);
    let nowhere = target.path().join("no/such/folder");
    let ran = server
        .run(&["export", "team/app", "--to", text(&nowhere)])
        .await;
    ran.exits(2);
    std::fs::write(target.path().join("stray"), b"x").unwrap();
    let ran = server
        .run(&["export", "team/app", "--to", text(target.path())])
        .await
        .exits(1);
    assert!(ran.stderr.contains("is in the way"), "{}", ran.stderr);
    assert!(!to.exists());
}

/// Whether there is a skopeo.
fn skopeo_is_here() -> bool {
    let found = Command::new("skopeo").arg("--version").output();
    let found = found.is_ok_and(|output| output.status.success());
    let must = std::env::var_os("CI").is_some_and(|ci| ci == "true");
    assert!(found || !must, "skopeo is needed");
    if !found {
        let _ = writeln!(io::stderr(), "skipped: there is no skopeo on this machine");
    }
    found
}

async fn skopeo(arguments: &[&str]) -> String {
    let mut command = Command::new("skopeo");
    command.arg("--insecure-policy").args(arguments);
    run(command).await.exits(0).stdout
}

#[tokio::test]
async fn skopeo_reads_what_was_exported() {
    if !skopeo_is_here() {
        return;
    }
    let server = server_with_repository().await;
    let target = TempDir::new().unwrap();
    let (folder, archive) = (target.path().join("layout"), target.path().join("a.tar"));
    for to in [&folder, &archive] {
        let arguments = ["export", "team/app", "--to", text(to)];
        server.run(&arguments).await.exits(0);
    }
    for (tag, manifest) in [("v1", &image(1).manifest), ("v2", &image(2).manifest)] {
        for place in [
            format!("oci:{}:{tag}", text(&folder)),
            format!("oci-archive:{}:{tag}", text(&archive)),
        ] {
            let raw = skopeo(&["inspect", "--raw", &place]).await;
            assert_eq!(raw.as_bytes(), &manifest[..], "{place}");
        }
    }
    // And what skopeo writes is taken in.
    let copy = format!("oci:{}:all", text(&target.path().join("copy")));
    let from = format!("oci:{}:all", text(&folder));
    skopeo(&["copy", "--all", "--preserve-digests", &from, &copy]).await;
    let path = target.path().join("copy");
    server
        .run(&["import", text(&path), "--repository", "from/skopeo"])
        .await
        .exits(0);
    let list = index(&[image(1).descriptor(), image(2).descriptor()]);
    let answer = server.get("/v2/from/skopeo/manifests/all").await.is(200);
    assert_eq!(answer.body, list);
}
