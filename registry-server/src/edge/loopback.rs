//! Whether a request to a loopback address really comes from this machine's user.
//!
//! A reverse proxy on the same machine, or a web page whose name was made to point at 127.0.0.1,
//! also reaches that address. The first leaves forwarding headers, the second its name in `Host`.

use std::net::{Ipv4Addr, Ipv6Addr};

use actix_http::RequestHead;
use actix_web::http::header::{FORWARDED, HOST, HeaderName};

/// What in the request says that it came from elsewhere.
pub(super) fn sign_of_elsewhere(head: &RequestHead) -> Option<&'static str> {
    if head
        .uri
        .authority()
        .is_some_and(|authority| !is_loopback(authority.as_str()))
    {
        return Some("the host is not a loopback address");
    }
    for (name, value) in &head.headers {
        if *name == HOST && !value.to_str().is_ok_and(is_loopback) {
            return Some("the host is not a loopback address");
        }
        if is_forwarding(name) {
            return Some("the request came through a proxy");
        }
    }
    None
}

fn is_forwarding(name: &HeaderName) -> bool {
    *name == FORWARDED || name.as_str().starts_with("x-forwarded-") || name.as_str() == "x-real-ip"
}

/// Whether a host, with or without a port, can only mean this machine.
fn is_loopback(host: &str) -> bool {
    if let Some(rest) = host.strip_prefix('[') {
        let Some((address, port)) = rest.split_once(']') else {
            return false;
        };
        let ends = port.is_empty() || port.strip_prefix(':').is_some_and(is_port);
        return ends
            && address
                .parse::<Ipv6Addr>()
                .is_ok_and(|ip| ip.to_canonical().is_loopback());
    }
    let name = match host.split_once(':') {
        Some((name, port)) if is_port(port) => name,
        Some(_) => return false,
        None => host,
    };
    let name = name.strip_suffix('.').unwrap_or(name);
    let is_name = |end: &str| {
        name.len() >= end.len()
            && name.as_bytes()[name.len() - end.len()..].eq_ignore_ascii_case(end.as_bytes())
    };
    name.eq_ignore_ascii_case("localhost")
        || is_name(".localhost")
        || name.parse::<Ipv4Addr>().is_ok_and(|ip| ip.is_loopback())
}

fn is_port(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_this_machine_are_loopback() {
        for host in [
            "localhost",
            "LocalHost:5000",
            "localhost.",
            "registry.localhost:80",
            "127.0.0.1",
            "127.8.9.1:5000",
            "[::1]",
            "[::1]:5000",
            "[::ffff:127.0.0.1]:1",
        ] {
            assert!(is_loopback(host), "{host}");
        }
        for host in [
            "",
            "example.org",
            "localhost.example.org",
            "notlocalhost",
            "127.0.0.1.nip.io",
            "10.0.0.1:5000",
            "::1",
            "[::2]:5000",
            "[::1",
            "[::1]x",
            "user@localhost",
            "localhost:5000@example.org",
            "localhost:5000:1",
            "0.0.0.0",
        ] {
            assert!(!is_loopback(host), "{host}");
        }
    }
}
