//! Headers, keys and signatures.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use granary_identity::oidc::{ForeignKeys, ForeignRefused, KeysRefused};
use ring::{
    hmac,
    signature::{Ed25519KeyPair, KeyPair as _},
};
use serde_json::{Value, json};

use crate::issuer::{
    ISSUER, Issuer, KINDS, NOW, ec_jwk, ed, ed_jwk, encoded, header, message, payload, rsa_jwk,
    set, verify,
};

#[test]
fn good_tokens_of_each_kind_are_believed() {
    let issuer = Issuer::new();
    for (alg, kid) in KINDS {
        let token = issuer.sign(alg, &header(alg, kid).to_string(), &payload().to_string());
        let claims = issuer.verify(&token).unwrap();
        assert_eq!(claims.issuer, ISSUER);
        assert_eq!(claims.subject, "248289761001");
        assert_eq!(claims.expires_at, NOW + 300);
        assert_eq!(claims.token_id.as_deref(), Some("id"));
        assert_eq!(claims.list("groups"), Some(vec!["core"]), "{alg} {kid}");
    }
}

#[test]
fn changed_tokens_of_each_kind_are_not_believed() {
    let issuer = Issuer::new();
    for (alg, kid) in KINDS {
        let token = issuer.sign(alg, &header(alg, kid).to_string(), &payload().to_string());
        let (message, signature) = token.rsplit_once('.').unwrap();
        let mut other = payload();
        other["sub"] = json!("1");
        let (head, _) = message.split_once('.').unwrap();
        let swapped = format!("{head}.{}.{signature}", encoded(other.to_string()));
        let mut flipped = URL_SAFE_NO_PAD.decode(signature).unwrap();
        flipped[7] ^= 1;
        for bad in [
            swapped,
            format!("{message}."),
            format!("{message}.{}", encoded(&flipped)),
            format!("{message}.{}", encoded(&flipped[1..])),
            format!("{message}.{}", encoded([0; 64])),
            format!("{message}.{}", encoded([0; 96])),
            format!("{message}.{}", encoded([0; 256])),
            format!("{message}.{signature}="),
            format!("{message}.!"),
        ] {
            assert_eq!(
                issuer.verify(&bad),
                Err(ForeignRefused::Signature),
                "{alg}: {bad}"
            );
        }
    }
}

#[test]
fn no_algorithm_is_chosen_that_is_not_believed() {
    let issuer = Issuer::new();
    for alg in [
        "none", "None", "NONE", "", "HS256", "HS384", "HS512", "PS384", "PS512", "ES512", "ES256K",
        "RS1", "eddsa", "EdDSA ", "RSA-OAEP", "dir",
    ] {
        for kid in ["rsa", "ed"] {
            let header = header(alg, kid).to_string();
            let refused = issuer.verify(&issuer.sign(alg, &header, &payload().to_string()));
            assert_eq!(refused, Err(ForeignRefused::Algorithm), "{alg}");
            let unsigned = format!("{}.", message(&header, &payload().to_string()));
            assert_eq!(
                issuer.verify(&unsigned),
                Err(ForeignRefused::Algorithm),
                "{alg}"
            );
        }
    }
    for odd in [json!(null), json!(["EdDSA"]), json!(7)] {
        let mut header = header("EdDSA", "ed");
        header["alg"] = odd;
        assert_eq!(
            issuer.headed(&header.to_string()),
            Err(ForeignRefused::Algorithm)
        );
    }
}

/// The public keys, which everybody knows, taken for secrets.
#[test]
fn public_keys_are_no_secrets() {
    let issuer = Issuer::new();
    let public: ring::rsa::PublicKeyComponents<Vec<u8>> = issuer.rsa.public_key().into();
    for (kid, secret) in [
        ("rsa", issuer.rsa.public_key().as_ref()),
        ("rsa", &public.n),
        ("p256", issuer.p256.public_key().as_ref()),
        ("ed", issuer.ed.public_key().as_ref()),
    ] {
        for alg in ["HS256", "RS256", "ES256", "EdDSA"] {
            let message = message(&header(alg, kid).to_string(), &payload().to_string());
            let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
            let signature = encoded(hmac::sign(&key, message.as_bytes()));
            let refused = issuer
                .verify(&format!("{message}.{signature}"))
                .unwrap_err();
            let expected = [
                ForeignRefused::Algorithm,
                ForeignRefused::UnknownKey,
                ForeignRefused::Signature,
            ];
            assert!(expected.contains(&refused), "{alg} {kid}: {refused:?}");
        }
    }
}

#[test]
fn a_key_signs_by_its_own_algorithm_and_in_its_own_name() {
    let issuer = Issuer::new();
    for (alg, kid) in KINDS {
        for (other, other_kid) in KINDS {
            let header = header(other, kid).to_string();
            let token = issuer.sign(alg, &header, &payload().to_string());
            let is_good = alg == other;
            assert_eq!(
                issuer.verify(&token).is_ok(),
                is_good,
                "{alg} {other} {kid} {other_kid}"
            );
        }
    }
    let (stranger, second) = (ed(), ed());
    let sign = |key: &Ed25519KeyPair, header: &Value| {
        let message = message(&header.to_string(), &payload().to_string());
        format!("{message}.{}", encoded(key.sign(message.as_bytes())))
    };
    let refused = issuer.verify(&sign(&stranger, &header("EdDSA", "ed")));
    assert_eq!(refused, Err(ForeignRefused::Signature));
    for kid in [
        "unknown",
        "",
        "../../key",
        "' OR 1=1 --",
        "https://evil.example/key",
    ] {
        let refused = issuer.verify(&sign(&stranger, &header("EdDSA", kid)));
        assert_eq!(refused, Err(ForeignRefused::UnknownKey), "{kid}");
    }
    let unnamed = json!({"alg": "EdDSA"});
    assert!(issuer.verify(&sign(&issuer.ed, &unnamed)).is_ok());
    let keys = set(json!([ed_jwk("ed", &issuer.ed), ed_jwk("second", &second)]));
    let refused = verify(&keys, &sign(&issuer.ed, &unnamed));
    assert_eq!(refused, Err(ForeignRefused::AmbiguousKey));
    assert!(verify(&keys, &sign(&second, &header("EdDSA", "second"))).is_ok());
    let mut pinned = rsa_jwk("rsa", &issuer.rsa, false);
    pinned["alg"] = json!("RS256");
    let keys = set(json!([pinned]));
    for (alg, is_good) in [("RS256", true), ("RS512", false), ("PS256", false)] {
        let token = issuer.sign(alg, &header(alg, "rsa").to_string(), &payload().to_string());
        assert_eq!(verify(&keys, &token).is_ok(), is_good, "{alg}");
    }
}

#[test]
fn a_header_brings_no_key() {
    let issuer = Issuer::new();
    let own = ed();
    for (name, value) in [
        ("jwk", ed_jwk("ed", &own)),
        ("jwk", json!(null)),
        ("jku", json!("https://evil.example/keys")),
        ("x5c", json!(["MIIB"])),
        ("x5u", json!("https://evil.example/chain")),
        ("crit", json!(["exp"])),
        ("crit", json!([])),
        ("b64", json!(false)),
        ("zip", json!("DEF")),
        ("enc", json!("A256GCM")),
    ] {
        let mut header = header("EdDSA", "ed");
        header[name] = value;
        let message = message(&header.to_string(), &payload().to_string());
        let forged = format!("{message}.{}", encoded(own.sign(message.as_bytes())));
        assert_eq!(
            issuer.verify(&forged),
            Err(ForeignRefused::HeaderMember),
            "{name}"
        );
        let refused = issuer.headed(&header.to_string());
        assert_eq!(refused, Err(ForeignRefused::HeaderMember), "{name}");
    }
}

#[test]
fn a_header_is_that_of_a_jwt() {
    let issuer = Issuer::new();
    let good = header("EdDSA", "ed").to_string();
    assert!(issuer.headed(&good).is_ok());
    assert!(
        issuer
            .headed(r#"{"alg":"EdDSA","kid":"ed","typ":"jwt"}"#)
            .is_ok()
    );
    for bad in [
        String::new(),
        "[]".to_owned(),
        "null".to_owned(),
        format!("{good}{good}"),
        r#"{"alg":"EdDSA","kid":"ed","typ":"at+jwt"}"#.to_owned(),
        r#"{"alg":"EdDSA","kid":"ed","typ":"logout+jwt"}"#.to_owned(),
        r#"{"alg":"EdDSA","kid":"ed","typ":["JWT"]}"#.to_owned(),
        r#"{"alg":"EdDSA","kid":["ed"]}"#.to_owned(),
        r#"{"alg":"EdDSA","kid":null}"#.to_owned(),
        format!(r#"{{"alg":"EdDSA","kid":"{}"}}"#, "k".repeat(256)),
        format!("{good}{}", " ".repeat(2048)),
        "[".repeat(2_000),
    ] {
        assert_eq!(issuer.headed(&bad), Err(ForeignRefused::Header), "{bad}");
    }
}

#[test]
fn huge_and_nested_tokens_cost_nothing() {
    let issuer = Issuer::new();
    for huge in ["a".repeat(1024 * 1024), ".".repeat(20_000)] {
        assert_eq!(issuer.verify(&huge), Err(ForeignRefused::TooLong));
    }
    for shape in ["", ".", "a.b", "a.b.c.d", "...", &".".repeat(10_000)] {
        assert_eq!(issuer.verify(shape), Err(ForeignRefused::Parts), "{shape}");
    }
    let nested = |depth: usize| {
        let mut value = json!(1);
        for level in 0..depth {
            value = match level % 2 {
                0 => json!([value]),
                _ => json!({ "x": value }),
            };
        }
        issuer.signed_after(|payload| payload["deep"] = value)
    };
    assert!(nested(15).is_ok());
    assert_eq!(nested(16), Err(ForeignRefused::Claims));
    assert_eq!(nested(100), Err(ForeignRefused::Claims));
    let deep = format!(r#"{{"x":{}"#, "[".repeat(10_000));
    let token = issuer.sign("EdDSA", &header("EdDSA", "ed").to_string(), &deep);
    assert_eq!(issuer.verify(&token), Err(ForeignRefused::Claims));
    for bad in ["", "[]", "null", "7", "{} {}"] {
        let token = issuer.sign("EdDSA", &header("EdDSA", "ed").to_string(), bad);
        assert_eq!(issuer.verify(&token), Err(ForeignRefused::Claims), "{bad}");
    }
}

/// Keys that nobody should sign with are not taken, so their tokens are of unknown keys.
#[test]
fn weak_and_published_keys_verify_nothing() {
    let issuer = Issuer::new();
    let mut published = ed_jwk("ed", &issuer.ed);
    published["d"] = json!(encoded([1; 32]));
    let published =
        json!({"keys": [published, {"kty": "oct", "kid": "ed", "k": encoded([2; 32])}]});
    let refused = ForeignKeys::parse(published.to_string().as_bytes());
    assert_eq!(refused.unwrap_err(), KeysRefused::NoneUsable);

    let mut off_curve = ec_jwk("p256", "P-256", &issuer.p256);
    off_curve["y"] = off_curve["x"].clone();
    let keys = set(json!([off_curve]));
    let token = issuer.sign(
        "ES256",
        &header("ES256", "p256").to_string(),
        &payload().to_string(),
    );
    assert_eq!(verify(&keys, &token), Err(ForeignRefused::Signature));
}
