//! Manifests and tags of one repository, each after what it refers to.

use std::collections::{BTreeMap, HashMap, HashSet};

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use granary_oci::{
    Digest, EdgeKind, MAX_MANIFEST_BYTES, Manifest, ManifestError, Reference, RepositoryName, Tag,
};

use super::{
    Import, SourceKind,
    blobs::AT_ONCE,
    source::{ReadError, read},
};
use crate::{
    ManifestRequest, Precondition, Pushing, Reading, RegistryError,
    left_out::{Finding, Kind},
};

/// How deep manifests may refer to manifests.
const DEPTH: u8 = 32;
/// Most tags that are set at once.
const TAGS_AT_ONCE: usize = 100;
/// Digests that one sentence names.
const NAMED: usize = 5;

/// What the source says of a repository, and how far its import is.
pub(super) struct Adoption {
    pub(super) name: RepositoryName,
    /// What the source calls manifests.
    pub(super) manifests: HashSet<Digest>,
    /// What the source calls blobs of this repository.
    pub(super) linked: HashSet<Digest>,
    /// Media types that descriptors name, for manifests that do not name their own.
    pub(super) media_types: HashMap<Digest, String>,
    /// Manifests that were looked at, and whether they came.
    done: HashMap<Digest, bool>,
    /// Blobs that were looked at, and whether they came.
    blobs: HashMap<Digest, bool>,
}

impl Adoption {
    pub(super) fn new(name: RepositoryName) -> Self {
        Self {
            name,
            manifests: HashSet::new(),
            linked: HashSet::new(),
            media_types: HashMap::new(),
            done: HashMap::new(),
            blobs: HashMap::new(),
        }
    }
}

/// A manifest that was read and is what its digest says.
struct Read {
    body: Bytes,
    manifest: Manifest,
    content_type: Option<String>,
    held: bool,
}

/// What is still to be done with a manifest.
#[derive(Clone, Copy, PartialEq)]
enum Step {
    /// The source calls it a manifest.
    Look,
    /// An index or a referrer refers to it; it may be a blob all the same (decision 14).
    Try,
    /// Everything it refers to was looked at.
    Put,
}

impl Import<'_> {
    /// Takes in a manifest after everything it refers to.
    pub(super) async fn adopt(
        &mut self,
        at: &mut Adoption,
        root: Digest,
    ) -> Result<(), RegistryError> {
        let mut open = vec![(root, Step::Look, 0)];
        while let Some((digest, step, depth)) = open.pop() {
            if at.done.contains_key(&digest) {
                continue;
            }
            let read = match self.read_manifest(at, &digest).await? {
                Ok(read) => read,
                Err(_) if step == Step::Try => continue,
                Err((why, remedy)) => {
                    self.leave_out_manifest(at, digest, why, remedy);
                    continue;
                }
            };
            match step {
                Step::Try if !says_so(&read.body) => {}
                Step::Look | Step::Try => {
                    if step == Step::Try && self.kind == SourceKind::StorageTree {
                        self.note_unlinked(&at.name, &digest);
                    }
                    let before = before(at, &read.manifest, self.kind, depth < DEPTH);
                    if depth == DEPTH && !before.is_empty() {
                        let why = format!("it lies deeper than {DEPTH} indexes in one another");
                        self.leave_out_manifest(at, digest, why, "build a flatter index");
                        continue;
                    }
                    open.push((digest, Step::Put, depth));
                    open.extend(before.into_iter().map(|(d, s)| (d, s, depth + 1)));
                }
                Step::Put => self.put(at, &digest, read).await?,
            }
        }
        Ok(())
    }

    async fn read_manifest(
        &self,
        at: &Adoption,
        digest: &Digest,
    ) -> Result<Result<Read, (String, &'static str)>, RegistryError> {
        let here = self
            .registry
            .parts
            .catalog
            .manifest(&at.name, digest)
            .await?;
        let (body, content_type, held) = match here {
            Some(stored) => (
                stored.payload.clone(),
                Some(stored.media_type.clone()),
                true,
            ),
            None => {
                let path = self.blob_path(digest);
                let body = match read(self.source, &path, MAX_MANIFEST_BYTES).await {
                    Ok(body) => body,
                    Err(error) => return Ok(Err(unreadable(&error))),
                };
                (body, at.media_types.get(digest).cloned(), false)
            }
        };
        let again = "push the image again, or put a good copy of the file into the source and import once more";
        if body.is_empty() {
            return Ok(Err(("its file is empty".to_owned(), again)));
        }
        let actual = digest.algorithm().digest(&body);
        if actual != *digest {
            return Ok(Err((format!("its bytes hash to {actual}"), again)));
        }
        let (parsed, content_type) = match Manifest::parse(&body, content_type.as_deref()) {
            // What a manifest says of itself counts more than what a list says of it.
            Err(ManifestError::MediaTypeDiffers { .. }) => (Manifest::parse(&body, None), None),
            parsed => (parsed, content_type),
        };
        Ok(match parsed {
            Ok(manifest) => Ok(Read {
                body,
                manifest,
                content_type,
                held,
            }),
            Err(error) => {
                let remedy = match error {
                    ManifestError::Schema1 => "convert the image before, where it was pushed from",
                    _ => "it was pushed like this: build it anew",
                };
                Err((error.to_string(), remedy))
            }
        })
    }

    /// Stores a manifest; everything it refers to was looked at.
    async fn put(
        &mut self,
        at: &mut Adoption,
        digest: &Digest,
        read: Read,
    ) -> Result<(), RegistryError> {
        self.take_edges(at, &read.manifest).await?;
        let outcome = if read.held {
            self.report.manifests.held += 1;
            at.done.insert(*digest, true);
            return Ok(());
        } else if self.report.dry_run {
            let missing = missing(at, &read.manifest);
            if missing.is_empty() || self.registry.parts.rules.sparse {
                Ok(())
            } else {
                Err(RegistryError::ContentMissing(missing))
            }
        } else {
            let request = ManifestRequest {
                reference: Reference::Digest(*digest),
                tags: Vec::new(),
                content_type: read.content_type,
                precondition: Precondition::None,
                body: read.body.clone(),
            };
            let may = self.registry.operator::<Pushing>(&at.name);
            may.put_manifest(request).await.map(drop)
        };
        match outcome {
            Ok(()) => {
                self.progress.advance(read.body.len() as u64);
                self.report.manifests.stored += 1;
                at.done.insert(*digest, true);
                Ok(())
            }
            Err(RegistryError::ContentMissing(missing)) => {
                let why = format!("it refers to {}, which did not come", names(&missing));
                let remedy = "bring what is missing and import once more, or allow it to be missing with sparse = true in [policy]";
                self.leave_out_manifest(at, *digest, why, remedy);
                Ok(())
            }
            Err(RegistryError::ManifestInvalid(error)) => {
                self.leave_out_manifest(at, *digest, error.to_string(), "build it anew");
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// Takes the blobs among what a manifest refers to.
    async fn take_edges(
        &mut self,
        at: &mut Adoption,
        manifest: &Manifest,
    ) -> Result<(), RegistryError> {
        let wanted = manifest.edges.iter().filter(|edge| {
            !at.done.contains_key(&edge.digest) && !at.blobs.contains_key(&edge.digest)
        });
        let wanted = wanted
            .map(|edge| (edge.digest, edge.kind != EdgeKind::Optional))
            .collect();
        self.take(at, wanted).await
    }

    /// Takes blobs, each with whether it must be there.
    pub(super) async fn take(
        &mut self,
        at: &mut Adoption,
        wanted: Vec<(Digest, bool)>,
    ) -> Result<(), RegistryError> {
        let taken = self.take_blobs(&at.name, wanted, &at.linked).await?;
        at.blobs.extend(taken);
        Ok(())
    }

    /// Whether a blob was looked at already.
    pub(super) fn is_taken(at: &Adoption, digest: &Digest) -> bool {
        at.blobs.contains_key(digest)
    }

    /// Sets tags; what they stand at was taken in before.
    pub(super) async fn set_tags(
        &mut self,
        at: &Adoption,
        tags: Vec<(Tag, Digest)>,
    ) -> Result<(), RegistryError> {
        let mut by_digest: BTreeMap<Digest, Vec<Tag>> = BTreeMap::new();
        for (tag, digest) in tags {
            by_digest.entry(digest).or_default().push(tag);
        }
        let mut puts = Vec::new();
        for (digest, tags) in by_digest {
            if at.done.get(&digest) != Some(&true) {
                for tag in tags {
                    let why = if at.manifests.contains(&digest) {
                        format!("its manifest {digest} was left out")
                    } else {
                        format!("it stands at {digest}, which is no manifest of this repository")
                    };
                    let remedy = "tag another manifest, or push the image again";
                    let finding = Finding::new(Kind::Tag, tag, why, remedy);
                    self.report.leave_out(finding.in_repository(&at.name));
                }
                continue;
            }
            let mut open = Vec::new();
            for tag in tags {
                match self.registry.parts.catalog.tagged(&at.name, &tag).await? {
                    Some(standing) if standing.digest == digest => {
                        self.report.tags.held += 1;
                        continue;
                    }
                    Some(_) => self.report.tags.moved += 1,
                    None => self.report.tags.created += 1,
                }
                open.push(tag);
            }
            puts.extend(
                open.chunks(TAGS_AT_ONCE)
                    .map(|tags| (digest, tags.to_vec())),
            );
        }
        if self.report.dry_run {
            return Ok(());
        }
        let this = &*self;
        stream::iter(puts)
            .map(|(digest, tags)| this.put_tags(at, digest, tags))
            .buffer_unordered(AT_ONCE)
            .try_collect()
            .await
    }

    async fn put_tags(
        &self,
        at: &Adoption,
        digest: Digest,
        tags: Vec<Tag>,
    ) -> Result<(), RegistryError> {
        let reference = Reference::Digest(digest);
        let reads = self.registry.operator::<Reading>(&at.name);
        let stored = reads.resolve(&reference).await?;
        let request = ManifestRequest {
            reference,
            tags,
            content_type: Some(stored.media_type.clone()),
            precondition: Precondition::None,
            body: stored.payload.clone(),
        };
        let pushes = self.registry.operator::<Pushing>(&at.name);
        pushes.put_manifest(request).await.map(drop)
    }

    fn leave_out_manifest(&mut self, at: &mut Adoption, digest: Digest, why: String, remedy: &str) {
        let finding = Finding::new(Kind::Manifest, digest, why, remedy);
        self.report.leave_out(finding.in_repository(&at.name));
        at.done.insert(digest, false);
    }

    pub(super) fn note_unlinked(&mut self, repository: &RepositoryName, digest: &Digest) {
        let finding = Finding::new(
            Kind::Link,
            digest,
            "a manifest refers to it, but the repository has no link to it",
            "nothing: it was taken along",
        );
        self.report.notes.add(finding.in_repository(repository));
    }
}

/// The manifests that come before this one, its subject too if that is wanted: a referrer may come before its subject.
fn before(
    at: &Adoption,
    manifest: &Manifest,
    kind: SourceKind,
    with_subject: bool,
) -> Vec<(Digest, Step)> {
    let mut before = Vec::new();
    if let Some(subject) = manifest.subject.filter(|_| with_subject) {
        if at.manifests.contains(&subject) {
            before.push((subject, Step::Look));
        } else if kind == SourceKind::Layout {
            before.push((subject, Step::Try));
        }
    }
    for edge in &manifest.edges {
        if at.manifests.contains(&edge.digest) {
            before.push((edge.digest, Step::Look));
        } else if edge.kind == EdgeKind::Child && !at.linked.contains(&edge.digest) {
            before.push((edge.digest, Step::Try));
        }
    }
    before
}

/// Whether something that an index lists says of itself that it is a manifest.
fn says_so(body: &[u8]) -> bool {
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Shape {
        schema_version: Option<serde_json::Value>,
        media_type: Option<String>,
    }
    serde_json::from_slice::<Shape>(body)
        .is_ok_and(|shape| shape.schema_version.is_some() || shape.media_type.is_some())
}

/// What a manifest needs and did not come.
fn missing(at: &Adoption, manifest: &Manifest) -> Vec<Digest> {
    let came =
        |digest: &Digest| at.done.get(digest) == Some(&true) || at.blobs.get(digest) == Some(&true);
    let needed = manifest
        .edges
        .iter()
        .filter(|edge| edge.kind != EdgeKind::Optional);
    let missing = needed
        .map(|edge| edge.digest)
        .filter(|digest| !came(digest));
    missing.take(20).collect()
}

fn names(digests: &[Digest]) -> String {
    let shown: Vec<String> = digests.iter().take(NAMED).map(Digest::to_string).collect();
    let more = digests.len().saturating_sub(NAMED);
    match more {
        0 => shown.join(", "),
        _ => format!("{} and {more} more", shown.join(", ")),
    }
}

fn unreadable(error: &ReadError) -> (String, &'static str) {
    match error {
        ReadError::Missing => (
            "its file is missing from the source".to_owned(),
            "push the image again",
        ),
        ReadError::Link => (
            error.to_string(),
            "put the file itself where the link is, such as with cp -rL",
        ),
        ReadError::TooLarge(_) => (
            format!("{error}, so it is no manifest"),
            "look at what it is: a manifest is a small JSON document",
        ),
        other => (other.to_string(), "make it readable and import once more"),
    }
}
