//! What an issuer says of itself (OpenID Connect Discovery 1.0, section 3; RFC 8414).

use serde::Deserialize;
use url::Url;

use super::{IssuerUrl, MOST_DOCUMENT, UrlRefused, told};

/// Why a discovery document is not believed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MetadataRefused {
    /// It is longer than 1 MiB.
    #[error("the discovery document is longer than 1 MiB")]
    TooLong,
    /// It is no JSON object with an issuer and the address of keys.
    #[error("the discovery document is not one: {0}")]
    Malformed(String),
    /// It is about somebody else (issuer mix-up).
    #[error(
        "the discovery document is of the issuer '{found}', not '{expected}': configure the issuer exactly as it names itself, or find out who answers"
    )]
    Issuer {
        /// The configured one.
        expected: String,
        /// The one it names.
        found: String,
    },
    /// One of its addresses is not to be used.
    #[error("the discovery document names an {what} that is not used: {refused}")]
    Endpoint {
        /// The document's member.
        what: &'static str,
        /// Why.
        refused: UrlRefused,
    },
}

/// What is used of an issuer's discovery document. CI systems have no more than keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metadata {
    /// `authorization_endpoint`: where browsers are sent.
    pub authorization_endpoint: Option<Url>,
    /// `token_endpoint`: where codes are exchanged.
    pub token_endpoint: Option<Url>,
    /// `jwks_uri`: where its keys are.
    pub jwks_uri: Url,
    /// `userinfo_endpoint`: where more than its tokens say is told.
    pub userinfo_endpoint: Option<Url>,
    /// `code_challenge_methods_supported`; many leave it out.
    pub code_challenge_methods: Option<Vec<String>>,
    /// `token_endpoint_auth_methods_supported`; without it, `client_secret_basic` is meant.
    pub token_endpoint_auth_methods: Option<Vec<String>>,
    /// `authorization_response_iss_parameter_supported`: whether it says who it is where it sends the browser back
    /// (RFC 9207).
    pub answers_name_issuer: bool,
}

#[derive(Deserialize)]
struct Document {
    issuer: String,
    authorization_endpoint: Option<String>,
    token_endpoint: Option<String>,
    jwks_uri: String,
    userinfo_endpoint: Option<String>,
    code_challenge_methods_supported: Option<Vec<String>>,
    token_endpoint_auth_methods_supported: Option<Vec<String>>,
    authorization_response_iss_parameter_supported: Option<bool>,
}

impl Metadata {
    /// What `bytes` say, if they are of `issuer` and name nothing that may not be asked.
    pub fn parse(bytes: &[u8], issuer: &IssuerUrl) -> Result<Self, MetadataRefused> {
        if bytes.len() > MOST_DOCUMENT {
            return Err(MetadataRefused::TooLong);
        }
        let document: Document = serde_json::from_slice(bytes)
            .map_err(|error| MetadataRefused::Malformed(told(&error.to_string())))?;
        if document.issuer != issuer.as_str() {
            return Err(MetadataRefused::Issuer {
                expected: issuer.to_string(),
                found: told(&document.issuer),
            });
        }
        let endpoint = |what: &'static str, text: &str| {
            issuer
                .endpoint(text)
                .map_err(|refused| MetadataRefused::Endpoint { what, refused })
        };
        let optional = |what: &'static str, text: &Option<String>| {
            text.as_deref().map(|text| endpoint(what, text)).transpose()
        };
        Ok(Self {
            authorization_endpoint: optional(
                "authorization_endpoint",
                &document.authorization_endpoint,
            )?,
            token_endpoint: optional("token_endpoint", &document.token_endpoint)?,
            jwks_uri: endpoint("jwks_uri", &document.jwks_uri)?,
            userinfo_endpoint: optional("userinfo_endpoint", &document.userinfo_endpoint)?,
            code_challenge_methods: document.code_challenge_methods_supported,
            token_endpoint_auth_methods: document.token_endpoint_auth_methods_supported,
            answers_name_issuer: document
                .authorization_response_iss_parameter_supported
                .unwrap_or(false),
        })
    }

    /// Whether it may know PKCE with S256: it says so, or says nothing.
    pub fn may_know_s256(&self) -> bool {
        self.code_challenge_methods
            .as_ref()
            .is_none_or(|methods| methods.iter().any(|method| method == "S256"))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const ISSUER: &str = "https://login.example.org";

    fn document() -> Value {
        json!({
            "issuer": ISSUER,
            "authorization_endpoint": "https://login.example.org/authorize?tenant=1",
            "token_endpoint": "https://login.example.org/token",
            "jwks_uri": "https://keys.example.org/jwks",
            "userinfo_endpoint": "https://login.example.org/me",
            "code_challenge_methods_supported": ["plain", "S256"],
            "grant_types_supported": ["authorization_code"],
        })
    }

    fn parsed(document: &Value) -> Result<Metadata, MetadataRefused> {
        Metadata::parse(document.to_string().as_bytes(), &ISSUER.parse().unwrap())
    }

    #[test]
    fn a_document_says_where_to_go() {
        let metadata = parsed(&document()).unwrap();
        assert_eq!(metadata.jwks_uri.as_str(), "https://keys.example.org/jwks");
        assert!(metadata.may_know_s256() && !metadata.answers_name_issuer);
        let mut plain = document();
        plain["code_challenge_methods_supported"] = json!(["plain"]);
        assert!(!parsed(&plain).unwrap().may_know_s256());
        let least = json!({"issuer": ISSUER, "jwks_uri": "https://keys.example.org/jwks"});
        let least = parsed(&least).unwrap();
        assert!(least.may_know_s256());
        assert_eq!(least.token_endpoint, None);
    }

    #[test]
    fn a_document_of_somebody_else_is_refused() {
        for other in [
            "https://login.example.org/",
            "https://LOGIN.example.org",
            "https://evil.example",
            "http://login.example.org",
            "https://login.example.org:443",
            "",
        ] {
            let mut document = document();
            document["issuer"] = json!(other);
            let refused = parsed(&document);
            assert!(
                matches!(refused, Err(MetadataRefused::Issuer { .. })),
                "{other}"
            );
        }
    }

    #[test]
    fn endpoints_are_looked_at() {
        for what in [
            "authorization_endpoint",
            "token_endpoint",
            "jwks_uri",
            "userinfo_endpoint",
        ] {
            for bad in [
                "http://login.example.org/x",
                "https://169.254.169.254/x",
                "javascript:alert(1)",
                "/x",
                "https://u@login.example.org/x",
            ] {
                let mut document = document();
                document[what] = json!(bad);
                let refused = parsed(&document);
                assert!(
                    matches!(refused, Err(MetadataRefused::Endpoint { what: named, .. }) if named == what),
                    "{what} {bad}: {refused:?}"
                );
            }
        }
    }

    #[test]
    fn what_is_no_document_is_refused() {
        let issuer: IssuerUrl = ISSUER.parse().unwrap();
        let deep = "[".repeat(100_000);
        for bad in ["", "[]", "{}", "null", "<html>", &deep] {
            let refused = Metadata::parse(bad.as_bytes(), &issuer);
            assert!(matches!(refused, Err(MetadataRefused::Malformed(_))));
        }
        let huge = format!("{}{}", document(), " ".repeat(MOST_DOCUMENT));
        let refused = Metadata::parse(huge.as_bytes(), &issuer);
        assert_eq!(refused, Err(MetadataRefused::TooLong));
    }
}
