//! How an object comes to be: in one request, or joined of its parts, and looked at before anybody relies on it.
//!
//! A session may have had a writer before, which was superseded but does not know it yet. What it still does cannot
//! harm an object that was acknowledged: it puts an object only where there is none, or in the place of exactly the
//! one it saw after its ledger said that the session is its own; and parts are joined once, after which their upload
//! is unknown.

use super::{
    bucket::{Joined, Place, Put},
    state::StoredPart,
    writer::S3Writer,
};
use crate::{RemoteFailure, StoreError};

/// How often the place of an object may have changed under a writer before it gives up.
const TRIES: usize = 4;

impl S3Writer {
    /// Makes the object of everything taken in.
    pub(super) async fn end(&mut self) -> Result<(), StoreError> {
        if self.multipart.is_none() {
            return self.put().await;
        }
        if self.gathered() > 0 {
            self.send_part().await?;
        }
        self.settle().await?;
        let Some(multipart) = self
            .multipart
            .take_if(|multipart| multipart.parts.is_empty())
        else {
            return self.join().await;
        };
        // An empty object, begun by a writer before: no parts cannot be joined, and nobody may join others later.
        self.bucket.abort(&self.key, &multipart.upload).await?;
        self.put().await
    }

    /// Puts the object in one request.
    async fn put(&mut self) -> Result<(), StoreError> {
        let part = self.take_part().seal();
        let mut place = Place::Free;
        for _ in 0..TRIES {
            let put = self
                .bucket
                .put(&self.key, &part, &self.name, &place)
                .await?;
            let head = self.bucket.head(&self.key).await?;
            if let Put::Done = put {
                let found = head.map(|head| head.length);
                return self.compare(found);
            }
            place = match head {
                None => Place::Free,
                // An attempt whose answer was lost.
                Some(head) if head.writer.as_ref() == Some(&self.name) => {
                    return self.compare(Some(head.length));
                }
                Some(head) => {
                    let etag = head.etag.ok_or_else(|| {
                        self.broken("an object without an ETag is in its place".to_owned())
                    })?;
                    // It was put by a writer before us: a crash came between its last step and ours.
                    self.ledger.save(&self.durable()).await?;
                    Place::Holds(etag)
                }
            };
        }
        Err(self.broken("others keep writing it".to_owned()))
    }

    /// Joins the parts.
    async fn join(&mut self) -> Result<(), StoreError> {
        // A writer that was superseded learns it here at the latest. With this checkpoint another one can do the same
        // again if the answer, or this process, is lost.
        self.ledger.save(&self.durable()).await?;
        let Some(multipart) = &self.multipart else {
            return Ok(());
        };
        let joined = match self.bucket.join(&self.key, multipart).await {
            Err(StoreError::Remote(failure)) if failure.code.as_deref() == Some("InvalidPart") => {
                self.learn_etags().await?;
                self.ledger.save(&self.durable()).await?;
                let Some(multipart) = &self.multipart else {
                    return Ok(());
                };
                self.bucket.join(&self.key, multipart).await?
            }
            joined => joined?,
        };
        let Some(multipart) = &self.multipart else {
            return Ok(());
        };
        let head = self.bucket.head(&self.key).await?;
        // The same length is not enough: a writer that was superseded in this very moment may have joined other parts,
        // and some servers then call the second request a success too.
        let same = head
            .as_ref()
            .filter(|head| head.length == self.offset)
            .and_then(|head| head.is_joined_of(multipart));
        match (joined, same) {
            (_, Some(true)) => Ok(()),
            (Joined::Done, None) => self.compare(head.map(|head| head.length)),
            (Joined::Done, Some(false)) => {
                Err(self.broken("another writer joined other parts".to_owned()))
            }
            (Joined::Unclear(failure), _) if failure.code.as_deref() == Some("NoSuchUpload") => {
                Err(StoreError::Missing {
                    key: self.key.clone(),
                })
            }
            (Joined::Unclear(failure), _) => Err(failure.into()),
        }
    }

    /// Takes over what the server calls the parts. Their bytes were compared when they were sent, by their checksum; an
    /// answer on the way may have been wrong about their ETag.
    async fn learn_etags(&mut self) -> Result<(), StoreError> {
        let Some(multipart) = &mut self.multipart else {
            return Ok(());
        };
        let listed = self.bucket.parts(&self.key, &multipart.upload).await?;
        for part in &mut multipart.parts {
            let same = |other: &&StoredPart| other.number == part.number && other.size == part.size;
            match listed.iter().find(same) {
                Some(other) => part.etag.clone_from(&other.etag),
                None => {
                    let reason = format!("the server has no part {} of that size", part.number);
                    return Err(self.broken(reason));
                }
            }
        }
        Ok(())
    }

    /// The object has the length that is to be acknowledged.
    fn compare(&self, found: Option<u64>) -> Result<(), StoreError> {
        match found {
            Some(found) if found == self.offset => Ok(()),
            Some(found) => Err(StoreError::Damaged {
                key: self.key.clone(),
                expected: self.offset,
                found,
            }),
            None => Err(StoreError::Missing {
                key: self.key.clone(),
            }),
        }
    }

    fn broken(&self, reason: String) -> StoreError {
        RemoteFailure::new("writing", Some(&self.key), reason).into()
    }
}
