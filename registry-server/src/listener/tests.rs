use actix_web::{App, HttpResponse, web};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    task::JoinHandle,
};

use crate::{
    config::{Anonymous, Config},
    edge::{Edge, EdgeOptions},
};

use super::*;

struct Running {
    address: SocketAddr,
    drain: Drain,
    server: JoinHandle<io::Result<()>>,
}

/// Starts a server on a free port: `/hello` answers at once, `/slow` after 300 ms.
fn start(config: impl FnOnce(&mut ServerConfig)) -> Running {
    let mut server = Config::default().server;
    server.listen = "127.0.0.1:0".parse().unwrap();
    config(&mut server);
    let listener = Listener::bind(&server).unwrap();
    let address = listener.addresses()[0];
    let (drain, metrics) = (Drain::default(), Arc::new(Metrics::new()));
    let edge = Edge::new(EdgeOptions {
        metrics: Arc::clone(&metrics),
        drain: drain.clone(),
        anonymous: Anonymous::Loopback,
        accounts: std::sync::Arc::default(),
        trusted_proxies: Vec::new(),
    });
    let app = move || {
        App::new()
            .route(
                "/hello",
                web::to(|| async { HttpResponse::Ok().body("hello") }),
            )
            .route(
                "/slow",
                web::to(|| async {
                    sleep(Duration::from_millis(300)).await;
                    HttpResponse::Ok().body("slow")
                }),
            )
            .wrap(edge.clone())
    };
    let server = actix_rt::spawn(listener.serve(app, metrics, drain.clone()));
    Running {
        address,
        drain,
        server,
    }
}

impl Running {
    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    async fn stop(self) {
        self.drain.start();
        timeout(Duration::from_secs(10), self.server)
            .await
            .unwrap()
            .unwrap()
            .unwrap();
    }
}

/// Without a provider of the process, reqwest makes no client.
fn use_ring() {
    let _ = rustls::crypto::ring::default_provider().install_default();
}

#[actix_web::test]
async fn one_port_speaks_http1_and_http2() {
    use_ring();
    let server = start(|_| {});
    let http1 = reqwest::Client::builder().http1_only().build().unwrap();
    let http2 = reqwest::Client::builder()
        .http2_prior_knowledge()
        .build()
        .unwrap();
    for client in [http1, http2] {
        let answer = client.get(server.url("/hello")).send().await.unwrap();
        assert!(answer.headers().contains_key("x-request-id"));
        assert_eq!(answer.text().await.unwrap(), "hello");
    }
    server.stop().await;
}

#[actix_web::test]
async fn running_requests_finish_and_idle_connections_end_with_the_server() {
    use_ring();
    let server = start(|_| {});
    let client = reqwest::Client::new();
    client.get(server.url("/hello")).send().await.unwrap();
    let slow = actix_rt::spawn(client.get(server.url("/slow")).send());
    sleep(Duration::from_millis(100)).await;
    server.drain.start();
    let while_draining = client.get(server.url("/hello")).send().await.unwrap();
    assert_eq!(while_draining.headers()["connection"], "close");
    assert_eq!(slow.await.unwrap().unwrap().text().await.unwrap(), "slow");
    server.stop().await;
}

#[actix_web::test]
async fn the_end_does_not_wait_longer_than_it_was_told() {
    use_ring();
    let server = start(|config| config.drain_timeout = Duration::from_millis(50));
    let request = actix_rt::spawn(reqwest::get(server.url("/slow")));
    sleep(Duration::from_millis(100)).await;
    server.stop().await;
    assert!(request.await.unwrap().is_err());
}

#[actix_web::test]
async fn tls_serves_both_protocols() {
    let folder = tempfile::TempDir::new().unwrap();
    let generated = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (cert, key) = (
        folder.path().join("cert.pem"),
        folder.path().join("key.pem"),
    );
    std::fs::write(&cert, generated.cert.pem()).unwrap();
    std::fs::write(&key, generated.signing_key.serialize_pem()).unwrap();
    let server = start(|config| {
        config.tls_cert = Some(cert);
        config.tls_key = Some(key);
    });
    let mut roots = rustls::RootCertStore::empty();
    roots.add(generated.cert.der().clone()).unwrap();
    for protocol in [&b"http/1.1"[..], b"h2"] {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut client = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots.clone())
            .with_no_client_auth();
        client.alpn_protocols = vec![protocol.to_vec()];
        let stream = TcpStream::connect(server.address).await.unwrap();
        let name = "localhost".try_into().unwrap();
        let mut stream = tokio_rustls::TlsConnector::from(Arc::new(client))
            .connect(name, stream)
            .await
            .unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(protocol));
        if protocol == b"http/1.1" {
            stream
                .write_all(b"GET /hello HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
                .await
                .unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            assert!(
                answer.starts_with("HTTP/1.1 200 OK") && answer.ends_with("hello"),
                "{answer}"
            );
        }
    }
    server.stop().await;
}
