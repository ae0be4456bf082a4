//! Uploads: end-4, end-5, end-6, end-11, end-13, end-14.

use actix_web::{
    HttpResponse,
    http::{
        StatusCode,
        header::{self, HeaderName, HeaderValue},
    },
};
use granary_oci::{Algorithm, ContentRange, Digest, RepositoryName};
use granary_registry::{Chunk, May, Pushing, UploadStatus};

use super::schema::ErrorEnvelope;
use super::{
    CONTENT_DIGEST, Call,
    body::{Body, content_length},
    refusal::Refusal,
};

const UPLOAD_UUID: HeaderName = HeaderName::from_static("docker-upload-uuid");

/// end-4 and end-11: begins a session, or stores or mounts a blob at once.
#[utoipa::path(
    post,
    path = "/v2/{name}/blobs/uploads/",
    tag = "uploads",
    params(
        ("name" = String, Path, description = "repository name, with slashes"),
        ("digest" = Option<String>, Query, description = "stores the body at once"),
        ("mount" = Option<String>, Query, description = "digest of a blob that is here already"),
        ("from" = Option<String>, Query, description = "repository that holds it"),
        ("digest-algorithm" = Option<String>, Query, description = "sha256 or sha512, hashed from the first byte"),
    ),
    responses(
        (status = 201, description = "the blob is stored"),
        (status = 202, description = "a session began"),
        (status = 400, description = "malformed", body = ErrorEnvelope),
        (status = 401, description = "not logged in, or no longer", body = ErrorEnvelope),
        (status = 403, description = "not allowed to whoever asks", body = ErrorEnvelope),
        (status = 429, description = "too many open sessions", body = ErrorEnvelope),
        (status = 503, description = "no room, or about to stop", body = ErrorEnvelope),
    )
)]
pub(crate) async fn post_upload(
    call: &Call<'_>,
    may: May<Pushing>,
    body: &mut Body,
) -> Result<HttpResponse, Refusal> {
    if call.v2.drain.is_started() {
        return Err(Refusal::Draining);
    }
    let algorithm = call
        .query
        .get("digest-algorithm")
        .map(str::parse::<Algorithm>)
        .transpose()?;
    if let Some(digest) = call.query.get("digest") {
        let digest: Digest = digest.parse()?;
        let length = content_length(call.request);
        may.push_blob(digest, length, body.pieces()).await?;
        return Ok(stored(&may, &digest));
    }
    if let Some(digest) = call.query.get("mount") {
        let digest: Digest = digest.parse()?;
        let from = call.query.get("from").filter(|from| !from.is_empty());
        let from = from.map(str::parse::<RepositoryName>).transpose()?;
        if may.mount(from.as_ref(), &digest).await? {
            return Ok(stored(&may, &digest));
        }
    }
    let status = may.begin_upload(algorithm).await?;
    Ok(session(StatusCode::ACCEPTED, &may, &status))
}

/// end-5: appends a chunk, with or without `Content-Range`.
#[utoipa::path(
    patch,
    path = "/v2/{name}/blobs/uploads/{session}",
    tag = "uploads",
    request_body(description = "the chunk", content_type = "application/octet-stream"),
    params(
        ("name" = String, Path, description = "repository name, with slashes"),
        ("session" = String, Path, description = "upload session, from Location"),
        ("Content-Range" = Option<String>, Header, description = "first-last"),
    ),
    responses(
        (status = 202, description = "durable up to Range"),
        (status = 400, description = "malformed", body = ErrorEnvelope),
        (status = 401, description = "not logged in, or no longer", body = ErrorEnvelope),
        (status = 403, description = "not allowed to whoever asks", body = ErrorEnvelope),
        (status = 404, description = "unknown", body = ErrorEnvelope),
        (status = 416, description = "does not begin where the session stands", body = ErrorEnvelope),
        (status = 429, description = "another request writes to the session", body = ErrorEnvelope),
    )
)]
pub(crate) async fn patch_upload(
    call: &Call<'_>,
    may: May<Pushing>,
    id: &str,
    body: &mut Body,
) -> Result<HttpResponse, Refusal> {
    let chunk = chunk(call)?;
    let status = may.append(id, chunk, body.pieces()).await?;
    Ok(session(StatusCode::ACCEPTED, &may, &status))
}

/// end-6: closes the session with its digest, and perhaps a last chunk.
#[utoipa::path(
    put,
    path = "/v2/{name}/blobs/uploads/{session}",
    tag = "uploads",
    request_body(description = "the last chunk, or nothing", content_type = "application/octet-stream"),
    params(
        ("name" = String, Path, description = "repository name, with slashes"),
        ("session" = String, Path, description = "upload session, from Location"),
        ("digest" = String, Query, description = "what the blob must hash to"),
        ("Content-Range" = Option<String>, Header, description = "first-last"),
    ),
    responses(
        (status = 201, description = "the blob is stored"),
        (status = 400, description = "malformed, or another digest", body = ErrorEnvelope),
        (status = 401, description = "not logged in, or no longer", body = ErrorEnvelope),
        (status = 403, description = "not allowed to whoever asks", body = ErrorEnvelope),
        (status = 404, description = "unknown", body = ErrorEnvelope),
        (status = 416, description = "does not begin where the session stands", body = ErrorEnvelope),
        (status = 429, description = "another request writes to the session", body = ErrorEnvelope),
    )
)]
pub(crate) async fn put_upload(
    call: &Call<'_>,
    may: May<Pushing>,
    id: &str,
    body: &mut Body,
) -> Result<HttpResponse, Refusal> {
    let chunk = chunk(call)?;
    let digest = match call
        .query
        .get("digest")
        .unwrap_or_default()
        .parse::<Digest>()
    {
        Ok(digest) => digest,
        Err(error) => {
            // A chunk out of order is told first: that is what the client has to mend first (decision 3).
            may.expect_chunk(id, chunk).await?;
            return Err(error.into());
        }
    };
    may.finish_upload(id, digest, chunk, body.pieces()).await?;
    Ok(stored(&may, &digest))
}

/// end-13: where the session stands.
#[utoipa::path(
    get,
    path = "/v2/{name}/blobs/uploads/{session}",
    tag = "uploads",
    params(
        ("name" = String, Path, description = "repository name, with slashes"),
        ("session" = String, Path, description = "upload session, from Location"),
    ),
    responses(
        (status = 204, description = "where the session stands, in Range"),
        (status = 400, description = "malformed", body = ErrorEnvelope),
        (status = 401, description = "not logged in, or no longer", body = ErrorEnvelope),
        (status = 403, description = "not allowed to whoever asks", body = ErrorEnvelope),
        (status = 404, description = "unknown", body = ErrorEnvelope),
    )
)]
pub(crate) async fn get_upload(may: May<Pushing>, id: &str) -> Result<HttpResponse, Refusal> {
    let status = may.upload_status(id).await?;
    Ok(session(StatusCode::NO_CONTENT, &may, &status))
}

/// end-14: ends the session without a blob.
#[utoipa::path(
    delete,
    path = "/v2/{name}/blobs/uploads/{session}",
    tag = "uploads",
    params(
        ("name" = String, Path, description = "repository name, with slashes"),
        ("session" = String, Path, description = "upload session, from Location"),
    ),
    responses(
        (status = 204, description = "the session is gone"),
        (status = 400, description = "malformed", body = ErrorEnvelope),
        (status = 401, description = "not logged in, or no longer", body = ErrorEnvelope),
        (status = 403, description = "not allowed to whoever asks", body = ErrorEnvelope),
        (status = 404, description = "unknown", body = ErrorEnvelope),
    )
)]
pub(crate) async fn delete_upload(may: May<Pushing>, id: &str) -> Result<HttpResponse, Refusal> {
    may.cancel_upload(id).await?;
    Ok(HttpResponse::NoContent().finish())
}

fn chunk(call: &Call<'_>) -> Result<Chunk, Refusal> {
    let range = call
        .header(&header::CONTENT_RANGE)
        .map(str::parse::<ContentRange>)
        .transpose();
    Ok(Chunk {
        range: range.map_err(Refusal::ChunkRange)?,
        length: content_length(call.request),
    })
}

fn stored(may: &May<Pushing>, digest: &Digest) -> HttpResponse {
    let repository = may.repository();
    HttpResponse::Created()
        .insert_header((header::LOCATION, format!("/v2/{repository}/blobs/{digest}")))
        .insert_header((CONTENT_DIGEST, digest.to_string()))
        .finish()
}

fn session(answer: StatusCode, may: &May<Pushing>, status: &UploadStatus) -> HttpResponse {
    let mut answer = HttpResponse::build(answer);
    for header in session_headers(may.repository().as_str(), status) {
        answer.insert_header(header);
    }
    answer.finish()
}

/// Where a session is and how far it got; zero bytes are written `0-0` (decision 3).
pub(crate) fn session_headers(
    repository: &str,
    status: &UploadStatus,
) -> Vec<(HeaderName, HeaderValue)> {
    let location = format!("/v2/{repository}/blobs/uploads/{}", status.id);
    let range = format!("0-{}", status.received.saturating_sub(1));
    let headers = [
        (header::LOCATION, location),
        (header::RANGE, range),
        (UPLOAD_UUID, status.id.clone()),
    ];
    headers
        .into_iter()
        .filter_map(|(name, value)| Some((name, HeaderValue::try_from(value).ok()?)))
        .collect()
}
