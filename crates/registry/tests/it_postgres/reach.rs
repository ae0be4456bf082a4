//! What is said of a PostgreSQL that cannot be used.

use std::time::{Duration, Instant};

use granary_catalog::{Catalog, reach_postgres, schema_status};
use granary_testbed::{Postgres, StopMode};

/// The refusal of `url`, which must come at once, whatever the patience.
async fn at_once(url: &str) -> String {
    let began = Instant::now();
    let refused = reach_postgres(url, Duration::from_secs(600)).await;
    assert!(began.elapsed() < Duration::from_secs(60));
    refused.unwrap_err().to_string()
}

/// What is said when nobody waits.
async fn impatient(url: &str) -> String {
    let refused = reach_postgres(url, Duration::ZERO).await;
    refused.unwrap_err().to_string()
}

fn says(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "\"{part}\" is not in: {text}");
    }
    assert!(!text.contains("s3cr3t"), "the password shows: {text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_waiting_mends_is_said_at_once() {
    let server = Postgres::start_fast().unwrap();
    let host = format!("127.0.0.1:{}", server.port());
    let make = "CREATE ROLE locked LOGIN PASSWORD 'right'; CREATE ROLE outside LOGIN; CREATE DATABASE closed; \
                REVOKE CONNECT ON DATABASE closed FROM PUBLIC";
    for statement in make.split("; ") {
        server.psql("postgres", statement).unwrap();
    }
    let rules = server.psql("postgres", "SHOW hba_file").unwrap();
    let rewrite = format!(
        "COPY (VALUES ('host all locked all scram-sha-256'), ('host all outside all reject'), ('host all all all trust')) TO '{rules}'"
    );
    server.psql("postgres", &rewrite).unwrap();
    server.psql("postgres", "SELECT pg_reload_conf()").unwrap();

    // The server reads its rules again in a moment.
    let wrong = format!("postgres://locked:s3cr3t@{host}/postgres");
    let mut text = at_once_or_in(&wrong).await;
    says(
        &text,
        &[
            "refuses the password of user \"locked\"",
            &host,
            "database \"postgres\"",
            "correct user and password",
        ],
    );
    reach_postgres(
        &format!("postgres://locked:right@{host}/postgres"),
        Duration::ZERO,
    )
    .await
    .unwrap();
    text = at_once(&format!("postgres://outside:s3cr3t@{host}/postgres")).await;
    says(
        &text,
        &["does not let user \"outside\" in", &host, "pg_hba.conf"],
    );
    text = at_once(&format!("postgres://nobody:s3cr3t@{host}/postgres")).await;
    says(&text, &["\"nobody\"", "make the role"]);
    text = at_once(&format!("postgres://postgres:s3cr3t@{host}/nowhere")).await;
    says(
        &text,
        &["there is no database \"nowhere\"", &host, "CREATE DATABASE"],
    );
    server.psql("postgres", "CREATE ROLE guest LOGIN").unwrap();
    text = at_once(&format!("postgres://guest:s3cr3t@{host}/closed")).await;
    says(
        &text,
        &["\"guest\" may not use database \"closed\"", "GRANT CONNECT"],
    );
    text = at_once(&format!(
        "postgres://guest:s3cr3t@{host}/postgres?sslmode=require"
    ))
    .await;
    says(&text, &["encrypted", &host, "sslmode"]);

    // The ways that lead to a catalog say the same.
    let url = format!("postgres://postgres:s3cr3t@{host}/nowhere");
    let opened = Catalog::open_postgres(&url, 2).await;
    says(
        &opened.err().unwrap().to_string(),
        &["there is no database \"nowhere\""],
    );
    let asked = schema_status(&url).await;
    says(
        &asked.unwrap_err().to_string(),
        &["there is no database \"nowhere\""],
    );
}

/// Asks until the server has read its rules.
async fn at_once_or_in(url: &str) -> String {
    while reach_postgres(url, Duration::ZERO).await.is_ok() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    at_once(url).await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_pass_is_named_too() {
    let port = granary_testbed::free_port().unwrap();
    let text = impatient(&format!("postgres://me:s3cr3t@127.0.0.1:{port}/granary")).await;
    says(
        &text,
        &[
            "connection refused",
            &format!("127.0.0.1:{port}"),
            "database \"granary\"",
            "start PostgreSQL",
        ],
    );
    let text = impatient("postgres://me:s3cr3t@no-such-host.invalid/granary").await;
    says(
        &text,
        &[
            "the host \"no-such-host.invalid\" is not known",
            "database.url",
        ],
    );

    let server = Postgres::shared().unwrap();
    server
        .psql("postgres", "CREATE ROLE crowded LOGIN CONNECTION LIMIT 0")
        .unwrap();
    let host = format!("127.0.0.1:{}", server.port());
    let text = impatient(&format!("postgres://crowded:s3cr3t@{host}/postgres")).await;
    says(
        &text,
        &["takes no more connections", &host, "max_connections"],
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_silent_is_given_up() {
    // It takes connections, by its backlog, and never says a word.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let host = listener.local_addr().unwrap().to_string();
    let text = impatient(&format!("postgres://me:s3cr3t@{host}/granary")).await;
    says(&text, &["did not answer within", &host, "firewalls"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_starts_late_is_waited_for() {
    let mut server = Postgres::start_fast().unwrap();
    server.stop(StopMode::Fast).unwrap();
    let url = server.url("postgres");
    let waiting = tokio::spawn(async move { reach_postgres(&url, Duration::from_secs(60)).await });
    // It is refused at first, and the same server answers in the end.
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!waiting.is_finished());
    server.start_again().unwrap();
    waiting.await.unwrap().unwrap();
}
