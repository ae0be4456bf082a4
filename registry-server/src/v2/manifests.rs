//! Manifests: end-3, end-7, end-9.

use actix_web::{
    HttpResponse,
    http::{
        StatusCode,
        header::{self, HeaderName, HeaderValue},
    },
    web,
};
use granary_oci::{MAX_MANIFEST_BYTES, ManifestError, Reference, RepositoryName};
use granary_registry::{ManifestRequest, RegistryError, StoredManifest};

use super::{CONTENT_DIGEST, Call, body, conditions, refusal::Refusal, unescape};

const OCI_SUBJECT: HeaderName = HeaderName::from_static("oci-subject");
const OCI_TAG: HeaderName = HeaderName::from_static("oci-tag");

/// end-3: the manifest as it was pushed. `?at=` resolves a tag as it stood then.
pub(crate) async fn get_manifest(
    call: &Call<'_>,
    repository: &RepositoryName,
    reference: &str,
) -> Result<HttpResponse, Refusal> {
    let reference: Reference = unescape(reference).parse()?;
    let manifest = match (call.query.get("at"), &reference) {
        (None, _) => call.registry().resolve(&call.principal, repository, &reference).await?,
        (Some(at), Reference::Tag(tag)) => {
            let at: jiff::Timestamp = at.parse().map_err(|_| Refusal::Time(at.chars().take(80).collect()))?;
            call.registry().resolve_at(repository, tag, at.as_microsecond()).await?
        }
        (Some(_), Reference::Digest(_)) => {
            return Err(Refusal::Query("'at' asks where a tag stood: use it with a tag, a digest never moves"));
        }
    };
    Ok(answer_manifest(call, &manifest))
}

fn answer_manifest(call: &Call<'_>, manifest: &StoredManifest) -> HttpResponse {
    let digest = manifest.digest.to_string();
    let known = conditions::is_known(call, &digest);
    let mut answer = HttpResponse::build(if known { StatusCode::NOT_MODIFIED } else { StatusCode::OK });
    answer.insert_header((header::ETAG, format!("\"{digest}\""))).insert_header((CONTENT_DIGEST, digest));
    if known {
        return answer.finish();
    }
    answer.insert_header((header::CONTENT_TYPE, manifest.media_type.as_str())).body(manifest.payload.clone())
}

/// end-7: all or nothing; `?tag=` sets several tags at once, `If-Match` and `If-None-Match` compare and swap.
pub(crate) async fn put_manifest(
    call: &Call<'_>,
    repository: &RepositoryName,
    reference: &str,
    payload: web::Payload,
) -> Result<HttpResponse, Refusal> {
    let reference: Reference = unescape(reference).parse()?;
    let tags = call.query.tags()?;
    let precondition = conditions::precondition(call)?;
    let announced = body::content_length(call.request);
    if announced.is_some_and(|length| length > MAX_MANIFEST_BYTES as u64) {
        body::drain(payload).await;
        return Err(RegistryError::from(ManifestError::TooLarge).into());
    }
    // Enough for the bytes and for what parsing makes of them; whoever sends no length reserves the most.
    let kib = announced.unwrap_or(MAX_MANIFEST_BYTES as u64).div_ceil(1024).max(1);
    let permits = u32::try_from(kib).unwrap_or(u32::MAX);
    let _budget = call.v2.manifest_budget.acquire_many(permits).await;
    let body = body::read_whole(payload, announced, MAX_MANIFEST_BYTES).await?;
    let content_type = call.header(&header::CONTENT_TYPE).map(str::to_owned);
    let request = ManifestRequest {
        repository: repository.clone(),
        reference,
        tags: tags.clone(),
        content_type,
        precondition,
        body,
    };
    let put = call.registry().put_manifest(&call.principal, request).await?;
    let digest = put.digest.to_string();
    let mut answer = HttpResponse::Created();
    answer
        .insert_header((header::LOCATION, format!("/v2/{repository}/manifests/{digest}")))
        .insert_header((header::ETAG, format!("\"{digest}\"")))
        .insert_header((CONTENT_DIGEST, digest));
    if let Some(subject) = put.subject {
        answer.insert_header((OCI_SUBJECT, subject.to_string()));
    }
    for tag in &tags {
        if let Ok(tag) = HeaderValue::from_str(tag.as_str()) {
            answer.append_header((OCI_TAG, tag));
        }
    }
    Ok(answer.finish())
}

/// end-9: by tag only the tag goes, by digest the manifest with all its tags.
pub(crate) async fn delete_manifest(
    call: &Call<'_>,
    repository: &RepositoryName,
    reference: &str,
) -> Result<HttpResponse, Refusal> {
    let reference: Reference = unescape(reference).parse()?;
    let precondition = conditions::precondition(call)?;
    call.registry().delete_manifest(&call.principal, repository, &reference, precondition).await?;
    Ok(HttpResponse::Accepted().finish())
}
