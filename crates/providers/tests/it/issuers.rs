//! Issuers of tokens of jobs: discovery, keys, and all that may go wrong with them.

use std::{sync::Arc, time::Duration};

use granary_identity::oidc::{ForeignClaims, ForeignRefused, MetadataRefused};
use granary_providers::{
    HttpClient, HttpFailure, HttpSettings, IssuerKeys, KeySource, ProviderError,
};
use serde_json::{Value, json};
use tokio::sync::Notify;

use crate::server::{Canned, Key, NOW, Server};

const DISCOVERY: &str = "/.well-known/openid-configuration";

pub(crate) fn http() -> HttpClient {
    HttpClient::new(&HttpSettings::default()).unwrap()
}

fn issuer(url: &str, source: &KeySource) -> IssuerKeys {
    IssuerKeys::new(&http(), url.parse().unwrap(), source).unwrap()
}

fn payload(issuer: &str) -> Value {
    json!({"iss": issuer, "sub": "repo:acme/app", "aud": "registry", "exp": NOW + 300})
}

async fn verify(keys: &IssuerKeys, token: &str) -> Result<ForeignClaims, ProviderError> {
    keys.verify(token, &["registry".to_owned()], NOW).await
}

#[tokio::test]
async fn keys_come_by_discovery_and_are_kept() {
    let key = Key::new("1");
    let mut server = Server::provider(&key).await;
    let keys = issuer(&server.url, &KeySource::Discovery);
    let token = key.sign(&payload(&server.url));
    for _ in 0..3 {
        let claims = verify(&keys, &token).await.unwrap();
        assert_eq!(claims.subject, "repo:acme/app");
    }
    assert_eq!(server.asked(), [DISCOVERY, "/jwks"]);
    assert_eq!(keys.load().await, Ok(1));
}

#[tokio::test]
async fn many_at_once_ask_once() {
    let key = Key::new("1");
    let mut server = Server::provider(&key).await;
    let keys = Arc::new(issuer(&server.url, &KeySource::Discovery));
    let token = key.sign(&payload(&server.url));
    let tasks: Vec<_> = (0..50)
        .map(|_| {
            let (keys, token) = (Arc::clone(&keys), token.clone());
            tokio::spawn(async move { verify(&keys, &token).await })
        })
        .collect();
    for task in tasks {
        task.await.unwrap().unwrap();
    }
    assert_eq!(server.asked(), [DISCOVERY, "/jwks"]);
}

#[tokio::test]
async fn keys_come_from_where_they_were_said_to_be() {
    let key = Key::new("1");
    let mut server = Server::provider(&key).await;
    let elsewhere = "http://issuer.invalid";
    let token = key.sign(&payload(elsewhere));
    let by_url = issuer(elsewhere, &KeySource::Url(format!("{}/jwks", server.url)));
    assert!(verify(&by_url, &token).await.is_ok());
    assert_eq!(server.asked(), ["/jwks"]);

    let set = json!({"keys": [key.jwk()]}).to_string();
    let given = issuer(elsewhere, &KeySource::Given(set));
    assert!(verify(&given, &token).await.is_ok());
    let unknown = verify(&given, &Key::new("2").sign(&payload(elsewhere))).await;
    assert!(is_unknown_key(&unknown), "{unknown:?}");
    assert_eq!(server.asked(), [""; 0]);
}

#[tokio::test]
async fn settings_say_what_is_wrong() {
    let https = "https://issuer.example.org";
    for (source, word) in [
        (KeySource::Given("{}".to_owned()), "keys"),
        (KeySource::Given("{\"keys\":[]}".to_owned()), "Ed25519"),
        (
            KeySource::Url("http://issuer.example.org/jwks".to_owned()),
            "https",
        ),
        (KeySource::Url("file:///etc/passwd".to_owned()), "https"),
    ] {
        let refused = IssuerKeys::new(&http(), https.parse().unwrap(), &source).unwrap_err();
        let text = refused.to_string();
        assert!(text.contains(word) && text.contains(https), "{text}");
    }
}

#[tokio::test]
async fn a_document_of_another_issuer_is_refused() {
    let key = Key::new("1");
    let mut server = Server::provider(&key).await;
    let mut lie = server.metadata();
    lie["issuer"] = json!("https://accounts.example.org");
    server.answer(DISCOVERY, Canned::good(&lie));
    let keys = issuer(&server.url, &KeySource::Discovery);
    let token = key.sign(&payload(&server.url));
    let refused = verify(&keys, &token).await.unwrap_err();
    let is_mix_up = matches!(
        &refused,
        ProviderError::Metadata { refused: MetadataRefused::Issuer { found, .. }, .. }
            if found == "https://accounts.example.org"
    );
    assert!(is_mix_up, "{refused}");
    // The failure is remembered, so that a flood of tokens is no flood of requests.
    assert_eq!(verify(&keys, &token).await.unwrap_err(), refused);
    assert_eq!(server.asked(), [DISCOVERY]);
}

#[tokio::test]
async fn redirects_are_not_followed() {
    let key = Key::new("1");
    let mut inner = Server::provider(&key).await;
    for path in [DISCOVERY, "/jwks"] {
        let mut server = Server::provider(&key).await;
        server.answer(path, Canned::Redirect(format!("{}{path}", inner.url)));
        let keys = issuer(&server.url, &KeySource::Discovery);
        let refused = verify(&keys, &key.sign(&payload(&server.url)))
            .await
            .unwrap_err();
        let is_redirect = matches!(
            &refused,
            ProviderError::Http {
                failure: HttpFailure::Redirect(307),
                ..
            }
        );
        assert!(is_redirect, "{refused}");
        assert!(server.asked().contains(&path.to_owned()));
    }
    assert_eq!(inner.asked(), [""; 0]);
}

#[tokio::test]
async fn answers_are_bounded() {
    let key = Key::new("1");
    const MOST: usize = 1024 * 1024;
    for path in [DISCOVERY, "/jwks"] {
        for says_length in [true, false] {
            let server = Server::provider(&key).await;
            server.answer(path, Canned::Large(MOST + 1, says_length));
            let keys = issuer(&server.url, &KeySource::Discovery);
            let refused = verify(&keys, &key.sign(&payload(&server.url)))
                .await
                .unwrap_err();
            let is_too_large = matches!(
                &refused,
                ProviderError::Http {
                    failure: HttpFailure::TooLarge,
                    ..
                }
            );
            assert!(is_too_large, "{path} {says_length}: {refused}");
        }
    }
}

#[tokio::test]
async fn errors_name_the_host_and_what_happened() {
    let key = Key::new("1");
    let server = Server::provider(&key).await;
    let token = key.sign(&payload(&server.url));
    let host = server.url.strip_prefix("http://").unwrap().to_owned();
    for (canned, word) in [
        (Canned::Json(503, String::new()), "503"),
        (Canned::Json(200, "<html>".to_owned()), "set of keys"),
        (Canned::good(&json!({"keys": []})), "Ed25519"),
    ] {
        server.answer("/jwks", canned);
        let keys = issuer(&server.url, &KeySource::Discovery);
        let text = verify(&keys, &token).await.unwrap_err().to_string();
        assert!(text.contains(&host) && text.contains(word), "{text}");
    }
    // Nobody listens there.
    let gone = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = gone.local_addr().unwrap();
    drop(gone);
    let keys = issuer(&format!("http://{address}"), &KeySource::Discovery);
    let text = keys.load().await.unwrap_err().to_string();
    assert!(
        text.contains(&address.to_string()) && text.contains("firewall"),
        "{text}"
    );
}

fn is_unknown_key(verified: &Result<ForeignClaims, ProviderError>) -> bool {
    matches!(
        verified,
        Err(ProviderError::Token {
            refused: ForeignRefused::UnknownKey,
            ..
        })
    )
}

#[tokio::test]
async fn new_keys_are_read_once() {
    let (old, new) = (Key::new("old"), Key::new("new"));
    let mut server = Server::provider(&old).await;
    let keys = issuer(&server.url, &KeySource::Discovery);
    let said = payload(&server.url);
    assert!(verify(&keys, &old.sign(&said)).await.is_ok());
    assert_eq!(server.asked(), [DISCOVERY, "/jwks"]);

    server.publish(&[&new]);
    assert!(verify(&keys, &new.sign(&said)).await.is_ok());
    assert_eq!(server.asked(), ["/jwks"]);
    // A key that was taken back is one no longer, and neither that nor a made-up one has them read again at once.
    for key in [&old, &Key::new("made up")] {
        let refused = verify(&keys, &key.sign(&said)).await;
        assert!(is_unknown_key(&refused), "{refused:?}");
    }
    assert!(verify(&keys, &new.sign(&said)).await.is_ok());
    assert_eq!(server.asked(), [""; 0]);
}

#[tokio::test]
async fn keys_that_cannot_be_read_again_stay_good() {
    let (old, new) = (Key::new("old"), Key::new("new"));
    let mut server = Server::provider(&old).await;
    let keys = issuer(&server.url, &KeySource::Discovery);
    let said = payload(&server.url);
    assert!(verify(&keys, &old.sign(&said)).await.is_ok());
    server.answer("/jwks", Canned::Json(500, String::new()));
    let failed = verify(&keys, &new.sign(&said)).await;
    assert!(
        matches!(failed, Err(ProviderError::Http { .. })),
        "{failed:?}"
    );
    assert!(verify(&keys, &old.sign(&said)).await.is_ok());
    assert_eq!(server.asked(), [DISCOVERY, "/jwks", "/jwks"]);
}

/// Whoever knows no key may go away while the keys are read again: others still get the new ones.
#[tokio::test]
async fn a_client_that_goes_away_spoils_nothing() {
    let (old, new) = (Key::new("old"), Key::new("new"));
    let mut server = Server::provider(&old).await;
    let keys = Arc::new(issuer(&server.url, &KeySource::Discovery));
    let said = payload(&server.url);
    assert!(verify(&keys, &old.sign(&said)).await.is_ok());
    assert_eq!(server.asked().len(), 2);

    let let_go = Arc::new(Notify::new());
    let newer = json!({"keys": [new.jwk()]}).to_string();
    server.answer("/jwks", Canned::Hang(Arc::clone(&let_go), newer));
    let (asking, token) = (Arc::clone(&keys), Key::new("made up").sign(&said));
    let hostile = tokio::spawn(async move { verify(&asking, &token).await });
    assert!(server.next().await.line.contains("/jwks"));
    hostile.abort();
    assert!(hostile.await.is_err());
    // What needs no new key does not wait for it.
    assert!(verify(&keys, &old.sign(&said)).await.is_ok());
    let_go.notify_one();
    let claims = verify(&keys, &new.sign(&said)).await;
    assert!(claims.is_ok(), "{claims:?}");
    assert_eq!(server.asked(), [""; 0]);
}

/// Keys that do not come hold up those who need them, until the time of a request is over, and nobody else.
#[tokio::test]
async fn one_that_hangs_ends_in_time() {
    let key = Key::new("1");
    let mut hanging = Server::provider(&key).await;
    hanging.answer(
        "/jwks",
        Canned::Hang(Arc::new(Notify::new()), String::new()),
    );
    let settings = HttpSettings {
        timeout: Duration::from_millis(500),
        ..HttpSettings::default()
    };
    let client = HttpClient::new(&settings).unwrap();
    let stuck = IssuerKeys::new(&client, hanging.url.parse().unwrap(), &KeySource::Discovery);
    let stuck = Arc::new(stuck.unwrap());
    let token = key.sign(&payload(&hanging.url));
    let waiting: Vec<_> = (0..40)
        .map(|_| {
            let (stuck, token) = (Arc::clone(&stuck), token.clone());
            tokio::spawn(async move { verify(&stuck, &token).await })
        })
        .collect();
    for task in waiting {
        let refused = task.await.unwrap();
        let is_timeout = matches!(
            &refused,
            Err(ProviderError::Http {
                failure: HttpFailure::Timeout,
                ..
            })
        );
        assert!(is_timeout, "{refused:?}");
    }
    // All of them by one request.
    assert_eq!(hanging.asked(), [DISCOVERY, "/jwks"]);
}

#[tokio::test]
async fn https_needs_a_certificate_that_is_trusted() {
    let key = Key::new("1");
    let (server, certificate) = Server::secure_provider(&key).await;
    let token = key.sign(&payload(&server.url));
    let url = || server.url.parse().unwrap();
    let settings = HttpSettings {
        certificates: vec![certificate],
        ..HttpSettings::default()
    };
    let trusting = HttpClient::new(&settings).unwrap();
    let trusted = IssuerKeys::new(&trusting, url(), &KeySource::Discovery).unwrap();
    assert!(verify(&trusted, &token).await.is_ok());

    let strange = issuer(&server.url, &KeySource::Discovery);
    let refused = verify(&strange, &token).await.unwrap_err();
    let is_connection = matches!(
        &refused,
        ProviderError::Http {
            failure: HttpFailure::Connection(_),
            ..
        }
    );
    assert!(
        is_connection && refused.to_string().contains("certificate"),
        "{refused}"
    );

    // Its documents do not lead out of HTTPS.
    let mut metadata = server.metadata();
    metadata["jwks_uri"] = json!(
        metadata["jwks_uri"]
            .as_str()
            .unwrap()
            .replace("https", "http")
    );
    server.answer(DISCOVERY, Canned::good(&metadata));
    let downgraded = IssuerKeys::new(&trusting, url(), &KeySource::Discovery).unwrap();
    let refused = verify(&downgraded, &token).await.unwrap_err();
    let is_endpoint = matches!(
        &refused,
        ProviderError::Metadata {
            refused: MetadataRefused::Endpoint { .. },
            ..
        }
    );
    assert!(is_endpoint, "{refused}");
}
