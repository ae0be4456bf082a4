//! What the registry itself counts.

use std::fmt;

use granary_blobs::OperationFigures;
use granary_catalog::Connected;
use granary_registry::Registry;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric, NoLabelSet},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
};

/// Counters of the catalog, of garbage collection and of the store.
pub(crate) struct RegistryMetrics(pub(crate) Registry);

impl fmt::Debug for RegistryMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RegistryMetrics")
    }
}

impl Collector for RegistryMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let collected = self.0.collected();
        for (name, help, value) in [
            (
                "granary_catalog_commits",
                "Transactions that became durable",
                self.0.catalog().commits(),
            ),
            (
                "granary_gc_passes",
                "Passes of garbage collection that ended well",
                collected.passes,
            ),
            (
                "granary_gc_failures",
                "Passes of garbage collection that failed",
                collected.failures,
            ),
            (
                "granary_gc_blobs",
                "Blobs removed by garbage collection",
                collected.blobs,
            ),
            (
                "granary_gc_bytes",
                "Bytes of blobs removed by garbage collection",
                collected.bytes,
            ),
            (
                "granary_gc_objects",
                "Objects deleted from the store",
                collected.objects,
            ),
        ] {
            let counter = ConstCounter::new(value);
            counter.encode(encoder.encode_descriptor(name, help, None, MetricType::Counter)?)?;
        }
        if let Some(connections) = self.0.catalog().connections() {
            encode_connections(connections, &mut encoder)?;
        }
        encode_store(&self.0.store_figures(), &mut encoder)
    }
}

fn encode_connections(
    connections: Connected,
    encoder: &mut DescriptorEncoder<'_>,
) -> Result<(), fmt::Error> {
    for (name, help, value) in [
        (
            "granary_catalog_write_connections_in_use",
            "Connections to PostgreSQL that changes hold",
            connections.in_use,
        ),
        (
            "granary_catalog_write_connections_max",
            "Connections to PostgreSQL that changes may hold",
            connections.most,
        ),
        (
            "granary_catalog_writes_waiting",
            "Changes that wait for a connection to PostgreSQL",
            connections.waiting,
        ),
    ] {
        let gauge = ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
        gauge.encode(encoder.encode_descriptor(name, help, None, MetricType::Gauge)?)?;
    }
    Ok(())
}

fn encode_store(
    figures: &[OperationFigures],
    encoder: &mut DescriptorEncoder<'_>,
) -> Result<(), fmt::Error> {
    let mut requests = encoder.encode_descriptor(
        "granary_store_requests",
        "Requests to the disk or server that holds the blobs, with all their tries",
        None,
        MetricType::Counter,
    )?;
    for one in figures {
        for (outcome, count) in one.outcomes {
            let labels = [("operation", one.operation), ("outcome", outcome)];
            ConstCounter::new(count).encode(requests.encode_family(&labels)?)?;
        }
    }
    let mut retries = encoder.encode_descriptor(
        "granary_store_retries",
        "Tries at such requests beyond the first",
        None,
        MetricType::Counter,
    )?;
    for one in figures {
        let labels = [("operation", one.operation)];
        ConstCounter::new(one.retries).encode(retries.encode_family(&labels)?)?;
    }
    let mut durations = encoder.encode_descriptor(
        "granary_store_request_duration_seconds",
        "Time that such requests took, with all their tries",
        None,
        MetricType::Histogram,
    )?;
    for one in figures {
        let labels = [("operation", one.operation)];
        let count = one.buckets.iter().map(|(_, count)| count).sum();
        let mut family = durations.encode_family(&labels)?;
        family.encode_histogram::<NoLabelSet>(one.seconds, count, &one.buckets, None)?;
    }
    Ok(())
}
