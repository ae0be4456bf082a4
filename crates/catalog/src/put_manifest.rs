//! Putting a manifest: it and its edges, referrers, tags and history become visible together or not at all.

mod tag_schema;

use std::collections::HashMap;

use bytes::Bytes;
use granary_access::{Action, Reason};
use granary_oci::{Digest, Edge, EdgeKind, Manifest, RepositoryName, Tag};
use sea_orm::FromQueryResult;
use serde_json::json;

use self::tag_schema::{is_referrers_tag, take_over_referrers};
use crate::{
    Asker, Catalog, CatalogError,
    accounts::Confirmed,
    audit::{self, Deed, action},
    blobs::LIVE,
    cache::Touched,
    guard,
    quota::{self, KEPT},
    repositories::{self, create_repository, find_repository},
    sql::{self, LIST, placeholders},
    tags::{self, Precondition},
    writer::Write,
};

/// What is to be put.
#[derive(Clone, Debug)]
pub struct ManifestPut {
    /// Where.
    pub repository: RepositoryName,
    /// The digest of `payload`, verified.
    pub digest: Digest,
    /// What `payload` says.
    pub manifest: Manifest,
    /// The bytes as they came.
    pub payload: Bytes,
    /// Tags that are to stand at it.
    pub tags: Vec<Tag>,
    /// What must hold of every one of them.
    pub precondition: Precondition,
    /// Whether it may refer to content that is not there.
    pub sparse: bool,
    /// Who does it.
    pub asker: Asker,
}

/// What became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PutOutcome {
    /// All of it is stored.
    Stored {
        /// Content that it refers to and that is not in the repository, as a sparse policy allows.
        absent: Vec<Digest>,
        /// Whether its subject is not in the repository, which is always allowed.
        subject_absent: bool,
    },
    /// The repository lacks this content; nothing was stored.
    MissingContent(Vec<Digest>),
    /// This tag does not stand where the caller expects; nothing was stored.
    PreconditionFailed {
        /// The tag.
        tag: Tag,
        /// Where it stands.
        current: Option<Digest>,
    },
    /// It may not be done, or not with this one of its tags; nothing was stored.
    Denied(Reason, Option<TagChange>),
}

/// What a push does to a tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TagChange {
    /// The tag.
    pub tag: Tag,
    /// It stands with other content, and would move.
    pub moves: bool,
}

#[derive(FromQueryResult)]
struct Found {
    id: i64,
    digest: Vec<u8>,
}

#[derive(FromQueryResult)]
struct Inserted {
    id: i64,
    /// The namespace, if what it holds is kept.
    namespace: Option<i64>,
}

/// Most missing digests that an answer lists.
const LISTED: usize = 20;

impl Catalog {
    /// Stores a manifest with everything that belongs to it, in one transaction.
    pub async fn put_manifest(&self, put: ManifestPut) -> Result<PutOutcome, CatalogError> {
        self.write(async move |write| put_manifest(write, put).await)
            .await
    }
}

async fn put_manifest(write: &mut Write, put: ManifestPut) -> Result<PutOutcome, CatalogError> {
    let asker = put.asker.clone();
    let name = put.repository.clone();
    let mut confirmed = asker.confirm(write, &name).await?;
    if let Some(reason) = confirmed.denies(Action::Push) {
        return Ok(PutOutcome::Denied(reason, None));
    }
    // Checks come first and write nothing, so that a refused manifest leaves no empty repository behind.
    let mut known = find_repository(write, &put.repository).await?;
    if known.is_none() {
        if let Checked::Refused(refusal) = check(write, None, &put, &confirmed).await? {
            return Ok(refusal);
        }
        known = Some(create_repository(write, &put.repository, asker.owner()).await?);
        // Another transaction may have made it first, and set its tags.
        confirmed = asker.confirm(write, &name).await?;
    }
    let Some(repository) = known else {
        return Err(CatalogError::damaged(
            "repositories",
            "a row just written is missing",
        ));
    };
    // What is checked from here on stays true until the transaction ends.
    guard::with_others(write, repository, &put.tags).await?;
    let (blobs, missing) = match check(write, Some(repository), &put, &confirmed).await? {
        Checked::Fine { blobs, missing } => (blobs, missing),
        Checked::Refused(refusal) => return Ok(refusal),
    };
    let manifest = match tags::find_manifest(write, repository, &put.digest).await? {
        Some(manifest) => refresh(write, manifest, &put).await?,
        None => insert(write, repository, &put, &blobs).await?,
    };
    move_tags(write, repository, manifest, &put).await?;
    let tags: Vec<_> = put.tags.iter().map(Tag::as_str).collect();
    let detail = json!({ "digest": put.digest.to_string(), "tags": tags });
    let deed = Deed::new(action::MANIFEST_PUT, &put.repository).with(detail);
    audit::note(write, &asker, deed).await?;
    let subject_absent = match put.manifest.subject {
        Some(subject) => tags::find_manifest(write, repository, &subject)
            .await?
            .is_none(),
        None => false,
    };
    write.touch(Touched::Manifest(put.repository, put.digest));
    Ok(PutOutcome::Stored {
        absent: missing,
        subject_absent,
    })
}

/// What the checks before a manifest is stored came to.
enum Checked {
    /// It may be stored: which of its edges are blobs here, and what a sparse policy lets it lack.
    Fine {
        blobs: HashMap<Digest, i64>,
        missing: Vec<Digest>,
    },
    /// It may not.
    Refused(PutOutcome),
}

async fn check(
    write: &Write,
    repository: Option<i64>,
    put: &ManifestPut,
    confirmed: &Confirmed<'_>,
) -> Result<Checked, CatalogError> {
    let blobs = match repository {
        Some(repository) => blobs_among(write, repository, &put.manifest.edges).await?,
        None => HashMap::new(),
    };
    let missing = missing(write, repository, put, &blobs).await?;
    if !missing.is_empty() && !put.sparse {
        return Ok(Checked::Refused(PutOutcome::MissingContent(missing)));
    }
    let mut standing = Vec::with_capacity(put.tags.len());
    for tag in &put.tags {
        let current = match repository {
            Some(repository) => tags::current(write, repository, tag)
                .await?
                .map(|(digest, _)| digest),
            None => None,
        };
        let action = match &current {
            None => Some(Action::CreateTag(tag)),
            // A tag that stands there already does not move.
            Some(current) if *current == put.digest => None,
            Some(_) => Some(Action::UpdateTag(tag)),
        };
        if let Some(reason) = action.and_then(|action| confirmed.denies(action)) {
            let change = TagChange {
                tag: tag.clone(),
                moves: current.is_some(),
            };
            return Ok(Checked::Refused(PutOutcome::Denied(reason, Some(change))));
        }
        standing.push(current);
    }
    for (tag, current) in put.tags.iter().zip(standing) {
        if !put.precondition.holds(current.as_ref()) {
            return Ok(Checked::Refused(PutOutcome::PreconditionFailed {
                tag: tag.clone(),
                current,
            }));
        }
    }
    Ok(Checked::Fine { blobs, missing })
}

async fn move_tags(
    write: &mut Write,
    repository: i64,
    manifest: i64,
    put: &ManifestPut,
) -> Result<(), CatalogError> {
    let mut left = Vec::new();
    for tag in &put.tags {
        let target = (&put.digest, manifest);
        let before = tags::move_to(
            write,
            &put.repository,
            repository,
            tag,
            target,
            put.asker.principal.name(),
        );
        left.extend(before.await?);
        if is_referrers_tag(tag) {
            take_over_referrers(write, repository, manifest, tag, put).await?;
        }
    }
    // In one order, so that two moves between the same manifests do not wait for each other.
    left.sort_unstable();
    for manifest in left {
        tags::note_if_untagged(write, manifest).await?;
    }
    Ok(())
}

/// Which of the edges are blobs of the repository.
async fn blobs_among(
    write: &Write,
    repository: i64,
    edges: &[Edge],
) -> Result<HashMap<Digest, i64>, CatalogError> {
    let mut found = HashMap::new();
    for part in edges.chunks(LIST) {
        let query = format!(
            "SELECT b.id, b.digest FROM blobs b JOIN repository_blobs rb ON rb.blob_id = b.id \
             WHERE rb.repository_id = $1 AND b.state = {LIVE} AND b.digest IN ({}) ORDER BY b.digest{}",
            placeholders(2, part.len()),
            write.dialect.keep("rb")
        );
        collect_found(write, &query, repository, part, &mut found).await?;
    }
    Ok(found)
}

async fn manifests_among(
    write: &Write,
    repository: i64,
    edges: &[Edge],
) -> Result<HashMap<Digest, i64>, CatalogError> {
    let mut found = HashMap::new();
    for part in edges.chunks(LIST) {
        let query = format!(
            "SELECT id, digest FROM manifests WHERE repository_id = $1 AND digest IN ({})",
            placeholders(2, part.len())
        );
        collect_found(write, &query, repository, part, &mut found).await?;
    }
    Ok(found)
}

async fn collect_found(
    write: &Write,
    query: &str,
    repository: i64,
    part: &[Edge],
    found: &mut HashMap<Digest, i64>,
) -> Result<(), CatalogError> {
    let values = std::iter::once(repository.into())
        .chain(part.iter().map(|edge| edge.digest.to_bytes().into()));
    let rows: Vec<Found> = sql::all(&write.transaction, query, values).await?;
    found.extend(
        rows.into_iter()
            .filter_map(|row| Some((Digest::from_bytes(&row.digest)?, row.id))),
    );
    Ok(())
}

/// Content that must be there and is not: neither as a blob nor as a manifest.
async fn missing(
    write: &Write,
    repository: Option<i64>,
    put: &ManifestPut,
    blobs: &HashMap<Digest, i64>,
) -> Result<Vec<Digest>, CatalogError> {
    let needed = |edge: &&Edge| edge.kind != EdgeKind::Optional;
    let open: Vec<Edge> = put
        .manifest
        .edges
        .iter()
        .filter(needed)
        .filter(|edge| !blobs.contains_key(&edge.digest))
        .cloned()
        .collect();
    let manifests = match repository {
        Some(repository) => manifests_among(write, repository, &open).await?,
        None => HashMap::new(),
    };
    let missing = open
        .into_iter()
        .map(|edge| edge.digest)
        .filter(|digest| !manifests.contains_key(digest));
    Ok(missing.take(LISTED).collect())
}

async fn insert(
    write: &mut Write,
    repository: i64,
    put: &ManifestPut,
    blobs: &HashMap<Digest, i64>,
) -> Result<i64, CatalogError> {
    let untagged_since = put.tags.is_empty().then_some(write.now);
    let insert = format!(
        "INSERT INTO manifests (repository_id, digest, media_type, artifact_type, subject, payload, state, created_at, untagged_since) \
         VALUES ($1, $2, $3, $4, $5, $6, 0, $7, $8) RETURNING id, {KEPT} AS namespace"
    );
    let row: Option<Inserted> = sql::one(
        &write.transaction,
        &insert,
        [
            repository.into(),
            put.digest.to_bytes().into(),
            put.manifest.media_type.as_str().into(),
            put.manifest.artifact_type.clone().into(),
            put.manifest.subject.as_ref().map(Digest::to_bytes).into(),
            put.payload.to_vec().into(),
            write.now.into(),
            untagged_since.into(),
        ],
    )
    .await?;
    let Inserted {
        id: manifest,
        namespace,
    } = row.ok_or_else(|| CatalogError::damaged("manifests", "an insert returned no row"))?;
    repositories::list(write, repository).await?;
    insert_edges(write, repository, manifest, put, blobs).await?;
    if let Some(subject) = put.manifest.subject {
        let descriptor = put
            .manifest
            .referrer_descriptor(&put.digest, put.payload.len());
        let artifact_type = put.manifest.artifact_type.as_deref();
        announce(
            write,
            repository,
            &subject,
            &put.digest,
            artifact_type,
            &descriptor,
            manifest,
        )
        .await?;
    }
    if let Some(namespace) = namespace {
        quota::add_manifest(write, namespace, repository).await?;
    }
    Ok(manifest)
}

async fn insert_edges(
    write: &Write,
    repository: i64,
    manifest: i64,
    put: &ManifestPut,
    blobs: &HashMap<Digest, i64>,
) -> Result<(), CatalogError> {
    for part in put.manifest.edges.chunks(LIST) {
        let rows: Vec<String> = (0..part.len())
            .map(|row| format!("({})", placeholders(row * 5 + 1, 5)))
            .collect();
        let statement = format!(
            "INSERT INTO manifest_edges (manifest_id, repository_id, digest, kind, blob_id) VALUES {}",
            rows.join(", ")
        );
        let values = part.iter().flat_map(|edge| {
            let kind: i16 = match edge.kind {
                EdgeKind::Content => 0,
                EdgeKind::Child => 1,
                EdgeKind::Optional => 2,
            };
            let blob = blobs.get(&edge.digest).copied();
            [
                manifest.into(),
                repository.into(),
                edge.digest.to_bytes().into(),
                kind.into(),
                blob.into(),
            ]
        });
        sql::execute(&write.transaction, &statement, values).await?;
    }
    Ok(())
}

/// A manifest that is there already: a push repairs damaged bytes, and a tag ends its time without one.
async fn refresh(write: &mut Write, manifest: i64, put: &ManifestPut) -> Result<i64, CatalogError> {
    let repair = "UPDATE manifests SET media_type = $1, payload = $2, state = 0 WHERE id = $3 AND (media_type <> $1 OR state <> 0)";
    let values = [
        put.manifest.media_type.as_str().into(),
        put.payload.to_vec().into(),
        manifest.into(),
    ];
    if sql::execute(&write.transaction, repair, values).await? > 0 {
        // Its copies by tag are many; damage and a changed media type are rare.
        write.touch(Touched::Everything);
    }
    // What only collection looks at is in no copy, so nothing has to go from memory.
    // Without a tag the time that it may be kept begins anew: it was acknowledged now.
    let keep = "UPDATE manifests SET candidate_since = NULL, untagged_since = CASE WHEN $1 THEN NULL ELSE $2 END \
                WHERE id = $3 AND (candidate_since IS NOT NULL OR untagged_since IS NOT NULL)";
    let tagged = !put.tags.is_empty();
    let values = [tagged.into(), write.now.into(), manifest.into()];
    sql::execute(&write.transaction, keep, values).await?;
    Ok(manifest)
}

async fn announce(
    write: &Write,
    repository: i64,
    subject: &Digest,
    digest: &Digest,
    artifact_type: Option<&str>,
    descriptor: &str,
    source: i64,
) -> Result<(), CatalogError> {
    sql::execute(
        &write.transaction,
        "INSERT INTO referrers (repository_id, subject, digest, artifact_type, descriptor, source_id) \
         VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (repository_id, subject, digest) DO NOTHING",
        [
            repository.into(),
            subject.to_bytes().into(),
            digest.to_bytes().into(),
            artifact_type.map(str::to_owned).into(),
            descriptor.into(),
            source.into(),
        ],
    )
    .await?;
    Ok(())
}
