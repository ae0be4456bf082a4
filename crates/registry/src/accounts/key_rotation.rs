//! Other keys in the place of those that sign tokens: from time to time, and when one may have leaked.
//!
//! A new key is there ten minutes before it signs, so that every replica has read it by then; the one before it verifies for
//! an hour longer, which is longer than any token lives.

use std::time::Duration;

use granary_catalog::{Authority, KeyPurpose, StoredKey, dialect};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{AccountsError, AccountsReport, signing::fresh_key};
use crate::{Installation, Leave, Registry, RegistryError, leave::done};

/// How long before its first use a key is there. Every process reads the keys each minute.
const AHEAD: Duration = Duration::from_secs(600);
/// How long a key verifies after another one signs.
const OVERLAP: Duration = Duration::from_secs(3600);
/// How long a key signs.
const SIGNS: Duration = Duration::from_secs(90 * 24 * 3600);
/// How often it is looked whether a key is due, or gone.
const EVERY: Duration = Duration::from_secs(60);

/// What a key is for now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum KeyState {
    /// It will sign.
    Next,
    /// It signs.
    Signs,
    /// It verifies what it signed.
    Verifies,
    /// Nothing is verified with it any more.
    Retired,
}

/// A key that signs tokens, for people and programs.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct KeyReport {
    /// Its public name, as in the key set.
    pub kid: String,
    /// What it is for now.
    pub state: KeyState,
    /// When it was made.
    #[serde(serialize_with = "super::time::serialize")]
    #[schema(value_type = String, format = DateTime)]
    pub created_at: i64,
    /// From when on it signs.
    #[serde(serialize_with = "super::time::serialize")]
    #[schema(value_type = String, format = DateTime)]
    pub active_from: i64,
    /// From when on nothing is verified with it any more.
    #[serde(serialize_with = "super::time::optional::serialize")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub retires_at: Option<i64>,
}

/// Something to do about the keys that sign tokens.
#[derive(Clone, Debug, Serialize, Deserialize)]
// Another word than those of the commands it is in, because all are fields of one object.
#[serde(tag = "keys", rename_all = "kebab-case")]
pub enum KeysCommand {
    /// List them.
    List,
    /// Have another key sign.
    Rotate,
    /// Believe nothing any more that this key signed.
    Revoke {
        /// Its public name.
        kid: String,
    },
}

/// What it came to.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "keys", rename_all = "kebab-case")]
pub enum KeysReport {
    /// The keys.
    Listed {
        /// Oldest first.
        entries: Vec<KeyReport>,
    },
    /// Another key will sign.
    Rotated(KeyReport),
    /// The key is retired.
    Revoked {
        /// Its public name.
        kid: String,
    },
}

fn reports(keys: &[StoredKey], now: i64) -> Vec<KeyReport> {
    let is_retired = |key: &StoredKey| key.retires_at.is_some_and(|end| end <= now);
    let signs = keys
        .iter()
        .rev()
        .find(|key| key.active_from <= now && !is_retired(key));
    let signs = signs.map(|key| key.slot);
    let report = |key: &StoredKey| KeyReport {
        kid: key.kid.clone(),
        state: match () {
            () if is_retired(key) => KeyState::Retired,
            () if Some(key.slot) == signs => KeyState::Signs,
            () if key.active_from > now => KeyState::Next,
            () => KeyState::Verifies,
        },
        created_at: key.created_at,
        // The first one is active from the beginning of time.
        active_from: key.active_from.max(key.created_at),
        retires_at: key.retires_at,
    };
    keys.iter().map(report).collect()
}

impl Leave<Installation> {
    /// The keys that sign tokens, oldest first.
    pub async fn keys(&self) -> Result<Vec<KeyReport>, AccountsError> {
        let catalog = &self.parts().catalog;
        let keys = catalog.keys(KeyPurpose::Tokens).await?;
        Ok(reports(&keys, catalog.now().await?))
    }

    /// Has another key sign, from ten minutes from now on. One that waits already is the one.
    pub async fn rotate_keys(&self) -> Result<KeyReport, AccountsError> {
        self.registry.rotate_keys(self.authority()).await
    }

    /// Believes nothing any more that a key signed: here at once, at other replicas within a minute.
    pub async fn revoke_key(&self, kid: &str) -> Result<(), AccountsError> {
        let catalog = &self.parts().catalog;
        let retiring = catalog.retire_key(self.authority(), KeyPurpose::Tokens, kid);
        if !done(retiring.await?)? {
            return Err(AccountsError::NoSuchKey(kid.to_owned()));
        }
        Ok(self.registry.reread_keys().await?)
    }
}

impl Registry {
    /// Has another key sign when the one that does has done so for 90 days, and notices what others change, until the future is
    /// dropped. Of processes that do so at once, one makes the key.
    pub async fn rotate_forever(&self) {
        loop {
            tokio::time::sleep(EVERY).await;
            if let Err(error) = self.look_after_keys().await {
                tracing::warn!(%error, "the keys that sign tokens could not be looked at");
            }
        }
    }

    /// Reads the keys anew, and has another one sign if that is due.
    pub async fn look_after_keys(&self) -> Result<(), AccountsError> {
        if !self.can_issue_tokens() || !self.has_accounts().await? {
            return Ok(());
        }
        self.reread_keys().await?;
        let keys = self.parts.catalog.keys(KeyPurpose::Tokens).await?;
        let now = self.parts.catalog.now().await?;
        let is_due = keys.last().is_some_and(|last| {
            let began = last.active_from.max(last.created_at);
            began.saturating_add(dialect::micros(SIGNS)) <= now
        });
        if is_due {
            let next = self.rotate_keys(&Authority::operator()).await?;
            tracing::info!(
                kid = next.kid,
                "another key will sign tokens in ten minutes"
            );
        }
        Ok(())
    }

    async fn rotate_keys(&self, by: &Authority) -> Result<KeyReport, AccountsError> {
        let own = self.parts.rules.accounts.key.clone();
        let own = own.ok_or(AccountsError::NoKey)?;
        // Something has to sign until then.
        self.signing_key(KeyPurpose::Tokens, &own).await?;
        let catalog = &self.parts.catalog;
        let now = catalog.now().await?;
        let keys = catalog.keys(KeyPurpose::Tokens).await?;
        let last = keys.last();
        let waits = last.is_some_and(|last| {
            last.active_from > now && last.retires_at.is_none_or(|end| now < end)
        });
        if !waits {
            let from = now.saturating_add(dialect::micros(AHEAD));
            let key = fresh_key(&own, last.map_or(1, |last| last.slot + 1), from)?;
            let until = from.saturating_add(dialect::micros(OVERLAP));
            done(
                catalog
                    .rotate_key(by, KeyPurpose::Tokens, key, until)
                    .await?,
            )?;
            self.reread_keys().await?;
        }
        let keys = catalog.keys(KeyPurpose::Tokens).await?;
        let next = reports(&keys, now).pop();
        Ok(next.ok_or(RegistryError::Internal(
            "a key that was just made cannot be read",
        ))?)
    }

    pub(super) async fn keys_command(
        &self,
        command: KeysCommand,
    ) -> Result<AccountsReport, AccountsError> {
        let leave = self.operators_leave::<Installation>(());
        Ok(AccountsReport::Keys(match command {
            KeysCommand::List => KeysReport::Listed {
                entries: leave.keys().await?,
            },
            KeysCommand::Rotate => KeysReport::Rotated(leave.rotate_keys().await?),
            KeysCommand::Revoke { kid } => {
                leave.revoke_key(&kid).await?;
                KeysReport::Revoked { kid }
            }
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(slot: i64, active_from: i64, retires_at: Option<i64>) -> StoredKey {
        StoredKey {
            kid: slot.to_string(),
            slot,
            public_key: Vec::new(),
            sealed: Vec::new(),
            wrapped_by: String::new(),
            created_at: 1,
            active_from,
            retires_at,
        }
    }

    #[test]
    fn one_key_signs_at_a_time() {
        use KeyState::{Next, Retired, Signs, Verifies};
        let keys = [
            key(1, 0, Some(100)),
            key(2, 50, Some(200)),
            key(3, 150, None),
        ];
        for (now, states) in [
            (10, [Signs, Next, Next]),
            (50, [Verifies, Signs, Next]),
            (100, [Retired, Signs, Next]),
            (150, [Retired, Verifies, Signs]),
            (200, [Retired, Retired, Signs]),
        ] {
            let found: Vec<_> = reports(&keys, now).iter().map(|key| key.state).collect();
            assert_eq!(found, states, "at {now}");
        }
    }
}
