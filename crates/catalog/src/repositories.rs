//! Repositories, and the lists a repository can give.

use granary_access::Visibility;
use granary_oci::{Digest, RepositoryName};
use sea_orm::FromQueryResult;
use serde_json::json;

use crate::{
    Authority, Catalog, CatalogError, Decided,
    accounts::{count_up, make_namespace},
    audit::{Deed, action},
    guard,
    sql::{self, Id, signed},
    writer::Write,
};

/// Which referrers are wanted.
#[derive(Clone, Debug, Default)]
pub struct ReferrerFilter {
    /// Any of these artifact types; empty means all.
    pub artifact_types: Vec<String>,
    /// Only those behind this row.
    pub after: i64,
}

/// A page of a referrers list.
#[derive(Clone, Debug, Default)]
pub struct ReferrersPage {
    /// Descriptors as JSON texts.
    pub descriptors: Vec<String>,
    /// Where the next page begins, if there is one.
    pub next: Option<i64>,
}

#[derive(FromQueryResult)]
struct Name {
    name: String,
}

#[derive(FromQueryResult)]
struct ReferrerRow {
    id: i64,
    descriptor: String,
}

/// Rows asked for at once while a page is filled.
const REFERRER_BATCH: usize = 500;

impl Catalog {
    /// Whether anything was ever stored under `name`.
    pub async fn repository_exists(&self, name: &RepositoryName) -> Result<bool, CatalogError> {
        let row: Option<Id> = self
            .reads
            .one(
                "SELECT id FROM repositories WHERE name = $1",
                [name.as_str().into()],
            )
            .await?;
        Ok(row.is_some())
    }

    /// Says who sees a repository; `false` if there is none of that name.
    pub async fn set_visibility(
        &self,
        by: &Authority,
        name: &RepositoryName,
        visibility: Visibility,
    ) -> Result<Decided<bool>, CatalogError> {
        let name = name.clone();
        let number: i16 = match visibility {
            Visibility::Private => 1,
            Visibility::Public => 2,
        };
        self.decided(by, async move |write, by| {
            let set = "UPDATE repositories SET visibility = $1 WHERE name = $2";
            let values = [number.into(), name.as_str().into()];
            let found = sql::execute(&write.transaction, set, values).await? > 0;
            if found {
                count_up(write).await?;
                let detail = json!({ "visibility": visibility });
                let deed = Deed::new(action::VISIBILITY_SET, &name).with(detail);
                by.note(write, deed).await?;
            }
            Ok(found)
        })
        .await
    }

    /// Whether there is a repository of that name. Says nothing about who may see it.
    pub async fn has_repository(&self, name: &RepositoryName) -> Result<bool, CatalogError> {
        let query = "SELECT id FROM repositories WHERE name = $1";
        let row: Option<Id> = self.reads.one(query, [name.as_str().into()]).await?;
        Ok(row.is_some())
    }

    /// Up to `limit` names of repositories with a manifest, bytewise behind `last`.
    pub async fn repositories(&self, last: &str, limit: u64) -> Result<Vec<String>, CatalogError> {
        let rows: Vec<Name> = self
            .reads
            .all(
                "SELECT name FROM repositories WHERE name > $1 AND listed ORDER BY name LIMIT $2",
                [last.into(), signed(limit).into()],
            )
            .await?;
        Ok(rows.into_iter().map(|row| row.name).collect())
    }

    /// Up to `limit` tags of `repository`, bytewise behind `last`; `None` if there is no such repository.
    pub async fn tags(
        &self,
        repository: &RepositoryName,
        last: &str,
        limit: u64,
    ) -> Result<Option<Vec<String>>, CatalogError> {
        let rows: Vec<Name> = self.reads.all("SELECT t.name FROM tags t WHERE t.repository_id = (SELECT id FROM repositories WHERE name = $1) AND t.name > $2 \
             ORDER BY t.name LIMIT $3",
            [repository.as_str().into(), last.into(), signed(limit).into()],
        )
        .await?;
        if rows.is_empty() && !self.repository_exists(repository).await? {
            return Ok(None);
        }
        Ok(Some(rows.into_iter().map(|row| row.name).collect()))
    }

    /// Referrers of `subject`, oldest first, until their descriptors fill `max_bytes` (one is given in any case).
    pub async fn referrers(
        &self,
        repository: &RepositoryName,
        subject: &Digest,
        filter: &ReferrerFilter,
        max_bytes: usize,
    ) -> Result<ReferrersPage, CatalogError> {
        let mut page = ReferrersPage::default();
        let (mut after, mut bytes) = (filter.after, 0);
        loop {
            let room = max_bytes.saturating_sub(bytes);
            let rows = self
                .referrer_rows(repository, subject, filter, after, room)
                .await?;
            let (is_empty, last_batch) = (rows.is_empty(), rows.len() < REFERRER_BATCH);
            for row in rows {
                bytes += row.descriptor.len() + 1;
                if bytes > max_bytes && !page.descriptors.is_empty() {
                    page.next = Some(after);
                    return Ok(page);
                }
                after = row.id;
                page.descriptors.push(row.descriptor);
            }
            // Where the room ended, whether more follows is asked once more.
            if is_empty || (last_batch && bytes <= max_bytes) {
                return Ok(page);
            }
        }
    }

    /// The rows behind `after`, the last of which is the first that leaves nothing of `room`. A descriptor may be as large
    /// as a manifest, so what is not needed is not read.
    async fn referrer_rows(
        &self,
        repository: &RepositoryName,
        subject: &Digest,
        filter: &ReferrerFilter,
        after: i64,
        room: usize,
    ) -> Result<Vec<ReferrerRow>, CatalogError> {
        let mut condition = "r.name = $1 AND f.subject = $2 AND f.id > $3".to_owned();
        let mut values = vec![
            repository.as_str().into(),
            subject.to_bytes().into(),
            after.into(),
            signed(room as u64).into(),
        ];
        if !filter.artifact_types.is_empty() {
            condition.push_str(&format!(
                " AND f.artifact_type IN ({})",
                sql::placeholders(5, filter.artifact_types.len())
            ));
            values.extend(
                filter
                    .artifact_types
                    .iter()
                    .map(|wanted| wanted.as_str().into()),
            );
        }
        let query = format!(
            "SELECT f.id, f.descriptor FROM referrers f WHERE f.id IN (SELECT id FROM \
               (SELECT f.id, SUM(LENGTH(f.descriptor)) OVER (ORDER BY f.id ROWS UNBOUNDED PRECEDING) - LENGTH(f.descriptor) AS filled \
                FROM referrers f JOIN repositories r ON r.id = f.repository_id \
                WHERE {condition} ORDER BY f.id LIMIT {REFERRER_BATCH}) AS batch \
             WHERE filled <= $4) ORDER BY f.id"
        );
        self.reads.all(&query, values).await
    }
}

/// The row of `name`, made if needed, its namespace too. That belongs to the user or organisation of its name, or else to
/// `owner`, the account that makes it, if one does.
pub(crate) async fn create_repository(
    write: &mut Write,
    name: &RepositoryName,
    owner: Option<i64>,
) -> Result<i64, CatalogError> {
    if let Some(id) = find_repository(write, name).await? {
        return Ok(id);
    }
    let namespace = make_namespace(write, name.namespace(), owner).await?;
    guard::namespace_with_others(write, namespace).await?;
    let repository = "INSERT INTO repositories (namespace_id, name, created_at, visibility) \
                      SELECT n.id, $1, $2, COALESCE(s.default_visibility, 1) FROM namespaces n \
                      LEFT JOIN namespace_settings s ON s.namespace_id = n.id WHERE n.name = $3 ON CONFLICT (name) DO NOTHING";
    sql::execute(
        &write.transaction,
        repository,
        [
            name.as_str().into(),
            write.now.into(),
            name.namespace().into(),
        ],
    )
    .await?;
    find_repository(write, name)
        .await?
        .ok_or_else(|| CatalogError::damaged("repositories", "a row just written is missing"))
}

/// Shows the repository in the catalog, now that it has a manifest. The caller shares the repository or has it alone, so
/// that nobody hides it at the same time.
pub(crate) async fn list(write: &Write, repository: i64) -> Result<(), CatalogError> {
    let list = "UPDATE repositories SET listed = TRUE WHERE id = $1 AND NOT listed";
    sql::execute(&write.transaction, list, [repository.into()]).await?;
    Ok(())
}

/// Hides the repository if it has no manifest any more. The caller has it alone.
pub(crate) async fn hide_if_empty(write: &Write, repository: i64) -> Result<(), CatalogError> {
    let hide = "UPDATE repositories SET listed = FALSE WHERE id = $1 \
                AND NOT EXISTS (SELECT 1 FROM manifests m WHERE m.repository_id = repositories.id)";
    sql::execute(&write.transaction, hide, [repository.into()]).await?;
    Ok(())
}

/// The row of `name`, which keeps that name until the transaction ends: who removes the repository waits, and then nobody
/// finds it.
pub(crate) async fn find_repository(
    write: &Write,
    name: &RepositoryName,
) -> Result<Option<i64>, CatalogError> {
    let find = format!(
        "SELECT id FROM repositories WHERE name = $1{}",
        write.dialect.keep("repositories")
    );
    let row: Option<Id> = sql::one(&write.transaction, &find, [name.as_str().into()]).await?;
    Ok(row.map(|row| row.id))
}

/// Whether the repository of that number was not removed; it is not until the transaction ends.
pub(crate) async fn keep_repository(write: &Write, id: i64) -> Result<bool, CatalogError> {
    let find = format!(
        "SELECT id FROM repositories WHERE id = $1 AND removed_at IS NULL{}",
        write.dialect.keep("repositories")
    );
    let row: Option<Id> = sql::one(&write.transaction, &find, [id.into()]).await?;
    Ok(row.is_some())
}
