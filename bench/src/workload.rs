//! Turns a workload's name into a plan: everything that can be rendered before the clock starts.

use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context as _, bail, ensure};

use crate::args::{RunArgs, Workload};
use crate::content::{Payload, Random, SUFFIX, content};
use crate::image::{self, Image, MANIFEST};
use crate::push::Style;
use crate::seed::{Seeded, Stored};
use crate::target::Target;

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;

/// How much a range request asks for.
pub(crate) const RANGE_BYTES: usize = 64 * KIB;

pub(crate) enum Plan {
    Read(ReadPlan),
    Range(RangePlan),
    Push(PushPlan),
    Put(PutPlan),
}

/// Requests without a body, one chosen at random each time.
pub(crate) struct ReadPlan {
    pub(crate) what: &'static str,
    pub(crate) requests: Vec<Prepared>,
    /// What the first answer must hold, besides its status.
    pub(crate) listing: Option<Listing>,
}

pub(crate) struct Prepared {
    pub(crate) head: Vec<u8>,
    pub(crate) digest: Option<String>,
    pub(crate) length: Option<u64>,
}

/// A JSON array that must have entries.
pub(crate) struct Listing {
    pub(crate) field: &'static str,
    pub(crate) at_least: usize,
}

pub(crate) struct RangePlan {
    pub(crate) path: String,
    pub(crate) content: Vec<u8>,
}

pub(crate) struct PushPlan {
    pub(crate) repository: String,
    pub(crate) payload: Payload,
    pub(crate) style: Style,
    pub(crate) chunk: usize,
    pub(crate) suffixes: Suffixes,
}

/// What makes the next blob differ from all before it, or nothing.
pub(crate) enum Suffixes {
    Same([u8; SUFFIX]),
    Unique(Serial),
}

pub(crate) struct PutPlan {
    pub(crate) repository: String,
    pub(crate) image: Image,
    pub(crate) template: String,
    pub(crate) serial: Serial,
}

/// Numbers that no other run and no other worker of this run gives.
pub(crate) struct Serial {
    run: u64,
    next: AtomicU64,
}

impl Serial {
    fn new() -> Self {
        Self {
            run: Random::from_system().draw(),
            next: AtomicU64::new(0),
        }
    }

    pub(crate) fn suffix(&self) -> [u8; SUFFIX] {
        let next = self.next.fetch_add(1, Ordering::Relaxed);
        let number = (u128::from(self.run) << 64) | u128::from(next);
        number.to_le_bytes()
    }

    pub(crate) fn token(&self) -> String {
        let next = self.next.fetch_add(1, Ordering::Relaxed);
        format!("{:016x}-{next}", self.run)
    }
}

impl Suffixes {
    pub(crate) fn next(&self) -> [u8; SUFFIX] {
        match self {
            Self::Same(suffix) => *suffix,
            Self::Unique(serial) => serial.suffix(),
        }
    }
}

/// Prepares `workload`; `seeded` tells what the server holds.
pub(crate) fn plan(
    workload: Workload,
    args: &RunArgs,
    target: &Target,
    seeded: &Seeded,
) -> anyhow::Result<Plan> {
    let reads = Reads { target, seeded };
    Ok(match workload {
        Workload::Ping => Plan::Read(reads.ping()),
        Workload::ManifestGetTag => Plan::Read(reads.manifests("GET", "manifest GET")?),
        Workload::ManifestHeadTag => Plan::Read(reads.manifests("HEAD", "manifest HEAD")?),
        Workload::BlobGet => {
            let size = args.size.context("blob-get needs --size")?;
            Plan::Read(reads.blobs("GET", "blob GET", Some(size))?)
        }
        Workload::BlobHead => Plan::Read(reads.blobs("HEAD", "blob HEAD", args.size)?),
        Workload::BlobRange => Plan::Range(reads.range(args.size.unwrap_or(100 * MIB))?),
        Workload::TagsList => Plan::Read(reads.tags_list(args.last.as_deref())?),
        Workload::Catalog => Plan::Read(reads.catalog(args.last.as_deref())),
        Workload::Referrers => Plan::Read(reads.referrers()?),
        Workload::PushBlob => {
            let style = args.style.unwrap_or(Style::PostPut);
            Plan::Push(push(args, 4 * KIB, style, Suffixes::Unique(Serial::new()))?)
        }
        Workload::PushDuplicate => {
            let style = args.style.unwrap_or(Style::PostPut);
            let suffix = Serial::new().suffix();
            Plan::Push(push(args, MIB, style, Suffixes::Same(suffix))?)
        }
        Workload::PushChunked => {
            let suffixes = Suffixes::Unique(Serial::new());
            Plan::Push(push(args, 100 * MIB, Style::Chunked, suffixes)?)
        }
        Workload::ManifestPut => Plan::Put(manifest_put(args)),
    })
}

fn push(
    args: &RunArgs,
    default_size: usize,
    style: Style,
    suffixes: Suffixes,
) -> anyhow::Result<PushPlan> {
    let size = args.size.unwrap_or(default_size);
    ensure!(
        size >= SUFFIX,
        "--size: pushed blobs have at least {SUFFIX} bytes"
    );
    Ok(PushPlan {
        repository: args.repository.clone(),
        payload: Payload::new(Random::from_system().draw(), size),
        style,
        chunk: args.chunk,
        suffixes,
    })
}

fn manifest_put(args: &RunArgs) -> PutPlan {
    let serial = Serial::new();
    let image = image::image(serial.run);
    let template = image::template(&image);
    PutPlan {
        repository: format!("{}-{:016x}", args.repository, serial.run),
        image,
        template,
        serial,
    }
}

/// Renders the read requests.
struct Reads<'a> {
    target: &'a Target,
    seeded: &'a Seeded,
}

impl Reads<'_> {
    fn ping(&self) -> ReadPlan {
        ReadPlan {
            what: "GET /v2/",
            requests: vec![self.plain("/v2/")],
            listing: None,
        }
    }

    fn manifests(&self, method: &str, what: &'static str) -> anyhow::Result<ReadPlan> {
        ensure!(
            !self.seeded.tags.is_empty(),
            "{what}: the state holds no tags; seed with --tags"
        );
        let accept = format!("Accept: {MANIFEST}\r\n");
        let mut requests = Vec::new();
        for tag in &self.seeded.tags {
            let repository = tag.repository.as_ref().unwrap_or(&self.seeded.repository);
            let path = format!("/v2/{repository}/manifests/{}", tag.name);
            requests.push(Prepared {
                head: self.target.head(method, &path, &accept, None),
                digest: (method == "GET").then(|| tag.digest.clone()),
                length: (method == "GET").then_some(tag.size as u64),
            });
        }
        Ok(ReadPlan {
            what,
            requests,
            listing: None,
        })
    }

    fn blobs(
        &self,
        method: &str,
        what: &'static str,
        size: Option<usize>,
    ) -> anyhow::Result<ReadPlan> {
        let mut requests = Vec::new();
        for blob in self.blobs_of(size) {
            let path = self.blob_path(blob);
            requests.push(Prepared {
                head: self.target.head(method, &path, "", None),
                digest: (method == "GET").then(|| blob.digest.clone()),
                length: (method == "GET").then_some(blob.size as u64),
            });
        }
        if requests.is_empty() {
            bail!("{what}: the state holds no such blob; seed with --blobs SIZE:COUNT");
        }
        Ok(ReadPlan {
            what,
            requests,
            listing: None,
        })
    }

    fn range(&self, size: usize) -> anyhow::Result<RangePlan> {
        ensure!(
            size > RANGE_BYTES,
            "blob-range: --size must be larger than the range of {RANGE_BYTES} bytes"
        );
        let blob = self
            .blobs_of(Some(size))
            .next()
            .context("blob-range: the state holds no such blob; seed with --blobs SIZE:1")?;
        Ok(RangePlan {
            path: self.blob_path(blob),
            content: content(blob.seed, blob.size),
        })
    }

    fn tags_list(&self, last: Option<&str>) -> anyhow::Result<ReadPlan> {
        if let Some(last) = last {
            let path = format!("/v2/{}/tags/list?n=100&last={last}", self.seeded.repository);
            return Ok(self.full_page("tags/list", "tags", &path));
        }
        let tags = &self.seeded.tags;
        let middle = tags
            .get(tags.len() / 2)
            .context("tags-list: the state holds no tags; seed with --tags")?;
        let behind = tags.len() - tags.len() / 2 - 1;
        let path = format!(
            "/v2/{}/tags/list?n=100&last={}",
            self.seeded.repository, middle.name
        );
        Ok(ReadPlan {
            what: "tags/list",
            requests: vec![self.plain(&path)],
            listing: Some(Listing {
                field: "tags",
                at_least: behind.min(100),
            }),
        })
    }

    fn catalog(&self, last: Option<&str>) -> ReadPlan {
        if let Some(last) = last {
            let path = format!("/v2/_catalog?n=100&last={last}");
            return self.full_page("_catalog", "repositories", &path);
        }
        ReadPlan {
            what: "_catalog",
            requests: vec![self.plain("/v2/_catalog?n=100")],
            listing: Some(Listing {
                field: "repositories",
                at_least: self.seeded.repositories.min(100),
            }),
        }
    }

    /// A page that the caller knows to be full.
    fn full_page(&self, what: &'static str, field: &'static str, path: &str) -> ReadPlan {
        ReadPlan {
            what,
            requests: vec![self.plain(path)],
            listing: Some(Listing {
                field,
                at_least: 100,
            }),
        }
    }

    fn referrers(&self) -> anyhow::Result<ReadPlan> {
        let repository = format!("{}-referrers", self.seeded.repository);
        let paths = self.seeded.subjects.iter();
        let paths = paths.map(|digest| format!("/v2/{repository}/referrers/{digest}"));
        let requests: Vec<Prepared> = paths.map(|path| self.plain(&path)).collect();
        ensure!(
            !requests.is_empty(),
            "referrers: the state holds no subjects; seed with --subjects"
        );
        Ok(ReadPlan {
            what: "referrers",
            requests,
            listing: Some(Listing {
                field: "manifests",
                at_least: self.seeded.referrers,
            }),
        })
    }

    fn plain(&self, path: &str) -> Prepared {
        Prepared {
            head: self.target.head("GET", path, "", None),
            digest: None,
            length: None,
        }
    }

    fn blobs_of(&self, size: Option<usize>) -> impl Iterator<Item = &Stored> {
        let blobs = self.seeded.blobs.iter();
        blobs.filter(move |blob| size.is_none_or(|size| blob.size == size))
    }

    fn blob_path(&self, blob: &Stored) -> String {
        format!("/v2/{}/blobs/{}", self.seeded.repository, blob.digest)
    }
}
