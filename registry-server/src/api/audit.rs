//! The audit log, for who administers the installation.

use actix_web::{HttpResponse, web};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use granary_registry::{
    AuditCursor, AuditEvent, AuditFilter, AuditKeys, AuditRange, Installation, Month, RegistryError,
};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::{IntoParams, ToSchema};

use super::{
    ApiRefusal, Permitted, get, listed, ok, resource,
    schema::{Done, Listed, Refusals, at_most, checked_limit},
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
    resource(scope, "/api/v1/audit/export", [get(get_audit_export)]);
    resource(scope, "/api/v1/audit/keys", [get(get_audit_keys)]);
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
    let before = after.as_deref().map(row).transpose()?;
    let limit = checked_limit(limit)?;
    let (rows, next) = leave.audit(&filter, before, limit).await?;
    let next = next.map(|(at, seq)| format!("{at}-{seq}"));
    Ok(listed(rows, next))
}

/// A row's time and number.
fn row(text: &str) -> Result<(i64, i64), ApiRefusal> {
    let parts = text.split_once('-');
    let parts = parts.and_then(|(at, seq)| Some((at.parse().ok()?, seq.parse().ok()?)));
    parts.ok_or_else(no_place)
}

fn no_place() -> ApiRefusal {
    ApiRefusal::Invalid("after is what next said".to_owned())
}

/// What is wanted of an export.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct ExportQuery {
    /// The first month, such as `2026-01`; from the beginning if it is not said.
    #[param(value_type = Option<String>, pattern = "^[0-9]{4}-(0[1-9]|1[0-2])$")]
    from: Option<Month>,
    /// The last month; to the end if it is not said.
    #[param(value_type = Option<String>, pattern = "^[0-9]{4}-(0[1-9]|1[0-2])$")]
    through: Option<Month>,
    /// All that there ever was, to be verified: of rows that were exported and removed there are the checkpoints, which say so.
    /// Not together with months.
    whole: Option<bool>,
    /// Lines behind these: `next` of the page before. It stands for the rows of the first page, whatever else is said.
    #[param(max_length = 1024)]
    #[serde(default, deserialize_with = "at_most::<_, 1024>")]
    after: Option<String>,
    /// Most rows and checkpoints. There are fewer if they are long.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<u16>,
}

/// A line of an export: its `kind` is `start`, `row` or `checkpoint`.
#[derive(Serialize, ToSchema)]
#[schema(value_type = Object)]
pub(crate) struct ExportLine(Box<RawValue>);

/// Where an export is: which rows it has, and where the page before ended. The export goes on if rows are added meanwhile, and
/// without them.
#[derive(Serialize, Deserialize)]
struct Place {
    range: AuditRange,
    after: AuditCursor,
}

impl Place {
    fn read(text: &str) -> Result<Self, ApiRefusal> {
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| no_place())?;
        serde_json::from_slice(&bytes).map_err(|_| no_place())
    }

    fn text(&self) -> Result<String, ApiRefusal> {
        let text = serde_json::to_vec(self).map_err(|_| unexpected())?;
        Ok(URL_SAFE_NO_PAD.encode(text))
    }
}

fn unexpected() -> RegistryError {
    RegistryError::Internal("a part of an export is no JSON")
}

/// Writes the log out, page by page: the lines of `granary admin audit export`, from the oldest on.
///
/// The first line says behind which row it begins; rows follow, each checkpoint behind the last row that it covers. One line
/// for each of them is a file that `granary audit verify --file` takes. Without such rows there are no lines.
#[utoipa::path(
    get,
    path = "/api/v1/audit/export",
    tag = "audit",
    params(ExportQuery),
    responses((status = 200, description = "lines of the export", body = Listed<Vec<ExportLine>>), Refusals)
)]
pub(crate) async fn get_audit_export(
    Permitted(leave): Permitted<Installation>,
    query: web::Query<ExportQuery>,
) -> Result<HttpResponse, ApiRefusal> {
    let query = query.into_inner();
    let limit = checked_limit(query.limit)?;
    let place = match (&query.after, query.whole, query.from, query.through) {
        (Some(after), ..) => Some(Place::read(after)?),
        (None, Some(true), None, None) => Some(beginning(leave.audit_whole().await?)),
        (None, Some(true), ..) => {
            let problem = "the whole log has no first and no last month: leave out from and through, or whole";
            return Err(ApiRefusal::Invalid(problem.to_owned()));
        }
        (None, _, from, through) => leave.audit_range(from, through).await?.map(beginning),
    };
    let Some(Place { range, after }) = place else {
        return Ok(listed(Vec::<ExportLine>::new(), None));
    };
    let page = leave.audit_page(&range, after, limit).await?;
    let lines = page.lines.into_iter();
    let lines = lines.map(|line| RawValue::from_string(line).map(ExportLine));
    let lines: Result<Vec<_>, _> = lines.collect();
    let lines = lines.map_err(|_| unexpected())?;
    let next = page.next.map(|after| Place { range, after }.text());
    Ok(listed(lines, next.transpose()?))
}

fn beginning(range: AuditRange) -> Place {
    let after = range.cursor();
    Place { range, after }
}

/// Names the keys that the log's checkpoints are signed with.
///
/// Keep them elsewhere: whoever verifies an export with them needs not believe this server.
#[utoipa::path(
    get,
    path = "/api/v1/audit/keys",
    tag = "audit",
    responses((status = 200, description = "the public keys", body = Done<AuditKeys>), Refusals)
)]
pub(crate) async fn get_audit_keys(
    Permitted(leave): Permitted<Installation>,
) -> Result<HttpResponse, ApiRefusal> {
    Ok(ok(leave.audit_keys().await?))
}
