//! An issuer of identity tokens: its key, what it publishes, and what it signs.

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
}

/// The time, in seconds since 1970.
pub(crate) fn now() -> i64 {
    granary_catalog::dialect::now() / 1_000_000
}

impl Issuer {
    /// One that nobody can ask.
    pub(crate) fn new(url: &str) -> Self {
        let (random, how) = (SystemRandom::new(), &ECDSA_P256_SHA256_FIXED_SIGNING);
        let document = EcdsaKeyPair::generate_pkcs8(how, &random).unwrap();
        Self {
            url: url.to_owned(),
            key: EcdsaKeyPair::from_pkcs8(how, document.as_ref(), &random).unwrap(),
        }
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
