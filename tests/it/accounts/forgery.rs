//! Tokens that only look like those of the token service (rows 11 and 12).

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use granary_access::{CredentialId, PrincipalId, Scopes, TokenVerbs};
use granary_catalog::{Catalog, KeyPurpose};
use granary_identity::{InstallationKey, SigningKey, TokenClaims};
use serde_json::{Value, json};

use super::{basic, bearer, challenge, claims, jwt, push_image, settings, text, with_accounts};
use crate::harness::{TestServer, image};

/// The server's own key, a stranger's, and a token of bob's for one repository.
pub(crate) struct Mint {
    own: SigningKey,
    stranger: SigningKey,
    genuine: String,
    claims: TokenClaims,
}

impl Mint {
    /// Takes the key out of the server's data; the server is stopped for that and started again.
    pub(crate) async fn open(server: &mut TestServer, repository: &str) -> Self {
        let scope = format!("repository:{repository}:pull,push,delete");
        let genuine = jwt(server, &basic("bob"), &[&scope]).await;
        server.stop().await;
        let sealing = std::fs::read(server.data().join("auth.key")).unwrap();
        let sealing = InstallationKey::from_bytes(sealing.try_into().expect("32 bytes"));
        let catalog = Catalog::open_sqlite(&server.data().join("granary.db"))
            .await
            .unwrap();
        let kept = catalog.keys(KeyPurpose::Tokens).await.unwrap();
        catalog.close().await;
        server.start_again().await;
        let kept = kept.last().expect("a key");
        let own = sealing.open(&kept.kid, &kept.sealed).unwrap();
        let says = claims(&genuine);
        let number = |name: &str| says[name].as_i64().expect("a number");
        let all = TokenVerbs {
            pull: true,
            push: true,
            delete: true,
        };
        Self {
            own: SigningKey::from_pkcs8(&own).unwrap(),
            stranger: SigningKey::generate().unwrap(),
            claims: TokenClaims {
                issuer: text(&says["iss"]),
                subject: text(&says["sub"]),
                audience: text(&says["aud"]),
                principal: Some(PrincipalId(number("pid"))),
                credential: Some(CredentialId(number("cid"))),
                scopes: Scopes::unlimited(),
                access: vec![(repository.parse().unwrap(), all)],
                issued_at: number("iat"),
                expires_at: number("exp"),
                id: "made-by-a-test".to_owned(),
            },
            genuine,
        }
    }

    /// One that the server might have made, to show that it is not the making that is wrong with the others.
    fn good(&self) -> String {
        self.with(|_| {})
    }

    /// The server signed it, and its time is over.
    pub(crate) fn expired(&self) -> String {
        self.with(|claims| claims.expires_at = claims.issued_at)
    }

    /// Somebody else signed it.
    pub(crate) fn strange(&self) -> String {
        self.stranger.signer().sign(&self.claims).unwrap()
    }

    /// It says that it needs no signature.
    pub(crate) fn unsigned(&self) -> String {
        let head = json!({"typ": "JWT", "alg": "none", "kid": self.own.kid()});
        let [_, body, _] = parts(&self.genuine);
        format!("{}.{body}.", encoded(&head))
    }

    fn with(&self, change: impl FnOnce(&mut TokenClaims)) -> String {
        let mut claims = self.claims.clone();
        change(&mut claims);
        self.own.signer().sign(&claims).unwrap()
    }

    fn forgeries(&self) -> Vec<(&'static str, String)> {
        let [head, body, signature] = parts(&self.genuine);
        let strange = self.strange();
        let [_, strange_body, strange_signature] = parts(&strange);
        let (own, stranger) = (self.own.kid(), self.stranger.kid());
        let mut promoted = claims(&self.genuine);
        promoted["pid"] = json!(1);
        let promoted = encoded(&promoted);
        let public_key = URL_SAFE_NO_PAD.encode(self.stranger.public_key());
        let jwk = json!({"kty": "OKP", "crv": "Ed25519", "x": public_key});
        let headed = |head: Value| format!("{}.{strange_body}.{strange_signature}", encoded(&head));
        let other_issuer =
            |claims: &mut TokenClaims| claims.issuer = "granary:elsewhere".to_owned();
        let other_service = |claims: &mut TokenClaims| claims.audience = "elsewhere".to_owned();
        vec![
            ("expired", self.expired()),
            ("of another issuer", self.with(other_issuer)),
            ("for another service", self.with(other_service)),
            ("signed by a stranger", strange.clone()),
            (
                "signed by a stranger in our name",
                format!("{head}.{strange_body}.{strange_signature}"),
            ),
            ("changed", format!("{head}.{promoted}.{signature}")),
            ("unsigned", self.unsigned()),
            ("unsigned, and signed", self.unsigned() + signature),
            ("without its signature", format!("{head}.{body}.")),
            (
                "by another algorithm",
                headed(json!({"typ": "JWT", "alg": "HS256", "kid": own})),
            ),
            (
                "with its own key",
                headed(json!({"typ": "JWT", "alg": "EdDSA", "kid": stranger, "jwk": jwk})),
            ),
            (
                "with its own key in our name",
                headed(json!({"typ": "JWT", "alg": "EdDSA", "kid": own, "jwk": jwk})),
            ),
            (
                "with a key elsewhere",
                headed(
                    json!({"typ": "JWT", "alg": "EdDSA", "kid": own, "jku": "http://127.0.0.1/"}),
                ),
            ),
            (
                "with no name of a key",
                headed(json!({"typ": "JWT", "alg": "EdDSA"})),
            ),
            ("of two parts", format!("{head}.{body}")),
            ("of four parts", format!("{}.{signature}", self.genuine)),
            ("of dots", ".".repeat(8_000)),
            ("long", format!("{head}.{}.{signature}", "A".repeat(9_000))),
            ("nonsense", "nonsense".to_owned()),
        ]
    }
}

fn parts(token: &str) -> [&str; 3] {
    let parts: Vec<&str> = token.split('.').collect();
    parts.try_into().expect("three parts")
}

fn encoded(json: &Value) -> String {
    URL_SAFE_NO_PAD.encode(json.to_string())
}

#[tokio::test]
async fn a_token_that_was_not_made_here_is_none() {
    let mut server = with_accounts(settings()).await;
    push_image(&server, &basic("bob"), "bob/app", "a", &image(1)).await;
    let mint = Mint::open(&mut server, "bob/app").await;
    for token in [&mint.genuine, &mint.good()] {
        let read = server.get("/v2/bob/app/manifests/a").by(&bearer(token));
        read.await.is(200);
    }
    for (what, token) in mint.forgeries() {
        for path in ["/v2/", "/v2/bob/app/manifests/a", "/v2/bob/none/tags/list"] {
            let answer = server.get(path).by(&bearer(&token)).await;
            let challenge = challenge(&answer);
            let is_told = challenge.ends_with(",error=\"invalid_token\"");
            assert!(is_told, "{what}: {challenge}");
        }
    }
}
