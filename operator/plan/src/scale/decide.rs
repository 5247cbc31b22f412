//! From zero and to zero: what the autoscaler cannot do, since it rests while there are no replicas. Pure.
//!
//! ```text
//! replicas 0, work waits ──▶ 1            (the autoscaler goes on from there)
//! replicas 0, minReplicas raised ──▶ minReplicas
//! minReplicas 0, nothing waits, nothing runs for idleSeconds ──▶ 0
//! ```
//! What is not known is never taken for idle: an unreadable queue scales nothing down.

use crds::Scaling;

use crate::component::ComponentKind;
use crate::reading::{ComponentReading, QueueView};

/// What a decision rests on.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// Which component.
    pub kind: ComponentKind,
    /// How it scales.
    pub scaling: &'a Scaling,
    /// Replicas asked for now.
    pub replicas: u32,
    /// Its queue.
    pub view: &'a QueueView,
    /// Since when nothing waited and nothing ran, as the last decision had it; Unix milliseconds.
    pub idle_since_ms: Option<u64>,
    /// Now, Unix milliseconds.
    pub now_ms: u64,
}

/// What to do, and what to remember for the next decision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// Since when it is idle.
    pub idle_since_ms: Option<u64>,
    /// What to do.
    pub step: Step,
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Nothing, until something changes.
    Stay,
    /// Nothing yet: it is idle, and decided upon again at this time.
    DecideAgain {
        /// Unix milliseconds.
        at_ms: u64,
    },
    /// Ask for so many replicas.
    ScaleTo {
        /// How many.
        replicas: u32,
        /// What was measured, for people.
        inputs: String,
    },
}

/// Decides about one component.
pub fn decide(facts: &Facts<'_>) -> Decision {
    let Facts { kind, scaling, replicas, view, idle_since_ms, now_ms } = *facts;
    let stay = Decision { idle_since_ms: None, step: Step::Stay };
    let to = |replicas, inputs| Decision { idle_since_ms: None, step: Step::ScaleTo { replicas, inputs } };
    if replicas == 0 && scaling.min_replicas > 0 {
        return to(scaling.min_replicas, format!("minReplicas={}", scaling.min_replicas));
    }
    let QueueView::Read(reading) = view else { return stay };
    // A gateway has no queue in which its first request could wait: it never goes to zero.
    let Some(reading) = reading.component(kind) else { return stay };
    if replicas == 0 {
        return if reading.queue_depth() > 0 { to(1, waiting(reading)) } else { stay };
    }
    if scaling.min_replicas > 0 || is_active(reading) {
        return stay;
    }
    let since = idle_since_ms.unwrap_or(now_ms);
    let at_ms = since + u64::from(scaling.idle_seconds) * 1_000;
    if now_ms >= at_ms {
        return to(0, format!("idleSeconds={}", scaling.idle_seconds));
    }
    Decision { idle_since_ms: Some(since), step: Step::DecideAgain { at_ms } }
}

/// Something waits, or a worker holds something.
fn is_active(reading: &ComponentReading) -> bool {
    reading.queue_depth() + reading.active_requests() + reading.active_streams() > 0
}

fn waiting(reading: &ComponentReading) -> String {
    let ComponentReading { batch_queue_depth, stream_queue_depth, .. } = reading;
    format!("batchQueueDepth={batch_queue_depth} streamQueueDepth={stream_queue_depth}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reading::Reading;
    use crate::scale::testing::{at_work, waits, worker};

    fn scaling(min_replicas: u32) -> Scaling {
        let mut scaling: Scaling = serde_json::from_str("{}").unwrap();
        (scaling.min_replicas, scaling.idle_seconds) = (min_replicas, 60);
        scaling
    }

    fn read(asr: ComponentReading) -> QueueView {
        QueueView::Read(Reading { asr, ..Reading::default() })
    }

    fn check((min, replicas): (u32, u32), view: &QueueView, idle: (Option<u64>, u64)) -> Decision {
        let (idle_since_ms, now_ms) = idle;
        let scaling = scaling(min);
        decide(&Facts { kind: ComponentKind::Asr, scaling: &scaling, replicas, view, idle_since_ms, now_ms })
    }

    fn to(replicas: u32, inputs: &str) -> Decision {
        Decision { idle_since_ms: None, step: Step::ScaleTo { replicas, inputs: inputs.to_owned() } }
    }

    const STAY: Decision = Decision { idle_since_ms: None, step: Step::Stay };

    #[test]
    fn what_waits_wakes_and_nothing_else_does() {
        let now = (None, 1_000);
        let unavailable =
            QueueView::Unavailable { reason: "QueueUnavailable", message: "no route".to_owned() };
        for (name, view, expected) in [
            ("a session", read(waits(0, 1)), to(1, "batchQueueDepth=0 streamQueueDepth=1")),
            ("a burst of recordings", read(waits(500, 0)), to(1, "batchQueueDepth=500 streamQueueDepth=0")),
            ("nothing", read(waits(0, 0)), STAY),
            ("a worker that ends", read(at_work(&[worker("a", 3)])), STAY),
            ("an unreadable queue", unavailable, STAY),
            ("no look yet", QueueView::NotRead, STAY),
        ] {
            assert_eq!(check((0, 0), &view, now), expected, "{name}");
        }
    }

    #[test]
    fn a_minimum_above_zero_ends_the_sleep_without_work() {
        assert_eq!(check((2, 0), &QueueView::NotRead, (None, 0)), to(2, "minReplicas=2"));
    }

    #[test]
    fn idle_time_counts_from_the_last_sign_of_work() {
        let idle = read(waits(0, 0));
        let (since, end) = (5_000, 65_000);
        let again = |since| Decision {
            idle_since_ms: Some(since),
            step: Step::DecideAgain { at_ms: since + 60_000 },
        };
        let unavailable = QueueView::Unavailable { reason: "QueueUnavailable", message: String::new() };
        for (name, (min, replicas), view, at, expected) in [
            ("the first idle look", (0, 1), &idle, (None, since), again(since)),
            ("a later one", (0, 3), &idle, (Some(since), since + 30_000), again(since)),
            ("a moment before", (0, 1), &idle, (Some(since), end - 1), again(since)),
            ("long enough", (0, 1), &idle, (Some(since), end), to(0, "idleSeconds=60")),
            ("work in between", (0, 1), &read(waits(0, 1)), (Some(since), end), STAY),
            ("a stream runs", (0, 1), &read(at_work(&[worker("a", 1)])), (Some(since), end), STAY),
            ("nobody knows", (0, 1), &unavailable, (Some(since), end), STAY),
            ("it may not sleep", (1, 1), &idle, (Some(since), end), STAY),
        ] {
            assert_eq!(check((min, replicas), view, at), expected, "{name}");
        }
    }

    #[test]
    fn a_gateway_never_sleeps() {
        let (scaling, view) = (scaling(0), read(waits(0, 0)));
        let facts = Facts {
            kind: ComponentKind::Gateway,
            scaling: &scaling,
            replicas: 1,
            view: &view,
            idle_since_ms: Some(0),
            now_ms: u64::MAX / 2,
        };
        assert_eq!(decide(&facts), STAY);
    }
}
