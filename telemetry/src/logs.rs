//! Logs and spans: configuration → subscriber → [`Guard`].
//!
//! Text on a terminal and JSON elsewhere, filtered by `RUST_LOG`. Spans also go to an OpenTelemetry collector
//! over OTLP/gRPC when an endpoint is given; sampling follows the standard `OTEL_TRACES_SAMPLER`.

use std::io::IsTerminal as _;
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_otlp::{SpanExporter, WithExportConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer, Registry};

use crate::build_info;

/// What is logged when `RUST_LOG` says nothing.
const DEFAULT_FILTER: &str = "info";
/// Longest wait for one export, and for the last spans when the program ends.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(3);

/// How log lines look.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// Text when standard error is a terminal, JSON otherwise.
    #[default]
    Auto,
    /// Lines for people.
    Text,
    /// One JSON object a line, for collectors.
    Json,
}

/// What a program tells about its telemetry.
#[derive(Debug, Clone)]
pub struct TelemetryConfig {
    /// Name of the program, such as `smallest-gateway`; the `service.name` of its spans.
    pub service: &'static str,
    /// How log lines look.
    pub log_format: LogFormat,
    /// OTLP/gRPC collector, such as `http://127.0.0.1:4317`; `None` exports no spans.
    pub otlp_endpoint: Option<String>,
}

/// The flags of every program for this; flatten them into the program's own.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Telemetry")]
pub struct TelemetryArgs {
    /// How log lines look on standard error (their filter is `RUST_LOG` or `LOG_LEVEL`, such as `info,gateway=debug`)
    #[arg(long, env = "LOG_FORMAT", value_enum, default_value_t = LogFormat::Auto)]
    pub log_format: LogFormat,
    /// Send spans to this OpenTelemetry collector (OTLP over gRPC), such as `http://127.0.0.1:4317`
    #[arg(long, env = "OTEL_EXPORTER_OTLP_ENDPOINT", value_name = "URL")]
    pub otlp_endpoint: Option<String>,
}

impl TelemetryArgs {
    /// The configuration of the program of this name. An empty endpoint means none, as in the standard.
    pub fn config(&self, service: &'static str) -> TelemetryConfig {
        let otlp_endpoint = self.otlp_endpoint.clone().filter(|endpoint| !endpoint.trim().is_empty());
        TelemetryConfig { service, log_format: self.log_format, otlp_endpoint }
    }
}

/// Keeps telemetry alive; sends the last spans when dropped. Hold it until `main` returns.
#[must_use = "dropping the guard ends the export of spans"]
#[derive(Debug)]
pub struct Guard {
    provider: Option<SdkTracerProvider>,
}

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(provider) = self.provider.take()
            && let Err(error) = provider.shutdown_with_timeout(EXPORT_TIMEOUT)
        {
            tracing::warn!(%error, "failed to send the last spans to the collector");
        }
    }
}

/// Why telemetry could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// `RUST_LOG` does not parse.
    #[error("failed to read RUST_LOG or LOG_LEVEL {value:?}: write it like `info` or `info,gateway=debug`")]
    ParseFilter {
        /// The value.
        value: String,
        /// The cause.
        #[source]
        source: tracing_subscriber::filter::ParseError,
    },
    /// The collector's address does not work.
    #[error("failed to set up span export to {endpoint:?}: check OTEL_EXPORTER_OTLP_ENDPOINT")]
    BuildExporter {
        /// The endpoint.
        endpoint: String,
        /// The cause.
        #[source]
        source: opentelemetry_otlp::ExporterBuildError,
    },
    /// Spans are exported from a tokio runtime and there is none.
    #[error("failed to set up span export: call init from within a tokio runtime")]
    FindRuntime,
    /// Somebody set a subscriber before.
    #[error("failed to install the log subscriber: one is installed already")]
    InstallSubscriber(#[source] tracing_subscriber::util::TryInitError),
}

impl TelemetryError {
    /// A stable word for logs and metrics.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::ParseFilter { .. } => "LogFilterInvalid",
            Self::BuildExporter { .. } => "SpanExportInvalid",
            Self::FindRuntime => "NoRuntime",
            Self::InstallSubscriber(_) => "TelemetryTwice",
        }
    }
}

/// Sets up logs and spans for the whole process. Call once, first thing in `main`.
pub fn init(config: &TelemetryConfig) -> Result<Guard, TelemetryError> {
    // The published name of the level is read where Rust's own, which can say more, is not set.
    let said = ["RUST_LOG", "LOG_LEVEL"]
        .into_iter()
        .find_map(|name| std::env::var(name).ok().filter(|v| !v.is_empty()));
    let filter = filter(said)?;
    let provider = config.otlp_endpoint.as_deref().map(|url| provider(config.service, url)).transpose()?;
    let spans =
        provider.as_ref().map(|p| tracing_opentelemetry::layer().with_tracer(p.tracer(config.service)));
    tracing_subscriber::registry()
        .with(spans)
        .with(lines(config.log_format, std::io::stderr().is_terminal()))
        .with(filter)
        .try_init()
        .map_err(TelemetryError::InstallSubscriber)?;
    Ok(Guard { provider })
}

fn filter(value: Option<String>) -> Result<EnvFilter, TelemetryError> {
    let value = value.filter(|v| !v.trim().is_empty()).unwrap_or_else(|| DEFAULT_FILTER.to_owned());
    EnvFilter::builder()
        .parse(&value)
        .map_err(|source| TelemetryError::ParseFilter { value: value.clone(), source })
}

type Spans = tracing_opentelemetry::OpenTelemetryLayer<Registry, opentelemetry_sdk::trace::Tracer>;
type Below = tracing_subscriber::layer::Layered<Option<Spans>, Registry>;

fn lines(format: LogFormat, terminal: bool) -> Box<dyn Layer<Below> + Send + Sync> {
    let layer = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    match (format, terminal) {
        (LogFormat::Text, _) | (LogFormat::Auto, true) => layer.with_ansi(terminal).boxed(),
        (LogFormat::Json, _) | (LogFormat::Auto, false) => {
            layer.json().flatten_event(true).with_current_span(true).with_span_list(false).boxed()
        }
    }
}

fn provider(service: &'static str, endpoint: &str) -> Result<SdkTracerProvider, TelemetryError> {
    tokio::runtime::Handle::try_current().map_err(|_| TelemetryError::FindRuntime)?;
    let exporter = SpanExporter::builder()
        .with_tonic()
        .with_endpoint(endpoint)
        .with_timeout(EXPORT_TIMEOUT)
        .build()
        .map_err(|source| TelemetryError::BuildExporter { endpoint: endpoint.to_owned(), source })?;
    let resource = Resource::builder()
        .with_service_name(service)
        .with_attribute(KeyValue::new("service.version", build_info().version))
        .build();
    Ok(SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource).build())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filter_defaults_and_refuses_nonsense() {
        assert_eq!(filter(None).expect("default filter").to_string(), "info");
        assert_eq!(filter(Some("  ".into())).expect("empty filter").to_string(), "info");
        assert_eq!(filter(Some("gateway=debug".into())).expect("filter").to_string(), "gateway=debug");
        let error = filter(Some("gateway=loud".into())).expect_err("not a level");
        assert_eq!(error.reason(), "LogFilterInvalid");
        assert!(error.to_string().contains("gateway=loud"));
    }

    #[test]
    fn spans_need_a_runtime() {
        let error = provider("test", "http://127.0.0.1:1").expect_err("no runtime here");
        assert_eq!(error.reason(), "NoRuntime");
    }

    #[tokio::test]
    async fn a_bad_collector_address_is_named() {
        let error = provider("test", "not a url").expect_err("not a url");
        assert_eq!(error.reason(), "SpanExportInvalid");
        assert!(error.to_string().contains("not a url"), "{error}");
    }

    #[test]
    fn an_empty_endpoint_is_none() {
        let args = TelemetryArgs { otlp_endpoint: Some(" ".into()), ..TelemetryArgs::default() };
        assert_eq!(args.config("test").otlp_endpoint, None);
    }
}
