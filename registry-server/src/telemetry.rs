//! Logs and traces: set up once at the start, flushed at the end.
//!
//! Every log line that is written while a request is worked on carries its id (see
//! [`crate::edge::current_request_id`]). Spans exist for traces only; without
//! `[telemetry] otlp_endpoint` none is ever made.

use std::{
    fmt,
    io::{self, IsTerminal},
    time::Duration,
};

use opentelemetry::trace::TracerProvider;
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig};
use opentelemetry_sdk::{Resource, propagation::TraceContextPropagator, trace::SdkTracerProvider};
use serde_json::{Map, Value};
use tracing::{
    Event, Level, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{
    EnvFilter, Layer, Registry,
    filter::Targets,
    fmt::{
        FmtContext, FormatEvent, FormatFields,
        format::{Format, Writer},
        time::{FormatTime, SystemTime},
    },
    layer::SubscriberExt,
    registry::LookupSpan,
    util::SubscriberInitExt,
};

use crate::{
    config::{LogConfig, LogFormat, TelemetryConfig},
    edge::{REQUEST_TARGET, current_request_id},
};

/// How long the last traces may take to leave.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(5);

/// What cannot be set up.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TelemetryError {
    /// The exporter of traces.
    #[error("traces cannot be exported")]
    Exporter(#[from] opentelemetry_otlp::ExporterBuildError),
    /// Logs were set up before.
    #[error("logs are set up already")]
    Logs(#[from] tracing_subscriber::util::TryInitError),
}

/// The running telemetry; keep it until the end and then call [`Telemetry::shutdown`].
#[derive(Debug)]
#[must_use = "traces are flushed by `shutdown`"]
pub struct Telemetry {
    traces: Option<SdkTracerProvider>,
}

impl Telemetry {
    /// Starts logging to standard error, and exporting traces when an endpoint is configured.
    pub fn start(log: &LogConfig, telemetry: &TelemetryConfig) -> Result<Self, TelemetryError> {
        let traces = match &telemetry.otlp_endpoint {
            Some(endpoint) => Some(provider(&endpoint.expose())?),
            None => None,
        };
        tracing_subscriber::registry()
            .with(layers(log, traces.as_ref()))
            .try_init()?;
        Ok(Self { traces })
    }

    /// Sends the traces that wait. Blocks, so call it after the runtime has ended.
    pub fn shutdown(self) {
        if let Some(Err(error)) = self
            .traces
            .map(|traces| traces.shutdown_with_timeout(FLUSH_TIMEOUT))
        {
            tracing::warn!(%error, "the last traces were not delivered");
        }
    }
}

fn provider(endpoint: &str) -> Result<SdkTracerProvider, TelemetryError> {
    let endpoint = endpoint.trim_end_matches('/');
    let endpoint = endpoint.strip_suffix("/v1/traces").unwrap_or(endpoint);
    // What sends them takes the process's provider of cryptography, and there is none by itself.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let exporter = SpanExporter::builder()
        .with_http()
        .with_protocol(Protocol::HttpBinary)
        .with_endpoint(format!("{endpoint}/v1/traces"))
        .build()?;
    let resource = Resource::builder().with_service_name("granary").build();
    Ok(SdkTracerProvider::builder()
        .with_resource(resource)
        .with_batch_exporter(exporter)
        .build())
}

pub(crate) type BoxedLayer = Box<dyn Layer<Registry> + Send + Sync>;

/// What listens to events and spans. Each has a filter of its own; one without, and be it a `None`,
/// would switch every span and event on for all of them.
pub(crate) fn layers(log: &LogConfig, traces: Option<&SdkTracerProvider>) -> Vec<BoxedLayer> {
    let mut layers = vec![lines(log)];
    if let Some(provider) = traces {
        opentelemetry::global::set_text_map_propagator(TraceContextPropagator::new());
        let ours = Targets::new()
            .with_target("granary", Level::INFO)
            .with_target("registry_server", Level::INFO);
        let tracer = provider.tracer("granary");
        layers.push(
            tracing_opentelemetry::layer()
                .with_location(false)
                .with_threads(false)
                .with_target(false)
                .with_tracked_inactivity(false)
                .with_tracer(tracer)
                .with_filter(ours)
                .boxed(),
        );
    }
    layers
}

/// The layer that writes log lines.
fn lines(log: &LogConfig) -> BoxedLayer {
    // The request's span is for traces; its own line says the same. What actix says of malformed
    // requests is no error of ours. What the user names more exactly wins.
    let filter = format!(
        "{REQUEST_TARGET}=off,actix_http=off,actix_server=warn,sea_orm_migration=warn,sqlx=warn,opentelemetry=warn,{}",
        log.level
    );
    let filter = EnvFilter::builder().parse_lossy(filter);
    let ansi = io::stderr().is_terminal();
    let layer = tracing_subscriber::fmt::layer()
        .with_writer(io::stderr)
        .with_ansi(ansi);
    match log.format {
        LogFormat::Text => layer
            .event_format(Text(Format::default().with_ansi(ansi)))
            .with_filter(filter)
            .boxed(),
        LogFormat::Json => layer.event_format(Json).with_filter(filter).boxed(),
    }
}

/// The usual line for people, with the request's id at its end.
struct Text(Format);

impl<S, N> FormatEvent<S, N> for Text
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let Some(id) = current_request_id() else {
            return self.0.format_event(context, writer, event);
        };
        let mut line = String::with_capacity(256);
        self.0
            .format_event(context, Writer::new(&mut line), event)?;
        writeln!(writer, "{} request_id={id}", line.trim_end_matches('\n'))
    }
}

/// One flat JSON object a line.
struct Json;

impl<S, N> FormatEvent<S, N> for Json
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut time = String::with_capacity(32);
        SystemTime.format_time(&mut Writer::new(&mut time))?;
        let mut fields = Fields(Map::new());
        fields.0.insert("timestamp".to_owned(), time.into());
        fields
            .0
            .insert("level".to_owned(), event.metadata().level().as_str().into());
        fields
            .0
            .insert("target".to_owned(), event.metadata().target().into());
        event.record(&mut fields);
        if let Some(id) = current_request_id() {
            fields.0.insert("request_id".to_owned(), id.as_str().into());
        }
        writeln!(writer, "{}", Value::Object(fields.0))
    }
}

struct Fields(Map<String, Value>);

impl Fields {
    fn set(&mut self, field: &Field, value: impl Into<Value>) {
        self.0.insert(field.name().to_owned(), value.into());
    }
}

impl Visit for Fields {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.set(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.set(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.set(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.set(field, value);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.set(field, value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.set(field, format!("{value:?}"));
    }
}

#[cfg(test)]
mod tests;
