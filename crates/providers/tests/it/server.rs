//! A stand-in for a provider: canned answers by path, and what was asked.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::{
    rand::SystemRandom,
    signature::{Ed25519KeyPair, KeyPair as _},
};
use rustls::ServerConfig;
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpListener,
    sync::{Notify, mpsc},
};
use tokio_rustls::TlsAcceptor;

pub(crate) const NOW: i64 = 1_800_000_000;

/// What a path answers.
#[derive(Clone)]
pub(crate) enum Canned {
    Json(u16, String),
    Redirect(String),
    /// A body of so many bytes; with its length said before, or not.
    Large(usize, bool),
    /// Nothing until it is let go, and then this.
    Hang(Arc<Notify>, String),
}

impl Canned {
    pub(crate) fn good(value: &Value) -> Self {
        Self::Json(200, value.to_string())
    }
}

/// A connection, with TLS or without.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// A request as it came.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) line: String,
    /// Its headers, as they came.
    pub(crate) head: String,
    pub(crate) body: String,
}

pub(crate) struct Server {
    pub(crate) url: String,
    answers: Arc<Mutex<HashMap<String, Canned>>>,
    asked: mpsc::UnboundedReceiver<Asked>,
}

impl Server {
    pub(crate) async fn start() -> Self {
        Self::listen(None).await
    }

    async fn listen(tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let scheme = if tls.is_some() { "https" } else { "http" };
        let url = format!("{scheme}://{}", listener.local_addr().unwrap());
        let answers = Arc::new(Mutex::new(HashMap::new()));
        let (heard, asked) = mpsc::unbounded_channel();
        let canned = Arc::clone(&answers);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (canned, heard) = (Arc::clone(&canned), heard.clone());
                let tls = tls.clone();
                tokio::spawn(async move {
                    match tls {
                        None => serve(stream, canned, heard).await,
                        Some(tls) => {
                            // Who does not trust us ends it here.
                            if let Ok(stream) = tls.accept(stream).await {
                                serve(stream, canned, heard).await;
                            }
                        }
                    }
                });
            }
        });
        Self {
            url,
            answers,
            asked,
        }
    }

    /// A provider with discovery and one key.
    pub(crate) async fn provider(key: &Key) -> Self {
        Self::start().await.with_discovery(key)
    }

    /// The same over HTTPS, with the certificate that is to be trusted.
    pub(crate) async fn secure_provider(key: &Key) -> (Self, CertificateDer<'static>) {
        let own = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
        let certificate = own.cert.der().clone();
        let private = PrivatePkcs8KeyDer::from(own.signing_key.serialize_der());
        let ring = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(ring)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.clone()], private.into())
            .unwrap();
        let server = Self::listen(Some(TlsAcceptor::from(Arc::new(config)))).await;
        (server.with_discovery(key), certificate)
    }

    fn with_discovery(self, key: &Key) -> Self {
        let document = Canned::good(&self.metadata());
        self.answer("/.well-known/openid-configuration", document);
        self.publish(&[key]);
        self
    }

    pub(crate) fn metadata(&self) -> Value {
        let url = &self.url;
        json!({
            "issuer": url,
            "authorization_endpoint": format!("{url}/authorize?tenant=1"),
            "token_endpoint": format!("{url}/token"),
            "jwks_uri": format!("{url}/jwks"),
            "userinfo_endpoint": format!("{url}/me"),
            "code_challenge_methods_supported": ["S256"],
        })
    }

    pub(crate) fn publish(&self, keys: &[&Key]) {
        let keys: Vec<Value> = keys.iter().map(|key| key.jwk()).collect();
        self.answer("/jwks", Canned::good(&json!({ "keys": keys })));
    }

    pub(crate) fn answer(&self, path: &str, canned: Canned) {
        self.answers.lock().unwrap().insert(path.to_owned(), canned);
    }

    /// The next request; waits for it.
    pub(crate) async fn next(&mut self) -> Asked {
        self.asked.recv().await.unwrap()
    }

    /// The paths that were asked for since it was last looked.
    pub(crate) fn asked(&mut self) -> Vec<String> {
        let mut paths = Vec::new();
        while let Ok(asked) = self.asked.try_recv() {
            paths.push(asked.line.split(' ').nth(1).unwrap().to_owned());
        }
        paths
    }
}

async fn serve(
    mut stream: impl Stream,
    answers: Arc<Mutex<HashMap<String, Canned>>>,
    heard: mpsc::UnboundedSender<Asked>,
) {
    let mut bytes = Vec::new();
    loop {
        let Some(asked) = request(&mut stream, &mut bytes).await else {
            return;
        };
        let target = asked.line.split(' ').nth(1).unwrap().to_owned();
        let path = target.split('?').next().unwrap();
        let canned = {
            let answers = answers.lock().unwrap();
            answers.get(&target).or_else(|| answers.get(path)).cloned()
        };
        let _ = heard.send(asked);
        if answer(&mut stream, canned).await.is_err() {
            return;
        }
    }
}

async fn answer(stream: &mut impl Stream, canned: Option<Canned>) -> std::io::Result<()> {
    let plain = |status: u16, more: &str, body: &str| {
        let length = body.len();
        format!("HTTP/1.1 {status} x\r\ncontent-length: {length}\r\n{more}\r\n{body}")
    };
    match canned {
        None => stream.write_all(plain(404, "", "").as_bytes()).await,
        Some(Canned::Json(status, body)) => {
            let answer = plain(status, "content-type: application/json\r\n", &body);
            stream.write_all(answer.as_bytes()).await
        }
        Some(Canned::Redirect(to)) => {
            let answer = plain(307, &format!("location: {to}\r\n"), "");
            stream.write_all(answer.as_bytes()).await
        }
        Some(Canned::Large(size, true)) => {
            let answer = plain(200, "", &" ".repeat(size));
            stream.write_all(answer.as_bytes()).await
        }
        Some(Canned::Large(size, false)) => {
            let head = "HTTP/1.1 200 x\r\nconnection: close\r\n\r\n";
            stream.write_all(head.as_bytes()).await?;
            stream.write_all(" ".repeat(size).as_bytes()).await?;
            stream.shutdown().await
        }
        Some(Canned::Hang(until, body)) => {
            until.notified().await;
            stream.write_all(plain(200, "", &body).as_bytes()).await
        }
    }
}

/// The next request on a connection; nothing if it ends.
async fn request(stream: &mut impl Stream, bytes: &mut Vec<u8>) -> Option<Asked> {
    loop {
        let text = String::from_utf8_lossy(bytes).into_owned();
        if let Some((head, rest)) = text.split_once("\r\n\r\n") {
            let length = head
                .lines()
                .filter_map(|line| line.split_once(": "))
                .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
                .map_or(0, |(_, length)| length.parse().unwrap());
            if rest.len() >= length {
                let (line, headers) = head.split_once("\r\n").unwrap();
                let asked = Asked {
                    line: line.to_owned(),
                    head: headers.to_owned(),
                    body: rest[..length].to_owned(),
                };
                bytes.drain(..head.len() + 4 + length);
                return Some(asked);
            }
        }
        if stream.read_buf(bytes).await.ok()? == 0 {
            return None;
        }
    }
}

/// A key of an issuer.
pub(crate) struct Key {
    kid: &'static str,
    pair: Ed25519KeyPair,
}

impl Key {
    pub(crate) fn new(kid: &'static str) -> Self {
        let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        let pair = Ed25519KeyPair::from_pkcs8(document.as_ref()).unwrap();
        Self { kid, pair }
    }

    pub(crate) fn jwk(&self) -> Value {
        let x = URL_SAFE_NO_PAD.encode(self.pair.public_key());
        json!({"kty": "OKP", "crv": "Ed25519", "kid": self.kid, "x": x})
    }

    pub(crate) fn sign(&self, payload: &Value) -> String {
        let header = json!({"alg": "EdDSA", "kid": self.kid}).to_string();
        let encoded = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let message = format!(
            "{}.{}",
            encoded(header.as_bytes()),
            encoded(payload.to_string().as_bytes())
        );
        let signature = encoded(self.pair.sign(message.as_bytes()).as_ref());
        format!("{message}.{signature}")
    }
}
