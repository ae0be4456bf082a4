//! Every answer of the registry beside the model's.

use bytes::Bytes;
use granary_oci::Digest;
use granary_registry::{ReferrerFilter, RegistryError};
use serde_json::Value;

use super::play::{Play, REPOSITORIES, TAGS, TYPES};
use crate::world::{Leave, WHO, pull, read, resolve, tag};

impl Play {
    pub(super) async fn compare_everything(&mut self) {
        for repository in REPOSITORIES {
            self.compare(repository, usize::MAX).await;
        }
        let with_manifests: Vec<&str> = self
            .repositories
            .iter()
            .filter(|(_, known)| !known.manifests.is_empty())
            .map(|(name, _)| *name)
            .collect();
        let listed = self.registry.repositories(&WHO, "", 100).await.unwrap();
        assert_eq!(listed, with_manifests);
    }

    /// Compares the tags of `repository`, and of the rest up to `most` of each kind.
    pub(super) async fn compare(&mut self, repository: &'static str, most: usize) {
        self.compare_tags(repository).await;
        let contents = self.contents.clone();
        for bytes in self.some(&contents, most) {
            let digest = Digest::sha256(&bytes);
            let there = self.of(repository).blobs.contains(&digest);
            let found = pull(&self.registry, repository, &digest).await;
            assert_eq!(
                found,
                there.then_some(bytes),
                "blob {digest} of {repository}"
            );
        }
        let bodies: Vec<(Digest, Bytes)> = self
            .bodies
            .iter()
            .map(|(digest, body)| (*digest, body.clone()))
            .collect();
        for (digest, body) in self.some(&bodies, most) {
            let there = self.of(repository).manifests.contains_key(&digest);
            match resolve(&self.registry, repository, &digest.to_string()).await {
                Ok(found) => assert!(there && found.payload == body, "{digest} of {repository}"),
                Err(RegistryError::ManifestUnknown(_) | RegistryError::NameUnknown(_)) => {
                    assert!(!there, "{digest} of {repository}");
                }
                Err(error) => panic!("{error:?}"),
            }
            self.compare_referrers(repository, &digest).await;
        }
        self.compare_referrers(repository, &Digest::sha256(b"never"))
            .await;
    }

    fn some<T: Clone>(&mut self, from: &[T], most: usize) -> Vec<T> {
        if most >= from.len() {
            return from.to_vec();
        }
        (0..most)
            .filter_map(|_| self.dice.pick(from).cloned())
            .collect()
    }

    async fn compare_tags(&mut self, repository: &'static str) {
        let known = self.of(repository);
        let (created, expected) = (known.created, known.tags.clone());
        match self.registry.reads(repository).await.tags("", 100).await {
            // The model's order is bytewise.
            Ok(found) => assert!(
                created && found.iter().eq(expected.keys()),
                "{repository} has {found:?}"
            ),
            Err(RegistryError::NameUnknown(_)) => assert!(!created, "{repository}"),
            Err(error) => panic!("{error:?}"),
        }
        for which in TAGS {
            let at = match resolve(&self.registry, repository, which).await {
                Ok(found) => {
                    assert_eq!(Digest::sha256(&found.payload), found.digest);
                    Some(found.digest)
                }
                Err(RegistryError::ManifestUnknown(_)) if created => None,
                Err(RegistryError::NameUnknown(_)) if !created => None,
                Err(error) => panic!("{error:?}"),
            };
            assert_eq!(at.as_ref(), expected.get(which), "{repository}:{which}");
        }
    }

    async fn compare_referrers(&mut self, repository: &'static str, subject: &Digest) {
        let one = vec![TYPES[0].to_owned()];
        let both = TYPES.map(str::to_owned).to_vec();
        let artifact_types = self.dice.pick(&[Vec::new(), one, both]).cloned().unwrap();
        let filter = ReferrerFilter {
            artifact_types,
            after: 0,
        };
        let page = self
            .registry
            .reads(repository)
            .await
            .referrers(subject, &filter)
            .await
            .unwrap();
        assert_eq!(page.next, None);
        let expected = self
            .of(repository)
            .referrers(subject, &filter.artifact_types);
        let found: Vec<Digest> = page
            .descriptors
            .iter()
            .map(|text| self.described(text))
            .collect();
        assert_eq!(found, expected, "referrers of {subject} in {repository}");
    }

    /// The digest a descriptor names, after the rest of it was compared with the manifest.
    fn described(&self, text: &str) -> Digest {
        let descriptor: Value = serde_json::from_str(text).unwrap();
        let digest: Digest = descriptor["digest"].as_str().unwrap().parse().unwrap();
        let body = &self.bodies[&digest];
        let manifest: Value = serde_json::from_slice(body).unwrap();
        assert_eq!(descriptor["size"], body.len());
        assert_eq!(descriptor["artifactType"], manifest["artifactType"]);
        assert_eq!(descriptor["annotations"], manifest["annotations"]);
        digest
    }

    /// Where a tag stood at some time, moves and removals since then notwithstanding.
    pub(super) async fn at_some_time(&mut self, repository: &'static str) {
        let moments = self.moments.clone();
        let Some(&time) = self.dice.pick(&moments) else {
            return;
        };
        let which = TAGS[self.dice.below(TAGS.len())];
        let known = self.of(repository);
        let expected = known
            .stood_at(which, time)
            .map(|digest| (digest, known.manifests.contains_key(&digest)));
        match self
            .registry
            .reads(repository)
            .await
            .resolve_at(&tag(which), time)
            .await
        {
            Ok(found) => assert_eq!(expected, Some((found.digest, true))),
            Err(RegistryError::ManifestRemoved { digest, removed_at }) => {
                assert_eq!(expected, Some((digest, false)));
                assert!(
                    removed_at.is_some_and(|removed_at| removed_at > time),
                    "{removed_at:?} after {time}"
                );
            }
            Err(RegistryError::ManifestUnknown(_)) => assert_eq!(expected, None),
            Err(error) => panic!("{error:?}"),
        }
    }

    /// What a client that is about to push would hear.
    pub(super) async fn head(&mut self, repository: &'static str) {
        let bytes = self.blob();
        let digest = Digest::sha256(&bytes);
        let there = self.of(repository).blobs.contains(&digest);
        match self
            .registry
            .reads(repository)
            .await
            .check_blob(&digest)
            .await
        {
            Ok(blob) => assert!(
                there && blob.size == bytes.len() as u64,
                "{digest} in {repository}"
            ),
            Err(RegistryError::BlobUnknown(_)) => assert!(!there, "{digest} in {repository}"),
            Err(error) => panic!("{error:?}"),
        }
    }

    /// A piece of a blob.
    pub(super) async fn range(&mut self, repository: &'static str) {
        let here: Vec<Digest> = self.of(repository).blobs.iter().copied().collect();
        let Some(&digest) = self.dice.pick(&here) else {
            return;
        };
        let bytes = self.content_of(&digest);
        if bytes.is_empty() {
            return;
        }
        let (one, other) = (self.dice.below(bytes.len()), self.dice.below(bytes.len()));
        let (first, last) = (one.min(other), one.max(other));
        let blob = self
            .registry
            .reads(repository)
            .await
            .blob(&digest)
            .await
            .unwrap();
        let range = granary_oci::ByteRange {
            first: first as u64,
            last: last as u64,
        };
        assert_eq!(
            read(&self.registry, &digest, &blob, range).await,
            bytes.slice(first..=last)
        );
    }

    fn content_of(&self, digest: &Digest) -> Bytes {
        self.contents
            .iter()
            .find(|bytes| Digest::sha256(bytes) == *digest)
            .unwrap()
            .clone()
    }
}
