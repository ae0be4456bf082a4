//! Requests that are bounded: in time, in size, in number.

use std::{error::Error as _, fmt, sync::Arc, time::Duration};

use granary_identity::{
    Secret,
    oidc::{MOST_DOCUMENT, told},
};
use reqwest::{
    Client, Method, RequestBuilder, Response, StatusCode,
    header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue},
    redirect,
};
use rustls::{ClientConfig, RootCertStore, crypto::ring};
use rustls_pki_types::CertificateDer;
use tokio::{sync::Semaphore, time::timeout};
use url::Url;

/// Requests of the process that are under way at a time.
static REQUESTS: Semaphore = Semaphore::const_new(16);
/// Requests to one provider that are under way at a time, so that one that hangs leaves room for others.
const MOST_PER_PROVIDER: usize = 4;
/// Connections to a host that are kept open.
const MOST_IDLE: usize = 2;
/// Most seconds for a request, from waiting for its turn to the last byte of the answer.
const MOST_TIME: Duration = Duration::from_secs(10);

/// How requests are made.
#[derive(Clone, Debug)]
pub struct HttpSettings {
    /// Certificates to be trusted besides the system's, such as that of an own Keycloak or of a cluster.
    pub certificates: Vec<CertificateDer<'static>>,
    /// How long a request may take as a whole, at most 10 seconds.
    pub timeout: Duration,
}

impl Default for HttpSettings {
    fn default() -> Self {
        Self {
            certificates: Vec::new(),
            timeout: MOST_TIME,
        }
    }
}

/// Why a request has no answer that can be used. The texts name the remedy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HttpFailure {
    /// No client can be made.
    #[error("HTTPS cannot be set up: {0}")]
    Setup(String),
    /// It took too long.
    #[error("it did not answer in time; look whether this server reaches it")]
    Timeout,
    /// There is no connection, or it broke.
    #[error(
        "{0}; look at the name, the firewall, and whether its certificate is one that this server trusts"
    )]
    Connection(String),
    /// It sends us elsewhere, where nobody said we should go.
    #[error("it answers {0} to another address, which is not followed; configure the final one")]
    Redirect(u16),
    /// It says no.
    #[error("it answers {0}")]
    Status(u16),
    /// The answer is larger than 1 MiB.
    #[error("its answer is larger than 1 MiB")]
    TooLarge,
}

/// What makes requests. Its copies share connections; the number of requests is bounded for the whole process.
#[derive(Clone)]
pub struct HttpClient {
    client: Client,
    timeout: Duration,
}

impl HttpClient {
    /// A client of these settings.
    pub fn new(settings: &HttpSettings) -> Result<Self, HttpFailure> {
        let client = Client::builder()
            .tls_backend_preconfigured(tls(&settings.certificates)?)
            .redirect(redirect::Policy::none())
            // A provider is asked at the address that was configured, and by nobody in between.
            .no_proxy()
            .referer(false)
            .pool_max_idle_per_host(MOST_IDLE)
            .pool_idle_timeout(Duration::from_secs(30))
            .user_agent("granary")
            .build()
            .map_err(|error| HttpFailure::Setup(reasons(error)))?;
        Ok(Self {
            client,
            timeout: settings.timeout.min(MOST_TIME),
        })
    }

    /// A door of its own for one provider.
    pub(crate) fn door(&self) -> Door {
        Door {
            http: self.clone(),
            turns: Arc::new(Semaphore::new(MOST_PER_PROVIDER)),
        }
    }
}

impl fmt::Debug for HttpClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpClient").finish_non_exhaustive()
    }
}

/// The way to one provider.
#[derive(Clone, Debug)]
pub(crate) struct Door {
    http: HttpClient,
    turns: Arc<Semaphore>,
}

/// A status that is no redirect, and a bounded body.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    /// The body, if the request succeeded.
    pub(crate) fn success(self) -> Result<Vec<u8>, HttpFailure> {
        match self.status.is_success() {
            true => Ok(self.body),
            false => Err(HttpFailure::Status(self.status.as_u16())),
        }
    }
}

impl Door {
    /// What `url` holds, for whoever shows `bearer`.
    pub(crate) async fn get(
        &self,
        url: &Url,
        bearer: Option<&Secret>,
    ) -> Result<Vec<u8>, HttpFailure> {
        let mut request = self.request(Method::GET, url);
        if let Some(token) = bearer {
            let text = Secret::from(format!("Bearer {}", token.expose()));
            request = request.header(AUTHORIZATION, sensitive(&text)?);
        }
        self.send(request).await?.success()
    }

    /// The answer to a form.
    pub(crate) async fn post_form(
        &self,
        url: &Url,
        form: &Secret,
        authorization: Option<&Secret>,
    ) -> Result<Answer, HttpFailure> {
        let mut request = self
            .request(Method::POST, url)
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(form.expose().to_owned());
        if let Some(text) = authorization {
            request = request.header(AUTHORIZATION, sensitive(text)?);
        }
        self.send(request).await
    }

    fn request(&self, method: Method, url: &Url) -> RequestBuilder {
        self.http
            .client
            .request(method, url.clone())
            .header(ACCEPT, "application/json")
    }

    async fn send(&self, request: RequestBuilder) -> Result<Answer, HttpFailure> {
        let sent = async {
            // The own turn first: who waits for it takes nobody else's.
            let _turn = self.turns.acquire().await;
            let _one_of_all = REQUESTS.acquire().await;
            let response = request.send().await.map_err(broken)?;
            if response.status().is_redirection() {
                return Err(HttpFailure::Redirect(response.status().as_u16()));
            }
            let status = response.status();
            let body = bounded_body(response).await?;
            Ok(Answer { status, body })
        };
        timeout(self.http.timeout, sent)
            .await
            .unwrap_or(Err(HttpFailure::Timeout))
    }
}

async fn bounded_body(mut response: Response) -> Result<Vec<u8>, HttpFailure> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(broken)? {
        if body.len() + chunk.len() > MOST_DOCUMENT {
            return Err(HttpFailure::TooLarge);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// A header that is printed nowhere.
fn sensitive(text: &Secret) -> Result<HeaderValue, HttpFailure> {
    let mut value = HeaderValue::from_str(text.expose())
        .map_err(|_| HttpFailure::Setup("a credential does not fit into a header".to_owned()))?;
    value.set_sensitive(true);
    Ok(value)
}

/// TLS by ring, as everywhere in the process, with the system's certificates and `more`.
fn tls(more: &[CertificateDer<'static>]) -> Result<ClientConfig, HttpFailure> {
    let mut roots = RootCertStore::empty();
    // A system without any is no error: an issuer on loopback needs none, and others then say that they are not trusted.
    let found = rustls_native_certs::load_native_certs().certs;
    roots.add_parsable_certificates(found);
    for certificate in more {
        roots.add(certificate.clone()).map_err(|error| {
            HttpFailure::Setup(format!("a configured certificate is not one: {error}"))
        })?;
    }
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| HttpFailure::Setup(error.to_string()))?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}

fn broken(error: reqwest::Error) -> HttpFailure {
    HttpFailure::Connection(reasons(error))
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
