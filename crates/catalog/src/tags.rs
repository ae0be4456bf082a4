//! Tags and their history.

use std::sync::Arc;

use bytes::Bytes;
use granary_access::{CredentialId, PrincipalId};
use granary_oci::{Digest, RepositoryName, Tag};
use sea_orm::{FromQueryResult, Value};

use crate::{
    Catalog, CatalogError, RightsNow, StoredManifest,
    accounts::GenerationRow,
    cache::Touched,
    dialect::Dialect,
    manifests::ManifestRow,
    sql::{self, Id, Reads},
    together::Question,
    writer::Write,
};

/// What must hold of a tag for a change to happen (RFC 9110 section 13.1; decision 30).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Precondition {
    /// Nothing.
    #[default]
    None,
    /// `If-Match: "<digest>"`: the tag stands at this digest.
    At(Digest),
    /// `If-Match: *`: the tag exists.
    Exists,
    /// `If-None-Match: *`: the tag does not exist.
    Absent,
}

impl Precondition {
    pub(crate) fn holds(self, current: Option<&Digest>) -> bool {
        match self {
            Self::None => true,
            Self::At(expected) => current == Some(&expected),
            Self::Exists => current.is_some(),
            Self::Absent => current.is_none(),
        }
    }
}

/// Where a tag stood at some time.
#[derive(Clone, Debug)]
pub enum TagAt {
    /// It did not exist then, or not within the history that is kept.
    Absent,
    /// It stood at a manifest that is still there.
    Manifest(Arc<StoredManifest>),
    /// It stood at a manifest that was removed later, at this time if that is known.
    Removed(Digest, Option<i64>),
}

#[derive(FromQueryResult)]
struct CurrentRow {
    digest: Vec<u8>,
    id: i64,
}

#[derive(FromQueryResult)]
struct HistoryRow {
    digest: Option<Vec<u8>>,
}

#[derive(FromQueryResult)]
struct Moment {
    at: Option<i64>,
}

/// Which manifest a tag stands at.
#[derive(Clone)]
pub(crate) struct TagLookup {
    repository: RepositoryName,
    tag: Tag,
    /// The manifest it probably is, whose bytes need not come again.
    guess: Option<(Digest, Bytes)>,
    /// Whether the generation of rights is wanted with it, which costs a look-up more.
    for_rights: bool,
}

/// Where a tag stands, if it does, and the generation of rights that the same statement saw.
#[derive(FromQueryResult)]
struct TaggedRow {
    /// Which of the questions it answers.
    place: Option<i32>,
    #[sea_orm(nested)]
    generation: GenerationRow,
    digest: Option<Vec<u8>>,
    media_type: Option<String>,
    payload: Option<Vec<u8>>,
}

/// The same, read.
#[derive(Clone)]
pub(crate) struct Tagged {
    found: Option<Arc<StoredManifest>>,
    generation: GenerationRow,
}

impl TaggedRow {
    fn read(self, bytes: Option<Bytes>) -> Result<Tagged, CatalogError> {
        let row = self.digest.zip(self.media_type);
        let row = row.map(|(digest, media_type)| ManifestRow {
            digest,
            media_type,
            payload: self.payload,
        });
        Ok(Tagged {
            found: row.map(|row| row.read(bytes)).transpose()?,
            generation: self.generation,
        })
    }
}

const STANDS_AT: &str =
    "JOIN tags t ON t.repository_id = r.id JOIN manifests m ON m.id = t.manifest_id";

impl TagLookup {
    /// What the statements ask for: repository, tag, and the digest whose bytes are left out.
    fn values(&self) -> [Value; 3] {
        let guess = self.guess.as_ref().map(|(digest, _)| digest.to_bytes());
        [
            self.repository.as_str().into(),
            self.tag.as_str().into(),
            guess.into(),
        ]
    }

    fn bytes(&self) -> Option<Bytes> {
        self.guess.as_ref().map(|(_, bytes)| bytes.clone())
    }

    /// Asks for this one only.
    async fn alone(&self, reads: &Reads) -> Result<Tagged, CatalogError> {
        let query = format!(
            "SELECT NULL AS place, g.*, found.* FROM ({}) AS g LEFT JOIN \
             (SELECT m.digest, m.media_type, CASE WHEN m.digest = $3 THEN NULL ELSE m.payload END AS payload \
              FROM repositories r {STANDS_AT} WHERE r.name = $1 AND t.name = $2 AND m.state = 0) AS found ON 1 = 1",
            GenerationRow::select(reads.dialect, self.for_rights)
        );
        let row: Option<TaggedRow> = reads.one(&query, self.values()).await?;
        row.ok_or_else(|| CatalogError::damaged("settings", "no row came"))?
            .read(self.bytes())
    }
}

impl PartialEq for TagLookup {
    fn eq(&self, other: &Self) -> bool {
        self.tag == other.tag
            && self.repository == other.repository
            && self.for_rights == other.for_rights
    }
}

impl Question for TagLookup {
    type Answer = Tagged;

    async fn ask(reads: &Reads, lookups: &[Self]) -> Result<Vec<Self::Answer>, CatalogError> {
        if let [alone] = lookups {
            return Ok(vec![alone.alone(reads).await?]);
        }
        // Few different statements, so that each is prepared once: what is left over asks for nothing that exists.
        let shape = lookups.len().next_power_of_two();
        let nothing = || [Value::from(""), "".into(), None::<Vec<u8>>.into()];
        let rows = (0..shape).map(|row| {
            let (first, types) = (3 * row + 1, ["varchar", "varchar", "bytea"]);
            let cast = |column: usize| format!("CAST(${} AS {})", first + column, types[column]);
            format!("({row}, {}, {}, {})", cast(0), cast(1), cast(2))
        });
        // Asked one by one, each by its keys: joined at once, PostgreSQL may read all tags of a repository to find one.
        let query = format!(
            "SELECT w.place, g.*, found.* FROM (VALUES {}) AS w (place, repository, tag, guess) CROSS JOIN ({}) AS g LEFT JOIN LATERAL \
             (SELECT m.digest, m.media_type, CASE WHEN m.digest = w.guess THEN NULL ELSE m.payload END AS payload \
              FROM repositories r {STANDS_AT} WHERE r.name = w.repository AND t.name = w.tag AND m.state = 0 LIMIT 1) AS found ON TRUE",
            rows.collect::<Vec<_>>().join(", "),
            GenerationRow::select(
                reads.dialect,
                lookups.iter().any(|lookup| lookup.for_rights)
            )
        );
        let padding = std::iter::repeat_with(nothing).take(shape - lookups.len());
        let values = lookups.iter().map(Self::values).chain(padding).flatten();
        let rows: Vec<TaggedRow> = reads.all(&query, values).await?;
        let mut answers = vec![None; lookups.len()];
        for row in rows {
            let place = row.place.and_then(|place| usize::try_from(place).ok());
            let place = place.unwrap_or(usize::MAX);
            if let (Some(answer), Some(lookup)) = (answers.get_mut(place), lookups.get(place)) {
                *answer = Some(row.read(lookup.bytes())?);
            }
        }
        let whole: Option<Vec<Tagged>> = answers.into_iter().collect();
        whole.ok_or_else(|| CatalogError::damaged("tags", "a question has no answer"))
    }
}

impl Catalog {
    /// The manifest that `tag` stands at.
    pub async fn tagged(
        &self,
        repository: &RepositoryName,
        tag: &Tag,
    ) -> Result<Option<Arc<StoredManifest>>, CatalogError> {
        let cache = self.memory.exact();
        if let Some(manifest) = cache.and_then(|cache| cache.tag(repository, tag)) {
            return Ok(Some(manifest));
        }
        let watch = cache.map(|cache| cache.watch(repository));
        let Some(manifest) = self.look_up(repository, tag, false).await?.found else {
            return Ok(None);
        };
        if let (Some(cache), Some(watch)) = (cache, watch) {
            cache.store_tag(watch, repository, tag, &manifest);
        }
        Ok(Some(manifest))
    }

    /// The manifest that `tag` stands at, and what a principal may do in its repository, by one statement; `None` if its
    /// rights have to be read for that, or the tag does not stand. Where this process knows all that, it is `None` as well.
    pub async fn tagged_within_rights(
        &self,
        principal: Option<(PrincipalId, CredentialId)>,
        repository: &RepositoryName,
        tag: &Tag,
    ) -> Result<Option<(RightsNow, Arc<StoredManifest>)>, CatalogError> {
        let warm = &self.warm_rights;
        let Some(kept) = warm.kept(principal, repository) else {
            return Ok(None);
        };
        let Tagged { found, generation } = self.look_up(repository, tag, true).await?;
        let rights = kept.at(&generation);
        Ok(rights.zip(found))
    }

    async fn look_up(
        &self,
        repository: &RepositoryName,
        tag: &Tag,
        for_rights: bool,
    ) -> Result<Tagged, CatalogError> {
        let lookup = TagLookup {
            repository: repository.clone(),
            tag: tag.clone(),
            guess: self.memory.guess(repository, tag),
            for_rights,
        };
        let together = match &self.tag_lookups {
            Some(lookups) => lookups.ask(lookup.clone()).await,
            None => None,
        };
        let tagged = match together {
            Some(tagged) => tagged,
            None => lookup.alone(&self.reads).await?,
        };
        if let Some(manifest) = &tagged.found {
            self.memory.note(repository, tag, &manifest.digest);
            self.memory.keep(&manifest.digest, &manifest.payload);
        }
        Ok(tagged)
    }

    /// The manifest that `tag` stood at, at `time` (microseconds since 1970).
    pub async fn tagged_at(
        &self,
        repository: &RepositoryName,
        tag: &Tag,
        time: i64,
    ) -> Result<TagAt, CatalogError> {
        let row: Option<HistoryRow> = self.reads.one("SELECT h.digest FROM tag_history h JOIN repositories r ON r.id = h.repository_id \
             WHERE r.name = $1 AND h.name = $2 AND h.moved_at <= $3 ORDER BY h.moved_at DESC, h.seq DESC LIMIT 1",
            [repository.as_str().into(), tag.as_str().into(), time.into()],
        )
        .await?;
        let Some(digest) = row
            .and_then(|row| row.digest)
            .and_then(|bytes| Digest::from_bytes(&bytes))
        else {
            return Ok(TagAt::Absent);
        };
        if let Some(manifest) = self.manifest(repository, &digest).await? {
            return Ok(TagAt::Manifest(manifest));
        }
        let removed: Option<Moment> = self.reads.one("SELECT d.removed_at AS at FROM removed_manifests d JOIN repositories r ON r.id = d.repository_id \
             WHERE r.name = $1 AND d.digest = $2",
            [repository.as_str().into(), digest.to_bytes().into()],
        )
        .await?;
        Ok(TagAt::Removed(digest, removed.and_then(|row| row.at)))
    }
}

/// Where a tag stands: digest and row of the manifest.
pub(crate) async fn current(
    write: &Write,
    repository: i64,
    tag: &Tag,
) -> Result<Option<(Digest, i64)>, CatalogError> {
    let query = "SELECT m.digest, m.id FROM tags t JOIN manifests m ON m.id = t.manifest_id WHERE t.repository_id = $1 AND t.name = $2";
    let row: Option<CurrentRow> = sql::one(
        &write.transaction,
        query,
        [repository.into(), tag.as_str().into()],
    )
    .await?;
    Ok(row.and_then(|row| Some((Digest::from_bytes(&row.digest)?, row.id))))
}

pub(crate) async fn find_manifest(
    write: &Write,
    repository: i64,
    digest: &Digest,
) -> Result<Option<i64>, CatalogError> {
    let query = "SELECT id FROM manifests WHERE repository_id = $1 AND digest = $2";
    let row: Option<Id> = sql::one(
        &write.transaction,
        query,
        [repository.into(), digest.to_bytes().into()],
    )
    .await?;
    Ok(row.map(|row| row.id))
}

/// Moves `tag` to a manifest of the same repository, and says which one it left; no move if it stands there already.
pub(crate) async fn move_to(
    write: &mut Write,
    repository: &RepositoryName,
    repository_id: i64,
    tag: &Tag,
    (digest, manifest): (&Digest, i64),
    principal: &str,
) -> Result<Option<i64>, CatalogError> {
    let before = current(write, repository_id, tag).await?;
    if before
        .as_ref()
        .is_some_and(|(_, standing)| *standing == manifest)
    {
        return Ok(None);
    }
    let upsert = "INSERT INTO tags (repository_id, name, manifest_id, updated_at) VALUES ($1, $2, $3, $4) \
                  ON CONFLICT (repository_id, name) DO UPDATE SET manifest_id = excluded.manifest_id, updated_at = excluded.updated_at";
    let values = [
        repository_id.into(),
        tag.as_str().into(),
        manifest.into(),
        write.now.into(),
    ];
    sql::execute(&write.transaction, upsert, values).await?;
    let previous = before.as_ref().map(|(digest, _)| digest);
    record(write, repository_id, tag, previous, Some(digest), principal).await?;
    write.touch(Touched::Tag(repository.clone(), tag.clone()));
    Ok(before.map(|(_, left)| left))
}

/// Removes `tag`, which stands at `digest`.
pub(crate) async fn remove(
    write: &mut Write,
    repository: &RepositoryName,
    repository_id: i64,
    tag: &Tag,
    digest: &Digest,
    principal: &str,
) -> Result<(), CatalogError> {
    let delete = "DELETE FROM tags WHERE repository_id = $1 AND name = $2";
    sql::execute(
        &write.transaction,
        delete,
        [repository_id.into(), tag.as_str().into()],
    )
    .await?;
    record(write, repository_id, tag, Some(digest), None, principal).await?;
    write.touch(Touched::Tag(repository.clone(), tag.clone()));
    Ok(())
}

#[derive(FromQueryResult)]
struct TagName {
    name: String,
}

/// Removes every tag that stands at the manifest; there may be very many.
pub(crate) async fn remove_all(
    write: &mut Write,
    repository: &RepositoryName,
    (manifest, digest): (i64, &Digest),
    principal: &str,
) -> Result<(), CatalogError> {
    let tags = standing_at(write, manifest).await?;
    if tags.is_empty() {
        return Ok(());
    }
    // As in `record`: the times of one tag grow strictly.
    let history = "INSERT INTO tag_history (repository_id, name, previous, principal, moved_at) \
                   SELECT repository_id, name, $2, $3, CASE WHEN latest >= $4 THEN latest + 1 ELSE $4 END \
                   FROM (SELECT t.repository_id, t.name, (SELECT MAX(h.moved_at) FROM tag_history h \
                       WHERE h.repository_id = t.repository_id AND h.name = t.name) AS latest \
                     FROM tags t WHERE t.manifest_id = $1) AS standing";
    let values = [
        manifest.into(),
        digest.to_bytes().into(),
        principal.into(),
        write.now.into(),
    ];
    sql::execute(&write.transaction, history, values).await?;
    let delete = "DELETE FROM tags WHERE manifest_id = $1";
    sql::execute(&write.transaction, delete, [manifest.into()]).await?;
    for tag in tags {
        write.touch(Touched::Tag(repository.clone(), tag));
    }
    Ok(())
}

/// The tags that stand at a manifest.
pub(crate) async fn standing_at(write: &Write, manifest: i64) -> Result<Vec<Tag>, CatalogError> {
    let names = "SELECT name FROM tags WHERE manifest_id = $1";
    let names: Vec<TagName> = sql::all(&write.transaction, names, [manifest.into()]).await?;
    let tags = names.into_iter().map(|row| row.name.parse());
    tags.map(|tag| tag.map_err(|error| CatalogError::damaged("tags", error)))
        .collect()
}

/// Starts the time that a manifest may be kept without a tag, if it has none left.
pub(crate) async fn note_if_untagged(write: &Write, manifest: i64) -> Result<(), CatalogError> {
    if write.dialect == Dialect::Postgres {
        // Two tags may leave it at once: the second waits here, and its next statement sees what the first did.
        let lock = "SELECT id FROM manifests WHERE id = $1 FOR NO KEY UPDATE";
        sql::one::<Id>(&write.transaction, lock, [manifest.into()]).await?;
    }
    let update = "UPDATE manifests SET untagged_since = $1, candidate_since = NULL \
                  WHERE id = $2 AND NOT EXISTS (SELECT 1 FROM tags WHERE manifest_id = $2)";
    sql::execute(
        &write.transaction,
        update,
        [write.now.into(), manifest.into()],
    )
    .await?;
    Ok(())
}

/// Writes a move; the times of one tag grow strictly (decision 20).
async fn record(
    write: &Write,
    repository: i64,
    tag: &Tag,
    previous: Option<&Digest>,
    digest: Option<&Digest>,
    principal: &str,
) -> Result<(), CatalogError> {
    let latest =
        "SELECT MAX(moved_at) AS at FROM tag_history WHERE repository_id = $1 AND name = $2";
    let row: Option<Moment> = sql::one(
        &write.transaction,
        latest,
        [repository.into(), tag.as_str().into()],
    )
    .await?;
    let moved_at = row
        .and_then(|row| row.at)
        .map_or(write.now, |latest| write.now.max(latest + 1));
    let insert = "INSERT INTO tag_history (repository_id, name, previous, digest, principal, moved_at) VALUES ($1, $2, $3, $4, $5, $6)";
    let values = [
        repository.into(),
        tag.as_str().into(),
        previous.map(Digest::to_bytes).into(),
        digest.map(Digest::to_bytes).into(),
        principal.into(),
        moved_at.into(),
    ];
    sql::execute(&write.transaction, insert, values).await?;
    Ok(())
}
