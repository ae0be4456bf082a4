//! Blobs of one repository: found here, taken from another repository, or copied.

use std::{
    collections::HashSet,
    io,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use granary_oci::{Digest, Hasher, RepositoryName};

use super::{
    Import, SourceKind,
    source::{Content, ReadError},
};
use crate::{
    BodyError, Pushing, Reading, RegistryError,
    left_out::{Finding, Kind},
};

/// What is done at once: enough to share the catalog's commits.
pub(super) const AT_ONCE: usize = 8;

/// What became of a blob.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Held,
    Mounted,
    Copied(u64),
    InPlace(u64),
    /// It is not in the source, and need not be.
    Absent,
    LeftOut(String, &'static str),
}

const PULL_AGAIN: &str =
    "push it again, or put a good copy of the file into the source and import once more";

impl Import<'_> {
    /// Takes blobs into `repository`, each with whether it must be there; `linked` ones belong to it by the source's
    /// own word. Tells of each whether it came.
    pub(super) async fn take_blobs(
        &mut self,
        repository: &RepositoryName,
        wanted: Vec<(Digest, bool)>,
        linked: &HashSet<Digest>,
    ) -> Result<Vec<(Digest, bool)>, RegistryError> {
        let mut outcomes = Vec::with_capacity(wanted.len());
        {
            let this = &*self;
            let mut running = stream::iter(wanted)
                .map(|(digest, needed)| async move {
                    let trusted = linked.contains(&digest);
                    let outcome = this.take_blob(repository, &digest, trusted, needed).await;
                    outcome.map(|outcome| (digest, outcome))
                })
                .buffer_unordered(AT_ONCE);
            while let Some(outcome) = running.next().await {
                outcomes.push(outcome?);
            }
        }
        let mut came = Vec::with_capacity(outcomes.len());
        for (digest, outcome) in outcomes {
            let new = matches!(
                outcome,
                Outcome::Mounted | Outcome::Copied(_) | Outcome::InPlace(_)
            );
            if new && self.kind == SourceKind::StorageTree && !linked.contains(&digest) {
                self.note_unlinked(repository, &digest);
            }
            came.push((digest, self.count(repository, &digest, outcome)));
        }
        Ok(came)
    }

    /// Enters what became of a blob into the report, and says whether it came.
    fn count(&mut self, repository: &RepositoryName, digest: &Digest, outcome: Outcome) -> bool {
        let blobs = &mut self.report.blobs;
        match outcome {
            Outcome::Held => blobs.held += 1,
            Outcome::Mounted => blobs.mounted += 1,
            Outcome::Copied(bytes) => {
                blobs.copied += 1;
                blobs.bytes += bytes;
            }
            Outcome::InPlace(bytes) => {
                blobs.in_place += 1;
                blobs.in_place_bytes += bytes;
            }
            Outcome::Absent => return false,
            Outcome::LeftOut(why, remedy) => {
                let finding = Finding::new(Kind::Blob, digest, why, remedy);
                self.report.leave_out(finding.in_repository(repository));
                return false;
            }
        }
        true
    }

    async fn take_blob(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
        trusted: bool,
        needed: bool,
    ) -> Result<Outcome, RegistryError> {
        let registry = self.registry;
        let may = registry.operator::<Reading>(repository);
        let held = if self.report.dry_run {
            may.blob(digest).await
        } else {
            may.check_blob(digest).await
        };
        match held {
            Ok(_) => return Ok(Outcome::Held),
            Err(RegistryError::BlobUnknown(_)) => {}
            Err(error) => return Err(error),
        }
        let content = match self.source.open(&self.blob_path(digest)).await {
            Ok(content) => content,
            Err(ReadError::Missing) if !needed => return Ok(Outcome::Absent),
            Err(error) => return Ok(unreadable(&error)),
        };
        if self.report.dry_run {
            return Ok(match self.stays(&content) {
                true => Outcome::InPlace(content.length),
                false => Outcome::Copied(content.length),
            });
        }
        if trusted && self.mount(repository, digest).await? {
            return Ok(Outcome::Mounted);
        }
        if trusted || !registry.is_stored(digest).await? {
            return self.bring(repository, digest, content).await;
        }
        // Without the source's word, only who has the bytes may have what another repository holds.
        match self.hash(content, digest).await {
            Ok(actual) if actual != *digest => return Ok(damaged(&actual)),
            Ok(_) => {}
            Err(error) => return Ok(unreadable(&ReadError::Io(error))),
        }
        if self.mount(repository, digest).await? {
            return Ok(Outcome::Mounted);
        }
        match self.source.open(&self.blob_path(digest)).await {
            Ok(content) => self.bring(repository, digest, content).await,
            Err(error) => Ok(unreadable(&error)),
        }
    }

    async fn mount(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<bool, RegistryError> {
        let may = self.registry.operator::<Pushing>(repository);
        may.mount(None, digest).await
    }

    /// Whether a blob stays where it is. Small ones go into the catalog, as they always do.
    fn stays(&self, content: &Content) -> bool {
        self.in_place && content.length > self.registry.parts.rules.inline_max as u64
    }

    async fn bring(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
        content: Content,
    ) -> Result<Outcome, RegistryError> {
        match self.stays(&content) {
            true => self.leave_in_place(repository, digest, content).await,
            false => self.copy(repository, digest, content).await,
        }
    }

    pub(super) async fn hash(&self, mut content: Content, digest: &Digest) -> io::Result<Digest> {
        let mut hasher = Hasher::new(Some(digest.algorithm()));
        while let Some(piece) = content.pieces.next().await {
            let piece = piece?;
            self.progress.advance(piece.len() as u64);
            hasher.update(&piece);
        }
        hasher
            .digest(digest.algorithm())
            .ok_or_else(|| io::Error::other("a hasher lost its algorithm"))
    }

    async fn copy(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
        content: Content,
    ) -> Result<Outcome, RegistryError> {
        let length = content.length;
        let failure = Arc::new(Mutex::new(None));
        let body = self.body(content, Arc::clone(&failure));
        let may = self.registry.operator::<Pushing>(repository);
        let pushed = may.push_blob(*digest, Some(length), body).await;
        match pushed {
            Ok(()) => Ok(Outcome::Copied(length)),
            Err(RegistryError::DigestDiffers { .. }) if length == 0 => {
                Ok(Outcome::LeftOut("its file is empty".to_owned(), PULL_AGAIN))
            }
            Err(RegistryError::DigestDiffers { actual, .. }) => Ok(damaged(&actual)),
            Err(RegistryError::SizeDiffers { .. }) => Ok(Outcome::LeftOut(
                "its file changed while it was read".to_owned(),
                "stop what writes to the source and import once more",
            )),
            Err(RegistryError::Body(cut)) => {
                let failure = failure
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .take();
                let failure = failure.unwrap_or_else(|| io::Error::other(cut));
                Ok(unreadable(&ReadError::Io(failure)))
            }
            Err(error) => Err(error),
        }
    }

    /// The content as the body of a push. What the source says of a failure is kept beside it.
    fn body(
        &self,
        content: Content,
        failure: Arc<Mutex<Option<io::Error>>>,
    ) -> impl Stream<Item = Result<Bytes, BodyError>> + Unpin + 'static {
        let progress = self.progress.clone();
        content.pieces.map(move |piece| match piece {
            Ok(bytes) => {
                progress.advance(bytes.len() as u64);
                Ok(bytes)
            }
            Err(error) => {
                *failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                Err(BodyError::Cut)
            }
        })
    }
}

pub(super) fn damaged(actual: &Digest) -> Outcome {
    Outcome::LeftOut(format!("its bytes hash to {actual}"), PULL_AGAIN)
}

pub(super) fn unreadable(error: &ReadError) -> Outcome {
    let remedy = match error {
        ReadError::Link => "put the file itself where the link is, such as with cp -rL",
        _ => PULL_AGAIN,
    };
    let why = match error {
        ReadError::Missing => "its file is missing from the source".to_owned(),
        other => other.to_string(),
    };
    Outcome::LeftOut(why, remedy)
}
