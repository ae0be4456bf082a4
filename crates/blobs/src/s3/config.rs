//! What is needed to reach a bucket, and the client made of it.

use std::{fmt, fs, path::Path, path::PathBuf, time::Duration};

use aws_config::{
    BehaviorVersion, default_provider::credentials::DefaultCredentialsChain,
    provider_config::ProviderConfig, retry::RetryConfig, timeout::TimeoutConfig,
};
use aws_sdk_s3::{
    Client,
    config::{
        Credentials, Region, RequestChecksumCalculation, ResponseChecksumValidation,
        SharedCredentialsProvider, SharedHttpClient, StalledStreamProtectionConfig,
    },
};
use aws_smithy_http_client::{
    Builder,
    tls::{Provider, TlsContext, TrustStore, rustls_provider::CryptoMode},
};
use aws_smithy_runtime_api::client::interceptors::SharedInterceptor;
use rustls::RootCertStore;
use rustls_pki_types::{CertificateDer, pem::PemObject as _};

use super::watch::Watch;
use crate::{IoFailure, RemoteFailure, StoreError};

/// Memory for parts, if nothing else is said.
pub const DEFAULT_BUDGET: usize = 96 * 1024 * 1024;

/// The least memory for parts: half of it must hold the largest part.
pub const LEAST_BUDGET: usize = 32 * 1024 * 1024;

/// Parts of one upload that may be on their way at once, if nothing else is said.
pub const DEFAULT_PARALLEL: usize = 4;

/// How long a connection may take to open.
const CONNECT: Duration = Duration::from_secs(5);

/// How long the server may take to answer a request that carries no bytes of an object.
pub(super) const ANSWER: Duration = Duration::from_secs(30);

/// How long a stream may stand still.
pub(super) const STANDSTILL: Duration = Duration::from_secs(20);

/// How long an unused connection is kept. Servers close theirs after 20 s and more, and a proxy in between may not say
/// so: the next request would then meet a connection that leads nowhere.
const IDLE: Duration = Duration::from_secs(10);

/// How often a request is tried in all, and how long is waited in between.
const ATTEMPTS: u32 = 5;
const FIRST_BACKOFF: Duration = Duration::from_millis(200);
const LAST_BACKOFF: Duration = Duration::from_secs(5);

/// A text that is shown nowhere.
#[derive(Clone)]
pub struct Secret(String);

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(hidden)")
    }
}

/// Where a bucket is and how it is used.
#[derive(Clone, Debug)]
pub struct S3Config {
    /// Address of the server, such as `https://minio.example:9000`; AWS's for the region if there is none.
    pub endpoint: Option<String>,
    /// Address at which clients reach the server; the same if there is none.
    pub public_endpoint: Option<String>,
    /// The region, which takes part in signatures.
    pub region: String,
    /// The bucket; it must exist.
    pub bucket: String,
    /// Goes before every key: `{prefix}blobs/<key>`.
    pub prefix: String,
    /// Access key. Without one the usual places are asked in order: environment, shared configuration and credentials
    /// files, web identity token file, and only then the metadata services of ECS and EC2
    /// (`AWS_EC2_METADATA_DISABLED=true` keeps the last from being asked).
    pub access_key_id: Option<String>,
    /// Secret key that belongs to the access key.
    pub secret_access_key: Option<Secret>,
    /// Whether the bucket stands in the path of an address instead of the host name.
    pub path_style: bool,
    /// Certificates to be trusted besides the system's, in PEM.
    pub ca_file: Option<PathBuf>,
    /// Bytes of memory all uploads together gather their parts in, at least [`LEAST_BUDGET`].
    pub budget: usize,
    /// Parts of one upload that may be on their way at once.
    pub parallel: usize,
}

impl S3Config {
    /// The bucket with everything else at its default.
    pub fn new(region: impl Into<String>, bucket: impl Into<String>) -> Self {
        Self {
            endpoint: None,
            public_endpoint: None,
            region: region.into(),
            bucket: bucket.into(),
            prefix: String::new(),
            access_key_id: None,
            secret_access_key: None,
            path_style: false,
            ca_file: None,
            budget: DEFAULT_BUDGET,
            parallel: DEFAULT_PARALLEL,
        }
    }

    /// A client for the store's own requests, which `watch` sees, and one that makes links.
    pub(super) async fn clients(&self, watch: Watch) -> Result<(Client, Client), StoreError> {
        let http = self.http_client()?;
        let credentials = self.credentials(&http).await?;
        let client = |endpoint: Option<&String>, watch: Option<Watch>| {
            let mut config = aws_sdk_s3::Config::builder()
                .behavior_version(BehaviorVersion::v2026_01_12())
                .region(Region::new(self.region.clone()))
                .credentials_provider(credentials.clone())
                .http_client(http.clone())
                .force_path_style(self.path_style)
                .retry_config(
                    RetryConfig::standard()
                        .with_max_attempts(ATTEMPTS)
                        .with_initial_backoff(FIRST_BACKOFF)
                        .with_max_backoff(LAST_BACKOFF),
                )
                .timeout_config(
                    TimeoutConfig::builder()
                        .connect_timeout(CONNECT)
                        .operation_attempt_timeout(ANSWER)
                        .build(),
                )
                // A reader minds its stream itself, because it can take it up again.
                .stalled_stream_protection(
                    StalledStreamProtectionConfig::enabled()
                        .upload_enabled(true)
                        .download_enabled(false)
                        .grace_period(STANDSTILL)
                        .build(),
                )
                // The sums of parts are made while their bytes are hashed; the SDK would go over them again and send
                // them in trailers, which not every server understands.
                .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
                .response_checksum_validation(ResponseChecksumValidation::WhenRequired);
            config.set_endpoint_url(endpoint.cloned());
            if let Some(watch) = watch {
                config.push_interceptor(SharedInterceptor::new(watch));
            }
            Client::from_conf(config.build())
        };
        let public = self.public_endpoint.as_ref().or(self.endpoint.as_ref());
        let own = client(self.endpoint.as_ref(), Some(watch));
        Ok((own, client(public, None)))
    }

    async fn credentials(
        &self,
        http: &SharedHttpClient,
    ) -> Result<SharedCredentialsProvider, StoreError> {
        match (&self.access_key_id, &self.secret_access_key) {
            (Some(id), Some(Secret(secret))) => Ok(SharedCredentialsProvider::new(
                Credentials::new(id, secret, None, None, "configuration"),
            )),
            (None, None) => {
                let region = Region::new(self.region.clone());
                let provider = ProviderConfig::default()
                    .with_http_client(http.clone())
                    .with_region(Some(region.clone()));
                let chain = DefaultCredentialsChain::builder()
                    .region(region)
                    .configure(provider);
                Ok(SharedCredentialsProvider::new(chain.build().await))
            }
            _ => Err(refused(
                "access key and secret key are needed both, or neither to take them from the environment".to_owned(),
            )),
        }
    }

    fn http_client(&self) -> Result<SharedHttpClient, StoreError> {
        // Reading the system's certificates takes time, and a machine may have none.
        let plain = |endpoint: &String| endpoint.starts_with("http://");
        let plain = self.access_key_id.is_some() && self.endpoint.as_ref().is_some_and(plain);
        let mut trust = TrustStore::empty().with_native_roots(!plain);
        if let Some(path) = &self.ca_file {
            trust.add_pem_certificate(certificates(path)?);
        }
        let tls = TlsContext::builder()
            .with_trust_store(trust)
            .build()
            .map_err(|error| refused(format!("TLS cannot be set up: {error}")))?;
        Ok(Builder::new()
            .tls_provider(Provider::Rustls(CryptoMode::Ring))
            .tls_context(tls)
            .pool_idle_timeout(IDLE)
            .build_https())
    }
}

/// The text of a certificate file, looked through here because the client would panic at a broken one.
fn certificates(path: &Path) -> Result<Vec<u8>, StoreError> {
    let pem = fs::read(path).map_err(StoreError::io("reading", path))?;
    let broken = |reason: String| {
        StoreError::from(IoFailure {
            action: "reading the certificates in",
            path: path.to_owned(),
            source: std::io::Error::other(reason),
        })
    };
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let certificate = certificate.map_err(|error| broken(error.to_string()))?;
        roots
            .add(certificate)
            .map_err(|error| broken(error.to_string()))?;
    }
    if roots.is_empty() {
        return Err(broken("there is none in PEM form".to_owned()));
    }
    Ok(pem)
}

/// A configuration that cannot work.
pub(super) fn refused(reason: String) -> StoreError {
    RemoteFailure::new("setting up the bucket", None, reason).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_not_shown() {
        let config = S3Config {
            secret_access_key: Some("hunter2".to_owned().into()),
            ..S3Config::new("here", "bucket")
        };
        assert!(!format!("{config:?}").contains("hunter2"));
    }

    #[test]
    fn a_certificate_file_without_certificates_is_refused() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "nothing").unwrap();
        let error = certificates(file.path()).unwrap_err().to_string();
        assert!(error.contains("there is none in PEM form"), "{error}");
    }
}
