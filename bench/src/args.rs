//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use serde::Serialize;

use crate::push::Style;
use crate::seed::BlobSet;

/// Load generator for OCI registries.
#[derive(Parser)]
#[command(name = "granary-bench", version)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Fill a registry, or a folder for a static file server, with what the read workloads ask for.
    Seed(Box<SeedArgs>),
    /// Run workloads and report rates, latencies and what they cost the server.
    Run(Box<RunArgs>),
    /// Measure what a decision costs, in a registry that this process makes in a folder.
    Decide(DecideArgs),
}

#[derive(Args)]
pub(crate) struct DecideArgs {
    /// An empty folder for the registry.
    #[arg(long)]
    pub(crate) folder: PathBuf,
    /// Teams that the principal is in.
    #[arg(long, default_value_t = 1000)]
    pub(crate) teams: usize,
    /// Grants to these teams.
    #[arg(long, default_value_t = 10_000)]
    pub(crate) grants: usize,
    /// Repositories that the grants are for.
    #[arg(long, default_value_t = 10_000)]
    pub(crate) repositories: usize,
    /// Decisions to measure.
    #[arg(long, default_value_t = 200_000)]
    pub(crate) decisions: usize,
}

#[derive(Args)]
pub(crate) struct SeedArgs {
    /// The registry, as http://HOST:PORT.
    #[arg(long, required_unless_present = "folder")]
    pub(crate) url: Option<String>,
    /// Write files under this folder instead of pushing.
    #[arg(long, conflicts_with = "url")]
    pub(crate) folder: Option<PathBuf>,
    /// A header line of every request, such as "Authorization: Basic …"; may be repeated.
    #[arg(long)]
    pub(crate) header: Vec<String>,
    #[arg(long, default_value = "bench/s")]
    pub(crate) repository: String,
    /// Tags of the repository, each an image of its own.
    #[arg(long, default_value_t = 10)]
    pub(crate) tags: u64,
    /// Bare blobs as SIZE:COUNT, such as 64KiB:16; may be repeated.
    #[arg(long)]
    pub(crate) blobs: Vec<BlobSet>,
    /// Images with referrers, in REPOSITORY-referrers.
    #[arg(long, default_value_t = 0)]
    pub(crate) subjects: u64,
    /// Referrers of each such image.
    #[arg(long, default_value_t = 3)]
    pub(crate) referrers: usize,
    /// Further repositories with one tag each, for the catalog.
    #[arg(long, default_value_t = 0)]
    pub(crate) repositories: u64,
    #[arg(short, long, default_value_t = 8)]
    pub(crate) connections: usize,
    /// Where to write down what was seeded.
    #[arg(long)]
    pub(crate) state: PathBuf,
}

/// What a run asks the server for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Workload {
    /// GET /v2/
    Ping,
    /// GET of a manifest by a random tag.
    ManifestGetTag,
    /// HEAD of a manifest by a random tag.
    ManifestHeadTag,
    /// GET of a random blob of --size.
    BlobGet,
    /// HEAD of a random blob, of --size if given.
    BlobHead,
    /// GET of 64 KiB at a random place in a blob of --size (100 MiB).
    BlobRange,
    /// Push of blobs that no one has pushed before, of --size (4 KiB).
    PushBlob,
    /// Push of one blob again and again, of --size (1 MiB).
    PushDuplicate,
    /// Push of unique blobs of --size (100 MiB) in chunks of --chunk.
    PushChunked,
    /// PUT of new manifests under new tags, in a repository of this run.
    ManifestPut,
    /// A page of 100 tags from the middle of the list, or behind --last.
    TagsList,
    /// The first 100 repositories, or the first behind --last.
    Catalog,
    /// The referrers of a random image that has some.
    Referrers,
}

#[derive(Args)]
pub(crate) struct RunArgs {
    /// The registry, as http://HOST:PORT.
    #[arg(long)]
    pub(crate) url: String,
    /// What to run, in this order; comma-separated.
    #[arg(long, value_enum, value_delimiter = ',', required = true)]
    pub(crate) workload: Vec<Workload>,
    /// What `seed --state` wrote; the workloads that read need it.
    #[arg(long)]
    pub(crate) state: Option<PathBuf>,
    /// A header line of every request, such as "Authorization: Basic …"; may be repeated.
    #[arg(long)]
    pub(crate) header: Vec<String>,
    /// Where blobs are pushed; manifest-put adds a suffix of its own.
    #[arg(long, default_value = "bench/push")]
    pub(crate) repository: String,
    /// Size of the blobs, such as 64KiB.
    #[arg(long, value_parser = parse_size)]
    pub(crate) size: Option<usize>,
    /// How blobs are pushed.
    #[arg(long, value_enum)]
    pub(crate) style: Option<Style>,
    /// Size of the chunks of a chunked push.
    #[arg(long, default_value = "5MiB", value_parser = parse_size)]
    pub(crate) chunk: usize,
    /// List the full page behind this name (tags-list, catalog).
    #[arg(long)]
    pub(crate) last: Option<String>,
    /// Connections, each with one request at a time.
    #[arg(short, long, default_value_t = 16)]
    pub(crate) connections: usize,
    /// Requests a second, started on schedule whether earlier ones are answered or not (open loop); without it as fast as possible.
    #[arg(long, value_parser = parse_rate)]
    pub(crate) rate: Option<f64>,
    /// How long to measure, in seconds.
    #[arg(long, default_value = "3", value_parser = parse_seconds)]
    pub(crate) seconds: Duration,
    /// Stop after so many operations instead.
    #[arg(long, conflicts_with = "seconds")]
    pub(crate) count: Option<u64>,
    /// How long to run before measuring, in seconds; nothing with --count.
    #[arg(long, default_value = "0.3", value_parser = parse_seconds)]
    pub(crate) warmup: Duration,
    /// An operation that takes longer has failed, in seconds.
    #[arg(long, default_value = "60", value_parser = parse_seconds)]
    pub(crate) timeout: Duration,
    /// The share of answers whose content is checked by its digest.
    #[arg(long, default_value_t = 0.01)]
    pub(crate) verify: f64,
    /// The server's process id: its CPU time and memory are reported.
    #[arg(long)]
    pub(crate) server_pid: Option<u32>,
    /// A name for the server in the report.
    #[arg(long, default_value = "")]
    pub(crate) label: String,
    /// Write the results as JSON to this file.
    #[arg(long)]
    pub(crate) json: Option<PathBuf>,
}

/// A number of bytes with an optional unit: `4096`, `64KiB`, `100MiB`, `1GiB`.
pub(crate) fn parse_size(text: &str) -> Result<usize, String> {
    let digits = text.trim_end_matches(|letter: char| !letter.is_ascii_digit());
    let unit = match &text[digits.len()..] {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        other => return Err(format!("{other}: is no unit; use B, KiB, MiB or GiB")),
    };
    let number: usize = digits
        .parse()
        .map_err(|_| format!("{text}: is no size; write it like 64KiB"))?;
    number
        .checked_mul(unit)
        .filter(|size| *size > 0)
        .ok_or_else(|| format!("{text}: is out of range"))
}

fn parse_seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text
        .parse()
        .map_err(|_| format!("{text}: is no number of seconds"))?;
    Duration::try_from_secs_f64(seconds).map_err(|error| format!("{text}: {error}"))
}

fn parse_rate(text: &str) -> Result<f64, String> {
    text.parse()
        .ok()
        .filter(|rate: &f64| rate.is_finite() && *rate > 0.0)
        .ok_or_else(|| format!("{text}: is no positive number of requests a second"))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn sizes_have_binary_units() {
        assert_eq!(parse_size("4096"), Ok(4096));
        assert_eq!(parse_size("64KiB"), Ok(65_536));
        assert_eq!(parse_size("100MiB"), Ok(104_857_600));
        for bad in ["", "KiB", "1kB", "0", "-1", "99999999999GiB"] {
            assert!(parse_size(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn seconds_and_rates_are_numbers_that_make_sense() {
        assert_eq!(parse_seconds("0.5"), Ok(Duration::from_millis(500)));
        assert!(parse_seconds("-1").is_err());
        assert!(parse_rate("0").is_err());
        assert!(parse_rate("inf").is_err());
    }

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
