//! Taking in what another registry or a tool stored.
//!
//! Content goes the way of every push: blobs are streamed and hashed, manifests are stored as the bytes they are, and
//! tags come last. Whatever cannot come along is reported, and a second run finds what the first one did.

mod adopt;
mod archive;
mod blobs;
mod bucket;
mod detect;
mod folder;
mod in_place;
mod layout;
mod own;
mod report;
mod request;
mod source;
mod tree;

use self::source::Source;
use crate::{MovingError, Progress, Registry};

pub use detect::recognise;
pub use own::OwnershipReport;
pub use report::{ImportReport, ImportedBlobs, ImportedManifests, ImportedTags, SourceKind};
pub use request::{BucketAccess, BucketAddress, BucketAddressError, ImportRequest, ImportSource};

/// One import under way.
struct Import<'a> {
    registry: &'a Registry,
    source: &'a dyn Source,
    /// Where in the source `blobs` and `repositories` lie.
    root: &'a str,
    kind: SourceKind,
    progress: &'a Progress,
    /// Whether blobs stay where they are.
    in_place: bool,
    report: ImportReport,
}

impl Registry {
    /// Imports what a source holds.
    pub async fn import(
        &self,
        request: ImportRequest,
        progress: &Progress,
    ) -> Result<ImportReport, MovingError> {
        progress.say("looking at the source");
        let own = match request.in_place {
            true => self.in_place(&request.source)?,
            false => None,
        };
        let found = detect::open(&request.source, own).await?;
        let mut report = ImportReport::new(found.kind, &request);
        report.left_out.take(found.refused);
        let mut import = Import {
            registry: self,
            source: &*found.source,
            root: found.root,
            kind: found.kind,
            progress,
            in_place: request.in_place,
            report,
        };
        match found.kind {
            SourceKind::StorageTree => import.tree(request.repository.as_ref()).await?,
            SourceKind::Layout => {
                let repository = request.repository.ok_or(MovingError::RepositoryNeeded)?;
                import.layout(&request.source, &repository).await?;
            }
        }
        Ok(import.report)
    }
}

impl Import<'_> {
    /// Where a blob lies in the source.
    fn blob_path(&self, digest: &granary_oci::Digest) -> String {
        let text = digest.to_string();
        let (algorithm, encoded) = text.split_once(':').unwrap_or(("", &text));
        match self.kind {
            SourceKind::Layout => format!("blobs/{algorithm}/{encoded}"),
            SourceKind::StorageTree => self.path(&format!(
                "blobs/{algorithm}/{}/{encoded}/data",
                &encoded[..2.min(encoded.len())]
            )),
        }
    }

    /// A path below the root of a storage tree.
    fn path(&self, rest: &str) -> String {
        if self.root.is_empty() {
            rest.to_owned()
        } else {
            format!("{}/{rest}", self.root)
        }
    }
}

impl Registry {
    /// Whether any repository holds a blob.
    async fn is_stored(&self, digest: &granary_oci::Digest) -> Result<bool, crate::RegistryError> {
        Ok(self.parts.catalog.has_blob(digest).await?)
    }
}
