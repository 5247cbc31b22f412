//! From zero and to zero: what the autoscaler cannot do, since it rests while there are no replicas. Pure.
//!
//! ```text
//! replicas 0, work waits ──▶ 1            (the autoscaler goes on from there)
//! replicas 0, minReplicas raised ──▶ minReplicas
//! minReplicas 0, nothing waits, nothing runs for idleSeconds ──▶ 0
//! ```
//! What is not known is never taken for idle: an unreadable queue scales nothing down, and neither does one where nobody
//! is registered though pods have started.

use crate::component::ComponentKind;
use crate::reading::{ComponentReading, QueueView};
use crate::scale::Bounds;

/// What a decision rests on.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// Which component.
    pub kind: ComponentKind,
    /// Between how many replicas it scales now.
    pub bounds: &'a Bounds,
    /// How long it is idle before its last replica goes, seconds.
    pub idle_seconds: u32,
    /// Replicas asked for now.
    pub replicas: u32,
    /// Its pods that have started.
    pub started: u32,
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
    let Facts { kind, bounds, idle_seconds, replicas, started, view, idle_since_ms, now_ms } = *facts;
    let stay = Decision { idle_since_ms: None, step: Step::Stay };
    let to = |replicas, inputs| Decision { idle_since_ms: None, step: Step::ScaleTo { replicas, inputs } };
    if replicas == 0 && bounds.min_replicas > 0 {
        return to(bounds.min_replicas, format!("minReplicas={}{}", bounds.min_replicas, bounds.said()));
    }
    let QueueView::Read(reading) = view else { return stay };
    // A gateway has no queue in which its first request could wait: it never goes to zero.
    let Some(component) = reading.component(kind) else { return stay };
    if replicas == 0 {
        return if component.queue_depth() > 0 { to(1, waiting(component)) } else { stay };
    }
    if bounds.min_replicas > 0 || !reading.is_idle(kind, started) {
        return stay;
    }
    let since = idle_since_ms.unwrap_or(now_ms);
    let at_ms = since + u64::from(idle_seconds) * 1_000;
    if now_ms >= at_ms {
        return to(0, format!("idleSeconds={idle_seconds}{}", bounds.said()));
    }
    Decision { idle_since_ms: Some(since), step: Step::DecideAgain { at_ms } }
}

fn waiting(reading: &ComponentReading) -> String {
    let ComponentReading { batch_queue_depth, stream_queue_depth, .. } = reading;
    format!("batchQueueDepth={batch_queue_depth} streamQueueDepth={stream_queue_depth}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reading::Reading;
    use crate::scale::Window;
    use crate::scale::testing::{at_work, waits, worker};

    fn bounds(min_replicas: u32) -> Bounds {
        Bounds { min_replicas, max_replicas: 10, window: None, next_change: None }
    }

    fn read(asr: ComponentReading) -> QueueView {
        QueueView::Read(Reading { asr, ..Reading::default() })
    }

    fn check((min, replicas): (u32, u32), view: &QueueView, idle: (Option<u64>, u64)) -> Decision {
        let (idle_since_ms, now_ms) = idle;
        decide_within(&bounds(min), replicas, view, (idle_since_ms, now_ms))
    }

    fn decide_within(
        bounds: &Bounds,
        replicas: u32,
        view: &QueueView,
        (idle_since_ms, now_ms): (Option<u64>, u64),
    ) -> Decision {
        let (kind, idle_seconds, started) = (ComponentKind::Asr, 60, 0);
        decide(&Facts { kind, bounds, idle_seconds, replicas, started, view, idle_since_ms, now_ms })
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
    fn a_window_that_opens_wakes_and_one_that_is_open_keeps_awake() {
        let window = Window { schedule: "mornings".to_owned(), until: None };
        let open = Bounds { window: Some(window.clone()), ..bounds(3) };
        let idle = read(waits(0, 0));
        let woken = to(3, "minReplicas=3 schedule=mornings");
        assert_eq!(decide_within(&open, 0, &QueueView::NotRead, (None, 0)), woken);
        assert_eq!(decide_within(&open, 3, &idle, (Some(0), u64::MAX / 2)), STAY, "idle for long");
        let night = Bounds { window: Some(window), ..bounds(0) };
        let asleep = to(0, "idleSeconds=60 schedule=mornings");
        assert_eq!(decide_within(&night, 3, &idle, (Some(0), 60_000)), asleep);
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
        let (bounds, view) = (bounds(0), read(waits(0, 0)));
        let facts = Facts {
            kind: ComponentKind::Gateway,
            bounds: &bounds,
            idle_seconds: 60,
            replicas: 1,
            started: 1,
            view: &view,
            idle_since_ms: Some(0),
            now_ms: u64::MAX / 2,
        };
        assert_eq!(decide(&facts), STAY);
    }

    #[test]
    fn pods_of_whom_nobody_is_registered_are_not_idle() {
        let bounds = bounds(0);
        for (name, started, view, expected) in [
            ("none has started", 0, read(waits(0, 0)), to(0, "idleSeconds=60")),
            ("Redis came back empty", 2, read(waits(0, 0)), STAY),
            ("one is back", 2, read(at_work(&[worker("a", 0)])), to(0, "idleSeconds=60")),
        ] {
            let facts = Facts {
                kind: ComponentKind::Asr,
                bounds: &bounds,
                idle_seconds: 60,
                replicas: 2,
                started,
                view: &view,
                idle_since_ms: Some(0),
                now_ms: 60_000,
            };
            assert_eq!(decide(&facts), expected, "{name}");
        }
    }
}
