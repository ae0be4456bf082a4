//! The audit log, for who administers the installation.

use actix_web::{HttpResponse, web};
use granary_registry::{AuditEvent, AuditFilter, Installation};
use serde::Deserialize;
use utoipa::IntoParams;

use super::{
    ApiRefusal, Permitted, get, listed, resource,
    schema::{Listed, Refusals, at_most},
};

/// What is wanted of the log.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct AuditQuery {
    /// Who did it, by name.
    #[param(max_length = 256)]
    #[serde(default, deserialize_with = "at_most::<_, 256>")]
    actor: Option<String>,
    /// What it is about, exactly.
    #[param(max_length = 512)]
    #[serde(default, deserialize_with = "at_most::<_, 512>")]
    target: Option<String>,
    /// What was done, such as `token.create`.
    #[param(max_length = 64)]
    #[serde(default, deserialize_with = "at_most::<_, 64>")]
    action: Option<String>,
    /// Only what was not allowed.
    denied: Option<bool>,
    /// At this time or later, as RFC 3339.
    since: Option<String>,
    /// Rows behind this one: `next` of the page before.
    #[param(max_length = 64)]
    #[serde(default, deserialize_with = "at_most::<_, 64>")]
    after: Option<String>,
    /// Most rows.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<u16>,
}

pub(super) fn configure(scope: &mut web::ServiceConfig) {
    resource(scope, "/api/v1/audit", [get(get_audit)]);
}

/// Lists what happened, newest first.
#[utoipa::path(
    get,
    path = "/api/v1/audit",
    tag = "audit",
    params(AuditQuery),
    responses((status = 200, description = "rows of the log", body = Listed<Vec<AuditEvent>>), Refusals)
)]
pub(crate) async fn get_audit(
    Permitted(leave): Permitted<Installation>,
    query: web::Query<AuditQuery>,
) -> Result<HttpResponse, ApiRefusal> {
    let AuditQuery {
        actor,
        target,
        action,
        denied,
        since,
        after,
        limit,
    } = query.into_inner();
    let since = match since.as_deref().map(str::parse::<jiff::Timestamp>) {
        None => None,
        Some(Ok(time)) => Some(time.as_microsecond()),
        Some(Err(_)) => {
            let text = "since is a time as RFC 3339, such as 2026-11-21T10:00:00Z";
            return Err(ApiRefusal::Invalid(text.to_owned()));
        }
    };
    let filter = AuditFilter {
        actor,
        target,
        action,
        denied: denied.unwrap_or(false),
        since,
        until: None,
    };
    let before = after.as_deref().map(cursor).transpose()?;
    let limit = super::schema::checked_limit(limit)?;
    let (rows, next) = leave.audit(&filter, before, limit).await?;
    let next = next.map(|(at, seq)| format!("{at}-{seq}"));
    Ok(listed(rows, next))
}

/// A row's time and number.
fn cursor(text: &str) -> Result<(i64, i64), ApiRefusal> {
    let parts = text.split_once('-');
    let parts = parts.and_then(|(at, seq)| Some((at.parse().ok()?, seq.parse().ok()?)));
    parts.ok_or_else(|| ApiRefusal::Invalid("after is what next said".to_owned()))
}
