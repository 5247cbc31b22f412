//! Spans kept in memory, so that a test can see which traces they belong to.
//!
//! In: every span of the process, from [`record`] on. Out: the finished ones. Knows no collector.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use opentelemetry::trace::TracerProvider as _;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{SdkTracerProvider, SpanData, SpanExporter};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

static RECORDED: OnceLock<Recorded> = OnceLock::new();

/// A finished span.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finished {
    /// Its name.
    pub name: String,
    /// Its trace, 32 hexadecimal digits.
    pub trace: String,
    /// Itself, 16 hexadecimal digits.
    pub id: String,
    /// The span above it; zeros when it is the first one of its trace.
    pub parent: String,
    /// The traces of the spans that it is linked to.
    pub links: Vec<String>,
    /// Its fields, as `name=value`.
    pub fields: Vec<String>,
}

/// All spans that are finished.
#[derive(Debug, Clone, Default)]
pub struct Recorded(Arc<Mutex<Vec<Finished>>>);

impl Recorded {
    /// Those of one trace or linked to it, in the order of their ends.
    pub fn of(&self, trace: &str) -> Vec<Finished> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let part = |span: &&Finished| span.trace == trace || span.links.iter().any(|link| link == trace);
        all.iter().filter(part).cloned().collect()
    }
}

/// Records all spans of this process from now on; one recorder serves all tests of a program.
///
/// # Panics
///
/// When the program has installed a subscriber of its own.
pub fn record() -> Recorded {
    let install = || {
        let recorded = Recorded::default();
        let provider = SdkTracerProvider::builder().with_simple_exporter(Exporter(recorded.clone())).build();
        let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("test"));
        let installed = tracing_subscriber::registry().with(layer).with(LevelFilter::INFO).try_init();
        installed.expect("no test installs a subscriber of its own");
        recorded
    };
    RECORDED.get_or_init(install).clone()
}

#[derive(Debug)]
struct Exporter(Recorded);

impl SpanExporter for Exporter {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let finished = batch.into_iter().map(|span| Finished {
            name: span.name.into_owned(),
            trace: span.span_context.trace_id().to_string(),
            id: span.span_context.span_id().to_string(),
            parent: span.parent_span_id.to_string(),
            links: span.links.iter().map(|link| link.span_context.trace_id().to_string()).collect(),
            fields: span.attributes.iter().map(|field| format!("{}={}", field.key, field.value)).collect(),
        });
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner).extend(finished);
        Ok(())
    }
}
