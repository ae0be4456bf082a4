//! Objects in an S3 bucket.
//!
//! **Layout.** `{prefix}blobs/<key>` holds an object, `{prefix}granary-store-id` the store's identity. Bytes go to
//! their final key from the first one on; nothing is copied or renamed.
//!
//! **Writes.** Incoming bytes are hashed and copied once, into the blocks of a part ([`part`]). Full parts are sent by
//! tasks, several at once ([`writer`]). An object that fits one part is a single PutObject; of others the parts are
//! joined at the end ([`ending`]). That makes at most as many requests as there are parts, and three: to begin, to
//! join, and to look at the object before it is acknowledged. Every part carries its CRC-32C, which the server
//! compares before it answers; the payload is not hashed a second time for the signature.
//!
//! **Memory.** All uploads draw on one budget, block by block; [`budget`] says who gets the next one and why nobody
//! waits for ever. The tail a sync gives out is a part that is not full: the writer keeps the very same bytes.
//!
//! **Checkpoints.** Parts that the server confirmed without a gap are noted in a checkpoint's `state` ([`state`]), with
//! the first part number nobody has taken. A writer has its ledger save that number before it sends a part with one
//! that is not reserved yet, 64 at a time; its successor begins behind them, so the two never send the same part.
//! Which parts make the object is said by whoever joins them.
//!
//! **Reads.** A stream that breaks is taken up where it was, of the same object ([`reader`]). What another registry put
//! into a bucket, this one or any other, is looked at as a tree of folders ([`browse`]).
//!
//! **Time.** Opening a connection, waiting for an answer and a stream that stands still have limits, and so has the
//! number of attempts ([`config`]); nothing waits for ever.

mod browse;
mod bucket;
mod budget;
mod config;
mod ending;
mod failure;
mod opening;
mod part;
mod reader;
mod removal;
mod state;
mod watch;
mod writer;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use aws_sdk_s3::{
    error::ProvideErrorMetadata, presigning::PresigningConfig, primitives::ByteStream,
};
use granary_oci::ByteRange;

use self::{
    bucket::Bucket,
    budget::Budget,
    failure::{failed, status},
    state::Multipart,
    watch::Watch,
    writer::{S3Writer, Tools},
};
use crate::{
    BlobStore, BlobStream, BlobWriter, Checkpoint, Ledger, ObjectKey, OperationFigures,
    RemoteFailure, StoreError, figures::Figures,
};

pub use browse::{BucketReader, FolderPage, Named};
pub use config::{DEFAULT_BUDGET, DEFAULT_PARALLEL, LEAST_BUDGET, S3Config, Secret};

/// The most keys a server lists at a time.
const PAGE: usize = 1000;

/// Objects in one S3 bucket.
pub struct S3Store {
    bucket: Arc<Bucket>,
    budget: Arc<Budget>,
    parallel: usize,
    figures: Arc<Figures>,
}

impl S3Store {
    /// Opens the bucket, asking the server once whether it may be listed.
    pub async fn open(config: S3Config) -> Result<Self, StoreError> {
        if config.budget < LEAST_BUDGET {
            let budget = config.budget;
            return Err(config::refused(format!(
                "{budget} bytes of memory for parts are too few: {LEAST_BUDGET} are needed"
            )));
        }
        let figures = Arc::default();
        let (client, links) = config.clients(Watch(Arc::clone(&figures))).await?;
        let store = Self {
            bucket: Arc::new(Bucket {
                client,
                links,
                name: config.bucket,
                endpoint: config.endpoint,
                prefix: config.prefix,
            }),
            budget: Budget::new(config.budget),
            parallel: config.parallel,
            figures,
        };
        opening::probe(&store.bucket, "list, read, write and delete").await?;
        Ok(store)
    }

    /// Bytes of memory that parts take up now.
    pub fn in_use(&self) -> usize {
        self.budget.in_use()
    }

    /// Why an object that has no notes cannot be gone on with.
    async fn ended(&self, key: &ObjectKey, expected: u64) -> StoreError {
        match self.bucket.head(key).await {
            Err(error) => error,
            Ok(None) => StoreError::Missing { key: key.clone() },
            Ok(Some(head)) if head.length < expected => StoreError::Damaged {
                key: key.clone(),
                expected,
                found: head.length,
            },
            Ok(Some(_)) => RemoteFailure::new(
                "appending to",
                Some(key),
                "the object is finished, and a bucket appends to none".to_owned(),
            )
            .into(),
        }
    }

    fn identity_path(&self) -> String {
        format!("{}granary-store-id", self.bucket.prefix)
    }
}

#[async_trait]
impl BlobStore for S3Store {
    async fn append(
        &self,
        key: &ObjectKey,
        checkpoint: Checkpoint,
        ledger: Arc<dyn Ledger>,
    ) -> Result<Box<dyn BlobWriter>, StoreError> {
        if key.foreign_path().is_some() {
            return Err(StoreError::Foreign { key: key.clone() });
        }
        let multipart = match checkpoint.state.as_slice() {
            [] => None,
            state => Some(Multipart::decode(state).map_err(|error| {
                RemoteFailure::new("appending to", Some(key), error.to_string())
            })?),
        };
        let tail = checkpoint.tail.len() as u64;
        let found = multipart
            .as_ref()
            .map_or(0, Multipart::length)
            .saturating_add(tail);
        if found != checkpoint.offset {
            if multipart.is_none() && tail == 0 {
                return Err(self.ended(key, checkpoint.offset).await);
            }
            return Err(StoreError::Damaged {
                key: key.clone(),
                expected: checkpoint.offset,
                found,
            });
        }
        let tools = Tools {
            bucket: Arc::clone(&self.bucket),
            ledger,
            share: self.budget.join(),
            parallel: self.parallel,
        };
        let writer = S3Writer::new(tools, key.clone(), checkpoint, multipart).await;
        Ok(Box::new(writer))
    }

    async fn read(&self, key: &ObjectKey, range: ByteRange) -> Result<BlobStream, StoreError> {
        reader::stream(&self.bucket, key, range).await
    }

    async fn length(&self, key: &ObjectKey) -> Result<Option<u64>, StoreError> {
        Ok(self.bucket.head(key).await?.map(|head| head.length))
    }

    async fn delete(&self, keys: &[ObjectKey]) -> Result<(), StoreError> {
        // Whoever asks for it: what another registry put there is never removed.
        let ours = |key: &&ObjectKey| key.foreign_path().is_none();
        if keys.iter().all(|key| ours(&key)) {
            return removal::delete(&self.bucket, keys).await;
        }
        let keys: Vec<_> = keys.iter().filter(ours).cloned().collect();
        removal::delete(&self.bucket, &keys).await
    }

    async fn abandon(&self, key: &ObjectKey, state: &[u8]) -> Result<(), StoreError> {
        if key.foreign_path().is_some() {
            return Ok(());
        }
        removal::abandon(&self.bucket, key, state).await
    }

    fn rewound(&self, before: &[u8], later: &[u8]) -> Vec<u8> {
        match (Multipart::decode(before), Multipart::decode(later)) {
            (Ok(mut multipart), Ok(later)) if multipart.upload == later.upload => {
                multipart.free = multipart.free.max(later.free);
                multipart.encode()
            }
            _ => before.to_vec(),
        }
    }

    async fn link(
        &self,
        key: &ObjectKey,
        lifetime: Duration,
    ) -> Result<Option<String>, StoreError> {
        const ACTION: &str = "making a link to";
        let lifetime = PresigningConfig::expires_in(lifetime)
            .map_err(|error| RemoteFailure::new(ACTION, Some(key), error.to_string()))?;
        let request = self
            .bucket
            .links
            .get_object()
            .bucket(&self.bucket.name)
            .key(self.bucket.path(key))
            .presigned(lifetime)
            .await
            .map_err(failed(ACTION, Some(key)))?;
        Ok(Some(request.uri().to_owned()))
    }

    fn bucket(&self) -> Option<BucketReader> {
        Some(BucketReader::of(&self.bucket))
    }

    async fn list(
        &self,
        after: Option<&ObjectKey>,
        limit: usize,
    ) -> Result<Vec<ObjectKey>, StoreError> {
        let prefix = format!("{}blobs/", self.bucket.prefix);
        let mut after = after.map(|key| self.bucket.path(key));
        let mut keys = Vec::new();
        while keys.len() < limit {
            let page = self
                .bucket
                .client
                .list_objects_v2()
                .bucket(&self.bucket.name)
                .prefix(&prefix)
                .set_start_after(after)
                .max_keys((limit - keys.len()).min(PAGE) as i32)
                .send()
                .await
                .map_err(failed("listing objects", None))?;
            let names = page.contents().iter().filter_map(|object| object.key());
            // Whatever else lies there is not ours.
            keys.extend(
                names
                    .filter_map(|name| name.strip_prefix(&prefix))
                    .filter_map(ObjectKey::own),
            );
            after = page
                .contents()
                .last()
                .and_then(|object| object.key())
                .map(str::to_owned);
            if page.is_truncated() != Some(true) || after.is_none() {
                break;
            }
        }
        Ok(keys)
    }

    async fn known_identity(&self) -> Result<Option<String>, StoreError> {
        const ACTION: &str = "reading the store's identity";
        let answer = self
            .bucket
            .client
            .get_object()
            .bucket(&self.bucket.name)
            .key(self.identity_path())
            .send()
            .await;
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) if error.code() == Some("NoSuchKey") => return Ok(None),
            Err(error) => return Err(failed(ACTION, None)(error)),
        };
        let broken = |reason: String| StoreError::from(RemoteFailure::new(ACTION, None, reason));
        let body = answer
            .body
            .collect()
            .await
            .map_err(|error| broken(error.to_string()))?;
        let identity =
            String::from_utf8(body.to_vec()).map_err(|_| broken("it is no text".to_owned()))?;
        match identity.trim() {
            "" => Err(broken("it is empty".to_owned())),
            identity => Ok(Some(identity.to_owned())),
        }
    }

    async fn identity(&self, fresh: &str) -> Result<String, StoreError> {
        if let Some(identity) = self.known_identity().await? {
            return Ok(identity);
        }
        let written = self
            .bucket
            .client
            .put_object()
            .bucket(&self.bucket.name)
            .key(self.identity_path())
            .if_none_match("*")
            .body(ByteStream::from(fresh.as_bytes().to_vec()))
            .send()
            .await;
        match written {
            Ok(_) => {}
            // Another process was faster.
            Err(error) if matches!(status(&error), Some(409 | 412)) => {}
            Err(error) => return Err(failed("writing the store's identity", None)(error)),
        }
        self.known_identity().await?.ok_or_else(|| {
            let reason = "it was written but is not there".to_owned();
            RemoteFailure::new("reading the store's identity", None, reason).into()
        })
    }

    fn figures(&self) -> Vec<OperationFigures> {
        self.figures.read()
    }

    async fn admit(&self) -> Result<(), StoreError> {
        Ok(())
    }

    fn is_pressed(&self) -> bool {
        self.budget.has_waiters()
    }
}
