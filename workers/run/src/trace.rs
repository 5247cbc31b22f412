//! Spans of the worker: one for each claimed job and session, in the trace of its request, and one for each step of
//! the engine that advances any of them.
//!
//! Journey: `pull → [span of the work] → engine thread → [span of the step] → reply`. In: the `traceparent` that came
//! through the queue. Out: spans. A step is a child of the first traced piece of work in it and linked to the others.
//! Where no spans are exported no work has a place, and then a step costs one look into an empty table.
//! Must not know: who collects spans.

use std::collections::HashMap;

use queue::port::{ClaimedJob, ClaimedSession};
use telemetry::trace::{Place, follow, join};
use tracing::Span;
use tracing::field::Empty;
use workers_batch::{Event, Occupant, Plan, What};

/// The span of a claimed session.
pub(crate) fn session(claim: &ClaimedSession) -> Span {
    let session = &claim.state.session;
    let span = tracing::info_span!(
        parent: None,
        "session",
        session = %session.id,
        epoch = claim.state.epoch,
        reason = Empty
    );
    in_trace(span, session.traceparent.as_deref())
}

/// The span of a claimed job.
pub(crate) fn job(claim: &ClaimedJob, queue_ms: f32) -> Span {
    let job = &claim.job;
    let span = tracing::info_span!(
        parent: None,
        "job",
        job = %job.id,
        attempt = claim.attempt,
        queue_ms,
        reason = Empty
    );
    in_trace(span, job.traceparent.as_deref())
}

fn in_trace(span: Span, traceparent: Option<&str>) -> Span {
    if let Some(parent) = traceparent {
        follow(&span, parent);
    }
    span
}

/// The places of occupants whose requests are traced.
#[derive(Debug, Default)]
pub(crate) struct Traces {
    places: HashMap<Occupant, Place>,
}

impl Traces {
    /// An occupant got its slot.
    pub(crate) fn keep(&mut self, occupant: Occupant, place: Option<Place>) {
        if let Some(place) = place {
            self.places.insert(occupant, place);
        }
    }

    /// An occupant is gone.
    pub(crate) fn forget(&mut self, occupant: Occupant) {
        self.places.remove(&occupant);
    }

    /// Forgets those that ended.
    pub(crate) fn settle(&mut self, events: &[Event]) {
        if self.places.is_empty() {
            return;
        }
        for event in events {
            if let What::Ended { .. } | What::Transcript { .. } | What::Expired | What::Failed { .. } =
                event.what
            {
                self.forget(event.occupant);
            }
        }
    }

    /// The span of a step that begins now; none when nobody in it is traced.
    pub(crate) fn step(&self, plan: &Plan) -> Span {
        if self.places.is_empty() {
            return Span::none();
        }
        let mut places = plan.occupants().filter_map(|occupant| self.places.get(&occupant)).peekable();
        if places.peek().is_none() {
            return Span::none();
        }
        let span = tracing::info_span!(
            parent: None,
            "step",
            live = plan.live,
            slots = plan.slots(),
            samples = plan.samples(),
            error = Empty
        );
        join(&span, places);
        span
    }
}
