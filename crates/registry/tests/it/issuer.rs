//! An issuer of identity tokens: its key, what it publishes, and what it signs. It can be asked over HTTP on loopback.

use std::{
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{SystemTime, UNIX_EPOCH},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _},
};
use serde_json::{Value, json};

/// The issuer, with its private key.
pub(crate) struct Issuer {
    pub(crate) url: String,
    key: EcdsaKeyPair,
    requests: Arc<AtomicU64>,
}

/// The time, in seconds since 1970.
pub(crate) fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    since.as_secs().cast_signed()
}

impl Issuer {
    /// One that nobody can ask.
    pub(crate) fn new(url: &str) -> Self {
        let (random, how) = (SystemRandom::new(), &ECDSA_P256_SHA256_FIXED_SIGNING);
        let document = EcdsaKeyPair::generate_pkcs8(how, &random).unwrap();
        Self {
            url: url.to_owned(),
            key: EcdsaKeyPair::from_pkcs8(how, document.as_ref(), &random).unwrap(),
            requests: Arc::default(),
        }
    }

    /// One on loopback, with discovery.
    pub(crate) fn serving() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let issuer = Self::new(&url);
        let metadata = json!({
            "issuer": url,
            "jwks_uri": format!("{url}/keys"),
            "authorization_endpoint": format!("{url}/authorize"),
            "token_endpoint": format!("{url}/token"),
            "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["ES256"],
        });
        let (metadata, keys) = (metadata.to_string(), issuer.jwks());
        let requests = Arc::clone(&issuer.requests);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                requests.fetch_add(1, Ordering::SeqCst);
                answer(stream.unwrap(), &metadata, &keys);
            }
        });
        issuer
    }

    /// How often it was asked.
    pub(crate) fn requests(&self) -> u64 {
        self.requests.load(Ordering::SeqCst)
    }

    /// What it publishes of its key.
    pub(crate) fn jwks(&self) -> String {
        let point = &self.key.public_key().as_ref()[1..];
        let (x, y) = point.split_at(32);
        let key = json!({"kty": "EC", "crv": "P-256", "kid": "one", "use": "sig", "x": encoded(x), "y": encoded(y)});
        json!({ "keys": [key] }).to_string()
    }

    /// A token that says this.
    pub(crate) fn token(&self, claims: &Value) -> String {
        let header = json!({"typ": "JWT", "alg": "ES256", "kid": "one"}).to_string();
        let message = format!("{}.{}", encoded(header), encoded(claims.to_string()));
        let signature = self.key.sign(&SystemRandom::new(), message.as_bytes());
        format!("{message}.{}", encoded(signature.unwrap()))
    }

    /// What every token says: for whom, and for how long.
    fn claims(&self, subject: &str) -> Value {
        let now = now();
        json!({
            "iss": self.url, "sub": subject, "aud": "granary", "jti": format!("{now}-{subject}"),
            "iat": now, "nbf": now, "exp": now + 300,
        })
    }

    /// What the token of a GitHub job in `repository` on `reference` says.
    pub(crate) fn github(&self, repository: &str, reference: &str) -> Value {
        let owner = repository.split('/').next().unwrap();
        let more = json!({
            "repository": repository, "repository_owner": owner, "repository_id": "74", "repository_owner_id": "65",
            "ref": reference, "ref_type": "tag", "run_id": "30433642", "run_attempt": "1", "event_name": "push",
            "job_workflow_ref": format!("{repository}/.github/workflows/release.yml@{reference}"),
        });
        with(
            self.claims(&format!("repo:{repository}:ref:{reference}")),
            more,
        )
    }

    /// What the token of a GitLab job in `project` says.
    pub(crate) fn gitlab(&self, project: &str) -> Value {
        let more = json!({
            "namespace_id": "72", "namespace_path": "acme", "project_id": "20", "project_path": project, "ref": "v1",
            "ref_type": "tag", "ref_protected": "true", "pipeline_id": "574", "environment_protected": "false",
        });
        with(
            self.claims(&format!("project_path:{project}:ref_type:tag:ref:v1")),
            more,
        )
    }

    /// What the token of a pod of a cluster says.
    pub(crate) fn kubernetes(&self, namespace: &str, account: &str) -> Value {
        let more = json!({
            "aud": ["granary"],
            "kubernetes.io": {
                "namespace": namespace, "pod": {"name": "build-7", "uid": "5e0bd49b"},
                "serviceaccount": {"name": account, "uid": "14ee3fa4"},
            },
        });
        with(
            self.claims(&format!("system:serviceaccount:{namespace}:{account}")),
            more,
        )
    }
}

/// The same claims, and others or in their place.
pub(crate) fn with(mut claims: Value, more: Value) -> Value {
    let all = claims.as_object_mut().unwrap();
    for (name, claim) in more.as_object().unwrap() {
        match claim {
            Value::Null => all.remove(name),
            claim => all.insert(name.clone(), claim.clone()),
        };
    }
    claims
}

fn encoded(part: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(part)
}

fn answer(mut stream: TcpStream, metadata: &str, keys: &str) {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && stream.read_exact(&mut byte).is_ok() {
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap();
    let (status, body) = match head.split(' ').nth(1).unwrap_or_default() {
        "/.well-known/openid-configuration" => ("200 OK", metadata),
        "/keys" => ("200 OK", keys),
        _ => ("404 Not Found", ""),
    };
    let length = body.len();
    let answer = format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
    );
    // Who asked may be gone.
    let _ = stream.write_all(answer.as_bytes());
}
