//! What must hold of every text and every token, checked on generated ones.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::sync::LazyLock;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use granary_access::{CredentialId, PrincipalId, Scopes, TokenVerbs};
use granary_identity::{
    InstallationKey, KeyRing, PasswordSettings, RequestedScope, SigningKey, Token, TokenClaims,
    TokenKind, VerifyingKey, digest_of, format_scope, hint, parse_basic, parse_bearer,
    parse_scopes, token_kind,
};
use granary_oci::RepositoryName;
use proptest::{collection::vec, option, prelude::*};

static KEY: LazyLock<SigningKey> = LazyLock::new(|| SigningKey::generate().unwrap());

fn ring() -> KeyRing {
    KeyRing::new([VerifyingKey {
        kid: KEY.kid().to_owned(),
        public_key: KEY.public_key(),
        retires_at: None,
    }])
}

fn names() -> impl Strategy<Value = RepositoryName> {
    vec("[ab](-?[ab])?", 1..4).prop_map(|parts| parts.join("/").parse().unwrap())
}

fn verbs() -> impl Strategy<Value = TokenVerbs> {
    any::<[bool; 3]>().prop_map(|[pull, push, delete]| TokenVerbs { pull, push, delete })
}

fn claims() -> impl Strategy<Value = TokenClaims> {
    let who = option::of((any::<i64>(), any::<i64>()));
    let access = vec((names(), verbs()), 0..20);
    let times = (-1_000_000..1_000_000_i64, 1..10_000_i64);
    ("[ -~äß€]{0,20}", who, access, times).prop_map(|(text, who, access, times)| TokenClaims {
        issuer: text.clone(),
        subject: text.chars().rev().collect(),
        audience: text.to_uppercase(),
        principal: who.map(|(id, _)| PrincipalId(id)),
        credential: who.map(|(_, id)| CredentialId(id)),
        scopes: Scopes::unlimited(),
        access,
        issued_at: times.0,
        expires_at: times.0 + times.1,
        id: text,
    })
}

/// Texts that look like what is parsed, or like nothing.
fn texts() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<String>(),
        "grn_[trs]_[0-9A-Za-zé]{40,48}",
        "(Basic|bearer) [0-9A-Za-z+/=._~-]{0,40}",
        "[a-zA-Z0-9_-]{0,40}([.][a-zA-Z0-9_-]{0,40}){0,3}",
        "(repository|registry)([(]plugin[)])?(:[a-z0-9/.:]{0,10}){0,3}(:[a-z,*]{0,12})?",
    ]
}

proptest! {
    #[test]
    fn no_text_makes_a_parser_fail(text in texts()) {
        let _ = token_kind(&text);
        let _ = hint(&text);
        let _ = digest_of(&text);
        let _ = parse_basic(&text);
        let _ = parse_bearer(&text);
        let _ = PasswordSettings::default().check_new(&text, "alice");
        prop_assert!(parse_scopes(&text).len() <= 64);
        prop_assert!(ring().verify(&text, "", "", 0).is_err());
    }

    #[test]
    fn a_wrong_letter_in_a_token_shows(at in 0..50_usize, letter in "[0-9A-Za-z_]") {
        let token = Token::generate(TokenKind::Refresh).unwrap();
        let good = token.text().expose();
        let mut wrong = good.to_owned();
        wrong.replace_range(at..at + 1, &letter);
        let expected = (wrong == good).then_some(TokenKind::Refresh);
        prop_assert_eq!(token_kind(&wrong), expected);
    }

    #[test]
    fn signed_claims_come_back(claims in claims()) {
        let token = KEY.signer().sign(&claims).unwrap();
        let (issuer, audience) = (&claims.issuer, &claims.audience);
        let said = ring().verify(&token, issuer, audience, claims.issued_at);
        prop_assert_eq!(said.as_ref(), Ok(&claims));
        prop_assert!(ring().verify(&token, issuer, audience, claims.expires_at).is_err());
    }

    #[test]
    fn a_changed_token_is_refused(
        claims in claims(),
        at in any::<prop::sample::Index>(),
        letter in "[0-9A-Za-z_.-]",
    ) {
        let token = KEY.signer().sign(&claims).unwrap();
        let at = at.index(token.len());
        let mut changed = token.clone();
        changed.replace_range(at..at + 1, &letter);
        let said = ring().verify(&changed, &claims.issuer, &claims.audience, claims.issued_at);
        prop_assert_eq!(said.is_ok(), changed == token);
    }

    #[test]
    fn what_is_sealed_opens_for_its_id_alone(
        plain in vec(any::<u8>(), 0..200),
        kid in "[a-f0-9]{1,16}",
        bytes in any::<[u8; 32]>(),
    ) {
        let key = InstallationKey::from_bytes(bytes);
        let sealed = key.seal(&kid, &plain).unwrap();
        let opened = key.open(&kid, &sealed).unwrap();
        prop_assert_eq!(&*opened, &plain);
        // The macro would take braces in this for its own message.
        let other = key.open(&[kid.as_str(), "0"].concat(), &sealed);
        prop_assert!(other.is_err());
    }

    #[test]
    fn scopes_come_back(name in names(), verbs in verbs()) {
        let text = format_scope(&name, verbs);
        prop_assert_eq!(parse_scopes(&text), vec![RequestedScope::Repository { name, verbs }]);
    }

    #[test]
    fn basic_credentials_come_back(user in "[ -9;-~äß€]{0,20}", password in "[ -~äß€]{0,20}") {
        let header = format!("Basic {}", STANDARD.encode(format!("{user}:{password}")));
        let (read, secret) = parse_basic(&header).unwrap();
        prop_assert_eq!(read, user);
        prop_assert_eq!(secret.expose(), password);
    }
}
