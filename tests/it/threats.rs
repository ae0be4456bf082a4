//! Rows of the threat list that no other room covers: hostile names, slow clients, full disks, leaks.

use std::time::{Duration, Instant};

use futures_util::{FutureExt, future::join};
use serde_json::json;
use tokio::net::TcpListener;

use crate::harness::{CONFIG, IMAGE, TestServer, descriptor, image, noise, request_head, sha256};

/// Texts that look like digests (row 4).
fn hostile_digests() -> Vec<String> {
    let hex = "a".repeat(64);
    [
        "sha256:../../x".to_owned(),
        "sha256:..%2F..%2Fx".to_owned(),
        "sha256:".to_owned(),
        format!("sha256:{}", &hex[1..]),
        format!("sha256:{hex}a"),
        format!("sha256:{}", hex.to_uppercase()),
        format!("SHA256:{hex}"),
        format!("sha256:{hex}%00"),
        format!("sha256:%00{}", &hex[1..]),
        format!("sha512:{hex}"),
        format!("md5:{}", &hex[..32]),
        format!("sha256:{}%C3%A9", &hex[2..]),
        format!(":{hex}"),
        format!("sha256:sha256:{hex}"),
    ]
    .into()
}

#[tokio::test]
async fn hostile_digests_are_refused_wherever_one_is_read() {
    let server = TestServer::start().await;
    server.push_image("threat/digest", "a", &image(1)).await;
    let location = server.begin("threat/digest").await;
    for digest in hostile_digests() {
        let base = "/v2/threat/digest";
        let requests = [
            ("POST", format!("{base}/blobs/uploads/?digest={digest}")),
            ("POST", format!("{base}/blobs/uploads/?mount={digest}")),
            ("PUT", format!("{location}?digest={digest}")),
        ];
        for (method, target) in requests {
            let answer = server.send_raw(method, &target).await;
            answer.refused(400, "DIGEST_INVALID");
        }
        // In a path a slash makes another path of it, which is no endpoint or no name.
        let slashes = digest.contains('/');
        for (method, kind) in [
            ("GET", "blobs"),
            ("HEAD", "blobs"),
            ("DELETE", "blobs"),
            ("GET", "manifests"),
            ("PUT", "manifests"),
            ("DELETE", "manifests"),
            ("GET", "referrers"),
        ] {
            let target = format!("{base}/{kind}/{digest}");
            if method == "HEAD" {
                assert_eq!(
                    server.head(&target.replace("../../", "..")).await.status,
                    400,
                    "{target}"
                );
                continue;
            }
            let answer = server.send_raw(method, &target).await;
            if slashes {
                assert!(
                    [400, 404, 405].contains(&answer.status),
                    "{target}: {answer:?}"
                );
            } else {
                answer.refused(400, "DIGEST_INVALID");
            }
        }
    }
    assert_eq!(server.get(&location).await.is(204).header("range"), "0-0");
}

#[tokio::test]
async fn paths_mean_what_they_say() {
    let server = TestServer::start().await;
    let pushed = image(1);
    server.push_image("threat/path", "x", &pushed).await;
    let blob = sha256(&pushed.layer);
    let targets = [
        "/v2/threat%2Fpath/manifests/x".to_owned(),
        "/v2/threat%2fpath/tags/list".to_owned(),
        "/v2/./threat/path/manifests/x".to_owned(),
        "/v2//threat/path/manifests/x".to_owned(),
        "/v2/threat//path/manifests/x".to_owned(),
        "/v2/threat/path/../path/manifests/x".to_owned(),
        "/v2/other/../threat/path/manifests/x".to_owned(),
        "/v2/%2e%2e/v2/threat/path/manifests/x".to_owned(),
        "/v2/threat/path/manifests/y/../x".to_owned(),
        "/v2/threat/path/manifests/..%2Fx".to_owned(),
        "/v2/threat/path/manifests/%2e%2e".to_owned(),
        "/v2/threat/path/manifests/x%00".to_owned(),
        "/v2/threat/path/manifests/x%20".to_owned(),
        "/v2/threat/path%00/manifests/x".to_owned(),
        "/v2/threat\\path/manifests/x".to_owned(),
        "/v2/threat/path;x/manifests/x".to_owned(),
        "/v2/Threat/path/manifests/x".to_owned(),
        format!("/v2/threat/path/blobs/..%2F..%2F..%2F{blob}"),
        format!("/v2/threat/path/blobs/./{blob}"),
        format!("/v2/threat/path/blobs/x/../{blob}"),
        "/v2/threat/path/blobs/..%2F..%2F..%2Fetc%2Fpasswd".to_owned(),
        "/v2/..%2f..%2fhealth/ready".to_owned(),
        "/v2/../health/ready".to_owned(),
        format!("/v2/{}/tags/list", "a/".repeat(200)),
        format!("/v2/{}/tags/list", "a".repeat(256)),
    ];
    for target in targets {
        let answer = server.send_raw("GET", &target).await;
        assert!([400, 404].contains(&answer.status), "{target}: {answer:?}");
        assert!(
            answer.json()["errors"][0]["code"].is_string(),
            "{target}: {answer:?}"
        );
    }
}

#[tokio::test]
async fn session_names_are_only_names() {
    let server = TestServer::start().await;
    let location = server.begin("threat/session").await;
    let id = location.rsplit('/').next().unwrap();
    let names = [
        "..%2F..%2Fx".to_owned(),
        "%00".to_owned(),
        "%2e%2e".to_owned(),
        id.to_uppercase(),
        format!("{id}%20"),
        format!("{id}%00"),
        "%27%20OR%20%271%27=%271".to_owned(),
        "x".repeat(5_000),
    ];
    for name in names {
        for method in ["GET", "PATCH", "PUT", "DELETE"] {
            let target = format!(
                "/v2/threat/session/blobs/uploads/{name}?digest={}",
                sha256(b"")
            );
            let answer = server.send_raw(method, &target).await;
            // A name without a letter is the same in capitals.
            if name == id {
                continue;
            }
            answer.refused(404, "BLOB_UPLOAD_UNKNOWN");
        }
    }
    server.get(&location).await.is(204);
}

#[tokio::test]
async fn a_huge_head_is_refused() {
    let server = TestServer::start().await;
    let long = "x".repeat(1 << 20);
    let heads = [
        request_head("GET", &format!("/v2/{long}/tags/list"), &[]),
        request_head("GET", "/v2/", &[&format!("X-Long: {long}")]),
        request_head("GET", "/v2/", &vec!["X-Many: x"; 10_000]),
    ];
    for head in heads {
        let mut raw = server.raw().await;
        raw.try_send(head.as_bytes()).await;
        if let Some(answer) = raw.answer().await {
            assert!([400, 404, 414, 431].contains(&answer.status), "{answer:?}");
        }
        server.get("/v2/").await.is(200);
    }
}

/// Row 19: what a manifest says of other places is nobody's business here.
#[tokio::test]
async fn urls_of_foreign_layers_are_never_followed() {
    let server = TestServer::start().await;
    let elsewhere = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/layer", elsewhere.local_addr().unwrap());
    server.push_blob("threat/urls", b"{}").await;
    let mut layer = descriptor(
        "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
        b"somewhere else",
    );
    layer["urls"] = json!([url]);
    let manifest =
        json!({"schemaVersion": 2, "config": descriptor(CONFIG, b"{}"), "layers": [layer]});
    server
        .push_manifest("threat/urls", "a", IMAGE, manifest.to_string().as_bytes())
        .await;
    let blob = sha256(b"somewhere else");
    let answer = server.get(&format!("/v2/threat/urls/blobs/{blob}")).await;
    answer.refused_naming(404, "BLOB_UNKNOWN", &blob);
    assert!(answer.find_header("location").is_none());
    server.get("/v2/threat/urls/manifests/a").await.is(200);
    assert!(
        elsewhere.accept().now_or_never().is_none(),
        "the server connected to {url}"
    );
}

/// Decision 31: whoever is refused early gets to read why, and may go on with the same connection.
#[tokio::test]
async fn a_refused_body_is_read_away() {
    let server = TestServer::start().await;
    let mut raw = server.raw().await;
    let refused = [
        ("PATCH", "/v2/threat/early/blobs/uploads/none", 404),
        ("PUT", "/v2/threat/EARLY/manifests/a", 400),
        (
            "POST",
            "/v2/threat/early/blobs/uploads/?digest=sha256:short",
            400,
        ),
        ("POST", "/v2/threat/early/manifests/a", 405),
        ("PUT", "/nowhere", 404),
    ];
    for (method, target, status) in refused {
        raw.send(request_head(method, target, &["Content-Length: 500000"]).as_bytes())
            .await;
        raw.send(&noise(500_000, 1)).await;
        let answer = raw.answer().await;
        answer
            .unwrap_or_else(|| panic!("no answer to {method} {target}"))
            .is(status);
    }
    raw.send(request_head("GET", "/v2/", &[]).as_bytes()).await;
    raw.answer().await.expect("an answer").is(200);
}

/// It need not send the body first that nobody wants.
#[tokio::test]
async fn a_refusal_does_not_wait_for_the_body() {
    let server = TestServer::start().await;
    let mut raw = server.raw().await;
    let target = "/v2/threat/early/blobs/uploads/none";
    raw.send(request_head("PATCH", target, &["Content-Length: 500000"]).as_bytes())
        .await;
    let began = Instant::now();
    raw.answer().await.expect("an answer").is(404);
    assert!(
        began.elapsed() < Duration::from_secs(10),
        "{:?}",
        began.elapsed()
    );
}

#[tokio::test]
async fn a_client_that_asks_first_is_told_to_go_on() {
    let server = TestServer::start().await;
    let location = server.begin("threat/expect").await;
    let mut raw = server.raw().await;
    let lines = ["Content-Length: 5", "Expect: 100-continue"];
    raw.send(request_head("PATCH", &location, &lines).as_bytes())
        .await;
    raw.answer().await.expect("an answer").is(100);
    raw.send(b"hello").await;
    assert_eq!(
        raw.answer()
            .await
            .expect("an answer")
            .is(202)
            .header("range"),
        "0-4"
    );
}

/// Row 27, and decision 41: not only the first request of a connection has deadlines.
#[tokio::test]
async fn slow_heads_and_bodies_come_to_an_end() {
    let server = TestServer::start().await;
    let head = async |first: bool| {
        let mut raw = server.raw().await;
        if !first {
            raw.send(request_head("GET", "/v2/", &[]).as_bytes()).await;
            raw.answer().await.expect("an answer").is(200);
        }
        let began = Instant::now();
        raw.send(b"GET /v2/ HTTP/1.1\r\nHost: localhost\r\nX-Slow: ")
            .await;
        // A byte now and then is no progress.
        while raw.try_send(b"x").await && began.elapsed() < Duration::from_secs(30) {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        assert!(began.elapsed() < Duration::from_secs(25), "first: {first}");
    };
    let body = async {
        let location = server.begin("threat/slow").await;
        let mut raw = server.raw().await;
        raw.send(request_head("PATCH", &location, &["Content-Length: 5000"]).as_bytes())
            .await;
        raw.send(&noise(1_000, 1)).await;
        let began = Instant::now();
        let answer = raw.answer().await.expect("an answer");
        answer.refused(408, "BLOB_UPLOAD_INVALID");
        assert!(
            began.elapsed() > Duration::from_secs(20),
            "{:?}",
            began.elapsed()
        );
        // What came is kept.
        assert_eq!(server.get(&location).await.is(204).header("range"), "0-999");
    };
    join(join(head(true), head(false)), body).await;
}

/// Rows 27 and 33: a store without room refuses what would need some, and nothing else.
#[tokio::test]
async fn a_full_store_still_serves_and_deletes() {
    let mut server = TestServer::builder()
        .env("GRANARY_GC__GRACE", "0s")
        .start()
        .await;
    let pushed = image(1);
    server.push_image("threat/full", "a", &pushed).await;
    server.push_blob("threat/full", &noise(300_000, 1)).await;
    let location = server.begin("threat/full").await;
    server.patch(&location).body("begun").await.is(202);
    server.stop().await;
    server.set_env("GRANARY_STORAGE__FS__RESERVE", "1000000GiB");
    server.start_again().await;

    let digest = sha256(b"new");
    let uploads = "/v2/threat/full/blobs/uploads/";
    for request in [
        server.post(uploads),
        server
            .post(&format!("{uploads}?digest={digest}"))
            .body("new"),
        server.patch(&location).body("more"),
    ] {
        let answer = request.await;
        answer.refused(503, "UNAVAILABLE");
        assert!(answer.header("retry-after").parse::<u32>().is_ok());
    }
    assert_eq!(server.get(&location).await.is(204).header("range"), "0-4");
    server.get("/health/ready").await.is(200);
    let answer = server.get("/v2/threat/full/manifests/a").await.is(200);
    assert_eq!(answer.body, pushed.manifest);
    server
        .get(&format!("/v2/threat/full/blobs/{}", sha256(&pushed.layer)))
        .await
        .is(200);

    server.delete(&location).await.is(204);
    let manifest = format!("/v2/threat/full/manifests/{}", pushed.digest());
    server.delete(&manifest).await.is(202);
    server
        .delete(&format!("/v2/threat/full/blobs/{}", sha256(&pushed.layer)))
        .await
        .is(202);
    assert_eq!(server.objects().len(), 1);
    server.run(&["gc"]).await.exits(0);
    assert!(server.objects().is_empty());
}

/// Row 42: what a client sends to prove who it is stays between the two.
#[tokio::test]
async fn secrets_are_not_in_the_log() {
    let server = TestServer::builder()
        .env("GRANARY_LOG__LEVEL", "trace")
        .start()
        .await;
    let secret = "c2VjcmV0OmhpZGRlbg";
    let path = "/v2/threat/log/blobs/uploads/";
    for request in [
        server
            .post(path)
            .header("Authorization", &format!("Basic {secret}")),
        server
            .post(path)
            .header("Authorization", &format!("Bearer {secret}")),
        server
            .post(path)
            .header("Cookie", &format!("session={secret}")),
        server.post(path).header("Proxy-Authorization", secret),
        server.post(&format!("{path}?token={secret}&X-Amz-Signature={secret}")),
        server
            .get(&format!("/v2/threat/log/manifests/a?token={secret}"))
            .header("Authorization", &format!("Basic {secret}")),
    ] {
        request.await;
    }
    let output = server.output();
    assert!(
        output.contains("/v2/threat/log/"),
        "nothing was logged:\n{output}"
    );
    assert!(!output.contains(secret), "{output}");
}

/// Row 43: no other site's page may read with the user's credentials.
#[tokio::test]
async fn no_origin_is_let_in_with_credentials() {
    let server = TestServer::start().await;
    server.push_image("threat/cors", "a", &image(1)).await;
    for method in [reqwest::Method::GET, reqwest::Method::OPTIONS] {
        let request = server.request(method, "/v2/threat/cors/manifests/a");
        let request = request.header("Access-Control-Request-Method", "DELETE");
        let answer = request.header("Origin", "https://evil.example").await;
        assert!(
            answer
                .find_header("access-control-allow-credentials")
                .is_none()
        );
        assert!(answer.find_header("access-control-allow-origin").is_none());
    }
    let answer = server.get("/v2/").await;
    assert_eq!(answer.header("x-content-type-options"), "nosniff");
}
