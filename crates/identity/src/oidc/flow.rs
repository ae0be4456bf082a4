//! A log-in at a provider: the authorization code flow (RFC 6749, section 4.1) with PKCE (RFC 7636).

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use serde::Deserialize;
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use url::{
    Url,
    form_urlencoded::{Serializer, byte_serialize},
};

use super::{MOST_DOCUMENT, told};
use crate::{RandomFailure, Secret, random};

/// What only the browser that began a log-in and we know; each is used once.
#[derive(Clone, Debug)]
pub struct LoginSecrets {
    /// Comes back with the browser: whoever brings it began this log-in.
    pub state: Secret,
    /// Comes back in the identity token, so that one of another log-in is of no use here.
    pub nonce: Secret,
    /// Shown when the code is exchanged, so that a stolen code is of no use elsewhere.
    pub verifier: Secret,
}

impl LoginSecrets {
    /// Fresh ones, 32 random bytes each as 43 characters of base64url.
    pub fn fresh() -> Result<Self, RandomFailure> {
        Ok(Self {
            state: fresh_secret()?,
            nonce: fresh_secret()?,
            verifier: fresh_secret()?,
        })
    }
}

/// 32 random bytes as 43 characters of base64url, such as for the cookie that binds a log-in to its browser.
pub fn fresh_secret() -> Result<Secret, RandomFailure> {
    let bytes = random::bytes::<32>()?;
    Ok(Secret::from(URL_SAFE_NO_PAD.encode(bytes)))
}

/// The challenge of a PKCE verifier by S256.
pub fn challenge_of(verifier: &str) -> String {
    URL_SAFE_NO_PAD.encode(Sha256::digest(verifier))
}

/// What a browser is sent to the provider with.
#[derive(Clone, Copy, Debug)]
pub struct AuthorizationRequest<'a> {
    /// Our id at the provider.
    pub client_id: &'a str,
    /// Where the browser is to come back.
    pub redirect_uri: &'a str,
    /// What is asked for.
    pub scopes: &'a [String],
    /// What must come back; see [`LoginSecrets`].
    pub state: &'a str,
    /// What the identity token must say; nothing for plain OAuth2.
    pub nonce: Option<&'a str>,
    /// The challenge of the verifier.
    pub challenge: &'a str,
}

/// Where a browser is sent. What the endpoint's own query has stays in it.
pub fn authorization_url(endpoint: &Url, request: &AuthorizationRequest<'_>) -> Url {
    let mut url = endpoint.clone();
    let mut query = url.query_pairs_mut();
    query
        .append_pair("response_type", "code")
        .append_pair("client_id", request.client_id)
        .append_pair("redirect_uri", request.redirect_uri)
        .append_pair("scope", &request.scopes.join(" "))
        .append_pair("state", request.state)
        .append_pair("code_challenge", request.challenge)
        .append_pair("code_challenge_method", "S256");
    if let Some(nonce) = request.nonce {
        query.append_pair("nonce", nonce);
    }
    drop(query);
    url
}

/// How we prove to a provider who we are.
#[derive(Clone, Debug)]
pub enum ClientAuth {
    /// We do not; the verifier must do.
    Public,
    /// `client_secret_basic`: in the header.
    Basic(Secret),
    /// `client_secret_post`: in the form.
    Post(Secret),
}

/// What exchanges a code: the form, and what the header `Authorization` says.
pub fn code_request(
    auth: &ClientAuth,
    client_id: &str,
    code: &str,
    verifier: &str,
    redirect_uri: &str,
) -> (Secret, Option<Secret>) {
    let mut form = Serializer::new(String::new());
    form.append_pair("grant_type", "authorization_code")
        .append_pair("code", code)
        .append_pair("redirect_uri", redirect_uri)
        .append_pair("code_verifier", verifier);
    let header = match auth {
        ClientAuth::Basic(secret) => Some(basic(client_id, secret)),
        ClientAuth::Post(secret) => {
            form.append_pair("client_id", client_id)
                .append_pair("client_secret", secret.expose());
            None
        }
        ClientAuth::Public => {
            form.append_pair("client_id", client_id);
            None
        }
    };
    (form.finish().into(), header)
}

/// Both are encoded as in a form before they are joined (RFC 6749, section 2.3.1), for either may have a colon.
fn basic(client_id: &str, secret: &Secret) -> Secret {
    let encode = |text: &str| byte_serialize(text.as_bytes()).collect::<String>();
    let pair = format!("{}:{}", encode(client_id), encode(secret.expose()));
    format!("Basic {}", STANDARD.encode(pair)).into()
}

/// Why a provider's answer is of no use. Nothing in it is secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AnswerRefused {
    /// It is longer than 1 MiB.
    #[error("the answer is longer than 1 MiB")]
    TooLong,
    /// It is no JSON of the form that is expected. It may hold secrets, so it is not shown.
    #[error("the answer is not the JSON that was expected")]
    Malformed,
    /// The provider says no.
    #[error("it answers '{error}' ({description})")]
    Refused {
        /// `error`, cut and without control characters.
        error: String,
        /// `error_description`, likewise.
        description: String,
    },
    /// Something is missing that is needed.
    #[error("the answer has no {0}")]
    Missing(&'static str),
    /// It is about somebody else than the identity token.
    #[error("the answer about the user is about somebody else than the token")]
    Subject,
}

/// What a code was exchanged for.
#[derive(Clone, Debug)]
pub struct Tokens {
    /// `access_token`, for asking the provider about the user. It is a bearer token.
    pub access_token: Secret,
    /// `id_token`, not verified yet; plain OAuth2 has none.
    pub id_token: Option<Secret>,
}

#[derive(Deserialize)]
struct TokenAnswer {
    access_token: Option<String>,
    id_token: Option<String>,
    token_type: Option<String>,
    error: Option<String>,
    error_description: Option<String>,
}

impl Tokens {
    /// What an answer of the token endpoint holds, whatever its status was: GitHub says 200 to errors too.
    pub fn parse(bytes: &[u8]) -> Result<Self, AnswerRefused> {
        let answer: TokenAnswer = json(bytes)?;
        if let Some(error) = answer.error {
            return Err(AnswerRefused::Refused {
                error: told(&error),
                description: told(&answer.error_description.unwrap_or_default()),
            });
        }
        let is_bearer = answer
            .token_type
            .is_some_and(|kind| kind.eq_ignore_ascii_case("bearer"));
        if !is_bearer {
            return Err(AnswerRefused::Missing("token_type 'Bearer'"));
        }
        let access_token = answer
            .access_token
            .filter(|token| token.bytes().all(|byte| byte.is_ascii_graphic()))
            .filter(|token| !token.is_empty())
            .ok_or(AnswerRefused::Missing("access_token"))?;
        Ok(Self {
            access_token: access_token.into(),
            id_token: answer.id_token.map(Secret::from),
        })
    }
}

/// The claims of an answer of the userinfo endpoint, if it is about `subject` (OpenID Connect Core 1.0, section 5.3.2).
pub fn user_info(bytes: &[u8], subject: &str) -> Result<Map<String, Value>, AnswerRefused> {
    let claims: Map<String, Value> = json(bytes)?;
    let said = claims.get("sub").and_then(Value::as_str).unwrap_or("");
    match bool::from(said.as_bytes().ct_eq(subject.as_bytes())) {
        true => Ok(claims),
        false => Err(AnswerRefused::Subject),
    }
}

/// What a bounded document holds. The parser's error may quote what is secret.
pub(super) fn json<T: for<'de> Deserialize<'de>>(bytes: &[u8]) -> Result<T, AnswerRefused> {
    match bytes.len() > MOST_DOCUMENT {
        true => Err(AnswerRefused::TooLong),
        false => serde_json::from_slice(bytes).map_err(|_| AnswerRefused::Malformed),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn form(text: &str) -> BTreeMap<String, String> {
        url::form_urlencoded::parse(text.as_bytes())
            .into_owned()
            .collect()
    }

    /// RFC 7636, appendix B.
    #[test]
    fn challenges_are_those_of_the_rfc() {
        let challenge = challenge_of("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk");
        assert_eq!(challenge, "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM");
    }

    #[test]
    fn log_ins_have_fresh_secrets_that_are_not_printed() {
        let secrets = LoginSecrets::fresh().unwrap();
        let other = LoginSecrets::fresh().unwrap();
        let all = [
            &secrets.state,
            &secrets.nonce,
            &secrets.verifier,
            &other.state,
            &other.nonce,
            &other.verifier,
        ];
        let different: std::collections::BTreeSet<&str> =
            all.iter().map(|secret| secret.expose()).collect();
        assert_eq!(different.len(), 6);
        assert!(different.iter().all(|secret| secret.len() == 43));
        let printed = format!("{secrets:?}");
        assert!(!printed.contains(secrets.state.expose()), "{printed}");
    }

    #[test]
    fn a_url_keeps_its_query_and_is_encoded() {
        let endpoint = Url::parse("https://login.example.org/authorize?tenant=a%26b").unwrap();
        let scopes = ["openid".to_owned(), "e&mail".to_owned()];
        let url = authorization_url(
            &endpoint,
            &AuthorizationRequest {
                client_id: "our id",
                redirect_uri: "https://registry.example.org/auth/callback?a=b&c=d#e",
                scopes: &scopes,
                state: "s&state=evil",
                nonce: Some("n"),
                challenge: "c",
            },
        );
        assert!(
            url.as_str()
                .starts_with("https://login.example.org/authorize?tenant=a%26b&")
        );
        let said: Vec<(String, String)> = url.query_pairs().into_owned().collect();
        let expected = [
            ("tenant", "a&b"),
            ("response_type", "code"),
            ("client_id", "our id"),
            (
                "redirect_uri",
                "https://registry.example.org/auth/callback?a=b&c=d#e",
            ),
            ("scope", "openid e&mail"),
            ("state", "s&state=evil"),
            ("code_challenge", "c"),
            ("code_challenge_method", "S256"),
            ("nonce", "n"),
        ];
        let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(said, expected);
    }

    #[test]
    fn a_code_is_exchanged_by_those_who_may() {
        let secret = || Secret::from("s:e&c ret".to_owned());
        let request = |auth| code_request(&auth, "our:id", "code&x=y", "verifier", "https://r/c");
        let (body, header) = request(ClientAuth::Basic(secret()));
        let said = form(body.expose());
        assert_eq!(said["grant_type"], "authorization_code");
        assert_eq!(said["code"], "code&x=y");
        assert_eq!(said["code_verifier"], "verifier");
        assert_eq!(said["redirect_uri"], "https://r/c");
        assert_eq!(said.len(), 4);
        let header = header.unwrap();
        let pair = header.expose().strip_prefix("Basic ").unwrap();
        assert_eq!(STANDARD.decode(pair).unwrap(), b"our%3Aid:s%3Ae%26c+ret");

        let (body, header) = request(ClientAuth::Post(secret()));
        assert!(header.is_none());
        assert_eq!(form(body.expose())["client_secret"], "s:e&c ret");
        assert_eq!(form(body.expose())["client_id"], "our:id");
        assert_eq!(format!("{body:?}"), "***");

        let (body, header) = request(ClientAuth::Public);
        assert!(header.is_none());
        assert!(!form(body.expose()).contains_key("client_secret"));
    }

    #[test]
    fn answers_are_read_with_care() {
        let good = br#"{"access_token":"a","token_type":"bearer","id_token":"i","scope":""}"#;
        let tokens = Tokens::parse(good).unwrap();
        assert_eq!(tokens.access_token.expose(), "a");
        assert_eq!(tokens.id_token.unwrap().expose(), "i");

        let hostile = format!(
            r#"{{"error":"invalid\r\n_grant","error_description":"\u001b[31m{}"}}"#,
            "x".repeat(10_000)
        );
        let refused = Tokens::parse(hostile.as_bytes()).unwrap_err();
        let AnswerRefused::Refused { error, description } = refused else {
            panic!("{refused:?}");
        };
        assert_eq!(error, "invalid_grant");
        assert_eq!(description, format!("[31m{}", "x".repeat(196)));

        for bad in [
            "",
            "null",
            "[]",
            "access_token=a&token_type=bearer",
            r#"{"access_token":7,"token_type":"bearer"}"#,
        ] {
            let refused = Tokens::parse(bad.as_bytes()).unwrap_err();
            assert_eq!(refused, AnswerRefused::Malformed, "{bad}");
        }
        for bad in [
            "{}",
            r#"{"access_token":"a"}"#,
            r#"{"access_token":"a","token_type":"mac"}"#,
            r#"{"access_token":"","token_type":"bearer"}"#,
            r#"{"access_token":"a\r\nX: y","token_type":"bearer"}"#,
        ] {
            let refused = Tokens::parse(bad.as_bytes()).unwrap_err();
            assert!(matches!(refused, AnswerRefused::Missing(_)), "{bad}");
        }
        let huge = vec![b' '; MOST_DOCUMENT + 1];
        assert_eq!(Tokens::parse(&huge).unwrap_err(), AnswerRefused::TooLong);
    }

    #[test]
    fn what_is_told_of_users_is_about_them() {
        let claims = user_info(br#"{"sub":"7","groups":["a"]}"#, "7").unwrap();
        assert_eq!(claims["groups"][0], "a");
        for other in [r#"{"sub":"8"}"#, "{}", r#"{"sub":7}"#] {
            let refused = user_info(other.as_bytes(), "7");
            assert_eq!(refused, Err(AnswerRefused::Subject), "{other}");
        }
        assert_eq!(user_info(b"a.b.c", "7"), Err(AnswerRefused::Malformed));
    }
}
