//! Manifests: end-3, end-7, end-9.

use actix_web::{
    HttpResponse,
    http::{
        StatusCode,
        header::{self, HeaderName},
    },
};
use granary_oci::{MAX_MANIFEST_BYTES, ManifestError, Reference, RepositoryName, Tag};
use granary_registry::{
    Deleting, ManifestRequest, May, Pushing, Reading, RegistryError, StoredManifest,
};

use super::schema::ErrorEnvelope;
use super::{
    CONTENT_DIGEST, Call,
    body::{Body, content_length},
    conditions,
    refusal::Refusal,
    unescape,
};

const OCI_SUBJECT: HeaderName = HeaderName::from_static("oci-subject");
const OCI_TAG: HeaderName = HeaderName::from_static("oci-tag");

/// end-3: the manifest as it was pushed. `?at=` resolves a tag as it stood then.
#[utoipa::path(
    method(get, head),
    path = "/v2/{name}/manifests/{reference}",
    tag = "manifests",
    params(
        ("name" = String, Path, description = "repository name, with slashes"),
        ("reference" = String, Path, description = "tag or digest"),
        ("at" = Option<String>, Query, description = "RFC 3339: where the tag stood then"),
        ("If-None-Match" = Option<String>, Header, description = "digest the client has"),
    ),
    responses(
        (status = 200, description = "the manifest as it was pushed"),
        (status = 304, description = "the client has it"),
        (status = 400, description = "malformed", body = ErrorEnvelope),
        (status = 401, description = "not logged in, or no longer", body = ErrorEnvelope),
        (status = 403, description = "not allowed to whoever asks", body = ErrorEnvelope),
        (status = 404, description = "unknown", body = ErrorEnvelope),
    )
)]
pub(crate) async fn get_manifest(
    call: &Call<'_>,
    name: &str,
    reference: &str,
) -> Result<HttpResponse, Refusal> {
    let repository: RepositoryName = name.parse()?;
    let at = call.query.get("at");
    let manifest = match (unescape(reference).parse()?, at) {
        (Reference::Tag(tag), None) => {
            let pulling = call.registry().pull(&call.caller, repository.clone(), &tag);
            let pulled = pulling.await;
            // Whether the caller is let in is known only now.
            if !matches!(pulled, Err(RegistryError::Denied(_))) {
                let limits = &call.v2.limits;
                limits
                    .namespace(&call.caller.principal, &repository)
                    .await?;
            }
            pulled?
        }
        (reference @ Reference::Digest(_), None) => {
            let may: May<Reading> = call.may(name).await?;
            may.resolve(&reference).await?
        }
        (Reference::Tag(tag), Some(at)) => {
            let may: May<Reading> = call.may(name).await?;
            let at: jiff::Timestamp = at
                .parse()
                .map_err(|_| Refusal::Time(at.chars().take(80).collect()))?;
            may.resolve_at(&tag, at.as_microsecond()).await?
        }
        (Reference::Digest(_), Some(_)) => {
            return Err(Refusal::Query(
                "'at' asks where a tag stood: use it with a tag, a digest never moves",
            ));
        }
    };
    Ok(answer_manifest(call, &manifest))
}

fn answer_manifest(call: &Call<'_>, manifest: &StoredManifest) -> HttpResponse {
    let digest = manifest.digest.to_string();
    let known = conditions::is_known(call, &digest);
    let mut answer = HttpResponse::build(if known {
        StatusCode::NOT_MODIFIED
    } else {
        StatusCode::OK
    });
    answer
        .insert_header((header::ETAG, format!("\"{digest}\"")))
        .insert_header((CONTENT_DIGEST, digest));
    if known {
        return answer.finish();
    }
    answer
        .insert_header((header::CONTENT_TYPE, manifest.media_type.as_str()))
        .body(manifest.payload.clone())
}

/// end-7: all or nothing; `?tag=` sets several tags at once, `If-Match` and `If-None-Match` compare and swap.
#[utoipa::path(
    put,
    path = "/v2/{name}/manifests/{reference}",
    tag = "manifests",
    request_body(description = "the manifest", content_type = "application/vnd.oci.image.manifest.v1+json"),
    params(
        ("name" = String, Path, description = "repository name, with slashes"),
        ("reference" = String, Path, description = "tag or digest"),
        ("tag" = Option<Vec<String>>, Query, description = "tags to set, at most 100"),
        ("If-Match" = Option<String>, Header, description = "digest the tag must stand at, in quotes, or *"),
        ("If-None-Match" = Option<String>, Header, description = "* if the tag must not exist"),
    ),
    responses(
        (status = 201, description = "stored"),
        (status = 400, description = "malformed", body = ErrorEnvelope),
        (status = 401, description = "not logged in, or no longer", body = ErrorEnvelope),
        (status = 403, description = "not allowed to whoever asks", body = ErrorEnvelope),
        (status = 404, description = "refers to content that is not here", body = ErrorEnvelope),
        (status = 412, description = "the tag moved", body = ErrorEnvelope),
        (status = 413, description = "larger than 4 MiB", body = ErrorEnvelope),
        (status = 414, description = "too many tags", body = ErrorEnvelope),
    )
)]
pub(crate) async fn put_manifest(
    call: &Call<'_>,
    may: May<Pushing>,
    reference: &str,
    body: &mut Body,
) -> Result<HttpResponse, Refusal> {
    let reference: Reference = unescape(reference).parse()?;
    let tags = call.query.tags()?;
    let precondition = conditions::precondition(call)?;
    let announced = content_length(call.request);
    if announced.is_some_and(|length| length > MAX_MANIFEST_BYTES as u64) {
        return Err(RegistryError::from(ManifestError::TooLarge).into());
    }
    // Enough for the bytes and for what parsing makes of them; whoever sends no length reserves the most.
    let kib = announced
        .unwrap_or(MAX_MANIFEST_BYTES as u64)
        .div_ceil(1024)
        .max(1);
    let permits = u32::try_from(kib).unwrap_or(u32::MAX);
    let _budget = call.v2.manifest_budget.acquire_many(permits).await;
    let body = body.read_whole(announced, MAX_MANIFEST_BYTES).await?;
    let content_type = call.header(&header::CONTENT_TYPE).map(str::to_owned);
    let request = ManifestRequest {
        reference,
        tags: tags.clone(),
        content_type,
        precondition,
        body,
    };
    let put = may.put_manifest(request).await?;
    let repository = may.repository();
    let digest = put.digest.to_string();
    let mut answer = HttpResponse::Created();
    answer
        .insert_header((
            header::LOCATION,
            format!("/v2/{repository}/manifests/{digest}"),
        ))
        .insert_header((header::ETAG, format!("\"{digest}\"")))
        .insert_header((CONTENT_DIGEST, digest));
    if let Some(subject) = put.subject {
        answer.insert_header((OCI_SUBJECT, subject.to_string()));
        if put.subject_absent {
            answer.append_header(warning(&format!(
                "the subject {subject} is not in this repository yet"
            )));
        }
    }
    if let Some(first) = put.absent.first() {
        let text = format!(
            "content is not in this repository, {first} for one: pulls of it will fail until it is pushed"
        );
        answer.append_header(warning(&text));
    }
    if !tags.is_empty() {
        // One line, because clients bound the number of header lines (RFC 9110 section 5.3 allows it).
        let tags: Vec<&str> = tags.iter().map(Tag::as_str).collect();
        answer.insert_header((OCI_TAG, tags.join(", ")));
    }
    Ok(answer.finish())
}

/// end-9: by tag only the tag goes, by digest the manifest with all its tags.
#[utoipa::path(
    delete,
    path = "/v2/{name}/manifests/{reference}",
    tag = "manifests",
    params(
        ("name" = String, Path, description = "repository name, with slashes"),
        ("reference" = String, Path, description = "tag or digest"),
        ("If-Match" = Option<String>, Header, description = "digest the tag must stand at, in quotes, or *"),
    ),
    responses(
        (status = 202, description = "removed"),
        (status = 400, description = "malformed", body = ErrorEnvelope),
        (status = 401, description = "not logged in, or no longer", body = ErrorEnvelope),
        (status = 403, description = "not allowed to whoever asks", body = ErrorEnvelope),
        (status = 404, description = "unknown", body = ErrorEnvelope),
        (status = 405, description = "an index lists it, or deleting is switched off", body = ErrorEnvelope),
        (status = 412, description = "the tag moved", body = ErrorEnvelope),
    )
)]
pub(crate) async fn delete_manifest(
    call: &Call<'_>,
    may: May<Deleting>,
    reference: &str,
) -> Result<HttpResponse, Refusal> {
    let reference: Reference = unescape(reference).parse()?;
    let precondition = conditions::precondition(call)?;
    may.delete_manifest(&reference, precondition).await?;
    Ok(HttpResponse::Accepted().finish())
}

/// A soft message to the person behind the client (distribution-spec, "Warnings"; RFC 7234 section 5.5).
fn warning(text: &str) -> (HeaderName, String) {
    (header::WARNING, format!("299 - \"{text}\""))
}
