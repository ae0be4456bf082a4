//! What an operator sees: health, metrics, request ids, and the way out.

use granary_testbed::Postgres;
use rustix::process::Signal;
use serde_json::Value;

use crate::harness::{
    Bucket, Raw, TestServer, eventually, granary, image, noise, request_head, run, sha256,
};

#[tokio::test]
async fn health_is_told() {
    let server = TestServer::start().await;
    for (path, status) in [("/health/live", "live"), ("/health/ready", "ready")] {
        let answer = server.get(path).await.is(200);
        assert_eq!(answer.json()["status"], status);
    }
}

#[tokio::test]
async fn the_first_lines_say_where_and_what_next() {
    let server = TestServer::start().await;
    let output = server.output();
    assert!(
        output.contains(&format!("http://{}", server.address())),
        "{output}"
    );
    eventually("the hints", async || {
        let output = server.output();
        let data = output.contains(server.data().to_str().unwrap());
        (data && output.contains("docker push")).then_some(())
    })
    .await;
}

#[tokio::test]
async fn metrics_have_the_names_of_opentelemetry() {
    let server = TestServer::start().await;
    server.push_image("operate/metrics", "a", &image(1)).await;
    server.get("/v2/operate/metrics/manifests/a").await.is(200);
    server
        .get("/v2/operate/metrics/manifests/secret-tag")
        .await
        .is(404);
    let odd = reqwest::Method::from_bytes(b"BREW").unwrap();
    server.request(odd, "/v2/").await;
    let answer = server.get("/metrics").await.is(200);
    assert!(
        answer
            .header("content-type")
            .starts_with("application/openmetrics-text")
    );
    let text = String::from_utf8(answer.body.to_vec()).unwrap();
    let manifests = "http_request_method=\"GET\",http_route=\"/v2/{name}/manifests/{reference}\"";
    for expected in [
        "http_server_active_requests 1\n",
        "http_server_request_body_bytes_total{",
        "http_server_response_body_bytes_total{",
        &format!("{manifests},http_response_status_code=\"200\""),
        &format!("{manifests},http_response_status_code=\"404\""),
        "http_request_method=\"_OTHER\"",
        "process_cpu_seconds_total ",
        "process_open_fds ",
        "process_resident_memory_bytes ",
    ] {
        assert!(text.contains(expected), "no {expected} in\n{text}");
    }
    for bound in ["0.005", "0.01", "0.075", "10.0", "+Inf"] {
        let bucket = format!("le=\"{bound}\"");
        let found = text.lines().any(|line| {
            line.starts_with("http_server_request_duration_seconds_bucket{")
                && line.contains(&bucket)
        });
        assert!(found, "no {bucket} in\n{text}");
    }
    assert!(text.ends_with("# EOF\n"));
    // Names are for logs: as labels they would never end.
    assert!(
        !text.contains("operate") && !text.contains("secret-tag"),
        "{text}"
    );
}

/// The figure of a metric with exactly these labels, 0 if it does not show.
async fn labelled(server: &TestServer, series: &str) -> u64 {
    let body = server.get("/metrics").await.is(200).body;
    let text = String::from_utf8(body.to_vec()).unwrap();
    let mut figures = text
        .lines()
        .filter_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    figures.next().map_or(0, |figure| figure.parse().unwrap())
}

#[tokio::test]
async fn the_work_of_the_disk_is_counted() {
    let server = TestServer::start().await;
    let digest = server.push_blob("operate/disk", &noise(1 << 20, 1)).await;
    let series = |operation, outcome| {
        format!("granary_store_requests_total{{operation=\"{operation}\",outcome=\"{outcome}\"}}")
    };
    assert!(labelled(&server, &series("write", "ok")).await >= 1);
    assert!(labelled(&server, &series("sync", "ok")).await >= 1);
    assert_eq!(labelled(&server, &series("sync", "failed")).await, 0);
    let slow = "granary_store_request_duration_seconds_bucket{le=\"+Inf\",operation=\"sync\"}";
    let count = "granary_store_request_duration_seconds_count{operation=\"sync\"}";
    assert_eq!(
        labelled(&server, slow).await,
        labelled(&server, count).await
    );
    for file in server.objects() {
        std::fs::remove_file(file).unwrap();
    }
    server
        .get(&format!("/v2/operate/disk/blobs/{digest}"))
        .await
        .is(404);
    assert_eq!(labelled(&server, &series("read", "missing")).await, 1);
    // Nothing on the way waits for PostgreSQL here.
    assert_eq!(
        labelled(&server, "granary_catalog_write_connections_max").await,
        0
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_fails_shows_in_the_metrics() {
    let bucket = Bucket::behind_a_proxy().await;
    let url = Postgres::shared().unwrap().create_database().unwrap();
    let server = bucket
        .settings(TestServer::builder().env("GRANARY_DATABASE__URL", url))
        .start()
        .await;
    let digest = server.push_blob("operate/s3", &noise(1 << 20, 1)).await;
    let blob = format!("/v2/operate/s3/blobs/{digest}");
    server.get(&blob).await.is(200);
    let series = |operation, outcome| {
        format!("granary_store_requests_total{{operation=\"{operation}\",outcome=\"{outcome}\"}}")
    };
    let retries = "granary_store_retries_total{operation=\"read\"}";
    for (operation, outcome) in [("write", "ok"), ("read", "ok"), ("list", "ok")] {
        let counted = labelled(&server, &series(operation, outcome)).await;
        assert!(counted >= 1, "{operation} {outcome}");
    }
    assert_eq!(labelled(&server, &series("read", "failed")).await, 0);
    assert_eq!(labelled(&server, retries).await, 0);
    assert_eq!(
        labelled(&server, "granary_catalog_write_connections_max").await,
        10
    );

    bucket.cut();
    assert!(server.get(&blob).await.status >= 500);
    assert_eq!(labelled(&server, &series("read", "failed")).await, 1);
    assert!(labelled(&server, retries).await >= 1);
}

#[tokio::test]
async fn metrics_may_have_an_address_of_their_own() {
    let free = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let server = TestServer::builder()
        .env("GRANARY_SERVER__METRICS_LISTEN", free.to_string())
        .start()
        .await;
    server.get("/metrics").await.is(404);
    let mut raw = Raw::connect(free).await;
    raw.send(request_head("GET", "/metrics", &[]).as_bytes())
        .await;
    let answer = raw.answer().await.expect("an answer").is(200);
    assert!(answer.body.ends_with(b"# EOF\n"));
    raw.send(request_head("GET", "/v2/", &[]).as_bytes()).await;
    raw.answer().await.expect("an answer").is(404);
}

#[tokio::test]
async fn every_answer_has_a_request_id() {
    let server = TestServer::start().await;
    let paths = [
        "/v2/",
        "/v2/operate/ids/manifests/none",
        "/v2/BAD/tags/list",
        "/nowhere",
        "/",
        "/health/live",
        "/metrics",
    ];
    for path in paths {
        let mut seen = Vec::new();
        for _ in 0..2 {
            let answer = server.get(path).await;
            let id = answer.header("x-request-id").to_owned();
            assert!(
                id.len() >= 16 && id.bytes().all(|byte| byte.is_ascii_alphanumeric()),
                "{id}"
            );
            seen.push(id);
        }
        assert_ne!(seen[0], seen[1]);
        let answer = server
            .get(path)
            .header("X-Request-Id", "Client.id_1-2")
            .await;
        assert_eq!(answer.header("x-request-id"), "Client.id_1-2");
        for hostile in ["a b", "a\tb", "<script>", "", &"a".repeat(65)] {
            let answer = server.get(path).header("X-Request-Id", hostile).await;
            assert_ne!(answer.header("x-request-id"), hostile);
        }
    }
}

#[tokio::test]
async fn log_lines_carry_the_request_id() {
    for format in ["text", "json"] {
        let server = TestServer::builder()
            .env("GRANARY_LOG__FORMAT", format)
            .start()
            .await;
        let id = "find-me-in-the-log";
        server
            .post("/v2/operate/log/blobs/uploads/")
            .header("X-Request-Id", id)
            .await
            .is(202);
        let line = eventually("the line of the request", async || {
            let output = server.output();
            output
                .lines()
                .find(|line| line.contains(id))
                .map(str::to_owned)
        })
        .await;
        assert!(
            line.contains("/v2/operate/log/blobs/uploads/") && line.contains("POST"),
            "{line}"
        );
        if format == "json" {
            let line: Value = serde_json::from_str(&line).expect(&line);
            assert_eq!(
                (&line["request_id"], &line["status"]),
                (&id.into(), &202.into())
            );
            assert_eq!(line["level"], "INFO");
        }
    }
}

#[tokio::test]
async fn encoded_bodies_are_refused() {
    let server = TestServer::start().await;
    let location = server.begin("operate/encoded").await;
    for request in [
        server.put("/v2/operate/encoded/manifests/a"),
        server.patch(&location),
        server.post(&format!(
            "/v2/operate/encoded/blobs/uploads/?digest={}",
            sha256(b"x")
        )),
    ] {
        let answer = request.header("Content-Encoding", "gzip").body("x").await;
        answer.refused_naming(415, "UNSUPPORTED", "Content-Encoding");
    }
    server
        .patch(&location)
        .header("Content-Encoding", "identity")
        .body("x")
        .await
        .is(202);
}

#[tokio::test]
async fn anonymous_use_ends_where_the_machine_does() {
    let server = TestServer::start().await;
    let port = server.address().port();
    let strange = [
        ("Host", "registry.example.org".to_owned()),
        ("Host", format!("evil.example:{port}")),
        ("Host", format!("127.0.0.1.evil.example:{port}")),
        ("X-Forwarded-For", "10.0.0.1".to_owned()),
        ("X-Forwarded-Proto", "https".to_owned()),
        ("X-Forwarded-Host", "localhost".to_owned()),
        ("Forwarded", "for=10.0.0.1".to_owned()),
        ("X-Real-IP", "10.0.0.1".to_owned()),
    ];
    for (name, value) in &strange {
        let answer = server.get("/v2/").header(name, value).await;
        answer.refused(403, "DENIED");
        assert!(
            answer.message().contains("--allow-anonymous"),
            "{name}: {}",
            answer.message()
        );
        let post = server
            .post("/v2/operate/strange/blobs/uploads/")
            .header(name, value);
        post.await.refused(403, "DENIED");
    }
    for host in [
        "localhost",
        "LOCALHOST:5000",
        "registry.localhost",
        "127.0.0.1:5000",
        "[::1]:5000",
    ] {
        server.get("/v2/").header("Host", host).await.is(200);
    }
    let open = TestServer::builder()
        .argument("--allow-anonymous")
        .start()
        .await;
    for (name, value) in &strange {
        open.get("/v2/").header(name, value).await.is(200);
    }
}

#[tokio::test]
async fn one_data_folder_has_one_server() {
    let server = TestServer::start().await;
    let mut second = granary();
    second
        .args(["serve", "--listen", "127.0.0.1:0", "--data"])
        .arg(server.data());
    let ran = run(second).await.exits(1);
    assert!(
        ran.stderr.contains(server.data().to_str().unwrap()),
        "{}",
        ran.stderr
    );
    server.get("/v2/").await.is(200);
}

/// A copy of the database alone is whole then.
#[tokio::test]
async fn a_server_that_ended_in_order_leaves_no_journal() {
    let mut server = TestServer::start().await;
    server.push_image("operate/journal", "a", &image(1)).await;
    server.stop().await;
    let journal = server.data().join("granary.db-wal");
    let left = std::fs::metadata(journal).map_or(0, |journal| journal.len());
    assert_eq!(left, 0, "the journal still holds {left} bytes");
}

/// Its cache is exact only if nobody else writes to the database (decision 8).
#[tokio::test]
async fn one_database_has_one_server() {
    let folder = tempfile::tempdir().unwrap();
    let database = format!("sqlite://{}", folder.path().join("shared.db").display());
    let server = TestServer::builder()
        .env("GRANARY_DATABASE__URL", &database)
        .start()
        .await;
    let mut second = granary();
    second
        .args(["serve", "--listen", "127.0.0.1:0", "--data"])
        .arg(folder.path().join("data"));
    second.env("GRANARY_DATABASE__URL", &database);
    second.env("GRANARY_STORAGE__FS__ROOT", server.data().join("blobs"));
    let ran = run(second).await.exits(1);
    assert!(ran.stderr.contains("shared.db"), "{}", ran.stderr);
}

#[tokio::test]
async fn an_address_in_use_is_named() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let data = tempfile::tempdir().unwrap();
    let mut command = granary();
    command
        .args(["serve", "--listen", &address, "--data"])
        .arg(data.path());
    let ran = run(command).await.exits(1);
    assert!(ran.stderr.contains(&address), "{}", ran.stderr);
}

#[tokio::test]
async fn http2_without_tls_is_spoken() {
    let mut server = TestServer::builder().http2().start().await;
    let answer = server.get("/v2/").await.is(200);
    assert_eq!(answer.version, reqwest::Version::HTTP_2);
    let content = noise(2_000_000, 1);
    let location = server.begin("operate/h2").await;
    let pieces = content
        .chunks(50_000)
        .map(bytes::Bytes::copy_from_slice)
        .collect();
    server.patch(&location).stream(pieces).await.is(202);
    server
        .put(&format!("{location}?digest={}", sha256(&content)))
        .await
        .is(201);
    let blob = server
        .get(&format!("/v2/operate/h2/blobs/{}", sha256(&content)))
        .await
        .is(200);
    assert!(blob.body == content);
    server.stop().await;
}

#[tokio::test]
async fn a_drain_lets_uploads_finish_and_takes_no_new_ones() {
    let mut server = TestServer::start().await;
    let pushed = image(1);
    server.push_image("operate/drain", "a", &pushed).await;
    let content = noise(5_000, 1);
    let location = server.begin("operate/drain").await;
    let mut raw = server
        .begin_patch(&location, 5_000, &content[..1_000])
        .await;
    server.signal(Signal::TERM);
    let answer = eventually("the server is not ready", async || {
        Some(server.get("/health/ready").await).filter(|answer| answer.status != 200)
    })
    .await;
    assert_eq!(answer.is(503).json()["status"], "draining");
    let answer = server.get("/health/live").await.is(200);
    assert_eq!(answer.header("connection"), "close");
    let uploads = "/v2/operate/drain/blobs/uploads/";
    for path in [
        uploads.to_owned(),
        format!("{uploads}?digest={}", sha256(b"new")),
    ] {
        let answer = server.post(&path).body("new").await;
        answer.refused(503, "UNAVAILABLE");
        assert!(answer.header("retry-after").parse::<u32>().is_ok());
    }
    let answer = server.get("/v2/operate/drain/manifests/a").await.is(200);
    assert_eq!(answer.body, pushed.manifest);

    raw.send(&content[1_000..]).await;
    raw.answer().await.expect("an answer").is(202);
    server
        .put(&format!("{location}?digest={}", sha256(&content)))
        .await
        .is(201);
    server.ended().await;
    server.start_again().await;
    let blob = server
        .get(&format!("/v2/operate/drain/blobs/{}", sha256(&content)))
        .await;
    assert!(blob.is(200).body == content);
}

#[tokio::test]
async fn a_drain_has_an_end() {
    let mut server = TestServer::builder()
        .env("GRANARY_SERVER__DRAIN_TIMEOUT", "1s")
        .start()
        .await;
    let content = noise(5_000, 1);
    let location = server.begin("operate/stuck").await;
    let raw = server
        .begin_patch(&location, 5_000, &content[..1_000])
        .await;
    server.signal(Signal::TERM);
    server.ended().await;
    drop(raw);
    server.start_again().await;
    let status = server.get(&location).await.is(204);
    let kept: usize = match status.header("range") {
        "0-0" => 0,
        "0-999" => 1_000,
        other => panic!("{other}"),
    };
    let closing = format!("{location}?digest={}", sha256(&content));
    server
        .put(&closing)
        .body(content.slice(kept..))
        .await
        .is(201);
}

#[tokio::test]
async fn a_database_that_answers_before_its_commits_are_safe_is_refused() {
    let postgres = Postgres::shared().unwrap();
    let url = postgres.create_database().unwrap();
    let name = url.rsplit_once('/').unwrap().1;
    for value in ["off", "local"] {
        let set = format!("ALTER DATABASE \"{name}\" SET synchronous_commit = {value}");
        postgres.psql("postgres", &set).unwrap();
        let data = tempfile::tempdir().unwrap();
        let mut command = granary();
        command
            .env("GRANARY_DATABASE__URL", &url)
            .args(["serve", "--listen", "127.0.0.1:0", "--data"])
            .arg(data.path());
        let refused = run(command).await.exits(1);
        let told = format!("synchronous_commit is {value}");
        assert!(refused.stderr.contains(&told), "{}", refused.stderr);
        assert!(
            refused.stderr.contains("set it to on"),
            "{}",
            refused.stderr
        );
    }
}
