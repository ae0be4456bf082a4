//! `granary admin audit`: what happened, and the proof that nobody changed what is said of it.

use std::{path::PathBuf, time::Duration};

use clap::{Args, Subcommand};
use granary_registry::{LastRow, Month};

use super::ConfigArgs;

/// `granary admin audit`
#[derive(Debug, Subcommand)]
pub enum AuditCommand {
    /// Compare the whole audit log with its chain and its signed checkpoints. Ends with 1 if anything is wrong.
    Verify(AuditVerifyArgs),
    /// Write the audit log out as lines of JSON, and remove what was written out if asked to.
    Export(AuditExportArgs),
    /// List what happened, newest first.
    List(AuditListArgs),
}

/// `granary admin audit verify`
#[derive(Debug, Args)]
pub struct AuditVerifyArgs {
    /// A row that an earlier verification printed and that you kept elsewhere: finds out whether rows behind the last
    /// checkpoint were removed together with it.
    #[arg(long, value_name = "NUMBER:CHAIN")]
    pub last: Option<LastRow>,
    /// Verify an export instead of the log.
    #[arg(long, value_name = "FILE", requires = "keys")]
    pub file: Option<PathBuf>,
    /// The keys that may have signed the export: the 'keys' of what this command prints as JSON about the log.
    #[arg(long, value_name = "FILE", requires = "file")]
    pub keys: Option<PathBuf>,
    /// Where the configuration comes from.
    #[command(flatten)]
    pub config: ConfigArgs,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// `granary admin audit export`
#[derive(Debug, Args)]
pub struct AuditExportArgs {
    /// The file, which must not be there yet; standard output if it is not named.
    #[arg(long, value_name = "FILE")]
    pub to: Option<PathBuf>,
    /// The first month.
    #[arg(long, value_name = "YYYY-MM", conflicts_with = "delete")]
    pub from: Option<Month>,
    /// The last month.
    #[arg(long, value_name = "YYYY-MM")]
    pub through: Option<Month>,
    /// Remove from the database what is in the file then, as far as it was signed.
    #[arg(long, requires = "to")]
    pub delete: bool,
    /// Where the configuration comes from.
    #[command(flatten)]
    pub config: ConfigArgs,
}

/// `granary admin audit list`
#[derive(Debug, Args)]
pub struct AuditListArgs {
    /// What this user did.
    #[arg(long, value_name = "NAME")]
    pub actor: Option<String>,
    /// What is about this, such as a repository.
    #[arg(long, value_name = "TARGET")]
    pub target: Option<String>,
    /// What is of this kind, such as token.create.
    #[arg(long, value_name = "ACTION")]
    pub action: Option<String>,
    /// What was denied.
    #[arg(long)]
    pub denied: bool,
    /// What happened since: a day such as 2026-11-01 (UTC), a time such as 2026-11-01T00:00:00Z, or how long ago, such as 7d.
    #[arg(long, value_name = "DAY|TIME|DURATION", value_parser = since)]
    pub since: Option<Since>,
    /// Most lines, up to 10000.
    #[arg(long, value_name = "NUMBER", default_value_t = 50, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    pub limit: u64,
    /// Where the configuration comes from.
    #[command(flatten)]
    pub config: ConfigArgs,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// From when on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Since {
    /// A time, in microseconds since 1970.
    At(i64),
    /// So long before now.
    Ago(Duration),
}

/// A time, a day, or how long ago.
pub(super) fn since(text: &str) -> Result<Since, String> {
    if let Ok(time) = text.parse::<jiff::Timestamp>() {
        return Ok(Since::At(time.as_microsecond()));
    }
    // A day begins everywhere where it begins at Greenwich, as in the log.
    let day = text.parse::<jiff::civil::Date>().ok();
    if let Some(Ok(day)) = day.map(|day| day.to_zoned(jiff::tz::TimeZone::UTC)) {
        return Ok(Since::At(day.timestamp().as_microsecond()));
    }
    humantime::parse_duration(text)
        .map(Since::Ago)
        .map_err(|_| {
            "write a day such as 2026-11-01, a time such as 2026-11-01T00:00:00Z, or how long ago, such as 7d"
                .to_owned()
        })
}
