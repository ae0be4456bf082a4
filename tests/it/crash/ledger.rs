//! What one client was told, and whether the registry still says so.
//!
//! Everything is noted as possible before it is asked for, and as certain once it was acknowledged: what a crash or an
//! error left open may have happened or not (decision 40), everything else must be as it was acknowledged.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use granary_oci::{Digest, EdgeKind, Manifest};
use serde_json::Value;

use super::{
    client::{Answer, Client, Gone},
    dice::Dice,
};

pub(super) type Content = Arc<Vec<u8>>;

/// Things by digest: those that are certainly there, those that may be, those that certainly went.
#[derive(Default)]
pub(super) struct Things {
    pub(super) there: BTreeMap<Digest, Content>,
    pub(super) maybe: BTreeMap<Digest, Content>,
    pub(super) gone: BTreeSet<Digest>,
}

impl Things {
    /// About to be stored.
    pub(super) fn may_come(&mut self, digest: Digest, content: &Content) {
        self.gone.remove(&digest);
        if !self.there.contains_key(&digest) {
            self.maybe.insert(digest, Arc::clone(content));
        }
    }

    pub(super) fn came(&mut self, digest: Digest, content: &Content) {
        self.gone.remove(&digest);
        self.maybe.remove(&digest);
        self.there.insert(digest, Arc::clone(content));
    }

    /// About to be removed.
    pub(super) fn may_go(&mut self, digest: &Digest) {
        if let Some(content) = self.there.remove(digest) {
            self.maybe.insert(*digest, content);
        }
    }

    pub(super) fn went(&mut self, digest: &Digest) {
        self.there.remove(digest);
        self.maybe.remove(digest);
        self.gone.insert(*digest);
    }

    /// Not there, and nobody is surprised.
    fn forget(&mut self, digest: &Digest) {
        self.there.remove(digest);
        self.maybe.remove(digest);
    }
}

/// An upload that was begun and whose end was not acknowledged.
pub(super) struct Upload {
    pub(super) location: String,
    pub(super) content: Content,
    /// Bytes that were acknowledged, and bytes that were sent.
    pub(super) acknowledged: usize,
    pub(super) sent: usize,
    /// Its end was asked for: it may be gone.
    pub(super) ending: Option<Ending>,
}

#[derive(Clone, Copy, PartialEq)]
pub(super) enum Ending {
    Stored,
    Cancelled,
}

/// The last change of manifests, while its outcome is open: all of it must have happened, or nothing.
pub(super) enum Pending {
    Put { digest: Digest, tags: Vec<String> },
    Delete { digest: Digest, tags: Vec<String> },
}

/// What one client knows of the one repository it writes to. Others push the same content to theirs.
pub(super) struct Ledger {
    pub(super) repository: String,
    pub(super) others: Vec<String>,
    pub(super) dice: Dice,
    /// Whether unreferenced content stays.
    pub(super) kept: bool,
    /// Whether the server may answer with errors of its own.
    pub(super) errors: bool,
    pub(super) blobs: Things,
    pub(super) manifests: Things,
    /// Where each tag may stand.
    pub(super) tags: BTreeMap<String, Vec<Option<Digest>>>,
    pub(super) uploads: Vec<Upload>,
    pub(super) pending: Option<Pending>,
    pub(super) acknowledged: u64,
}

impl Ledger {
    pub(super) fn new(number: usize, of: usize, seed: u64, kept: bool) -> Self {
        let name = |number| format!("crash/client-{number}");
        Self {
            repository: name(number),
            others: (0..of).filter(|&other| other != number).map(name).collect(),
            dice: Dice::new(seed.wrapping_mul(1000).wrapping_add(number as u64)),
            kept,
            errors: false,
            blobs: Things::default(),
            manifests: Things::default(),
            tags: BTreeMap::new(),
            uploads: Vec::new(),
            pending: None,
            acknowledged: 0,
        }
    }

    pub(super) fn path(&self, rest: &str) -> String {
        format!("/v2/{}/{rest}", self.repository)
    }

    /// Compares every answer with what was acknowledged.
    pub(super) fn verify(&mut self, client: &mut Client) -> Result<(), Gone> {
        let mut standing = BTreeMap::new();
        let tags: Vec<String> = self.tags.keys().cloned().collect();
        for tag in tags {
            let answer = self.get(client, &format!("manifests/{tag}"))?;
            let at = (answer.status == 200).then(|| Digest::sha256(&answer.body));
            let possible = &self.tags[&tag];
            assert!(
                possible.contains(&at),
                "{}:{tag} stands at {at:?}, not one of {possible:?}",
                self.repository
            );
            if let Some(at) = at {
                assert_eq!(
                    answer.header("docker-content-digest"),
                    Some(at.to_string().as_str())
                );
                standing.insert(tag.clone(), at);
            }
            self.tags.insert(tag, vec![at]);
        }
        self.verify_list(client, &standing)?;
        self.verify_manifests(client)?;
        for (tag, at) in &standing {
            assert!(
                self.manifests.there.contains_key(at),
                "{}:{tag} stands at {at}, which is not there",
                self.repository
            );
        }
        self.verify_pending(&standing);
        self.verify_blobs(client)?;
        self.verify_referrers(client)
    }

    /// A GET that answers 200 or 404.
    fn get(&self, client: &mut Client, rest: &str) -> Result<Answer, Gone> {
        let answer = client.call("GET", &self.path(rest), &[], b"")?;
        assert!(
            matches!(answer.status, 200 | 404),
            "GET {}: {}",
            self.path(rest),
            answer.text()
        );
        Ok(answer)
    }

    fn verify_list(
        &self,
        client: &mut Client,
        standing: &BTreeMap<String, Digest>,
    ) -> Result<(), Gone> {
        let answer = self.get(client, "tags/list")?;
        let mut listed = Vec::new();
        if answer.status == 200 {
            let list: Value = serde_json::from_slice(&answer.body).unwrap();
            listed.extend(
                list["tags"]
                    .as_array()
                    .into_iter()
                    .flatten()
                    .map(|tag| tag.as_str().unwrap().to_owned()),
            );
        }
        assert!(
            listed.iter().eq(standing.keys()),
            "{listed:?} are listed, {standing:?} stand"
        );
        Ok(())
    }

    fn verify_manifests(&mut self, client: &mut Client) -> Result<(), Gone> {
        let known: Vec<Digest> = self
            .manifests
            .there
            .keys()
            .chain(self.manifests.maybe.keys())
            .copied()
            .collect();
        for digest in known {
            let answer = self.get(client, &format!("manifests/{digest}"))?;
            if answer.status == 404 {
                assert!(
                    !self.manifests.there.contains_key(&digest),
                    "manifest {digest} was acknowledged and is lost"
                );
                self.manifests.forget(&digest);
                continue;
            }
            assert_eq!(Digest::sha256(&answer.body), digest);
            self.manifests.came(digest, &Arc::new(answer.body));
        }
        for digest in &self.manifests.gone {
            let answer = self.get(client, &format!("manifests/{digest}"))?;
            assert_eq!(answer.status, 404, "manifest {digest} was deleted");
        }
        Ok(())
    }

    fn verify_pending(&mut self, standing: &BTreeMap<String, Digest>) {
        let (digest, tags, verb) = match self.pending.take() {
            None => return,
            Some(Pending::Put { digest, tags }) => (digest, tags, "put"),
            Some(Pending::Delete { digest, tags }) => (digest, tags, "deleted"),
        };
        let there = self.manifests.there.contains_key(&digest);
        for tag in tags {
            let stands = standing.get(&tag) == Some(&digest);
            assert_eq!(
                stands, there,
                "{digest} was {verb} by half: the manifest, or {tag}"
            );
        }
    }

    /// What the manifests that are there need.
    fn needed(&self) -> BTreeSet<Digest> {
        let mut needed = BTreeSet::new();
        for body in self.manifests.there.values() {
            let manifest = Manifest::parse(body, None).unwrap();
            needed.extend(
                manifest
                    .edges
                    .iter()
                    .filter(|edge| edge.kind != EdgeKind::Optional)
                    .map(|edge| edge.digest),
            );
        }
        needed.retain(|digest| !self.manifests.there.contains_key(digest));
        needed
    }

    fn verify_blobs(&mut self, client: &mut Client) -> Result<(), Gone> {
        let needed = self.needed();
        let mut known: BTreeSet<Digest> = self
            .blobs
            .there
            .keys()
            .chain(self.blobs.maybe.keys())
            .copied()
            .collect();
        known.extend(&needed);
        for digest in known {
            let answer = self.get(client, &format!("blobs/{digest}"))?;
            if answer.status == 200 {
                assert_eq!(
                    Digest::sha256(&answer.body),
                    digest,
                    "blob {digest} has other bytes"
                );
                self.blobs.came(digest, &Arc::new(answer.body));
                continue;
            }
            assert!(
                !needed.contains(&digest),
                "blob {digest} is lost, though a manifest of {} needs it",
                self.repository
            );
            let lost = self.kept && self.blobs.there.contains_key(&digest);
            assert!(
                !lost,
                "blob {digest} of {} was acknowledged and is lost",
                self.repository
            );
            self.blobs.forget(&digest);
        }
        for digest in &self.blobs.gone {
            let answer = self.get(client, &format!("blobs/{digest}"))?;
            assert_eq!(
                answer.status, 404,
                "blob {digest} of {} was deleted",
                self.repository
            );
        }
        Ok(())
    }

    fn verify_referrers(&self, client: &mut Client) -> Result<(), Gone> {
        let mut expected: BTreeMap<Digest, BTreeSet<String>> = BTreeMap::new();
        for (digest, body) in &self.manifests.there {
            if let Some(subject) = Manifest::parse(body, None).unwrap().subject {
                expected
                    .entry(subject)
                    .or_default()
                    .insert(digest.to_string());
            }
        }
        for (subject, referrers) in expected {
            let answer = self.get(client, &format!("referrers/{subject}"))?;
            let index: Value = serde_json::from_slice(&answer.body).unwrap();
            let listed = index["manifests"].as_array().unwrap().iter();
            let listed: BTreeSet<String> = listed
                .map(|found| found["digest"].as_str().unwrap().to_owned())
                .collect();
            assert_eq!(listed, referrers, "referrers of {subject}");
        }
        Ok(())
    }
}
