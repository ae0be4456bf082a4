//! The keys that sign tokens, and those for checkpoints of the audit log. They lie encrypted in the catalog, so that all
//! replicas have the same.

use std::{
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use granary_catalog::{KeyPurpose, StoredKey, dialect};
use granary_identity::{InstallationKey, KeyRing, Signer, SigningKey, VerifyingKey, jwks};
use serde_json::Value;

use crate::{Registry, RegistryError};

/// How long what was read is believed.
const FRESH: Duration = Duration::from_secs(60);
/// The same where a token names a key that is not among them: another replica may just have made it.
const JUST_READ: Duration = Duration::from_secs(1);

/// What was read last.
#[derive(Default)]
pub(super) struct Keys {
    last: RwLock<Option<Read>>,
    retired: AtomicU64,
}

impl Keys {
    /// How often it was seen that a key counts no longer. What was verified before is to be looked at again.
    pub(super) fn retired(&self) -> u64 {
        self.retired.load(Ordering::Acquire)
    }

    /// Keeps what was read, unless something was read since.
    fn keep(&self, read: Read) {
        let mut last = self.last.write().unwrap_or_else(PoisonError::into_inner);
        if last.as_ref().is_some_and(|last| last.at > read.at) {
            return;
        }
        let before = last.iter().flat_map(|last| last.good.iter());
        if before.into_iter().any(|kid| !read.good.contains(kid)) {
            self.retired.fetch_add(1, Ordering::Release);
        }
        *last = Some(read);
    }
}

#[derive(Clone)]
struct Read {
    at: Instant,
    keys: Arc<[StoredKey]>,
    ring: Arc<KeyRing>,
    /// The names of those that counted.
    good: Arc<[String]>,
}

impl Registry {
    /// What tokens are verified with; `looking` for one that was not there lately.
    pub(super) async fn verifying_keys(
        &self,
        looking: bool,
    ) -> Result<Arc<KeyRing>, RegistryError> {
        let age = if looking { JUST_READ } else { FRESH };
        Ok(self.read_keys(age).await?.ring)
    }

    /// The public halves as a JSON Web Key Set (RFC 7517).
    pub async fn key_set(&self) -> Result<Value, RegistryError> {
        let read = self.read_keys(FRESH).await?;
        let now = dialect::now();
        let keys = read.keys.iter();
        let public = keys
            .filter(|key| key.retires_at.is_none_or(|retires| now < retires))
            .filter_map(|key| Some((key.kid.as_str(), key.public_key.as_slice().try_into().ok()?)));
        Ok(jwks(public))
    }

    /// What signs now: the newest key that is active and that this installation's key opens. Made if there is none.
    pub(super) async fn signer(&self) -> Result<Signer, RegistryError> {
        let Some(own) = self.parts.rules.accounts.key.clone() else {
            return Err(RegistryError::Internal(
                "tokens cannot be signed without the key that auth.key_file names",
            ));
        };
        let key = self.signing_key(KeyPurpose::Tokens, &own).await?;
        Ok(key.signer())
    }

    /// The newest key of a purpose that is active and that `own` opens. Made if there is none.
    pub(crate) async fn signing_key(
        &self,
        purpose: KeyPurpose,
        own: &InstallationKey,
    ) -> Result<SigningKey, RegistryError> {
        for _ in 0..2 {
            let keys = match purpose {
                KeyPurpose::Tokens => self.read_keys(FRESH).await?.keys,
                // Asked for once a minute.
                KeyPurpose::Audit => self.parts.catalog.keys(purpose).await?.into(),
            };
            let now = dialect::now();
            let active = keys.iter().rev().filter(|key| {
                key.active_from <= now && key.retires_at.is_none_or(|retires| now < retires)
            });
            for key in active {
                match opened(own, key) {
                    Ok(key) => return Ok(key),
                    Err(problem) => {
                        tracing::warn!(
                            kid = key.kid,
                            problem,
                            "a signing key cannot be opened; another is made"
                        );
                    }
                }
            }
            let slot = keys.last().map_or(1, |last| last.slot + 1);
            self.make_key(purpose, own, slot).await?;
        }
        Err(RegistryError::Internal(
            "a key that was just made cannot be read",
        ))
    }

    async fn make_key(
        &self,
        purpose: KeyPurpose,
        own: &InstallationKey,
        slot: i64,
    ) -> Result<(), RegistryError> {
        let stored = fresh_key(own, slot, 0)?;
        self.parts.catalog.keep_key(purpose, stored).await?;
        if purpose == KeyPurpose::Tokens {
            self.read_keys(Duration::ZERO).await?;
        }
        Ok(())
    }

    /// Reads the keys now. If one is retired since, whoever was verified is looked at again: it may have been by that one.
    pub(super) async fn reread_keys(&self) -> Result<(), RegistryError> {
        self.read_keys(Duration::ZERO).await.map(drop)
    }

    async fn read_keys(&self, age: Duration) -> Result<Read, RegistryError> {
        let kept = &self.parts.accounts.keys;
        let last = kept.last.read();
        let last = last.unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(read) = last.filter(|read| read.at.elapsed() < age) {
            return Ok(read);
        }
        let at = Instant::now();
        let keys = self.parts.catalog.keys(KeyPurpose::Tokens).await?;
        let verifying = keys.iter().filter_map(|key| {
            Some(VerifyingKey {
                kid: key.kid.clone(),
                public_key: key.public_key.as_slice().try_into().ok()?,
                retires_at: key.retires_at.map(|retires| retires / 1_000_000),
            })
        });
        let ring = Arc::new(KeyRing::new(verifying));
        let now = dialect::now();
        let good = keys
            .iter()
            .filter(|key| key.retires_at.is_none_or(|retires| now < retires));
        let good = good.map(|key| key.kid.clone()).collect();
        let read = Read {
            at,
            keys: keys.into(),
            ring,
            good,
        };
        kept.keep(read.clone());
        Ok(read)
    }
}

/// A key that signs from `active_from` on.
pub(super) fn fresh_key(
    own: &InstallationKey,
    slot: i64,
    active_from: i64,
) -> Result<StoredKey, RegistryError> {
    let failed = |_| RegistryError::Internal("a signing key could not be made");
    let key = SigningKey::generate().map_err(failed)?;
    let unsealed = |_| RegistryError::Internal("a signing key could not be encrypted");
    let sealed = own.seal(key.kid(), key.pkcs8()).map_err(unsealed)?;
    Ok(StoredKey {
        kid: key.kid().to_owned(),
        slot,
        public_key: key.public_key().to_vec(),
        sealed,
        wrapped_by: own.id().map_err(unsealed)?,
        // The catalog says.
        created_at: 0,
        active_from,
        retires_at: None,
    })
}

/// The private half of a key, if `own` encrypted it.
pub(crate) fn opened(own: &InstallationKey, key: &StoredKey) -> Result<SigningKey, &'static str> {
    if own.id().as_ref() != Ok(&key.wrapped_by) {
        return Err("another installation key encrypted it");
    }
    let pkcs8 = own
        .open(&key.kid, &key.sealed)
        .map_err(|_| "what the catalog holds is damaged")?;
    SigningKey::from_pkcs8(&pkcs8).map_err(|_| "what the catalog holds is no key")
}
