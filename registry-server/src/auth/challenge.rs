//! `WWW-Authenticate`: where to get a token, and for what (distribution's token specification; RFC 6750 section 3).

use std::{net::IpAddr, sync::Arc};

use actix_web::{
    HttpRequest,
    http::header::{HOST, HeaderName, HeaderValue},
};

use granary_registry::Origin;

use crate::{
    config::{AddressBlock, PublicUrl},
    edge,
};

const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// Where this server is for its clients.
#[derive(Clone, Debug)]
pub struct Place {
    /// The origin that clients use, if the operator said it.
    pub public_url: Option<PublicUrl>,
    /// Whether clients speak TLS with this process.
    pub is_tls: bool,
    /// Peers whose `X-Forwarded-Proto` is believed.
    pub trusted_proxies: Vec<AddressBlock>,
    /// The name of the registry in its tokens.
    pub service: String,
}

/// What was wrong with the credentials that were shown (RFC 6750 section 3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Problem {
    /// None were shown, or not as a token.
    None,
    /// The token is wrong, or no longer good.
    InvalidToken,
    /// Another token of the same principal would do.
    InsufficientScope,
}

/// A challenge, without where it leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Challenge {
    /// What a token has to be for, a list with spaces; nothing for the API itself.
    pub(crate) scope: String,
    /// What was wrong.
    pub(crate) problem: Problem,
}

impl Place {
    /// The address of the client, as far as it can be believed.
    pub(crate) fn client(&self, request: &HttpRequest) -> Option<IpAddr> {
        edge::client(
            request.peer_addr(),
            request.headers(),
            &self.trusted_proxies,
        )
    }

    /// Where a request comes from, for what is decided and noted about it.
    pub(crate) fn origin_of(&self, request: &HttpRequest) -> Origin {
        let name = edge::current_request_id();
        Origin {
            address: self.client(request),
            request: name.map_or_else(Arc::default, |name| name.as_str().into()),
        }
    }

    /// The origin under which `request` found this server.
    ///
    /// A client may only send credentials where it asked anyway, so without a public URL it is the request's own `Host`.
    pub(crate) fn origin(&self, request: &HttpRequest) -> String {
        if let Some(public_url) = &self.public_url {
            return public_url.as_str().to_owned();
        }
        let peer = request.peer_addr().map(|peer| peer.ip());
        let is_proxy = peer.is_some_and(|peer| {
            self.trusted_proxies
                .iter()
                .any(|block| block.contains(peer))
        });
        let forwarded = request
            .headers()
            .get(FORWARDED_PROTO)
            .filter(|_| is_proxy)
            .is_some_and(|proto| proto.as_bytes().eq_ignore_ascii_case(b"https"));
        let scheme = match self.is_tls || forwarded {
            true => "https",
            false => "http",
        };
        let host = request
            .headers()
            .get(HOST)
            .and_then(|host| host.to_str().ok());
        let authority = request
            .uri()
            .authority()
            .map(|authority| authority.as_str());
        let host = host.or(authority).filter(|host| is_host(host));
        format!("{scheme}://{}", host.unwrap_or("localhost"))
    }

    /// The value of `WWW-Authenticate`.
    pub(crate) fn challenge(
        &self,
        request: &HttpRequest,
        challenge: &Challenge,
    ) -> Option<HeaderValue> {
        let mut text = format!(
            "Bearer realm=\"{}/auth/token\",service=\"{}\"",
            self.origin(request),
            self.service
        );
        if !challenge.scope.is_empty() {
            text.push_str(&format!(",scope=\"{}\"", challenge.scope));
        }
        match challenge.problem {
            Problem::None => {}
            Problem::InvalidToken => text.push_str(",error=\"invalid_token\""),
            Problem::InsufficientScope => text.push_str(",error=\"insufficient_scope\""),
        }
        HeaderValue::try_from(text).ok()
    }
}

/// Whether a `Host` is one, with or without a port, so that it may stand in a header of ours.
fn is_host(host: &str) -> bool {
    !host.is_empty()
        && host.len() <= 255
        && host
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b".-_:[]".contains(&byte))
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    fn place() -> Place {
        Place {
            public_url: None,
            is_tls: false,
            trusted_proxies: vec!["10.0.0.0/8".parse().unwrap()],
            service: "granary".to_owned(),
        }
    }

    fn asked(place: &Place, headers: &[(&str, &str)], peer: &str) -> String {
        let mut request = TestRequest::default().peer_addr(format!("{peer}:1").parse().unwrap());
        for header in headers {
            request = request.insert_header(*header);
        }
        let challenge = Challenge {
            scope: "repository:a/b:pull".to_owned(),
            problem: Problem::None,
        };
        let value = place.challenge(&request.to_http_request(), &challenge);
        value.unwrap().to_str().unwrap().to_owned()
    }

    #[test]
    fn the_realm_is_where_the_client_asked() {
        let plain = |host: &str| {
            format!(
                "Bearer realm=\"{host}/auth/token\",service=\"granary\",scope=\"repository:a/b:pull\""
            )
        };
        let forwarded = ("x-forwarded-proto", "https");
        let host = ("host", "r.example.org:5000");
        for (headers, peer, expected) in [
            (vec![host], "1.2.3.4", "http://r.example.org:5000"),
            (vec![("host", "[::1]:80")], "1.2.3.4", "http://[::1]:80"),
            (
                vec![host, forwarded],
                "1.2.3.4",
                "http://r.example.org:5000",
            ),
            (
                vec![host, forwarded],
                "10.2.3.4",
                "https://r.example.org:5000",
            ),
            (vec![("host", "evil\",x=\"")], "1.2.3.4", "http://localhost"),
            (vec![("host", "a b")], "1.2.3.4", "http://localhost"),
        ] {
            assert_eq!(asked(&place(), &headers, peer), plain(expected));
        }
        let tls = Place {
            is_tls: true,
            ..place()
        };
        assert_eq!(
            asked(&tls, &[host], "1.2.3.4"),
            plain("https://r.example.org:5000")
        );
        let public = Place {
            public_url: Some("https://granary.example.org".parse().unwrap()),
            ..place()
        };
        assert_eq!(
            asked(&public, &[host], "1.2.3.4"),
            plain("https://granary.example.org")
        );
    }
}
