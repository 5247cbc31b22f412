//! What a step brought for whom. Pure.
//!
//! Journey: `batch → engine → batch → [events] → reply`. Must not know: where they go.

use std::time::Duration;

use crate::slots::Occupant;
use crate::words::Spoken;

/// Something happened to one occupant.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// Whom.
    pub occupant: Occupant,
    /// What.
    pub what: What,
}

/// What happened.
#[derive(Debug, Clone, PartialEq)]
pub enum What {
    /// Audio of a stream was decoded.
    Update {
        /// Decoded up to here, samples from the session's start.
        processed_samples: u64,
        /// The words of the segment so far, when they changed.
        partial: Option<Spoken>,
        /// From the chunk being complete to the start of the step.
        waited: Duration,
        /// The step.
        took: Duration,
    },
    /// Speech began, or stopped.
    Speech {
        /// It began.
        started: bool,
        /// Where, milliseconds from the session's start.
        at_ms: u64,
    },
    /// A segment is final.
    Final(SegmentText),
    /// All before a flush is final.
    Flushed {
        /// Position of the flush in samples.
        at_samples: u64,
    },
    /// A stream's audio is all decoded; its slot is free.
    Ended {
        /// Samples from the session's start.
        at_samples: u64,
    },
    /// A recording is decoded; its slot is free.
    Transcript {
        /// Its words.
        spoken: Spoken,
        /// From pushed to the first step.
        waited: Duration,
        /// In its steps.
        took: Duration,
    },
    /// The caller's deadline passed; the slot is free.
    Expired,
    /// The engine failed on it repeatedly; the slot is free.
    Failed {
        /// The engine's message.
        detail: String,
    },
}

/// A final segment.
#[derive(Debug, Clone, PartialEq)]
pub struct SegmentText {
    /// Its words; none when only silence is committed.
    pub spoken: Spoken,
    /// Start of its audio, milliseconds from the session's start.
    pub start_ms: u64,
    /// End of its audio.
    pub end_ms: u64,
    /// Audio before this position is never needed again.
    pub committed_samples: u64,
    /// Why it is final.
    pub reason: CutReason,
}

/// Why a segment is final.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CutReason {
    /// The speaker paused.
    Endpoint,
    /// The client asked.
    Flush,
    /// The audio ended.
    End,
    /// The utterance was too long.
    MaxUtterance,
    /// Nothing was said: only its audio is committed.
    Silence,
}
