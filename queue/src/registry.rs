//! Who is there: how workers and gateways register themselves. Pure.
//!
//! A serving program writes its record with every heartbeat, from the start of its program on. Gateways read which
//! workers take work, the operator reads how far everybody is. A record that is not renewed is gone after some leases.

use serde::{Deserialize, Serialize};

use crate::ids::{GatewayId, WorkerId};

/// A worker as it registers itself; written with every heartbeat, gone after the lease.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerRecord {
    /// The worker.
    pub id: WorkerId,
    /// `asr` or `tts`.
    pub component: String,
    /// Model it serves.
    pub model: String,
    /// Languages it writes.
    pub languages: Vec<String>,
    /// Live streams it can hold; 0 until it is ready.
    pub slots: u32,
    /// Live streams it holds.
    pub active_streams: u32,
    /// Batch jobs on the engine.
    pub active_requests: u32,
    /// It takes no new work: so in every phase but `Ready`. Readers of the first version know only this.
    pub draining: bool,
    /// Batch jobs it can hold; 0 until it is ready.
    #[serde(default)]
    pub batch_slots: u32,
    /// How far it is. The first version registered ready workers only.
    #[serde(default)]
    pub phase: WorkerPhase,
    /// Progress, or why it cannot go on, for people.
    #[serde(default)]
    pub message: Option<String>,
    /// Name of its pod; absent outside a cluster.
    #[serde(default)]
    pub pod: Option<String>,
    /// SHA-256 of the model it has loaded, in hexadecimal; absent until then.
    #[serde(default)]
    pub model_sha256: Option<String>,
    /// What its license proxy says.
    #[serde(default)]
    pub license: Option<LicenseRecord>,
}

/// How far a worker is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
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
    #[default]
    Ready,
    /// It finishes its work and takes no more.
    Draining,
    /// It cannot serve; its message says why. It tries again by itself.
    Failed,
}

/// A gateway as it registers itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GatewayRecord {
    /// The gateway.
    pub id: GatewayId,
    /// Name of its pod; absent outside a cluster.
    #[serde(default)]
    pub pod: Option<String>,
    /// Recordings in work.
    #[serde(default)]
    pub active_requests: u32,
    /// Live streams in work.
    #[serde(default)]
    pub active_streams: u32,
    /// What its license proxy says.
    #[serde(default)]
    pub license: Option<LicenseRecord>,
}

/// The license as a serving program knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LicenseRecord {
    /// `Valid`, `GracePeriod`, `Unknown`, or the reason why new work is refused, such as `LicenseExpired`.
    pub state: String,
    /// For people: what is so, and what to do.
    #[serde(default)]
    pub message: Option<String>,
    /// End of the license, or of the grace period, Unix milliseconds.
    #[serde(default)]
    pub expires_at_ms: Option<u64>,
}

impl WorkerRecord {
    /// A worker whose program has begun, and that can do nothing yet.
    pub fn starting(id: WorkerId, component: &str) -> Self {
        Self {
            id,
            component: component.to_owned(),
            model: String::new(),
            languages: Vec::new(),
            slots: 0,
            active_streams: 0,
            active_requests: 0,
            draining: true,
            batch_slots: 0,
            phase: WorkerPhase::Starting,
            message: None,
            pod: None,
            model_sha256: None,
            license: None,
        }
    }

    /// A worker that takes work; what it serves and holds is for the caller to fill in.
    pub fn ready(id: WorkerId, component: &str) -> Self {
        Self { draining: false, phase: WorkerPhase::Ready, ..Self::starting(id, component) }
    }

    /// It is ready and takes new work.
    pub fn takes_work(&self) -> bool {
        self.phase == WorkerPhase::Ready && !self.draining
    }
}

impl GatewayRecord {
    /// A gateway that holds nothing.
    pub fn idle(id: GatewayId) -> Self {
        Self { id, pod: None, active_requests: 0, active_streams: 0, license: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::{decode, encode};

    /// The record of the first version, field by field.
    #[derive(Serialize, Deserialize)]
    struct First {
        id: WorkerId,
        component: String,
        model: String,
        languages: Vec<String>,
        slots: u32,
        active_streams: u32,
        active_requests: u32,
        draining: bool,
    }

    fn first(draining: bool) -> First {
        First {
            id: "wk-1".parse().unwrap(),
            component: "asr".into(),
            model: "demo".into(),
            languages: vec!["en".into()],
            slots: 4,
            active_streams: 1,
            active_requests: 0,
            draining,
        }
    }

    #[test]
    fn records_of_the_first_version_are_read() {
        for (draining, takes_work) in [(false, true), (true, false)] {
            let record: WorkerRecord = decode(&encode(&first(draining))).unwrap();
            assert_eq!((record.phase, record.slots, record.batch_slots), (WorkerPhase::Ready, 4, 0));
            assert_eq!((record.pod.as_deref(), record.license.is_none()), (None, true));
            assert_eq!(record.takes_work(), takes_work);
        }
    }

    #[test]
    fn readers_of_the_first_version_take_no_worker_for_ready_that_is_not() {
        let record: First = decode(&encode(&WorkerRecord::starting("wk-1".parse().unwrap(), "asr"))).unwrap();
        assert!(record.draining);
    }

    #[test]
    fn a_gateways_record_needs_only_its_id() {
        #[derive(Serialize)]
        struct Bare {
            id: &'static str,
        }
        let record: GatewayRecord = decode(&encode(&Bare { id: "gw-1" })).unwrap();
        assert_eq!(record, GatewayRecord::idle("gw-1".parse().unwrap()));
    }
}
