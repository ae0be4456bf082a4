//! Questions to a server's `/api/v1`, bounded in time and size. Nothing is followed elsewhere, and no credential is printed.

use std::{error::Error as _, path::Path, sync::Arc, time::Duration};

use anyhow::Context as _;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use granary_identity::Secret;
use reqwest::{
    Client, Method, Response, StatusCode,
    header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER},
    redirect,
};
use rustls::{ClientConfig, RootCertStore, crypto::ring};
use rustls_pki_types::{CertificateDer, pem::PemObject};
use serde_json::Value;

use super::{server_url::ServerUrl, table::plain};
use crate::moving::UsageError;

/// Most time until there is a connection.
const CONNECT: Duration = Duration::from_secs(10);
/// Most time for a question and its answer.
const PATIENCE: Duration = Duration::from_secs(60);
/// Most bytes of an answer.
const MOST: usize = 1024 * 1024;
/// What rustls says of an answer that is no TLS.
const NO_TLS: &str = "InvalidContentType";
/// Most characters of an error that are repeated.
const TOLD: usize = 2000;

/// What is shown of oneself.
pub(super) enum Shown<'s> {
    Nothing,
    Password { user: &'s str, password: &'s Secret },
    Token(&'s Secret),
}

impl Shown<'_> {
    fn header(&self) -> anyhow::Result<Option<HeaderValue>> {
        let text = match self {
            Self::Nothing => return Ok(None),
            Self::Password { user, password } => {
                if user.contains(':') {
                    let problem = "a user's name has no colon".to_owned();
                    return Err(UsageError(problem).into());
                }
                let both = Secret::from(format!("{user}:{}", password.expose()));
                Secret::from(format!("Basic {}", STANDARD.encode(both.expose())))
            }
            Self::Token(token) => Secret::from(format!("Bearer {}", token.expose())),
        };
        let value = HeaderValue::from_str(text.expose());
        let mut value = value.map_err(|_| {
            UsageError("the token has characters that no token of Granary has".to_owned())
        })?;
        value.set_sensitive(true);
        Ok(Some(value))
    }
}

/// What is asked: a method, the parts of the path below `/api/v1`, a query and a body.
pub(super) struct Question<'q> {
    method: Method,
    parts: &'q [&'q str],
    query: Vec<(&'q str, String)>,
    body: Option<Value>,
}

impl<'q> Question<'q> {
    pub(super) fn new(method: Method, parts: &'q [&'q str]) -> Self {
        Self {
            method,
            parts,
            query: Vec::new(),
            body: None,
        }
    }

    pub(super) fn get(parts: &'q [&'q str]) -> Self {
        Self::new(Method::GET, parts)
    }

    pub(super) fn post(parts: &'q [&'q str], body: Value) -> Self {
        Self::new(Method::POST, parts).with(body)
    }

    pub(super) fn delete(parts: &'q [&'q str]) -> Self {
        Self::new(Method::DELETE, parts)
    }

    pub(super) fn with(self, body: Value) -> Self {
        Self {
            body: Some(body),
            ..self
        }
    }

    pub(super) fn query(self, query: Vec<(&'q str, String)>) -> Self {
        Self { query, ..self }
    }
}

/// What a server said that did what it was asked.
#[derive(Debug)]
pub(super) struct Said {
    /// What it is about; null if there is nothing to say.
    pub(super) data: Value,
    /// What asks for the page behind this one.
    pub(super) next: Option<String>,
}

/// Why there is no such answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum AskError {
    /// The server says no, and why.
    #[error("{message} ({code}){more}")]
    Refused {
        status: StatusCode,
        code: String,
        message: String,
        more: String,
    },
    #[error(
        "{server} cannot be reached: {problem}; look whether the address is right (--server){port}{more}"
    )]
    Unreachable {
        server: String,
        problem: String,
        port: String,
        more: &'static str,
    },
    #[error(
        "{server} answers without TLS: write {plain}. Whoever sees that connection learns what you show"
    )]
    Plain { server: String, plain: String },
    #[error(
        "{server} does not answer in time: try again, or look whether it is well (/health/ready)"
    )]
    Late { server: String },
    #[error(
        "{server} sends to another address (HTTP {status}), which is not followed: name the final one with --server"
    )]
    Elsewhere { server: String, status: StatusCode },
    #[error(
        "{server} does not answer as Granary does (HTTP {status}): look whether the address is right (--server)"
    )]
    Stranger { server: String, status: StatusCode },
    #[error(
        "{server} answers with more than 1 MiB at once, which no page of Granary has: look whether the address is right (--server)"
    )]
    TooLarge { server: String },
}

/// The way to a server.
pub(super) struct Http {
    client: Client,
    server: ServerUrl,
}

impl Http {
    /// `ca` has certificates to be trusted besides the system's.
    pub(super) fn new(server: ServerUrl, ca: Option<&Path>) -> anyhow::Result<Self> {
        let mut client = Client::builder()
            .tls_backend_preconfigured(tls(ca)?)
            .redirect(redirect::Policy::none())
            .referer(false)
            .connect_timeout(CONNECT)
            .timeout(PATIENCE)
            .user_agent(concat!("granary/", env!("CARGO_PKG_VERSION")));
        if server.is_here() {
            // A proxy's own loopback is another one.
            client = client.no_proxy();
        }
        let client = client.build().context("HTTP cannot be set up")?;
        Ok(Self { client, server })
    }

    pub(super) fn server(&self) -> &ServerUrl {
        &self.server
    }

    /// Asks, and reads the answer's envelope.
    pub(super) async fn ask(
        &self,
        question: Question<'_>,
        shown: &Shown<'_>,
    ) -> anyhow::Result<Said> {
        let url = self.server.at(question.parts, &question.query)?;
        let mut request = self.client.request(question.method, url);
        request = request.header(ACCEPT, "application/json");
        if let Some(value) = shown.header()? {
            request = request.header(AUTHORIZATION, value);
        }
        if let Some(body) = &question.body {
            let body = serde_json::to_vec(body)?;
            request = request.header(CONTENT_TYPE, "application/json").body(body);
        }
        let response = request.send().await.map_err(|error| self.broken(error))?;
        let (status, headers) = (response.status(), response.headers().clone());
        if status.is_redirection() {
            let server = self.server.to_string();
            return Err(AskError::Elsewhere { server, status }.into());
        }
        let body = self.read(response).await?;
        Ok(self.understood(status, &headers, &body)?)
    }

    async fn read(&self, mut response: Response) -> Result<Vec<u8>, AskError> {
        let mut body = Vec::new();
        while let Some(piece) = response.chunk().await.map_err(|error| self.broken(error))? {
            if body.len() + piece.len() > MOST {
                let server = self.server.to_string();
                return Err(AskError::TooLarge { server });
            }
            body.extend_from_slice(&piece);
        }
        Ok(body)
    }

    fn understood(
        &self,
        status: StatusCode,
        headers: &HeaderMap,
        body: &[u8],
    ) -> Result<Said, AskError> {
        let stranger = || AskError::Stranger {
            server: self.server.to_string(),
            status,
        };
        if status == StatusCode::NO_CONTENT && body.is_empty() {
            let data = Value::Null;
            return Ok(Said { data, next: None });
        }
        let mut envelope: Value = serde_json::from_slice(body).map_err(|_| stranger())?;
        match (envelope["ok"].as_bool(), status.is_success()) {
            (Some(true), true) if !envelope["data"].is_null() => Ok(Said {
                data: envelope["data"].take(),
                next: next(&envelope["next"]),
            }),
            (Some(false), false) => {
                Err(refused(status, headers, &envelope).unwrap_or_else(stranger))
            }
            _ => Err(stranger()),
        }
    }

    fn broken(&self, error: reqwest::Error) -> AskError {
        let server = self.server.to_string();
        if error.is_timeout() {
            return AskError::Late { server };
        }
        let problem = reasons(error);
        if let (Some(plain), true) = (self.server.without_tls(), problem.contains(NO_TLS)) {
            return AskError::Plain { server, plain };
        }
        AskError::Unreachable {
            server,
            problem,
            port: match self.server.usual_port() {
                Some(port) => format!(", with its port: {port} was tried, as no other is written"),
                None => String::new(),
            },
            more: match self.server.without_tls() {
                Some(_) => {
                    ", whether the server runs, and whether its certificate is of an authority that this machine knows (--ca FILE \
                     names another)"
                }
                None => ", and whether the server runs",
            },
        }
    }
}

/// A page's key is a name or a number.
pub(super) fn next(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

fn refused(status: StatusCode, headers: &HeaderMap, envelope: &Value) -> Option<AskError> {
    let error = &envelope["error"];
    let (code, message) = (error["code"].as_str()?, error["message"].as_str()?);
    let wait = headers.get(RETRY_AFTER).and_then(|wait| wait.to_str().ok());
    let mut more = match wait.and_then(|wait| wait.parse::<u64>().ok()) {
        // Most say it themselves.
        Some(seconds) if !message.contains("try again") => format!("; try again in {seconds} s"),
        _ => String::new(),
    };
    if let (true, Some(id)) = (status.is_server_error(), envelope["request_id"].as_str()) {
        more.push_str(&format!("; its request_id is {}", told(id)));
    }
    Some(AskError::Refused {
        status,
        code: told(code),
        message: told(message),
        more,
    })
}

/// What a server wrote, so that it does nothing to a terminal.
fn told(text: &str) -> String {
    plain(&text.chars().take(TOLD).collect::<String>())
}

/// All that an error says, without the URL.
fn reasons(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        text = format!("{text}: {inner}");
        source = inner.source();
    }
    told(&text)
}

/// TLS by ring, as everywhere in the process, with the system's certificates and those of `ca`.
fn tls(ca: Option<&Path>) -> anyhow::Result<ClientConfig> {
    let mut roots = RootCertStore::empty();
    // A system without any is no error: http needs none, and https says then that nobody is trusted.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if let Some(path) = ca {
        let problem = || {
            let path = path.display();
            format!("{path} cannot be used: --ca names a file of certificates in PEM")
        };
        let found = CertificateDer::pem_file_iter(path).with_context(problem)?;
        let found: Vec<_> = found.collect::<Result<_, _>>().with_context(problem)?;
        if found.is_empty() {
            return Err(UsageError(problem()).into());
        }
        for certificate in found {
            roots.add(certificate).with_context(problem)?;
        }
    }
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}
