//! The queue: is Redis there, how much waits, how many streams run.

use crds::{QueueStatus, StreamsStatus};

use super::component::{Part, Scene};
use super::reason;
use super::text::piece;
use super::trouble::Verdict;
use crate::reading::{QueueView, Reading};

/// Waiting times that are told apart, seconds.
const STEPS_SECONDS: [u64; 11] = [1, 2, 5, 10, 30, 60, 120, 300, 600, 1_800, 3_600];

/// `RedisReady`; `embedded` is the part of the deployment's own Redis.
pub(super) fn verdict(embedded: Option<&Part>, scene: Scene<'_>) -> Verdict {
    if let Some(part) = embedded.filter(|part| !part.serves()) {
        return part.verdict.clone();
    }
    match (scene.found.queue, embedded) {
        (QueueView::Read(_), _) => Verdict::yes(reason::REACHABLE, "the queue is read"),
        (QueueView::Unavailable { message, .. }, Some(_)) => Verdict::no(
            reason::REDIS_UNREACHABLE,
            format!(
                "the pod of Redis is ready, but the operator cannot read it: {}; do NetworkPolicies let the \
                 operator's namespace in?",
                piece(message)
            ),
        ),
        (QueueView::Unavailable { message, .. }, None) => Verdict::no(
            reason::REDIS_UNREACHABLE,
            format!(
                "the operator cannot read spec.redis.external: {}; check address, password and TLS",
                piece(message)
            ),
        ),
        (QueueView::NotRead, Some(part)) => part.verdict.clone(),
        (QueueView::NotRead, None) => {
            Verdict::unknown(reason::QUEUE_NOT_READ, "the queue has not been read yet")
        }
    }
}

/// Streams in progress, and how many there can be; nothing when it is not known.
pub(super) fn streams(queue: &QueueView) -> Option<StreamsStatus> {
    let reading = read(queue)?;
    let used = small(reading.asr.active_streams() + reading.tts.active_streams());
    let capacity = small(reading.asr.capacity() + reading.tts.capacity());
    Some(StreamsStatus { used, capacity, summary: format!("{used}/{capacity}") })
}

/// What waits; nothing when it is not known.
pub(super) fn waiting(queue: &QueueView) -> Option<QueueStatus> {
    let reading = read(queue)?;
    let depth = reading.asr.queue_depth().saturating_add(reading.tts.queue_depth());
    let oldest_ms = reading.asr.oldest_wait_ms().max(reading.tts.oldest_wait_ms());
    // Age grows with time alone: it goes in steps, and is 0 only when nothing waits.
    let step = STEPS_SECONDS.iter().rev().find(|step| **step * 1_000 <= oldest_ms).unwrap_or(&1);
    let oldest_wait_ms = if depth == 0 || oldest_ms == 0 { 0 } else { step * 1_000 };
    Some(QueueStatus { depth, oldest_wait_ms })
}

fn read(queue: &QueueView) -> Option<&Reading> {
    match queue {
        QueueView::Read(reading) => Some(reading),
        QueueView::NotRead | QueueView::Unavailable { .. } => None,
    }
}

fn small(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
