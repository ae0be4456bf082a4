//! Blobs: end-2, end-10.

use actix_web::{
    HttpResponse, HttpResponseBuilder,
    body::SizedStream,
    http::{
        StatusCode,
        header::{self, HeaderValue},
    },
};
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use granary_oci::{ByteRange, Digest, RangeSet};
use granary_registry::{BlobBody, Deleting, May, Reading, StoredBlob};

use super::schema::ErrorEnvelope;
use super::{CONTENT_DIGEST, Call, conditions, refusal::Refusal, unescape};

const OCTETS: HeaderValue = HeaderValue::from_static("application/octet-stream");
/// A digest always names the same bytes; who may read them can change, so shared caches stay out.
const CACHE: HeaderValue = HeaderValue::from_static("private, max-age=31536000, immutable");
const ACCEPT_RANGES: HeaderValue = HeaderValue::from_static("bytes");

/// end-2 with HEAD: whether the blob is there. What is told to be there stays long enough to refer to it.
#[utoipa::path(
    head,
    path = "/v2/{name}/blobs/{digest}",
    tag = "blobs",
    params(
        ("name" = String, Path, description = "repository name, with slashes"),
        ("digest" = String, Path, description = "sha256:... or sha512:..."),
    ),
    responses(
        (status = 200, description = "it is here"),
        (status = 400, description = "no digest"),
        (status = 401, description = "not logged in, or no longer", body = ErrorEnvelope),
        (status = 403, description = "not allowed to whoever asks", body = ErrorEnvelope),
        (status = 404, description = "unknown"),
    )
)]
pub(crate) async fn head_blob(
    call: &Call<'_>,
    may: May<Reading>,
    digest: &str,
) -> Result<HttpResponse, Refusal> {
    let digest: Digest = unescape(digest).parse()?;
    let blob = may.check_blob(&digest).await?;
    if conditions::is_known(call, &digest.to_string()) {
        return Ok(headers(StatusCode::NOT_MODIFIED, &digest).finish());
    }
    let mut answer = headers(StatusCode::OK, &digest);
    Ok(sized(
        &mut answer,
        blob.size,
        stream::empty::<Result<Bytes, granary_registry::RegistryError>>(),
    ))
}

/// end-2: the bytes, whole or in ranges.
#[utoipa::path(
    get,
    path = "/v2/{name}/blobs/{digest}",
    tag = "blobs",
    params(
        ("name" = String, Path, description = "repository name, with slashes"),
        ("digest" = String, Path, description = "sha256:... or sha512:..."),
        ("Range" = Option<String>, Header, description = "bytes=..."),
    ),
    responses(
        (status = 200, description = "the bytes", content_type = "application/octet-stream"),
        (status = 206, description = "the bytes asked for"),
        (status = 304, description = "the client has it"),
        (status = 307, description = "the bytes are at `Location`, in the object store, for a moment"),
        (status = 400, description = "no digest", body = ErrorEnvelope),
        (status = 401, description = "not logged in, or no longer", body = ErrorEnvelope),
        (status = 403, description = "not allowed to whoever asks", body = ErrorEnvelope),
        (status = 404, description = "unknown", body = ErrorEnvelope),
        (status = 416, description = "no such bytes", body = ErrorEnvelope),
    )
)]
pub(crate) async fn get_blob(
    call: &Call<'_>,
    may: May<Reading>,
    digest: &str,
) -> Result<HttpResponse, Refusal> {
    let digest: Digest = unescape(digest).parse()?;
    let blob = may.blob(&digest).await?;
    let text = digest.to_string();
    if conditions::is_known(call, &text) {
        return Ok(headers(StatusCode::NOT_MODIFIED, &digest).finish());
    }
    // RFC 9110 section 14.2 and 13.1.5: a range of another version is no range of this one.
    let current = call
        .header(&header::IF_RANGE)
        .is_none_or(|tag| tag.trim_matches('"') == text);
    let ranges = match call.header(&header::RANGE) {
        Some(range) if current => RangeSet::parse(range, blob.size).map_err(Refusal::ReadRange)?,
        _ => RangeSet::Whole,
    };
    // A store serves one range, and a client repeats its header at the new address.
    if !matches!(ranges, RangeSet::Several(_))
        && let Some(address) = may.blob_link(&blob).await?
    {
        return Ok(sent_on(&digest, &address));
    }
    match ranges {
        RangeSet::Several(ranges) => several(may, &digest, &blob, &ranges).await,
        RangeSet::Whole if blob.size == 0 => {
            Ok(headers(StatusCode::OK, &digest).body(Bytes::new()))
        }
        RangeSet::Whole => {
            let whole = ByteRange {
                first: 0,
                last: blob.size - 1,
            };
            let body = may.read_blob(&digest, &blob, whole).await?;
            Ok(with_body(headers(StatusCode::OK, &digest), blob.size, body))
        }
        RangeSet::One(range) => {
            let body = may.read_blob(&digest, &blob, range).await?;
            let mut answer = headers(StatusCode::PARTIAL_CONTENT, &digest);
            answer.insert_header((header::CONTENT_RANGE, content_range(range, blob.size)));
            Ok(with_body(answer, range.length(), body))
        }
    }
}

/// 307 to the store. The address lets anybody in for a moment, so nothing keeps this answer.
fn sent_on(digest: &Digest, address: &str) -> HttpResponse {
    let mut answer = headers(StatusCode::TEMPORARY_REDIRECT, digest);
    answer
        .insert_header((header::LOCATION, address))
        .insert_header((header::CACHE_CONTROL, HeaderValue::from_static("no-store")));
    answer.finish()
}

/// end-10: the repository no longer holds the blob.
#[utoipa::path(
    delete,
    path = "/v2/{name}/blobs/{digest}",
    tag = "blobs",
    params(
        ("name" = String, Path, description = "repository name, with slashes"),
        ("digest" = String, Path, description = "sha256:... or sha512:..."),
    ),
    responses(
        (status = 202, description = "removed from the repository"),
        (status = 400, description = "no digest", body = ErrorEnvelope),
        (status = 401, description = "not logged in, or no longer", body = ErrorEnvelope),
        (status = 403, description = "not allowed to whoever asks", body = ErrorEnvelope),
        (status = 404, description = "unknown", body = ErrorEnvelope),
        (status = 405, description = "a manifest refers to it, or deleting is switched off", body = ErrorEnvelope),
    )
)]
pub(crate) async fn delete_blob(may: May<Deleting>, digest: &str) -> Result<HttpResponse, Refusal> {
    let digest: Digest = unescape(digest).parse()?;
    may.delete_blob(&digest).await?;
    Ok(HttpResponse::Accepted().finish())
}

fn headers(status: StatusCode, digest: &Digest) -> HttpResponseBuilder {
    let digest = digest.to_string();
    let mut answer = HttpResponse::build(status);
    answer
        .insert_header((header::CONTENT_TYPE, OCTETS))
        .insert_header((header::CACHE_CONTROL, CACHE))
        .insert_header((header::ACCEPT_RANGES, ACCEPT_RANGES))
        .insert_header((header::ETAG, format!("\"{digest}\"")))
        .insert_header((CONTENT_DIGEST, digest));
    answer
}

fn with_body(mut answer: HttpResponseBuilder, length: u64, body: BlobBody) -> HttpResponse {
    match body {
        BlobBody::Bytes(bytes) => answer.body(bytes),
        BlobBody::Stream(stream) => sized(&mut answer, length, stream),
    }
}

fn sized<E: std::error::Error + 'static>(
    answer: &mut HttpResponseBuilder,
    length: u64,
    bytes: impl stream::Stream<Item = Result<Bytes, E>> + 'static,
) -> HttpResponse {
    answer.body(SizedStream::new(
        length,
        bytes
            .map(|piece| piece.map_err(Box::<dyn std::error::Error>::from))
            .boxed_local(),
    ))
}

fn content_range(range: ByteRange, size: u64) -> String {
    format!("bytes {}-{}/{size}", range.first, range.last)
}

/// Several ranges as `multipart/byteranges` (RFC 9110 section 14.6). Their number and sum are bounded by [`RangeSet`].
async fn several(
    may: May<Reading>,
    digest: &Digest,
    blob: &StoredBlob,
    ranges: &[ByteRange],
) -> Result<HttpResponse, Refusal> {
    // Unlikely to stand in content by chance, and no harm if it does: each part says its length.
    let boundary = uuid::Uuid::new_v4().simple().to_string();
    let (mut length, mut parts) = (0, Vec::new());
    for &range in ranges {
        let part_range = content_range(range, blob.size);
        let head = format!(
            "\r\n--{boundary}\r\nContent-Type: application/octet-stream\r\nContent-Range: {part_range}\r\n\r\n"
        );
        length += head.len() as u64 + range.length();
        let body = match may.read_blob(digest, blob, range).await? {
            BlobBody::Bytes(bytes) => stream::iter([Ok(bytes)]).boxed_local(),
            BlobBody::Stream(stream) => stream.boxed_local(),
        };
        parts.push(stream::iter([Ok(Bytes::from(head))]).chain(body));
    }
    let end = Bytes::from(format!("\r\n--{boundary}--\r\n"));
    length += end.len() as u64;
    let mut answer = headers(StatusCode::PARTIAL_CONTENT, digest);
    answer.insert_header((
        header::CONTENT_TYPE,
        format!("multipart/byteranges; boundary={boundary}"),
    ));
    Ok(sized(
        &mut answer,
        length,
        stream::iter(parts).flatten().chain(stream::iter([Ok(end)])),
    ))
}
