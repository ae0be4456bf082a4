//! When a token was used last. It is written down from time to time, because a read never writes (decision 12).

use std::{collections::BTreeMap, net::IpAddr};

use granary_access::CredentialId;
use sea_orm::{FromQueryResult, Value};

use crate::{
    Catalog, CatalogError,
    sql::{self, LIST, placeholders},
    writer::Write,
};

/// A use of a credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Use {
    /// When, in microseconds since 1970.
    pub at: i64,
    /// From where, if that is known.
    pub from: Option<IpAddr>,
}

#[derive(FromQueryResult)]
struct TokenRow {
    id: i64,
    parent_id: Option<i64>,
}

impl Catalog {
    /// Writes down when tokens were used last. A token that was made from another counts as a use of both.
    pub async fn note_uses(&self, uses: Vec<(CredentialId, Use)>) -> Result<(), CatalogError> {
        for part in uses.chunks(LIST) {
            let part: BTreeMap<i64, Use> = part.iter().map(|(id, used)| (id.0, *used)).collect();
            self.write(async move |write| note(write, &part).await)
                .await?;
        }
        Ok(())
    }
}

async fn note(write: &Write, uses: &BTreeMap<i64, Use>) -> Result<(), CatalogError> {
    let find = format!(
        "SELECT id, parent_id FROM credentials WHERE kind IN (2, 3) AND id IN ({})",
        placeholders(1, uses.len())
    );
    let ids = uses.keys().map(|id| Value::from(*id));
    let rows: Vec<TokenRow> = sql::all(&write.transaction, &find, ids).await?;
    let mut last: BTreeMap<i64, Use> = BTreeMap::new();
    for row in rows {
        let Some(used) = uses.get(&row.id) else {
            continue;
        };
        for id in [Some(row.id), row.parent_id].into_iter().flatten() {
            let known = last.entry(id).or_insert(*used);
            if known.at < used.at {
                *known = *used;
            }
        }
    }
    if last.is_empty() {
        return Ok(());
    }
    // Types, because PostgreSQL takes values of a list for texts.
    let lines: Vec<String> = (0..last.len())
        .map(|line| {
            let first = 3 * line + 1;
            format!(
                "(CAST(${first} AS bigint), CAST(${} AS bigint), CAST(${} AS varchar))",
                first + 1,
                first + 2
            )
        })
        .collect();
    let update = format!(
        "UPDATE credentials SET last_used_at = v.column2, last_used_from = v.column3 FROM (VALUES {}) AS v \
         WHERE credentials.id = v.column1 AND (credentials.last_used_at IS NULL OR credentials.last_used_at < v.column2)",
        lines.join(", ")
    );
    let values = last.into_iter().flat_map(|(id, used)| {
        let from = used.from.map(|from| from.to_string());
        [Value::from(id), used.at.into(), from.into()]
    });
    sql::execute(&write.transaction, &update, values).await?;
    Ok(())
}
