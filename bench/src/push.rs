//! The ways a blob or a manifest is pushed. They keep to what the distribution specification says, so that they work on every registry.

use std::time::{Duration, Instant};

use clap::ValueEnum;
use serde::Serialize;

use crate::connection::{Connection, Failure, Request, Response, Sink};
use crate::content::Blob;
use crate::image::MANIFEST;
use crate::target::{Target, path_of, with_digest};

const BINARY: &str = "Content-Type: application/octet-stream\r\n";

/// How a blob is uploaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Style {
    /// POST for a session, then the whole blob in the closing PUT.
    PostPut,
    /// The whole blob in one POST.
    Monolithic,
    /// POST for a session, PATCH for each chunk, an empty closing PUT.
    Chunked,
}

/// A connection and what it is connected to.
pub(crate) struct Link<'a> {
    pub(crate) connection: &'a mut Connection,
    pub(crate) target: &'a Target,
}

impl Link<'_> {
    pub(crate) async fn send(
        &mut self,
        what: &'static str,
        expected: u16,
        head: &[u8],
        body: &[&[u8]],
    ) -> Result<Response, Failure> {
        let request = Request::new(head, body);
        let response = self.connection.send(&request, &mut Sink::Discard).await?;
        response.expect(what, expected)
    }

    /// POST then PUT with the body.
    pub(crate) async fn post_put(
        &mut self,
        repository: &str,
        digest: &str,
        body: &[&[u8]],
    ) -> Result<(), Failure> {
        let session = self.open_session(repository).await?;
        let size: usize = body.iter().map(|part| part.len()).sum();
        let path = with_digest(&session, digest);
        let head = self.target.head("PUT", &path, BINARY, Some(size));
        self.send("closing PUT", 201, &head, body).await?;
        Ok(())
    }

    /// One POST with the body.
    pub(crate) async fn monolithic(
        &mut self,
        repository: &str,
        digest: &str,
        body: &[&[u8]],
    ) -> Result<(), Failure> {
        let size: usize = body.iter().map(|part| part.len()).sum();
        let path = with_digest(&format!("/v2/{repository}/blobs/uploads/"), digest);
        let head = self.target.head("POST", &path, BINARY, Some(size));
        self.send("monolithic POST", 201, &head, body).await?;
        Ok(())
    }

    /// POST, a PATCH for each `chunk` bytes, PUT. Returns how long the closing PUT took.
    pub(crate) async fn chunked(
        &mut self,
        repository: &str,
        blob: &Blob<'_>,
        chunk: usize,
    ) -> Result<Duration, Failure> {
        let mut session = self.open_session(repository).await?;
        for from in (0..blob.size()).step_by(chunk) {
            let to = blob.size().min(from + chunk);
            let headers = format!("{BINARY}Content-Range: {from}-{}\r\n", to - 1);
            let head = self
                .target
                .head("PATCH", &session, &headers, Some(to - from));
            let body = blob.parts(from, to);
            let response = self.send("PATCH", 202, &head, &body).await?;
            session = session_of(response)?;
        }
        let started = Instant::now();
        let path = with_digest(&session, &blob.digest);
        let head = self.target.head("PUT", &path, BINARY, Some(0));
        self.send("closing PUT", 201, &head, &[]).await?;
        Ok(started.elapsed())
    }

    pub(crate) async fn put_manifest(
        &mut self,
        repository: &str,
        reference: &str,
        manifest: &[u8],
    ) -> Result<(), Failure> {
        let path = format!("/v2/{repository}/manifests/{reference}");
        let headers = format!("Content-Type: {MANIFEST}\r\n");
        let head = self
            .target
            .head("PUT", &path, &headers, Some(manifest.len()));
        self.send("manifest PUT", 201, &head, &[manifest]).await?;
        Ok(())
    }

    async fn open_session(&mut self, repository: &str) -> Result<String, Failure> {
        let path = format!("/v2/{repository}/blobs/uploads/");
        let head = self.target.head("POST", &path, "", Some(0));
        let response = self.send("upload POST", 202, &head, &[]).await?;
        session_of(response)
    }
}

fn session_of(response: Response) -> Result<String, Failure> {
    let what = "upload Location";
    let location = response.location.ok_or(Failure::Corrupt { what })?;
    Ok(path_of(&location).to_owned())
}
