//! Tokens of others: identity tokens of providers (OpenID Connect Core 1.0, section 3.1.3.7) and of CI systems.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Map, Value};
use subtle::ConstantTimeEq as _;

use super::foreign_keys::{ForeignKeys, MOST_KID, Selected, algorithm};

/// Most bytes of a token. Those of people in many groups are long.
const MOST_BYTES: usize = 16 * 1024;
/// Most bytes of a header's JSON.
const MOST_HEADER: usize = 2048;
/// Most bytes of an issuer that a token names.
const MOST_ISSUER: usize = 2048;
/// Most bytes of a subject.
const MOST_SUBJECT: usize = 255;
/// Most bytes of a token's id.
const MOST_TOKEN_ID: usize = 1024;
/// How deep claims may be nested.
const MOST_DEPTH: usize = 16;
/// Most parts of a claim's name that dots separate.
const MOST_STEPS: usize = 8;
/// Most seconds that clocks may differ, whatever is asked for.
const MOST_LEEWAY: i64 = 300;
/// Members of a header that would bring or choose a key, or change what is to be read.
const REFUSED_MEMBERS: [&str; 8] = ["jwk", "jku", "x5c", "x5u", "crit", "b64", "zip", "enc"];

/// What a token must say.
#[derive(Clone, Copy, Debug)]
pub struct Expected<'a> {
    /// `iss`, exactly.
    pub issuer: &'a str,
    /// One of these must be in `aud`: our client's id, or the name of this service.
    pub audiences: &'a [String],
    /// What a log-in began with; nothing for tokens that no log-in asked for.
    pub nonce: Option<&'a str>,
    /// The time, in seconds since 1970.
    pub now: i64,
    /// How many seconds clocks may differ, at most 300.
    pub leeway: i64,
}

/// Why a token is not believed, for logs. Clients learn only that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum ForeignRefused {
    /// It is longer than 16 KiB.
    #[error("the token is longer than 16 KiB")]
    TooLong,
    /// It does not have exactly two dots.
    #[error("the token does not have three parts")]
    Parts,
    /// Its header is no JSON object of at most 2 KiB, or `kid` or `typ` is not what it should be.
    #[error("the token's header is not that of a JWT")]
    Header,
    /// Its header has a `jwk`, `jku`, `x5c`, `x5u`, `crit`, `b64`, `zip` or `enc`.
    #[error("the token's header brings a key, or asks for more than is understood")]
    HeaderMember,
    /// `alg` is none of RS256, RS384, RS512, PS256, ES256, ES384 and EdDSA.
    #[error("the token is signed by an algorithm that is not believed")]
    Algorithm,
    /// No key has this `kid` and algorithm. It may be new: read the issuer's keys again, then once more.
    #[error("the token is signed by a key that its issuer does not publish")]
    UnknownKey,
    /// Several keys fit what the header names.
    #[error("the token does not say which of several keys signed it")]
    AmbiguousKey,
    /// The signature is not that of the key.
    #[error("the token's signature is wrong")]
    Signature,
    /// The payload is no JSON object, is nested deeper than 16, or a claim is not of its type.
    #[error("the token's claims are not those of an identity token")]
    Claims,
    /// `iss` is somebody else.
    #[error("the token is of another issuer")]
    Issuer,
    /// `aud` names others only.
    #[error("the token is for another audience")]
    Audience,
    /// `azp` is another client, or is missing where there are several audiences.
    #[error("the token was given to another client")]
    AuthorizedParty,
    /// There is no `exp`.
    #[error("the token does not say when it ends")]
    NoExpiry,
    /// `exp` has come.
    #[error("the token has expired")]
    Expired,
    /// `nbf` or `iat` is still to come.
    #[error("the token is not valid yet: compare the clocks of both sides")]
    NotYetValid,
    /// `nonce` is not that of the log-in.
    #[error("the token is of another log-in")]
    Nonce,
    /// `sub` is missing, empty, longer than 255 bytes, or has control characters.
    #[error("the token does not say whom it is about")]
    Subject,
}

/// What a token of another issuer says, whose signature, issuer, audience and times were found right.
#[derive(Clone, Debug, PartialEq)]
pub struct ForeignClaims {
    /// `iss`.
    pub issuer: String,
    /// `sub`: with the issuer it says who this is.
    pub subject: String,
    /// `exp`, in seconds since 1970.
    pub expires_at: i64,
    /// `jti`, by which a second use is noticed.
    pub token_id: Option<String>,
    /// All claims.
    pub claims: Map<String, Value>,
}

impl ForeignClaims {
    /// The claim of this name; see [`find`].
    pub fn claim(&self, name: &str) -> Option<&Value> {
        find(&self.claims, name)
    }

    /// The text of a claim.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.claim(name)?.as_str()
    }

    /// The texts of a claim that is a list of them, or one; nothing if it is missing or something else.
    pub fn list(&self, name: &str) -> Option<Vec<&str>> {
        texts(self.claim(name)?)
    }
}

/// The claim of a name, in which dots lead into objects: `realm_access.roles`. Names that have dots themselves
/// (`kubernetes.io`, `https://example.org/groups`) are found too: the whole is tried first, then what is before each dot.
pub(super) fn find<'a>(claims: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    find_within(claims, name, MOST_STEPS)
}

fn find_within<'a>(claims: &'a Map<String, Value>, name: &str, steps: usize) -> Option<&'a Value> {
    if let Some(found) = claims.get(name) {
        return Some(found);
    }
    let steps = steps.checked_sub(1)?;
    name.match_indices('.').find_map(|(at, _)| {
        let inner = claims.get(&name[..at])?.as_object()?;
        find_within(inner, &name[at + 1..], steps)
    })
}

/// The texts of a list, or the one that stands by itself.
pub(super) fn texts(value: &Value) -> Option<Vec<&str>> {
    match value {
        Value::String(text) => Some(vec![text]),
        Value::Array(values) => values.iter().map(Value::as_str).collect(),
        _ => None,
    }
}

impl ForeignKeys {
    /// What `token` says, if one of these keys signed it and it says what is expected.
    pub fn verify(
        &self,
        token: &str,
        expected: &Expected<'_>,
    ) -> Result<ForeignClaims, ForeignRefused> {
        if token.len() > MOST_BYTES {
            return Err(ForeignRefused::TooLong);
        }
        let (message, signature) = token.rsplit_once('.').ok_or(ForeignRefused::Parts)?;
        let (header, payload) = message
            .split_once('.')
            .filter(|(_, payload)| !payload.contains('.'))
            .ok_or(ForeignRefused::Parts)?;
        self.verify_signature(header, message, signature)?;
        let claims = object(payload)
            .filter(|claims| {
                claims
                    .values()
                    .all(|claim| is_shallow(claim, MOST_DEPTH - 1))
            })
            .ok_or(ForeignRefused::Claims)?;
        check(claims, expected)
    }

    fn verify_signature(
        &self,
        header: &str,
        message: &str,
        signature: &str,
    ) -> Result<(), ForeignRefused> {
        // Base64 has four letters for three bytes.
        let header = match header.len() > MOST_HEADER / 3 * 4 {
            true => None,
            false => object(header),
        };
        let header = header.ok_or(ForeignRefused::Header)?;
        if REFUSED_MEMBERS
            .iter()
            .any(|member| header.contains_key(*member))
        {
            return Err(ForeignRefused::HeaderMember);
        }
        // Tokens for other uses (RFC 8725, section 3.11), such as `at+jwt` and `logout+jwt`, prove no log-in.
        let is_jwt = |typ: &str| typ.eq_ignore_ascii_case("JWT");
        if header
            .get("typ")
            .is_some_and(|typ| !typ.as_str().is_some_and(is_jwt))
        {
            return Err(ForeignRefused::Header);
        }
        let kid = match header.get("kid") {
            None => None,
            Some(Value::String(kid)) if kid.len() <= MOST_KID => Some(kid.as_str()),
            Some(_) => return Err(ForeignRefused::Header),
        };
        let algorithm = header
            .get("alg")
            .and_then(Value::as_str)
            .and_then(algorithm)
            .ok_or(ForeignRefused::Algorithm)?;
        let key = match self.select(kid, algorithm) {
            Selected::One(key) => key,
            Selected::Unknown => return Err(ForeignRefused::UnknownKey),
            Selected::Several => return Err(ForeignRefused::AmbiguousKey),
        };
        let verified = jsonwebtoken::crypto::verify(signature, message.as_bytes(), key, algorithm);
        match verified {
            Ok(true) => Ok(()),
            _ => Err(ForeignRefused::Signature),
        }
    }
}

/// The issuer that a token names. Nobody has verified it: it only says whose keys to try. No issuer has control characters,
/// and a database may refuse to look for one.
pub fn named_issuer(token: &str) -> Option<String> {
    if token.len() > MOST_BYTES || !token.starts_with("ey") {
        return None;
    }
    let mut parts = token.split('.');
    let (_, payload, _) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() {
        return None;
    }
    let issuer = object(payload)?.remove("iss")?;
    let issuer = issuer
        .as_str()
        .filter(|issuer| issuer.len() <= MOST_ISSUER)
        .filter(|issuer| !issuer.contains(char::is_control))?;
    Some(issuer.to_owned())
}

/// The object that a part of a token holds. The parser goes 128 deep at most.
fn object(part: &str) -> Option<Map<String, Value>> {
    let bytes = URL_SAFE_NO_PAD.decode(part).ok()?;
    serde_json::from_slice(&bytes).ok()
}

/// Whether `value` is nested at most `depth` deep.
fn is_shallow(value: &Value, depth: usize) -> bool {
    let inner = |value: &Value| depth > 0 && is_shallow(value, depth - 1);
    match value {
        Value::Array(values) => values.iter().all(inner),
        Value::Object(members) => members.values().all(inner),
        _ => true,
    }
}

fn check(
    claims: Map<String, Value>,
    expected: &Expected<'_>,
) -> Result<ForeignClaims, ForeignRefused> {
    if claims.get("iss").and_then(Value::as_str) != Some(expected.issuer) {
        return Err(ForeignRefused::Issuer);
    }
    check_audience(&claims, expected)?;
    let expires_at = check_times(&claims, expected)?;
    check_nonce(&claims, expected)?;
    let subject = claims
        .get("sub")
        .and_then(Value::as_str)
        .filter(|subject| (1..=MOST_SUBJECT).contains(&subject.len()))
        .filter(|subject| !subject.contains(char::is_control))
        .ok_or(ForeignRefused::Subject)?;
    let token_id = match claims.get("jti") {
        None => None,
        Some(Value::String(id)) if (1..=MOST_TOKEN_ID).contains(&id.len()) => Some(id.clone()),
        Some(_) => return Err(ForeignRefused::Claims),
    };
    Ok(ForeignClaims {
        issuer: expected.issuer.to_owned(),
        subject: subject.to_owned(),
        expires_at,
        token_id,
        claims,
    })
}

/// A token of a log-in that has several audiences must have been given to us. In tokens of CI systems `azp` means
/// something else, and those of Kubernetes have several audiences without one, so there it counts only beside several.
fn check_audience(
    claims: &Map<String, Value>,
    expected: &Expected<'_>,
) -> Result<(), ForeignRefused> {
    let ours = |name: &str| expected.audiences.iter().any(|audience| audience == name);
    let audiences = claims
        .get("aud")
        .and_then(texts)
        .ok_or(ForeignRefused::Audience)?;
    if !audiences.iter().any(|audience| ours(audience)) {
        return Err(ForeignRefused::Audience);
    }
    let (is_login, has_several) = (expected.nonce.is_some(), audiences.len() > 1);
    let is_right = match claims.get("azp") {
        None => !(is_login && has_several),
        Some(party) if is_login || has_several => party.as_str().is_some_and(ours),
        Some(_) => true,
    };
    match is_right {
        true => Ok(()),
        false => Err(ForeignRefused::AuthorizedParty),
    }
}

/// Looks at `exp`, `nbf` and `iat`, and gives the first.
fn check_times(
    claims: &Map<String, Value>,
    expected: &Expected<'_>,
) -> Result<i64, ForeignRefused> {
    let leeway = expected.leeway.clamp(0, MOST_LEEWAY);
    let expires_at = time(claims, "exp")?.ok_or(ForeignRefused::NoExpiry)?;
    if expires_at.saturating_add(leeway) <= expected.now {
        return Err(ForeignRefused::Expired);
    }
    for claim in ["nbf", "iat"] {
        let from = time(claims, claim)?.unwrap_or(i64::MIN);
        if from > expected.now.saturating_add(leeway) {
            return Err(ForeignRefused::NotYetValid);
        }
    }
    Ok(expires_at)
}

/// A time in seconds since 1970, which may have a fraction (RFC 7519, section 2).
fn time(claims: &Map<String, Value>, name: &str) -> Result<Option<i64>, ForeignRefused> {
    let Some(value) = claims.get(name) else {
        return Ok(None);
    };
    if let Some(seconds) = value.as_i64() {
        return Ok(Some(seconds));
    }
    // Up to here every whole number is one of 64 bits' fractions too.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    match value.as_f64() {
        Some(seconds) if seconds.abs() < EXACT => Ok(Some(seconds.floor() as i64)),
        _ => Err(ForeignRefused::Claims),
    }
}

fn check_nonce(claims: &Map<String, Value>, expected: &Expected<'_>) -> Result<(), ForeignRefused> {
    let Some(nonce) = expected.nonce else {
        return Ok(());
    };
    let said = claims.get("nonce").and_then(Value::as_str).unwrap_or("");
    let is_same = bool::from(said.as_bytes().ct_eq(nonce.as_bytes()));
    match is_same && !nonce.is_empty() {
        true => Ok(()),
        false => Err(ForeignRefused::Nonce),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn claims_are_found_by_their_path() {
        let claims = json!({
            "groups": ["a", "b"],
            "realm_access": {"roles": ["r"]},
            "kubernetes.io": {"namespace": "n", "serviceaccount": {"name": "s"}},
            "https://example.org/groups": "g",
            "mixed": ["a", 1],
            "a": {"b.c": {"d": "deep"}},
            "empty": [],
        });
        let claims = ForeignClaims {
            issuer: String::new(),
            subject: String::new(),
            expires_at: 0,
            token_id: None,
            claims: claims.as_object().unwrap().clone(),
        };
        assert_eq!(claims.list("groups"), Some(vec!["a", "b"]));
        assert_eq!(claims.list("realm_access.roles"), Some(vec!["r"]));
        assert_eq!(claims.text("kubernetes.io.namespace"), Some("n"));
        assert_eq!(claims.text("kubernetes.io.serviceaccount.name"), Some("s"));
        assert_eq!(claims.list("https://example.org/groups"), Some(vec!["g"]));
        assert_eq!(claims.text("a.b.c.d"), Some("deep"));
        assert_eq!(claims.list("empty"), Some(Vec::new()));
        for missing in [
            "",
            ".",
            "groups.0",
            "realm_access",
            "mixed",
            "a.b",
            "x.y",
            &".".repeat(10_000),
        ] {
            assert_eq!(claims.list(missing), None, "{missing}");
        }
    }

    #[test]
    fn a_token_names_its_issuer_before_it_is_verified() {
        let token = |payload: &str| format!("ey.{}.s", URL_SAFE_NO_PAD.encode(payload));
        let named = named_issuer(&token(r#"{"iss": "https://i.example", "sub": 1}"#));
        assert_eq!(named.as_deref(), Some("https://i.example"));
        let long = format!(r#"{{"iss": "{}"}}"#, "i".repeat(MOST_ISSUER + 1));
        for nothing in [
            String::new(),
            "ey..".to_owned(),
            "ey.e30.s.t".to_owned(),
            "ey.e30".to_owned(),
            format!("x{}", token(r#"{"iss": "i"}"#)),
            token("{}"),
            token(r#"{"iss": 7}"#),
            token(r#"{"iss": "https://i.example\u0000"}"#),
            token(r#"["iss"]"#),
            token(&long),
            token(&format!(
                r#"{{"iss": "i", "a": "{}"}}"#,
                "a".repeat(MOST_BYTES)
            )),
        ] {
            assert_eq!(named_issuer(&nothing), None);
        }
    }

    #[test]
    fn times_may_have_fractions() {
        let claims = json!({"a": 5, "b": 5.9, "c": -1.5, "d": 1e300, "e": "5", "f": null});
        let claims = claims.as_object().unwrap();
        assert_eq!(time(claims, "a"), Ok(Some(5)));
        assert_eq!(time(claims, "b"), Ok(Some(5)));
        assert_eq!(time(claims, "c"), Ok(Some(-2)));
        for bad in ["d", "e", "f"] {
            assert_eq!(time(claims, bad), Err(ForeignRefused::Claims), "{bad}");
        }
        assert_eq!(time(claims, "none"), Ok(None));
    }
}
