//! Conditional requests (RFC 9110 section 13).

use actix_web::http::header;
use granary_oci::Digest;
use granary_registry::Precondition;

use super::{Call, refusal::Refusal};

/// Whether `If-None-Match` names `digest`, so that 304 is the answer. Clients send the digest with and without quotes.
pub(crate) fn is_known(call: &Call<'_>, digest: &str) -> bool {
    call.header(&header::IF_NONE_MATCH).is_some_and(|known| {
        known.split(',').map(str::trim).any(|tag| {
            let tag = tag.strip_prefix("W/").unwrap_or(tag);
            tag == "*" || tag.trim_matches('"') == digest
        })
    })
}

/// What `If-Match` and `If-None-Match` demand of a tag that is to change (decision 30).
pub(crate) fn precondition(call: &Call<'_>) -> Result<Precondition, Refusal> {
    let refuse = |value: &str| Refusal::Condition(value.chars().take(200).collect());
    match (
        call.header(&header::IF_MATCH),
        call.header(&header::IF_NONE_MATCH),
    ) {
        (None, None) => Ok(Precondition::None),
        (None, Some("*")) => Ok(Precondition::Absent),
        (Some("*"), None) => Ok(Precondition::Exists),
        (Some(value), None) => {
            let digest = value
                .strip_prefix('"')
                .and_then(|rest| rest.strip_suffix('"'))
                .ok_or_else(|| refuse(value))?;
            digest
                .parse::<Digest>()
                .map(Precondition::At)
                .map_err(|_| refuse(value))
        }
        (_, Some(value)) => Err(refuse(value)),
    }
}
