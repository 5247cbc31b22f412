//! Trace context across a boundary that is no function call: a request header in, a queue entry out and in.
//!
//! The text is W3C `traceparent` (`00-<trace id>-<span id>-<flags>`). Where spans are not exported there is
//! no context: the getters give `None`, and following one does nothing.

use std::collections::HashMap;

use opentelemetry::Context;
use opentelemetry::propagation::TextMapPropagator as _;
use opentelemetry::trace::{SpanContext, TraceContextExt as _};
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

/// Where a span stands in a trace that is exported: what work on another thread hangs its own spans on. Cheap to
/// copy, and there is none where nobody would see those spans, so that they are not made.
#[derive(Debug, Clone)]
pub struct Place(SpanContext);

/// The place of a span; `None` when it is not exported.
pub fn place(span: &Span) -> Option<Place> {
    let context = span.context();
    let place = context.span().span_context().clone();
    (place.is_valid() && place.is_sampled()).then_some(Place(place))
}

/// Makes a span a child of the first place and links it to the others: one piece of work for many requests.
pub fn join<'a>(span: &Span, places: impl IntoIterator<Item = &'a Place>) {
    let mut places = places.into_iter();
    let Some(Place(first)) = places.next() else { return };
    // Where nothing is exported there is nothing to hang it on.
    drop(span.set_parent(Context::new().with_remote_span_context(first.clone())));
    places.for_each(|Place(other)| span.add_link(other.clone()));
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
        assert!(place(&tracing::info_span!("work")).is_none());
    }

    #[test]
    fn what_is_not_sampled_has_no_place() {
        with_spans(|| {
            let work = tracing::info_span!("work");
            follow(&work, PARENT);
            let step = tracing::info_span!(parent: None, "step");
            join(&step, [&place(&work).expect("sampled")]);
            assert_eq!(traceparent(&step).expect("context").split('-').nth(1), PARENT.split('-').nth(1));
            let unsampled = tracing::info_span!("work");
            follow(&unsampled, &PARENT.replace("-01", "-00"));
            assert!(place(&unsampled).is_none());
        });
    }
}
