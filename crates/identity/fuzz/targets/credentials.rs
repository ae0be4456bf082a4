//! What clients send without a signature: opaque tokens, the header `Authorization`, docker's scopes, and where a browser
//! is to go after a log-in.
#![no_main]

use std::collections::HashSet;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use granary_identity::{
    RequestedScope, Secret, TokenKind, digest_of, format_scope, hint,
    oidc::{IssuerUrl, ReturnTo, told},
    parse_basic, parse_bearer, parse_scopes, token_kind,
};
use libfuzzer_sys::fuzz_target;
use url::{Host, Url};

fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = str::from_utf8(bytes) else {
        return;
    };
    opaque(text);
    made(bytes);
    authorization(text);
    scopes(text);
    places(text);
});

/// Letters of a token's prefix, random ones, and those of its checksum.
const PREFIX: usize = 6;
const RANDOM: usize = 38;
const CHECK: usize = 6;
const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
const PREFIXES: [(&str, TokenKind); 3] = [
    ("grn_t_", TokenKind::Api),
    ("grn_r_", TokenKind::Refresh),
    ("grn_s_", TokenKind::Session),
];

/// A text is a token if it has the form of one and its sum is right, and not otherwise.
fn opaque(text: &str) {
    let kind = PREFIXES.iter().find(|(prefix, _)| text.starts_with(prefix));
    let is_long = text.len() == PREFIX + RANDOM + CHECK;
    let has_letters = text
        .bytes()
        .skip(PREFIX)
        .all(|byte| ALPHABET.contains(&byte));
    let is_token =
        is_long && has_letters && text[PREFIX + RANDOM..] == sum(&text[..PREFIX + RANDOM]);
    let expected = kind.filter(|_| is_token).map(|(_, kind)| *kind);
    assert_eq!(token_kind(text), expected);
    assert!(text.ends_with(hint(text)) && hint(text).len() <= 4);
}

/// A token from the letters that the input chooses, and the same with one of them changed.
fn made(bytes: &[u8]) {
    let [kind, at, letter, rest @ ..] = bytes else {
        return;
    };
    let (prefix, kind) = PREFIXES[usize::from(kind % 3)];
    let pick = |byte: u8| char::from(ALPHABET[usize::from(byte % 62)]);
    let letters = rest.iter().copied().chain([0].into_iter().cycle());
    let mut token: String = prefix
        .chars()
        .chain(letters.take(RANDOM).map(pick))
        .collect();
    token.push_str(&sum(&token));
    assert_eq!(token_kind(&token), Some(kind));
    let mut changed = token.clone();
    let at = usize::from(*at) % token.len();
    changed.replace_range(at..=at, &pick(*letter).to_string());
    let is_same = changed == token;
    assert_eq!(token_kind(&changed), is_same.then_some(kind), "{changed}");
    assert_eq!(digest_of(&changed) == digest_of(&token), is_same);
}

/// CRC-32 as its definition has it, bit by bit, in letters.
fn sum(text: &str) -> String {
    let crc = !text.bytes().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| {
            crc >> 1 ^ if crc & 1 == 1 { 0xEDB8_8320 } else { 0 }
        })
    });
    let place = |place| char::from(ALPHABET[(crc / 62_u32.pow(place) % 62) as usize]);
    (0..CHECK as u32).rev().map(place).collect()
}

/// What a header holds is what was written into it, and never something of another scheme.
fn authorization(text: &str) {
    let (basic, bearer) = (parse_basic(text), parse_bearer(text));
    assert!(basic.is_none() || bearer.is_none());
    let scheme = text.split(' ').next().unwrap_or_default();
    if let Some((user, password)) = &basic {
        assert!(scheme.eq_ignore_ascii_case("basic") && text.len() <= 16 * 1024);
        assert!(!user.contains(':'));
        let plain = format!("{user}:{}", password.expose());
        assert!(!plain.contains(char::is_control));
        // However long its padding was, it is the same text in base64.
        let letters = text[scheme.len()..].trim_matches(' ').trim_end_matches('=');
        assert_eq!(STANDARD.encode(&plain).trim_end_matches('='), letters);
    }
    if let Some(token) = &bearer {
        assert!(scheme.eq_ignore_ascii_case("bearer") && text.len() <= 16 * 1024);
        assert_eq!(text[scheme.len()..].trim_matches(' '), token.expose());
        assert!(token.expose().bytes().all(|byte| byte.is_ascii_graphic()));
        let again = parse_bearer(&format!("Bearer {}", token.expose()));
        assert_eq!(again.as_ref().map(Secret::expose), Some(token.expose()));
    }
    let header = format!("Basic {}", STANDARD.encode(text));
    let is_short = header.len() <= 16 * 1024;
    let expected = text
        .split_once(':')
        .filter(|_| is_short && !text.contains(char::is_control));
    let read = parse_basic(&header);
    let read = read
        .as_ref()
        .map(|(user, password)| (user.as_str(), password.expose()));
    assert_eq!(read, expected);
}

/// A scope asks for nothing that does not stand there, and its own text asks for the same.
fn scopes(text: &str) {
    let scopes = parse_scopes(text);
    assert!(scopes.len() <= 64);
    let mut names = HashSet::new();
    let mut again = Vec::new();
    for scope in &scopes {
        let RequestedScope::Repository { name, verbs } = scope else {
            continue;
        };
        assert!(names.insert(name), "{name} stands there twice");
        assert!(text.contains(&format!(":{name}:")));
        let may_all = text.contains('*');
        for (action, is_asked) in [
            ("pull", verbs.pull),
            ("push", verbs.push),
            ("delete", verbs.delete),
        ] {
            assert!(!is_asked || may_all || text.contains(action), "{action}");
        }
        let scope_text = format_scope(name, *verbs);
        assert_eq!(parse_scopes(&scope_text), [scope.clone()]);
        again.push(scope_text);
    }
    let mut known = scopes.clone();
    known.retain(|scope| *scope != RequestedScope::Other);
    assert_eq!(parse_scopes(&again.join(" ")), known);
}

/// No text leads a browser or a request of ours elsewhere.
fn places(text: &str) {
    let home = Url::parse("https://registry.example.org/auth/callback").expect("it is a URL");
    if let Ok(path) = text.parse::<ReturnTo>() {
        assert_eq!(path.as_str(), text);
        let followed = home.join(text).expect("a browser finds it");
        assert_eq!(followed.origin(), home.origin(), "{text}");
    }
    if let Ok(issuer) = text.parse::<IssuerUrl>() {
        assert_eq!(issuer.to_string(), text);
        let url = issuer.discovery_url();
        assert!(url.path().ends_with("/.well-known/openid-configuration") && url.query().is_none());
        assert_eq!(url.scheme() == "http", issuer.is_plain());
        let mut host = url.host_str().unwrap_or_default().to_owned();
        if let Some(port) = url.port() {
            host = format!("{host}:{port}");
        }
        assert_eq!(host, issuer.host());
        let again = Url::parse(url.as_str()).expect("what is asked for is a URL");
        assert_eq!(again, url);
    }
    let issuer: IssuerUrl = "https://login.example.org".parse().expect("it is a URL");
    if let Ok(url) = issuer.endpoint(text) {
        assert!(url.scheme() == "https" && url.username().is_empty() && url.password().is_none());
        match url.host() {
            Some(Host::Ipv4(address)) => assert!(!address.is_loopback() && !address.is_private()),
            Some(Host::Ipv6(address)) => assert!(!address.to_canonical().is_loopback()),
            host => assert!(host.is_some_and(|host| host != Host::Domain("localhost"))),
        }
    }
    let shown = told(text);
    assert!(shown.chars().count() <= 200 && !shown.contains(char::is_control));
    assert_eq!(told(&shown), shown);
}
