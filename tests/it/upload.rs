//! end-4, end-5, end-6, end-13 and end-14: the ways a blob is pushed.

use std::collections::HashSet;

use bytes::Bytes;

use crate::harness::{Answer, TestServer, noise, sha256, sha512};

/// Lengths below and above what is kept in the catalog.
const LENGTHS: [usize; 4] = [1, 2_000, 65_537, 1_500_000];

/// The answer to a push names the blob, which can be read there.
async fn assert_stored(server: &TestServer, answer: Answer, repository: &str, content: &[u8]) {
    let answer = answer.is(201);
    let digest = answer.header("docker-content-digest");
    let location = answer.header("location");
    assert_eq!(location, format!("/v2/{repository}/blobs/{digest}"));
    let read = server.get(location).await.is(200);
    assert!(read.body == content, "{location}");
    assert_eq!(read.header("docker-content-digest"), digest);
}

#[tokio::test]
async fn end_4a_begins_a_session() {
    let server = TestServer::start().await;
    let mut seen = HashSet::new();
    for path in ["/v2/up/begin/blobs/uploads/", "/v2/up/begin/blobs/uploads"] {
        let answer = server.post(path).await.is(202);
        let location = answer.header("location");
        let id = location
            .strip_prefix("/v2/up/begin/blobs/uploads/")
            .expect(location);
        assert_eq!(answer.header("docker-upload-uuid"), id);
        assert_eq!(answer.header("range"), "0-0");
        assert_eq!(answer.header("content-length"), "0");
        assert!(seen.insert(location.to_owned()));
    }
}

#[tokio::test]
async fn end_4b_stores_a_blob_in_one_request() {
    let server = TestServer::start().await;
    for length in LENGTHS {
        let content = noise(length, 1);
        let path = format!("/v2/up/post/blobs/uploads/?digest={}", sha256(&content));
        let answer = server.post(&path).body(content.clone()).await;
        assert_stored(&server, answer, "up/post", &content).await;

        let content = noise(length, 2);
        let path = format!("/v2/up/post/blobs/uploads/?digest={}", sha512(&content));
        let pieces = content.chunks(10_000).map(Bytes::copy_from_slice).collect();
        let answer = server.post(&path).stream(pieces).await;
        assert_stored(&server, answer, "up/post", &content).await;
    }
}

#[tokio::test]
async fn end_4b_stores_nothing_under_a_wrong_digest() {
    let server = TestServer::start().await;
    for length in LENGTHS {
        let content = noise(length, 1);
        let wrong = sha256(b"something else");
        let path = format!("/v2/up/wrong/blobs/uploads/?digest={wrong}");
        let detail = server
            .post(&path)
            .body(content.clone())
            .await
            .refused(400, "DIGEST_INVALID");
        assert_eq!(detail["expected"], wrong);
        assert_eq!(detail["actual"], sha256(&content));
        for digest in [wrong, sha256(&content)] {
            server
                .head(&format!("/v2/up/wrong/blobs/{digest}"))
                .await
                .is(404);
        }
    }
    let path = "/v2/up/wrong/blobs/uploads/?digest=sha256:short";
    let answer = server.post(path).body("content").await;
    answer.refused_naming(400, "DIGEST_INVALID", "sha256:short");
}

#[tokio::test]
async fn end_4c_takes_the_algorithm_as_a_hint() {
    let server = TestServer::start().await;
    for length in LENGTHS {
        let content = noise(length, 1);
        let path = "/v2/up/hint/blobs/uploads/?digest-algorithm=sha512";
        let answer = server.post(path).await.is(202);
        let location = answer.header("location").to_owned();
        server
            .patch(&location)
            .body(content.slice(..length / 2))
            .await
            .is(202);
        let path = format!("{location}?digest={}", sha512(&content));
        let answer = server.put(&path).body(content.slice(length / 2..)).await;
        assert_stored(&server, answer, "up/hint", &content).await;
    }
    let answer = server
        .post("/v2/up/hint/blobs/uploads/?digest-algorithm=md5")
        .await;
    answer.refused_naming(400, "DIGEST_INVALID", "md5");
}

#[tokio::test]
async fn end_6_takes_sha512_without_a_hint() {
    let server = TestServer::start().await;
    for length in LENGTHS {
        let content = noise(length, 1);
        let location = server.begin("up/late").await;
        server
            .patch(&location)
            .body(content.slice(..length / 2))
            .await
            .is(202);
        let path = format!("{location}?digest={}", sha512(&content));
        let answer = server.put(&path).body(content.slice(length / 2..)).await;
        assert_stored(&server, answer, "up/late", &content).await;
    }
}

#[tokio::test]
async fn end_6_takes_the_whole_blob() {
    let server = TestServer::start().await;
    for length in LENGTHS {
        let content = noise(length, 1);
        let location = server.begin("up/put").await;
        let path = format!("{location}?digest={}", sha256(&content));
        let answer = server.put(&path).body(content.clone()).await;
        assert_stored(&server, answer, "up/put", &content).await;
    }
}

#[tokio::test]
async fn end_5_takes_chunks_with_a_range() {
    let server = TestServer::start().await;
    for length in [2_000, 300_000] {
        let content = noise(length, 1);
        let location = server.begin("up/chunks").await;
        let step = length / 4;
        for first in [0, step, 2 * step] {
            let last = first + step - 1;
            let chunk = server.patch(&location).body(content.slice(first..=last));
            let answer = chunk
                .header("Content-Range", &format!("{first}-{last}"))
                .await
                .is(202);
            assert_eq!(answer.header("range"), format!("0-{last}"));
            assert_eq!(answer.header("location"), location);
            let status = server.get(&location).await.is(204);
            assert_eq!(status.header("range"), format!("0-{last}"));
            assert_eq!(status.header("location"), location);
        }
        let path = format!("{location}?digest={}", sha256(&content));
        let last = server.put(&path).body(content.slice(3 * step..));
        let answer = last
            .header("Content-Range", &format!("{}-{}", 3 * step, length - 1))
            .await;
        assert_stored(&server, answer, "up/chunks", &content).await;
    }
}

#[tokio::test]
async fn end_5_takes_a_stream_without_range_or_length() {
    let server = TestServer::start().await;
    for length in LENGTHS {
        let content = noise(length, 1);
        let location = server.begin("up/stream").await;
        let pieces = content.chunks(7_000).map(Bytes::copy_from_slice).collect();
        let answer = server.patch(&location).stream(pieces).await.is(202);
        assert_eq!(answer.header("range"), format!("0-{}", length - 1));
        let answer = server
            .put(&format!("{location}?digest={}", sha256(&content)))
            .await;
        assert_stored(&server, answer, "up/stream", &content).await;
    }
}

#[tokio::test]
async fn end_13_answers_also_with_a_digest_left_over() {
    let server = TestServer::start().await;
    let location = server.begin("up/status").await;
    let status = server.get(&location).await.is(204);
    assert_eq!(status.header("range"), "0-0");
    server.patch(&location).body("12345").await.is(202);
    let left_over = format!("{location}?digest={}", sha256(b"12345"));
    for path in [&location, &left_over] {
        let status = server.get(path).await.is(204);
        assert_eq!(status.header("range"), "0-4");
        assert_eq!(status.header("location"), location);
        assert_eq!(server.head(path).await.is(204).header("range"), "0-4");
    }
}

#[tokio::test]
async fn end_5_with_no_byte_changes_nothing() {
    let server = TestServer::start().await;
    let location = server.begin("up/zero").await;
    assert_eq!(
        server
            .patch(&location)
            .body("")
            .await
            .is(202)
            .header("range"),
        "0-0"
    );
    assert_eq!(server.get(&location).await.is(204).header("range"), "0-0");
    server.patch(&location).body("12345").await.is(202);
    assert_eq!(
        server
            .patch(&location)
            .body("")
            .await
            .is(202)
            .header("range"),
        "0-4"
    );
    let answer = server
        .put(&format!("{location}?digest={}", sha256(b"12345")))
        .await;
    assert_stored(&server, answer, "up/zero", b"12345").await;
}

#[tokio::test]
async fn the_empty_blob_can_be_pushed_in_every_way() {
    let server = TestServer::start().await;
    for digest in [sha256(b""), sha512(b"")] {
        let path = format!("/v2/up/empty1/blobs/uploads/?digest={digest}");
        assert_stored(&server, server.post(&path).await, "up/empty1", b"").await;

        let location = server.begin("up/empty2").await;
        let answer = server.put(&format!("{location}?digest={digest}")).await;
        assert_stored(&server, answer, "up/empty2", b"").await;

        let location = server.begin("up/empty3").await;
        server.patch(&location).stream(Vec::new()).await.is(202);
        let answer = server
            .put(&format!("{location}?digest={digest}"))
            .stream(Vec::new())
            .await;
        assert_stored(&server, answer, "up/empty3", b"").await;
    }
}

#[tokio::test]
async fn end_14_ends_a_session() {
    let server = TestServer::start().await;
    for body in [noise(1_000, 1), noise(200_000, 1)] {
        let location = server.begin("up/cancel").await;
        let id = location.rsplit('/').next().unwrap();
        server.patch(&location).body(body.clone()).await.is(202);
        let answer = server.delete(&location).await.is(204);
        assert!(answer.body.is_empty());
        let closing = format!("{location}?digest={}", sha256(&body));
        for request in [
            server.get(&location),
            server.patch(&location).body("more"),
            server.put(&closing),
            server.delete(&location),
        ] {
            request.await.refused_naming(404, "BLOB_UPLOAD_UNKNOWN", id);
        }
        let blob = format!("/v2/up/cancel/blobs/{}", sha256(&body));
        server.get(&blob).await.refused(404, "BLOB_UNKNOWN");
    }
}

#[tokio::test]
async fn the_closing_put_may_be_repeated() {
    let server = TestServer::start().await;
    for length in [1_000, 200_000] {
        let content = noise(length, 1);
        let location = server.begin("up/again").await;
        server.patch(&location).body(content.clone()).await.is(202);
        let path = format!("{location}?digest={}", sha256(&content));
        for _ in 0..3 {
            assert_stored(&server, server.put(&path).await, "up/again", &content).await;
        }
        // What it closed is closed for everything else.
        let other = format!("{location}?digest={}", sha256(b"other"));
        server.put(&other).await.refused(404, "BLOB_UPLOAD_UNKNOWN");
        server
            .patch(&location)
            .body("more")
            .await
            .refused(404, "BLOB_UPLOAD_UNKNOWN");
        server
            .get(&location)
            .await
            .refused(404, "BLOB_UPLOAD_UNKNOWN");
    }
}

#[tokio::test]
async fn a_repeated_closing_put_may_bring_the_body_again() {
    let server = TestServer::start().await;
    let content = noise(200_000, 1);
    let location = server.begin("up/again-body").await;
    let path = format!("{location}?digest={}", sha256(&content));
    for _ in 0..3 {
        let answer = server.put(&path).body(content.clone()).await;
        assert_stored(&server, answer, "up/again-body", &content).await;
    }
}

#[tokio::test]
async fn after_a_wrong_digest_the_right_one_is_taken() {
    let server = TestServer::start().await;
    for length in [2_000, 65_600, 400_000] {
        let content = noise(length, 1);
        let half = length / 2;
        let location = server.begin("up/retry").await;
        server
            .patch(&location)
            .body(content.slice(..half))
            .await
            .is(202);
        let (right, wrong) = (sha256(&content), sha256(b"other"));
        let closing = |digest: &str| format!("{location}?digest={digest}");

        let answer = server
            .put(&closing(&wrong))
            .body(content.slice(half..))
            .await;
        let detail = answer.refused(400, "DIGEST_INVALID");
        assert_eq!(
            (&detail["expected"], &detail["actual"]),
            (&wrong.into(), &right.clone().into())
        );
        // The offset is where it was before that body.
        let status = server.get(&location).await.is(204);
        assert_eq!(status.header("range"), format!("0-{}", half - 1));
        server
            .get(&format!("/v2/up/retry/blobs/{right}"))
            .await
            .is(404);

        let answer = server
            .put(&closing(&sha512(b"other")))
            .body(content.slice(half..))
            .await;
        answer.refused(400, "DIGEST_INVALID");
        let last = server.put(&closing(&right)).body(content.slice(half..));
        let last = last.header("Content-Range", &format!("{half}-{}", length - 1));
        assert_stored(&server, last.await, "up/retry", &content).await;
    }
}

#[tokio::test]
async fn a_closing_put_without_a_usable_digest_keeps_the_session() {
    let server = TestServer::start().await;
    let content = noise(1_000, 1);
    let location = server.begin("up/nodigest").await;
    server.patch(&location).body(content.clone()).await.is(202);
    server.put(&location).await.refused(400, "DIGEST_INVALID");
    for digest in [
        "sha256:zz",
        "md5:d41d8cd98f00b204e9800998ecf8427e",
        "nothing",
    ] {
        let answer = server.put(&format!("{location}?digest={digest}")).await;
        let named = digest
            .strip_suffix(":d41d8cd98f00b204e9800998ecf8427e")
            .unwrap_or(digest);
        answer.refused_naming(400, "DIGEST_INVALID", named);
    }
    let answer = server
        .put(&format!("{location}?digest={}", sha256(&content)))
        .await;
    assert_stored(&server, answer, "up/nodigest", &content).await;
}

#[tokio::test]
async fn the_same_bytes_under_two_algorithms_are_two_blobs() {
    let server = TestServer::start().await;
    for length in [1_000, 200_000] {
        let content = noise(length, 1);
        for digest in [sha256(&content), sha512(&content)] {
            let path = format!("/v2/up/two/blobs/uploads/?digest={digest}");
            let answer = server.post(&path).body(content.clone()).await;
            assert_stored(&server, answer, "up/two", &content).await;
        }
        server
            .delete(&format!("/v2/up/two/blobs/{}", sha256(&content)))
            .await
            .is(202);
        server
            .get(&format!("/v2/up/two/blobs/{}", sha256(&content)))
            .await
            .is(404);
        let other = server
            .get(&format!("/v2/up/two/blobs/{}", sha512(&content)))
            .await
            .is(200);
        assert!(other.body == content);
    }
}

#[tokio::test]
async fn a_principal_has_only_so_many_sessions() {
    let server = TestServer::builder()
        .env("GRANARY_UPLOADS__MAX_PER_PRINCIPAL", "2")
        .start()
        .await;
    let first = server.begin("up/many").await;
    server.begin("up/others").await;
    let answer = server.post("/v2/up/many/blobs/uploads/").await;
    assert_eq!(answer.refused(429, "TOOMANYREQUESTS")["limit"], 2);
    assert!(answer.header("retry-after").parse::<u32>().is_ok());
    server.delete(&first).await.is(204);
    let second = server.begin("up/many").await;
    // A closed session counts no more.
    server
        .put(&format!("{second}?digest={}", sha256(b"x")))
        .body("x")
        .await
        .is(201);
    server.begin("up/many").await;
}
