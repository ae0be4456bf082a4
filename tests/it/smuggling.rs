//! Rows 25 and 26: requests that two readers could take for two things, and HTTP/2 floods.

use std::time::{Duration, Instant};

use bytes::{BufMut, BytesMut};

use crate::harness::{TestServer, image};

/// The request that must not come through as one of its own.
const SMUGGLED: &str = "DELETE /v2/smuggle/target/manifests/a HTTP/1.1\r\nHost: localhost\r\n\r\n";

async fn server_with_target() -> TestServer {
    let server = TestServer::start().await;
    server.push_image("smuggle/target", "a", &image(1)).await;
    server
}

/// Sends header lines and a body that disagree: the answer is 400 or none, and nothing comes behind it.
async fn assert_refused(server: &TestServer, lines: &str, body: &str) {
    let mut raw = server.raw().await;
    let head = "PUT /v2/smuggle/target/manifests/new HTTP/1.1\r\nHost: localhost\r\n";
    raw.try_send(format!("{head}{lines}\r\n{body}{SMUGGLED}").as_bytes())
        .await;
    let said = String::from_utf8_lossy(&raw.rest().await).into_owned();
    let answers = said.matches("HTTP/1.1 ").count();
    assert!(
        answers <= 1,
        "{lines:?} was read as {answers} requests:\n{said}"
    );
    assert!(
        said.is_empty() || said.starts_with("HTTP/1.1 400 "),
        "{lines:?}:\n{said}"
    );
    assert_eq!(server.tags("smuggle/target").await, ["a"], "{lines:?}");
}

#[tokio::test]
async fn a_request_has_one_length() {
    let server = server_with_target().await;
    let cases = [
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        "Content-Length: 5\r\nContent-Length: 6\r\n",
        "Content-Length: 5, 6\r\n",
        "Content-Length: +5\r\n",
        "Content-Length: -5\r\n",
        "Content-Length: 0x5\r\n",
        "Content-Length: 5 5\r\n",
        "Content-Length: 5a\r\n",
        "Content-Length:\r\n",
        "Content-Length: 99999999999999999999999999\r\n",
        "Content-Length : 5\r\n",
        "Transfer-Encoding: xchunked\r\n",
        "Transfer-Encoding: chunked, identity\r\n",
        "Transfer-Encoding: chunked, chunked\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
        "Transfer-Encoding : chunked\r\n",
        "Transfer-Encoding:\u{b}chunked\r\n",
        "X: y\r\n Content-Length: 5\r\n",
        "X: y\r\n\tTransfer-Encoding: chunked\r\n",
        "X: y\0z\r\nContent-Length: 5\r\n",
        "X y: z\r\nContent-Length: 5\r\n",
        ": z\r\nContent-Length: 5\r\n",
        "Host: localhost\r\nContent-Length: 5\r\n",
    ];
    for lines in cases {
        assert_refused(&server, lines, "0\r\n\r\n").await;
    }
}

#[tokio::test]
async fn a_chunk_has_one_size() {
    let server = server_with_target().await;
    let bodies = [
        "+5\r\nhello\r\n0\r\n\r\n",
        "0x5\r\nhello\r\n0\r\n\r\n",
        "-1\r\nhello\r\n0\r\n\r\n",
        "5\rhello\r\n0\r\n\r\n",
        "5\r\nhello0\r\n\r\n",
        "FFFFFFFFFFFFFFFFF\r\nhello\r\n0\r\n\r\n",
        "10000000000000005\r\nhello\r\n0\r\n\r\n",
        "\r\nhello\r\n0\r\n\r\n",
        "G\r\nhello\r\n0\r\n\r\n",
    ];
    for body in bodies {
        let mut raw = server.raw().await;
        let head = "PUT /v2/smuggle/target/manifests/new HTTP/1.1\r\nHost: localhost\r\n\
                    Content-Type: a/b\r\nTransfer-Encoding: chunked\r\n\r\n";
        raw.try_send(format!("{head}{body}{SMUGGLED}").as_bytes())
            .await;
        let said = String::from_utf8_lossy(&raw.rest().await).into_owned();
        assert!(said.matches("HTTP/1.1 ").count() <= 1, "{body:?}:\n{said}");
        assert!(
            said.is_empty() || said.starts_with("HTTP/1.1 400 "),
            "{body:?}:\n{said}"
        );
        assert_eq!(server.tags("smuggle/target").await, ["a"], "{body:?}");
    }
}

#[tokio::test]
async fn http_1_1_needs_one_host() {
    let server = server_with_target().await;
    for head in [
        "",
        "Host: localhost\r\nHost: example.org\r\n",
        "Host: localhost, example.org\r\n",
    ] {
        let mut raw = server.raw().await;
        raw.send(format!("GET /v2/ HTTP/1.1\r\n{head}Connection: close\r\n\r\n").as_bytes())
            .await;
        let answer = raw.answer().await.expect("an answer");
        assert!([400, 403].contains(&answer.status), "{head:?}: {answer:?}");
    }
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let server = server_with_target().await;
    let mut raw = server.raw().await;
    let requests = [
        "PUT /v2/smuggle/target/manifests/new HTTP/1.1\r\nHost: localhost\r\nContent-Type: a/b\r\n\
         Content-Length: 19\r\n\r\n{\"schemaVersion\":2}",
        "GET /v2/smuggle/target/manifests/new HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "GET /v2/smuggle/target/manifests/none HTTP/1.1\r\nHost: localhost\r\n\r\n",
    ];
    raw.send(requests.concat().as_bytes()).await;
    for expected in [201, 200, 404] {
        raw.answer().await.expect("an answer").is(expected);
    }
}

const DATA_OR_HEADERS_END: u8 = 0x1;
const END_HEADERS: u8 = 0x4;

/// A frame of HTTP/2 (RFC 9113 section 4.1).
fn frame(into: &mut BytesMut, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    let length = u32::try_from(payload.len()).unwrap();
    into.put_slice(&length.to_be_bytes()[1..]);
    into.put_u8(kind);
    into.put_u8(flags);
    into.put_u32(stream);
    into.put_slice(payload);
}

/// The client's preface with empty settings.
fn preface() -> BytesMut {
    let mut bytes = BytesMut::from(&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..]);
    frame(&mut bytes, 0x4, 0, 0, &[]);
    bytes
}

/// `GET http://localhost/v2/`, in HPACK without a table.
fn header_block() -> Vec<u8> {
    let mut block = vec![0x82, 0x86];
    for (index, value) in [(1, "localhost"), (4, "/v2/")] {
        block.push(index);
        block.push(u8::try_from(value.len()).unwrap());
        block.extend_from_slice(value.as_bytes());
    }
    block
}

async fn assert_serves_well(server: &TestServer) {
    let began = Instant::now();
    server.get("/v2/").await.is(200);
    assert!(
        began.elapsed() < Duration::from_secs(5),
        "{:?}",
        began.elapsed()
    );
    let memory = server.metric("process_resident_memory_bytes").await;
    assert!(memory < 400 << 20, "the server holds {memory} bytes");
}

#[tokio::test]
async fn endless_continuations_are_cut_off() {
    let server = TestServer::start().await;
    let mut raw = server.raw().await;
    let mut bytes = preface();
    frame(&mut bytes, 0x1, DATA_OR_HEADERS_END, 1, &header_block());
    raw.send(&bytes).await;
    let mut continuation = BytesMut::new();
    let mut field = vec![0x00, 0x01, b'x', 0x7f, 0x81, 0x7b];
    field.resize(field.len() + 16_000, b'a');
    frame(&mut continuation, 0x9, 0, 1, &field);
    let mut sent = 0;
    while raw.try_send(&continuation).await {
        sent += continuation.len();
        assert!(sent < 64 << 20, "the server takes {sent} bytes of a head");
    }
    assert_serves_well(&server).await;
}

#[tokio::test]
async fn streams_reset_by_thousands_cost_little() {
    let server = TestServer::start().await;
    let mut raw = server.raw().await;
    raw.send(&preface()).await;
    let block = header_block();
    let mut stream = 1;
    'flood: for _ in 0..200 {
        let mut bytes = BytesMut::new();
        for _ in 0..200 {
            frame(
                &mut bytes,
                0x1,
                DATA_OR_HEADERS_END | END_HEADERS,
                stream,
                &block,
            );
            frame(&mut bytes, 0x3, 0, stream, &8_u32.to_be_bytes());
            stream += 2;
        }
        if !raw.try_send(&bytes).await {
            break 'flood;
        }
    }
    assert_serves_well(&server).await;
}
