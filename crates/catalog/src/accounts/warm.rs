//! Rights that were read before and still hold.
//!
//! Whatever rights depend on, each change of it counts up one number in the same transaction: the generation, which is the
//! value of the setting that says that there are accounts. Rights that were read at the same generation still hold. It is
//! asked for anew for each request; on PostgreSQL by a statement that all requests share which wait for it (decision 8), on
//! SQLite the writer of this process knows it.

use std::sync::Arc;

use granary_access::{CredentialId, PrincipalId};
use granary_oci::RepositoryName;
use moka::sync::Cache as Map;
use sea_orm::FromQueryResult;

use super::rights::RightsNow;
use crate::{
    CatalogError,
    cache::Touched,
    dialect::{self, Dialect},
    memory::Memory,
    sql::{self, Reads},
    together::{Question, Together},
    writer::Write,
};

/// Rights kept, each of about half a KiB.
const KEPT: u64 = 50_000;

/// Whose rights, and where.
type Key = (Option<(PrincipalId, CredentialId)>, Option<RepositoryName>);

pub(crate) struct WarmRights {
    kept: Map<Key, Arc<Warm>>,
    /// Where other processes change rights as well.
    generations: Option<Together<Generation>>,
}

/// Rights, and how long they hold.
pub(crate) struct Warm {
    pub(super) read: RightsNow,
    /// The generation they are of.
    pub(super) generation: i64,
    /// When the credential expires.
    pub(super) until: Option<i64>,
}

/// The question for the generation.
#[derive(PartialEq)]
struct Generation;

/// The generation as a statement saw it, and the database's time; both nothing where this process knows them itself.
#[derive(Clone, FromQueryResult)]
pub(crate) struct GenerationRow {
    generation: Option<i64>,
    now: Option<i64>,
}

impl GenerationRow {
    /// A statement that reads it, or one in its place that reads nothing.
    pub(crate) fn select(dialect: Dialect, wanted: bool) -> String {
        match dialect {
            Dialect::Postgres if wanted => {
                format!(
                    "SELECT {GENERATION} AS generation, {} AS now",
                    dialect.clock()
                )
            }
            // Types, so that they can be read.
            Dialect::Sqlite | Dialect::Postgres => {
                "SELECT CAST(NULL AS bigint) AS generation, CAST(NULL AS bigint) AS now".to_owned()
            }
        }
    }
}

impl Warm {
    /// The rights, if they hold by what a statement saw.
    pub(crate) fn at(&self, seen: &GenerationRow) -> Option<RightsNow> {
        let now = seen.now?;
        let holds = seen.generation == Some(self.generation);
        let is_good = self.until.is_none_or(|end| now < end);
        (holds && is_good).then(|| RightsNow {
            rights: self.read.rights.clone(),
            now,
        })
    }
}

impl Generation {
    async fn read(reads: &Reads) -> Result<GenerationRow, CatalogError> {
        let row = reads
            .one(&GenerationRow::select(reads.dialect, true), [])
            .await?;
        row.ok_or_else(|| CatalogError::damaged("settings", "no row came"))
    }
}

/// The generation, as an expression; nothing without accounts.
pub(super) const GENERATION: &str =
    "(SELECT CAST(value AS bigint) FROM settings WHERE name = 'accounts')";

impl Question for Generation {
    type Answer = GenerationRow;

    async fn ask(reads: &Reads, questions: &[Self]) -> Result<Vec<GenerationRow>, CatalogError> {
        let row = Self::read(reads).await?;
        Ok(vec![row; questions.len()])
    }
}

impl WarmRights {
    /// `shared` is what to ask, where other processes change rights as well.
    pub(crate) fn new(shared: Option<&Reads>) -> Self {
        Self {
            kept: Map::new(KEPT),
            // One statement answers everybody who waits; a second keeps one that is stuck from holding up all.
            generations: shared.map(|reads| Together::new(reads.clone(), 2)),
        }
    }

    /// What is known of these rights, if it holds by a look that is made now.
    pub(super) async fn of(
        &self,
        key: &Key,
        memory: &Memory,
        reads: &Reads,
    ) -> Result<Option<RightsNow>, CatalogError> {
        let Some(warm) = self.kept.get(key) else {
            return Ok(None);
        };
        let seen = match (&self.generations, memory.exact()) {
            (Some(generations), _) => match generations.ask(Generation).await {
                Some(seen) => seen,
                None => Generation::read(reads).await?,
            },
            (None, Some(cache)) => GenerationRow {
                generation: cache.rights_generation(),
                now: Some(dialect::now()),
            },
            (None, None) => return Ok(None),
        };
        Ok(warm.at(&seen))
    }

    /// What is kept of somebody's rights, for a caller who reads the generation with something else; nothing where the
    /// generation is known without a statement.
    pub(crate) fn kept(
        &self,
        principal: Option<(PrincipalId, CredentialId)>,
        repository: &RepositoryName,
    ) -> Option<Arc<Warm>> {
        self.generations.as_ref()?;
        self.kept.get(&(principal, Some(repository.clone())))
    }

    /// Keeps rights that were read. Nothing is kept of what is not there, as it may be made at any moment, and nothing of what
    /// may not be read: it must not be answered sooner than what is not there.
    pub(super) fn keep(&self, key: Key, warm: Warm) {
        if key.1.is_none() || warm.read.rights.shows(warm.read.now) {
            self.kept.insert(key, Arc::new(warm));
        }
    }
}

/// To be called by every transaction that changes what rights depend on.
pub(crate) async fn count_up(write: &mut Write) -> Result<(), CatalogError> {
    let count = "UPDATE settings SET value = CAST(CAST(value AS bigint) + 1 AS varchar) WHERE name = 'accounts'";
    sql::execute(&write.transaction, count, []).await?;
    write.touch(Touched::Rights);
    Ok(())
}
