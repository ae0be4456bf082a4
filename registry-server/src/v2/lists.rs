//! What can be listed: end-1, end-8, end-12, the catalog and the extensions.

use actix_web::{
    HttpResponse, HttpResponseBuilder,
    http::header::{self, HeaderName},
};
use granary_oci::{Digest, media_type};
use granary_registry::{Asks, May, Reading, ReferrerFilter};
use serde_json::json;

use super::schema::{Catalog, ErrorEnvelope, Extension, Extensions, Tags};
use super::{
    Call,
    query::{MOST_ROWS, escape},
    refusal::Refusal,
    unescape,
};

const FILTERS_APPLIED: HeaderName = HeaderName::from_static("oci-filters-applied");
/// Rows of the catalog when no number is asked for.
const CATALOG_ROWS: u64 = 1000;

/// end-1: the API is here.
#[utoipa::path(
    get,
    path = "/v2/",
    tag = "registry",
    responses(
        (status = 200, description = "the distribution API is here"),
        (status = 401, description = "not logged in, or no longer", body = ErrorEnvelope),
    )
)]
pub(crate) async fn get_base(call: &Call<'_>) -> Result<HttpResponse, Refusal> {
    call.registry().admit(&call.caller, Asks::Ping).await?;
    Ok(HttpResponse::Ok().json(json!({})))
}

/// `_oci/ext/discover`: the extensions this registry has (distribution-spec `extensions/_oci.md`).
#[utoipa::path(
    get,
    path = "/v2/_oci/ext/discover",
    tag = "registry",
    responses(
        (status = 200, description = "extensions", body = Extensions),
        (status = 401, description = "not logged in, or no longer", body = ErrorEnvelope),
    )
)]
pub(crate) async fn get_extensions(call: &Call<'_>) -> Result<HttpResponse, Refusal> {
    call.registry().admit(&call.caller, Asks::List).await?;
    Ok(extensions())
}

/// The same of one repository.
pub(crate) fn get_extensions_of(_: &May<Reading>) -> HttpResponse {
    extensions()
}

fn extensions() -> HttpResponse {
    HttpResponse::Ok().json(Extensions {
        extensions: vec![Extension {
            name: "_oci",
            url: "https://github.com/opencontainers/distribution-spec/blob/main/extensions/_oci.md",
            description: "the extensions of this registry",
            endpoints: vec!["_oci/ext/discover"],
        }],
    })
}

/// `_catalog`: repositories with a manifest, in bytewise order.
#[utoipa::path(
    get,
    path = "/v2/_catalog",
    tag = "registry",
    params(
        ("n" = Option<u64>, Query, description = "rows, at most 10,000"),
        ("last" = Option<String>, Query, description = "row behind which the page begins"),
    ),
    responses(
        (status = 200, description = "repositories in bytewise order; Link leads on", body = Catalog),
        (status = 400, description = "n is no page size", body = ErrorEnvelope),
        (status = 401, description = "not logged in, or no longer", body = ErrorEnvelope),
    )
)]
pub(crate) async fn get_catalog(call: &Call<'_>) -> Result<HttpResponse, Refusal> {
    let limit = call.query.rows()?.unwrap_or(CATALOG_ROWS);
    let rows = call
        .registry()
        .repositories(&call.caller, call.query.last(), limit + 1)
        .await?;
    let (repositories, next) = page(rows, limit);
    let mut answer = HttpResponse::Ok();
    if let Some(last) = next {
        link(
            &mut answer,
            &format!("/v2/_catalog?n={limit}&last={}", escape(&last)),
        );
    }
    Ok(answer.json(Catalog { repositories }))
}

/// end-8: tags in ASCII order.
#[utoipa::path(
    get,
    path = "/v2/{name}/tags/list",
    tag = "tags",
    params(
        ("name" = String, Path, description = "repository name, with slashes"),
        ("n" = Option<u64>, Query, description = "rows, at most 10,000"),
        ("last" = Option<String>, Query, description = "tag behind which the page begins"),
    ),
    responses(
        (status = 200, description = "tags in ASCII order; Link leads on", body = Tags),
        (status = 400, description = "n is no page size", body = ErrorEnvelope),
        (status = 401, description = "not logged in, or no longer", body = ErrorEnvelope),
        (status = 403, description = "not allowed to whoever asks", body = ErrorEnvelope),
        (status = 404, description = "unknown", body = ErrorEnvelope),
    )
)]
pub(crate) async fn get_tags(call: &Call<'_>, may: May<Reading>) -> Result<HttpResponse, Refusal> {
    let limit = call.query.rows()?.unwrap_or(MOST_ROWS);
    let rows = may.tags(call.query.last(), limit + 1).await?;
    let (tags, next) = page(rows, limit);
    let mut answer = HttpResponse::Ok();
    if let Some(last) = next {
        link(
            &mut answer,
            &format!(
                "/v2/{}/tags/list?n={limit}&last={}",
                may.repository(),
                escape(&last)
            ),
        );
    }
    Ok(answer.json(Tags {
        name: may.repository().as_str(),
        tags,
    }))
}

/// end-12: manifests whose subject is this digest; an empty list if nothing is known of it.
#[utoipa::path(
    get,
    path = "/v2/{name}/referrers/{digest}",
    tag = "referrers",
    params(
        ("name" = String, Path, description = "repository name, with slashes"),
        ("digest" = String, Path, description = "sha256:... or sha512:..."),
        ("artifactType" = Option<Vec<String>>, Query, description = "any of these"),
        ("last" = Option<i64>, Query, description = "place from the Link of the former page"),
    ),
    responses(
        (status = 200, description = "an OCI index of the manifests that have this subject; Link leads on", content_type = "application/vnd.oci.image.index.v1+json"),
        (status = 400, description = "no digest", body = ErrorEnvelope),
        (status = 401, description = "not logged in, or no longer", body = ErrorEnvelope),
        (status = 403, description = "not allowed to whoever asks", body = ErrorEnvelope),
    )
)]
pub(crate) async fn get_referrers(
    call: &Call<'_>,
    may: May<Reading>,
    digest: &str,
) -> Result<HttpResponse, Refusal> {
    let digest: Digest = unescape(digest).parse()?;
    let after = call.query.last();
    let after = if after.is_empty() {
        Some(0)
    } else {
        after.parse().ok()
    };
    let after = after.ok_or(Refusal::Query(
        "'last' is not a place in this list: take it from the Link of the former page",
    ))?;
    let filter = ReferrerFilter {
        artifact_types: call.query.artifact_types()?,
        after,
    };
    let referrers = may.referrers(&digest, &filter).await?;
    let repository = may.repository();
    let mut answer = HttpResponse::Ok();
    answer.content_type(media_type::IMAGE_INDEX);
    if !filter.artifact_types.is_empty() {
        answer.insert_header((FILTERS_APPLIED, "artifactType"));
    }
    if let Some(next) = referrers.next {
        let types: String = filter
            .artifact_types
            .iter()
            .map(|wanted| format!("&artifactType={}", escape(wanted)))
            .collect();
        link(
            &mut answer,
            &format!("/v2/{repository}/referrers/{digest}?last={next}{types}"),
        );
    }
    // The descriptors are kept as JSON, so that a read has nothing to parse.
    Ok(answer.body(index(&referrers.descriptors.join(","))))
}

/// What is answered for a repository that the caller may not see.
pub(crate) fn no_referrers(call: &Call<'_>, digest: &str) -> Result<HttpResponse, Refusal> {
    unescape(digest).parse::<Digest>()?;
    let mut answer = HttpResponse::Ok();
    answer.content_type(media_type::IMAGE_INDEX);
    if !call.query.artifact_types()?.is_empty() {
        answer.insert_header((FILTERS_APPLIED, "artifactType"));
    }
    Ok(answer.body(index("")))
}

/// An index of descriptors, which are JSON already.
fn index(manifests: &str) -> String {
    let index = media_type::IMAGE_INDEX;
    format!("{{\"schemaVersion\":2,\"mediaType\":\"{index}\",\"manifests\":[{manifests}]}}")
}

/// Cuts the row that only shows that there are more, and says behind which row the next page begins.
fn page(mut rows: Vec<String>, limit: u64) -> (Vec<String>, Option<String>) {
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let more = rows.len() > limit;
    rows.truncate(limit);
    let next = if more { rows.last().cloned() } else { None };
    (rows, next)
}

/// `Link` to the next page (RFC 8288).
fn link(answer: &mut HttpResponseBuilder, target: &str) {
    answer.insert_header((header::LINK, format!("<{target}>; rel=\"next\"")));
}
