//! Writing a repository out as an OCI image layout, a folder or a tar archive.

mod archive;
mod folder;
mod report;
mod target;
mod walk;

use std::collections::BTreeMap;

use granary_oci::{Digest, Reference, Tag};

use self::{target::Target, walk::Walk};
use crate::{
    MovingError, Progress, Reading, Registry, RegistryError,
    left_out::{Finding, Kind},
};

pub use report::{ExportReference, ExportReferenceError, ExportReport, ExportRequest};

/// Tags asked for at once.
const PAGE: u64 = 1000;

impl Registry {
    /// Exports what is asked for. An older layout at the target stays readable until the new one is whole.
    pub async fn export(
        &self,
        request: ExportRequest,
        progress: &Progress,
    ) -> Result<ExportReport, MovingError> {
        let Some(first) = request.references.first() else {
            return Err(MovingError::NothingNamed);
        };
        let repository = first.repository.clone();
        if let Some(other) = request
            .references
            .iter()
            .find(|reference| reference.repository != repository)
        {
            return Err(MovingError::SeveralRepositories(
                repository,
                other.repository.clone(),
            ));
        }
        let mut report = ExportReport::new(repository.clone(), request.to.clone());
        // Everything is looked up before anything is written, so that a wrong name costs nothing.
        let mut tags = BTreeMap::new();
        let mut digests = Vec::new();
        for reference in request.references {
            match reference.reference {
                None => self.all_tags(&mut report, &mut tags).await?,
                Some(named) => {
                    let may = self.operator::<Reading>(&repository);
                    let found = may.resolve(&named).await?;
                    match named {
                        Reference::Tag(tag) => drop(tags.insert(tag, found.digest)),
                        Reference::Digest(digest) => digests.push(digest),
                    }
                }
            }
        }
        progress.say(&format!("exporting {repository}"));
        let target = Target::open(&request.to).await?;
        Walk::new(self.operator(&repository), target, progress, report)
            .run(tags, digests)
            .await
    }

    async fn all_tags(
        &self,
        report: &mut ExportReport,
        tags: &mut BTreeMap<Tag, Digest>,
    ) -> Result<(), MovingError> {
        let may = self.operator::<Reading>(&report.repository);
        let mut last = String::new();
        loop {
            let page = may.tags(&last, PAGE).await?;
            let Some(end) = page.last() else {
                return Ok(());
            };
            last.clone_from(end);
            for name in page {
                let tag: Tag = name
                    .parse()
                    .map_err(|_| RegistryError::Internal("the catalog holds a tag that is none"))?;
                let reference = Reference::Tag(tag.clone());
                match may.resolve(&reference).await {
                    Ok(manifest) => drop(tags.insert(tag, manifest.digest)),
                    Err(RegistryError::ManifestUnknown(_)) => {
                        let why = "its manifest is damaged, or the tag was removed just now";
                        let remedy = "ask 'granary scrub', and push the image again";
                        let finding = Finding::new(Kind::Tag, tag, why, remedy);
                        report.leave_out(finding);
                    }
                    Err(error) => return Err(error.into()),
                }
            }
        }
    }
}
