//! What a registry is, without anything that makes one fast, durable or concurrent.

use std::collections::{BTreeMap, BTreeSet};

use granary_oci::{Digest, EdgeKind, Manifest};
use granary_registry::Precondition;

/// A manifest, and in which order it came to its repository.
pub(super) struct Known {
    pub(super) parsed: Manifest,
    pub(super) arrived: usize,
}

/// One repository. It exists from its first content on.
#[derive(Default)]
pub(super) struct Repository {
    /// Something was stored in it once.
    pub(super) created: bool,
    pub(super) blobs: BTreeSet<Digest>,
    pub(super) manifests: BTreeMap<Digest, Known>,
    pub(super) tags: BTreeMap<String, Digest>,
    /// Every move of a tag, with a time at which it was over.
    pub(super) history: BTreeMap<String, Vec<(i64, Option<Digest>)>>,
    arrivals: usize,
}

/// What a put comes to.
#[derive(Debug, PartialEq)]
pub(super) enum Put {
    Stored,
    Missing(BTreeSet<Digest>),
    Moved(String, Option<Digest>),
}

/// What a removal comes to.
#[derive(Debug, PartialEq)]
pub(super) enum Removed {
    Done,
    Missing,
    Referenced(BTreeSet<Digest>),
    Moved(Option<Digest>),
}

pub(super) fn holds(precondition: Precondition, current: Option<&Digest>) -> bool {
    match precondition {
        Precondition::None => true,
        Precondition::At(expected) => current == Some(&expected),
        Precondition::Exists => current.is_some(),
        Precondition::Absent => current.is_none(),
    }
}

impl Repository {
    pub(super) fn add_blob(&mut self, digest: Digest) {
        self.created = true;
        self.blobs.insert(digest);
    }

    /// What of a manifest's content has to be there and is not.
    pub(super) fn missing(&self, manifest: &Manifest, sparse: bool) -> BTreeSet<Digest> {
        let needed = manifest
            .edges
            .iter()
            .filter(|edge| !sparse && edge.kind != EdgeKind::Optional);
        let absent =
            |digest: &Digest| !self.blobs.contains(digest) && !self.manifests.contains_key(digest);
        needed.map(|edge| edge.digest).filter(absent).collect()
    }

    pub(super) fn check(
        &self,
        manifest: &Manifest,
        tags: &[String],
        when: Precondition,
        sparse: bool,
    ) -> Put {
        let missing = self.missing(manifest, sparse);
        if !missing.is_empty() {
            return Put::Missing(missing);
        }
        let moved = tags.iter().find(|tag| !holds(when, self.tags.get(*tag)));
        moved.map_or(Put::Stored, |tag| {
            Put::Moved(tag.clone(), self.tags.get(tag).copied())
        })
    }

    pub(super) fn put(&mut self, digest: Digest, parsed: Manifest, tags: &[String], now: i64) {
        self.created = true;
        let arrived = self.arrivals;
        self.arrivals += 1;
        self.manifests
            .entry(digest)
            .or_insert(Known { parsed, arrived });
        for tag in tags {
            if self.tags.insert(tag.clone(), digest) != Some(digest) {
                self.history
                    .entry(tag.clone())
                    .or_default()
                    .push((now, Some(digest)));
            }
        }
    }

    /// Manifests here that refer to `digest`.
    pub(super) fn referring(&self, digest: &Digest) -> BTreeSet<Digest> {
        let refers = |known: &Known| known.parsed.edges.iter().any(|edge| edge.digest == *digest);
        self.manifests
            .iter()
            .filter(|(_, known)| refers(known))
            .map(|(digest, _)| *digest)
            .collect()
    }

    pub(super) fn delete_tag(&mut self, tag: &str, when: Precondition, now: i64) -> Removed {
        let current = self.tags.get(tag).copied();
        if !holds(when, current.as_ref()) {
            return Removed::Moved(current);
        }
        if self.tags.remove(tag).is_none() {
            return Removed::Missing;
        }
        self.history
            .entry(tag.to_owned())
            .or_default()
            .push((now, None));
        Removed::Done
    }

    pub(super) fn delete_manifest(&mut self, digest: &Digest, now: i64) -> Removed {
        if !self.manifests.contains_key(digest) {
            return Removed::Missing;
        }
        let referring = self.referring(digest);
        if !referring.is_empty() {
            return Removed::Referenced(referring);
        }
        self.forget(digest, now);
        Removed::Done
    }

    fn forget(&mut self, digest: &Digest, now: i64) {
        self.manifests.remove(digest);
        let tags: Vec<String> = self
            .tags
            .iter()
            .filter(|(_, at)| *at == digest)
            .map(|(tag, _)| tag.clone())
            .collect();
        for tag in tags {
            self.delete_tag(&tag, Precondition::None, now);
        }
    }

    pub(super) fn delete_blob(&mut self, digest: &Digest) -> Removed {
        if !self.blobs.contains(digest) {
            return Removed::Missing;
        }
        let referring = self.referring(digest);
        if !referring.is_empty() {
            return Removed::Referenced(referring);
        }
        self.blobs.remove(digest);
        Removed::Done
    }

    fn unkept(&self) -> Option<Digest> {
        let unkept = |digest: &&Digest| {
            let subject = self.manifests[*digest].parsed.subject;
            !subject.is_some_and(|subject| self.manifests.contains_key(&subject))
                && !self.tags.values().any(|at| at == *digest)
                && self.referring(digest).is_empty()
        };
        self.manifests.keys().find(unkept).copied()
    }

    /// Removes what nothing needs, until nothing more goes.
    pub(super) fn collect(&mut self, untagged: bool, now: i64) {
        while let Some(digest) = self.unkept().filter(|_| untagged) {
            self.forget(&digest, now);
        }
        let needed: BTreeSet<Digest> = self
            .manifests
            .values()
            .flat_map(|known| &known.parsed.edges)
            .map(|edge| edge.digest)
            .collect();
        self.blobs.retain(|digest| needed.contains(digest));
    }

    /// Digests of the manifests with `subject`, of any of these artifact types, in the order they came.
    pub(super) fn referrers(&self, subject: &Digest, types: &[String]) -> Vec<Digest> {
        let wanted = |known: &Known| {
            let of_type = known
                .parsed
                .artifact_type
                .as_ref()
                .is_some_and(|found| types.contains(found));
            known.parsed.subject == Some(*subject) && (types.is_empty() || of_type)
        };
        let mut found: Vec<_> = self
            .manifests
            .iter()
            .filter(|(_, known)| wanted(known))
            .collect();
        found.sort_by_key(|(_, known)| known.arrived);
        found.into_iter().map(|(digest, _)| *digest).collect()
    }

    /// Where a tag stood at `time`.
    pub(super) fn stood_at(&self, tag: &str, time: i64) -> Option<Digest> {
        let moves = self.history.get(tag)?;
        moves.iter().rev().find(|(over, _)| *over <= time)?.1
    }
}
