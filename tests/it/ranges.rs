//! end-2 with `Range` (RFC 9110 section 14).

use bytes::Bytes;

use crate::harness::{Answer, TestServer, noise, sha256};

/// A server with a blob that lies in the catalog and one that lies in a file.
async fn server_with_blobs() -> (TestServer, Vec<(String, Bytes)>) {
    let server = TestServer::start().await;
    let mut blobs = Vec::new();
    for length in [5_000, 700_000] {
        let content = noise(length, 1);
        let digest = server.push_blob("ranges/blobs", &content).await;
        blobs.push((format!("/v2/ranges/blobs/blobs/{digest}"), content));
    }
    (server, blobs)
}

#[tokio::test]
async fn end_2_gives_one_range() {
    let (server, blobs) = server_with_blobs().await;
    for (path, content) in &blobs {
        let length = content.len();
        let cases = [
            ("bytes=0-0".to_owned(), 0..1),
            ("bytes=0-99".to_owned(), 0..100),
            ("bytes=1000-2999".to_owned(), 1000..3000),
            ("bytes=4000-".to_owned(), 4000..length),
            ("bytes=-100".to_owned(), length - 100..length),
            (format!("bytes=-{}", length * 2), 0..length),
            (format!("bytes=4990-{}", length * 2), 4990..length),
            (
                "bytes=4999-99999999999999999999999999".to_owned(),
                4999..length,
            ),
            (format!("bytes={}-", length - 1), length - 1..length),
            (format!("bytes=0-9,{}-", length * 2), 0..10),
        ];
        for (range, expected) in cases {
            let answer = server.get(path).header("Range", &range).await.is(206);
            let (first, last) = (expected.start, expected.end - 1);
            assert_eq!(
                answer.header("content-range"),
                format!("bytes {first}-{last}/{length}")
            );
            assert_eq!(
                answer.header("content-length"),
                expected.len().to_string(),
                "{range}"
            );
            assert!(answer.body == content[expected], "{range}");
            assert_eq!(answer.header("docker-content-digest"), sha256(content));
        }
    }
}

#[tokio::test]
async fn end_2_refuses_ranges_outside_the_blob() {
    let (server, blobs) = server_with_blobs().await;
    for (path, content) in &blobs {
        let length = content.len();
        let cases = [
            "bytes=500-0".to_owned(),
            "bytes=5000000-10000000".to_owned(),
            format!("bytes={length}-"),
            "bytes=-0".to_owned(),
            format!("bytes={length}-,-0"),
        ];
        for range in cases {
            let answer = server.get(path).header("Range", &range).await;
            answer.refused_naming(416, "RANGE_INVALID", &range);
            assert_eq!(answer.header("content-range"), format!("bytes */{length}"));
        }
    }
    let empty = server.push_blob("ranges/blobs", b"").await;
    let answer = server
        .get(&format!("/v2/ranges/blobs/blobs/{empty}"))
        .header("Range", "bytes=0-0");
    let answer = answer.await;
    answer.refused_naming(416, "RANGE_INVALID", "bytes=0-0");
    assert_eq!(answer.header("content-range"), "bytes */0");
}

#[tokio::test]
async fn end_2_ignores_ranges_it_cannot_read() {
    let (server, blobs) = server_with_blobs().await;
    let many = format!("bytes={}", vec!["0-0"; 17].join(","));
    for (path, content) in &blobs {
        let cases = [
            "items=0-1",
            "bytes=a-b",
            "bytes=",
            "bytes=5",
            "bytes=--5",
            &many,
        ];
        for range in cases {
            let answer = server.get(path).header("Range", range).await.is(200);
            assert!(answer.body == content, "{range}");
        }
        // Ranges are for GET alone.
        let answer = server.head(path).header("Range", "bytes=0-9").await.is(200);
        assert_eq!(answer.header("content-length"), content.len().to_string());
    }
}

#[tokio::test]
async fn end_2_gives_a_range_only_of_the_version_asked_for() {
    let (server, blobs) = server_with_blobs().await;
    for (path, content) in &blobs {
        let same = format!("\"{}\"", sha256(content));
        let request = server
            .get(path)
            .header("Range", "bytes=0-9")
            .header("If-Range", &same);
        assert_eq!(request.await.is(206).body, content[..10]);
        let other = format!("\"{}\"", sha256(b"other"));
        for tag in [other.as_str(), "Wed, 21 Oct 2015 07:28:00 GMT"] {
            let request = server
                .get(path)
                .header("Range", "bytes=0-9")
                .header("If-Range", tag);
            assert!(request.await.is(200).body == content, "{tag}");
        }
    }
}

/// The parts of a `multipart/byteranges` answer: each one's `Content-Range` and content.
fn parts(answer: &Answer) -> Vec<(String, Vec<u8>)> {
    let content_type = answer.header("content-type");
    let boundary = content_type
        .strip_prefix("multipart/byteranges; boundary=")
        .expect(content_type);
    let delimiter = format!("\r\n--{boundary}");
    let find = |from: usize, what: &[u8]| {
        let at = answer.body[from..]
            .windows(what.len())
            .position(|window| window == what);
        from + at.expect("a part that ends")
    };
    let mut parts = Vec::new();
    let mut at = find(0, delimiter.as_bytes()) + delimiter.len();
    while !answer.body[at..].starts_with(b"--") {
        let head_end = find(at, b"\r\n\r\n");
        let head = String::from_utf8(answer.body[at..head_end].to_vec()).unwrap();
        let range = head
            .lines()
            .find_map(|line| line.strip_prefix("Content-Range: "));
        let end = find(head_end + 4, delimiter.as_bytes());
        parts.push((
            range.expect(&head).to_owned(),
            answer.body[head_end + 4..end].to_vec(),
        ));
        at = end + delimiter.len();
    }
    parts
}

#[tokio::test]
async fn end_2_gives_several_ranges_in_parts() {
    let (server, blobs) = server_with_blobs().await;
    for (path, content) in &blobs {
        let length = content.len();
        let answer = server
            .get(path)
            .header("Range", "bytes=0-9, 2000-3999 ,-5")
            .await
            .is(206);
        assert_eq!(
            answer.header("content-length"),
            answer.body.len().to_string()
        );
        assert!(answer.find_header("content-range").is_none());
        let expected = [0..10, 2000..4000, length - 5..length].map(|range| {
            let text = format!("bytes {}-{}/{length}", range.start, range.end - 1);
            (text, content[range].to_vec())
        });
        assert!(parts(&answer) == expected);
    }
}

#[tokio::test]
async fn end_2_does_not_amplify() {
    let (server, blobs) = server_with_blobs().await;
    for (path, content) in &blobs {
        let overlapping = format!("bytes={}", vec!["0-"; 16].join(","));
        let answer = server.get(path).header("Range", &overlapping).await;
        assert!(answer.is(200).body == content);
    }
}
