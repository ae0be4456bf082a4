//! end-1, end-2 and end-3: what is pulled is exactly what was pushed.

use serde_json::json;

use crate::harness::{
    Answer, DOCKER_LIST, DOCKER_MANIFEST, IMAGE, INDEX, TestServer, descriptor, image, index,
    noise, sha256, sha512,
};

#[tokio::test]
async fn end_1_says_that_the_api_is_here() {
    let server = TestServer::start().await;
    let answer = server.get("/v2/").await.is(200);
    assert_eq!(answer.json(), json!({}));
    assert_eq!(answer.header("content-type"), "application/json");
    assert_eq!(
        answer.header("docker-distribution-api-version"),
        "registry/2.0"
    );
    server.head("/v2/").await.is(200);
}

#[tokio::test]
async fn what_is_no_endpoint_or_method_is_told_so() {
    let server = TestServer::start().await;
    server
        .get("/v2/a/unknown/x")
        .await
        .refused(404, "UNSUPPORTED");
    let answer = server.post("/v2/a/manifests/latest").await;
    answer.refused_naming(405, "UNSUPPORTED", "POST");
    let mut allowed: Vec<&str> = answer.header("allow").split(", ").collect();
    allowed.sort_unstable();
    assert_eq!(allowed, ["DELETE", "GET", "HEAD", "PUT"]);
    server
        .put("/v2/a/tags/list")
        .await
        .refused_naming(405, "UNSUPPORTED", "PUT");
    for path in [
        "/v2/a/unknown/x",
        "/v2/BAD/tags/list",
        "/v2/a/tags/list",
        "/v2/_catalog",
    ] {
        let answer = server.get(path).await;
        assert_eq!(
            answer.header("docker-distribution-api-version"),
            "registry/2.0",
            "{path}"
        );
    }
}

fn assert_blob_headers(answer: &Answer, digest: &str, length: usize) {
    assert_eq!(answer.header("content-length"), length.to_string());
    assert_eq!(answer.header("content-type"), "application/octet-stream");
    assert_eq!(answer.header("docker-content-digest"), digest);
    assert_eq!(answer.header("etag"), format!("\"{digest}\""));
    assert_eq!(answer.header("accept-ranges"), "bytes");
    assert!(answer.find_header("content-encoding").is_none());
}

#[tokio::test]
async fn end_2_gives_blobs_of_any_size() {
    let server = TestServer::start().await;
    for length in [0, 1, 65_536, 65_537, 3_000_000] {
        let content = noise(length, 1);
        let digest = server.push_blob("pull/blobs", &content).await;
        let path = format!("/v2/pull/blobs/blobs/{digest}");
        let answer = server.get(&path).await.is(200);
        assert!(answer.body == content, "{length} bytes");
        assert_blob_headers(&answer, &digest, length);
        let answer = server.head(&path).await.is(200);
        assert!(answer.body.is_empty());
        assert_blob_headers(&answer, &digest, length);
    }
}

#[tokio::test]
async fn end_2_knows_no_blob_that_was_not_pushed_there() {
    let server = TestServer::start().await;
    let missing = sha256(b"missing");
    let answer = server.get(&format!("/v2/pull/none/blobs/{missing}")).await;
    answer.refused_naming(404, "BLOB_UNKNOWN", &missing);
    server
        .head(&format!("/v2/pull/none/blobs/{missing}"))
        .await
        .is(404);

    let elsewhere = server.push_blob("pull/one", b"of one repository").await;
    server.push_blob("pull/two", b"of another").await;
    let answer = server.get(&format!("/v2/pull/two/blobs/{elsewhere}")).await;
    answer.refused_naming(404, "BLOB_UNKNOWN", &elsewhere);
    server
        .head(&format!("/v2/pull/two/blobs/{elsewhere}"))
        .await
        .is(404);
}

#[tokio::test]
async fn end_3_gives_the_bytes_and_media_type_that_were_pushed() {
    let server = TestServer::start().await;
    let repository = "pull/manifests";
    let pushed = image(1);
    server.push_image(repository, "image", &pushed).await;
    let child = pushed.descriptor();
    let docker = json!({
        "schemaVersion": 2, "mediaType": DOCKER_MANIFEST,
        "config": descriptor("application/vnd.docker.container.image.v1+json", &pushed.config),
        "layers": [descriptor("application/vnd.docker.image.rootfs.diff.tar.gzip", &pushed.layer)],
    });
    let list = json!({"schemaVersion": 2, "mediaType": DOCKER_LIST, "manifests": [child]});
    let untidy = "{\r\n\t\"schemaVersion\" : 2 ,\"ünï\":\"\\u0041\", \"x\":1e3}  \n";
    let cases: [(&str, &str, Vec<u8>); 6] = [
        ("oci-image", IMAGE, pushed.manifest.to_vec()),
        (
            "oci-index",
            INDEX,
            index(std::slice::from_ref(&child)).to_vec(),
        ),
        ("docker", DOCKER_MANIFEST, docker.to_string().into_bytes()),
        ("docker-list", DOCKER_LIST, list.to_string().into_bytes()),
        (
            "unknown",
            "application/vnd.example.thing.v7+json",
            untidy.into(),
        ),
        ("odd", "text/plain", br#"{"nothing":null}"#.to_vec()),
    ];
    for (tag, media_type, manifest) in cases {
        let digest = server
            .push_manifest(repository, tag, media_type, &manifest)
            .await;
        assert_eq!(digest, sha256(&manifest));
        for reference in [tag, digest.as_str()] {
            let path = format!("/v2/{repository}/manifests/{reference}");
            let answer = server.get(&path).await.is(200);
            assert!(answer.body == manifest, "{tag}");
            for answer in [answer, server.head(&path).await.is(200)] {
                assert_eq!(answer.header("content-type"), media_type, "{tag}");
                assert_eq!(answer.header("content-length"), manifest.len().to_string());
                assert_eq!(answer.header("docker-content-digest"), digest);
                assert_eq!(answer.header("etag"), format!("\"{digest}\""));
            }
        }
    }
}

#[tokio::test]
async fn end_3_takes_the_media_type_from_the_manifest_if_no_header_gives_it() {
    let server = TestServer::start().await;
    let manifest = br#"{"schemaVersion":2,"mediaType":"application/vnd.example.own+json"}"#;
    server
        .put("/v2/pull/own/manifests/a")
        .body(&manifest[..])
        .await
        .is(201);
    let answer = server.get("/v2/pull/own/manifests/a").await.is(200);
    assert_eq!(
        answer.header("content-type"),
        "application/vnd.example.own+json"
    );
}

#[tokio::test]
async fn end_3_ignores_accept_and_unknown_parameters() {
    let server = TestServer::start().await;
    let pushed = image(1);
    server.push_image("pull/accept", "a", &pushed).await;
    for accept in ["text/html", DOCKER_MANIFEST, "*/*;q=0", ""] {
        let path = "/v2/pull/accept/manifests/a?ns=docker.io&x=%zz&=";
        let answer = server.get(path).header("Accept", accept).await.is(200);
        assert_eq!(answer.header("content-type"), IMAGE, "{accept}");
        assert_eq!(answer.body, pushed.manifest);
    }
    let path = format!(
        "/v2/pull/accept/blobs/{}?ns=docker.io",
        sha256(&pushed.layer)
    );
    let answer = server
        .get(&path)
        .header("Accept-Encoding", "gzip, br")
        .await
        .is(200);
    assert_eq!(answer.body, pushed.layer);
    assert!(answer.find_header("content-encoding").is_none());
}

#[tokio::test]
async fn end_3_tells_an_unknown_repository_from_an_unknown_manifest() {
    let server = TestServer::start().await;
    server.push_image("pull/known", "a", &image(1)).await;
    let missing = sha256(b"missing");
    for reference in ["absent", missing.as_str()] {
        let answer = server
            .get(&format!("/v2/pull/known/manifests/{reference}"))
            .await;
        answer.refused_naming(404, "MANIFEST_UNKNOWN", reference);
        let answer = server
            .get(&format!("/v2/pull/unknown/manifests/{reference}"))
            .await;
        answer.refused_naming(404, "NAME_UNKNOWN", "pull/unknown");
        server
            .head(&format!("/v2/pull/unknown/manifests/{reference}"))
            .await
            .is(404);
    }
}

#[tokio::test]
async fn escaped_digests_are_the_digests() {
    let server = TestServer::start().await;
    let pushed = image(1);
    let manifest = server.push_image("pull/escaped", "a", &pushed).await;
    let blob = sha256(&pushed.layer);
    for (kind, digest) in [("manifests", manifest), ("blobs", blob)] {
        let escaped = digest.replace(':', "%3A");
        let answer = server
            .get(&format!("/v2/pull/escaped/{kind}/{escaped}"))
            .await
            .is(200);
        assert_eq!(answer.header("docker-content-digest"), digest);
    }
}

#[tokio::test]
async fn what_the_client_has_is_not_sent_again() {
    let server = TestServer::start().await;
    let repository = "pull/conditions";
    let pushed = image(1);
    let manifest = server.push_image(repository, "a", &pushed).await;
    let small = sha256(&pushed.layer);
    let large = server.push_blob(repository, &noise(100_000, 9)).await;
    let other = sha256(b"other");
    let things = [
        (format!("manifests/{manifest}"), &manifest),
        ("manifests/a".to_owned(), &manifest),
        (format!("blobs/{small}"), &small),
        (format!("blobs/{large}"), &large),
    ];
    for (thing, digest) in &things {
        let path = format!("/v2/{repository}/{thing}");
        let known = [
            format!("\"{digest}\""),
            (*digest).clone(),
            format!("W/\"{digest}\""),
            format!("\"{other}\", \"{digest}\""),
            "*".to_owned(),
        ];
        for tag in known {
            for request in [server.get(&path), server.head(&path)] {
                let answer = request.header("If-None-Match", &tag).await.is(304);
                assert!(answer.body.is_empty());
                assert_eq!(answer.header("etag"), format!("\"{digest}\""));
            }
        }
        for tag in [format!("\"{other}\""), other.clone(), "\"\"".to_owned()] {
            let answer = server
                .get(&path)
                .header("If-None-Match", &tag)
                .await
                .is(200);
            assert!(!answer.body.is_empty(), "{thing}");
        }
    }
}

#[tokio::test]
async fn digests_of_other_algorithms_are_pulled_as_they_were_pushed() {
    let server = TestServer::start().await;
    let pushed = image(1);
    server.push_image("pull/sha512", "a", &pushed).await;
    let digest = sha512(&pushed.manifest);
    let stored = server
        .push_manifest("pull/sha512", &digest, IMAGE, &pushed.manifest)
        .await;
    assert_eq!(stored, digest);
    let answer = server
        .get(&format!("/v2/pull/sha512/manifests/{digest}"))
        .await
        .is(200);
    assert_eq!(answer.header("docker-content-digest"), digest);
    assert_eq!(answer.body, pushed.manifest);
}
