//! Load generator for OCI registries: measures Granary and its peers with the same requests, and what they cost the server.
//!
//! It runs on one thread, so that it takes one core at most and the rest of the machine stays the server's.

mod args;
mod connection;
mod content;
mod decide;
mod drive;
mod image;
mod procstat;
mod push;
mod report;
mod response;
mod seed;
mod target;
mod worker;
mod workload;

use std::fs;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use clap::Parser as _;

use crate::args::{Cli, Command, RunArgs, SeedArgs, Workload};
use crate::drive::{Limit, Phase, run_phase};
use crate::report::{ServerUsage, Summary, Usage};
use crate::seed::{Destination, Seeded, Shape};
use crate::target::Target;
use crate::worker::Worker;

#[expect(clippy::print_stderr, reason = "where a command says why it failed")]
fn main() -> ExitCode {
    execute(Cli::parse()).unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}

fn execute(cli: Cli) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        match cli.command {
            Command::Seed(args) => seed(*args).await,
            Command::Run(args) => run_all(&args).await,
            Command::Decide(args) => decide::decide(&args).await,
        }
    })
}

async fn seed(args: SeedArgs) -> anyhow::Result<ExitCode> {
    let destination = match (&args.url, &args.folder) {
        (Some(url), _) => Destination::Registry(Arc::new(Target::parse(url, &args.header)?)),
        (None, Some(folder)) => Destination::Folder(folder.clone()),
        (None, None) => bail!("give --url or --folder"),
    };
    let shape = Shape {
        repository: args.repository,
        tags: args.tags,
        blobs: args.blobs,
        subjects: args.subjects,
        referrers: args.referrers,
        repositories: args.repositories,
    };
    let seeded = seed::seed(shape, destination, args.connections).await?;
    seeded.write(&args.state)?;
    Ok(ExitCode::SUCCESS)
}

async fn run_all(args: &RunArgs) -> anyhow::Result<ExitCode> {
    let target = Arc::new(Target::parse(&args.url, &args.header)?);
    let seeded = match &args.state {
        Some(path) => Seeded::read(path)?,
        None => Seeded::default(),
    };
    let mut summaries = Vec::new();
    for workload in &args.workload {
        let summary = run(*workload, args, &target, &seeded).await?;
        summary.print();
        summaries.push(summary);
    }
    if let Some(path) = &args.json {
        let text = serde_json::to_string_pretty(&summaries)?;
        fs::write(path, text).with_context(|| format!("{}: cannot be written", path.display()))?;
    }
    let clean = summaries.iter().all(Summary::is_clean);
    Ok(if clean {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

async fn run(
    workload: Workload,
    args: &RunArgs,
    target: &Arc<Target>,
    seeded: &Seeded,
) -> anyhow::Result<Summary> {
    let plan = Arc::new(workload::plan(workload, args, target, seeded)?);
    let connections = args.connections.max(1);
    let mut workers: Vec<Worker> = (0..connections)
        .map(|_| Worker::new(&plan, target, args.verify))
        .collect();
    if let Err(failure) = workers[0].try_once().await {
        if failure.means_no_support() {
            return Ok(Summary::unsupported(args, workload, &failure));
        }
        return Err(failure).context("the first request failed, nothing was measured");
    }
    let workers = warm_up(workers, args).await?;
    let (mut phase, usage) = measure(workers, args).await?;
    let usage = read_back(&mut phase, usage).await;
    Ok(Summary::measured(args, workload, &phase, &usage))
}

/// Opens the connections and fills the caches before the clock starts.
async fn warm_up(workers: Vec<Worker>, args: &RunArgs) -> anyhow::Result<Vec<Worker>> {
    if args.count.is_some() || args.warmup.is_zero() {
        return Ok(workers);
    }
    let limit = Limit {
        duration: Some(args.warmup),
        count: None,
    };
    let phase = run_phase(workers, args.rate, limit, args.timeout).await?;
    Ok(phase.workers)
}

async fn measure(workers: Vec<Worker>, args: &RunArgs) -> anyhow::Result<(Phase, Usage)> {
    let limit = Limit {
        duration: args.count.is_none().then_some(args.seconds),
        count: args.count,
    };
    let own = std::process::id();
    if let Some(server) = args.server_pid {
        // Without the right to reset it, the peak since the server's start is reported.
        let _ = procstat::reset_peak(server);
    }
    let server_before = args.server_pid.map(procstat::cpu_seconds).transpose()?;
    let client_before = procstat::cpu_seconds(own)?;
    let phase = run_phase(workers, args.rate, limit, args.timeout).await?;
    let client_cpu = procstat::cpu_seconds(own)? - client_before;
    let mut server = None;
    if let (Some(pid), Some(before)) = (args.server_pid, server_before) {
        server = Some(ServerUsage {
            cpu_seconds: procstat::cpu_seconds(pid)? - before,
            peak_resident_bytes: procstat::peak_resident_bytes(pid)?,
        });
    }
    let usage = Usage {
        client_cpu,
        server,
        read_back: 0,
    };
    Ok((phase, usage))
}

/// Reads a share of what was pushed, outside the measured time; what is not there counts as an error of the run.
async fn read_back(phase: &mut Phase, mut usage: Usage) -> Usage {
    for worker in &mut phase.workers {
        match worker.read_back().await {
            Ok(count) => usage.read_back += count,
            Err(failure) => phase.recording.note_failure(&failure),
        }
    }
    usage
}
