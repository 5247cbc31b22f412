//! What becomes of work at the moment a worker claims it, and what its caller is told. Pure.
//!
//! Both queues ask here, so that the same job ends in the same way in Redis and in memory.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::job::{BatchJob, BatchReply, Timing, WorkError, WorkErrorKind};
use crate::port::QueueLimits;

/// Leases that a gateway counts as alive after its last sign of life.
pub const GATEWAY_LEASES: u32 = 3;
/// Leases that an inbox is kept after it was last written or its reader gave a sign of life.
pub const INBOX_LEASES: u32 = 12;
/// How long a job's id stays known after its end, so that a late repetition of its submission is recognized.
pub const DONE_TTL: Duration = Duration::from_mins(1);
/// How long a dead letter is kept after the last one.
pub const DEAD_LETTER_TTL: Duration = Duration::from_hours(168);
/// Messages that one `receive` hands over at most.
pub const RECEIVE_MAX: usize = 4_096;

/// Work that failed on every allowed attempt: who and when, never what was said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadLetter {
    /// Id of the job or session.
    pub work: String,
    /// Claims it had.
    pub attempts: u32,
    /// Last worker that held it, as far as known.
    pub last_worker: String,
    /// When it was buried, Unix milliseconds.
    pub at_ms: u64,
}

/// Why a job that was just claimed must not run, if so; `attempt` counts this claim.
pub fn judge(job: &BatchJob, attempt: u32, now_ms: u64, limits: &QueueLimits) -> Option<WorkError> {
    if attempt > limits.max_attempts {
        return Some(exhausted(job.id.as_str(), limits.max_attempts));
    }
    if now_ms >= job.deadline_ms {
        let waited = now_ms.saturating_sub(job.accepted_at_ms);
        return Some(WorkError {
            kind: WorkErrorKind::DeadlineExceeded,
            message: format!(
                "failed to start job {} in time: it waited {waited} ms for a free worker; retry later or add workers",
                job.id
            ),
        });
    }
    None
}

/// The error of work whose attempts are used up.
pub fn exhausted(work: &str, attempts: u32) -> WorkError {
    WorkError {
        kind: WorkErrorKind::AttemptsExhausted,
        message: format!(
            "failed to process {work}: its workers were lost on all {attempts} attempts; \
             check the audio, and the worker's log for crashes"
        ),
    }
}

/// The error that tells a gateway that another one has taken over its session.
pub fn taken_over(session: &str) -> WorkError {
    WorkError {
        kind: WorkErrorKind::Cancelled,
        message: format!("session {session} goes on at another gateway, where its client came back"),
    }
}

/// The reply that carries a verdict to the caller.
pub fn refusal(job: &BatchJob, error: WorkError, now_ms: u64) -> BatchReply {
    let queue_ms = now_ms.saturating_sub(job.accepted_at_ms) as f32;
    BatchReply { job: job.id.clone(), outcome: Err(error), timing: Timing { queue_ms, infer_ms: 0.0 } }
}
