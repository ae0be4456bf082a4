//! Upload sessions: begin, append, finish, cancel, and uploads in one request.

use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use granary_blobs::ObjectKey;
use granary_catalog::{
    Asker, BlobPlace, FinishOutcome, FinishedBlob, MountOutcome, NewUpload, UploadStanding,
};
use granary_oci::{Algorithm, ContentRange, Digest, Hasher, RepositoryName};
use tokio::sync::mpsc;

use crate::{
    Registry, RegistryError,
    access::{May, Pushing},
    transfer::Transfer,
};

/// Where a session stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UploadStatus {
    /// Its name.
    pub id: String,
    /// Bytes that are durable.
    pub received: u64,
}

/// Why a request's body did not arrive whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// The connection broke.
    #[error(
        "the connection ended before the body did: ask for the session's status and go on from there"
    )]
    Cut,
    /// Nothing came for too long, or too little while others waited.
    #[error("the body came too slowly: an upload goes on where its session's status says")]
    Stalled,
}

/// What the headers of a chunk say of it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Chunk {
    /// `Content-Range`.
    pub range: Option<ContentRange>,
    /// `Content-Length`.
    pub length: Option<u64>,
}

impl Chunk {
    /// What the body must have, if that was announced.
    pub(crate) fn announced(&self) -> Option<u64> {
        self.range.map(ContentRange::length).or(self.length)
    }
}

/// What a handler passes on to the task that writes.
pub(crate) enum Piece {
    Data(Bytes),
    End,
}

/// Pieces between the connection and the writer; with pieces of at most 64 KiB this is 1 MiB.
const PIECES: usize = 16;

/// What to do with the bytes once they are there.
pub(crate) enum Ending {
    Save,
    Finish(Digest),
}

impl May<Pushing> {
    /// Begins a session. A named algorithm is hashed from the first byte on.
    pub async fn begin_upload(
        &self,
        algorithm: Option<Algorithm>,
    ) -> Result<UploadStatus, RegistryError> {
        self.parts().store.admit().await?;
        self.create_session(algorithm, None).await
    }

    async fn create_session(
        &self,
        algorithm: Option<Algorithm>,
        object: Option<ObjectKey>,
    ) -> Result<UploadStatus, RegistryError> {
        let limit = self.parts().rules.uploads_per_principal;
        let upload = NewUpload {
            id: uuid::Uuid::new_v4().to_string(),
            repository: self.repository.clone(),
            principal: self.caller.principal.key(),
            hash_state: Hasher::new(algorithm).export(),
            storage_key: object.map(|key| key.as_str().to_owned()),
            limit,
        };
        let status = UploadStatus {
            id: upload.id.clone(),
            received: 0,
        };
        if self.parts().catalog.create_upload(upload).await? {
            Ok(status)
        } else {
            Err(RegistryError::TooManyUploads { limit })
        }
    }

    /// Where session `id` stands.
    pub async fn upload_status(&self, id: &str) -> Result<UploadStatus, RegistryError> {
        let row = self.open_session(id).await?;
        Ok(UploadStatus {
            id: id.to_owned(),
            received: row.received,
        })
    }

    /// Whether a chunk would begin where session `id` stands.
    pub async fn expect_chunk(&self, id: &str, chunk: Chunk) -> Result<(), RegistryError> {
        let row = self.open_session(id).await?;
        in_order(id, row.received, chunk)
    }

    /// Appends a chunk and makes it durable.
    pub async fn append<B>(
        &self,
        id: &str,
        chunk: Chunk,
        body: B,
    ) -> Result<UploadStatus, RegistryError>
    where
        B: Stream<Item = Result<Bytes, BodyError>> + Unpin,
    {
        let received = self.transfer(id, chunk, body, Ending::Save).await?;
        Ok(UploadStatus {
            id: id.to_owned(),
            received,
        })
    }

    /// Appends the last chunk, if there is one, and stores the blob if it has digest `expected`.
    pub async fn finish_upload<B>(
        &self,
        id: &str,
        expected: Digest,
        chunk: Chunk,
        body: B,
    ) -> Result<(), RegistryError>
    where
        B: Stream<Item = Result<Bytes, BodyError>> + Unpin,
    {
        if self.is_finished(id, &expected).await? {
            return Ok(());
        }
        let ending = Ending::Finish(expected);
        match self.transfer(id, chunk, body, ending).await {
            // Another closing PUT may have come first, between the look and the claim.
            Err(RegistryError::UploadUnknown(_)) if self.is_finished(id, &expected).await? => {
                Ok(())
            }
            outcome => outcome.map(drop),
        }
    }

    /// Stores a blob that comes in one request, without a session the client could resume.
    pub async fn push_blob<B>(
        &self,
        expected: Digest,
        length: Option<u64>,
        mut body: B,
    ) -> Result<(), RegistryError>
    where
        B: Stream<Item = Result<Bytes, BodyError>> + Unpin,
    {
        self.parts().store.admit().await?;
        let small = length.filter(|&length| length <= self.parts().rules.inline_max as u64);
        let Some(announced) = small else {
            let algorithm = Some(expected.algorithm());
            let status = self
                .create_session(algorithm, Some(ObjectKey::unique()))
                .await?;
            let chunk = Chunk {
                range: None,
                length,
            };
            let stored = self.finish_upload(&status.id, expected, chunk, body).await;
            if stored.is_err() {
                self.cancel_upload(&status.id).await.ok();
            }
            return stored;
        };
        let mut bytes = bytes::BytesMut::with_capacity(usize::try_from(announced).unwrap_or(0));
        while let Some(piece) = body.next().await {
            bytes.extend_from_slice(&piece?);
            if bytes.len() as u64 > announced {
                break;
            }
        }
        if bytes.len() as u64 != announced {
            return Err(RegistryError::SizeDiffers {
                announced,
                actual: bytes.len() as u64,
            });
        }
        let actual = expected.algorithm().digest(&bytes);
        if actual != expected {
            return Err(RegistryError::DigestDiffers { expected, actual });
        }
        let place = BlobPlace::Inline(bytes.freeze());
        let asker = self.asker();
        let registry = &self.registry;
        let blob = registry.finished(&self.repository, expected, announced, place, asker);
        let registry = self.registry.clone();
        let storing = self
            .registry
            .to_the_end(async move { Ok(registry.parts.catalog.store_blob(blob).await?) });
        match storing.await? {
            FinishOutcome::Denied(reason) => Err(self.denied(reason)),
            FinishOutcome::Stored | FinishOutcome::Superseded => Ok(()),
        }
    }

    /// Ends session `id` and forgets its bytes.
    pub async fn cancel_upload(&self, id: &str) -> Result<(), RegistryError> {
        self.open_session(id).await?;
        self.parts().sessions.stop(id).await;
        // Another process may be writing to it and will only hear of this later.
        let delay = if self.parts().catalog.is_shared() {
            self.parts().rules.read_grace.min(self.parts().rules.grace)
        } else {
            Duration::ZERO
        };
        let cancelling = self
            .parts()
            .catalog
            .cancel_upload(&self.repository, id, delay);
        if cancelling.await? {
            Ok(())
        } else {
            Err(RegistryError::UploadUnknown(id.to_owned()))
        }
    }

    /// Makes a blob that is here already one of this repository too; `false` if the principal may read none (decision 25).
    pub async fn mount(
        &self,
        from: Option<&RepositoryName>,
        digest: &Digest,
    ) -> Result<bool, RegistryError> {
        let (registry, to) = (self.registry.clone(), self.repository.clone());
        let (from, digest, asker) = (from.cloned(), *digest, self.asker());
        let mounting = self.registry.to_the_end(async move {
            let (catalog, grace) = (&registry.parts.catalog, registry.parts.rules.grace);
            granary_failpoint::reach_async("mount::before").await;
            let mounting = catalog.mount(&to, from.as_ref(), &digest, grace, &asker);
            Ok(mounting.await?)
        });
        match mounting.await? {
            MountOutcome::Mounted => Ok(true),
            MountOutcome::Missing => Ok(false),
            MountOutcome::Denied(reason) => Err(self.denied(reason)),
        }
    }

    /// Whether session `id` was closed with `digest` already.
    async fn is_finished(&self, id: &str, digest: &Digest) -> Result<bool, RegistryError> {
        let row = self.parts().catalog.upload(&self.repository, id).await?;
        let mine = row.filter(|row| row.principal == self.caller.principal.key());
        Ok(mine.is_some_and(|row| row.finished == Some(*digest)))
    }

    /// The open session `id`, if this principal began it.
    pub(crate) async fn open_session(&self, id: &str) -> Result<UploadStanding, RegistryError> {
        let row = self.parts().catalog.upload(&self.repository, id).await?;
        row.filter(|row| row.finished.is_none() && row.principal == self.caller.principal.key())
            .ok_or_else(|| RegistryError::UploadUnknown(id.to_owned()))
    }

    /// Passes the body to a task of its own, which saves what came even if this request is dropped.
    async fn transfer<B>(
        &self,
        id: &str,
        chunk: Chunk,
        mut body: B,
        ending: Ending,
    ) -> Result<u64, RegistryError>
    where
        B: Stream<Item = Result<Bytes, BodyError>> + Unpin,
    {
        let (pieces, incoming) = mpsc::channel(PIECES);
        let (may, session) = (self.clone(), id.to_owned());
        let written = self.registry.to_the_end(async move {
            let transfer = Transfer::claim(may, session).await?;
            transfer.run(chunk, incoming, ending).await
        });
        let forward = async move {
            loop {
                // A writer that has ended needs no more of the body; its own answer says why.
                let piece = tokio::select! {
                    biased;
                    () = pieces.closed() => return Ok(()),
                    piece = body.next() => piece,
                };
                let Some(piece) = piece else { break };
                if pieces.send(Piece::Data(piece?)).await.is_err() {
                    return Ok(());
                }
            }
            pieces.send(Piece::End).await.ok();
            Ok(())
        };
        let (forwarded, written) = futures_util::future::join(forward, written).await;
        match (forwarded, written) {
            (Err(cut), _) => Err(RegistryError::Body(cut)),
            (Ok(()), written) => written,
        }
    }
}

impl Registry {
    pub(crate) fn finished(
        &self,
        repository: &RepositoryName,
        digest: Digest,
        size: u64,
        place: BlobPlace,
        asker: Asker,
    ) -> FinishedBlob {
        FinishedBlob {
            repository: repository.clone(),
            digest,
            size,
            place,
            lease: self.parts.rules.grace,
            asker,
        }
    }
}

pub(crate) fn in_order(id: &str, received: u64, chunk: Chunk) -> Result<(), RegistryError> {
    match chunk.range {
        Some(range) if range.first != received => {
            let status = UploadStatus {
                id: id.to_owned(),
                received,
            };
            Err(RegistryError::ChunkOutOfOrder {
                first: range.first,
                status,
            })
        }
        _ => Ok(()),
    }
}
