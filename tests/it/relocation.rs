//! `granary backup`, `restore` and `migrate`: an installation arrives elsewhere as it was.

mod folder;
pub(crate) mod places;

use std::{
    fs,
    path::Path,
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use serde_json::Value;
use tempfile::TempDir;

use self::places::{bucket, database};
use crate::harness::{
    IMAGE, Ran, TestServer, artifact, descriptor, granary, image, noise, run, sha256,
};

/// Runs a command that is about other installations than a test server's.
async fn command(arguments: &[&str]) -> Ran {
    let mut command = granary();
    command.args(arguments);
    run(command).await
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Images of two repositories, one tag that moved, a signature, and a blob that lies in a file.
async fn fill(server: &TestServer) -> Vec<Bytes> {
    let mut pushed = Vec::new();
    for seed in 0..4 {
        let image = image(seed);
        let repository = ["team/app", "team/tool"][usize::try_from(seed % 2).unwrap()];
        server.push_image(repository, "latest", &image).await;
        server
            .push_image(repository, &format!("v{seed}"), &image)
            .await;
        pushed.push(image.manifest);
    }
    let large = noise(200_000, 77);
    server.push_blob("team/app", &large).await;
    let manifest = artifact(
        "application/x-signature",
        Some(descriptor(IMAGE, &pushed[0])),
        serde_json::json!({}),
    );
    server.push_artifact("team/app", &manifest).await;
    pushed
}

/// Everything that the API shows, as text.
async fn shown(server: &TestServer) -> String {
    let mut lines = Vec::new();
    let catalog = server.get("/v2/_catalog").await.is(200).json();
    lines.push(catalog.to_string());
    for repository in ["team/app", "team/tool"] {
        for tag in server.tags(repository).await {
            let path = format!("/v2/{repository}/manifests/{tag}");
            let manifest = server.get(&path).await.is(200).body;
            let json: Value = serde_json::from_slice(&manifest).unwrap();
            let blobs = json["layers"].as_array().unwrap().iter();
            for blob in blobs.chain([&json["config"]]) {
                let digest = blob["digest"].as_str().unwrap();
                let blob = server.get(&format!("/v2/{repository}/blobs/{digest}"));
                assert_eq!(sha256(&blob.await.is(200).body), digest);
            }
            let digest = sha256(&manifest);
            let referrers = server.get(&format!("/v2/{repository}/referrers/{digest}"));
            let referrers = referrers.await.is(200).json();
            lines.push(format!("{repository}:{tag} {digest} {json} {referrers}"));
        }
    }
    let large = sha256(&noise(200_000, 77));
    let blob = server.get(&format!("/v2/team/app/blobs/{large}"));
    assert_eq!(sha256(&blob.await.is(200).body), large);
    lines.join("\n")
}

/// A server on a folder that is there.
async fn serve(data: TempDir, config: Option<&Path>) -> TestServer {
    let mut builder = TestServer::builder().on(data);
    if let Some(config) = config {
        builder = builder.argument("--config").argument(text(config));
    }
    builder.start().await
}

fn note(folder: &Path) -> Value {
    serde_json::from_slice(&fs::read(folder.join("backup.json")).unwrap()).unwrap()
}

#[tokio::test]
async fn a_backup_of_a_running_server_is_restored() {
    let mut server = TestServer::start().await;
    fill(&server).await;
    let before = shown(&server).await;
    let session = server.begin("team/app").await;
    server.patch(&session).body("the first bytes").await.is(202);
    let folder = TempDir::new().unwrap();
    let to = folder.path().join("backup");
    let backup = async |server: &TestServer| {
        let ran = server.run(&["backup", "--json", "--to", text(&to)]).await;
        ran.exits(0).json()
    };
    let report = backup(&server).await;
    assert_eq!(
        (&report["objects"], &report["present"]),
        (&1.into(), &0.into())
    );
    assert_eq!(report["rows"]["tags"], 6);
    let said = note(&to);
    assert_eq!(
        (&said["complete"], &said["format"]),
        (&true.into(), &1.into())
    );
    assert_eq!(said["rows"], report["rows"]);

    // Nothing that came later is in it, until there is another one.
    server.push_image("team/app", "later", &image(9)).await;
    let restored = TempDir::new().unwrap();
    let data = text(restored.path()).to_owned();
    let restore = ["restore", "--from", text(&to), "--data", &data];
    let ran = command(&[&restore[..], &["--verify"]].concat())
        .await
        .exits(0);
    assert!(ran.stdout.contains("verified"), "{}", ran.stdout);
    let again = command(&restore).await.exits(1);
    assert!(again.stderr.contains("already"), "{}", again.stderr);
    let copy = serve(restored, None).await;
    assert_eq!(shown(&copy).await, before);
    copy.get(&session).await.is(404);
    copy.push_image("team/app", "later", &image(10)).await;

    server.stop().await;
    let report = backup(&server).await;
    assert_eq!(
        (&report["objects"], &report["present"]),
        (&0.into(), &1.into())
    );
    assert_eq!(report["rows"]["tags"], 7);
}

#[tokio::test]
async fn a_backup_while_clients_push_and_garbage_is_collected_is_complete() {
    let server = Arc::new(
        TestServer::builder()
            .env("GRANARY_GC__GRACE", "200ms")
            .env("GRANARY_GC__INTERVAL", "1s")
            .env("GRANARY_GC__UNTAGGED", "1ms")
            .env("GRANARY_STORAGE__INLINE_MAX", "100")
            .start()
            .await,
    );
    let stop = Arc::new(AtomicBool::new(false));
    let (pusher, stopping) = (Arc::clone(&server), Arc::clone(&stop));
    let pushing = tokio::spawn(async move {
        let mut seed = 100;
        while !stopping.load(Ordering::SeqCst) {
            seed += 1;
            let image = image(seed);
            for blob in [&image.config, &image.layer] {
                pusher.push_blob("team/app", blob).await;
            }
            // With so short a grace time a collection may be faster.
            let put = pusher.put_manifest("team/app", "moving", IMAGE, &image.manifest);
            put.await;
        }
        seed
    });
    let folder = TempDir::new().unwrap();
    let to = folder.path().join("backup");
    for round in 0..3 {
        let arguments = ["backup", "--to", text(&to)];
        let (backup, gc) = tokio::join!(server.run(&arguments), server.run(&["gc"]));
        backup.exits(0);
        gc.exits(0);
        let data = folder.path().join(format!("restored-{round}"));
        let restore = ["restore", "--verify", "--json", "--from", text(&to)];
        let ran = command(&[&restore[..], &["--data", text(&data)]].concat()).await;
        let report = ran.exits(0).json();
        assert_eq!(report["strangers"], 0, "{report}");
        let scrub = command(&["scrub", "--data", text(&data), "--json"]).await;
        assert_eq!(scrub.exits(0).json()["blobs"], report["rows"]["blobs"]);
    }
    stop.store(true, Ordering::SeqCst);
    assert!(pushing.await.unwrap() > 103);
}

#[tokio::test]
async fn what_is_lost_is_listed_and_ends_with_1() {
    let mut server = TestServer::start().await;
    fill(&server).await;
    let folder = TempDir::new().unwrap();
    let (to, data) = (folder.path().join("backup"), folder.path().join("data"));
    server.run(&["backup", "--to", text(&to)]).await.exits(0);
    let large = sha256(&noise(200_000, 77));
    let object = server.objects().remove(0);
    let kept = to.join(object.strip_prefix(server.data()).unwrap());
    fs::remove_file(&kept).unwrap();
    let restore = ["restore", "--from", text(&to), "--data", text(&data)];
    let ran = command(&restore).await.exits(1);
    assert!(
        ran.stdout.contains(&format!("missing blob {large}")),
        "{}",
        ran.stdout
    );
    // The same of a source that is damaged itself.
    let mut bytes = fs::read(&object).unwrap();
    bytes[5] ^= 1;
    fs::write(&object, bytes).unwrap();
    let again = folder.path().join("again");
    let ran = server.run(&["backup", "--to", text(&again)]).await.exits(1);
    assert!(
        ran.stdout.contains(&format!("damaged blob {large}")),
        "{}",
        ran.stdout
    );
    assert_eq!(note(&again)["lost"], 1);
    server.stop().await;
}

#[tokio::test]
async fn what_cannot_be_meant_ends_with_2() {
    let folder = TempDir::new().unwrap();
    let empty = text(folder.path());
    for arguments in [
        &["restore", "--from", empty, "--data", "x"][..],
        &["migrate", "--from", empty, "--to", "no-such-file.toml"],
        &[
            "migrate",
            "--from",
            empty,
            "--from-data",
            empty,
            "--to",
            empty,
        ],
        &["backup", "--to", "/no/such/folder/at/all", "--data", empty],
    ] {
        command(arguments).await.exits(2);
    }
}

#[tokio::test]
async fn a_source_that_is_served_is_not_migrated() {
    let mut server = TestServer::start().await;
    fill(&server).await;
    let target = TempDir::new().unwrap();
    let from = server.data().to_owned();
    let migrate = [
        "migrate",
        "--from",
        text(&from),
        "--to",
        text(target.path()),
    ];
    let refused = command(&migrate).await.exits(1);
    assert!(
        refused.stderr.contains("another process uses"),
        "{}",
        refused.stderr
    );
    let before = shown(&server).await;
    server.stop().await;
    command(&migrate).await.exits(0);
    let copy = serve(target, None).await;
    assert_eq!(shown(&copy).await, before);
}

#[tokio::test]
async fn an_embedded_installation_moves_to_production_and_back() {
    let mut server = TestServer::start().await;
    fill(&server).await;
    let before = shown(&server).await;
    let from = server.data().to_owned();
    server.stop().await;
    let folder = TempDir::new().unwrap();
    let config = folder.path().join("production.toml");
    fs::write(&config, format!("{}{}", database(), bucket().await)).unwrap();
    let migrate = ["migrate", "--from", text(&from), "--to", text(&config)];
    let report = command(&[&migrate[..], &["--json", "--verify"]].concat()).await;
    let report = report.exits(0).json();
    assert_eq!(report["objects"], 1);
    let mut production = serve(TempDir::new().unwrap(), Some(&config)).await;
    assert_eq!(shown(&production).await, before);
    production.push_image("team/app", "new", &image(50)).await;
    let before = shown(&production).await;

    // A backup beside the servers, by a process of its own.
    let own = folder.path().join("own-data");
    let to = folder.path().join("backup");
    let backup = ["backup", "--to", text(&to), "--config", text(&config)];
    command(&[&backup[..], &["--data", text(&own)]].concat())
        .await
        .exits(0);
    let restored = TempDir::new().unwrap();
    let restore = ["restore", "--verify", "--from", text(&to), "--data"];
    command(&[&restore[..], &[text(restored.path())]].concat())
        .await
        .exits(0);
    let copy = serve(restored, None).await;
    assert_eq!(shown(&copy).await, before);

    // Back again, once nobody serves.
    let embedded = TempDir::new().unwrap();
    let back = [
        "migrate",
        "--from",
        text(&config),
        "--to",
        text(embedded.path()),
    ];
    let refused = command(&back).await.exits(1);
    assert!(
        refused.stderr.contains("is served by"),
        "{}",
        refused.stderr
    );
    production.stop().await;
    command(&back).await.exits(0);
    let copy = serve(embedded, None).await;
    assert_eq!(shown(&copy).await, before);
}

#[tokio::test]
async fn a_migration_that_is_killed_again_and_again_arrives() {
    let mut server = TestServer::builder()
        .env("GRANARY_STORAGE__INLINE_MAX", "100")
        .start()
        .await;
    fill(&server).await;
    for seed in 100..140 {
        server
            .push_image("team/tool", &format!("t{seed}"), &image(seed))
            .await;
    }
    let before = shown(&server).await;
    let from = server.data().to_owned();
    server.stop().await;
    let folder = TempDir::new().unwrap();
    let config = folder.path().join("production.toml");
    fs::write(&config, format!("{}{}", database(), bucket().await)).unwrap();
    let migrate = ["migrate", "--from", text(&from), "--to", text(&config)];
    let mut killed = 0;
    for pause in (40..).step_by(30) {
        let mut command = granary();
        command.args(migrate).stderr(Stdio::piped());
        let mut process = command.spawn().unwrap();
        tokio::time::sleep(Duration::from_millis(pause)).await;
        if process.try_wait().unwrap().is_some() {
            let ended = process.wait_with_output().unwrap();
            let said = String::from_utf8_lossy(&ended.stderr);
            // The one before may have been killed when its copy was whole, and it was about to say so.
            let arrived = ended.status.success() || said.contains("an earlier copy of it ended");
            assert!(arrived, "{said}");
            break;
        }
        process.kill().unwrap();
        process.wait().unwrap();
        killed += 1;
    }
    assert!(killed > 2, "{killed}");
    let production = serve(TempDir::new().unwrap(), Some(&config)).await;
    assert_eq!(shown(&production).await, before);
    production
        .run(&["scrub", "--config", text(&config)])
        .await
        .exits(0);
}

#[tokio::test]
async fn only_the_database_moves_if_the_store_is_the_same() {
    let mut server = TestServer::start().await;
    fill(&server).await;
    let before = shown(&server).await;
    let from = server.data().to_owned();
    server.stop().await;
    let folder = TempDir::new().unwrap();
    let config = folder.path().join("production.toml");
    let root = format!("[storage.fs]\nroot = \"{}\"\n", text(&from.join("blobs")));
    fs::write(&config, format!("{}{root}", database())).unwrap();
    let migrate = ["migrate", "--from", text(&from), "--to", text(&config)];
    let report = command(&[&migrate[..], &["--json", "--verify"]].concat()).await;
    let report = report.exits(0).json();
    assert_eq!(
        (&report["objects"], &report["present"]),
        (&0.into(), &1.into())
    );
    let mut production = serve(TempDir::new().unwrap(), Some(&config)).await;
    assert_eq!(shown(&production).await, before);
    production.stop().await;
}
