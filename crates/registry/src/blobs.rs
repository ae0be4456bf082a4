//! Reading and removing blobs.

use std::sync::Arc;

use bytes::Bytes;
use granary_blobs::{BlobStream, ObjectKey, StoreError};
use granary_catalog::{BlobPlace, Removal, StoredBlob};
use granary_oci::{ByteRange, Digest};

use crate::{
    RegistryError,
    access::{Asks, Deleting, May, Reading},
};

/// The bytes of a range of a blob.
pub enum BlobBody {
    /// In memory already.
    Bytes(Bytes),
    /// Read from the store as they are taken.
    Stream(BlobStream),
}

impl May<Reading> {
    /// The blob `digest` of the repository.
    pub async fn blob(&self, digest: &Digest) -> Result<Arc<StoredBlob>, RegistryError> {
        let blob = self.parts().catalog.blob(&self.repository, digest).await?;
        blob.ok_or(RegistryError::BlobUnknown(*digest))
    }

    /// The same for a client that asks whether it must push: what it is told is there stays for a while (decision 12).
    pub async fn check_blob(&self, digest: &Digest) -> Result<Arc<StoredBlob>, RegistryError> {
        let blob = self.blob(digest).await?;
        let grace = self.parts().rules.grace;
        let half = granary_catalog::dialect::now() + granary_catalog::dialect::micros(grace / 2);
        if blob.referenced || blob.leased_until > half || !self.also(Asks::Push) {
            return Ok(blob);
        }
        granary_failpoint::reach_async("head::before_lease").await;
        self.parts()
            .catalog
            .renew_lease(&self.repository, digest, grace)
            .await?;
        // Collected between the look and the lease: the client has to hear that it must push.
        self.blob(digest).await
    }

    /// The bytes of `range` of a blob. An object the store lost is quarantined, so that the next push repairs it.
    pub async fn read_blob(
        &self,
        digest: &Digest,
        blob: &StoredBlob,
        range: ByteRange,
    ) -> Result<BlobBody, RegistryError> {
        match &blob.place {
            BlobPlace::Inline(bytes) => {
                let end = |offset: u64| {
                    usize::try_from(offset)
                        .unwrap_or(usize::MAX)
                        .min(bytes.len())
                };
                Ok(BlobBody::Bytes(
                    bytes.slice(end(range.first)..end(range.last + 1)),
                ))
            }
            BlobPlace::Object(key) => {
                match self.parts().store.read(&parse_key(key)?, range).await {
                    Ok(stream) => Ok(BlobBody::Stream(stream)),
                    Err(StoreError::Missing { .. }) => {
                        tracing::error!(%digest, key, "the store has lost the object of a blob; it is quarantined until it is pushed again");
                        self.parts().catalog.quarantine_object(key).await?;
                        Err(RegistryError::BlobUnknown(*digest))
                    }
                    Err(error) => Err(error.into()),
                }
            }
        }
    }

    /// The address at which the store itself serves the blob, if pulls of it are sent on.
    pub async fn blob_link(&self, blob: &StoredBlob) -> Result<Option<String>, RegistryError> {
        let Some(redirect) = &self.parts().rules.redirect else {
            return Ok(None);
        };
        let BlobPlace::Object(key) = &blob.place else {
            return Ok(None);
        };
        let namespace = self.repository.namespace();
        if blob.size < redirect.min || redirect.except.iter().any(|name| name == namespace) {
            return Ok(None);
        }
        let key = parse_key(key)?;
        Ok(self.parts().store.link(&key, redirect.lifetime).await?)
    }
}

impl May<Deleting> {
    /// Removes a blob from the repository, at once; refused while a manifest there refers to it.
    pub async fn delete_blob(&self, digest: &Digest) -> Result<(), RegistryError> {
        if !self.parts().rules.delete {
            return Err(RegistryError::DeleteDisabled);
        }
        let (registry, repository) = (self.registry.clone(), self.repository.clone());
        let (digest, asker) = (*digest, self.asker());
        let removing = self.registry.to_the_end(async move {
            let catalog = &registry.parts.catalog;
            Ok(catalog.delete_blob(&repository, &digest, &asker).await?)
        });
        match removing.await? {
            Removal::Removed => Ok(()),
            Removal::Referenced(by) => Err(RegistryError::Referenced(by)),
            Removal::Denied(reason) => Err(self.denied(reason)),
            Removal::Missing | Removal::PreconditionFailed(_) => {
                Err(RegistryError::BlobUnknown(digest))
            }
        }
    }
}

/// A key as the catalog keeps it.
pub(crate) fn parse_key(key: &str) -> Result<ObjectKey, RegistryError> {
    key.parse()
        .map_err(|_| RegistryError::Internal("the catalog holds an object key that cannot be read"))
}
