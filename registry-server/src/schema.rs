//! `granary admin schema`: where a database stands, and bringing it up.

use std::io::{self, Write};

use anyhow::Context;
use granary_catalog::{CatalogError, Replica, SchemaStatus};
use serde_json::json;

use crate::{
    config::{Config, DatabaseUrl},
    installation::missing_file,
};

/// `granary admin schema status`
pub fn status(config: &Config, as_json: bool) -> anyhow::Result<()> {
    report(config, as_json, async |url| {
        granary_catalog::schema_status(url).await
    })
}

/// `granary admin schema up`
pub fn up(config: &Config, as_json: bool) -> anyhow::Result<()> {
    report(config, as_json, async |url| {
        granary_catalog::schema_up(url).await
    })
}

fn report(
    config: &Config,
    as_json: bool,
    ask: impl AsyncFnOnce(&str) -> Result<SchemaStatus, CatalogError>,
) -> anyhow::Result<()> {
    if let Some(missing) = missing_file(config)? {
        return Err(missing.into());
    }
    let url = match &config.database.url {
        DatabaseUrl::Sqlite(path) => format!("sqlite://{}?mode=rwc", path.display()),
        DatabaseUrl::Postgres(url) => url.expose(),
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let (status, replicas) = runtime
        .block_on(async {
            let status = ask(&url).await?;
            Ok::<_, CatalogError>((status, granary_catalog::live_replicas(&url).await?))
        })
        .with_context(|| format!("the database {} cannot be asked", config.database.url))?;
    let text = if as_json {
        format!("{:#}\n", to_json(&status, &replicas))
    } else {
        to_text(&status, &replicas)
    };
    io::stdout().lock().write_all(text.as_bytes())?;
    anyhow::ensure!(
        status.is_usable(),
        "this version of granary cannot work with that database: run a newer one"
    );
    Ok(())
}

fn to_json(status: &SchemaStatus, replicas: &[Replica]) -> serde_json::Value {
    let replica = |replica: &Replica| {
        json!({
            "id": replica.id,
            "version": replica.version,
            "release": replica.release,
            "started_at": replica.started_at,
            "heartbeat_at": replica.heartbeat_at,
        })
    };
    json!({
        "release": status.release,
        "known": status.known,
        "pending": status.pending,
        "unknown": status.unknown,
        "usable": status.is_usable(),
        "replicas": replicas.iter().map(replica).collect::<Vec<_>>(),
    })
}

fn to_text(status: &SchemaStatus, replicas: &[Replica]) -> String {
    let mut text = format!(
        "schema release {}; this version knows releases up to {}\n",
        status.release, status.known
    );
    for name in &status.pending {
        text.push_str(&format!("  pending  {name}\n"));
    }
    for name in &status.unknown {
        text.push_str(&format!("  newer    {name}\n"));
    }
    if status.pending.is_empty() && status.unknown.is_empty() {
        text.push_str("  nothing is pending\n");
        if status.release < status.known {
            text.push_str(&format!(
                "  release {} is noted when the first account is made\n",
                status.known
            ));
        }
    }
    for replica in replicas {
        text.push_str(&format!(
            "  replica  {} version {}, knows release {}\n",
            replica.id, replica.version, replica.release
        ));
    }
    text
}
