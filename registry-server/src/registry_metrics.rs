//! What the registry itself counts.

use std::fmt;

use granary_registry::Registry;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{MetricType, counter::ConstCounter},
};

/// Counters of the catalog and of garbage collection.
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
        Ok(())
    }
}
