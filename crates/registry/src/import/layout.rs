//! An OCI image layout.
//!
//! ```text
//! oci-layout                 {"imageLayoutVersion": "1.0.0"}
//! index.json                 descriptors; org.opencontainers.image.ref.name is the tag
//! blobs/<algorithm>/<hex>    manifests and blobs
//! ```

use std::collections::HashMap;

use granary_oci::{Digest, RepositoryName, Tag};

use super::{Import, adopt::Adoption, request::ImportSource, source::read};
use crate::{
    MovingError,
    left_out::{Finding, Kind},
    moving::REF_NAME,
};

/// Largest list of a layout that is read.
const INDEX: usize = 32 * 1024 * 1024;

#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    media_type: Option<String>,
    digest: String,
    #[serde(default)]
    annotations: HashMap<String, serde_json::Value>,
}

#[derive(serde::Deserialize)]
struct Index {
    manifests: Vec<Descriptor>,
}

impl Import<'_> {
    /// Imports a layout into `repository`.
    pub(super) async fn layout(
        &mut self,
        source: &ImportSource,
        repository: &RepositoryName,
    ) -> Result<(), MovingError> {
        let damaged = |problem: String| MovingError::Layout {
            path: source.join("index.json"),
            problem,
        };
        let text = read(self.source, "index.json", INDEX).await;
        let text = text.map_err(|error| damaged(error.to_string()))?;
        let index: Index =
            serde_json::from_slice(&text).map_err(|error| damaged(error.to_string()))?;
        drop(text);
        self.progress.say(&format!("importing {repository}"));
        self.report.repositories += 1;
        let mut at = Adoption::new(repository.clone());
        let mut roots = Vec::new();
        let mut tags: HashMap<Tag, Digest> = HashMap::new();
        for descriptor in index.manifests {
            let Some((digest, tag)) = self.entry(repository, &descriptor) else {
                continue;
            };
            if at.manifests.insert(digest) {
                roots.push(digest);
            }
            if let Some(media_type) = descriptor.media_type {
                at.media_types.insert(digest, media_type);
            }
            let Some(tag) = tag else { continue };
            if *tags.entry(tag.clone()).or_insert(digest) != digest {
                let why = format!("the layout has it twice, and the second stands at {digest}");
                let remedy = "name one of them otherwise; the manifest itself came along";
                let finding = Finding::new(Kind::Tag, tag, why, remedy);
                self.report.leave_out(finding.in_repository(repository));
            }
        }
        for digest in roots {
            self.adopt(&mut at, digest).await?;
        }
        let mut tags: Vec<_> = tags.into_iter().collect();
        tags.sort_unstable();
        Ok(self.set_tags(&at, tags).await?)
    }

    /// What an entry of the list says: a digest, and a tag if it has a name.
    fn entry(
        &mut self,
        repository: &RepositoryName,
        descriptor: &Descriptor,
    ) -> Option<(Digest, Option<Tag>)> {
        let digest = match descriptor.digest.parse() {
            Ok(digest) => digest,
            Err(error) => {
                let what = format!("{:.100}", descriptor.digest.escape_debug().to_string());
                let remedy = "write the layout again with sha256 or sha512";
                let finding = Finding::new(Kind::Manifest, what, error, remedy);
                self.report.leave_out(finding.in_repository(repository));
                return None;
            }
        };
        let name = descriptor.annotations.get(REF_NAME);
        let Some(name) = name.and_then(|name| name.as_str()) else {
            return Some((digest, None));
        };
        // Some tools write the whole reference: of "docker.io/library/alpine:3" the tag is what counts here.
        let last = name.rsplit('/').next().unwrap_or(name);
        let tag = last.split_once(':').map_or(last, |(_, tag)| tag);
        match tag.parse() {
            Ok(tag) => Some((digest, Some(tag))),
            Err(error) => {
                let remedy = "the manifest came along; tag it by its digest";
                let what = format!("{:.200}", name.escape_debug().to_string());
                let finding = Finding::new(Kind::Tag, what, error, remedy);
                self.report.leave_out(finding.in_repository(repository));
                Some((digest, None))
            }
        }
    }
}
