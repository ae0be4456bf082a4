//! The storage of a distribution or Harbor registry.
//!
//! ```text
//! docker/registry/v2/
//!   blobs/<algorithm>/<ab>/<hex>/data
//!   repositories/<name>/
//!     _layers/<algorithm>/<hex>/link                 "<algorithm>:<hex>": the repository holds this blob
//!     _manifests/revisions/<algorithm>/<hex>/link    the same for a manifest
//!     _manifests/tags/<tag>/current/link             where the tag stands
//!     _manifests/tags/<tag>/index/<algorithm>/<hex>/link    where it stood at some time
//!     _uploads/                                      what was never finished
//! ```
//!
//! A folder without its `link` is something that was deleted. A link that is damaged is no deletion: the folder's name
//! says the same, and the bytes are compared with it in any case.

use futures_util::{Stream, StreamExt, stream};
use granary_oci::{Digest, RepositoryName, Tag};

use super::{
    Import,
    adopt::Adoption,
    source::{Entry, EntryKind, ReadError, Source, read},
};
use crate::{
    MovingError, RegistryError,
    left_out::{Finding, Kind},
};

/// Largest link that is read.
const LINK: usize = 1024;
/// Links that are read at once.
const LINKS_AT_ONCE: usize = 16;
/// How deep repositories may lie: a name of 255 bytes has at most 128 parts.
const DEPTH: usize = 128;
/// Former places of a tag that a finding names.
const NAMED: usize = 5;
/// Blobs that are handed on at once.
const BATCH: usize = 1000;

/// A link file.
enum Link {
    Good(Digest),
    Damaged(String),
    Absent,
}

impl Import<'_> {
    /// Imports every repository of the tree, with `prefix` before its name.
    pub(super) async fn tree(
        &mut self,
        prefix: Option<&RepositoryName>,
    ) -> Result<(), MovingError> {
        let mut open = vec![String::new()];
        while let Some(name) = open.pop() {
            let folder = self.below(&name);
            let Some(entries) = self.list(None, &folder).await else {
                continue;
            };
            if entries.iter().any(|entry| {
                entry.kind == EntryKind::Folder && matches!(&*entry.name, "_manifests" | "_layers")
            }) {
                self.repository(prefix, &name).await?;
            }
            // The first of them is to be the next one.
            for entry in entries.into_iter().rev() {
                let path = if name.is_empty() {
                    entry.name.clone()
                } else {
                    format!("{name}/{}", entry.name)
                };
                match entry.kind {
                    EntryKind::Folder if entry.name.starts_with('_') => {}
                    EntryKind::Folder if path.split('/').count() <= DEPTH => open.push(path),
                    _ => self.stray(None, &self.below(&path), entry.kind),
                }
            }
        }
        Ok(())
    }

    fn below(&self, name: &str) -> String {
        if name.is_empty() {
            self.path("repositories")
        } else {
            self.path(&format!("repositories/{name}"))
        }
    }

    async fn repository(
        &mut self,
        prefix: Option<&RepositoryName>,
        found: &str,
    ) -> Result<(), RegistryError> {
        let name = match prefix {
            Some(prefix) => format!("{prefix}/{found}"),
            None => found.to_owned(),
        };
        let name: RepositoryName = match name.parse() {
            Ok(name) => name,
            Err(error) => {
                let remedy = "copy what is in it to a repository with another name";
                let what = found.escape_debug();
                self.report
                    .leave_out(Finding::new(Kind::Repository, what, error, remedy));
                return Ok(());
            }
        };
        self.progress.say(&format!("importing {name}"));
        self.report.repositories += 1;
        let folder = self.below(found);
        let mut at = Adoption::new(name.clone());
        let revisions = self
            .links(&name, &format!("{folder}/_manifests/revisions"))
            .await;
        at.manifests = revisions.iter().copied().collect();
        let layers = self.links(&name, &format!("{folder}/_layers")).await;
        at.linked = layers.iter().copied().collect();
        for digest in revisions {
            self.adopt(&mut at, digest).await?;
        }
        let left: Vec<_> = layers
            .into_iter()
            .filter(|digest| !Self::is_taken(&at, digest))
            .map(|digest| (digest, true))
            .collect();
        for part in left.chunks(BATCH) {
            self.take(&mut at, part.to_vec()).await?;
        }
        let tags = self.tags(&name, &format!("{folder}/_manifests/tags")).await;
        self.set_tags(&at, tags).await
    }

    /// The digests that are linked below `folder`.
    async fn links(&mut self, repository: &RepositoryName, folder: &str) -> Vec<Digest> {
        let mut digests = Vec::new();
        for algorithm in self.folders(repository, folder).await {
            let folder = format!("{folder}/{algorithm}");
            let encoded = self.folders(repository, &folder).await;
            let mut links = read_links(self.source, encoded, |encoded| {
                format!("{folder}/{encoded}/link")
            });
            while let Some((encoded, path, link)) = links.next().await {
                let digest: Digest = match format!("{algorithm}:{encoded}").parse() {
                    Ok(digest) => digest,
                    Err(error) => {
                        let remedy = "push it again, so that it gets a sha256 digest";
                        let finding = Finding::new(Kind::Link, path.escape_debug(), error, remedy);
                        self.report.leave_out(finding.in_repository(repository));
                        continue;
                    }
                };
                match link {
                    Link::Absent => continue,
                    Link::Good(linked) if linked == digest => {}
                    Link::Good(other) => {
                        self.note_link(repository, &path, format!("it names {other}"));
                    }
                    Link::Damaged(why) => self.note_link(repository, &path, why),
                }
                digests.push(digest);
            }
        }
        digests
    }

    fn note_link(&mut self, repository: &RepositoryName, path: &str, why: String) {
        let remedy = "nothing: the folder's name says which digest is meant, and the bytes are compared with it";
        let finding = Finding::new(Kind::Link, path.escape_debug(), why, remedy);
        self.report.notes.add(finding.in_repository(repository));
    }

    /// Tags and where they stand.
    async fn tags(&mut self, repository: &RepositoryName, folder: &str) -> Vec<(Tag, Digest)> {
        let mut tags = Vec::new();
        let names = self.folders(repository, folder).await;
        let mut links = read_links(self.source, names, |name| {
            format!("{folder}/{name}/current/link")
        });
        while let Some((name, _, link)) = links.next().await {
            let tag: Tag = match name.parse() {
                Ok(tag) => tag,
                Err(error) => {
                    let remedy = "tag the manifest otherwise, by its digest";
                    let finding = Finding::new(Kind::Tag, name.escape_debug(), error, remedy);
                    self.report.leave_out(finding.in_repository(repository));
                    continue;
                }
            };
            let why = match link {
                Link::Good(digest) => {
                    tags.push((tag, digest));
                    continue;
                }
                Link::Absent => "its link is missing".to_owned(),
                Link::Damaged(why) => format!("its link is damaged: {why}"),
            };
            let remedy = self.former(&format!("{folder}/{name}/index")).await;
            let finding = Finding::new(Kind::Tag, tag, why, remedy);
            self.report.leave_out(finding.in_repository(repository));
        }
        tags
    }

    /// Where a tag stood at some time, as a remedy.
    async fn former(&self, folder: &str) -> String {
        let mut former = Vec::new();
        for algorithm in self.source.list(folder).await.unwrap_or_default() {
            let inner = format!("{folder}/{}", algorithm.name);
            for entry in self.source.list(&inner).await.unwrap_or_default() {
                let digest = format!("{}:{}", algorithm.name, entry.name).parse::<Digest>();
                former.extend(digest.map(|digest| digest.to_string()));
            }
        }
        if former.is_empty() {
            return "tag the manifest again, by its digest".to_owned();
        }
        former.truncate(NAMED);
        format!(
            "tag the manifest again, by its digest; the tag once stood at {}",
            former.join(", ")
        )
    }

    /// The names of the folders in a folder. Whatever else is there is reported.
    async fn folders(&mut self, repository: &RepositoryName, folder: &str) -> Vec<String> {
        let Some(entries) = self.list(Some(repository), folder).await else {
            return Vec::new();
        };
        let mut names = Vec::new();
        for entry in entries {
            match entry.kind {
                EntryKind::Folder => names.push(entry.name),
                kind => self.stray(Some(repository), &format!("{folder}/{}", entry.name), kind),
            }
        }
        names
    }

    async fn list(
        &mut self,
        repository: Option<&RepositoryName>,
        folder: &str,
    ) -> Option<Vec<Entry>> {
        match self.source.list(folder).await {
            Ok(entries) => Some(entries),
            Err(error) => {
                let remedy = "make the folder readable and import once more";
                let finding = Finding::new(Kind::Stray, folder.escape_debug(), error, remedy);
                self.report.leave_out(match repository {
                    Some(repository) => finding.in_repository(repository),
                    None => finding,
                });
                None
            }
        }
    }

    /// Something that is no folder where only folders belong. A link may hide content, a file cannot.
    fn stray(&mut self, repository: Option<&RepositoryName>, path: &str, kind: EntryKind) {
        let finding = |why: &str, remedy: &str| {
            let finding = Finding::new(Kind::Stray, path.escape_debug(), why, remedy);
            match repository {
                Some(repository) => finding.in_repository(repository),
                None => finding,
            }
        };
        match kind {
            EntryKind::File => {
                let remedy = "nothing, unless you know what it is";
                let finding = finding("no registry puts a file here", remedy);
                self.report.notes.add(finding);
            }
            EntryKind::Link => {
                let remedy = "put what it points at where the link is, such as with cp -rL";
                let finding = finding("it is a link, and links are not followed", remedy);
                self.report.leave_out(finding);
            }
            EntryKind::Folder => {
                let remedy = "copy what is in it to a repository with a shorter name";
                let finding = finding("it lies deeper than any repository", remedy);
                self.report.leave_out(finding);
            }
            EntryKind::Other => {
                let remedy = "look at what it is";
                let finding = finding(
                    "it is neither a file nor a folder with a name that is a text",
                    remedy,
                );
                self.report.leave_out(finding);
            }
        }
    }
}

/// Reads the link of each name, where `path` says. Some at once, because a bucket takes its time for each; in order.
fn read_links<'a>(
    source: &'a dyn Source,
    names: Vec<String>,
    path: impl Fn(&str) -> String + 'a,
) -> impl Stream<Item = (String, String, Link)> + Unpin + 'a {
    let links = stream::iter(names).map(move |name| {
        let path = path(&name);
        async move {
            let link = read_link(source, &path).await;
            (name, path, link)
        }
    });
    Box::pin(links.buffered(LINKS_AT_ONCE))
}

async fn read_link(source: &dyn Source, path: &str) -> Link {
    let text = match read(source, path, LINK).await {
        Ok(text) => text,
        Err(ReadError::Missing) => return Link::Absent,
        Err(error) => return Link::Damaged(error.to_string()),
    };
    if text.is_empty() {
        return Link::Damaged("it is empty".to_owned());
    }
    match String::from_utf8_lossy(&text).trim().parse() {
        Ok(digest) => Link::Good(digest),
        Err(error) => Link::Damaged(error.to_string()),
    }
}
