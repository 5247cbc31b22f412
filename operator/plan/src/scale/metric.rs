//! The external metrics: [`Reading`] × component × name → a number, or why there is none. Never zero for "unknown".

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

    /// Its value in thousandths, as Kubernetes' quantities can carry it exactly.
    pub fn milli(self, view: &QueueView, kind: ComponentKind) -> Result<u64, Unknown> {
        if !self.is_of(kind) {
            let message = format!("{self} is not measured for this component");
            return Err(Unknown { reason: "NotMeasured", message });
        }
        match view {
            QueueView::Read(reading) => self.of_reading(reading, kind),
            QueueView::NotRead => Err(Unknown {
                reason: "NotRead",
                message: "the queue of this deployment has not been read yet".to_owned(),
            }),
            QueueView::Unavailable { reason, message } => Err(Unknown { reason, message: message.clone() }),
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
