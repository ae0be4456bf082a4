//! What shows that a request of a browser comes from a page of ours: other sites can have the cookie sent, and cannot read this.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::hmac;
use subtle::ConstantTimeEq as _;

use crate::Secret;

/// What the token of a session is made from beside the session's secret.
const PURPOSE: &[u8] = b"granary csrf 1";

/// The token of a session: HMAC-SHA256 under the session's secret, so that nothing has to be kept and every replica knows it.
pub fn csrf_token(session: &Secret) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, session.expose().as_bytes());
    URL_SAFE_NO_PAD.encode(hmac::sign(&key, PURPOSE))
}

/// Whether `shown` is the token of that session.
pub fn is_csrf_token(session: &Secret, shown: &[u8]) -> bool {
    csrf_token(session).as_bytes().ct_eq(shown).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_session_has_its_own() {
        let session = |text: &str| Secret::from(text.to_owned());
        let token = csrf_token(&session("grn_s_a"));
        assert_eq!(token.len(), 43);
        assert!(is_csrf_token(&session("grn_s_a"), token.as_bytes()));
        assert!(!is_csrf_token(&session("grn_s_b"), token.as_bytes()));
        assert!(!is_csrf_token(&session("grn_s_a"), &token.as_bytes()[1..]));
        assert!(!is_csrf_token(&session("grn_s_a"), b""));
    }
}
