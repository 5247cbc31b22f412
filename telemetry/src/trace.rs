//! Trace context across a boundary that is no function call: a request header in, a queue entry out and in.
//!
//! The text is W3C `traceparent` (`00-<trace id>-<span id>-<flags>`). Where spans are not exported there is
//! no context: the getters give `None`, and following one does nothing.

use std::collections::HashMap;

use opentelemetry::propagation::TextMapPropagator as _;
use opentelemetry::trace::TraceContextExt as _;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

const HEADER: &str = "traceparent";

/// The `traceparent` of the current span, to be sent along with work that it hands on.
pub fn current_traceparent() -> Option<String> {
    traceparent(&Span::current())
}

/// The `traceparent` of a span.
pub fn traceparent(span: &Span) -> Option<String> {
    let mut carrier = HashMap::new();
    TraceContextPropagator::new().inject_context(&span.context(), &mut carrier);
    carrier.remove(HEADER)
}

/// Makes a span a child of the trace that came along. Call it before the span is entered. Text that is no
/// valid `traceparent` is ignored, as the standard asks; the return value tells whether it was followed.
pub fn follow(span: &Span, traceparent: &str) -> bool {
    let carrier = HashMap::from([(HEADER.to_owned(), traceparent.trim().to_owned())]);
    let context = TraceContextPropagator::new().extract(&carrier);
    context.span().span_context().is_valid() && span.set_parent(context).is_ok()
}

#[cfg(test)]
mod tests {
    use opentelemetry::trace::TracerProvider as _;
    use opentelemetry_sdk::trace::SdkTracerProvider;
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn with_spans(check: impl FnOnce()) {
        let provider = SdkTracerProvider::builder().build();
        let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("test"));
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), check);
    }

    #[test]
    fn a_trace_goes_through() {
        with_spans(|| {
            let span = tracing::info_span!("work");
            assert!(follow(&span, PARENT));
            let onward = span.in_scope(current_traceparent).expect("context");
            assert_eq!(onward.split('-').nth(1), PARENT.split('-').nth(1), "same trace");
            assert_ne!(onward.split('-').nth(2), PARENT.split('-').nth(2), "another span");
        });
    }

    #[test]
    fn nonsense_is_ignored() {
        with_spans(|| {
            for text in ["", "00", "00-zz-00-01", "00-00000000000000000000000000000000-0000000000000000-01"] {
                assert!(!follow(&tracing::info_span!("work"), text), "{text:?}");
            }
        });
    }

    #[test]
    fn no_export_no_context() {
        assert_eq!(current_traceparent(), None);
    }
}
