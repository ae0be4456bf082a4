//! end-7: bodies that are no manifest, or mean two things, or are too large.

use std::time::{Duration, Instant};

use bytes::Bytes;
use serde_json::json;

use crate::harness::{IMAGE, INDEX, PATIENCE, TestServer, descriptor, image, request_head, sha256};

const LIMIT: usize = 4 * 1024 * 1024;

#[tokio::test]
async fn a_body_that_is_no_json_object_is_refused() {
    let server = TestServer::start().await;
    let deep = format!("{{\"a\":{}1{}}}", "[".repeat(100_000), "]".repeat(100_000));
    let bodies: [&[u8]; 9] = [
        b"",
        b"null",
        b"[]",
        b"\"text\"",
        b"{",
        b"{\"schemaVersion\":2}{\"schemaVersion\":2}",
        b"not json",
        b"{\"a\":\"\xff\xfe\"}",
        deep.as_bytes(),
    ];
    for body in bodies {
        let answer = server.put_manifest("forms/json", "a", IMAGE, body).await;
        answer.refused(400, "MANIFEST_INVALID");
        let answer = server
            .put_manifest("forms/json", &sha256(body), IMAGE, body)
            .await;
        answer.refused(400, "MANIFEST_INVALID");
    }
    server.get("/v2/forms/json/tags/list").await.is(404);
}

#[tokio::test]
async fn content_type_and_media_type_must_agree() {
    let server = TestServer::start().await;
    let pushed = image(1);
    server.push_image("forms/type", "a", &pushed).await;
    let answer = server
        .put_manifest("forms/type", "b", INDEX, &pushed.manifest)
        .await;
    answer.refused_naming(400, "MANIFEST_INVALID", INDEX);
    answer.refused_naming(400, "MANIFEST_INVALID", IMAGE);
    server.get("/v2/forms/type/manifests/b").await.is(404);
    // Parameters and letter case are no difference.
    for same in [
        format!("{IMAGE}; charset=utf-8"),
        IMAGE.to_ascii_uppercase(),
    ] {
        server
            .put_manifest("forms/type", "b", &same, &pushed.manifest)
            .await
            .is(201);
        let answer = server.get("/v2/forms/type/manifests/b").await.is(200);
        assert_eq!(answer.header("content-type"), IMAGE);
    }
    let answer = server
        .put_manifest("forms/type", "c", IMAGE, b"{\"mediaType\":7}")
        .await;
    answer.refused_naming(400, "MANIFEST_INVALID", "/mediaType");
}

#[tokio::test]
async fn a_manifest_is_not_an_index_too() {
    let server = TestServer::start().await;
    let pushed = image(1);
    server.push_image("forms/both", "a", &pushed).await;
    for (field, value) in [
        ("layers", json!([descriptor("a/b", &pushed.layer)])),
        ("config", descriptor("a/b", &pushed.config)),
    ] {
        let manifest =
            json!({"schemaVersion": 2, "manifests": [pushed.descriptor()], field: value});
        for media_type in [IMAGE, INDEX, "application/vnd.example"] {
            let manifest = manifest.to_string();
            let answer = server
                .put_manifest("forms/both", "b", media_type, manifest.as_bytes())
                .await;
            answer.refused(400, "MANIFEST_INVALID");
        }
    }
    assert_eq!(server.tags("forms/both").await, ["a"]);
}

#[tokio::test]
async fn bad_descriptors_are_named() {
    let server = TestServer::start().await;
    let cases = [
        (
            json!({"layers": [{"mediaType": "a/b", "size": 1, "digest": "sha256:../../x"}]}),
            "/layers/0",
        ),
        (
            json!({"layers": [{"mediaType": "a/b", "size": 1}]}),
            "/layers/0",
        ),
        (
            json!({"config": {"mediaType": "a/b", "size": 1, "digest": "md5:00"}}),
            "/config",
        ),
        (json!({"manifests": [{}]}), "/manifests/0"),
        (json!({"layers": "x"}), "/layers"),
        (json!({"layers": ["x"]}), "/layers/0"),
        (json!({"subject": "x"}), "/subject"),
        (
            json!({"subject": {"mediaType": "a/b", "size": 1}}),
            "/subject",
        ),
    ];
    for (manifest, place) in cases {
        let manifest = manifest.to_string();
        let answer = server
            .put_manifest("forms/bad", "a", "a/b", manifest.as_bytes())
            .await;
        answer.refused_naming(400, "MANIFEST_INVALID", place);
        assert!(answer.message().contains(place), "{}", answer.message());
    }
}

#[tokio::test]
async fn schema_1_is_refused_with_the_remedy() {
    let server = TestServer::start().await;
    let types = [
        "application/vnd.docker.distribution.manifest.v1+json",
        "application/vnd.docker.distribution.manifest.v1+prettyjws",
        "application/json",
    ];
    let manifest = json!({"schemaVersion": 1, "name": "a", "tag": "b", "fsLayers": []}).to_string();
    for media_type in types {
        let answer = server
            .put_manifest("forms/schema1", "a", media_type, manifest.as_bytes())
            .await;
        answer.refused(400, "MANIFEST_INVALID");
        assert!(
            answer.message().contains("schema 2"),
            "{}",
            answer.message()
        );
    }
    let answer = server
        .put_manifest("forms/schema1", "a", types[1], b"{\"schemaVersion\":2}")
        .await;
    answer.refused(400, "MANIFEST_INVALID");
}

/// A manifest of exactly so many bytes.
fn manifest_of(length: usize) -> Bytes {
    let mut manifest = br#"{"schemaVersion":2,"annotations":{"a":"#.to_vec();
    manifest.push(b'"');
    manifest.resize(length - 3, b'x');
    manifest.extend_from_slice(b"\"}}");
    manifest.into()
}

#[tokio::test]
async fn a_manifest_may_have_4_mib_and_no_more() {
    let server = TestServer::start().await;
    let largest = manifest_of(LIMIT);
    server
        .push_manifest("forms/large", "a", "a/b", &largest)
        .await;
    assert!(server.get("/v2/forms/large/manifests/a").await.is(200).body == largest);
    let in_pieces = |content: &Bytes| {
        content
            .chunks(100_000)
            .map(Bytes::copy_from_slice)
            .collect::<Vec<_>>()
    };
    let put = || {
        server
            .put("/v2/forms/large/manifests/b")
            .header("Content-Type", "a/b")
    };
    put().stream(in_pieces(&largest)).await.is(201);

    let too_large = manifest_of(LIMIT + 1);
    for request in [
        put().body(too_large.clone()),
        put().stream(in_pieces(&too_large)),
    ] {
        request
            .await
            .refused_naming(413, "MANIFEST_INVALID", &LIMIT.to_string());
    }
    server.delete("/v2/forms/large/manifests/b").await.is(202);
    put()
        .body(manifest_of(2 * LIMIT))
        .await
        .refused(413, "MANIFEST_INVALID");
    assert_eq!(server.tags("forms/large").await, ["a"]);
}

#[tokio::test]
async fn a_length_that_lies_is_found_out() {
    let server = TestServer::start().await;
    let target = "/v2/forms/lie/manifests/a";
    // More is announced than is taken: the answer does not wait for it.
    let mut raw = server.raw().await;
    let head = ["Content-Type: a/b", "Content-Length: 99999999999"];
    raw.send(request_head("PUT", target, &head).as_bytes())
        .await;
    raw.send(b"{\"schemaVersion\":2").await;
    let began = Instant::now();
    raw.try_send(&vec![b' '; 3 * LIMIT / 2]).await;
    raw.answer()
        .await
        .expect("an answer")
        .refused(413, "MANIFEST_INVALID");
    assert!(began.elapsed() < Duration::from_secs(10));

    // Less comes than is announced.
    let mut raw = server.raw().await;
    let head = ["Content-Type: a/b", "Content-Length: 1000"];
    raw.send(request_head("PUT", target, &head).as_bytes())
        .await;
    raw.send(b"{\"schemaVersion\":2}").await;
    raw.end().await;

    // More comes than is announced: the rest is no part of the manifest.
    let mut raw = server.raw().await;
    let head = [
        "Content-Type: a/b",
        "Content-Length: 19",
        "Connection: close",
    ];
    raw.send(request_head("PUT", "/v2/forms/lie/manifests/b", &head).as_bytes())
        .await;
    raw.try_send(b"{\"schemaVersion\":2}{\"schemaVersion\":2}")
        .await;
    raw.answer().await.expect("an answer").is(201);
    let stored = server.get("/v2/forms/lie/manifests/b").await.is(200);
    assert_eq!(stored.body, "{\"schemaVersion\":2}");
    assert_eq!(server.tags("forms/lie").await, ["b"]);
}

#[tokio::test]
async fn an_endless_manifest_is_cut_off() {
    let server = TestServer::start().await;
    let mut raw = server.raw().await;
    let head = ["Content-Type: a/b", "Transfer-Encoding: chunked"];
    raw.send(request_head("PUT", "/v2/forms/endless/manifests/a", &head).as_bytes())
        .await;
    let mut chunk = b"10000\r\n".to_vec();
    chunk.resize(chunk.len() + 0x10000, b' ');
    chunk.extend_from_slice(b"\r\n");
    let began = Instant::now();
    for _ in 0..2 * LIMIT / 0x10000 {
        raw.try_send(&chunk).await;
    }
    raw.answer()
        .await
        .expect("an answer")
        .refused(413, "MANIFEST_INVALID");
    // The answer has come; the connection ends soon, whatever is sent.
    while raw.try_send(&chunk).await {
        assert!(began.elapsed() < 2 * PATIENCE, "the server still reads");
    }
    server.get("/v2/forms/endless/tags/list").await.is(404);
    let memory = server.metric("process_resident_memory_bytes").await;
    assert!(memory < 400 << 20, "the server holds {memory} bytes");
}

#[tokio::test]
async fn a_manifest_may_refer_to_much_but_not_to_everything() {
    let server = TestServer::start().await;
    let descriptors = |number: usize| {
        let of =
            |n: usize| json!({"mediaType": "a/b", "size": 1, "digest": sha256(&n.to_le_bytes())});
        let list: Vec<_> = (0..number).map(of).collect();
        json!({"schemaVersion": 2, "custom": list}).to_string()
    };
    let many = descriptors(10_000);
    server
        .push_manifest("forms/many", "a", "a/b", many.as_bytes())
        .await;
    let too_many = descriptors(20_001);
    let answer = server
        .put_manifest("forms/many", "b", "a/b", too_many.as_bytes())
        .await;
    answer.refused(400, "MANIFEST_INVALID");
}
