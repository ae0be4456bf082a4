//! From tags and digests to everything that belongs to them.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use futures_util::{StreamExt, stream};
use granary_catalog::{ReferrerFilter, StoredManifest};
use granary_oci::{ByteRange, Digest, EdgeKind, Manifest, Tag};
use serde_json::{Value, json};

use super::{
    report::ExportReport,
    target::{Item, Target},
};
use crate::{
    BlobBody, May, MovingError, Progress, Reading, RegistryError,
    left_out::{Finding, Kind},
    moving::REF_NAME,
};

/// Tags by which clients attach something to `sha256-<hex>`: referrers where there is no API for them, and what cosign
/// writes.
const ATTACHED: [&str; 4] = ["", ".sig", ".att", ".sbom"];

/// One export under way.
pub(super) struct Walk<'a> {
    may: May<Reading>,
    target: Target,
    progress: &'a Progress,
    report: ExportReport,
    /// Manifests that were not looked at yet.
    open: Vec<Digest>,
    /// Everything that was looked at.
    seen: HashSet<Digest>,
    /// Manifests that are whole at the target.
    whole: HashSet<Digest>,
    tags: BTreeMap<Tag, Digest>,
    /// What the list has besides the tags.
    untagged: BTreeSet<Digest>,
}

impl<'a> Walk<'a> {
    pub(super) fn new(
        may: May<Reading>,
        target: Target,
        progress: &'a Progress,
        report: ExportReport,
    ) -> Self {
        Self {
            may,
            target,
            progress,
            report,
            open: Vec::new(),
            seen: HashSet::new(),
            whole: HashSet::new(),
            tags: BTreeMap::new(),
            untagged: BTreeSet::new(),
        }
    }

    pub(super) async fn run(
        mut self,
        tags: BTreeMap<Tag, Digest>,
        digests: Vec<Digest>,
    ) -> Result<ExportReport, MovingError> {
        self.open.extend(tags.values());
        self.open.extend(&digests);
        self.tags = tags;
        self.untagged.extend(digests);
        while let Some(digest) = self.open.pop() {
            if self.seen.insert(digest) {
                self.visit(&digest).await?;
            }
        }
        let entries = self.entries().await?;
        self.target.finish(entries).await?;
        Ok(self.report)
    }

    async fn manifest(
        &self,
        digest: &Digest,
    ) -> Result<Option<std::sync::Arc<StoredManifest>>, MovingError> {
        let catalog = &self.may.parts().catalog;
        let found = catalog.manifest(&self.may.repository, digest).await;
        Ok(found.map_err(RegistryError::from)?)
    }

    /// Writes a manifest and its blobs, and notes what belongs to it.
    async fn visit(&mut self, digest: &Digest) -> Result<(), MovingError> {
        let Some(stored) = self.manifest(digest).await? else {
            let why = "it is damaged, or was removed just now";
            self.leave_out(Kind::Manifest, digest, why);
            return Ok(());
        };
        let manifest = match Manifest::parse(&stored.payload, Some(&stored.media_type)) {
            Ok(manifest) => manifest,
            Err(error) => {
                self.leave_out(Kind::Manifest, digest, &error.to_string());
                return Ok(());
            }
        };
        for edge in &manifest.edges {
            if self.seen.contains(&edge.digest) {
                continue;
            }
            if self.manifest(&edge.digest).await?.is_some() {
                self.open.push(edge.digest);
            } else {
                self.seen.insert(edge.digest);
                self.blob(&edge.digest, edge.kind).await?;
            }
        }
        self.attached(digest).await?;
        let size = stored.payload.len() as u64;
        let pieces = stream::iter([Ok(stored.payload.clone())]).boxed();
        let item = Item {
            digest: *digest,
            size,
            pieces,
        };
        if self.write(Kind::Manifest, item).await? {
            self.whole.insert(*digest);
            self.report.manifests += 1;
            self.report.referrers += u64::from(manifest.subject.is_some());
        }
        Ok(())
    }

    /// What refers to a manifest without being referred to.
    async fn attached(&mut self, digest: &Digest) -> Result<(), MovingError> {
        let mut filter = ReferrerFilter::default();
        loop {
            let page = self.may.referrers(digest, &filter).await?;
            for descriptor in &page.descriptors {
                let descriptor: Value = serde_json::from_str(descriptor).unwrap_or_default();
                let digest = descriptor["digest"].as_str().map(str::parse::<Digest>);
                if let Some(Ok(referrer)) = digest {
                    self.untagged.insert(referrer);
                    self.open.push(referrer);
                }
            }
            match page.next {
                Some(next) => filter.after = next,
                None => break,
            }
        }
        let text = digest.to_string().replace(':', "-");
        for suffix in ATTACHED {
            // A tag has at most 128 characters, which a sha512 digest does not leave room for.
            let Ok(tag) = format!("{text}{suffix}").parse::<Tag>() else {
                continue;
            };
            let catalog = &self.may.parts().catalog;
            let found = catalog.tagged(&self.may.repository, &tag).await;
            if let Some(found) = found.map_err(RegistryError::from)? {
                self.open.push(found.digest);
                self.tags.insert(tag, found.digest);
            }
        }
        Ok(())
    }

    async fn blob(&mut self, digest: &Digest, kind: EdgeKind) -> Result<(), MovingError> {
        let blob = match self.may.blob(digest).await {
            Ok(blob) => blob,
            Err(RegistryError::BlobUnknown(_)) if kind == EdgeKind::Optional => return Ok(()),
            Err(RegistryError::BlobUnknown(_)) => {
                let why = "a manifest refers to it, but it is not in this repository";
                self.leave_out(Kind::Blob, digest, why);
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        };
        if self.target.has(digest, blob.size).await {
            self.report.kept += 1;
            return Ok(());
        }
        let range = blob.size.checked_sub(1);
        let pieces = match range {
            None => stream::empty().boxed(),
            Some(last) => {
                let range = ByteRange { first: 0, last };
                match self.may.read_blob(digest, &blob, range).await {
                    Ok(BlobBody::Bytes(bytes)) => stream::iter([Ok(bytes)]).boxed(),
                    Ok(BlobBody::Stream(pieces)) => pieces
                        .map(|piece| piece.map_err(|error| error.to_string()))
                        .boxed(),
                    Err(error @ (RegistryError::BlobUnknown(_) | RegistryError::Store(_))) => {
                        self.leave_out(Kind::Blob, digest, &error.to_string());
                        return Ok(());
                    }
                    Err(error) => return Err(error.into()),
                }
            }
        };
        let item = Item {
            digest: *digest,
            size: blob.size,
            pieces,
        };
        self.write(Kind::Blob, item).await?;
        Ok(())
    }

    /// Writes something that is not there yet; `false` if its bytes are damaged.
    async fn write(&mut self, kind: Kind, item: Item<'_>) -> Result<bool, MovingError> {
        let (digest, size) = (item.digest, item.size);
        if self.target.has(&digest, size).await {
            self.report.kept += 1;
            return Ok(true);
        }
        match self.target.write(item, self.progress).await? {
            Ok(()) => {
                self.report.written += 1;
                self.report.bytes += size;
                Ok(true)
            }
            Err(problem) => {
                self.leave_out(kind, &digest, &problem);
                Ok(false)
            }
        }
    }

    /// The list: tags, and beside them what was asked for by its digest and what refers to something.
    async fn entries(&mut self) -> Result<Vec<Value>, MovingError> {
        let mut entries = Vec::new();
        for (tag, digest) in std::mem::take(&mut self.tags) {
            self.untagged.remove(&digest);
            if let Some(mut entry) = self.entry(&digest).await? {
                entry["annotations"][REF_NAME] = json!(tag.as_str());
                entries.push(entry);
                self.report.tags += 1;
            }
        }
        for digest in std::mem::take(&mut self.untagged) {
            entries.extend(self.entry(&digest).await?);
        }
        Ok(entries)
    }

    /// The descriptor of a manifest that was written.
    async fn entry(&self, digest: &Digest) -> Result<Option<Value>, MovingError> {
        let Some(stored) = self.manifest(digest).await? else {
            return Ok(None);
        };
        if !self.whole.contains(digest) {
            return Ok(None);
        }
        let Ok(manifest) = Manifest::parse(&stored.payload, Some(&stored.media_type)) else {
            return Ok(None);
        };
        let size = stored.payload.len();
        let text = manifest.referrer_descriptor(digest, size);
        let mut entry: Value = serde_json::from_str(&text).unwrap_or_default();
        if manifest.subject.is_none() {
            // Of an image the list says no more than it must.
            entry = json!({"mediaType": stored.media_type, "digest": digest, "size": size});
        } else if let Some(Value::Object(annotations)) = entry.get_mut("annotations") {
            // The manifest's own name is not the tag it has here.
            annotations.remove(REF_NAME);
        }
        Ok(Some(entry))
    }

    fn leave_out(&mut self, kind: Kind, digest: &Digest, why: &str) {
        let remedy =
            "push it again, and export once more; 'granary scrub' finds all that is damaged";
        self.report
            .leave_out(Finding::new(kind, digest, why, remedy));
    }
}
