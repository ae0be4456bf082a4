//! The cookies of browsers that log in. Their prefix makes browsers keep them for this host alone, over TLS (RFC 6265bis).

use std::time::Duration;

use actix_web::{
    HttpRequest, HttpResponse,
    http::header::{COOKIE, HeaderValue, SET_COOKIE},
};
use granary_identity::Secret;

/// The cookie of a session.
pub(crate) const SESSION: &str = "__Host-granary";
/// The cookie that binds a log-in to the browser that began it.
pub(crate) const LOGIN: &str = "__Host-granary-login";

/// The value of a cookie that is there once: of two, nobody knows which one is meant.
pub(crate) fn get(request: &HttpRequest, name: &str) -> Option<Secret> {
    let headers = request.headers().get_all(COOKIE);
    let mut found = headers
        .filter_map(|header| header.to_str().ok())
        .flat_map(|header| header.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .filter(|(known, _)| *known == name)
        .map(|(_, value)| value);
    match (found.next(), found.next()) {
        (Some(value), None) => Some(Secret::from(value.to_owned())),
        _ => None,
    }
}

/// Has a browser keep a cookie that no script reads and no other site's form sends.
pub(crate) fn set(answer: &mut HttpResponse, name: &str, value: &Secret, lifetime: Duration) {
    write(answer, name, value.expose(), lifetime.as_secs());
}

/// Has a browser forget a cookie.
pub(crate) fn remove(answer: &mut HttpResponse, name: &str) {
    write(answer, name, "", 0);
}

fn write(answer: &mut HttpResponse, name: &str, value: &str, seconds: u64) {
    let text = format!("{name}={value}; Path=/; Max-Age={seconds}; Secure; HttpOnly; SameSite=Lax");
    // What is written here is plain ASCII, so it is one.
    if let Ok(mut header) = HeaderValue::try_from(text) {
        header.set_sensitive(true);
        answer.headers_mut().append(SET_COOKIE, header);
    }
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    #[test]
    fn a_cookie_is_there_once_or_not_at_all() {
        for (headers, expected) in [
            (vec![], None),
            (vec!["__Host-granary=a"], Some("a")),
            (vec!["x=1; __Host-granary=a; y=2"], Some("a")),
            (vec!["x=1", "__Host-granary=a"], Some("a")),
            (vec!["__Host-granary-login=b; __host-granary=c"], None),
            (vec!["__Host-granary=a; __Host-granary=b"], None),
            (vec!["__Host-granary=a", "__Host-granary=a"], None),
        ] {
            let mut request = TestRequest::get();
            for header in &headers {
                request = request.append_header((COOKIE, *header));
            }
            let found = get(&request.to_http_request(), SESSION);
            let found = found.as_ref().map(Secret::expose);
            assert_eq!(found, expected, "{headers:?}");
        }
    }
}
