//! Taking in the bytes of an upload: few stay in the catalog, many go to an object.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use granary_blobs::{BlobWriter, Checkpoint, ObjectKey, Unsaved};
use granary_catalog::{BlobPlace, Progress, StoredUpload};
use granary_oci::{Algorithm, ByteRange, Digest, Hasher};

use crate::{RegistryError, blobs::parse_key, registry::Parts};

/// Where the bytes of one session go.
pub(crate) struct Receiver<'a> {
    parts: &'a Parts,
    id: &'a str,
    epoch: i64,
    /// The object noted in the session row, before or after it holds anything.
    key: Option<ObjectKey>,
    place: Place,
}

enum Place {
    Inline {
        bytes: BytesMut,
        hasher: Box<Hasher>,
    },
    Object {
        writer: Box<dyn BlobWriter>,
        received: u64,
    },
}

impl<'a> Receiver<'a> {
    /// Takes a session up where it was last saved.
    pub(crate) async fn resume(
        parts: &'a Parts,
        id: &'a str,
        row: &StoredUpload,
    ) -> Result<Self, RegistryError> {
        let hasher = Hasher::import(&row.hash_state).map_err(|_| {
            RegistryError::Internal("the hash state of an upload session cannot be read")
        })?;
        let key = match &row.storage_key {
            None => None,
            Some(key) => Some(parse_key(key)?),
        };
        let place = match (&key, &row.tail) {
            (Some(key), None) if row.received > 0 => {
                let checkpoint = Checkpoint {
                    offset: row.received,
                    hasher,
                    state: row.store_state.clone(),
                    tail: Bytes::new(),
                };
                Place::Object {
                    writer: parts
                        .store
                        .append(key, checkpoint, Arc::new(Unsaved))
                        .await?,
                    received: row.received,
                }
            }
            (_, tail) => Place::Inline {
                bytes: BytesMut::from(tail.as_deref().unwrap_or_default()),
                hasher: Box::new(hasher),
            },
        };
        Ok(Self {
            parts,
            id,
            epoch: row.epoch,
            key,
            place,
        })
    }

    /// Bytes so far.
    pub(crate) fn received(&self) -> u64 {
        match &self.place {
            Place::Inline { bytes, .. } => bytes.len() as u64,
            Place::Object { received, .. } => *received,
        }
    }

    /// Takes in the next bytes.
    pub(crate) async fn take(&mut self, bytes: Bytes) -> Result<(), RegistryError> {
        if let Place::Inline {
            bytes: tail,
            hasher,
        } = &mut self.place
        {
            if tail.len() + bytes.len() <= self.parts.rules.inline_max {
                hasher.update(&bytes);
                tail.extend_from_slice(&bytes);
                return Ok(());
            }
            let (tail, hasher) = (tail.split().freeze(), hasher.fresh());
            self.open_object(tail, hasher).await?;
        }
        if let Place::Object { writer, received } = &mut self.place {
            *received += bytes.len() as u64;
            writer.write(bytes).await?;
        }
        Ok(())
    }

    /// Moves what came so far to an object. The session row names it first, so that a crash leaves no stray object.
    async fn open_object(&mut self, tail: Bytes, hasher: Hasher) -> Result<(), RegistryError> {
        let key = match &self.key {
            Some(key) => key.clone(),
            None => {
                let key = ObjectKey::unique();
                if !self
                    .parts
                    .catalog
                    .reserve_object(self.id, self.epoch, key.as_str())
                    .await?
                {
                    return Err(RegistryError::UploadUnknown(self.id.to_owned()));
                }
                key
            }
        };
        let mut writer = self
            .parts
            .store
            .append(&key, Checkpoint::start(hasher), Arc::new(Unsaved))
            .await?;
        let received = tail.len() as u64;
        writer.write(tail).await?;
        self.key = Some(key);
        self.place = Place::Object { writer, received };
        Ok(())
    }

    /// Makes everything so far durable and saves how far that is.
    pub(crate) async fn save(&mut self) -> Result<u64, RegistryError> {
        let storage_key = self.key.as_ref().map(|key| key.as_str().to_owned());
        let progress = match &mut self.place {
            Place::Inline { bytes, hasher } => Progress {
                received: bytes.len() as u64,
                hash_state: hasher.export(),
                storage_key,
                store_state: Vec::new(),
                tail: Some(Bytes::copy_from_slice(bytes)),
            },
            Place::Object { writer, .. } => {
                let checkpoint = writer.sync().await?;
                Progress {
                    received: checkpoint.offset,
                    hash_state: checkpoint.hasher.export(),
                    storage_key,
                    store_state: checkpoint.state,
                    tail: None,
                }
            }
        };
        let received = progress.received;
        granary_failpoint::reach_async("upload::before_save").await;
        if !self
            .parts
            .catalog
            .save_upload(self.id, self.epoch, progress)
            .await?
        {
            return Err(RegistryError::UploadUnknown(self.id.to_owned()));
        }
        granary_failpoint::reach_async("upload::after_save").await;
        Ok(received)
    }

    /// Ends the blob if it has digest `expected`: from here on nothing may cancel it.
    pub(crate) async fn finish(self, expected: &Digest) -> Result<(u64, BlobPlace), RegistryError> {
        match self.place {
            Place::Inline { bytes, hasher } => {
                let actual = hasher
                    .digest(expected.algorithm())
                    .unwrap_or_else(|| expected.algorithm().digest(&bytes));
                check(expected, actual)?;
                Ok((bytes.len() as u64, BlobPlace::Inline(bytes.freeze())))
            }
            Place::Object { mut writer, .. } => {
                let key = self
                    .key
                    .ok_or(RegistryError::Internal("an upload session lost its object"))?;
                // Compared before the object is ended, so that the session can go back to before a wrong body.
                let known = writer.digest(expected.algorithm()).await?;
                if let Some(actual) = known {
                    check(expected, actual)?;
                }
                let checkpoint = writer.finish().await?;
                if known.is_none() {
                    let length = checkpoint.offset;
                    check(
                        expected,
                        re_read(self.parts, &key, length, expected.algorithm()).await?,
                    )?;
                }
                Ok((
                    checkpoint.offset,
                    BlobPlace::Object(key.as_str().to_owned()),
                ))
            }
        }
    }
}

fn check(expected: &Digest, actual: Digest) -> Result<(), RegistryError> {
    if *expected == actual {
        Ok(())
    } else {
        Err(RegistryError::DigestDiffers {
            expected: *expected,
            actual,
        })
    }
}

/// Hashes a stored object: only for a session that named its algorithm after the bytes (decision 4), and for scrub.
pub(crate) async fn re_read(
    parts: &Parts,
    key: &ObjectKey,
    length: u64,
    algorithm: Algorithm,
) -> Result<Digest, RegistryError> {
    let mut hasher = Hasher::new(Some(algorithm));
    if let Some(last) = length.checked_sub(1) {
        let mut stream = parts.store.read(key, ByteRange { first: 0, last }).await?;
        while let Some(piece) = stream.next().await {
            hasher.update(&piece?);
        }
    }
    hasher
        .digest(algorithm)
        .ok_or(RegistryError::Internal("a hasher lost its algorithm"))
}
