//! What a token must say, once its signature is right.

use granary_identity::oidc::{Expected, ForeignRefused};
use serde_json::{Value, json};

use crate::issuer::{AUDIENCE, ISSUER, Issuer, NONCE, NOW, audiences, expected, payload, remove};

#[test]
fn a_token_is_of_its_issuer() {
    let issuer = Issuer::new();
    for other in [
        json!("https://login.example.org/realms/acme/"),
        json!("https://login.example.org/realms/other"),
        json!("https://LOGIN.example.org/realms/acme"),
        json!([ISSUER]),
        json!(null),
    ] {
        let refused = issuer.signed_after(|payload| payload["iss"] = other.clone());
        assert_eq!(refused, Err(ForeignRefused::Issuer), "{other}");
    }
    let refused = issuer.signed_after(|payload| remove(payload, "iss"));
    assert_eq!(refused, Err(ForeignRefused::Issuer));
}

#[test]
fn a_token_is_for_us() {
    let issuer = Issuer::new();
    let with = |aud: Value, azp: Option<Value>| {
        issuer.signed_after(|payload| {
            payload["aud"] = aud;
            if let Some(azp) = azp {
                payload["azp"] = azp;
            }
        })
    };
    for other in [
        json!("other"),
        json!(["other"]),
        json!([]),
        json!(""),
        json!("granary "),
        json!("granary,other"),
        json!({"granary": true}),
        json!([AUDIENCE, 7]),
        json!(null),
    ] {
        assert_eq!(
            with(other.clone(), None),
            Err(ForeignRefused::Audience),
            "{other}"
        );
    }
    let refused = issuer.signed_after(|payload| remove(payload, "aud"));
    assert_eq!(refused, Err(ForeignRefused::Audience));

    let both = json!([AUDIENCE, "other"]);
    assert!(with(json!([AUDIENCE]), None).is_ok());
    assert!(with(json!(AUDIENCE), Some(json!(AUDIENCE))).is_ok());
    assert!(with(both.clone(), Some(json!(AUDIENCE))).is_ok());
    for (aud, azp) in [
        (both.clone(), None),
        (both.clone(), Some(json!("other"))),
        (both.clone(), Some(json!([AUDIENCE]))),
        (json!(AUDIENCE), Some(json!("other"))),
    ] {
        assert_eq!(with(aud, azp), Err(ForeignRefused::AuthorizedParty));
    }
}

/// Tokens of jobs and pods belong to no log-in; those of Kubernetes may have several audiences.
#[test]
fn a_token_of_a_job_has_no_nonce_and_no_party() {
    let issuer = Issuer::new();
    let audiences = audiences();
    let job = |aud: Value, azp: Value| {
        let mut payload = payload();
        remove(&mut payload, "nonce");
        payload["aud"] = aud;
        if !azp.is_null() {
            payload["azp"] = azp;
        }
        let expected = Expected {
            nonce: None,
            ..expected(&audiences)
        };
        issuer.keys.verify(&issuer.token(&payload), &expected)
    };
    assert!(job(json!(AUDIENCE), json!(null)).is_ok());
    assert!(job(json!([AUDIENCE, "other"]), json!(null)).is_ok());
    assert!(job(json!(AUDIENCE), json!("1234")).is_ok());
    let refused = job(json!([AUDIENCE, "other"]), json!("other"));
    assert_eq!(refused, Err(ForeignRefused::AuthorizedParty));
    assert_eq!(
        job(json!("other"), json!(null)),
        Err(ForeignRefused::Audience)
    );
}

#[test]
fn a_token_has_its_time() {
    let issuer = Issuer::new();
    let with = |claim: &str, value: Value| issuer.signed_after(|payload| payload[claim] = value);
    assert!(with("exp", json!(NOW - 59)).is_ok());
    assert_eq!(with("exp", json!(NOW - 60)), Err(ForeignRefused::Expired));
    assert_eq!(with("exp", json!(0)), Err(ForeignRefused::Expired));
    assert_eq!(with("exp", json!(i64::MIN)), Err(ForeignRefused::Expired));
    assert!(with("exp", json!(NOW as f64 + 0.5)).is_ok());
    for claim in ["nbf", "iat"] {
        assert!(with(claim, json!(NOW + 60)).is_ok());
        assert_eq!(
            with(claim, json!(NOW + 61)),
            Err(ForeignRefused::NotYetValid)
        );
        assert_eq!(
            with(claim, json!(i64::MAX)),
            Err(ForeignRefused::NotYetValid)
        );
        assert_eq!(with(claim, json!("now")), Err(ForeignRefused::Claims));
    }
    for odd in [
        json!("never"),
        json!(1e300),
        json!(u64::MAX),
        json!(null),
        json!([NOW]),
    ] {
        assert_eq!(
            with("exp", odd.clone()),
            Err(ForeignRefused::Claims),
            "{odd}"
        );
    }
    let endless = issuer.signed_after(|payload| remove(payload, "exp"));
    assert_eq!(endless, Err(ForeignRefused::NoExpiry));

    // However much is asked for, clocks differ by minutes only.
    let audiences = audiences();
    let at = |now, leeway| {
        let expected = Expected {
            now,
            leeway,
            ..expected(&audiences)
        };
        issuer
            .keys
            .verify(&issuer.token(&payload()), &expected)
            .map(|_| ())
    };
    assert_eq!(at(NOW + 599, i64::MAX), Ok(()));
    assert_eq!(at(NOW + 600, i64::MAX), Err(ForeignRefused::Expired));
    assert_eq!(at(NOW + 300, -5), Err(ForeignRefused::Expired));
    assert_eq!(at(i64::MAX, 60), Err(ForeignRefused::Expired));
    assert_eq!(at(i64::MIN, 60), Err(ForeignRefused::NotYetValid));
}

#[test]
fn a_token_is_of_the_log_in_that_asked_for_it() {
    let issuer = Issuer::new();
    for other in [
        json!("other"),
        json!(""),
        json!(format!("{NONCE} ")),
        json!([NONCE]),
        json!(null),
    ] {
        let refused = issuer.signed_after(|payload| payload["nonce"] = other.clone());
        assert_eq!(refused, Err(ForeignRefused::Nonce), "{other}");
    }
    let refused = issuer.signed_after(|payload| remove(payload, "nonce"));
    assert_eq!(refused, Err(ForeignRefused::Nonce));
    // An empty one is none, so that nobody asks for it by mistake.
    let mut payload = payload();
    payload["nonce"] = json!("");
    let audiences = audiences();
    let empty = Expected {
        nonce: Some(""),
        ..expected(&audiences)
    };
    let refused = issuer.keys.verify(&issuer.token(&payload), &empty);
    assert_eq!(refused, Err(ForeignRefused::Nonce));
}

#[test]
fn a_token_is_about_somebody() {
    let issuer = Issuer::new();
    let about = |sub: Value| issuer.signed_after(|payload| payload["sub"] = sub);
    assert!(about(json!("s".repeat(255))).is_ok());
    for bad in [
        json!(""),
        json!("s".repeat(256)),
        json!(7),
        json!(null),
        json!(["a"]),
        json!("a\nb"),
        json!("a\u{0}"),
    ] {
        assert_eq!(about(bad.clone()), Err(ForeignRefused::Subject), "{bad}");
    }
    let nobody = issuer.signed_after(|payload| remove(payload, "sub"));
    assert_eq!(nobody, Err(ForeignRefused::Subject));
    let nameless = issuer.signed_after(|payload| remove(payload, "jti"));
    assert_eq!(nameless.unwrap().token_id, None);
    for bad in [json!(""), json!(7), json!("j".repeat(1025))] {
        let refused = issuer.signed_after(|payload| payload["jti"] = bad.clone());
        assert_eq!(refused, Err(ForeignRefused::Claims), "{bad}");
    }
}
