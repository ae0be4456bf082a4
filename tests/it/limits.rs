//! Limits of requests by address, by user and by namespace.

use std::time::Duration;

use bytes::Bytes;
use granary_testbed::{Postgres, Redis};
use tempfile::TempDir;

use crate::{
    accounts::{NOBODY, api_token, basic, basic_with, begin, push_image, settings, with_accounts},
    harness::{Answer, Builder, PATIENCE, TestServer, eventually, image, noise, sha256},
};

/// In the log, when Redis is lost.
const ALONE: &str = "each replica counts requests for itself";

/// A server whose `limit` is `rate`.
fn limited(builder: Builder, limit: &str, rate: &str) -> Builder {
    builder.env(&format!("GRANARY_LIMITS__{limit}"), rate)
}

/// The answer is that there were too many requests; gives the seconds to wait.
#[track_caller]
fn refused(answer: &Answer, limit: &str) -> u64 {
    let detail = answer.refused(429, "TOOMANYREQUESTS");
    assert_eq!(detail["limit"], limit, "{answer:?}");
    let seconds: u64 = answer.header("retry-after").parse().expect("seconds");
    assert!(seconds > 0);
    seconds
}

/// Asks until it is too much, and gives how often it was not.
async fn use_up(server: &TestServer, by: &str, path: &str, status: u16) -> usize {
    for passed in 0..2000 {
        let answer = server.get(path).by(by).await;
        if answer.status == 429 {
            return passed;
        }
        answer.is(status);
    }
    panic!("{path} is not limited");
}

async fn limited_requests(server: &TestServer, limit: &str) -> u64 {
    let name = format!("granary_limited_requests_total{{limit=\"{limit}\"}}");
    server.metric(&name).await
}

#[tokio::test]
async fn an_address_may_do_so_much_and_operators_see_that() {
    let server = limited(settings(), "ADDRESS", "20/h").start().await;
    assert_eq!(limited_requests(&server, "address").await, 0);
    assert_eq!(use_up(&server, NOBODY, "/v2/", 200).await, 20);
    // What is wrong with a request is not even looked at.
    let wrong = basic_with("alice", "wrong");
    for path in ["/v2/", "/v2/a/b/tags/list", "/v2/_catalog", "/nothing"] {
        let answer = server.get(path).by(&wrong).await;
        // 180 s from the first request on, less what passed since.
        assert!(refused(&answer, "address") <= 180);
    }
    for path in ["/auth/token", "/.well-known/jwks.json"] {
        let answer = server.get(path).by(&wrong).await;
        answer.refused(429, "TOOMANYREQUESTS");
        assert!(answer.header("retry-after").parse::<u64>().unwrap() > 0);
    }
    let form = "grant_type=password&username=alice&password=wrong";
    let answer = server
        .post("/auth/token")
        .header("Content-Type", "application/x-www-form-urlencoded")
        .body(form)
        .await;
    assert_eq!(answer.is(429).json()["error"], "temporarily_unavailable");
    // Bodies are read away, so that their senders get the answer.
    let path = "/v2/a/b/blobs/uploads/";
    refused(&server.post(path).body(noise(500_000, 1)).await, "address");
    for _ in 0..30 {
        for path in ["/health/ready", "/health/live", "/metrics"] {
            server.get(path).await.is(200);
        }
    }
    // One of use_up, four, two, and two with bodies.
    assert_eq!(limited_requests(&server, "address").await, 9);
}

#[tokio::test]
async fn who_comes_again_when_told_to_is_served() {
    let server = limited(TestServer::builder(), "ADDRESS", "1/s burst 2");
    let server = server.start().await;
    let mut served = 0;
    let deadline = std::time::Instant::now() + PATIENCE;
    while served < 5 {
        assert!(std::time::Instant::now() < deadline, "{served} were served");
        let answer = server.get("/v2/").await;
        if answer.status == 200 {
            served += 1;
            continue;
        }
        let seconds = refused(&answer, "address");
        assert_eq!(seconds, 1, "{answer:?}");
        tokio::time::sleep(Duration::from_secs(seconds)).await;
        server.get("/v2/").await.is(200);
        served += 1;
    }
}

#[tokio::test]
async fn addresses_behind_a_trusted_proxy_are_told_apart() {
    let server = limited(TestServer::builder(), "ADDRESS", "5/h")
        .env("GRANARY_SERVER__TRUSTED_PROXIES", "127.0.0.0/8")
        .argument("--allow-anonymous")
        .start()
        .await;
    let ask = async |client: &str| {
        let asked = server.get("/v2/").header("X-Forwarded-For", client);
        asked.await.status
    };
    for (clients, last) in [
        (["192.0.2.1"; 5], "192.0.2.1"),
        (["192.0.2.2"; 5], "10.0.0.1, 192.0.2.2"),
        (
            [
                "2001:db8::1",
                "2001:db8::2",
                "2001:db8::3",
                "2001:db8:0:0:ffff::4",
                "2001:db8::5",
            ],
            "2001:db8::6",
        ),
        (["2001:db8:0:1::1"; 5], "2001:db8:0:1::1"),
    ] {
        for client in clients {
            assert_eq!(ask(client).await, 200, "{client}");
        }
        assert_eq!(ask(last).await, 429, "{last}");
    }
    assert_eq!(use_up(&server, NOBODY, "/v2/", 200).await, 5);
}

#[tokio::test]
async fn what_clients_say_of_their_address_does_not_count() {
    let server = limited(TestServer::builder(), "ADDRESS", "5/h")
        .argument("--allow-anonymous")
        .start()
        .await;
    for number in 0..6 {
        let client = format!("192.0.2.{number}");
        let answer = server.get("/v2/").header("X-Forwarded-For", &client).await;
        assert_eq!(answer.status, if number < 5 { 200 } else { 429 });
    }
}

#[tokio::test]
async fn a_user_who_does_too_much_is_nobody_elses_trouble() {
    let builder = limited(settings(), "PRINCIPAL", "20/h").env("GRANARY_AUTH__ANONYMOUS", "read");
    let server = with_accounts(builder).await;
    let (bob, carol) = (basic("bob"), basic("carol"));
    let token = api_token(&server, "bob", &[]).await;
    assert_eq!(use_up(&server, &bob, "/v2/", 200).await, 20);
    for by in [&bob, &token.bearer(), &basic_with("bob", &token.text)] {
        refused(&server.get("/v2/").by(by).await, "principal");
    }
    let answer = server.get("/auth/token").by(&bob).await;
    answer.refused(429, "TOOMANYREQUESTS");
    assert!(answer.header("retry-after").parse::<u64>().unwrap() > 0);
    // From the same address.
    assert_eq!(use_up(&server, &carol, "/v2/", 200).await, 20);
    assert_eq!(use_up(&server, NOBODY, "/auth/token", 200).await, 20);
    // Wrong credentials are nobody's; bob cannot be kept out by them.
    let wrong = basic_with("alice", "wrong");
    for _ in 0..25 {
        server.get("/v2/").by(&wrong).await.is(401);
    }
    server.get("/v2/").by(&basic("alice")).await.is(200);
    assert_eq!(limited_requests(&server, "principal").await, 7);
}

#[tokio::test]
async fn a_namespace_is_limited_for_those_who_may_use_it() {
    let server = with_accounts(limited(settings(), "NAMESPACE", "20/h")).await;
    let (bob, carol, pushed) = (basic("bob"), basic("carol"), image(1));
    // Two blobs and a manifest.
    push_image(&server, &bob, "bob/app", "v1", &pushed).await;
    let paths = [
        "/v2/bob/app/manifests/v1",
        "/v2/bob/app/tags/list",
        "/v2/bob/other/tags/list",
    ];
    // A stranger sees nothing, and uses nothing up.
    for _ in 0..10 {
        for path in paths {
            let hidden = server.get(path).by(&carol).await;
            hidden.refused(404, "NAME_UNKNOWN");
        }
    }
    // A tag that is missing is asked for like one that is there.
    server.get(paths[0]).by(&bob).await.is(200);
    let missing = server.get("/v2/bob/app/manifests/v2").by(&bob).await;
    missing.refused(404, "MANIFEST_UNKNOWN");
    assert_eq!(use_up(&server, &bob, paths[1], 200).await, 15);
    for path in [paths[0], paths[1], "/v2/bob/app/manifests/v2"] {
        let answer = server.get(path).by(&bob).await;
        refused(&answer, "namespace");
    }
    for path in paths {
        let hidden = server.get(path).by(&carol).await;
        hidden.refused(404, "NAME_UNKNOWN");
    }
    // Elsewhere all goes on, also for bob.
    push_image(&server, &carol, "carol/app", "v1", &pushed).await;
    server.get("/v2/_catalog").by(&bob).await.is(200);
}

#[tokio::test]
async fn an_upload_counts_by_its_requests() {
    let server = limited(settings(), "ADDRESS", "10/h").start().await;
    let content = noise(3_000_000, 1);
    let location = begin(&server, NOBODY, "up/long").await;
    let pieces = content.chunks(10_000).map(Bytes::copy_from_slice);
    let patch = server.patch(&location).stream(pieces.collect());
    patch.await.is(202);
    let close = format!("{location}?digest={}", sha256(&content));
    server.put(&close).await.is(201);
    assert_eq!(use_up(&server, NOBODY, "/v2/", 200).await, 7);
}

#[tokio::test]
async fn without_limits_there_are_none() {
    let server = TestServer::start().await;
    for _ in 0..500 {
        server.get("/v2/").await.is(200);
    }
    let metrics = server.get("/metrics").await.is(200).body;
    let metrics = String::from_utf8_lossy(&metrics).into_owned();
    assert!(!metrics.contains("granary_limited_requests_total"));
}

/// Redis may be slow for a moment, and then each replica counts for itself, which a test must not take for a mistake. So
/// what one replica has used up is looked for at another one, which could serve many more.
#[tokio::test(flavor = "multi_thread")]
async fn replicas_count_together() {
    let redis = Redis::start().unwrap();
    let url = Postgres::shared().unwrap().create_database().unwrap();
    let root = TempDir::new().unwrap();
    let replica = || {
        limited(TestServer::builder(), "ADDRESS", "500/h")
            .env("GRANARY_DATABASE__URL", &url)
            .env("GRANARY_STORAGE__FS__ROOT", root.path())
            .env("GRANARY_STORAGE__FS__SHARED", "true")
            .env("GRANARY_REDIS__URL", redis.url())
    };
    let one = replica().start().await;
    let two = replica().start().await;
    let mut served = 0;
    eventually(
        "what one replica has used up is gone at the other",
        async || {
            for _ in 0..50 {
                one.get("/v2/").await;
            }
            let answer = two.get("/v2/").await;
            if answer.status == 429 {
                return Some(());
            }
            served += 1;
            assert!(served < 450, "the other replica served that many");
            None
        },
    )
    .await;
    // Another installation on the same Redis has nothing to do with it.
    let other = limited(TestServer::builder(), "ADDRESS", "1000/h")
        .env("GRANARY_REDIS__URL", redis.url())
        .start()
        .await;
    other.get("/v2/").await.is(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_redis_a_replica_counts_for_itself() {
    let mut redis = Redis::start().unwrap();
    let server = limited(TestServer::builder(), "ADDRESS", "1000/h")
        .env("GRANARY_REDIS__URL", redis.url())
        .start()
        .await;
    eventually("Redis counts", async || {
        server.get("/v2/").await.is(200);
        let keys = redis.command("DBSIZE").unwrap();
        (keys != ":0").then_some(())
    })
    .await;
    redis.stop().unwrap();
    // Nobody is refused for that; and each process has the whole limit.
    for _ in 0..50 {
        server.get("/v2/").await.is(200);
    }
    use_up(&server, NOBODY, "/v2/", 200).await;
    let count = |words: &str| server.output().matches(words).count();
    // Said once, not with each request.
    assert_eq!(count(ALONE), count("Redis answers again") + 1);
    // Empty, so nothing is used up there.
    redis.start_again().unwrap();
    eventually("Redis counts again", async || {
        let answer = server.get("/v2/").await;
        (answer.status == 200).then_some(())
    })
    .await;
    eventually("that is said", async || {
        (count("Redis answers again") >= 1).then_some(())
    })
    .await;
}
