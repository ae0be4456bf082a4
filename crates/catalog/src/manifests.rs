//! Manifests: found by digest, removed with what belongs to them.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use granary_access::{Action, Reason};
use granary_oci::{Digest, RepositoryName, Tag};
use sea_orm::FromQueryResult;
use serde_json::json;

use crate::{
    Asker, Catalog, CatalogError,
    audit::{self, Deed, action},
    blobs::join_edges,
    cache::Touched,
    dialect::micros,
    guard, quota,
    repositories::{find_repository, hide_if_empty},
    sql,
    tags::{self, Precondition},
    writer::Write,
};

/// A manifest of a repository.
#[derive(Clone, Debug)]
pub struct StoredManifest {
    /// Its digest.
    pub digest: Digest,
    /// The media type it is served with.
    pub media_type: String,
    /// The bytes as they were pushed.
    pub payload: Bytes,
}

/// What became of a removal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Removal {
    /// It is gone.
    Removed,
    /// It was not there.
    Missing,
    /// These manifests of the repository refer to it; nothing was removed.
    Referenced(Vec<Digest>),
    /// The tag does not stand where the caller expects; `current` says where.
    PreconditionFailed(Option<Digest>),
    /// It may not be done, or not with each of its tags; nothing was removed.
    Denied(Reason),
}

#[derive(FromQueryResult)]
pub(crate) struct ManifestRow {
    pub(crate) digest: Vec<u8>,
    pub(crate) media_type: String,
    /// Left out when the bytes are in memory.
    pub(crate) payload: Option<Vec<u8>>,
}

impl ManifestRow {
    pub(crate) fn read(self, bytes: Option<Bytes>) -> Result<Arc<StoredManifest>, CatalogError> {
        let digest = Digest::from_bytes(&self.digest)
            .ok_or_else(|| CatalogError::damaged("manifests", "digest"))?;
        let payload = self.payload.map(Bytes::from).or(bytes);
        Ok(Arc::new(StoredManifest {
            digest,
            media_type: self.media_type,
            payload: payload.ok_or_else(|| CatalogError::damaged("manifests", "payload"))?,
        }))
    }
}

#[derive(FromQueryResult)]
pub(crate) struct DigestRow {
    pub(crate) digest: Vec<u8>,
}

impl DigestRow {
    pub(crate) fn read_all(rows: Vec<Self>) -> Vec<Digest> {
        rows.iter()
            .filter_map(|row| Digest::from_bytes(&row.digest))
            .collect()
    }
}

/// Most referring manifests that an answer lists.
const LISTED: u64 = 20;

impl Catalog {
    /// The manifest `digest` of `repository`, if its bytes are good.
    pub async fn manifest(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<Option<Arc<StoredManifest>>, CatalogError> {
        let cache = self.memory.exact();
        if let Some(manifest) = cache.and_then(|cache| cache.manifest(repository, digest)) {
            return Ok(Some(manifest));
        }
        let watch = cache.map(|cache| cache.watch(repository));
        let bytes = self.memory.bytes(digest).await;
        let row: Option<ManifestRow> = self.reads.one("SELECT m.digest, m.media_type, CASE WHEN $3 THEN NULL ELSE m.payload END AS payload FROM repositories r \
             JOIN manifests m ON m.repository_id = r.id WHERE r.name = $1 AND m.digest = $2 AND m.state = 0",
            [
                repository.as_str().into(),
                digest.to_bytes().into(),
                bytes.is_some().into(),
            ],
        )
        .await?;
        let Some(row) = row else { return Ok(None) };
        let manifest = row.read(bytes)?;
        self.memory.keep(digest, &manifest.payload);
        if let (Some(cache), Some(watch)) = (cache, watch) {
            cache.store_manifest(watch, repository, &manifest);
        }
        Ok(Some(manifest))
    }

    /// Removes a manifest with its tags; refused while an index of the repository lists it.
    pub async fn delete_manifest(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
        asker: &Asker,
        lease: Duration,
    ) -> Result<Removal, CatalogError> {
        let (repository, digest, asker) = (repository.clone(), *digest, asker.clone());
        self.write(async move |write| {
            let confirmed = asker.confirm(write, &repository).await?;
            if let Some(reason) = confirmed.denies(Action::Delete) {
                return Ok(Removal::Denied(reason));
            }
            let Some(id) = find_repository(write, &repository).await? else { return Ok(Removal::Missing) };
            guard::alone(write, id).await?;
            let Some(manifest) = tags::find_manifest(write, id, &digest).await? else { return Ok(Removal::Missing) };
            let listing = "SELECT m.digest FROM manifest_edges e JOIN manifests m ON m.id = e.manifest_id \
                           WHERE e.repository_id = $1 AND e.digest = $2 AND e.manifest_id <> $3 ORDER BY m.id LIMIT $4";
            let values = [id.into(), digest.to_bytes().into(), manifest.into(), sql::signed(LISTED).into()];
            let parents: Vec<DigestRow> = sql::all(&write.transaction, listing, values).await?;
            if !parents.is_empty() {
                return Ok(Removal::Referenced(DigestRow::read_all(parents)));
            }
            // The repository is held alone, so these are the tags that go with it.
            for tag in tags::standing_at(write, manifest).await? {
                if let Some(reason) = confirmed.denies(Action::DeleteTag(&tag)) {
                    return Ok(Removal::Denied(reason));
                }
            }
            let who = asker.principal.name();
            remove_manifest(write, &repository, id, (manifest, &digest), who, lease).await?;
            let deed = Deed::new(action::MANIFEST_DELETE, &repository).with(json!({ "digest": digest.to_string() }));
            audit::note(write, &asker, deed).await?;
            Ok(Removal::Removed)
        })
        .await
    }

    /// Removes a blob from `repository`; refused while a manifest of the repository refers to it.
    pub async fn delete_blob(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
        asker: &Asker,
    ) -> Result<Removal, CatalogError> {
        let (repository, digest, asker) = (repository.clone(), *digest, asker.clone());
        self.write(async move |write| {
            if let Some(reason) = asker.confirm(write, &repository).await?.denies(Action::Delete) {
                return Ok(Removal::Denied(reason));
            }
            let Some(id) = find_repository(write, &repository).await? else { return Ok(Removal::Missing) };
            // Whoever refers to it keeps this row, so what the next statement sees is all there can be.
            let lock = format!(
                "SELECT rb.blob_id AS id FROM repository_blobs rb JOIN blobs b ON b.id = rb.blob_id \
                 WHERE rb.repository_id = $1 AND b.digest = $2{}",
                write.dialect.lock("rb")
            );
            let values = [id.into(), digest.to_bytes().into()];
            let Some(blob) = sql::one::<sql::Id>(&write.transaction, &lock, values).await? else {
                return Ok(Removal::Missing);
            };
            join_edges(write, id, blob.id, &digest.to_bytes()).await?;
            let listing = "SELECT m.digest FROM blobs b JOIN manifest_edges e ON e.blob_id = b.id AND e.repository_id = $1 \
                           JOIN manifests m ON m.id = e.manifest_id WHERE b.digest = $2 ORDER BY m.id LIMIT $3";
            let values = [id.into(), digest.to_bytes().into(), sql::signed(LISTED).into()];
            let holders: Vec<DigestRow> = sql::all(&write.transaction, listing, values).await?;
            if !holders.is_empty() {
                return Ok(Removal::Referenced(DigestRow::read_all(holders)));
            }
            let delete = "DELETE FROM repository_blobs WHERE repository_id = $1 AND blob_id = (SELECT id FROM blobs WHERE digest = $2)";
            let removed = sql::execute(&write.transaction, delete, [id.into(), digest.to_bytes().into()]).await?;
            if removed == 0 {
                return Ok(Removal::Missing);
            }
            quota::drop_blobs(write, [(id, blob.id)]).await?;
            let deed = Deed::new(action::BLOB_DELETE, &repository).with(json!({ "digest": digest.to_string() }));
            audit::note(write, &asker, deed).await?;
            write.touch(Touched::Blob(repository, digest));
            Ok(Removal::Removed)
        })
        .await
    }

    /// Removes a tag, if it stands where `precondition` says.
    pub async fn delete_tag(
        &self,
        repository: &RepositoryName,
        tag: &Tag,
        precondition: Precondition,
        asker: &Asker,
    ) -> Result<Removal, CatalogError> {
        let (repository, tag, asker) = (repository.clone(), tag.clone(), asker.clone());
        self.write(async move |write| {
            let confirmed = asker.confirm(write, &repository).await?;
            if let Some(reason) = confirmed.denies(Action::DeleteTag(&tag)) {
                return Ok(Removal::Denied(reason));
            }
            let Some(id) = find_repository(write, &repository).await? else {
                return Ok(Removal::Missing);
            };
            guard::with_others(write, id, std::slice::from_ref(&tag)).await?;
            let current = tags::current(write, id, &tag).await?;
            if !precondition.holds(current.as_ref().map(|(digest, _)| digest)) {
                return Ok(Removal::PreconditionFailed(
                    current.map(|(digest, _)| digest),
                ));
            }
            let Some((digest, manifest)) = current else {
                return Ok(Removal::Missing);
            };
            tags::remove(
                write,
                &repository,
                id,
                &tag,
                &digest,
                asker.principal.name(),
            )
            .await?;
            tags::note_if_untagged(write, manifest).await?;
            let detail = json!({ "tag": tag.as_str(), "digest": digest.to_string() });
            let deed = Deed::new(action::TAG_DELETE, &repository).with(detail);
            audit::note(write, &asker, deed).await?;
            Ok(Removal::Removed)
        })
        .await
    }
}

/// Removes a manifest, its tags, edges and the referrers it announced.
pub(crate) async fn remove_manifest(
    write: &mut Write,
    repository: &RepositoryName,
    repository_id: i64,
    (manifest, digest): (i64, &Digest),
    principal: &str,
    lease: Duration,
) -> Result<(), CatalogError> {
    tags::remove_all(write, repository, (manifest, digest), principal).await?;
    let edges = "SELECT digest FROM manifest_edges WHERE manifest_id = $1";
    let edges: Vec<DigestRow> = sql::all(&write.transaction, edges, [manifest.into()]).await?;
    // What it referred to may be unreferenced now, and a HEAD has to see that to lease it.
    for digest in DigestRow::read_all(edges) {
        write.touch(Touched::Blob(repository.clone(), digest));
    }
    // A HEAD of what was referred to leased nothing, so the grace time of what it referred to begins now.
    let release = "UPDATE repository_blobs SET candidate_since = NULL, \
                   leased_until = CASE WHEN leased_until < $1 THEN $1 ELSE leased_until END \
                   WHERE repository_id = $2 AND blob_id IN (SELECT blob_id FROM manifest_edges WHERE manifest_id = $3)";
    sql::execute(
        &write.transaction,
        release,
        [
            (write.now + micros(lease)).into(),
            repository_id.into(),
            manifest.into(),
        ],
    )
    .await?;
    // Children lose a parent and referrers their subject: the time they may be kept without a tag begins now.
    // Two statements, because each has an index of its own.
    let children = "UPDATE manifests SET untagged_since = $1, candidate_since = NULL WHERE untagged_since IS NOT NULL \
                    AND repository_id = $2 AND digest IN (SELECT digest FROM manifest_edges WHERE manifest_id = $3)";
    let values = [write.now.into(), repository_id.into(), manifest.into()];
    sql::execute(&write.transaction, children, values).await?;
    let referrers = "UPDATE manifests SET untagged_since = $1, candidate_since = NULL WHERE untagged_since IS NOT NULL \
                     AND repository_id = $2 AND subject = $3";
    let values = [
        write.now.into(),
        repository_id.into(),
        digest.to_bytes().into(),
    ];
    sql::execute(&write.transaction, referrers, values).await?;
    sql::execute(
        &write.transaction,
        "DELETE FROM manifests WHERE id = $1",
        [manifest.into()],
    )
    .await?;
    quota::drop_manifests(write, repository_id, 1).await?;
    hide_if_empty(write, repository_id).await?;
    let removed = "INSERT INTO removed_manifests (repository_id, digest, removed_at) VALUES ($1, $2, $3) \
                   ON CONFLICT (repository_id, digest) DO UPDATE SET removed_at = excluded.removed_at";
    sql::execute(
        &write.transaction,
        removed,
        [
            repository_id.into(),
            digest.to_bytes().into(),
            write.now.into(),
        ],
    )
    .await?;
    write.touch(Touched::Manifest(repository.clone(), *digest));
    Ok(())
}
