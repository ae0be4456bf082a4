//! Signed tokens, ours and those of other issuers: only what was signed is believed, and of that only what says the right
//! things. The first byte says how the rest becomes a token; all of them are verified by a key of each kind of issuer.
#![no_main]

use std::sync::LazyLock;

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use granary_identity::{
    KeyRing, SigningKey, TokenClaims, TokenRefused, VerifyingKey,
    oidc::{Expected, ForeignClaims, ForeignKeys, ForeignRefused, named_issuer},
};
use libfuzzer_sys::fuzz_target;
use serde_json::{Map, Value, from_slice, json};

const NOW: i64 = 1_800_000_000;
const LEEWAY: i64 = 60;
const SERVICE: &str = "registry.example.org";
const OURS: &str = "granary:store";
const THEIRS: &str = "https://login.example.org/realms/acme";
const CLIENT: &str = "granary";
const NONCE: &str = "n-0S6_WzA2Mj";
/// What the issuer calls its key.
const KID: &str = "theirs";

/// The key of RFC 8037, appendix A: always the same, so that inputs that were found stay what they are. It is ours and
/// that of the issuer, so that nothing but what a token says tells the two apart.
static KEY: LazyLock<SigningKey> = LazyLock::new(|| {
    let private = URL_SAFE_NO_PAD.decode("nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A");
    let public = URL_SAFE_NO_PAD.decode(PUBLIC);
    // PKCS#8 of version 2 (RFC 5958) around the two.
    let document = [
        STANDARD.decode("MFMCAQEwBQYDK2VwBCIEIA==").expect("base64"),
        private.expect("base64"),
        STANDARD.decode("oSMDIQA=").expect("base64"),
        public.expect("base64"),
    ];
    SigningKey::from_pkcs8(&document.concat()).expect("a key")
});
const PUBLIC: &str = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";

static RING: LazyLock<KeyRing> = LazyLock::new(|| {
    KeyRing::new([VerifyingKey {
        kid: KEY.kid().to_owned(),
        public_key: KEY.public_key(),
        retires_at: None,
    }])
});

static ISSUER: LazyLock<ForeignKeys> = LazyLock::new(|| {
    let jwk = json!({"kty": "OKP", "crv": "Ed25519", "kid": KID, "x": PUBLIC});
    ForeignKeys::parse(json!({"keys": [jwk]}).to_string().as_bytes()).expect("a set of keys")
});

/// A good token of ours and one of the issuer's.
static GOOD: LazyLock<[String; 2]> = LazyLock::new(|| {
    let header = |kid: &str| json!({"typ": "JWT", "alg": "EdDSA", "kid": kid}).to_string();
    let access = json!([{"type": "repository", "name": "a/b", "actions": ["pull", "push"]}]);
    let payloads = [
        json!({"iss": OURS, "sub": "alice", "aud": SERVICE, "exp": NOW + 300, "nbf": NOW - 10, "iat": NOW, "jti": "j",
            "access": access, "pid": 7, "cid": 12}),
        json!({"iss": THEIRS, "sub": "248289761001", "aud": CLIENT, "exp": NOW + 300, "iat": NOW, "nonce": NONCE}),
    ];
    let [ours, theirs] = payloads.map(|payload| payload.to_string());
    [
        signed(header(KEY.kid()).as_bytes(), ours.as_bytes()),
        signed(header(KID).as_bytes(), theirs.as_bytes()),
    ]
});

fuzz_target!(|bytes: &[u8]| {
    let Some((kind, rest)) = bytes.split_first() else {
        return;
    };
    match kind % 4 {
        0 => forged(&String::from_utf8_lossy(rest)),
        1 => forged(&changed(rest)),
        2 => said(rest),
        _ => keys(rest),
    }
});

fn signed(header: &[u8], payload: &[u8]) -> String {
    let message = [header, payload]
        .map(|part| URL_SAFE_NO_PAD.encode(part))
        .join(".");
    let signature = KEY.sign(message.as_bytes()).expect("the key signs");
    format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
}

fn ours(token: &str) -> Result<TokenClaims, TokenRefused> {
    RING.verify(token, OURS, SERVICE, NOW)
}

fn theirs(keys: &ForeignKeys, token: &str) -> Result<ForeignClaims, ForeignRefused> {
    let expected = Expected {
        issuer: THEIRS,
        audiences: &[CLIENT.to_owned()],
        nonce: Some(NONCE),
        now: NOW,
        leeway: LEEWAY,
    };
    keys.verify(token, &expected)
}

/// A text that nobody signed is believed only if it is, letter by letter, one that somebody did.
fn forged(token: &str) {
    let [our_good, their_good] = &*GOOD;
    assert_eq!(ours(token).is_ok(), token == our_good, "{token}");
    assert_eq!(
        theirs(&ISSUER, token).is_ok(),
        token == their_good,
        "{token}"
    );
    if let Some(issuer) = named_issuer(token) {
        assert!(issuer.len() <= 2048 && token.split('.').count() == 3);
    }
}

/// A good token after some changes: each is a place, what is done there, and a letter.
fn changed(bytes: &[u8]) -> String {
    let [which, changes @ ..] = bytes else {
        return String::new();
    };
    let mut token: Vec<char> = GOOD[usize::from(which % 2)].chars().collect();
    for change in changes.chunks_exact(4) {
        let at = usize::from(u16::from_be_bytes([change[0], change[1]])) % (token.len() + 1);
        let letter = char::from(change[3]);
        match (change[2] % 4, token.get_mut(at)) {
            (0, Some(there)) => *there = letter,
            (1, Some(_)) => drop(token.remove(at)),
            (2, _) => token.insert(at, letter),
            (_, Some(_)) => token.truncate(at),
            (_, None) => {}
        }
    }
    token.into_iter().collect()
}

/// The first line as a header and the rest as a payload, with a good signature.
fn said(bytes: &[u8]) {
    let cut = bytes.iter().position(|&byte| byte == b'\n').unwrap_or(0);
    let (header, payload) = bytes.split_at(cut);
    let token = signed(header, payload);
    let (by_us, by_them) = (ours(&token), theirs(&ISSUER, &token));
    assert!(by_us.is_err() || by_them.is_err(), "{token}");
    if let Ok(claims) = by_us {
        let (header, payload) = (object(header), object(payload));
        let expected = json!({"typ": "JWT", "alg": "EdDSA", "kid": KEY.kid()});
        assert_eq!(Value::Object(header), expected);
        assert_our_claims(&claims, &payload);
    }
    if let Ok(claims) = by_them {
        let (header, payload) = (object(header), object(payload));
        let brought = ["jwk", "jku", "x5c", "x5u", "crit", "b64", "zip", "enc"];
        assert!(brought.iter().all(|member| !header.contains_key(*member)));
        assert_eq!(header.get("alg"), Some(&json!("EdDSA")));
        assert!(header.get("kid").is_none_or(|kid| kid == KID));
        assert_their_claims(&claims, &payload);
        if token.starts_with("ey") {
            assert_eq!(named_issuer(&token).as_deref(), Some(THEIRS));
        }
    }
    // Without its signature, or with that of another text, it is nothing.
    let (message, signature) = token.rsplit_once('.').expect("a token has three parts");
    forged(&format!("{message}."));
    forged(&format!("A{message}.{signature}"));
}

fn object(bytes: &[u8]) -> Map<String, Value> {
    from_slice(bytes).expect("what was believed is an object")
}

fn assert_our_claims(claims: &TokenClaims, payload: &Map<String, Value>) {
    let text = |name: &str| payload.get(name).and_then(Value::as_str);
    assert_eq!((text("iss"), text("aud")), (Some(OURS), Some(SERVICE)));
    assert_eq!((&*claims.issuer, &*claims.audience), (OURS, SERVICE));
    assert_eq!(text("sub"), Some(&*claims.subject));
    let number = |name: &str| payload.get(name).and_then(Value::as_i64);
    assert_eq!(number("exp"), Some(claims.expires_at));
    assert!(claims.expires_at > NOW && number("nbf").is_some_and(|from| from <= NOW + 10));
    assert_eq!(number("pid"), claims.principal.map(|id| id.0));
    assert_eq!(number("cid"), claims.credential.map(|id| id.0));
    assert!(claims.access.len() <= TokenClaims::MOST_ACCESS);
    let is_capped = payload.get("sc").is_some_and(|scopes| !scopes.is_null());
    assert_eq!(claims.scopes.are_unlimited(), !is_capped);
    // The same said again is a token of ours too, if it is not too long and has begun.
    if let Ok(again) = KEY.signer().sign(claims)
        && claims.issued_at <= NOW
    {
        assert_eq!(ours(&again).as_ref(), Ok(claims));
    }
}

fn assert_their_claims(claims: &ForeignClaims, payload: &Map<String, Value>) {
    assert_eq!(&claims.claims, payload);
    let text = |name: &str| payload.get(name).and_then(Value::as_str);
    assert_eq!((text("iss"), text("nonce")), (Some(THEIRS), Some(NONCE)));
    assert_eq!(text("sub"), Some(&*claims.subject));
    assert!((1..=255).contains(&claims.subject.len()));
    assert!(!claims.subject.contains(char::is_control));
    assert_eq!(text("jti"), claims.token_id.as_deref());
    assert!(claims.expires_at.saturating_add(LEEWAY) > NOW);
    let times = ["nbf", "iat"].map(|name| payload.get(name).and_then(Value::as_f64));
    assert!(
        times
            .iter()
            .flatten()
            .all(|from| *from < (NOW + LEEWAY + 1) as f64)
    );
    match payload.get("aud") {
        Some(Value::String(audience)) => assert_eq!(audience, CLIENT),
        Some(Value::Array(audiences)) => {
            assert!(audiences.contains(&json!(CLIENT)));
            assert!(audiences.len() == 1 || text("azp") == Some(CLIENT));
        }
        other => panic!("{other:?} is no audience"),
    }
    assert!(payload.get("azp").is_none_or(|party| party == CLIENT));
    for (name, value) in payload {
        assert_eq!(claims.claim(name), Some(value));
        assert!(depth(value) <= 16, "{name} is nested too deep");
    }
    for path in payload.values().filter_map(Value::as_str) {
        let _ = (claims.text(path), claims.list(path));
    }
}

fn depth(value: &Value) -> usize {
    match value {
        Value::Array(values) => 1 + values.iter().map(depth).max().unwrap_or(0),
        Value::Object(members) => 1 + members.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

/// A set of keys believes the issuer's token only if the key that signed it stands there as one that may.
fn keys(bytes: &[u8]) {
    let Ok(keys) = ForeignKeys::parse(bytes) else {
        return;
    };
    assert!((1..=100).contains(&keys.count()));
    let listed = object(bytes);
    let listed = listed["keys"].as_array().expect("keys are a list");
    assert!(keys.count() <= listed.len());
    if theirs(&keys, &GOOD[1]).is_ok() {
        let is = |key: &Value, name: &str, value: &str| key.get(name).is_some_and(|it| it == value);
        let may = |key: &&Value| {
            is(key, "kty", "OKP")
                && is(key, "crv", "Ed25519")
                && is(key, "x", PUBLIC)
                && is(key, "kid", KID)
                && key.get("d").is_none()
                && key
                    .get("use")
                    .is_none_or(|purpose| purpose.is_null() || purpose == "sig")
        };
        assert_eq!(listed.iter().filter(may).count(), 1);
    }
    for alg in ["RS256", "PS256", "ES256", "ES384", "EdDSA"] {
        let message = [json!({"alg": alg}), json!({"iss": THEIRS})]
            .map(|part| URL_SAFE_NO_PAD.encode(part.to_string()))
            .join(".");
        for length in [0, 64, 96, 256] {
            let signature = URL_SAFE_NO_PAD.encode(vec![1; length]);
            let refused = theirs(&keys, &format!("{message}.{signature}"));
            assert!(refused.is_err());
        }
    }
}
