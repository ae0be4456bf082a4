//! `granary gc` and `granary why`, beside a running server and without one.

use futures_util::future::{join, join_all};
use serde_json::{Value, json};

use crate::harness::{
    Builder, IMAGE, INDEX, TestServer, artifact, descriptor, eventually, image, index, noise,
    sha256,
};

/// A server that keeps nothing longer than it must.
fn impatient() -> Builder {
    TestServer::builder().env("GRANARY_GC__GRACE", "0s")
}

async fn collect(server: &TestServer) -> Value {
    server.run(&["gc", "--json"]).await.exits(0).json()
}

/// A repository with an image whose layer is a file, and blobs that nothing refers to.
async fn push_garbage(server: &TestServer) -> Vec<String> {
    let mut kept = image(1);
    let layer = noise(200_000, 1);
    let text = String::from_utf8(kept.manifest.to_vec()).unwrap();
    let text = text.replace(&sha256(&kept.layer), &sha256(&layer));
    (kept.layer, kept.manifest) = (layer, text.into());
    server.push_image("gc/repository", "a", &kept).await;
    let small = server.push_blob("gc/repository", b"small garbage").await;
    let large = server.push_blob("gc/repository", &noise(300_000, 2)).await;
    vec![small, large]
}

async fn assert_only_garbage_went(server: &TestServer, garbage: &[String]) {
    for digest in garbage {
        let path = format!("/v2/gc/repository/blobs/{digest}");
        server
            .get(&path)
            .await
            .refused_naming(404, "BLOB_UNKNOWN", digest);
        server.head(&path).await.is(404);
    }
    let manifest = server
        .get("/v2/gc/repository/manifests/a")
        .await
        .is(200)
        .json();
    for descriptor in [&manifest["config"], &manifest["layers"][0]] {
        let digest = descriptor["digest"].as_str().unwrap();
        let blob = server
            .get(&format!("/v2/gc/repository/blobs/{digest}"))
            .await
            .is(200);
        assert_eq!(sha256(&blob.body), digest);
    }
    assert_eq!(server.objects().len(), 1);
}

#[tokio::test]
async fn gc_frees_what_nothing_refers_to_beside_a_running_server() {
    let server = impatient().start().await;
    let garbage = push_garbage(&server).await;
    assert_eq!(server.objects().len(), 2);
    let report = collect(&server).await;
    assert_eq!(
        (&report["blobs"], &report["bytes"]),
        (&2.into(), &300_013.into())
    );
    assert_eq!(report["objects"], 1);
    assert_only_garbage_went(&server, &garbage).await;
    let report = collect(&server).await;
    assert_eq!(
        (&report["blobs"], &report["objects"]),
        (&0.into(), &0.into())
    );
}

#[tokio::test]
async fn gc_frees_what_nothing_refers_to_without_a_server() {
    let mut server = impatient().start().await;
    let garbage = push_garbage(&server).await;
    server.stop().await;
    let report = collect(&server).await;
    assert_eq!(
        (&report["blobs"], &report["bytes"]),
        (&2.into(), &300_013.into())
    );
    assert_eq!(report["objects"], 1);
    server.start_again().await;
    assert_only_garbage_went(&server, &garbage).await;
}

#[tokio::test]
async fn a_dry_run_says_what_would_go_and_deletes_nothing() {
    let server = impatient().start().await;
    let garbage = push_garbage(&server).await;
    for _ in 0..3 {
        let report = server
            .run(&["gc", "--dry-run", "--json"])
            .await
            .exits(0)
            .json();
        assert_eq!(report["dry_run"], true);
        assert_eq!(
            (&report["blobs"], &report["bytes"]),
            (&2.into(), &300_013.into())
        );
        for digest in &garbage {
            server
                .get(&format!("/v2/gc/repository/blobs/{digest}"))
                .await
                .is(200);
        }
    }
    assert_eq!(server.objects().len(), 2);
}

#[tokio::test]
async fn gc_leaves_what_is_new() {
    let server = TestServer::start().await;
    let garbage = push_garbage(&server).await;
    for _ in 0..2 {
        let report = collect(&server).await;
        assert_eq!(
            (&report["blobs"], &report["objects"]),
            (&0.into(), &0.into())
        );
    }
    for digest in garbage {
        server
            .get(&format!("/v2/gc/repository/blobs/{digest}"))
            .await
            .is(200);
    }
}

/// Decision 12: what a HEAD says is there stays long enough to refer to it.
#[tokio::test]
async fn gc_leaves_what_a_client_asked_for() {
    let server = TestServer::builder()
        .env("GRANARY_GC__GRACE", "3s")
        .start()
        .await;
    let asked = server.push_blob("gc/asked", b"asked for").await;
    let forgotten = server.push_blob("gc/asked", b"forgotten").await;
    eventually("the forgotten blob goes", async || {
        server
            .head(&format!("/v2/gc/asked/blobs/{asked}"))
            .await
            .is(200);
        collect(&server).await;
        let path = format!("/v2/gc/asked/blobs/{forgotten}");
        (server.get(&path).await.status == 404).then_some(())
    })
    .await;
    // Nothing has referred to it either, and it is older than what went.
    let blob = server
        .get(&format!("/v2/gc/asked/blobs/{asked}"))
        .await
        .is(200);
    assert_eq!(blob.body, "asked for");
}

#[tokio::test]
async fn gc_follows_every_reference() {
    let server = impatient().start().await;
    let repository = "gc/edges";
    let (first, second) = (image(1), image(2));
    for pushed in [&first, &second] {
        server
            .push_image(repository, &pushed.digest(), pushed)
            .await;
    }
    let listing = index(&[first.descriptor()]);
    server.push_manifest(repository, "i", INDEX, &listing).await;
    let note = artifact("text/note", Some(second.descriptor()), json!({}));
    server.push_artifact(repository, &note).await;
    server.push_blob(repository, b"deep").await;
    let custom = json!({"x": {"y": [{"mediaType": "a/b", "size": 4, "digest": sha256(b"deep")}]}});
    server
        .push_manifest(repository, "c", "a/b", custom.to_string().as_bytes())
        .await;
    let report = collect(&server).await;
    assert_eq!(
        (&report["blobs"], &report["manifests"]),
        (&0.into(), &0.into())
    );
    for content in [&first.layer[..], &second.config, b"deep", b"{}"] {
        server
            .get(&format!("/v2/{repository}/blobs/{}", sha256(content)))
            .await
            .is(200);
    }

    // Manifests without a tag are kept; deleted ones take along what nothing else refers to.
    let path = format!("/v2/{repository}/manifests/{}", second.digest());
    server.get(&path).await.is(200);
    server.delete(&path).await.is(202);
    assert_eq!(collect(&server).await["blobs"], 2);
    for content in [&second.layer, &second.config] {
        server
            .get(&format!("/v2/{repository}/blobs/{}", sha256(content)))
            .await
            .is(404);
    }
    server
        .get(&format!("/v2/{repository}/manifests/{}", sha256(&note)))
        .await
        .is(200);
}

#[tokio::test]
async fn many_pushes_of_one_blob_leave_one_object() {
    let server = impatient().start().await;
    let content = noise(300_000, 1);
    let names: Vec<String> = (0..8)
        .map(|number| format!("gc/same{}", number % 2))
        .collect();
    join_all(names.iter().map(|name| server.push_blob(name, &content))).await;
    let manifest = json!({"layers": [descriptor("a/b", &content)]}).to_string();
    for name in &names[..2] {
        server
            .push_manifest(name, "a", "a/b", manifest.as_bytes())
            .await;
    }
    collect(&server).await;
    assert_eq!(server.objects().len(), 1);
    for name in &names[..2] {
        let blob = server
            .get(&format!("/v2/{name}/blobs/{}", sha256(&content)))
            .await
            .is(200);
        assert!(blob.body == content);
    }
}

#[tokio::test]
async fn gc_keeps_a_blob_while_one_repository_refers_to_it() {
    let server = impatient().start().await;
    let pushed = image(1);
    for repository in ["gc/one", "gc/two"] {
        server.push_image(repository, "a", &pushed).await;
    }
    server
        .delete(&format!("/v2/gc/one/manifests/{}", pushed.digest()))
        .await
        .is(202);
    let report = collect(&server).await;
    assert_eq!(
        (&report["withdrawn"], &report["blobs"]),
        (&2.into(), &0.into())
    );
    let layer = sha256(&pushed.layer);
    server
        .get(&format!("/v2/gc/one/blobs/{layer}"))
        .await
        .is(404);
    server
        .get(&format!("/v2/gc/two/blobs/{layer}"))
        .await
        .is(200);
}

#[tokio::test]
async fn untagged_manifests_go_where_the_operator_says_so() {
    let server = impatient().env("GRANARY_GC__UNTAGGED", "0s").start().await;
    let repository = "gc/untagged";
    let [untagged, tagged, child, moved] = [1, 2, 3, 4].map(image);
    for pushed in [&untagged, &child, &moved] {
        server
            .push_image(repository, &pushed.digest(), pushed)
            .await;
    }
    server.push_image(repository, "a", &moved).await;
    server.push_image(repository, "a", &tagged).await;
    let listing = index(&[child.descriptor()]);
    server.push_manifest(repository, "i", INDEX, &listing).await;
    let of_tagged = artifact("text/note", Some(tagged.descriptor()), json!({}));
    let of_untagged = artifact("text/note", Some(untagged.descriptor()), json!({}));
    for note in [&of_tagged, &of_untagged] {
        server.push_artifact(repository, note).await;
    }
    // What refers to something that goes, goes with it, in the same run or the next.
    let mut removed = 0;
    for _ in 0..3 {
        removed += collect(&server).await["manifests"].as_u64().unwrap();
    }
    assert_eq!(removed, 3);
    let get =
        |content: &[u8]| server.get(&format!("/v2/{repository}/manifests/{}", sha256(content)));
    for kept in [&tagged.manifest, &child.manifest, &listing, &of_tagged] {
        get(kept).await.is(200);
    }
    for gone in [&untagged.manifest, &moved.manifest, &of_untagged] {
        get(gone).await.is(404);
    }
    server
        .get(&format!(
            "/v2/{repository}/blobs/{}",
            sha256(&untagged.layer)
        ))
        .await
        .is(404);
    server
        .get(&format!("/v2/{repository}/blobs/{}", sha256(&child.layer)))
        .await
        .is(200);
}

#[tokio::test]
async fn idle_sessions_end() {
    let server = impatient()
        .env("GRANARY_UPLOADS__EXPIRY", "1s")
        .start()
        .await;
    let location = server.begin("gc/idle").await;
    server
        .patch(&location)
        .body(noise(300_000, 1))
        .await
        .is(202);
    assert_eq!(server.objects().len(), 1);
    eventually("the session expires", async || {
        Some(collect(&server).await).filter(|report| report["uploads"] == 1)
    })
    .await;
    server
        .get(&location)
        .await
        .refused(404, "BLOB_UPLOAD_UNKNOWN");
    collect(&server).await;
    assert!(server.objects().is_empty());
}

#[tokio::test]
async fn why_says_what_keeps_a_digest() {
    let mut server = TestServer::start().await;
    let pushed = image(1);
    let manifest = server.push_image("why/kept", "v1", &pushed).await;
    let layer = sha256(&pushed.layer);
    let lone = server.push_blob("why/kept", b"nothing refers to it").await;
    for running in [true, false] {
        if !running {
            server.stop().await;
        }
        let text = server.run(&["why", &manifest]).await.exits(0).stdout;
        assert!(text.contains("why/kept:v1"), "{text}");
        let text = server.run(&["why", &layer]).await.exits(0).stdout;
        assert!(text.contains(&format!("why/kept@{manifest}")), "{text}");

        let report = server.run(&["why", &layer, "--json"]).await.exits(0).json();
        assert_eq!(
            (&report["known"], &report["blob_size"]),
            (&true.into(), &500.into())
        );
        let keepers = report["keepers"].as_array().unwrap();
        let keeper = json!({"kind": "manifest", "repository": "why/kept", "digest": manifest});
        assert!(keepers.contains(&keeper), "{report}");
        let report = server.run(&["why", &lone, "--json"]).await.exits(0).json();
        let kinds: Vec<&Value> = report["keepers"]
            .as_array()
            .unwrap()
            .iter()
            .map(|keeper| &keeper["kind"])
            .collect();
        assert_eq!(kinds, ["lease"]);

        let unknown = sha256(b"unknown");
        let ran = server.run(&["why", &unknown]).await.exits(1);
        assert!(ran.stderr.contains(&unknown), "{}", ran.stderr);
        let ran = server.run(&["why", "sha256:short"]).await.exits(2);
        assert!(ran.stderr.contains("sha256:short"), "{}", ran.stderr);
    }
}

#[tokio::test]
async fn gc_beside_pushes_loses_nothing() {
    let server = impatient().start().await;
    let pushes = async {
        let mut stored = Vec::new();
        for seed in 0..30 {
            let pushed = image(seed);
            server.push_blob("gc/busy", &pushed.config).await;
            server.push_blob("gc/busy", &pushed.layer).await;
            let put = server.put_manifest("gc/busy", &pushed.digest(), IMAGE, &pushed.manifest);
            // Without a grace time content may go before the manifest comes; that must be said then.
            let answer = put.await;
            if answer.status == 201 {
                stored.push(pushed);
            } else {
                answer.refused(404, "MANIFEST_BLOB_UNKNOWN");
            }
        }
        stored
    };
    let collections = async {
        for _ in 0..5 {
            collect(&server).await;
        }
    };
    let (stored, ()) = join(pushes, collections).await;
    for pushed in stored {
        for content in [&pushed.config, &pushed.layer] {
            let path = format!("/v2/gc/busy/blobs/{}", sha256(content));
            assert_eq!(server.get(&path).await.is(200).body, content);
        }
    }
}
