//! A tar archive as a source: its entries are noted once, and read where they lie.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use tar::{Archive, EntryType};

use super::source::{Content, ENTRIES, Entry, EntryKind, ReadError, Source, pieces};
use crate::left_out::{Finding, Findings, Kind};

/// Most bytes of headers before one entry: long names and extensions are read whole.
const HEADERS: u64 = 1 << 20;
/// Longest name that is noted: a repository's name of 255 bytes and what a storage tree puts around it.
const NAME: usize = 512;

/// An archive, with the place of each file in it.
pub(super) struct TarSource {
    file: Arc<File>,
    files: BTreeMap<String, Place>,
}

#[derive(Clone, Copy)]
enum Place {
    Data { offset: u64, length: u64 },
    Link,
}

impl TarSource {
    /// Reads the headers of an archive. What is refused, such as names that lead out of it, is told beside it.
    pub(super) fn open(path: &Path) -> io::Result<(Self, Findings)> {
        let file = File::open(path)?;
        let end = file.metadata()?.len();
        let read = Arc::new(AtomicU64::new(0));
        let headers = Headers {
            file: file.try_clone()?,
            read: Arc::clone(&read),
        };
        let mut source = Self {
            file: Arc::new(file),
            files: BTreeMap::new(),
        };
        let mut refused = Findings::default();
        let mut archive = Archive::new(headers);
        for entry in archive.entries_with_seek()? {
            let outcome = entry.and_then(|entry| source.note(&entry, end));
            read.store(0, Ordering::Relaxed);
            match outcome {
                Ok(None) => {}
                Ok(Some(finding)) => refused.add(finding),
                Err(error) => {
                    refused.add(Finding::new(
                        Kind::Stray,
                        path.display(),
                        format!("the archive cannot be read to its end: {error}"),
                        "copy the archive again; what stands before the damage was read",
                    ));
                    break;
                }
            }
            if source.files.len() as u64 + refused.number > ENTRIES as u64 {
                return Err(io::Error::other(format!(
                    "the archive has more than {ENTRIES} entries: unpack it and import the folder"
                )));
            }
        }
        Ok((source, refused))
    }

    /// Notes one entry, or says why not.
    fn note<R: Read>(
        &mut self,
        entry: &tar::Entry<'_, R>,
        end: u64,
    ) -> io::Result<Option<Finding>> {
        let raw = entry.path_bytes();
        let refuse = |why: &str| {
            let shown: String = String::from_utf8_lossy(&raw)
                .chars()
                .take(NAME)
                .flat_map(char::escape_debug)
                .collect();
            let remedy = "make the archive again from a folder of plain files with relative names";
            Ok(Some(Finding::new(Kind::Stray, shown, why, remedy)))
        };
        let name = match plain_name(&raw) {
            Ok(Some(name)) => name,
            Ok(None) => return Ok(None),
            Err(why) => return refuse(why),
        };
        match entry.header().entry_type() {
            EntryType::Regular | EntryType::Continuous => {
                let (offset, length) = (entry.raw_file_position(), entry.size());
                if offset.saturating_add(length) > end {
                    return refuse("the archive ends within this file");
                }
                self.files.insert(name, Place::Data { offset, length });
                Ok(None)
            }
            EntryType::Directory | EntryType::XGlobalHeader => Ok(None),
            EntryType::Symlink | EntryType::Link => {
                self.files.insert(name, Place::Link);
                refuse("it is a link, and links are not followed")
            }
            _ => refuse("it is neither a file nor a folder"),
        }
    }
}

/// The name of an entry as this source uses it; nothing for the root itself.
fn plain_name(raw: &[u8]) -> Result<Option<String>, &'static str> {
    let Ok(name) = std::str::from_utf8(raw) else {
        return Err("its name is no text");
    };
    if name.starts_with('/') {
        return Err("its name is absolute, and would lead out of the archive");
    }
    if name.split('/').any(|part| part == "..") {
        return Err("its name has '..' in it, and would lead out of the archive");
    }
    if name.len() > NAME {
        return Err("its name is too long");
    }
    let parts: Vec<&str> = name
        .split('/')
        .filter(|part| !part.is_empty() && *part != ".")
        .collect();
    Ok((!parts.is_empty()).then(|| parts.join("/")))
}

#[async_trait::async_trait]
impl Source for TarSource {
    async fn list(&self, folder: &str) -> Result<Vec<Entry>, ReadError> {
        let prefix = if folder.is_empty() {
            String::new()
        } else {
            format!("{folder}/")
        };
        let mut found: Vec<Entry> = Vec::new();
        let mut from = prefix.clone();
        // A folder in the folder is one step, however much lies in it.
        while let Some((path, place)) = self.files.range(from.clone()..).next() {
            let Some(rest) = path.strip_prefix(&prefix) else {
                break;
            };
            let (name, kind) = match (rest.split_once('/'), place) {
                (Some((name, _)), _) => (name, EntryKind::Folder),
                (None, Place::Data { .. }) => (rest, EntryKind::File),
                (None, Place::Link) => (rest, EntryKind::Link),
            };
            // The character behind '/' is the first one that is no longer in the folder.
            from = match kind {
                EntryKind::Folder => format!("{prefix}{name}0"),
                _ => format!("{path}\0"),
            };
            // "a" and "a/b" in one archive: the later meaning is not knowable, and both are shown.
            found.push(Entry {
                name: name.to_owned(),
                kind,
            });
        }
        Ok(found)
    }

    async fn open(&self, path: &str) -> Result<Content, ReadError> {
        match self.files.get(path) {
            Some(&Place::Data { offset, length }) => Ok(Content {
                length,
                pieces: pieces(Arc::clone(&self.file), offset, length),
            }),
            Some(Place::Link) => Err(ReadError::Link),
            None => Err(ReadError::Missing),
        }
    }
}

/// Reads headers and skips over files, and gives up on headers without end.
struct Headers {
    file: File,
    read: Arc<AtomicU64>,
}

impl Read for Headers {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let number = self.file.read(bytes)?;
        let before = self.read.fetch_add(number as u64, Ordering::Relaxed);
        if before + number as u64 > HEADERS {
            return Err(io::Error::other("a name or an extension has no end"));
        }
        Ok(number)
    }
}

impl Seek for Headers {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.file.seek(to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_lead_out_are_refused() {
        for bad in ["/etc/passwd", "../x", "a/../b", "a/.."] {
            assert!(plain_name(bad.as_bytes()).is_err(), "{bad}");
        }
        assert!(plain_name(&[b'a'; NAME + 1]).is_err());
        assert!(plain_name(&[0xff]).is_err());
        for (name, plain) in [
            ("./blobs//x", Some("blobs/x")),
            ("a/", Some("a")),
            ("./", None),
            ("..a/b", Some("..a/b")),
        ] {
            assert_eq!(plain_name(name.as_bytes()).unwrap().as_deref(), plain);
        }
    }
}
