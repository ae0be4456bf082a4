//! One installation: its data folder, catalog and store, held by one process at a time.

mod missing;

use std::{
    fs::{File, TryLockError},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::Context;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use granary_access::AnonymousMode;
use granary_blobs::{BlobStore, FileStore, MemoryStore, S3Store};
use granary_catalog::Catalog;
use granary_identity::{InstallationKey, PasswordSettings};
use granary_registry::{AccountRules, Redirect, Registry, Rules, Side};

use tokio::runtime::Handle;

use crate::{
    auth::providers::Providers,
    config::{self, AnonymousAccess, Config, DatabaseUrl, StorageKind, Untagged},
    issuers::FetchedKeys,
    redis::RedisContent,
};

pub use missing::{Missing, missing, missing_file};

/// An open installation. The lock on its folder ends with it.
pub struct Installation {
    /// Its use cases.
    pub registry: Registry,
    lock: DataLock,
    /// Files that lie outside the data folder and are this process's alone.
    _locks: Vec<File>,
}

/// The exclusive right to a data folder (decision 17).
pub struct DataLock {
    folder: PathBuf,
    _file: File,
}

impl DataLock {
    /// Takes the lock of `folder`, making it if needed; `None` if another process holds it.
    pub fn take(folder: &Path) -> anyhow::Result<Option<Self>> {
        std::fs::create_dir_all(folder)
            .with_context(|| format!("the data folder {} cannot be made", folder.display()))?;
        let file = lock_file(&folder.join("lock"), Share::None)?;
        Ok(file.map(|file| Self {
            folder: folder.to_owned(),
            _file: file,
        }))
    }

    /// Takes the lock of the installation that `config` describes, which is there and is not made; `None` if another process
    /// holds it.
    pub async fn take_existing(config: &Config) -> anyhow::Result<Option<Self>> {
        if missing::is_held(&config.data)? {
            return Ok(None);
        }
        if let Some(missing) = missing(config).await? {
            return Err(missing.into());
        }
        Self::take(&config.data)
    }
}

/// With whom a lock is held.
#[derive(Clone, Copy)]
enum Share {
    None,
    /// All that share it as well.
    All,
}

/// Locks `path`, making it if needed; `None` if another process holds it and does not share it so.
fn lock_file(path: &Path, share: Share) -> anyhow::Result<Option<File>> {
    // NFS gives a shared lock only on what is open for reading, and the other kind on what is open for writing.
    let opened = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(path);
    let file = opened.with_context(|| format!("{} cannot be opened", path.display()))?;
    let locked = match share {
        Share::None => file.try_lock(),
        Share::All => file.try_lock_shared(),
    };
    match locked {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => {
            Err(error).with_context(|| format!("{} cannot be locked", path.display()))
        }
    }
}

impl Installation {
    /// Opens what `config` describes. Must be called inside the runtime that is to run its tasks.
    pub async fn open(config: &Config, lock: DataLock) -> anyhow::Result<Self> {
        let mut locks = Vec::new();
        let catalog = open_catalog(config, &mut locks).await?;
        if let Some(url) = &config.redis.url {
            let shared = RedisContent::new(url, Handle::current())
                .with_context(|| format!("the address {url} in redis.url cannot be used"))?;
            catalog.share_content(Box::new(shared));
        }
        let store = open_store(config, &mut locks).await?;
        let rules = Rules {
            accounts: account_rules(config)?,
            ..rules(config)
        };
        let registry = Registry::open(catalog, store, rules).await?;
        Ok(Self {
            registry,
            lock,
            _locks: locks,
        })
    }

    /// Ends it: waits for running tasks and leaves a database that is one file.
    pub async fn close(self) {
        self.registry.drain().await;
        self.registry.leave().await;
        self.registry.catalog().close().await;
    }

    /// The data folder.
    pub fn folder(&self) -> &Path {
        &self.lock.folder
    }
}

/// A catalog and a store that are not an installation, or not yet: the ends of a copy.
pub struct Parts {
    /// The catalog.
    pub catalog: Catalog,
    /// The store.
    pub store: Box<dyn BlobStore>,
    _lock: Option<DataLock>,
    _locks: Vec<File>,
}

impl Parts {
    /// Opens what `config` describes.
    pub async fn open(config: &Config, lock: Option<DataLock>) -> anyhow::Result<Self> {
        let mut locks = Vec::new();
        Ok(Self {
            catalog: open_catalog(config, &mut locks).await?,
            store: open_store(config, &mut locks).await?,
            _lock: lock,
            _locks: locks,
        })
    }

    /// Both, for a copy.
    pub fn side(&self) -> Side<'_> {
        Side {
            catalog: &self.catalog,
            store: &*self.store,
        }
    }

    /// Leaves a database that is one file.
    pub async fn close(self) {
        self.catalog.close().await;
    }
}

/// Waits for a database that starts later than this process, as it may where all start at once.
///
/// What no waiting mends, such as a wrong password, is an error at once.
pub async fn await_database(config: &Config) -> anyhow::Result<()> {
    if let DatabaseUrl::Postgres(url) = &config.database.url {
        granary_catalog::reach_postgres(&url.expose(), DATABASE_PATIENCE)
            .await
            .with_context(|| format!("the database {url} cannot be used"))?;
    }
    Ok(())
}

async fn open_catalog(config: &Config, locks: &mut Vec<File>) -> anyhow::Result<Catalog> {
    let path = match &config.database.url {
        DatabaseUrl::Postgres(url) => {
            let connections = config.database.max_connections.get();
            return Catalog::open_postgres(&url.expose(), connections)
                .await
                .with_context(|| format!("the database {url} cannot be used"));
        }
        DatabaseUrl::Sqlite(path) => database_path(config, path)?,
    };
    prepare_database(&path)
        .with_context(|| format!("the folder of {} cannot be made", path.display()))?;
    // The database may lie outside the data folder, and its cache is exact only if nobody else writes to it.
    let locked =
        lock_file(&path.with_added_extension("lock"), Share::None)?.with_context(|| {
            format!(
                "another process uses the database {}: stop it first",
                path.display()
            )
        })?;
    locks.push(locked);
    let catalog = Catalog::open_sqlite(&path)
        .await
        .with_context(|| format!("the database {} cannot be opened", path.display()))?;
    // The files that SQLite made have to be found again after a power loss.
    sync_folder(&path)?;
    Ok(catalog)
}

async fn open_store(config: &Config, locks: &mut Vec<File>) -> anyhow::Result<Box<dyn BlobStore>> {
    match config.storage.kind {
        StorageKind::Memory => Ok(Box::new(MemoryStore::default())),
        StorageKind::Fs => {
            let fs = &config.storage.fs;
            if config.database.url.is_shared() {
                locks.push(lock_blobs(fs)?);
            }
            let store = FileStore::open(&fs.root, fs.reserve).with_context(|| {
                format!("the blob store {} cannot be opened", fs.root.display())
            })?;
            Ok(Box::new(if fs.shared { store.shared() } else { store }))
        }
        StorageKind::S3 => {
            let s3 = &config.storage.s3;
            let store = S3Store::open(bucket(s3)).await;
            Ok(Box::new(store.with_context(|| {
                format!("the bucket \"{}\" cannot be used", s3.bucket)
            })?))
        }
    }
}

/// Locks a folder of blobs whose catalog other processes may use as well: for this process, or for all that share it. The
/// lock lies in the folder, because what lies beside it need not be the same for all who mount it.
fn lock_blobs(fs: &config::FsConfig) -> anyhow::Result<File> {
    let root = &fs.root;
    std::fs::create_dir_all(root)
        .with_context(|| format!("the blob folder {} cannot be made", root.display()))?;
    let share = if fs.shared { Share::All } else { Share::None };
    lock_file(&root.join("lock"), share)?.with_context(|| {
        let root = root.display();
        if fs.shared {
            format!(
                "a process without storage.fs.shared = true uses the blob folder {root}: stop it, and set the key in all that use the folder"
            )
        } else {
            format!(
                "another process uses the blob folder {root}: several replicas need storage.fs.shared = true in each of them, \
                 or storage.kind = \"s3\""
            )
        }
    })
}

fn bucket(config: &config::S3Config) -> granary_blobs::S3Config {
    let text = |endpoint: &config::Endpoint| endpoint.as_str().to_owned();
    let secret = config.secret_access_key.as_ref();
    granary_blobs::S3Config {
        endpoint: config.endpoint.as_ref().map(text),
        public_endpoint: config.public_endpoint.as_ref().map(text),
        prefix: config.prefix.clone(),
        access_key_id: config.access_key_id.clone(),
        secret_access_key: secret.map(|secret| secret.expose().to_owned().into()),
        path_style: config.path_style,
        ca_file: config.ca_file.clone(),
        ..granary_blobs::S3Config::new(&config.region, &config.bucket)
    }
}

/// A store in memory ends with the process, so its catalog begins anew with it.
fn database_path(config: &Config, path: &Path) -> anyhow::Result<PathBuf> {
    if config.storage.kind != StorageKind::Memory {
        return Ok(path.to_owned());
    }
    let path = memory_database(config);
    for suffix in ["", "-wal", "-shm"] {
        let file = config.data.join(format!("memory.db{suffix}"));
        match std::fs::remove_file(&file) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(error).with_context(|| {
                    format!("{} of an earlier start cannot be removed", file.display())
                });
            }
            _ => {}
        }
    }
    Ok(path)
}

fn memory_database(config: &Config) -> PathBuf {
    config.data.join("memory.db")
}

/// SQLite does not look at the result of its own folder sync, so the files are made and made durable before it opens
/// them.
fn prepare_database(path: &Path) -> io::Result<()> {
    let folder = folder_of(path);
    std::fs::create_dir_all(folder)?;
    File::options()
        .create(true)
        .append(true)
        // It holds hashes of passwords. SQLite gives its log the same mode.
        .mode(0o600)
        .open(path)?
        .sync_all()?;
    sync_folder(path)?;
    if let Some(parent) = folder
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty())
    {
        File::open(parent)?.sync_all()?;
    }
    Ok(())
}

fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(folder_of(path))?.sync_all()
}

fn folder_of(path: &Path) -> &Path {
    path.parent()
        .filter(|parent| !parent.as_os_str().is_empty())
        .unwrap_or(Path::new("."))
}

/// How long a server waits for its database when it starts; an orchestrator then starts it again.
const DATABASE_PATIENCE: Duration = Duration::from_secs(30);

/// How far the clock of an S3 server may be behind ours.
const CLOCKS: Duration = Duration::from_secs(5);

fn redirect(storage: &config::StorageConfig) -> Option<Redirect> {
    let s3 = &storage.s3;
    (storage.kind == StorageKind::S3 && s3.redirect).then(|| Redirect {
        min: s3.redirect_min,
        except: s3
            .redirect_except
            .iter()
            .map(|name| name.as_str().to_owned())
            .collect(),
        lifetime: s3.presign_ttl,
    })
}

fn account_rules(config: &Config) -> anyhow::Result<AccountRules> {
    let auth = &config.auth;
    let kib = u32::try_from(auth.password_memory / 1024);
    let public_url = config.server.public_url.as_ref();
    Ok(AccountRules {
        anonymous: match auth.anonymous {
            AnonymousAccess::None => AnonymousMode::None,
            AnonymousAccess::Read => AnonymousMode::Read,
            AnonymousAccess::Write => AnonymousMode::Write,
        },
        passwords: PasswordSettings {
            memory_kib: kib.unwrap_or(u32::MAX),
            iterations: u32::try_from(auth.password_iterations).unwrap_or(u32::MAX),
            min_length: usize::try_from(auth.password_min_length).unwrap_or(usize::MAX),
        },
        password_failures: auth.password_failures,
        key: installation_key(config)?.map(Arc::new),
        service: public_url
            .map_or("granary", |url| url.authority())
            .to_owned(),
        session: auth.session,
        providers: Providers::open(&auth.oidc)?.issuers(),
        issuers: Arc::new(FetchedKeys::new()),
    })
}

/// What the keys in the catalog are encrypted with: the file that the configuration names, or one in the data folder where
/// nobody else uses the catalog. Replicas need the same, so they have to be given it.
fn installation_key(config: &Config) -> anyhow::Result<Option<InstallationKey>> {
    let path = match &config.auth.key_file {
        Some(path) => path.clone(),
        None if config.database.url.is_shared() => return Ok(None),
        None => {
            let path = config.data.join("auth.key");
            make_key(&path).with_context(|| format!("{} cannot be made", path.display()))?;
            path
        }
    };
    let bytes = std::fs::read(&path)
        .with_context(|| format!("the key {} cannot be read", path.display()))?;
    let key = read_key(&bytes).with_context(|| {
        format!(
            "{} is no key: put 32 random bytes into it, such as with 'head -c 32 /dev/urandom', or the same in base64",
            path.display()
        )
    })?;
    Ok(Some(InstallationKey::from_bytes(key)))
}

/// 32 bytes, as they are or in base64.
fn read_key(bytes: &[u8]) -> Option<[u8; 32]> {
    if let Ok(key) = bytes.try_into() {
        return Some(key);
    }
    let text = str::from_utf8(bytes).ok()?.trim();
    STANDARD.decode(text).ok()?.try_into().ok()
}

/// Makes a key that only this user can read, unless there is one.
fn make_key(path: &Path) -> anyhow::Result<()> {
    if path.exists() {
        return Ok(());
    }
    // Under its name only when it is whole and on the disk.
    let fresh = path.with_added_extension("new");
    let mut file = File::options()
        .create(true)
        .truncate(true)
        .write(true)
        .mode(0o600)
        .open(&fresh)?;
    file.write_all(InstallationKey::generate()?.expose())?;
    file.sync_all()?;
    std::fs::rename(&fresh, path)?;
    Ok(sync_folder(path)?)
}

fn rules(config: &Config) -> Rules {
    Rules {
        inline_max: usize::try_from(config.storage.inline_max).unwrap_or(usize::MAX),
        grace: config.gc.grace,
        untagged: match config.gc.untagged {
            Untagged::Keep => granary_registry::Untagged::Keep,
            Untagged::After(age) => granary_registry::Untagged::After(age),
        },
        tag_history: config.tags.history,
        upload_expiry: config.uploads.expiry,
        uploads_per_principal: config.uploads.max_per_principal.get().into(),
        sparse: config.policy.sparse,
        delete: config.policy.delete,
        read_grace: Duration::from_secs(60).max(config.storage.s3.presign_ttl + CLOCKS),
        redirect: redirect(&config.storage),
        ..Rules::default()
    }
}
