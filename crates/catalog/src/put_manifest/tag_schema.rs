//! The referrers tag schema of registries without a referrers API (distribution-spec, "Referrers Tag Schema").

use granary_oci::{Digest, Tag, media_type};
use serde_json::Value;

use super::{ManifestPut, announce, manifests_among};
use crate::{CatalogError, sql, writer::Write};

/// Whether a tag follows the referrers tag schema `<algorithm>-<encoded>` (distribution-spec).
pub(super) fn is_referrers_tag(tag: &Tag) -> bool {
    referrers_subject(tag).is_some()
}

fn referrers_subject(tag: &Tag) -> Option<Digest> {
    let (algorithm, encoded) = tag.as_str().split_once('-')?;
    format!("{algorithm}:{encoded}").parse().ok()
}

/// Takes over what a client listed under the referrers tag schema because its registry had no referrers API
/// (distribution-spec, "Enabling the Referrers API").
///
/// The schema cuts an encoded hash at 64 characters, so only sha256 subjects can be told from their tag.
pub(super) async fn take_over_referrers(
    write: &Write,
    repository: i64,
    source: i64,
    tag: &Tag,
    put: &ManifestPut,
) -> Result<(), CatalogError> {
    let Some(subject) =
        referrers_subject(tag).filter(|_| put.manifest.media_type == media_type::IMAGE_INDEX)
    else {
        return Ok(());
    };
    // The list replaces the one that stood under this tag before; manifests with a subject of their own stay.
    let withdraw = "DELETE FROM referrers WHERE repository_id = $1 AND subject = $2 \
                    AND digest <> (SELECT m.digest FROM manifests m WHERE m.id = referrers.source_id)";
    sql::execute(
        &write.transaction,
        withdraw,
        [repository.into(), subject.to_bytes().into()],
    )
    .await?;
    let index: Value = serde_json::from_slice(&put.payload).unwrap_or_default();
    let descriptors = index.get("manifests").and_then(Value::as_array);
    let mut here = manifests_among(write, repository, &put.manifest.edges).await?;
    for descriptor in descriptors.into_iter().flatten() {
        let text = |field| descriptor.get(field).and_then(Value::as_str);
        let Some(digest) = text("digest").and_then(|digest| digest.parse::<Digest>().ok()) else {
            continue;
        };
        // One that is listed twice counts once.
        if here.remove(&digest).is_some() {
            announce(
                write,
                repository,
                &subject,
                &digest,
                text("artifactType"),
                &descriptor.to_string(),
                source,
            )
            .await?;
        }
    }
    Ok(())
}
