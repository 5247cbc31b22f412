//! What the queue tells about a deployment at one instant: operator reads Redis → [`QueueView`] → status, scaling,
//! external metrics. Pure data; whoever reads Redis fills it.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::component::ComponentKind;

/// The queue of a deployment as it was last seen. What is not known is never shown as zero.
#[derive(Debug, Clone, Default, PartialEq)]
pub enum QueueView {
    /// Nobody has looked yet.
    #[default]
    NotRead,
    /// It could not be read.
    Unavailable {
        /// A stable word, such as `QueueUnavailable`.
        reason: &'static str,
        /// What failed, for people.
        message: String,
    },
    /// It was read.
    Read(Reading),
}

/// One look at a deployment's queue and registry.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Reading {
    /// The queue of ASR and its workers.
    pub asr: ComponentReading,
    /// The queue of TTS and its workers.
    pub tts: ComponentReading,
    /// Gateways with a fresh heartbeat.
    pub gateways: Vec<GatewayReading>,
}

/// The queue of one component and the workers that serve it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ComponentReading {
    /// Batch jobs that no worker has claimed.
    pub batch_queue_depth: u64,
    /// Live sessions that no worker has claimed.
    pub stream_queue_depth: u64,
    /// Age of the oldest unclaimed batch job, milliseconds; 0 when none waits.
    pub batch_oldest_wait_ms: u64,
    /// Age of the oldest unclaimed session, milliseconds; 0 when none waits.
    pub stream_oldest_wait_ms: u64,
    /// Batch jobs that are claimed, by the queue's own count.
    pub held_requests: u64,
    /// Sessions that are claimed, by the queue's own count.
    pub held_streams: u64,
    /// Workers with a fresh heartbeat.
    pub workers: Vec<WorkerReading>,
}

/// One worker, as it registers itself from the start of its program.
#[derive(Debug, Clone, PartialEq)]
pub struct WorkerReading {
    /// Id in the queue.
    pub id: String,
    /// Name of its pod; absent outside a cluster.
    pub pod: Option<String>,
    /// How far it is.
    pub phase: WorkerPhase,
    /// Progress, or why it cannot go on, for people.
    pub message: Option<String>,
    /// Name of the model it serves.
    pub model: String,
    /// SHA-256 of the model it has loaded; absent until then.
    pub model_sha256: Option<String>,
    /// Live streams it can hold; 0 until it is ready.
    pub slots: u32,
    /// Batch jobs it can hold; 0 until it is ready.
    pub batch_slots: u32,
    /// Live streams it holds.
    pub active_streams: u32,
    /// Batch jobs it holds.
    pub active_requests: u32,
    /// What its license proxy says.
    pub license: Option<LicenseReading>,
}

/// How far a worker is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum WorkerPhase {
    /// Its program has begun.
    Starting,
    /// It downloads its model.
    Downloading,
    /// It loads its model.
    Loading,
    /// It warms its model up.
    WarmingUp,
    /// It takes work.
    Ready,
    /// It finishes its work and takes no more.
    Draining,
    /// It cannot serve; its message says why.
    Failed,
}

/// One gateway.
#[derive(Debug, Clone, PartialEq)]
pub struct GatewayReading {
    /// Id in the queue.
    pub id: String,
    /// Name of its pod; absent outside a cluster.
    pub pod: Option<String>,
    /// Recordings in work.
    pub active_requests: u32,
    /// Live streams in work.
    pub active_streams: u32,
    /// What its license proxy says.
    pub license: Option<LicenseReading>,
}

/// The license as a serving program knows it.
#[derive(Debug, Clone, PartialEq)]
pub struct LicenseReading {
    /// `Valid`, `GracePeriod`, `Unknown`, or the reason why new work is refused, such as `LicenseExpired`.
    pub state: String,
    /// For people: what is so, and what to do.
    pub message: Option<String>,
    /// End of the license, or of the grace period.
    pub expires_at: Option<Time>,
}

impl Reading {
    /// The reading of a worker component; `None` for components that have no queue.
    pub fn component(&self, kind: ComponentKind) -> Option<&ComponentReading> {
        match kind {
            ComponentKind::Asr => Some(&self.asr),
            ComponentKind::Tts => Some(&self.tts),
            ComponentKind::Redis | ComponentKind::LicenseProxy | ComponentKind::Gateway => None,
        }
    }

    /// Pods of the component have started, so many, and none of them is registered: what they hold is not known. It is
    /// so after a Redis that keeps nothing was started again, until the first of them has told.
    pub fn is_silent(&self, kind: ComponentKind, started: u32) -> bool {
        let registered = match kind {
            ComponentKind::Gateway => self.gateways.len(),
            _ => self.component(kind).map_or(0, |component| component.workers.len()),
        };
        started > 0 && registered == 0
    }

    /// Nothing of the component waits, and nobody holds anything; false where that is not known.
    pub fn is_idle(&self, kind: ComponentKind, started: u32) -> bool {
        let idle = self.component(kind).is_some_and(|component| {
            component.queue_depth() + component.active_requests() + component.active_streams() == 0
        });
        idle && !self.is_silent(kind, started)
    }
}

impl ComponentReading {
    /// Everything that waits.
    pub fn queue_depth(&self) -> u64 {
        self.batch_queue_depth + self.stream_queue_depth
    }

    /// The longest wait, milliseconds.
    pub fn oldest_wait_ms(&self) -> u64 {
        self.batch_oldest_wait_ms.max(self.stream_oldest_wait_ms)
    }

    /// Live streams that workers hold: what they say, or what the queue counts where that is more. A claim counts in the
    /// queue at once, and in its worker's record a heartbeat later; between the two it must not be nowhere.
    pub fn active_streams(&self) -> u64 {
        let told = self.workers.iter().map(|worker| u64::from(worker.active_streams)).sum();
        self.held_streams.max(told)
    }

    /// Batch jobs that workers hold, counted in the same way.
    pub fn active_requests(&self) -> u64 {
        let told = self.workers.iter().map(|worker| u64::from(worker.active_requests)).sum();
        self.held_requests.max(told)
    }

    /// Live streams that the ready workers can hold.
    pub fn capacity(&self) -> u64 {
        let ready = self.workers.iter().filter(|worker| worker.phase == WorkerPhase::Ready);
        ready.map(|worker| u64::from(worker.slots)).sum()
    }
}
