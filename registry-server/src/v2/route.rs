//! Which endpoint of the distribution specification a path names.
//!
//! Names hold slashes, so a path is read from its end. Everything is taken as it stands on the wire: an escaped slash
//! or dot in a name stays escaped and is refused with the name.

use actix_web::{HttpRequest, http::Method};
use granary_oci::RepositoryName;

use super::query::Query;

/// An endpoint with the raw parts of its path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Route<'p> {
    /// `/v2/` (end-1)
    Base,
    /// `/v2/_catalog`
    Catalog,
    /// `/v2/_oci/ext/discover`, of the registry or of a repository
    Discover(Option<&'p str>),
    /// `/v2/<name>/tags/list` (end-8)
    Tags(&'p str),
    /// `/v2/<name>/manifests/<tag-or-digest>` (end-3, end-7, end-9)
    Manifest(&'p str, &'p str),
    /// `/v2/<name>/blobs/<digest>` (end-2, end-10)
    Blob(&'p str, &'p str),
    /// `/v2/<name>/blobs/uploads/` (end-4, end-11)
    Uploads(&'p str),
    /// `/v2/<name>/blobs/uploads/<session>` (end-5, end-6, end-13, end-14)
    Upload(&'p str, &'p str),
    /// `/v2/<name>/referrers/<digest>` (end-12)
    Referrers(&'p str, &'p str),
}

impl<'p> Route<'p> {
    /// Reads a path that begins with `/v2`; `None` if it names no endpoint.
    pub(crate) fn parse(path: &'p str) -> Option<Self> {
        let rest = path.strip_prefix("/v2")?;
        let rest = match rest {
            "" | "/" => return Some(Self::Base),
            _ => rest.strip_prefix('/')?,
        };
        match rest {
            "_catalog" => return Some(Self::Catalog),
            "_oci/ext/discover" => return Some(Self::Discover(None)),
            _ => {}
        }
        for (suffix, route) in [
            ("/tags/list", Self::Tags as fn(&'p str) -> Self),
            ("/blobs/uploads/", Self::Uploads),
            ("/blobs/uploads", Self::Uploads),
            ("/_oci/ext/discover", |name| Self::Discover(Some(name))),
        ] {
            if let Some(name) = rest.strip_suffix(suffix) {
                return Some(route(name));
            }
        }
        let (head, last) = rest.rsplit_once('/')?;
        for (suffix, route) in [
            (
                "/blobs/uploads",
                Self::Upload as fn(&'p str, &'p str) -> Self,
            ),
            ("/blobs", Self::Blob),
            ("/manifests", Self::Manifest),
            ("/referrers", Self::Referrers),
        ] {
            if let Some(name) = head.strip_suffix(suffix) {
                return Some(route(name, last));
            }
        }
        None
    }

    /// The endpoint's name in metrics and traces.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Base => "/v2/",
            Self::Catalog => "/v2/_catalog",
            Self::Discover(None) => "/v2/_oci/ext/discover",
            Self::Discover(Some(_)) => "/v2/{name}/_oci/ext/discover",
            Self::Tags(_) => "/v2/{name}/tags/list",
            Self::Manifest(..) => "/v2/{name}/manifests/{reference}",
            Self::Blob(..) => "/v2/{name}/blobs/{digest}",
            Self::Uploads(_) => "/v2/{name}/blobs/uploads/",
            Self::Upload(..) => "/v2/{name}/blobs/uploads/{session}",
            Self::Referrers(..) => "/v2/{name}/referrers/{digest}",
        }
    }

    /// The name of the repository, as it was sent.
    pub(crate) fn repository(self) -> Option<&'p str> {
        match self {
            Self::Base | Self::Catalog | Self::Discover(None) => None,
            Self::Discover(Some(name))
            | Self::Tags(name)
            | Self::Uploads(name)
            | Self::Manifest(name, _)
            | Self::Blob(name, _)
            | Self::Upload(name, _)
            | Self::Referrers(name, _) => Some(name),
        }
    }

    /// The methods an endpoint has, for `Allow`.
    pub(crate) fn methods(self) -> &'static [Method] {
        match self {
            Self::Base
            | Self::Catalog
            | Self::Discover(_)
            | Self::Tags(_)
            | Self::Referrers(..) => &[Method::GET, Method::HEAD],
            Self::Manifest(..) => &[Method::GET, Method::HEAD, Method::PUT, Method::DELETE],
            Self::Blob(..) => &[Method::GET, Method::HEAD, Method::DELETE],
            Self::Uploads(_) => &[Method::POST],
            Self::Upload(..) => &[
                Method::GET,
                Method::HEAD,
                Method::PATCH,
                Method::PUT,
                Method::DELETE,
            ],
        }
    }

    /// What a token has to be for to be let in here, in the words of the token service.
    pub(crate) fn scope(self, request: &HttpRequest) -> String {
        let actions = match (self, request.method()) {
            (Self::Base, _) => return String::new(),
            (Self::Catalog | Self::Discover(None), _) => return "registry:catalog:*".to_owned(),
            (Self::Manifest(..) | Self::Blob(..), &Method::DELETE) => "pull,push,delete",
            (Self::Uploads(_) | Self::Upload(..), _) | (Self::Manifest(..), &Method::PUT) => {
                "pull,push"
            }
            _ => "pull",
        };
        // What is no name of a repository stays out of a header.
        let of = |name: &str, actions| {
            let name = name.parse::<RepositoryName>().ok()?;
            Some(format!("repository:{name}:{actions}"))
        };
        let here = self.repository().and_then(|name| of(name, actions));
        let query = Query::parse(request.query_string());
        let from = query
            .get("from")
            .filter(|_| matches!(self, Self::Uploads(_)));
        let from = from.and_then(|name| of(name, "pull"));
        let scopes: Vec<String> = here.into_iter().chain(from).collect();
        scopes.join(" ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_read_from_their_end() {
        let cases = [
            ("/v2", Some(Route::Base)),
            ("/v2/", Some(Route::Base)),
            ("/v2x", None),
            ("/v2/_catalog", Some(Route::Catalog)),
            ("/v2/_oci/ext/discover", Some(Route::Discover(None))),
            ("/v2/a/_oci/ext/discover", Some(Route::Discover(Some("a")))),
            ("/v2/a/b/tags/list", Some(Route::Tags("a/b"))),
            (
                "/v2/a/manifests/latest",
                Some(Route::Manifest("a", "latest")),
            ),
            (
                "/v2/manifests/manifests/manifests/x",
                Some(Route::Manifest("manifests/manifests", "x")),
            ),
            ("/v2/a/blobs/sha256:00", Some(Route::Blob("a", "sha256:00"))),
            ("/v2/a/blobs/uploads", Some(Route::Uploads("a"))),
            ("/v2/a/blobs/uploads/", Some(Route::Uploads("a"))),
            ("/v2/a/blobs/uploads/id", Some(Route::Upload("a", "id"))),
            (
                "/v2/a/blobs/uploads/manifests/x",
                Some(Route::Manifest("a/blobs/uploads", "x")),
            ),
            (
                "/v2/a/referrers/sha256:00",
                Some(Route::Referrers("a", "sha256:00")),
            ),
            ("/v2/a%2Fb/manifests/x", Some(Route::Manifest("a%2Fb", "x"))),
            ("/v2/a", None),
            ("/v2/a/unknown/x", None),
            ("/v2//manifests", None),
        ];
        for (path, expected) in cases {
            assert_eq!(Route::parse(path), expected, "{path}");
        }
    }
}
