//! What the system knows about this process, read when somebody asks.

use std::{fmt, fs};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
};

/// The usual `process_*` metrics, where `/proc` has them.
#[derive(Debug)]
pub(crate) struct ProcessMetrics;

/// Linux counts a process's time in hundredths of a second wherever it runs in user space.
const TICKS_PER_SECOND: f64 = 100.0;

#[derive(Debug, PartialEq)]
struct Stat {
    cpu_seconds: f64,
    /// Since the machine started.
    started_seconds: f64,
    virtual_bytes: u64,
    threads: u64,
}

impl Stat {
    /// Parses `/proc/self/stat`. The second field is the program's name in parentheses and may
    /// hold anything, so counting starts behind the last parenthesis, at field 3.
    fn parse(text: &str) -> Option<Self> {
        let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
        let number = |field: usize| fields.get(field - 3)?.parse::<u64>().ok();
        #[expect(
            clippy::cast_precision_loss,
            reason = "a count of ticks stays far below 2^52"
        )]
        let seconds = |field: usize| Some(number(field)? as f64 / TICKS_PER_SECOND);
        Some(Self {
            cpu_seconds: seconds(14)? + seconds(15)?,
            started_seconds: seconds(22)?,
            virtual_bytes: number(23)?,
            threads: number(20)?,
        })
    }
}

/// The number behind a label in files such as `/proc/self/status` and `/proc/stat`.
fn labelled(text: &str, label: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(label))?;
    line.split_whitespace().next()?.parse().ok()
}

impl Collector for ProcessMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        if let Some(stat) = Stat::parse(&read("/proc/self/stat")) {
            let cpu = encoder.encode_descriptor(
                "process_cpu_seconds",
                "Processor time used",
                None,
                MetricType::Counter,
            )?;
            ConstCounter::new(stat.cpu_seconds).encode(cpu)?;
            if let Some(boot) = labelled(&read("/proc/stat"), "btime") {
                #[expect(
                    clippy::cast_precision_loss,
                    reason = "seconds since 1970 stay far below 2^52"
                )]
                let start = boot as f64 + stat.started_seconds;
                gauge(
                    &mut encoder,
                    "process_start_time_seconds",
                    "Start, since 1970",
                    start,
                )?;
            }
            whole(
                &mut encoder,
                "process_virtual_memory_bytes",
                "Address space in use",
                stat.virtual_bytes,
            )?;
            whole(&mut encoder, "process_threads", "Threads", stat.threads)?;
        }
        if let Some(kilobytes) = labelled(&read("/proc/self/status"), "VmRSS:") {
            whole(
                &mut encoder,
                "process_resident_memory_bytes",
                "Memory in use",
                kilobytes * 1024,
            )?;
        }
        if let Ok(open) = fs::read_dir("/proc/self/fd") {
            // The folder being read is one of them.
            let count = open.count().saturating_sub(1);
            whole(
                &mut encoder,
                "process_open_fds",
                "Open files and sockets",
                count as u64,
            )?;
        }
        if let Some(limit) = labelled(&read("/proc/self/limits"), "Max open files") {
            whole(
                &mut encoder,
                "process_max_fds",
                "Most files and sockets that may be open",
                limit,
            )?;
        }
        Ok(())
    }
}

fn whole(encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: u64) -> fmt::Result {
    let gauge = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
    ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX)).encode(gauge)
}

fn gauge(encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: f64) -> fmt::Result {
    let gauge = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
    ConstGauge::new(value).encode(gauge)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_does_not_shift_the_fields() {
        let text = "42 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 250 150 13 14 15 16 7 18 1000 4096 99";
        let stat = Stat {
            cpu_seconds: 4.0,
            started_seconds: 10.0,
            virtual_bytes: 4096,
            threads: 7,
        };
        assert_eq!(Stat::parse(text), Some(stat));
        assert_eq!(Stat::parse(""), None);
    }

    #[test]
    fn numbers_are_found_by_their_label() {
        assert_eq!(
            labelled("Name:\tx\nVmRSS:\t  1234 kB\n", "VmRSS:"),
            Some(1234)
        );
        assert_eq!(labelled("Name:\tx\n", "VmRSS:"), None);
    }
}
