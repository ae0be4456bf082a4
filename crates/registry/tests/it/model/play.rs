//! Random work on the registry and the model, and the comparison of the two.

use std::{
    collections::{BTreeMap, VecDeque},
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use granary_catalog::dialect;
use granary_oci::{Digest, Manifest, Reference};
use granary_registry::{
    Chunk, Maintenance, ManifestRequest, Precondition, Progress, Registry, RegistryError, Rules,
    Untagged,
};
use serde_json::{Value, json};

use super::{
    Dice,
    oracle::{Put, Removed, Repository},
};
use crate::world::{Leave, append, begin, body, content, finish, name, open, push, tag};

pub(super) const REPOSITORIES: [&str; 3] = ["a", "a/b", "z/y/x"];
pub(super) const TAGS: [&str; 5] = ["1.0", "1.1", "latest", "_", "A"];
pub(super) const TYPES: [&str; 2] = ["application/one", "application/two"];
/// Lengths around those where inline content ends.
const LENGTHS: [usize; 8] = [0, 3, 40, 63, 64, 65, 200, 5000];
const REMEMBERED: usize = 30;

/// What happened last, told when something fails.
type Journal = Arc<Mutex<VecDeque<String>>>;

pub(super) struct Play {
    seed: u64,
    steps: usize,
    pub(super) dice: Dice,
    pub(super) registry: Registry,
    rules: Rules,
    pub(super) contents: Vec<Bytes>,
    pub(super) repositories: BTreeMap<&'static str, Repository>,
    /// Every manifest that was ever stored.
    pub(super) bodies: BTreeMap<Digest, Bytes>,
    /// Open sessions with what was sent.
    sessions: Vec<(String, &'static str, Vec<u8>)>,
    /// Times between steps.
    pub(super) moments: Vec<i64>,
    journal: Journal,
    done: bool,
}

impl Drop for Play {
    fn drop(&mut self) {
        if !self.done {
            let journal = self.journal.lock().unwrap_or_else(PoisonError::into_inner);
            let journal: Vec<_> = journal.iter().map(String::as_str).collect();
            let (seed, steps) = (self.seed, self.steps);
            #[expect(clippy::print_stderr, reason = "for whoever reads the failure")]
            {
                eprintln!(
                    "GRANARY_MODEL_SEED={seed} failed at step {steps}, after\n{}",
                    journal.join("\n")
                );
            }
        }
    }
}

impl Play {
    pub(super) fn new(seed: u64, registry: Registry, rules: Rules) -> Self {
        let numbered = LENGTHS.iter().chain(&LENGTHS).enumerate();
        let contents = numbered.filter(|(number, length)| **length > 0 || *number == 0);
        Self {
            seed,
            steps: 0,
            dice: Dice::new(seed),
            registry,
            rules,
            contents: contents
                .map(|(number, &length)| content(number, length))
                .collect(),
            repositories: BTreeMap::new(),
            bodies: BTreeMap::new(),
            sessions: Vec::new(),
            moments: Vec::new(),
            journal: Journal::default(),
            done: false,
        }
    }

    pub(super) fn end(mut self) {
        self.done = true;
    }

    pub(super) async fn restart(&mut self, folder: &Path) {
        self.note("restart".to_owned());
        self.registry.drain().await;
        // The old one goes first, as it would with its process.
        self.registry = open(folder, self.rules.clone()).await;
    }

    fn note(&self, line: String) {
        let mut journal = self.journal.lock().unwrap_or_else(PoisonError::into_inner);
        if journal.len() == REMEMBERED {
            journal.pop_front();
        }
        journal.push_back(format!("{}: {line}", self.steps));
    }

    /// One piece of work, then a look at the repository it was done in.
    pub(super) async fn step(&mut self) {
        self.steps += 1;
        let repository = REPOSITORIES[self.dice.below(REPOSITORIES.len())];
        match self.dice.below(100) {
            0..20 => self.push(repository).await,
            20..28 => self.upload(repository).await,
            28..34 => self.mount(repository).await,
            34..60 => self.put(repository).await,
            60..66 => self.delete_tag(repository).await,
            66..73 => self.delete_manifest(repository).await,
            73..80 => self.delete_blob(repository).await,
            80..83 => self.collect().await,
            83..90 => self.head(repository).await,
            90..95 => self.range(repository).await,
            _ => self.at_some_time(repository).await,
        }
        // Later moves get a later time than this one.
        let over = dialect::now();
        self.moments.push(over);
        while dialect::now() <= over {
            std::hint::spin_loop();
        }
        self.compare(repository, 3).await;
    }

    pub(super) fn of(&mut self, repository: &'static str) -> &mut Repository {
        self.repositories.entry(repository).or_default()
    }

    pub(super) fn blob(&mut self) -> Bytes {
        self.contents[self.dice.below(self.contents.len())].clone()
    }

    async fn push(&mut self, repository: &'static str) {
        let bytes = self.blob();
        let digest = Digest::sha256(&bytes);
        self.note(format!("push {repository} {digest}"));
        if self.dice.chance(10) {
            let other = Digest::sha256(b"something else");
            let refused = self
                .registry
                .pushes(repository)
                .await
                .push_blob(other, Some(bytes.len() as u64), body(bytes))
                .await;
            assert!(matches!(refused, Err(RegistryError::DigestDiffers { .. })));
            return;
        }
        if self.dice.chance(20) {
            // Of unknown length.
            self.registry
                .pushes(repository)
                .await
                .push_blob(digest, None, body(bytes))
                .await
                .unwrap();
        } else {
            push(&self.registry, repository, &bytes).await.unwrap();
        }
        self.of(repository).add_blob(digest);
    }

    /// Begins a session, or goes on with one: a chunk, a wrong end, a right end, or a cancel.
    async fn upload(&mut self, repository: &'static str) {
        if self.sessions.len() < 3 {
            let id = begin(&self.registry, repository).await;
            self.note(format!("begin {repository} {id}"));
            self.sessions.push((id, repository, Vec::new()));
            return;
        }
        let number = self.dice.below(self.sessions.len());
        let (id, repository, mut sent) = self.sessions.swap_remove(number);
        match self.dice.below(10) {
            0..5 => {
                let more = self.blob();
                self.note(format!("append {} to {id}", more.len()));
                sent.extend_from_slice(&more);
                let received = append(&self.registry, repository, &id, &more)
                    .await
                    .unwrap();
                assert_eq!(received, sent.len() as u64);
            }
            5 => {
                let refused = finish(&self.registry, repository, &id, b"something else").await;
                assert!(
                    matches!(refused, Err(RegistryError::DigestDiffers { .. })),
                    "{refused:?}"
                );
            }
            6 => {
                self.note(format!("cancel {id}"));
                return self
                    .registry
                    .pushes(repository)
                    .await
                    .cancel_upload(&id)
                    .await
                    .unwrap();
            }
            _ => return self.finish(repository, &id, sent).await,
        }
        let status = self
            .registry
            .pushes(repository)
            .await
            .upload_status(&id)
            .await
            .unwrap();
        assert_eq!(status.received, sent.len() as u64);
        self.sessions.push((id, repository, sent));
    }

    async fn finish(&mut self, repository: &'static str, id: &str, sent: Vec<u8>) {
        let last = self.blob();
        let whole = Bytes::from([&sent[..], &last].concat());
        let digest = Digest::sha256(&whole);
        self.note(format!("finish {id} as {digest}"));
        self.registry
            .pushes(repository)
            .await
            .finish_upload(id, digest, Chunk::default(), body(last))
            .await
            .unwrap();
        self.of(repository).add_blob(digest);
        if !self.contents.contains(&whole) {
            self.contents.push(whole);
        }
    }

    async fn mount(&mut self, repository: &'static str) {
        let digest = Digest::sha256(&self.blob());
        let from = self
            .dice
            .chance(60)
            .then(|| REPOSITORIES[self.dice.below(3)]);
        self.note(format!("mount {digest} from {from:?} to {repository}"));
        let source = from.map(name);
        let mounted = self
            .registry
            .pushes(repository)
            .await
            .mount(source.as_ref(), &digest)
            .await
            .unwrap();
        let there = self
            .repositories
            .iter()
            .filter(|(name, _)| from.is_none_or(|from| from == **name))
            .any(|(_, repository)| repository.blobs.contains(&digest));
        assert_eq!(mounted, there);
        if there {
            self.of(repository).add_blob(digest);
        }
    }

    fn descriptor(digest: Digest, size: usize) -> Value {
        json!({"mediaType": "application/x", "digest": digest.to_string(), "size": size})
    }

    /// A manifest of content that mostly is there: an image, an index, an artifact with a subject.
    fn build(&mut self, repository: &'static str) -> Bytes {
        let mut manifest = json!({"schemaVersion": 2});
        let here: Vec<Digest> = self.of(repository).blobs.iter().copied().collect();
        let known: Vec<Digest> = self.of(repository).manifests.keys().copied().collect();
        let ever: Vec<Digest> = self.bodies.keys().copied().collect();
        let number = self.dice.below(3);
        let list = |dice: &mut Dice, from: &[Digest]| -> Vec<Value> {
            (0..number)
                .filter_map(|_| Some(Self::descriptor(*dice.pick(from)?, 7)))
                .collect()
        };
        let mut layers = list(&mut self.dice, &here);
        if self.dice.chance(15) {
            layers.push(Self::descriptor(Digest::sha256(&self.blob()), 7));
        }
        match self.dice.below(10) {
            0..2 => manifest["manifests"] = list(&mut self.dice, &known).into(),
            2 => manifest["manifests"] = list(&mut self.dice, &ever).into(),
            3 => manifest["manifests"] = layers.into(),
            4 => manifest["layers"] = list(&mut self.dice, &known).into(),
            _ => manifest["layers"] = layers.into(),
        }
        if self.dice.chance(30) {
            // A subject may come later than its referrers, or never.
            let subject = self
                .dice
                .pick(&ever)
                .copied()
                .unwrap_or(Digest::sha256(b"never"));
            manifest["subject"] = Self::descriptor(subject, 7);
            manifest["artifactType"] = TYPES[self.dice.below(2)].into();
        }
        if self.dice.chance(10) {
            manifest["elsewhere"] = Self::descriptor(Digest::sha256(&self.blob()), 7);
        }
        if self.dice.chance(50) {
            manifest["annotations"] = json!({"number": self.dice.below(4).to_string()});
        }
        manifest.to_string().into()
    }

    fn precondition(&mut self, repository: &'static str) -> Precondition {
        let at = TAGS[self.dice.below(TAGS.len())];
        let at = self.of(repository).tags.get(at).copied();
        match self.dice.below(10) {
            0 => Precondition::Exists,
            1 => Precondition::Absent,
            2 => Precondition::At(at.unwrap_or(Digest::sha256(b"never"))),
            _ => Precondition::None,
        }
    }

    async fn put(&mut self, repository: &'static str) {
        let bodies: Vec<Bytes> = self.bodies.values().cloned().collect();
        let again = if self.dice.chance(25) {
            self.dice.pick(&bodies).cloned()
        } else {
            None
        };
        let body = match again {
            Some(body) => body,
            None => self.build(repository),
        };
        let parsed = Manifest::parse(&body, None).unwrap();
        let digest = Digest::sha256(&body);
        let mut tags: Vec<String> = Vec::new();
        let reference = if self.dice.chance(35) {
            Reference::Digest(digest)
        } else {
            tags.push(TAGS[self.dice.below(TAGS.len())].to_owned());
            Reference::Tag(tag(&tags[0]))
        };
        let mut more = Vec::new();
        if self.dice.chance(15) {
            let further = TAGS[self.dice.below(TAGS.len())];
            more.push(tag(further));
            tags.push(further.to_owned());
        }
        let precondition = if tags.is_empty() {
            Precondition::None
        } else {
            self.precondition(repository)
        };
        self.note(format!(
            "put {repository} {reference} {tags:?} {precondition:?} {}",
            String::from_utf8_lossy(&body)
        ));
        let (sparse, empty) = (self.rules.sparse, Repository::default());
        let before = self.repositories.get(repository).unwrap_or(&empty);
        let expected = before.check(&parsed, &tags, precondition, sparse);
        let request = ManifestRequest {
            reference,
            tags: more,
            content_type: None,
            precondition,
            body: body.clone(),
        };
        let found = match self
            .registry
            .pushes(repository)
            .await
            .put_manifest(request)
            .await
        {
            Ok(stored) => {
                assert_eq!((stored.digest, stored.subject), (digest, parsed.subject));
                Put::Stored
            }
            Err(RegistryError::ContentMissing(missing)) => {
                Put::Missing(missing.into_iter().collect())
            }
            Err(RegistryError::PreconditionFailed { tag, current }) => {
                Put::Moved(tag.to_string(), current)
            }
            Err(error) => panic!("{error:?}"),
        };
        assert_eq!(found, expected);
        if found == Put::Stored {
            self.bodies.insert(digest, body);
            self.of(repository)
                .put(digest, parsed, &tags, dialect::now());
        }
    }

    async fn delete_tag(&mut self, repository: &'static str) {
        let which = TAGS[self.dice.below(TAGS.len())];
        let precondition = self.precondition(repository);
        self.note(format!("delete {repository}:{which} {precondition:?}"));
        let reference = Reference::Tag(tag(which));
        let answer = self
            .registry
            .deletes(repository)
            .await
            .delete_manifest(&reference, precondition)
            .await;
        let found = removed(answer);
        let mut expected = self
            .of(repository)
            .delete_tag(which, precondition, dialect::now());
        if expected == Removed::Moved(None) && !self.of(repository).created {
            // A repository that is not there has no tag to compare.
            expected = Removed::Missing;
        }
        assert_eq!(found, expected);
    }

    async fn delete_manifest(&mut self, repository: &'static str) {
        let ever: Vec<Digest> = self.bodies.keys().copied().collect();
        let Some(&digest) = self.dice.pick(&ever) else {
            return;
        };
        self.note(format!("delete {repository}@{digest}"));
        let reference = Reference::Digest(digest);
        let answer = self
            .registry
            .deletes(repository)
            .await
            .delete_manifest(&reference, Precondition::None)
            .await;
        let expected = self.of(repository).delete_manifest(&digest, dialect::now());
        assert_eq!(removed(answer), expected);
    }

    async fn delete_blob(&mut self, repository: &'static str) {
        let digest = Digest::sha256(&self.blob());
        self.note(format!("delete blob {repository} {digest}"));
        let found = removed(
            self.registry
                .deletes(repository)
                .await
                .delete_blob(&digest)
                .await,
        );
        assert_eq!(found, self.of(repository).delete_blob(&digest));
    }

    async fn collect(&mut self) {
        self.note("collect".to_owned());
        let all = Maintenance::Gc { dry_run: false };
        self.registry
            .maintain(all, &Progress::silent())
            .await
            .unwrap();
        let (untagged, now) = (self.rules.untagged != Untagged::Keep, dialect::now());
        for repository in self.repositories.values_mut() {
            repository.collect(untagged, now);
        }
        for repository in REPOSITORIES {
            self.compare(repository, usize::MAX).await;
        }
    }
}

fn removed(answer: Result<(), RegistryError>) -> Removed {
    match answer {
        Ok(()) => Removed::Done,
        Err(RegistryError::ManifestUnknown(_) | RegistryError::BlobUnknown(_)) => Removed::Missing,
        Err(RegistryError::Referenced(by)) => Removed::Referenced(by.into_iter().collect()),
        Err(RegistryError::PreconditionFailed { current, .. }) => Removed::Moved(current),
        Err(error) => panic!("{error:?}"),
    }
}
