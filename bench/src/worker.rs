//! One worker: a connection that does the plan's operation, one at a time, and checks what comes back.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use crate::connection::{Connection, Failure, Request, Sink};
use crate::content::{Random, digest_of, name_digest};
use crate::image::{MANIFEST, fill_template};
use crate::push::{Link, Style};
use crate::target::Target;
use crate::workload::{Listing, Plan, PushPlan, PutPlan, RANGE_BYTES, RangePlan, ReadPlan};

/// How many pushed digests a worker remembers, to be read again after the run.
const REMEMBERED: usize = 32;

/// An operation that went well.
pub(crate) struct Operation {
    /// Bytes of content, in either direction.
    pub(crate) bytes: u64,
    /// How long the closing PUT of a chunked push took.
    pub(crate) closing: Option<Duration>,
    /// The content was compared with its digest.
    pub(crate) verified: bool,
}

impl Operation {
    fn pushed(bytes: usize) -> Self {
        Self {
            bytes: bytes as u64,
            closing: None,
            verified: false,
        }
    }
}

struct Pushed {
    path: String,
    digest: String,
}

pub(crate) struct Worker {
    plan: Arc<Plan>,
    target: Arc<Target>,
    connection: Connection,
    random: Random,
    verify: f64,
    pushed: Vec<Pushed>,
}

impl Worker {
    pub(crate) fn new(plan: &Arc<Plan>, target: &Arc<Target>, verify: f64) -> Self {
        Self {
            plan: Arc::clone(plan),
            target: Arc::clone(target),
            connection: Connection::new(target.address),
            random: Random::from_system(),
            verify,
            pushed: Vec::new(),
        }
    }

    /// Prepares the server for the plan and does one operation whose content is checked for certain.
    pub(crate) async fn try_once(&mut self) -> Result<(), Failure> {
        let plan = Arc::clone(&self.plan);
        match &*plan {
            Plan::Read(read) => {
                if let Some(listing) = &read.listing {
                    self.inspect(read, listing).await?;
                }
            }
            Plan::Put(put) => self.push_parts(put).await?,
            Plan::Range(_) | Plan::Push(_) => {}
        }
        let verify = std::mem::replace(&mut self.verify, 1.0);
        let outcome = self.operate().await;
        self.verify = verify;
        outcome.map(|_| ())
    }

    /// The plan's operation, once.
    pub(crate) async fn operate(&mut self) -> Result<Operation, Failure> {
        let plan = Arc::clone(&self.plan);
        match &*plan {
            Plan::Read(read) => self.read(read).await,
            Plan::Range(range) => self.read_range(range).await,
            Plan::Push(push) => self.push(push).await,
            Plan::Put(put) => self.put_manifest(put).await,
        }
    }

    /// Reads a share of what this worker pushed and compares it with its digest. Returns how many.
    pub(crate) async fn read_back(&mut self) -> Result<u64, Failure> {
        let what = "read after push";
        let mut count = 0;
        for pushed in std::mem::take(&mut self.pushed) {
            let accept = format!("Accept: {MANIFEST}\r\n");
            let head = self.target.head("GET", &pushed.path, &accept, None);
            let mut sink = Sink::hash();
            let request = Request::new(&head, &[]);
            let response = self.connection.send(&request, &mut sink).await?;
            response.expect(what, 200)?;
            check_digest(what, sink, &pushed.digest)?;
            count += 1;
        }
        Ok(count)
    }

    async fn read(&mut self, plan: &ReadPlan) -> Result<Operation, Failure> {
        let what = plan.what;
        let prepared = &plan.requests[self.random.below(plan.requests.len())];
        let digest = prepared.digest.as_ref();
        let checked = digest.filter(|_| self.random.chance(self.verify));
        let mut sink = match checked {
            Some(_) => Sink::hash(),
            None => Sink::Discard,
        };
        let request = Request::new(&prepared.head, &[]);
        let response = self.connection.send(&request, &mut sink).await?;
        let bytes = response.expect(what, 200)?.bytes;
        if prepared.length.is_some_and(|length| length != bytes) {
            return Err(Failure::Corrupt { what });
        }
        if let Some(digest) = checked {
            check_digest(what, sink, digest)?;
        }
        Ok(Operation {
            bytes,
            closing: None,
            verified: checked.is_some(),
        })
    }

    async fn read_range(&mut self, plan: &RangePlan) -> Result<Operation, Failure> {
        let what = "range GET";
        let from = self.random.below(plan.content.len() - RANGE_BYTES + 1);
        let to = from + RANGE_BYTES;
        let verified = self.random.chance(self.verify);
        let mut sink = if verified {
            Sink::hash()
        } else {
            Sink::Discard
        };
        let range = format!("Range: bytes={from}-{}\r\n", to - 1);
        let head = self.target.head("GET", &plan.path, &range, None);
        let request = Request::new(&head, &[]);
        let response = self.connection.send(&request, &mut sink).await?;
        let bytes = response.expect(what, 206)?.bytes;
        if bytes != RANGE_BYTES as u64 {
            return Err(Failure::Corrupt { what });
        }
        if verified {
            check_digest(what, sink, &digest_of(&plan.content[from..to]))?;
        }
        Ok(Operation {
            bytes,
            closing: None,
            verified,
        })
    }

    async fn push(&mut self, plan: &PushPlan) -> Result<Operation, Failure> {
        let blob = plan.payload.with_suffix(plan.suffixes.next());
        let repository = &plan.repository;
        let mut operation = Operation::pushed(blob.size());
        let body = blob.parts(0, blob.size());
        let mut link = self.link();
        match plan.style {
            Style::PostPut => link.post_put(repository, &blob.digest, &body).await?,
            Style::Monolithic => link.monolithic(repository, &blob.digest, &body).await?,
            Style::Chunked => {
                operation.closing = Some(link.chunked(repository, &blob, plan.chunk).await?);
            }
        }
        let path = format!("/v2/{repository}/blobs/{}", blob.digest);
        self.remember(path, || blob.digest.clone());
        Ok(operation)
    }

    async fn put_manifest(&mut self, plan: &PutPlan) -> Result<Operation, Failure> {
        let tag = plan.serial.token();
        let manifest = fill_template(&plan.template, &tag);
        let repository = &plan.repository;
        let mut link = self.link();
        link.put_manifest(repository, &tag, manifest.as_bytes())
            .await?;
        let path = format!("/v2/{repository}/manifests/{tag}");
        self.remember(path, || digest_of(manifest.as_bytes()));
        Ok(Operation::pushed(manifest.len()))
    }

    async fn push_parts(&mut self, plan: &PutPlan) -> Result<(), Failure> {
        let mut link = self.link();
        for blob in [&plan.image.config, &plan.image.layer] {
            link.post_put(&plan.repository, &digest_of(blob), &[blob.as_slice()])
                .await?;
        }
        Ok(())
    }

    /// Looks once into a listing, so that a server which answers with less than it holds is not called fast.
    async fn inspect(&mut self, plan: &ReadPlan, listing: &Listing) -> Result<(), Failure> {
        let what = plan.what;
        let mut sink = Sink::Keep(Vec::new());
        let request = Request::new(&plan.requests[0].head, &[]);
        let response = self.connection.send(&request, &mut sink).await?;
        response.expect(what, 200)?;
        let Sink::Keep(body) = sink else {
            return Ok(());
        };
        let answer: Value = serde_json::from_slice(&body).unwrap_or_default();
        let entries = answer[listing.field].as_array().map_or(0, Vec::len);
        if entries < listing.at_least {
            return Err(Failure::Corrupt { what });
        }
        Ok(())
    }

    fn link(&mut self) -> Link<'_> {
        Link {
            connection: &mut self.connection,
            target: &self.target,
        }
    }

    fn remember(&mut self, path: String, digest: impl FnOnce() -> String) {
        if self.pushed.len() < REMEMBERED && self.random.chance(self.verify) {
            let digest = digest();
            self.pushed.push(Pushed { path, digest });
        }
    }
}

fn check_digest(what: &'static str, sink: Sink, digest: &str) -> Result<(), Failure> {
    if let Sink::Hash(hasher) = sink
        && name_digest(hasher) == digest
    {
        return Ok(());
    }
    Err(Failure::Corrupt { what })
}
