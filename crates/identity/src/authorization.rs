//! The header `Authorization`.

use base64::{
    Engine as _, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use zeroize::Zeroizing;

use crate::Secret;

/// Most bytes of the header.
const MOST_BYTES: usize = 16 * 1024;

/// Some clients leave the padding out.
const EITHER: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// The user and the password of `Basic` credentials (RFC 7617), either of which may be empty; `None` if `header` has no
/// such, or not in UTF-8, or with control characters, or is longer than 16 KiB.
pub fn parse_basic(header: &str) -> Option<(String, Secret)> {
    let encoded = after_scheme(header, "basic")?;
    let decoded = Zeroizing::new(EITHER.decode(encoded).ok()?);
    let text = str::from_utf8(&decoded).ok()?;
    if text.chars().any(char::is_control) {
        return None;
    }
    let (user, password) = text.split_once(':')?;
    Some((user.to_owned(), Secret::from(password.to_owned())))
}

/// The token of `Bearer` credentials (RFC 6750, section 2.1); `None` if `header` has no such or is longer than 16 KiB.
pub fn parse_bearer(header: &str) -> Option<Secret> {
    let token = after_scheme(header, "bearer")?;
    let letters = token.trim_end_matches('=');
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+/".contains(&byte);
    let is_token = !letters.is_empty() && letters.bytes().all(fits);
    is_token.then(|| Secret::from(token.to_owned()))
}

/// What follows the scheme, whose case does not count.
fn after_scheme<'a>(header: &'a str, scheme: &str) -> Option<&'a str> {
    if header.len() > MOST_BYTES {
        return None;
    }
    let (named, rest) = header.split_once(' ')?;
    let rest = rest.trim_matches(' ');
    named.eq_ignore_ascii_case(scheme).then_some(rest)
}

#[cfg(test)]
mod tests {
    use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};

    use super::*;

    fn basic(header: &str) -> Option<(String, String)> {
        parse_basic(header).map(|(user, password)| (user, password.expose().to_owned()))
    }

    fn of(user: &str, password: &str) -> Option<(String, String)> {
        Some((user.to_owned(), password.to_owned()))
    }

    #[test]
    fn user_and_password_are_read() {
        // The examples of RFC 7617.
        let aladdin = of("Aladdin", "open sesame");
        assert_eq!(basic("Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="), aladdin);
        assert_eq!(basic("Basic dGVzdDoxMjPCow=="), of("test", "123£"));
        assert_eq!(basic("bASIC   QWxhZGRpbjpvcGVuIHNlc2FtZQ "), aladdin);
        for (text, user, password) in [
            ("a:b", "a", "b"),
            ("a:b:c", "a", "b:c"),
            (":b", "", "b"),
            ("a:", "a", ""),
            (":", "", ""),
            ("ä:ö ü", "ä", "ö ü"),
        ] {
            for encoded in [STANDARD.encode(text), STANDARD_NO_PAD.encode(text)] {
                let header = format!("Basic {encoded}");
                assert_eq!(basic(&header), of(user, password), "{text}");
            }
        }
    }

    #[test]
    fn what_is_no_basic_is_nothing() {
        let no_colon = format!("Basic {}", STANDARD.encode("alice"));
        let control = format!("Basic {}", STANDARD.encode("alice:a\nb"));
        let null = format!("Basic {}", STANDARD.encode("ali\0ce:ab"));
        let latin = format!("Basic {}", STANDARD.encode(b"alice:\xfc"));
        let long = format!("Basic {}", STANDARD.encode("a:b".repeat(4096)));
        for header in [
            "",
            "Basic",
            "Basic ",
            "Basic =",
            "Basic Zm9v!",
            "BasicQWxhZGRpbjpvcGVuIHNlc2FtZQ==",
            "Bearer QWxhZGRpbjpvcGVuIHNlc2FtZQ==",
            "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==, Basic QTpi",
            "Basic\tQWxhZGRpbjpvcGVuIHNlc2FtZQ==",
            "Basic dGVzdDoxMj-_",
            &no_colon,
            &control,
            &null,
            &latin,
            &long,
        ] {
            assert_eq!(basic(header), None, "{header}");
        }
    }

    #[test]
    fn bearers_are_read() {
        for (header, token) in [
            ("Bearer mF_9.B5f-4.1JqM", Some("mF_9.B5f-4.1JqM")),
            ("bearer  a~b+c/d== ", Some("a~b+c/d==")),
            ("Bearer", None),
            ("Bearer ", None),
            ("Bearer ==", None),
            ("Bearer a b", None),
            ("Bearer a=b", None),
            ("Bearer a,b", None),
            ("Bearer ä", None),
            ("Bearer a\n", None),
            ("Basic QTpi", None),
        ] {
            let read = parse_bearer(header);
            assert_eq!(read.as_ref().map(Secret::expose), token, "{header}");
        }
        let long = "a".repeat(MOST_BYTES);
        assert!(parse_bearer(&format!("Bearer {long}")).is_none());
    }
}
