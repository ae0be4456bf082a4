//! end-7: what a manifest push answers, and what it needs.

use serde_json::json;

use crate::harness::{
    Answer, CONFIG, EMPTY, IMAGE, INDEX, LAYER, TestServer, artifact, descriptor, image, index,
    sha256, sha512, texts,
};

/// The tags an answer says were set.
fn oci_tags(answer: &Answer) -> Vec<String> {
    let values = answer.headers.get_all("oci-tag").iter();
    let tags = values.flat_map(|value| value.to_str().unwrap().split(','));
    tags.map(|tag| tag.trim().to_owned()).collect()
}

#[tokio::test]
async fn end_7a_stores_a_manifest_by_tag() {
    let server = TestServer::start().await;
    let pushed = image(1);
    server.push_image("put/tag", "first", &pushed).await;
    let answer = server
        .put_manifest("put/tag", "v1.0", IMAGE, &pushed.manifest)
        .await
        .is(201);
    let digest = sha256(&pushed.manifest);
    assert_eq!(answer.header("docker-content-digest"), digest);
    assert_eq!(answer.header("etag"), format!("\"{digest}\""));
    assert!(answer.find_header("oci-subject").is_none());
    assert_eq!(
        answer.header("location"),
        format!("/v2/put/tag/manifests/{digest}")
    );
    assert_eq!(
        server.get(answer.header("location")).await.is(200).body,
        pushed.manifest
    );
    assert_eq!(server.tags("put/tag").await, ["first", "v1.0"]);
}

#[tokio::test]
async fn end_7a_stores_a_manifest_by_digest() {
    let server = TestServer::start().await;
    let pushed = image(1);
    server
        .push_image("put/digest", &pushed.digest(), &pushed)
        .await;
    assert!(server.tags("put/digest").await.is_empty());
    let path = format!("/v2/put/digest/manifests/{}", pushed.digest());
    assert_eq!(server.get(&path).await.is(200).body, pushed.manifest);

    for wrong in [sha256(b"other"), sha512(b"other")] {
        let answer = server
            .put_manifest("put/digest", &wrong, IMAGE, &pushed.manifest)
            .await;
        let detail = answer.refused(400, "DIGEST_INVALID");
        assert_eq!(detail["expected"], wrong);
        server
            .get(&format!("/v2/put/digest/manifests/{wrong}"))
            .await
            .is(404);
    }
    let answer = server
        .put_manifest("put/digest", "sha256:baddigeststring", IMAGE, b"{}")
        .await;
    answer.refused_naming(400, "DIGEST_INVALID", "sha256:baddigeststring");
}

#[tokio::test]
async fn end_7a_names_a_bad_tag_or_name() {
    let server = TestServer::start().await;
    let long = "a".repeat(129);
    for tag in [".hidden", "-dash", "a+b", long.as_str()] {
        let answer = server.put_manifest("put/bad", tag, IMAGE, b"{}").await;
        answer.refused_naming(400, "TAG_INVALID", tag);
    }
    for name in ["Upper", "a__b___c", "-a", "a/-b", "a..b"] {
        let answer = server.put_manifest(name, "latest", IMAGE, b"{}").await;
        answer.refused_naming(400, "NAME_INVALID", name);
    }
}

#[tokio::test]
async fn end_7b_sets_several_tags_at_once() {
    let server = TestServer::start().await;
    let pushed = image(1);
    server
        .push_image("put/tags", &pushed.digest(), &pushed)
        .await;
    for digest in [pushed.digest(), sha512(&pushed.manifest)] {
        let tags: Vec<String> = (0..20)
            .map(|number| format!("{}-{number:02}", &digest[..6]))
            .collect();
        let path = format!("{digest}?tag={}", tags.join("&tag="));
        let answer = server
            .put_manifest("put/tags", &path, IMAGE, &pushed.manifest)
            .await
            .is(201);
        assert_eq!(oci_tags(&answer), tags);
        for tag in &tags {
            let answer = server
                .get(&format!("/v2/put/tags/manifests/{tag}"))
                .await
                .is(200);
            assert_eq!(answer.header("docker-content-digest"), digest);
        }
    }
    assert_eq!(server.tags("put/tags").await.len(), 40);
}

/// As many as are taken; a client on hyper reads at most 100 header lines of the answer.
#[tokio::test]
async fn end_7b_answers_100_tags_in_a_head_that_clients_can_read() {
    let server = TestServer::start().await;
    let pushed = image(1);
    server
        .push_image("put/hundred", &pushed.digest(), &pushed)
        .await;
    let tags: Vec<String> = (0..100).map(|number| format!("t{number:02}")).collect();
    let path = format!("{}?tag={}", pushed.digest(), tags.join("&tag="));
    let answer = server
        .put_manifest("put/hundred", &path, IMAGE, &pushed.manifest)
        .await
        .is(201);
    assert_eq!(oci_tags(&answer), tags);
}

#[tokio::test]
async fn end_7b_sets_all_tags_or_none() {
    let server = TestServer::start().await;
    let pushed = image(1);
    server.push_image("put/none", "keep", &pushed).await;
    let path = format!("{}?tag=good&tag=b%2Fd", pushed.digest());
    let answer = server
        .put_manifest("put/none", &path, IMAGE, &pushed.manifest)
        .await;
    answer.refused_naming(400, "TAG_INVALID", "b/d");
    let many: String = (0..101).map(|number| format!("&tag=t{number}")).collect();
    let path = format!("{}?{many}", pushed.digest());
    server
        .put_manifest("put/none", &path, IMAGE, &pushed.manifest)
        .await
        .is(414);
    let path = format!("{}?tag=good", sha256(b"other"));
    let answer = server
        .put_manifest("put/none", &path, IMAGE, &pushed.manifest)
        .await;
    answer.refused(400, "DIGEST_INVALID");
    assert_eq!(server.tags("put/none").await, ["keep"]);
}

#[tokio::test]
async fn a_subject_is_confirmed_and_may_be_missing() {
    let server = TestServer::start().await;
    let pushed = image(1);
    server.push_image("put/subject", "a", &pushed).await;
    server.push_blob("put/subject", b"{}").await;
    let missing = descriptor(IMAGE, b"never pushed");
    for (subject, warned) in [(pushed.descriptor(), false), (missing, true)] {
        let manifest = artifact(
            "application/vnd.example.note",
            Some(subject.clone()),
            json!({}),
        );
        let answer = server
            .put_manifest("put/subject", &sha256(&manifest), IMAGE, &manifest)
            .await
            .is(201);
        assert_eq!(answer.header("oci-subject"), subject["digest"]);
        let warning = answer.find_header("warning");
        assert_eq!(warning.is_some(), warned, "{warning:?}");
        assert!(warning.is_none_or(|text| text.starts_with("299 - \"")));

        let referring =
            json!({"schemaVersion": 2, "manifests": [], "subject": subject}).to_string();
        let answer = server
            .put_manifest("put/subject", "i", INDEX, referring.as_bytes())
            .await;
        assert_eq!(answer.is(201).header("oci-subject"), subject["digest"]);
    }
}

#[tokio::test]
async fn missing_content_is_named_and_nothing_is_stored() {
    let server = TestServer::start().await;
    let pushed = image(1);
    let (config, layer) = (sha256(&pushed.config), sha256(&pushed.layer));
    let put = || server.put_manifest("put/missing", "a", IMAGE, &pushed.manifest);
    let answer = put().await;
    let mut missing = texts(&answer.refused(404, "MANIFEST_BLOB_UNKNOWN")["missing"]);
    missing.sort_unstable();
    let mut expected = [config.clone(), layer.clone()];
    expected.sort_unstable();
    assert_eq!(missing, expected);
    // Not even an empty repository is left behind.
    server
        .get("/v2/put/missing/tags/list")
        .await
        .refused(404, "NAME_UNKNOWN");

    server.push_blob("put/missing", &pushed.config).await;
    server.push_blob("put/elsewhere", &pushed.layer).await;
    let detail = put().await.refused(404, "MANIFEST_BLOB_UNKNOWN");
    assert_eq!(texts(&detail["missing"]), [layer]);
    server.get("/v2/put/missing/manifests/a").await.is(404);
    server.push_blob("put/missing", &pushed.layer).await;
    put().await.is(201);
}

#[tokio::test]
async fn an_index_needs_its_manifests() {
    let server = TestServer::start().await;
    let pushed = image(1);
    let listing = index(&[pushed.descriptor()]);
    let answer = server.put_manifest("put/index", "i", INDEX, &listing).await;
    let detail = answer.refused(404, "MANIFEST_BLOB_UNKNOWN");
    assert_eq!(texts(&detail["missing"]), [pushed.digest()]);
    server
        .push_image("put/index", &pushed.digest(), &pushed)
        .await;
    server
        .push_manifest("put/index", "i", INDEX, &listing)
        .await;
}

#[tokio::test]
async fn a_sparse_index_is_a_matter_of_policy() {
    let server = TestServer::builder()
        .env("GRANARY_POLICY__SPARSE", "true")
        .start()
        .await;
    let pushed = image(1);
    let listing = index(&[pushed.descriptor()]);
    server
        .push_manifest("put/sparse", "i", INDEX, &listing)
        .await;
    let path = format!("/v2/put/sparse/manifests/{}", pushed.digest());
    server.get(&path).await.refused(404, "MANIFEST_UNKNOWN");
    // It covers the layers of an image too, and says what the pulls will miss.
    let answer = server
        .put_manifest("put/sparse", "a", IMAGE, &pushed.manifest)
        .await
        .is(201);
    assert!(
        answer
            .header("warning")
            .starts_with("299 - \"content is not in this repository")
    );
}

#[tokio::test]
async fn indexes_nest() {
    let server = TestServer::start().await;
    let repository = "put/nested";
    let pushed = image(1);
    server
        .push_image(repository, &pushed.digest(), &pushed)
        .await;
    let mut inner = index(&[pushed.descriptor()]);
    for depth in 0..5 {
        let digest = server
            .push_manifest(repository, &sha256(&inner), INDEX, &inner)
            .await;
        let path = format!("/v2/{repository}/manifests/{digest}");
        assert_eq!(server.get(&path).await.is(200).body, inner, "{depth}");
        inner = index(&[descriptor(INDEX, &inner), pushed.descriptor()]);
    }
    let none = index(&[]);
    server.push_manifest(repository, "none", INDEX, &none).await;
}

#[tokio::test]
async fn a_cache_of_buildkit_lists_layers_in_an_index() {
    let server = TestServer::start().await;
    let repository = "put/buildkit";
    let layer = server.push_blob(repository, b"a layer").await;
    let config_type = "application/vnd.buildkit.cacheconfig.v0";
    let config = server.push_blob(repository, b"{\"layers\":[]}").await;
    let list = [
        descriptor(LAYER, b"a layer"),
        descriptor(config_type, b"{\"layers\":[]}"),
    ];
    let manifest = index(&list);
    server
        .push_manifest(repository, "cache", INDEX, &manifest)
        .await;
    assert_eq!(
        server
            .get("/v2/put/buildkit/manifests/cache")
            .await
            .is(200)
            .body,
        manifest
    );
    for blob in [layer, config] {
        let answer = server
            .delete(&format!("/v2/{repository}/blobs/{blob}"))
            .await;
        answer.refused_naming(405, "UNSUPPORTED", &sha256(&manifest));
    }
    let absent = index(&[descriptor(LAYER, b"not here")]);
    let answer = server
        .put_manifest(repository, "cache", INDEX, &absent)
        .await;
    answer.refused_naming(404, "MANIFEST_BLOB_UNKNOWN", &sha256(b"not here"));
}

#[tokio::test]
async fn an_artifact_manifest_needs_its_blobs() {
    let server = TestServer::start().await;
    let media_type = "application/vnd.oci.artifact.manifest.v1+json";
    let manifest = json!({
        "mediaType": media_type,
        "artifactType": "application/vnd.example.sbom",
        "blobs": [descriptor("text/spdx", b"an sbom")],
    })
    .to_string();
    let put = || server.put_manifest("put/artifact", "a", media_type, manifest.as_bytes());
    put()
        .await
        .refused_naming(404, "MANIFEST_BLOB_UNKNOWN", &sha256(b"an sbom"));
    let blob = server.push_blob("put/artifact", b"an sbom").await;
    put().await.is(201);
    let answer = server
        .delete(&format!("/v2/put/artifact/blobs/{blob}"))
        .await;
    answer.refused_naming(405, "UNSUPPORTED", &sha256(manifest.as_bytes()));
}

#[tokio::test]
async fn layers_that_are_not_distributed_may_be_missing() {
    let server = TestServer::start().await;
    server.push_blob("put/foreign", b"{}").await;
    let types = [
        "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
        "application/vnd.oci.image.layer.nondistributable.v1.tar",
        "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
    ];
    for layer_type in types {
        let manifest = json!({
            "schemaVersion": 2,
            "config": descriptor(CONFIG, b"{}"),
            "layers": [descriptor(layer_type, layer_type.as_bytes())],
        })
        .to_string();
        let digest = server
            .push_manifest("put/foreign", "a", IMAGE, manifest.as_bytes())
            .await;
        assert_eq!(digest, sha256(manifest.as_bytes()));
    }
}

#[tokio::test]
async fn fields_of_others_and_inline_data_are_kept() {
    let server = TestServer::start().await;
    server.push_blob("put/fields", b"{}").await;
    let mut config = descriptor(EMPTY, b"{}");
    config["data"] = "e30=".into();
    config["org.example"] = json!({"deep": [1, {"er": null}]});
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": IMAGE,
        "artifactType": "application/vnd.example.thing",
        "config": config,
        "layers": [config],
        "org.example.custom": [true, {"mediaType": "a/b", "digest": sha256(b"x"), "size": 1}],
        "annotations": {"org.example.key": "välue"},
    })
    .to_string();
    server
        .push_manifest("put/fields", "a", IMAGE, manifest.as_bytes())
        .await;
    assert_eq!(
        server.get("/v2/put/fields/manifests/a").await.is(200).body,
        manifest
    );
}

#[tokio::test]
async fn the_same_manifest_may_be_pushed_again() {
    let server = TestServer::start().await;
    let pushed = image(1);
    for _ in 0..3 {
        server.push_image("put/again", "a", &pushed).await;
    }
    let other = image(2);
    server.push_image("put/again", "a", &other).await;
    assert_eq!(server.tags("put/again").await, ["a"]);
    let answer = server.get("/v2/put/again/manifests/a").await.is(200);
    assert_eq!(answer.body, other.manifest);
    // The one it replaced is still there.
    let path = format!("/v2/put/again/manifests/{}", pushed.digest());
    assert_eq!(server.get(&path).await.is(200).body, pushed.manifest);
}
