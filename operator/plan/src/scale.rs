//! What scaling goes by: names of the external metrics, their values from a reading of the queue, and the decisions
//! that the autoscaler cannot make (from zero, to zero, which pod goes first), and the bounds that schedules set. Pure.
//!
//! Whoever makes an autoscaler's object and whoever serves its metrics take the names from here.

mod cost;
mod decide;
mod metric;
mod news;
mod schedule;

pub use cost::{DELETION_COST, costs};
pub use decide::{Decision, Facts, Step, decide};
pub use metric::{LABEL_COMPONENT, LABEL_DEPLOYMENT, Metric, Unknown};
pub use news::{News, news};
pub use schedule::{Bounds, Window};
pub(crate) use schedule::{Timetable, Unreadable};

/// Readings in short words.
#[cfg(test)]
mod testing {
    use crate::reading::{ComponentReading, WorkerPhase, WorkerReading};

    pub(crate) fn waits(batch_queue_depth: u64, stream_queue_depth: u64) -> ComponentReading {
        ComponentReading { batch_queue_depth, stream_queue_depth, ..ComponentReading::default() }
    }

    pub(crate) fn at_work(workers: &[WorkerReading]) -> ComponentReading {
        ComponentReading { workers: workers.to_vec(), ..ComponentReading::default() }
    }

    /// A ready worker in the pod of its name, with 10 slots for streams and 4 for recordings.
    pub(crate) fn worker(id: &str, active_streams: u32) -> WorkerReading {
        WorkerReading {
            id: id.to_owned(),
            pod: Some(id.to_owned()),
            phase: WorkerPhase::Ready,
            message: None,
            model: "demo-asr".to_owned(),
            model_sha256: None,
            slots: 10,
            batch_slots: 4,
            active_streams,
            active_requests: 0,
            license: None,
        }
    }
}
