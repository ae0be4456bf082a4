//! Tokens of the token service, as attackers would have them.
#![expect(clippy::unwrap_used, reason = "tests")]

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use granary_access::{
    CredentialId, PrincipalId, Scope, Scopes, TagPatterns, TokenVerbs, Verb, Verbs,
};
use granary_identity::{
    KeyRing, SignError, SigningKey, TokenClaims, TokenRefused, VerifyingKey, fresh_token_id,
};
use ring::{hmac, signature::Ed25519KeyPair};
use serde_json::{Value, json};

const ISSUER: &str = "granary:store";
const AUDIENCE: &str = "registry.example.org";
const NOW: i64 = 1_800_000_000;

const PUSH: TokenVerbs = TokenVerbs {
    pull: true,
    push: true,
    delete: false,
};

/// What alice may be told.
fn claims() -> TokenClaims {
    TokenClaims {
        issuer: ISSUER.to_owned(),
        subject: "alice".to_owned(),
        audience: AUDIENCE.to_owned(),
        principal: Some(PrincipalId(7)),
        credential: Some(CredentialId(12)),
        scopes: Scopes::unlimited(),
        access: vec![("a/b".parse().unwrap(), PUSH)],
        issued_at: NOW,
        expires_at: NOW + 300,
        id: "jti".to_owned(),
    }
}

/// The keys of an installation: one that signs, another good one, and one that ends in ten seconds.
struct World {
    key: SigningKey,
    other: SigningKey,
    ending: SigningKey,
    ring: KeyRing,
}

impl World {
    fn new() -> Self {
        let key = SigningKey::generate().unwrap();
        let other = SigningKey::generate().unwrap();
        let ending = SigningKey::generate().unwrap();
        let ring = KeyRing::new([
            verifying(&key, None),
            verifying(&other, Some(NOW + 1_000)),
            verifying(&ending, Some(NOW + 10)),
        ]);
        Self {
            key,
            other,
            ending,
            ring,
        }
    }

    fn verify(&self, token: &str) -> Result<TokenClaims, TokenRefused> {
        self.ring.verify(token, ISSUER, AUDIENCE, NOW)
    }

    /// A good header.
    fn header(&self) -> Value {
        json!({"typ": "JWT", "alg": "EdDSA", "kid": self.key.kid()})
    }

    /// What is said of a token of ours whose payload was changed before it was signed.
    fn signed_after(&self, change: impl FnOnce(&mut Value)) -> Result<TokenClaims, TokenRefused> {
        let mut payload = payload();
        change(&mut payload);
        let token = forge(&self.key, &self.header().to_string(), &payload.to_string());
        self.verify(&token)
    }

    /// What is said of a good payload under this header.
    fn headed(&self, header: &str) -> Result<TokenClaims, TokenRefused> {
        self.verify(&forge(&self.key, header, &payload().to_string()))
    }
}

fn verifying(key: &SigningKey, retires_at: Option<i64>) -> VerifyingKey {
    VerifyingKey {
        kid: key.kid().to_owned(),
        public_key: key.public_key(),
        retires_at,
    }
}

/// A good payload.
fn payload() -> Value {
    json!({
        "iss": ISSUER,
        "sub": "alice",
        "aud": AUDIENCE,
        "exp": NOW + 300,
        "nbf": NOW - 10,
        "iat": NOW,
        "jti": "jti",
        "access": [{"type": "repository", "name": "a/b", "actions": ["pull", "push"]}],
        "pid": 7,
        "cid": 12,
    })
}

fn encoded(part: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(part)
}

fn message(header: &str, payload: &str) -> String {
    format!("{}.{}", encoded(header), encoded(payload))
}

/// A token of these parts that `key` did sign.
fn forge(key: &SigningKey, header: &str, payload: &str) -> String {
    let message = message(header, payload);
    let pair = Ed25519KeyPair::from_pkcs8(key.pkcs8()).unwrap();
    let signature = encoded(pair.sign(message.as_bytes()));
    format!("{message}.{signature}")
}

/// The parts of a token.
fn parts(token: &str) -> Vec<&str> {
    token.split('.').collect()
}

fn decoded(part: &str) -> Value {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
}

#[test]
fn a_token_says_what_was_signed() {
    let world = World::new();
    let scope = Scope {
        verbs: [Verb::Read, Verb::Write].into_iter().collect::<Verbs>(),
        repositories: "acme/**".parse().unwrap(),
        tags: TagPatterns::all(),
    };
    let anonymous = TokenClaims {
        subject: String::new(),
        principal: None,
        credential: None,
        access: Vec::new(),
        ..claims()
    };
    let scoped = TokenClaims {
        scopes: Scopes::only(vec![scope]),
        ..claims()
    };
    let nothing = TokenClaims {
        scopes: Scopes::only(Vec::new()),
        ..claims()
    };
    for claims in [claims(), anonymous, scoped, nothing] {
        let token = world.key.signer().sign(&claims).unwrap();
        assert_eq!(world.verify(&token), Ok(claims));
    }
}

#[test]
fn a_token_has_the_form_that_docker_describes() {
    let world = World::new();
    let token = world.key.signer().sign(&claims()).unwrap();
    assert_eq!(decoded(parts(&token)[0]), world.header());
    assert_eq!(decoded(parts(&token)[1]), payload());

    let anonymous = TokenClaims {
        subject: String::new(),
        principal: None,
        credential: None,
        access: Vec::new(),
        scopes: Scopes::only(Vec::new()),
        ..claims()
    };
    let token = world.key.signer().sign(&anonymous).unwrap();
    let said = decoded(parts(&token)[1]);
    let mut expected = payload();
    expected["sub"] = json!("");
    expected["access"] = json!([]);
    expected["sc"] = json!([]);
    expected.as_object_mut().unwrap().remove("pid");
    expected.as_object_mut().unwrap().remove("cid");
    assert_eq!(said, expected);
}

#[test]
fn ids_are_fresh() {
    let (one, other) = (fresh_token_id().unwrap(), fresh_token_id().unwrap());
    assert_eq!(one.len(), 22);
    assert_ne!(one, other);
}

#[test]
fn a_header_chooses_no_algorithm() {
    let world = World::new();
    for alg in [
        "none", "None", "", "HS256", "ES256", "RS256", "eddsa", "EdDSA ",
    ] {
        let mut header = world.header();
        header["alg"] = json!(alg);
        let refused = world.headed(&header.to_string());
        assert_eq!(refused, Err(TokenRefused::Algorithm), "{alg}");
    }

    let unsigned = |alg: &str| {
        let mut header = world.header();
        header["alg"] = json!(alg);
        let message = message(&header.to_string(), &payload().to_string());
        world.verify(&format!("{message}."))
    };
    assert_eq!(unsigned("none"), Err(TokenRefused::Algorithm));
    assert_eq!(unsigned("EdDSA"), Err(TokenRefused::Signature));

    // The public key, which everybody knows, taken for a secret.
    for alg in ["HS256", "EdDSA"] {
        let mut header = world.header();
        header["alg"] = json!(alg);
        let message = message(&header.to_string(), &payload().to_string());
        let secret = hmac::Key::new(hmac::HMAC_SHA256, &world.key.public_key());
        let signature = encoded(hmac::sign(&secret, message.as_bytes()));
        assert!(world.verify(&format!("{message}.{signature}")).is_err());
    }
}

#[test]
fn a_header_brings_no_key() {
    let world = World::new();
    let own = SigningKey::generate().unwrap();
    let jwk = json!({"kty": "OKP", "crv": "Ed25519", "x": encoded(own.public_key())});
    for (name, value) in [
        ("jwk", jwk),
        ("jku", json!("https://evil.example/keys")),
        ("x5c", json!(["MIIB"])),
        ("x5u", json!("https://evil.example/chain")),
        ("crit", json!(["exp"])),
        ("b64", json!(false)),
        ("zip", json!("DEF")),
        ("cty", json!("JWT")),
        ("nested", json!([[[[[[[[[[]]]]]]]]]])),
    ] {
        let mut header = world.header();
        header[name] = value;
        let token = forge(&own, &header.to_string(), &payload().to_string());
        assert_eq!(world.verify(&token), Err(TokenRefused::Header), "{name}");
        let refused = world.headed(&header.to_string());
        assert_eq!(refused, Err(TokenRefused::Header), "{name}");
    }
}

#[test]
fn a_header_is_one_of_ours() {
    let world = World::new();
    let kid = world.key.kid();
    let good = world.header().to_string();
    assert!(world.headed(&good).is_ok());
    assert!(world.headed(&format!(" {good}\n")).is_ok());
    for bad in [
        "".to_owned(),
        "{}".to_owned(),
        "[]".to_owned(),
        "null".to_owned(),
        "\u{ff}".to_owned(),
        format!("{good}{good}"),
        r#"{"typ":"JWT","alg":"EdDSA"}"#.to_owned(),
        format!(r#"{{"typ":"JWT","kid":"{kid}"}}"#),
        format!(r#"{{"alg":"EdDSA","kid":"{kid}"}}"#),
        format!(r#"{{"typ":"at+jwt","alg":"EdDSA","kid":"{kid}"}}"#),
        format!(r#"{{"typ":"JWT","alg":"EdDSA","kid":["{kid}"]}}"#),
        format!(r#"{{"typ":"JWT","alg":["EdDSA"],"kid":"{kid}"}}"#),
        format!(r#"["JWT","EdDSA","{kid}"]"#),
        format!(r#"{{"typ":"JWT","alg":"none","alg":"EdDSA","kid":"{kid}"}}"#),
        format!(r#"{{"typ":"JWT","alg":"EdDSA","kid":"x","kid":"{kid}"}}"#),
        format!("{good}{}", " ".repeat(512)),
        "[".repeat(500),
    ] {
        assert_eq!(world.headed(&bad), Err(TokenRefused::Header), "{bad}");
    }
    let signed = forge(&world.key, &good, &payload().to_string());
    let (_, rest) = signed.split_once('.').unwrap();
    for not_base64 in ["", "!", "e30=", "e3"] {
        let refused = world.verify(&format!("{not_base64}.{rest}"));
        assert_eq!(refused, Err(TokenRefused::Header), "{not_base64}");
    }
}

#[test]
fn a_key_signs_in_its_own_name_and_time() {
    let world = World::new();
    let signed_by = |key: &SigningKey, kid: &str| {
        let mut header = world.header();
        header["kid"] = json!(kid);
        forge(key, &header.to_string(), &payload().to_string())
    };
    let (key, other, ending) = (&world.key, &world.other, &world.ending);
    let stranger = SigningKey::generate().unwrap();
    assert!(world.verify(&signed_by(other, other.kid())).is_ok());
    for (by, kid) in [(key, other), (other, key), (&stranger, key)] {
        let refused = world.verify(&signed_by(by, kid.kid()));
        assert_eq!(refused, Err(TokenRefused::Signature));
    }
    for kid in [stranger.kid(), "", "../../key", "' OR 1=1 --"] {
        let refused = world.verify(&signed_by(&stranger, kid));
        assert_eq!(refused, Err(TokenRefused::UnknownKey), "{kid}");
    }
    let token = signed_by(ending, ending.kid());
    let at = |now| world.ring.verify(&token, ISSUER, AUDIENCE, now);
    assert!(at(NOW + 9).is_ok());
    assert_eq!(at(NOW + 10), Err(TokenRefused::RetiredKey));
    let none = KeyRing::new([]);
    let refused = none.verify(&token, ISSUER, AUDIENCE, NOW);
    assert_eq!(refused, Err(TokenRefused::UnknownKey));
}

#[test]
fn huge_tokens_cost_nothing() {
    let world = World::new();
    let deep = format!(r#"{{"x":{}"#, "[".repeat(10_000));
    for huge in [
        "a".repeat(1024 * 1024),
        ".".repeat(10_000),
        forge(&world.key, &world.header().to_string(), &deep),
        forge(&world.key, &deep, &payload().to_string()),
    ] {
        assert_eq!(world.verify(&huge), Err(TokenRefused::TooLong));
    }
    for shape in ["", ".", "a.b", "a.b.c.d", "...", &".".repeat(8_000)] {
        assert_eq!(world.verify(shape), Err(TokenRefused::Parts), "{shape}");
    }
    // Within the bound, and deep: what is not looked at is not recursed into either.
    let nested = format!("{}{}", "[".repeat(2_000), "]".repeat(2_000));
    let text = payload().to_string();
    let deep = text.replacen('{', &format!(r#"{{"x":{nested},"#), 1);
    let token = forge(&world.key, &world.header().to_string(), &deep);
    assert_eq!(world.verify(&token), Ok(claims()));
    let deep = text.replacen(r#""access":["#, &format!(r#""access":[{nested},"#), 1);
    assert_ne!(deep, text);
    let token = forge(&world.key, &world.header().to_string(), &deep);
    assert_eq!(world.verify(&token), Err(TokenRefused::Claims));
}

#[test]
fn a_token_has_its_time() {
    let world = World::new();
    let token = world.key.signer().sign(&claims()).unwrap();
    let at = |now| world.ring.verify(&token, ISSUER, AUDIENCE, now);
    assert!(at(NOW + 299).is_ok());
    assert_eq!(at(NOW + 300), Err(TokenRefused::Expired));
    assert_eq!(at(i64::MAX), Err(TokenRefused::Expired));
    assert!(at(NOW - 20).is_ok());
    assert_eq!(at(NOW - 21), Err(TokenRefused::NotYetValid));
    assert_eq!(at(i64::MIN), Err(TokenRefused::NotYetValid));
}

#[test]
fn a_token_is_for_one_service_of_one_installation() {
    let world = World::new();
    let token = world.key.signer().sign(&claims()).unwrap();
    let elsewhere = |issuer, audience| world.ring.verify(&token, issuer, audience, NOW);
    assert_eq!(
        elsewhere("granary:other", AUDIENCE),
        Err(TokenRefused::Issuer)
    );
    assert_eq!(
        elsewhere(ISSUER, "registry.example.com"),
        Err(TokenRefused::Audience)
    );
    assert_eq!(elsewhere(ISSUER, ""), Err(TokenRefused::Audience));
}

#[test]
fn nothing_of_a_token_is_exchanged() {
    let world = World::new();
    let signer = world.key.signer();
    let one = signer.sign(&claims()).unwrap();
    let other = TokenClaims {
        subject: "root".to_owned(),
        principal: Some(PrincipalId(1)),
        ..claims()
    };
    let other = signer.sign(&other).unwrap();
    let (one, other) = (parts(&one), parts(&other));
    let swapped = [one[0], other[1], one[2]].join(".");
    assert_eq!(world.verify(&swapped), Err(TokenRefused::Signature));
    let swapped = [one[0], one[1], other[2]].join(".");
    assert_eq!(world.verify(&swapped), Err(TokenRefused::Signature));
    for signature in ["", "AA", "!", &"A".repeat(86), &format!("{}=", one[2])] {
        let forged = [one[0], one[1], signature].join(".");
        let refused = world.verify(&forged);
        assert_eq!(refused, Err(TokenRefused::Signature), "{signature}");
    }
}

#[test]
fn claims_are_those_of_ours() {
    let world = World::new();
    assert_eq!(world.signed_after(|_| ()), Ok(claims()));
    let more = world.signed_after(|payload| payload["admin"] = json!({"is": true}));
    assert_eq!(more, Ok(claims()));
    // The values alone, in the order of the claims.
    let list = json!([
        ISSUER,
        "alice",
        AUDIENCE,
        NOW + 300,
        NOW - 10,
        NOW,
        "jti",
        [],
        null,
        null,
        null
    ]);
    let listed = forge(&world.key, &world.header().to_string(), &list.to_string());
    assert_eq!(world.verify(&listed), Err(TokenRefused::Claims));
    for claim in ["iss", "sub", "aud", "exp", "nbf", "iat", "jti", "access"] {
        let refused = world.signed_after(|payload| {
            payload.as_object_mut().unwrap().remove(claim);
        });
        assert_eq!(refused, Err(TokenRefused::Claims), "{claim}");
    }
    for (claim, value) in [
        ("aud", json!([AUDIENCE, "other"])),
        ("iss", json!([ISSUER])),
        ("exp", json!("never")),
        ("exp", json!(1e300)),
        ("exp", json!(u64::MAX)),
        ("nbf", json!(null)),
        ("pid", json!("7")),
        ("sc", json!("*")),
        (
            "sc",
            json!([{"verbs": ["everything"], "repositories": "**"}]),
        ),
        (
            "sc",
            json!([{"verbs": ["read"], "repositories": "**", "and": 1}]),
        ),
        ("access", json!({})),
        ("access", json!([["repository", "a"]])),
        ("access", json!([{"type": "repository", "name": "a"}])),
    ] {
        let refused = world.signed_after(|payload| payload[claim] = value.clone());
        assert_eq!(refused, Err(TokenRefused::Claims), "{claim}: {value}");
    }
}

#[test]
fn access_is_bounded_and_names_repositories() {
    let world = World::new();
    let entry = |name: &str| json!({"type": "repository", "name": name, "actions": ["pull"]});
    let entries = |count: usize| -> Vec<Value> {
        (0..count)
            .map(|number| entry(&format!("a{number}")))
            .collect()
    };
    let many = world.signed_after(|payload| payload["access"] = json!(entries(64)));
    assert_eq!(many.unwrap().access.len(), 64);
    let more = world.signed_after(|payload| payload["access"] = json!(entries(65)));
    assert_eq!(more, Err(TokenRefused::TooManyEntries));

    for name in ["", "A", "../etc", "a//b", "host:5000/a", "a b", "*"] {
        let refused = world.signed_after(|payload| payload["access"] = json!([entry(name)]));
        assert_eq!(refused, Err(TokenRefused::Name), "{name}");
    }

    let others = json!([
        {"type": "registry", "name": "catalog", "actions": ["*"]},
        {"type": "repository", "name": "a/b", "actions": ["pull", "push", "fly"]},
    ]);
    let said = world.signed_after(|payload| payload["access"] = others);
    assert_eq!(said, Ok(claims()));
}

#[test]
fn what_would_be_refused_is_not_signed() {
    let signer = SigningKey::generate().unwrap().signer();
    let named = |length: usize, count: usize| TokenClaims {
        access: (0..count)
            .map(|number| {
                let name = format!("{number:0>length$}");
                (name.parse().unwrap(), PUSH)
            })
            .collect(),
        ..claims()
    };
    assert!(signer.sign(&named(10, 64)).is_ok());
    assert_eq!(signer.sign(&named(10, 65)), Err(SignError::TooManyEntries));
    let long = signer.sign(&named(255, 64));
    assert!(matches!(long, Err(SignError::TooLong(_))), "{long:?}");
}

#[test]
fn nothing_secret_is_printed() {
    let key = SigningKey::generate().unwrap();
    let seed = format!("{:?}", &key.pkcs8()[16..24]);
    let inner = seed.trim_matches(['[', ']']);
    for printed in [format!("{key:?}"), format!("{:?}", key.signer())] {
        assert!(printed.contains(key.kid()));
        assert!(!printed.contains(inner), "{printed}");
    }
}
