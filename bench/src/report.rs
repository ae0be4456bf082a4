//! What a run gave, for machines (JSON) and for people (a few lines).

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::args::{RunArgs, Workload};
use crate::connection::Failure;
use crate::drive::Phase;
use crate::push::Style;

/// Above this share of one core the client, not the server, sets the rate.
const CLIENT_BOUND: f64 = 0.9;
const MEGABYTE: f64 = 1e6;
const GIGABYTE: f64 = 1e9;
/// Operations that move less than this on average have no meaningful cost per byte.
const BULK_BYTES: u64 = 16 * 1024;

#[derive(Serialize)]
pub(crate) struct Summary {
    label: String,
    workload: Workload,
    size: Option<usize>,
    style: Option<Style>,
    connections: usize,
    /// Requests a second of the schedule; absent in a closed loop.
    rate: Option<f64>,
    /// False if the server does not know this kind of request; `reason` says what it answered.
    supported: bool,
    reason: Option<String>,
    /// Only a supported run without any error counts.
    scored: bool,
    figures: Option<Figures>,
}

#[derive(Serialize)]
struct Figures {
    seconds: f64,
    operations: u64,
    bytes: u64,
    ops_per_second: f64,
    megabytes_per_second: f64,
    latency_ms: Option<Latency>,
    closing_put_ms: Option<Latency>,
    server: Option<Server>,
    /// Share of one core that the client used; it never uses more than one.
    client_share: f64,
    client_bound: bool,
    /// Answers compared with their digest during the run, and pushed content read back after it.
    verified: u64,
    read_back: u64,
    unserved: u64,
    errors: u64,
    messages: Vec<String>,
}

#[derive(Serialize)]
struct Latency {
    p50: f64,
    p90: f64,
    p99: f64,
    p999: f64,
    max: f64,
    mean: f64,
}

/// What the server and its child processes used.
#[derive(Serialize)]
struct Server {
    cpu_seconds: f64,
    cpu_ms_per_op: Option<f64>,
    cpu_seconds_per_gb: Option<f64>,
    peak_resident_mb: f64,
}

/// What was read from `/proc` around the measured phase.
pub(crate) struct Usage {
    pub(crate) client_cpu: f64,
    pub(crate) server: Option<ServerUsage>,
    pub(crate) read_back: u64,
}

pub(crate) struct ServerUsage {
    pub(crate) cpu_seconds: f64,
    pub(crate) peak_resident_bytes: u64,
}

impl Summary {
    pub(crate) fn unsupported(args: &RunArgs, workload: Workload, failure: &Failure) -> Self {
        Self {
            supported: false,
            reason: Some(failure.to_string()),
            ..Self::of(args, workload)
        }
    }

    pub(crate) fn measured(
        args: &RunArgs,
        workload: Workload,
        phase: &Phase,
        usage: &Usage,
    ) -> Self {
        Self {
            scored: phase.recording.errors == 0,
            figures: Some(Figures::of(phase, usage)),
            ..Self::of(args, workload)
        }
    }

    fn of(args: &RunArgs, workload: Workload) -> Self {
        Self {
            label: args.label.clone(),
            workload,
            size: args.size,
            style: args.style,
            connections: args.connections,
            rate: args.rate,
            supported: true,
            reason: None,
            scored: false,
            figures: None,
        }
    }

    /// False if something went wrong; a missing feature is not wrong.
    pub(crate) fn is_clean(&self) -> bool {
        self.scored || !self.supported
    }

    /// A few lines for a person.
    #[expect(
        clippy::print_stdout,
        reason = "the report is what the command is run for"
    )]
    pub(crate) fn print(&self) {
        let name = serde_json::to_value(self.workload).unwrap_or_default();
        let name = name.as_str().unwrap_or_default();
        println!("{} {name} c={}", self.label, self.connections);
        if let Some(reason) = &self.reason {
            println!("  no support: {reason}");
        }
        if let Some(figures) = &self.figures {
            for line in figures.lines() {
                println!("  {line}");
            }
        }
    }
}

impl Figures {
    fn of(phase: &Phase, usage: &Usage) -> Self {
        let recording = &phase.recording;
        let seconds = phase.elapsed.as_secs_f64().max(1e-9);
        let client_share = usage.client_cpu / seconds;
        let server = usage.server.as_ref();
        Self {
            seconds,
            operations: recording.operations,
            bytes: recording.bytes,
            ops_per_second: recording.operations as f64 / seconds,
            megabytes_per_second: recording.bytes as f64 / seconds / MEGABYTE,
            latency_ms: Latency::of(&recording.latency),
            closing_put_ms: Latency::of(&recording.closing),
            server: server.map(|used| Server::of(used, recording.operations, recording.bytes)),
            client_share,
            client_bound: client_share > CLIENT_BOUND,
            verified: recording.verified,
            read_back: usage.read_back,
            unserved: recording.unserved,
            errors: recording.errors,
            messages: recording.messages.clone(),
        }
    }

    fn lines(&self) -> Vec<String> {
        let bound = if self.client_bound {
            ", client-bound"
        } else {
            ""
        };
        let mut lines = vec![format!(
            "{:.0} ops/s, {:.1} MB/s ({} operations in {:.2} s; client {:.0} % of a core{bound})",
            self.ops_per_second,
            self.megabytes_per_second,
            self.operations,
            self.seconds,
            self.client_share * 100.0
        )];
        lines.extend(self.latency_ms.as_ref().map(|ms| ms.line("latency")));
        lines.extend(
            self.closing_put_ms
                .as_ref()
                .map(|ms| ms.line("closing PUT")),
        );
        lines.extend(self.server.as_ref().map(Server::line));
        lines.push(format!(
            "checked: {} answers, {} read back",
            self.verified, self.read_back
        ));
        if self.unserved > 0 {
            lines.push(format!(
                "overloaded: {} requests of the schedule were never started",
                self.unserved
            ));
        }
        if self.errors > 0 {
            lines.push(format!(
                "NO SCORE: {} errors, such as: {}",
                self.errors,
                self.messages.join("; ")
            ));
        }
        lines
    }
}

impl Latency {
    fn of(histogram: &Histogram<u64>) -> Option<Self> {
        if histogram.is_empty() {
            return None;
        }
        let at = |quantile| milliseconds(histogram.value_at_quantile(quantile));
        Some(Self {
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            max: milliseconds(histogram.max()),
            mean: histogram.mean() / 1e6,
        })
    }

    fn line(&self, what: &str) -> String {
        format!(
            "{what} ms: p50 {:.3}, p90 {:.3}, p99 {:.3}, p99.9 {:.3}, max {:.3}",
            self.p50, self.p90, self.p99, self.p999, self.max
        )
    }
}

impl Server {
    fn of(used: &ServerUsage, operations: u64, bytes: u64) -> Self {
        let is_bulk = bytes > 0 && bytes / BULK_BYTES >= operations;
        let milliseconds = used.cpu_seconds * 1e3;
        Self {
            cpu_seconds: used.cpu_seconds,
            cpu_ms_per_op: (operations > 0).then(|| milliseconds / operations as f64),
            cpu_seconds_per_gb: is_bulk.then(|| used.cpu_seconds / (bytes as f64 / GIGABYTE)),
            peak_resident_mb: used.peak_resident_bytes as f64 / MEGABYTE,
        }
    }

    fn line(&self) -> String {
        let mut line = format!("server: peak {:.0} MB resident", self.peak_resident_mb);
        if let Some(cost) = self.cpu_ms_per_op {
            line += &format!(", {cost:.3} CPU ms/op");
        }
        if let Some(cost) = self.cpu_seconds_per_gb {
            line += &format!(", {cost:.2} CPU s/GB");
        }
        line
    }
}

fn milliseconds(nanoseconds: u64) -> f64 {
    Duration::from_nanos(nanoseconds).as_secs_f64() * 1e3
}
