//! The external metrics: [`Reading`] × component × name → a number, or why there is none. Never zero for "unknown":
//! what pods hold is not known while none of those that have started is registered, such as after a restart of Redis.

use std::fmt;

use crate::component::ComponentKind;
use crate::reading::{ComponentReading, QueueView, Reading, WorkerPhase};

/// Label of every metric: name of the deployment.
pub const LABEL_DEPLOYMENT: &str = "deployment";
/// Label of every metric: `asr`, `tts` or `gateway`.
pub const LABEL_COMPONENT: &str = "component";

/// An external metric. Values are of one component of one deployment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Metric {
    /// Recordings that no worker has claimed.
    BatchQueueDepth,
    /// Live sessions that no worker has claimed.
    StreamQueueDepth,
    /// Both.
    QueueDepth,
    /// Recordings in work.
    ActiveRequests,
    /// Live streams in work.
    ActiveStreams,
    /// Everything in work or waiting.
    Load,
    /// The load in units of what one ready worker can hold: 2.5 is work for two and a half workers.
    Utilization,
    /// Age of what has waited longest.
    OldestWaitSeconds,
}

/// Why a metric has no value now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unknown {
    /// A stable word.
    pub reason: &'static str,
    /// For people.
    pub message: String,
}

impl Metric {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::BatchQueueDepth,
        Self::StreamQueueDepth,
        Self::QueueDepth,
        Self::ActiveRequests,
        Self::ActiveStreams,
        Self::Load,
        Self::Utilization,
        Self::OldestWaitSeconds,
    ];

    /// Its name in `external.metrics.k8s.io`.
    pub fn name(self) -> &'static str {
        match self {
            Self::BatchQueueDepth => "smallest_batch_queue_depth",
            Self::StreamQueueDepth => "smallest_stream_queue_depth",
            Self::QueueDepth => "smallest_queue_depth",
            Self::ActiveRequests => "smallest_active_requests",
            Self::ActiveStreams => "smallest_active_streams",
            Self::Load => "smallest_load",
            Self::Utilization => "smallest_utilization",
            Self::OldestWaitSeconds => "smallest_oldest_wait_seconds",
        }
    }

    /// The metric of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|metric| metric.name() == name)
    }

    /// Whether a component can have it: a gateway has no queue, Redis and the license proxy have none of them.
    pub fn is_of(self, kind: ComponentKind) -> bool {
        match kind {
            ComponentKind::Asr | ComponentKind::Tts => true,
            ComponentKind::Gateway => {
                matches!(self, Self::ActiveRequests | Self::ActiveStreams | Self::Load)
            }
            ComponentKind::Redis | ComponentKind::LicenseProxy => false,
        }
    }

    /// Its value in thousandths, as Kubernetes' quantities can carry it exactly. `started` are the component's pods that
    /// have started: while there are none, nothing is in work.
    pub fn milli(self, view: &QueueView, kind: ComponentKind, started: u32) -> Result<u64, Unknown> {
        if !self.is_of(kind) {
            let message = format!("{self} is not measured for this component");
            return Err(Unknown { reason: "NotMeasured", message });
        }
        match view {
            QueueView::Read(reading) if self.counts_work() && reading.is_silent(kind, started) => {
                let message = format!("{started} of its pods have started, and none of them is registered");
                Err(Unknown { reason: "NobodyRegistered", message })
            }
            QueueView::Read(reading) => self.of_reading(reading, kind),
            QueueView::NotRead => Err(Unknown {
                reason: "NotRead",
                message: "the queue of this deployment has not been read yet".to_owned(),
            }),
            QueueView::Unavailable { reason, message } => Err(Unknown { reason, message: message.clone() }),
        }
    }

    /// It is made from what gateways or workers say that they hold.
    fn counts_work(self) -> bool {
        match self {
            Self::ActiveRequests | Self::ActiveStreams | Self::Load | Self::Utilization => true,
            Self::BatchQueueDepth | Self::StreamQueueDepth | Self::QueueDepth | Self::OldestWaitSeconds => {
                false
            }
        }
    }

    fn of_reading(self, reading: &Reading, kind: ComponentKind) -> Result<u64, Unknown> {
        match reading.component(kind) {
            Some(component) => self.of_component(component),
            None => Ok(self.of_gateways(reading)),
        }
    }

    fn of_component(self, component: &ComponentReading) -> Result<u64, Unknown> {
        let (requests, streams) = (component.active_requests(), component.active_streams());
        Ok(match self {
            Self::BatchQueueDepth => component.batch_queue_depth * 1_000,
            Self::StreamQueueDepth => component.stream_queue_depth * 1_000,
            Self::QueueDepth => component.queue_depth() * 1_000,
            Self::ActiveRequests => requests * 1_000,
            Self::ActiveStreams => streams * 1_000,
            Self::Load => (requests + streams + component.queue_depth()) * 1_000,
            Self::Utilization => return utilization_milli(component),
            Self::OldestWaitSeconds => component.oldest_wait_ms(),
        })
    }

    fn of_gateways(self, reading: &Reading) -> u64 {
        let sum = |count: fn(&crate::reading::GatewayReading) -> u32| {
            reading.gateways.iter().map(|gateway| u64::from(count(gateway))).sum::<u64>()
        };
        let (requests, streams) = (sum(|g| g.active_requests), sum(|g| g.active_streams));
        1_000
            * match self {
                Self::ActiveRequests => requests,
                Self::ActiveStreams => streams,
                _ => requests + streams,
            }
    }
}

impl fmt::Display for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The fuller of the two kinds of slots decides, since a worker's slots for streams do not serve recordings.
fn utilization_milli(component: &ComponentReading) -> Result<u64, Unknown> {
    let ready: Vec<_> = component.workers.iter().filter(|w| w.phase == WorkerPhase::Ready).collect();
    let streams = component.active_streams() + component.stream_queue_depth;
    let requests = component.active_requests() + component.batch_queue_depth;
    if streams + requests == 0 {
        return Ok(0);
    }
    let slots = ready.iter().map(|w| u64::from(w.slots)).sum::<u64>();
    let batch_slots = ready.iter().map(|w| u64::from(w.batch_slots)).sum::<u64>();
    if slots == 0 || (requests > 0 && batch_slots == 0) {
        return Err(Unknown {
            reason: "NoWorkerReady",
            message: "no worker is ready, so it is not known yet how much one can hold".to_owned(),
        });
    }
    // Slots of one worker are the sum over the ready ones divided by their number.
    let share = |work: u64, slots: u64| (work * 1_000 * ready.len() as u64).div_ceil(slots.max(1));
    let recordings = if requests == 0 { 0 } else { share(requests, batch_slots) };
    Ok(share(streams, slots).max(recordings))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reading::GatewayReading;
    use crate::scale::testing::{at_work, waits, worker};

    fn of(metric: Metric, asr: ComponentReading) -> Result<u64, &'static str> {
        let view = QueueView::Read(Reading { asr, ..Reading::default() });
        metric.milli(&view, ComponentKind::Asr, 0).map_err(|unknown| unknown.reason)
    }

    #[test]
    fn names_are_found_again_and_no_two_are_the_same() {
        for metric in Metric::ALL {
            assert_eq!(Metric::named(metric.name()), Some(metric));
            assert!(metric.name().starts_with("smallest_"));
        }
        assert_eq!(Metric::named("smallest_nothing"), None);
    }

    #[test]
    fn values_are_what_the_queue_tells() {
        let mut busy = at_work(&[worker("a", 7), worker("b", 2)]);
        busy.workers[1].active_requests = 3;
        (busy.batch_queue_depth, busy.stream_queue_depth) = (5, 1);
        (busy.batch_oldest_wait_ms, busy.stream_oldest_wait_ms) = (1_250, 40);
        for (metric, expected) in [
            (Metric::BatchQueueDepth, 5_000),
            (Metric::StreamQueueDepth, 1_000),
            (Metric::QueueDepth, 6_000),
            (Metric::ActiveRequests, 3_000),
            (Metric::ActiveStreams, 9_000),
            (Metric::Load, 18_000),
            // 10 streams for 10 slots of each, 8 recordings for 4 slots of each: the recordings decide.
            (Metric::Utilization, 2_000),
            (Metric::OldestWaitSeconds, 1_250),
        ] {
            assert_eq!(of(metric, busy.clone()), Ok(expected), "{metric}");
        }
    }

    #[test]
    fn a_claim_counts_before_its_worker_says_so() {
        let mut just_claimed = at_work(&[worker("a", 7), worker("b", 0)]);
        (just_claimed.held_streams, just_claimed.held_requests) = (9, 2);
        assert_eq!(of(Metric::ActiveStreams, just_claimed.clone()), Ok(9_000));
        assert_eq!(of(Metric::ActiveRequests, just_claimed.clone()), Ok(2_000));
        assert_eq!(of(Metric::Load, just_claimed.clone()), Ok(11_000));
        // What a worker says of itself counts too: it lets go in the queue before it is done.
        just_claimed.held_streams = 3;
        assert_eq!(of(Metric::ActiveStreams, just_claimed), Ok(7_000));
    }

    #[test]
    fn what_nobody_knows_is_not_zero() {
        for (view, reason) in [
            (QueueView::NotRead, "NotRead"),
            (
                QueueView::Unavailable { reason: "QueueUnavailable", message: String::new() },
                "QueueUnavailable",
            ),
        ] {
            for metric in Metric::ALL {
                let unknown = metric.milli(&view, ComponentKind::Asr, 0).unwrap_err();
                assert_eq!(unknown.reason, reason, "{metric}");
            }
        }
    }

    #[test]
    fn how_full_workers_are_is_known_only_with_a_ready_one() {
        assert_eq!(of(Metric::Utilization, waits(0, 0)), Ok(0), "nothing is nothing for any worker");
        assert_eq!(of(Metric::Utilization, waits(0, 3)), Err("NoWorkerReady"));
        let mut loading = at_work(&[worker("a", 0)]);
        (loading.workers[0].phase, loading.stream_queue_depth) = (WorkerPhase::Loading, 3);
        assert_eq!(of(Metric::Utilization, loading), Err("NoWorkerReady"));
        let mut older = at_work(&[worker("a", 4)]);
        older.workers[0].batch_slots = 0;
        assert_eq!(of(Metric::Utilization, older.clone()), Ok(400));
        older.batch_queue_depth = 1;
        assert_eq!(of(Metric::Utilization, older), Err("NoWorkerReady"));
    }

    #[test]
    fn a_gateway_has_no_queue() {
        let gateway = GatewayReading {
            id: "gw".into(),
            pod: None,
            active_requests: 2,
            active_streams: 3,
            license: None,
        };
        let view = QueueView::Read(Reading { gateways: vec![gateway], ..Reading::default() });
        let of =
            |metric: Metric| metric.milli(&view, ComponentKind::Gateway, 1).map_err(|unknown| unknown.reason);
        assert_eq!(of(Metric::ActiveRequests), Ok(2_000));
        assert_eq!(of(Metric::ActiveStreams), Ok(3_000));
        assert_eq!(of(Metric::Load), Ok(5_000));
        assert_eq!(of(Metric::QueueDepth), Err("NotMeasured"));
    }

    #[test]
    fn what_nobody_who_started_tells_is_unknown() {
        use ComponentKind::{Asr, Gateway};
        let silent = Err("NobodyRegistered");
        let waiting = || QueueView::Read(Reading { asr: waits(2, 1), ..Reading::default() });
        let serving = || QueueView::Read(Reading { asr: at_work(&[worker("a", 4)]), ..Reading::default() });
        for (name, view, kind, started, metric, expected) in [
            ("from zero", waiting(), Asr, 0, Metric::Load, Ok(3_000)),
            ("from zero, streams", waiting(), Asr, 0, Metric::ActiveStreams, Ok(0)),
            ("Redis came back empty", waiting(), Asr, 2, Metric::Load, silent),
            ("requests", waiting(), Asr, 2, Metric::ActiveRequests, silent),
            ("streams", waiting(), Asr, 2, Metric::ActiveStreams, silent),
            ("how full", waiting(), Asr, 2, Metric::Utilization, silent),
            ("what waits is known", waiting(), Asr, 2, Metric::QueueDepth, Ok(3_000)),
            ("recordings wait", waiting(), Asr, 2, Metric::BatchQueueDepth, Ok(2_000)),
            ("one is back", serving(), Asr, 2, Metric::Load, Ok(4_000)),
            ("no gateway runs", serving(), Gateway, 0, Metric::Load, Ok(0)),
            ("gateways are silent", serving(), Gateway, 1, Metric::Load, silent),
            ("their requests", serving(), Gateway, 1, Metric::ActiveRequests, silent),
        ] {
            let value = metric.milli(&view, kind, started).map_err(|unknown| unknown.reason);
            assert_eq!(value, expected, "{name}");
        }
    }
}
