//! `granary import`: content of other registries and tools, beside a running server and without one.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::{
    IMAGE, INDEX, Image, TestServer, artifact, descriptor, image, index, noise, sha256, texts,
};

/// The storage of a distribution registry, as that writes it.
struct Tree(TempDir);

impl Tree {
    fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    fn path(&self) -> &str {
        self.0.path().to_str().unwrap()
    }

    fn write(&self, path: &str, bytes: &[u8]) -> PathBuf {
        let path = self.0.path().join("docker/registry/v2").join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        path
    }

    fn blob(&self, bytes: &[u8]) -> PathBuf {
        let digest = sha256(bytes);
        let hex = digest.split_once(':').unwrap().1;
        self.write(&format!("blobs/sha256/{}/{hex}/data", &hex[..2]), bytes)
    }

    fn link(&self, repository: &str, folder: &str, bytes: &[u8]) {
        self.blob(bytes);
        let digest = sha256(bytes);
        let path = digest.replace(':', "/");
        self.write(
            &format!("repositories/{repository}/{folder}/{path}/link"),
            digest.as_bytes(),
        );
    }

    fn image(&self, repository: &str, tag: &str, image: &Image) {
        self.link(repository, "_layers", &image.config);
        self.link(repository, "_layers", &image.layer);
        self.manifest(repository, tag, &image.manifest);
    }

    fn manifest(&self, repository: &str, tag: &str, manifest: &[u8]) {
        self.link(repository, "_manifests/revisions", manifest);
        if !tag.is_empty() {
            let folder = format!("repositories/{repository}/_manifests/tags/{tag}");
            self.write(
                &format!("{folder}/current/link"),
                sha256(manifest).as_bytes(),
            );
        }
    }
}

/// Two repositories, one of them with an index and a referrer.
fn tree() -> Tree {
    let tree = Tree::new();
    tree.image("app", "v1", &image(1));
    tree.image("team/deep/web", "v1", &image(1));
    tree.image("team/deep/web", "v2", &image(2));
    let list = index(&[image(1).descriptor(), image(2).descriptor()]);
    tree.manifest("team/deep/web", "all", &list);
    tree.link("team/deep/web", "_layers", b"{}");
    tree.manifest("team/deep/web", "", &signature());
    tree
}

fn signature() -> Vec<u8> {
    let subject = descriptor(IMAGE, &image(1).manifest);
    artifact("application/x-signature", Some(subject), json!({"a": "b"})).to_vec()
}

async fn assert_served(server: &TestServer) {
    let list = index(&[image(1).descriptor(), image(2).descriptor()]);
    for (repository, tag, manifest) in [
        ("app", "v1", &image(1).manifest),
        ("team/deep/web", "v1", &image(1).manifest),
        ("team/deep/web", "v2", &image(2).manifest),
        ("team/deep/web", "all", &list),
    ] {
        let answer = server
            .get(&format!("/v2/{repository}/manifests/{tag}"))
            .await;
        assert_eq!(answer.is(200).body, *manifest);
    }
    for bytes in [&image(1).layer, &image(1).config, &image(2).layer] {
        let path = format!("/v2/team/deep/web/blobs/{}", sha256(bytes));
        assert_eq!(server.get(&path).await.is(200).body, *bytes);
    }
    let path = format!("/v2/team/deep/web/referrers/{}", image(1).digest());
    let referrers = server.get(&path).await.is(200).json();
    assert_eq!(referrers["manifests"][0]["digest"], sha256(&signature()));
    assert_eq!(referrers["mediaType"], INDEX);
}

#[tokio::test]
async fn a_tree_is_imported_beside_a_running_server_and_without_one() {
    for running in [true, false] {
        let mut server = TestServer::start().await;
        if !running {
            server.stop().await;
        }
        let tree = tree();
        let dry = server
            .run(&["import", tree.path(), "--dry-run", "--json"])
            .await
            .exits(0)
            .json();
        assert_eq!(dry["manifests"]["stored"], 5);
        let report = server
            .run(&["import", tree.path(), "--json"])
            .await
            .exits(0)
            .json();
        assert_eq!(report["kind"], "storage-tree");
        assert_eq!(
            (&report["repositories"], &report["left_out"]["number"]),
            (&2.into(), &0.into())
        );
        assert_eq!(report["blobs"]["mounted"], 2);
        let again = server.run(&["import", tree.path()]).await.exits(0).stdout;
        assert!(again.contains("is the storage of a registry"), "{again}");
        assert!(
            again.contains("0 manifests (5 were here), 0 blobs copied"),
            "{again}"
        );
        if !running {
            server.start_again().await;
        }
        assert_served(&server).await;
        // Nothing that came is garbage.
        server.run(&["gc"]).await.exits(0);
        assert_served(&server).await;
    }
}

#[tokio::test]
async fn what_is_left_out_is_listed_and_told_by_the_exit_code() {
    let server = TestServer::start().await;
    let tree = tree();
    fs::write(tree.blob(&image(2).layer), b"damaged").unwrap();
    tree.write("repositories/BAD/_layers/sha256/x/link", b"");
    let ran = server.run(&["import", tree.path()]).await.exits(1);
    for part in [
        &sha256(&image(2).layer),
        &image(2).digest(),
        "left out: tag v2 in team/deep/web",
        "left out: repository BAD",
    ] {
        assert!(ran.stdout.contains(part), "no {part} in {}", ran.stdout);
    }
    // The blob, the image, the index, their tags, and the repository.
    assert!(ran.stderr.contains("6 left out"), "{}", ran.stderr);
    let report = server
        .run(&["import", tree.path(), "--json"])
        .await
        .exits(1)
        .json();
    let shown = report["left_out"]["shown"].as_array().unwrap();
    assert_eq!((shown.len(), &report["left_out"]["number"]), (6, &6.into()));
    for finding in shown {
        for field in ["kind", "what", "why", "remedy"] {
            assert!(
                finding[field].as_str().is_some_and(|text| !text.is_empty()),
                "{finding}"
            );
        }
    }
    server.get("/v2/team/deep/web/manifests/v1").await.is(200);
    server.get("/v2/team/deep/web/manifests/v2").await.is(404);
    tree.blob(&image(2).layer);
    fs::remove_dir_all(tree.0.path().join("docker/registry/v2/repositories/BAD")).unwrap();
    server.run(&["import", tree.path()]).await.exits(0);
    assert_served(&server).await;
}

#[tokio::test]
async fn usage_errors_end_with_2() {
    let server = TestServer::start().await;
    let (empty, layout) = (TempDir::new().unwrap(), layout(&image(1)));
    for (path, part) in [
        ("/nowhere/at/all", "cannot be opened"),
        (
            empty.path().to_str().unwrap(),
            "neither the storage of a registry nor an OCI image layout",
        ),
        (layout.path().to_str().unwrap(), "--repository"),
    ] {
        let ran = server.run(&["import", path]).await.exits(2);
        assert!(ran.stderr.contains(part), "{}", ran.stderr);
    }
}

#[tokio::test]
async fn a_path_that_is_missing_is_named_before_anything_begins() {
    let folder = TempDir::new().unwrap();
    let data = folder.path().join("data");
    let mut command = crate::harness::granary();
    command
        .args(["import", "/no/such/path", "--data"])
        .arg(&data);
    let ran = crate::harness::run(command).await.exits(2);
    for part in [
        "/no/such/path cannot be opened",
        "look how the path is written",
    ] {
        assert!(ran.stderr.contains(part), "no {part} in {}", ran.stderr);
    }
    assert!(!data.exists());
}

/// Whoever chose the names may have meant them for the terminal of whoever imports.
#[tokio::test]
async fn control_characters_in_names_are_escaped() {
    let server = TestServer::start().await;
    let tree = tree();
    let name = "\u{1b}]0;owned\u{7}";
    for path in [
        format!("app/_layers/sha256/{name}/link"),
        format!("app/_layers/{name}/x/link"),
        format!("app/_manifests/tags/{name}/current/link"),
        format!("{name}/_layers/sha256/x/link"),
    ] {
        tree.write(&format!("repositories/{path}"), b"");
    }
    let ran = server.run(&["import", tree.path()]).await.exits(1);
    assert!(ran.stderr.contains("4 left out"), "{}", ran.stderr);
    let escaped = name.escape_debug().to_string();
    let lines = ran.stdout.lines().filter(|line| line.contains(&escaped));
    assert_eq!(lines.count(), 4, "{}", ran.stdout);
    for text in [&ran.stdout, &ran.stderr] {
        assert!(!text.contains(['\u{1b}', '\u{7}']), "{text:?}");
    }
    assert_served(&server).await;
}

/// An image layout of one image, tagged `v1`.
fn layout(image: &Image) -> TempDir {
    let folder = TempDir::new().unwrap();
    let write = |path: &str, bytes: &[u8]| {
        let path: &Path = &folder.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    };
    write("oci-layout", b"{\"imageLayoutVersion\":\"1.0.0\"}");
    for bytes in [&image.config, &image.layer, &image.manifest] {
        write(&format!("blobs/{}", sha256(bytes).replace(':', "/")), bytes);
    }
    let mut entry = image.descriptor();
    entry["annotations"] = json!({"org.opencontainers.image.ref.name": "v1"});
    write("index.json", &index(&[entry]));
    folder
}

#[tokio::test]
async fn a_layout_is_imported_as_a_folder_and_as_an_archive() {
    let server = TestServer::start().await;
    let folder = layout(&image(1));
    let archive = folder.path().with_extension("tar");
    let ran = std::process::Command::new("tar")
        .arg("-C")
        .arg(folder.path())
        .arg("-cf")
        .arg(&archive)
        .arg(".")
        .status();
    assert!(ran.unwrap().success());
    for (path, repository) in [(folder.path(), "from/folder"), (&archive, "from/archive")] {
        let path = path.to_str().unwrap();
        let ran = server
            .run(&["import", path, "--repository", repository])
            .await
            .exits(0);
        assert!(
            ran.stdout.contains("is an OCI image layout"),
            "{}",
            ran.stdout
        );
        let answer = server.get(&format!("/v2/{repository}/manifests/v1")).await;
        assert_eq!(answer.is(200).body, image(1).manifest);
    }
    fs::remove_file(archive).unwrap();
}

/// A path is meant as the caller's folder has it, not the server's.
#[tokio::test]
async fn a_relative_path_is_the_callers() {
    let server = TestServer::start().await;
    let folder = layout(&image(1));
    let mut command = crate::harness::granary();
    command
        .current_dir(folder.path().parent().unwrap())
        .args(["import", "--repository", "app"])
        .arg(folder.path().file_name().unwrap())
        .arg("--data")
        .arg(server.data());
    crate::harness::run(command).await.exits(0);
    server.get("/v2/app/manifests/v1").await.is(200);
}

/// Cut in the middle by a kill, and run again.
#[tokio::test]
async fn an_import_that_was_cut_goes_on() {
    let mut server = TestServer::start().await;
    server.stop().await;
    let tree = Tree::new();
    let count = 40;
    for seed in 0..count {
        let mut image = image(seed);
        image.layer = noise(200_000, seed);
        let manifest = json!({
            "schemaVersion": 2, "mediaType": IMAGE,
            "config": descriptor("application/x", &image.config),
            "layers": [descriptor("application/x", &image.layer)],
        });
        image.manifest = manifest.to_string().into();
        tree.image("many", &format!("v{seed}"), &image);
    }
    let mut command = crate::harness::granary();
    command
        .args(["import", tree.path(), "--data"])
        .arg(server.data());
    let mut child = command.stdout(std::process::Stdio::null()).spawn().unwrap();
    crate::harness::eventually("some blobs came", async || {
        (server.objects().len() > 5).then_some(())
    })
    .await;
    child.kill().unwrap();
    child.wait().unwrap();
    let report: Value = server
        .run(&["import", tree.path(), "--json"])
        .await
        .exits(0)
        .json();
    let held = report["blobs"]["held"].as_u64().unwrap();
    assert!(held > 0 && report["left_out"]["number"] == 0, "{report}");
    server.start_again().await;
    let list = server.get("/v2/many/tags/list").await.is(200).json();
    assert_eq!(texts(&list["tags"]).len() as u64, count);
    server.run(&["scrub", "--rate", "10GiB"]).await.exits(0);
}
