//! TLS: HTTP/2 by ALPN, and certificates that change while the server runs.

use std::{
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
    process::Command,
};

use rustix::process::Signal;
use tempfile::TempDir;

use crate::harness::{Ran, TestServer, eventually, noise, run, sha256};

/// Certificate files, and copies of each certificate to trust.
struct Files(TempDir);

impl Files {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Puts a new certificate in place, and returns what a client must trust now.
    fn renew(&self, name: &str) -> PathBuf {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        fs::write(self.path("key.pem"), made.signing_key.serialize_pem()).unwrap();
        fs::write(self.path("cert.pem"), made.cert.pem()).unwrap();
        fs::write(self.path(name), made.cert.pem()).unwrap();
        self.path(name)
    }

    async fn serve(&self) -> TestServer {
        TestServer::builder()
            .env("GRANARY_SERVER__TLS_CERT", self.path("cert.pem"))
            .env("GRANARY_SERVER__TLS_KEY", self.path("key.pem"))
            .start()
            .await
    }
}

/// Whether there is a `curl` that speaks HTTP/2; the client of the other tests speaks no TLS.
async fn curl_is_here() -> bool {
    let found = Command::new("curl").arg("--version").output();
    let found = found.is_ok_and(|output| String::from_utf8_lossy(&output.stdout).contains("HTTP2"));
    let must = std::env::var_os("CI").is_some_and(|ci| ci == "true");
    assert!(found || !must, "curl with HTTP/2 is needed");
    if !found {
        let _ = writeln!(
            io::stderr(),
            "skipped: there is no curl with HTTP/2 on this machine"
        );
    }
    found
}

/// Runs `curl` against the server by its name; prints protocol and status behind the body.
async fn curl(server: &TestServer, trusted: &Path, path: &str, arguments: &[&str]) -> Ran {
    let port = server.address().port();
    let mut command = Command::new("curl");
    command.args([
        "--silent",
        "--show-error",
        "--max-time",
        "10",
        "--noproxy",
        "*",
        "--http2",
    ]);
    command
        .arg("--resolve")
        .arg(format!("localhost:{port}:127.0.0.1"));
    command.arg("--cacert").arg(trusted);
    command
        .args(["--write-out", "%{http_version} %{http_code}"])
        .args(arguments);
    command.arg(format!("https://localhost:{port}{path}"));
    run(command).await
}

#[tokio::test]
async fn tls_brings_http2() {
    if !curl_is_here().await {
        return;
    }
    let files = Files::new();
    let trusted = files.renew("first.pem");
    let mut server = files.serve().await;
    let answer = curl(&server, &trusted, "/v2/", &[]).await.exits(0);
    assert_eq!(answer.stdout, "{}2 200");
    let answer = curl(&server, &trusted, "/v2/", &["--http1.1"])
        .await
        .exits(0);
    assert_eq!(answer.stdout, "{}1.1 200");

    let content = noise(1_000_000, 1);
    fs::write(files.path("content"), &content).unwrap();
    let digest = sha256(&content);
    let path = format!("/v2/tls/blob/blobs/uploads/?digest={digest}");
    let body = format!("@{}", files.path("content").display());
    let answer = curl(&server, &trusted, &path, &["--data-binary", &body])
        .await
        .exits(0);
    assert_eq!(answer.stdout, "2 201");
    let out = files.path("out");
    let path = format!("/v2/tls/blob/blobs/{digest}");
    let arguments = ["--output", out.to_str().unwrap()];
    let answer = curl(&server, &trusted, &path, &arguments).await.exits(0);
    assert_eq!(answer.stdout, "2 200");
    assert!(fs::read(out).unwrap() == content);
    server.stop().await;
}

#[tokio::test]
async fn a_certificate_is_replaced_without_a_restart() {
    if !curl_is_here().await {
        return;
    }
    let files = Files::new();
    let first = files.renew("first.pem");
    let server = files.serve().await;
    curl(&server, &first, "/v2/", &[]).await.exits(0);
    let second = files.renew("second.pem");
    server.signal(Signal::HUP);
    eventually("the new certificate is used", async || {
        let answer = curl(&server, &second, "/v2/", &[]).await;
        answer.status.success().then_some(())
    })
    .await;
    assert!(!curl(&server, &first, "/v2/", &[]).await.status.success());

    // What cannot be used changes nothing, and is said.
    fs::write(files.path("cert.pem"), "no certificate").unwrap();
    server.signal(Signal::HUP);
    eventually("the problem is logged", async || {
        server.output().contains("cannot be used").then_some(())
    })
    .await;
    curl(&server, &second, "/v2/", &[]).await.exits(0);

    // Without a signal the change is found too.
    let third = files.renew("third.pem");
    eventually("the third certificate is used", async || {
        let answer = curl(&server, &third, "/v2/", &[]).await;
        answer.status.success().then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_signal_right_after_the_start_is_heard() {
    if !curl_is_here().await {
        return;
    }
    let files = Files::new();
    files.renew("first.pem");
    let server = files.serve().await;
    let second = files.renew("second.pem");
    server.signal(Signal::HUP);
    eventually("the new certificate is used", async || {
        let answer = curl(&server, &second, "/v2/", &[]).await;
        answer.status.success().then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_certificate_that_cannot_be_used_is_named_at_the_start() {
    let files = Files::new();
    files.renew("first.pem");
    fs::write(files.path("cert.pem"), "no certificate").unwrap();
    let mut command = crate::harness::granary();
    command
        .args(["serve", "--listen", "127.0.0.1:0", "--data"])
        .arg(files.path("data"));
    command.env("GRANARY_SERVER__TLS_CERT", files.path("cert.pem"));
    command.env("GRANARY_SERVER__TLS_KEY", files.path("key.pem"));
    let ran = run(command).await;
    assert!(!ran.status.success());
    assert!(ran.stderr.contains("cert.pem"), "{}", ran.stderr);
}
