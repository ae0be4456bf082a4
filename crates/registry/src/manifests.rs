//! Manifests and tags: put, resolve, list, delete.

use std::sync::Arc;

use bytes::Bytes;
use granary_access::{Caller, Credential, TokenAccess, Verb};
use granary_catalog::{
    ManifestPut, Precondition, PutOutcome, ReferrerFilter, ReferrersPage, Removal, StoredManifest,
    TagAt,
};
use granary_oci::{Algorithm, Digest, Manifest, Reference, RepositoryName, Tag};

use crate::{
    Principal, Registry, RegistryError,
    access::{Asks, Deleting, May, Pushing, Reading},
};

/// A manifest to put.
#[derive(Clone, Debug)]
pub struct ManifestRequest {
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

/// Names of repositories that are read at once where some of them may not be in a credential's scopes.
const PAGE: u64 = 1000;

/// Bytes of descriptors in one page of referrers: containerd reads at most 4,393,216 bytes, cosign only the first page.
const REFERRERS_BYTES: usize = 4_000_000;

impl May<Pushing> {
    /// Stores a manifest and moves its tags, all or nothing.
    pub async fn put_manifest(
        &self,
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
            repository: self.repository.clone(),
            digest,
            manifest,
            payload: request.body,
            tags,
            precondition: request.precondition,
            sparse: self.parts().rules.sparse,
            asker: self.asker(),
        };
        let registry = self.registry.clone();
        let putting = self.registry.to_the_end(async move {
            granary_failpoint::reach_async("manifest::before_put").await;
            let outcome = registry.parts.catalog.put_manifest(put).await?;
            if matches!(outcome, PutOutcome::Stored { .. }) {
                granary_failpoint::reach_async("manifest::after_put").await;
            }
            Ok(outcome)
        });
        match putting.await? {
            PutOutcome::Stored {
                absent,
                subject_absent,
            } => Ok(PutManifest {
                digest,
                subject,
                subject_absent,
                absent,
            }),
            PutOutcome::MissingContent(digests) => Err(RegistryError::ContentMissing(digests)),
            PutOutcome::PreconditionFailed { tag, current } => {
                Err(RegistryError::PreconditionFailed { tag, current })
            }
            PutOutcome::Denied(reason, tag) => Err(self.denied_at(reason, tag)),
        }
    }
}

impl May<Reading> {
    /// The manifest that `reference` names for the principal. Every read by tag comes through here (decision 11).
    pub async fn resolve(
        &self,
        reference: &Reference,
    ) -> Result<Arc<StoredManifest>, RegistryError> {
        let (catalog, repository) = (&self.parts().catalog, &self.repository);
        let found = match reference {
            Reference::Tag(tag) => catalog.tagged(repository, tag).await?,
            Reference::Digest(digest) => catalog.manifest(repository, digest).await?,
        };
        match found {
            Some(manifest) => Ok(manifest),
            None if !catalog.repository_exists(repository).await? => {
                Err(RegistryError::NameUnknown(repository.clone()))
            }
            None => Err(RegistryError::ManifestUnknown(reference.to_string())),
        }
    }

    /// The manifest that `tag` stood at, at `time` (microseconds since 1970).
    pub async fn resolve_at(
        &self,
        tag: &Tag,
        time: i64,
    ) -> Result<Arc<StoredManifest>, RegistryError> {
        let catalog = &self.parts().catalog;
        match catalog.tagged_at(&self.repository, tag, time).await? {
            TagAt::Manifest(manifest) => Ok(manifest),
            TagAt::Absent => Err(RegistryError::ManifestUnknown(tag.to_string())),
            TagAt::Removed(digest, removed_at) => {
                Err(RegistryError::ManifestRemoved { digest, removed_at })
            }
        }
    }

    /// Up to `limit` tags behind `last`, in bytewise order.
    pub async fn tags(&self, last: &str, limit: u64) -> Result<Vec<String>, RegistryError> {
        let catalog = &self.parts().catalog;
        let tags = catalog.tags(&self.repository, last, limit).await?;
        tags.ok_or_else(|| RegistryError::NameUnknown(self.repository.clone()))
    }

    /// A page of the manifests that have `subject`; empty if nothing is known of it.
    pub async fn referrers(
        &self,
        subject: &Digest,
        filter: &ReferrerFilter,
    ) -> Result<ReferrersPage, RegistryError> {
        Ok(self
            .parts()
            .catalog
            .referrers(&self.repository, subject, filter, REFERRERS_BYTES)
            .await?)
    }
}

impl May<Deleting> {
    /// Removes a tag, or a manifest with all its tags.
    pub async fn delete_manifest(
        &self,
        reference: &Reference,
        precondition: Precondition,
    ) -> Result<(), RegistryError> {
        if !self.parts().rules.delete {
            return Err(RegistryError::DeleteDisabled);
        }
        if matches!(reference, Reference::Digest(_)) && precondition != Precondition::None {
            return Err(RegistryError::PreconditionWithoutTag);
        }
        let (registry, repository) = (self.registry.clone(), self.repository.clone());
        let (named, asker) = (reference.clone(), self.asker());
        let removing = self.registry.to_the_end(async move {
            let (catalog, grace) = (&registry.parts.catalog, registry.parts.rules.grace);
            let removal = match &named {
                Reference::Tag(tag) => {
                    let removing = catalog.delete_tag(&repository, tag, precondition, &asker);
                    removing.await?
                }
                Reference::Digest(digest) => {
                    let removing = catalog.delete_manifest(&repository, digest, &asker, grace);
                    removing.await?
                }
            };
            Ok(removal)
        });
        match (removing.await?, reference) {
            (Removal::Removed, _) => Ok(()),
            (Removal::Referenced(by), _) => Err(RegistryError::Referenced(by)),
            (Removal::Denied(reason), _) => Err(self.denied(reason)),
            (Removal::PreconditionFailed(current), Reference::Tag(tag)) => {
                Err(RegistryError::PreconditionFailed {
                    tag: tag.clone(),
                    current,
                })
            }
            (Removal::Missing | Removal::PreconditionFailed(_), reference) => {
                Err(RegistryError::ManifestUnknown(reference.to_string()))
            }
        }
    }
}

impl Registry {
    /// The manifest that a tag stands at, if the principal may read it. As [`authorise`](Self::authorise) and then
    /// [`resolve`](May::resolve) say, but what was known of the principal's rights is asked in the same statement as the tag.
    pub async fn pull(
        &self,
        caller: impl Into<Caller>,
        repository: RepositoryName,
        tag: &Tag,
    ) -> Result<Arc<StoredManifest>, RegistryError> {
        let caller = caller.into();
        if let Principal::Known { .. } = caller.principal {
            let catalog = &self.parts.catalog;
            let asking = catalog.tagged_within_rights(caller.principal.ids(), &repository, tag);
            if let Some((rights, manifest)) = asking.await? {
                self.allowed(&caller, Asks::Read, Some(&repository), &rights)?;
                return Ok(manifest);
            }
        }
        let may = self.authorise::<Reading>(caller, repository).await?;
        may.resolve(&Reference::Tag(tag.clone())).await
    }

    /// Up to `limit` repositories behind `last` that the principal may read, in bytewise order. A token that names
    /// repositories leaves those of them that it lets read.
    pub async fn repositories(
        &self,
        caller: impl Into<Caller>,
        last: &str,
        limit: u64,
    ) -> Result<Vec<String>, RegistryError> {
        let caller = caller.into();
        self.admit(&caller, Asks::List).await?;
        let (catalog, address) = (&self.parts.catalog, caller.origin.address);
        let who = match &caller.principal {
            Principal::Local | Principal::Operator => {
                return Ok(catalog.repositories(last, limit).await?);
            }
            Principal::Anonymous => None,
            Principal::Known { id, credential, .. } => Some((*id, credential)),
        };
        let (mut last, mut found) = (last.to_owned(), Vec::new());
        loop {
            let id = who.map(|(id, _)| id);
            let rows = limit.max(PAGE);
            let page = catalog
                .readable_repositories(id, address, &last, rows)
                .await?;
            let is_whole = (page.len() as u64) < rows;
            last = page.last().cloned().unwrap_or(last);
            let is_shown = |name: &String| match who {
                None => true,
                Some((_, credential)) => name.parse().is_ok_and(|name| lists(credential, &name)),
            };
            found.extend(page.into_iter().filter(is_shown));
            found.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
            if is_whole || found.len() as u64 >= limit {
                return Ok(found);
            }
        }
    }
}

/// Whether a repository that may be read is listed for who shows this. A token that names none was made to list, or to log in:
/// the scope for the catalog puts nothing into a token.
fn lists(credential: &Credential, name: &RepositoryName) -> bool {
    let is_named = |token: &TokenAccess| token.verbs(Some(name)).has(Verb::Read);
    let token = credential.token.as_ref();
    let scopes = credential.scopes.verbs(Some(name), None);
    scopes.has(Verb::Read) && token.is_none_or(|token| token.is_empty() || is_named(token))
}
