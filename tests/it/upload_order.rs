//! Chunks that do not fit, and writers that meet (decisions 2 and 3).

use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::join;

use crate::harness::{Answer, PATIENCE, TestServer, noise, sha256};

/// The chunk was out of order, and the answer says where the session stands.
fn assert_out_of_order(answer: &Answer, location: &str, range: &str, first: u64) {
    let detail = answer.refused(416, "BLOB_UPLOAD_INVALID");
    assert_eq!(detail["first"], first);
    assert_eq!(answer.header("location"), location);
    assert_eq!(answer.header("range"), range);
}

#[tokio::test]
async fn a_chunk_that_does_not_begin_at_the_offset_is_refused() {
    let server = TestServer::start().await;
    for length in [3_000, 300_000] {
        let content = noise(length, 1);
        let third = length / 3;
        let digest = sha256(&content);
        let location = server.begin("order/chunks").await;
        server
            .patch(&location)
            .body(content.slice(..third))
            .await
            .is(202);
        let (range, status) = (format!("0-{}", third - 1), third);
        let closing = format!("{location}?digest={digest}");
        for (what, first) in [("replay", 0), ("overlap", third - 1), ("gap", third + 1)] {
            let body = content.slice(first..first + third);
            let header = format!("{first}-{}", first + third - 1);
            for request in [server.patch(&location), server.put(&closing)] {
                let answer = request
                    .header("Content-Range", &header)
                    .body(body.clone())
                    .await;
                assert_out_of_order(&answer, &location, &range, first as u64);
                assert_eq!(
                    answer.json()["errors"][0]["detail"]["received"],
                    status,
                    "{what}"
                );
                assert_eq!(server.get(&location).await.is(204).header("range"), range);
                assert_eq!(server.get(&closing).await.is(204).header("range"), range);
            }
        }
        let rest = server.put(&closing).body(content.slice(third..));
        rest.header("Content-Range", &format!("{third}-{}", length - 1))
            .await
            .is(201);
        let read = server
            .get(&format!("/v2/order/chunks/blobs/{digest}"))
            .await
            .is(200);
        assert!(read.body == content);
    }
}

#[tokio::test]
async fn a_first_chunk_that_begins_later_is_refused() {
    let server = TestServer::start().await;
    let location = server.begin("order/first").await;
    let answer = server
        .patch(&location)
        .header("Content-Range", "5-9")
        .body("56789")
        .await;
    assert_out_of_order(&answer, &location, "0-0", 5);
    let status = server.get(&location).await.is(204);
    assert_eq!(status.header("range"), "0-0");
    server
        .patch(&location)
        .header("Content-Range", "0-4")
        .body("01234")
        .await
        .is(202);
    // The same chunk again, as the conformance suite sends it.
    let answer = server
        .patch(&location)
        .header("Content-Range", "0-4")
        .body("01234")
        .await;
    assert_out_of_order(&answer, &location, "0-4", 0);
}

#[tokio::test]
async fn the_range_is_checked_before_the_digest() {
    let server = TestServer::start().await;
    let location = server.begin("order/both").await;
    server.patch(&location).body("01234").await.is(202);
    for digest in [
        sha256(b"wrong"),
        "sha256:malformed".to_owned(),
        String::new(),
    ] {
        let put = server.put(&format!("{location}?digest={digest}"));
        let answer = put.header("Content-Range", "0-4").body("01234").await;
        assert_out_of_order(&answer, &location, "0-4", 0);
    }
}

#[tokio::test]
async fn a_chunk_must_be_as_long_as_its_range() {
    let server = TestServer::start().await;
    let location = server.begin("order/length").await;
    let answer = server
        .patch(&location)
        .header("Content-Range", "0-9")
        .body("01234")
        .await;
    let detail = answer.refused(400, "SIZE_INVALID");
    assert_eq!(
        (&detail["announced"], &detail["actual"]),
        (&10.into(), &5.into())
    );
    let pieces = vec![Bytes::from_static(b"0123"), Bytes::from_static(b"456789AB")];
    let answer = server
        .patch(&location)
        .header("Content-Range", "0-9")
        .stream(pieces)
        .await;
    let detail = answer.refused(400, "SIZE_INVALID");
    assert_eq!(
        (&detail["announced"], &detail["actual"]),
        (&10.into(), &12.into())
    );
    assert_eq!(server.get(&location).await.is(204).header("range"), "0-0");
    server
        .patch(&location)
        .header("Content-Range", "bytes 0-4/5")
        .body("01234")
        .await
        .is(202);
}

#[tokio::test]
async fn a_range_that_cannot_be_read_is_named() {
    let server = TestServer::start().await;
    let location = server.begin("order/form").await;
    for range in ["", "a-b", "5", "5-1", "0-99999999999999999999", "-5"] {
        let answer = server
            .patch(&location)
            .header("Content-Range", range)
            .body("01234")
            .await;
        answer.refused_naming(400, "BLOB_UPLOAD_INVALID", range);
    }
    assert_eq!(server.get(&location).await.is(204).header("range"), "0-0");
}

#[tokio::test]
async fn a_session_belongs_to_its_repository() {
    let server = TestServer::start().await;
    let location = server.begin("order/mine").await;
    server.patch(&location).body("01234").await.is(202);
    let foreign = location.replace("order/mine", "order/yours");
    let closing = format!("{foreign}?digest={}", sha256(b"01234"));
    let id = location.rsplit('/').next().unwrap();
    for request in [
        server.get(&foreign),
        server.patch(&foreign).body("5"),
        server.put(&closing),
        server.delete(&foreign),
    ] {
        request.await.refused_naming(404, "BLOB_UPLOAD_UNKNOWN", id);
    }
    server
        .put(&format!("{location}?digest={}", sha256(b"01234")))
        .await
        .is(201);
    let elsewhere = format!("/v2/order/yours/blobs/{}", sha256(b"01234"));
    server.get(&elsewhere).await.is(404);
}

#[tokio::test]
async fn a_second_writer_has_to_wait() {
    let server = TestServer::start().await;
    let content = noise(5_000, 1);
    let location = server.begin("order/busy").await;
    let mut first = server
        .begin_patch(&location, 5_000, &content[..1_000])
        .await;
    let answer = server.knock(&location).await;
    answer.refused(429, "TOOMANYREQUESTS");
    let seconds: u64 = answer.header("retry-after").parse().unwrap();
    assert!((1..=11).contains(&seconds), "{seconds}");
    let closing = format!("{location}?digest={}", sha256(&content));
    server
        .put(&closing)
        .body("other")
        .await
        .refused(429, "TOOMANYREQUESTS");

    first.send(&content[1_000..]).await;
    let answer = first.answer().await.expect("an answer").is(202);
    assert_eq!(answer.header("range"), "0-4999");
    server.put(&closing).await.is(201);
}

#[tokio::test]
async fn two_closing_puts_make_one_blob() {
    let server = TestServer::start().await;
    for seed in 0..10 {
        let content = noise(100_000, seed);
        let location = server.begin("order/closing").await;
        server
            .patch(&location)
            .body(content.slice(..50_000))
            .await
            .is(202);
        let closing = format!("{location}?digest={}", sha256(&content));
        let put = || {
            let put = server.put(&closing).header("Content-Range", "50000-99999");
            put.body(content.slice(50_000..)).into_future()
        };
        let (one, two) = join(put(), put()).await;
        let mut statuses = [one.status, two.status];
        statuses.sort_unstable();
        assert!([[201, 201], [201, 429]].contains(&statuses), "{statuses:?}");
        let read = server
            .get(&format!("/v2/order/closing/blobs/{}", sha256(&content)))
            .await;
        assert!(read.is(200).body == content);
    }
}

#[tokio::test]
async fn a_silent_writer_is_overtaken() {
    let server = TestServer::start().await;
    let content = noise(5_000, 1);
    let location = server.begin("order/silent").await;
    let mut silent = server
        .begin_patch(&location, 5_000, &content[..1_000])
        .await;
    server
        .knock(&location)
        .await
        .refused(429, "TOOMANYREQUESTS");
    let began = Instant::now();
    // The clock of the silence began no later than the first refusal, a little earlier perhaps.
    let answer = loop {
        let answer = server.knock(&location).await;
        if answer.status != 429 {
            break answer;
        }
        assert!(
            began.elapsed() < PATIENCE,
            "the silent writer is never overtaken"
        );
        tokio::time::sleep(Duration::from_millis(200)).await;
    };
    assert!(
        began.elapsed() > Duration::from_secs(8),
        "overtaken after {:?}",
        began.elapsed()
    );
    assert_out_of_order(&answer, &location, "0-999", 900_000_000);

    // What comes too late changes nothing.
    silent.try_send(&content[1_000..]).await;
    let rest = server.put(&format!("{location}?digest={}", sha256(&content)));
    rest.header("Content-Range", "1000-4999")
        .body(content.slice(1_000..))
        .await
        .is(201);
    if let Some(answer) = silent.answer().await {
        assert!(answer.status >= 400, "{answer:?}");
    }
    let read = server
        .get(&format!("/v2/order/silent/blobs/{}", sha256(&content)))
        .await
        .is(200);
    assert!(read.body == content);
}

#[tokio::test]
async fn a_cancelled_session_stops_its_writer() {
    let server = TestServer::start().await;
    let location = server.begin("order/stop").await;
    let mut writer = server.begin_patch(&location, 5_000, &noise(1_000, 1)).await;
    server
        .knock(&location)
        .await
        .refused(429, "TOOMANYREQUESTS");
    server.delete(&location).await.is(204);
    writer.try_send(&noise(4_000, 2)).await;
    if let Some(answer) = writer.answer().await {
        assert!(answer.status >= 400, "{answer:?}");
    }
    server
        .get(&location)
        .await
        .refused(404, "BLOB_UPLOAD_UNKNOWN");
}
