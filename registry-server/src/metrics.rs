//! What the server counts, in Prometheus' text form and under OpenTelemetry's names.
//!
//! A request costs a few atomic operations: each worker keeps the [`Series`] it has used, so that
//! the shared table and its lock are touched once per worker, method, route and status.

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicI64, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use actix_web::http::{Method, StatusCode};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder, NoLabelSet},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
    registry::Registry,
};

use crate::process::ProcessMetrics;

/// The bounds OpenTelemetry advises for `http.server.request.duration`, in seconds.
const BOUNDS: [f64; 14] = [
    0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0,
];

/// The media type of [`Metrics::render`].
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Everything the server counts.
#[derive(Debug)]
pub struct Metrics {
    registry: Mutex<Registry>,
    http: Arc<HttpMetrics>,
}

#[derive(Debug, Default)]
struct HttpMetrics {
    active: AtomicI64,
    series: Mutex<HashMap<Labels, Arc<Series>>>,
}

type Labels = (&'static str, &'static str, u16);

/// The counts of one method, route and status.
#[derive(Debug, Default)]
pub struct Series {
    /// One more than bounds, for what is slower than all of them.
    buckets: [AtomicU64; BOUNDS.len() + 1],
    micros: AtomicU64,
    received: AtomicU64,
    sent: AtomicU64,
}

impl Series {
    /// Counts one request that took this long and moved so many bytes of bodies.
    pub fn record(&self, took: Duration, received: u64, sent: u64) {
        let seconds = took.as_secs_f64();
        let bucket = BOUNDS
            .iter()
            .position(|bound| seconds <= *bound)
            .unwrap_or(BOUNDS.len());
        self.buckets[bucket].fetch_add(1, Relaxed);
        self.micros
            .fetch_add(u64::try_from(took.as_micros()).unwrap_or(u64::MAX), Relaxed);
        if received > 0 {
            self.received.fetch_add(received, Relaxed);
        }
        if sent > 0 {
            self.sent.fetch_add(sent, Relaxed);
        }
    }
}

impl Metrics {
    /// Empty metrics, with those of HTTP and of the process registered.
    pub fn new() -> Self {
        let mut registry = Registry::default();
        let http = Arc::new(HttpMetrics::default());
        registry.register_collector(Box::new(Arc::clone(&http)));
        registry.register_collector(Box::new(ProcessMetrics));
        Self {
            registry: Mutex::new(registry),
            http,
        }
    }

    /// Registers further metrics: `metrics.register(|registry| registry.register(...))`.
    pub fn register<R>(&self, with: impl FnOnce(&mut Registry) -> R) -> R {
        with(&mut self.registry.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// All metrics as text.
    pub fn render(&self) -> Result<String, fmt::Error> {
        let registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        let mut text = String::with_capacity(16 * 1024);
        prometheus_client::encoding::text::encode(&mut text, &registry)?;
        Ok(text)
    }

    /// The requests that run now.
    pub fn active_requests(&self) -> i64 {
        self.http.active.load(Relaxed)
    }

    pub(crate) fn request_started(&self) {
        self.http.active.fetch_add(1, Relaxed);
    }

    pub(crate) fn request_ended(&self) {
        self.http.active.fetch_sub(1, Relaxed);
    }

    fn series(&self, labels: Labels) -> Arc<Series> {
        let mut series = self
            .http
            .series
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        Arc::clone(series.entry(labels).or_default())
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

/// One worker's way to the series it has used before: a few dozen, the busiest in front.
#[derive(Debug, Default)]
pub struct SeriesCache(Vec<(Labels, Arc<Series>)>);

impl SeriesCache {
    /// The series of a method, a route's template and a status.
    pub fn get(
        &mut self,
        metrics: &Metrics,
        method: &Method,
        route: &'static str,
        status: StatusCode,
    ) -> &Series {
        let labels = (method_label(method), route, status.as_u16());
        // By address: labels are literals, and comparing their text is what this cache saves.
        let same = |known: &Labels| {
            std::ptr::eq(known.0, labels.0) && std::ptr::eq(known.1, route) && known.2 == labels.2
        };
        let place = self
            .0
            .iter()
            .position(|(known, _)| same(known))
            .unwrap_or_else(|| {
                self.0.push((labels, metrics.series(labels)));
                self.0.len() - 1
            });
        let front = place / 2;
        self.0.swap(place, front);
        &self.0[front].1
    }
}

/// The method as a label; clients cannot invent labels.
pub(crate) fn method_label(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => "_OTHER",
    }
}

impl Collector for HttpMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let series = self.series.lock().unwrap_or_else(PoisonError::into_inner);
        let active = ConstGauge::new(self.active.load(Relaxed));
        let gauge = encoder.encode_descriptor(
            "http_server_active_requests",
            "Requests that are being answered",
            None,
            MetricType::Gauge,
        )?;
        active.encode(gauge)?;
        let mut durations = encoder.encode_descriptor(
            "http_server_request_duration_seconds",
            "Time from a request's head to the last byte of its answer",
            None,
            MetricType::Histogram,
        )?;
        each(&series, |labels, series| {
            encode_duration(series, durations.encode_family(labels)?)
        })?;
        let mut received = encoder.encode_descriptor(
            "http_server_request_body_bytes",
            "Bytes of request bodies, as announced by Content-Length",
            None,
            MetricType::Counter,
        )?;
        each(&series, |labels, series| {
            ConstCounter::new(series.received.load(Relaxed)).encode(received.encode_family(labels)?)
        })?;
        let mut sent = encoder.encode_descriptor(
            "http_server_response_body_bytes",
            "Bytes of response bodies",
            None,
            MetricType::Counter,
        )?;
        each(&series, |labels, series| {
            ConstCounter::new(series.sent.load(Relaxed)).encode(sent.encode_family(labels)?)
        })
    }
}

type LabelSet = [(&'static str, String); 3];

fn each(
    series: &HashMap<Labels, Arc<Series>>,
    mut encode: impl FnMut(&LabelSet, &Series) -> fmt::Result,
) -> fmt::Result {
    for ((method, route, status), series) in series {
        let labels = [
            ("http_request_method", (*method).to_owned()),
            ("http_route", (*route).to_owned()),
            ("http_response_status_code", status.to_string()),
        ];
        encode(&labels, series)?;
    }
    Ok(())
}

fn encode_duration(series: &Series, mut encoder: MetricEncoder<'_>) -> fmt::Result {
    let bounds = BOUNDS.iter().copied().chain([f64::INFINITY]);
    let buckets: Vec<(f64, u64)> = bounds
        .zip(&series.buckets)
        .map(|(bound, count)| (bound, count.load(Relaxed)))
        .collect();
    let count = buckets.iter().map(|(_, count)| count).sum();
    let seconds = Duration::from_micros(series.micros.load(Relaxed)).as_secs_f64();
    encoder.encode_histogram::<NoLabelSet>(seconds, count, &buckets, None)
}
