//! Fills a registry with what the read workloads ask for. The content follows from numbers alone, so every contender gets the same
//! bytes; a plain folder (for a static file server as the limit) is filled with files that answer the same paths.

use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;

use crate::args::parse_size;
use crate::connection::Connection;
use crate::content::{content, digest_of};
use crate::image::{self, Image, image};
use crate::push::Link;
use crate::target::Target;

/// Numbers of images that stand under no tag, far from those of the tags.
const SUBJECTS: u64 = 1 << 32;
const REPOSITORIES: u64 = 2 << 32;
const HOLDER: u64 = 3 << 32;

/// What was seeded; the `run` command reads it to know what it can ask for.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Seeded {
    pub(crate) repository: String,
    pub(crate) tags: Vec<Tag>,
    pub(crate) blobs: Vec<Stored>,
    pub(crate) subjects: Vec<String>,
    pub(crate) referrers: usize,
    pub(crate) repositories: usize,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Tag {
    pub(crate) name: String,
    pub(crate) digest: String,
    pub(crate) size: usize,
    /// Where it is, if not in the state's repository; `seed` writes none, whoever fills a database by itself may.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) repository: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Stored {
    pub(crate) size: usize,
    pub(crate) digest: String,
    /// Makes the content again.
    pub(crate) seed: u64,
}

/// What is to be made.
#[derive(Clone, Debug)]
pub(crate) struct Shape {
    pub(crate) repository: String,
    pub(crate) tags: u64,
    pub(crate) blobs: Vec<BlobSet>,
    pub(crate) subjects: u64,
    pub(crate) referrers: usize,
    pub(crate) repositories: u64,
}

/// `SIZE:COUNT`, such as `64KiB:16`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BlobSet {
    size: usize,
    count: u64,
}

impl FromStr for BlobSet {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (size, count) = text
            .split_once(':')
            .ok_or_else(|| format!("{text}: write SIZE:COUNT, such as 64KiB:16"))?;
        let size = parse_size(size)?;
        let count = count
            .parse()
            .map_err(|_| format!("{count}: is not a number of blobs"))?;
        Ok(Self { size, count })
    }
}

/// Where the content goes.
#[derive(Clone)]
pub(crate) enum Destination {
    Registry(Arc<Target>),
    Folder(PathBuf),
}

enum Job {
    Tag(u64),
    Blob { seed: u64, size: usize },
    Subject(u64),
    Repository(u64),
}

enum Made {
    Tag(Tag),
    Blob(Stored),
    Subject(String),
    Repository,
}

/// Makes everything `shape` asks for, over `connections` connections.
pub(crate) async fn seed(
    shape: Shape,
    destination: Destination,
    connections: usize,
) -> anyhow::Result<Seeded> {
    let shape = Arc::new(shape);
    let jobs = Arc::new(jobs_of(&shape));
    let next = Arc::new(AtomicUsize::new(0));
    let mut tasks = JoinSet::new();
    for _ in 0..connections.max(1) {
        let seeder = Seeder::new(&shape, &destination);
        tasks.spawn(seeder.work(Arc::clone(&jobs), Arc::clone(&next)));
    }
    let mut seeded = Seeded {
        repository: shape.repository.clone(),
        referrers: shape.referrers,
        ..Seeded::default()
    };
    while let Some(made) = tasks.join_next().await {
        for thing in made?? {
            seeded.add(thing);
        }
    }
    seeded.tags.sort();
    seeded.blobs.sort();
    seeded.subjects.sort();
    if !seeded.blobs.is_empty() {
        Seeder::new(&shape, &destination)
            .hold(&seeded.blobs)
            .await?;
    }
    Ok(seeded)
}

fn jobs_of(shape: &Shape) -> Vec<Job> {
    let mut jobs = Vec::new();
    jobs.extend((0..shape.tags).map(Job::Tag));
    for set in &shape.blobs {
        let size = set.size;
        let first = (size as u64) << 16;
        jobs.extend((first..first + set.count).map(|seed| Job::Blob { seed, size }));
    }
    jobs.extend((0..shape.subjects).map(Job::Subject));
    jobs.extend((0..shape.repositories).map(Job::Repository));
    jobs
}

impl Seeded {
    pub(crate) fn read(path: &Path) -> anyhow::Result<Self> {
        let text = fs::read_to_string(path).with_context(|| {
            format!(
                "{}: cannot be read; `seed --state` writes it",
                path.display()
            )
        })?;
        serde_json::from_str(&text).with_context(|| format!("{}: is no seed state", path.display()))
    }

    pub(crate) fn write(&self, path: &Path) -> anyhow::Result<()> {
        let text = serde_json::to_string(self)?;
        fs::write(path, text).with_context(|| format!("{}: cannot be written", path.display()))
    }

    fn add(&mut self, made: Made) {
        match made {
            Made::Tag(tag) => self.tags.push(tag),
            Made::Blob(blob) => self.blobs.push(blob),
            Made::Subject(digest) => self.subjects.push(digest),
            Made::Repository => self.repositories += 1,
        }
    }
}

struct Seeder {
    shape: Arc<Shape>,
    store: Store,
}

impl Seeder {
    fn new(shape: &Arc<Shape>, destination: &Destination) -> Self {
        Self {
            shape: Arc::clone(shape),
            store: Store::open(destination),
        }
    }

    async fn work(
        mut self,
        jobs: Arc<Vec<Job>>,
        next: Arc<AtomicUsize>,
    ) -> anyhow::Result<Vec<Made>> {
        let mut made = Vec::new();
        while let Some(job) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
            made.push(self.make(job).await?);
        }
        Ok(made)
    }

    async fn make(&mut self, job: &Job) -> anyhow::Result<Made> {
        let shape = Arc::clone(&self.shape);
        let repository = &shape.repository;
        match job {
            Job::Tag(number) => {
                let name = format!("t{number:06}");
                let image = image(*number);
                self.store.put_image(repository, &name, &image).await?;
                let digest = digest_of(&image.manifest);
                let size = image.manifest.len();
                Ok(Made::Tag(Tag {
                    name,
                    digest,
                    size,
                    repository: None,
                }))
            }
            Job::Blob { seed, size } => {
                let (seed, size) = (*seed, *size);
                let digest = self
                    .store
                    .put_blob(repository, &content(seed, size))
                    .await?;
                Ok(Made::Blob(Stored { size, digest, seed }))
            }
            Job::Subject(number) => self.make_subject(*number).await,
            Job::Repository(number) => {
                let repository = format!("{repository}-{number:06}");
                let image = image(REPOSITORIES + number);
                self.store.put_image(&repository, "latest", &image).await?;
                Ok(Made::Repository)
            }
        }
    }

    async fn make_subject(&mut self, number: u64) -> anyhow::Result<Made> {
        let repository = format!("{}-referrers", self.shape.repository);
        let image = image(SUBJECTS + number);
        let digest = digest_of(&image.manifest);
        self.store.put_image(&repository, &digest, &image).await?;
        for kind in 0..self.shape.referrers {
            let referrer = image::referrer(&image, kind);
            let reference = digest_of(&referrer);
            self.store
                .put_manifest(&repository, &reference, &referrer)
                .await?;
        }
        Ok(Made::Subject(digest))
    }

    /// One manifest refers to all bare blobs, so that no contender's garbage collection takes them.
    async fn hold(&mut self, blobs: &[Stored]) -> anyhow::Result<()> {
        let repository = self.shape.repository.clone();
        let config = image(HOLDER).config;
        let layers = blobs.iter().map(|blob| (blob.digest.as_str(), blob.size));
        let manifest = image::holder(&config, layers);
        self.store.put_blob(&repository, &config).await?;
        self.store
            .put_manifest(&repository, "blobs", &manifest)
            .await
    }
}

enum Store {
    Registry {
        target: Arc<Target>,
        connection: Connection,
    },
    Folder(PathBuf),
}

impl Store {
    fn open(destination: &Destination) -> Self {
        match destination {
            Destination::Registry(target) => Self::Registry {
                target: Arc::clone(target),
                connection: Connection::new(target.address),
            },
            Destination::Folder(root) => Self::Folder(root.clone()),
        }
    }

    async fn put_image(
        &mut self,
        repository: &str,
        reference: &str,
        image: &Image,
    ) -> anyhow::Result<()> {
        self.put_blob(repository, &image.config).await?;
        self.put_blob(repository, &image.layer).await?;
        self.put_manifest(repository, reference, &image.manifest)
            .await
    }

    async fn put_blob(&mut self, repository: &str, bytes: &[u8]) -> anyhow::Result<String> {
        let digest = digest_of(bytes);
        match self {
            Self::Registry { target, connection } => {
                let mut link = Link { connection, target };
                link.post_put(repository, &digest, &[bytes]).await?;
            }
            Self::Folder(root) => write_file(root, repository, "blobs", &digest, bytes)?,
        }
        Ok(digest)
    }

    async fn put_manifest(
        &mut self,
        repository: &str,
        reference: &str,
        bytes: &[u8],
    ) -> anyhow::Result<()> {
        match self {
            Self::Registry { target, connection } => {
                let mut link = Link { connection, target };
                link.put_manifest(repository, reference, bytes).await?;
            }
            Self::Folder(root) => write_file(root, repository, "manifests", reference, bytes)?,
        }
        Ok(())
    }
}

fn write_file(
    root: &Path,
    repository: &str,
    kind: &str,
    name: &str,
    bytes: &[u8],
) -> anyhow::Result<()> {
    let folder = root.join("v2").join(repository).join(kind);
    fs::create_dir_all(&folder).with_context(|| format!("{}: cannot be made", folder.display()))?;
    let file = folder.join(name);
    fs::write(&file, bytes).with_context(|| format!("{}: cannot be written", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blob_set_is_a_size_and_a_count() {
        let set: BlobSet = "64KiB:16".parse().unwrap();
        assert_eq!((set.size, set.count), (65_536, 16));
        assert!("64KiB".parse::<BlobSet>().is_err());
        assert!("64KiB:x".parse::<BlobSet>().is_err());
    }

    #[test]
    fn jobs_are_as_many_as_the_shape_asks_for() {
        let shape = Shape {
            repository: "r".to_owned(),
            tags: 3,
            blobs: vec![BlobSet { size: 1, count: 4 }],
            subjects: 2,
            referrers: 3,
            repositories: 5,
        };
        assert_eq!(jobs_of(&shape).len(), 14);
    }
}
