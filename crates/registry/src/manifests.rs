//! Manifests and tags: put, resolve, list, delete.

use std::sync::Arc;

use bytes::Bytes;
use granary_catalog::{
    ManifestPut, Precondition, PutOutcome, ReferrerFilter, ReferrersPage, Removal, StoredManifest,
    TagAt,
};
use granary_oci::{Algorithm, Digest, Manifest, Reference, RepositoryName, Tag};

use crate::{Principal, Registry, RegistryError};

/// A manifest to put.
#[derive(Clone, Debug)]
pub struct ManifestRequest {
    /// Where.
    pub repository: RepositoryName,
    /// The tag or digest it is put under.
    pub reference: Reference,
    /// Further tags (distribution-spec, end-7b).
    pub tags: Vec<Tag>,
    /// `Content-Type`.
    pub content_type: Option<String>,
    /// What must hold of each tag.
    pub precondition: Precondition,
    /// The manifest.
    pub body: Bytes,
}

/// A manifest that was put.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PutManifest {
    /// Its digest.
    pub digest: Digest,
    /// The digest of its subject.
    pub subject: Option<Digest>,
    /// Whether that subject is not in the repository.
    pub subject_absent: bool,
    /// Content it refers to that is not in the repository, up to 20.
    pub absent: Vec<Digest>,
}

/// Bytes of descriptors in one page of referrers: containerd reads at most 4,393,216 bytes, cosign only the first page.
const REFERRERS_BYTES: usize = 4_000_000;

impl Registry {
    /// Stores a manifest and moves its tags, all or nothing.
    pub async fn put_manifest(
        &self,
        principal: &Principal,
        request: ManifestRequest,
    ) -> Result<PutManifest, RegistryError> {
        let mut tags = request.tags;
        let digest = match &request.reference {
            Reference::Digest(expected) => {
                let actual = expected.algorithm().digest(&request.body);
                if actual != *expected {
                    return Err(RegistryError::DigestDiffers {
                        expected: *expected,
                        actual,
                    });
                }
                actual
            }
            Reference::Tag(tag) => {
                tags.insert(0, tag.clone());
                Algorithm::Sha256.digest(&request.body)
            }
        };
        tags.dedup();
        if tags.is_empty() && request.precondition != Precondition::None {
            return Err(RegistryError::PreconditionWithoutTag);
        }
        let manifest = Manifest::parse(&request.body, request.content_type.as_deref())?;
        let subject = manifest.subject;
        let put = ManifestPut {
            repository: request.repository,
            digest,
            manifest,
            payload: request.body,
            tags,
            precondition: request.precondition,
            sparse: self.parts.rules.sparse,
            principal: principal.name().to_owned(),
        };
        let registry = self.clone();
        self.to_the_end(async move {
            granary_failpoint::reach_async("manifest::before_put").await;
            match registry.parts.catalog.put_manifest(put).await? {
                PutOutcome::Stored {
                    absent,
                    subject_absent,
                } => {
                    granary_failpoint::reach_async("manifest::after_put").await;
                    Ok(PutManifest {
                        digest,
                        subject,
                        subject_absent,
                        absent,
                    })
                }
                PutOutcome::MissingContent(digests) => Err(RegistryError::ContentMissing(digests)),
                PutOutcome::PreconditionFailed { tag, current } => {
                    Err(RegistryError::PreconditionFailed { tag, current })
                }
            }
        })
        .await
    }

    /// The manifest that `reference` names for `principal`. Every read by tag comes through here (decision 11).
    pub async fn resolve(
        &self,
        _principal: &Principal,
        repository: &RepositoryName,
        reference: &Reference,
    ) -> Result<Arc<StoredManifest>, RegistryError> {
        let found = match reference {
            Reference::Tag(tag) => self.parts.catalog.tagged(repository, tag).await?,
            Reference::Digest(digest) => self.parts.catalog.manifest(repository, digest).await?,
        };
        match found {
            Some(manifest) => Ok(manifest),
            None if !self.parts.catalog.repository_exists(repository).await? => {
                Err(RegistryError::NameUnknown(repository.clone()))
            }
            None => Err(RegistryError::ManifestUnknown(reference.to_string())),
        }
    }

    /// The manifest that `tag` stood at, at `time` (microseconds since 1970).
    pub async fn resolve_at(
        &self,
        repository: &RepositoryName,
        tag: &Tag,
        time: i64,
    ) -> Result<Arc<StoredManifest>, RegistryError> {
        match self.parts.catalog.tagged_at(repository, tag, time).await? {
            TagAt::Manifest(manifest) => Ok(manifest),
            TagAt::Absent => Err(RegistryError::ManifestUnknown(tag.to_string())),
            TagAt::Removed(digest, removed_at) => {
                Err(RegistryError::ManifestRemoved { digest, removed_at })
            }
        }
    }

    /// Removes a tag, or a manifest with all its tags.
    pub async fn delete_manifest(
        &self,
        principal: &Principal,
        repository: &RepositoryName,
        reference: &Reference,
        precondition: Precondition,
    ) -> Result<(), RegistryError> {
        if !self.parts.rules.delete {
            return Err(RegistryError::DeleteDisabled);
        }
        if matches!(reference, Reference::Digest(_)) && precondition != Precondition::None {
            return Err(RegistryError::PreconditionWithoutTag);
        }
        let (registry, repository, reference) =
            (self.clone(), repository.clone(), reference.clone());
        let principal = principal.name().to_owned();
        self.to_the_end(async move {
            let catalog = &registry.parts.catalog;
            let removal = match &reference {
                Reference::Tag(tag) => {
                    catalog
                        .delete_tag(&repository, tag, precondition, &principal)
                        .await?
                }
                Reference::Digest(digest) => {
                    catalog
                        .delete_manifest(
                            &repository,
                            digest,
                            &principal,
                            registry.parts.rules.grace,
                        )
                        .await?
                }
            };
            match (removal, reference) {
                (Removal::Removed, _) => Ok(()),
                (Removal::Referenced(by), _) => Err(RegistryError::Referenced(by)),
                (Removal::PreconditionFailed(current), Reference::Tag(tag)) => {
                    Err(RegistryError::PreconditionFailed { tag, current })
                }
                (Removal::Missing | Removal::PreconditionFailed(_), reference) => {
                    Err(RegistryError::ManifestUnknown(reference.to_string()))
                }
            }
        })
        .await
    }

    /// Up to `limit` tags behind `last`, in bytewise order.
    pub async fn tags(
        &self,
        repository: &RepositoryName,
        last: &str,
        limit: u64,
    ) -> Result<Vec<String>, RegistryError> {
        let tags = self.parts.catalog.tags(repository, last, limit).await?;
        tags.ok_or_else(|| RegistryError::NameUnknown(repository.clone()))
    }

    /// Up to `limit` repositories behind `last`, in bytewise order.
    pub async fn repositories(&self, last: &str, limit: u64) -> Result<Vec<String>, RegistryError> {
        Ok(self.parts.catalog.repositories(last, limit).await?)
    }

    /// A page of the manifests that have `subject`; empty if nothing is known of it.
    pub async fn referrers(
        &self,
        repository: &RepositoryName,
        subject: &Digest,
        filter: &ReferrerFilter,
    ) -> Result<ReferrersPage, RegistryError> {
        Ok(self
            .parts
            .catalog
            .referrers(repository, subject, filter, REFERRERS_BYTES)
            .await?)
    }
}
