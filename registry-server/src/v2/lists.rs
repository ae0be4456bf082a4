//! What can be listed: end-1, end-8, end-12, the catalog and the extensions.

use actix_web::{HttpResponse, HttpResponseBuilder, http::header::{self, HeaderName}};
use granary_oci::{Digest, RepositoryName, media_type};
use granary_registry::ReferrerFilter;
use serde_json::json;

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
pub(crate) fn get_base() -> HttpResponse {
    HttpResponse::Ok().json(json!({}))
}

/// `_oci/ext/discover`: the extensions this registry has (distribution-spec `extensions/_oci.md`).
pub(crate) fn get_extensions() -> HttpResponse {
    HttpResponse::Ok().json(json!({"extensions": [{
        "name": "_oci",
        "url": "https://github.com/opencontainers/distribution-spec/blob/main/extensions/_oci.md",
        "description": "the extensions of this registry",
        "endpoints": ["_oci/ext/discover"],
    }]}))
}

/// `_catalog`: repositories with a manifest, in bytewise order.
pub(crate) async fn get_catalog(call: &Call<'_>) -> Result<HttpResponse, Refusal> {
    let limit = call.query.rows()?.unwrap_or(CATALOG_ROWS);
    let rows = call.registry().repositories(call.query.last(), limit + 1).await?;
    let (repositories, next) = page(rows, limit);
    let mut answer = HttpResponse::Ok();
    if let Some(last) = next {
        link(&mut answer, &format!("/v2/_catalog?n={limit}&last={}", escape(&last)));
    }
    Ok(answer.json(json!({"repositories": repositories})))
}

/// end-8: tags in ASCII order.
pub(crate) async fn get_tags(call: &Call<'_>, repository: &RepositoryName) -> Result<HttpResponse, Refusal> {
    let limit = call.query.rows()?.unwrap_or(MOST_ROWS);
    let rows = call.registry().tags(repository, call.query.last(), limit + 1).await?;
    let (tags, next) = page(rows, limit);
    let mut answer = HttpResponse::Ok();
    if let Some(last) = next {
        link(&mut answer, &format!("/v2/{repository}/tags/list?n={limit}&last={}", escape(&last)));
    }
    Ok(answer.json(json!({"name": repository.as_str(), "tags": tags})))
}

/// end-12: manifests whose subject is this digest; an empty list if nothing is known of it.
pub(crate) async fn get_referrers(
    call: &Call<'_>,
    repository: &RepositoryName,
    digest: &str,
) -> Result<HttpResponse, Refusal> {
    let digest: Digest = unescape(digest).parse()?;
    let after = call.query.last();
    let after = if after.is_empty() { Some(0) } else { after.parse().ok() };
    let after = after.ok_or(Refusal::Query("'last' is not a place in this list: take it from the Link of the former page"))?;
    let filter = ReferrerFilter { artifact_types: call.query.artifact_types()?, after };
    let referrers = call.registry().referrers(repository, &digest, &filter).await?;
    let mut answer = HttpResponse::Ok();
    answer.content_type(media_type::IMAGE_INDEX);
    if !filter.artifact_types.is_empty() {
        answer.insert_header((FILTERS_APPLIED, "artifactType"));
    }
    if let Some(next) = referrers.next {
        let types: String = filter.artifact_types.iter().map(|wanted| format!("&artifactType={}", escape(wanted))).collect();
        link(&mut answer, &format!("/v2/{repository}/referrers/{digest}?last={next}{types}"));
    }
    // The descriptors are kept as JSON, so that a read has nothing to parse.
    let index = media_type::IMAGE_INDEX;
    let manifests = referrers.descriptors.join(",");
    Ok(answer.body(format!("{{\"schemaVersion\":2,\"mediaType\":\"{index}\",\"manifests\":[{manifests}]}}")))
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
