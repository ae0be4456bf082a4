//! The test side of `tests/power-loss/power_loss.c`: the layer that forgets whatever was not synced.
//!
//! A test starts the server under the layer, lets it be killed, rebuilds what a power cut would have
//! left, and starts the next server on that:
//!
//! ```ignore
//! let mut server = Command::new(granary);
//! power_loss_image::attach(&mut server, &data, &shadow);
//! server.env("POWER_LOSS_KILL_AT", "17").arg("serve").arg("--data").arg(&data);
//! // … push until the connection breaks, remember what was acknowledged …
//! power_loss_image::rebuild(&shadow, &next_data)?;
//! ```
//!
//! The C file explains the model and the other variables it reads.

use std::collections::HashMap;
use std::collections::hash_map::DefaultHasher;
use std::ffi::OsString;
use std::fs::{self, File, Permissions};
use std::hash::{Hash, Hasher};
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

const MAGIC: u64 = 0x4c57_5047;
const A_FILE: u64 = 1;
const A_FOLDER: u64 = 2;
const HEAD_BYTES: u64 = 80;
const TYPE_BITS: u64 = 0o170_000;
const FOLDER_BITS: u64 = 0o040_000;

/// Folders deeper than this are a cycle: a folder moved into another may be durable in both places.
const MAX_DEPTH: usize = 64;

/// Compiles the layer, once per version of its source, and returns the library's path.
///
/// # Panics
/// If there is no C compiler (`$CC`, else `cc`) or it fails: no crash test means anything then.
pub(crate) fn build_library() -> PathBuf {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    LIBRARY
        .get_or_init(|| {
            compile_library().unwrap_or_else(|error| panic!("compiling power_loss.c: {error}"))
        })
        .clone()
}

/// Puts `command` under the layer, with all of `root` durable at its start.
///
/// Creates both folders if need be; `shadow` must lie outside `root`.
pub(crate) fn attach(command: &mut Command, root: &Path, shadow: &Path) -> io::Result<()> {
    fs::create_dir_all(root)?;
    fs::create_dir_all(shadow)?;
    command
        .env("LD_PRELOAD", build_library())
        .env("POWER_LOSS_ROOT", fs::canonicalize(root)?)
        .env("POWER_LOSS_SHADOW", fs::canonicalize(shadow)?)
        .env_remove("POWER_LOSS_PID");
    Ok(())
}

/// How many syncs had begun, and how many of them matched, by the file named as `POWER_LOSS_COUNT_FILE`.
pub(crate) fn sync_counts(count_file: &Path) -> io::Result<(u64, u64)> {
    let text = fs::read_to_string(count_file)?;
    let mut numbers = text.split_whitespace().map(str::parse::<u64>);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(all)), Some(Ok(matching))) => Ok((all, matching)),
        _ => Err(invalid("the count file holds no counts")),
    }
}

/// Writes into `into`, which must be empty or absent, what a power cut would have left of the root.
///
/// Call it after the watched process has ended, by whatever signal.
pub(crate) fn rebuild(shadow: &Path, into: &Path) -> io::Result<()> {
    let image = Image::read(&shadow.join("journal"))?;
    fs::create_dir_all(into)?;
    if fs::read_dir(into)?.next().is_some() {
        return Err(io::Error::new(
            io::ErrorKind::AlreadyExists,
            format!("{} is not empty", into.display()),
        ));
    }
    image.write_folder(image.root, into, 0)
}

/// Inode number and birth time: the same key is the same file, whatever it is called.
type Key = [u64; 3];

struct Entry {
    key: Key,
    mode: u64,
    name: OsString,
}

struct Folder {
    mode: u64,
    entries: Vec<Entry>,
}

/// One successful sync of a file: its extents lie in the journal from `at` on.
struct FileSync {
    at: u64,
    mode: u64,
    min_size: u64,
    size: u64,
    count: u64,
}

/// Where everything durable lies in the journal. Contents stay there until they are written out.
struct Image {
    journal: File,
    root: Key,
    folders: HashMap<Key, Folder>,
    files: HashMap<Key, Vec<FileSync>>,
}

impl Image {
    fn read(path: &Path) -> io::Result<Self> {
        let journal = File::open(path)?;
        let end = journal.metadata()?.len();
        let mut reader = BufReader::new(journal.try_clone()?);
        let mut root = None;
        let mut folders = HashMap::new();
        let mut files: HashMap<Key, Vec<FileSync>> = HashMap::new();
        let mut at = 0;
        // A record cut short belongs to a sync that never returned.
        while at + HEAD_BYTES <= end {
            let [magic, total, kind] = read_words(&mut reader)?;
            let key: Key = read_words(&mut reader)?;
            let [mode, min_size, size, count] = read_words(&mut reader)?;
            if magic != MAGIC || total < HEAD_BYTES {
                return Err(invalid("the journal is damaged"));
            }
            if total > end - at {
                break;
            }
            match kind {
                A_FOLDER => {
                    root.get_or_insert(key);
                    let entries = read_entries(&mut reader, count)?;
                    folders.insert(key, Folder { mode, entries });
                }
                A_FILE => {
                    let at = at + HEAD_BYTES;
                    files.entry(key).or_default().push(FileSync {
                        at,
                        mode,
                        min_size,
                        size,
                        count,
                    });
                }
                _ => return Err(invalid("the journal holds an unknown record")),
            }
            at += total;
            reader.seek(SeekFrom::Start(at))?;
        }
        let root = root.ok_or_else(|| invalid("the journal is empty: was the layer loaded?"))?;
        Ok(Self {
            journal,
            root,
            folders,
            files,
        })
    }

    fn write_folder(&self, key: Key, path: &Path, depth: usize) -> io::Result<()> {
        if depth > MAX_DEPTH {
            return Err(invalid("durable folders contain each other"));
        }
        // A folder whose name was synced and its list was not is empty.
        let Some(folder) = self.folders.get(&key) else {
            return Ok(());
        };
        for entry in &folder.entries {
            let child = path.join(&entry.name);
            if entry.mode & TYPE_BITS == FOLDER_BITS {
                fs::create_dir(&child)?;
                set_mode(&child, entry.mode)?;
                self.write_folder(entry.key, &child, depth + 1)?;
            } else {
                self.write_file(entry, &child)?;
            }
        }
        set_mode(path, folder.mode)
    }

    fn write_file(&self, entry: &Entry, path: &Path) -> io::Result<()> {
        let mut out = File::create_new(path)?;
        let mut mode = entry.mode;
        let mut journal = &self.journal;
        for sync in self.files.get(&entry.key).into_iter().flatten() {
            // What was cut off in between reads as zeros where nothing was written again.
            if sync.min_size < out.metadata()?.len() {
                out.set_len(sync.min_size)?;
            }
            out.set_len(sync.size)?;
            journal.seek(SeekFrom::Start(sync.at))?;
            for _ in 0..sync.count {
                let [from, to] = read_words(&mut journal)?;
                let length = to
                    .checked_sub(from)
                    .ok_or_else(|| invalid("an extent runs backwards"))?;
                out.seek(SeekFrom::Start(from))?;
                if io::copy(&mut journal.take(length), &mut out)? != length {
                    return Err(invalid("the journal ends inside an extent"));
                }
            }
            mode = sync.mode;
        }
        set_mode(path, mode)
    }
}

fn read_entries(reader: &mut impl Read, count: u64) -> io::Result<Vec<Entry>> {
    let mut entries = Vec::new();
    for _ in 0..count {
        let key: Key = read_words(reader)?;
        let [mode, length] = read_words(reader)?;
        let mut name = Vec::new();
        let padded = length.next_multiple_of(8);
        if reader.take(padded).read_to_end(&mut name)? as u64 != padded {
            return Err(invalid("the journal ends inside a name"));
        }
        name.truncate(usize::try_from(length).map_err(io::Error::other)?);
        entries.push(Entry {
            key,
            mode,
            name: OsString::from_vec(name),
        });
    }
    Ok(entries)
}

/// The layer writes its own machine's 64-bit words.
fn read_words<const N: usize>(reader: &mut impl Read) -> io::Result<[u64; N]> {
    let mut words = [0; N];
    for word in &mut words {
        let mut bytes = [0; 8];
        reader.read_exact(&mut bytes)?;
        *word = u64::from_ne_bytes(bytes);
    }
    Ok(words)
}

fn set_mode(path: &Path, mode: u64) -> io::Result<()> {
    let bits = u32::try_from(mode & 0o7777).map_err(io::Error::other)?;
    fs::set_permissions(path, Permissions::from_mode(bits))
}

fn invalid(text: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text)
}

fn compile_library() -> io::Result<PathBuf> {
    const SOURCE: &str = include_str!("../power-loss/power_loss.c");
    let mut hasher = DefaultHasher::new();
    SOURCE.hash(&mut hasher);
    let name = format!("power_loss-{:016x}", hasher.finish());
    let folder = option_env!("CARGO_TARGET_TMPDIR")
        .map_or_else(|| std::env::temp_dir().join("granary-tests"), PathBuf::from);
    let library = folder.join(format!("{name}.so"));
    if library.exists() {
        return Ok(library);
    }
    // A test process of its own each (nextest) may be compiling it too: the last rename wins.
    fs::create_dir_all(&folder)?;
    let own = format!("{name}-{}", std::process::id());
    let source = folder.join(format!("{own}.c"));
    let fresh = folder.join(format!("{own}.so"));
    fs::write(&source, SOURCE)?;
    let compiler = std::env::var_os("CC").unwrap_or_else(|| "cc".into());
    let output = Command::new(compiler)
        .args(["-shared", "-fPIC", "-O2"])
        .arg("-o")
        .arg(&fresh)
        .arg(&source)
        .args(["-pthread", "-ldl"])
        .output()?;
    if !output.status.success() {
        return Err(io::Error::other(String::from_utf8_lossy(&output.stderr)));
    }
    fs::rename(&fresh, &library)?;
    fs::remove_file(&source)?;
    Ok(library)
}

#[cfg(test)]
mod tests;
