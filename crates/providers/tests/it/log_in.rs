//! People who log in: the whole way from the authorization URL to an identity.

use std::{collections::HashMap, sync::Arc};

use granary_identity::{
    Secret,
    oidc::{AnswerRefused, ForeignRefused, LoginSecrets, challenge_of},
};
use granary_providers::{
    CodeExchange, ForeignIdentity, HttpFailure, OAuthEndpoints, Provider, ProviderError,
    ProviderPreset, ProviderSettings,
};
use serde_json::{Value, json};
use tokio::sync::Notify;

use crate::{
    issuers::http,
    server::{Canned, Key, NOW, Server},
};

const BACK: &str = "https://registry.example.org/auth/callback/corp";
const SECRET: &str = "our-secret:&";
const CODE: &str = "code-of-this-log-in";

fn settings(issuer: &str, preset: ProviderPreset) -> ProviderSettings {
    ProviderSettings {
        name: "corp".to_owned(),
        preset,
        issuer: Some(issuer.to_owned()),
        client_id: "granary".to_owned(),
        client_secret: Some(SECRET.to_owned().into()),
        scopes: Vec::new(),
        groups_claim: None,
        endpoints: None,
    }
}

fn provider(server: &Server, preset: ProviderPreset) -> Provider {
    Provider::new(&http(), settings(&server.url, preset)).unwrap()
}

fn id_token(server: &Server, secrets: &LoginSecrets) -> Value {
    json!({"iss": server.url, "sub": "7", "aud": "granary", "exp": NOW + 300, "iat": NOW,
        "nonce": secrets.nonce.expose(), "preferred_username": "alice", "email": "a@example.org", "email_verified": true})
}

fn tokens(id_token: &str) -> Canned {
    Canned::good(
        &json!({"access_token": "at-of-alice", "token_type": "Bearer", "id_token": id_token}),
    )
}

async fn exchange(
    provider: &Provider,
    secrets: &LoginSecrets,
) -> Result<ForeignIdentity, ProviderError> {
    let exchange = CodeExchange {
        code: &Secret::from(CODE.to_owned()),
        secrets,
        redirect_uri: BACK,
        now: NOW,
    };
    provider.exchange(&exchange).await
}

fn refused<T: std::fmt::Debug>(result: Result<T, ProviderError>) -> String {
    let error = result.unwrap_err();
    let text = format!("{error} {error:?}");
    for secret in [SECRET, CODE, "at-of-alice"] {
        assert!(!text.contains(secret), "{text}");
    }
    text
}

#[tokio::test]
async fn a_log_in_goes_all_the_way() {
    let key = Key::new("1");
    let mut server = Server::provider(&key).await;
    let provider = provider(&server, ProviderPreset::Keycloak);
    provider.discover().await.unwrap();
    assert_eq!(server.asked().len(), 2);

    let secrets = LoginSecrets::fresh().unwrap();
    let url = provider.authorization_url(&secrets, BACK).await.unwrap();
    assert!(
        url.as_str()
            .starts_with(&format!("{}/authorize?tenant=1&", server.url))
    );
    let query: HashMap<String, String> = url.query_pairs().into_owned().collect();
    assert_eq!(query["state"], secrets.state.expose());
    assert_eq!(query["nonce"], secrets.nonce.expose());
    assert_eq!(
        query["code_challenge"],
        challenge_of(secrets.verifier.expose())
    );
    assert_eq!(query["scope"], "openid profile email");
    assert_eq!(query["redirect_uri"], BACK);

    let mut said = id_token(&server, &secrets);
    said["groups"] = json!(["/core", "/ops"]);
    server.answer("/token", tokens(&key.sign(&said)));
    let identity = exchange(&provider, &secrets).await.unwrap();
    let expected = ForeignIdentity {
        issuer: server.url.clone(),
        subject: "7".to_owned(),
        name: Some("alice".to_owned()),
        email: Some("a@example.org".to_owned()),
        groups: vec!["/core".to_owned(), "/ops".to_owned()],
    };
    assert_eq!(identity, expected);
    let asked = server.next().await;
    assert_eq!(asked.line, "POST /token HTTP/1.1");
    let head = asked.head.to_lowercase();
    assert!(head.contains("accept: application/json"), "{head}");
    // base64 of `granary:our-secret%3A%26`
    assert!(
        asked
            .head
            .contains("Basic Z3JhbmFyeTpvdXItc2VjcmV0JTNBJTI2"),
        "{head}"
    );
    assert!(
        asked.body.contains(&format!("code={CODE}")),
        "{}",
        asked.body
    );
    assert!(
        asked.body.contains(secrets.verifier.expose()),
        "{}",
        asked.body
    );
    assert_eq!(server.asked(), [""; 0]);
}

#[tokio::test]
async fn groups_come_from_the_userinfo_where_the_token_has_none() {
    let key = Key::new("1");
    let mut server = Server::provider(&key).await;
    let mut metadata = server.metadata();
    metadata["token_endpoint_auth_methods_supported"] = json!(["client_secret_post"]);
    server.answer("/.well-known/openid-configuration", Canned::good(&metadata));
    let provider = provider(&server, ProviderPreset::GitLab);
    let secrets = LoginSecrets::fresh().unwrap();
    server.answer("/token", tokens(&key.sign(&id_token(&server, &secrets))));
    let more = json!({"sub": "7", "groups": ["acme", "acme/core"], "preferred_username": "root"});
    server.answer("/me", Canned::good(&more));
    let identity = exchange(&provider, &secrets).await.unwrap();
    assert_eq!(identity.groups, ["acme", "acme/core"]);
    assert_eq!(identity.name.as_deref(), Some("alice"));
    let mut asked = server.next().await;
    while !asked.line.contains("/token") {
        asked = server.next().await;
    }
    assert!(
        asked.body.contains("client_secret=our-secret%3A%26"),
        "{}",
        asked.body
    );
    assert!(!asked.head.to_lowercase().contains("authorization"));
    while !asked.line.contains("/me") {
        asked = server.next().await;
    }
    assert!(asked.head.contains("Bearer at-of-alice"));

    // Groups that cannot be read are not "no groups", and those of others are not ours.
    server.answer("/me", Canned::Json(500, String::new()));
    assert!(refused(exchange(&provider, &secrets).await).contains("500"));
    let other = json!({"sub": "8", "groups": ["root"]});
    server.answer("/me", Canned::good(&other));
    assert!(refused(exchange(&provider, &secrets).await).contains("somebody else"));
    // Who is in none has none.
    server.answer("/me", Canned::good(&json!({"sub": "7"})));
    assert_eq!(exchange(&provider, &secrets).await.unwrap().groups, [""; 0]);
    server.answer(
        "/me",
        Canned::good(&json!({"sub": "7", "groups": {"a": 1}})),
    );
    assert!(refused(exchange(&provider, &secrets).await).contains("claims"));
}

#[tokio::test]
async fn tokens_of_other_log_ins_are_refused() {
    let key = Key::new("1");
    let server = Server::provider(&key).await;
    let provider = provider(&server, ProviderPreset::Generic);
    let (secrets, other) = (
        LoginSecrets::fresh().unwrap(),
        LoginSecrets::fresh().unwrap(),
    );
    let with = |claim: &str, value: Value| {
        let mut said = id_token(&server, &secrets);
        said[claim] = value;
        tokens(&key.sign(&said))
    };
    for (canned, expected) in [
        (
            tokens(&key.sign(&id_token(&server, &other))),
            ForeignRefused::Nonce,
        ),
        (with("aud", json!("other")), ForeignRefused::Audience),
        (
            with("iss", json!("https://evil.example")),
            ForeignRefused::Issuer,
        ),
        (with("exp", json!(NOW - 3600)), ForeignRefused::Expired),
        (tokens("a.b"), ForeignRefused::Parts),
        (
            tokens(&Key::new("1").sign(&id_token(&server, &secrets))),
            ForeignRefused::Signature,
        ),
    ] {
        server.answer("/token", canned);
        let found = exchange(&provider, &secrets).await.unwrap_err();
        let token = ProviderError::Token {
            provider: "corp".to_owned(),
            refused: expected,
        };
        assert_eq!(found, token);
    }
    let unverified = with("email_verified", json!(false));
    server.answer("/token", unverified);
    assert_eq!(exchange(&provider, &secrets).await.unwrap().email, None);
}

#[tokio::test]
async fn refusals_of_the_token_endpoint_are_told() {
    let key = Key::new("1");
    let server = Server::provider(&key).await;
    let provider = provider(&server, ProviderPreset::Generic);
    let secrets = LoginSecrets::fresh().unwrap();
    let no = json!({"error": "invalid_grant", "error_description": "code\r\n is used"});
    for status in [200, 400] {
        server.answer("/token", Canned::Json(status, no.to_string()));
        let text = refused(exchange(&provider, &secrets).await);
        assert!(
            text.contains("invalid_grant") && text.contains("code is used"),
            "{text}"
        );
        assert!(
            text.contains("'corp'") && text.contains("127.0.0.1"),
            "{text}"
        );
    }
    let leaky = json!({"access_token": "at-of-alice", "token_type": "Bearer"});
    for (canned, word) in [
        (Canned::good(&leaky), "id_token"),
        (Canned::Json(500, leaky.to_string()), "500"),
        (Canned::Json(502, "<html>".to_owned()), "502"),
        (Canned::Json(200, "at-of-alice".to_owned()), "JSON"),
        (Canned::Redirect(format!("{}/token", server.url)), "307"),
        (Canned::Large(1024 * 1024 + 1, true), "1 MiB"),
    ] {
        server.answer("/token", canned);
        let text = refused(exchange(&provider, &secrets).await);
        assert!(text.contains(word), "{text}");
    }
}

#[tokio::test]
async fn a_browser_comes_back_from_where_it_was_sent() {
    let key = Key::new("1");
    let server = Server::provider(&key).await;
    let quiet = provider(&server, ProviderPreset::Generic);
    assert_eq!(quiet.check_answer(None).await, Ok(()));
    assert_eq!(quiet.check_answer(Some(&server.url)).await, Ok(()));
    let mix_up = Err(ProviderError::MixUp {
        provider: "corp".to_owned(),
    });
    assert_eq!(
        quiet.check_answer(Some("https://evil.example")).await,
        mix_up
    );

    let mut metadata = server.metadata();
    metadata["authorization_response_iss_parameter_supported"] = json!(true);
    server.answer("/.well-known/openid-configuration", Canned::good(&metadata));
    let outspoken = provider(&server, ProviderPreset::Generic);
    assert_eq!(outspoken.check_answer(None).await, mix_up);
    assert_eq!(outspoken.check_answer(Some(&server.url)).await, Ok(()));
}

#[tokio::test]
async fn no_log_in_begins_without_pkce() {
    let key = Key::new("1");
    let server = Server::provider(&key).await;
    let mut metadata = server.metadata();
    metadata["code_challenge_methods_supported"] = json!(["plain"]);
    server.answer("/.well-known/openid-configuration", Canned::good(&metadata));
    let provider = provider(&server, ProviderPreset::Generic);
    let secrets = LoginSecrets::fresh().unwrap();
    let text = refused(provider.authorization_url(&secrets, BACK).await);
    assert!(text.contains("S256"), "{text}");
}

/// As many log-ins as would take all requests of the process, if one provider could have them.
#[tokio::test]
async fn one_that_hangs_holds_no_other() {
    let key = Key::new("1");
    let mut hanging = Server::provider(&key).await;
    hanging.answer(
        "/token",
        Canned::Hang(Arc::new(Notify::new()), String::new()),
    );
    let stuck = Arc::new(provider(&hanging, ProviderPreset::Generic));
    let waiting: Vec<_> = (0..40)
        .map(|_| {
            let stuck = Arc::clone(&stuck);
            let secrets = LoginSecrets::fresh().unwrap();
            tokio::spawn(async move { exchange(&stuck, &secrets).await })
        })
        .collect();
    for _ in 0..4 {
        while !hanging.next().await.line.contains("/token") {}
    }

    let server = Server::provider(&key).await;
    let well = provider(&server, ProviderPreset::Generic);
    let secrets = LoginSecrets::fresh().unwrap();
    server.answer("/token", tokens(&key.sign(&id_token(&server, &secrets))));
    assert_eq!(exchange(&well, &secrets).await.unwrap().subject, "7");
    assert!(waiting.iter().all(|task| !task.is_finished()));
    assert_eq!(hanging.asked(), [""; 0]);
    for task in waiting {
        task.abort();
    }
}

/// GitHub's API, with 101 teams on two pages.
async fn github() -> (Server, Provider) {
    let server = Server::start().await;
    let team =
        |number: usize| json!({"slug": format!("t{number}"), "organization": {"login": "acme"}});
    let page =
        |numbers: std::ops::Range<usize>| -> Canned { Canned::good(&numbers.map(team).collect()) };
    let token = json!({"access_token": "at-of-alice", "token_type": "bearer", "scope": "read:org"});
    server.answer("/oauth/token", Canned::good(&token));
    server.answer(
        "/api/user",
        Canned::good(&json!({"id": 583_231, "login": "octocat"})),
    );
    server.answer("/api/user/teams?per_page=100&page=1", page(0..100));
    server.answer("/api/user/teams?per_page=100&page=2", page(100..101));
    let endpoints = OAuthEndpoints {
        authorization: format!("{}/oauth/authorize", server.url),
        token: format!("{}/oauth/token", server.url),
        api: format!("{}/api/", server.url),
    };
    let settings = ProviderSettings {
        endpoints: Some(endpoints),
        ..settings(&server.url, ProviderPreset::GitHub)
    };
    let provider = Provider::new(&http(), settings).unwrap();
    (server, provider)
}

#[tokio::test]
async fn github_is_asked_by_its_api() {
    let (mut server, provider) = github().await;
    let secrets = LoginSecrets::fresh().unwrap();
    let url = provider.authorization_url(&secrets, BACK).await.unwrap();
    assert!(
        url.as_str()
            .starts_with(&format!("{}/oauth/authorize?", server.url))
    );
    assert!(!url.as_str().contains("nonce"));
    provider.discover().await.unwrap();
    assert_eq!(server.asked(), [""; 0]);

    let identity = exchange(&provider, &secrets).await.unwrap();
    assert_eq!(identity.subject, "583231");
    assert_eq!(identity.issuer, server.url);
    assert_eq!(identity.name.as_deref(), Some("octocat"));
    assert_eq!(identity.groups.len(), 101);
    assert_eq!(identity.groups[100], "acme/t100");
    let asked = server.next().await;
    assert!(asked.body.contains("client_secret=our-secret%3A%26"));
    assert!(server.next().await.head.contains("Bearer at-of-alice"));

    server.answer(
        "/api/user/teams?per_page=100&page=2",
        Canned::Json(403, String::new()),
    );
    assert!(refused(exchange(&provider, &secrets).await).contains("403"));
    let bad_code = json!({"error": "bad_verification_code", "error_description": "expired"});
    server.answer("/oauth/token", Canned::good(&bad_code));
    let found = exchange(&provider, &secrets).await.unwrap_err();
    let is_refusal = matches!(
        &found,
        ProviderError::Answer { refused: AnswerRefused::Refused { error, .. }, .. }
            if error == "bad_verification_code"
    );
    assert!(is_refusal, "{found}");
}

/// Each page is full, for ever.
#[tokio::test]
async fn teams_are_bounded() {
    let (server, provider) = github().await;
    let team = json!({"slug": "t", "organization": {"login": "acme"}});
    let full = Canned::good(&vec![team; 100].into());
    for page in 1..=20 {
        server.answer(
            &format!("/api/user/teams?per_page=100&page={page}"),
            full.clone(),
        );
    }
    let text = refused(exchange(&provider, &LoginSecrets::fresh().unwrap()).await);
    assert!(text.contains("1,000"), "{text}");
}

fn good() -> ProviderSettings {
    settings("https://login.example.org", ProviderPreset::Generic)
}

#[tokio::test]
async fn presets_know_their_issuers() {
    for (preset, has_issuer) in [
        (ProviderPreset::Google, true),
        (ProviderPreset::GitLab, true),
        (ProviderPreset::GitHub, true),
        (ProviderPreset::Keycloak, false),
        (ProviderPreset::Generic, false),
    ] {
        let settings = ProviderSettings {
            issuer: None,
            preset,
            ..good()
        };
        let made = Provider::new(&http(), settings);
        assert_eq!(made.is_ok(), has_issuer, "{preset}");
    }
    let printed = format!("{:?}", Provider::new(&http(), good()).unwrap());
    assert!(!printed.contains(SECRET), "{printed}");
}

#[tokio::test]
async fn settings_that_are_wrong_say_so() {
    let endpoints = OAuthEndpoints {
        authorization: "https://a".to_owned(),
        token: "https://a".to_owned(),
        api: "http://a".to_owned(),
    };
    let say = |change: &dyn Fn(&mut ProviderSettings), word: &str| {
        let mut bad = good();
        change(&mut bad);
        let text = refused(Provider::new(&http(), bad));
        assert!(text.contains(word), "{word}: {text}");
    };
    say(&|bad| bad.name.clear(), "name");
    say(&|bad| bad.name = "../x".to_owned(), "name");
    say(&|bad| bad.client_id.clear(), "client_id");
    say(
        &|bad| bad.issuer = Some("login.example.org".to_owned()),
        "URL",
    );
    say(&|bad| bad.scopes = vec!["email".to_owned()], "openid");
    say(&|bad| bad.scopes = vec!["openid email".to_owned()], "words");
    say(&|bad| bad.endpoints = Some(endpoints.clone()), "endpoints");
    let plain_api = |bad: &mut ProviderSettings| {
        bad.endpoints = Some(endpoints.clone());
        bad.preset = ProviderPreset::GitHub;
    };
    say(&plain_api, "https");
}

#[tokio::test]
async fn one_that_is_gone_is_told() {
    let settings = settings("http://127.0.0.1:1", ProviderPreset::Generic);
    let gone = Provider::new(&http(), settings).unwrap();
    let failed = gone.discover().await;
    let is_connection = matches!(
        failed,
        Err(ProviderError::Http {
            failure: HttpFailure::Connection(_),
            ..
        })
    );
    assert!(is_connection, "{failed:?}");
}
