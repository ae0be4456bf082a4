//! What log-ins keep on this machine: `credentials.toml`, for its user alone.
//!
//! ```text
//! last = "https://registry.example.org"
//!
//! [servers."https://registry.example.org"]
//! user = "alice"
//! token = "grn_t_..."
//! id = 7                  of the token; none if it was not made by the log-in
//! ca = "/etc/ca.pem"      if the log-in named one
//! ```

use std::{
    collections::BTreeMap,
    fs::{DirBuilder, File},
    io::{self, Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use granary_identity::Secret;
use rustix::process::geteuid;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::server_url::ServerUrl;

/// Most servers that one is logged in to.
const SERVERS: usize = 100;
/// Most bytes of the file.
const BYTES: u64 = 1024 * 1024;
/// What others may do to a file: anything.
const OTHERS: u32 = 0o077;
/// What others may write in a folder.
const OTHERS_WRITE: u32 = 0o022;

/// A log-in.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Credential {
    /// Whose it is.
    pub(super) user: String,
    /// What is shown to the server.
    #[serde(serialize_with = "exposed", deserialize_with = "secret")]
    pub(super) token: Secret,
    /// The token's number, if the log-in made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) id: Option<i64>,
    /// Certificates that the server is known by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) ca: Option<PathBuf>,
}

fn exposed<S: Serializer>(token: &Secret, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(token.expose())
}

fn secret<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Secret, D::Error> {
    String::deserialize(deserializer).map(Secret::from)
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Content {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    last: Option<String>,
    #[serde(default)]
    servers: BTreeMap<String, Credential>,
}

/// Why log-ins cannot be read or kept.
#[derive(Debug, thiserror::Error)]
pub(super) enum StoreError {
    #[error(
        "there is nowhere to keep a log-in: set HOME or XDG_CONFIG_HOME, or give the token in GRANARY_TOKEN"
    )]
    Homeless,
    #[error(
        "{} can be read or changed by others: end its tokens with 'granary token revoke' elsewhere if you do not trust them, then \
         'chmod 600 {}'",
        .0.display(), .0.display()
    )]
    Open(PathBuf),
    #[error("{} belongs to another user: remove it, or become that user", .0.display())]
    Foreign(PathBuf),
    #[error("others can write to {}: 'chmod 700 {}'", .0.display(), .0.display())]
    OpenFolder(PathBuf),
    /// Without the place: the lines there hold tokens.
    #[error("{} is not as 'granary login' writes it: move it away and log in again", .0.display())]
    Malformed(PathBuf),
    #[error("{} has {SERVERS} servers already: log out of one, with 'granary logout --server URL'", .0.display())]
    Full(PathBuf),
    #[error("{} cannot be used: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
}

/// The file, whether it is there or not.
#[derive(Debug)]
pub(super) struct Store {
    folder: PathBuf,
    file: PathBuf,
}

impl Store {
    pub(super) fn new(folder: Option<&Path>) -> Result<Self, StoreError> {
        let folder = folder.ok_or(StoreError::Homeless)?.to_owned();
        let file = folder.join("credentials.toml");
        Ok(Self { folder, file })
    }

    /// The server logged in to last.
    pub(super) fn last(&self) -> Result<Option<String>, StoreError> {
        Ok(self.read()?.last)
    }

    /// The log-in at a server.
    pub(super) fn find(&self, server: &ServerUrl) -> Result<Option<Credential>, StoreError> {
        Ok(self.read()?.servers.remove(&server.to_string()))
    }

    /// Makes sure that a log-in at this server can be kept, so that nothing is made for it in vain.
    pub(super) fn prepare(&self, server: &ServerUrl) -> Result<(), StoreError> {
        self.make_folder()?;
        self.room_for(&self.read()?, server)
    }

    fn room_for(&self, content: &Content, server: &ServerUrl) -> Result<(), StoreError> {
        let servers = &content.servers;
        match servers.len() < SERVERS || servers.contains_key(&server.to_string()) {
            true => Ok(()),
            false => Err(StoreError::Full(self.file.clone())),
        }
    }

    /// Keeps a log-in, and returns the one that it takes the place of.
    pub(super) fn keep(
        &self,
        server: &ServerUrl,
        credential: Credential,
    ) -> Result<Option<Credential>, StoreError> {
        self.update(|content| {
            self.room_for(content, server)?;
            content.last = Some(server.to_string());
            Ok(content.servers.insert(server.to_string(), credential))
        })
    }

    /// Forgets the log-in at a server, if it is still this one.
    pub(super) fn forget(&self, server: &ServerUrl, known: &Credential) -> Result<(), StoreError> {
        self.update(|content| {
            let name = server.to_string();
            let kept = content.servers.get(&name);
            if kept.is_some_and(|kept| kept.token.expose() == known.token.expose()) {
                content.servers.remove(&name);
                content.last = content.last.take().filter(|last| *last != name);
            }
            Ok(())
        })
    }

    fn read(&self) -> Result<Content, StoreError> {
        let file = match File::open(&self.file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Content::default()),
            file => file.map_err(|source| io_at(&self.file, source))?,
        };
        let found = file
            .metadata()
            .map_err(|source| io_at(&self.file, source))?;
        if found.uid() != geteuid().as_raw() {
            return Err(StoreError::Foreign(self.file.clone()));
        }
        if found.mode() & OTHERS != 0 {
            return Err(StoreError::Open(self.file.clone()));
        }
        let mut text = String::new();
        let read = file.take(BYTES).read_to_string(&mut text);
        read.map_err(|source| io_at(&self.file, source))?;
        let text = Secret::from(text);
        toml::from_str(text.expose()).map_err(|_| StoreError::Malformed(self.file.clone()))
    }

    /// Changes what is kept. Others who do the same wait.
    fn update<T>(
        &self,
        change: impl FnOnce(&mut Content) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        self.make_folder()?;
        let lock = self.folder.join("credentials.lock");
        let locked = private(&lock).and_then(|file| file.lock().map(|()| file));
        let _locked = locked.map_err(|source| io_at(&lock, source))?;
        let mut content = self.read()?;
        let outcome = change(&mut content)?;
        self.write(&content)
            .map_err(|source| io_at(&self.file, source))?;
        Ok(outcome)
    }

    fn make_folder(&self) -> Result<(), StoreError> {
        let at = |source| io_at(&self.folder, source);
        let mut builder = DirBuilder::new();
        builder.recursive(true).mode(0o700);
        builder.create(&self.folder).map_err(at)?;
        let found = self.folder.metadata().map_err(at)?;
        if found.uid() != geteuid().as_raw() {
            return Err(StoreError::Foreign(self.folder.clone()));
        }
        match found.mode() & OTHERS_WRITE {
            0 => Ok(()),
            _ => Err(StoreError::OpenFolder(self.folder.clone())),
        }
    }

    fn write(&self, content: &Content) -> io::Result<()> {
        let text = toml::to_string(content).map_err(io::Error::other)?;
        let text = Secret::from(text);
        // Under its name only when it is whole and on the disk.
        let fresh = self.folder.join("credentials.toml.new");
        match std::fs::remove_file(&fresh) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = File::options()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&fresh)?;
        file.write_all(text.expose().as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&fresh, &self.file)?;
        File::open(&self.folder)?.sync_all()
    }
}

fn private(path: &Path) -> io::Result<File> {
    File::options()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
}

fn io_at(path: &Path, source: io::Error) -> StoreError {
    let path = path.to_owned();
    StoreError::Io { path, source }
}
